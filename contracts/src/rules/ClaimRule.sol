// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Group, IIdentityRegistryPolicy} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IERC3643} from "../interfaces/IERC3643.sol";
import {IRule, Hooks} from "../interfaces/IRule.sol";
import {ClaimExpression} from "../libraries/ClaimExpression.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "./Rule.sol";

/// @title Claim rule
/// @notice Asks claims of the recipient, the sender or both, beyond the token's identity policy: an OR of AND groups with NOT.
/// Parameters: `abi.encode(uint8 sides, Group[] anyOf)` with sides 1 = recipient, 2 = sender, 3 = both. An empty expression
/// or group is refused, and a compliance without parameters is refused everything: empty never means everyone.
contract ClaimRule is Rule {
    uint8 public constant RECIPIENT = 1;
    uint8 public constant SENDER = 2;

    struct Params {
        uint8 sides;
        uint256 expression;
        uint256[] topics;
    }

    mapping(address compliance => Params) private _params;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "ClaimRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK;
    }

    /// @inheritdoc IRule
    function setParams(bytes calldata params) external {
        (uint8 sides, Group[] memory anyOf) = abi.decode(params, (uint8, Group[]));
        if (sides == 0 || sides > RECIPIENT | SENDER) revert InvalidParams();
        (uint256 expression, uint256[] memory topics) = ClaimExpression.pack(anyOf);
        _params[msg.sender] = Params(sides, expression, topics);
        emit ParamsSet(msg.sender, params);
    }

    /// @inheritdoc IRule
    function clearParams() external {
        delete _params[msg.sender];
        emit ParamsSet(msg.sender, "");
    }

    /// @inheritdoc IRule
    function check(address token, address from, address to, uint256) external view returns (bytes32) {
        Params memory p = _params[msg.sender];
        if (p.sides == 0) return ReasonCodes.RULE_NOT_CONFIGURED;
        IIdentityRegistryPolicy registry = IIdentityRegistryPolicy(address(IERC3643(token).identityRegistry()));
        // A mint has no sender to ask.
        if (p.sides & SENDER != 0 && from != address(0) && !registry.satisfies(from, p.expression, p.topics)) {
            return ReasonCodes.SENDER_CLAIMS_MISSING;
        }
        if (p.sides & RECIPIENT != 0 && !registry.satisfies(to, p.expression, p.topics)) {
            return ReasonCodes.RECIPIENT_CLAIMS_MISSING;
        }
        return ReasonCodes.OK;
    }

    /// @notice Sides and expression of a compliance; sides zero when it is not configured.
    function paramsOf(address compliance) external view returns (uint8 sides, Group[] memory anyOf) {
        Params memory p = _params[compliance];
        return (p.sides, ClaimExpression.unpack(p.expression, p.topics));
    }
}
