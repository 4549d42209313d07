// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ClaimExpression} from "../libraries/ClaimExpression.sol";
import {RegistryState} from "./RegistryState.sol";

/// @title The policy in force for a token
abstract contract PolicyReader is RegistryState {
    function _inForce(address token) internal view returns (Policy storage policy, uint256 expression) {
        policy = _policies[token];
        expression = policy.expression;
        if (expression == 0) {
            policy = _policies[DEFAULT];
            expression = policy.expression;
        }
    }

    function _topicsOf(Policy storage policy, uint256 expression) internal view returns (uint256[] memory topics) {
        topics = new uint256[](ClaimExpression.topicCount(expression));
        for (uint256 i = 0; i < topics.length; ++i) {
            topics[i] = policy.topics[i];
        }
    }
}
