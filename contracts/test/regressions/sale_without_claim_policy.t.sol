// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Offering} from "../../src/Offering.sol";
import {IOffering, OfferingTerms} from "../../src/interfaces/IOffering.sol";
import {IdentityReasons} from "../../src/libraries/IdentityReasons.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice empty_expression_lets_buyer_in, at the sale: its eligibility is the asset's own expression, and an empty one
/// admits nobody.
contract SaleWithoutClaimPolicyTest is AddonFixture {
    function test_a_sale_of_an_asset_without_any_topic_sells_to_nobody() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering sale = _offering(terms);
        vm.warp(terms.start);
        registry.clearPolicy(address(token));
        vm.expectRevert(
            abi.encodeWithSelector(IOffering.BuyerNotEligible.selector, address(registry), IdentityReasons.POLICY_EMPTY)
        );
        vm.prank(alice);
        sale.buy(_purchase(euro, 100));
    }

    function test_the_asset_s_expression_counts_not_the_default() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering sale = _offering(terms);
        vm.warp(terms.start);
        registry.setPolicy(address(token), _policy(accredited));
        vm.expectRevert(
            abi.encodeWithSelector(
                IOffering.BuyerNotEligible.selector, address(registry), IdentityReasons.CLAIM_MISSING
            )
        );
        vm.prank(alice);
        sale.buy(_purchase(euro, 100));
        _claim(address(registry.identity(alice)), accredited);
        euro.mint(alice, 100);
        vm.startPrank(alice);
        euro.approve(address(sale), 100);
        sale.buy(_purchase(euro, 100));
        vm.stopPrank();
        assertEq(token.balanceOf(alice), 1050, "bought");
    }
}
