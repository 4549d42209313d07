// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IServicing} from "../../src/interfaces/IServicing.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice entitlement_lost_on_recovery: payouts of a wallet that was lost after the record date could not be claimed any more.
contract EntitlementLostOnRecoveryTest is AddonFixture {
    address private _next = address(0xB1);

    function test_payouts_and_redemption_of_a_lost_wallet_reach_its_successor() public {
        IServicing s = _servicing(_servicingTerms());
        s.schedule(_plan());
        euro.mint(address(s), 300_000);
        vm.warp(NOW + 91 * DAY + 1);
        registry.recover(bob, _next);
        s.claim(bob, _ids(0));
        assertEq(euro.balanceOf(_next), 5000, "claimed by anybody, paid to the successor");
        vm.warp(NOW + 181 * DAY + 1);
        address[] memory holders = new address[](1);
        holders[0] = bob;
        s.claimMany(1, holders);
        assertEq(euro.balanceOf(_next), 10_000, "in a batch too");
        vm.warp(NOW + 1000 * DAY);
        s.openCoupons(3);
        s.mature();
        s.redeemFor(holders);
        assertEq(euro.balanceOf(_next), 110_000, "redemption of the lost wallet's tokens");
        assertEq(token.balanceOf(bob), 0, "burnt");
    }
}
