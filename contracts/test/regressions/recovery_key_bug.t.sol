// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAssetToken} from "../../src/interfaces/IAssetToken.sol";
import {IIdentityErrors} from "../../src/interfaces/IIdentity.sol";
import {IRegistryErrors} from "../../src/interfaces/IIdentityRegistryPolicy.sol";
import {Fixture} from "../Fixture.sol";
import {ForeignIdentity, IdentityFixture} from "../identity/IdentityFixture.sol";

/// @notice recovery_key_bug: only the right wallet takes over a lost one.
contract RecoveryKeyBugTest is IdentityFixture {
    address private constant NEXT = address(0x2E);

    function recover(address lost, address next) private {
        vm.prank(manager);
        registry.recover(lost, next);
    }

    function test_keys_move_from_the_lost_wallet() public {
        recover(holder, NEXT);
        for (uint256 purpose = 1; purpose <= 3; ++purpose) {
            assertTrue(id.keyHasPurpose(keyOf(NEXT), purpose), "new key");
            assertTrue(!id.keyHasPurpose(keyOf(holder), purpose), "lost key");
        }
    }

    function test_recovery_key_bug_foreign_identity_needs_the_new_wallets_key() public {
        ForeignIdentity foreign = new ForeignIdentity();
        vm.prank(manager);
        registry.registerIdentity(stranger, address(foreign), 1);
        // The lost wallet's key does not vouch for the new wallet.
        foreign.giveManagement(stranger);
        vm.prank(manager);
        vm.expectRevert(
            abi.encodeWithSelector(IRegistryErrors.RegistryRecoveryKeyMissing.selector, address(foreign), NEXT)
        );
        registry.recover(stranger, NEXT);
        foreign.giveManagement(NEXT);
        recover(stranger, NEXT);
        assertEq(registry.identity(NEXT), address(foreign), "moved");
    }

    function test_wallet_of_another_person_cannot_take_over() public {
        address other = newIdentity(stranger);
        vm.startPrank(manager);
        registry.registerIdentity(stranger, other, 1);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryRecoveryWalletTaken.selector, stranger));
        registry.recover(holder, stranger);
        vm.stopPrank();
    }

    function test_lost_wallet_never_returns() public {
        recover(holder, NEXT);
        vm.startPrank(manager);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryWalletRecovered.selector, holder));
        registry.registerIdentity(holder, address(id), 1);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryWalletRecovered.selector, holder));
        registry.recover(NEXT, holder);
        vm.stopPrank();
    }

    function test_chain_of_recoveries_ends_at_the_present_wallet() public {
        recover(holder, NEXT);
        recover(NEXT, address(0x3E));
        assertEq(registry.successor(holder), address(0x3E), "first");
        assertEq(registry.successor(NEXT), address(0x3E), "second");
        assertEq(registry.successor(address(0x3E)), address(0), "present");
        assertTrue(verified(address(0x3E)), "verified");
    }

    function test_recovery_onto_a_second_wallet_of_the_same_person() public {
        vm.prank(manager);
        registry.registerIdentity(NEXT, address(id), 826);
        recover(holder, NEXT);
        assertEq(registry.investorCountry(NEXT), 826, "its own row stays");
        assertTrue(verified(NEXT), "verified");
    }

    function test_thief_with_a_full_key_ring_cannot_block_the_reset() public {
        vm.startPrank(holder);
        for (uint256 i = 0; i < 31; ++i) {
            id.addKey(bytes32(i + 1), i == 0 ? 1 : 3, 1);
        }
        vm.expectRevert(IIdentityErrors.IdentityTooManyKeys.selector);
        id.addKey(keyOf(NEXT), 1, 1);
        vm.stopPrank();
        recover(holder, NEXT);
        vm.prank(manager);
        registry.resetIdentityKeys(address(id), NEXT);
        assertEq(id.getKeysByPurpose(1).length, 1, "one manager");
        assertTrue(id.keyHasPurpose(keyOf(NEXT), 1), "the right one");
    }

    function test_only_agents_recover() public {
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, stranger));
        registry.recover(holder, stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        id.recoverKey(holder, stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        id.resetKeys(stranger);
        vm.stopPrank();
    }

    function testFuzz_chains_never_loop(uint8[12] calldata picks) public {
        address current = holder;
        for (uint256 i = 0; i < picks.length; ++i) {
            address next = address(uint160(0x1000 + picks[i] % 6));
            vm.prank(manager);
            try registry.recover(current, next) {
                current = next;
            } catch {}
        }
        assertEq(registry.successor(holder), current == holder ? address(0) : current, "end of the chain");
        assertTrue(verified(current), "the present wallet stays verified");
    }
}

/// @notice recovery_key_bug, at the token.
contract RecoveryKeyBugOfTheTokenTest is Fixture {
    address private constant NEW_WALLET = address(0xA2);

    function test_recovery_key_bug() public {
        // A wallet of another identity, or one whose identity never gave it a key, cannot take a lost wallet's balance.
        address aliceId = registry.identity(alice);
        address bobId = registry.identity(bob);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.RecoveryRefused.selector, alice, bob, aliceId));
        token.recoveryAddress(alice, bob, aliceId);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.RecoveryRefused.selector, alice, bob, bobId));
        token.recoveryAddress(alice, bob, bobId);
        registry.registerIdentity(NEW_WALLET, aliceId, DE);
        vm.expectRevert(abi.encodeWithSelector(IAssetToken.RecoveryRefused.selector, alice, NEW_WALLET, aliceId));
        token.recoveryAddress(alice, NEW_WALLET, aliceId);
    }
}
