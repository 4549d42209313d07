// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Offering} from "../../src/Offering.sol";
import {IOffering, OfferingTerms} from "../../src/interfaces/IOffering.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice sale_limit_counts_wallets: an investor passed its limit by buying from several wallets.
contract SaleLimitCountsWalletsTest is AddonFixture {
    function test_all_wallets_of_an_identity_share_one_limit() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering sale = _offering(terms);
        vm.warp(terms.start);
        address second = address(0xA2);
        registry.registerIdentity(second, registry.identity(alice), DE);
        _buy(sale, alice, euro, 800);
        euro.mint(second, 800);
        vm.startPrank(second);
        euro.approve(address(sale), 800);
        vm.expectRevert(abi.encodeWithSelector(IOffering.AllocationExceeded.selector, 600, 601));
        sale.buy(_purchase(euro, 402));
        sale.buy(_purchase(euro, 400));
        vm.stopPrank();
        assertEq(sale.boughtBy(address(registry.identity(alice))), 600, "together");
    }

    function test_a_recovered_wallet_keeps_its_count() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering sale = _offering(terms);
        vm.warp(terms.start);
        _buy(sale, alice, euro, 1200);
        address next = address(0xA2);
        registry.recover(alice, next);
        vm.expectRevert(abi.encodeWithSelector(IOffering.AllocationExceeded.selector, 600, 610));
        vm.prank(next);
        sale.buy(_purchase(euro, 20));
    }
}
