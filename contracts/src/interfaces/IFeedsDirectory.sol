// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What a registered feed answers to. Later kinds are appended; consumers must refuse kinds they do not know.
enum FeedKind {
    NONE,
    /// One `int256`, read through AggregatorV3.
    SCALAR
}

/// @title Which feed speaks for a (subject, topic) pair
/// @notice Subject zero stands for global feeds.
interface IFeedsDirectory {
    error FeedsUnauthorized(address caller, address subject);
    error FeedAlreadyRegistered(address subject, uint256 topicId, address feed);
    error FeedNotRegistered(address subject, uint256 topicId);
    error FeedTopicUnknown(uint256 topicId);
    error FeedSchemaNotScalar(uint256 topicId);
    error FeedNotScalar(address feed);
    error FeedPinnedElsewhere(address feed, address subject, uint256 topicId);
    error FeedDecimalsDiffer(uint8 expected, uint8 given);

    event FeedRegistered(
        address indexed subject, uint256 indexed topicId, address indexed feed, FeedKind kind, uint16 phase
    );
    event FeedReplaced(
        address indexed subject, uint256 indexed topicId, address indexed feed, address previous, uint16 phase
    );
    event FeedRemoved(address indexed subject, uint256 indexed topicId, address indexed feed);
    event AdapterCreated(address indexed subject, uint256 indexed topicId, address adapter, uint8 decimals);

    /// @notice Names the scalar feed of a pair that has none. Caller: whoever `mayManage` the subject, or the feed factory of the
    /// address book. Emits `FeedRegistered`. Reverts when the pair has a feed, the topic is unknown or its schema is not `int256 value`,
    /// the feed does not answer as AggregatorV3 with at most 18 decimals, or is an issuer-signed feed of another pair.
    function register(address subject, uint256 topicId, address feed) external;

    /// @notice Puts another scalar feed in the place of the present one. Caller and checks as for `register`; besides, the decimals must stay,
    /// because consumers of the adapter remember them. Emits `FeedReplaced`.
    function replace(address subject, uint256 topicId, address feed) external;

    /// @notice Takes the feed of a pair out; adapters of the pair revert until another is registered. Caller: whoever
    /// `mayManage` the subject. Emits `FeedRemoved`.
    function remove(address subject, uint256 topicId) external;

    /// @notice The feed of a pair and its kind; zeros when there is none.
    function resolve(address subject, uint256 topicId) external view returns (address feed, FeedKind kind);

    /// @notice The feed of a pair and how many feeds the pair had before it; zero address when there is none now.
    function current(address subject, uint256 topicId) external view returns (address feed, uint16 phase);

    /// @notice The feed a pair had in `phase`, zero when it had none.
    function feedAt(address subject, uint256 topicId, uint16 phase) external view returns (address feed);

    /// @notice True for a FEEDS_MANAGER, and for GOVERNANCE of the asset that is the subject.
    function mayManage(address account, address subject) external view returns (bool);

    /// @notice Creates the adapter of a pair, or returns the one that is there. Anyone may call: it follows the directory and has no power. Emits `AdapterCreated`
    /// for a new one. Reverts `FeedNotRegistered`.
    function createAdapter(address subject, uint256 topicId) external returns (address adapter);

    /// @notice The pair's adapter, zero when none was created for the decimals of its present feed.
    function adapterOf(address subject, uint256 topicId) external view returns (address adapter);
}
