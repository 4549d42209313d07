// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BatchItem, BatchOutcome, IFeedBatch} from "../interfaces/IFeedBatch.sol";
import {IIssuerSignedScalarFeed} from "../interfaces/IIssuerSignedScalarFeed.sol";

/// @title Feed batch
/// @notice No state, no role. The submitter chooses the feeds: one that is no feed of ours can make the batch dear or run it out of
/// gas, which is the submitter's own loss.
contract FeedBatch is IFeedBatch {
    uint256 private constant STARVED = 8;

    /// @inheritdoc IFeedBatch
    function submitMany(BatchItem[] calldata items) external returns (BatchOutcome[] memory outcomes) {
        outcomes = new BatchOutcome[](items.length);
        for (uint256 i; i < items.length; ++i) {
            BatchItem calldata item = items[i];
            bytes memory question =
                abi.encodeCall(IIssuerSignedScalarFeed.submit, (item.issuer, item.update, item.signature));
            uint256 gasBefore = gasleft();
            // Not `try`: an address without code or with another answer is an outcome too, not a failure of the batch.
            (bool accepted, bytes memory answer) = item.feed.call(question);
            uint256 roundId = accepted && answer.length == 32 ? abi.decode(answer, (uint256)) : 0;
            if (roundId != 0 && roundId <= type(uint80).max) {
                // casting is safe because of the line above
                // forge-lint: disable-next-line(unsafe-typecast)
                outcomes[i].roundId = uint80(roundId);
            } else {
                // Each call deeper keeps back 1/64 of the gas, and a feed's questions go four calls deep: when less than this is
                // left, the refusal may be nothing but want of gas.
                if (gasleft() < gasBefore / STARVED) revert BatchOutOfGas(i);
                outcomes[i].reason = answer;
                emit BatchItemRejected(i, item.feed, answer);
            }
        }
    }
}
