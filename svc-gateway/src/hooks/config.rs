//! What an operator writes down about custodians' events.

use dalp_service::config::{Problems, Validate};
use serde::Deserialize;

use crate::config::RateConfig;

/// `[hooks]`: custodians may send their events here. Absent: there are no such endpoints.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HooksConfig {
    /// The custodians that have an endpoint, `/hooks/<name>` each.
    pub providers: Vec<HookProvider>,
    /// The largest body, in bytes.
    #[serde(default = "default_max_body_bytes")]
    pub max_body_bytes: usize,
    /// Events of each provider, and of whoever says to be it.
    #[serde(default = "default_rate")]
    pub rate: RateConfig,
    /// Events that may be under way at once, of all providers together.
    #[serde(default = "default_at_once")]
    pub at_once: u32,
}

/// A custodian that sends events.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum HookProvider {
    /// DFNS.
    Dfns,
    /// Fireblocks.
    Fireblocks,
}

fn default_max_body_bytes() -> usize {
    256 * 1024
}

fn default_rate() -> RateConfig {
    RateConfig { per_second: 20, burst: 200 }
}

fn default_at_once() -> u32 {
    16
}

// === impl HookProvider ===

impl HookProvider {
    /// Its name, here and at the signer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dfns => "dfns",
            Self::Fireblocks => "fireblocks",
        }
    }
}

impl Validate for HooksConfig {
    fn validate(&self, problems: &mut Problems) {
        let twice = |index: usize| self.providers[..index].contains(&self.providers[index]);
        if self.providers.is_empty() {
            problems.push("providers", "name at least one, or leave the section out");
        } else if (0..self.providers.len()).any(twice) {
            problems.push("providers", "names one twice");
        }
        if !(1_024..=4 * 1024 * 1024).contains(&self.max_body_bytes) {
            problems.push("max_body_bytes", "must lie between 1024 and 4194304");
        }
        if self.rate.per_second == 0 || self.rate.burst == 0 {
            problems.push("rate", "per_second and burst must be at least 1");
        }
        if !(1..=1_000).contains(&self.at_once) {
            problems.push("at_once", "must lie between 1 and 1000");
        }
    }
}
