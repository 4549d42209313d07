// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IAssetToken} from "../interfaces/IAssetToken.sol";
import {IRegistryQuestions} from "../interfaces/IIdentityRegistryPolicy.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ITokenCompliance} from "../interfaces/ITokenCompliance.sol";
import {ReasonCodes} from "../Refusals.sol";
import {Rule} from "./Rule.sol";

/// @notice The most holders from one country (ISO 3166 numeric); zero admits none.
struct CountryLimit {
    uint16 country;
    uint32 max;
}

/// @title Holder limit rule
/// @notice Limits how many people hold a token, in all and per country. A person is an identity, with any number of wallets;
/// somebody who holds already is never refused, and neither is a newcomer who takes the place of a sender who leaves.
/// Parameters: `abi.encode(uint32 max, CountryLimit[] countries)`; max zero is no limit in all, countries in ascending order, at
/// least one limit.
///
/// A wallet is counted under the identity it had when it received its first tokens and until it is empty, so burns, forced
/// transfers and recoveries need no special case. The rule also adds up the balances of the wallets it has counted: when it
/// is bound to a token that has holders already, the sum falls short of the supply and newcomers are refused until `sync` has counted everybody.
/// Forced transfers may pass the limit; then nobody new is admitted until it holds again.
contract HolderLimitRule is Rule {
    uint256 private constant MAX_COUNTRY = 999;

    struct Config {
        bool configured;
        uint32 epoch;
        // Of the parameters: limits of an older version are not in force.
        uint32 version;
        uint32 max;
        uint32 holders;
        uint120 countedBalance;
    }

    struct Wallet {
        address holder;
        bool exempt;
    }

    struct Holder {
        uint32 wallets;
        uint16 country;
    }

    struct Country {
        uint32 holders;
        uint32 max;
        uint32 version;
    }

    event ExemptionSet(address indexed compliance, address indexed wallet, bool exempt);

    mapping(address compliance => Config) private _configs;
    mapping(uint256 key => mapping(address wallet => Wallet)) private _wallets;
    mapping(uint256 key => mapping(address holder => Holder)) private _holders;
    mapping(uint256 key => mapping(uint16 country => Country)) private _countries;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "HolderLimitRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.ALL;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external pure {
        (uint32 max, CountryLimit[] memory countries) = abi.decode(params, (uint32, CountryLimit[]));
        if (max == 0 && countries.length == 0) revert InvalidParams("max");
        uint256 previous;
        for (uint256 i; i < countries.length; ++i) {
            if (countries[i].country <= previous || countries[i].country > MAX_COUNTRY) {
                revert InvalidParams("countries");
            }
            previous = countries[i].country;
        }
    }

    /* JUDGING */

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32) {
        (address token, address to, uint256 amount) = (movement.token, movement.to, movement.amount);
        Config memory config = _configs[msg.sender];
        if (!config.configured) return ReasonCodes.RULE_NOT_CONFIGURED;
        if (amount == 0) return ReasonCodes.OK;
        uint256 key = _key(msg.sender, config.epoch);
        Wallet memory wallet = _wallets[key][to];
        if (wallet.exempt || wallet.holder != address(0)) return ReasonCodes.OK;
        (address holder, uint16 country) = _recipient(movement);
        if (_holders[key][holder].wallets != 0) return ReasonCodes.OK;

        if (config.countedBalance != IERC20(token).totalSupply()) {
            // A wallet that is not counted and holds tokens is a holder from before, no newcomer.
            return IERC20(token).balanceOf(to) != 0 ? ReasonCodes.OK : ReasonCodes.HOLDERS_NOT_COUNTED;
        }
        (uint256 leaving, uint16 leftCountry) = _leaving(key, token, movement.from, amount);
        if (config.max != 0 && config.holders - leaving >= config.max) return ReasonCodes.HOLDER_LIMIT_REACHED;
        Country memory limit = _countries[key][country];
        if (limit.version == config.version) {
            uint256 others = leftCountry == country ? limit.holders - leaving : limit.holders;
            if (others >= limit.max) return ReasonCodes.HOLDER_LIMIT_OF_COUNTRY_REACHED;
        }
        return ReasonCodes.OK;
    }

    /* COUNTING */

    /// @inheritdoc IRule
    function moved(address token, address from, address to, uint256 amount) external override {
        Config storage stored = _configs[msg.sender];
        if (!stored.configured || amount == 0 || from == to) return;
        uint256 key = _key(msg.sender, stored.epoch);
        Wallet memory sender;
        if (from != address(0)) sender = _wallets[key][from];
        Wallet memory recipient;
        if (to != address(0)) recipient = _wallets[key][to];
        bool leaves = sender.holder != address(0) && IERC20(token).balanceOf(from) == 0;
        // Between wallets in the sum it stays the same, and so do the counts while the sender keeps something.
        if (!leaves && _isKnown(sender) && _isKnown(recipient)) return;
        Config memory config = stored;
        if (_isKnown(sender)) {
            config.countedBalance -= SafeCast.toUint120(amount);
            if (leaves) _uncount(config, key, from);
        } else if (from != address(0)) {
            _discover(config, key, token, from);
        }
        if (_isKnown(recipient)) config.countedBalance += SafeCast.toUint120(amount);
        else if (to != address(0)) _discover(config, key, token, to);
        _configs[msg.sender] = config;
    }

    /// @notice Counts wallets from before the rule was bound, and counts wallets again whose identity or country changed in the
    /// registry. Anyone may call: it only makes the counts true. Of an identity whose wallets disagree on the country, the last
    /// wallet counted decides. Reverts `NotConfigured`.
    function sync(address compliance, address[] calldata wallets) external {
        Config memory config = _configs[compliance];
        if (!config.configured) revert NotConfigured(compliance);
        uint256 key = _key(compliance, config.epoch);
        address token = ITokenCompliance(compliance).token();
        for (uint256 i; i < wallets.length; ++i) {
            if (_wallets[key][wallets[i]].holder != address(0)) {
                _uncount(config, key, wallets[i]);
                _count(config, key, token, wallets[i]);
            } else if (!_wallets[key][wallets[i]].exempt) {
                _discover(config, key, token, wallets[i]);
            }
        }
        _configs[compliance] = config;
    }

    /// @notice Takes a wallet of the platform (an escrow, a treasury) out of the count, or back in. Caller: a compliance, for its
    /// token (governance by `callModule`). Emits `ExemptionSet`. Reverts `NotConfigured`.
    function setExempt(address wallet, bool exempt) external {
        Config memory config = _configs[msg.sender];
        if (!config.configured) revert NotConfigured(msg.sender);
        uint256 key = _key(msg.sender, config.epoch);
        if (_wallets[key][wallet].exempt == exempt) return;
        address token = ITokenCompliance(msg.sender).token();
        uint120 balance = SafeCast.toUint120(IERC20(token).balanceOf(wallet));
        if (!exempt) {
            delete _wallets[key][wallet];
            config.countedBalance -= balance;
            _discover(config, key, token, wallet);
        } else {
            if (_isKnown(_wallets[key][wallet])) _uncount(config, key, wallet);
            else config.countedBalance += balance;
            _wallets[key][wallet].exempt = true;
        }
        _configs[msg.sender] = config;
        emit ExemptionSet(msg.sender, wallet, exempt);
    }

    /* VIEWS */

    /// @notice Holders now and the limit in all (zero: none).
    function holdersOf(address compliance) external view returns (uint256 holders, uint256 max) {
        return (_configs[compliance].holders, _configs[compliance].max);
    }

    /// @notice Holders from a country now, and its limit when it has one.
    function holdersOfCountry(address compliance, uint16 country)
        external
        view
        returns (uint256 holders, bool limited, uint256 max)
    {
        Config memory config = _configs[compliance];
        Country memory entry = _countries[_key(compliance, config.epoch)][country];
        limited = config.configured && entry.version == config.version;
        return (entry.holders, limited, limited ? entry.max : 0);
    }

    /// @notice Whom a wallet is counted under (zero: not counted) and whether it is exempt.
    function walletOf(address compliance, address wallet) external view returns (address holder, bool exempt) {
        Wallet memory entry = _wallets[_key(compliance, _configs[compliance].epoch)][wallet];
        return (entry.holder, entry.exempt);
    }

    /* INTERNAL */

    function _apply(bytes calldata params) internal override {
        (uint32 max, CountryLimit[] memory countries) = abi.decode(params, (uint32, CountryLimit[]));
        Config storage config = _configs[msg.sender];
        config.configured = true;
        config.max = max;
        uint32 version = ++config.version;
        uint256 key = _key(msg.sender, config.epoch);
        for (uint256 i; i < countries.length; ++i) {
            Country storage entry = _countries[key][countries[i].country];
            (entry.max, entry.version) = (countries[i].max, version);
        }
    }

    function _forget() internal override {
        uint32 epoch = _configs[msg.sender].epoch + 1;
        delete _configs[msg.sender];
        _configs[msg.sender].epoch = epoch;
    }

    /// @dev Whether the movement empties the last wallet of a counted sender, who then makes room.
    function _leaving(uint256 key, address token, address from, uint256 amount)
        private
        view
        returns (uint256 leaving, uint16 country)
    {
        address holder = _wallets[key][from].holder;
        if (holder == address(0) || IERC20(token).balanceOf(from) != amount) return (0, 0);
        Holder memory entry = _holders[key][holder];
        if (entry.wallets == 1) return (1, entry.country);
    }

    /// @dev Whether the wallet's balance is in the sum.
    function _isKnown(Wallet memory wallet) private pure returns (bool) {
        return wallet.exempt || wallet.holder != address(0);
    }

    /// @dev Takes a wallet that was not known into the count and its balance into the sum.
    function _discover(Config memory config, uint256 key, address token, address wallet) private {
        uint256 balance = IERC20(token).balanceOf(wallet);
        if (balance == 0) return;
        config.countedBalance += SafeCast.toUint120(balance);
        _count(config, key, token, wallet);
    }

    function _count(Config memory config, uint256 key, address token, address wallet) private {
        (address holder, uint16 country) =
            IRegistryQuestions(address(IAssetToken(token).identityRegistry())).holderOf(wallet);
        _wallets[key][wallet].holder = holder;
        Holder memory entry = _holders[key][holder];
        if (entry.wallets == 0) {
            ++config.holders;
            ++_countries[key][country].holders;
        } else if (entry.country != country) {
            --_countries[key][entry.country].holders;
            ++_countries[key][country].holders;
        }
        _holders[key][holder] = Holder({wallets: entry.wallets + 1, country: country});
    }

    function _uncount(Config memory config, uint256 key, address wallet) private {
        address holder = _wallets[key][wallet].holder;
        delete _wallets[key][wallet];
        Holder storage entry = _holders[key][holder];
        if (--entry.wallets == 0) {
            --config.holders;
            --_countries[key][entry.country].holders;
        }
    }
}
