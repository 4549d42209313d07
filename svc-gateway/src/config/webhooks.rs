//! `[webhooks]`: how events are brought to receivers of the tenants.

use std::time::Duration;

use dalp_service::config::{Problems, Validate};
use ipnet::IpNet;
use serde::Deserialize;

use crate::webhooks::{address::Reach, courier::Pace};

/// `[webhooks]`. Secrets are sealed with the keys of `[sealing]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Networks that are not public and may be called all the same.
    #[serde(default)]
    pub allow_networks: Vec<IpNet>,
    /// Whether receivers may be called without TLS.
    #[serde(default)]
    pub allow_http: bool,
    /// A certificate authority in PEM that is trusted beside the public ones, for receivers inside.
    #[serde(default)]
    pub authority_file: Option<std::path::PathBuf>,
    /// Deadline of a try, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Pauses between tries of one delivery, in seconds; when they are used up, it is a dead letter.
    #[serde(default = "default_retries_s")]
    pub retries_s: Vec<u64>,
    /// Tries at once, of a replica.
    #[serde(default = "default_in_flight")]
    pub in_flight: usize,
    /// Of these for one webhook.
    #[serde(default = "default_in_flight_each")]
    pub in_flight_each: usize,
}

const fn default_timeout_ms() -> u64 {
    15_000
}

/// Those that Standard Webhooks recommends: a little more than three days.
fn default_retries_s() -> Vec<u64> {
    vec![5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
}

const fn default_in_flight() -> usize {
    32
}

const fn default_in_flight_each() -> usize {
    4
}

// === impl WebhooksConfig ===

impl WebhooksConfig {
    /// Where may be called.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::new(self.allow_networks.clone(), self.allow_http)
    }

    /// How tries are made.
    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace {
            in_flight: self.in_flight,
            in_flight_each: self.in_flight_each,
            timeout: Duration::from_millis(self.timeout_ms),
            retries: self.retries_s.iter().copied().map(Duration::from_secs).collect(),
        }
    }
}

impl Validate for WebhooksConfig {
    fn validate(&self, problems: &mut Problems) {
        if !(100..=60_000).contains(&self.timeout_ms) {
            problems.push("timeout_ms", "must lie between 100 and 60000");
        }
        if self.retries_s.len() > 50 || self.retries_s.iter().any(|pause| !(1..=604_800).contains(pause)) {
            problems.push("retries_s", "at most 50 pauses of 1 to 604800 seconds (a week)");
        }
        if !(1..=1_000).contains(&self.in_flight) {
            problems.push("in_flight", "must lie between 1 and 1000");
        }
        if !(1..=self.in_flight).contains(&self.in_flight_each) {
            problems.push("in_flight_each", "must lie between 1 and in_flight");
        }
    }
}
