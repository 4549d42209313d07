// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AggregatorV3Interface} from "./IAggregatorV3.sol";

/// @notice How many rounds a feed keeps on chain.
enum HistoryMode {
    /// The latest answer only; `getRoundData` always reverts.
    LATEST_ONLY,
    /// The last `historySize` rounds.
    BOUNDED,
    /// Every round.
    FULL
}

/// @notice What a feed is pinned to for ever.
struct FeedTerms {
    /// The tenant's registry when the feed was made: it says which issuers are trusted.
    address registry;
    /// Asset, identity, or zero for a global feed.
    address subject;
    uint256 topicId;
    bytes32 schemaHash;
    uint8 decimals;
    HistoryMode historyMode;
    /// Rounds kept in BOUNDED mode.
    uint32 historySize;
    /// Refuse zero and negative values.
    bool requirePositive;
    /// Seconds that `observedAt` may lie ahead of the block.
    uint32 driftAllowance;
}

/// @notice The EIP-712 document an issuer signs; the domain is ("IssuerSignedScalarFeed", "1", chain, feed).
struct FeedUpdate {
    uint256 topicId;
    bytes32 schemaHash;
    int256 value;
    uint256 observedAt;
    /// One more than the issuer's previous nonce on this feed; the first is 1.
    uint256 nonce;
    /// Second after which the signature is void; zero for never.
    uint256 deadline;
}

/// @title A number about a subject, attested by a trusted issuer
interface IIssuerSignedScalarFeed is AggregatorV3Interface {
    error TopicMismatch(uint256 expected, uint256 given);
    error SchemaHashMismatch(bytes32 expected, bytes32 given);
    error IssuerNotAuthorized(address issuer);
    error InvalidSignature();
    error InvalidSigner(address signer);
    error InvalidNonce(uint256 expected, uint256 given);
    error DeadlineExpired(uint256 deadline);
    error ValueNotPositive(int256 value);
    error InvalidObservedAt();
    error StaleObservation(uint256 latestObservedAt, uint256 observedAt);
    error ObservedAtTooFarInFuture(uint256 latestAllowed, uint256 observedAt);
    error HistoryNotSupported();
    error RoundNotFound(uint80 roundId);

    /// @notice An accepted update, with everything an auditor needs to verify it again.
    event FeedUpdated(
        address indexed issuer,
        uint80 indexed roundId,
        int256 value,
        uint256 observedAt,
        uint256 nonce,
        uint256 deadline,
        bytes signature
    );

    /// @notice Records a value that a CLAIM key of `issuer` signed. Anyone may send it: the signature is the authority.
    /// Emits `FeedUpdated` and returns the new round. A refusal changes nothing. Checked in this order: `TopicMismatch`,
    /// `SchemaHashMismatch`, `IssuerNotAuthorized` (not trusted for this topic and subject),
    /// `InvalidSignature` (not 65 canonical bytes, or recovers to nobody), `InvalidSigner` (no CLAIM key of the issuer's identity), `InvalidNonce`, `DeadlineExpired`,
    /// `ValueNotPositive`, `InvalidObservedAt` (zero), `StaleObservation`, `ObservedAtTooFarInFuture`.
    function submit(address issuer, FeedUpdate calldata update, bytes calldata signature)
        external
        returns (uint80 roundId);

    /// @notice The pinned settings besides the description.
    function terms() external view returns (FeedTerms memory);

    function subject() external view returns (address);
    function topicId() external view returns (uint256);

    /// @notice Nonce of the issuer's last accepted update on this feed; the next one must carry one more.
    function issuerNonce(address issuer) external view returns (uint256);

    /// @notice EIP-712 digest of an update: what the issuer's key signs.
    function digestOf(FeedUpdate calldata update) external view returns (bytes32);

    /// @notice Seconds since the latest observation, zero while it lies ahead of the block. Reverts `RoundNotFound(0)` before
    /// the first update.
    function age() external view returns (uint256);

    /// @notice True when the latest observation is older than `maxAge` seconds, or there is none.
    function isStale(uint256 maxAge) external view returns (bool);
}
