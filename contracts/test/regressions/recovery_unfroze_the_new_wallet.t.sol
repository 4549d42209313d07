// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReasonCodes} from "../../src/Refusals.sol";
import {Fixture} from "../Fixture.sol";

/// @notice recovery_unfroze_the_new_wallet: recoveries elsewhere un-froze the new wallet, overwrote its frozen amount or left holds behind.
contract RecoveryUnfrozeTheNewWalletTest is Fixture {
    address private constant NEW_WALLET = address(0xA2);

    function _recover() private {
        registry.recover(alice, NEW_WALLET);
        token.recoveryAddress(alice, NEW_WALLET, registry.identity(NEW_WALLET));
    }

    function _prepare() private {
        registry.registerIdentity(NEW_WALLET, registry.identity(alice), DE);
        token.mint(NEW_WALLET, 100);
    }

    function test_recovery_does_not_unfreeze_the_new_wallet() public {
        _prepare();
        token.setAddressFrozen(NEW_WALLET, true);
        _recover();
        assertTrue(token.isFrozen(NEW_WALLET), "frozen before, frozen after");
    }

    function test_recovery_does_not_overwrite_the_frozen_amount() public {
        _prepare();
        token.freezePartialTokens(NEW_WALLET, 70);
        token.freezePartialTokens(alice, 30);
        _recover();
        assertEq(token.getFrozenTokens(NEW_WALLET), 100, "both amounts");
    }

    function test_recovery_does_not_free_held_tokens() public {
        vm.prank(alice);
        token.approve(carol, 900);
        vm.prank(carol);
        token.hold("trade", alice, 900);
        _recover();
        _expectPreviewed(NEW_WALLET, bob, 101, address(token), ReasonCodes.FREE_BALANCE_TOO_LOW);
        vm.prank(NEW_WALLET);
        token.transfer(bob, 101);
    }

    function test_the_past_stays_with_the_lost_wallet_and_its_successor_is_known() public {
        token.addRecordDate(1_800_000_010);
        vm.warp(1_800_000_011);
        _recover();
        assertEq(token.balanceAt(alice, 1_800_000_010), 1000, "entitled then");
        assertEq(token.balanceAt(NEW_WALLET, 1_800_000_010), 0, "not then");
        assertEq(registry.successor(alice), NEW_WALLET, "who is paid for it");
    }

    function test_recovery_adds_frozen_amounts_and_never_unfreezes_the_new_wallet() public {
        token.freezePartialTokens(alice, 600);
        token.setAddressFrozen(alice, true);
        registry.recover(alice, NEW_WALLET);
        token.mint(NEW_WALLET, 100);
        token.freezePartialTokens(NEW_WALLET, 50);
        token.recoveryAddress(alice, NEW_WALLET, registry.identity(NEW_WALLET));
        assertEq(token.balanceOf(NEW_WALLET), 1100, "balance");
        assertEq(token.getFrozenTokens(NEW_WALLET), 650, "frozen amounts add up");
        assertEq(token.getFrozenTokens(alice), 0, "nothing left behind");
        assertTrue(token.isFrozen(NEW_WALLET), "the freeze follows");
    }
}
