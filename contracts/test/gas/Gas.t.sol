// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../../src/AssetToken.sol";
import {TokenCompliance} from "../../src/TokenCompliance.sol";
import {RuleConfig} from "../../src/interfaces/ITokenCompliance.sol";
import {AssetConfig} from "../../src/interfaces/IAssetFactory.sol";
import {CountryRule} from "../../src/rules/CountryRule.sol";
import {Fixture} from "../Fixture.sol";

/// @notice Budgets of the design: whole transactions (isolated calls pay the 21,000 and the call data) between existing
/// holders with factory-made identities and one claim topic.
contract GasTest is Fixture {
    AssetToken private one;
    AssetToken private three;

    function setUp() public override {
        super.setUp();
        (one,) = _asset("ONE", _rules(1));
        (three,) = _asset("THREE", _rules(3));
        one.mint(alice, 1000);
        one.mint(bob, 1000);
        three.mint(alice, 1000);
        three.mint(bob, 1000);
    }

    /// @dev One or three rules, each a contract and parameters of its own, as the budgets mean them.
    function _rules(uint256 count) private returns (RuleConfig[] memory rules) {
        rules = new RuleConfig[](count);
        rules[0] = RuleConfig(address(countryRule), _countryParams(false, US));
        if (count == 1) return rules;
        rules[1] = RuleConfig(address(new CountryRule()), _countryParams(true, DE));
        rules[2] = RuleConfig(address(new CountryRule()), _countryParams(false, FR));
    }

    function _transfer(AssetToken asset, string memory name, uint256 budget) private {
        vm.prank(alice);
        asset.transfer(bob, 10);
        assertLe(vm.snapshotGasLastCall("budgets", name), budget, name);
    }

    function _mint(AssetToken asset, string memory name, uint256 budget) private {
        asset.mint(bob, 10);
        assertLe(vm.snapshotGasLastCall("budgets", name), budget, name);
    }

    function test_gas_transfer_without_rules() public {
        _transfer(token, "transfer.rules0.native", 95_000);
    }

    function test_gas_transfer_with_one_rule() public {
        _transfer(one, "transfer.rules1.native", 107_000);
    }

    function test_gas_transfer_with_three_rules() public {
        _transfer(three, "transfer.rules3.native", 125_000);
    }

    /// @dev Three rules of two kinds: the budget of three rules holds when one of them asks for a claim.
    function test_gas_transfer_with_two_country_rules_and_a_claim_rule() public {
        three.mint(alice, 1);
        address last = address(three.compliance());
        address[] memory modules = TokenCompliance(last).getModules();
        TokenCompliance(last).removeModule(modules[2]);
        TokenCompliance(last).addModule(address(claimRule), abi.encode(uint8(1), _policy(kyc)));
        _transfer(three, "transfer.rules3_with_claims.native", 125_000);
    }

    function test_gas_mint_without_rules() public {
        _mint(token, "mint.rules0", 95_000);
    }

    function test_gas_mint_with_one_rule() public {
        _mint(one, "mint.rules1", 107_000);
    }

    function test_gas_mint_with_three_rules() public {
        _mint(three, "mint.rules3", 130_000);
    }

    function test_gas_create_asset() public {
        AssetConfig memory config = _config("NEW", _rules(1));
        factory.create(config);
        assertLe(vm.snapshotGasLastCall("budgets", "create_asset"), 800_000, "create_asset");
    }
}
