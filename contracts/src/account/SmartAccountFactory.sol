// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {AccountConfig, ISmartAccount, ISmartAccountFactory} from "../interfaces/ISmartAccount.sol";

/// @title Smart account factory
/// @notice No state, no role: what an account is follows from its configuration alone. An entry point calls it for an account that is not
/// deployed yet, and finding it deployed by somebody else in between is no failure.
contract SmartAccountFactory is ISmartAccountFactory {
    address public immutable IMPLEMENTATION;

    constructor(address implementation) {
        IMPLEMENTATION = implementation;
    }

    /// @inheritdoc ISmartAccountFactory
    function createAccount(AccountConfig calldata config, bytes32 salt) external returns (address account) {
        bytes32 full = _salt(config, salt);
        account = Clones.predictDeterministicAddress(IMPLEMENTATION, full);
        if (account.code.length != 0) return account;
        Clones.cloneDeterministic(IMPLEMENTATION, full);
        emit AccountCreated(account, salt);
        ISmartAccount(account).initialize(config);
    }

    /// @inheritdoc ISmartAccountFactory
    function predict(AccountConfig calldata config, bytes32 salt) external view returns (address account) {
        return Clones.predictDeterministicAddress(IMPLEMENTATION, _salt(config, salt));
    }

    function _salt(AccountConfig calldata config, bytes32 salt) private pure returns (bytes32) {
        return keccak256(abi.encode(config, salt));
    }
}
