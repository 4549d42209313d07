// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReasonCodes} from "../../src/Refusals.sol";
import {RulesFixture} from "../RulesFixture.sol";

/// @notice time_lock_forced_transfer_of_locked_tokens_reverted: the custodian and the burner move locked tokens too.
contract TimeLockForcedTransferTest is RulesFixture {
    function test_locked_tokens_can_be_forced_burned_and_recovered() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        token.mint(alice, 100);
        token.forcedTransfer(alice, bob, 30);
        token.burn(alice, 20);
        _recover(alice, alice2);
        assertEq(token.balanceOf(alice2), 50, "the rest");
        _refused(bob, alice2, 1, holdingPeriodRule, ReasonCodes.HOLDING_PERIOD_NOT_OVER);
        vm.warp(1_800_000_000 + 32 days);
        _send(alice2, bob, 50);
        _send(bob, carol, 30);
    }
}
