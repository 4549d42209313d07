// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Group} from "../interfaces/IIdentityRegistryPolicy.sol";

/// @title Claim expressions packed into one word
/// @notice An expression is an OR of up to 8 groups over up to 15 distinct topics. The word holds
/// bits 0-3 the number of groups, bits 4-7 the number of topics, and from bit 8 on, 30 bits per group:
/// 15 bits "must be attested" and 15 bits "must not be attested", bit i standing for topics[i].
/// The word zero is the empty expression, which nobody meets.
library ClaimExpression {
    uint256 internal constant MAX_GROUPS = 8;
    uint256 internal constant MAX_TOPICS = 15;
    uint256 internal constant MASK = 0x7fff;
    /// @dev `allOf(1)`: the commonest expression, which is answered without the bookkeeping of the others.
    uint256 internal constant ONE_TOPIC = 0x111;

    error ClaimExpressionEmpty();
    error ClaimExpressionEmptyGroup(uint256 group);
    error ClaimExpressionContradiction(uint256 group);
    error ClaimExpressionTooManyGroups();
    error ClaimExpressionTooManyTopics();

    /// @notice Packs `anyOf`. Reverts on anything that would be met by everyone or by nobody.
    function pack(Group[] memory anyOf) internal pure returns (uint256 expression, uint256[] memory topics) {
        uint256 groups = anyOf.length;
        if (groups == 0) revert ClaimExpressionEmpty();
        if (groups > MAX_GROUPS) revert ClaimExpressionTooManyGroups();
        uint256[] memory found = new uint256[](MAX_TOPICS);
        uint256 count;
        for (uint256 g = 0; g < groups; ++g) {
            uint256 required;
            uint256 forbidden;
            (required, count) = _mask(anyOf[g].allOf, found, count);
            (forbidden, count) = _mask(anyOf[g].noneOf, found, count);
            if (required | forbidden == 0) revert ClaimExpressionEmptyGroup(g);
            if (required & forbidden != 0) revert ClaimExpressionContradiction(g);
            expression |= (required | (forbidden << 15)) << (8 + 30 * g);
        }
        expression |= groups | (count << 4);
        topics = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            topics[i] = found[i];
        }
    }

    /// @notice One group that requires the first `count` topics: the form of the ERC-3643 claim topics.
    function allOf(uint256 count) internal pure returns (uint256) {
        if (count == 0) return 0;
        return 1 | (count << 4) | (((1 << count) - 1) << 8);
    }

    function groupCount(uint256 expression) internal pure returns (uint256) {
        return expression & 0xf;
    }

    function topicCount(uint256 expression) internal pure returns (uint256) {
        return (expression >> 4) & 0xf;
    }

    function group(uint256 expression, uint256 index) internal pure returns (uint256 required, uint256 forbidden) {
        uint256 bits = expression >> (8 + 30 * index);
        required = bits & MASK;
        forbidden = (bits >> 15) & MASK;
    }

    /// @notice The groups that `pack` was given, topics in the order first seen.
    function unpack(uint256 expression, uint256[] memory topics) internal pure returns (Group[] memory anyOf) {
        anyOf = new Group[](groupCount(expression));
        for (uint256 g = 0; g < anyOf.length; ++g) {
            (uint256 required, uint256 forbidden) = group(expression, g);
            anyOf[g] = Group({allOf: _select(required, topics), noneOf: _select(forbidden, topics)});
        }
    }

    function _mask(uint256[] memory wanted, uint256[] memory found, uint256 count)
        private
        pure
        returns (uint256 mask, uint256)
    {
        for (uint256 i = 0; i < wanted.length; ++i) {
            uint256 position = 0;
            while (position < count && found[position] != wanted[i]) ++position;
            if (position == count) {
                if (count == MAX_TOPICS) revert ClaimExpressionTooManyTopics();
                found[count++] = wanted[i];
            }
            mask |= 1 << position;
        }
        return (mask, count);
    }

    function _select(uint256 mask, uint256[] memory topics) private pure returns (uint256[] memory selected) {
        uint256 count;
        for (uint256 i = 0; i < topics.length; ++i) {
            count += (mask >> i) & 1;
        }
        selected = new uint256[](count);
        for (uint256 i = topics.length; i > 0; --i) {
            if ((mask >> (i - 1)) & 1 == 1) selected[--count] = topics[i - 1];
        }
    }
}
