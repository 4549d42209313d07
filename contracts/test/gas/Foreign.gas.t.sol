// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {AssetToken} from "../../src/AssetToken.sol";
import {RuleConfig} from "../../src/interfaces/ITokenCompliance.sol";
import {ClaimData} from "../../src/libraries/ClaimData.sol";
import {CountryRule} from "../../src/rules/CountryRule.sol";
import {Fixture} from "../Fixture.sol";
import {ForeignIdentity} from "../identity/IdentityFixture.sol";

/// @notice Transfers to a holder whose identity is not of our factory: its claim takes the full check every time.
contract ForeignGasTest is Fixture {
    AssetToken private one;
    AssetToken private three;

    function setUp() public override {
        super.setUp();
        ForeignIdentity foreign = new ForeignIdentity();
        bytes memory data = ClaimData.encode(0, "yes");
        bytes32 digest = ClaimData.digestOf(address(foreign), kyc, data);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(ISSUER_KEY, MessageHashUtils.toEthSignedMessageHash(digest));
        foreign.show(ClaimData.claimId(address(issuer), kyc), kyc, address(issuer), abi.encodePacked(r, s, v), data);
        registry.registerIdentity(carol, address(foreign), DE);
        RuleConfig[] memory rules = new RuleConfig[](1);
        rules[0] = RuleConfig(address(countryRule), _countryParams(false, US));
        (one,) = _asset("ONE", rules);
        rules = new RuleConfig[](3);
        rules[0] = RuleConfig(address(countryRule), _countryParams(false, US));
        rules[1] = RuleConfig(address(new CountryRule()), _countryParams(true, DE));
        rules[2] = RuleConfig(address(new CountryRule()), _countryParams(false, FR));
        (three,) = _asset("THREE", rules);
        AssetToken[3] memory assets = [token, one, three];
        for (uint256 i; i < 3; ++i) {
            assets[i].mint(alice, 1000);
            assets[i].mint(carol, 1000);
        }
    }

    function _transfer(AssetToken asset, string memory name, uint256 budget) private {
        vm.prank(alice);
        asset.transfer(carol, 10);
        assertLe(vm.snapshotGasLastCall("budgets_foreign", name), budget, name);
    }

    function test_gas_transfer_without_rules() public {
        _transfer(token, "transfer.rules0.foreign", 118_000);
    }

    function test_gas_transfer_with_one_rule() public {
        _transfer(one, "transfer.rules1.foreign", 130_000);
    }

    function test_gas_transfer_with_three_rules() public {
        _transfer(three, "transfer.rules3.foreign", 148_000);
    }
}
