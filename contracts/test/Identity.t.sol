// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IERC734} from "../src/interfaces/IERC734.sol";
import {IERC735} from "../src/interfaces/IERC735.sol";
import {IClaimIssuer} from "../src/interfaces/IClaimIssuer.sol";
import {IIdentity, IIdentityErrors} from "../src/interfaces/IIdentity.sol";
import {ClaimData} from "../src/libraries/ClaimData.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";

contract IdentityTest is IdentityFixture {
    function test_interface_ids() public view {
        assertEq(bytes32(type(IERC734).interfaceId), bytes32(bytes4(0x270d514f)), "ERC-734");
        assertEq(bytes32(type(IERC735).interfaceId), bytes32(bytes4(0xb6b4ee6d)), "ERC-735");
        assertEq(bytes32(type(IClaimIssuer).interfaceId), bytes32(bytes4(0xc9dda83c)), "claim issuer");
        IERC165 asked = IERC165(address(id));
        assertTrue(asked.supportsInterface(0x270d514f) && asked.supportsInterface(0xb6b4ee6d), "734, 735");
        assertTrue(asked.supportsInterface(0xc9dda83c) && !asked.supportsInterface(0xffffffff), "issuer");
    }

    /* KEYS */

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

    /* CLAIMS */

    function test_claim_reads_back() public {
        bytes memory data = ClaimData.encode(NOW + 100, "payload of more than fifteen bytes");
        bytes32 claimId = push(id, AML, data);
        assertEq(claimId, keccak256(abi.encode(address(issuer), AML)), "claim id");
        (uint256 topic, uint256 scheme, address by, bytes memory signature, bytes memory stored,) = id.getClaim(claimId);
        assertEq(topic, AML, "topic");
        assertEq(scheme, 1, "scheme");
        assertEq(by, address(issuer), "issuer");
        assertEq(keccak256(signature), keccak256(sign(ISSUER_KEY, address(id), AML, data)), "signature");
        assertEq(keccak256(stored), keccak256(data), "data");
        (address signer, uint64 expiresAt, bytes32 digest) = id.claimMeta(claimId);
        assertEq(signer, issuerWallet, "signer");
        assertEq(uint256(expiresAt), NOW + 100, "expiry");
        assertEq(digest, ClaimData.digestOf(address(id), AML, data), "digest");
        assertEq(id.getClaimIdsByTopic(AML).length, 1, "listed");
    }

    function test_holder_adds_and_removes_what_it_added() public {
        bytes32 claimId = addOwn(id, holder, AML, "aml");
        vm.prank(holder);
        id.removeClaim(claimId);
        (address signer,,) = id.claimMeta(claimId);
        assertEq(signer, address(0), "gone");
        assertEq(id.getClaimIdsByTopic(AML).length, 0, "unlisted");
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimUnknown.selector, claimId));
        id.removeClaim(claimId);
    }

    function test_pushed_claim_goes_by_its_issuer_or_when_no_longer_live() public {
        bytes32 claimId = push(id, SANCTIONED, "yes");
        vm.prank(holder);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimPushed.selector, claimId));
        id.removeClaim(claimId);
        bytes32 digest = ClaimData.digestOf(address(id), SANCTIONED, "yes");
        vm.prank(issuerWallet);
        issuer.revokeClaim(digest);
        vm.prank(holder);
        id.removeClaim(claimId);

        push(id, SANCTIONED, "yes again");
        vm.prank(issuerWallet);
        id.removeClaim(claimId);
    }

    function test_untrusted_issuer_cannot_push() public {
        IIdentity rogue = IIdentity(newIdentity(stranger));
        bytes memory data = "spam";
        bytes memory signature = sign(0x5E1F, address(id), AML, data);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityIssuerNotTrusted.selector, address(rogue), AML));
        id.addClaim(AML, 1, address(rogue), signature, data, "");
    }

    function test_nobody_else_adds() public {
        bytes memory signature = sign(ISSUER_KEY, address(id), AML, "aml");
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        id.addClaim(AML, 1, address(issuer), signature, "aml", "");
    }

    function test_forged_and_foreign_scheme_claims_revert() public {
        bytes memory forged = sign(HOLDER_KEY, address(id), AML, "aml");
        vm.startPrank(holder);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimInvalid.selector, address(issuer), AML));
        id.addClaim(AML, 1, address(issuer), forged, "aml", "");
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentitySchemeUnsupported.selector, 2));
        id.addClaim(AML, 2, address(issuer), forged, "aml", "");
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimInvalid.selector, stranger, AML));
        id.addClaim(AML, 1, stranger, forged, "aml", "");
        vm.stopPrank();
    }

    function test_removal_from_the_middle_keeps_the_list() public {
        IIdentity second = IIdentity(newIdentity(vm.addr(0x222)));
        bytes32 first = addOwn(id, holder, AML, "a");
        bytes memory signature = sign(0x222, address(id), AML, "b");
        vm.startPrank(holder);
        bytes32 other = id.addClaim(AML, 1, address(second), signature, "b", "uri");
        id.removeClaim(first);
        assertEq(id.getClaimIdsByTopic(AML)[0], other, "moved");
        id.removeClaim(other);
        vm.stopPrank();
        assertEq(id.getClaimIdsByTopic(AML).length, 0, "empty");
    }

    /* ISSUER */

    function test_key_removal_ends_its_claims_at_once() public {
        vm.startPrank(issuerWallet);
        issuer.removeKey(keyOf(issuerWallet), 3);
        vm.stopPrank();
        assertReason(holder, IdentityReasons.CLAIM_REVOKED);
    }

    function test_revoke_by_claim_id_on_a_native_identity_allows_a_new_claim() public {
        bytes32 claimId = claimIdOf(KYC);
        vm.prank(issuerWallet);
        issuer.revokeClaim(claimId, address(id));
        assertReason(holder, IdentityReasons.CLAIM_REVOKED);
        push(id, KYC, "kyc 2");
        assertTrue(verified(holder), "issued anew");
    }

    function test_strangers_revoke_nothing() public {
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        issuer.revokeClaim(bytes32(0));
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        issuer.barSubject(address(id), KYC, true);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        issuer.revokeClaimBySignature("");
        vm.stopPrank();
    }

    function testFuzz_claim_data_envelope(uint64 expiresAt, bytes calldata payload) public pure {
        bytes memory data = ClaimData.encode(expiresAt, payload);
        assertEq(uint256(ClaimData.expiryOf(data)), expiresAt, "expiry");
        assertEq(keccak256(ClaimData.payloadOf(data)), keccak256(payload), "payload");
    }
}
