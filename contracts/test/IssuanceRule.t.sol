// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {AssetConfig, InitialMint} from "../src/interfaces/IAssetFactory.sol";
import {RuleConfig} from "../src/interfaces/ITokenCompliance.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {IssuanceLimit} from "../src/rules/IssuanceRule.sol";
import {RulesFixture} from "./RulesFixture.sol";
import {SettableFeed} from "./SettableFeed.sol";

contract IssuanceRuleTest is RulesFixture {
    uint256 private constant START = 1_800_000_000;
    SettableFeed private _feed;

    function setUp() public override {
        super.setUp();
        // 2.50 per whole token; the token has 2 decimals.
        _feed = new SettableFeed(8, 2.5e8);
    }

    function _bind(IssuanceLimit memory limit) private {
        _fresh(issuanceRule, _issuance(limit));
    }

    function _inFiat(IssuanceLimit memory limit) private view returns (IssuanceLimit memory) {
        (limit.feed, limit.maxAgeSeconds) = (address(_feed), 1 hours);
        return limit;
    }

    function _issued(uint256 index) private view returns (uint256) {
        (, uint256[] memory issued) = issuanceRule.paramsOf(address(compliance));
        return issued[index];
    }

    function _mintRefused(uint256 amount, bytes32 reason) private {
        _refused(address(0), alice, amount, issuanceRule, reason);
    }

    function test_live_cap_gives_room_back_on_burn() public {
        _bind(_liveCap(1000));
        token.mint(alice, 1000);
        _mintRefused(1, ReasonCodes.ISSUANCE_CAP_EXCEEDED);
        token.burn(alice, 400);
        _mintRefused(401, ReasonCodes.ISSUANCE_CAP_EXCEEDED);
        token.mint(alice, 400);
        _send(alice, bob, 1000);
    }

    function test_lifetime_counts_gross_and_what_was_issued_before() public {
        IssuanceLimit memory limit = _lifetime(1000);
        limit.issuedBefore = 300;
        _bind(limit);
        token.mint(alice, 700);
        token.burn(alice, 700);
        _mintRefused(1, ReasonCodes.ISSUANCE_LIFETIME_EXCEEDED);
        assertEq(_issued(0), 1000, "all of it");
    }

    function test_fixed_window_begins_again_on_the_second() public {
        _bind(_issuedWithin(1, 30 days, uint48(START), 100));
        token.mint(alice, 100);
        vm.warp(START + 30 days - 1);
        _mintRefused(1, ReasonCodes.ISSUANCE_WINDOW_EXCEEDED);
        vm.warp(START + 30 days);
        token.mint(alice, 100);
        _mintRefused(1, ReasonCodes.ISSUANCE_WINDOW_EXCEEDED);
    }

    function test_rolling_window() public {
        _bind(_issuedWithin(2, 365 days, 0, 100));
        token.mint(alice, 60);
        vm.warp(START + 300 days);
        token.mint(alice, 40);
        _mintRefused(1, ReasonCodes.ISSUANCE_WINDOW_EXCEEDED);
        vm.warp(START + 365 days);
        _mintRefused(61, ReasonCodes.ISSUANCE_WINDOW_EXCEEDED);
        token.mint(alice, 60);
    }

    function test_gross_raise_counts_the_value_of_the_day_of_issue() public {
        // At most 1000 of fiat in twelve months.
        _bind(_inFiat(_issuedWithin(2, 365 days, 0, 1000e18)));
        token.mint(alice, 200_00);
        assertEq(_issued(0), 500e18, "200 x 2.50");
        _feed.set(10e8);
        _mintRefused(50_01, ReasonCodes.ISSUANCE_WINDOW_EXCEEDED);
        token.mint(alice, 50_00);
        assertEq(_issued(0), 1000e18, "earlier value unchanged by the new price");
        token.burn(alice, 250_00);
        _mintRefused(1, ReasonCodes.ISSUANCE_WINDOW_EXCEEDED);
    }

    function test_live_value_follows_the_price_of_now() public {
        _bind(_inFiat(_liveCap(1000e18)));
        token.mint(alice, 300_00);
        _mintRefused(100_01, ReasonCodes.ISSUANCE_CAP_EXCEEDED);
        _feed.set(5e8);
        _mintRefused(1, ReasonCodes.ISSUANCE_CAP_EXCEEDED);
        _feed.set(1e8);
        token.mint(alice, 700_00);
    }

    function test_values_are_rounded_up() public {
        _feed.setDecimals(18);
        _feed.set(1);
        _bind(_inFiat(_lifetime(1)));
        // A hundredth of a token at the smallest price there is: more than nothing.
        token.mint(alice, 1);
        assertEq(_issued(0), 1, "rounded up");
        _mintRefused(1, ReasonCodes.ISSUANCE_LIFETIME_EXCEEDED);
    }

    function testFuzz_value_is_exact(uint256 amount, uint256 price, uint8 places) public {
        amount = bound(amount, 1, type(uint112).max);
        price = bound(price, 1, type(uint64).max);
        places = uint8(bound(places, 0, 18));
        _feed.setDecimals(places);
        _feed.set(int256(price));
        _bind(_inFiat(_lifetime(type(uint128).max)));
        (, bytes32 reason) = token.preview(address(0), alice, amount);
        uint256 unit = 10 ** (2 + uint256(places));
        // Small enough numbers to compute directly.
        uint256 value = (amount * price * 1e18 + unit - 1) / unit;
        assertTrue((reason == 0) == (value <= type(uint128).max), "fits");
        if (reason == 0) {
            token.mint(alice, amount);
            assertEq(_issued(0), value, "value");
        }
    }

    function test_absurd_values_are_over_every_limit_instead_of_overflowing() public {
        _feed.setDecimals(0);
        _feed.set(int256(uint256(type(uint128).max)));
        _bind(_inFiat(_liveCap(type(uint128).max)));
        _mintRefused(type(uint112).max, ReasonCodes.ISSUANCE_CAP_EXCEEDED);
    }

    function test_a_price_that_cannot_be_relied_on_stops_issuance() public {
        _bind(_inFiat(_lifetime(1000e18)));
        vm.warp(START + 1 hours);
        token.mint(alice, 1);
        vm.warp(START + 1 hours + 1);
        _mintRefused(1, ReasonCodes.ISSUANCE_PRICE_STALE);
        _feed.setAt(2e8, START + 2 hours);
        _mintRefused(1, ReasonCodes.ISSUANCE_PRICE_STALE);
        _feed.set(0);
        _mintRefused(1, ReasonCodes.ISSUANCE_PRICE_UNAVAILABLE);
        _feed.set(-1);
        _mintRefused(1, ReasonCodes.ISSUANCE_PRICE_UNAVAILABLE);
        _feed.set(int256(uint256(1 << 128)));
        _mintRefused(1, ReasonCodes.ISSUANCE_PRICE_UNAVAILABLE);
        _feed.set(1);
        _feed.setDecimals(19);
        _mintRefused(1, ReasonCodes.ISSUANCE_PRICE_UNAVAILABLE);
        _feed.setDecimals(8);
        _feed.breakDown(true, false);
        _mintRefused(1, ReasonCodes.ISSUANCE_PRICE_UNAVAILABLE);
        _feed.breakDown(false, true);
        _mintRefused(1, ReasonCodes.ISSUANCE_PRICE_UNAVAILABLE);
        // Transfers need no price.
        _send(alice, bob, 1);
    }

    function test_following_without_a_price_reverts_with_the_same_reason() public {
        IssuanceLimit memory limit = _inFiat(_lifetime(1000e18));
        issuanceRule.setParams(_issuance(limit));
        _feed.set(0);
        _expectRefusal(address(issuanceRule), ReasonCodes.ISSUANCE_PRICE_UNAVAILABLE);
        issuanceRule.moved(address(token), address(0), alice, 1);
    }

    function test_several_limits_hold_together() public {
        IssuanceLimit[] memory limits = new IssuanceLimit[](3);
        limits[0] = _liveCap(100);
        limits[1] = _issuedWithin(2, 1 days, 0, 60);
        limits[2] = _inFiat(_lifetime(5e18));
        _fresh(issuanceRule, abi.encode(limits));
        _mintRefused(101, ReasonCodes.ISSUANCE_CAP_EXCEEDED);
        _mintRefused(61, ReasonCodes.ISSUANCE_WINDOW_EXCEEDED);
        token.mint(alice, 60);
        vm.warp(START + 2 days);
        _mintRefused(30, ReasonCodes.ISSUANCE_PRICE_STALE);
        _feed.set(100e8);
        _mintRefused(30, ReasonCodes.ISSUANCE_LIFETIME_EXCEEDED);
        token.mint(alice, 3);
    }

    function test_new_parameters_keep_sums_of_the_same_measure_only() public {
        _bind(_lifetime(100));
        token.mint(alice, 100);
        IssuanceLimit[] memory limits = new IssuanceLimit[](2);
        limits[0] = _inFiat(_lifetime(100e18));
        limits[1] = _lifetime(150);
        compliance.setModuleParams(address(issuanceRule), abi.encode(limits));
        assertTrue(_issued(0) == 0 && _issued(1) == 100, "units go on, value starts");
        token.mint(alice, 50);
        _mintRefused(1, ReasonCodes.ISSUANCE_LIFETIME_EXCEEDED);
        compliance.removeModule(address(issuanceRule));
        compliance.addModule(address(issuanceRule), _issuance(_lifetime(10)));
        assertEq(_issued(0), 0, "a new binding counts anew");
    }

    function test_initial_mint_is_issuance_too() public {
        RuleConfig[] memory rules = new RuleConfig[](1);
        rules[0] = RuleConfig(address(issuanceRule), _issuance(_lifetime(10)));
        AssetConfig memory config = _config("INIT", rules);
        config.mints = new InitialMint[](1);
        config.mints[0] = InitialMint(alice, 10);
        AssetToken created = AssetToken(factory.create(config));
        (address module, bytes32 reason) = created.preview(address(0), alice, 1);
        assertEq(module, address(issuanceRule), "module");
        assertEq(reason, ReasonCodes.ISSUANCE_LIFETIME_EXCEEDED, "reason");
    }

    function test_unconfigured_refuses_issuance_and_follows_nothing() public {
        bytes32 reason = issuanceRule.check(_movement(address(0), bob, 1));
        assertEq(reason, ReasonCodes.RULE_NOT_CONFIGURED, "nobody");
        issuanceRule.moved(address(token), address(0), bob, 1);
        issuanceRule.moved(address(token), alice, bob, 1);
        (IssuanceLimit[] memory limits,) = issuanceRule.paramsOf(address(this));
        assertEq(limits.length, 0, "nothing");
    }

    function test_bad_parameters_are_refused() public {
        _invalid(issuanceRule, abi.encode(new IssuanceLimit[](0)), "limits");
        _invalid(issuanceRule, abi.encode(new IssuanceLimit[](5)), "limits");
        _invalid(issuanceRule, _issuance(_issuedWithin(0, 0, 0, 1)), "kind");
        _invalid(issuanceRule, _issuance(_issuedWithin(5, 0, 0, 1)), "kind");
        _invalid(issuanceRule, _issuance(_liveCap(0)), "max");
        _invalid(issuanceRule, _issuance(_issuedWithin(4, 1, 0, 1)), "window");
        _invalid(issuanceRule, _issuance(_issuedWithin(3, 0, 1, 1)), "window");
        _invalid(issuanceRule, _issuance(_issuedWithin(1, 0, 0, 1)), "window");
        _invalid(issuanceRule, _issuance(_issuedWithin(2, 1, 1, 1)), "window");
        IssuanceLimit memory limit = _liveCap(1);
        limit.issuedBefore = 1;
        _invalid(issuanceRule, _issuance(limit), "issuedBefore");
        limit = _liveCap(1);
        limit.feed = address(_feed);
        _invalid(issuanceRule, _issuance(limit), "maxAge");
        (limit.feed, limit.maxAgeSeconds) = (address(0), 1);
        _invalid(issuanceRule, _issuance(limit), "maxAge");
        limit.feed = stranger;
        _invalid(issuanceRule, _issuance(limit), "feed");
        (limit.feed) = address(_feed);
        _feed.setDecimals(19);
        _invalid(issuanceRule, _issuance(limit), "feed");
        _feed.breakDown(false, true);
        _invalid(issuanceRule, _issuance(limit), "feed");
        IssuanceLimit[] memory twice = new IssuanceLimit[](2);
        (twice[0], twice[1]) = (_liveCap(1), _liveCap(2));
        _invalid(issuanceRule, abi.encode(twice), "limits");
        _invalid(issuanceRule, hex"0102", "encoding");
        assertEq(issuanceRule.name(), "IssuanceRule", "name");
    }
}
