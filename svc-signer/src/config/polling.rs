//! How custody providers are asked again, the same for each.

use std::time::Duration;

use dalp_service::config::{Problems, Validate};
use serde::Deserialize;

use crate::providers::custody::Pace;

/// `[fireblocks.polling]`, `[dfns.polling]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Polling {
    /// How long a new request is followed before its caller is told to wait, in milliseconds.
    pub settle_ms: u64,
    /// First pause between two looks at a request, in milliseconds; it doubles, with jitter.
    pub first_ms: u64,
    /// Longest pause, in milliseconds.
    pub longest_ms: u64,
    /// Longest pause for a request that an event of the provider has named, in milliseconds.
    pub heard_longest_ms: u64,
    /// Attempts of one request after faults of the provider.
    pub attempts: u16,
}

// === impl Polling ===

impl Default for Polling {
    fn default() -> Self {
        Self { settle_ms: 3_000, first_ms: 2_000, longest_ms: 60_000, heard_longest_ms: 600_000, attempts: 5 }
    }
}

impl Polling {
    /// With the longest that one call takes.
    #[must_use]
    pub fn pace(&self, longest_call: Duration) -> Pace {
        Pace {
            longest_call,
            settle: Duration::from_millis(self.settle_ms),
            poll_first: Duration::from_millis(self.first_ms),
            poll_longest: Duration::from_millis(self.longest_ms),
            poll_longest_heard: Duration::from_millis(self.heard_longest_ms.max(self.longest_ms)),
            attempts: self.attempts,
        }
    }
}

impl Validate for Polling {
    fn validate(&self, problems: &mut Problems) {
        if self.settle_ms > 20_000 {
            problems.push("settle_ms", "must be at most 20000: the caller waits meanwhile");
        }
        if !(10..=3_600_000).contains(&self.first_ms) {
            problems.push("first_ms", "must lie between 10 and 3600000");
        }
        if !(self.first_ms..=3_600_000).contains(&self.longest_ms) {
            problems.push("longest_ms", "must lie between first_ms and 3600000");
        }
        if self.heard_longest_ms > 3_600_000 {
            problems.push("heard_longest_ms", "must be at most 3600000; below longest_ms it counts as that");
        }
        if !(1..=100).contains(&self.attempts) {
            problems.push("attempts", "must lie between 1 and 100");
        }
    }
}
