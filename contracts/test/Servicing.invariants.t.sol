// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {IServicing, Payout} from "../src/interfaces/IServicing.sol";
import {AssetRoles} from "../src/Roles.sol";
import {TestBase} from "./Vm.sol";
import {AddonFixture} from "./addons/AddonFixture.sol";
import {Currency} from "./addons/Currencies.sol";

/// @notice Random funding, coupons, distributions, claims, transfers, sweeps and redemption while time passes, with books of its own.
contract ServicingWalk is TestBase {
    AssetToken private immutable TOKEN;
    IServicing private immutable S;
    Currency private immutable EURO;
    address[] private _holders;
    uint256 private _now = 1_800_000_000;
    uint48 private _recordDate;

    uint256 public funded;
    uint256 public swept;
    uint256 public paid;
    uint256 public redeemed;
    uint256[] public ids;

    constructor(AssetToken token, IServicing s, Currency euro, address[] memory holders) {
        (TOKEN, S, EURO, _holders) = (token, s, euro, holders);
        for (uint256 i; i < 4; ++i) {
            ids.push(i);
        }
    }

    function idCount() external view returns (uint256) {
        return ids.length;
    }

    function _holder(uint256 seed) private view returns (address) {
        return _holders[seed % _holders.length];
    }

    function _cash() private view returns (uint256 sum) {
        for (uint256 i; i < _holders.length; ++i) {
            sum += EURO.balanceOf(_holders[i]);
        }
    }

    function fund(uint256 amount) external {
        amount %= 30_000;
        EURO.mint(address(S), amount);
        funded += amount;
    }

    function transfer(uint256 from, uint256 to, uint256 amount) external {
        vm.prank(_holder(from));
        TOKEN.transfer(_holder(to), amount % 1500);
    }

    function announce(uint256 in_) external {
        _recordDate = uint48(_now + 1 + in_ % 10 days);
        TOKEN.addRecordDate(_recordDate);
    }

    function distribute(uint256 total) external {
        ids.push(S.distribute(address(EURO), _recordDate, total % 20_000));
    }

    function claim(uint256 who, uint256 which) external {
        uint256[] memory one = new uint256[](1);
        one[0] = ids[which % ids.length];
        uint256 before = _cash();
        S.claim(_holder(who), one);
        paid += _cash() - before;
    }

    function claimMany(uint256 which) external {
        uint256 before = _cash();
        S.claimMany(ids[which % ids.length], _holders);
        paid += _cash() - before;
    }

    function freeze(uint256 who, bool on) external {
        TOKEN.setAddressFrozen(_holder(who), on);
    }

    function sweep(uint256 amount) external {
        amount %= 20_000;
        S.sweep(address(EURO), amount);
        swept += amount;
    }

    function mature() external {
        S.mature();
    }

    function redeem(uint256 who, uint256 amount) external {
        uint256 before = _cash();
        vm.prank(_holder(who));
        S.redeem(amount % 1500);
        redeemed += _cash() - before;
    }

    function redeemFor() external {
        uint256 before = _cash();
        S.redeemFor(_holders);
        redeemed += _cash() - before;
    }

    function pass(uint256 seconds_) external {
        _now += seconds_ % 60 days;
        vm.warp(_now);
    }
}

/// forge-config: default.invariant.depth = 100
/// forge-config: ci.invariant.runs = 96
/// forge-config: ci.invariant.depth = 100
/// forge-config: fuzz.invariant.depth = 32
contract ServicingInvariants is AddonFixture {
    IServicing private _s;
    ServicingWalk private _walk;
    address[] private _holders;

    function setUp() public override {
        super.setUp();
        _investor(carol, DE);
        _holders = [alice, bob, carol];
        _s = _servicing(_servicingTerms());
        _s.schedule(_plan());
        _walk = new ServicingWalk(token, _s, euro, _holders);
        token.grant(address(_walk), AssetRoles.ALL);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    function invariant_money_is_conserved_and_reserves_are_there() public view {
        uint256 balance = euro.balanceOf(address(_s));
        assertEq(
            balance + _walk.paid() + _walk.redeemed() + _walk.swept(), _walk.funded(), "paid, swept or still there"
        );
        uint256 reserved;
        for (uint256 i; i < _walk.idCount(); ++i) {
            reserved += _consistent(_walk.ids(i));
        }
        assertLe(reserved, balance, "reserves are there");
        if (_s.isMatured()) {
            (, uint256 owed) = _s.coverage(address(euro));
            assertEq(owed, reserved + token.totalSupply() * 100, "reserves and redemption");
            assertLe(owed, balance, "are covered");
        }
    }

    /// @dev An opened payout's reserve is what its unpaid holders are due, and the fractions of all.
    function _consistent(uint256 id) private view returns (uint256) {
        Payout memory payout = _s.payoutOf(id);
        if (payout.currency == address(0)) return 0;
        uint256 due;
        uint256 units;
        for (uint256 i; i < _holders.length; ++i) {
            due += _s.due(id, _holders[i]);
            if (!_s.isPaid(id, _holders[i])) units += token.balanceAt(_holders[i], payout.recordDate);
        }
        assertEq(payout.unitsLeft, units, "units of unpaid holders");
        assertLe(due, payout.left, "everybody's due is reserved");
        assertLe(payout.left, due + _holders.length, "and no more than fractions besides");
        return payout.left;
    }
}
