// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IOffering, OfferingTerms} from "../interfaces/IOffering.sol";

/// @title The arithmetic of a sale
library OfferingPrices {
    uint256 private constant ONE = 1e18;
    uint256 private constant BPS = 10_000;

    /// @dev Base units of the currency for 1e18 of the asset at `now_`; a discounted price is rounded up.
    function priceAt(OfferingTerms memory t, address currency, uint256 now_) internal pure returns (uint256 price) {
        price = _listPrice(t, currency);
        if (now_ < t.presale.end) price = Math.mulDiv(price, BPS - t.presale.discountBps, BPS, Math.Rounding.Ceil);
    }

    /// @dev Tokens rounded down, their cost rounded up: `cost` never exceeds `payment`.
    function quote(uint256 price, uint256 payment) internal pure returns (uint256 tokens, uint256 cost) {
        tokens = Math.mulDiv(payment, ONE, price);
        cost = Math.mulDiv(tokens, price, ONE, Math.Rounding.Ceil);
    }

    function _listPrice(OfferingTerms memory t, address currency) private pure returns (uint256) {
        for (uint256 i; i < t.currencies.length; ++i) {
            if (t.currencies[i].currency == currency) return t.currencies[i].price;
        }
        revert IOffering.CurrencyUnsupported(currency);
    }
}
