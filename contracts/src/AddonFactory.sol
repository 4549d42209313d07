// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {DistributionArgs} from "./addons/DistributionArgs.sol";
import {TermsChecks} from "./addons/TermsChecks.sol";
import {IAddon} from "./interfaces/IAddon.sol";
import {IAddonFactory} from "./interfaces/IAddonFactory.sol";
import {IAssetFactory} from "./interfaces/IAssetFactory.sol";
import {IAssetRoles} from "./interfaces/IAssetToken.sol";
import {DistributionTerms} from "./interfaces/IDistribution.sol";
import {OfferingTerms} from "./interfaces/IOffering.sol";
import {ServicingTerms} from "./interfaces/IServicing.sol";
import {ISystem} from "./interfaces/ISystem.sol";
import {AssetRoles, Names} from "./Roles.sol";

/// @title Factory of airdrops, sales and treasuries
/// @notice Threat model: it only deploys; what it made holds its terms in its own code and obeys the asset's roles. A clone of
/// the same implementation made by anybody else is not listed by this factory's events.
contract AddonFactory is IAddonFactory {
    ISystem public immutable SYSTEM;
    address public immutable DISTRIBUTION;
    address public immutable OFFERING;
    address public immutable SERVICING;

    constructor(ISystem system, address distribution, address offering, address servicing) {
        SYSTEM = system;
        DISTRIBUTION = distribution;
        OFFERING = offering;
        SERVICING = servicing;
    }

    /// @inheritdoc IAddonFactory
    function createDistribution(bytes32 salt, DistributionTerms calldata terms) external returns (address made) {
        TermsChecks.check(terms);
        made = _create(DISTRIBUTION, terms.token, AssetRoles.SALE, salt, DistributionArgs.encode(terms));
        emit DistributionCreated(made, terms.token, msg.sender, salt, terms);
    }

    /// @inheritdoc IAddonFactory
    function predictDistribution(address creator, bytes32 salt, DistributionTerms calldata terms)
        external
        view
        returns (address)
    {
        return _predict(DISTRIBUTION, creator, salt, DistributionArgs.encode(terms));
    }

    /// @inheritdoc IAddonFactory
    function createOffering(bytes32 salt, OfferingTerms calldata terms) external returns (address made) {
        TermsChecks.check(terms);
        made = _create(OFFERING, terms.token, AssetRoles.SALE, salt, abi.encode(terms));
        emit OfferingCreated(made, terms.token, msg.sender, salt, terms);
    }

    /// @inheritdoc IAddonFactory
    function predictOffering(address creator, bytes32 salt, OfferingTerms calldata terms)
        external
        view
        returns (address)
    {
        return _predict(OFFERING, creator, salt, abi.encode(terms));
    }

    /// @inheritdoc IAddonFactory
    function createServicing(bytes32 salt, ServicingTerms calldata terms) external returns (address made) {
        TermsChecks.check(terms);
        made = _create(SERVICING, terms.token, AssetRoles.GOVERNANCE, salt, abi.encode(terms));
        emit ServicingCreated(made, terms.token, msg.sender, salt, terms);
    }

    /// @inheritdoc IAddonFactory
    function predictServicing(address creator, bytes32 salt, ServicingTerms calldata terms)
        external
        view
        returns (address)
    {
        return _predict(SERVICING, creator, salt, abi.encode(terms));
    }

    function _create(address implementation, address token, uint256 role, bytes32 salt, bytes memory terms)
        private
        returns (address made)
    {
        if (!IAssetFactory(SYSTEM.get(Names.ASSET_FACTORY)).isAsset(token)) revert NotAnAsset(token);
        if (!IAssetRoles(token).has(msg.sender, role)) revert IAddon.MissingRole(msg.sender, role);
        // Asked first: a second deployment to the same address would burn all gas of the transaction.
        made = _predict(implementation, msg.sender, salt, terms);
        if (made.code.length != 0) revert AddonExists(made);
        Clones.cloneDeterministicWithImmutableArgs(implementation, terms, _salt(msg.sender, salt));
    }

    function _predict(address implementation, address creator, bytes32 salt, bytes memory terms)
        private
        view
        returns (address)
    {
        return Clones.predictDeterministicAddressWithImmutableArgs(implementation, terms, _salt(creator, salt));
    }

    function _salt(address creator, bytes32 salt) private pure returns (bytes32) {
        return keccak256(abi.encode(creator, salt));
    }
}
