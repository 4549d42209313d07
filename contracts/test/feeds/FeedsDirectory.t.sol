// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IssuerSignedScalarFeed} from "../../src/feeds/IssuerSignedScalarFeed.sol";
import {FeedKind, IFeedsDirectory} from "../../src/interfaces/IFeedsDirectory.sol";
import {HistoryMode} from "../../src/interfaces/IIssuerSignedScalarFeed.sol";
import {FeedConfig} from "../../src/interfaces/IIssuerSignedScalarFeedFactory.sol";
import {AssetRoles, Names} from "../../src/Roles.sol";
import {FeedFixture, ForeignAggregator} from "./FeedFixture.sol";

contract FeedsDirectoryTest is FeedFixture {
    function test_a_foreign_aggregator_can_be_registered() public {
        ForeignAggregator foreign = new ForeignAggregator(8, 5);
        vm.expectEmit(true, true, true, true, address(directory));
        emit IFeedsDirectory.FeedRegistered(address(0), price, address(foreign), FeedKind.SCALAR, 0);
        directory.register(address(0), price, address(foreign));
        (address feed, FeedKind kind) = directory.resolve(address(0), price);
        assertEq(feed, address(foreign), "feed");
        assertTrue(kind == FeedKind.SCALAR, "kind");
    }

    function test_an_unknown_pair_resolves_to_nothing() public view {
        (address feed, FeedKind kind) = directory.resolve(address(0), price);
        assertEq(feed, address(0), "feed");
        assertTrue(kind == FeedKind.NONE, "kind");
    }

    function test_only_what_answers_like_a_feed() public {
        address[3] memory none = [address(0x1234), address(this), address(new ForeignAggregator(19, 1))];
        for (uint256 i; i < none.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedNotScalar.selector, none[i]));
            directory.register(address(0), price, none[i]);
        }
    }

    function test_only_scalar_topics() public {
        address foreign = address(new ForeignAggregator(8, 5));
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedTopicUnknown.selector, 7));
        directory.register(address(0), 7, foreign);
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedSchemaNotScalar.selector, kyc));
        directory.register(address(0), kyc, foreign);
    }

    function test_a_pinned_feed_speaks_for_its_own_pair_only() public {
        IssuerSignedScalarFeed feed = _feed(address(token), HistoryMode.FULL, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IFeedsDirectory.FeedPinnedElsewhere.selector, address(feed), address(token), price)
        );
        directory.register(address(0), price, address(feed));
        uint256 rate = topics.registerTopicScheme("rate", "(int256 value)");
        vm.expectRevert(
            abi.encodeWithSelector(IFeedsDirectory.FeedPinnedElsewhere.selector, address(feed), address(token), price)
        );
        directory.register(address(token), rate, address(feed));
    }

    function test_replace_keeps_the_decimals() public {
        address first = address(new ForeignAggregator(8, 5));
        address second = address(new ForeignAggregator(8, 6));
        address other = address(new ForeignAggregator(2, 6));
        directory.register(address(0), price, first);
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedAlreadyRegistered.selector, 0, price, first));
        directory.register(address(0), price, second);
        vm.expectRevert(abi.encodeWithSelector(IFeedsDirectory.FeedDecimalsDiffer.selector, 8, 2));
        directory.replace(address(0), price, other);
        vm.expectEmit(true, true, true, true, address(directory));
        emit IFeedsDirectory.FeedReplaced(address(0), price, second, first, 1);
        directory.replace(address(0), price, second);
        (address feed, uint16 phase) = directory.current(address(0), price);
        assertEq(feed, second, "feed");
        assertEq(phase, 1, "phase");
        assertEq(directory.feedAt(address(0), price, 0), first, "before");
    }

    function test_remove_and_register_anew() public {
        address first = address(new ForeignAggregator(8, 5));
        directory.register(address(0), price, first);
        vm.expectEmit(true, true, true, true, address(directory));
        emit IFeedsDirectory.FeedRemoved(address(0), price, first);
        directory.remove(address(0), price);
        (address feed, FeedKind kind) = directory.resolve(address(0), price);
        assertEq(feed, address(0), "gone");
        assertTrue(kind == FeedKind.NONE, "gone");
        bytes memory none = abi.encodeWithSelector(IFeedsDirectory.FeedNotRegistered.selector, address(0), price);
        vm.expectRevert(none);
        directory.remove(address(0), price);
        vm.expectRevert(none);
        directory.replace(address(0), price, first);
        vm.expectRevert(none);
        directory.createAdapter(address(0), price);
        directory.register(address(0), price, address(new ForeignAggregator(2, 1)));
        (, uint16 phase) = directory.current(address(0), price);
        assertEq(phase, 1, "phase");
    }

    function test_who_may_write() public {
        address foreign = address(new ForeignAggregator(8, 5));
        bytes memory why = _unauthorized(stranger, address(token));
        vm.startPrank(stranger);
        vm.expectRevert(why);
        directory.register(address(token), price, foreign);
        vm.expectRevert(why);
        directory.replace(address(token), price, foreign);
        vm.expectRevert(why);
        directory.remove(address(token), price);
        vm.stopPrank();

        token.grant(stranger, AssetRoles.ALL ^ AssetRoles.GOVERNANCE);
        assertTrue(!directory.mayManage(stranger, address(token)), "other roles do not imply it");
        token.grant(stranger, AssetRoles.GOVERNANCE);
        vm.startPrank(stranger);
        directory.register(address(token), price, foreign);
        directory.replace(address(token), price, foreign);
        directory.remove(address(token), price);
        vm.expectRevert(_unauthorized(stranger, address(0)));
        directory.register(address(0), price, foreign);
        vm.stopPrank();
    }

    /// @dev A contract that merely says that the caller governs it gains nothing.
    function test_governance_counts_only_for_assets_of_the_factory() public {
        assertTrue(!directory.mayManage(stranger, address(this)), "foreign contract");
        system.set(Names.ASSET_FACTORY, address(0));
        assertTrue(!directory.mayManage(stranger, address(token)), "no factory");
    }

    /// @dev What `mayManage` must not believe.
    function has(address, uint256) external pure returns (bool) {
        return true;
    }
}
