// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentityRegistry} from "./IIdentityRegistry.sol";
import {IIdentityRegistryStorage} from "./IIdentityRegistryStorage.sol";
import {ITrustedIssuersRegistry} from "./ITrustedIssuersRegistry.sol";
import {IClaimTopicsRegistry} from "./IClaimTopicsRegistry.sol";

/// @notice One AND group of a claim expression: every topic of `allOf` must be attested, none of `noneOf` may be.
/// An expression is an OR of groups.
struct Group {
    uint256[] allOf;
    uint256[] noneOf;
}

/// @notice Errors and events both parts of the registry share.
interface IRegistryErrors {
    error RegistryUnauthorized(address caller);
    error RegistryZeroAddress();
    error RegistryAlreadyRegistered(address wallet);
    error RegistryNotRegistered(address wallet);
    error RegistryWalletRecovered(address wallet);
    error RegistryNotMerged(address other);
    error RegistryLengthMismatch();
    error RegistryTopicUnknown(uint256 topic);
    error RegistryTopicDuplicate(uint256 topic);
    error RegistryTooManyTopics();
    error RegistryTooManyIssuers();
    error RegistryTooManyRegistries();
    error RegistryIssuerKnown(address issuer);
    error RegistryIssuerUnknown(address issuer);
    error RegistryNoTopics();
    error RegistryAgentUnknown(address agent);
    error RegistryAgentByRole(address agent);
    error RegistryRecoveryKeyMissing(address identity, address newWallet);
    error RegistryRecoveryWalletTaken(address newWallet);
    error RegistryOwnershipFollowsSystem();
    error RegistryNotContract(address account);

    event PolicySet(address indexed token, Group[] anyOf);
    event PolicyCleared(address indexed token);
    event TrustedIssuerAddedFor(address indexed subject, address indexed issuer, uint256[] claimTopics);
    event TrustedIssuerRemovedFor(address indexed subject, address indexed issuer);
    event TopicRetired(uint256 indexed topic, bool retired);
    event WalletRecovered(address indexed lostWallet, address indexed newWallet, address indexed identity);
    event ExemptionSet(address indexed token, address indexed account, bool exempt);
}

/// @title Questions to the registry, recovery and exemptions
interface IRegistryQuestions is IRegistryErrors {
    /// @notice True when `user` is registered and meets the policy of `token`, or is exempt. An empty policy admits nobody else.
    function isVerifiedFor(address token, address user) external view returns (bool);

    /// @notice Zero when `isVerifiedFor` holds, else why not (see `IdentityReasons`). Of an expression with several groups
    /// the first group's first unmet topic is named.
    function explain(address token, address user) external view returns (bytes32 reason);

    /// @notice `hasClaims` for an expression packed once by `ClaimExpression.pack`: for rules that keep one in storage.
    function satisfies(address user, uint256 expression, uint256[] calldata topics) external view returns (bool);

    /// @notice `satisfies` for the single required topic `topic`.
    function hasClaim(address user, uint256 topic) external view returns (bool);

    /// @notice True when `identityAddress` holds a live claim of `topic` by an issuer trusted for it; the identity need not be
    /// registered (assets). Returns the claim's issuer, zero when there is none.
    function liveClaimIssuer(address identityAddress, uint256 topic) external view returns (address issuer);

    /// @notice All a token and its rules need to know of a recipient, in one call: `explain`, the registration (zeros when there is
    /// none), and whether it is admitted by exemption only.
    function admission(address token, address user)
        external
        view
        returns (bytes32 reason, address identityAddress, uint16 country, bool exempt);

    /// @notice Identity and country of a wallet in one read, zeros when not registered.
    function registration(address user) external view returns (address identityAddress, uint16 country);

    /// @notice Whom a wallet stands for, for those who count people: its identity; for a wallet lost to recovery the identity of
    /// its successor; for an unregistered wallet (a contract of the platform) the wallet itself. Country zero when there is none.
    function holderOf(address wallet) external view returns (address holder, uint16 country);

    /// @notice `holderOf` two wallets in one call, without countries.
    function holdersOf(address one, address other) external view returns (address holder, address otherHolder);

    /// @notice Moves the registration of a lost wallet to a new one. The identity, and with it every claim, stays; on an
    /// identity of our factory the lost key's purposes move too, on any other one the new wallet must already hold the
    /// MANAGEMENT purpose. The lost wallet can never be registered again. Caller: agent. Emits `WalletRecovered`.
    /// Freezes, holds and balances are the token's: see `AssetToken.recoveryAddress`.
    function recover(address lostWallet, address newWallet) external;

    /// @notice For a compromised identity of our factory: all MANAGEMENT and ACTION keys go, `wallet` (registered with that
    /// identity) becomes the key. Caller: agent.
    function resetIdentityKeys(address identityAddress, address wallet) external;

    /// @notice Lets a contract (a treasury, an escrow, a distribution) receive `token` without an identity, or ends that. It frees the
    /// recipient of what is asked of its identity (the claim policy, its country, its claims) and no sender of anything: every rule still runs.
    /// Caller: GOVERNANCE of the asset. Emits `ExemptionSet`. Reverts `RegistryUnauthorized`, and `RegistryNotContract` for an account without code
    /// of its own, so that no person's wallet is ever exempt.
    function setExempt(address token, address account, bool exempt) external;

    function isExempt(address token, address account) external view returns (bool);

    /// @notice Wallet that took over from a recovered one, at the end of the chain; zero when `wallet` was never recovered.
    function successor(address wallet) external view returns (address);
}

/// @title Policies per token and trust per subject
interface IRegistryAdministration is IRegistryErrors {
    /// @notice Claim expression a holder of `token` must meet, instead of the default (all ERC-3643 claim topics).
    /// Caller: CLAIM_POLICY_MANAGER, the asset factory of the address book, or the token itself. Reverts on an empty expression or an empty group,
    /// more than 8 groups or 15 distinct topics, or an unknown topic. Emits `PolicySet`.
    function setPolicy(address token, Group[] calldata anyOf) external;

    /// @notice Returns `token` to the default. Caller: as for `setPolicy`. Emits `PolicyCleared`.
    function clearPolicy(address token) external;

    /// @notice The expression in force for `token` (the default one when it has none of its own).
    function policyOf(address token) external view returns (Group[] memory anyOf);

    /// @notice True when `user` is registered and meets `anyOf`. An empty expression is met by nobody.
    function hasClaims(address user, Group[] calldata anyOf) external view returns (bool);

    /// @notice Trusts `issuer` for claims about one identity only. Caller: CLAIM_POLICY_MANAGER.
    /// At most 50 issuers per subject, 15 topics per issuer. Emits `TrustedIssuerAddedFor`.
    function addTrustedIssuerFor(address subject, address issuer, uint256[] calldata claimTopics) external;

    /// @notice Ends `addTrustedIssuerFor`. Caller: CLAIM_POLICY_MANAGER. Emits `TrustedIssuerRemovedFor`.
    function removeTrustedIssuerFor(address subject, address issuer) external;

    /// @notice True when `issuer` is trusted now for `topic` about `subject` (globally or for it alone).
    function isTrustedFor(address issuer, uint256 topic, address subject) external view returns (bool);

    /// @notice Called by the topic scheme registry: claims of a retired topic stop counting at once.
    function setTopicRetired(uint256 topic, bool retired) external;
}

/// @title What our registry adds to ERC-3643: policies per token, reasons, per-subject trust, recovery
interface IIdentityRegistryPolicy is IRegistryQuestions, IRegistryAdministration {}

/// @notice Everything the merged registry answers to.
interface IMergedIdentityRegistry is
    IIdentityRegistry,
    IIdentityRegistryStorage,
    ITrustedIssuersRegistry,
    IClaimTopicsRegistry,
    IIdentityRegistryPolicy
{}
