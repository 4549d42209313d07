// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRegistryErrors} from "../src/interfaces/IIdentityRegistryPolicy.sol";
import {ITopicSchemeRegistry} from "../src/interfaces/ITopicSchemeRegistry.sol";
import {IdentityReasons} from "../src/libraries/IdentityReasons.sol";
import {IdentityFixture} from "./identity/IdentityFixture.sol";

contract TopicSchemeRegistryTest is IdentityFixture {
    function testFuzz_id_is_the_hash_of_the_name(string calldata name) public view {
        assertEq(topics.topicId(name), uint256(keccak256(bytes(name))), "id");
    }

    function test_register_update_remove() public {
        vm.startPrank(policyManager);
        uint256 topic = topics.registerTopicScheme("X", "(uint8)");
        assertEq(topics.schemaHash(topic), keccak256("(uint8)"), "hash");
        vm.expectRevert(abi.encodeWithSelector(ITopicSchemeRegistry.TopicSchemeExists.selector, topic));
        topics.registerTopicScheme("X", "(uint8)");
        topics.updateTopicScheme("X", "(uint16)");
        (string memory name, string memory schema) = topics.topicScheme(topic);
        assertEq(name, "X", "name");
        assertEq(schema, "(uint16)", "schema");
        topics.removeTopicScheme("X");
        assertEq(topics.schemaHash(topic), bytes32(0), "gone");
        vm.expectRevert(abi.encodeWithSelector(ITopicSchemeRegistry.TopicSchemeUnknown.selector, topic));
        topics.updateTopicScheme("X", "(uint16)");
        vm.expectRevert(ITopicSchemeRegistry.TopicSchemeEmpty.selector);
        topics.registerTopicScheme("", "(uint8)");
        vm.stopPrank();
    }

    function test_claims_of_a_removed_topic_stop_counting_and_return_with_it() public {
        vm.prank(policyManager);
        topics.removeTopicScheme("KYC");
        assertReason(holder, IdentityReasons.TOPIC_RETIRED);
        vm.prank(policyManager);
        topics.registerTopicScheme("KYC", "(uint64 date)");
        assertTrue(verified(holder), "back");
    }

    function test_only_the_topic_registry_retires() public {
        vm.prank(policyManager);
        vm.expectRevert(abi.encodeWithSelector(IRegistryErrors.RegistryUnauthorized.selector, policyManager));
        registry.setTopicRetired(KYC, true);
    }

    function test_only_the_policy_manager_writes() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ITopicSchemeRegistry.TopicSchemeUnauthorized.selector, stranger));
        topics.registerTopicScheme("X", "(uint8)");
    }

    function test_every_write_is_the_policy_managers_and_says_something() public {
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(ITopicSchemeRegistry.TopicSchemeUnauthorized.selector, stranger));
        topics.updateTopicScheme("KYC", "(uint8)");
        vm.expectRevert(abi.encodeWithSelector(ITopicSchemeRegistry.TopicSchemeUnauthorized.selector, stranger));
        topics.removeTopicScheme("KYC");
        vm.stopPrank();
        vm.startPrank(policyManager);
        vm.expectRevert(ITopicSchemeRegistry.TopicSchemeEmpty.selector);
        topics.registerTopicScheme("X", "");
        vm.expectRevert(ITopicSchemeRegistry.TopicSchemeEmpty.selector);
        topics.updateTopicScheme("KYC", "");
        vm.expectRevert(abi.encodeWithSelector(ITopicSchemeRegistry.TopicSchemeUnknown.selector, topics.topicId("X")));
        topics.removeTopicScheme("X");
        vm.stopPrank();
    }
}
