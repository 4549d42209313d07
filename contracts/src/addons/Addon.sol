// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IAddon} from "../interfaces/IAddon.sol";
import {IAssetRoles, IAssetToken} from "../interfaces/IAssetToken.sol";
import {IMergedIdentityRegistry} from "../interfaces/IIdentityRegistryPolicy.sol";

/// @title Base of the contracts that work for one asset
/// @notice Each is an immutable clone whose terms are appended to its code: nobody can change them, and reading them costs no
/// storage. Roles are the asset's own.
abstract contract Addon is IAddon, ReentrancyGuardTransient {
    /// @inheritdoc IAddon
    function asset() public view virtual returns (address);

    /// @dev The encoded terms of this clone.
    function _encodedTerms() internal view returns (bytes memory) {
        return Clones.fetchCloneArgs(address(this));
    }

    /// @dev Who is paid for `holder`: the wallet that the registry recorded as its successor, else the holder.
    function _payee(address token, address holder) internal view returns (address) {
        address successor = _registry(token).successor(holder);
        return successor == address(0) ? holder : successor;
    }

    function _registry(address token) internal view returns (IMergedIdentityRegistry) {
        return IMergedIdentityRegistry(address(IAssetToken(token).identityRegistry()));
    }

    function _requireRole(address token, uint256 role) internal view {
        if (!IAssetRoles(token).has(msg.sender, role)) revert MissingRole(msg.sender, role);
    }

    /// @dev What of `amount` is released at `now_`, linearly over `duration` from `start`, nothing before the cliff.
    function _vested(uint256 amount, uint256 start, uint256 cliff, uint256 duration, uint256 now_)
        internal
        pure
        returns (uint256)
    {
        if (now_ < start + cliff) return 0;
        uint256 elapsed = now_ - start;
        return elapsed >= duration ? amount : amount * elapsed / duration;
    }
}
