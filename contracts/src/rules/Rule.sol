// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {ERC165, IERC165} from "@openzeppelin/contracts/utils/introspection/ERC165.sol";
import {IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IRule, Movement} from "../interfaces/IRule.sol";

/// @notice What every rule shares: parameters are validated before they are applied, its ERC-165 answer, and no bookkeeping
/// unless the rule declares and overrides it.
abstract contract Rule is IRule, ERC165 {
    bytes4 private constant PANIC = bytes4(keccak256("Panic(uint256)"));

    /// @inheritdoc IRule
    function setParams(bytes calldata params) external {
        (bool valid, bytes memory why) = address(this).staticcall(abi.encodeCall(IRule.validate, (params)));
        if (!valid) {
            // Bytes that do not decode revert with nothing, or with a panic when a length in them is absurd.
            if (why.length == 0 || bytes4(why) == PANIC) revert InvalidParams("encoding");
            LowLevelCall.bubbleRevert(why);
        }
        _apply(params);
        emit ParamsSet(msg.sender, params);
    }

    /// @inheritdoc IRule
    function clearParams() external {
        _forget();
        emit ParamsSet(msg.sender, "");
    }

    /// @inheritdoc IRule
    function moved(address, address, address, uint256) external virtual {}

    function supportsInterface(bytes4 interfaceId) public view override(ERC165, IERC165) returns (bool) {
        return interfaceId == type(IRule).interfaceId || super.supportsInterface(interfaceId);
    }

    /// @dev Stores validated parameters for `msg.sender`.
    function _apply(bytes calldata params) internal virtual;

    /// @dev Drops what is stored for `msg.sender`.
    function _forget() internal virtual;

    /// @dev Whom the recipient stands for: what `IRegistryQuestions.holderOf` would say.
    function _recipient(Movement calldata movement) internal view returns (address holder, uint16 country) {
        if (movement.identity != address(0)) return (movement.identity, movement.country);
        return IRegistryQuestions(movement.registry).holderOf(movement.to);
    }

    /// @dev Under which a rule keeps bookkeeping that it cannot enumerate: a new epoch starts from nothing.
    function _key(address compliance, uint32 epoch) internal pure returns (uint256) {
        return uint256(uint160(compliance)) << 32 | epoch;
    }
}
