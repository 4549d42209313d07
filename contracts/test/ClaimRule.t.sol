// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Group} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {IRule} from "../src/interfaces/IRule.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {Fixture} from "./Fixture.sol";

contract ClaimRuleTest is Fixture {
    /// @dev (kyc AND accredited) OR (kyc AND NOT sanctioned)
    function _expression() private view returns (Group[] memory anyOf) {
        anyOf = new Group[](2);
        anyOf[0].allOf = new uint256[](2);
        (anyOf[0].allOf[0], anyOf[0].allOf[1]) = (kyc, accredited);
        anyOf[1].allOf = new uint256[](1);
        anyOf[1].allOf[0] = kyc;
        anyOf[1].noneOf = new uint256[](1);
        anyOf[1].noneOf[0] = sanctioned;
    }

    function testFuzz_expression_is_evaluated_as_written(bool hasAccredited, bool hasSanctioned, uint8 side) public {
        uint8 sides = uint8(bound(side, 1, 3));
        compliance.addModule(address(claimRule), abi.encode(sides, _expression()));
        address who = sides == 2 ? alice : bob;
        address id = registry.identity(who);
        if (hasAccredited) _claim(id, accredited);
        if (hasSanctioned) _claim(id, sanctioned);
        (, bytes32 reason) = token.preview(alice, bob, 1);
        assertTrue((reason == 0) == (hasAccredited || !hasSanctioned), "(kyc & accredited) | (kyc & !sanctioned)");
        if (reason != 0) {
            assertEq(
                reason, sides == 2 ? ReasonCodes.SENDER_CLAIMS_MISSING : ReasonCodes.RECIPIENT_CLAIMS_MISSING, "side"
            );
        }
    }

    function test_a_mint_has_no_sender_to_ask() public {
        compliance.addModule(address(claimRule), abi.encode(uint8(2), _policy(accredited)));
        token.mint(alice, 1);
        _expectPreviewed(alice, bob, 1, address(claimRule), ReasonCodes.SENDER_CLAIMS_MISSING);
        vm.prank(alice);
        token.transfer(bob, 1);
    }

    function test_parameters_can_be_read_back_and_replaced() public {
        compliance.addModule(address(claimRule), abi.encode(uint8(3), _expression()));
        (uint8 sides, Group[] memory anyOf) = claimRule.paramsOf(address(compliance));
        assertEq(sides, 3, "sides");
        assertEq(anyOf.length, 2, "groups");
        assertEq(anyOf[1].noneOf[0], sanctioned, "NOT");
        compliance.setModuleParams(address(claimRule), abi.encode(uint8(1), _policy(accredited)));
        (sides, anyOf) = claimRule.paramsOf(address(compliance));
        assertEq(anyOf.length, 1, "replaced");
        assertEq(anyOf[0].allOf[0], accredited, "replaced");
    }

    function test_sides_must_be_named() public {
        vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, bytes32("sides")));
        claimRule.setParams(abi.encode(uint8(0), _policy(kyc)));
        vm.expectRevert(abi.encodeWithSelector(IRule.InvalidParams.selector, bytes32("sides")));
        claimRule.setParams(abi.encode(uint8(4), _policy(kyc)));
    }

    function test_a_removed_rule_forgets_and_agrees_to_nothing() public {
        assertEq(claimRule.name(), "ClaimRule", "name");
        compliance.addModule(address(claimRule), abi.encode(uint8(3), _expression()));
        compliance.removeModule(address(claimRule));
        (uint8 sides, Group[] memory anyOf) = claimRule.paramsOf(address(compliance));
        assertEq(sides + anyOf.length, 0, "forgotten");
        vm.prank(address(compliance));
        assertEq(claimRule.check(_movement(alice, bob, 1)), ReasonCodes.RULE_NOT_CONFIGURED, "unset");
        vm.prank(alice);
        token.transfer(bob, 1);
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(claimRule).code.length, 12_288, "ClaimRule");
    }
}
