//! What an operator writes down; `config.example.toml` shows every key.

use dalp_chain::ChainConfig;
use dalp_service::config::{
    DatabaseConfig, HistoryConfig, PeerConfig, Problems, ServerConfig, TelemetryConfig, TlsConfig, Validate,
};
use serde::Deserialize;

/// Prefix of environment variables that override keys.
pub const ENVIRONMENT_PREFIX: &str = "DALP_FEEDS";

/// The configuration of svc-feeds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedsConfig {
    /// Listener.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The database with the schemas `feeds` and `engine`.
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
    /// Name of this replica and how it works.
    pub feeds: FeedsSection,
}

/// `[feeds]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedsSection {
    /// Stable name of this replica; no two running replicas share it.
    pub instance: String,
    /// First block of the indexer; nothing of ours is older.
    #[serde(default)]
    pub index_from_block: u64,
    /// Whether this replica may index.
    #[serde(default = "yes")]
    pub index: bool,
    /// The most updates of one transaction of a batch.
    #[serde(default = "default_batch_items")]
    pub batch_items: usize,
    /// How often staleness, signers and refused updates are looked for, in milliseconds.
    #[serde(default = "default_watch_ms")]
    pub watch_ms: u64,
    /// How long events are kept for `WatchFeeds`, in days. Rounds are kept for ever.
    #[serde(default = "default_keep_events_days")]
    pub keep_events_days: u32,
}

fn yes() -> bool {
    true
}

fn default_batch_items() -> usize {
    100
}

fn default_watch_ms() -> u64 {
    5_000
}

fn default_keep_events_days() -> u32 {
    30
}

impl Validate for FeedsConfig {
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
        problems.section("feeds", |problems| {
            if self.feeds.instance.trim().is_empty() {
                problems.push("instance", "must name this replica");
            }
            if !(1..=500).contains(&self.feeds.batch_items) {
                problems.push("batch_items", "must be 1 to 500");
            }
            if self.feeds.watch_ms < 100 {
                problems.push("watch_ms", "must be at least 100");
            }
            if !(1..=3_650).contains(&self.feeds.keep_events_days) {
                problems.push("keep_events_days", "must be 1 to 3650");
            }
        });
    }
}
