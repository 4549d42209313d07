//! The price that turns an amount of a token into money.

use super::Fields;
use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

/// Where the price of a whole token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceSource {
    /// An `AggregatorV3Interface`. That it answers like one is asked of the chain.
    pub feed: Address,
    /// Not zero.
    pub max_age_s: u32,
}

impl PriceSource {
    /// A source of the fields of its message.
    pub fn new(fields: &mut Fields<'_>, feed: &str, max_age_s: u32) -> Self {
        Self { feed: fields.address("feed", feed), max_age_s: fields.number("max_age_s", max_age_s, 1, u32::MAX) }
    }
}
