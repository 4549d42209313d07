// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IServicing} from "../../src/interfaces/IServicing.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice short_last_coupon_paid_in_full: the last coupon period, cut short by the end of the plan, paid a whole coupon.
contract ShortLastCouponPaidInFullTest is AddonFixture {
    function test_a_short_last_period_pays_its_part() public {
        IServicing s = _servicing(_servicingTerms());
        s.schedule(_plan());
        euro.mint(address(s), 100_000);
        vm.warp(NOW + 301 * DAY + 1);
        s.openCoupons(3);
        assertEq(s.due(2, alice), 5000, "a whole quarter");
        assertEq(s.due(3, alice), 1666, "30 of 90 days, rounded down");
        assertEq(s.payoutOf(3).left, 3333, "reserved for all: a third of 10,000, rounded down");
        s.claim(alice, _ids(3));
        s.claim(bob, _ids(3));
        assertEq(euro.balanceOf(alice) + euro.balanceOf(bob), 3332, "paid");
        assertEq(s.payoutOf(3).left, 0, "and the remainder returned to the treasury");
    }
}
