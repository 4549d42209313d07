//! Limits amount and volume of transfers.

use super::{Fields, VolumeLimit};
use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

/// Parameters of `TransferLimitRule`: one limit at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferLimitRule {
    /// The largest single transfer.
    pub max_amount: Option<U256>,
    /// What one holder may transfer.
    pub per_holder: Option<VolumeLimit>,
    /// What all holders together may transfer.
    pub per_token: Option<VolumeLimit>,
}

impl TransferLimitRule {
    /// A rule of its limits; `given` says whether any of them was written down, valid or not.
    pub fn new(
        fields: &mut Fields<'_>,
        max_amount: &str,
        per_holder: Option<Option<VolumeLimit>>,
        per_token: Option<Option<VolumeLimit>>,
    ) -> Self {
        let before = fields.problems();
        let amount = fields.optional_amount("max_amount", max_amount);
        if fields.problems() == before && amount.is_none() && per_holder.is_none() && per_token.is_none() {
            fields.refuse("max_amount", "is missing, and so are limits of volume: one limit at least");
        }
        Self { max_amount: amount, per_holder: per_holder.flatten(), per_token: per_token.flatten() }
    }
}
