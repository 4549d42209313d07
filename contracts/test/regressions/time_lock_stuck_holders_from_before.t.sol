// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RulesFixture} from "../RulesFixture.sol";

/// @notice time_lock_stuck_holders_from_before: tokens held before the rule was bound had no lot and could never move again.
contract TimeLockStuckHoldersTest is RulesFixture {
    function testFuzz_earlier_holders_can_leave_at_once_or_after_the_period(bool free, uint16 amount) public {
        amount = uint16(bound(amount, 1, 1000));
        compliance.addModule(address(holdingPeriodRule), abi.encode(30, free ? 1 : 2));
        if (!free) vm.warp(1_800_000_000 + 31 days);
        // Also after somebody added new tokens to the old.
        token.mint(alice, 5);
        _send(alice, carol, amount);
        _send(alice, carol, 1000 - amount);
        assertEq(holdingPeriodRule.freeOf(address(compliance), alice), 0, "only the new ones are left");
        assertEq(token.balanceOf(alice), 5, "they wait");
    }
}
