// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Who signs for an account.
struct SignerSet {
    /// ERC-7913 signers: 20 bytes of an address (key or ERC-1271 contract), or verifier and key.
    bytes[] signers;
    /// Weight of each signer, at least 1.
    uint64[] weights;
    /// Weight that must sign, at least 1.
    uint64 threshold;
}

/// @notice An account: who signs, and who may bring it back when too many keys are lost.
struct AccountConfig {
    SignerSet owners;
    /// May replace the signers after the delay; zero for nobody.
    address guardian;
    /// Seconds during which the signers can cancel a recovery.
    uint32 recoveryDelay;
}

/// @notice One call of a batch.
struct AccountCall {
    address to;
    uint256 value;
    bytes data;
}

/// @title ERC-4337 account with weighted signers and delayed recovery
interface ISmartAccount {
    error SignerInvalid(bytes signer);
    error SignersTooMany(uint256 count);
    error GuardianInvalid(address guardian, uint32 recoveryDelay);
    error NotGuardian(address caller);
    error RecoveryPending(uint256 readyAt);
    error RecoveryNotPending();
    error RecoveryTooEarly(uint256 readyAt);
    error RecoveryMismatch();

    event GuardianSet(address indexed guardian, uint32 recoveryDelay);
    event RecoveryStarted(SignerSet owners, uint256 readyAt);
    event RecoveryCancelled(address indexed by);
    event RecoveryFinished();

    /// @notice Once, by the factory, in the transaction that makes the account.
    function initialize(AccountConfig calldata config) external;

    /// @notice Makes the calls in order, all or nothing; a failing call's own error comes through. Caller: entry point or the account itself.
    function execute(AccountCall[] calldata calls) external payable;

    /// @notice Replaces all signers, weights and the threshold by `owners`, so that what the signers approve is the outcome. Caller: the
    /// account itself, by an operation or a batch its signers approved. Emits OpenZeppelin's signer and threshold events for what
    /// changes. Reverts `SignerInvalid` (zero, a precompile, the account itself, a verifier without code), `SignersTooMany`
    /// beyond 32, and OpenZeppelin's errors on a short signer, a weight or threshold of zero, unequal lengths and a threshold out of reach.
    function setOwners(SignerSet calldata owners) external;

    /// @notice Changes or (with zero, zero) removes the guardian; a pending recovery ends. Caller: the account itself. Emits `GuardianSet`. Reverts
    /// `GuardianInvalid` for a delay under one day or above 365, and for the account itself.
    function setGuardian(address guardian, uint32 recoveryDelay) external;

    /// @notice Announces the signers that shall replace the present ones. Caller: guardian. Emits `RecoveryStarted`. Reverts
    /// `RecoveryPending` while another can still be finished.
    function startRecovery(SignerSet calldata owners) external;

    /// @notice Withdraws the announcement. Caller: guardian or the account. Emits `RecoveryCancelled`.
    function cancelRecovery() external;

    /// @notice Replaces all signers by those announced, after the delay and for 30 days. Anyone may call: the outcome is fixed.
    /// Emits `RecoveryFinished`. Reverts `RecoveryTooEarly`, `RecoveryNotPending`, `RecoveryMismatch`.
    function finishRecovery(SignerSet calldata owners) external;

    /// @notice The guardian and its delay, and when the pending recovery can be finished (zero when none is).
    function recovery() external view returns (address guardian, uint32 recoveryDelay, uint256 readyAt);
}

/// @title Creates accounts at addresses known before
interface ISmartAccountFactory {
    event AccountCreated(address indexed account, bytes32 indexed salt);

    /// @notice Makes the account of (config, salt), or returns it when it is there. Anyone may call: the address binds signers, weights,
    /// threshold and guardian, so nobody can put other owners there. Emits `AccountCreated` for a new one.
    function createAccount(AccountConfig calldata config, bytes32 salt) external returns (address account);

    /// @notice Where `createAccount` puts the account.
    function predict(AccountConfig calldata config, bytes32 salt) external view returns (address account);
}
