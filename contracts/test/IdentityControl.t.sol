// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Identity} from "../src/Identity.sol";
import {IIdentityErrors} from "../src/interfaces/IIdentity.sol";
import {IdentityControl} from "../src/identity/IdentityControl.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";

contract IdentityControlTest is IdentityFixture {
    function test_purposes_are_exact() public {
        address actor = address(0xAC);
        vm.prank(holder);
        id.addKey(keyOf(actor), 1, 1);
        assertTrue(!id.keyHasPurpose(keyOf(actor), 3), "MANAGEMENT does not imply CLAIM");
        (uint256[] memory purposes, uint256 keyType, bytes32 key) = id.getKey(keyOf(actor));
        assertEq(purposes.length, 1, "purposes");
        assertEq(keyType, 1, "type");
        assertEq(key, keyOf(actor), "key");
    }

    function test_last_management_key_stays() public {
        vm.prank(holder);
        vm.expectRevert(IIdentityErrors.IdentityLastManagementKey.selector);
        id.removeKey(keyOf(holder), 1);
    }

    function test_key_errors() public {
        vm.startPrank(holder);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityKeyExists.selector, keyOf(holder), 1));
        id.addKey(keyOf(holder), 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityKeyTypeMismatch.selector, keyOf(holder)));
        id.addKey(keyOf(holder), 4, 2);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnknownPurpose.selector, 0));
        id.addKey(keyOf(stranger), 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityKeyUnknown.selector, keyOf(stranger), 1));
        id.removeKey(keyOf(stranger), 1);
        vm.stopPrank();
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        id.addKey(keyOf(stranger), 1, 1);
    }

    /// @dev Model: a bitmap per (key, purpose); the contract must agree with it after any sequence.
    function testFuzz_key_ring_matches_a_model(uint256[20] calldata steps) public {
        bool[4][6] memory model;
        vm.startPrank(holder);
        for (uint256 i = 0; i < steps.length; ++i) {
            uint256 k = steps[i] % 6;
            uint256 purpose = 1 + (steps[i] >> 8) % 3;
            bytes32 key = bytes32(k + 1);
            if ((steps[i] >> 16) % 2 == 0) {
                try id.addKey(key, purpose, 1) {
                    assertTrue(!model[k][purpose], "added twice");
                    model[k][purpose] = true;
                } catch {
                    assertTrue(model[k][purpose], "refused a new purpose");
                }
            } else {
                try id.removeKey(key, purpose) {
                    assertTrue(model[k][purpose], "removed the absent");
                    model[k][purpose] = false;
                } catch {
                    assertTrue(!model[k][purpose], "refused removal");
                }
            }
        }
        vm.stopPrank();
        for (uint256 purpose = 1; purpose <= 3; ++purpose) {
            uint256 expected = 1;
            for (uint256 k = 0; k < 6; ++k) {
                assertTrue(id.keyHasPurpose(bytes32(k + 1), purpose) == model[k][purpose], "purpose");
                if (model[k][purpose]) ++expected;
            }
            assertEq(id.getKeysByPurpose(purpose).length, expected, "list");
        }
    }

    function test_a_new_key_needs_a_type_of_one_byte() public {
        vm.startPrank(holder);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityKeyTypeMismatch.selector, keyOf(stranger)));
        id.addKey(keyOf(stranger), 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityKeyTypeMismatch.selector, keyOf(stranger)));
        id.addKey(keyOf(stranger), 1, 256);
        id.addKey(keyOf(stranger), 1, 255);
        vm.stopPrank();
    }

    function test_purposes_read_back_in_order() public {
        vm.startPrank(holder);
        id.addKey(keyOf(stranger), 15, 1);
        id.addKey(keyOf(stranger), 2, 1);
        vm.stopPrank();
        uint256[] memory purposes = id.getKeyPurposes(keyOf(stranger));
        assertEq(purposes.length, 2, "two");
        assertEq(purposes[0], 2, "first");
        assertEq(purposes[1], 15, "second");
        assertEq(id.getKeyPurposes(bytes32(uint256(1))).length, 0, "no key");
        assertTrue(!id.keyHasPurpose(keyOf(stranger), 0) && !id.keyHasPurpose(keyOf(stranger), 16), "no such purposes");
        assertEq(id.getKeysByPurpose(16).length, 0, "no such purpose");
    }

    /// @dev Revocation by signature marks the keys of that moment; a key that comes back may have signed what was revoked.
    function test_a_key_that_returns_after_a_revocation_by_signature_takes_the_full_check() public {
        bytes memory revoked = sign(ISSUER_KEY, address(id), AML, "a");
        vm.startPrank(issuerWallet);
        issuer.addKey(keyOf(stranger), 1, 1);
        issuer.revokeClaimBySignature(revoked);
        issuer.removeKey(keyOf(issuerWallet), 3);
        assertTrue(!issuer.isClaimLive(issuerWallet, bytes32(0)), "no CLAIM key");
        issuer.removeKey(keyOf(issuerWallet), 2);
        issuer.removeKey(keyOf(issuerWallet), 1);
        vm.stopPrank();
        vm.prank(stranger);
        issuer.addKey(keyOf(issuerWallet), 3, 1);
        assertTrue(!issuer.isClaimLive(issuerWallet, bytes32(0)), "still marked");
        assertTrue(verified(holder), "its other claims count through the full check");
    }

    function test_the_registry_gives_no_key_to_nobody() public {
        vm.startPrank(address(registry));
        vm.expectRevert(IIdentityErrors.IdentityZeroAddress.selector);
        id.recoverKey(holder, address(0));
        vm.expectRevert(IIdentityErrors.IdentityZeroAddress.selector);
        id.resetKeys(address(0));
        // A wallet without a key has none to lose.
        id.recoverKey(stranger, address(0x99));
        vm.stopPrank();
        assertTrue(!id.keyHasPurpose(keyOf(address(0x99)), 1), "and none to give");
    }

    function test_the_code_is_of_no_use_by_itself() public {
        IdentityControl code = IdentityControl(Identity(payable(address(id))).CONTROL());
        assertTrue(!code.keyHasPurpose(keyOf(holder), 1), "no keys of its own");
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, address(this)));
        code.addKey(keyOf(address(this)), 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityExecutionWithoutKey.selector, address(this)));
        code.execute(address(registry), 0, "");
    }
}
