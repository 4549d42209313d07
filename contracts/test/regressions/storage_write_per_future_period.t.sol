// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CouponPlan, IServicing, ServicingTerms} from "../../src/interfaces/IServicing.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice storage_write_per_future_period: scheduling coupons cost a storage write for each period to come.
contract StorageWritePerFuturePeriodTest is AddonFixture {
    function _schedule(uint48 start, uint48 periods) private returns (uint256) {
        ServicingTerms memory terms = _servicingTerms();
        (terms.maturity, terms.redemptionPrice) = (0, 0);
        IServicing s = IServicing(addons.createServicing(bytes32(uint256(periods)), terms));
        _attach(s);
        CouponPlan memory plan = _plan();
        plan.start = start;
        plan.end = start + periods * plan.interval;
        s.schedule(plan);
        return vm.snapshotGasLastCall("schedule", periods == 2 ? "schedule.2_periods" : "schedule.1000_periods");
    }

    function test_a_thousand_periods_cost_what_two_cost() public {
        uint256 few = _schedule(uint48(NOW + DAY), 2);
        assertLe(_schedule(uint48(NOW + DAY + 1 hours), 1000), few + 10_000, "1,000 periods");
    }
}
