// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Offering} from "../../src/Offering.sol";
import {IServicing} from "../../src/interfaces/IServicing.sol";
import {OfferingTerms} from "../../src/interfaces/IOffering.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice What paying holders and buying costs. Not in the budget table; bounds keep the figures from drifting.
contract PaymentsGasTest is AddonFixture {
    uint256 private constant BATCH = 100;

    /// @dev A coupon paid to 100 holders who have never held the currency, in one transaction.
    function test_gas_coupon_per_holder() public {
        address[] memory holders = new address[](BATCH);
        for (uint256 i; i < BATCH; ++i) {
            holders[i] = _wallet(i);
            token.mint(holders[i], 100);
        }
        IServicing s = _servicing(_servicingTerms());
        s.schedule(_plan());
        euro.mint(address(s), 1e6);
        vm.warp(NOW + 91 * DAY + 1);
        s.openCoupons(0);
        s.claimMany(0, holders);
        uint256 used = vm.snapshotGasLastCall("addons", "coupon.batch100");
        assertLe(used / BATCH, 70_000, "coupon per holder");
        assertEq(euro.balanceOf(holders[99]), 500, "paid");
    }

    /// @dev A second purchase of a holder, delivered at once.
    function test_gas_purchase_with_delivery() public {
        OfferingTerms memory terms = _offeringTerms();
        Offering sale = _offering(terms);
        vm.warp(terms.start);
        _buy(sale, alice, euro, 100);
        _buy(sale, alice, euro, 100);
        assertLe(vm.snapshotGasLastCall("addons", "purchase.delivered"), 230_000, "purchase");
    }
}
