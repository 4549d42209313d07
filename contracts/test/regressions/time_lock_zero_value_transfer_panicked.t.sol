// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RulesFixture} from "../RulesFixture.sol";

/// @notice time_lock_zero_value_transfer_panicked: nothing is a valid amount (ERC-20), with lots and without.
contract TimeLockZeroValueTest is RulesFixture {
    function test_zero_value_moves_pass() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        _send(alice, bob, 0);
        token.mint(alice, 0);
        token.mint(alice, 10);
        _send(alice, bob, 0);
        _send(bob, alice, 0);
        token.forcedTransfer(alice, bob, 0);
        token.burn(alice, 0);
        token.burn(bob, 0);
        assertEq(holdingPeriodRule.trackedOf(address(compliance), registry.identity(alice)), 10, "untouched");
    }
}
