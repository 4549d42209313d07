//! What an asset is, beyond name and symbol: typed by its class, checked when it is created, kept with it.

mod classes;
pub mod values;

pub use classes::{
    BondTerms, DayCount, DepositTerms, EquityTerms, FundKind, FundTerms, Metal, PreciousMetalTerms, RealEstateTerms,
    StablecoinTerms, ValuationCycle,
};

use super::{
    asset::AssetClass,
    feature::{Feature, Fee},
    rule::{
        CollateralRule, HoldingPeriodRule, IssuanceRule, Rule,
        holding_period::Earlier,
        issuance::{IssuanceLimit, Measure},
    },
};
use alloy::primitives::{Address, U256};
use serde::{Deserialize, Serialize};
use values::Date;

/// The terms of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are those of the classes
pub enum Terms {
    Bond(BondTerms),
    Equity(EquityTerms),
    Fund(FundTerms),
    Deposit(DepositTerms),
    Stablecoin(StablecoinTerms),
    RealEstate(RealEstateTerms),
    PreciousMetal(PreciousMetalTerms),
}

/// A fee that terms name: the issuer collects it unless somebody else is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeTerms {
    /// Basis points, not zero.
    pub bps: u16,
    /// Who gets it.
    pub collector: Option<Address>,
}

// === impl Terms ===

impl Terms {
    /// The class they are terms of.
    #[must_use]
    pub fn class(&self) -> AssetClass {
        match self {
            Self::Bond(_) => AssetClass::Bond,
            Self::Equity(_) => AssetClass::Equity,
            Self::Fund(_) => AssetClass::Fund,
            Self::Deposit(_) => AssetClass::Deposit,
            Self::Stablecoin(_) => AssetClass::Stablecoin,
            Self::RealEstate(_) => AssetClass::RealEstate,
            Self::PreciousMetal(_) => AssetClass::PreciousMetal,
        }
    }

    /// When the asset ends, if it does: it must lie ahead. With the path of its field.
    #[must_use]
    pub fn ends(&self) -> Option<(&'static str, Date)> {
        match self {
            Self::Bond(terms) => Some(("terms.bond.maturity_date", terms.maturity_date)),
            Self::Deposit(terms) => terms.maturity_date.map(|date| ("terms.deposit.maturity_date", date)),
            _ => None,
        }
    }

    /// What has happened already: it must not lie ahead. With the path of its field.
    #[must_use]
    pub fn happened(&self) -> Option<(&'static str, Date)> {
        match self {
            Self::RealEstate(terms) => Some(("terms.real_estate.valuation_date", terms.valuation_date)),
            _ => None,
        }
    }

    /// The rules that follow from the terms.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let capped =
            |measure, max| Rule::Issuance(IssuanceRule { limits: vec![IssuanceLimit { measure, max, price: None }] });
        let ever = Measure::Ever { issued_before: U256::ZERO };
        match self {
            Self::Bond(terms) => terms.issue_size.map(|size| capped(ever, size)).into_iter().collect(),
            Self::Equity(terms) => vec![capped(Measure::Supply, terms.authorised_shares)],
            Self::Fund(terms) => terms
                .lock_up_days
                .map(|days| Rule::HoldingPeriod(HoldingPeriodRule { days, earlier: Earlier::Free }))
                .into_iter()
                .collect(),
            Self::Deposit(_) => Vec::new(),
            Self::Stablecoin(terms) => vec![Rule::Collateral(terms.collateral.clone())],
            Self::RealEstate(terms) => vec![capped(Measure::Supply, terms.units)],
            Self::PreciousMetal(terms) => vec![Rule::Collateral(CollateralRule {
                topic: terms.collateral_topic.clone(),
                ratio_bps: ONE_TO_ONE_BPS,
                price: None,
            })],
        }
    }

    /// The features that follow from the terms.
    #[must_use]
    pub fn features(&self, issuer: Address) -> Vec<Feature> {
        let fee = |terms: &Option<FeeTerms>, make: fn(Fee) -> Feature| {
            terms.map(|terms| make(Fee { bps: terms.bps, collector: terms.collector.unwrap_or(issuer) }))
        };
        match self {
            Self::Bond(_) | Self::Deposit(_) => None,
            Self::Equity(terms) => (!terms.non_voting).then_some(Feature::VotingPower),
            Self::Fund(terms) => fee(&terms.management_fee, Feature::ManagementFee),
            Self::Stablecoin(terms) => fee(&terms.transfer_fee, Feature::TransactionFee),
            Self::RealEstate(terms) => fee(&terms.management_fee, Feature::ManagementFee),
            Self::PreciousMetal(terms) => fee(&terms.storage_fee, Feature::ManagementFee),
        }
        .into_iter()
        .collect()
    }
}

/// A unit of collateral for each unit of the asset.
pub const ONE_TO_ONE_BPS: u32 = 10_000;
