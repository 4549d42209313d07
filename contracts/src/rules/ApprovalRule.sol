// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "./Rule.sol";

/// @notice What an approver agrees to. `from` zero approves a mint.
struct Approval {
    address from;
    address to;
    /// One-time: exactly this amount. Standing: at most this amount in each transfer.
    uint128 amount;
    /// Unix seconds from which the approval no longer counts.
    uint48 expiresAt;
    bool standing;
}

/// @title Approval rule
/// @notice Every transfer needs somebody's approval in advance: for one movement of an exact amount, or standing until it expires.
/// Parameters: `abi.encode(address[] approvers, uint32 maxValiditySeconds, bool mints)`: 1 to 16 approvers; no approval may outlive the
/// validity; `mints` asks approval of mints too. An approval names wallets and counts only while its approver is one, so
/// dismissing an approver ends what he approved, and a recovery ends what was approved for the lost wallet.
/// A standing approval is preferred; otherwise the movement uses the one-time approval up. A forced transfer of exactly an approved amount uses
/// it up too: what was approved has happened.
contract ApprovalRule is Rule {
    uint256 public constant MAX_APPROVERS = 16;

    struct Config {
        uint32 maxValiditySeconds;
        bool mints;
        uint32 epoch;
        uint8 count;
    }

    struct OneTime {
        address approver;
        uint48 expiresAt;
    }

    struct Standing {
        address approver;
        uint48 expiresAt;
        uint128 max;
    }

    event Approved(address indexed compliance, address indexed approver, bytes32 indexed id, Approval approval);
    event ApprovalRevoked(address indexed compliance, address indexed approver, bytes32 indexed id);
    event ApprovalUsed(address indexed compliance, bytes32 indexed id);

    error NotApprover(address caller);
    error ApprovalExpiryInvalid(uint256 expiresAt, uint256 latest);
    error ApprovalAmountZero();
    error ApprovalUnknown(bytes32 id);

    mapping(address compliance => Config) private _configs;
    mapping(address compliance => address[MAX_APPROVERS]) private _approvers;
    mapping(uint256 key => mapping(address approver => bool)) private _isApprover;
    mapping(uint256 key => mapping(bytes32 id => OneTime)) private _oneTime;
    mapping(uint256 key => mapping(bytes32 id => Standing)) private _standing;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "ApprovalRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK | Hooks.TRANSFER | Hooks.MINT;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external pure {
        (address[] memory approvers, uint32 maxValiditySeconds,) = abi.decode(params, (address[], uint32, bool));
        if (approvers.length == 0 || approvers.length > MAX_APPROVERS) revert InvalidParams("approvers");
        for (uint256 i; i < approvers.length; ++i) {
            if (approvers[i] == address(0)) revert InvalidParams("approvers");
        }
        if (maxValiditySeconds == 0) revert InvalidParams("maxValidity");
    }

    /* APPROVERS */

    /// @notice Approves for the token of `compliance`; a standing approval of the same pair, or a one-time approval of the same pair
    /// and amount, is replaced. Caller: approver. Emits `Approved`. Reverts `NotApprover`, `ApprovalExpiryInvalid`, `ApprovalAmountZero`.
    function approve(address compliance, Approval calldata approval) external returns (bytes32 id) {
        uint256 key = _onlyApprover(compliance);
        uint256 latest = block.timestamp + _configs[compliance].maxValiditySeconds;
        if (approval.expiresAt <= block.timestamp || approval.expiresAt > latest) {
            revert ApprovalExpiryInvalid(approval.expiresAt, latest);
        }
        if (approval.amount == 0) revert ApprovalAmountZero();
        if (approval.standing) {
            id = _pair(approval.from, approval.to);
            _standing[key][id] = Standing({approver: msg.sender, expiresAt: approval.expiresAt, max: approval.amount});
        } else {
            id = _exact(approval.from, approval.to, approval.amount);
            _oneTime[key][id] = OneTime({approver: msg.sender, expiresAt: approval.expiresAt});
        }
        emit Approved(compliance, msg.sender, id, approval);
    }

    /// @notice Takes back an approval, whoever gave it. Caller: approver. Emits `ApprovalRevoked`. Reverts `NotApprover`,
    /// `ApprovalUnknown`.
    function revoke(address compliance, bytes32 id) external {
        uint256 key = _onlyApprover(compliance);
        if (_standing[key][id].approver == address(0) && _oneTime[key][id].approver == address(0)) {
            revert ApprovalUnknown(id);
        }
        delete _standing[key][id];
        delete _oneTime[key][id];
        emit ApprovalRevoked(compliance, msg.sender, id);
    }

    /* JUDGING */

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32) {
        (address from, address to, uint256 amount) = (movement.from, movement.to, movement.amount);
        Config memory config = _configs[msg.sender];
        if (config.count == 0) return ReasonCodes.RULE_NOT_CONFIGURED;
        // Nothing moves, so there is nothing to approve.
        if (amount == 0 || from == to || (from == address(0) && !config.mints)) return ReasonCodes.OK;
        uint256 key = _key(msg.sender, config.epoch);
        bytes32 standing = _standingReason(key, from, to, amount);
        if (standing == 0) return ReasonCodes.OK;
        OneTime memory once = _oneTime[key][_exact(from, to, amount)];
        bytes32 reason = _reason(key, once.approver, once.expiresAt);
        // Of two that do not count, an expired one says more than a missing one.
        return reason == ReasonCodes.TRANSFER_NOT_APPROVED ? standing : reason;
    }

    /// @inheritdoc IRule
    function moved(address, address from, address to, uint256 amount) external override {
        Config memory config = _configs[msg.sender];
        if (config.count == 0 || (from == address(0) && !config.mints)) return;
        uint256 key = _key(msg.sender, config.epoch);
        bytes32 id = _exact(from, to, amount);
        if (_standingReason(key, from, to, amount) == 0 || _oneTime[key][id].approver == address(0)) return;
        delete _oneTime[key][id];
        emit ApprovalUsed(msg.sender, id);
    }

    /* VIEWS */

    /// @notice Parameters of a compliance; no approvers when it is not configured.
    function paramsOf(address compliance)
        external
        view
        returns (address[] memory approvers, uint32 maxValiditySeconds, bool mints)
    {
        Config memory config = _configs[compliance];
        approvers = new address[](config.count);
        for (uint256 i; i < approvers.length; ++i) {
            approvers[i] = _approvers[compliance][i];
        }
        return (approvers, config.maxValiditySeconds, config.mints);
    }

    /// @notice Id of an approval, for `revoke` and the events.
    function idOf(address from, address to, uint256 amount, bool standing) external pure returns (bytes32) {
        return standing ? _pair(from, to) : _exact(from, to, amount);
    }

    /// @notice Who gave an approval, until when it counts, and the most a standing one covers (zero for one-time); zeros when there is none.
    function approvalOf(address compliance, bytes32 id)
        external
        view
        returns (address approver, uint48 expiresAt, uint128 max)
    {
        uint256 key = _key(compliance, _configs[compliance].epoch);
        Standing memory standing = _standing[key][id];
        if (standing.approver != address(0)) return (standing.approver, standing.expiresAt, standing.max);
        OneTime memory once = _oneTime[key][id];
        return (once.approver, once.expiresAt, 0);
    }

    /* INTERNAL */

    function _apply(bytes calldata params) internal override {
        (address[] memory approvers, uint32 maxValiditySeconds, bool mints) =
            abi.decode(params, (address[], uint32, bool));
        Config storage config = _configs[msg.sender];
        uint256 key = _key(msg.sender, config.epoch);
        uint256 before = config.count;
        for (uint256 i; i < before; ++i) {
            delete _isApprover[key][_approvers[msg.sender][i]];
        }
        for (uint256 i; i < approvers.length; ++i) {
            _approvers[msg.sender][i] = approvers[i];
            _isApprover[key][approvers[i]] = true;
        }
        (config.maxValiditySeconds, config.mints) = (maxValiditySeconds, mints);
        // At most 16.
        // forge-lint: disable-next-line(unsafe-typecast)
        config.count = uint8(approvers.length);
    }

    function _forget() internal override {
        _configs[msg.sender] =
            Config({maxValiditySeconds: 0, mints: false, epoch: _configs[msg.sender].epoch + 1, count: 0});
    }

    function _onlyApprover(address compliance) private view returns (uint256 key) {
        key = _key(compliance, _configs[compliance].epoch);
        if (!_isApprover[key][msg.sender]) revert NotApprover(msg.sender);
    }

    function _standingReason(uint256 key, address from, address to, uint256 amount) private view returns (bytes32) {
        Standing memory standing = _standing[key][_pair(from, to)];
        if (amount > standing.max) return ReasonCodes.TRANSFER_NOT_APPROVED;
        return _reason(key, standing.approver, standing.expiresAt);
    }

    function _reason(uint256 key, address approver, uint256 expiresAt) private view returns (bytes32) {
        if (approver == address(0) || !_isApprover[key][approver]) return ReasonCodes.TRANSFER_NOT_APPROVED;
        return block.timestamp < expiresAt ? ReasonCodes.OK : ReasonCodes.TRANSFER_APPROVAL_EXPIRED;
    }

    function _pair(address from, address to) private pure returns (bytes32) {
        return keccak256(abi.encode(from, to));
    }

    function _exact(address from, address to, uint256 amount) private pure returns (bytes32) {
        return keccak256(abi.encode(from, to, amount));
    }
}
