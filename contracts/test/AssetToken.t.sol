// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetToken} from "../src/AssetToken.sol";
import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";
import {IAssetToken, TokenInit} from "../src/interfaces/IAssetToken.sol";
import {IAgentRole} from "../src/interfaces/IAgentRole.sol";
import {IERC173} from "../src/interfaces/IERC173.sol";
import {IERC3643} from "../src/interfaces/IERC3643.sol";
import {AssetTokenCustody} from "../src/token/AssetTokenCustody.sol";
import {AssetTokenGovernance} from "../src/token/AssetTokenGovernance.sol";
import {AssetRoles, Roles} from "../src/Roles.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {Fixture} from "./Fixture.sol";
import {Vm} from "./Vm.sol";

contract AssetTokenTest is Fixture {
    /* TRANSFERS */

    function test_transfer_moves_and_mints_nothing() public {
        vm.prank(alice);
        assertTrue(token.transfer(bob, 400), "transfer");
        assertEq(token.balanceOf(alice), 600, "alice");
        assertEq(token.balanceOf(bob), 1400, "bob");
        assertEq(token.totalSupply(), 2000, "supply");
    }

    function testFuzz_preview_agrees_with_transfer(uint256 amount, uint256 frozen, uint8 switches) public {
        amount = bound(amount, 0, 1500);
        token.freezePartialTokens(alice, bound(frozen, 0, 1000));
        if (switches & 1 != 0) token.pause();
        if (switches & 2 != 0) token.setAddressFrozen(alice, true);
        if (switches & 4 != 0) token.setAddressFrozen(bob, true);
        address to = switches & 8 != 0 ? stranger : bob;
        (, bytes32 reason) = token.preview(alice, to, amount);
        vm.prank(alice);
        (bool done,) = address(token).call(abi.encodeCall(token.transfer, (to, amount)));
        assertTrue(done == (reason == 0), "preview and enforcement agree");
    }

    function test_paused_token_refuses_with_module_and_reason() public {
        token.pause();
        _expectPreviewed(alice, bob, 1, address(token), ReasonCodes.TOKEN_PAUSED);
        vm.prank(alice);
        token.transfer(bob, 1);
    }

    function test_frozen_sender_and_recipient_are_refused() public {
        token.setAddressFrozen(alice, true);
        _expectPreviewed(alice, bob, 1, address(token), ReasonCodes.SENDER_FROZEN);
        vm.prank(alice);
        token.transfer(bob, 1);
        _expectPreviewed(bob, alice, 1, address(token), ReasonCodes.RECIPIENT_FROZEN);
        vm.prank(bob);
        token.transfer(alice, 1);
    }

    function test_partial_freeze_leaves_only_the_free_balance() public {
        token.freezePartialTokens(alice, 900);
        _expectPreviewed(alice, bob, 101, address(token), ReasonCodes.FREE_BALANCE_TOO_LOW);
        vm.prank(alice);
        token.transfer(bob, 101);
        vm.prank(alice);
        token.transfer(bob, 100);
        assertEq(token.balanceOf(alice), 900, "frozen stays");
    }

    function test_unregistered_recipient_is_refused_by_the_registry() public {
        (address module, bytes32 reason) = token.preview(alice, stranger, 1);
        assertEq(module, address(registry), "registry refuses");
        _expectRefusal(module, reason);
        vm.prank(alice);
        token.transfer(stranger, 1);
    }

    function test_transfer_to_zero_is_refused_not_burned() public {
        _expectRefusal(address(token), ReasonCodes.RECIPIENT_INVALID);
        vm.prank(alice);
        token.transfer(address(0), 1);
    }

    function test_transferFrom_spends_the_allowance() public {
        vm.prank(alice);
        token.approve(carol, 30);
        vm.prank(carol);
        token.transferFrom(alice, bob, 20);
        assertEq(token.allowance(alice, carol), 10, "allowance");
        vm.prank(carol);
        vm.expectRevert();
        token.transferFrom(alice, bob, 11);
    }

    function test_batch_is_all_or_nothing_and_lengths_must_match() public {
        address[] memory to = new address[](2);
        uint256[] memory amounts = new uint256[](2);
        (to[0], to[1], amounts[0], amounts[1]) = (bob, bob, 600, 600);
        _expectRefusal(address(token), ReasonCodes.BALANCE_TOO_LOW);
        vm.prank(alice);
        token.batchTransfer(to, amounts);
        assertEq(token.balanceOf(alice), 1000, "nothing moved");
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        vm.prank(alice);
        token.batchTransfer(to, new uint256[](1));
    }

    function test_permit_sets_the_allowance_once() public {
        uint256 key = 0xBEEF;
        address holder = vm.addr(key);
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                holder,
                carol,
                uint256(5),
                uint256(0),
                uint256(2_000_000_000)
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(key, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), structHash)));
        token.permit(holder, carol, 5, 2_000_000_000, v, r, s);
        assertEq(token.allowance(holder, carol), 5, "permitted");
        vm.expectRevert();
        token.permit(holder, carol, 5, 2_000_000_000, v, r, s);
    }

    /* SUPPLY */

    function test_mint_needs_role_and_a_verified_recipient() public {
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, alice, AssetRoles.SUPPLY));
        vm.prank(alice);
        token.mint(alice, 1);
        (address module, bytes32 reason) = token.preview(address(0), stranger, 1);
        _expectRefusal(module, reason);
        token.mint(stranger, 1);
    }

    function test_supply_is_capped_at_112_bits() public {
        uint256 room = type(uint112).max - token.totalSupply();
        _expectPreviewed(address(0), alice, room + 1, address(token), ReasonCodes.SUPPLY_TOO_LARGE);
        token.mint(alice, room + 1);
        token.mint(alice, room);
    }

    function testFuzz_burn_uses_free_then_frozen_balance(uint256 frozen, uint256 amount) public {
        frozen = bound(frozen, 0, 1000);
        amount = bound(amount, 0, 1000);
        token.freezePartialTokens(alice, frozen);
        token.pause();
        token.burn(alice, amount);
        assertEq(token.balanceOf(alice), 1000 - amount, "balance");
        uint256 left = 1000 - amount;
        assertEq(token.getFrozenTokens(alice), frozen < left ? frozen : left, "frozen");
    }

    /* FREEZES */

    function test_freezing_more_than_free_is_refused() public {
        token.freezePartialTokens(alice, 700);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.FreeBalanceExceeded.selector, alice, 300, 301));
        token.freezePartialTokens(alice, 301);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.FrozenAmountExceeded.selector, alice, 700, 701));
        token.unfreezePartialTokens(alice, 701);
    }

    /* ROLES */

    function test_no_role_implies_another() public {
        for (uint256 role = 1; role <= AssetRoles.FUNDS; role <<= 1) {
            address holder = address(uint160(0x1000 + role));
            token.grant(holder, role);
            for (uint256 other = 1; other <= AssetRoles.FUNDS; other <<= 1) {
                assertTrue(token.has(holder, other) == (other == role), "only the granted role");
            }
        }
        assertTrue(!token.isAgent(address(0x1002)), "supply alone is no agent");
    }

    function test_owner_appoints_and_can_do_nothing_else() public {
        token.transferOwnership(carol);
        assertEq(token.owner(), carol, "owner");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.NotOwner.selector, address(this)));
        token.addAgent(bob);
        vm.prank(carol);
        token.addAgent(bob);
        assertTrue(token.isAgent(bob), "agent");
        vm.prank(bob);
        token.pause();
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, carol, AssetRoles.EMERGENCY));
        vm.prank(carol);
        token.unpause();
        vm.prank(carol);
        token.removeAgent(bob);
        assertTrue(!token.isAgent(bob), "removed");
    }

    function test_unknown_role_bits_are_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidRoles.selector, 128));
        token.grant(bob, 128);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidRoles.selector, 0));
        token.grant(bob, 0);
    }

    /* GOVERNANCE */

    function test_upgrade_waits_and_is_exactly_what_was_announced() public {
        address next = address(new AssetToken());
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, next));
        token.upgradeToAndCall(next, "");
        token.scheduleUpgrade(next, "");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeTooEarly.selector, 1_800_172_800));
        token.upgradeToAndCall(next, "");
        vm.warp(1_800_172_800);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, next));
        token.upgradeToAndCall(next, hex"01");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, bob, AssetRoles.GOVERNANCE));
        vm.prank(bob);
        token.upgradeToAndCall(next, "");
        token.upgradeToAndCall(next, "");
        assertEq(token.balanceOf(alice), 1000, "storage survives");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, next));
        token.upgradeToAndCall(next, "");
    }

    function test_cancelled_upgrade_cannot_be_applied() public {
        address next = address(new AssetToken());
        token.scheduleUpgrade(next, "");
        token.cancelUpgrade();
        vm.warp(1_900_000_000);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, next));
        token.upgradeToAndCall(next, "");
    }

    function test_the_parts_of_the_code_are_of_no_use_by_themselves() public {
        AssetTokenGovernance governance = AssetTokenGovernance(token.GOVERNANCE());
        TokenInit memory init;
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        governance.initialize(init);
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        token.initialize(init);
        AssetTokenCustody custody = AssetTokenCustody(token.CUSTODY());
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, address(this), AssetRoles.CUSTODIAN));
        custody.setAddressFrozen(alice, true);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.NotOwner.selector, address(this)));
        governance.grant(alice, 1);
    }

    function test_names_and_symbols_have_limits() public {
        token.setName("A longer name of the same bond");
        assertEq(token.name(), "A longer name of the same bond", "name");
        vm.expectRevert(IAssetToken.InvalidName.selector);
        token.setName("");
        vm.expectRevert(IAssetToken.InvalidName.selector);
        token.setName("123456789012345678901234567890123456789012345678901");
        vm.expectRevert(IAssetToken.InvalidSymbol.selector);
        token.setSymbol("lower");
        vm.expectRevert(IAssetToken.InvalidSymbol.selector);
        token.setSymbol("ABCDEFGHIJKLMNOPQRSTUVWXY");
    }

    function test_switching_compliance_unbinds_the_old_one() public {
        address fresh = factory.createCompliance(address(token), 0);
        token.setCompliance(fresh);
        assertTrue(!compliance.isTokenBound(address(token)), "old is free");
        assertEq(address(token.compliance()), fresh, "new is bound");
        vm.prank(alice);
        token.transfer(bob, 1);
    }

    function test_references_change_at_governances_word_only() public {
        token.setOnchainID(carol);
        assertEq(token.onchainID(), carol, "onchainID");
        token.setSymbol("OTHER");
        assertEq(token.symbol(), "OTHER", "symbol");
        token.setIdentityRegistry(address(registry));
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidAddress.selector, carol));
        token.setIdentityRegistry(carol);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, bob, AssetRoles.GOVERNANCE));
        vm.prank(bob);
        token.setCompliance(address(compliance));
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.InvalidAddress.selector, carol));
        token.scheduleUpgrade(carol, "");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.UpgradeNotScheduled.selector, address(0)));
        token.cancelUpgrade();
    }

    function test_pausing_twice_is_refused() public {
        vm.expectRevert(IAssetToken.NotPaused.selector);
        token.unpause();
        token.pause();
        vm.expectRevert(IAssetToken.AlreadyPaused.selector);
        token.pause();
        token.unpause();
        assertTrue(!token.paused(), "unpaused");
    }

    function test_batches_of_the_custodian() public {
        address[] memory who = new address[](2);
        (who[0], who[1]) = (alice, bob);
        uint256[] memory amounts = new uint256[](2);
        (amounts[0], amounts[1]) = (10, 20);
        bool[] memory yes = new bool[](2);
        (yes[0], yes[1]) = (true, true);
        token.batchFreezePartialTokens(who, amounts);
        assertEq(token.getFrozenTokens(bob), 20, "frozen");
        token.batchUnfreezePartialTokens(who, amounts);
        assertEq(token.getFrozenTokens(bob), 0, "unfrozen");
        token.batchSetAddressFrozen(who, yes);
        assertTrue(token.isFrozen(alice) && token.isFrozen(bob), "accounts frozen");
        address[] memory to = new address[](2);
        (to[0], to[1]) = (bob, alice);
        token.batchForcedTransfer(who, to, amounts);
        assertEq(token.balanceOf(alice), 1010, "10 out, 20 in");
        token.batchBurn(who, amounts);
        assertEq(token.totalSupply(), 1970, "burned");
        token.batchSetAddressFrozen(who, new bool[](2));
        token.batchMint(who, amounts);
        assertEq(token.totalSupply(), 2000, "minted");
        uint256[] memory short = new uint256[](1);
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        token.batchFreezePartialTokens(who, short);
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        token.batchUnfreezePartialTokens(who, short);
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        token.batchSetAddressFrozen(who, new bool[](1));
        vm.expectRevert(IAssetToken.LengthMismatch.selector);
        token.batchForcedTransfer(who, to, short);
    }

    /* INTERFACES */

    function test_interface_ids() public view {
        assertEq(bytes32(type(IERC3643).interfaceId), bytes32(bytes4(0xb97d944c)), "IERC3643");
        assertEq(bytes32(type(IAgentRole).interfaceId), bytes32(bytes4(0x0cba0fa8)), "IAgentRole");
        assertEq(bytes32(type(IERC173).interfaceId), bytes32(bytes4(0x7f5828d0)), "IERC173");
        assertTrue(token.supportsInterface(0xb97d944c), "IERC3643");
        assertTrue(token.supportsInterface(0x0cba0fa8), "IAgentRole");
        assertTrue(token.supportsInterface(0x7f5828d0), "IERC173");
        assertTrue(token.supportsInterface(0x36372b07), "IERC20");
        assertTrue(!token.supportsInterface(0xffffffff), "ERC-165");
        assertTrue(compliance.supportsInterface(0xa87a1289), "ICompliance");
        assertTrue(compliance.supportsInterface(0x3144991c), "ICompliance with isTokenBound");
    }

    function test_sizes_stay_in_budget() public view {
        assertLe(factory.TOKEN_IMPLEMENTATION().code.length, 16_384, "AssetToken");
        assertLe(AssetToken(factory.TOKEN_IMPLEMENTATION()).GOVERNANCE().code.length, 12_288, "AssetTokenGovernance");
        assertLe(AssetToken(factory.TOKEN_IMPLEMENTATION()).CUSTODY().code.length, 12_288, "AssetTokenCustody");
        assertLe(factory.COMPLIANCE_IMPLEMENTATION().code.length, 12_288, "TokenCompliance");
        assertLe(address(factory).code.length, 12_288, "AssetFactory");
        assertLe(address(countryRule).code.length, 12_288, "CountryRule");
        assertLe(address(claimRule).code.length, 12_288, "ClaimRule");
    }
}
