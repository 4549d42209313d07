// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {AggregatorV3Interface} from "../interfaces/IAggregatorV3.sol";

/// @title Value of a token amount through a price feed
/// @notice The feed's answer is the price of one whole token. Its decimals are asked each time, because an adapter may come to follow
/// another feed. Nothing the feed does can make the question revert, but for answers that do not decode.
library FiatValue {
    /// @notice What is wrong with a price.
    enum Fault {
        NONE,
        UNAVAILABLE,
        STALE
    }

    uint256 private constant MAX_DECIMALS = 18;
    uint256 private constant ONE = 1e18;

    /// @notice Whether `feed` answers like one.
    function isFeed(address feed) internal view returns (bool) {
        if (feed.code.length == 0) return false;
        try AggregatorV3Interface(feed).decimals() returns (uint8 places) {
            return places <= MAX_DECIMALS;
        } catch {
            return false;
        }
    }

    /// @return fault NONE when `value` (18 decimals, rounded up) can be relied on
    function valueOf(AggregatorV3Interface feed, uint256 maxAgeSeconds, uint256 amount, uint8 tokenDecimals)
        internal
        view
        returns (Fault fault, uint256 value)
    {
        int256 answer;
        uint256 updatedAt;
        uint8 places;
        try feed.latestRoundData() returns (uint80, int256 price, uint256, uint256 changedAt, uint80) {
            (answer, updatedAt) = (price, changedAt);
        } catch {
            return (Fault.UNAVAILABLE, 0);
        }
        try feed.decimals() returns (uint8 said) {
            places = said;
        } catch {
            return (Fault.UNAVAILABLE, 0);
        }
        if (answer <= 0 || answer > int256(uint256(type(uint128).max)) || places > MAX_DECIMALS) {
            return (Fault.UNAVAILABLE, 0);
        }
        if (updatedAt > block.timestamp || block.timestamp - updatedAt > maxAgeSeconds) {
            return (Fault.STALE, 0);
        }
        // Amounts have at most 121 bits (supply and mint), so the product fits.
        uint256 product = amount * uint256(answer);
        uint256 unit = 10 ** (uint256(tokenDecimals) + places);
        // Beyond every limit; the exact number could overflow.
        if (product / unit > type(uint128).max) return (Fault.NONE, type(uint256).max);
        return (Fault.NONE, Math.mulDiv(product, ONE, unit, Math.Rounding.Ceil));
    }
}
