// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAddon} from "./IAddon.sol";

/// @notice How recipients come to their tokens.
enum DistributionKind {
    /// The issuer sends in batches.
    PUSH,
    /// Recipients claim their whole amount.
    CLAIM,
    /// Recipients start their vesting by a claim and receive linearly afterwards.
    VESTING
}

/// @notice Everything a distribution is bound to.
struct DistributionTerms {
    address token;
    /// Receives what is left after the window.
    address leftoverTo;
    DistributionKind kind;
    /// Root of the recipients' tree: leaf = keccak256(keccak256(abi.encode(index, account, amount))), as
    /// `StandardMerkleTree` of @openzeppelin/merkle-tree builds it over ["uint256", "address", "uint256"]. A long list is cut into
    /// parts of `rowsPerRoot` rows with a tree each, which shortens the proof of every claim: row `index` stands in tree
    /// `index / rowsPerRoot`. At most 256 trees.
    bytes32[] roots;
    /// Zero when one tree holds all rows.
    uint64 rowsPerRoot;
    /// The window: pushes and claims happen from `start` on and before `end`.
    uint64 start;
    uint64 end;
    /// Vesting only, in seconds from the recipient's claim: nothing before `cliff`, everything after `duration`.
    uint64 cliff;
    uint64 duration;
    /// Push only: no more than this leaves in all; zero is no cap.
    uint256 cap;
}

/// @notice One row of the recipients' list.
struct Recipient {
    uint256 index;
    address account;
    uint256 amount;
}

/// @notice A started vesting. `account` zero is none.
struct Grant {
    address account;
    uint64 start;
    uint128 amount;
    uint128 released;
}

/// @notice One airdrop: push, claim window or vesting.
interface IDistribution is IAddon {
    event Pushed(uint256 indexed index, address indexed account, uint256 amount);
    /// @notice The token refused this row; it can be pushed again. `reason` is the token's revert data.
    event PushSkipped(uint256 indexed index, address indexed account, bytes reason);
    /// @notice Paid to the caller: the account, or its registered successor.
    event Claimed(uint256 indexed index, address indexed account, uint256 amount);
    event VestingStarted(uint256 indexed index, address indexed account, uint256 amount);
    event Released(uint256 indexed index, address indexed account, address indexed to, uint256 amount);
    event LeftoverWithdrawn(address indexed currency, address indexed to, uint256 amount);

    error WrongKind(DistributionKind kind);
    error WindowNotOpen(uint64 start);
    error WindowClosed(uint64 end);
    error WindowNotClosed(uint64 end);
    error ProofInvalid();
    error AlreadyPaid(uint256 index);
    error NotRecipient(address caller, address account);
    error CapExceeded(uint256 cap, uint256 asked);
    error Underfunded(uint256 needed, uint256 available);
    error GrantUnknown(uint256 index);
    error NothingDue();
    error BatchOutOfGas(uint256 index);

    /// @notice Sends to the given rows; rows already paid are passed over, rows the token refuses are skipped with the reason.
    /// `proof` and `flags` prove all rows together, which are of one tree and in its order. Caller: SALE. Emits `Pushed`
    /// or `PushSkipped` per row. Reverts `WrongKind`, `WindowNotOpen`, `WindowClosed`, `ProofInvalid`, `CapExceeded`, and `BatchOutOfGas`
    /// when a row ran out of gas, so that a gas estimate never passes by starving rows.
    function push(Recipient[] calldata rows, bytes32[] calldata proof, bool[] calldata flags)
        external
        returns (uint256 paid);

    /// @notice Claims one row, once. Caller: the row's account or its registered successor, who is paid. In a vesting the claim
    /// starts the vesting of the account instead. Emits `Claimed` or `VestingStarted`. Reverts `WrongKind`, `WindowNotOpen`, `WindowClosed`, `NotRecipient`,
    /// `AlreadyPaid`, `ProofInvalid`, `Underfunded`, and what the token refuses with.
    function claim(uint256 index, address account, uint256 amount, bytes32[] calldata proof) external;

    /// @notice Pays what has vested by now to each grant's account or its registered successor. Anyone may call; a repeated
    /// index pays nothing more. Emits `Released` where something was due. Reverts `GrantUnknown`, `NothingDue` where nothing is to be
    /// paid at all, and what the token refuses with.
    function release(uint256[] calldata indices) external;

    /// @notice Sends what nobody is owed to `leftoverTo`: of the asset only after the window and never a token of a started
    /// vesting, of any other currency (payouts received as a holder) at any time. Caller: SALE. Emits `LeftoverWithdrawn`.
    /// Reverts `WindowNotClosed`.
    function withdraw(address currency) external returns (uint256 amount);

    function terms() external view returns (DistributionTerms memory);

    /// @notice Whether the row was paid (push, claim) or its vesting started.
    function isPaid(uint256 index) external view returns (bool);

    function grantOf(uint256 index) external view returns (Grant memory);

    /// @notice What `release` would pay for the grant now.
    function releasable(uint256 index) external view returns (uint256);

    /// @notice Tokens of started vestings that are not released yet.
    function owed() external view returns (uint256);

    /// @notice Tokens pushed so far.
    function pushed() external view returns (uint256);
}
