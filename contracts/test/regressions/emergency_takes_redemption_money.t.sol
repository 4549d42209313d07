// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IServicing, IServicingBase} from "../../src/interfaces/IServicing.sol";
import {AssetRoles} from "../../src/Roles.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice emergency_takes_redemption_money: an emergency withdrawal reached the money that holders were to be redeemed with.
contract EmergencyTakesRedemptionMoneyTest is AddonFixture {
    IServicing private _s;

    function setUp() public override {
        super.setUp();
        _s = _servicing(_servicingTerms());
        token.grant(carol, AssetRoles.EMERGENCY);
        euro.mint(address(_s), 200_000);
        vm.warp(NOW + 1000 * DAY);
    }

    function test_emergency_moves_no_money() public {
        vm.startPrank(carol);
        _expectMissingRole(carol, AssetRoles.FUNDS);
        _s.sweep(address(euro), 1);
        _expectMissingRole(carol, AssetRoles.FUNDS);
        _s.distribute(address(euro), uint48(NOW), 1);
        _expectMissingRole(carol, AssetRoles.SUPPLY);
        _s.redeemFor(new address[](0));
        vm.stopPrank();
    }

    function test_nobody_sweeps_redemption_money_once_it_is_due() public {
        // Due before governance opens redemption, and after.
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 1, 0));
        _s.sweep(address(euro), 1);
        _s.mature();
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 1, 0));
        _s.sweep(address(euro), 1);
        vm.prank(alice);
        _s.redeem(1000);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.TreasuryUnderfunded.selector, 1, 0));
        _s.sweep(address(euro), 1);
    }
}
