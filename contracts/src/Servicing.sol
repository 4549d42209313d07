// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";
import {IAssetToken} from "./interfaces/IAssetToken.sol";
import {IRecordDates} from "./interfaces/IRecordDates.sol";
import {Hooks, IRule, Movement} from "./interfaces/IRule.sol";
import {CouponPlan, IServicingPayments, Payout, ServicingTerms} from "./interfaces/IServicing.sol";
import {ReasonCodes} from "./Refusals.sol";
import {AssetRoles} from "./Roles.sol";
import {Coupons} from "./servicing/Coupons.sol";
import {ServicingLifecycle} from "./servicing/ServicingLifecycle.sol";
import {ServicingState} from "./servicing/ServicingState.sol";

/// @title Servicing
/// @notice The treasury of one asset and every payment out of it: coupons, distributions, redemption. It is one of the asset's rules
/// too: from maturity on it refuses every transfer and mint, so one date decides for both.
///
/// Threat model: money leaves in three ways only. To a holder of the record date, or the wallet the registry recorded as
/// its successor, for what the asset says it held. To a holder against the burn of its own free tokens. To the
/// address of the terms, by FUNDS, for what exceeds everything owed. EMERGENCY has no power here. The asset is trusted for
/// balances at record dates; a currency may refuse a payment, which then stays owed and holds up nobody else.
contract Servicing is IServicingPayments, IRule, ServicingState {
    using BitMaps for BitMaps.BitMap;
    using Coupons for CouponPlan;
    using SafeERC20 for IERC20;

    /// Ids below are coupon periods.
    uint256 private constant FIRST_DISTRIBUTION = 1 << 32;

    /// Code of the coupon plan and the redemption; see `ServicingState` for why it stands apart.
    address public immutable LIFECYCLE = address(new ServicingLifecycle());

    /// @notice Everything in `IServicing` that is not declared here.
    fallback(bytes calldata input) external returns (bytes memory) {
        return Address.functionDelegateCall(LIFECYCLE, input);
    }

    /* TREASURY */

    /// @inheritdoc IServicingPayments
    function fund(address currency, uint256 amount) external nonReentrant {
        uint256 before = IERC20(currency).balanceOf(address(this));
        emit Funded(msg.sender, currency, amount);
        IERC20(currency).safeTransferFrom(msg.sender, address(this), amount);
        if (IERC20(currency).balanceOf(address(this)) - before != amount) revert CurrencyTakesFees(currency);
    }

    /// @inheritdoc IServicingPayments
    function sweep(address currency, uint256 amount) external nonReentrant {
        ServicingTerms memory t = terms();
        _requireRole(t.token, AssetRoles.FUNDS);
        _requireFree(t, currency, amount);
        emit Swept(currency, t.sweepTo, amount);
        IERC20(currency).safeTransfer(t.sweepTo, amount);
    }

    /// @inheritdoc IServicingPayments
    function coverage(address currency) external view returns (uint256 balance, uint256 owed) {
        return _coverage(terms(), currency);
    }

    function _requireFree(ServicingTerms memory t, address currency, uint256 amount) private view {
        (uint256 balance, uint256 owed) = _coverage(t, currency);
        uint256 free = balance > owed ? balance - owed : 0;
        if (amount > free) revert TreasuryUnderfunded(amount, free);
    }

    /* COUPONS AND DISTRIBUTIONS */

    /// @inheritdoc IServicingPayments
    function openCoupons(uint256 through) external nonReentrant {
        _openCoupons(terms(), through);
    }

    /// @inheritdoc IServicingPayments
    function distribute(address currency, uint48 recordDate, uint256 total) external nonReentrant returns (uint256 id) {
        ServicingTerms memory t = terms();
        _requireRole(t.token, AssetRoles.FUNDS);
        uint256 supply = _supplyAt(t.token, recordDate);
        if (supply == 0 || total == 0) revert NothingDue(address(0));
        _requireFree(t, currency, total);
        id = FIRST_DISTRIBUTION + _distributions++;
        _open(id, Payout(currency, recordDate, total, supply, 0, 0), supply, total);
    }

    /// @dev Opens the periods from the next one to `through`; older debts come first.
    function _openCoupons(ServicingTerms memory t, uint256 through) private {
        CouponPlan memory p = _plan;
        if (through >= p.count()) revert PayoutUnknown(through);
        if (through >= p.completed(block.timestamp)) revert PeriodNotComplete(through, p.endOf(through));
        for (uint256 i = _opened; i <= through; ++i) {
            (uint256 numerator, uint256 denominator) = p.fraction(i);
            uint48 recordDate = p.recordDateOf(i);
            uint256 supply = _supplyAt(t.token, recordDate);
            uint256 total = Math.mulDiv(supply, numerator, denominator);
            _requireUnreserved(t.currency, total);
            _open(i, Payout(t.currency, recordDate, numerator, denominator, 0, 0), supply, total);
        }
        // Fewer periods than 2^32.
        // forge-lint: disable-next-line(unsafe-typecast)
        if (through >= _opened) _opened = uint64(through + 1);
    }

    function _open(uint256 id, Payout memory payout, uint256 supply, uint256 total) private {
        payout.left = SafeCast.toUint128(total);
        payout.unitsLeft = SafeCast.toUint128(supply);
        _reserved[payout.currency] += total;
        _payouts[id] = payout;
        emit PayoutOpened(id, payout.currency, payout.recordDate, supply, total);
    }

    /* PAYING */

    /// @inheritdoc IServicingPayments
    function claim(address holder, uint256[] calldata ids) external nonReentrant {
        ServicingTerms memory t = terms();
        address to = _payee(t.token, holder);
        if (IAssetToken(t.token).isFrozen(to)) revert HolderFrozen(to);
        for (uint256 i; i < ids.length; ++i) {
            Payout storage payout = _ready(t, ids[i]);
            if (_paid[holder].get(ids[i])) revert PeriodAlreadyPaid(ids[i], holder);
            uint256 units = _balanceAt(t.token, holder, payout.recordDate);
            if (units == 0) revert NothingDue(holder);
            uint256 amount = _due(payout, units);
            _book(payout, units, amount, true);
            _paid[holder].set(ids[i]);
            _releaseRemainder(payout, ids[i]);
            emit Paid(ids[i], holder, to, amount);
            IERC20(payout.currency).safeTransfer(to, amount);
        }
    }

    /// @inheritdoc IServicingPayments
    function claimMany(uint256 id, address[] calldata holders) external nonReentrant returns (uint256 paid) {
        ServicingTerms memory t = terms();
        Payout storage payout = _ready(t, id);
        for (uint256 i; i < holders.length; ++i) {
            if (_payOne(t.token, payout, id, holders[i])) ++paid;
        }
        _releaseRemainder(payout, id);
    }

    function _payOne(address token, Payout storage payout, uint256 id, address holder) private returns (bool) {
        if (_paid[holder].get(id)) return false;
        uint256 units = _balanceAt(token, holder, payout.recordDate);
        if (units == 0) return false;
        address to = _payee(token, holder);
        if (IAssetToken(token).isFrozen(to)) {
            emit PaymentSkipped(id, holder, HOLDER_FROZEN);
            return false;
        }
        uint256 amount = _due(payout, units);
        _paid[holder].set(id);
        _book(payout, units, amount, true);
        uint256 gasBefore = gasleft();
        if (IERC20(payout.currency).trySafeTransfer(to, amount)) {
            emit Paid(id, holder, to, amount);
            return true;
        }
        if (gasleft() < gasBefore / STARVED) revert BatchOutOfGas(holder);
        _paid[holder].unset(id);
        _book(payout, units, amount, false);
        emit PaymentSkipped(id, holder, PAYMENT_REFUSED);
        return false;
    }

    /// @dev The payout, opened if it is a coupon whose time has come.
    function _ready(ServicingTerms memory t, uint256 id) private returns (Payout storage) {
        if (id < FIRST_DISTRIBUTION) {
            if (id >= _opened) _openCoupons(t, id);
        } else if (id - FIRST_DISTRIBUTION >= _distributions) {
            revert PayoutUnknown(id);
        }
        return _payouts[id];
    }

    /// @dev Books a payment, or takes a refused one back. Both numbers are parts of what the payout was opened with.
    function _book(Payout storage payout, uint256 units, uint256 amount, bool paid) private {
        // forge-lint: disable-start(unsafe-typecast)
        if (paid) {
            payout.left -= uint128(amount);
            payout.unitsLeft -= uint128(units);
            _reserved[payout.currency] -= amount;
        } else {
            payout.left += uint128(amount);
            payout.unitsLeft += uint128(units);
            _reserved[payout.currency] += amount;
        }
        // forge-lint: disable-end(unsafe-typecast)
    }

    /// @dev When everybody was paid, the fractions that rounding left over are free again.
    function _releaseRemainder(Payout storage payout, uint256 id) private {
        uint256 remainder = payout.left;
        if (payout.unitsLeft != 0 || remainder == 0) return;
        payout.left = 0;
        _reserved[payout.currency] -= remainder;
        emit RemainderReleased(id, remainder);
    }

    function _due(Payout storage payout, uint256 units) private view returns (uint256) {
        return Math.mulDiv(units, payout.numerator, payout.denominator);
    }

    /* AS A RULE OF THE ASSET */

    /// @inheritdoc IRule
    function name() external pure returns (string memory) {
        return "Servicing";
    }

    /// @inheritdoc IRule
    function hooks() external pure returns (uint8) {
        return Hooks.CHECK;
    }

    /// @notice There are no parameters: the maturity of the terms is the rule. Reverts `InvalidParams` for any.
    function validate(bytes calldata params) public pure {
        if (params.length != 0) revert InvalidParams("params");
    }

    /// @inheritdoc IRule
    function setParams(bytes calldata params) external {
        validate(params);
        emit ParamsSet(msg.sender, params);
    }

    /// @inheritdoc IRule
    function clearParams() external {}

    /// @inheritdoc IRule
    function check(Movement calldata) external view returns (bytes32) {
        return _isDue(terms()) ? ReasonCodes.ASSET_MATURED : ReasonCodes.OK;
    }

    /// @inheritdoc IRule
    function moved(address, address, address, uint256) external {}

    /// @inheritdoc IERC165
    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == type(IRule).interfaceId || id == type(IERC165).interfaceId;
    }

    /* READ */

    /// @inheritdoc IServicingPayments
    function plan() external view returns (CouponPlan memory) {
        return _plan;
    }

    /// @inheritdoc IServicingPayments
    function periods() external view returns (uint256 opened, uint256 completed, uint256 count) {
        CouponPlan memory p = _plan;
        return (_opened, p.completed(block.timestamp), p.count());
    }

    /// @inheritdoc IServicingPayments
    function payoutOf(uint256 id) external view returns (Payout memory) {
        return _payouts[id];
    }

    /// @inheritdoc IServicingPayments
    function isPaid(uint256 id, address holder) external view returns (bool) {
        return _paid[holder].get(id);
    }

    /// @inheritdoc IServicingPayments
    function due(uint256 id, address holder) external view returns (uint256) {
        Payout storage payout = _payouts[id];
        if (payout.currency == address(0)) revert PayoutUnknown(id);
        return _paid[holder].get(id) ? 0 : _due(payout, _balanceAt(asset(), holder, payout.recordDate));
    }

    function _balanceAt(address token, address holder, uint256 recordDate) private view returns (uint256) {
        return IRecordDates(token).balanceAt(holder, recordDate);
    }
}
