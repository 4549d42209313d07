// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ClaimInput} from "./IIdentity.sol";

/// @title Creates identities at predictable addresses
/// @notice The factory's own record, never the identity, says whether an identity runs our code.
interface IIdentityFactory {
    error IdentityFactoryUnauthorized(address caller);
    error IdentityFactoryZeroAddress();
    error IdentityFactoryExists(address identity);
    error IdentityFactoryNotContract(address account);

    event IdentityCreated(address indexed identity, address indexed subject, address indexed manager, bytes32 salt);

    /// @notice Identity of a wallet, which becomes its first key. Caller: IDENTITY_MANAGER or the wallet itself.
    /// The address depends on (wallet, salt) only; a second creation reverts. `claims` are checked like any `addClaim`.
    function create(address wallet, bytes32 salt, ClaimInput[] calldata claims) external returns (address identity);

    /// @notice Identity of a contract; `manager` becomes its first key. Caller: IDENTITY_MANAGER, TOKEN_MANAGER or the contract
    /// itself. One salt-free identity per (subject, manager).
    function createFor(address subject, address manager) external returns (address identity);

    /// @notice `create` and registration of the wallet in the tenant's registry, one transaction. Caller: IDENTITY_MANAGER.
    function createAndRegister(address wallet, bytes32 salt, uint16 country, ClaimInput[] calldata claims)
        external
        returns (address identity);

    function predict(address wallet, bytes32 salt) external view returns (address);
    function predictFor(address subject, address manager) external view returns (address);

    /// @notice True when this factory created `identity`.
    function isNative(address identity) external view returns (bool);

    /// @notice Wallet or contract the identity was created for, zero when not native.
    function subjectOf(address identity) external view returns (address);

    function implementation() external view returns (address);
}
