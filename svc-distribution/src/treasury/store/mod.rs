//! The tables of treasuries. No sqlx type passes beyond this module.

pub mod discards;
pub mod due;
pub mod index;
pub mod outcomes;
pub mod passes;
pub mod runs;
pub mod schedules;
pub mod treasuries;

use alloy::primitives::U256;
use dalp_domain::store::{StoreError, parsed};

/// Places on a list, and numbers of runs, are kept as integers.
fn place(place: u32) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}

/// The number that [`place`] stored.
fn place_of(place: i32) -> u32 {
    u32::try_from(place).unwrap_or(0)
}

/// A stored amount, selected as text.
fn amount_of(text: String) -> Result<U256, StoreError> {
    parsed("amount", text)
}

/// A stored amount of a currency, selected as text; no payout is larger.
fn payable_of(text: String) -> Result<u128, StoreError> {
    parsed("amount", text)
}
