//! What an operator may set of a lane: what becomes of those behind an approval, and for how long it may hold them up.

use crate::custody::BehindApproval;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

/// What an operator may set of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePolicy {
    /// What becomes of requests while a custody approval holds a nonce of it.
    pub behind_approval: BehindApproval,
    /// After so long with others behind it, a reservation that no provider has anything of goes behind them, in whole seconds; absent: never.
    pub hold_nonce_for: Option<Duration>,
}

/// Who set the policy of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySetView {
    /// Who.
    pub by: String,
    /// The reason given.
    pub reason: String,
    /// When.
    pub at: OffsetDateTime,
}

// === impl LanePolicy ===

impl LanePolicy {
    /// What a reservation may be told to hold others up for.
    pub const HOLD_NONCE_FOR_S: std::ops::RangeInclusive<u32> = 60..=86_400;

    /// What the audit keeps of setting it.
    pub(crate) fn leaf(self, reason: &str) -> serde_json::Value {
        let hold_nonce_for_s = self.hold_nonce_for.map(|after| after.as_secs());
        json!({"reason": reason, "behind_approval": self.behind_approval.as_str(), "hold_nonce_for_s": hold_nonce_for_s})
    }
}

impl Default for LanePolicy {
    fn default() -> Self {
        Self { behind_approval: BehindApproval::Queue, hold_nonce_for: None }
    }
}
