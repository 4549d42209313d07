//! The terms of each class.

use super::{
    FeeTerms,
    values::{Currency, Date, Decimal},
};
use crate::domain::{claim::TopicName, rule::CollateralRule};
use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

/// A debt that is paid back on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BondTerms {
    /// The day it is paid back.
    pub maturity_date: Date,
    /// What a whole token is paid back with.
    pub denomination: Decimal,
    /// In which currency.
    pub currency: Currency,
    /// Yearly interest in basis points; zero: a zero bond.
    pub coupon_bps: u16,
    /// 1, 2, 4 or 12; none of a zero bond.
    pub payments_per_year: Option<u8>,
    /// How days of interest are counted; none of a zero bond.
    pub day_count: Option<DayCount>,
    /// The most ever issued, base units.
    pub issue_size: Option<U256>,
}

/// How days of interest are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are those of the market
pub enum DayCount {
    Actual360,
    Actual365,
    ActualActual,
    Thirty360,
}

/// A share in a company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EquityTerms {
    /// For instance `common` or `preferred A`.
    pub share_class: String,
    /// Nominal value of a whole token; none: no-par shares.
    pub par_value: Option<Decimal>,
    /// Of the nominal value and of dividends.
    pub currency: Currency,
    /// The most that may exist at any time, base units.
    pub authorised_shares: U256,
    /// Shares without a vote.
    pub non_voting: bool,
}

/// A unit of a fund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FundTerms {
    /// Whether units are issued and taken back all the time.
    pub kind: FundKind,
    /// In which its value is stated.
    pub currency: Currency,
    /// How often its value is stated.
    pub valuation: ValuationCycle,
    /// Taken by minting.
    pub management_fee: Option<FeeTerms>,
    /// Days that units stay with who received them.
    pub lock_up_days: Option<u16>,
}

/// Whether units of a fund are issued and taken back all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the documentation
pub enum FundKind {
    OpenEnded,
    ClosedEnded,
}

/// How often a value is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the documentation
pub enum ValuationCycle {
    Daily,
    Weekly,
    Monthly,
    Quarterly,
}

/// Money at a bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositTerms {
    /// Of what.
    pub currency: Currency,
    /// Yearly interest in basis points.
    pub interest_bps: u16,
    /// The day it ends; none: on demand.
    pub maturity_date: Option<Date>,
    /// Days of notice.
    pub notice_days: u16,
}

/// A token worth a unit of a currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StablecoinTerms {
    /// What a whole token is worth a unit of.
    pub currency: Currency,
    /// What must be attested before more is minted.
    pub collateral: CollateralRule,
    /// Taken of each transfer.
    pub transfer_fee: Option<FeeTerms>,
}

/// A share in land or buildings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealEstateTerms {
    /// Where it stands, ISO 3166-1 numeric.
    pub country: u16,
    /// Its entry in the land register.
    pub land_register_entry: String,
    /// What it was valued at.
    pub valuation: Decimal,
    /// In which currency.
    pub currency: Currency,
    /// When.
    pub valuation_date: Date,
    /// The units it is divided into, base units.
    pub units: U256,
    /// Taken by minting.
    pub management_fee: Option<FeeTerms>,
}

/// Metal in a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreciousMetalTerms {
    /// Which.
    pub metal: Metal,
    /// Parts of metal in 10,000, for instance 9,999.
    pub fineness: u16,
    /// Weight of a whole token in milligrams.
    pub weight_mg: u64,
    /// Who keeps it, and where.
    pub vault: String,
    /// The topic of the attestation of what lies in the vault, in base units.
    pub collateral_topic: TopicName,
    /// Taken by minting.
    pub storage_fee: Option<FeeTerms>,
}

/// A precious metal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the documentation
pub enum Metal {
    Gold,
    Silver,
    Platinum,
    Palladium,
}
