//! What an operator writes down about the status page.

use std::{net::SocketAddr, path::PathBuf};

use dalp_service::config::{Problems, ServerConfig, TlsConfig, Validate};
use serde::Deserialize;

use crate::config::RateConfig;

/// Pages are few: what opens more connections is none.
const MOST_CONNECTIONS: usize = 512;
/// A connection without a request; a page that is open always has one.
const IDLE_CONNECTION_MS: u64 = 60_000;

/// `[status]`: the status page for operators, on a listener of its own. Absent: there is none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusConfig {
    /// The address of its listener. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Written once bound, with the bound `address:port`.
    #[serde(default)]
    pub address_file: Option<PathBuf>,
    /// Certificate, key and trust anchors of the listener. Unset: those of `[server.tls]`.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// A session without a request and without an open page ends after so long, in seconds.
    #[serde(default = "default_session_idle_s")]
    pub session_idle_s: u64,
    /// Every session ends after so long, in seconds.
    #[serde(default = "default_session_most_s")]
    pub session_most_s: u64,
    /// Sessions of all operators together.
    #[serde(default = "default_sessions")]
    pub sessions: usize,
    /// Failed sign-ins of one address.
    #[serde(default = "default_sign_ins")]
    pub sign_ins: RateConfig,
}

fn default_session_idle_s() -> u64 {
    900
}

fn default_session_most_s() -> u64 {
    8 * 3_600
}

fn default_sessions() -> usize {
    100
}

fn default_sign_ins() -> RateConfig {
    RateConfig { per_second: 1, burst: 10 }
}

// === impl StatusConfig ===

impl StatusConfig {
    /// Its listener: as that of the gateway, which is `public`, with what differs.
    pub(crate) fn server(&self, public: &ServerConfig) -> ServerConfig {
        ServerConfig {
            listen: self.listen,
            address_file: self.address_file.clone(),
            tls: self.tls.clone().unwrap_or_else(|| public.tls.clone()),
            metrics_listen: None,
            metrics_address_file: None,
            max_connections: public.max_connections.min(MOST_CONNECTIONS),
            idle_connection_ms: public.idle_connection_ms.min(IDLE_CONNECTION_MS),
            ..public.clone()
        }
    }
}

impl Validate for StatusConfig {
    fn validate(&self, problems: &mut Problems) {
        if let Some(tls) = &self.tls {
            problems.section("tls", |problems| tls.validate(problems));
        }
        if !(60..=86_400).contains(&self.session_idle_s) {
            problems.push("session_idle_s", "must lie between 60 and 86400 (a day)");
        }
        if !(self.session_idle_s..=86_400).contains(&self.session_most_s) {
            problems.push("session_most_s", "must lie between session_idle_s and 86400 (a day)");
        }
        if !(1..=10_000).contains(&self.sessions) {
            problems.push("sessions", "must lie between 1 and 10000");
        }
        if self.sign_ins.per_second == 0 || self.sign_ins.burst == 0 {
            problems.push("sign_ins", "per_second and burst must be at least 1");
        }
    }
}
