// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AggregatorV3Interface} from "../../src/interfaces/IAggregatorV3.sol";
import {HistoryMode} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {FeedConfig} from "../../src/interfaces/IIssuerSignedScalarFeedFactory.sol";
import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {FeedFixture} from "./FeedFixture.sol";

/// @notice How a contract reads a price: it knows AggregatorV3 and an address, and nothing else of us.
contract PriceConsumer {
    error PriceTooOld(uint256 updatedAt);
    error PriceNotPositive(int256 answer);

    AggregatorV3Interface public immutable PRICES;
    uint256 public immutable MAX_AGE;
    uint256 private immutable _UNIT;

    constructor(AggregatorV3Interface prices, uint256 maxAge) {
        PRICES = prices;
        MAX_AGE = maxAge;
        // An adapter's decimals never change, so they are asked for once.
        _UNIT = 10 ** prices.decimals();
    }

    /// @notice What `amount` whole units cost, with `places` decimals.
    function costOf(uint256 amount, uint256 places) external view returns (uint256) {
        (, int256 answer,, uint256 updatedAt,) = PRICES.latestRoundData();
        if (answer <= 0) revert PriceNotPositive(answer);
        if (block.timestamp > updatedAt + MAX_AGE) revert PriceTooOld(updatedAt);
        // casting is safe because of the check above
        // forge-lint: disable-next-line(unsafe-typecast)
        return amount * uint256(answer) * 10 ** places / _UNIT;
    }
}

contract PriceConsumerTest is FeedFixture {
    IssuerSignedScalarFeed private feed;
    PriceConsumer private consumer;

    function setUp() public override {
        super.setUp();
        feed = _feed(address(token), HistoryMode.LATEST_ONLY, 0);
        consumer = new PriceConsumer(AggregatorV3Interface(directory.createAdapter(address(token), price)), 1 hours);
    }

    function test_it_prices_through_the_adapter_across_a_replacement() public {
        _submit(feed, 15_000);
        assertEq(consumer.costOf(3, 6), 450_000_000, "3 at 150.00");
        FeedConfig memory config = _feedConfig(address(token), HistoryMode.FULL, 0);
        config.salt = bytes32(uint256(1));
        IssuerSignedScalarFeed second = IssuerSignedScalarFeed(feeds.createReplacement(config));
        _submit(second, 16_000);
        assertEq(consumer.costOf(3, 6), 480_000_000, "3 at 160.00");
    }

    function test_it_takes_no_old_and_no_senseless_price() public {
        _submit(feed, -1);
        vm.expectRevert(abi.encodeWithSelector(PriceConsumer.PriceNotPositive.selector, int256(-1)));
        consumer.costOf(1, 0);
        _submit(feed, 100);
        uint256 observedAt = block.timestamp;
        vm.warp(observedAt + 1 hours);
        assertEq(consumer.costOf(1, 0), 1, "just in time");
        vm.warp(observedAt + 1 hours + 1);
        vm.expectRevert(abi.encodeWithSelector(PriceConsumer.PriceTooOld.selector, observedAt));
        consumer.costOf(1, 0);
    }
}
