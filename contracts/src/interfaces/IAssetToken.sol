// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC3643} from "./IERC3643.sol";
import {Verdict} from "../Refusals.sol";

/// @notice The part of a token that registry, compliance and rules ask for roles.
interface IAssetRoles {
    /// @notice Whether `account` holds at least one role of the mask (`AssetRoles`).
    function has(address account, uint256 roleMask) external view returns (bool);
}

/// @notice One account and the roles it gets when an asset is created.
struct RoleGrant {
    address account;
    uint256 roles;
}

/// @notice What `AssetToken.initialize` needs.
struct TokenInit {
    string name;
    string symbol;
    uint8 decimals;
    address onchainID;
    address identityRegistry;
    address compliance;
    address owner;
    RoleGrant[] grants;
}

/// @notice What our token has beyond ERC-3643.
interface IAssetToken is IERC3643, IAssetRoles {
    event RolesGranted(address indexed account, uint256 roles);
    event RolesRevoked(address indexed account, uint256 roles);
    event UpgradeScheduled(address indexed implementation, bytes data, uint256 notBefore);
    event UpgradeCancelled(address indexed implementation);

    error NotOwner(address caller);
    error MissingRole(address caller, uint256 role);
    error InvalidRoles(uint256 roles);
    error InvalidName();
    error InvalidSymbol();
    error InvalidDecimals(uint8 decimals);
    error InvalidAddress(address account);
    error AlreadyPaused();
    error NotPaused();
    error LengthMismatch();
    error FrozenAmountExceeded(address account, uint256 frozen, uint256 asked);
    error FreeBalanceExceeded(address account, uint256 free, uint256 asked);
    error RecoveryRefused(address lostWallet, address newWallet, address onchainID);
    error NothingToRecover(address lostWallet);
    error UpgradeNotScheduled(address implementation);
    error UpgradeTooEarly(uint256 notBefore);

    function initialize(TokenInit calldata init) external;

    /// @notice Gives roles. Owner only. Emits `RolesGranted`.
    function grant(address account, uint256 roleMask) external;

    /// @notice Takes roles. Owner only. Emits `RolesRevoked`.
    function revoke(address account, uint256 roleMask) external;

    /// @notice All roles of an account.
    function rolesOf(address account) external view returns (uint256);

    /// @notice What the token (entry 0), the identity registry (entry 1) and each rule say of a movement now. `from` zero is
    /// a mint. The movement passes when every reason is zero; otherwise enforcement reverts with the first non-zero entry.
    function preview(address from, address to, uint256 amount) external view returns (Verdict[] memory);

    /// @notice Announces an upgrade with the exact call that will follow it. Governance only. Emits `UpgradeScheduled`.
    function scheduleUpgrade(address implementation, bytes calldata data) external;

    /// @notice Withdraws the announced upgrade. Governance only. Emits `UpgradeCancelled`.
    function cancelUpgrade() external;
}
