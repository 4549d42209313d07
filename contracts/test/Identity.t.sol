// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {ClaimInput, IIdentity, IIdentityErrors} from "../src/interfaces/IIdentity.sol";
import {IIdentityFactory} from "../src/interfaces/IIdentityFactory.sol";
import {ClaimData} from "../src/libraries/ClaimData.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";

contract IdentityTest is IdentityFixture {
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

    function test_every_answer_of_a_revocation() public {
        bytes memory signature = sign(ISSUER_KEY, address(id), KYC, "kyc");
        bytes32 digest = ClaimData.digestOf(address(id), KYC, "kyc");
        assertTrue(!issuer.isDigestRevoked(digest) && !issuer.isClaimRevoked(signature), "live");
        assertTrue(issuer.isClaimLive(issuerWallet, digest), "live");
        vm.prank(issuerWallet);
        issuer.revokeClaim(digest);
        assertTrue(issuer.isDigestRevoked(digest), "by digest");
        assertTrue(!issuer.isClaimLive(issuerWallet, digest), "not live");
        assertTrue(!issuer.isClaimRevoked(signature), "the signature itself was not named");
    }

    function test_an_issuer_recovers_canonical_signatures_only() public view {
        bytes memory signature = sign(ISSUER_KEY, address(id), KYC, "kyc");
        bytes32 hash = MessageHashUtils.toEthSignedMessageHash(ClaimData.digestOf(address(id), KYC, "kyc"));
        assertEq(issuer.getRecoveredAddress(signature, hash), issuerWallet, "signer");
        assertEq(issuer.getRecoveredAddress(malleate(signature), hash), address(0), "the other form of it");
        assertEq(issuer.getRecoveredAddress("", hash), address(0), "nothing");
    }

    function test_a_signature_that_is_not_canonical_cannot_be_revoked() public {
        vm.startPrank(issuerWallet);
        vm.expectRevert(IIdentityErrors.IdentitySignatureNotCanonical.selector);
        issuer.revokeClaimBySignature(hex"01");
        vm.stopPrank();
    }

    function test_a_claim_that_is_not_there_reads_as_nothing() public view {
        (uint256 topic, uint256 scheme, address by, bytes memory signature, bytes memory data, string memory uri) =
            id.getClaim(bytes32(uint256(7)));
        assertEq(topic + scheme + signature.length + data.length + bytes(uri).length, 0, "empty");
        assertEq(by, address(0), "nobody");
    }

    function test_at_most_50_claims_of_a_topic() public {
        AgreeingIssuer other;
        vm.startPrank(holder);
        for (uint256 i = 0; i < 50; ++i) {
            other = new AgreeingIssuer();
            id.addClaim(AML, 1, address(other), sign(ISSUER_KEY, address(id), AML, "a"), "a", "");
        }
        AgreeingIssuer last = new AgreeingIssuer();
        bytes memory signature = sign(ISSUER_KEY, address(id), AML, "a");
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityTooManyClaims.selector, AML));
        id.addClaim(AML, 1, address(last), signature, "a", "");
        // Replacing one of the fifty is no fifty-first.
        id.addClaim(AML, 1, address(other), sign(ISSUER_KEY, address(id), AML, "b"), "b", "");
        vm.stopPrank();
        assertEq(id.getClaimIdsByTopic(AML).length, 50, "fifty");
    }

    function test_an_issuer_that_stops_answering_cannot_keep_its_claim_on_the_identity() public {
        AgreeingIssuer other = new AgreeingIssuer();
        vm.prank(policyManager);
        registry.addTrustedIssuer(address(other), list(AML));
        bytes memory signature = sign(ISSUER_KEY, address(id), AML, "a");
        vm.prank(address(other));
        bytes32 claimId = id.addClaim(AML, 1, address(other), signature, "a", "");
        vm.startPrank(holder);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityClaimPushed.selector, claimId));
        id.removeClaim(claimId);
        other.stop();
        id.removeClaim(claimId);
        vm.stopPrank();
        (address signer,,) = id.claimMeta(claimId);
        assertEq(signer, address(0), "gone");
    }

    function test_an_issuer_without_keys_has_no_side_but_itself() public {
        AgreeingIssuer other = new AgreeingIssuer();
        other.stop();
        bytes memory signature = sign(ISSUER_KEY, address(id), AML, "a");
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        id.addClaim(AML, 1, address(other), signature, "a", "");
    }

    function test_a_self_issued_claim_is_the_holders_to_remove() public {
        bytes memory signature = sign(HOLDER_KEY, address(id), AML, "self");
        vm.prank(holder);
        bytes32 claimId = id.addClaim(AML, 1, address(id), signature, "self", "");
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IIdentityErrors.IdentityUnauthorized.selector, stranger));
        id.removeClaim(claimId);
        vm.prank(holder);
        id.removeClaim(claimId);
    }

    function test_an_identity_is_not_made_for_nobody() public {
        vm.startPrank(manager);
        vm.expectRevert(IIdentityFactory.IdentityFactoryZeroAddress.selector);
        factory.create(address(0), 0, new ClaimInput[](0));
        vm.stopPrank();
        // The identity checks for itself: its factory might be another one some day.
        address fresh = Clones.clone(factory.implementation());
        vm.prank(address(factory));
        vm.expectRevert(IIdentityErrors.IdentityZeroAddress.selector);
        IIdentity(fresh).initialize(address(0), new ClaimInput[](0), false);
    }

    function test_data_without_the_envelope_never_expires_and_is_all_payload() public pure {
        bytes memory plain = "longer than sixteen bytes, and no tag";
        assertEq(uint256(ClaimData.expiryOf(plain)), 0, "no expiry");
        assertEq(keccak256(ClaimData.payloadOf(plain)), keccak256(plain), "payload");
        assertEq(keccak256(ClaimData.payloadOf("short")), keccak256("short"), "short");
    }
}

/// @notice An issuer contract that is none of ours: it says yes to every claim until it stops answering at all.
contract AgreeingIssuer {
    bool private _stopped;

    error Stopped();

    function stop() external {
        _stopped = true;
    }

    function isClaimValid(address, uint256, bytes calldata, bytes calldata) external view returns (bool) {
        if (_stopped) revert Stopped();
        return true;
    }

    function keyHasPurpose(bytes32, uint256) external view returns (bool) {
        if (_stopped) revert Stopped();
        return false;
    }
}
