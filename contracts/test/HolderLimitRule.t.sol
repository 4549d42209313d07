// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRule} from "../src/interfaces/IRule.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {CountryLimit, HolderLimitRule} from "../src/rules/HolderLimitRule.sol";
import {RulesFixture} from "./RulesFixture.sol";

contract HolderLimitRuleTest is RulesFixture {
    function _count() private view returns (uint256 holders) {
        (holders,) = holderLimitRule.holdersOf(address(compliance));
    }

    function _countOf(uint16 country) private view returns (uint256 holders) {
        (holders,,) = holderLimitRule.holdersOfCountry(address(compliance), country);
    }

    function _exempt(address wallet, bool exempt) private {
        compliance.callModule(address(holderLimitRule), abi.encodeCall(HolderLimitRule.setExempt, (wallet, exempt)));
    }

    function _sync(address a, address b) private {
        address[] memory wallets = new address[](2);
        (wallets[0], wallets[1]) = (a, b);
        holderLimitRule.sync(address(compliance), wallets);
    }

    function test_limit_admits_up_to_the_maximum_and_who_holds_already() public {
        _fresh(holderLimitRule, _holders(2));
        token.mint(alice, 100);
        token.mint(bob, 100);
        _refused(address(0), carol, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
        _refused(alice, carol, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
        _send(alice, bob, 10);
        token.mint(alice, 10);
        assertEq(_count(), 2, "holders");
        // Nothing moves, so nobody is admitted.
        _send(alice, carol, 0);
        assertEq(_count(), 2, "zero transfer admits nobody");
    }

    function test_newcomer_may_take_the_place_of_who_leaves() public {
        _fresh(holderLimitRule, _holders(1));
        token.mint(alice, 100);
        _refused(alice, carol, 99, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
        _send(alice, carol, 100);
        assertEq(_count(), 1, "one left, one came");
        assertEq(_countOf(DE), 0, "left DE");
        assertEq(_countOf(US), 1, "came US");
        // With a second wallet still holding nobody leaves.
        compliance.setModuleParams(address(holderLimitRule), _holders(2));
        token.mint(alice, 50);
        _send(alice, alice2, 20);
        _refused(alice, bob, 30, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
    }

    function test_limit_per_country() public {
        _fresh(holderLimitRule, _holders(0, US, 1));
        token.mint(alice, 100);
        token.mint(bob, 100);
        _send(alice, carol, 10);
        address other = address(0xE1);
        _investor(other, US);
        _refused(alice, other, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_OF_COUNTRY_REACHED);
        _send(carol, other, 10);
        assertEq(_countOf(US), 1, "one American for another");
        _send(alice, dave, 1);
        (uint256 holders, bool limited, uint256 max) = holderLimitRule.holdersOfCountry(address(compliance), US);
        assertTrue(holders == 1 && limited && max == 1, "US");
        (, limited,) = holderLimitRule.holdersOfCountry(address(compliance), FR);
        assertTrue(!limited, "FR has no limit");
        // A sender from elsewhere makes no room in the country.
        _refused(dave, carol, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_OF_COUNTRY_REACHED);
    }

    function test_new_parameters_end_old_country_limits_and_keep_the_count() public {
        _fresh(holderLimitRule, _holders(0, US, 0));
        _refused(address(0), carol, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_OF_COUNTRY_REACHED);
        token.mint(alice, 100);
        compliance.setModuleParams(address(holderLimitRule), _holders(2));
        token.mint(carol, 1);
        assertEq(_count(), 2, "alice stayed counted");
        _refused(address(0), bob, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
    }

    function test_burn_and_force_and_recovery_keep_the_count() public {
        _fresh(holderLimitRule, _holders(2));
        token.mint(alice, 100);
        token.mint(bob, 100);
        token.burn(bob, 99);
        assertEq(_count(), 2, "one token is still a holder");
        token.burn(bob, 1);
        assertEq(_count(), 1, "bob left");
        // A custodian may pass the limit; the rule then admits nobody until it holds again.
        token.forcedTransfer(alice, bob, 10);
        token.forcedTransfer(alice, carol, 10);
        assertEq(_count(), 3, "over the limit");
        _refused(alice, dave, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
        _recover(alice, alice2);
        assertEq(_count(), 3, "recovery changes nothing");
        (address holder,) = holderLimitRule.walletOf(address(compliance), alice);
        assertEq(holder, address(0), "the lost wallet is out");
        (holder,) = holderLimitRule.walletOf(address(compliance), alice2);
        assertEq(holder, registry.identity(alice2), "the new one is in");
    }

    function test_holders_from_before_must_be_counted_first() public {
        compliance.addModule(address(holderLimitRule), _holders(3));
        assertEq(_count(), 0, "nobody counted");
        _refused(alice, carol, 1, holderLimitRule, ReasonCodes.HOLDERS_NOT_COUNTED);
        token.mint(alice, 1);
        assertEq(_count(), 1, "met alice");
        _refused(alice, carol, 1, holderLimitRule, ReasonCodes.HOLDERS_NOT_COUNTED);
        _sync(alice, bob);
        _sync(bob, carol);
        assertEq(_count(), 2, "all");
        _send(alice, carol, 1);
        _refused(alice, dave, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
    }

    function test_holders_from_before_are_met_when_they_send() public {
        compliance.addModule(address(holderLimitRule), _holders(3));
        _send(alice, bob, 1);
        assertEq(_count(), 2, "both met");
        _send(alice, carol, 1);
        assertEq(_count(), 3, "sum complete");
        compliance.removeModule(address(holderLimitRule));
        compliance.addModule(address(holderLimitRule), _holders(3));
        assertEq(_count(), 0, "a new binding counts anew");
        _refused(alice, dave, 1, holderLimitRule, ReasonCodes.HOLDERS_NOT_COUNTED);
    }

    function test_sync_follows_registry_changes() public {
        _fresh(holderLimitRule, _holders(10));
        token.mint(alice, 10);
        token.mint(alice2, 10);
        token.mint(bob, 10);
        assertEq(_count(), 2, "two people");
        registry.updateCountry(alice, FR);
        registry.updateCountry(alice2, FR);
        _sync(alice, alice2);
        assertEq(_countOf(FR), 1, "moved to FR");
        assertEq(_countOf(DE), 1, "bob stayed");
        registry.updateCountry(alice2, US);
        _sync(alice2, stranger);
        assertTrue(_countOf(US) == 1 && _countOf(FR) == 0, "the last wallet counted decides");
        registry.updateIdentity(alice2, registry.identity(bob));
        registry.updateCountry(alice2, DE);
        _sync(alice2, alice);
        assertEq(_count(), 2, "still two people");
        assertEq(_countOf(DE), 1, "bob with two wallets");
        vm.expectRevert(abi.encodeWithSelector(IRule.NotConfigured.selector, stranger));
        holderLimitRule.sync(stranger, new address[](0));
    }

    function test_deregistered_holder_stays_counted() public {
        _fresh(holderLimitRule, _holders(1));
        token.mint(alice, 10);
        registry.deleteIdentity(alice);
        _send(alice, bob, 10);
        assertEq(_count(), 1, "alice left, bob came");
    }

    function test_exempt_wallets_are_not_counted() public {
        _fresh(holderLimitRule, _holders(1));
        _exempt(carol, true);
        token.mint(alice, 100);
        _send(alice, carol, 40);
        _send(carol, alice, 10);
        assertEq(_count(), 1, "alice only");
        _refused(carol, bob, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
        token.burn(carol, 10);
        _exempt(carol, false);
        assertEq(_count(), 2, "carol counts again");
        _exempt(carol, false);
        _exempt(alice, true);
        assertEq(_count(), 1, "carol only");
        _exempt(dave, true);
        address[] memory wallets = new address[](1);
        wallets[0] = alice;
        holderLimitRule.sync(address(compliance), wallets);
        assertEq(_count(), 1, "an exempt wallet is not synced in");
        _exempt(dave, false);
        token.burn(carol, token.balanceOf(carol));
        _send(alice, bob, 1);
        assertEq(_count(), 1, "sum still complete");
        vm.expectRevert(abi.encodeWithSelector(IRule.NotConfigured.selector, address(this)));
        holderLimitRule.setExempt(alice, true);
    }

    function test_exempt_wallet_may_send_its_last_token() public {
        _fresh(holderLimitRule, _holders(2));
        _exempt(carol, true);
        token.mint(carol, 10);
        _send(carol, alice, 10);
        assertEq(_count(), 1, "alice");
        (, bool exempt) = holderLimitRule.walletOf(address(compliance), carol);
        assertTrue(exempt, "still exempt");
        _send(alice, carol, 10);
        assertEq(_count(), 0, "nobody");
    }

    function test_exempting_a_holder_from_before() public {
        compliance.addModule(address(holderLimitRule), _holders(1));
        _exempt(alice, true);
        _sync(alice, bob);
        assertEq(_count(), 1, "bob");
        _refused(alice, carol, 1, holderLimitRule, ReasonCodes.HOLDER_LIMIT_REACHED);
    }

    function test_unconfigured_refuses_and_follows_nothing() public {
        bytes32 reason = holderLimitRule.check(_movement(alice, bob, 1));
        assertEq(reason, ReasonCodes.RULE_NOT_CONFIGURED, "nobody");
        holderLimitRule.moved(address(token), alice, bob, 1);
        (uint256 holders,) = holderLimitRule.holdersOf(address(this));
        assertEq(holders, 0, "nothing");
    }

    function test_bad_parameters_are_refused() public {
        _invalid(holderLimitRule, _holders(0), "max");
        _invalid(holderLimitRule, _holders(1, 0, 1), "countries");
        _invalid(holderLimitRule, _holders(1, 1000, 1), "countries");
        CountryLimit[] memory twice = new CountryLimit[](2);
        (twice[0], twice[1]) = (CountryLimit(DE, 1), CountryLimit(DE, 2));
        _invalid(holderLimitRule, abi.encode(1, twice), "countries");
        _invalid(holderLimitRule, hex"", "encoding");
        assertEq(holderLimitRule.name(), "HolderLimitRule", "name");
    }
}
