// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {HashKind, ISettlement, SettlementStatus, Terms} from "../../src/interfaces/ISettlement.sol";
import {ReasonCodes} from "../../src/Refusals.sol";
import {SettlementFixture} from "../SettlementFixture.sol";

/// @notice secret_leaks_without_a_lock_on_funds: a hash-locked settlement that only counted approvals let a sender spend the funds meanwhile: the secret came out, and the local leg
/// could no longer execute. Here an approval is a lock, a reveal needs every lock, and a revealed secret is never lost.
contract SecretLeaksWithoutALockOnFundsTest is SettlementFixture {
    function test_approved_funds_can_be_spent_by_nobody_else() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        _locked(terms);
        _expectPreviewed(alice, bob, 601, address(token), ReasonCodes.FREE_BALANCE_TOO_LOW);
        vm.prank(alice);
        token.transfer(bob, 601);
        _expectRefusal(address(token), ReasonCodes.BALANCE_HELD);
        token.burn(alice, 601);
        vm.prank(alice);
        token.approve(address(settlement), 0);
        settlement.reveal(terms, SECRET);
        assertEq(token.balanceOf(bob), 1400, "moved");
    }

    function test_no_reveal_before_every_local_leg_is_locked() public {
        Terms memory terms = _crossChain(HashKind.KECCAK256);
        settlement.create(terms);
        _approve(terms, alice);
        vm.expectRevert(ISettlement.NotLocked.selector);
        settlement.reveal(terms, SECRET);
    }

    function test_a_failing_receiver_does_not_revert_a_reveal() public {
        Terms memory terms = _crossChain(HashKind.SHA256);
        _locked(terms);
        _revokeClaim(registry.identity(bob), kyc);
        settlement.reveal(terms, SECRET);
        _assertStatus(terms, SettlementStatus.PARTLY_DELIVERED);
    }
}
