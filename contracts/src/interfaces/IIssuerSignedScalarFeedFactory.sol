// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {HistoryMode} from "./IIssuerSignedScalarFeed.sol";

/// @notice What the creator of a feed chooses; the schema hash comes from the topic.
struct FeedConfig {
    bytes32 salt;
    address subject;
    uint256 topicId;
    uint8 decimals;
    HistoryMode historyMode;
    uint32 historySize;
    bool requirePositive;
    uint32 driftAllowance;
    string description;
}

/// @title Creates issuer-signed scalar feeds and enters them in the directory
interface IIssuerSignedScalarFeedFactory {
    error FeedDecimalsTooMany(uint8 decimals);
    error FeedHistorySizeZero();
    error FeedSaltUsed(address creator, bytes32 salt);

    event FeedCreated(
        address indexed feed, address indexed subject, uint256 indexed topicId, bytes32 schemaHash, address creator
    );

    /// @notice Deploys a feed and registers it for its subject and topic. Caller: whoever the directory lets manage the subject. Emits
    /// `FeedCreated`. Reverts on more than 18 decimals, BOUNDED history of size zero, an unknown topic or one whose
    /// schema is not `int256 value`, a pair that has a feed, or a salt the creator used for the same feed before.
    function create(FeedConfig calldata config) external returns (address feed);

    /// @notice As `create`, in the place of the feed the pair has now. Reverts when it has none.
    function createReplacement(FeedConfig calldata config) external returns (address feed);

    /// @notice Address that `creator` would get for `config`.
    function predict(address creator, FeedConfig calldata config) external view returns (address feed);

    /// @notice True when this factory deployed `feed`.
    function isFeed(address feed) external view returns (bool);
}
