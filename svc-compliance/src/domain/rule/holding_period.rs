//! Keeps tokens with their holder for some days.

use super::Fields;
use serde::{Deserialize, Serialize};

/// The longest period, in days.
pub const MAX_DAYS: u32 = 10_950;

/// Parameters of `HoldingPeriodRule`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldingPeriodRule {
    /// 1 to [`MAX_DAYS`].
    pub days: u16,
    /// What happens to earlier balances; fixed while the rule stays bound.
    pub earlier: Earlier,
}

/// How tokens count that were held before the rule was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Earlier {
    /// They may go at once.
    Free,
    /// They count as received on the day of binding.
    AsNew,
}

impl HoldingPeriodRule {
    /// A rule of the fields of its message.
    pub fn new(fields: &mut Fields<'_>, days: u32, earlier: Earlier) -> Self {
        let days = fields.number("days", days, 1, MAX_DAYS);
        Self { days: u16::try_from(days).unwrap_or(u16::MAX), earlier }
    }
}
