// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice One movement of a settlement. A local leg (`chainId` zero) moves here; an external one is a statement about what moves
/// on another chain, and binds nobody here.
struct Leg {
    address asset;
    address from;
    address to;
    uint256 amount;
    uint64 chainId;
}

/// @notice How the secret of a settlement with external legs is locked.
enum HashKind {
    NONE,
    KECCAK256,
    SHA256
}

/// @notice All of a settlement. Only its hash is stored, so every call brings the terms along; `SettlementCreated` publishes them.
struct Terms {
    /// Tells two settlements of equal terms apart.
    bytes32 salt;
    string name;
    /// Unix seconds. Approvals and executions come before it, reclaims after it.
    uint40 cutoff;
    /// The last approval executes. Without meaning when a secret is needed.
    bool autoExecute;
    HashKind hashKind;
    /// Hash of the 32-byte secret; zero without external legs.
    bytes32 hashlock;
    Leg[] legs;
}

/// @notice ACTIVE: approvals are collected. APPROVED: every local sender's amount is locked (with external legs: armed, nobody can back
/// out alone). COMMITTED: the secret is out and no leg has moved yet. PARTLY_DELIVERED: some have; the others are owed to their receivers.
/// EXPIRED: the cutoff passed. WITHDRAWN: and everything locked went back. BREACHED: a custodian broke a hold.
enum SettlementStatus {
    UNKNOWN,
    ACTIVE,
    APPROVED,
    COMMITTED,
    PARTLY_DELIVERED,
    EXECUTED,
    CANCELLED,
    EXPIRED,
    WITHDRAWN,
    BREACHED
}

/// @title Exchange of value for value: every local leg moves or none does
/// @notice Our own assets are locked by a hold on the sender's account and each leg is checked as the transfer it is. Any other ERC-20 is
/// kept in escrow here, netted: a sender locks what leaves less what comes in, a receiver gets what comes in less what leaves.
interface ISettlement {
    event SettlementCreated(bytes32 indexed id, address indexed creator, Terms terms);
    event SettlementApproved(bytes32 indexed id, address indexed sender);
    event ApprovalRevoked(bytes32 indexed id, address indexed sender);
    /// @notice Every local sender has approved.
    event SettlementLocked(bytes32 indexed id);
    event SecretRevealed(bytes32 indexed id, bytes32 secret);
    /// @notice A committed leg moved. Legs that move all at once are covered by `SettlementExecuted`.
    event LegDelivered(bytes32 indexed id, uint256 indexed leg);
    /// @notice The leg could not move when the secret came out. It is owed to its receiver: see `deliver`.
    event LegDeliverable(bytes32 indexed id, uint256 indexed leg, bytes cause);
    event SettlementExecuted(bytes32 indexed id);
    event CancelVoted(bytes32 indexed id, address indexed party);
    event CancelVoteWithdrawn(bytes32 indexed id, address indexed party);
    event SettlementCancelled(bytes32 indexed id);
    event ReclaimStarted(bytes32 indexed id, uint256 fromBlock);
    event AmountsReclaimed(bytes32 indexed id, address indexed sender);
    event SettlementBreached(bytes32 indexed id);

    error InvalidTerms(bytes32 field);
    error SettlementExists(bytes32 id);
    error SettlementUnknown(bytes32 id);
    /// @notice The settlement is past the state that the call belongs to.
    error WrongStatus(SettlementStatus status);
    error CutoffPassed(uint256 cutoff);
    error CutoffNotReached(uint256 cutoff);
    error NotALocalSender(address caller);
    error NotALocalParty(address caller);
    error AlreadyApproved(address sender);
    error NotApproved(address sender);
    /// @notice Not every local sender has approved.
    error NotLocked();
    error SecretRequired();
    error SecretMismatch();
    error CancelNotAllowed(SettlementStatus status);
    error AlreadyVoted(address party);
    error NotVoted(address party);
    error LegNotCompliant(uint256 leg, address module, bytes32 reason);
    error LegFailed(uint256 leg, bytes cause);
    error LegBreached(uint256 leg);
    error LegNotLocal(uint256 leg);
    error AlreadyDelivered(uint256 leg);
    error AllowanceInsufficient(address asset, uint256 needed, uint256 allowance);
    /// @notice The currency moved another amount than asked (a fee on transfer): such currencies are not accepted.
    error CurrencyNotExact(address asset, uint256 expected, uint256 received);
    error ReclaimNotStarted();
    error ReclaimTooEarly(uint256 fromBlock);
    error ReclaimAlreadyStarted(uint256 fromBlock);

    /// @notice Opens a settlement. Anyone: it binds nobody. Emits `SettlementCreated`. Reverts `InvalidTerms`, `SettlementExists`.
    function create(Terms calldata terms) external returns (bytes32 id);

    /// @notice Locks what the caller sends, which needs its allowance to this contract, summed over its legs. Local senders, before the
    /// cutoff. Emits `SettlementApproved`; `SettlementLocked` for the last one, which also executes when the terms say so.
    /// Reverts `NotALocalSender`, `AlreadyApproved`, `CutoffPassed`, `AllowanceInsufficient`, `CurrencyNotExact`, and the asset's own
    /// `ComplianceRefused`.
    function approve(Terms calldata terms) external;

    /// @notice Takes the caller's approval back and its amounts with it. Until execution; with external legs until the last local sender
    /// has approved, because from then on the other chain relies on the lock. Emits `ApprovalRevoked`.
    function revoke(Terms calldata terms) external;

    /// @notice Moves every local leg, or reverts. Anyone, once locked, before the cutoff, without external legs. Emits
    /// `SettlementExecuted`. Reverts `NotLocked`, `CutoffPassed`, `SecretRequired`, `LegNotCompliant`, `LegFailed`.
    function execute(Terms calldata terms) external;

    /// @notice Shows the secret and thereby commits every local leg: each moves now or becomes deliverable. Anyone, once every local leg is
    /// locked, even after the cutoff while nothing was reclaimed. Emits `SecretRevealed`, and per leg `LegDelivered` or
    /// `LegDeliverable`. Reverts `SecretMismatch` (always without external legs), `NotLocked`, `LegBreached`.
    function reveal(Terms calldata terms, bytes32 secret) external;

    /// @notice Moves a committed leg that could not move before, to its receiver or the registered successor. Anyone. Emits `LegDelivered`.
    /// Reverts `AlreadyDelivered`, `LegNotCompliant`, `LegFailed`.
    function deliver(Terms calldata terms, uint256 leg) external;

    /// @notice Cancels: at once while any local sender can still back out, else when every local party has voted. Local parties. Never
    /// after the secret is out. Emits `CancelVoted`, `SettlementCancelled`. Reverts `CancelNotAllowed`, `AlreadyVoted`.
    function voteCancel(Terms calldata terms) external;

    /// @notice Takes the caller's vote back while it did not cancel yet. Emits `CancelVoteWithdrawn`. Reverts `NotVoted`,
    /// `CancelNotAllowed`.
    function withdrawVote(Terms calldata terms) external;

    /// @notice First step after the cutoff: from now on `RECLAIM_DELAY` blocks remain to show the secret. Anyone. Emits `ReclaimStarted`.
    function startReclaim(Terms calldata terms) external;

    /// @notice Gives a sender's locked amounts back to it, or to its registered successor. Anyone: after the second step's delay, after a
    /// cancellation, or when a custodian broke a hold. Committed amounts never come back. Emits `AmountsReclaimed`.
    function reclaim(Terms calldata terms, address sender) external;

    /// @notice Where the settlement stands now.
    function status(Terms calldata terms) external view returns (SettlementStatus);

    /// @notice Approvals, deliveries and votes as bits: sender and leg bits at the leg's index (a sender's first leg), votes of
    /// receivers who send nothing at 32 + index of their first leg.
    function progress(bytes32 id)
        external
        view
        returns (SettlementStatus stored, uint32 approvals, uint32 delivered, uint64 votes, uint256 reclaimFrom);

    function idOf(Terms calldata terms) external pure returns (bytes32);
}
