// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../../src/AssetToken.sol";
import {AssetConfig} from "../../src/interfaces/IAssetFactory.sol";
import {RuleConfig} from "../../src/interfaces/ITokenCompliance.sol";
import {ReasonCodes} from "../../src/Refusals.sol";
import {IssuanceLimit} from "../../src/rules/IssuanceRule.sol";
import {RulesFixture} from "../RulesFixture.sol";
import {SettableFeed} from "../SettableFeed.sol";

/// @notice supply_limit_mixed_units_across_tokens: one sum for several tokens added up numbers of different decimals and prices.
contract SupplyLimitMixedUnitsTest is RulesFixture {
    function _token(string memory symbol, uint8 places, IssuanceLimit memory limit) private returns (AssetToken) {
        RuleConfig[] memory rules = new RuleConfig[](1);
        rules[0] = RuleConfig(address(issuanceRule), _issuance(limit));
        AssetConfig memory config = _config(symbol, rules);
        config.decimals = places;
        return AssetToken(factory.create(config));
    }

    function _full(AssetToken asset) private view {
        (, bytes32 reason) = asset.preview(address(0), alice, 1);
        assertEq(reason, ReasonCodes.ISSUANCE_LIFETIME_EXCEEDED, "full");
    }

    function test_each_token_has_its_own_sum() public {
        AssetToken cents = _token("CENTS", 2, _lifetime(100));
        AssetToken wei_ = _token("WEI", 18, _lifetime(100e18));
        wei_.mint(alice, 100e18);
        cents.mint(alice, 100);
        _full(cents);
        _full(wei_);
    }

    function test_values_in_fiat_mean_the_same_whatever_the_decimals() public {
        IssuanceLimit memory limit = _lifetime(300e18);
        (limit.feed, limit.maxAgeSeconds) = (address(new SettableFeed(8, 3e8)), 1 days);
        AssetToken cents = _token("CENTS", 2, limit);
        limit.feed = address(new SettableFeed(18, 3e18));
        AssetToken wei_ = _token("WEI", 18, limit);
        cents.mint(alice, 100_00);
        wei_.mint(alice, 100e18);
        _full(cents);
        _full(wei_);
    }
}
