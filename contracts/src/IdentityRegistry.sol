// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IAgentRole} from "./interfaces/IAgentRole.sol";
import {IClaimTopicsRegistry} from "./interfaces/IClaimTopicsRegistry.sol";
import {IERC173} from "./interfaces/IERC173.sol";
import {IERC734} from "./interfaces/IERC734.sol";
import {IIdentity} from "./interfaces/IIdentity.sol";
import {IIdentityFactory} from "./interfaces/IIdentityFactory.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";
import {IRegistryAdministration, IRegistryQuestions} from "./interfaces/IIdentityRegistryPolicy.sol";
import {IIdentityRegistryStorage} from "./interfaces/IIdentityRegistryStorage.sol";
import {ISystem} from "./interfaces/ISystem.sol";
import {ITrustedIssuersRegistry} from "./interfaces/ITrustedIssuersRegistry.sol";
import {ClaimChecks} from "./registry/ClaimChecks.sol";
import {RegistryAdministration} from "./registry/RegistryAdministration.sol";
import {RegistryState} from "./registry/RegistryState.sol";
import {Names, Roles} from "./Roles.sol";

/// @title Identity registry, its storage, trusted issuers and claim topics of one tenant in one contract
/// @notice Every token of the tenant asks this contract who may hold it. Threat model: agents are trusted to register the right
/// people, the policy manager to name the right topics and issuers; holders and their identity contracts are not trusted, and foreign issuers
/// only as far as their topics go.
contract IdentityRegistry is IIdentityRegistry, IIdentityRegistryStorage, ClaimChecks, IERC165 {
    uint256 private constant MANAGEMENT = 1;
    uint256 private constant MAX_BOUND_REGISTRIES = 50;

    /// Code of the trusted issuers, claim topics, policies and agents; see `RegistryState` for why it stands apart.
    address public immutable ADMINISTRATION;

    constructor(ISystem system) RegistryState(system) {
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

    /// @notice Links a wallet to an identity and a country (ISO 3166-1 numeric). Caller: agent. Emits `IdentityRegistered` and
    /// `IdentityStored`. Reverts when the wallet is registered or was recovered from.
    function registerIdentity(address wallet, address identity_, uint16 country) external {
        _onlyAgent();
        _register(wallet, identity_, country);
    }

    /// @notice `registerIdentity` for many wallets, all or nothing. Caller: agent.
    function batchRegisterIdentity(
        address[] calldata wallets,
        address[] calldata identities,
        uint16[] calldata countries
    ) external {
        _onlyAgent();
        if (wallets.length != identities.length || wallets.length != countries.length) revert RegistryLengthMismatch();
        for (uint256 i = 0; i < wallets.length; ++i) {
            _register(wallets[i], identities[i], countries[i]);
        }
    }

    /// @notice Removes a wallet. Caller: agent. Emits `IdentityRemoved` and `IdentityUnstored`.
    function deleteIdentity(address wallet) external {
        _onlyAgent();
        _unregister(wallet);
    }

    /// @notice Caller: agent. Emits `CountryUpdated` and `CountryModified`.
    function updateCountry(address wallet, uint16 country) external {
        _onlyAgent();
        _setCountry(wallet, country);
    }

    /// @notice Caller: agent. Emits `IdentityUpdated` and `IdentityModified`.
    function updateIdentity(address wallet, address identity_) external {
        _onlyAgent();
        _setIdentity(wallet, identity_);
    }

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
        Registration memory entry = _registrations[wallet];
        return (entry.identity, entry.country);
    }

    /* MERGED PARTS: the setters accept this contract only */

    function identityStorage() external view returns (address) {
        return address(this);
    }

    function issuersRegistry() external view returns (address) {
        return address(this);
    }

    function topicsRegistry() external view returns (address) {
        return address(this);
    }

    function setIdentityRegistryStorage(address other) external {
        _onlyMerged(other);
        emit IdentityStorageSet(other);
    }

    function setClaimTopicsRegistry(address other) external {
        _onlyMerged(other);
        emit ClaimTopicsRegistrySet(other);
    }

    function setTrustedIssuersRegistry(address other) external {
        _onlyMerged(other);
        emit TrustedIssuersRegistrySet(other);
    }

    /* STORAGE (ERC-3643): the same rows under the storage's names; a bound registry is an agent */

    function storedIdentity(address wallet) external view returns (address) {
        return _registrations[wallet].identity;
    }

    function storedInvestorCountry(address wallet) external view returns (uint16) {
        return _registrations[wallet].country;
    }

    function addIdentityToStorage(address wallet, address identity_, uint16 country) external {
        _onlyAgent();
        _register(wallet, identity_, country);
    }

    function removeIdentityFromStorage(address wallet) external {
        _onlyAgent();
        _unregister(wallet);
    }

    function modifyStoredInvestorCountry(address wallet, uint16 country) external {
        _onlyAgent();
        _setCountry(wallet, country);
    }

    function modifyStoredIdentity(address wallet, address identity_) external {
        _onlyAgent();
        _setIdentity(wallet, identity_);
    }

    /// @notice Lets another registry use the rows kept here, as an agent. Caller: owner or PLATFORM_ADMIN. Emits `AgentAdded` and
    /// `IdentityRegistryBound`. At most 50.
    function bindIdentityRegistry(address other) external {
        _onlyOwner();
        if (other == address(0)) revert RegistryZeroAddress();
        if (_boundRegistries.length == MAX_BOUND_REGISTRIES) revert RegistryTooManyRegistries();
        for (uint256 i = 0; i < _boundRegistries.length; ++i) {
            if (_boundRegistries[i] == other) revert RegistryAlreadyRegistered(other);
        }
        _boundRegistries.push(other);
        _agents[other] = true;
        emit AgentAdded(other);
        emit IdentityRegistryBound(other);
    }

    /// @notice Undoes `bindIdentityRegistry`. Caller: owner or PLATFORM_ADMIN. Emits `AgentRemoved` and `IdentityRegistryUnbound`.
    function unbindIdentityRegistry(address other) external {
        _onlyOwner();
        uint256 count = _boundRegistries.length;
        for (uint256 i = 0; i < count; ++i) {
            if (_boundRegistries[i] != other) continue;
            _boundRegistries[i] = _boundRegistries[count - 1];
            _boundRegistries.pop();
            _agents[other] = false;
            emit AgentRemoved(other);
            emit IdentityRegistryUnbound(other);
            return;
        }
        revert RegistryNotRegistered(other);
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

    /* RECOVERY */

    /// @inheritdoc IRegistryQuestions
    function recover(address lostWallet, address newWallet) external {
        _onlyAgent();
        Registration memory entry = _registrations[lostWallet];
        if (entry.identity == address(0)) revert RegistryNotRegistered(lostWallet);
        if (newWallet == address(0) || newWallet == lostWallet) revert RegistryRecoveryWalletTaken(newWallet);
        // A wallet that was itself lost must not come back, and so the links can form no circle.
        if (_successors[newWallet] != address(0)) revert RegistryWalletRecovered(newWallet);
        address present = _registrations[newWallet].identity;
        if (present != address(0) && present != entry.identity) revert RegistryRecoveryWalletTaken(newWallet);

        delete _registrations[lostWallet];
        _successors[lostWallet] = newWallet;
        emit IdentityRemoved(lostWallet, entry.identity);
        emit IdentityUnstored(lostWallet, entry.identity);
        if (present == address(0)) {
            _registrations[newWallet] = entry;
            emit IdentityRegistered(newWallet, entry.identity);
            emit IdentityStored(newWallet, entry.identity);
        }
        emit WalletRecovered(lostWallet, newWallet, entry.identity);

        if (entry.native) {
            IIdentity(entry.identity).recoverKey(lostWallet, newWallet);
        } else if (!IERC734(entry.identity).keyHasPurpose(keccak256(abi.encode(newWallet)), MANAGEMENT)) {
            revert RegistryRecoveryKeyMissing(entry.identity, newWallet);
        }
    }

    /// @inheritdoc IRegistryQuestions
    function resetIdentityKeys(address identityAddress, address wallet) external {
        _onlyAgent();
        if (_registrations[wallet].identity != identityAddress) revert RegistryNotRegistered(wallet);
        IIdentity(identityAddress).resetKeys(wallet);
    }

    /// @inheritdoc IRegistryQuestions
    function successor(address wallet) external view returns (address current) {
        // Only agents lengthen a chain, and no wallet is in it twice.
        for (address next = _successors[wallet]; next != address(0); next = _successors[next]) {
            current = next;
        }
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

    function _register(address wallet, address identity_, uint16 country) private {
        if (wallet == address(0) || identity_ == address(0)) revert RegistryZeroAddress();
        if (_registrations[wallet].identity != address(0)) revert RegistryAlreadyRegistered(wallet);
        if (_successors[wallet] != address(0)) revert RegistryWalletRecovered(wallet);
        _registrations[wallet] = Registration({identity: identity_, country: country, native: _isNative(identity_)});
        emit IdentityRegistered(wallet, identity_);
        emit IdentityStored(wallet, identity_);
    }

    function _unregister(address wallet) private {
        address identity_ = _known(wallet).identity;
        delete _registrations[wallet];
        emit IdentityRemoved(wallet, identity_);
        emit IdentityUnstored(wallet, identity_);
    }

    function _setCountry(address wallet, uint16 country) private {
        _known(wallet).country = country;
        emit CountryUpdated(wallet, country);
        emit CountryModified(wallet, country);
    }

    function _setIdentity(address wallet, address identity_) private {
        if (identity_ == address(0)) revert RegistryZeroAddress();
        Registration storage entry = _known(wallet);
        address previous = entry.identity;
        entry.identity = identity_;
        entry.native = _isNative(identity_);
        emit IdentityUpdated(previous, identity_);
        emit IdentityModified(previous, identity_);
    }

    function _known(address wallet) private view returns (Registration storage entry) {
        entry = _registrations[wallet];
        if (entry.identity == address(0)) revert RegistryNotRegistered(wallet);
    }

    function _isNative(address identityAddress) internal view override returns (bool) {
        address factory = SYSTEM.get(Names.IDENTITY_FACTORY);
        return factory != address(0) && IIdentityFactory(factory).isNative(identityAddress);
    }

    function _onlyAgent() private view {
        if (!_isAgent(msg.sender)) revert RegistryUnauthorized(msg.sender);
    }

    function _onlyOwner() private view {
        if (msg.sender != SYSTEM.admin() && !SYSTEM.has(msg.sender, Roles.PLATFORM_ADMIN)) {
            revert RegistryUnauthorized(msg.sender);
        }
    }

    function _onlyMerged(address other) private view {
        _onlyOwner();
        if (other != address(this)) revert RegistryNotMerged(other);
    }
}
