// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IIdentityErrors} from "../../src/interfaces/IIdentity.sol";
import {ClaimData} from "../../src/libraries/ClaimData.sol";
import {IdentityReasons} from "../../src/libraries/IdentityReasons.sol";
import {ForeignIdentity, IdentityFixture} from "../identity/IdentityFixture.sol";

/// @notice claim_expiry_not_enforced: expiry is part of what the issuer signed and holds to the second, without keepers.
contract ClaimExpiryNotEnforcedTest is IdentityFixture {
    function testFuzz_native_exact_second(uint32 lifetime) public {
        uint64 expiresAt = NOW + 1 + lifetime;
        push(id, KYC, ClaimData.encode(expiresAt, "kyc"));
        vm.warp(expiresAt - 1);
        assertTrue(verified(holder), "one second before");
        vm.warp(expiresAt);
        assertReason(holder, IdentityReasons.CLAIM_EXPIRED);
    }

    function test_foreign_exact_second() public {
        ForeignIdentity foreign = new ForeignIdentity();
        vm.prank(manager);
        registry.registerIdentity(stranger, address(foreign), 1);
        bytes memory data = ClaimData.encode(NOW + 10, "kyc");
        bytes memory signature = sign(ISSUER_KEY, address(foreign), KYC, data);
        foreign.show(claimIdOf(KYC), KYC, address(issuer), signature, data);
        vm.warp(NOW + 9);
        assertTrue(verified(stranger), "before");
        vm.warp(NOW + 10);
        assertReason(stranger, IdentityReasons.CLAIM_EXPIRED);
        // Stretching the expiry breaks the signature.
        foreign.show(claimIdOf(KYC), KYC, address(issuer), signature, ClaimData.encode(NOW + 99, "kyc"));
        assertReason(stranger, IdentityReasons.CLAIM_REVOKED);
    }

    function test_expired_claim_cannot_be_added() public {
        bytes memory data = ClaimData.encode(NOW, "kyc");
        bytes memory signature = sign(ISSUER_KEY, address(id), AML, data);
        vm.prank(holder);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimExpired.selector, NOW));
        id.addClaim(AML, 1, address(issuer), signature, data, "");
    }
}
