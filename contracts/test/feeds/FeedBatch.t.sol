// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {BatchItem, BatchOutcome, IFeedBatch} from "../../src/interfaces/IFeedBatch.sol";
import {FeedUpdate, HistoryMode, IIssuerSignedScalarFeed} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {FeedFixture} from "./FeedFixture.sol";

/// @notice Answers every call with one word, or spends every drop of gas.
contract NoFeed {
    uint256 private immutable _WORD;

    constructor(uint256 word) {
        _WORD = word;
    }

    fallback(bytes calldata) external returns (bytes memory) {
        if (_WORD == 1) for (;;) {}
        return abi.encode(_WORD);
    }
}

contract FeedBatchTest is FeedFixture {
    IssuerSignedScalarFeed[] private _feeds;

    function setUp() public override {
        super.setUp();
        for (uint160 i; i < 4; ++i) {
            _feeds.push(_feed(address(0x1000 + i), HistoryMode.FULL, 0));
        }
    }

    function test_every_good_item_counts_and_every_bad_one_is_named() public {
        BatchItem[] memory items = _items();
        items[1].update.nonce = 5;
        items[1].signature = _signed(_feeds[1], items[1].update);
        items[2].signature = "";
        bytes memory nonce = abi.encodeWithSelector(IIssuerSignedScalarFeed.InvalidNonce.selector, 1, 5);
        bytes memory signature = abi.encodeWithSelector(IIssuerSignedScalarFeed.InvalidSignature.selector);
        vm.expectEmit(true, true, false, true, address(batch));
        emit IFeedBatch.BatchItemRejected(1, address(_feeds[1]), nonce);
        vm.expectEmit(true, true, false, true, address(batch));
        emit IFeedBatch.BatchItemRejected(2, address(_feeds[2]), signature);
        BatchOutcome[] memory outcomes = batch.submitMany(items);
        assertEq(outcomes[0].roundId, 1, "first");
        assertEq(outcomes[0].reason.length, 0, "first");
        assertEq(outcomes[1].roundId, 0, "second");
        assertEq(keccak256(outcomes[1].reason), keccak256(nonce), "second");
        assertEq(keccak256(outcomes[2].reason), keccak256(signature), "third");
        assertEq(outcomes[3].roundId, 1, "fourth");
        _assertLatest(_feeds[0], 1, 100, block.timestamp);
        _assertLatest(_feeds[3], 1, 103, block.timestamp);
        assertEq(_feeds[1].issuerNonce(address(issuer)), 0, "second untouched");
    }

    function test_updates_of_one_feed_land_in_order() public {
        BatchItem[] memory items = new BatchItem[](2);
        items[0] = _item(_feeds[0], 7, 1);
        items[1] = _item(_feeds[0], 8, 2);
        BatchOutcome[] memory outcomes = batch.submitMany(items);
        assertEq(outcomes[1].roundId, 2, "round");
        _assertLatest(_feeds[0], 2, 8, block.timestamp);
    }

    function test_targets_that_are_no_feeds_are_outcomes() public {
        BatchItem[] memory items = _items();
        items[0].feed = address(0x1234);
        items[1].feed = address(new NoFeed(type(uint256).max));
        items[2].feed = address(new NoFeed(0));
        BatchOutcome[] memory outcomes = batch.submitMany(items);
        for (uint256 i; i < 3; ++i) {
            assertEq(outcomes[i].roundId, 0, "no feed");
        }
        assertEq(outcomes[3].roundId, 1, "the last one counts");
    }

    function test_an_empty_batch_does_nothing() public {
        assertEq(batch.submitMany(new BatchItem[](0)).length, 0, "empty");
    }

    function test_a_starved_item_reverts_the_batch() public {
        BatchItem[] memory items = _items();
        items[0].feed = address(new NoFeed(1));
        vm.expectRevert(abi.encodeWithSelector(IFeedBatch.BatchOutOfGas.selector, 0));
        batch.submitMany{gas: 400_000}(items);
    }

    /// @dev A gas estimate searches for the least gas that does not revert: whatever it finds must really update the feeds.
    function testFuzz_no_amount_of_gas_drops_a_good_item(uint256 gas) public {
        gas = bound(gas, 30_000, 600_000);
        (bool ok, bytes memory answer) =
            address(batch).call{gas: gas}(abi.encodeCall(IFeedBatch.submitMany, (_items())));
        if (!ok) return;
        BatchOutcome[] memory outcomes = abi.decode(answer, (BatchOutcome[]));
        for (uint256 i; i < outcomes.length; ++i) {
            assertEq(outcomes[i].roundId, 1, "dropped for want of gas");
        }
    }

    function _items() private view returns (BatchItem[] memory items) {
        items = new BatchItem[](_feeds.length);
        for (uint256 i; i < items.length; ++i) {
            // forge-lint: disable-next-line(unsafe-typecast)
            items[i] = _item(_feeds[i], int256(100 + i), 1);
        }
    }

    function _item(IssuerSignedScalarFeed feed, int256 value, uint256 nonce) private view returns (BatchItem memory) {
        FeedUpdate memory update = _update(feed, value);
        update.nonce = nonce;
        return BatchItem(address(feed), address(issuer), update, _signed(feed, update));
    }
}
