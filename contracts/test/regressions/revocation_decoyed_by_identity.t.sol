// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentityErrors} from "../../src/interfaces/IIdentity.sol";
import {ClaimData} from "../../src/libraries/ClaimData.sol";
import {IdentityReasons} from "../../src/libraries/IdentityReasons.sol";
import {ForeignIdentity, IdentityFixture} from "../identity/IdentityFixture.sol";

/// @notice revocation_decoyed_by_identity: no copy that an identity presents may escape a revocation.
contract RevocationDecoyedByIdentityTest is IdentityFixture {
    function test_foreign_identity_shows_a_decoy_while_the_issuer_revokes() public {
        ForeignIdentity foreign = new ForeignIdentity();
        vm.prank(manager);
        registry.registerIdentity(stranger, address(foreign), 1);
        bytes memory real = sign(ISSUER_KEY, address(foreign), KYC, "real");
        foreign.show(claimIdOf(KYC), KYC, address(issuer), real, "real");
        assertTrue(verified(stranger), "before");

        foreign.show(claimIdOf(KYC), KYC, address(issuer), hex"00", "decoy");
        bytes32 claimId = claimIdOf(KYC);
        vm.prank(issuerWallet);
        issuer.revokeClaim(claimId, address(foreign));
        foreign.show(claimIdOf(KYC), KYC, address(issuer), real, "real");
        assertReason(stranger, IdentityReasons.CLAIM_REVOKED);

        vm.prank(issuerWallet);
        issuer.barSubject(address(foreign), KYC, false);
        assertTrue(verified(stranger), "readmitted by the issuer only");
    }

    function test_decoy_of_another_topic_is_refused() public {
        ForeignIdentity foreign = new ForeignIdentity();
        foreign.show(claimIdOf(KYC), AML, address(issuer), hex"00", "decoy");
        bytes32 claimId = claimIdOf(KYC);
        vm.prank(issuerWallet);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimMismatch.selector, claimId));
        issuer.revokeClaim(claimId, address(foreign));
    }

    function test_revocation_by_digest_reaches_every_signature_of_the_claim() public {
        bytes32 digest = ClaimData.digestOf(address(id), KYC, "kyc");
        vm.prank(issuerWallet);
        issuer.revokeClaim(digest);
        assertReason(holder, IdentityReasons.CLAIM_REVOKED);
        // A second CLAIM key signing the same claim does not revive it.
        vm.prank(issuerWallet);
        issuer.addKey(keyOf(vm.addr(0x77)), 3, 1);
        assertTrue(!issuer.isClaimValid(address(id), KYC, sign(0x77, address(id), KYC, "kyc"), "kyc"), "second key");
    }

    function test_holder_cannot_put_an_older_copy_back_over_a_pushed_claim() public {
        push(id, AML, "rating=low");
        push(id, AML, "rating=high");
        bytes memory old = sign(ISSUER_KEY, address(id), AML, "rating=low");
        bytes32 claimId = claimIdOf(AML);
        vm.prank(holder);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimPushed.selector, claimId));
        id.addClaim(AML, 1, address(issuer), old, "rating=low", "");
    }
}
