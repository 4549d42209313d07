// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IAssetToken} from "../src/interfaces/IAssetToken.sol";
import {IHolds} from "../src/interfaces/IHolds.sol";
import {AssetRoles} from "../src/Roles.sol";
import {ReasonCodes} from "../src/Refusals.sol";
import {Fixture} from "./Fixture.sol";

contract HoldsTest is Fixture {
    address private constant SPENDER = address(0x5E77);
    address private constant NEW_WALLET = address(0xA2);
    bytes32 private constant ID = "trade 1";

    function _hold(uint256 amount) private {
        vm.prank(alice);
        token.approve(SPENDER, amount);
        vm.prank(SPENDER);
        token.hold(ID, alice, amount);
    }

    function _execute(address to, uint256 amount) private {
        vm.prank(SPENDER);
        token.executeHold(ID, alice, to, amount);
    }

    function _expectPreviewedHold(address to, uint256 amount, address module, bytes32 reason) private {
        (address shown, bytes32 why) = token.previewHold(alice, to, amount);
        assertEq(shown, module, "previewed module");
        assertEq(why, reason, "previewed reason");
        if (reason != 0) _expectRefusal(module, reason);
    }

    function test_a_hold_locks_executes_and_releases() public {
        _hold(600);
        assertEq(token.allowance(alice, SPENDER), 0, "allowance spent");
        assertEq(token.heldBy(SPENDER, ID, alice), 600, "this hold");
        assertEq(token.heldOf(alice), 600, "all holds");
        assertEq(token.balanceOf(alice), 1000, "still the holder's");
        assertEq(token.getFrozenTokens(alice), 0, "held is not frozen");
        _expectPreviewed(alice, bob, 401, address(token), ReasonCodes.FREE_BALANCE_TOO_LOW);
        vm.prank(alice);
        token.transfer(bob, 401);

        _expectPreviewedHold(bob, 250, address(0), 0);
        _execute(bob, 250);
        vm.prank(SPENDER);
        token.releaseHold(ID, alice, 350);
        assertEq(token.balanceOf(bob), 1250, "delivered");
        assertEq(token.heldOf(alice), 0, "nothing held");
        vm.prank(alice);
        token.transfer(bob, 750);
        vm.expectRevert(abi.encodeWithSelector(IHolds.HoldTooSmall.selector, SPENDER, ID, alice, 0, 1));
        _execute(bob, 1);
        vm.expectRevert(abi.encodeWithSelector(IHolds.HoldTooSmall.selector, SPENDER, ID, alice, 0, 1));
        vm.prank(SPENDER);
        token.releaseHold(ID, alice, 1);
    }

    function test_a_hold_needs_allowance_and_free_tokens() public {
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, SPENDER, 0, 1));
        vm.prank(SPENDER);
        token.hold(ID, alice, 1);
        token.freezePartialTokens(alice, 500);
        _hold(400);
        vm.prank(alice);
        token.approve(SPENDER, 2000);
        _expectRefusal(address(token), ReasonCodes.FREE_BALANCE_TOO_LOW);
        vm.prank(SPENDER);
        token.hold(ID, alice, 101);
        _expectRefusal(address(token), ReasonCodes.BALANCE_TOO_LOW);
        vm.prank(SPENDER);
        token.hold(ID, alice, 1001);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.FreeBalanceExceeded.selector, alice, 100, 101));
        token.freezePartialTokens(alice, 101);
        token.setAddressFrozen(alice, true);
        _expectRefusal(address(token), ReasonCodes.SENDER_FROZEN);
        vm.prank(SPENDER);
        token.hold(ID, alice, 1);
        token.pause();
        _expectRefusal(address(token), ReasonCodes.TOKEN_PAUSED);
        vm.prank(SPENDER);
        token.hold(ID, alice, 1);
    }

    function test_nobody_but_the_spender_disposes_of_a_hold() public {
        _hold(100);
        vm.expectRevert(abi.encodeWithSelector(IHolds.HoldTooSmall.selector, bob, ID, alice, 0, 100));
        vm.prank(bob);
        token.executeHold(ID, alice, bob, 100);
        vm.expectRevert(abi.encodeWithSelector(IHolds.HoldTooSmall.selector, alice, ID, alice, 0, 100));
        vm.prank(alice);
        token.releaseHold(ID, alice, 100);
    }

    function test_forced_transfer_and_burn_leave_held_tokens_alone() public {
        token.freezePartialTokens(alice, 300);
        _hold(500);
        _expectPreviewed(alice, address(0), 501, address(token), ReasonCodes.BALANCE_HELD);
        token.burn(alice, 501);
        _expectRefusal(address(token), ReasonCodes.BALANCE_HELD);
        token.forcedTransfer(alice, bob, 501);
        token.forcedTransfer(alice, bob, 400);
        assertEq(token.getFrozenTokens(alice), 100, "free tokens first, then frozen ones");
        token.burn(alice, 100);
        assertEq(token.heldBy(SPENDER, ID, alice), 500, "the hold stands");
        assertEq(token.balanceOf(alice), 500, "all that is left is held");
    }

    function test_breaking_a_hold_takes_a_custodian_and_a_reason() public {
        _hold(500);
        vm.expectRevert(IAssetToken.ReasonMissing.selector);
        token.breakHold(SPENDER, ID, alice, 500, 0);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.MissingRole.selector, bob, AssetRoles.CUSTODIAN));
        vm.prank(bob);
        token.breakHold(SPENDER, ID, alice, 500, "COURT_ORDER");
        vm.expectEmit(true, true, true, true, address(token));
        emit IHolds.HoldBroken(SPENDER, ID, alice, 500, "COURT_ORDER");
        token.breakHold(SPENDER, ID, alice, 500, "COURT_ORDER");
        assertEq(token.heldOf(alice), 0, "free again");
        token.forcedTransferFor(alice, bob, 1000, "COURT_ORDER");
    }

    function test_a_forced_transfer_states_its_reason() public {
        vm.expectRevert(IAssetToken.ReasonMissing.selector);
        token.forcedTransferFor(alice, bob, 1, 0);
        vm.expectEmit(true, true, true, true, address(token));
        emit IAssetToken.TransferForced(alice, bob, address(this), 5, "COURT_ORDER");
        token.forcedTransferFor(alice, bob, 5, "COURT_ORDER");
        vm.expectEmit(true, true, true, true, address(token));
        emit IAssetToken.TransferForced(alice, bob, address(this), 5, "UNSTATED");
        token.forcedTransfer(alice, bob, 5);
    }

    function test_pause_and_freezes_put_a_hold_off_and_do_not_end_it() public {
        _hold(500);
        token.pause();
        _expectPreviewedHold(bob, 500, address(token), ReasonCodes.TOKEN_PAUSED);
        _execute(bob, 500);
        token.unpause();
        token.setAddressFrozen(alice, true);
        _expectPreviewedHold(bob, 500, address(token), ReasonCodes.SENDER_FROZEN);
        _execute(bob, 500);
        token.setAddressFrozen(alice, false);
        token.setAddressFrozen(bob, true);
        _expectPreviewedHold(bob, 500, address(token), ReasonCodes.RECIPIENT_FROZEN);
        _execute(bob, 500);
        token.setAddressFrozen(bob, false);
        _execute(bob, 500);
        assertEq(token.balanceOf(bob), 1500, "delivered on lift");
    }

    function test_the_real_pair_is_checked_at_execution() public {
        _hold(500);
        compliance.addModule(address(countryRule), _countryParams(false, DE));
        _expectPreviewedHold(bob, 1, address(countryRule), ReasonCodes.COUNTRY_BLOCKED);
        _execute(bob, 1);
        _expectPreviewedHold(address(0), 1, address(token), ReasonCodes.RECIPIENT_INVALID);
        _execute(address(0), 1);
        _expectRefusal(address(registry), "NOT_REGISTERED");
        _execute(stranger, 1);
    }

    function test_a_release_works_while_paused_and_frozen() public {
        _hold(500);
        token.pause();
        token.setAddressFrozen(alice, true);
        vm.prank(SPENDER);
        token.releaseHold(ID, alice, 500);
        assertEq(token.heldOf(alice), 0, "released");
    }

    function test_holds_follow_a_recovery_and_keep_the_lost_wallets_name() public {
        token.freezePartialTokens(alice, 200);
        _hold(500);
        registry.recover(alice, NEW_WALLET);
        token.mint(NEW_WALLET, 50);
        vm.expectEmit(true, true, false, true, address(token));
        emit IAssetToken.HoldsRecovered(alice, NEW_WALLET, 500);
        token.recoveryAddress(alice, NEW_WALLET, registry.identity(NEW_WALLET));
        assertEq(token.currentWallet(alice), NEW_WALLET, "link");
        assertEq(token.heldOf(NEW_WALLET), 500, "holds moved");
        assertEq(token.getFrozenTokens(NEW_WALLET), 200, "freezes moved");
        assertEq(token.heldOf(alice) + token.getFrozenTokens(alice) + token.balanceOf(alice), 0, "nothing stays");
        _expectPreviewedHold(bob, 300, address(0), 0);
        _execute(bob, 300);
        vm.prank(SPENDER);
        token.releaseHold(ID, alice, 200);
        assertEq(token.balanceOf(NEW_WALLET), 750, "what was left is the successor's");
        assertEq(token.heldOf(NEW_WALLET), 0, "no hold left");
    }

    function test_a_recovered_wallet_takes_over_from_nobody_and_holds_nothing() public {
        // Both wallets stay registered when an identity's own key proves the recovery.
        address id = registry.identity(alice);
        registry.registerIdentity(NEW_WALLET, id, DE);
        vm.prank(alice);
        IKeys(id).addKey(keccak256(abi.encode(NEW_WALLET)), 1, 1);
        token.recoveryAddress(alice, NEW_WALLET, id);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.RecoveryRefused.selector, NEW_WALLET, alice, id));
        token.recoveryAddress(NEW_WALLET, alice, id);
        token.mint(alice, 10);
        vm.prank(alice);
        token.approve(SPENDER, 10);
        _expectRefusal(address(token), ReasonCodes.WALLET_RECOVERED);
        vm.prank(SPENDER);
        token.hold(ID, alice, 10);
        // What reached the lost wallet afterwards can be fetched the same way.
        token.recoveryAddress(alice, NEW_WALLET, id);
        assertEq(token.balanceOf(NEW_WALLET), 1010, "fetched");
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.NothingToRecover.selector, alice));
        token.recoveryAddress(alice, NEW_WALLET, id);
    }

    function testFuzz_holds_and_freezes_never_overlap(uint256 frozen, uint256 held, uint256 asked) public {
        frozen = bound(frozen, 0, 1000);
        held = bound(held, 0, 1000 - frozen);
        asked = bound(asked, 0, 1000);
        token.freezePartialTokens(alice, frozen);
        _hold(held);
        (bool burnt,) = address(token).call(abi.encodeCall(token.burn, (alice, asked)));
        assertTrue(burnt == (asked <= 1000 - held), "burns reach all but the hold");
        assertEq(token.heldOf(alice), held, "hold");
        assertLe(token.getFrozenTokens(alice) + held, token.balanceOf(alice), "locked <= balance");
    }
}

interface IKeys {
    function addKey(bytes32 key, uint256 purpose, uint256 keyType) external returns (bool);
}
