// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ITokenCompliance} from "../interfaces/ITokenCompliance.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "./Rule.sol";

/// @title Holding period rule
/// @notice Tokens may leave their holder only after a number of whole days (UTC): what arrives on day D may go from the start of day
/// D + days + 1. Parameters: `abi.encode(uint16 days, uint8 earlier)`; `earlier` says how tokens count that were held before the rule was
/// bound: 1 = free at once, 2 = as received on the day of binding. It cannot change while the rule stays bound.
///
/// Lots belong to the holder (identity), so moving between own wallets and recovery keep their age. What leaves, by transfer, burn
/// or force, is the oldest first; what a forced transfer brings is new. Lots are kept as one running total per holder and day of
/// receipt: no list is walked, however often somebody is sent a little, and such dust never delays older tokens.
///
/// An exempt sender (an offering, a distribution: contracts that hold for others) may send at once; exemption of a recipient frees
/// no sender.
contract HoldingPeriodRule is Rule {
    using Checkpoints for Checkpoints.Trace208;

    uint8 public constant EARLIER_FREE = 1;
    uint8 public constant EARLIER_AS_NEW = 2;
    uint16 public constant MAX_DAYS = 10_950;

    struct Config {
        uint16 periodDays;
        uint8 earlier;
        uint32 epoch;
        uint48 boundOn;
    }

    struct Position {
        // Held before the rule was bound, as far as seen.
        uint120 opening;
        // Everything that ever left.
        uint136 spent;
    }

    struct Wallet {
        // Under whom its tokens are kept; zero when it was not met yet, or is exempt.
        address holder;
        bool exempt;
    }

    event ExemptionSet(address indexed compliance, address indexed wallet, bool exempt);

    error EarlierBalanceFixed();

    mapping(address compliance => Config) private _configs;
    mapping(uint256 key => mapping(address wallet => Wallet)) private _wallets;
    mapping(uint256 key => mapping(address holder => Position)) private _positions;
    mapping(uint256 key => mapping(address holder => Checkpoints.Trace208 byDay)) private _received;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "HoldingPeriodRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.ALL;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external pure {
        (uint16 periodDays, uint8 earlier) = abi.decode(params, (uint16, uint8));
        if (periodDays == 0 || periodDays > MAX_DAYS) revert InvalidParams("days");
        if (earlier != EARLIER_FREE && earlier != EARLIER_AS_NEW) revert InvalidParams("earlier");
    }

    /* JUDGING */

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32) {
        Config memory config = _configs[msg.sender];
        if (config.periodDays == 0) return ReasonCodes.RULE_NOT_CONFIGURED;
        (address from, uint256 amount) = (movement.from, movement.amount);
        if (from == address(0) || from == movement.to || amount == 0) return ReasonCodes.OK;
        uint256 key = _key(msg.sender, config.epoch);
        Wallet memory sender = _wallets[key][from];
        if (sender.exempt) return ReasonCodes.OK;
        (address holder, uint256 free) = _free(config, key, movement.token, from, sender.holder);
        if (amount <= free) return ReasonCodes.OK;
        // Between wallets of one holder nothing leaves.
        return holder == _receiver(key, movement) ? ReasonCodes.OK : ReasonCodes.HOLDING_PERIOD_NOT_OVER;
    }

    /* FOLLOWING */

    /// @inheritdoc IRule
    function moved(address token, address from, address to, uint256 amount) external override {
        Config memory config = _configs[msg.sender];
        if (config.periodDays == 0 || amount == 0 || from == to) return;
        uint256 key = _key(msg.sender, config.epoch);
        address source;
        if (from != address(0)) {
            Wallet memory sender = _wallets[key][from];
            source = sender.holder;
            if (source == address(0) && !sender.exempt) {
                source = _meet(key, token, from, source, IERC20(token).balanceOf(from) + amount);
            }
        }
        address target;
        if (to != address(0)) {
            Wallet memory recipient = _wallets[key][to];
            target = recipient.holder;
            if (!recipient.exempt) {
                uint256 before = IERC20(token).balanceOf(to) - amount;
                // An empty wallet takes the holder that the registry names now.
                if (target == address(0) || before == 0) target = _meet(key, token, to, target, before);
            }
        }
        if (source == target) return;
        if (source != address(0)) _positions[key][source].spent += SafeCast.toUint120(amount);
        if (target != address(0)) _receive(key, target, amount);
    }

    /// @notice Lets a contract that holds for others send without waiting, or ends that; its tokens then count as received today.
    /// Caller: a compliance, for its token (governance by `callModule`). Emits `ExemptionSet`. Reverts `NotConfigured`.
    function setExempt(address wallet, bool exempt) external {
        Config memory config = _configs[msg.sender];
        if (config.periodDays == 0) revert NotConfigured(msg.sender);
        uint256 key = _key(msg.sender, config.epoch);
        Wallet memory former = _wallets[key][wallet];
        if (former.exempt == exempt) return;
        address token = ITokenCompliance(msg.sender).token();
        uint256 balance = IERC20(token).balanceOf(wallet);
        address holder;
        if (exempt) {
            if (former.holder != address(0)) _positions[key][former.holder].spent += SafeCast.toUint120(balance);
        } else if (balance != 0) {
            holder = _behind(token, wallet);
            _receive(key, holder, balance);
        }
        _wallets[key][wallet] = Wallet({holder: holder, exempt: exempt});
        emit ExemptionSet(msg.sender, wallet, exempt);
    }

    /* VIEWS */

    /// @notice Period and treatment of earlier balances; zeros when not configured.
    function paramsOf(address compliance) external view returns (uint16 periodDays, uint8 earlier) {
        return (_configs[compliance].periodDays, _configs[compliance].earlier);
    }

    /// @notice How much the holder of `wallet` could send away now, whichever wallet it lies in.
    function freeOf(address compliance, address wallet) external view returns (uint256 free) {
        Config memory config = _configs[compliance];
        if (config.periodDays == 0) return 0;
        address token = ITokenCompliance(compliance).token();
        uint256 key = _key(compliance, config.epoch);
        Wallet memory entry = _wallets[key][wallet];
        if (entry.exempt) return IERC20(token).balanceOf(wallet);
        (, free) = _free(config, key, token, wallet, entry.holder);
    }

    /// @notice What the rule believes a holder (identity) to own in the wallets it has met: equal to their balances.
    function trackedOf(address compliance, address holder) external view returns (uint256) {
        uint256 key = _key(compliance, _configs[compliance].epoch);
        Position memory position = _positions[key][holder];
        return position.opening + _received[key][holder].latest() - position.spent;
    }

    function isExempt(address compliance, address wallet) external view returns (bool) {
        return _wallets[_key(compliance, _configs[compliance].epoch)][wallet].exempt;
    }

    /* INTERNAL */

    function _apply(bytes calldata params) internal override {
        (uint16 periodDays, uint8 earlier) = abi.decode(params, (uint16, uint8));
        Config storage config = _configs[msg.sender];
        if (config.periodDays == 0) (config.earlier, config.boundOn) = (earlier, _today());
        else if (config.earlier != earlier) revert EarlierBalanceFixed();
        config.periodDays = periodDays;
    }

    function _forget() internal override {
        _configs[msg.sender] = Config({periodDays: 0, earlier: 0, epoch: _configs[msg.sender].epoch + 1, boundOn: 0});
    }

    /// @dev Of everything that was received long enough ago, what has not left yet.
    /// @param known holder under whom the wallet is kept; zero when it was not met yet
    function _free(Config memory config, uint256 key, address token, address wallet, address known)
        private
        view
        returns (address holder, uint256 free)
    {
        holder = known;
        uint256 unseen;
        if (holder == address(0)) {
            holder = _behind(token, wallet);
            unseen = IERC20(token).balanceOf(wallet);
        }
        Position memory position = _positions[key][holder];
        uint48 today = _today();
        if (today > config.periodDays) free = _received[key][holder].upperLookupRecent(today - config.periodDays - 1);
        if (config.earlier == EARLIER_FREE || config.boundOn + config.periodDays < today) {
            free += position.opening + unseen;
        }
        free = free > position.spent ? free - position.spent : 0;
    }

    /// @dev Finds the holder under whom a wallet's tokens are kept from now on; tokens of a wallet met for the first time are from
    /// before the rule.
    /// @param known the holder so far, zero when there is none
    /// @param before balance before the movement
    function _meet(uint256 key, address token, address wallet, address known, uint256 before)
        private
        returns (address holder)
    {
        holder = _behind(token, wallet);
        if (holder != known) _wallets[key][wallet].holder = holder;
        if (before != 0) _positions[key][holder].opening += SafeCast.toUint120(before);
    }

    /// @dev Whose lots a receipt would join: what `moved` will find.
    function _receiver(uint256 key, Movement calldata movement) private view returns (address holder) {
        holder = _wallets[key][movement.to].holder;
        if (holder == address(0) || IERC20(movement.token).balanceOf(movement.to) == 0) {
            (holder,) = _recipient(movement);
        }
    }

    function _behind(address token, address wallet) private view returns (address holder) {
        (holder,) = IRegistryQuestions(address(IAssetToken(token).identityRegistry())).holderOf(wallet);
    }

    function _receive(uint256 key, address holder, uint256 amount) private {
        Checkpoints.Trace208 storage received = _received[key][holder];
        received.push(_today(), SafeCast.toUint208(received.latest() + amount));
    }

    function _today() private view returns (uint48) {
        return SafeCast.toUint48(block.timestamp / 1 days);
    }
}
