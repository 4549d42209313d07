// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRule} from "../src/interfaces/IRule.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {HoldingPeriodRule} from "../src/rules/HoldingPeriodRule.sol";
import {RulesFixture} from "./RulesFixture.sol";

contract HoldingPeriodRuleTest is RulesFixture {
    uint256 private constant START = 1_800_000_000;
    /// 2027-01-15 00:00 UTC, the day of START.
    uint256 private constant MIDNIGHT = START - START % 1 days;

    function _bind(uint16 periodDays, uint8 earlier) private {
        compliance.addModule(address(holdingPeriodRule), abi.encode(periodDays, earlier));
    }

    function _free(address wallet) private view returns (uint256) {
        return holdingPeriodRule.freeOf(address(compliance), wallet);
    }

    function _locked(address from, address to, uint256 amount) private {
        _refused(from, to, amount, holdingPeriodRule, ReasonCodes.HOLDING_PERIOD_NOT_OVER);
    }

    function _exempt(address wallet, bool exempt) private {
        compliance.callModule(address(holdingPeriodRule), abi.encodeCall(HoldingPeriodRule.setExempt, (wallet, exempt)));
    }

    function test_tokens_go_after_whole_days_and_not_a_second_before() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        token.mint(alice, 100);
        _locked(alice, bob, 1);
        vm.warp(MIDNIGHT + 31 days - 1);
        _locked(alice, bob, 1);
        vm.warp(MIDNIGHT + 31 days);
        _send(alice, bob, 100);
        _locked(bob, alice, 1);
    }

    function test_oldest_go_first() public {
        _fresh(holdingPeriodRule, abi.encode(10, 2));
        token.mint(alice, 60);
        vm.warp(MIDNIGHT + 5 days);
        token.mint(alice, 40);
        vm.warp(MIDNIGHT + 11 days);
        assertEq(_free(alice), 60, "first lot");
        _locked(alice, bob, 61);
        _send(alice, bob, 20);
        assertEq(_free(alice), 40, "rest of the first lot");
        vm.warp(MIDNIGHT + 16 days);
        assertEq(_free(alice), 80, "both");
    }

    function test_lots_of_a_day_are_merged() public {
        _fresh(holdingPeriodRule, abi.encode(1, 2));
        token.mint(alice, 1);
        vm.warp(START + 60);
        token.mint(alice, 1);
        vm.warp(MIDNIGHT + 2 days);
        assertEq(_free(alice), 2, "both");
        assertEq(holdingPeriodRule.trackedOf(address(compliance), registry.identity(alice)), 2, "tracked");
    }

    function test_earlier_balance_is_free_when_so_bound() public {
        _bind(30, 1);
        assertEq(_free(alice), 1000, "all of it");
        _send(alice, bob, 400);
        // Received under the rule: 400 wait, what bob had before does not.
        assertEq(_free(bob), 1000, "bob's own");
        _locked(bob, alice, 1001);
        _send(bob, carol, 1000);
        _locked(bob, alice, 1);
    }

    function test_earlier_balance_waits_from_binding_when_so_bound() public {
        _bind(30, 2);
        _locked(alice, bob, 1);
        token.mint(alice, 5);
        vm.warp(MIDNIGHT + 31 days);
        assertEq(_free(alice), 1005, "earlier and minted");
        assertEq(_free(bob), 1000, "not met yet");
        _send(bob, alice, 1000);
        assertEq(_free(alice), 1005, "new ones wait");
    }

    function test_own_wallets_share_their_lots() public {
        _bind(30, 2);
        _send(alice, alice2, 300);
        assertEq(_free(alice2), 0, "as old as before");
        _locked(alice2, bob, 1);
        vm.warp(MIDNIGHT + 31 days);
        _send(alice2, bob, 300);
        _send(alice, bob, 700);
        assertEq(holdingPeriodRule.trackedOf(address(compliance), registry.identity(alice)), 0, "all gone");
    }

    function test_recovery_keeps_the_age() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        token.mint(alice, 100);
        vm.warp(MIDNIGHT + 20 days);
        _recover(alice, alice2);
        assertEq(_free(alice2), 0, "not yet");
        vm.warp(MIDNIGHT + 31 days);
        assertEq(_free(alice2), 100, "counted from the purchase");
        _send(alice2, bob, 100);
    }

    function test_recovery_of_a_wallet_from_before_keeps_the_treatment() public {
        _bind(30, 1);
        _recover(alice, alice2);
        assertEq(_free(alice2), 1000, "still free");
        _send(alice2, bob, 1000);
    }

    function test_an_emptied_wallet_follows_the_registry() public {
        _fresh(holdingPeriodRule, abi.encode(1, 2));
        token.mint(alice2, 10);
        token.burn(alice2, 10);
        registry.updateIdentity(alice2, registry.identity(bob));
        token.mint(alice2, 7);
        assertEq(holdingPeriodRule.trackedOf(address(compliance), registry.identity(bob)), 7, "bob's now");
        assertEq(holdingPeriodRule.trackedOf(address(compliance), registry.identity(alice)), 0, "not alice's");
    }

    function test_a_wallet_that_changed_hands_is_no_own_wallet() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        token.mint(alice2, 10);
        token.burn(alice2, 10);
        token.mint(alice, 100);
        _send(alice, alice2, 1);
        _send(alice2, alice, 1);
        // Empty now, and somebody else's: the rule still remembers it as alice's.
        registry.updateIdentity(alice2, registry.identity(bob));
        _locked(alice, alice2, 1);
    }

    function test_exempt_sender_sends_at_once_and_starts_again_after() public {
        _fresh(holdingPeriodRule, abi.encode(30, 2));
        token.mint(carol, 100);
        _locked(carol, alice, 1);
        _exempt(carol, true);
        assertTrue(holdingPeriodRule.isExempt(address(compliance), carol), "exempt");
        assertEq(_free(carol), 100, "all");
        _send(carol, alice, 40);
        _locked(alice, carol, 1);
        token.mint(carol, 10);
        vm.warp(MIDNIGHT + 100 days);
        _send(alice, carol, 40);
        _exempt(carol, false);
        _exempt(carol, false);
        _locked(carol, alice, 1);
        vm.warp(MIDNIGHT + 131 days);
        _send(carol, alice, 110);
        _exempt(dave, true);
        _exempt(dave, false);
        assertEq(_free(dave), 0, "nothing");
        vm.expectRevert(abi.encodeWithSelector(IRule.NotConfigured.selector, address(this)));
        holdingPeriodRule.setExempt(alice, true);
    }

    function test_parameters_while_bound() public {
        _bind(30, 1);
        compliance.setModuleParams(address(holdingPeriodRule), abi.encode(60, 1));
        (uint16 periodDays, uint8 earlier) = holdingPeriodRule.paramsOf(address(compliance));
        assertTrue(periodDays == 60 && earlier == 1, "longer");
        vm.expectRevert(HoldingPeriodRule.EarlierBalanceFixed.selector);
        compliance.setModuleParams(address(holdingPeriodRule), abi.encode(60, 2));
        compliance.removeModule(address(holdingPeriodRule));
        _bind(30, 2);
        _locked(alice, bob, 1);
        assertEq(holdingPeriodRule.freeOf(stranger, alice), 0, "not configured");
    }

    function test_nothing_is_old_at_the_beginning_of_time() public {
        vm.warp(3 days);
        _fresh(holdingPeriodRule, abi.encode(5, 2));
        token.mint(alice, 1);
        assertEq(_free(alice), 0, "no lot is older than time");
    }

    function testFuzz_nothing_leaves_early_and_everything_leaves_in_time(uint16 period, uint128 seed) public {
        period = uint16(bound(period, 1, 400));
        _fresh(holdingPeriodRule, abi.encode(period, 2));
        uint256[5] memory amounts;
        uint256[5] memory days_;
        uint256 day;
        for (uint256 i; i < 5; ++i) {
            day += seed % 90;
            seed /= 91;
            (amounts[i], days_[i]) = (1 + seed % 500, day);
            vm.warp(MIDNIGHT + day * 1 days + seed % 1 days);
            token.mint(alice, amounts[i]);
        }
        uint256 probe = day + seed % 500;
        vm.warp(MIDNIGHT + probe * 1 days);
        uint256 expected;
        for (uint256 i; i < 5; ++i) {
            if (probe > days_[i] + period) expected += amounts[i];
        }
        assertEq(_free(alice), expected, "exactly what is old enough");
    }

    function test_unconfigured_refuses_and_follows_nothing() public {
        bytes32 reason = holdingPeriodRule.check(_movement(alice, bob, 1));
        assertEq(reason, ReasonCodes.RULE_NOT_CONFIGURED, "nobody");
        holdingPeriodRule.moved(address(token), alice, bob, 1);
        assertEq(holdingPeriodRule.trackedOf(address(this), registry.identity(bob)), 0, "nothing");
    }

    function test_bad_parameters_are_refused() public {
        _invalid(holdingPeriodRule, abi.encode(0, 1), "days");
        _invalid(holdingPeriodRule, abi.encode(10_951, 1), "days");
        _invalid(holdingPeriodRule, abi.encode(1, 0), "earlier");
        _invalid(holdingPeriodRule, abi.encode(1, 3), "earlier");
        _invalid(holdingPeriodRule, abi.encode(uint256(1 << 16), 1), "encoding");
        assertEq(holdingPeriodRule.name(), "HoldingPeriodRule", "name");
    }
}
