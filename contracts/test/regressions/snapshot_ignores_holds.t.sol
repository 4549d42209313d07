// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IServicing, IServicingBase} from "../../src/interfaces/IServicing.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice snapshot_ignores_holds: at a payout balances locked for a settlement or frozen were left out of a coupon.
contract SnapshotIgnoresHoldsTest is AddonFixture {
    IServicing private _s;

    function setUp() public override {
        super.setUp();
        _s = _servicing(_servicingTerms());
        vm.prank(alice);
        token.approve(address(this), 600);
        token.hold("trade", alice, 600);
        token.freezePartialTokens(alice, 300);
    }

    function test_held_and_frozen_tokens_are_paid() public {
        _s.schedule(_plan());
        euro.mint(address(_s), 10_000);
        vm.warp(NOW + 91 * DAY + 1);
        _s.claim(alice, _ids(0));
        assertEq(euro.balanceOf(alice), 5000, "all 1,000 count");
    }

    function test_what_stood_at_a_record_date_includes_what_was_locked() public {
        token.addRecordDate(uint48(NOW + 1));
        vm.warp(NOW + 2);
        assertEq(token.balanceAt(alice, NOW + 1), 1000, "held and frozen");
        token.executeHold("trade", alice, bob, 600);
        assertEq(token.balanceAt(alice, NOW + 1), 1000, "and stays so");
        assertEq(token.balanceAt(bob, NOW + 1), 1000, "nobody else's");
    }

    function test_held_tokens_are_not_redeemed_away() public {
        euro.mint(address(_s), 200_000);
        vm.warp(NOW + 1000 * DAY);
        _s.mature();
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.FreeBalanceExceeded.selector, 100, 101));
        vm.prank(alice);
        _s.redeem(101);
    }
}
