// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Servicing} from "../src/Servicing.sol";
import {CouponPlan, IServicing, IServicingBase, ServicingTerms} from "../src/interfaces/IServicing.sol";
import {AssetRoles} from "../src/Roles.sol";
import {AddonFixture} from "./addons/AddonFixture.sol";
import {BlockingCurrency, GreedyCurrency} from "./addons/Currencies.sol";

/// @dev alice and bob hold 1,000 tokens each; a coupon is 5 euro a token and quarter.
contract ServicingLifecycleTest is AddonFixture {
    IServicing private _s;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        _s = _servicing(_servicingTerms());
    }

    function _scheduled() private returns (IServicing) {
        _s.schedule(_plan());
        return _s;
    }

    /* COUPON PLAN */

    function test_schedule_announces_every_record_date() public {
        _scheduled();
        for (uint256 i = 1; i <= 3; ++i) {
            assertTrue(token.isRecordDate(NOW + DAY + i * 90 * DAY), "a whole period");
        }
        assertTrue(token.isRecordDate(NOW + 301 * DAY), "the short one");
        (uint256 opened, uint256 completed, uint256 count) = _s.periods();
        assertEq(opened, 0, "opened");
        assertEq(completed, 0, "completed");
        assertEq(count, 4, "count");
        assertEq(_s.plan().interval, 90 * DAY, "plan");
    }

    function test_schedule_of_a_single_short_period() public {
        CouponPlan memory plan = _plan();
        plan.end = plan.start + 30 * uint48(DAY);
        _s.schedule(plan);
        (,, uint256 count) = _s.periods();
        assertEq(count, 1, "count");
        euro.mint(address(_s), 10_000);
        vm.warp(plan.end + 1);
        _s.claim(alice, _ids(0));
        assertEq(euro.balanceOf(alice), 1666, "a third of 5,000, rounded down");
    }

    function test_schedule_of_one_whole_period() public {
        CouponPlan memory plan = _plan();
        plan.end = plan.start + plan.interval;
        _s.schedule(plan);
        (,, uint256 count) = _s.periods();
        assertEq(count, 1, "count");
        assertTrue(token.isRecordDate(plan.end), "announced");
    }

    function test_schedule_is_for_governance_once_with_the_role() public {
        CouponPlan memory plan = _plan();
        _expectMissingRole(alice, AssetRoles.GOVERNANCE);
        vm.prank(alice);
        _s.schedule(plan);
        token.revoke(address(_s), AssetRoles.FUNDS);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.FeatureNotAttached.selector, bytes32("FUNDS")));
        _s.schedule(plan);
        token.grant(address(_s), AssetRoles.FUNDS);
        _s.schedule(plan);
        vm.expectRevert(IServicingBase.AlreadyScheduled.selector);
        _s.schedule(plan);
    }

    function _refusePlan(CouponPlan memory plan, bytes32 field) private {
        _expectInvalidTerms(field);
        _s.schedule(plan);
    }

    function test_plans_must_make_sense() public {
        CouponPlan memory plan = _plan();
        plan.interval = 0;
        _refusePlan(plan, "interval");
        plan = _plan();
        plan.rate = 0;
        _refusePlan(plan, "rate");
        plan = _plan();
        plan.end = uint48(_servicingTerms().maturity + 1);
        _refusePlan(plan, "end");
        plan = _plan();
        plan.lead = plan.interval;
        _refusePlan(plan, "lead");
        plan = _plan();
        plan.end = plan.start;
        _refusePlan(plan, "lead");
        plan = _plan();
        (plan.end, plan.lead) = (plan.start + 10, 10);
        _refusePlan(plan, "lead");
    }

    /* REDEMPTION */

    function _mature() private {
        euro.mint(address(_s), 200_000);
        vm.warp(NOW + 1000 * DAY);
        _s.mature();
    }

    function test_redemption_pays_against_the_burn() public {
        _mature();
        assertTrue(_s.isMatured(), "matured");
        vm.prank(alice);
        _s.redeem(400);
        assertEq(euro.balanceOf(alice), 40_000, "paid");
        assertEq(token.balanceOf(alice), 600, "burnt");
        (, uint256 owed) = _s.coverage(address(euro));
        assertEq(owed, 160_000, "the rest");
        address[] memory holders = new address[](3);
        (holders[0], holders[1], holders[2]) = (alice, bob, carol);
        _s.redeemFor(holders);
        assertEq(token.totalSupply(), 0, "all redeemed");
        assertEq(euro.balanceOf(address(_s)), 0, "to the last unit");
    }

    function test_redemption_opens_when_due_and_covered() public {
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.NotMatured.selector, NOW + 1000 * DAY));
        _s.mature();
        vm.warp(NOW + 1000 * DAY);
        _expectMissingRole(alice, AssetRoles.GOVERNANCE);
        vm.prank(alice);
        _s.mature();
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 200_000, 0));
        _s.mature();
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.NotMatured.selector, NOW + 1000 * DAY));
        vm.prank(alice);
        _s.redeem(1);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.NotMatured.selector, NOW + 1000 * DAY));
        _s.redeemFor(new address[](0));
        euro.mint(address(_s), 200_000);
        token.revoke(address(_s), AssetRoles.SUPPLY);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.FeatureNotAttached.selector, bytes32("SUPPLY")));
        _s.mature();
        token.grant(address(_s), AssetRoles.SUPPLY);
        compliance.removeModule(address(_s));
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.FeatureNotAttached.selector, bytes32("RULE")));
        _s.mature();
        compliance.addModule(address(_s), "");
        _s.mature();
        vm.expectRevert(IServicingBase.AlreadyMatured.selector);
        _s.mature();
    }

    function test_redemption_comes_after_the_coupons() public {
        _scheduled();
        euro.mint(address(_s), 200_000);
        vm.warp(NOW + 1000 * DAY);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.CouponsUnopened.selector, 0));
        _s.mature();
        _s.openCoupons(3);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 200_000, 166_667));
        _s.mature();
    }

    function test_redemption_leaves_frozen_tokens_and_holders_alone() public {
        _mature();
        token.freezePartialTokens(alice, 300);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.FreeBalanceExceeded.selector, 700, 701));
        vm.prank(alice);
        _s.redeem(701);
        token.setAddressFrozen(bob, true);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.HolderFrozen.selector, bob));
        vm.prank(bob);
        _s.redeem(1);
        address[] memory holders = new address[](2);
        (holders[0], holders[1]) = (alice, bob);
        _s.redeemFor(holders);
        assertEq(token.balanceOf(alice), 300, "frozen tokens stay");
        assertEq(token.balanceOf(bob), 1000, "frozen holder");
    }

    function test_a_refused_redemption_holds_up_nobody_else() public {
        BlockingCurrency blocking = new BlockingCurrency();
        ServicingTerms memory terms = _servicingTerms();
        terms.currency = address(blocking);
        compliance.removeModule(address(_s));
        IServicing s = IServicing(addons.createServicing("other", terms));
        _attach(s);
        blocking.mint(address(s), 200_000);
        vm.warp(NOW + 1000 * DAY);
        s.mature();
        blocking.setBlocked(alice);
        address[] memory holders = new address[](2);
        (holders[0], holders[1]) = (alice, bob);
        vm.expectEmit(true, false, false, true, address(s));
        emit IServicingBase.RedemptionSkipped(alice, "PAYMENT_REFUSED");
        s.redeemFor(holders);
        assertEq(token.balanceOf(alice), 1000, "nothing burnt");
        assertEq(blocking.balanceOf(bob), 100_000, "bob");
    }

    function test_a_redemption_reverts_when_its_payment_is_starved() public {
        GreedyCurrency greedy = new GreedyCurrency();
        ServicingTerms memory terms = _servicingTerms();
        terms.currency = address(greedy);
        compliance.removeModule(address(_s));
        IServicing s = IServicing(addons.createServicing("other", terms));
        _attach(s);
        greedy.mint(address(s), 200_000);
        vm.warp(NOW + 1000 * DAY);
        s.mature();
        address[] memory holders = new address[](1);
        holders[0] = alice;
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.BatchOutOfGas.selector, alice));
        s.redeemFor{gas: 4_000_000}(holders);
    }

    function testFuzz_redeeming_in_parts_never_uses_more_than_was_reserved(uint256 price, uint256 first) public {
        ServicingTerms memory terms = _servicingTerms();
        terms.redemptionPrice = bound(price, 1, 1e24);
        compliance.removeModule(address(_s));
        IServicing s = IServicing(addons.createServicing("other", terms));
        _attach(s);
        vm.warp(NOW + 1000 * DAY);
        (, uint256 owed) = s.coverage(address(euro));
        euro.mint(address(s), owed);
        s.mature();
        first = bound(first, 0, 1000);
        vm.startPrank(alice);
        s.redeem(first);
        s.redeem(1000 - first);
        vm.stopPrank();
        vm.prank(bob);
        s.redeem(1000);
        (uint256 balance, uint256 left) = s.coverage(address(euro));
        assertEq(left, 0, "nothing owed");
        assertLe(balance, 2, "fractions of three redemptions");
    }

    function test_the_code_is_of_no_use_by_itself() public {
        IServicing code = IServicing(Servicing(address(_s)).LIFECYCLE());
        vm.expectRevert();
        code.schedule(_plan());
        vm.expectRevert();
        code.mature();
        vm.expectRevert();
        code.redeem(1);
    }
}
