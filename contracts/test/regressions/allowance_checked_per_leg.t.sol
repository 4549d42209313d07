// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlement, Leg, Terms} from "../../src/interfaces/ISettlement.sol";
import {SettlementFixture} from "../SettlementFixture.sol";

/// @notice allowance_checked_per_leg: two legs of one sender and asset must not both be covered by the same allowance: it is summed.
contract AllowanceCheckedPerLegTest is SettlementFixture {
    function _twice(address asset) private returns (Terms memory terms) {
        _investor(carol, DE);
        Leg[] memory legs = new Leg[](2);
        legs[0] = Leg(asset, alice, bob, 500, 0);
        legs[1] = Leg(asset, alice, carol, 500, 0);
        terms = _terms(legs);
        settlement.create(terms);
    }

    function _tooLittle(address asset) private {
        Terms memory terms = _twice(asset);
        vm.startPrank(alice);
        cash.approve(address(settlement), 500);
        token.approve(address(settlement), 500);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.AllowanceInsufficient.selector, asset, 1000, 500));
        settlement.approve(terms);
        vm.stopPrank();
    }

    function test_own_assets() public {
        _tooLittle(address(token));
    }

    function test_foreign_currencies() public {
        _tooLittle(address(cash));
    }
}
