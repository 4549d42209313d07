//! The tables of sales. No sqlx type passes beyond this module.

pub mod buyers;
pub mod index;
pub mod offerings;

use alloy::primitives::U256;
use dalp_domain::store::{StoreError, parsed};

/// A stored amount, selected as text.
fn amount_of(text: String) -> Result<U256, StoreError> {
    parsed("amount", text)
}
