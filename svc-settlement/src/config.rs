//! What an operator writes down; `config.example.toml` shows every key.

use crate::pairs::Rules;
use dalp_chain::ChainConfig;
use dalp_service::config::{
    DatabaseConfig, HistoryConfig, PeerConfig, Problems, ServerConfig, TelemetryConfig, TlsConfig, Validate,
};
use serde::Deserialize;
use std::time::Duration;

/// Prefix of environment variables that override keys.
pub const ENVIRONMENT_PREFIX: &str = "DALP_SETTLEMENT";

/// The configuration of svc-settlement.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementConfig {
    /// Listener.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The database with the schemas `settlement` and `engine`.
    pub database: DatabaseConfig,
    /// How long finished operations stand beside live ones.
    #[serde(default)]
    pub history: HistoryConfig,
    /// Our certificate towards other services.
    pub client_tls: TlsConfig,
    /// svc-signer.
    pub signer: PeerConfig,
    /// The first chain, on which the system's assets are.
    pub chain: ChainConfig,
    /// Further chains, for settlements across chains.
    #[serde(default)]
    pub further_chains: Vec<ChainConfig>,
    /// Name of this replica and how it indexes.
    pub settlement: SettlementSection,
}

/// `[settlement]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementSection {
    /// Stable name of this replica; no two running replicas share it.
    pub instance: String,
    /// First block of the indexer; nothing of ours is older.
    #[serde(default)]
    pub index_from_block: u64,
    /// Whether this replica may index.
    #[serde(default = "yes")]
    pub index: bool,
    /// How exchanges across two chains are looked after.
    #[serde(default)]
    pub pairs: PairsSection,
}

/// `[settlement.pairs]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PairsSection {
    /// The cutoffs lie at least so far apart: the longest outage of the first chain that is to be survived.
    pub cutoff_gap_s: u64,
    /// Our secret is shown only while at least so much is left before the first cutoff.
    pub reveal_margin_s: u64,
    /// The longest that a transaction takes to be final on either chain.
    pub confirmation_s: u64,
    /// From so long before a cutoff on a settlement that is not locked needs attention.
    pub notice_s: u64,
    /// How often they are looked after, in milliseconds.
    pub every_ms: u64,
}

// === impl PairsSection ===

impl Default for PairsSection {
    fn default() -> Self {
        Self { cutoff_gap_s: 21_600, reveal_margin_s: 3_600, confirmation_s: 900, notice_s: 7_200, every_ms: 1_000 }
    }
}

impl PairsSection {
    /// As the code knows them.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            cutoff_gap_s: self.cutoff_gap_s,
            reveal_margin_s: self.reveal_margin_s,
            confirmation_s: self.confirmation_s,
            notice_s: self.notice_s,
            every: Duration::from_millis(self.every_ms),
        }
    }
}

fn yes() -> bool {
    true
}

impl Validate for SettlementConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("server", |problems| self.server.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
        problems.section("database", |problems| self.database.validate(problems));
        problems.section("history", |problems| self.history.validate(problems));
        problems.section("client_tls", |problems| self.client_tls.validate(problems));
        problems.section("chain", |problems| {
            for problem in self.chain.problems() {
                problems.push("", problem);
            }
        });
        problems.section("further_chains", |problems| {
            for problem in self.chain.problems_beside(&self.further_chains) {
                problems.push("", problem);
            }
        });
        problems.section("settlement", |problems| {
            let pairs = &self.settlement.pairs;
            if pairs.every_ms == 0 {
                problems.push("pairs.every_ms", "must not be 0");
            }
            if pairs.reveal_margin_s == 0 || pairs.confirmation_s == 0 {
                problems.push(
                    "pairs.reveal_margin_s",
                    "must not be 0, nor confirmation_s: a secret would be shown too late",
                );
            }
            if pairs.cutoff_gap_s < pairs.reveal_margin_s.saturating_add(pairs.confirmation_s) {
                problems.push("pairs.cutoff_gap_s", "must be at least reveal_margin_s and confirmation_s together");
            }
            if self.settlement.instance.trim().is_empty() {
                problems.push("instance", "must name this replica");
            }
        });
    }
}
