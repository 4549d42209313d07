// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../../src/AssetToken.sol";
import {TokenCompliance} from "../../src/TokenCompliance.sol";
import {IRule} from "../../src/interfaces/IRule.sol";
import {ITokenCompliance, RuleConfig} from "../../src/interfaces/ITokenCompliance.sol";
import {ReasonCodes} from "../../src/Refusals.sol";
import {Fixture} from "../Fixture.sol";
import {CountingRule} from "../CountingRule.sol";
import {Vm} from "../Vm.sol";

/// @notice Traps of the ERC-3643 surface, one test each. Known defects of public contracts have files of their own beside this one.
contract Erc3643TrapsTest is Fixture {
    address private constant NEW_WALLET = address(0xA2);

    function _counting() private returns (AssetToken asset, CountingRule rule) {
        rule = new CountingRule();
        RuleConfig[] memory rules = new RuleConfig[](1);
        rules[0] = RuleConfig(address(rule), "");
        (asset,) = _asset("COUNT", rules);
        asset.mint(alice, 1000);
    }

    function test_mint_is_subject_to_canTransfer() public {
        compliance.addModule(address(countryRule), _countryParams(false, DE));
        _expectPreviewed(address(0), alice, 1, address(countryRule), ReasonCodes.COUNTRY_BLOCKED);
        token.mint(alice, 1);
    }

    function test_forced_transfer_skips_rules_pause_and_freezes() public {
        compliance.addModule(address(countryRule), _countryParams(false, DE));
        token.pause();
        token.setAddressFrozen(alice, true);
        token.setAddressFrozen(bob, true);
        token.freezePartialTokens(alice, 900);
        token.forcedTransfer(alice, bob, 300);
        assertEq(token.balanceOf(bob), 1300, "moved");
        assertEq(token.getFrozenTokens(alice), 700, "unfroze only what was missing");
    }

    function test_forced_transfer_still_needs_a_verified_recipient() public {
        (, bytes32 reason) = token.preview(alice, stranger, 1);
        _expectRefusal(address(registry), reason);
        token.forcedTransfer(alice, stranger, 1);
    }

    function test_forced_transfer_notifies_the_rules() public {
        (AssetToken asset, CountingRule rule) = _counting();
        asset.forcedTransfer(alice, bob, 5);
        assertEq(rule.transfers(), 1, "transferred");
        asset.burn(bob, 5);
        assertEq(rule.burns(), 1, "destroyed");
        assertEq(rule.mints(), 1, "created");
    }

    function test_forced_transfer_to_self_changes_nothing() public {
        (AssetToken asset, CountingRule rule) = _counting();
        asset.freezePartialTokens(alice, 800);
        asset.forcedTransfer(alice, alice, 900);
        assertEq(asset.balanceOf(alice), 1000, "balance");
        assertEq(asset.getFrozenTokens(alice), 800, "frozen");
        assertEq(rule.transfers(), 0, "no rule counts it");
    }

    function test_burn_recovery_and_forced_transfer_work_while_paused() public {
        token.pause();
        token.burn(alice, 1);
        token.forcedTransfer(alice, bob, 1);
        registry.recover(alice, NEW_WALLET);
        token.recoveryAddress(alice, NEW_WALLET, registry.identity(NEW_WALLET));
        assertEq(token.balanceOf(NEW_WALLET), 998, "recovered");
    }

    function test_recovery_events_are_in_the_indexed_form() public {
        registry.recover(alice, NEW_WALLET);
        address id = registry.identity(NEW_WALLET);
        vm.recordLogs();
        token.recoveryAddress(alice, NEW_WALLET, id);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bool seen;
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] == keccak256("RecoverySuccess(address,address,address)")) {
                seen = logs[i].topics.length == 4 && address(uint160(uint256(logs[i].topics[3]))) == id;
            }
        }
        assertTrue(seen, "RecoverySuccess indexed");
        vm.recordLogs();
        token.setName("Renamed");
        logs = vm.getRecordedLogs();
        assertEq(logs[0].topics.length, 4, "UpdatedTokenInformation indexed");
        assertEq(
            logs[0].topics[0],
            keccak256("UpdatedTokenInformation(string,string,uint8,string,address)"),
            "UpdatedTokenInformation"
        );
    }

    function test_revoked_claim_stops_the_next_transfer() public {
        address bobId = registry.identity(bob);
        vm.prank(alice);
        token.transfer(bob, 1);
        _revokeClaim(bobId, kyc);
        (address module, bytes32 reason) = token.preview(alice, bob, 1);
        assertEq(module, address(registry), "registry");
        _expectRefusal(module, reason);
        vm.prank(alice);
        token.transfer(bob, 1);
    }

    function test_only_the_token_feeds_the_rules() public {
        (AssetToken asset, CountingRule rule) = _counting();
        TokenCompliance its = TokenCompliance(address(asset.compliance()));
        vm.expectRevert(abi.encodeWithSelector(ITokenCompliance.NotToken.selector, address(this)));
        its.created(alice, 1);
        vm.expectRevert(ITokenCompliance.InvalidCall.selector);
        its.callModule(address(rule), abi.encodeCall(IRule.moved, (address(asset), alice, bob, 1)));
    }

    function test_at_most_25_modules() public {
        for (uint256 i; i < 25; ++i) {
            compliance.addModule(address(new CountingRule()), "");
        }
        address extra = address(new CountingRule());
        vm.expectRevert(ITokenCompliance.TooManyModules.selector);
        compliance.addModule(extra, "");
        vm.prank(alice);
        token.transfer(bob, 1);
    }
}
