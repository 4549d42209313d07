// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IAddonFactory} from "../src/interfaces/IAddonFactory.sol";
import {IRecordDates} from "../src/interfaces/IRecordDates.sol";
import {IRule} from "../src/interfaces/IRule.sol";
import {CouponPlan, IServicing, IServicingBase, Payout, ServicingTerms} from "../src/interfaces/IServicing.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {AssetRoles} from "../src/Roles.sol";
import {AddonFixture} from "./addons/AddonFixture.sol";
import {BlockingCurrency, FeeCurrency, GreedyCurrency} from "./addons/Currencies.sol";

/// @dev alice and bob hold 1,000 tokens each; a coupon is 5 euro a token and quarter.
contract ServicingTest is AddonFixture {
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

    function _distributed(uint256 total) private returns (uint256 id) {
        token.addRecordDate(uint48(NOW + 1));
        vm.warp(NOW + 2);
        euro.mint(address(_s), total);
        id = _s.distribute(address(euro), uint48(NOW + 1), total);
    }

    /* TREASURY */

    function test_fund_takes_what_is_given_in_full() public {
        euro.mint(alice, 50);
        vm.startPrank(alice);
        euro.approve(address(_s), 50);
        vm.expectEmit(true, true, false, true, address(_s));
        emit IServicingBase.Funded(alice, address(euro), 50);
        _s.fund(address(euro), 50);
        vm.stopPrank();
        (uint256 balance, uint256 owed) = _s.coverage(address(euro));
        assertEq(balance, 50, "balance");
        assertEq(owed, 0, "owed");
    }

    function test_fund_refuses_a_currency_with_fees() public {
        FeeCurrency fee = new FeeCurrency();
        fee.mint(address(this), 100);
        fee.approve(address(_s), 100);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.CurrencyTakesFees.selector, address(fee)));
        _s.fund(address(fee), 100);
    }

    function test_sweep_never_takes_what_is_owed() public {
        uint256 id = _distributed(1000);
        euro.mint(address(_s), 10);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 11, 10));
        _s.sweep(address(euro), 11);
        _expectMissingRole(alice, AssetRoles.FUNDS);
        vm.prank(alice);
        _s.sweep(address(euro), 1);
        _s.sweep(address(euro), 10);
        assertEq(euro.balanceOf(vault), 10, "to the address of the terms");
        _s.claim(alice, _ids(id));
        _s.claim(bob, _ids(id));
        assertEq(euro.balanceOf(address(_s)), 0, "everybody was paid");
    }

    function test_sweep_counts_completed_coupons_that_nobody_opened() public {
        _scheduled();
        euro.mint(address(_s), 12_000);
        vm.warp(NOW + 91 * DAY + 1);
        (, uint256 owed) = _s.coverage(address(euro));
        assertEq(owed, 10_000, "one coupon");
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 2001, 2000));
        _s.sweep(address(euro), 2001);
        vm.warp(NOW + 181 * DAY + 1);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 1, 0));
        _s.sweep(address(euro), 1);
    }

    /* COUPONS */

    function test_holders_are_recorded_ahead_of_the_payment() public {
        CouponPlan memory plan = _plan();
        plan.lead = uint32(5 * DAY);
        _s.schedule(plan);
        assertTrue(token.isRecordDate(NOW + 86 * DAY), "five days earlier");
        euro.mint(address(_s), 10_000);
        vm.warp(NOW + 87 * DAY);
        vm.prank(alice);
        token.transfer(bob, 1000);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.PeriodNotComplete.selector, 0, NOW + 91 * DAY));
        _s.claim(alice, _ids(0));
        vm.warp(NOW + 91 * DAY + 1);
        _s.claim(alice, _ids(0));
        assertEq(euro.balanceOf(alice), 5000, "held at the record date");
    }

    function test_coupon_is_due_after_its_period_to_who_held_at_its_end() public {
        _scheduled();
        euro.mint(address(_s), 10_000);
        vm.warp(NOW + 91 * DAY);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.PeriodNotComplete.selector, 0, NOW + 91 * DAY));
        _s.claim(alice, _ids(0));
        vm.warp(NOW + 91 * DAY + 1);
        vm.prank(alice);
        token.transfer(carol, 1000);
        vm.prank(stranger);
        _s.claim(alice, _ids(0));
        assertEq(euro.balanceOf(alice), 5000, "sent by anybody, paid to the holder of the record date");
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.NothingDue.selector, carol));
        _s.claim(carol, _ids(0));
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.PeriodAlreadyPaid.selector, 0, alice));
        _s.claim(alice, _ids(0));
        assertTrue(_s.isPaid(0, alice), "paid");
        assertEq(_s.due(0, alice), 0, "nothing more");
        assertEq(_s.due(0, bob), 5000, "bob's");
    }

    function test_older_coupons_come_first() public {
        _scheduled();
        euro.mint(address(_s), 15_000);
        vm.warp(NOW + 181 * DAY + 1);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 10_000, 5000));
        _s.claim(alice, _ids(1));
        _s.openCoupons(0);
        Payout memory payout = _s.payoutOf(0);
        assertEq(payout.left, 10_000, "reserved");
        assertEq(payout.unitsLeft, 2000, "for all");
        euro.mint(address(_s), 5000);
        uint256[] memory both = new uint256[](2);
        both[1] = 1;
        _s.claim(alice, both);
        assertEq(euro.balanceOf(alice), 10_000, "two coupons");
        (uint256 opened, uint256 completed,) = _s.periods();
        assertEq(opened, 2, "opened");
        assertEq(completed, 2, "completed");
        _s.openCoupons(0);
        (opened,,) = _s.periods();
        assertEq(opened, 2, "opening again changes nothing");
    }

    function test_unknown_payouts_are_refused() public {
        _scheduled();
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.PayoutUnknown.selector, 4));
        _s.claim(alice, _ids(4));
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.PayoutUnknown.selector, 1 << 32));
        _s.claim(alice, _ids(1 << 32));
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.PayoutUnknown.selector, 0));
        _s.due(0, alice);
    }

    function testFuzz_completed_and_counted_periods_agree(uint256 interval, uint256 length, uint256 passed) public {
        CouponPlan memory plan = _plan();
        plan.interval = uint32(bound(interval, 1 hours, 400 days));
        plan.end = plan.start + uint48(bound(length, 1, 900 days));
        if (plan.end < block.timestamp + 2) plan.end += 2;
        _s.schedule(plan);
        (,, uint256 count) = _s.periods();
        passed = bound(passed, NOW, NOW + 1000 days);
        vm.warp(passed);
        (, uint256 completed,) = _s.periods();
        assertLe(completed, count, "no more than there are");
        uint256 expected;
        for (uint256 end = plan.start; end < plan.end && expected < count;) {
            end = end + plan.interval < plan.end ? end + plan.interval : plan.end;
            if (end < passed) ++expected;
            else break;
        }
        assertEq(completed, expected, "counted one by one");
    }

    /* DISTRIBUTIONS */

    function test_distribution_is_in_proportion_and_leaves_no_unit_unaccounted() public {
        token.mint(carol, 1000);
        uint256 id = _distributed(1000);
        _s.claim(alice, _ids(id));
        _s.claim(bob, _ids(id));
        assertEq(euro.balanceOf(alice), 333, "rounded down");
        (, uint256 owed) = _s.coverage(address(euro));
        assertEq(owed, 334, "carol's, and the fractions");
        vm.expectEmit(true, false, false, true, address(_s));
        emit IServicingBase.RemainderReleased(id, 1);
        _s.claim(carol, _ids(id));
        (uint256 balance, uint256 left) = _s.coverage(address(euro));
        assertEq(balance, 1, "the remainder");
        assertEq(left, 0, "is free");
    }

    function test_distribution_needs_role_record_date_and_money() public {
        _expectMissingRole(alice, AssetRoles.FUNDS);
        vm.prank(alice);
        _s.distribute(address(euro), uint48(NOW), 1);
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateUnknown.selector, NOW));
        _s.distribute(address(euro), uint48(NOW), 1);
        token.addRecordDate(uint48(NOW + 1));
        vm.expectRevert(abi.encodeWithSelector(IRecordDates.RecordDateNotPassed.selector, NOW + 1));
        _s.distribute(address(euro), uint48(NOW + 1), 1);
        vm.warp(NOW + 2);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 1, 0));
        _s.distribute(address(euro), uint48(NOW + 1), 1);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.NothingDue.selector, address(0)));
        _s.distribute(address(euro), uint48(NOW + 1), 0);
    }

    function testFuzz_no_holder_is_skipped_for_want_of_gas(uint256 gas) public {
        gas = bound(gas, 60_000, 400_000);
        uint256 id = _distributed(4000);
        address[] memory holders = new address[](2);
        (holders[0], holders[1]) = (alice, bob);
        (bool ok,) = address(_s).call{gas: gas}(abi.encodeCall(_s.claimMany, (id, holders)));
        if (ok) assertTrue(_s.isPaid(id, alice) && _s.isPaid(id, bob), "skipped for want of gas");
    }

    function test_a_batch_reverts_when_a_payment_is_starved() public {
        GreedyCurrency greedy = new GreedyCurrency();
        token.addRecordDate(uint48(NOW + 1));
        vm.warp(NOW + 2);
        greedy.mint(address(_s), 4000);
        uint256 id = _s.distribute(address(greedy), uint48(NOW + 1), 4000);
        address[] memory holders = new address[](1);
        holders[0] = alice;
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.BatchOutOfGas.selector, alice));
        _s.claimMany{gas: 4_000_000}(id, holders);
    }

    function test_batch_pays_who_can_be_paid() public {
        BlockingCurrency blocking = new BlockingCurrency();
        token.mint(carol, 2000);
        token.addRecordDate(uint48(NOW + 1));
        vm.warp(NOW + 2);
        blocking.mint(address(_s), 4000);
        uint256 id = _s.distribute(address(blocking), uint48(NOW + 1), 4000);
        token.setAddressFrozen(alice, true);
        blocking.setBlocked(bob);
        address[] memory holders = new address[](5);
        (holders[0], holders[1], holders[2], holders[3], holders[4]) = (alice, bob, carol, stranger, carol);
        vm.expectEmit(true, true, false, true, address(_s));
        emit IServicingBase.PaymentSkipped(id, alice, "HOLDER_FROZEN");
        vm.expectEmit(true, true, false, true, address(_s));
        emit IServicingBase.PaymentSkipped(id, bob, "PAYMENT_REFUSED");
        assertEq(_s.claimMany(id, holders), 1, "carol, once");
        assertEq(blocking.balanceOf(carol), 2000, "carol");
        assertEq(_s.payoutOf(id).left, 2000, "the others stay entitled");
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.HolderFrozen.selector, alice));
        _s.claim(alice, _ids(id));
        vm.expectRevert(abi.encodeWithSelector(BlockingCurrency.Blocked.selector, bob));
        _s.claim(bob, _ids(id));
        token.setAddressFrozen(alice, false);
        blocking.setBlocked(address(0));
        assertEq(_s.claimMany(id, holders), 2, "cured");
        assertEq(_s.payoutOf(id).left, 0, "all paid");
    }

    /* AS A RULE */

    function test_the_asset_does_not_move_from_maturity_on() public {
        vm.warp(NOW + 1000 * DAY - 1);
        vm.prank(alice);
        token.transfer(bob, 1);
        vm.warp(NOW + 1000 * DAY);
        _expectPreviewed(alice, bob, 1, address(_s), ReasonCodes.ASSET_MATURED);
        vm.prank(alice);
        token.transfer(bob, 1);
        _expectRefusal(address(_s), ReasonCodes.ASSET_MATURED);
        token.mint(alice, 1);
        token.burn(alice, 1);
        token.forcedTransfer(alice, bob, 1);
    }

    function test_rule_surface() public {
        assertEq(IRule(address(_s)).name(), "Servicing", "name");
        assertTrue(IRule(address(_s)).supportsInterface(type(IRule).interfaceId), "a rule");
        assertTrue(IRule(address(_s)).supportsInterface(type(IERC165).interfaceId), "ERC-165");
        assertTrue(!IRule(address(_s)).supportsInterface(0xffffffff), "nothing else");
        vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, bytes32("params")));
        IRule(address(_s)).setParams("x");
        IRule(address(_s)).moved(address(token), alice, bob, 1);
    }

    function test_it_takes_no_parameters() public {
        IRule(address(_s)).validate("");
        vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, bytes32("params")));
        IRule(address(_s)).validate(hex"01");
        vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, bytes32("params")));
        IRule(address(_s)).setParams(hex"01");
    }

    function test_a_perpetual_asset_never_matures() public {
        ServicingTerms memory terms = _servicingTerms();
        (terms.maturity, terms.redemptionPrice) = (0, 0);
        IServicing s = IServicing(addons.createServicing("perpetual", terms));
        vm.warp(NOW + 100_000 * DAY);
        assertEq(IRule(address(s)).check(_movement(alice, bob, 1)), bytes32(0), "moves");
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.NotMatured.selector, 0));
        s.mature();
    }

    /* CREATION */

    function test_creation_is_for_governance_at_the_predicted_address() public {
        ServicingTerms memory terms = _servicingTerms();
        address expected = addons.predictServicing(address(this), "one", terms);
        assertEq(addons.createServicing("one", terms), expected, "predicted");
        assertEq(IServicing(expected).asset(), address(token), "asset");
        assertEq(IServicing(expected).terms().sweepTo, vault, "terms");
        vm.expectRevert(abi.encodeWithSelector(IAddonFactory.AddonExists.selector, expected));
        addons.createServicing("one", terms);
        _expectMissingRole(alice, AssetRoles.GOVERNANCE);
        vm.prank(alice);
        addons.createServicing("one", terms);
    }

    function test_terms_must_make_sense() public {
        ServicingTerms memory t = _servicingTerms();
        t.sweepTo = address(0);
        _refuse(t, "sweepTo");
        t = _servicingTerms();
        t.currency = alice;
        _refuse(t, "currency");
        t.currency = address(token);
        _refuse(t, "currency");
        t = _servicingTerms();
        t.maturity = NOW;
        _refuse(t, "maturity");
        t.maturity = 0;
        _refuse(t, "redemptionPrice");
        t = _servicingTerms();
        t.redemptionPrice = 0;
        _refuse(t, "redemptionPrice");
    }

    function _refuse(ServicingTerms memory terms, bytes32 field) private {
        _expectInvalidTerms(field);
        addons.createServicing("bad", terms);
    }
}
