// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Group} from "../../src/interfaces/IIdentityRegistryPolicy.sol";
import {ClaimExpression} from "../../src/libraries/ClaimExpression.sol";
import {IdentityReasons} from "../../src/libraries/IdentityReasons.sol";
import {ReasonCodes} from "../../src/Refusals.sol";
import {Fixture} from "../Fixture.sol";
import {IdentityFixture} from "../identity/IdentityFixture.sol";

/// @notice empty_expression_lets_buyer_in: emptiness admits nobody, wherever it comes from.
contract EmptyExpressionLetsBuyerInTest is IdentityFixture {
    function test_empty_expression_is_met_by_nobody() public view {
        assertTrue(!registry.hasClaims(holder, new Group[](0)), "hasClaims");
        assertTrue(!registry.satisfies(holder, 0, new uint256[](0)), "satisfies");
    }

    function test_empty_policy_and_empty_group_are_refused() public {
        vm.startPrank(policyManager);
        vm.expectRevert(ClaimExpression.ClaimExpressionEmpty.selector);
        registry.setPolicy(token, new Group[](0));
        vm.expectRevert(abi.encodeWithSelector(ClaimExpression.ClaimExpressionEmptyGroup.selector, 0));
        registry.setPolicy(token, new Group[](1));
        vm.stopPrank();
    }

    function test_without_claim_topics_nobody_is_verified() public {
        vm.prank(policyManager);
        registry.removeClaimTopic(KYC);
        assertTrue(!registry.isVerified(holder), "isVerified");
        assertReason(holder, IdentityReasons.POLICY_EMPTY);
    }

    function testFuzz_packed_expression_without_groups_admits_nobody(uint256 word) public view {
        assertTrue(!registry.satisfies(holder, word & ~uint256(0xff), new uint256[](0)), "no groups");
    }
}

/// @notice empty_expression_lets_buyer_in, at the rules.
contract EmptyExpressionLetsBuyerInOfTheRulesTest is Fixture {
    function test_a_rule_takes_no_empty_expression() public {
        vm.expectRevert();
        compliance.addModule(address(claimRule), abi.encode(uint8(1), new Group[](0)));
        Group[] memory hollow = new Group[](1);
        vm.expectRevert();
        compliance.addModule(address(claimRule), abi.encode(uint8(1), hollow));
        // A rule that some compliance reads without ever setting it agrees to nothing.
        assertEq(claimRule.check(_movement(alice, bob, 1)), ReasonCodes.RULE_NOT_CONFIGURED, "unset claim rule");
        assertEq(countryRule.check(_movement(alice, bob, 1)), ReasonCodes.RULE_NOT_CONFIGURED, "unset country rule");
    }
}
