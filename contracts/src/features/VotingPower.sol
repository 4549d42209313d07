// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Votes} from "@openzeppelin/contracts/governance/utils/Votes.sol";
import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {Rule} from "../rules/Rule.sol";

/// @title Voting power of one asset
/// @notice A feature of its own: bound to the asset's compliance like a rule, it judges nothing and follows every movement. One unit is
/// one vote once its holder has delegated, to itself or another (ERC-5805; OpenZeppelin's `Votes`, by time). Held and frozen units vote.
/// Threat model: only the compliance that the asset uses right now is believed. Once detached it answers for the past and
/// cannot come back, because it has missed movements.
contract VotingPower is Rule, Votes {
    IAssetToken public immutable TOKEN;

    address private _compliance;
    bool private _detached;

    error NotAttached();
    error NotTheAssetsCompliance(address caller);
    error AlreadyUsed();

    constructor(IAssetToken token) EIP712("VotingPower", "1") {
        TOKEN = token;
    }

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "VotingPower";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.TRANSFER | Hooks.MINT | Hooks.BURN;
    }

    /// @notice There are no parameters.
    function validate(bytes calldata params) external pure {
        if (params.length != 0) revert InvalidParams("encoding");
    }

    /// @inheritdoc IRule
    function check(Movement calldata) external pure returns (bytes32) {
        return 0;
    }

    /// @notice Follows a movement. The attached compliance only.
    function moved(address token, address from, address to, uint256 amount) external override {
        if (msg.sender != _compliance || token != address(TOKEN)) revert NotTheAssetsCompliance(msg.sender);
        _transferVotingUnits(from, to, amount);
    }

    /// @dev ERC-6372: votes go by time, as record dates do.
    function clock() public view override returns (uint48) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint48(block.timestamp);
    }

    // solhint-disable-next-line func-name-mixedcase
    function CLOCK_MODE() public pure override returns (string memory) {
        return "mode=timestamp";
    }

    function _getVotingUnits(address account) internal view override returns (uint256) {
        return TOKEN.balanceOf(account);
    }

    /// @dev A delegation that no movement keeps true would be worth nothing.
    function _delegate(address account, address delegatee) internal override {
        if (_compliance == address(0)) revert NotAttached();
        super._delegate(account, delegatee);
    }

    /// @dev Attaches, once. Units that exist already count from now on.
    function _apply(bytes calldata) internal override {
        if (_compliance != address(0) || _detached) revert AlreadyUsed();
        address expected = address(TOKEN.compliance());
        // While an asset is being created its token does not know its compliance yet.
        if (expected != address(0) && expected != msg.sender) revert NotTheAssetsCompliance(msg.sender);
        _compliance = msg.sender;
        // Only the total is written: nobody has delegated to this contract.
        _transferVotingUnits(address(0), address(this), TOKEN.totalSupply());
    }

    /// @dev Detaches for ever.
    function _forget() internal override {
        if (msg.sender != _compliance) revert NotTheAssetsCompliance(msg.sender);
        _compliance = address(0);
        _detached = true;
    }
}
