// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IAgentRole} from "./interfaces/IAgentRole.sol";
import {IClaimTopicsRegistry} from "./interfaces/IClaimTopicsRegistry.sol";
import {IERC173} from "./interfaces/IERC173.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";
import {IRegistryAdministration, IRegistryQuestions} from "./interfaces/IIdentityRegistryPolicy.sol";
import {IIdentityRegistryStorage} from "./interfaces/IIdentityRegistryStorage.sol";
import {ISystem} from "./interfaces/ISystem.sol";
import {ITrustedIssuersRegistry} from "./interfaces/ITrustedIssuersRegistry.sol";
import {ClaimChecks} from "./registry/ClaimChecks.sol";
import {RegistryAdministration} from "./registry/RegistryAdministration.sol";
import {RegistryDelegation} from "./registry/RegistryDelegation.sol";
import {RegistryState} from "./registry/RegistryState.sol";

/// @title Identity registry, its storage, trusted issuers and claim topics of one tenant in one contract
/// @notice Every token of the tenant asks this contract who may hold it. Threat model: agents are trusted to register the right
/// people, the policy manager to name the right topics and issuers; holders and their identity contracts are not trusted, and foreign issuers
/// only as far as their topics go.
contract IdentityRegistry is RegistryDelegation, ClaimChecks, IERC165 {
    /// Code of the trusted issuers, claim topics, policies and agents; see `RegistryState` for why it stands apart.
    address public immutable ADMINISTRATION;

    constructor(ISystem system) RegistryState(system) RegistryDelegation(system) {
        ADMINISTRATION = address(new RegistryAdministration(system));
        emit IdentityStorageSet(address(this));
        emit TrustedIssuersRegistrySet(address(this));
        emit ClaimTopicsRegistrySet(address(this));
    }

    /// @notice Everything in `IMergedIdentityRegistry`, `IAgentRole` and `IERC173` that is not declared here.
    fallback(bytes calldata input) external returns (bytes memory) {
        return Address.functionDelegateCall(ADMINISTRATION, input);
    }

    /* REGISTRY (ERC-3643) */

    function contains(address wallet) external view returns (bool) {
        return _registrations[wallet].identity != address(0);
    }

    /// @notice True when the wallet is registered and its identity holds a live claim of every claim topic (the default policy).
    function isVerified(address wallet) external view returns (bool) {
        return _reason(address(0), wallet) == 0;
    }

    function identity(address wallet) external view returns (address) {
        return _registrations[wallet].identity;
    }

    function investorCountry(address wallet) external view returns (uint16) {
        return _registrations[wallet].country;
    }

    /// @inheritdoc IRegistryQuestions
    function registration(address wallet) external view returns (address identityAddress, uint16 country) {
        return _registrationOf(wallet);
    }

    /// @inheritdoc IRegistryQuestions
    function holderOf(address wallet) external view returns (address holder, uint16 country) {
        return _holderOf(wallet);
    }

    /// @inheritdoc IRegistryQuestions
    function holdersOf(address one, address other) external view returns (address holder, address otherHolder) {
        (holder,) = _holderOf(one);
        (otherHolder,) = _holderOf(other);
    }

    /* MERGED PARTS */

    function identityStorage() external view returns (address) {
        return address(this);
    }

    function issuersRegistry() external view returns (address) {
        return address(this);
    }

    function topicsRegistry() external view returns (address) {
        return address(this);
    }

    /* STORAGE (ERC-3643) */

    function storedIdentity(address wallet) external view returns (address) {
        return _registrations[wallet].identity;
    }

    function storedInvestorCountry(address wallet) external view returns (uint16) {
        return _registrations[wallet].country;
    }

    /// @notice This contract, then the bound registries.
    function linkedIdentityRegistries() external view returns (address[] memory linked) {
        uint256 count = _boundRegistries.length;
        linked = new address[](count + 1);
        linked[0] = address(this);
        for (uint256 i = 0; i < count; ++i) {
            linked[i + 1] = _boundRegistries[i];
        }
    }

    /* RECOVERY AND EXEMPTION */

    /// @inheritdoc IRegistryQuestions
    function successor(address wallet) external view returns (address) {
        return _successor(wallet);
    }

    /// @inheritdoc IRegistryQuestions
    function isExempt(address token, address account) external view returns (bool) {
        return _exempt[token][account];
    }

    /* ERC-165 */

    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == type(IERC165).interfaceId || id == type(IIdentityRegistry).interfaceId
            || id == type(IIdentityRegistryStorage).interfaceId || id == type(ITrustedIssuersRegistry).interfaceId
            || id == type(IClaimTopicsRegistry).interfaceId || id == type(IAgentRole).interfaceId
            || id == type(IERC173).interfaceId || id == type(IRegistryQuestions).interfaceId
            || id == type(IRegistryAdministration).interfaceId;
    }

    /* INTERNAL */

    function _registrationOf(address wallet) private view returns (address, uint16) {
        Registration memory entry = _registrations[wallet];
        return (entry.identity, entry.country);
    }

    function _holderOf(address wallet) private view returns (address holder, uint16 country) {
        (holder, country) = _registrationOf(wallet);
        if (holder != address(0)) return (holder, country);
        (holder, country) = _registrationOf(_successor(wallet));
        if (holder == address(0)) holder = wallet;
    }

    function _successor(address wallet) private view returns (address current) {
        // Only agents lengthen a chain, and no wallet is in it twice.
        for (address next = _successors[wallet]; next != address(0); next = _successors[next]) {
            current = next;
        }
    }
}
