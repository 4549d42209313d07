// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {FeedKind, IFeedsDirectory} from "../../src/interfaces/IFeedsDirectory.sol";
import {FeedTerms, HistoryMode} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {FeedConfig, IIssuerSignedScalarFeedFactory} from "../../src/interfaces/IIssuerSignedScalarFeedFactory.sol";
import {AssetRoles} from "../../src/Roles.sol";
import {FeedFixture} from "./FeedFixture.sol";

contract IssuerSignedScalarFeedFactoryTest is FeedFixture {
    function test_a_feed_is_deployed_pinned_and_registered() public {
        FeedConfig memory config = _feedConfig(address(token), HistoryMode.BOUNDED, 7);
        address predicted = feeds.predict(address(this), config);
        vm.expectEmit(true, true, true, true, address(feeds));
        emit IIssuerSignedScalarFeedFactory.FeedCreated(predicted, address(token), price, SCHEMA, address(this));
        address feed = feeds.create(config);
        assertEq(feed, predicted, "address");
        assertTrue(feeds.isFeed(feed), "record");
        (address resolved, FeedKind kind) = directory.resolve(address(token), price);
        assertEq(resolved, feed, "resolved");
        assertTrue(kind == FeedKind.SCALAR, "kind");
        FeedTerms memory terms = IssuerSignedScalarFeed(feed).terms();
        assertEq(terms.registry, address(registry), "registry");
        assertEq(terms.historySize, 7, "size");
        assertTrue(terms.historyMode == HistoryMode.BOUNDED, "mode");
    }

    function test_the_schema_may_be_written_without_parentheses() public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        config.topicId = topics.registerTopicScheme("rate", "int256 value");
        address feed = feeds.create(config);
        assertEq(IssuerSignedScalarFeed(feed).terms().schemaHash, keccak256("int256 value"), "schema");
    }

    function test_decimals_go_up_to_18() public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        config.decimals = 19;
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeedFactory.FeedDecimalsTooMany.selector, 19));
        feeds.create(config);
        config.decimals = 18;
        assertEq(IssuerSignedScalarFeed(feeds.create(config)).decimals(), 18, "18");
        config.decimals = 0;
        config.subject = address(1);
        assertEq(IssuerSignedScalarFeed(feeds.create(config)).decimals(), 0, "0");
    }

    function test_bounded_history_needs_a_size() public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.BOUNDED, 0);
        vm.expectRevert(IIssuerSignedScalarFeedFactory.FeedHistorySizeZero.selector);
        feeds.create(config);
    }

    function test_only_registered_scalar_topics() public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        config.topicId = 1;
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedTopicUnknown.selector, 1));
        feeds.create(config);
        config.topicId = kyc;
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedSchemaNotScalar.selector, kyc));
        feeds.create(config);
    }

    function test_one_feed_per_pair() public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        address feed = feeds.create(config);
        vm.expectRevert(abi.encodeWithSelector(IIssuerSignedScalarFeedFactory.FeedSaltUsed.selector, this, bytes32(0)));
        feeds.create(config);
        config.salt = bytes32(uint256(1));
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedAlreadyRegistered.selector, address(0), price, feed));
        feeds.create(config);
    }

    function test_a_replacement_takes_the_place() public {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedNotRegistered.selector, address(0), price));
        feeds.createReplacement(config);
        feeds.create(config);
        config.salt = bytes32(uint256(1));
        address second = feeds.createReplacement(config);
        (address resolved,) = directory.resolve(address(0), price);
        assertEq(resolved, second, "resolved");
    }

    function test_who_may_create() public {
        vm.startPrank(stranger);
        vm.expectRevert(_unauthorized(stranger, address(token)));
        feeds.create(_feedConfig(address(token), HistoryMode.FULL, 0));
        vm.expectRevert(_unauthorized(stranger, address(token)));
        feeds.createReplacement(_feedConfig(address(token), HistoryMode.FULL, 0));
        vm.stopPrank();
        token.grant(stranger, AssetRoles.GOVERNANCE);
        vm.startPrank(stranger);
        feeds.create(_feedConfig(address(token), HistoryMode.FULL, 0));
        vm.expectRevert(_unauthorized(stranger, address(0)));
        feeds.create(_feedConfig(address(0), HistoryMode.FULL, 0));
        vm.stopPrank();
    }

    function test_salts_belong_to_the_creator() public view {
        FeedConfig memory config = _feedConfig(address(0), HistoryMode.FULL, 0);
        assertTrue(feeds.predict(alice, config) != feeds.predict(bob, config), "salt");
    }
}
