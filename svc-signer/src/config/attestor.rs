//! `[attestor]`: the one peer whose verdicts are believed.

use dalp_service::{
    SpiffeId,
    config::{PeerConfig, Problems, TlsConfig, Validate},
};
use serde::Deserialize;

/// Peers that ask for signatures; none of them may judge what it asks for.
const ASKING: [&str; 5] = ["svc-compliance", "svc-feeds", "svc-settlement", "svc-distribution", "svc-gateway"];

/// `[attestor]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestorConfig {
    /// Where it is and who it is.
    pub peer: PeerConfig,
    /// Our certificate towards it.
    pub client_tls: TlsConfig,
    /// Longest wait for its verdicts, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Longest that a verdict may be used, in seconds; one that says longer is not believed.
    #[serde(default = "default_longest_validity_s")]
    pub longest_validity_s: u64,
}

fn default_timeout_ms() -> u64 {
    5_000
}

fn default_longest_validity_s() -> u64 {
    600
}

impl AttestorConfig {
    /// Whether this is the attestor's identity.
    #[must_use]
    pub fn is(&self, identity: &str) -> bool {
        identity.parse::<SpiffeId>().is_ok_and(|identity| identity == self.peer.spiffe_id)
    }

    /// Whether an identity is one of those that ask.
    fn asks(identity: &SpiffeId) -> bool {
        ASKING.contains(&identity.name())
    }
}

impl Validate for AttestorConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("client_tls", |problems| self.client_tls.validate(problems));
        if Self::asks(&self.peer.spiffe_id) {
            problems.push("peer.spiffe_id", "is that of a service that asks for signatures: it may not judge them");
        }
        if !(100..=60_000).contains(&self.timeout_ms) {
            problems.push("timeout_ms", "must lie between 100 and 60000");
        }
        if !(5..=600).contains(&self.longest_validity_s) {
            problems.push("longest_validity_s", "must lie between 5 and 600");
        }
    }
}
