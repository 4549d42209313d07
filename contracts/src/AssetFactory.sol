// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {AssetConfig, IAssetFactory} from "./interfaces/IAssetFactory.sol";
import {IAssetToken, TokenInit} from "./interfaces/IAssetToken.sol";
import {IIdentityFactory} from "./interfaces/IIdentityFactory.sol";
import {IIdentityRegistryPolicy} from "./interfaces/IIdentityRegistryPolicy.sol";
import {ISystem} from "./interfaces/ISystem.sol";
import {ITokenCompliance, RuleConfig} from "./interfaces/ITokenCompliance.sol";
import {Names, Roles} from "./Roles.sol";

/// @notice Proxy of one asset. Its constructor takes no initial call, so its address does not depend on the asset's terms;
/// the factory initializes it in the same transaction.
contract AssetProxy is ERC1967Proxy {
    constructor(address implementation) ERC1967Proxy(implementation, "") {}

    function _unsafeAllowUninitialized() internal pure override returns (bool) {
        return true;
    }
}

/// @title Asset factory
/// @notice Every asset class in one transaction: token, compliance, rules, the asset's own identity, identity policy, roles,
/// and, when asked, unpause and first mint. All or nothing. The salt belongs to the creator: equal names or salts of two
/// creators cannot collide, and repeating a creation is refused instead of duplicated.
/// Threat model: token managers are trusted to choose rules; the factory keeps no power over what it made.
contract AssetFactory is IAssetFactory {
    ISystem public immutable SYSTEM;
    address public immutable TOKEN_IMPLEMENTATION;
    address public immutable COMPLIANCE_IMPLEMENTATION;
    bytes32 private immutable PROXY_CODE_HASH;

    mapping(address token => bool) private _assets;
    mapping(bytes32 symbolHash => address token) private _bySymbol;

    constructor(ISystem system, address tokenImplementation, address complianceImplementation) {
        SYSTEM = system;
        TOKEN_IMPLEMENTATION = tokenImplementation;
        COMPLIANCE_IMPLEMENTATION = complianceImplementation;
        PROXY_CODE_HASH = keccak256(abi.encodePacked(type(AssetProxy).creationCode, abi.encode(tokenImplementation)));
    }

    /// @inheritdoc IAssetFactory
    function create(AssetConfig calldata config) external returns (address token) {
        if (!SYSTEM.has(msg.sender, Roles.TOKEN_MANAGER)) revert MissingSystemRole(msg.sender, Roles.TOKEN_MANAGER);
        bytes32 symbolHash = keccak256(bytes(config.symbol));
        if (_bySymbol[symbolHash] != address(0)) revert SymbolTaken(config.symbol, _bySymbol[symbolHash]);

        bytes32 salt = _salt(msg.sender, config.salt);
        if (_tokenAddress(salt).code.length != 0) revert SaltUsed(msg.sender, config.salt);
        token = address(new AssetProxy{salt: salt}(TOKEN_IMPLEMENTATION));
        _assets[token] = true;
        _bySymbol[symbolHash] = token;

        address compliance = Clones.cloneDeterministic(COMPLIANCE_IMPLEMENTATION, salt);
        ITokenCompliance(compliance).initialize(token, config.rules);
        address onchainID = IIdentityFactory(SYSTEM.get(Names.IDENTITY_FACTORY)).createFor(token, config.owner);
        address registry = SYSTEM.get(Names.IDENTITY_REGISTRY);
        if (config.policy.length != 0) IIdentityRegistryPolicy(registry).setPolicy(token, config.policy);
        emit AssetCreated(token, msg.sender, compliance, onchainID, config.salt, config.name, config.symbol);
        _initialize(token, compliance, onchainID, registry, config);
    }

    /// @inheritdoc IAssetFactory
    function createCompliance(address token, bytes32 salt) external returns (address compliance) {
        if (!_assets[token]) revert NotAnAsset(token);
        // Another shape than a creation's salt, so the two can never meet.
        compliance =
            Clones.cloneDeterministic(COMPLIANCE_IMPLEMENTATION, keccak256(abi.encode(msg.sender, token, salt)));
        emit ComplianceCreated(token, compliance);
        ITokenCompliance(compliance).initialize(token, new RuleConfig[](0));
    }

    /// @inheritdoc IAssetFactory
    function predict(address creator, bytes32 salt) external view returns (address token, address compliance) {
        bytes32 full = _salt(creator, salt);
        token = _tokenAddress(full);
        compliance = Clones.predictDeterministicAddress(COMPLIANCE_IMPLEMENTATION, full);
    }

    /// @inheritdoc IAssetFactory
    function isAsset(address token) external view returns (bool) {
        return _assets[token];
    }

    /// @inheritdoc IAssetFactory
    function tokenBySymbol(string calldata symbol) external view returns (address) {
        return _bySymbol[keccak256(bytes(symbol))];
    }

    function _initialize(
        address token,
        address compliance,
        address onchainID,
        address registry,
        AssetConfig calldata config
    ) private {
        TokenInit memory init;
        init.name = config.name;
        init.symbol = config.symbol;
        init.decimals = config.decimals;
        init.onchainID = onchainID;
        init.identityRegistry = registry;
        init.compliance = compliance;
        init.owner = config.owner;
        init.unpause = config.unpause;
        (init.grantees, init.roles) = (new address[](config.grants.length), new uint256[](config.grants.length));
        for (uint256 i; i < config.grants.length; ++i) {
            (init.grantees[i], init.roles[i]) = (config.grants[i].account, config.grants[i].roles);
        }
        (init.mintTo, init.mintAmounts) = (new address[](config.mints.length), new uint256[](config.mints.length));
        for (uint256 i; i < config.mints.length; ++i) {
            (init.mintTo[i], init.mintAmounts[i]) = (config.mints[i].to, config.mints[i].amount);
        }
        IAssetToken(token).initialize(init);
    }

    function _salt(address creator, bytes32 salt) private pure returns (bytes32) {
        return keccak256(abi.encode(creator, salt));
    }

    function _tokenAddress(bytes32 salt) private view returns (address) {
        return Create2.computeAddress(salt, PROXY_CODE_HASH);
    }
}
