// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {ScalarFeedAdapter} from "../../src/feeds/ScalarFeedAdapter.sol";
import {AggregatorV3Interface} from "../../src/interfaces/IAggregatorV3.sol";
import {IFeedsDirectory} from "../../src/interfaces/IFeedsDirectory.sol";
import {HistoryMode, IIssuerSignedScalarFeed} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {FeedConfig} from "../../src/interfaces/IIssuerSignedScalarFeedFactory.sol";
import {FeedFixture, ForeignAggregator} from "./FeedFixture.sol";

contract ScalarFeedAdapterTest is FeedFixture {
    IssuerSignedScalarFeed private feed;
    ScalarFeedAdapter private adapter;

    function setUp() public override {
        super.setUp();
        feed = _feed(address(token), HistoryMode.FULL, 0);
        adapter = ScalarFeedAdapter(directory.createAdapter(address(token), price));
    }

    function test_shape() public view {
        assertEq(adapter.decimals(), 2, "decimals");
        assertEq(adapter.description(), "price of the bond", "description");
        assertEq(adapter.version(), 1, "version");
        assertEq(address(adapter.directory()), address(directory), "directory");
        assertEq(adapter.subject(), address(token), "subject");
        assertEq(adapter.topicId(), price, "topic");
        assertEq(adapter.aggregator(), address(feed), "feed");
        assertTrue(adapter.supportsInterface(0x73851258), "aggregator");
        assertTrue(adapter.supportsInterface(0x01ffc9a7), "165");
        assertTrue(!adapter.supportsInterface(type(IIssuerSignedScalarFeed).interfaceId), "not a feed");
    }

    function test_there_is_one_adapter_per_pair_and_anyone_may_create_it() public {
        vm.prank(stranger);
        assertEq(directory.createAdapter(address(token), price), address(adapter), "same");
        assertEq(directory.adapterOf(address(token), price), address(adapter), "found");
        assertEq(directory.adapterOf(address(0), price), address(0), "no feed");
        _feed(address(0), HistoryMode.FULL, 0);
        assertEq(directory.adapterOf(address(0), price), address(0), "not created");
        vm.expectEmit(true, true, false, false, address(directory));
        emit IFeedsDirectory.AdapterCreated(address(0), price, address(0), 2);
        directory.createAdapter(address(0), price);
    }

    function testFuzz_it_answers_what_the_feed_answers(int256 first, int256 second) public {
        _submit(feed, first);
        vm.warp(1_800_000_300);
        _submit(feed, second);
        _assertLatest(adapter, 2, second, 1_800_000_300);
        _assertRound(adapter, 1, first, 1_800_000_000);
        _assertRound(adapter, 2, second, 1_800_000_300);
    }

    function test_errors_of_the_feed_come_through() public {
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeed.RoundNotFound.selector, 0));
        adapter.latestRoundData();
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeed.RoundNotFound.selector, 9));
        adapter.getRoundData(9);
    }

    function test_it_follows_a_replacement_and_round_ids_keep_growing() public {
        _submit(feed, 100);
        _submit(feed, 101);
        FeedConfig memory config = _feedConfig(address(token), HistoryMode.FULL, 0);
        config.salt = bytes32(uint256(1));
        IssuerSignedScalarFeed second = IssuerSignedScalarFeed(feeds.createReplacement(config));
        assertEq(adapter.aggregator(), address(second), "follows");
        _submit(second, 102);
        uint80 id = (uint80(1) << 64) | 1;
        _assertLatest(adapter, id, 102, block.timestamp);
        _assertRound(adapter, id, 102, block.timestamp);
        _assertRound(adapter, 2, 101, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ScalarFeedAdapter.RoundNotFound.selector, uint80(2) << 64));
        adapter.getRoundData(uint80(2) << 64);
    }

    function test_without_a_feed_it_says_so_and_comes_back() public {
        _submit(feed, 100);
        directory.remove(address(token), price);
        bytes memory none = abi.encodeWithSelector(IFeedsDirectory.FeedNotRegistered.selector, address(token), price);
        vm.expectRevert(none);
        adapter.latestRoundData();
        vm.expectRevert(none);
        adapter.aggregator();
        _assertRound(adapter, 1, 100, block.timestamp);
        directory.register(address(token), price, address(feed));
        _assertLatest(adapter, (uint80(1) << 64) | 1, 100, block.timestamp);
    }

    function test_other_decimals_never_pass_silently() public {
        _submit(feed, 100);
        directory.remove(address(token), price);
        directory.register(address(token), price, address(new ForeignAggregator(8, 5)));
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedDecimalsDiffer.selector, 2, 8));
        adapter.latestRoundData();
        assertEq(directory.adapterOf(address(token), price), address(0), "needs a new one");
        ScalarFeedAdapter next = ScalarFeedAdapter(directory.createAdapter(address(token), price));
        assertEq(next.decimals(), 8, "decimals");
        (, int256 answer,,,) = next.latestRoundData();
        assertTrue(answer == 5, "answer");
    }

    /// @dev A consumer that knows AggregatorV3 and nothing else.
    function test_a_plain_consumer_reads_across_a_replacement() public {
        Consumer consumer = new Consumer(adapter);
        _submit(feed, 15000);
        assertEq(consumer.valueInCents(3), 45000, "first feed");
        FeedConfig memory config = _feedConfig(address(token), HistoryMode.LATEST_ONLY, 0);
        config.salt = bytes32(uint256(1));
        IssuerSignedScalarFeed second = IssuerSignedScalarFeed(feeds.createReplacement(config));
        _submit(second, 16000);
        assertEq(consumer.valueInCents(3), 48000, "second feed");
        vm.warp(1_800_100_000);
        vm.expectRevert(Consumer.TooOld.selector);
        consumer.valueInCents(3);
    }
}

/// @notice What a third party writes against a price feed.
contract Consumer {
    error TooOld();

    AggregatorV3Interface private immutable _FEED;

    constructor(AggregatorV3Interface feed) {
        _FEED = feed;
    }

    function valueInCents(uint256 units) external view returns (uint256) {
        (, int256 answer,, uint256 updatedAt,) = _FEED.latestRoundData();
        if (answer <= 0 || block.timestamp > updatedAt + 1 days) revert TooOld();
        // forge-lint: disable-next-line(unsafe-typecast)
        return units * uint256(answer) * 100 / 10 ** _FEED.decimals();
    }
}
