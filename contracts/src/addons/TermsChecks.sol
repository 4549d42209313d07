// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAddon} from "../interfaces/IAddon.sol";
import {DistributionKind, DistributionTerms} from "../interfaces/IDistribution.sol";
import {Lockup, OfferingTerms, PaymentCurrency, Presale} from "../interfaces/IOffering.sol";
import {ServicingTerms} from "../interfaces/IServicing.sol";

/// @title What terms must fulfil
/// @notice Asked once, by the factory, before a contract with these terms exists. Reverts `InvalidTerms` with the field's name.
library TermsChecks {
    uint256 private constant BPS = 10_000;
    uint256 private constant MAX_CURRENCIES = 8;
    uint256 private constant MAX_ROOTS = 256;

    function check(DistributionTerms calldata t) internal view {
        _require(t.leftoverTo != address(0), "leftoverTo");
        _require(t.roots.length != 0 && t.roots.length <= MAX_ROOTS, "roots");
        for (uint256 i; i < t.roots.length; ++i) {
            _require(t.roots[i] != 0, "roots");
        }
        _require((t.roots.length == 1) == (t.rowsPerRoot == 0), "rowsPerRoot");
        _require(t.end > t.start && t.end > block.timestamp, "end");
        bool vesting = t.kind == DistributionKind.VESTING;
        _require(vesting == (t.duration != 0), "duration");
        _require(t.cliff <= t.duration, "cliff");
        _require(t.cap == 0 || t.kind == DistributionKind.PUSH, "cap");
    }

    function check(OfferingTerms calldata t) internal view {
        _require(t.proceedsTo != address(0), "proceedsTo");
        _require(t.unsoldTo != address(0), "unsoldTo");
        _require(t.end > t.start && t.end > block.timestamp, "end");
        _require(t.hardCap != 0 && t.hardCap <= type(uint120).max, "hardCap");
        _require(t.softCap <= t.hardCap, "softCap");
        _require(t.minimum != 0, "minimum");
        _require(t.maximum >= t.minimum && t.maximum <= t.hardCap, "maximum");
        _require(_isPresale(t, t.presale), "presale");
        _require(_isLockup(t, t.lockup), "lockup");
        _checkCurrencies(t);
    }

    function check(ServicingTerms calldata t) internal view {
        _require(t.sweepTo != address(0), "sweepTo");
        _require(t.currency.code.length != 0 && t.currency != t.token, "currency");
        _require(t.maturity == 0 || t.maturity > block.timestamp, "maturity");
        _require((t.maturity == 0) == (t.redemptionPrice == 0), "redemptionPrice");
    }

    /// @dev A presale without an allow-list would be a public sale under another name.
    function _isPresale(OfferingTerms calldata t, Presale calldata p) private pure returns (bool) {
        if (p.end == 0) return p.discountBps == 0 && p.allowList == 0;
        return p.end > t.start && p.end <= t.end && p.discountBps < BPS && p.allowList != 0;
    }

    function _isLockup(OfferingTerms calldata t, Lockup calldata l) private pure returns (bool) {
        if (l.duration == 0) return l.start == 0 && l.cliff == 0;
        return l.start >= t.end && l.cliff <= l.duration;
    }

    function _checkCurrencies(OfferingTerms calldata t) private view {
        PaymentCurrency[] calldata list = t.currencies;
        _require(list.length != 0 && list.length <= MAX_CURRENCIES, "currencies");
        for (uint256 i; i < list.length; ++i) {
            address currency = list[i].currency;
            _require(currency.code.length != 0 && currency != t.token, "currency");
            _require(list[i].price != 0, "price");
            for (uint256 j; j < i; ++j) {
                _require(list[j].currency != currency, "currency");
            }
        }
    }

    function _require(bool sound, bytes32 field) private pure {
        if (!sound) revert IAddon.InvalidTerms(field);
    }
}
