// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IHolds} from "../src/interfaces/IHolds.sol";
import {HashKind, ISettlement, SettlementStatus, Terms} from "../src/interfaces/ISettlement.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {SettlementFixture} from "./SettlementFixture.sol";

/// @notice Settlements with external legs.
contract SettlementHashLockTest is SettlementFixture {
    function _reveal(HashKind kind) private {
        Terms memory terms = _crossChain(kind);
        _locked(terms);
        vm.expectRevert(ISettlement.SecretRequired.selector);
        settlement.execute(terms);
        vm.expectRevert(ISettlement.SecretMismatch.selector);
        settlement.reveal(terms, "guess");
        vm.prank(stranger);
        settlement.reveal(terms, SECRET);
        _assertStatus(terms, SettlementStatus.EXECUTED);
        assertEq(token.balanceOf(bob), 1400, "units");
        assertEq(cash.balanceOf(alice), 10_050, "cash");
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.EXECUTED));
        settlement.reveal(terms, SECRET);
    }

    function test_the_secret_settles_with_keccak256() public {
        _reveal(HashKind.KECCAK256);
    }

    function test_the_secret_settles_with_sha256() public {
        _reveal(HashKind.SHA256);
    }

    function test_nothing_to_reveal_without_external_legs() public {
        Terms memory terms = _delivery(1, 1);
        _locked(terms);
        vm.expectRevert(ISettlement.SecretMismatch.selector);
        settlement.reveal(terms, SECRET);
    }

    function test_an_armed_settlement_lets_nobody_back_out_alone() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        settlement.create(terms);
        _approve(terms, alice);
        vm.prank(alice);
        settlement.revoke(terms);
        _approve(terms, alice);
        _approve(terms, bob);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.APPROVED));
        vm.prank(alice);
        settlement.revoke(terms);
        vm.prank(alice);
        settlement.voteCancel(terms);
        _assertStatus(terms, SettlementStatus.APPROVED);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.AlreadyVoted.selector, alice));
        vm.prank(alice);
        settlement.voteCancel(terms);
        vm.prank(bob);
        settlement.voteCancel(terms);
        _assertStatus(terms, SettlementStatus.CANCELLED);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.CANCELLED));
        settlement.reveal(terms, SECRET);
    }

    function test_a_vote_that_is_withdrawn_does_not_count() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        bytes32 id = _locked(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotVoted.selector, alice));
        vm.prank(alice);
        settlement.withdrawVote(terms);
        vm.prank(alice);
        settlement.voteCancel(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotALocalParty.selector, carol));
        vm.prank(carol);
        settlement.withdrawVote(terms);
        vm.expectEmit(true, true, false, true, address(settlement));
        emit ISettlement.CancelVoteWithdrawn(id, alice);
        vm.prank(alice);
        settlement.withdrawVote(terms);
        (,,, uint64 votes,) = settlement.progress(id);
        assertEq(votes, 0, "votes");
        vm.prank(bob);
        settlement.voteCancel(terms);
        _assertStatus(terms, SettlementStatus.APPROVED);
        vm.prank(alice);
        settlement.voteCancel(terms);
        _assertStatus(terms, SettlementStatus.CANCELLED);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.CancelNotAllowed.selector, SettlementStatus.CANCELLED));
        vm.prank(alice);
        settlement.withdrawVote(terms);
    }

    function test_no_cancel_after_the_secret_is_out() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        _locked(terms);
        token.setAddressFrozen(bob, true);
        settlement.reveal(terms, SECRET);
        vm.expectRevert(
            abi.encodeWithSelector(ISettlement.CancelNotAllowed.selector, SettlementStatus.PARTLY_DELIVERED)
        );
        vm.prank(alice);
        settlement.voteCancel(terms);
    }

    function test_a_leg_that_cannot_move_is_owed_and_delivered_later() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        bytes32 id = _locked(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.APPROVED));
        settlement.deliver(terms, 0);
        token.setAddressFrozen(bob, true);
        settlement.reveal(terms, SECRET);
        _assertStatus(terms, SettlementStatus.PARTLY_DELIVERED);
        assertEq(cash.balanceOf(alice), 10_050, "the other leg moved");
        assertEq(token.heldBy(address(settlement), id, alice), 400, "no longer the sender's to use");

        vm.warp(CUTOFF + 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.PARTLY_DELIVERED));
        settlement.startReclaim(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.PARTLY_DELIVERED));
        settlement.reclaim(terms, alice);
        vm.expectRevert(
            abi.encodeWithSelector(
                ISettlement.LegNotCompliant.selector, 0, address(token), ReasonCodes.RECIPIENT_FROZEN
            )
        );
        settlement.deliver(terms, 0);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.AlreadyDelivered.selector, 1));
        settlement.deliver(terms, 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.LegNotLocal.selector, 2));
        settlement.deliver(terms, 2);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.LegNotLocal.selector, 3));
        settlement.deliver(terms, 3);
        token.setAddressFrozen(bob, false);
        vm.prank(stranger);
        settlement.deliver(terms, 0);
        _assertStatus(terms, SettlementStatus.EXECUTED);
        assertEq(token.balanceOf(bob), 1400, "delivered on lift");
    }

    function test_a_secret_commits_even_when_no_leg_can_move() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        _locked(terms);
        token.pause();
        cash.refuse(alice, true);
        settlement.reveal(terms, SECRET);
        _assertStatus(terms, SettlementStatus.COMMITTED);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.LegFailed.selector, 1, bytes("")));
        settlement.deliver(terms, 1);
        cash.refuse(alice, false);
        settlement.deliver(terms, 1);
        _assertStatus(terms, SettlementStatus.PARTLY_DELIVERED);
        token.unpause();
        settlement.deliver(terms, 0);
        _assertStatus(terms, SettlementStatus.EXECUTED);
    }

    function test_a_deliverable_leg_goes_to_the_receivers_successor() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        _locked(terms);
        token.pause();
        settlement.reveal(terms, SECRET);
        registry.recover(bob, NEW_WALLET);
        token.unpause();
        settlement.deliver(terms, 0);
        assertEq(token.balanceOf(NEW_WALLET), 400, "successor");
    }

    function test_the_secret_still_delivers_until_something_is_reclaimed() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        _locked(terms);
        vm.warp(CUTOFF + 100_000);
        vm.roll(500);
        settlement.startReclaim(terms);
        vm.roll(519);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.ReclaimTooEarly.selector, 520));
        settlement.reclaim(terms, alice);
        settlement.reveal(terms, SECRET);
        _assertStatus(terms, SettlementStatus.EXECUTED);
    }

    function test_after_the_first_reclaim_the_secret_is_worth_nothing_here() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        _locked(terms);
        vm.warp(CUTOFF);
        vm.roll(500);
        settlement.startReclaim(terms);
        vm.roll(520);
        settlement.reclaim(terms, alice);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.EXPIRED));
        settlement.reveal(terms, SECRET);
        settlement.reclaim(terms, bob);
        _assertStatus(terms, SettlementStatus.WITHDRAWN);
        assertEq(cash.balanceOf(bob), 10_000, "returned");
    }

    function test_a_broken_hold_keeps_the_secret_in() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        bytes32 id = _locked(terms);
        token.breakHold(address(settlement), id, alice, 1, "COURT_ORDER");
        vm.expectRevert(abi.encodeWithSelector(ISettlement.LegBreached.selector, 0));
        settlement.reveal(terms, SECRET);
        settlement.reclaim(terms, bob);
        assertEq(cash.balanceOf(bob), 10_000, "no need to wait for the cutoff");
        _assertStatus(terms, SettlementStatus.BREACHED);
    }

    function test_a_hold_broken_after_the_secret_is_out_shows() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        bytes32 id = _locked(terms);
        token.pause();
        settlement.reveal(terms, SECRET);
        token.breakHold(address(settlement), id, alice, 400, "COURT_ORDER");
        _assertStatus(terms, SettlementStatus.BREACHED);
        token.unpause();
        vm.expectRevert(
            abi.encodeWithSelector(
                ISettlement.LegFailed.selector,
                0,
                abi.encodeWithSelector(IHolds.HoldTooSmall.selector, address(settlement), id, alice, 0, 400)
            )
        );
        settlement.deliver(terms, 0);
    }
}
