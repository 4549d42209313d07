// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IdentityRegistry} from "../src/IdentityRegistry.sol";
import {IAgentRole} from "../src/interfaces/IAgentRole.sol";
import {IClaimTopicsRegistry} from "../src/interfaces/IClaimTopicsRegistry.sol";
import {IERC173} from "../src/interfaces/IERC173.sol";
import {IIdentity} from "../src/interfaces/IIdentity.sol";
import {Group, IRegistryErrors} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {ClaimExpression} from "../src/libraries/ClaimExpression.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {ForeignIdentity, IdentityFixture} from "./identity/IdentityFixture.sol";

contract RegistryAdministrationTest is IdentityFixture {
    /* AGENTS */

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

    function test_agents_that_are_refused() public {
        IAgentRole agents = IAgentRole(address(registry));
        vm.startPrank(admin);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        agents.addAgent(address(0));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryAgentUnknown.selector, stranger));
        agents.removeAgent(stranger);
        vm.stopPrank();
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

    function test_topics_of_the_default_policy_come_and_go_once() public {
        vm.startPrank(policyManager);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryTopicDuplicate.selector, KYC));
        registry.addClaimTopic(KYC);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryTopicUnknown.selector, AML));
        registry.removeClaimTopic(AML);
        registry.addClaimTopic(AML);
        registry.removeClaimTopic(KYC);
        vm.stopPrank();
        assertEq(registry.getClaimTopics().length, 1, "one");
        assertEq(registry.getClaimTopics()[0], AML, "the other");
        assertReason(holder, IdentityReasons.CLAIM_MISSING);
    }

    function test_issuers_that_are_refused() public {
        uint256[] memory many = new uint256[](16);
        vm.startPrank(policyManager);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.addTrustedIssuer(address(0), list(KYC));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryIssuerKnown.selector, address(issuer)));
        registry.addTrustedIssuer(address(issuer), list(KYC));
        vm.expectRevert(IRegistryErrors.RegistryTooManyTopics.selector);
        registry.addTrustedIssuer(stranger, many);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryIssuerUnknown.selector, stranger));
        registry.updateIssuerClaimTopics(stranger, list(KYC));
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryIssuerUnknown.selector, stranger));
        registry.removeTrustedIssuer(stranger);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.addTrustedIssuerFor(address(0), stranger, list(KYC));
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.removeTrustedIssuerFor(address(0), stranger);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryIssuerUnknown.selector, stranger));
        registry.getTrustedIssuerClaimTopics(stranger);
        assertEq(registry.getTrustedIssuerClaimTopics(address(issuer)).length, 3, "the one that is known");
    }

    function test_trust_is_the_policy_managers_alone() public {
        bytes[6] memory calls = [
            abi.encodeCall(registry.addTrustedIssuer, (stranger, list(KYC))),
            abi.encodeCall(registry.removeTrustedIssuer, (address(issuer))),
            abi.encodeCall(registry.updateIssuerClaimTopics, (address(issuer), list(AML))),
            abi.encodeCall(registry.addClaimTopic, (AML)),
            abi.encodeCall(registry.removeClaimTopic, (KYC)),
            abi.encodeCall(registry.addTrustedIssuerFor, (address(id), stranger, list(KYC)))
        ];
        address[2] memory callers = [admin, manager];
        for (uint256 i; i < calls.length; ++i) {
            address caller = callers[i % 2];
            vm.prank(caller);
            (bool done, bytes memory why) = address(registry).call(calls[i]);
            assertTrue(!done, "neither the owner nor an agent");
            // The registry hands the call on; what its administration reverts comes through as it is.
            assertEq(
                keccak256(why),
                keccak256(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, caller)),
                "reason"
            );
        }
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

    function test_a_policy_is_about_a_token_and_at_most_15_topics() public {
        Group[] memory groups = new Group[](1);
        groups[0] = Group(list(KYC), list());
        vm.startPrank(policyManager);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.setPolicy(address(0), groups);
        vm.expectRevert(IRegistryErrors.RegistryZeroAddress.selector);
        registry.clearPolicy(address(0));
        uint256[] memory many = new uint256[](16);
        for (uint256 i; i < 16; ++i) {
            many[i] = topics.registerTopicScheme(string(abi.encodePacked("T", i)), "()");
        }
        groups[0] = Group(many, list());
        vm.expectRevert(ClaimExpression.ClaimExpressionTooManyTopics.selector);
        registry.setPolicy(token, groups);
        vm.stopPrank();
    }
}
