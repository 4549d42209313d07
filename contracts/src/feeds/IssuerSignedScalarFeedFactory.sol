// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IFeedsDirectory} from "../interfaces/IFeedsDirectory.sol";
import {FeedTerms, HistoryMode} from "../interfaces/IIssuerSignedScalarFeed.sol";
import {FeedConfig, IIssuerSignedScalarFeedFactory} from "../interfaces/IIssuerSignedScalarFeedFactory.sol";
import {ISystem} from "../interfaces/ISystem.sol";
import {ITopicSchemeRegistry} from "../interfaces/ITopicSchemeRegistry.sol";
import {Names} from "../Roles.sol";

/// @title Issuer-signed scalar feed factory
/// @notice Derives the schema hash from the topic, deploys the immutable clone and enters it in the directory, all or nothing.
/// The factory keeps no power over a feed.
contract IssuerSignedScalarFeedFactory is IIssuerSignedScalarFeedFactory {
    uint8 private constant MAX_DECIMALS = 18;

    ISystem public immutable SYSTEM;
    IFeedsDirectory public immutable DIRECTORY;
    address public immutable IMPLEMENTATION;

    /// @inheritdoc IIssuerSignedScalarFeedFactory
    mapping(address feed => bool) public override isFeed;

    constructor(ISystem system, IFeedsDirectory directory, address implementation) {
        SYSTEM = system;
        DIRECTORY = directory;
        IMPLEMENTATION = implementation;
    }

    /// @inheritdoc IIssuerSignedScalarFeedFactory
    function create(FeedConfig calldata config) external returns (address feed) {
        feed = _deploy(config);
        DIRECTORY.register(config.subject, config.topicId, feed);
    }

    /// @inheritdoc IIssuerSignedScalarFeedFactory
    function createReplacement(FeedConfig calldata config) external returns (address feed) {
        feed = _deploy(config);
        DIRECTORY.replace(config.subject, config.topicId, feed);
    }

    /// @inheritdoc IIssuerSignedScalarFeedFactory
    function predict(address creator, FeedConfig calldata config) external view returns (address) {
        return _predict(_arguments(config, _schemaHash(config.topicId)), _salt(creator, config.salt));
    }

    function _deploy(FeedConfig calldata config) private returns (address feed) {
        if (!DIRECTORY.mayManage(msg.sender, config.subject)) {
            revert IFeedsDirectory.FeedsUnauthorized(msg.sender, config.subject);
        }
        if (config.decimals > MAX_DECIMALS) revert FeedDecimalsTooMany(config.decimals);
        if (config.historyMode == HistoryMode.BOUNDED && config.historySize == 0) revert FeedHistorySizeZero();
        // The directory refuses unknown topics and other schemas.
        bytes32 schemaHash = _schemaHash(config.topicId);
        bytes memory arguments = _arguments(config, schemaHash);
        bytes32 salt = _salt(msg.sender, config.salt);
        // Asked first: a second deployment to the same address would burn all gas of the transaction.
        feed = _predict(arguments, salt);
        if (isFeed[feed]) revert FeedSaltUsed(msg.sender, config.salt);
        isFeed[feed] = true;
        emit FeedCreated(feed, config.subject, config.topicId, schemaHash, msg.sender);
        Clones.cloneDeterministicWithImmutableArgs(IMPLEMENTATION, arguments, salt);
    }

    function _schemaHash(uint256 topicId) private view returns (bytes32) {
        return ITopicSchemeRegistry(SYSTEM.get(Names.TOPIC_SCHEMES)).schemaHash(topicId);
    }

    function _arguments(FeedConfig calldata config, bytes32 schemaHash) private view returns (bytes memory) {
        FeedTerms memory terms = FeedTerms({
            registry: SYSTEM.get(Names.IDENTITY_REGISTRY),
            subject: config.subject,
            topicId: config.topicId,
            schemaHash: schemaHash,
            decimals: config.decimals,
            historyMode: config.historyMode,
            historySize: config.historySize,
            requirePositive: config.requirePositive,
            driftAllowance: config.driftAllowance
        });
        return bytes.concat(abi.encode(terms), bytes(config.description));
    }

    function _salt(address creator, bytes32 salt) private pure returns (bytes32) {
        return keccak256(abi.encode(creator, salt));
    }

    function _predict(bytes memory arguments, bytes32 salt) private view returns (address) {
        return Clones.predictDeterministicAddressWithImmutableArgs(IMPLEMENTATION, arguments, salt);
    }
}
