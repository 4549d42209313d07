// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {AssetToken} from "../src/AssetToken.sol";
import {Distribution} from "../src/Distribution.sol";
import {DistributionArgs} from "../src/addons/DistributionArgs.sol";
import {IAddonFactory} from "../src/interfaces/IAddonFactory.sol";
import {
    DistributionKind,
    DistributionTerms,
    Grant,
    IDistribution,
    Recipient
} from "../src/interfaces/IDistribution.sol";
import {RuleConfig} from "../src/interfaces/ITokenCompliance.sol";
import {ComplianceRefused, ReasonCodes} from "../src/Refusals.sol";
import {AssetRoles} from "../src/Roles.sol";
import {AddonFixture} from "./addons/AddonFixture.sol";
import {Merkle} from "./addons/Merkle.sol";

contract DistributionTest is AddonFixture {
    Recipient[] internal rows;
    bytes32[] internal tree;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        _investor(address(0xDD), DE);
        address[5] memory accounts = [alice, bob, carol, address(0xDD), stranger];
        for (uint256 i; i < accounts.length; ++i) {
            rows.push(Recipient(i, accounts[i], 100 * (i + 1)));
        }
        tree = Merkle.build(rows);
    }

    function _make(DistributionKind kind) internal returns (Distribution) {
        return _distribution(_distributionTerms(kind, tree[0]), 1500);
    }

    function _slice(uint256 first, uint256 count) internal view returns (Recipient[] memory part) {
        part = new Recipient[](count);
        for (uint256 i; i < count; ++i) {
            part[i] = rows[first + i];
        }
    }

    function _push(Distribution d, uint256 first, uint256 count) internal returns (uint256) {
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(tree, first, count);
        return d.push(_slice(first, count), proof, flags);
    }

    function _claimRow(Distribution d, uint256 i, address caller) internal {
        bytes32[] memory proof = Merkle.proof(tree, i);
        vm.prank(caller);
        d.claim(rows[i].index, rows[i].account, rows[i].amount, proof);
    }

    function _one(uint256 index) internal pure returns (uint256[] memory list) {
        list = new uint256[](1);
        list[0] = index;
    }

    /* THE TREE */

    /// @dev Vectors made with @openzeppelin/merkle-tree 1.0.8: seven rows [i, 0xa0000 + i, 1000 (i + 1)], unsorted leaves.
    function test_tree_is_the_one_of_openzeppelin() public pure {
        Recipient[] memory list = new Recipient[](7);
        for (uint256 i; i < 7; ++i) {
            list[i] = Recipient(i, address(uint160(0xa0000 + i)), 1000 * (i + 1));
        }
        bytes32[] memory theirs = Merkle.build(list);
        assertEq(
            Merkle.leaf(list[3]), bytes32(0x8122845a30f6981e282776b566c8e29fdeed0eaae1ff62e94350ff2b4cb7fe15), "leaf"
        );
        assertEq(theirs[0], bytes32(0xc6b9e1caba9e45c023012f5244d1e4dca873f32ebbca73ec84214a75d1c4de7f), "root");
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(theirs, 1, 3);
        assertEq(proof.length, 3, "proof");
        assertEq(flags.length, 5, "flags");
        assertTrue(!flags[0] && flags[1] && !flags[2] && !flags[3] && flags[4], "flag values");
        assertEq(proof[2], bytes32(0xe7eef11a9c641f9986a26bbe95832005d4e863f363b90c81292eae0691cf9f57), "last");
    }

    function test_claim_accepts_a_proof_of_the_sorted_tree() public {
        // The default tree of the same library sorts its leaves; a claim does not care.
        DistributionTerms memory terms = _distributionTerms(
            DistributionKind.CLAIM, 0x72051213fc4348f5f6a18bd4dc4dfe3cc42c9d056a3eb022bae22b897a9b9aa5
        );
        Distribution d = _distribution(terms, 10_000);
        address account = address(0xa0003);
        _investor(account, DE);
        bytes32[] memory proof = new bytes32[](3);
        proof[0] = 0x8a0324f725104716d05450c6d483a25f7371b8d10e809f3dfdb10730906fb355;
        proof[1] = 0xcb3fb3f9c22257bd9efdbb37c3133a16f0352fc588c195e478001922a800227e;
        proof[2] = 0xaf8212a34f2ee5dddcf220d0747e9152599c038f5201b32c30d998ddcf846162;
        vm.prank(account);
        d.claim(3, account, 4000, proof);
        assertEq(token.balanceOf(account), 4000, "claimed");
    }

    /* PUSH */

    function test_push_pays_each_row_and_skips_whom_the_token_refuses() public {
        Distribution d = _make(DistributionKind.PUSH);
        vm.recordLogs();
        assertEq(_push(d, 0, 5), 4, "paid");
        assertEq(token.balanceOf(alice), 1100, "alice");
        assertEq(token.balanceOf(address(0xDD)), 400, "row 3");
        assertEq(token.balanceOf(stranger), 0, "not verified");
        assertTrue(d.isPaid(3), "bit");
        assertTrue(!d.isPaid(4), "a skipped row stays open");
        assertEq(d.pushed(), 1000, "pushed");
        assertEq(vm.getRecordedLogs().length, 9, "a transfer and an event per row, one skip");
    }

    function test_push_resumes_after_a_skip_and_passes_over_what_is_paid() public {
        Distribution d = _make(DistributionKind.PUSH);
        _push(d, 2, 3);
        _investor(stranger, DE);
        assertEq(_push(d, 0, 5), 3, "two new rows and the cured one");
        assertEq(token.balanceOf(carol), 300, "carol once");
        assertEq(token.balanceOf(stranger), 500, "cured");
        assertEq(d.pushed(), 1500, "pushed");
        assertEq(_push(d, 0, 5), 0, "nothing left");
    }

    function test_push_keeps_the_reason_of_a_skip() public {
        Distribution d = _make(DistributionKind.PUSH);
        token.setAddressFrozen(bob, true);
        bytes memory reason =
            abi.encodeWithSelector(ComplianceRefused.selector, address(token), ReasonCodes.RECIPIENT_FROZEN);
        vm.expectEmit(true, true, false, true, address(d));
        emit IDistribution.PushSkipped(1, bob, reason);
        _push(d, 1, 1);
    }

    /// @dev A gas estimate searches for the least gas that does not revert: whatever it finds must pay whom the token takes.
    function testFuzz_push_no_amount_of_gas_skips_a_good_row(uint256 gas) public {
        gas = bound(gas, 30_000, 900_000);
        Distribution d = _make(DistributionKind.PUSH);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(tree, 0, 5);
        (bool ok,) = address(d).call{gas: gas}(abi.encodeCall(IDistribution.push, (_slice(0, 5), proof, flags)));
        if (!ok) return;
        for (uint256 i; i < 4; ++i) {
            assertTrue(d.isPaid(i), "skipped for want of gas");
        }
    }

    function test_push_reverts_when_a_row_is_starved() public {
        Distribution d = _make(DistributionKind.PUSH);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(tree, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.BatchOutOfGas.selector, 0));
        d.push{gas: 85_000}(_slice(0, 1), proof, flags);
    }

    function test_push_respects_the_cap() public {
        DistributionTerms memory terms = _distributionTerms(DistributionKind.PUSH, tree[0]);
        terms.cap = 350;
        Distribution d = _distribution(terms, 1500);
        _push(d, 0, 2);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(tree, 2, 1);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.CapExceeded.selector, 350, 600));
        d.push(_slice(2, 1), proof, flags);
    }

    function test_push_of_an_empty_batch_pays_nobody() public {
        Distribution d = _make(DistributionKind.PUSH);
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = tree[0];
        assertEq(d.push(new Recipient[](0), proof, new bool[](0)), 0, "paid");
    }

    function test_push_refuses_a_row_that_is_not_on_the_list() public {
        Distribution d = _make(DistributionKind.PUSH);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(tree, 0, 2);
        Recipient[] memory part = _slice(0, 2);
        part[1].amount += 1;
        vm.expectRevert(IDistribution.ProofInvalid.selector);
        d.push(part, proof, flags);
    }

    function test_push_is_for_the_sale_role_within_the_window() public {
        Distribution d = _make(DistributionKind.PUSH);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(tree, 0, 1);
        _expectMissingRole(alice, AssetRoles.SALE);
        vm.prank(alice);
        d.push(_slice(0, 1), proof, flags);
        vm.warp(NOW - 1);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.WindowNotOpen.selector, NOW));
        d.push(_slice(0, 1), proof, flags);
        vm.warp(NOW + 30 * DAY);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.WindowClosed.selector, NOW + 30 * DAY));
        d.push(_slice(0, 1), proof, flags);
    }

    function test_each_kind_has_its_own_way() public {
        Distribution push = _make(DistributionKind.PUSH);
        bytes32[] memory one = Merkle.proof(tree, 0);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.WrongKind.selector, DistributionKind.PUSH));
        vm.prank(alice);
        push.claim(0, alice, 100, one);
        Distribution claim =
            Distribution(addons.createDistribution("claim", _distributionTerms(DistributionKind.CLAIM, tree[0])));
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(tree, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.WrongKind.selector, DistributionKind.CLAIM));
        claim.push(_slice(0, 1), proof, flags);
    }

    /* CLAIM */

    function test_claim_pays_the_account_once() public {
        Distribution d = _make(DistributionKind.CLAIM);
        _claimRow(d, 1, bob);
        assertEq(token.balanceOf(bob), 1200, "paid");
        bytes32[] memory proof = Merkle.proof(tree, 1);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.AlreadyPaid.selector, 1));
        vm.prank(bob);
        d.claim(1, bob, 200, proof);
    }

    function test_claim_is_for_the_account_or_its_successor() public {
        Distribution d = _make(DistributionKind.CLAIM);
        bytes32[] memory proof = Merkle.proof(tree, 1);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.NotRecipient.selector, alice, bob));
        vm.prank(alice);
        d.claim(1, bob, 200, proof);
        address next = address(0xB1);
        registry.recover(bob, next);
        _claimRow(d, 1, next);
        assertEq(token.balanceOf(next), 200, "successor");
    }

    function test_claim_refuses_a_wrong_proof_and_a_closed_window() public {
        Distribution d = _make(DistributionKind.CLAIM);
        bytes32[] memory proof = Merkle.proof(tree, 0);
        vm.expectRevert(IDistribution.ProofInvalid.selector);
        vm.prank(bob);
        d.claim(1, bob, 200, proof);
        vm.warp(NOW + 30 * DAY);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.WindowClosed.selector, NOW + 30 * DAY));
        vm.prank(alice);
        d.claim(0, alice, 100, proof);
    }

    function test_refused_claim_can_be_repeated_when_cured() public {
        Distribution d = _make(DistributionKind.CLAIM);
        bytes32[] memory proof = Merkle.proof(tree, 4);
        vm.expectRevert();
        vm.prank(stranger);
        d.claim(4, stranger, 500, proof);
        _investor(stranger, DE);
        _claimRow(d, 4, stranger);
        assertEq(token.balanceOf(stranger), 500, "paid");
    }

    /* VESTING */

    function test_vesting_runs_from_the_claim_with_a_cliff() public {
        Distribution d = _make(DistributionKind.VESTING);
        vm.warp(NOW + 5 * DAY);
        _claimRow(d, 1, bob);
        Grant memory grant = d.grantOf(1);
        assertEq(grant.account, bob, "grant");
        assertEq(grant.amount, 200, "amount");
        assertEq(d.owed(), 200, "owed");
        vm.warp(NOW + 15 * DAY - 1);
        assertEq(d.releasable(1), 0, "before the cliff");
        vm.expectRevert(IDistribution.NothingDue.selector);
        d.release(_one(1));
        vm.warp(NOW + 15 * DAY);
        d.release(_one(1));
        assertEq(token.balanceOf(bob), 1020, "a tenth, sent by anybody");
        vm.warp(NOW + 500 * DAY);
        d.release(_one(1));
        assertEq(token.balanceOf(bob), 1200, "all");
        assertEq(d.owed(), 0, "nothing owed");
        vm.expectRevert(IDistribution.NothingDue.selector);
        d.release(_one(1));
    }

    function testFuzz_vesting_never_releases_more_than_its_share(uint256 first, uint256 second) public {
        Distribution d = _make(DistributionKind.VESTING);
        _claimRow(d, 3, address(0xDD));
        uint256 start = NOW;
        first = bound(first, 0, 120 days);
        second = bound(second, first, 200 days);
        vm.warp(start + first);
        if (_share(400, first) == 0) vm.expectRevert(IDistribution.NothingDue.selector);
        d.release(_one(3));
        assertEq(token.balanceOf(address(0xDD)), _share(400, first), "first");
        vm.warp(start + second);
        if (_share(400, second) == _share(400, first)) vm.expectRevert(IDistribution.NothingDue.selector);
        d.release(_one(3));
        assertEq(token.balanceOf(address(0xDD)), _share(400, second), "second");
    }

    function _share(uint256 amount, uint256 elapsed) private pure returns (uint256) {
        if (elapsed < 10 days) return 0;
        return elapsed >= 100 days ? amount : amount * elapsed / 100 days;
    }

    function test_vesting_pays_the_successor() public {
        Distribution d = _make(DistributionKind.VESTING);
        _claimRow(d, 1, bob);
        address next = address(0xB1);
        registry.recover(bob, next);
        vm.warp(NOW + 50 * DAY);
        d.release(_one(1));
        assertEq(token.balanceOf(next), 100, "successor");
    }

    function test_vesting_starts_only_when_it_is_funded() public {
        DistributionTerms memory terms = _distributionTerms(DistributionKind.VESTING, tree[0]);
        Distribution d = _distribution(terms, 250);
        _claimRow(d, 1, bob);
        bytes32[] memory proof = Merkle.proof(tree, 0);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.Underfunded.selector, 300, 250));
        vm.prank(alice);
        d.claim(0, alice, 100, proof);
    }

    function test_release_needs_a_grant() public {
        Distribution d = _make(DistributionKind.VESTING);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.GrantUnknown.selector, 2));
        d.release(_one(2));
        vm.expectRevert(abi.encodeWithSelector(IDistribution.GrantUnknown.selector, 2));
        d.releasable(2);
    }

    /* LEFTOVERS */

    function test_leftovers_return_only_after_the_window() public {
        Distribution d = _make(DistributionKind.CLAIM);
        vm.warp(NOW + 30 * DAY - 1);
        vm.expectRevert(abi.encodeWithSelector(IDistribution.WindowNotClosed.selector, NOW + 30 * DAY));
        d.withdraw(address(token));
        vm.warp(NOW + 30 * DAY);
        _expectMissingRole(alice, AssetRoles.SALE);
        vm.prank(alice);
        d.withdraw(address(token));
        assertEq(d.withdraw(address(token)), 1500, "all");
        assertEq(token.balanceOf(vault), 1500, "to the address of the terms");
    }

    function test_leftovers_leave_started_vestings_alone() public {
        Distribution d = _make(DistributionKind.VESTING);
        _claimRow(d, 1, bob);
        vm.warp(NOW + 30 * DAY);
        d.withdraw(address(token));
        assertEq(token.balanceOf(address(d)), 200, "bob's");
        vm.warp(NOW + 100 * DAY);
        d.release(_one(1));
        assertEq(token.balanceOf(bob), 1200, "paid in full");
    }

    function test_other_currencies_leave_at_any_time() public {
        Distribution d = _make(DistributionKind.VESTING);
        (AssetToken other,) = _asset("OTHER", new RuleConfig[](0));
        other.mint(address(d), 7);
        d.withdraw(address(other));
        assertEq(other.balanceOf(vault), 7, "payout received as a holder");
    }

    /* CREATION */

    function test_creation_is_at_the_predicted_address_and_once() public {
        DistributionTerms memory terms = _distributionTerms(DistributionKind.CLAIM, tree[0]);
        address expected = addons.predictDistribution(address(this), "one", terms);
        assertEq(addons.createDistribution("one", terms), expected, "predicted");
        assertEq(Distribution(expected).asset(), address(token), "asset");
        assertEq(Distribution(expected).terms().roots[0], tree[0], "root");
        vm.expectRevert(abi.encodeWithSelector(IAddonFactory.AddonExists.selector, expected));
        addons.createDistribution("one", terms);
    }

    /* A LIST IN PARTS */

    /// @dev Rows 0 and 1 in one tree, 2 and 3 in the next, 4 in the last.
    function _inParts(DistributionKind kind) private returns (Distribution made, bytes32[][] memory trees) {
        trees = new bytes32[][](3);
        DistributionTerms memory terms = _distributionTerms(kind, 0);
        terms.roots = new bytes32[](3);
        terms.rowsPerRoot = 2;
        for (uint256 part; part < 3; ++part) {
            trees[part] = Merkle.build(_part(part));
            terms.roots[part] = trees[part][0];
        }
        made = _distribution(terms, 10_000);
        assertEq(keccak256(abi.encode(made.terms())), keccak256(abi.encode(terms)), "terms");
    }

    function _part(uint256 part) private view returns (Recipient[] memory few) {
        few = new Recipient[](part == 2 ? 1 : 2);
        for (uint256 i; i < few.length; ++i) {
            few[i] = rows[2 * part + i];
        }
    }

    function test_claim_from_a_list_in_parts() public {
        (Distribution d, bytes32[][] memory trees) = _inParts(DistributionKind.CLAIM);
        for (uint256 i; i < 4; ++i) {
            vm.prank(rows[i].account);
            d.claim(i, rows[i].account, rows[i].amount, Merkle.proof(trees[i / 2], i % 2));
            assertTrue(d.isPaid(i), "paid");
        }
    }

    function test_a_row_counts_in_its_own_part_only() public {
        DistributionTerms memory terms = _distributionTerms(DistributionKind.CLAIM, 0);
        (terms.roots, terms.rowsPerRoot) = (new bytes32[](2), 2);
        bytes32[] memory all = Merkle.build(rows);
        (terms.roots[0], terms.roots[1]) = (all[0], all[0]);
        Distribution d = _distribution(terms, 10_000);
        // Row 4 belongs to a third part, which there is not; no other part pays it.
        bytes32[] memory proof = Merkle.proof(all, 4);
        vm.expectRevert(IDistribution.ProofInvalid.selector);
        vm.prank(rows[4].account);
        d.claim(4, rows[4].account, rows[4].amount, proof);
    }

    function test_push_takes_rows_of_one_part() public {
        (Distribution d, bytes32[][] memory trees) = _inParts(DistributionKind.PUSH);
        (bytes32[] memory proof, bool[] memory flags) = Merkle.multiProof(trees[1], 0, 2);
        assertEq(d.push(_part(1), proof, flags), 2, "paid");
        assertTrue(d.isPaid(2) && d.isPaid(3), "rows 2 and 3");
    }

    function test_push_across_parts_is_refused() public {
        (Distribution d, bytes32[][] memory trees) = _inParts(DistributionKind.PUSH);
        Recipient[] memory mixed = new Recipient[](2);
        (mixed[0], mixed[1]) = (rows[1], rows[2]);
        vm.expectRevert(IDistribution.ProofInvalid.selector);
        d.push(mixed, new bytes32[](0), new bool[](1));
        assertEq(trees.length, 3, "parts");
    }

    function test_parts_must_make_sense() public {
        DistributionTerms memory terms = _distributionTerms(DistributionKind.CLAIM, tree[0]);
        terms.rowsPerRoot = 2;
        _refuse(terms, "rowsPerRoot");
        (terms.roots, terms.rowsPerRoot) = (new bytes32[](2), 0);
        (terms.roots[0], terms.roots[1]) = (tree[0], tree[0]);
        _refuse(terms, "rowsPerRoot");
        terms.roots = new bytes32[](0);
        _refuse(terms, "roots");
        terms.roots = new bytes32[](257);
        _refuse(terms, "roots");
    }

    function test_creation_is_for_sellers_of_an_asset() public {
        DistributionTerms memory terms = _distributionTerms(DistributionKind.CLAIM, tree[0]);
        _expectMissingRole(alice, AssetRoles.SALE);
        vm.prank(alice);
        addons.createDistribution("one", terms);
        terms.token = address(this);
        vm.expectRevert(abi.encodeWithSelector(IAddonFactory.NotAnAsset.selector, address(this)));
        addons.createDistribution("one", terms);
    }

    function test_terms_must_make_sense() public {
        DistributionTerms memory terms = _distributionTerms(DistributionKind.CLAIM, tree[0]);
        terms.leftoverTo = address(0);
        _refuse(terms, "leftoverTo");
        terms = _distributionTerms(DistributionKind.CLAIM, 0);
        _refuse(terms, "roots");
        terms = _distributionTerms(DistributionKind.CLAIM, tree[0]);
        terms.end = terms.start;
        _refuse(terms, "end");
        (terms.start, terms.end) = (NOW - 2, NOW);
        _refuse(terms, "end");
        terms = _distributionTerms(DistributionKind.CLAIM, tree[0]);
        terms.duration = 1;
        _refuse(terms, "duration");
        terms = _distributionTerms(DistributionKind.VESTING, tree[0]);
        terms.duration = 0;
        _refuse(terms, "duration");
        terms = _distributionTerms(DistributionKind.VESTING, tree[0]);
        terms.cliff = terms.duration + 1;
        _refuse(terms, "cliff");
        terms = _distributionTerms(DistributionKind.CLAIM, tree[0]);
        terms.cap = 1;
        _refuse(terms, "cap");
    }

    function _refuse(DistributionTerms memory terms, bytes32 field) private {
        _expectInvalidTerms(field);
        addons.createDistribution("bad", terms);
    }

    function test_a_token_that_says_no_without_reverting_is_skipped() public {
        NayToken nay = new NayToken();
        DistributionTerms memory terms = _distributionTerms(DistributionKind.PUSH, tree[0]);
        terms.token = address(nay);
        Distribution d =
            Distribution(Clones.cloneWithImmutableArgs(addons.DISTRIBUTION(), DistributionArgs.encode(terms)));
        vm.expectEmit(true, true, false, true, address(d));
        emit IDistribution.PushSkipped(0, alice, "");
        assertEq(_push(d, 0, 1), 0, "nobody is paid");
        assertTrue(!d.isPaid(0), "the row stays open");
        assertEq(d.pushed(), 0, "and nothing counts against the cap");
    }
}

/// @notice A token that refuses by its answer, as some old ones do.
contract NayToken {
    function has(address, uint256) external pure returns (bool) {
        return true;
    }

    function transfer(address, uint256) external pure returns (bool) {
        return false;
    }
}
