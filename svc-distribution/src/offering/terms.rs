//! What callers ask for, checked and typed. Nothing here knows of protobuf, SQL or the network.

use super::price::{Price, discounted};
use crate::airdrop::tree::Tree;
use alloy::primitives::{Address, B256, U256};
use dalp_contracts::{
    bindings::AddonFactory::{self, OfferingTerms},
    encode::allow_list_leaf,
};
use serde::{Deserialize, Serialize};

/// The most currencies of a sale; the contract's own bound.
pub const MAX_CURRENCIES: usize = 8;
/// The longest allow-list.
pub const MAX_ALLOW_LIST: usize = 10_000;

/// A currency that a sale takes, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Currency {
    /// Its contract.
    pub currency: Address,
    /// Whole units of it for one whole token.
    pub price: Price,
}

/// The first part of a sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presale {
    /// Unix seconds before which only listed buyers buy.
    pub ends_at: u64,
    /// Off the price, in hundredths of a percent.
    pub discount_bps: u16,
    /// Root of the allow-list's tree.
    pub allow_list: B256,
}

/// The lock-up of what was bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockup {
    /// Unix seconds from which tokens are released.
    pub starts_at: u64,
    /// Seconds from then with nothing.
    pub cliff_s: u64,
    /// Seconds from then to everything.
    pub duration_s: u64,
}

/// What a sale is bound to. Token amounts are base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What is sold.
    pub asset: Address,
    /// It mints what it delivers instead of holding it.
    pub minted: bool,
    /// Receives the money of a sale that succeeded.
    pub proceeds_to: Address,
    /// Receives tokens that nobody bought.
    pub unsold_to: Address,
    /// Unix seconds from which it sells.
    pub starts_at: u64,
    /// Unix seconds before which it sells.
    pub ends_at: u64,
    /// The most it sells; below 2^120.
    pub hard_cap: U256,
    /// Below it everybody is refunded; zero: it succeeds whatever it sells.
    pub soft_cap: U256,
    /// The least of an investor.
    pub minimum: U256,
    /// The most of an investor, over all wallets.
    pub maximum: U256,
    /// What buyers acknowledge; zero: nothing.
    pub terms_hash: B256,
    /// Its first part, if it has one.
    pub presale: Option<Presale>,
    /// The lock-up, if there is one.
    pub lockup: Option<Lockup>,
    /// What it takes.
    pub currencies: Vec<Currency>,
}

/// A price as the contract counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// The currency.
    pub currency: Address,
    /// Its decimals.
    pub decimals: u8,
    /// Base units of it for 1e18 base units of the asset.
    pub ratio: U256,
}

/// What the prices of a sale come to, by the decimals of asset and currencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Decimals of the asset.
    pub asset_decimals: u8,
    /// In the order of the terms.
    pub currencies: Vec<Rate>,
}

/// A sale to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOffering {
    /// Who sends.
    pub sender: Address,
    /// Under which terms.
    pub terms: Terms,
    /// The sale whose place it takes.
    pub replaces: Option<Address>,
}

/// Something to do with a sale that needs no more than its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// Who sends.
    pub sender: Address,
    /// The sale.
    pub offering: Address,
}

/// Stops buying, or lets it go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPaused {
    /// Who sends.
    pub sender: Address,
    /// The sale.
    pub offering: Address,
    /// Whether buying stops.
    pub paused: bool,
}

/// A purchase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buy {
    /// Who buys.
    pub sender: Address,
    /// The sale.
    pub offering: Address,
    /// Pays in it.
    pub currency: Address,
    /// The most that is paid.
    pub payment: U256,
    /// The least to buy; absent: as much as it buys when it is accepted.
    pub minimum_tokens: Option<U256>,
    /// The terms that the buyer acknowledges; zero: none.
    pub terms_hash: B256,
}

/// Tokens to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimTokens {
    /// Who sends.
    pub sender: Address,
    /// The sale.
    pub offering: Address,
    /// Whose they are.
    pub buyer: Address,
}

/// Payments to return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Who sends.
    pub sender: Address,
    /// The sale.
    pub offering: Address,
    /// Who paid.
    pub buyer: Address,
    /// In which currency; absent: in each.
    pub currency: Option<Address>,
}

/// Proceeds to withdraw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawProceeds {
    /// Who sends.
    pub sender: Address,
    /// The sale.
    pub offering: Address,
    /// Which currency.
    pub currency: Address,
}

// === impl Terms ===

impl Terms {
    /// As the factory takes them.
    #[must_use]
    pub fn on_chain(&self, rates: &Rates) -> OfferingTerms {
        let presale = self.presale.as_ref();
        let lockup = self.lockup.as_ref();
        OfferingTerms {
            token: self.asset,
            minted: self.minted,
            proceedsTo: self.proceeds_to,
            unsoldTo: self.unsold_to,
            start: self.starts_at,
            end: self.ends_at,
            // Amounts were checked to be at most the hard cap, and that to fit.
            hardCap: self.hard_cap.saturating_to(),
            softCap: self.soft_cap.saturating_to(),
            minimum: self.minimum.saturating_to(),
            maximum: self.maximum.saturating_to(),
            termsHash: self.terms_hash,
            presale: AddonFactory::Presale {
                end: presale.map_or(0, |presale| presale.ends_at),
                discountBps: presale.map_or(0, |presale| presale.discount_bps),
                allowList: presale.map_or(B256::ZERO, |presale| presale.allow_list),
            },
            lockup: AddonFactory::Lockup {
                start: lockup.map_or(0, |lockup| lockup.starts_at),
                cliff: lockup.map_or(0, |lockup| lockup.cliff_s),
                duration: lockup.map_or(0, |lockup| lockup.duration_s),
            },
            currencies: rates
                .currencies
                .iter()
                .map(|rate| AddonFactory::PaymentCurrency { currency: rate.currency, price: rate.ratio })
                .collect(),
        }
    }

    /// Whether only listed buyers buy at a time.
    #[must_use]
    pub fn presale_at(&self, now_s: u64) -> Option<&Presale> {
        self.presale.as_ref().filter(|presale| now_s < presale.ends_at)
    }

    /// The price at a time, in base units of the currency for 1e18 of the asset.
    #[must_use]
    pub fn ratio_at(&self, rate: &Rate, now_s: u64) -> U256 {
        match self.presale_at(now_s) {
            Some(presale) => discounted(rate.ratio, presale.discount_bps),
            None => rate.ratio,
        }
    }
}

// === impl Rates ===

impl Rates {
    /// That of a currency.
    #[must_use]
    pub fn of(&self, currency: Address) -> Option<&Rate> {
        self.currencies.iter().find(|rate| rate.currency == currency)
    }
}

/// The tree of an allow-list, in its order.
///
/// # Panics
/// When it is empty: a presale without listed buyers is refused before.
#[must_use]
pub fn allow_list_tree(accounts: &[Address]) -> Tree {
    Tree::of_leaves(accounts.iter().map(|account| allow_list_leaf(*account)))
}
