//! What an operator writes down; `config.example.toml` shows every key.

use dalp_chain::ChainConfig;
use dalp_service::config::{
    DatabaseConfig, HistoryConfig, PeerConfig, Problems, ServerConfig, TelemetryConfig, TlsConfig, Validate,
};
use serde::Deserialize;

/// Prefix of environment variables that override keys.
pub const ENVIRONMENT_PREFIX: &str = "DALP_DISTRIBUTION";

/// The configuration of svc-distribution.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistributionConfig {
    /// Listener.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The database with the schemas `distribution` and `engine`.
    pub database: DatabaseConfig,
    /// How long finished operations stand beside live ones.
    #[serde(default)]
    pub history: HistoryConfig,
    /// Our certificate towards other services.
    pub client_tls: TlsConfig,
    /// svc-signer.
    pub signer: PeerConfig,
    /// The chain.
    pub chain: ChainConfig,
    /// Name of this replica and how it indexes.
    pub distribution: DistributionSection,
    /// How airdrops are checked and pushed.
    #[serde(default)]
    pub airdrop: AirdropSection,
    /// How payouts are paid.
    #[serde(default)]
    pub treasury: TreasurySection,
}

/// `[distribution]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistributionSection {
    /// Stable name of this replica; no two running replicas share it.
    pub instance: String,
    /// First block of the indexer; nothing of ours is older.
    #[serde(default)]
    pub index_from_block: u64,
    /// Whether this replica may index.
    #[serde(default = "yes")]
    pub index: bool,
}

/// `[airdrop]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AirdropSection {
    /// Gas that a batch may need, before the engine's margin.
    pub batch_gas: u64,
    /// The most batches of an airdrop under way at once.
    pub batches_at_once: usize,
    /// The longest list whose identities are looked up.
    pub verified_rows: usize,
}

impl Default for AirdropSection {
    fn default() -> Self {
        Self { batch_gas: 8_000_000, batches_at_once: 8, verified_rows: 20_000 }
    }
}

/// `[treasury]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TreasurySection {
    /// Gas that a batch may need, before the engine's margin.
    pub batch_gas: u64,
    /// The most batches of a run under way at once.
    pub batches_at_once: usize,
}

impl Default for TreasurySection {
    fn default() -> Self {
        Self { batch_gas: 8_000_000, batches_at_once: 8 }
    }
}

fn yes() -> bool {
    true
}

impl Validate for DistributionConfig {
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
        problems.section("distribution", |problems| {
            if self.distribution.instance.trim().is_empty() {
                problems.push("instance", "must name this replica");
            }
        });
        problems.section("airdrop", |problems| {
            if self.airdrop.batch_gas < 200_000 {
                problems.push("batch_gas", "must be at least 200000: one payment and its transaction");
            }
            if !(1..=100).contains(&self.airdrop.batches_at_once) {
                problems.push("batches_at_once", "must be 1 to 100");
            }
        });
        problems.section("treasury", |problems| {
            if self.treasury.batch_gas < 200_000 {
                problems.push("batch_gas", "must be at least 200000: one payment and its transaction");
            }
            if !(1..=100).contains(&self.treasury.batches_at_once) {
                problems.push("batches_at_once", "must be 1 to 100");
            }
        });
    }
}
