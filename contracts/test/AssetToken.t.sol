// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAssetToken} from "../src/interfaces/IAssetToken.sol";
import {AssetRoles} from "../src/Roles.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {Fixture} from "./Fixture.sol";

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

    function test_parts_that_are_missing_from_a_movement() public view {
        assertEq(token.stateReason(address(0), address(0), 1), ReasonCodes.RECIPIENT_INVALID, "neither end");
        (address module, bytes32 reason) = token.preview(alice, address(0), 1000);
        assertEq(module, address(0), "a burn asks nobody");
        assertEq(reason, ReasonCodes.OK, "a burn passes");
        (module, reason) = token.preview(alice, address(0), 1001);
        assertEq(module, address(token), "but the token itself");
        assertEq(reason, ReasonCodes.BALANCE_TOO_LOW, "too much to burn");
    }

    function test_size_stays_in_budget() public view {
        assertLe(factory.TOKEN_IMPLEMENTATION().code.length, 16_384, "AssetToken");
    }
}
