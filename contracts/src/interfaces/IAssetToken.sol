// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC3643} from "./IERC3643.sol";
import {IHolds} from "./IHolds.sol";
import {IRecordDates} from "./IRecordDates.sol";

/// @notice The part of a token that registry, compliance and rules ask for roles.
interface IAssetRoles {
    /// @notice Whether `account` holds at least one role of the mask (`AssetRoles`).
    function has(address account, uint256 roleMask) external view returns (bool);
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
    address[] grantees;
    uint256[] roles;
    bool unpause;
    address[] mintTo;
    uint256[] mintAmounts;
}

/// @notice What our token has beyond ERC-3643.
interface IAssetToken is IERC3643, IAssetRoles, IHolds, IRecordDates {
    event RolesGranted(address indexed account, uint256 roles);
    event RolesRevoked(address indexed account, uint256 roles);
    event UpgradeScheduled(address indexed implementation, bytes data, uint256 notBefore);
    event UpgradeCancelled();
    /// @notice A custodian moved tokens against the holder's will. `reason` is a short code or the hash of the order on file; the
    /// functions of ERC-3643, which carry none, leave `UNSTATED`.
    event TransferForced(
        address indexed from, address indexed to, address indexed custodian, uint256 amount, bytes32 reason
    );
    /// @notice A recovery moved the holds of a lost wallet; they keep its name.
    event HoldsRecovered(address indexed lostWallet, address indexed newWallet, uint256 amount);

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
    error ReasonMissing();

    /// @notice Once, by the factory: sets everything, then unpauses and mints as asked. A token without `unpause` stays paused.
    function initialize(TokenInit calldata init) external;

    /// @notice Gives roles. Owner only. Emits `RolesGranted`.
    function grant(address account, uint256 roleMask) external;

    /// @notice Takes roles. Owner only. Emits `RolesRevoked`.
    function revoke(address account, uint256 roleMask) external;

    /// @notice All roles of an account.
    function rolesOf(address account) external view returns (uint256);

    /// @notice Who would refuse a movement now and why; two zeros when it passes. `from` zero is a mint, `to` zero a burn.
    /// Enforcement runs the same code and reverts `ComplianceRefused(module, reason)`. The verdict of every single
    /// module is `ITokenCompliance.explain`.
    function preview(address from, address to, uint256 amount) external view returns (address module, bytes32 reason);

    /// @notice The token's own part of `preview`: pause, freezes, balance.
    function stateReason(address from, address to, uint256 amount) external view returns (bytes32 reason);

    /// @notice `forcedTransfer` with the reason that has to be on record. Custodian only. Emits `Transfer`, `TransferForced`. Reverts
    /// `ReasonMissing`, and like `forcedTransfer`: the recipient must be verified, and held tokens are out of reach (`breakHold`).
    function forcedTransferFor(address from, address to, uint256 amount, bytes32 reason) external returns (bool);

    /// @notice Moves free tokens of `from` to a fee collector, who must be verified. Holders of the FEES role, which is for fee features. Rules
    /// follow the movement and do not judge it; it counts as forced, so it costs no fee itself. Emits `Transfer`. Reverts
    /// `FreeBalanceExceeded`, `ComplianceRefused`.
    function collectFee(address from, address to, uint256 amount) external;

    /// @notice The wallet that `recoveryAddress` moved the tokens of `wallet` to, at the end of the chain; `wallet` itself when there was none.
    function currentWallet(address wallet) external view returns (address);

    /// @notice Whether the movement that is being reported right now is a forced transfer, a recovery or a fee.
    function isForced() external view returns (bool);

    /// @notice Announces an upgrade with the exact call that will follow it. Governance only. Emits `UpgradeScheduled`.
    function scheduleUpgrade(address implementation, bytes calldata data) external;

    /// @notice Withdraws the announced upgrade. Governance only. Emits `UpgradeCancelled`.
    function cancelUpgrade() external;
}
