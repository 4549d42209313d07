// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "./Rule.sol";
import {Windows} from "./Windows.sol";

/// @notice The most that may move within a window; kind 0 (then all zero) is no limit.
struct VolumeLimit {
    /// `Windows.FIXED` (1) or `Windows.ROLLING` (2).
    uint8 kind;
    uint32 lengthSeconds;
    /// Unix seconds at which a fixed window began; zero for a rolling one.
    uint48 start;
    uint128 max;
}

/// @title Transfer limit rule
/// @notice Limits the amount of a single transfer, and the volume that one holder (identity) and that all holders together may
/// transfer in a fixed or rolling window. Parameters: `abi.encode(uint128 maxAmount, VolumeLimit perHolder, VolumeLimit perToken)` in the
/// token's smallest units; maxAmount zero is no limit, at least one limit. Volume counts for the sender. Mints, burns and movements
/// between wallets of one holder are no transfers; a forced transfer is never refused here, but counts.
///
/// Replacing the parameters keeps the sum of a limit whose window stays the same. An exempt sender (a contract of the platform) is
/// neither limited nor counted; exemption of a recipient frees no sender.
contract TransferLimitRule is Rule {
    using Windows for Windows.Counter;

    struct Config {
        uint128 maxAmount;
        // Which limits there are, so that no word is read of one that does not exist.
        bool perHolder;
        bool perToken;
        bool configured;
        uint32 epoch;
        // How many wallets are exempt; mostly none, and then nobody has to be looked up.
        uint32 exempt;
    }

    event ExemptionSet(address indexed compliance, address indexed wallet, bool exempt);

    /// @dev All holders together.
    address private constant EVERYBODY = address(0);

    mapping(address compliance => Config) private _configs;
    mapping(address compliance => Windows.Limit) private _perHolder;
    mapping(address compliance => Windows.Limit) private _perToken;
    mapping(uint40 counter => mapping(address holder => Windows.Counter)) private _counters;
    mapping(uint256 key => mapping(address wallet => bool)) private _exempt;
    uint40 private _lastCounter;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "TransferLimitRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK | Hooks.TRANSFER;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external view {
        (uint128 maxAmount, VolumeLimit memory perHolder, VolumeLimit memory perToken) = _decode(params);
        if (maxAmount == 0 && perHolder.kind == 0 && perToken.kind == 0) revert InvalidParams("maxAmount");
        if (!_isValid(perHolder)) revert InvalidParams("perHolder");
        if (!_isValid(perToken)) revert InvalidParams("perToken");
    }

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32 reason) {
        Config memory config = _configs[msg.sender];
        if (!config.configured) return ReasonCodes.RULE_NOT_CONFIGURED;
        (address from, uint256 amount) = (movement.from, movement.amount);
        if (from == address(0) || from == movement.to || amount == 0 || _passes(config, from)) return ReasonCodes.OK;
        address holder;
        if (config.perHolder) (holder,) = IRegistryQuestions(movement.registry).holderOf(from);
        if (config.maxAmount != 0 && amount > config.maxAmount) {
            reason = ReasonCodes.TRANSFER_AMOUNT_EXCEEDED;
        } else if (config.perHolder && !_fits(_perHolder[msg.sender], holder, amount)) {
            reason = ReasonCodes.HOLDER_VOLUME_EXCEEDED;
        } else if (config.perToken && !_fits(_perToken[msg.sender], EVERYBODY, amount)) {
            reason = ReasonCodes.TOKEN_VOLUME_EXCEEDED;
        }
        if (reason != 0) {
            if (!config.perHolder) (holder,) = IRegistryQuestions(movement.registry).holderOf(from);
            (address recipient,) = _recipient(movement);
            if (recipient == holder) return ReasonCodes.OK;
        }
    }

    /// @inheritdoc IRule
    function moved(address token, address from, address to, uint256 amount) external override {
        Config memory config = _configs[msg.sender];
        if (!(config.perHolder || config.perToken) || amount == 0 || _passes(config, from)) return;
        IRegistryQuestions registry = IRegistryQuestions(address(IAssetToken(token).identityRegistry()));
        (address holder, address recipient) = registry.holdersOf(from, to);
        if (holder == recipient) return;
        if (config.perHolder) _add(_perHolder[msg.sender], holder, amount);
        if (config.perToken) _add(_perToken[msg.sender], EVERYBODY, amount);
    }

    /// @notice Lets a sender pass without limit, or ends that. Caller: a compliance, for its token (governance by `callModule`).
    /// Emits `ExemptionSet`. Reverts `NotConfigured`.
    function setExempt(address wallet, bool exempt) external {
        Config storage config = _configs[msg.sender];
        if (!config.configured) revert NotConfigured(msg.sender);
        uint256 key = _key(msg.sender, config.epoch);
        if (_exempt[key][wallet] == exempt) return;
        _exempt[key][wallet] = exempt;
        if (exempt) ++config.exempt;
        else --config.exempt;
        emit ExemptionSet(msg.sender, wallet, exempt);
    }

    /// @notice The limits of a compliance; all zero when it is not configured.
    function paramsOf(address compliance)
        external
        view
        returns (uint128 maxAmount, VolumeLimit memory perHolder, VolumeLimit memory perToken)
    {
        return (_configs[compliance].maxAmount, _public(_perHolder[compliance]), _public(_perToken[compliance]));
    }

    /// @notice Volume in force now: of one holder (identity, or wallet without one) and of all together.
    function volumeOf(address compliance, address holder) external view returns (uint256 ofHolder, uint256 ofToken) {
        Windows.Limit memory perHolder = _perHolder[compliance];
        Windows.Limit memory perToken = _perToken[compliance];
        if (perHolder.kind != 0) ofHolder = _counters[perHolder.counter][holder].used(perHolder);
        if (perToken.kind != 0) ofToken = _counters[perToken.counter][EVERYBODY].used(perToken);
    }

    function isExempt(address compliance, address wallet) external view returns (bool) {
        return _exempt[_key(compliance, _configs[compliance].epoch)][wallet];
    }

    /* INTERNAL */

    function _apply(bytes calldata params) internal override {
        (uint128 maxAmount, VolumeLimit memory perHolder, VolumeLimit memory perToken) = _decode(params);
        Config storage config = _configs[msg.sender];
        (config.maxAmount, config.configured) = (maxAmount, true);
        (config.perHolder, config.perToken) = (perHolder.kind != 0, perToken.kind != 0);
        _perHolder[msg.sender] = _renew(_perHolder[msg.sender], perHolder);
        _perToken[msg.sender] = _renew(_perToken[msg.sender], perToken);
    }

    function _forget() internal override {
        uint32 epoch = _configs[msg.sender].epoch + 1;
        delete _configs[msg.sender];
        _configs[msg.sender].epoch = epoch;
        delete _perHolder[msg.sender];
        delete _perToken[msg.sender];
    }

    function _passes(Config memory config, address sender) private view returns (bool) {
        return config.exempt != 0 && _exempt[_key(msg.sender, config.epoch)][sender];
    }

    function _fits(Windows.Limit memory limit, address holder, uint256 amount) private view returns (bool) {
        return _counters[limit.counter][holder].fits(limit, amount);
    }

    function _add(Windows.Limit memory limit, address holder, uint256 amount) private {
        _counters[limit.counter][holder].add(limit, amount);
    }

    function _renew(Windows.Limit memory old, VolumeLimit memory given) private returns (Windows.Limit memory limit) {
        limit = Windows.Limit({
            max: given.max,
            kind: given.kind,
            lengthSeconds: given.lengthSeconds,
            start: given.start,
            counter: old.counter
        });
        if (limit.kind != 0 && !Windows.sameNature(old, limit)) limit.counter = ++_lastCounter;
    }

    function _decode(bytes calldata params)
        private
        pure
        returns (uint128 maxAmount, VolumeLimit memory perHolder, VolumeLimit memory perToken)
    {
        return abi.decode(params, (uint128, VolumeLimit, VolumeLimit));
    }

    function _isValid(VolumeLimit memory limit) private view returns (bool) {
        if (limit.kind == 0) return limit.lengthSeconds == 0 && limit.start == 0 && limit.max == 0;
        return limit.max != 0 && Windows.isWindow(limit.kind, limit.lengthSeconds, limit.start);
    }

    function _public(Windows.Limit memory limit) private pure returns (VolumeLimit memory) {
        return VolumeLimit({kind: limit.kind, lengthSeconds: limit.lengthSeconds, start: limit.start, max: limit.max});
    }
}
