// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Distribution} from "../../src/Distribution.sol";
import {DistributionKind, IDistribution, Recipient} from "../../src/interfaces/IDistribution.sol";
import {AddonFixture} from "../addons/AddonFixture.sol";
import {Merkle} from "../addons/Merkle.sol";

/// @notice airdrop_index_repeated_in_a_batch: a duplicate index in one batch was paid twice.
contract AirdropIndexRepeatedInABatchTest is AddonFixture {
    bytes32[] private _tree;
    Distribution private _d;

    /// @dev A list whose rows 0 and 1 share an index, which only a broken platform would build.
    function setUp() public override {
        super.setUp();
        Recipient[] memory rows = new Recipient[](2);
        rows[0] = _row(7, alice, 100);
        rows[1] = _row(7, alice, 100);
        _tree = Merkle.build(rows);
        _d = _distribution(_distributionTerms(DistributionKind.PUSH, _tree[0]), 1000);
    }

    function test_a_duplicate_index_on_the_list_is_paid_once() public {
        Recipient[] memory rows = new Recipient[](2);
        rows[0] = _row(7, alice, 100);
        rows[1] = _row(7, alice, 100);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(_tree, 0, 2);
        assertEq(_d.push(rows, proof, flags), 1, "one payment");
        assertEq(token.balanceOf(alice), 1100, "once");
        assertEq(_d.push(rows, proof, flags), 0, "nor in a second batch");
        assertEq(_d.pushed(), 100, "counted once");
    }

    function test_a_row_given_twice_does_not_prove() public {
        Recipient[] memory rows = new Recipient[](2);
        rows[0] = _row(7, alice, 100);
        rows[1] = _row(7, alice, 100);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(_tree, 0, 1);
        vm.expectRevert();
        _d.push(rows, proof, flags);
        assertEq(token.balanceOf(alice), 1000, "unpaid");
    }
}
