// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IServicing, IServicingBase} from "../../src/interfaces/IServicing.sol";
import {AssetRoles} from "../../src/Roles.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";

/// @notice anyone_force_redeems_a_holder: a redemption named its holder, and nobody checked who asked.
contract AnyoneForceRedeemsAHolderTest is AddonFixture {
    function test_a_holder_redeems_its_own_tokens_only() public {
        IServicing s = _servicing(_servicingTerms());
        euro.mint(address(s), 200_000);
        vm.warp(NOW + 1000 * DAY);
        s.mature();
        address[] memory holders = new address[](1);
        holders[0] = alice;
        _expectMissingRole(bob, AssetRoles.SUPPLY);
        vm.prank(bob);
        s.redeemFor(holders);
        vm.expectRevert(abi.encodeWithSelector(IServicingBase.FreeBalanceExceeded.selector, 0, 1));
        vm.prank(stranger);
        s.redeem(1);
        vm.prank(bob);
        s.redeem(1000);
        assertEq(token.balanceOf(alice), 1000, "alice keeps hers");
    }
}
