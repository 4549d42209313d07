// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentity} from "../../src/interfaces/IIdentity.sol";
import {IdentityReasons} from "../../src/libraries/IdentityReasons.sol";
import {ForeignIdentity, IdentityFixture} from "../identity/IdentityFixture.sol";

/// @notice untrusted_issuer_claim_verifies: the registry must ask the issuer it trusts, not the one the identity names.
contract UntrustedIssuerClaimVerifiesTest is IdentityFixture {
    function test_native_identity_with_claim_of_own_issuer() public {
        IIdentity rogue = IIdentity(newIdentity(stranger));
        vm.prank(manager);
        registry.registerIdentity(stranger, address(rogue), 1);
        // Self-attested: valid at the issuer the claim names, which is the holder.
        uint256 key = 0x5E1F;
        vm.prank(stranger);
        rogue.addKey(keyOf(vm.addr(key)), 3, 1);
        bytes memory signature = sign(key, address(rogue), KYC, "kyc");
        vm.prank(stranger);
        rogue.addClaim(KYC, 1, address(rogue), signature, "kyc", "");
        assertReason(stranger, IdentityReasons.ISSUER_NOT_TRUSTED);
    }

    function test_foreign_identity_that_shows_another_issuer_under_the_trusted_id() public {
        ForeignIdentity foreign = new ForeignIdentity();
        vm.prank(manager);
        registry.registerIdentity(stranger, address(foreign), 1);
        // The named issuer (the identity itself) would say yes to anything.
        bytes memory signature = sign(0x5E1F, address(foreign), KYC, "kyc");
        foreign.show(claimIdOf(KYC), KYC, address(foreign), signature, "kyc");
        assertReason(stranger, IdentityReasons.CLAIM_MALFORMED);
        // Naming the trusted issuer does not help without its signature.
        foreign.show(claimIdOf(KYC), KYC, address(issuer), signature, "kyc");
        assertReason(stranger, IdentityReasons.CLAIM_REVOKED);
        // With it, it counts.
        foreign.show(claimIdOf(KYC), KYC, address(issuer), sign(ISSUER_KEY, address(foreign), KYC, "kyc"), "kyc");
        assertTrue(verified(stranger), "genuine foreign claim");
    }

    function test_trust_lost_bites_at_once() public {
        assertTrue(verified(holder), "before");
        vm.prank(policyManager);
        registry.removeTrustedIssuer(address(issuer));
        assertReason(holder, IdentityReasons.ISSUER_NOT_TRUSTED);
    }

    function test_a_claim_about_somebody_else_does_not_count() public {
        ForeignIdentity foreign = new ForeignIdentity();
        vm.prank(manager);
        registry.registerIdentity(stranger, address(foreign), 1);
        foreign.show(claimIdOf(KYC), KYC, address(issuer), sign(ISSUER_KEY, address(id), KYC, "kyc"), "kyc");
        assertReason(stranger, IdentityReasons.CLAIM_REVOKED);
    }
}
