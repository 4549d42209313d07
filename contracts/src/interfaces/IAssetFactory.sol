// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Group} from "./IIdentityRegistryPolicy.sol";
import {RuleConfig} from "./ITokenCompliance.sol";

/// @notice One account and the roles it gets when an asset is created.
struct RoleGrant {
    address account;
    uint256 roles;
}

/// @notice Tokens minted while an asset is created.
struct InitialMint {
    address to;
    uint256 amount;
}

/// @notice Everything a new asset needs, applied in one transaction.
struct AssetConfig {
    /// Chosen by the creator, for instance the id of its operation: the same salt from the same creator is refused.
    bytes32 salt;
    string name;
    string symbol;
    uint8 decimals;
    /// Appoints and dismisses; holds no other power.
    address owner;
    RoleGrant[] grants;
    RuleConfig[] rules;
    /// What a holder must meet (an OR of AND groups). Empty leaves the registry's default: every claim topic.
    Group[] policy;
    bool unpause;
    InitialMint[] mints;
}

/// @notice Creates assets.
interface IAssetFactory {
    event AssetCreated(
        address indexed token,
        address indexed creator,
        address indexed compliance,
        address onchainID,
        bytes32 salt,
        string name,
        string symbol
    );
    event ComplianceCreated(address indexed token, address indexed compliance);

    error MissingSystemRole(address caller, uint256 roleMask);
    error SymbolTaken(string symbol, address token);
    error SaltUsed(address creator, bytes32 salt);
    error NotAnAsset(address token);

    /// @notice Deploys, configures, optionally unpauses and mints. Token managers only. Emits `AssetCreated`.
    function create(AssetConfig calldata config) external returns (address token);

    /// @notice A fresh compliance for an existing asset, for its governance to fill and to switch to.
    function createCompliance(address token, bytes32 salt) external returns (address compliance);

    /// @notice Where `create` of this creator and salt puts the token and its compliance.
    function predict(address creator, bytes32 salt) external view returns (address token, address compliance);

    function isAsset(address token) external view returns (bool);
    function tokenBySymbol(string calldata symbol) external view returns (address);
}
