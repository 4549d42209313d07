// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";

/// @title Deterministic deployer
/// @notice Puts init code at an address that depends on nothing but this contract, the salt and the code, so a deployment can
/// be planned, resumed and repeated. Anyone may call it: nobody can place anything else at a planned address.
contract Create2Deployer {
    event Deployed(address indexed deployed, bytes32 indexed salt);

    /// @notice Deploys `initCode`, or returns the address when it is there already. Emits `Deployed` on a new deployment.
    function deploy(bytes32 salt, bytes calldata initCode) external returns (address deployed) {
        deployed = Create2.computeAddress(salt, keccak256(initCode));
        if (deployed.code.length != 0) return deployed;
        Create2.deploy(0, salt, initCode);
        emit Deployed(deployed, salt);
    }
}
