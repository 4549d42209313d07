// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {TokenCompliance} from "../src/TokenCompliance.sol";
import {HolderLimitRule} from "../src/rules/HolderLimitRule.sol";
import {HoldingPeriodRule} from "../src/rules/HoldingPeriodRule.sol";
import {IMergedIdentityRegistry} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {RulesFixture} from "./RulesFixture.sol";
import {TestBase} from "./Vm.sol";

/// @notice Everything that moves tokens or changes who stands behind a wallet, in any order.
contract RuleWalk is TestBase {
    AssetToken private immutable TOKEN;
    TokenCompliance private immutable COMPLIANCE;
    HolderLimitRule private immutable LIMIT;
    HoldingPeriodRule private immutable PERIOD;
    address[] private _wallets;

    constructor(
        AssetToken token,
        TokenCompliance compliance,
        HolderLimitRule limit,
        HoldingPeriodRule period,
        address[] memory wallets
    ) {
        (TOKEN, COMPLIANCE, LIMIT, PERIOD) = (token, compliance, limit, period);
        _wallets = wallets;
    }

    function _pick(uint256 seed) private view returns (address) {
        return _wallets[seed % _wallets.length];
    }

    function transfer(uint256 from, uint256 to, uint256 amount) external {
        vm.prank(_pick(from));
        TOKEN.transfer(_pick(to), amount % 2000);
    }

    function transferAll(uint256 from, uint256 to) external {
        uint256 balance = TOKEN.balanceOf(_pick(from));
        vm.prank(_pick(from));
        TOKEN.transfer(_pick(to), balance);
    }

    function mint(uint256 to, uint256 amount) external {
        TOKEN.mint(_pick(to), amount % 1000);
    }

    function burn(uint256 from, uint256 amount) external {
        TOKEN.burn(_pick(from), amount % 1000);
    }

    function burnAll(uint256 from) external {
        TOKEN.burn(_pick(from), TOKEN.balanceOf(_pick(from)));
    }

    function force(uint256 from, uint256 to, uint256 amount) external {
        TOKEN.forcedTransfer(_pick(from), _pick(to), amount % 2000);
    }

    function recover(uint256 lost, uint256 next) external {
        address to = _pick(next);
        TOKEN.recoveryAddress(_pick(lost), to, address(TOKEN.identityRegistry().identity(to)));
    }

    function exempt(uint256 who, bool on, bool both) external {
        COMPLIANCE.callModule(address(LIMIT), abi.encodeCall(HolderLimitRule.setExempt, (_pick(who), on)));
        if (!both) return;
        COMPLIANCE.callModule(address(PERIOD), abi.encodeCall(HoldingPeriodRule.setExempt, (_pick(who), on)));
    }

    function sync(uint256 who) external {
        address[] memory wallets = new address[](1);
        wallets[0] = _pick(who);
        LIMIT.sync(address(COMPLIANCE), wallets);
    }

    function wait_(uint256 time) external {
        vm.warp(block.timestamp + time % 3 days);
    }
}

/// @notice What the counting rules believe is what the balances say, after every walk.
contract RuleInvariants is RulesFixture {
    address[] private _wallets;
    RuleWalk private _walk;

    function setUp() public override {
        super.setUp();
        // Bound to a token that has holders, so that meeting them is part of the walk.
        compliance.addModule(address(holderLimitRule), _holders(3, US, 1));
        compliance.addModule(address(holdingPeriodRule), abi.encode(2, 1));
        _wallets = [alice, alice2, bob, carol, dave];
        _walk = new RuleWalk(token, compliance, holderLimitRule, holdingPeriodRule, _wallets);
        token.addAgent(address(_walk));
        token.grant(address(_walk), 1);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_walk);
    }

    function invariant_holders_are_the_people_counted_wallets_belong_to() public view {
        uint256 people;
        for (uint256 i; i < _wallets.length; ++i) {
            (address holder, bool exempt) = holderLimitRule.walletOf(address(compliance), _wallets[i]);
            assertTrue(holder == address(0) || token.balanceOf(_wallets[i]) != 0, "counted wallets hold something");
            assertTrue(holder == address(0) || !exempt, "exempt wallets are not counted");
            bool first = holder != address(0);
            for (uint256 j; j < i && first; ++j) {
                (address other,) = holderLimitRule.walletOf(address(compliance), _wallets[j]);
                if (other == holder) first = false;
            }
            if (first) ++people;
        }
        (uint256 holders,) = holderLimitRule.holdersOf(address(compliance));
        assertEq(holders, people, "holders");
        (uint256 de,,) = holderLimitRule.holdersOfCountry(address(compliance), DE);
        (uint256 us,,) = holderLimitRule.holdersOfCountry(address(compliance), US);
        (uint256 fr,,) = holderLimitRule.holdersOfCountry(address(compliance), FR);
        assertEq(de + us + fr, people, "by country");
    }

    function invariant_lots_equal_the_balances_that_were_met() public view {
        address id = registry.identity(alice);
        uint256 both = token.balanceOf(alice) + token.balanceOf(alice2);
        assertLe(holdingPeriodRule.trackedOf(address(compliance), id), both, "alice");
        for (uint256 i = 2; i < _wallets.length; ++i) {
            uint256 balance = token.balanceOf(_wallets[i]);
            uint256 tracked = holdingPeriodRule.trackedOf(address(compliance), registry.identity(_wallets[i]));
            assertTrue(tracked == balance || tracked == 0, "all or, exempt or not met yet, nothing");
            assertLe(holdingPeriodRule.freeOf(address(compliance), _wallets[i]), balance, "free <= balance");
        }
    }
}
