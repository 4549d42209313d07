// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FeedBatch} from "../../src/feeds/FeedBatch.sol";
import {FeedsDirectory} from "../../src/feeds/FeedsDirectory.sol";
import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {IssuerSignedScalarFeedFactory} from "../../src/feeds/IssuerSignedScalarFeedFactory.sol";
import {ScalarFeedAdapter} from "../../src/feeds/ScalarFeedAdapter.sol";
import {AggregatorV3Interface} from "../../src/interfaces/IAggregatorV3.sol";
import {FeedUpdate, HistoryMode} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {ClaimInput} from "../../src/interfaces/IIdentity.sol";
import {FeedConfig} from "../../src/interfaces/IIssuerSignedScalarFeedFactory.sol";
import {ISystem} from "../../src/interfaces/ISystem.sol";
import {IFeedsDirectory} from "../../src/interfaces/IFeedsDirectory.sol";
import {Names, Roles} from "../../src/Roles.sol";
import {Fixture} from "../Fixture.sol";

/// @notice An aggregator that is none of ours.
contract ForeignAggregator is AggregatorV3Interface {
    uint8 public override decimals;
    int256 public answer;
    uint80 public round = 1;

    constructor(uint8 decimals_, int256 answer_) {
        (decimals, answer) = (decimals_, answer_);
    }

    function description() external pure returns (string memory) {
        return "foreign";
    }

    function version() external pure returns (uint256) {
        return 4;
    }

    function getRoundData(uint80 id) external view returns (uint80, int256, uint256, uint256, uint80) {
        return (id, answer, 1, 2, id);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return (round, answer, 1, 2, round);
    }
}

    /// @notice A tenant with the feeds contracts, a topic PRICE, and an issuer trusted for it about everything.
    abstract contract FeedFixture is Fixture {
        uint256 internal constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes32 internal constant SCHEMA = keccak256("(int256 value)");

        FeedsDirectory internal directory;
        IssuerSignedScalarFeedFactory internal feeds;
        FeedBatch internal batch;
        uint256 internal price;

        /// @dev What a refusal must leave alone.
        struct Snapshot {
            uint80 roundId;
            int256 answer;
            uint256 updatedAt;
            uint256 nonce;
        }

        function setUp() public virtual override {
            super.setUp();
            directory = new FeedsDirectory(ISystem(address(system)), address(new ScalarFeedAdapter()));
            feeds = new IssuerSignedScalarFeedFactory(
                ISystem(address(system)), directory, address(new IssuerSignedScalarFeed())
            );
            batch = new FeedBatch();
            system.set(Names.FEEDS_DIRECTORY, address(directory));
            system.set(Names.SCALAR_FEED_FACTORY, address(feeds));
            system.grant(address(this), Roles.FEEDS_MANAGER);
            price = topics.registerTopicScheme("price", "(int256 value)");
            uint256[] memory all = new uint256[](4);
            (all[0], all[1], all[2], all[3]) = (kyc, accredited, sanctioned, price);
            registry.updateIssuerClaimTopics(address(issuer), all);
        }

        function _feedConfig(address subject, HistoryMode mode, uint32 size)
            internal
            view
            returns (FeedConfig memory c)
        {
            c.subject = subject;
            c.topicId = price;
            c.decimals = 2;
            c.historyMode = mode;
            c.historySize = size;
            c.driftAllowance = 60;
            c.description = "price of the bond";
        }

        function _feed(address subject, HistoryMode mode, uint32 size) internal returns (IssuerSignedScalarFeed) {
            return IssuerSignedScalarFeed(feeds.create(_feedConfig(subject, mode, size)));
        }

        function _update(IssuerSignedScalarFeed feed, int256 value) internal view returns (FeedUpdate memory) {
            return FeedUpdate({
                topicId: price,
                schemaHash: SCHEMA,
                value: value,
                observedAt: block.timestamp,
                nonce: feed.issuerNonce(address(issuer)) + 1,
                deadline: 0
            });
        }

        function _signed(IssuerSignedScalarFeed feed, FeedUpdate memory update) internal view returns (bytes memory) {
            return _signedBy(ISSUER_KEY, feed, update);
        }

        function _signedBy(uint256 key, IssuerSignedScalarFeed feed, FeedUpdate memory update)
            internal
            view
            returns (bytes memory)
        {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, feed.digestOf(update));
            return abi.encodePacked(r, s, v);
        }

        function _submit(IssuerSignedScalarFeed feed, int256 value) internal returns (uint80) {
            FeedUpdate memory update = _update(feed, value);
            return feed.submit(address(issuer), update, _signed(feed, update));
        }

        function _snapshot(IssuerSignedScalarFeed feed) internal view returns (Snapshot memory shot) {
            (shot.roundId, shot.answer,, shot.updatedAt,) = feed.latestRoundData();
            shot.nonce = feed.issuerNonce(address(issuer));
        }

        /// @dev Submits, expects exactly this refusal, and sees that nothing moved.
        function _refused(
            IssuerSignedScalarFeed feed,
            FeedUpdate memory update,
            bytes memory signature,
            bytes memory why
        ) internal {
            Snapshot memory before = _snapshot(feed);
            vm.expectRevert(why);
            feed.submit(address(issuer), update, signature);
            Snapshot memory afterwards = _snapshot(feed);
            assertEq(keccak256(abi.encode(before)), keccak256(abi.encode(afterwards)), "a refusal changed the feed");
        }

        function _assertRound(AggregatorV3Interface feed, uint80 roundId, int256 answer, uint256 time) internal view {
            (uint80 id, int256 value, uint256 startedAt, uint256 updatedAt, uint80 answeredIn) =
                feed.getRoundData(roundId);
            _assertTuple(id, value, startedAt, updatedAt, answeredIn, roundId, answer, time);
        }

        function _assertLatest(AggregatorV3Interface feed, uint80 roundId, int256 answer, uint256 time) internal view {
            (uint80 id, int256 value, uint256 startedAt, uint256 updatedAt, uint80 answeredIn) = feed.latestRoundData();
            _assertTuple(id, value, startedAt, updatedAt, answeredIn, roundId, answer, time);
        }

        function _assertTuple(
            uint80 id,
            int256 value,
            uint256 startedAt,
            uint256 updatedAt,
            uint80 answeredIn,
            uint80 roundId,
            int256 answer,
            uint256 time
        ) private pure {
            assertEq(id, roundId, "roundId");
            assertTrue(value == answer, "answer");
            assertEq(startedAt, time, "startedAt");
            assertEq(updatedAt, time, "updatedAt");
            assertEq(answeredIn, roundId, "answeredInRound");
        }

        function _noClaims() internal pure returns (ClaimInput[] memory) {
            return new ClaimInput[](0);
        }

        function _unauthorized(address caller, address subject) internal pure returns (bytes memory) {
            return abi.encodeWithSelector(IFeedsDirectory.FeedsUnauthorized.selector, caller, subject);
        }
    }
