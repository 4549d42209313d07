// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FeedUpdate} from "./IIssuerSignedScalarFeed.sol";

/// @notice One update for one feed.
struct BatchItem {
    address feed;
    address issuer;
    FeedUpdate update;
    bytes signature;
}

/// @notice What became of an item: the round it made, or the revert data of the feed.
struct BatchOutcome {
    uint80 roundId;
    bytes reason;
}

/// @title Many feed updates in one transaction
interface IFeedBatch {
    error BatchOutOfGas(uint256 index);

    event BatchItemRejected(uint256 indexed index, address indexed feed, bytes reason);

    /// @notice Submits every item; one that its feed refuses leaves the others untouched. Anyone may call: each update carries its own
    /// signature. Emits `BatchItemRejected` for each refusal (an accepted item shows as the feed's `FeedUpdated`). Reverts
    /// `BatchOutOfGas` when an item ran out of gas, so that a gas estimate never passes by starving items.
    function submitMany(BatchItem[] calldata items) external returns (BatchOutcome[] memory outcomes);
}
