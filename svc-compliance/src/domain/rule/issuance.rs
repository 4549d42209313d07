//! Limits what may be issued.

use super::{Fields, PriceSource, Window};
use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

/// The most limits of one rule.
pub const MAX_LIMITS: usize = 4;

/// Parameters of `IssuanceRule`: limits that measure different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuanceRule {
    /// One to [`MAX_LIMITS`].
    pub limits: Vec<IssuanceLimit>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuanceLimit {
    /// What is measured.
    pub measure: Measure,
    /// Not zero: base units, or with a price fiat with 18 decimals.
    pub max: U256,
    /// For a limit in fiat.
    pub price: Option<PriceSource>,
}

/// What a limit measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The supply at any time.
    Supply,
    /// Everything ever issued.
    Ever {
        /// What was issued before the rule was bound.
        issued_before: U256,
    },
    /// What is issued within a window.
    Within(Window),
}

impl IssuanceRule {
    /// A rule of limits; which of them were read is the caller's to say.
    pub fn new(fields: &mut Fields<'_>, limits: Vec<IssuanceLimit>) -> Self {
        for (index, limit) in limits.iter().enumerate() {
            if let Some(same) = limits[..index].iter().position(|earlier| earlier.measures_as(limit)) {
                fields.refuse(&format!("limits[{index}]"), format!("measures the same as limits[{same}]"));
            }
        }
        Self { limits }
    }

    /// Whether a list of limits may be read at all.
    pub fn counts(fields: &mut Fields<'_>, limits: usize) -> bool {
        let fits = (1..=MAX_LIMITS).contains(&limits);
        if !fits {
            fields.refuse("limits", format!("needs 1 to {MAX_LIMITS} limits"));
        }
        fits
    }
}

impl IssuanceLimit {
    fn measures_as(&self, other: &Self) -> bool {
        let feed = |limit: &Self| limit.price.map(|price| price.feed);
        let measure = match (self.measure, other.measure) {
            (Measure::Ever { .. }, Measure::Ever { .. }) => true,
            (one, another) => one == another,
        };
        measure && feed(self) == feed(other)
    }
}
