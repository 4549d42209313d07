// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAgentRole} from "../interfaces/IAgentRole.sol";
import {IClaimTopicsRegistry} from "../interfaces/IClaimTopicsRegistry.sol";
import {Group, IRegistryAdministration, IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";
import {ISystem} from "../interfaces/ISystem.sol";
import {ClaimExpression} from "../libraries/ClaimExpression.sol";
import {Names} from "../Roles.sol";
import {PolicyReader} from "./PolicyReader.sol";
import {RegistryState} from "./RegistryState.sol";
import {TrustedIssuers} from "./TrustedIssuers.sol";

/// @title The registry's administration: agents, trusted issuers, claim topics, policies
/// @notice Runs in the registry's storage by delegation. Called directly it only writes its own storage, which nobody reads.
contract RegistryAdministration is TrustedIssuers, PolicyReader, IClaimTopicsRegistry {
    constructor(ISystem system) RegistryState(system) {}

    /* CLAIM TOPICS (ERC-3643) */

    /// @notice Adds a topic to the default policy. Caller: CLAIM_POLICY_MANAGER. Emits `ClaimTopicAdded`. Reverts when it is there already, is
    /// unknown to the topic schemes, or is the 16th.
    function addClaimTopic(uint256 topic) external {
        _onlyPolicyManager();
        _requireTopic(topic);
        Policy storage policy = _policies[DEFAULT];
        uint256 count = ClaimExpression.topicCount(policy.expression);
        if (count == ClaimExpression.MAX_TOPICS) revert RegistryTooManyTopics();
        for (uint256 i = 0; i < count; ++i) {
            if (policy.topics[i] == topic) revert RegistryTopicDuplicate(topic);
        }
        policy.topics[count] = topic;
        policy.expression = ClaimExpression.allOf(count + 1);
        emit ClaimTopicAdded(topic);
    }

    /// @notice Removes a topic from the default policy. Caller: CLAIM_POLICY_MANAGER. Emits `ClaimTopicRemoved`. Without topics the
    /// default admits nobody.
    function removeClaimTopic(uint256 topic) external {
        _onlyPolicyManager();
        Policy storage policy = _policies[DEFAULT];
        uint256 count = ClaimExpression.topicCount(policy.expression);
        uint256 index = 0;
        while (index < count && policy.topics[index] != topic) ++index;
        if (index == count) revert RegistryTopicUnknown(topic);
        policy.topics[index] = policy.topics[count - 1];
        delete policy.topics[count - 1];
        policy.expression = ClaimExpression.allOf(count - 1);
        emit ClaimTopicRemoved(topic);
    }

    function getClaimTopics() external view returns (uint256[] memory) {
        Policy storage policy = _policies[DEFAULT];
        return _topicsOf(policy, policy.expression);
    }

    /* POLICIES */

    /// @inheritdoc IRegistryAdministration
    function setPolicy(address token, Group[] calldata anyOf) external {
        _onlyPolicySetter(token);
        if (token == DEFAULT) revert RegistryZeroAddress();
        (uint256 expression, uint256[] memory topics) = ClaimExpression.pack(anyOf);
        Policy storage policy = _policies[token];
        for (uint256 i = 0; i < topics.length; ++i) {
            _requireTopic(topics[i]);
            policy.topics[i] = topics[i];
        }
        policy.expression = expression;
        emit PolicySet(token, anyOf);
    }

    /// @inheritdoc IRegistryAdministration
    function clearPolicy(address token) external {
        _onlyPolicySetter(token);
        if (token == DEFAULT) revert RegistryZeroAddress();
        _policies[token].expression = 0;
        emit PolicyCleared(token);
    }

    /// @inheritdoc IRegistryAdministration
    function policyOf(address token) external view returns (Group[] memory) {
        (Policy storage policy, uint256 expression) = _inForce(token);
        return ClaimExpression.unpack(expression, _topicsOf(policy, expression));
    }

    /// @inheritdoc IRegistryAdministration
    function hasClaims(address user, Group[] calldata anyOf) external view returns (bool) {
        if (anyOf.length == 0) return false;
        (uint256 expression, uint256[] memory topics) = ClaimExpression.pack(anyOf);
        // In a delegated call `this` is the registry: the question goes back to the part that answers it.
        return IRegistryQuestions(address(this)).satisfies(user, expression, topics);
    }

    /* INTERNAL */

    /// @dev A token may set its own policy: who may ask the token to is the token's business (governance).
    function _onlyPolicySetter(address token) private view {
        if (msg.sender != token && msg.sender != SYSTEM.get(Names.ASSET_FACTORY)) _onlyPolicyManager();
    }
}
