// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

// Chainlink's own, MIT, from the npm package that the tests fetch; nothing of it is kept here.
import {
    AggregatorV3Interface as ChainlinkAggregator
} from "../../node_modules/@chainlink/contracts/src/v0.8/shared/interfaces/AggregatorV3Interface.sol";
import {MockV3Aggregator} from "../../node_modules/@chainlink/contracts/src/v0.8/tests/MockV3Aggregator.sol";
import {AggregatorV3Interface} from "../../src/interfaces/IAggregatorV3.sol";
import {FeedUpdate, HistoryMode, IIssuerSignedScalarFeed} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {FeedFixture} from "./FeedFixture.sol";
import {PriceConsumer} from "./PriceConsumer.t.sol";

/// @notice The feed and its adapter beside the aggregator that Chainlink gives its users to test against: fed the same sequence, they
/// answer the same, tuple by tuple, to whoever is compiled against Chainlink's own interface.
contract ChainlinkMockTest is FeedFixture {
    uint32 private constant RING = 3;
    uint256 private constant LONGEST = 6;

    struct Pair {
        IssuerSignedScalarFeed feed;
        ChainlinkAggregator adapter;
        /// Rounds that the feed still has; 0: none but the latest.
        uint256 kept;
    }

    Pair[] private pairs;
    MockV3Aggregator private mock;

    function setUp() public override {
        super.setUp();
        _add(address(0x1), HistoryMode.FULL, 0, type(uint256).max);
        _add(address(0x2), HistoryMode.BOUNDED, RING, RING);
        _add(address(0x3), HistoryMode.LATEST_ONLY, 0, 0);
    }

    function testFuzz_feed_and_adapter_answer_as_the_mock_does(int256[] memory values, uint16[] memory pauses) public {
        vm.assume(values.length != 0 && pauses.length != 0);
        uint256 rounds = values.length < LONGEST ? values.length : LONGEST;
        for (uint256 i; i < rounds; ++i) {
            vm.warp(block.timestamp + pauses[i % pauses.length]);
            _publish(values[i], block.timestamp);
            _same(i + 1);
        }
    }

    /// @dev Observed before its block, as most values are: the mock takes that by another door.
    function testFuzz_an_earlier_observation_reads_as_in_the_mock(int256 first, int256 second, uint16 before) public {
        _publish(first, block.timestamp);
        vm.warp(block.timestamp + 1 days);
        uint256 observedAt = block.timestamp - before;
        for (uint256 i; i < pairs.length; ++i) {
            _submitAt(pairs[i].feed, second, observedAt);
        }
        mock.updateRoundData(2, second, observedAt, observedAt);
        _same(2);
    }

    function test_a_consumer_cannot_tell_them_apart() public {
        _publish(15_000, block.timestamp);
        _publish(16_000, block.timestamp);
        AggregatorV3Interface[3] memory sources =
            [AggregatorV3Interface(address(mock)), pairs[2].feed, AggregatorV3Interface(address(pairs[2].adapter))];
        for (uint256 i; i < sources.length; ++i) {
            PriceConsumer consumer = new PriceConsumer(sources[i], 1 hours);
            assertEq(consumer.costOf(3, 6), 480_000_000, "3 at 160.00");
        }
    }

    /// @dev Where they differ, and mean to: the mock answers zeros for a round that never was, which a careless consumer takes for a price.
    function test_a_round_that_never_was_is_refused_instead_of_zero() public {
        _publish(1, block.timestamp);
        (, int256 answer,, uint256 updatedAt,) = mock.getRoundData(9);
        assertTrue(answer == 0 && updatedAt == 0, "zeros");
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeed.RoundNotFound.selector, 9));
        pairs[0].feed.getRoundData(9);
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeed.RoundNotFound.selector, 9));
        pairs[0].adapter.getRoundData(9);
    }

    function _add(address subject, HistoryMode mode, uint32 size, uint256 kept) private {
        IssuerSignedScalarFeed feed = _feed(subject, mode, size);
        pairs.push(Pair(feed, ChainlinkAggregator(directory.createAdapter(subject, price)), kept));
    }

    /// @dev The same value to all; the mock is made with its first.
    function _publish(int256 value, uint256 observedAt) private {
        for (uint256 i; i < pairs.length; ++i) {
            _submitAt(pairs[i].feed, value, observedAt);
        }
        if (address(mock) == address(0)) mock = new MockV3Aggregator(2, value);
        else mock.updateAnswer(value);
    }

    function _submitAt(IssuerSignedScalarFeed feed, int256 value, uint256 observedAt) private {
        FeedUpdate memory update = _update(feed, value);
        update.observedAt = observedAt;
        feed.submit(address(issuer), update, _signed(feed, update));
    }

    /// @dev Everything that is kept, read by the feed, by the adapter and by the mock.
    function _same(uint256 rounds) private view {
        bytes32 latest = _latestOf(ChainlinkAggregator(address(mock)));
        for (uint256 i; i < pairs.length; ++i) {
            Pair memory pair = pairs[i];
            ChainlinkAggregator feed = ChainlinkAggregator(address(pair.feed));
            assertEq(_latestOf(feed), latest, "latest of the feed");
            assertEq(_latestOf(pair.adapter), latest, "latest of the adapter");
            assertEq(feed.decimals(), mock.decimals(), "decimals of the feed");
            assertEq(pair.adapter.decimals(), mock.decimals(), "decimals of the adapter");
            for (uint256 round = rounds; round != 0 && rounds - round < pair.kept; --round) {
                // casting is safe because there are a few rounds
                // forge-lint: disable-next-line(unsafe-typecast)
                uint80 id = uint80(round);
                bytes32 expected = _roundOf(ChainlinkAggregator(address(mock)), id);
                assertEq(_roundOf(feed, id), expected, "a round of the feed");
                assertEq(_roundOf(pair.adapter, id), expected, "a round of the adapter");
            }
        }
    }

    function _latestOf(ChainlinkAggregator source) private view returns (bytes32) {
        (uint80 id, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredIn) = source.latestRoundData();
        return keccak256(abi.encode(id, answer, startedAt, updatedAt, answeredIn));
    }

    function _roundOf(ChainlinkAggregator source, uint80 round) private view returns (bytes32) {
        (uint80 id, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredIn) = source.getRoundData(round);
        return keccak256(abi.encode(id, answer, startedAt, updatedAt, answeredIn));
    }
}
