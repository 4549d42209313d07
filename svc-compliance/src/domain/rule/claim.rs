//! Demands claims beyond the asset's policy.

use super::Sides;
use crate::domain::expression::Claims;
use serde::{Deserialize, Serialize};

/// Parameters of `ClaimRule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRule {
    /// Whom it asks.
    #[serde(default, skip_serializing_if = "Sides::is_recipient")]
    pub sides: Sides,
    /// What it asks for.
    #[serde(flatten)]
    pub claims: Claims,
}
