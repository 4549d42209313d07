// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISystem} from "./interfaces/ISystem.sol";
import {Roles} from "./Roles.sol";

/// @title Address book and roles of one tenant
/// @notice Threat model: the admin is the tenant's governance (a multisig or custody policy) and is trusted with everything
/// below; it changes hands in two steps so that a typing error cannot orphan a tenant. PLATFORM_ADMIN holders run daily
/// administration and cannot make more of themselves.
contract System is ISystem {
    address public override admin;
    address public override pendingAdmin;

    mapping(bytes32 name => address) private _addresses;
    mapping(address account => uint256 roleMask) private _roles;

    /// @param admin_ final admin, who holds PLATFORM_ADMIN too
    /// @param configurator deployment contract that gets PLATFORM_ADMIN until it renounces; zero for none
    constructor(address admin_, address configurator) {
        if (admin_ == address(0)) revert SystemZeroAddress();
        admin = admin_;
        emit AdminTransferred(address(0), admin_);
        _grant(admin_, Roles.PLATFORM_ADMIN);
        if (configurator != address(0)) _grant(configurator, Roles.PLATFORM_ADMIN);
    }

    /* READ */

    /// @inheritdoc ISystem
    function get(bytes32 name) external view returns (address) {
        return _addresses[name];
    }

    /// @inheritdoc ISystem
    function has(address account, uint256 roleMask) external view returns (bool) {
        return _roles[account] & roleMask != 0;
    }

    /// @inheritdoc ISystem
    function rolesOf(address account) external view returns (uint256) {
        return _roles[account];
    }

    /* ADDRESS BOOK */

    /// @inheritdoc ISystem
    function set(bytes32 name, address account) external {
        _onlyAdministration(0);
        _set(name, account);
    }

    /// @inheritdoc ISystem
    function setMany(bytes32[] calldata names, address[] calldata accounts) external {
        _onlyAdministration(0);
        if (names.length != accounts.length) revert SystemLengthMismatch();
        for (uint256 i = 0; i < names.length; ++i) {
            _set(names[i], accounts[i]);
        }
    }

    /* ROLES */

    /// @inheritdoc ISystem
    function grant(address account, uint256 roleMask) external {
        _onlyAdministration(roleMask);
        if (account == address(0)) revert SystemZeroAddress();
        if (roleMask == 0) revert SystemEmptyMask();
        _grant(account, roleMask);
    }

    /// @inheritdoc ISystem
    function revoke(address account, uint256 roleMask) external {
        _onlyAdministration(roleMask);
        if (roleMask == 0) revert SystemEmptyMask();
        _revoke(account, roleMask);
    }

    /// @inheritdoc ISystem
    function renounce(uint256 roleMask) external {
        if (roleMask == 0) revert SystemEmptyMask();
        _revoke(msg.sender, roleMask);
    }

    /* ADMIN */

    /// @inheritdoc ISystem
    function transferAdmin(address newAdmin) external {
        if (msg.sender != admin) revert SystemNotAdmin(msg.sender);
        pendingAdmin = newAdmin;
        emit AdminTransferStarted(msg.sender, newAdmin);
    }

    /// @inheritdoc ISystem
    function acceptAdmin() external {
        if (msg.sender != pendingAdmin) revert SystemNotPendingAdmin(msg.sender);
        address previous = admin;
        admin = msg.sender;
        pendingAdmin = address(0);
        emit AdminTransferred(previous, msg.sender);
        if (previous != msg.sender) {
            _revoke(previous, Roles.PLATFORM_ADMIN);
            _grant(msg.sender, Roles.PLATFORM_ADMIN);
        }
    }

    /* INTERNAL */

    /// @dev `roleMask` is what the caller wants to hand out or take; PLATFORM_ADMIN itself is the admin's alone.
    function _onlyAdministration(uint256 roleMask) private view {
        if (msg.sender == admin) return;
        if (_roles[msg.sender] & Roles.PLATFORM_ADMIN == 0 || roleMask & Roles.PLATFORM_ADMIN != 0) {
            revert SystemUnauthorized(msg.sender, Roles.PLATFORM_ADMIN);
        }
    }

    function _set(bytes32 name, address account) private {
        emit AddressSet(name, _addresses[name], account);
        _addresses[name] = account;
    }

    function _grant(address account, uint256 roleMask) private {
        _roles[account] |= roleMask;
        emit RolesGranted(account, roleMask, msg.sender);
    }

    function _revoke(address account, uint256 roleMask) private {
        _roles[account] &= ~roleMask;
        emit RolesRevoked(account, roleMask, msg.sender);
    }
}
