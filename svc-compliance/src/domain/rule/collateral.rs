//! Lets mint only what attested collateral covers.

use super::{Fields, PriceSource};
use crate::domain::claim::TopicName;
use serde::{Deserialize, Serialize};

/// The highest ratio: a hundred units of collateral for one.
pub const MAX_RATIO_BPS: u32 = 1_000_000;

/// Parameters of `CollateralRule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollateralRule {
    /// Topic of the claim on the asset's own identity.
    pub topic: TopicName,
    /// Basis points, 10,000 is one to one.
    pub ratio_bps: u32,
    /// For collateral attested in fiat, with 18 decimals, instead of in base units.
    #[serde(default)]
    pub price: Option<PriceSource>,
}

impl CollateralRule {
    /// A rule of the fields of its message.
    pub fn new(fields: &mut Fields<'_>, topic: &str, ratio_bps: u32, price: Option<PriceSource>) -> Self {
        let ratio_bps = fields.number("ratio_bps", ratio_bps, 1, MAX_RATIO_BPS);
        Self { topic: fields.topic("topic", topic), ratio_bps, price }
    }
}
