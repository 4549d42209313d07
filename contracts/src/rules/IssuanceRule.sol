// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {AggregatorV3Interface} from "../interfaces/IAggregatorV3.sol";
import {IRule, Hooks, Movement} from "../interfaces/IRule.sol";
import {ComplianceRefused, ReasonCodes} from "../Refusals.sol";
import {FiatValue} from "./FiatValue.sol";
import {Rule} from "./Rule.sol";
import {Windows} from "./Windows.sol";

/// @notice One limit on what may be issued.
struct IssuanceLimit {
    /// What is measured: 1 = issued within a fixed window, 2 = within a rolling window, 3 = ever issued, 4 = supply at any time.
    uint8 kind;
    /// In the token's smallest units, or with a feed in fiat with 18 decimals.
    uint128 max;
    /// Window length; zero for kinds 3 and 4.
    uint32 lengthSeconds;
    /// Unix seconds at which a fixed window began, zero otherwise.
    uint48 start;
    /// Price of one whole token in fiat; zero for a limit in units.
    address feed;
    /// A price older than this many seconds is not used; zero without a feed.
    uint32 maxAgeSeconds;
    /// Only kind 3: what was issued before the rule was bound, in the limit's units.
    uint128 issuedBefore;
}

/// @title Issuance rule
/// @notice Limits issuance by up to four limits at once. Parameters: `abi.encode(IssuanceLimit[])`.
///
/// What is issued counts gross: burning gives no room back, except under the live cap (kind 4). With a feed, kinds 1 to 3
/// add up the value at the price of the moment of issue: that is the gross raise, which later prices do not change; a live
/// cap with a feed is valued at the price of now. Values are rounded up. Each limit has a sum of its own per token, so units never mix;
/// replacing the parameters keeps the sums of limits that measure the same thing. Transfers are not judged.
contract IssuanceRule is Rule {
    using Windows for Windows.Counter;

    uint8 public constant LIVE = 4;
    uint256 public constant MAX_LIMITS = 4;

    struct Stored {
        Windows.Limit limit;
        address feed;
        uint32 maxAgeSeconds;
    }

    mapping(address compliance => Stored[]) private _limits;
    mapping(uint40 counter => Windows.Counter) private _counters;
    uint40 private _lastCounter;

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "IssuanceRule";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK_MINT | Hooks.MINT;
    }

    /// @inheritdoc IRule
    function validate(bytes calldata params) external view {
        IssuanceLimit[] memory limits = abi.decode(params, (IssuanceLimit[]));
        if (limits.length == 0 || limits.length > MAX_LIMITS) revert InvalidParams("limits");
        for (uint256 i; i < limits.length; ++i) {
            IssuanceLimit memory limit = limits[i];
            if (limit.kind == 0 || limit.kind > LIVE) revert InvalidParams("kind");
            if (limit.max == 0) revert InvalidParams("max");
            bool windowed = limit.kind == Windows.FIXED || limit.kind == Windows.ROLLING;
            bool valid = windowed
                ? Windows.isWindow(limit.kind, limit.lengthSeconds, limit.start)
                : limit.lengthSeconds == 0 && limit.start == 0;
            if (!valid) revert InvalidParams("window");
            if (limit.issuedBefore != 0 && limit.kind != Windows.LIFETIME) revert InvalidParams("issuedBefore");
            if ((limit.feed == address(0)) != (limit.maxAgeSeconds == 0)) revert InvalidParams("maxAge");
            if (limit.feed != address(0) && !FiatValue.isFeed(limit.feed)) revert InvalidParams("feed");
            for (uint256 j; j < i; ++j) {
                if (_nature(limits[j]) == _nature(limit)) revert InvalidParams("limits");
            }
        }
    }

    /// @inheritdoc IRule
    function check(Movement calldata movement) external view returns (bytes32 reason) {
        if (movement.from != address(0)) return ReasonCodes.OK;
        Stored[] storage limits = _limits[msg.sender];
        uint256 count = limits.length;
        if (count == 0) return ReasonCodes.RULE_NOT_CONFIGURED;
        for (uint256 i; i < count && reason == 0; ++i) {
            reason = _judge(limits[i], movement.token, movement.amount);
        }
    }

    /// @inheritdoc IRule
    function moved(address token, address from, address, uint256 amount) external override {
        // Only mints are subscribed to; whoever else calls with a sender issues nothing.
        if (from != address(0) || amount == 0) return;
        Stored[] storage limits = _limits[msg.sender];
        uint256 count = limits.length;
        for (uint256 i; i < count; ++i) {
            Stored memory stored = limits[i];
            if (stored.limit.kind == LIVE) continue;
            (bytes32 reason, uint256 measured) = _measure(stored, token, amount);
            if (reason != 0) revert ComplianceRefused(address(this), reason);
            _counters[stored.limit.counter].add(stored.limit, measured);
        }
    }

    /// @notice The limits of a compliance and what counts against each now (the supply of a live cap is the token's to tell).
    function paramsOf(address compliance)
        external
        view
        returns (IssuanceLimit[] memory limits, uint256[] memory issued)
    {
        uint256 count = _limits[compliance].length;
        (limits, issued) = (new IssuanceLimit[](count), new uint256[](count));
        for (uint256 i; i < count; ++i) {
            Stored memory stored = _limits[compliance][i];
            limits[i] = IssuanceLimit({
                kind: stored.limit.kind,
                max: stored.limit.max,
                lengthSeconds: stored.limit.lengthSeconds,
                start: stored.limit.start,
                feed: stored.feed,
                maxAgeSeconds: stored.maxAgeSeconds,
                issuedBefore: 0
            });
            if (stored.limit.kind != LIVE) issued[i] = _counters[stored.limit.counter].used(stored.limit);
        }
    }

    /* INTERNAL */

    function _apply(bytes calldata params) internal override {
        IssuanceLimit[] memory given = abi.decode(params, (IssuanceLimit[]));
        Stored[] memory old = _limits[msg.sender];
        delete _limits[msg.sender];
        for (uint256 i; i < given.length; ++i) {
            Windows.Limit memory limit = Windows.Limit({
                max: given[i].max,
                kind: given[i].kind,
                lengthSeconds: given[i].lengthSeconds,
                start: given[i].start,
                counter: 0
            });
            for (uint256 j; j < old.length; ++j) {
                if (old[j].feed == given[i].feed && Windows.sameNature(old[j].limit, limit)) {
                    limit.counter = old[j].limit.counter;
                }
            }
            if (limit.counter == 0) {
                limit.counter = ++_lastCounter;
                _counters[limit.counter].sum = given[i].issuedBefore;
            }
            _limits[msg.sender].push(Stored({limit: limit, feed: given[i].feed, maxAgeSeconds: given[i].maxAgeSeconds}));
        }
    }

    function _forget() internal override {
        delete _limits[msg.sender];
    }

    function _judge(Stored memory stored, address token, uint256 amount) private view returns (bytes32) {
        uint8 kind = stored.limit.kind;
        if (kind == LIVE) amount += IERC20Metadata(token).totalSupply();
        (bytes32 reason, uint256 measured) = _measure(stored, token, amount);
        if (reason != 0) return reason;
        if (kind == LIVE) {
            return measured <= stored.limit.max ? ReasonCodes.OK : ReasonCodes.ISSUANCE_CAP_EXCEEDED;
        }
        if (_counters[stored.limit.counter].fits(stored.limit, measured)) return ReasonCodes.OK;
        return kind == Windows.LIFETIME ? ReasonCodes.ISSUANCE_LIFETIME_EXCEEDED : ReasonCodes.ISSUANCE_WINDOW_EXCEEDED;
    }

    /// @return reason zero when `measured` says how much the limit counts for `amount`
    function _measure(Stored memory stored, address token, uint256 amount)
        private
        view
        returns (bytes32 reason, uint256 measured)
    {
        if (stored.feed == address(0)) return (0, amount);
        FiatValue.Fault fault;
        (fault, measured) = FiatValue.valueOf(
            AggregatorV3Interface(stored.feed), stored.maxAgeSeconds, amount, IERC20Metadata(token).decimals()
        );
        if (fault == FiatValue.Fault.UNAVAILABLE) reason = ReasonCodes.ISSUANCE_PRICE_UNAVAILABLE;
        else if (fault == FiatValue.Fault.STALE) reason = ReasonCodes.ISSUANCE_PRICE_STALE;
    }

    /// @dev What a limit measures, whatever its maximum.
    function _nature(IssuanceLimit memory limit) private pure returns (bytes32) {
        return keccak256(abi.encode(limit.kind, limit.lengthSeconds, limit.start, limit.feed));
    }
}
