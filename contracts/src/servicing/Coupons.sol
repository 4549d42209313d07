// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAddon} from "../interfaces/IAddon.sol";
import {IRecordDates} from "../interfaces/IRecordDates.sol";
import {CouponPlan} from "../interfaces/IServicing.sol";

/// @title The dates and amounts of a coupon plan
/// @notice Everything follows from the plan, so that no period needs storage before it is opened. A plan without interval has no
/// periods.
library Coupons {
    uint256 private constant ONE = 1e18;

    function check(CouponPlan calldata plan, uint256 maturity) internal pure {
        _require(plan.interval != 0, "interval");
        _require(plan.rate != 0, "rate");
        _require(maturity == 0 || plan.end <= maturity, "end");
        // Also for a single, short period: its holders are not recorded before it starts.
        _require(plan.lead < plan.interval && uint256(plan.end) > uint256(plan.start) + plan.lead, "lead");
    }

    /// @dev Announces the record date of every period: one series, and one date more for a short last period.
    function announce(CouponPlan calldata plan, IRecordDates token) internal {
        uint48 length = plan.end - plan.start;
        uint48 whole = length / plan.interval;
        uint48 first = plan.start + plan.interval - plan.lead;
        if (whole == 1) token.addRecordDate(first);
        // A plan with more periods than fit is refused by the asset long before.
        // forge-lint: disable-next-line(unsafe-typecast)
        else if (whole != 0) token.addRecordDates(first, plan.interval, uint32(whole));
        if (length % plan.interval != 0) token.addRecordDate(plan.end - plan.lead);
    }

    function count(CouponPlan memory plan) internal pure returns (uint256) {
        if (plan.interval == 0) return 0;
        return (uint256(plan.end) - plan.start + plan.interval - 1) / plan.interval;
    }

    /// @dev How many periods are over: their end lies before `now_`.
    function completed(CouponPlan memory plan, uint256 now_) internal pure returns (uint256) {
        if (plan.interval == 0 || now_ <= plan.start) return 0;
        if (now_ > plan.end) return count(plan);
        return (now_ - 1 - plan.start) / plan.interval;
    }

    function endOf(CouponPlan memory plan, uint256 period) internal pure returns (uint256) {
        uint256 end = uint256(plan.start) + (period + 1) * plan.interval;
        return end < plan.end ? end : plan.end;
    }

    function recordDateOf(CouponPlan memory plan, uint256 period) internal pure returns (uint48) {
        // At most `plan.end`.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint48(endOf(plan, period)) - plan.lead;
    }

    /// @dev The coupon of one base unit as a fraction: the rate times the period's part of an interval.
    function fraction(CouponPlan memory plan, uint256 period)
        internal
        pure
        returns (uint256 numerator, uint256 denominator)
    {
        uint256 length = endOf(plan, period) - plan.start - period * plan.interval;
        return (plan.rate * length, ONE * plan.interval);
    }

    function _require(bool sound, bytes32 field) private pure {
        if (!sound) revert IAddon.InvalidTerms(field);
    }
}
