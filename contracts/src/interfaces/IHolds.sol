// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Locks on a holder's own tokens, placed by a spender the holder gave an allowance to (a settlement). A hold is named by
/// (spender, id, holder). The tokens stay the holder's, with every entitlement; only the spender can move or free them, and
/// the custodian can break the hold with a reason.
///
/// Interplay: a hold takes free tokens only, so held and frozen amounts never overlap. Forced transfers and burns use free, then
/// frozen tokens and never held ones. Pause and freezes do not touch a hold: executing it is refused until they are lifted. A recovery moves
/// holds to the new wallet; they keep the name of the lost one.
interface IHolds {
    event HoldPlaced(address indexed spender, bytes32 indexed id, address indexed holder, uint256 amount);
    event HoldExecuted(address indexed spender, bytes32 indexed id, address indexed holder, address to, uint256 amount);
    event HoldReleased(address indexed spender, bytes32 indexed id, address indexed holder, uint256 amount);
    event HoldBroken(
        address indexed spender, bytes32 indexed id, address indexed holder, uint256 amount, bytes32 reason
    );

    error HoldTooSmall(address spender, bytes32 id, address holder, uint256 held, uint256 asked);

    /// @notice Locks `amount` of the holder's free tokens for the caller, spending the caller's allowance. A second call with the same id
    /// adds to the hold. Emits `HoldPlaced`. Reverts `ERC20InsufficientAllowance`, and `ComplianceRefused` when the token is paused, the
    /// holder frozen or the free balance too low.
    function hold(bytes32 id, address holder, uint256 amount) external;

    /// @notice Moves `amount` out of the caller's hold to `to`, checked like a transfer of the holder (pause, freezes, identity, rules) but for
    /// the free balance. Emits `Transfer` and `HoldExecuted`. Reverts `HoldTooSmall`, `ComplianceRefused`.
    function executeHold(bytes32 id, address holder, address to, uint256 amount) external;

    /// @notice Frees `amount` of the caller's hold, in any state of the token. Emits `HoldReleased`. Reverts `HoldTooSmall`.
    function releaseHold(bytes32 id, address holder, uint256 amount) external;

    /// @notice Frees `amount` of somebody's hold against the spender's will; `reason` is a short code or the hash of the order on file.
    /// Custodian only. Emits `HoldBroken`. Reverts `HoldTooSmall`, `ReasonMissing`.
    function breakHold(address spender, bytes32 id, address holder, uint256 amount, bytes32 reason) external;

    /// @notice What is left of one hold.
    function heldBy(address spender, bytes32 id, address holder) external view returns (uint256);

    /// @notice All holds on an account together.
    function heldOf(address account) external view returns (uint256);

    /// @notice Who would refuse `executeHold` now and why; two zeros when it passes (the size of the hold aside).
    function previewHold(address holder, address to, uint256 amount)
        external
        view
        returns (address module, bytes32 reason);
}
