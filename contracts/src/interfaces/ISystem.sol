// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Address book and roles of one tenant
/// @notice The single place that says which contract plays which part and which account may do what.
/// Roles are bits of a mask (see `Roles`); there is no role hierarchy besides the one stated per function.
interface ISystem {
    error SystemNotAdmin(address caller);
    error SystemNotPendingAdmin(address caller);
    error SystemUnauthorized(address caller, uint256 roleMask);
    error SystemZeroAddress();
    error SystemEmptyMask();
    error SystemLengthMismatch();

    event AdminTransferStarted(address indexed admin, address indexed pendingAdmin);
    event AdminTransferred(address indexed previousAdmin, address indexed admin);
    event RolesGranted(address indexed account, uint256 roleMask, address indexed by);
    event RolesRevoked(address indexed account, uint256 roleMask, address indexed by);
    event AddressSet(bytes32 indexed name, address indexed previous, address indexed current);

    /// @notice Address registered under `name`, zero when there is none. Anyone may read.
    function get(bytes32 name) external view returns (address);

    /// @notice True when `account` holds AT LEAST ONE bit of `roleMask`; false for an empty mask.
    function has(address account, uint256 roleMask) external view returns (bool);

    /// @notice All role bits of `account`.
    function rolesOf(address account) external view returns (uint256);

    function admin() external view returns (address);

    function pendingAdmin() external view returns (address);

    /// @notice Registers, replaces or (with zero) removes an address. Caller: admin or PLATFORM_ADMIN. Emits `AddressSet`.
    function set(bytes32 name, address account) external;

    /// @notice `set` for several names in one transaction. Reverts `SystemLengthMismatch` on unequal lengths.
    function setMany(bytes32[] calldata names, address[] calldata accounts) external;

    /// @notice Adds role bits. Caller: admin, or PLATFORM_ADMIN for every role except PLATFORM_ADMIN itself.
    /// Emits `RolesGranted`. Reverts `SystemEmptyMask`, `SystemZeroAddress`, `SystemUnauthorized`.
    function grant(address account, uint256 roleMask) external;

    /// @notice Removes role bits; same callers as `grant`. Emits `RolesRevoked`.
    function revoke(address account, uint256 roleMask) external;

    /// @notice Gives up own role bits (a deployment script ends with this). Emits `RolesRevoked`.
    function renounce(uint256 roleMask) external;

    /// @notice First step: names the next admin (zero cancels). Caller: admin. Emits `AdminTransferStarted`.
    function transferAdmin(address newAdmin) external;

    /// @notice Second step: the named account takes over and the PLATFORM_ADMIN bit moves with it.
    /// Caller: the pending admin. Emits `AdminTransferred`.
    function acceptAdmin() external;
}
