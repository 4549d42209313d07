// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentityErrors} from "../../src/interfaces/IIdentity.sol";
import {IdentityReasons} from "../../src/libraries/IdentityReasons.sol";
import {ForeignIdentity, IdentityFixture} from "../identity/IdentityFixture.sol";

/// @notice malleable_signature_survives_revocation: a revoked signature must have no second form.
contract MalleableSignatureSurvivesRevocationTest is IdentityFixture {
    function test_signature_revocation_bites_on_a_native_identity() public {
        bytes memory signature = sign(ISSUER_KEY, address(id), KYC, "kyc");
        vm.prank(issuerWallet);
        issuer.revokeClaimBySignature(signature);
        assertTrue(issuer.isClaimRevoked(signature), "readable");
        assertReason(holder, IdentityReasons.CLAIM_REVOKED);
    }

    function test_other_claims_live_on_after_a_signature_revocation() public {
        push(id, AML, "aml");
        vm.prank(issuerWallet);
        issuer.revokeClaimBySignature(sign(ISSUER_KEY, address(id), AML, "aml"));
        assertTrue(verified(holder), "KYC was not revoked");
    }

    function test_revoked_key_that_returns_does_not_revive_the_claim() public {
        vm.startPrank(issuerWallet);
        issuer.revokeClaimBySignature(sign(ISSUER_KEY, address(id), KYC, "kyc"));
        issuer.removeKey(keyOf(issuerWallet), 3);
        issuer.addKey(keyOf(issuerWallet), 3, 1);
        vm.stopPrank();
        assertReason(holder, IdentityReasons.CLAIM_REVOKED);
    }

    function test_malleated_copy_on_a_foreign_identity() public {
        ForeignIdentity foreign = new ForeignIdentity();
        vm.prank(manager);
        registry.registerIdentity(stranger, address(foreign), 1);
        bytes memory signature = sign(ISSUER_KEY, address(foreign), KYC, "kyc");
        vm.prank(issuerWallet);
        issuer.revokeClaimBySignature(signature);
        foreign.show(claimIdOf(KYC), KYC, address(issuer), malleate(signature), "kyc");
        assertReason(stranger, IdentityReasons.CLAIM_MALFORMED);
    }

    function testFuzz_only_the_canonical_form_verifies(uint256 seed, bytes32 data) public {
        uint256 key = bound(seed, 1, CURVE_ORDER - 1);
        if (!issuer.keyHasPurpose(keyOf(vm.addr(key)), 3)) {
            vm.prank(issuerWallet);
            issuer.addKey(keyOf(vm.addr(key)), 3, 1);
        }
        bytes memory payload = abi.encode(data);
        bytes memory signature = sign(key, address(id), AML, payload);
        assertTrue(issuer.isClaimValid(address(id), AML, signature, payload), "canonical");
        assertTrue(!issuer.isClaimValid(address(id), AML, malleate(signature), payload), "high s");
        assertTrue(!issuer.isClaimValid(address(id), AML, bytes.concat(signature, hex"00"), payload), "padded");
        signature[64] = bytes1(uint8(signature[64]) - 27);
        assertTrue(!issuer.isClaimValid(address(id), AML, signature, payload), "v 0/1");
    }

    function test_adding_a_malleated_claim_reverts() public {
        bytes memory signature = malleate(sign(ISSUER_KEY, address(id), AML, "aml"));
        vm.prank(holder);
        vm.expectRevert(IIdentityErrors.IdentitySignatureNotCanonical.selector);
        id.addClaim(AML, 1, address(issuer), signature, "aml", "");
    }
}
