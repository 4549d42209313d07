// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IAssetRoles, IAssetToken} from "../interfaces/IAssetToken.sol";
import {IHolds} from "../interfaces/IHolds.sol";
import {IRecordDates} from "../interfaces/IRecordDates.sol";
import {CouponPlan, IServicingLifecycle, ServicingTerms} from "../interfaces/IServicing.sol";
import {ITokenCompliance} from "../interfaces/ITokenCompliance.sol";
import {AssetRoles} from "../Roles.sol";
import {Coupons} from "./Coupons.sol";
import {ServicingState} from "./ServicingState.sol";

/// @title The coupon plan and the redemption of a servicing
/// @notice Code that `Servicing` delegates to; called directly it has no terms and refuses everything.
contract ServicingLifecycle is IServicingLifecycle, ServicingState {
    using Coupons for CouponPlan;
    using SafeERC20 for IERC20;

    /* COUPON PLAN */

    /// @inheritdoc IServicingLifecycle
    function schedule(CouponPlan calldata plan_) external {
        ServicingTerms memory t = terms();
        _requireRole(t.token, AssetRoles.GOVERNANCE);
        if (_plan.interval != 0) revert AlreadyScheduled();
        Coupons.check(plan_, t.maturity);
        _requireOwn(t.token, AssetRoles.FUNDS, "FUNDS");
        _plan = plan_;
        emit CouponsScheduled(plan_);
        Coupons.announce(plan_, IRecordDates(t.token));
    }

    /* REDEMPTION */

    /// @inheritdoc IServicingLifecycle
    function mature() external nonReentrant {
        ServicingTerms memory t = terms();
        _requireRole(t.token, AssetRoles.GOVERNANCE);
        if (!_isDue(t)) revert NotMatured(t.maturity);
        if (_matured) revert AlreadyMatured();
        if (_opened != _plan.count()) revert CouponsUnopened(_opened);
        _requireOwn(t.token, AssetRoles.SUPPLY, "SUPPLY");
        address compliance = address(IAssetToken(t.token).compliance());
        if (!ITokenCompliance(compliance).isModuleBound(address(this))) revert FeatureNotAttached("RULE");
        uint256 supply = IERC20(t.token).totalSupply();
        uint256 needed = _redemption(t, supply);
        _requireUnreserved(t.currency, needed);
        _matured = true;
        emit Matured(supply, needed);
    }

    /// @inheritdoc IServicingLifecycle
    function redeem(uint256 amount) external nonReentrant {
        ServicingTerms memory t = terms();
        if (!_matured) revert NotMatured(t.maturity);
        if (IAssetToken(t.token).isFrozen(msg.sender)) revert HolderFrozen(msg.sender);
        uint256 free = _freeBalance(t.token, msg.sender);
        if (amount > free) revert FreeBalanceExceeded(free, amount);
        uint256 payment = _redemption(t, amount);
        _requireUnreserved(t.currency, payment);
        emit Redeemed(msg.sender, msg.sender, amount, payment);
        IAssetToken(t.token).burn(msg.sender, amount);
        IERC20(t.currency).safeTransfer(msg.sender, payment);
    }

    /// @inheritdoc IServicingLifecycle
    function redeemFor(address[] calldata holders) external nonReentrant {
        ServicingTerms memory t = terms();
        _requireRole(t.token, AssetRoles.SUPPLY);
        if (!_matured) revert NotMatured(t.maturity);
        for (uint256 i; i < holders.length; ++i) {
            _redeemAll(t, holders[i]);
        }
    }

    function _redeemAll(ServicingTerms memory t, address holder) private {
        uint256 amount = _freeBalance(t.token, holder);
        if (amount == 0) return;
        address to = _payee(t.token, holder);
        if (IAssetToken(t.token).isFrozen(to) || IAssetToken(t.token).isFrozen(holder)) {
            emit RedemptionSkipped(holder, HOLDER_FROZEN);
            return;
        }
        uint256 payment = _redemption(t, amount);
        _requireUnreserved(t.currency, payment);
        uint256 gasBefore = gasleft();
        if (!IERC20(t.currency).trySafeTransfer(to, payment)) {
            if (gasleft() < gasBefore / STARVED) revert BatchOutOfGas(holder);
            emit RedemptionSkipped(holder, PAYMENT_REFUSED);
            return;
        }
        emit Redeemed(holder, to, amount, payment);
        IAssetToken(t.token).burn(holder, amount);
    }

    /// @dev Neither frozen nor held: a pledge or a settlement is not redeemed away.
    function _freeBalance(address token, address holder) private view returns (uint256) {
        return
            IERC20(token).balanceOf(holder) - IAssetToken(token).getFrozenTokens(holder) - IHolds(token).heldOf(holder);
    }

    /// @inheritdoc IServicingLifecycle
    function isMatured() external view returns (bool) {
        return _matured;
    }

    function _requireOwn(address token, uint256 role, bytes32 feature) private view {
        if (!IAssetRoles(token).has(address(this), role)) revert FeatureNotAttached(feature);
    }
}
