//! The tables of airdrops. No sqlx type passes beyond this module.

pub mod airdrops;
pub mod index;
pub mod lists;
pub mod outcomes;
pub mod pushes;

use alloy::primitives::U256;
use dalp_domain::store::{StoreError, parsed};

/// Places on a list are kept as integers; a list has at most a million.
fn place(place: u64) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}

/// The place that [`place`] stored.
fn place_of(place: i32) -> u64 {
    u64::try_from(place).unwrap_or(0)
}

/// A stored amount, selected as text.
fn amount_of(text: String) -> Result<U256, StoreError> {
    parsed("amount", text)
}
