// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {BatchItem} from "../../src/interfaces/IFeedBatch.sol";
import {FeedUpdate, HistoryMode} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {FeedFixture} from "../feeds/FeedFixture.sol";

/// @notice Budgets of feed updates as whole transactions: an issuer with a factory-made identity and trust for the topic.
contract FeedGasTest is FeedFixture {
    function _measure(IssuerSignedScalarFeed feed, string memory name, uint256 budget) private {
        vm.warp(1_800_000_100);
        FeedUpdate memory update = _update(feed, 101_25);
        bytes memory signature = _signed(feed, update);
        feed.submit(address(issuer), update, signature);
        assertLe(vm.snapshotGasLastCall("budgets", name), budget, name);
    }

    function test_gas_steady() public {
        IssuerSignedScalarFeed feed = _feed(address(token), HistoryMode.LATEST_ONLY, 0);
        _submit(feed, 100_00);
        _measure(feed, "feed.steady", 70_000);
    }

    function test_gas_full_ring() public {
        IssuerSignedScalarFeed feed = _feed(address(token), HistoryMode.BOUNDED, 2);
        for (int256 i = 1; i <= 2; ++i) {
            _submit(feed, i);
        }
        _measure(feed, "feed.steady_ring", 76_000);
    }

    function test_gas_growing_history() public {
        IssuerSignedScalarFeed feed = _feed(address(token), HistoryMode.FULL, 0);
        _submit(feed, 100_00);
        _measure(feed, "feed.growing", 105_000);
    }

    function test_gas_many_feeds_in_one_batch() public {
        uint256 count = 20;
        BatchItem[] memory items = new BatchItem[](count);
        for (uint256 i; i < count; ++i) {
            IssuerSignedScalarFeed feed = _feed(address(uint160(0x1000 + i)), HistoryMode.LATEST_ONLY, 0);
            _submit(feed, 100_00);
            FeedUpdate memory update = _update(feed, 101_25);
            items[i] = BatchItem(address(feed), address(issuer), update, _signed(feed, update));
        }
        batch.submitMany(items);
        assertLe(vm.snapshotGasLastCall("budgets", "feed.batch20"), 20 * 45_000, "per feed");
    }
}
