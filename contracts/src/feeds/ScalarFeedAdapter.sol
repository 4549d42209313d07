// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {AggregatorV3Interface} from "../interfaces/IAggregatorV3.sol";
import {IFeedsDirectory} from "../interfaces/IFeedsDirectory.sol";

/// @title Scalar feed adapter
/// @notice A stable AggregatorV3 address for a (subject, topic) pair: every read goes to the feed that the directory names at
/// that moment. Round ids are `phase << 64 | round of the feed`, so that they keep growing when a feed is replaced and an old id still
/// means the old feed's round; while the pair has its first feed they equal the feed's own. Decimals never change: should the
/// directory name a feed with others (possible only by removing and registering anew), reads of answers revert instead of misstating a price.
/// A foreign feed whose own round ids need more than 64 bits is read through `latestRoundData` only.
contract ScalarFeedAdapter is AggregatorV3Interface, IERC165 {
    struct Pair {
        IFeedsDirectory directory;
        address subject;
        uint256 topicId;
        uint8 decimals;
    }

    error RoundNotFound(uint80 roundId);

    /// @inheritdoc AggregatorV3Interface
    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        Pair memory pair = _pair();
        (address feed, uint16 phase) = pair.directory.current(pair.subject, pair.topicId);
        _requireUsable(pair, feed);
        (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound) =
            AggregatorV3Interface(feed).latestRoundData();
        return (_outward(phase, roundId), answer, startedAt, updatedAt, _outward(phase, answeredInRound));
    }

    /// @inheritdoc AggregatorV3Interface
    function getRoundData(uint80 roundId) external view returns (uint80, int256, uint256, uint256, uint80) {
        Pair memory pair = _pair();
        // casting is safe because 80 bits less 64 are 16
        // forge-lint: disable-next-line(unsafe-typecast)
        uint16 phase = uint16(roundId >> 64);
        address feed = pair.directory.feedAt(pair.subject, pair.topicId, phase);
        if (feed == address(0)) revert RoundNotFound(roundId);
        _requireUsable(pair, feed);
        (, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound) =
            AggregatorV3Interface(feed).getRoundData(uint64(roundId));
        return (roundId, answer, startedAt, updatedAt, _outward(phase, answeredInRound));
    }

    /// @inheritdoc AggregatorV3Interface
    function decimals() external view returns (uint8) {
        return _pair().decimals;
    }

    /// @notice Description of the present feed.
    function description() external view returns (string memory) {
        return AggregatorV3Interface(aggregator()).description();
    }

    /// @notice Version of the present feed.
    function version() external view returns (uint256) {
        return AggregatorV3Interface(aggregator()).version();
    }

    /// @notice The feed read now. Reverts `FeedNotRegistered` when the pair has none.
    function aggregator() public view returns (address feed) {
        Pair memory pair = _pair();
        (feed,) = pair.directory.current(pair.subject, pair.topicId);
        if (feed == address(0)) revert IFeedsDirectory.FeedNotRegistered(pair.subject, pair.topicId);
    }

    function directory() external view returns (IFeedsDirectory) {
        return _pair().directory;
    }

    function subject() external view returns (address) {
        return _pair().subject;
    }

    function topicId() external view returns (uint256) {
        return _pair().topicId;
    }

    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == type(IERC165).interfaceId || id == type(AggregatorV3Interface).interfaceId;
    }

    function _pair() private view returns (Pair memory) {
        return abi.decode(Clones.fetchCloneArgs(address(this)), (Pair));
    }

    function _requireUsable(Pair memory pair, address feed) private view {
        if (feed == address(0)) revert IFeedsDirectory.FeedNotRegistered(pair.subject, pair.topicId);
        uint8 given = AggregatorV3Interface(feed).decimals();
        if (given != pair.decimals) revert IFeedsDirectory.FeedDecimalsDiffer(pair.decimals, given);
    }

    function _outward(uint16 phase, uint80 roundId) private pure returns (uint80) {
        return phase == 0 ? roundId : (uint80(phase) << 64) | uint64(roundId);
    }
}
