// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";
import {Addon} from "../addons/Addon.sol";
import {IAddon} from "../interfaces/IAddon.sol";
import {IRecordDates} from "../interfaces/IRecordDates.sol";
import {CouponPlan, IServicingBase, Payout, ServicingTerms} from "../interfaces/IServicing.sol";
import {Coupons} from "./Coupons.sol";

/// @title Storage of a servicing and what its two parts share
/// @notice The code is more than one contract of ours may hold: `Servicing` pays and delegates the rest to
/// `ServicingLifecycle`. Both inherit this contract and declare no storage of their own.
abstract contract ServicingState is IServicingBase, Addon {
    using Coupons for CouponPlan;

    uint256 private constant ONE = 1e18;
    bytes32 internal constant HOLDER_FROZEN = "HOLDER_FROZEN";
    bytes32 internal constant PAYMENT_REFUSED = "PAYMENT_REFUSED";
    /// @dev A payment that leaves less than this part of the gas may have failed for want of gas alone: each call deeper keeps back
    /// 1/64, and the questions of a currency of ours go up to seven calls deep.
    uint256 internal constant STARVED = 8;

    /* STORAGE */

    CouponPlan internal _plan;
    uint64 internal _opened;
    uint64 internal _distributions;
    bool internal _matured;
    mapping(uint256 id => Payout) internal _payouts;
    mapping(address holder => BitMaps.BitMap) internal _paid;
    /// Of opened payouts.
    mapping(address currency => uint256) internal _reserved;

    /* TERMS */

    /// @inheritdoc IServicingBase
    function terms() public view returns (ServicingTerms memory) {
        return abi.decode(_encodedTerms(), (ServicingTerms));
    }

    /// @inheritdoc IAddon
    function asset() public view override(Addon, IAddon) returns (address) {
        return terms().token;
    }

    /* COVERAGE */

    function _coverage(ServicingTerms memory t, address currency) internal view returns (uint256, uint256) {
        uint256 owed = _reserved[currency];
        if (currency == t.currency) {
            CouponPlan memory p = _plan;
            uint256 until = p.completed(block.timestamp);
            for (uint256 i = _opened; i < until; ++i) {
                (uint256 numerator, uint256 denominator) = p.fraction(i);
                owed += Math.mulDiv(_supplyAt(t.token, p.recordDateOf(i)), numerator, denominator);
            }
            if (_isDue(t)) owed += _redemption(t, IERC20(t.token).totalSupply());
        }
        return (IERC20(currency).balanceOf(address(this)), owed);
    }

    function _requireUnreserved(address currency, uint256 amount) internal view {
        uint256 free = IERC20(currency).balanceOf(address(this)) - _reserved[currency];
        if (amount > free) revert TreasuryUnderfunded(amount, free);
    }

    function _redemption(ServicingTerms memory t, uint256 units) internal pure returns (uint256) {
        return Math.mulDiv(units, t.redemptionPrice, ONE);
    }

    function _isDue(ServicingTerms memory t) internal view returns (bool) {
        return t.maturity != 0 && block.timestamp >= t.maturity;
    }

    function _supplyAt(address token, uint256 recordDate) internal view returns (uint256) {
        return IRecordDates(token).supplyAt(recordDate);
    }
}
