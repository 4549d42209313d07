// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAssetRoles} from "../interfaces/IAssetToken.sol";
import {IERC734} from "../interfaces/IERC734.sol";
import {IIdentity} from "../interfaces/IIdentity.sol";
import {IIdentityRegistry} from "../interfaces/IIdentityRegistry.sol";
import {IIdentityRegistryStorage} from "../interfaces/IIdentityRegistryStorage.sol";
import {ISystem} from "../interfaces/ISystem.sol";
import {AssetRoles, Roles} from "../Roles.sol";
import {RegistryState} from "./RegistryState.sol";

/// @title The registry's records: registrations, recovery, exemptions, bound registries
/// @notice Runs in the registry's storage: `RegistryDelegation` declares each of these functions and delegates it here. Called directly it could
/// only write its own storage, which nobody reads. What each does, who may call it and what it reverts stands in the interfaces and there.
contract RegistryRecords is RegistryState {
    uint256 private constant MANAGEMENT = 1;
    uint256 private constant MAX_BOUND_REGISTRIES = 50;
    /// First bytes of an account that signs for itself and only borrows code (EIP-7702).
    bytes3 private constant BORROWED_CODE = 0xef0100;

    constructor(ISystem system) RegistryState(system) {}

    /* REGISTRY (ERC-3643) */

    function registerIdentity(address wallet, address identity_, uint16 country) external {
        _onlyAgent();
        _register(wallet, identity_, country);
    }

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

    function deleteIdentity(address wallet) external {
        _onlyAgent();
        _unregister(wallet);
    }

    function updateCountry(address wallet, uint16 country) external {
        _onlyAgent();
        _setCountry(wallet, country);
    }

    function updateIdentity(address wallet, address identity_) external {
        _onlyAgent();
        _setIdentity(wallet, identity_);
    }

    /* MERGED PARTS: this contract only */

    function setIdentityRegistryStorage(address other) external {
        _onlyMerged(other);
        emit IIdentityRegistry.IdentityStorageSet(other);
    }

    function setClaimTopicsRegistry(address other) external {
        _onlyMerged(other);
        emit IIdentityRegistry.ClaimTopicsRegistrySet(other);
    }

    function setTrustedIssuersRegistry(address other) external {
        _onlyMerged(other);
        emit IIdentityRegistry.TrustedIssuersRegistrySet(other);
    }

    /* STORAGE (ERC-3643) */

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
        emit IIdentityRegistryStorage.IdentityRegistryBound(other);
    }

    function unbindIdentityRegistry(address other) external {
        _onlyOwner();
        uint256 count = _boundRegistries.length;
        for (uint256 i = 0; i < count; ++i) {
            if (_boundRegistries[i] != other) continue;
            _boundRegistries[i] = _boundRegistries[count - 1];
            _boundRegistries.pop();
            _agents[other] = false;
            emit AgentRemoved(other);
            emit IIdentityRegistryStorage.IdentityRegistryUnbound(other);
            return;
        }
        revert RegistryNotRegistered(other);
    }

    /* RECOVERY */

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
        emit IIdentityRegistry.IdentityRemoved(lostWallet, entry.identity);
        emit IIdentityRegistryStorage.IdentityUnstored(lostWallet, entry.identity);
        if (present == address(0)) {
            _registrations[newWallet] = entry;
            emit IIdentityRegistry.IdentityRegistered(newWallet, entry.identity);
            emit IIdentityRegistryStorage.IdentityStored(newWallet, entry.identity);
        }
        emit WalletRecovered(lostWallet, newWallet, entry.identity);

        if (entry.native) {
            IIdentity(entry.identity).recoverKey(lostWallet, newWallet);
        } else if (!IERC734(entry.identity).keyHasPurpose(keccak256(abi.encode(newWallet)), MANAGEMENT)) {
            revert RegistryRecoveryKeyMissing(entry.identity, newWallet);
        }
    }

    function resetIdentityKeys(address identityAddress, address wallet) external {
        _onlyAgent();
        if (_registrations[wallet].identity != identityAddress) revert RegistryNotRegistered(wallet);
        IIdentity(identityAddress).resetKeys(wallet);
    }

    /* EXEMPTION */

    function setExempt(address token, address account, bool exempt) external {
        if (token.code.length == 0 || !IAssetRoles(token).has(msg.sender, AssetRoles.GOVERNANCE)) {
            revert RegistryUnauthorized(msg.sender);
        }
        if (exempt && (account.code.length == 0 || bytes3(account.code) == BORROWED_CODE)) {
            revert RegistryNotContract(account);
        }
        _exempt[token][account] = exempt;
        emit ExemptionSet(token, account, exempt);
    }

    /* INTERNAL */

    function _register(address wallet, address identity_, uint16 country) private {
        if (wallet == address(0) || identity_ == address(0)) revert RegistryZeroAddress();
        if (_registrations[wallet].identity != address(0)) revert RegistryAlreadyRegistered(wallet);
        if (_successors[wallet] != address(0)) revert RegistryWalletRecovered(wallet);
        _registrations[wallet] = Registration({identity: identity_, country: country, native: _isNative(identity_)});
        emit IIdentityRegistry.IdentityRegistered(wallet, identity_);
        emit IIdentityRegistryStorage.IdentityStored(wallet, identity_);
    }

    function _unregister(address wallet) private {
        address identity_ = _known(wallet).identity;
        delete _registrations[wallet];
        emit IIdentityRegistry.IdentityRemoved(wallet, identity_);
        emit IIdentityRegistryStorage.IdentityUnstored(wallet, identity_);
    }

    function _setCountry(address wallet, uint16 country) private {
        _known(wallet).country = country;
        emit IIdentityRegistry.CountryUpdated(wallet, country);
        emit IIdentityRegistryStorage.CountryModified(wallet, country);
    }

    function _setIdentity(address wallet, address identity_) private {
        if (identity_ == address(0)) revert RegistryZeroAddress();
        Registration storage entry = _known(wallet);
        address previous = entry.identity;
        entry.identity = identity_;
        entry.native = _isNative(identity_);
        emit IIdentityRegistry.IdentityUpdated(previous, identity_);
        emit IIdentityRegistryStorage.IdentityModified(previous, identity_);
    }

    function _known(address wallet) private view returns (Registration storage entry) {
        entry = _registrations[wallet];
        if (entry.identity == address(0)) revert RegistryNotRegistered(wallet);
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
