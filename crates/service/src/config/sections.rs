//! The sections every service shares.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use http::uri::Authority;
use serde::Deserialize;

use super::{Problems, SecretRef, Validate};
use crate::peer::SpiffeId;

const MIB: usize = 1024 * 1024;

/// `[server]`: where a service listens and whom it lets in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The address of the gRPC listener. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate, key and trust anchors of the listener.
    pub tls: TlsConfig,
    /// Written atomically once bound, with the bound `address:port`, so that others can find a free port.
    #[serde(default)]
    pub address_file: Option<PathBuf>,
    /// Where plain HTTP is served: `/metrics` for Prometheus, `/livez` and `/readyz` for probes. Unset: not served.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// Like `address_file`, for the metrics listener.
    #[serde(default)]
    pub metrics_address_file: Option<PathBuf>,
    /// Method path prefix to the service names that may call it; replaces the built-in rule of the same prefix.
    #[serde(default)]
    pub allowed_peers: BTreeMap<String, Vec<String>>,
    /// The largest request message, in bytes. A larger one is refused with `MESSAGE_TOO_LARGE`.
    #[serde(default = "default_max_message_bytes")]
    pub max_message_bytes: usize,
    /// The largest number of requests one connection may have in flight.
    #[serde(default = "default_max_concurrent_streams")]
    pub max_concurrent_streams: u32,
    /// The largest number of open connections. Further ones wait until one ends.
    #[serde(default = "default_max_connections_open")]
    pub max_connections: usize,
    /// A connection without a request for this long is closed, in milliseconds.
    #[serde(default = "default_idle_connection_ms")]
    pub idle_connection_ms: u64,
    /// A connection that has not brought its first request after this long is closed, in milliseconds.
    #[serde(default = "default_first_request_ms")]
    pub first_request_ms: u64,
    /// How long a request's next message, or its end, may take to arrive, in milliseconds.
    #[serde(default = "default_body_read_ms")]
    pub body_read_ms: u64,
    /// How long a call that is neither a wait nor a stream may take, whatever its caller allows, in milliseconds.
    #[serde(default = "default_call_timeout_ms")]
    pub call_timeout_ms: u64,
    /// How long a graceful stop waits for requests in flight, in milliseconds.
    #[serde(default = "default_drain_ms")]
    pub drain_ms: u64,
}

/// `[server.tls]` and `[client_tls]`: PEM files, read again when they change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain, leaf first. The leaf carries one SPIFFE URI.
    pub certificate: PathBuf,
    /// The private key of the leaf.
    pub key: PathBuf,
    /// The certificates of the authorities that peers' certificates must lead to.
    pub trust_anchors: PathBuf,
    /// Revocation lists of those authorities. Unset: revocation is not checked. Out of date (`nextUpdate`): every peer is refused.
    #[serde(default)]
    pub crl: Option<PathBuf>,
    /// How often the files are looked at for changes, and the peers of open connections verified again, in milliseconds.
    #[serde(default = "default_reload_ms")]
    pub reload_ms: u64,
}

/// `[telemetry]`: logs and traces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// `json` or `text`.
    pub log_format: LogFormat,
    /// A tracing filter, for example `info,svc_signer=debug`.
    pub log_filter: String,
    /// The OTLP gRPC endpoint traces are exported to, for example `http://collector:4317`. Unset: no export.
    pub otlp_endpoint: Option<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// `[database]`: the PostgreSQL of a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The connection URL by reference, for it holds a password.
    pub url: SecretRef,
    /// The largest number of connections of this process.
    #[serde(default = "default_max_connections")]
    pub max_connections: u32,
}

/// `[history]`: how long finished work stands beside live work.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Operations that ended so many days ago are moved to history, where reads find them as before.
    pub after_days: u32,
}

/// A service this one calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// `host:port`.
    #[serde(deserialize_with = "authority")]
    pub address: Authority,
    /// The identity its certificate must carry; the host name does not matter.
    pub spiffe_id: SpiffeId,
}

fn default_max_message_bytes() -> usize {
    4 * MIB
}

fn default_max_concurrent_streams() -> u32 {
    10_000
}

fn default_max_connections_open() -> usize {
    4096
}

fn default_idle_connection_ms() -> u64 {
    300_000
}

fn default_first_request_ms() -> u64 {
    10_000
}

fn default_body_read_ms() -> u64 {
    30_000
}

fn default_call_timeout_ms() -> u64 {
    30_000
}

fn default_drain_ms() -> u64 {
    10_000
}

fn default_reload_ms() -> u64 {
    10_000
}

fn default_max_connections() -> u32 {
    10
}

/// Reads `host:port`: a port, and no user.
pub fn authority<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Authority, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse::<Authority>() {
        Ok(authority) if authority.port_u16().is_some() && !text.contains('@') => Ok(authority),
        _ => Err(serde::de::Error::custom("expected host:port")),
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log_format: LogFormat::Json, log_filter: "info".to_owned(), otlp_endpoint: None }
    }
}

impl Validate for ServerConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("tls", |problems| self.tls.validate(problems));
        if !(1024..=64 * MIB).contains(&self.max_message_bytes) {
            problems.push("max_message_bytes", "must lie between 1024 and 67108864 (64 MiB)");
        }
        if self.max_concurrent_streams == 0 {
            problems.push("max_concurrent_streams", "must be at least 1");
        }
        if !(1..=100_000).contains(&self.max_connections) {
            problems.push("max_connections", "must lie between 1 and 100000");
        }
        if !(1_000..=86_400_000).contains(&self.idle_connection_ms) {
            problems.push("idle_connection_ms", "must lie between 1000 and 86400000 (a day)");
        }
        for (key, limit_ms) in [("first_request_ms", self.first_request_ms), ("body_read_ms", self.body_read_ms)] {
            if !(1_000..=600_000).contains(&limit_ms) {
                problems.push(key, "must lie between 1000 and 600000 (ten minutes)");
            }
        }
        if !(1_000..=600_000).contains(&self.call_timeout_ms) {
            problems.push("call_timeout_ms", "must lie between 1000 and 600000 (ten minutes)");
        }
        if self.drain_ms > 600_000 {
            problems.push("drain_ms", "must be at most 600000 (ten minutes)");
        }
        for (prefix, names) in &self.allowed_peers {
            let key = format!("allowed_peers.\"{prefix}\"");
            if !prefix.starts_with('/') {
                problems.push(&key, "a method prefix begins with a slash, for example \"/dalp.signer.v1.Signer/\"");
            }
            if names.iter().any(|name| name.trim().is_empty()) {
                problems.push(&key, "holds a blank service name; an empty list denies everyone");
            }
        }
    }
}

impl Validate for TlsConfig {
    fn validate(&self, problems: &mut Problems) {
        let files = [
            ("certificate", Some(&self.certificate)),
            ("key", Some(&self.key)),
            ("trust_anchors", Some(&self.trust_anchors)),
            ("crl", self.crl.as_ref()),
        ];
        for (key, path) in files {
            if let Some(path) = path
                && let Err(error) = std::fs::File::open(path)
            {
                problems.push(key, format!("cannot open {}: {error}", path.display()));
            }
        }
        if self.reload_ms == 0 {
            problems.push("reload_ms", "must be at least 1");
        }
    }
}

impl Validate for TelemetryConfig {
    fn validate(&self, problems: &mut Problems) {
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log_filter) {
            problems.push("log_filter", format!("is not a tracing filter such as info,svc_signer=debug: {error}"));
        }
        if let Some(endpoint) = &self.otlp_endpoint
            && !endpoint
                .parse::<http::Uri>()
                .is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some())
        {
            problems.push("otlp_endpoint", "must be the http:// address of an OTLP gRPC collector");
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { after_days: 90 }
    }
}

impl HistoryConfig {
    /// The same as a duration.
    #[must_use]
    pub fn after(&self) -> Duration {
        Duration::from_secs(u64::from(self.after_days) * 86_400)
    }
}

impl Validate for HistoryConfig {
    fn validate(&self, problems: &mut Problems) {
        if !(1..=36_500).contains(&self.after_days) {
            problems.push("after_days", "must lie between 1 and 36500");
        }
    }
}

impl Validate for DatabaseConfig {
    fn validate(&self, problems: &mut Problems) {
        if let Err(error) = self.url.resolve() {
            problems.push("url", error.to_string());
        }
        if !(1..=1000).contains(&self.max_connections) {
            problems.push("max_connections", "must lie between 1 and 1000");
        }
    }
}
