// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What every contract that works for one asset shares. Its terms are fixed when it is created and stand in its code.
interface IAddon {
    /// @notice The caller holds none of the asset's roles in the mask (`AssetRoles`).
    error MissingRole(address caller, uint256 role);

    /// @notice A field of the terms makes no sense; `field` is its name as ASCII.
    error InvalidTerms(bytes32 field);

    /// @notice The asset this contract works for.
    function asset() external view returns (address);
}
