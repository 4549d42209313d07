//! What callers ask for, checked and typed. Nothing here knows of protobuf, SQL or the network.

use super::{calendar::Calendar, entitlement::Fraction};
use crate::offering::price::Price;
use alloy::primitives::{Address, U256, aliases::U48};
use dalp_contracts::bindings::{AddonFactory::ServicingTerms, ServicingLifecycle::CouponPlan};
use serde::{Deserialize, Serialize};

/// What the references of scheduled dividends begin with, and no other.
pub const SCHEDULED: &str = "schedule-";
/// The most payouts that one claim names.
pub const MAX_CLAIMED: usize = 50;
/// Payouts of a treasury with a number from here on are dividends; those below are coupon periods.
pub const FIRST_DIVIDEND: u64 = 1 << 32;
/// The denominator of rates and prices.
pub const ONE: u64 = 1_000_000_000_000_000_000;

/// Terms of a treasury. They never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The asset.
    pub asset: Address,
    /// Pays coupons and redemption.
    pub currency: Address,
    /// Receives what is swept.
    pub sweep_to: Address,
    /// When the asset matures, and what a token is redeemed for then.
    pub maturity: Option<Maturity>,
}

/// How an asset ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maturity {
    /// Unix seconds.
    pub at: u64,
    /// Of a whole token.
    pub redemption_price: Price,
}

/// What the numbers of terms come to on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// Places behind the decimal point of the asset.
    pub asset_decimals: u8,
    /// The same of the currency.
    pub currency_decimals: u8,
    /// Base units of the currency for 1e18 base units of the asset at redemption; zero without maturity.
    pub redemption_ratio: U256,
}

/// A treasury to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTreasury {
    /// Who sends.
    pub sender: Address,
    /// Under which terms.
    pub terms: Terms,
}

/// A command that needs no more than sender and treasury.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// Who sends.
    pub sender: Address,
    /// The treasury.
    pub treasury: Address,
}

/// Coupons at a fixed interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Unix seconds at which the first period begins.
    pub starts_at: u64,
    /// Unix seconds at which the last one ends.
    pub ends_at: u64,
    /// Seconds of a period.
    pub interval_s: u32,
    /// Seconds before its end at which the holders of a period are recorded.
    pub lead_s: u32,
    /// Of a whole token and a whole interval.
    pub rate: Price,
}

/// Coupons to fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleCoupons {
    /// Who sends.
    pub sender: Address,
    /// The treasury.
    pub treasury: Address,
    /// The coupons.
    pub plan: Plan,
}

/// A record date to announce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceDate {
    /// Who sends.
    pub sender: Address,
    /// The treasury.
    pub treasury: Address,
    /// Unix seconds.
    pub record_date: u64,
}

/// Money to pay in or to sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveMoney {
    /// Who sends.
    pub sender: Address,
    /// The treasury.
    pub treasury: Address,
    /// In which currency; absent: that of the terms.
    pub currency: Option<Address>,
    /// Base units.
    pub amount: U256,
}

/// A calendar to pay by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleCalendar {
    /// Who sends, now and when it is paid.
    pub sender: Address,
    /// The treasury.
    pub treasury: Address,
    /// When and how much.
    pub calendar: Calendar,
    /// Seconds before a payment at which the treasury must be able to make it.
    pub alert_s: u64,
}

/// Payouts to claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimPayouts {
    /// Who sends.
    pub sender: Address,
    /// The treasury.
    pub treasury: Address,
    /// Whose payouts.
    pub holder: Address,
    /// Which.
    pub payout_ids: Vec<u64>,
}

/// Tokens to redeem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeem {
    /// Who sends, and whose tokens are burned.
    pub sender: Address,
    /// The treasury.
    pub treasury: Address,
    /// Base units of the asset.
    pub amount: U256,
}

/// What a run pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payout {
    /// A coupon period.
    Coupon {
        /// Its number.
        period: u32,
    },
    /// A sum that is divided.
    Dividend {
        /// In what it is paid.
        currency: Address,
        /// Unix seconds whose holders are paid.
        record_date: u64,
        /// Base units to divide.
        total: u128,
        /// The caller's own name for it.
        reference: String,
    },
    /// What holders have left.
    Redemption,
}

/// A coupon period as the contract counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Unix seconds at which it ends; it can be paid after.
    pub ends_at: u64,
    /// Unix seconds whose holders are paid.
    pub record_date: u64,
    /// What a base unit is due.
    pub fraction: Fraction,
}

// === impl Terms ===

impl Terms {
    /// As the factory takes them.
    #[must_use]
    pub fn on_chain(&self, units: &Units) -> ServicingTerms {
        ServicingTerms {
            token: self.asset,
            sweepTo: self.sweep_to,
            currency: self.currency,
            maturity: self.maturity.map_or(0, |maturity| maturity.at),
            redemptionPrice: units.redemption_ratio,
        }
    }
}

// === impl Units ===

impl Units {
    /// What a base unit is due at redemption.
    #[must_use]
    pub fn redemption(&self) -> Fraction {
        Fraction { numerator: self.redemption_ratio, denominator: U256::from(ONE) }
    }
}

// === impl Plan ===

impl Plan {
    /// As the contract takes it, for a rate in its units.
    #[must_use]
    pub fn on_chain(&self, rate: u128) -> CouponPlan {
        CouponPlan {
            start: U48::from(self.starts_at),
            end: U48::from(self.ends_at),
            interval: self.interval_s,
            lead: self.lead_s,
            rate,
        }
    }
}

/// A period of a plan; `None`: it has no such period.
#[must_use]
pub fn period_of(plan: &CouponPlan, period: u32) -> Option<Period> {
    let (start, end, interval) = (plan.start.to::<u64>(), plan.end.to::<u64>(), u64::from(plan.interval));
    let begins = start + u64::from(period) * interval;
    if interval == 0 || begins >= end {
        return None;
    }
    let ends_at = (begins + interval).min(end);
    let fraction = Fraction {
        numerator: U256::from(plan.rate) * U256::from(ends_at - begins),
        denominator: U256::from(ONE) * U256::from(interval),
    };
    Some(Period { ends_at, record_date: ends_at - u64::from(plan.lead), fraction })
}

/// How many periods a plan has.
#[must_use]
pub fn periods_of(plan: &CouponPlan) -> u32 {
    let (start, end, interval) = (plan.start.to::<u64>(), plan.end.to::<u64>(), u64::from(plan.interval));
    match interval {
        0 => 0,
        interval => u32::try_from(end.saturating_sub(start).div_ceil(interval)).unwrap_or(u32::MAX),
    }
}

/// The first record date of a plan.
#[must_use]
pub fn first_record_date(plan: &Plan) -> u64 {
    (plan.starts_at + u64::from(plan.interval_s)).min(plan.ends_at).saturating_sub(plan.lead_s.into())
}

// === impl Payout ===

impl Payout {
    /// The name under which its kind is stored.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Coupon { .. } => "coupon",
            Self::Dividend { .. } => "dividend",
            Self::Redemption => "redemption",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(start: u64, end: u64, interval: u32, lead: u32, rate: u128) -> CouponPlan {
        CouponPlan { start: U48::from(start), end: U48::from(end), interval, lead, rate }
    }

    #[test]
    fn a_short_last_period_pays_its_part() {
        let plan = plan(100, 350, 100, 10, 5);
        assert_eq!(periods_of(&plan), 3);
        let one = U256::from(ONE);
        let whole = Fraction { numerator: U256::from(500), denominator: one * U256::from(100) };
        assert_eq!(period_of(&plan, 0), Some(Period { ends_at: 200, record_date: 190, fraction: whole }));
        let half = Fraction { numerator: U256::from(250), ..whole };
        assert_eq!(period_of(&plan, 2), Some(Period { ends_at: 350, record_date: 340, fraction: half }));
        assert_eq!(period_of(&plan, 3), None);
    }

    #[test]
    fn no_plan_has_no_periods() {
        let none = plan(0, 0, 0, 0, 0);
        assert_eq!((periods_of(&none), period_of(&none, 0)), (0, None));
    }

    #[test]
    fn the_first_record_date_stands_before_the_first_end() {
        let plan = |ends_at| Plan { starts_at: 100, ends_at, interval_s: 50, lead_s: 5, rate: "1".parse().unwrap() };
        assert_eq!((first_record_date(&plan(400)), first_record_date(&plan(120))), (145, 115));
    }
}
