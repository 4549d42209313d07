// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DistributionTerms} from "./IDistribution.sol";
import {OfferingTerms} from "./IOffering.sol";
import {ServicingTerms} from "./IServicing.sol";

/// @notice Creates the contracts that work for one asset. The salt belongs to the creator, as with assets, and the address
/// follows from it and the terms, so that repeating a creation is refused instead of duplicated.
interface IAddonFactory {
    event DistributionCreated(
        address indexed distribution,
        address indexed token,
        address indexed creator,
        bytes32 salt,
        DistributionTerms terms
    );
    event OfferingCreated(
        address indexed offering, address indexed token, address indexed creator, bytes32 salt, OfferingTerms terms
    );
    event ServicingCreated(
        address indexed servicing, address indexed token, address indexed creator, bytes32 salt, ServicingTerms terms
    );

    error NotAnAsset(address token);
    error AddonExists(address addon);

    /// @notice A new airdrop. Caller: SALE of the asset. Emits `DistributionCreated`. Reverts `NotAnAsset`, `MissingRole`,
    /// `InvalidTerms`, `AddonExists`.
    function createDistribution(bytes32 salt, DistributionTerms calldata terms) external returns (address);

    /// @notice Where `createDistribution` of this creator puts it.
    function predictDistribution(address creator, bytes32 salt, DistributionTerms calldata terms)
        external
        view
        returns (address);

    /// @notice A new sale, in setup. Caller: SALE of the asset. Emits `OfferingCreated`. Reverts `NotAnAsset`, `MissingRole`,
    /// `InvalidTerms`, `AddonExists`.
    function createOffering(bytes32 salt, OfferingTerms calldata terms) external returns (address);

    /// @notice Where `createOffering` of this creator puts it.
    function predictOffering(address creator, bytes32 salt, OfferingTerms calldata terms)
        external
        view
        returns (address);

    /// @notice A new treasury. To work it needs FUNDS (record dates) and SUPPLY (redemption) of the asset and a place among its rules.
    /// Caller: GOVERNANCE of the asset. Emits `ServicingCreated`. Reverts `NotAnAsset`, `MissingRole`, `InvalidTerms`,
    /// `AddonExists`.
    function createServicing(bytes32 salt, ServicingTerms calldata terms) external returns (address);

    /// @notice Where `createServicing` of this creator puts it.
    function predictServicing(address creator, bytes32 salt, ServicingTerms calldata terms)
        external
        view
        returns (address);
}
