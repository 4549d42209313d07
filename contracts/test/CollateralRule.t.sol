// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Movement} from "../src/interfaces/IRule.sol";
import {IERC735} from "../src/interfaces/IERC735.sol";
import {IIdentity} from "../src/interfaces/IIdentity.sol";
import {ClaimData} from "../src/libraries/ClaimData.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {RulesFixture} from "./RulesFixture.sol";
import {SettableFeed} from "./SettableFeed.sol";

contract CollateralRuleTest is RulesFixture {
    uint256 private constant START = 1_800_000_000;
    uint256 private _topic;

    function setUp() public override {
        super.setUp();
        _topic = topics.registerTopicScheme("collateral", "(uint256 amount)");
        uint256[] memory one = new uint256[](4);
        (one[0], one[1], one[2], one[3]) = (kyc, accredited, sanctioned, _topic);
        registry.updateIssuerClaimTopics(address(issuer), one);
    }

    function _attest(uint64 expiresAt, bytes memory payload) private returns (bytes memory data) {
        data = ClaimData.encode(expiresAt, payload);
        address asset = token.onchainID();
        bytes32 digest = ClaimData.digestOf(asset, _topic, data);
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(ISSUER_KEY, keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", digest)));
        vm.prank(vm.addr(ISSUER_KEY));
        IIdentity(asset).addClaim(_topic, 1, address(issuer), abi.encodePacked(r, s, v), data, "");
    }

    function _attest(uint256 amount) private {
        _attest(0, abi.encode(amount));
    }

    function _bind(uint32 ratioBps) private {
        _fresh(collateralRule, abi.encode(_topic, ratioBps, address(0), 0));
    }

    /// @dev A feed at 2.50 per whole token; the token has 2 decimals.
    function _bindInFiat(uint32 ratioBps) private returns (SettableFeed feed) {
        feed = new SettableFeed(8, 2.5e8);
        _fresh(collateralRule, abi.encode(_topic, ratioBps, address(feed), 1 hours));
    }

    function _mintRefused(uint256 amount, bytes32 reason) private {
        _refused(address(0), alice, amount, collateralRule, reason);
    }

    function test_mints_up_to_the_attested_amount() public {
        _bind(10_000);
        _mintRefused(1, ReasonCodes.COLLATERAL_MISSING);
        _attest(1000);
        token.mint(alice, 1000);
        _mintRefused(1, ReasonCodes.COLLATERAL_TOO_LOW);
        token.burn(alice, 10);
        token.mint(alice, 10);
        _attest(2000);
        token.mint(alice, 1000);
        // Less collateral stops mints, not holders.
        _attest(1);
        _send(alice, bob, 2000);
        _mintRefused(1, ReasonCodes.COLLATERAL_TOO_LOW);
    }

    function testFuzz_ratio(uint32 ratioBps, uint128 collateral, uint112 amount) public {
        vm.assume(ratioBps != 0 && amount != 0);
        _bind(ratioBps);
        _attest(collateral);
        (, bytes32 reason) = token.preview(address(0), alice, amount);
        bool enough = uint256(amount) * ratioBps <= uint256(collateral) * 10_000;
        assertEq(reason, enough ? ReasonCodes.OK : ReasonCodes.COLLATERAL_TOO_LOW, "amount x ratio <= collateral");
    }

    function test_any_amount_of_collateral_is_plenty() public {
        _bind(type(uint32).max);
        _attest(type(uint256).max);
        token.mint(alice, type(uint112).max);
    }

    function test_collateral_in_fiat_covers_what_the_supply_is_worth_now() public {
        SettableFeed feed = _bindInFiat(15_000);
        (,, address bound, uint32 maxAge) = collateralRule.paramsOf(address(compliance));
        assertTrue(bound == address(feed) && maxAge == 1 hours, "bound");
        // 10.00 tokens at 2.50, and half as much again.
        _attest(37.5e18);
        token.mint(alice, 1000);
        _mintRefused(1, ReasonCodes.COLLATERAL_TOO_LOW);
        feed.set(2.4e8);
        token.mint(alice, 41);
        _mintRefused(1, ReasonCodes.COLLATERAL_TOO_LOW);
        // A higher price stops mints, not holders.
        feed.set(100e8);
        _send(alice, bob, 1041);
        _mintRefused(1, ReasonCodes.COLLATERAL_TOO_LOW);
    }

    function testFuzz_collateral_in_fiat(uint32 ratioBps, uint128 collateral, uint112 amount, uint64 price) public {
        vm.assume(ratioBps != 0 && amount != 0 && price != 0);
        SettableFeed feed = _bindInFiat(ratioBps);
        feed.set(int256(uint256(price)));
        _attest(collateral);
        (, bytes32 reason) = token.preview(address(0), alice, amount);
        // Two decimals of the token, eight of the feed, eighteen of the value; rounded up.
        uint256 value = uint256(amount) * price * 1e8;
        bool enough = value * ratioBps <= uint256(collateral) * 10_000;
        assertEq(reason, enough ? ReasonCodes.OK : ReasonCodes.COLLATERAL_TOO_LOW, "value x ratio <= collateral");
    }

    function test_a_value_beyond_all_is_not_covered_by_any_collateral() public {
        SettableFeed feed = _bindInFiat(1);
        feed.setDecimals(0);
        feed.set(int256(uint256(type(uint128).max)));
        _attest(type(uint256).max);
        _mintRefused(type(uint112).max, ReasonCodes.COLLATERAL_TOO_LOW);
    }

    function test_a_price_that_cannot_be_relied_on_stops_mints() public {
        SettableFeed feed = _bindInFiat(10_000);
        _attest(1000e18);
        token.mint(alice, 1);
        vm.warp(block.timestamp + 1 hours + 1);
        _mintRefused(1, ReasonCodes.COLLATERAL_PRICE_STALE);
        feed.set(0);
        _mintRefused(1, ReasonCodes.COLLATERAL_PRICE_UNAVAILABLE);
        feed.set(1e8);
        feed.breakDown(true, false);
        _mintRefused(1, ReasonCodes.COLLATERAL_PRICE_UNAVAILABLE);
        // Transfers need no price.
        _send(alice, bob, 1);
    }

    function test_expired_or_revoked_collateral_does_not_count() public {
        _bind(10_000);
        bytes memory data = _attest(uint64(START + 1 days), abi.encode(1000));
        token.mint(alice, 1);
        vm.warp(START + 1 days);
        _mintRefused(1, ReasonCodes.COLLATERAL_MISSING);
        data = _attest(uint64(START + 3 days), abi.encode(1000));
        token.mint(alice, 1);
        address asset = token.onchainID();
        vm.prank(vm.addr(ISSUER_KEY));
        issuer.revokeClaim(ClaimData.digestOf(asset, _topic, data));
        _mintRefused(1, ReasonCodes.COLLATERAL_MISSING);
    }

    function test_untrusted_issuer_attests_nothing() public {
        _bind(10_000);
        _attest(1000);
        registry.removeTrustedIssuer(address(issuer));
        // Without a trusted issuer alice is not verified either; the rule answers for itself.
        Movement memory movement = _movement(address(0), alice, 1);
        vm.prank(address(compliance));
        bytes32 reason = collateralRule.check(movement);
        assertEq(reason, ReasonCodes.COLLATERAL_MISSING, "missing");
    }

    function test_payload_without_an_amount_is_malformed() public {
        _bind(10_000);
        _attest(0, "short");
        _mintRefused(1, ReasonCodes.COLLATERAL_MALFORMED);
    }

    function test_token_without_identity_has_no_collateral() public {
        _bind(10_000);
        token.setOnchainID(address(0));
        _mintRefused(1, ReasonCodes.COLLATERAL_MISSING);
    }

    /// @dev An identity of somebody else that passes the registry's check and then shows the rule more.
    function test_identity_cannot_show_the_rule_another_amount() public {
        _bind(10_000);
        _attest(10);
        address asset = token.onchainID();
        bytes32 id = ClaimData.claimId(address(issuer), _topic);
        (,,, bytes memory signature,,) = IERC735(asset).getClaim(id);
        vm.mockCall(
            asset,
            abi.encodeCall(IERC735.getClaim, (id)),
            abi.encode(_topic, 1, address(issuer), signature, ClaimData.encode(0, abi.encode(1000)), "")
        );
        _mintRefused(11, ReasonCodes.COLLATERAL_MISSING);
    }

    function test_transfers_are_not_judged() public {
        compliance.addModule(address(collateralRule), abi.encode(_topic, 10_000, address(0), 0));
        _send(alice, bob, 1);
        compliance.removeModule(address(collateralRule));
        (uint256 topic, uint32 ratioBps, address feed, uint32 maxAge) = collateralRule.paramsOf(address(compliance));
        assertTrue(topic == 0 && ratioBps == 0 && feed == address(0) && maxAge == 0, "forgotten");
    }

    function test_unconfigured_refuses_mints() public view {
        bytes32 reason = collateralRule.check(_movement(address(0), bob, 1));
        assertEq(reason, ReasonCodes.RULE_NOT_CONFIGURED, "nobody");
    }

    function test_bad_parameters_are_refused() public {
        _invalid(collateralRule, abi.encode(0, 1, address(0), 0), "topic");
        _invalid(collateralRule, abi.encode(1, 0, address(0), 0), "ratio");
        _invalid(collateralRule, abi.encode(1, uint256(1 << 32), address(0), 0), "encoding");
        _invalid(collateralRule, abi.encode(1, 1, address(0), 1), "maxAge");
        _invalid(collateralRule, abi.encode(1, 1, address(token), 0), "maxAge");
        _invalid(collateralRule, abi.encode(1, 1, alice, 1), "feed");
        SettableFeed feed = new SettableFeed(19, 1);
        _invalid(collateralRule, abi.encode(1, 1, address(feed), 1), "feed");
        assertEq(collateralRule.name(), "CollateralRule", "name");
    }
}
