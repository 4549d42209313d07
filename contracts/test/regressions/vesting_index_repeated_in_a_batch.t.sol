// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Distribution} from "../../src/Distribution.sol";
import {DistributionKind, IDistribution, Recipient} from "../../src/interfaces/IDistribution.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";
import {Merkle} from "../addons/Merkle.sol";

/// @notice vesting_index_repeated_in_a_batch: naming the same index several times in one batch released unvested tokens.
contract VestingIndexRepeatedInABatchTest is AddonFixture {
    function test_a_repeated_index_releases_its_share_once() public {
        Recipient[] memory rows = new Recipient[](2);
        rows[0] = _row(0, alice, 1000);
        rows[1] = _row(1, bob, 1000);
        bytes32[] memory tree = Merkle.build(rows);
        Distribution d = _distribution(_distributionTerms(DistributionKind.VESTING, tree[0]), 2000);
        vm.prank(alice);
        d.claim(0, alice, 1000, Merkle.proof(tree, 0));
        vm.warp(NOW + 25 * DAY);
        uint256[] memory indices = new uint256[](10);
        d.release(indices);
        assertEq(token.balanceOf(alice), 1250, "a quarter");
        vm.expectRevert(IDistribution.NothingDue.selector);
        d.release(indices);
        assertEq(token.balanceOf(alice), 1250, "still a quarter");
        assertEq(d.owed(), 750, "owed");
    }

    function test_a_claim_does_not_start_the_vesting_again() public {
        Recipient[] memory rows = new Recipient[](2);
        rows[0] = _row(0, alice, 1000);
        rows[1] = _row(1, bob, 1000);
        bytes32[] memory tree = Merkle.build(rows);
        Distribution d = _distribution(_distributionTerms(DistributionKind.VESTING, tree[0]), 2000);
        bytes32[] memory proof = Merkle.proof(tree, 0);
        vm.startPrank(alice);
        d.claim(0, alice, 1000, proof);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.AlreadyPaid.selector, 0));
        d.claim(0, alice, 1000, proof);
        vm.stopPrank();
    }
}
