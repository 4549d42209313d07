// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {HashKind, ISettlement, Leg, SettlementStatus, Terms} from "../src/interfaces/ISettlement.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {SettlementFixture} from "./SettlementFixture.sol";

/// @notice Settlements of local legs only. Those with a secret: `SettlementHashLock.t.sol`.
contract SettlementTest is SettlementFixture {
    /* CREATE */

    function test_delivery_against_payment() public {
        Terms memory terms = _delivery(100, 5000);
        bytes32 id = settlement.create(terms);
        assertEq(id, settlement.idOf(terms), "id");
        _assertStatus(terms, SettlementStatus.ACTIVE);
        _approve(terms, alice);
        assertEq(token.balanceOf(alice), 1000, "a hold leaves the tokens with their holder");
        assertEq(token.heldBy(address(settlement), id, alice), 100, "held");
        _approve(terms, bob);
        assertEq(cash.balanceOf(address(settlement)), 5000, "escrow");
        _assertStatus(terms, SettlementStatus.APPROVED);
        vm.prank(stranger);
        settlement.execute(terms);
        _assertStatus(terms, SettlementStatus.EXECUTED);
        assertEq(token.balanceOf(bob), 1100, "units");
        assertEq(cash.balanceOf(alice), 15_000, "price");
        assertEq(cash.balanceOf(address(settlement)), 0, "nothing stays");
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.EXECUTED));
        settlement.execute(terms);
    }

    function test_terms_that_are_refused() public {
        Terms memory terms = _delivery(1, 1);
        terms.cutoff = 1_800_000_000;
        _expectInvalid("cutoff", terms);
        _expectInvalid("legs", _terms(new Leg[](0)));
        _expectInvalid("legs", _terms(new Leg[](33)));
        terms = _delivery(0, 1);
        _expectInvalid("leg", terms);
        terms = _delivery(1, 1);
        terms.legs[0].to = alice;
        _expectInvalid("leg", terms);
        terms.legs[0].to = address(settlement);
        _expectInvalid("leg", terms);
        terms.legs[0].to = address(0);
        _expectInvalid("leg", terms);
        terms = _delivery(1, 1);
        terms.legs[0].asset = stranger;
        _expectInvalid("leg", terms);
        terms = _delivery(uint256(type(uint128).max) + 1, 1);
        _expectInvalid("leg", terms);
        terms = _delivery(1, 1);
        terms.hashlock = "surplus";
        _expectInvalid("hashlock", terms);
        terms.hashKind = HashKind.KECCAK256;
        _expectInvalid("hashlock", terms);
        terms = _crossChain(HashKind.KECCAK256);
        terms.hashlock = 0;
        _expectInvalid("hashlock", terms);
        terms.hashKind = HashKind.NONE;
        _expectInvalid("hashlock", terms);
        terms = _crossChain(HashKind.KECCAK256);
        terms.legs[2].chainId = uint64(block.chainid);
        _expectInvalid("chainId", terms);
        Leg[] memory far = new Leg[](1);
        far[0] = Leg(address(0xFA4), bob, alice, 7, FAR);
        _expectInvalid("legs", _terms(far));
    }

    function _expectInvalid(bytes32 field, Terms memory terms) private {
        vm.expectRevert(abi.encodeWithSelector(ISettlement.InvalidTerms.selector, field));
        settlement.create(terms);
    }

    function test_equal_terms_need_another_salt() public {
        Terms memory terms = _delivery(1, 1);
        bytes32 id = settlement.create(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.SettlementExists.selector, id));
        settlement.create(terms);
        terms.salt = "another";
        bytes32 other = settlement.idOf(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.SettlementUnknown.selector, other));
        settlement.approve(terms);
        settlement.create(terms);
    }

    /* APPROVE AND REVOKE */

    function test_only_local_senders_approve_once_and_in_time() public {
        Terms memory terms = _delivery(100, 5000);
        settlement.create(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotALocalSender.selector, carol));
        vm.prank(carol);
        settlement.approve(terms);
        _approve(terms, alice);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.AlreadyApproved.selector, alice));
        vm.prank(alice);
        settlement.approve(terms);
        vm.expectRevert(ISettlement.NotLocked.selector);
        settlement.execute(terms);
        vm.warp(CUTOFF);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.CutoffPassed.selector, CUTOFF));
        vm.prank(bob);
        settlement.approve(terms);
    }

    function test_the_token_may_refuse_a_lock() public {
        Terms memory terms = _delivery(100, 5000);
        settlement.create(terms);
        token.freezePartialTokens(alice, 950);
        vm.startPrank(alice);
        token.approve(address(settlement), 100);
        _expectRefusal(address(token), ReasonCodes.FREE_BALANCE_TOO_LOW);
        settlement.approve(terms);
        vm.stopPrank();
    }

    function test_currencies_that_do_not_arrive_whole_are_refused() public {
        Terms memory terms = _delivery(100, 5000);
        settlement.create(terms);
        cash.setFee(100);
        vm.startPrank(bob);
        cash.approve(address(settlement), 5000);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.CurrencyNotExact.selector, address(cash), 5000, 4950));
        settlement.approve(terms);
        vm.stopPrank();
    }

    function test_revoking_gives_everything_back() public {
        Terms memory terms = _delivery(100, 5000);
        bytes32 id = _locked(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotALocalSender.selector, carol));
        vm.prank(carol);
        settlement.revoke(terms);
        vm.prank(alice);
        settlement.revoke(terms);
        vm.prank(bob);
        settlement.revoke(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotApproved.selector, bob));
        vm.prank(bob);
        settlement.revoke(terms);
        assertEq(token.heldBy(address(settlement), id, alice), 0, "hold released");
        assertEq(cash.balanceOf(bob), 10_000, "escrow returned");
        _assertStatus(terms, SettlementStatus.ACTIVE);
        _approve(terms, bob);
        _approve(terms, alice);
        settlement.execute(terms);
    }

    function test_the_last_approval_executes_when_the_terms_say_so() public {
        Terms memory terms = _delivery(100, 5000);
        terms.autoExecute = true;
        _locked(terms);
        _assertStatus(terms, SettlementStatus.EXECUTED);
        assertEq(token.balanceOf(bob), 1100, "moved");
    }

    /* EXECUTE */

    function test_all_legs_or_none() public {
        Terms memory terms = _delivery(100, 5000);
        _locked(terms);
        cash.refuse(alice, true);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.LegFailed.selector, 1, bytes("")));
        settlement.execute(terms);
        assertEq(token.balanceOf(bob), 1000, "no partial state");
        cash.refuse(alice, false);
        compliance.addModule(address(countryRule), _countryParams(false, DE));
        vm.expectRevert(
            abi.encodeWithSelector(
                ISettlement.LegNotCompliant.selector, 0, address(countryRule), ReasonCodes.COUNTRY_BLOCKED
            )
        );
        settlement.execute(terms);
        compliance.removeModule(address(countryRule));
        vm.warp(CUTOFF);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.CutoffPassed.selector, CUTOFF));
        settlement.execute(terms);
    }

    function test_foreign_currencies_are_netted_and_own_assets_are_not() public {
        // Alice pays 1000 to Bob and gets 400 from him; Bob passes 300 units on that he gets.
        _investor(carol, DE);
        Leg[] memory legs = new Leg[](4);
        legs[0] = Leg(address(cash), alice, bob, 1000, 0);
        legs[1] = Leg(address(cash), bob, alice, 400, 0);
        legs[2] = Leg(address(token), alice, bob, 300, 0);
        legs[3] = Leg(address(token), bob, carol, 300, 0);
        Terms memory terms = _terms(legs);
        settlement.create(terms);
        vm.startPrank(alice);
        cash.approve(address(settlement), 600);
        token.approve(address(settlement), 300);
        settlement.approve(terms);
        vm.stopPrank();
        vm.startPrank(bob);
        token.approve(address(settlement), 300);
        settlement.approve(terms);
        vm.stopPrank();
        assertEq(cash.balanceOf(address(settlement)), 600, "the net is locked");
        settlement.execute(terms);
        assertEq(cash.balanceOf(alice), 9400, "alice");
        assertEq(cash.balanceOf(bob), 10_600, "bob");
        assertEq(token.balanceOf(carol), 300, "carol");
        assertEq(token.balanceOf(bob), 1000, "300 in, 300 out");
    }

    function test_a_recovered_receiver_is_paid_at_the_new_wallet() public {
        Terms memory terms = _delivery(100, 5000);
        _locked(terms);
        registry.recover(alice, NEW_WALLET);
        token.recoveryAddress(alice, NEW_WALLET, registry.identity(NEW_WALLET));
        settlement.execute(terms);
        assertEq(cash.balanceOf(NEW_WALLET), 5000, "price");
        assertEq(token.balanceOf(bob), 1100, "the hold followed the recovery");
    }

    /* CANCEL AND RECLAIM */

    function test_any_local_party_cancels_before_commitment() public {
        Terms memory terms = _delivery(100, 5000);
        _locked(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotALocalParty.selector, carol));
        vm.prank(carol);
        settlement.voteCancel(terms);
        vm.prank(bob);
        settlement.voteCancel(terms);
        _assertStatus(terms, SettlementStatus.CANCELLED);
        settlement.reclaim(terms, alice);
        settlement.reclaim(terms, bob);
        assertEq(token.heldOf(alice), 0, "released");
        assertEq(cash.balanceOf(bob), 10_000, "returned");
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotApproved.selector, bob));
        settlement.reclaim(terms, bob);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.CancelNotAllowed.selector, SettlementStatus.CANCELLED));
        vm.prank(alice);
        settlement.voteCancel(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.CANCELLED));
        vm.prank(alice);
        settlement.approve(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.WrongStatus.selector, SettlementStatus.CANCELLED));
        settlement.startReclaim(terms);
    }

    function test_an_expired_settlement_is_withdrawn_in_two_steps() public {
        Terms memory terms = _delivery(100, 5000);
        settlement.create(terms);
        _approve(terms, alice);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.CutoffNotReached.selector, CUTOFF));
        settlement.startReclaim(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.CutoffNotReached.selector, CUTOFF));
        settlement.reclaim(terms, alice);
        vm.warp(CUTOFF);
        _assertStatus(terms, SettlementStatus.EXPIRED);
        vm.expectRevert(ISettlement.ReclaimNotStarted.selector);
        settlement.reclaim(terms, alice);
        vm.roll(100);
        settlement.startReclaim(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.ReclaimAlreadyStarted.selector, 120));
        settlement.startReclaim(terms);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.ReclaimTooEarly.selector, 120));
        settlement.reclaim(terms, alice);
        vm.roll(120);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotApproved.selector, bob));
        settlement.reclaim(terms, bob);
        settlement.reclaim(terms, alice);
        _assertStatus(terms, SettlementStatus.WITHDRAWN);
        assertEq(token.heldOf(alice), 0, "free again");
    }

    function test_a_recovered_sender_gets_its_escrow_at_the_new_wallet() public {
        Terms memory terms = _delivery(100, 5000);
        _locked(terms);
        registry.recover(bob, NEW_WALLET);
        vm.prank(alice);
        settlement.voteCancel(terms);
        settlement.reclaim(terms, bob);
        assertEq(cash.balanceOf(NEW_WALLET), 5000, "the successor is paid");
    }

    function test_a_broken_hold_breaches_the_settlement_and_frees_the_others() public {
        Terms memory terms = _delivery(100, 5000);
        bytes32 id = _locked(terms);
        token.breakHold(address(settlement), id, alice, 60, "COURT_ORDER");
        _assertStatus(terms, SettlementStatus.BREACHED);
        vm.expectRevert();
        settlement.execute(terms);
        settlement.reclaim(terms, bob);
        assertEq(cash.balanceOf(bob), 10_000, "the other side is free at once");
        settlement.reclaim(terms, alice);
        assertEq(token.heldOf(alice), 0, "what was left of the hold");
        (SettlementStatus stored,,,,) = settlement.progress(id);
        assertEq(uint256(stored), uint256(SettlementStatus.BREACHED), "recorded");
    }

    function test_size_stays_in_budget() public view {
        assertLe(address(settlement).code.length, 12_288, "Settlement");
    }

    function testFuzz_a_ring_of_payments_pays_every_net(uint96[6] memory amounts) public {
        address[3] memory who = [alice, bob, carol];
        Leg[] memory legs = new Leg[](6);
        int256[3] memory nets;
        for (uint256 i; i < 6; ++i) {
            uint256 amount = bound(amounts[i], 1, 1000);
            (uint256 from, uint256 to) = (i % 3, (i + 1 + i / 3) % 3);
            legs[i] = Leg(address(cash), who[from], who[to], amount, 0);
            nets[from] -= int256(amount);
            nets[to] += int256(amount);
        }
        cash.mint(carol, 10_000);
        Terms memory terms = _terms(legs);
        settlement.create(terms);
        for (uint256 i; i < 3; ++i) {
            _approve(terms, who[i]);
        }
        settlement.execute(terms);
        for (uint256 i; i < 3; ++i) {
            assertEq(cash.balanceOf(who[i]), uint256(10_000 + nets[i]), "net");
        }
        assertEq(cash.balanceOf(address(settlement)), 0, "nothing stays");
    }
}
