// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Offering} from "../../src/Offering.sol";
import {IOffering, OfferingStatus, OfferingTerms} from "../../src/interfaces/IOffering.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice funds_manager_withdraws_sold_tokens: sold but still vesting tokens could be withdrawn as if they were unsold.
contract FundsManagerWithdrawsSoldTokensTest is AddonFixture {
    Offering private _sale;

    function setUp() public override {
        super.setUp();
        OfferingTerms memory terms = _offeringTerms();
        terms.softCap = 100;
        (terms.lockup.start, terms.lockup.duration) = (terms.end, 100 * DAY);
        _sale = _offering(terms);
        vm.warp(terms.start);
        _buy(_sale, alice, euro, 800);
    }

    function test_nothing_leaves_while_the_sale_runs() public {
        vm.expectRevert(abi.encodeWithSelector(IOffering.OutcomeOpen.selector, OfferingStatus.PUBLIC_SALE));
        _sale.withdrawUnsold();
        vm.expectRevert(abi.encodeWithSelector(IOffering.OutcomeOpen.selector, OfferingStatus.PUBLIC_SALE));
        _sale.withdrawProceeds(address(token));
    }

    function test_sold_tokens_stay_until_their_buyers_have_them() public {
        vm.warp(NOW + 11 * DAY);
        _sale.finalize();
        assertEq(_sale.withdrawUnsold(), 600, "unsold only");
        assertEq(_sale.withdrawUnsold(), 0, "and no more");
        vm.expectRevert(abi.encodeWithSelector(IOffering.CurrencyUnsupported.selector, address(token)));
        _sale.withdrawProceeds(address(token));
        vm.warp(NOW + 61 * DAY);
        _sale.claim(alice);
        assertEq(_sale.withdrawUnsold(), 0, "nor half way");
        vm.warp(NOW + 200 * DAY);
        _sale.claim(alice);
        assertEq(token.balanceOf(alice), 1400, "delivered in full");
    }
}
