// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReasonCodes} from "../../src/Refusals.sol";
import {RulesFixture} from "../RulesFixture.sol";

/// @notice time_lock_burn_left_old_lots_behind: lots of burned tokens stayed, and tokens bought later left on their age.
contract TimeLockBurnTest is RulesFixture {
    function test_burned_lot_ages_nothing_bought_later() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        token.mint(alice, 100);
        vm.warp(1_800_000_000 + 40 days);
        token.burn(alice, 100);
        token.mint(alice, 100);
        assertEq(holdingPeriodRule.trackedOf(address(compliance), registry.identity(alice)), 100, "only the new ones");
        _refused(alice, bob, 1, holdingPeriodRule, ReasonCodes.HOLDING_PERIOD_NOT_OVER);
    }

    function test_forced_out_lot_ages_nothing_bought_later() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        token.mint(alice, 100);
        vm.warp(1_800_000_000 + 40 days);
        token.forcedTransfer(alice, bob, 100);
        token.mint(alice, 100);
        _refused(alice, bob, 1, holdingPeriodRule, ReasonCodes.HOLDING_PERIOD_NOT_OVER);
    }
}
