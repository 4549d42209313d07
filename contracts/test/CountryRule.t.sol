// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRule, Movement} from "../src/interfaces/IRule.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {Fixture} from "./Fixture.sol";

contract CountryRuleTest is Fixture {
    function _from(uint16 country) private pure returns (Movement memory movement) {
        movement.country = country;
    }

    function testFuzz_allow_and_block_are_opposites(uint16[] memory list, uint16 probe) public {
        vm.assume(list.length != 0);
        bool listed;
        probe = uint16(bound(probe, 1, 999));
        for (uint256 i; i < list.length; ++i) {
            list[i] = uint16(bound(list[i], 1, 999));
            if (list[i] == probe) listed = true;
        }
        countryRule.setParams(abi.encode(true, list));
        bytes32 allowed = countryRule.check(_from(probe));
        assertEq(allowed, listed ? bytes32(0) : ReasonCodes.COUNTRY_NOT_ALLOWED, "allow list");
        countryRule.setParams(abi.encode(false, list));
        bytes32 blocked = countryRule.check(_from(probe));
        assertEq(blocked, listed ? ReasonCodes.COUNTRY_BLOCKED : bytes32(0), "block list");
    }

    function test_unknown_country_is_refused_in_both_modes() public {
        countryRule.setParams(_countryParams(false, US));
        assertEq(countryRule.check(_from(0)), ReasonCodes.COUNTRY_UNKNOWN, "no country");
        countryRule.setParams(_countryParams(true, US));
        assertEq(countryRule.check(_from(0)), ReasonCodes.COUNTRY_UNKNOWN, "no country");
    }

    function _expectInvalid(bytes32 field) private {
        vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, field));
    }

    function test_bad_parameters_are_refused() public {
        _expectInvalid("countries");
        countryRule.setParams(abi.encode(true, new uint16[](0)));
        _expectInvalid("countries");
        countryRule.setParams(_countryParams(true, 0));
        _expectInvalid("countries");
        countryRule.setParams(_countryParams(true, 1000));
        _expectInvalid("encoding");
        countryRule.setParams(hex"01");
    }

    function test_new_parameters_replace_all_of_the_old() public {
        countryRule.setParams(_countryParams(true, US));
        countryRule.setParams(_countryParams(false, DE));
        (bool allow, uint16[] memory list) = countryRule.paramsOf(address(this));
        assertTrue(!allow, "mode");
        assertEq(list.length, 1, "one country");
        assertEq(list[0], DE, "the new one");
    }

    function test_barred_country_is_refused_with_module_and_reason() public {
        _investor(carol, US);
        compliance.addModule(address(countryRule), _countryParams(false, US));
        _expectPreviewed(alice, carol, 1, address(countryRule), ReasonCodes.COUNTRY_BLOCKED);
        vm.prank(alice);
        token.transfer(carol, 1);
        registry.updateCountry(carol, FR);
        vm.prank(alice);
        token.transfer(carol, 1);
    }

    function test_it_names_itself_and_keeps_no_books() public {
        assertEq(countryRule.name(), "CountryRule", "name");
        assertEq(countryRule.check(_movement(alice, bob, 1)), ReasonCodes.RULE_NOT_CONFIGURED, "unset");
        countryRule.setParams(_countryParams(true, DE));
        countryRule.moved(address(token), alice, bob, 1);
        assertEq(countryRule.check(_movement(alice, bob, 1)), ReasonCodes.OK, "still agrees");
        countryRule.clearParams();
        assertEq(countryRule.check(_movement(alice, bob, 1)), ReasonCodes.RULE_NOT_CONFIGURED, "forgot");
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(countryRule).code.length, 12_288, "CountryRule");
    }
}
