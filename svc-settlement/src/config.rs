//! What an operator writes down; `config.example.toml` shows every key.

use dalp_chain::ChainConfig;
use dalp_service::config::{DatabaseConfig, PeerConfig, Problems, ServerConfig, TelemetryConfig, TlsConfig, Validate};
use serde::Deserialize;

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
    /// Our certificate towards other services.
    pub client_tls: TlsConfig,
    /// svc-signer.
    pub signer: PeerConfig,
    /// The chain.
    pub chain: ChainConfig,
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
}

fn yes() -> bool {
    true
}

impl Validate for SettlementConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("server", |problems| self.server.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
        problems.section("database", |problems| self.database.validate(problems));
        problems.section("client_tls", |problems| self.client_tls.validate(problems));
        problems.section("chain", |problems| {
            for problem in self.chain.problems() {
                problems.push("", problem);
            }
        });
        problems.section("settlement", |problems| {
            if self.settlement.instance.trim().is_empty() {
                problems.push("instance", "must name this replica");
            }
        });
    }
}
