//! What an operator writes down for the attestor; `attestor.example.toml` shows every key.

use super::ruleset::{RuleSet, TenantRules};
use dalp_chain::ChainConfig;
use dalp_service::config::{Problems, ServerConfig, TelemetryConfig, Validate};
use serde::Deserialize;

/// Prefix of environment variables that override keys.
pub const ENVIRONMENT_PREFIX: &str = "DALP_ATTESTOR";

/// The configuration of `svc-compliance --role attest`. There is no database, and no certificate to call anybody with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestorConfig {
    /// Listener.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The chain, through nodes that no domain service uses.
    pub chain: ChainConfig,
    /// How it judges.
    #[serde(default)]
    pub attest: AttestSection,
}

/// `[attest]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttestSection {
    /// How long a verdict may be used, in seconds.
    pub validity_s: u64,
    /// Blocks after which a refusal is looked at a second time before it counts; 0: the first one counts.
    pub second_look_blocks: u64,
    /// Age in seconds beyond which the latest block is too old to judge at; 0: any age will do.
    pub head_age_max_s: u64,
    /// First block in which a contract of ours may have been created.
    pub from_block: u64,
    /// The rules.
    pub rules: RuleSet,
}

impl Default for AttestSection {
    fn default() -> Self {
        Self { validity_s: 60, second_look_blocks: 2, head_age_max_s: 300, from_block: 0, rules: RuleSet::default() }
    }
}

// === impl AttestSection ===

impl AttestSection {
    /// Whether a latest block of this time is too old to judge at. One of the future, as on test chains, never is.
    #[must_use]
    pub fn is_stale(&self, timestamp_s: u64, now_s: u64) -> bool {
        self.head_age_max_s != 0 && now_s.saturating_sub(timestamp_s) > self.head_age_max_s
    }
}

impl Validate for AttestorConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("server", |problems| self.server.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
        problems.section("chain", |problems| {
            for problem in self.chain.problems() {
                problems.push("", problem);
            }
        });
        problems.section("attest", |problems| {
            if !(5..=600).contains(&self.attest.validity_s) {
                problems.push("validity_s", "must lie between 5 and 600");
            }
            if self.attest.second_look_blocks > 64 {
                problems.push("second_look_blocks", "must be at most 64");
            }
            for (index, TenantRules { id, .. }) in self.attest.rules.tenants.iter().enumerate() {
                if self.attest.rules.tenants[..index].iter().any(|other| other.id == *id) {
                    problems.push(format!("rules.tenants[{index}].id"), format!("{id} has rules already"));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_stale_by_its_age_alone() {
        let section = AttestSection { head_age_max_s: 300, ..AttestSection::default() };
        assert!(section.is_stale(1_000, 1_301));
        assert!(!section.is_stale(1_000, 1_300));
        assert!(!section.is_stale(9_000_000, 1_000), "a chain whose time was moved on");
        assert!(!AttestSection { head_age_max_s: 0, ..section }.is_stale(0, u64::MAX), "off");
    }
}
