// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAddon} from "./IAddon.sol";

/// @notice Everything the servicing of an asset is bound to.
struct ServicingTerms {
    address token;
    /// Receives what is swept.
    address sweepTo;
    /// Pays coupons and redemption.
    address currency;
    /// From then on the asset does not move any more; zero: it never matures.
    uint64 maturity;
    /// Base units of the currency for 1e18 base units of the asset.
    uint256 redemptionPrice;
}

/// @notice Coupons at a fixed interval. Period i runs from `start + i * interval` to the next one or to `end`, if that is
/// earlier, and then pays only its part of an interval.
struct CouponPlan {
    uint48 start;
    uint48 end;
    uint32 interval;
    /// How long before its end a period's holders are recorded.
    uint32 lead;
    /// Base units of the currency for 1e18 base units of the asset and a whole interval.
    uint128 rate;
}

/// @notice One payout: a coupon period (ids 0, 1, ...) or a distribution (ids from 2^32 on).
struct Payout {
    address currency;
    uint48 recordDate;
    /// A holder is due balance * numerator / denominator, rounded down.
    uint256 numerator;
    uint256 denominator;
    /// Reserved and not paid.
    uint128 left;
    /// Of the supply at the record date, what was not paid yet.
    uint128 unitsLeft;
}

/// @notice What both parts of a servicing share.
interface IServicingBase is IAddon {
    event Funded(address indexed by, address indexed currency, uint256 amount);
    event CouponsScheduled(CouponPlan plan);
    event PayoutOpened(uint256 indexed id, address indexed currency, uint48 recordDate, uint256 supply, uint256 total);
    event Paid(uint256 indexed id, address indexed holder, address indexed to, uint256 amount);
    /// @notice The holder stays entitled. `reason`: `HOLDER_FROZEN` or `PAYMENT_REFUSED`.
    event PaymentSkipped(uint256 indexed id, address indexed holder, bytes32 reason);
    event RemainderReleased(uint256 indexed id, uint256 amount);
    event Matured(uint256 supply, uint256 needed);
    event Redeemed(address indexed holder, address indexed to, uint256 amount, uint256 payment);
    event RedemptionSkipped(address indexed holder, bytes32 reason);
    event Swept(address indexed currency, address indexed to, uint256 amount);

    error TreasuryUnderfunded(uint256 needed, uint256 available);
    error PeriodNotComplete(uint256 id, uint256 end);
    error PeriodAlreadyPaid(uint256 id, address holder);
    error PayoutUnknown(uint256 id);
    error NothingDue(address holder);
    error HolderFrozen(address account);
    error NotMatured(uint64 maturity);
    error AlreadyMatured();
    error AlreadyScheduled();
    /// @notice What the asset has not given to this contract: `FUNDS` or `SUPPLY` (roles), `RULE` (its place among the rules).
    error FeatureNotAttached(bytes32 feature);
    error CouponsUnopened(uint256 next);
    error CurrencyTakesFees(address currency);
    error FreeBalanceExceeded(uint256 free, uint256 asked);
    /// @notice A payment of a batch ran out of gas, so that a gas estimate never passes by skipping holders.
    error BatchOutOfGas(address holder);

    function terms() external view returns (ServicingTerms memory);
}

/// @notice Funding, opening and paying of payouts.
interface IServicingPayments is IServicingBase {
    /// @notice Pays into the treasury. Anyone; a plain transfer counts as well. Emits `Funded`. Reverts `CurrencyTakesFees`.
    function fund(address currency, uint256 amount) external;

    /// @notice Reserves the money of completed coupon periods up to number `through`, in order, so that an early claim cannot use what
    /// an older one is owed. Anyone; claims do it by themselves. Emits `PayoutOpened`. Reverts `PeriodNotComplete`,
    /// `TreasuryUnderfunded`.
    function openCoupons(uint256 through) external;

    /// @notice Reserves `total` for the holders at a passed record date of the asset, in proportion. Caller: FUNDS. Emits `PayoutOpened`.
    /// Reverts `TreasuryUnderfunded`, `NothingDue`, and what the asset refuses to tell a balance with.
    function distribute(address currency, uint48 recordDate, uint256 total) external returns (uint256 id);

    /// @notice Pays payouts to the holder or its registered successor. Anyone may call. Emits `Paid`. Reverts `PayoutUnknown`,
    /// `PeriodNotComplete`, `TreasuryUnderfunded`, `PeriodAlreadyPaid`, `NothingDue`, `HolderFrozen`, and what the currency refuses with.
    function claim(address holder, uint256[] calldata ids) external;

    /// @notice Pays one payout to many holders or their registered successors. Anyone may call. Who was paid is passed over, whom the
    /// currency refuses is skipped. Emits `Paid`, `PaymentSkipped`. Reverts `PayoutUnknown`, `PeriodNotComplete`, `TreasuryUnderfunded`,
    /// `BatchOutOfGas`.
    function claimMany(uint256 id, address[] calldata holders) external returns (uint256 paid);

    /// @notice Sends free money to `sweepTo`. Caller: FUNDS. Emits `Swept`. Reverts `TreasuryUnderfunded` when less is free.
    function sweep(address currency, uint256 amount) external;

    function plan() external view returns (CouponPlan memory);

    /// @notice Coupon periods: opened, completed by now, and in all.
    function periods() external view returns (uint256 opened, uint256 completed, uint256 count);

    function payoutOf(uint256 id) external view returns (Payout memory);
    function isPaid(uint256 id, address holder) external view returns (bool);

    /// @notice What an opened payout still owes to a holder.
    function due(uint256 id, address holder) external view returns (uint256);

    /// @notice Balance of the treasury and what it owes now: opened payouts, completed coupon periods, and the redemption once the
    /// asset's maturity has passed. The excess of the balance is free.
    function coverage(address currency) external view returns (uint256 balance, uint256 owed);
}

/// @notice The coupon plan and the redemption.
interface IServicingLifecycle is IServicingBase {
    /// @notice Fixes the coupons, once, and announces their record dates to the asset, with as many storage writes for one
    /// period as for a thousand. Caller: GOVERNANCE; this contract holds FUNDS. Emits `CouponsScheduled`. Reverts `AlreadyScheduled`,
    /// `InvalidTerms`, `FeatureNotAttached`, and what the asset refuses a record date with.
    function schedule(CouponPlan calldata plan) external;

    /// @notice Opens redemption, once, when everything is there. Caller: GOVERNANCE. Emits `Matured`. Reverts `NotMatured`,
    /// `AlreadyMatured`, `FeatureNotAttached`, `CouponsUnopened`, `TreasuryUnderfunded`.
    function mature() external;

    /// @notice Burns free tokens of the caller and pays for them. Emits `Redeemed`. Reverts `NotMatured`, `HolderFrozen`,
    /// `FreeBalanceExceeded`, `TreasuryUnderfunded`, and what the currency refuses with.
    function redeem(uint256 amount) external;

    /// @notice Redeems all free tokens of holders; pays them or their registered successors. Caller: SUPPLY, who could burn them
    /// anyway. Emits `Redeemed`, `RedemptionSkipped`. Reverts `NotMatured`, `TreasuryUnderfunded`, `BatchOutOfGas`.
    function redeemFor(address[] calldata holders) external;

    function isMatured() external view returns (bool);
}

/// @notice The treasury of one asset: coupons, distributions and redemption.
///
/// Rounding: what a payout reserves and what a holder is due are rounded down, in base units of the currency. When the last
/// holder of the record date is paid, what is left of the reserve is the sum of all fractions; it returns to the treasury
/// with `RemainderReleased`, so that every unit is a payment, a remainder or still reserved.
interface IServicing is IServicingPayments, IServicingLifecycle {}
