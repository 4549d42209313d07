// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IIdentityRegistry} from "../interfaces/IIdentityRegistry.sol";
import {IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IIdentityRegistryStorage} from "../interfaces/IIdentityRegistryStorage.sol";
import {ISystem} from "../interfaces/ISystem.sol";
import {RegistryRecords} from "./RegistryRecords.sol";
import {RegistryState} from "./RegistryState.sol";

/// @title What changes the registry's records, as the registry declares it
/// @notice Declared, so that the registry shows its whole interface and the compiler knows it; done in `RegistryRecords`.
abstract contract RegistryDelegation is RegistryState, IIdentityRegistry, IIdentityRegistryStorage, IRegistryQuestions {
    /// Code of the records; see `RegistryState` for why it stands apart.
    address public immutable RECORDS;

    constructor(ISystem system) {
        RECORDS = address(new RegistryRecords(system));
    }

    /* REGISTRY (ERC-3643) */

    /// @notice Links a wallet to an identity and a country (ISO 3166-1 numeric). Caller: agent. Emits `IdentityRegistered` and
    /// `IdentityStored`. Reverts when the wallet is registered or was recovered from.
    function registerIdentity(address, address, uint16) external {
        _records();
    }

    /// @notice `registerIdentity` for many wallets, all or nothing. Caller: agent.
    function batchRegisterIdentity(address[] calldata, address[] calldata, uint16[] calldata) external {
        _records();
    }

    /// @notice Removes a wallet. Caller: agent. Emits `IdentityRemoved` and `IdentityUnstored`.
    function deleteIdentity(address) external {
        _records();
    }

    /// @notice Caller: agent. Emits `CountryUpdated` and `CountryModified`.
    function updateCountry(address, uint16) external {
        _records();
    }

    /// @notice Caller: agent. Emits `IdentityUpdated` and `IdentityModified`.
    function updateIdentity(address, address) external {
        _records();
    }

    /* MERGED PARTS: the setters accept this contract only */

    function setIdentityRegistryStorage(address) external {
        _records();
    }

    function setClaimTopicsRegistry(address) external {
        _records();
    }

    function setTrustedIssuersRegistry(address) external {
        _records();
    }

    /* STORAGE (ERC-3643): the same rows under the storage's names; a bound registry is an agent */

    function addIdentityToStorage(address, address, uint16) external {
        _records();
    }

    function removeIdentityFromStorage(address) external {
        _records();
    }

    function modifyStoredInvestorCountry(address, uint16) external {
        _records();
    }

    function modifyStoredIdentity(address, address) external {
        _records();
    }

    /// @notice Lets another registry use the rows kept here, as an agent. Caller: owner or PLATFORM_ADMIN. Emits `AgentAdded` and
    /// `IdentityRegistryBound`. At most 50.
    function bindIdentityRegistry(address) external {
        _records();
    }

    /// @notice Undoes `bindIdentityRegistry`. Caller: owner or PLATFORM_ADMIN. Emits `AgentRemoved` and `IdentityRegistryUnbound`.
    function unbindIdentityRegistry(address) external {
        _records();
    }

    /* RECOVERY AND EXEMPTION */

    /// @inheritdoc IRegistryQuestions
    function recover(address, address) external {
        _records();
    }

    /// @inheritdoc IRegistryQuestions
    function resetIdentityKeys(address, address) external {
        _records();
    }

    /// @inheritdoc IRegistryQuestions
    function setExempt(address, address, bool) external {
        _records();
    }

    function _records() private {
        Address.functionDelegateCall(RECORDS, msg.data);
    }
}
