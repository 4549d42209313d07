// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Group, IIdentityRegistryPolicy} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ClaimExpression} from "../libraries/ClaimExpression.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "./Rule.sol";

/// @title Claim rule
/// @notice Asks claims of the recipient, the sender or both, beyond the token's identity policy: an OR of AND groups with NOT.
/// A recipient exempt from identity has no claims to ask for. Parameters: `abi.encode(uint8 sides, Group[] anyOf)` with sides 1 = recipient, 2 = sender, 3 = both. An empty expression
/// or group is refused, and a compliance without parameters is refused everything: empty never means everyone.
contract ClaimRule is Rule {
    uint8 public constant RECIPIENT = 1;
    uint8 public constant SENDER = 2;

    /// `ClaimExpression` leaves the top byte of its word free: it holds the sides.
    uint256 private constant SIDES_SHIFT = 248;

    /// The commonest question, one claim of the recipient, as the topic alone: a check then reads one word. Zero for any other.
    mapping(address compliance => uint256 topic) private _ofRecipient;
    mapping(address compliance => uint256 sidesAndExpression) private _expressions;
    /// As many entries as the expression counts topics, so no length is stored or read.
    mapping(address compliance => mapping(uint256 index => uint256 topic)) private _topics;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "ClaimRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external pure {
        (uint8 sides, Group[] memory anyOf) = abi.decode(params, (uint8, Group[]));
        if (sides == 0 || sides > RECIPIENT | SENDER) revert InvalidParams("sides");
        ClaimExpression.pack(anyOf);
    }

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32) {
        IIdentityRegistryPolicy registry = IIdentityRegistryPolicy(movement.registry);
        uint256 only = _ofRecipient[msg.sender];
        if (only != 0) {
            return movement.exempt || registry.hasClaim(movement.to, only)
                ? ReasonCodes.OK
                : ReasonCodes.RECIPIENT_CLAIMS_MISSING;
        }
        (uint256 sides, uint256 expression, uint256[] memory topics) = _load(msg.sender);
        if (sides == 0) return ReasonCodes.RULE_NOT_CONFIGURED;
        address from = movement.from;
        // A mint has no sender to ask.
        if (sides & SENDER != 0 && from != address(0) && !registry.satisfies(from, expression, topics)) {
            return ReasonCodes.SENDER_CLAIMS_MISSING;
        }
        if (sides & RECIPIENT != 0 && !movement.exempt && !registry.satisfies(movement.to, expression, topics)) {
            return ReasonCodes.RECIPIENT_CLAIMS_MISSING;
        }
        return ReasonCodes.OK;
    }

    /// @notice Sides and expression of a compliance; sides zero when it is not configured.
    function paramsOf(address compliance) external view returns (uint8 sides, Group[] memory anyOf) {
        (uint256 stored, uint256 expression, uint256[] memory topics) = _load(compliance);
        // casting to 'uint8' is safe because only the top byte is shifted down
        // forge-lint: disable-next-line(unsafe-typecast)
        return (uint8(stored), ClaimExpression.unpack(expression, topics));
    }

    function _apply(bytes calldata params) internal override {
        (uint8 sides, Group[] memory anyOf) = abi.decode(params, (uint8, Group[]));
        (uint256 expression, uint256[] memory topics) = ClaimExpression.pack(anyOf);
        _ofRecipient[msg.sender] = sides == RECIPIENT && expression == ClaimExpression.ONE_TOPIC ? topics[0] : 0;
        _expressions[msg.sender] = uint256(sides) << SIDES_SHIFT | expression;
        for (uint256 i; i < topics.length; ++i) {
            _topics[msg.sender][i] = topics[i];
        }
    }

    function _forget() internal override {
        // The topics left behind mean nothing without an expression that counts them.
        delete _ofRecipient[msg.sender];
        delete _expressions[msg.sender];
    }

    function _load(address compliance)
        private
        view
        returns (uint256 sides, uint256 expression, uint256[] memory topics)
    {
        uint256 word = _expressions[compliance];
        sides = word >> SIDES_SHIFT;
        expression = word & ((1 << SIDES_SHIFT) - 1);
        topics = new uint256[](ClaimExpression.topicCount(expression));
        for (uint256 i; i < topics.length; ++i) {
            topics[i] = _topics[compliance][i];
        }
    }
}
