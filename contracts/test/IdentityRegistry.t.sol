// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IdentityRegistry} from "../src/IdentityRegistry.sol";
import {IAgentRole} from "../src/interfaces/IAgentRole.sol";
import {IClaimTopicsRegistry} from "../src/interfaces/IClaimTopicsRegistry.sol";
import {IERC173} from "../src/interfaces/IERC173.sol";
import {IIdentity} from "../src/interfaces/IIdentity.sol";
import {IIdentityRegistry} from "../src/interfaces/IIdentityRegistry.sol";
import {Group, IRegistryErrors} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {IIdentityRegistryStorage} from "../src/interfaces/IIdentityRegistryStorage.sol";
import {ITrustedIssuersRegistry} from "../src/interfaces/ITrustedIssuersRegistry.sol";
import {ClaimExpression} from "../src/libraries/ClaimExpression.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {ForeignIdentity, IdentityFixture} from "./identity/IdentityFixture.sol";

contract IdentityRegistryTest is IdentityFixture {
    function test_interface_ids() public view {
        assertEq(bytes32(type(IIdentityRegistry).interfaceId), bytes32(bytes4(0x8ff89f73)), "registry");
        assertEq(bytes32(type(IIdentityRegistryStorage).interfaceId), bytes32(bytes4(0x57defe0d)), "storage");
        assertEq(bytes32(type(ITrustedIssuersRegistry).interfaceId), bytes32(bytes4(0xb0f773b8)), "issuers");
        assertEq(bytes32(type(IClaimTopicsRegistry).interfaceId), bytes32(bytes4(0x10928b13)), "topics");
        assertEq(bytes32(type(IAgentRole).interfaceId), bytes32(bytes4(0x0cba0fa8)), "agent");
        assertEq(bytes32(type(IERC173).interfaceId), bytes32(bytes4(0x7f5828d0)), "owner");
        bytes4[6] memory ids = [bytes4(0x8ff89f73), 0x57defe0d, 0xb0f773b8, 0x10928b13, 0x0cba0fa8, 0x7f5828d0];
        for (uint256 i = 0; i < ids.length; ++i) {
            assertTrue(IERC165(address(registry)).supportsInterface(ids[i]), "supported");
        }
    }

    /* REGISTRY AND STORAGE */

    function testFuzz_rows(address wallet, address identity, uint16 country, uint16 moved) public {
        vm.assume(wallet != address(0) && wallet != holder && identity != address(0));
        vm.startPrank(manager);
        registry.registerIdentity(wallet, identity, country);
        assertTrue(registry.contains(wallet), "contains");
        assertEq(registry.storedIdentity(wallet), identity, "storage view");
        registry.updateCountry(wallet, moved);
        (address read, uint16 where) = registry.registration(wallet);
        assertEq(read, identity, "identity");
        assertEq(uint256(where), moved, "country");
        assertEq(uint256(registry.storedInvestorCountry(wallet)), moved, "storage country");
        registry.updateIdentity(wallet, address(id));
        assertEq(registry.identity(wallet), address(id), "updated");
        assertTrue(verified(wallet), "verified through the identity it has now");
        registry.deleteIdentity(wallet);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotRegistered.selector, wallet));
        registry.deleteIdentity(wallet);
        vm.stopPrank();
        assertReason(wallet, IdentityReasons.NOT_REGISTERED);
    }

    function test_batch_is_all_or_nothing() public {
        address[] memory wallets = new address[](2);
        address[] memory identities = new address[](2);
        (wallets[0], wallets[1], identities[0], identities[1]) = (stranger, holder, address(id), address(id));
        vm.startPrank(manager);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryAlreadyRegistered.selector, holder));
        registry.batchRegisterIdentity(wallets, identities, new uint16[](2));
        vm.expectRevert(IRegistryErrors.RegistryLengthMismatch.selector);
        registry.batchRegisterIdentity(wallets, identities, new uint16[](1));
        wallets[1] = admin;
        registry.batchRegisterIdentity(wallets, identities, new uint16[](2));
        vm.stopPrank();
        assertTrue(registry.contains(stranger) && registry.contains(admin), "both");
    }

    function test_bound_registry_writes_until_unbound() public {
        address other = address(0x1212);
        vm.prank(admin);
        registry.bindIdentityRegistry(other);
        assertEq(registry.linkedIdentityRegistries()[1], other, "linked");
        vm.startPrank(other);
        registry.addIdentityToStorage(stranger, address(id), 1);
        registry.modifyStoredInvestorCountry(stranger, 2);
        registry.modifyStoredIdentity(stranger, address(issuer));
        registry.removeIdentityFromStorage(stranger);
        vm.stopPrank();
        vm.prank(admin);
        registry.unbindIdentityRegistry(other);
        vm.prank(other);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, other));
        registry.addIdentityToStorage(stranger, address(id), 1);
        assertEq(registry.linkedIdentityRegistries().length, 1, "self stays");
    }

    function test_merged_parts() public {
        assertEq(registry.identityStorage(), address(registry), "storage");
        assertEq(registry.issuersRegistry(), address(registry), "issuers");
        assertEq(registry.topicsRegistry(), address(registry), "topics");
        vm.startPrank(admin);
        registry.setIdentityRegistryStorage(address(registry));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryNotMerged.selector, stranger));
        registry.setTrustedIssuersRegistry(stranger);
        vm.stopPrank();
    }

    function test_agents_and_owner() public {
        IAgentRole agents = IAgentRole(address(registry));
        assertEq(IERC173(address(registry)).owner(), admin, "owner");
        assertTrue(agents.isAgent(manager) && agents.isAgent(address(factory)), "by role");
        vm.startPrank(admin);
        agents.addAgent(stranger);
        assertTrue(agents.isAgent(stranger), "added");
        agents.removeAgent(stranger);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryAgentByRole.selector, manager));
        agents.removeAgent(manager);
        vm.expectRevert(IRegistryErrors.RegistryOwnershipFollowsSystem.selector);
        IERC173(address(registry)).transferOwnership(stranger);
        vm.stopPrank();
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, stranger));
        agents.addAgent(stranger);
    }

    function test_administration_called_directly_does_not_touch_the_registry() public {
        address code = IdentityRegistry(address(registry)).ADMINISTRATION();
        vm.prank(policyManager);
        IClaimTopicsRegistry(code).addClaimTopic(AML);
        assertEq(registry.getClaimTopics().length, 1, "unchanged");
    }

    /* TOPICS AND ISSUERS */

    function test_at_most_15_topics() public {
        vm.startPrank(policyManager);
        for (uint256 i = 1; i < 15; ++i) {
            registry.addClaimTopic(topics.registerTopicScheme(string(abi.encodePacked("T", i)), "()"));
        }
        uint256 last = topics.registerTopicScheme("last", "()");
        vm.expectRevert(IRegistryErrors.RegistryTooManyTopics.selector);
        registry.addClaimTopic(last);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryTopicUnknown.selector, 7));
        registry.addClaimTopic(7);
        vm.stopPrank();
        assertEq(registry.getClaimTopics().length, 15, "15");
    }

    function test_at_most_50_issuers() public {
        vm.startPrank(policyManager);
        for (uint256 i = 1; i < 50; ++i) {
            registry.addTrustedIssuer(address(uint160(i)), list(KYC));
        }
        vm.expectRevert(IRegistryErrors.RegistryTooManyIssuers.selector);
        registry.addTrustedIssuer(stranger, list(KYC));
        vm.stopPrank();
        assertEq(registry.getTrustedIssuersForClaimTopic(KYC).length, 50, "50");
    }

    /// @dev The lists per topic must agree with the topics per issuer after any sequence.
    function testFuzz_trust_lists_agree(uint8[16] calldata steps) public {
        vm.startPrank(policyManager);
        registry.removeTrustedIssuer(address(issuer));
        bool[6] memory trusted;
        for (uint256 i = 0; i < steps.length; ++i) {
            uint256 n = 1 + steps[i] % 5;
            address who = address(uint160(0x900 + n));
            if (trusted[n]) registry.removeTrustedIssuer(who);
            else registry.addTrustedIssuer(who, list(KYC, AML));
            trusted[n] = !trusted[n];
        }
        vm.stopPrank();
        uint256 count;
        for (uint256 n = 1; n <= 5; ++n) {
            address who = address(uint160(0x900 + n));
            assertTrue(registry.isTrustedIssuer(who) == trusted[n], "trusted");
            assertTrue(registry.hasClaimTopic(who, AML) == trusted[n], "topic");
            if (trusted[n]) ++count;
        }
        assertEq(registry.getTrustedIssuers().length, count, "issuers");
        assertEq(registry.getTrustedIssuersForClaimTopic(KYC).length, count, "per topic");
    }

    function test_topics_of_an_issuer_change() public {
        vm.startPrank(policyManager);
        registry.updateIssuerClaimTopics(address(issuer), list(AML));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryTopicDuplicate.selector, AML));
        registry.updateIssuerClaimTopics(address(issuer), list(AML, AML));
        vm.expectRevert(IRegistryErrors.RegistryNoTopics.selector);
        registry.updateIssuerClaimTopics(address(issuer), list());
        vm.stopPrank();
        assertReason(holder, IdentityReasons.ISSUER_NOT_TRUSTED);
    }

    function test_issuer_trusted_for_one_subject_only() public {
        IIdentity second = IIdentity(newIdentity(vm.addr(0x222)));
        IIdentity other = IIdentity(newIdentity(stranger));
        vm.prank(manager);
        registry.registerIdentity(stranger, address(other), 1);
        bytes memory signature = sign(0x222, address(other), KYC, "kyc");
        vm.prank(stranger);
        other.addClaim(KYC, 1, address(second), signature, "kyc", "");
        assertReason(stranger, IdentityReasons.ISSUER_NOT_TRUSTED);
        vm.prank(policyManager);
        registry.addTrustedIssuerFor(address(id), address(second), list(KYC));
        assertReason(stranger, IdentityReasons.ISSUER_NOT_TRUSTED);
        vm.startPrank(policyManager);
        registry.addTrustedIssuerFor(address(other), address(second), list(KYC));
        assertTrue(verified(stranger), "its own subject");
        assertEq(registry.liveClaimIssuer(address(other), KYC), address(second), "issuer");
        registry.removeTrustedIssuerFor(address(other), address(second));
        vm.stopPrank();
        assertReason(stranger, IdentityReasons.ISSUER_NOT_TRUSTED);
    }

    /* POLICIES */

    function test_or_of_and_groups() public {
        setPolicy(Group(list(KYC, AML), list()), Group(list(KYC), list(SANCTIONED)));
        assertTrue(verified(holder), "second group");
        push(id, SANCTIONED, "yes");
        assertReason(holder, IdentityReasons.CLAIM_MISSING);
        push(id, AML, "aml");
        assertTrue(verified(holder), "first group");
        assertTrue(registry.isVerified(holder), "default policy is apart");
    }

    function test_forbidden_topic() public {
        setPolicy(Group(list(KYC), list(SANCTIONED)));
        assertTrue(verified(holder), "not sanctioned");
        push(id, SANCTIONED, "yes");
        assertReason(holder, IdentityReasons.CLAIM_FORBIDDEN);
    }

    function test_absence_is_not_believed_of_a_foreign_identity() public {
        ForeignIdentity foreign = new ForeignIdentity();
        vm.prank(manager);
        registry.registerIdentity(stranger, address(foreign), 1);
        foreign.show(claimIdOf(KYC), KYC, address(issuer), sign(ISSUER_KEY, address(foreign), KYC, ""), "");
        assertTrue(verified(stranger), "default");
        setPolicy(Group(list(KYC), list(SANCTIONED)));
        assertReason(stranger, IdentityReasons.ABSENCE_UNPROVABLE);
    }

    function test_policy_bounds_and_callers() public {
        Group[] memory groups = new Group[](1);
        groups[0] = Group(list(KYC), list(KYC));
        vm.prank(policyManager);
        vm.expectRevert(abi.encodeWithSelector(ClaimExpression.ClaimExpressionContradiction.selector, 0));
        registry.setPolicy(token, groups);
        groups[0] = Group(list(KYC, AML), list());
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, stranger));
        registry.setPolicy(token, groups);
        vm.startPrank(token);
        registry.setPolicy(token, groups);
        assertReason(holder, IdentityReasons.CLAIM_MISSING);
        assertEq(registry.policyOf(token)[0].allOf[1], AML, "reads back");
        registry.clearPolicy(token);
        vm.stopPrank();
        assertTrue(verified(holder), "default again");
        groups = new Group[](9);
        vm.prank(policyManager);
        vm.expectRevert(ClaimExpression.ClaimExpressionTooManyGroups.selector);
        registry.setPolicy(token, groups);
    }

    /// @dev The registry must agree with a plain evaluation of the expression over the claims held.
    function testFuzz_policy_matches_a_model(uint8[4] calldata required, uint8[4] calldata forbidden, uint8 held)
        public
    {
        uint256[3] memory all = [KYC, AML, SANCTIONED];
        uint256 mask = 1 | (held & 6);
        if (mask & 2 != 0) push(id, AML, "a");
        if (mask & 4 != 0) push(id, SANCTIONED, "s");
        Group[] memory groups = new Group[](4);
        bool expected;
        for (uint256 g = 0; g < 4; ++g) {
            uint256 need = required[g] & 7;
            uint256 ban = forbidden[g] & 7 & ~need;
            if (need | ban == 0) need = 2;
            groups[g] = Group(pick(all, need), pick(all, ban));
            if (need & ~mask == 0 && ban & mask == 0) expected = true;
        }
        vm.prank(policyManager);
        registry.setPolicy(token, groups);
        assertTrue(verified(holder) == expected, "policy");
        assertTrue(registry.hasClaims(holder, groups) == expected, "hasClaims");
        assertTrue(!registry.hasClaims(stranger, groups), "not registered");
    }

    function pick(uint256[3] memory all, uint256 mask) private pure returns (uint256[] memory chosen) {
        uint256 count = (mask & 1) + ((mask >> 1) & 1) + ((mask >> 2) & 1);
        chosen = new uint256[](count);
        for (uint256 i = 3; i > 0; --i) {
            if ((mask >> (i - 1)) & 1 == 1) chosen[--count] = all[i - 1];
        }
    }

    function test_gas_of_the_transfer_question() public {
        setPolicy(Group(list(KYC), list()));
        uint256 before = gasleft();
        bool answer = registry.isVerifiedFor(token, holder);
        uint256 used = before - gasleft();
        assertTrue(answer, "verified");
        // Cold accesses included: the test contract touched none of these slots in this (isolated) call.
        assertLe(used, 45_000, "gas");
    }
}
