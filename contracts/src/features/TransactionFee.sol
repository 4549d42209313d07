// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {IIdentityRegistryPolicy} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "../rules/Rule.sol";

/// @title Transaction fee
/// @notice A share of every transfer, in the asset itself, paid by the recipient out of what arrives, so that it can always be paid.
/// A feature bound to an asset's compliance like a rule. It needs the asset's FEES role, which moves free tokens and nothing else.
/// Mints, burns, forced transfers and recoveries are free, and so is what the collector sends or gets.
/// Parameters: `abi.encode(uint16 bps, address collector)`, at most 1000 bps; the fee is rounded down.
contract TransactionFee is Rule {
    uint256 private constant MAX_BPS = 1000;

    struct Fee {
        address collector;
        uint16 bps;
    }

    event FeeTaken(address indexed token, address indexed payer, address indexed collector, uint256 amount);

    error NotTheAssetsCompliance(address caller);

    mapping(address compliance => Fee) private _fees;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "TransactionFee";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK | Hooks.TRANSFER;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external pure {
        (uint16 bps, address collector) = abi.decode(params, (uint16, address));
        if (bps == 0 || bps > MAX_BPS) revert InvalidParams("bps");
        if (collector == address(0)) revert InvalidParams("collector");
    }

    /// @dev Refuses where `moved` would fail, so that pre-check and enforcement agree.
    function check(Movement calldata movement) external view returns (bytes32) {
        Fee memory fee = _fees[msg.sender];
        if (fee.collector == address(0)) return ReasonCodes.RULE_NOT_CONFIGURED;
        address from = movement.from;
        if (from == address(0) || _feeOf(fee, from, movement.to, movement.amount) == 0) return 0;
        return IIdentityRegistryPolicy(movement.registry).explain(movement.token, fee.collector) == 0
            ? ReasonCodes.OK
            : ReasonCodes.FEE_COLLECTOR_NOT_VERIFIED;
    }

    /// @notice Takes the fee of a transfer. Only the asset's own compliance: anybody may set parameters for itself and name any asset,
    /// and this contract holds the asset's FEES role. Emits `FeeTaken`. Reverts `NotTheAssetsCompliance`, and as `collectFee` does.
    function moved(address token, address from, address to, uint256 amount) external override {
        if (msg.sender != address(IAssetToken(token).compliance())) revert NotTheAssetsCompliance(msg.sender);
        Fee memory fee = _fees[msg.sender];
        uint256 due = _feeOf(fee, from, to, amount);
        if (due == 0 || IAssetToken(token).isForced()) return;
        emit FeeTaken(token, to, fee.collector, due);
        IAssetToken(token).collectFee(to, fee.collector, due);
    }

    function paramsOf(address compliance) external view returns (uint16 bps, address collector) {
        return (_fees[compliance].bps, _fees[compliance].collector);
    }

    function _apply(bytes calldata params) internal override {
        (uint16 bps, address collector) = abi.decode(params, (uint16, address));
        _fees[msg.sender] = Fee(collector, bps);
    }

    function _forget() internal override {
        delete _fees[msg.sender];
    }

    function _feeOf(Fee memory fee, address from, address to, uint256 amount) private pure returns (uint256) {
        return from == fee.collector || to == fee.collector ? 0 : amount * fee.bps / 10_000;
    }
}
