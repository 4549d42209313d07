// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {Settlement} from "../src/Settlement.sol";
import {HashKind, Leg, SettlementStatus, Terms} from "../src/interfaces/ISettlement.sol";
import {Currency, SettlementFixture} from "./SettlementFixture.sol";
import {TestBase} from "./Vm.sol";

/// @notice Random steps through six settlements of three parties: an asset, a currency, some with a secret.
contract SettlementWalk is TestBase {
    Settlement private immutable SETTLEMENT;
    AssetToken private immutable TOKEN;
    Currency private immutable CASH;
    bytes32 private immutable SECRET;
    address[] private _parties;
    Terms[] private _terms;

    /// What each sender has locked and not got back, by settlement.
    mapping(uint256 trade => mapping(address sender => uint256)) public cashLocked;
    mapping(uint256 trade => bool) public revealed;
    mapping(uint256 trade => bool) public broken;
    /// Noted, not asserted: a step that reverts is no finding, and is undone.
    bool public takenUnlocked;
    bool public committedCameBack;

    constructor(Settlement settlement, AssetToken token, Currency cash, bytes32 secret, address[] memory parties) {
        (SETTLEMENT, TOKEN, CASH, SECRET) = (settlement, token, cash, secret);
        _parties = parties;
    }

    function add(Terms calldata terms) external {
        _terms.push(terms);
        SETTLEMENT.create(terms);
    }

    function count() external view returns (uint256) {
        return _terms.length;
    }

    function termsOf(uint256 trade) external view returns (Terms memory) {
        return _terms[trade];
    }

    function approve(uint256 trade, uint256 who) external {
        _approve(trade % _terms.length, who);
    }

    /// Steps of a walk that is random alone seldom lock a whole settlement.
    function approveAll(uint256 trade) external {
        for (uint256 who; who < _parties.length; ++who) {
            _approve(trade % _terms.length, who);
        }
    }

    function _approve(uint256 trade, uint256 who) private {
        address sender = _parties[who % _parties.length];
        uint256 before = CASH.balanceOf(sender);
        vm.startPrank(sender);
        CASH.approve(address(SETTLEMENT), type(uint256).max);
        TOKEN.approve(address(SETTLEMENT), type(uint256).max);
        try SETTLEMENT.approve(_terms[trade]) {
            cashLocked[trade][sender] = before - CASH.balanceOf(sender);
        } catch {}
        vm.stopPrank();
        // The last approval of an automatic settlement executes it.
        _settled(trade);
    }

    function revoke(uint256 trade, uint256 who) external {
        trade %= _terms.length;
        address sender = _parties[who % _parties.length];
        vm.prank(sender);
        SETTLEMENT.revoke(_terms[trade]);
        cashLocked[trade][sender] = 0;
    }

    function vote(uint256 trade, uint256 who) external {
        vm.prank(_parties[who % _parties.length]);
        SETTLEMENT.voteCancel(_terms[trade % _terms.length]);
    }

    function withdrawVote(uint256 trade, uint256 who) external {
        vm.prank(_parties[who % _parties.length]);
        SETTLEMENT.withdrawVote(_terms[trade % _terms.length]);
    }

    function execute(uint256 trade) external {
        trade %= _terms.length;
        SETTLEMENT.execute(_terms[trade]);
        _settled(trade);
    }

    function reveal(uint256 trade) external {
        trade = _crossing(trade);
        bool locked = _everyLocalLegIsLocked(trade);
        SETTLEMENT.reveal(_terms[trade], SECRET);
        if (!locked) takenUnlocked = true;
        revealed[trade] = true;
        _settled(trade);
    }

    function deliver(uint256 trade, uint256 leg) external {
        trade = _crossing(trade);
        SETTLEMENT.deliver(_terms[trade], leg % 4);
        _settled(trade);
    }

    function startReclaim(uint256 trade) external {
        SETTLEMENT.startReclaim(_terms[trade % _terms.length]);
    }

    function reclaim(uint256 trade, uint256 who) external {
        trade %= _terms.length;
        address sender = _parties[who % _parties.length];
        SETTLEMENT.reclaim(_terms[trade], sender);
        if (revealed[trade]) committedCameBack = true;
        cashLocked[trade][sender] = 0;
    }

    function breakHold(uint256 trade, uint256 who) external {
        trade %= _terms.length;
        TOKEN.breakHold(address(SETTLEMENT), SETTLEMENT.idOf(_terms[trade]), _parties[who % _parties.length], 1, "walk");
        broken[trade] = true;
    }

    function freeze(uint256 who, bool yes) external {
        TOKEN.setAddressFrozen(_parties[who % _parties.length], yes);
    }

    function refuse(uint256 who, bool yes) external {
        CASH.refuse(_parties[who % _parties.length], yes);
    }

    function pay(uint256 from, uint256 to, uint256 amount) external {
        vm.prank(_parties[from % _parties.length]);
        TOKEN.transfer(_parties[to % _parties.length], amount % 300);
    }

    function wait_(uint256 seconds_, uint256 blocks) external {
        vm.warp(block.timestamp + seconds_ % 300);
        vm.roll(block.number + blocks % 10);
    }

    /// @dev Every second one has legs on another chain, and a secret.
    function _crossing(uint256 trade) private view returns (uint256) {
        return trade % (_terms.length / 2) * 2 + 1;
    }

    /// @dev As token and currency have it, not as the settlement tells it.
    function _everyLocalLegIsLocked(uint256 trade) private view returns (bool) {
        Terms memory terms = _terms[trade];
        for (uint256 i; i < terms.legs.length; ++i) {
            Leg memory leg = terms.legs[i];
            if (leg.chainId != 0) continue;
            uint256 locked = leg.asset == address(TOKEN)
                ? TOKEN.heldBy(address(SETTLEMENT), SETTLEMENT.idOf(terms), leg.from)
                : cashLocked[trade][leg.from];
            if (locked < leg.amount) return false;
        }
        return true;
    }

    /// @dev What was paid out is no longer anybody's lock. Netting pays a receiver all at once, so locks end per settlement.
    function _settled(uint256 trade) private {
        if (uint256(SETTLEMENT.status(_terms[trade])) != uint256(SettlementStatus.EXECUTED)) return;
        for (uint256 i; i < _parties.length; ++i) {
            cashLocked[trade][_parties[i]] = 0;
        }
    }
}

contract SettlementInvariants is SettlementFixture {
    SettlementWalk private _walk;
    address[] private _parties;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        token.mint(carol, 1000);
        cash.mint(carol, 10_000);
        _parties = [alice, bob, carol];
        _walk = new SettlementWalk(settlement, token, cash, SECRET, _parties);
        token.addAgent(address(_walk));
        for (uint256 i; i < 6; ++i) {
            Terms memory terms;
            if (i % 2 == 0) {
                Leg[] memory legs = new Leg[](3);
                legs[0] = Leg(address(token), alice, bob, 100 + i, 0);
                legs[1] = Leg(address(cash), bob, carol, 500, 0);
                legs[2] = Leg(address(cash), carol, bob, 200, 0);
                terms = _terms(legs);
                terms.autoExecute = i == 4;
            } else {
                terms = _crossChain(i == 1 ? HashKind.SHA256 : HashKind.KECCAK256);
            }
            terms.salt = bytes32(i);
            _walk.add(terms);
        }
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    function invariant_escrow_is_what_is_locked_and_not_yet_paid() public view {
        uint256 locked;
        for (uint256 t; t < _walk.count(); ++t) {
            Terms memory terms = _walk.termsOf(t);
            (,, uint32 delivered,,) = settlement.progress(settlement.idOf(terms));
            for (uint256 i; i < _parties.length; ++i) {
                locked += _walk.cashLocked(t, _parties[i]);
            }
            // A committed settlement that is not finished has paid the legs that are delivered.
            if (_walk.revealed(t) && _walk.cashLocked(t, bob) != 0 && delivered & 2 != 0) locked -= 50;
        }
        assertEq(cash.balanceOf(address(settlement)), locked, "escrow");
    }

    function invariant_no_secret_is_taken_while_a_local_leg_is_unlocked() public view {
        assertTrue(!_walk.takenUnlocked(), "a secret was taken");
    }

    function invariant_committed_amounts_never_come_back() public view {
        assertTrue(!_walk.committedCameBack(), "a committed amount came back");
    }

    function invariant_no_money_is_made_or_lost() public view {
        uint256 sum = cash.balanceOf(address(settlement));
        uint256 units;
        for (uint256 i; i < _parties.length; ++i) {
            sum += cash.balanceOf(_parties[i]);
            units += token.balanceOf(_parties[i]);
        }
        assertEq(sum, cash.totalSupply(), "currency");
        assertEq(units, token.totalSupply(), "asset");
        assertEq(token.balanceOf(address(settlement)), 0, "own assets never leave their holders for escrow");
    }

    function invariant_every_undelivered_asset_leg_of_a_lock_is_held() public view {
        for (uint256 t; t < _walk.count(); ++t) {
            if (_walk.broken(t)) continue;
            Terms memory terms = _walk.termsOf(t);
            bytes32 id = settlement.idOf(terms);
            (SettlementStatus stored, uint32 approvals, uint32 delivered,,) = settlement.progress(id);
            uint256 held = token.heldBy(address(settlement), id, alice);
            bool over = stored == SettlementStatus.EXECUTED || approvals & 1 == 0 || delivered & 1 != 0;
            assertEq(held, over ? 0 : terms.legs[0].amount, "hold");
        }
    }
}
