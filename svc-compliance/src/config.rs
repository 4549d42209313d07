//! What an operator writes down; `config.example.toml` shows every key.

use alloy::primitives::Address;
use dalp_chain::ChainConfig;
use dalp_service::config::{
    DatabaseConfig, HistoryConfig, PeerConfig, Problems, ServerConfig, TelemetryConfig, TlsConfig, Validate,
};
use serde::Deserialize;

/// Prefix of environment variables that override keys.
pub const ENVIRONMENT_PREFIX: &str = "DALP_COMPLIANCE";

/// The configuration of svc-compliance.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComplianceConfig {
    /// Listener.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The database with the schemas `compliance` and `engine`.
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
    /// Further chains, on which systems can be bootstrapped for settlements across chains.
    #[serde(default)]
    pub further_chains: Vec<ChainConfig>,
    /// Name of this replica and how it works.
    pub compliance: ComplianceSection,
}

/// `[compliance]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComplianceSection {
    /// Stable name of this replica; no two running replicas share it.
    pub instance: String,
    /// Deterministic deployer of the chain; unset: each bootstrap creates one.
    #[serde(default)]
    pub create2_deployer: Option<Address>,
    /// First block of the indexer; nothing of ours is older.
    #[serde(default)]
    pub index_from_block: u64,
    /// Whether this replica may index.
    #[serde(default = "yes")]
    pub index: bool,
    /// Gas that one transaction of a batch transfer may use.
    #[serde(default = "default_batch_gas_limit")]
    pub batch_gas_limit: u64,
    /// How often user operations of smart wallets are looked at, in milliseconds.
    #[serde(default = "default_user_operations_ms")]
    pub user_operations_ms: u64,
    /// Most operations of one tenant that are unfinished at once.
    #[serde(default = "default_tenant_quota")]
    pub tenant_quota: u64,
}

fn yes() -> bool {
    true
}

fn default_batch_gas_limit() -> u64 {
    10_000_000
}

fn default_user_operations_ms() -> u64 {
    1_000
}

fn default_tenant_quota() -> u64 {
    100_000
}

impl Validate for ComplianceConfig {
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
        problems.section("compliance", |problems| {
            if self.compliance.instance.trim().is_empty() {
                problems.push("instance", "must name this replica");
            }
            if self.compliance.batch_gas_limit < 500_000 {
                problems.push("batch_gas_limit", "must be at least 500000");
            }
            if !(50..=600_000).contains(&self.compliance.user_operations_ms) {
                problems.push("user_operations_ms", "must lie between 50 and 600000");
            }
            if !(1..=10_000_000).contains(&self.compliance.tenant_quota) {
                problems.push("tenant_quota", "must lie between 1 and 10000000");
            }
        });
    }
}
