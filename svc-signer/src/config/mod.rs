//! Configuration. `config.example.toml` holds every key with its meaning; providers have a file each, named like their code.

pub mod attestor;
pub mod dfns;
pub mod fireblocks;
pub mod kms;
pub mod local;
pub mod pkcs11;
pub mod polling;

use std::path::PathBuf;

use dalp_service::config::{DatabaseConfig, Problems, SecretRef, ServerConfig, TelemetryConfig, Validate};
use serde::Deserialize;

use crate::{
    core::{
        grants::Grant,
        policy::{CATCH_ALL, Rule},
    },
    providers::ProviderKind,
};

/// Prefix of environment overrides.
pub const ENVIRONMENT_PREFIX: &str = "DALP_SIGNER";

/// Everything the signer is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// Where it listens.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Its own database, which nothing else can read.
    pub database: DatabaseConfig,
    /// What it signs with, and how strictly.
    pub signer: SignerSection,
    /// Who judges what is signed.
    #[serde(default)]
    pub attestor: Option<attestor::AttestorConfig>,
    /// Provider `local`.
    #[serde(default)]
    pub local: Option<local::LocalConfig>,
    /// Provider `pkcs11`.
    #[serde(default)]
    pub pkcs11: Option<pkcs11::Pkcs11Config>,
    /// Provider `dfns`.
    #[serde(default)]
    pub dfns: Option<dfns::DfnsConfig>,
    /// Provider `fireblocks`.
    #[serde(default)]
    pub fireblocks: Option<fireblocks::FireblocksConfig>,
    /// Provider `kms`.
    #[serde(default)]
    pub kms: Option<kms::KmsConfig>,
    /// Who may ask for what.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// What keys may be used for.
    #[serde(default)]
    pub policy: PolicySection,
    /// The program that has the `pkcs11-worker` subcommand; this very program unless a test embeds the library.
    #[serde(skip)]
    pub worker_program: Option<PathBuf>,
}

/// `[signer]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerSection {
    /// What this installation is for.
    pub environment: Environment,
    /// The one active provider.
    pub provider: ProviderKind,
    /// Lets a key's metadata choose among all configured providers.
    #[serde(default)]
    pub allow_mixed: bool,
    /// Whether payloads need a compliance attestation.
    #[serde(default)]
    pub attestation: Attestation,
    /// Keys the digests of PINs in the database.
    pub digest_key: SecretRef,
    /// How long an undecided request stays open, in seconds.
    #[serde(default = "default_request_deadline_s")]
    pub request_deadline_s: u32,
    /// How often undecided requests are tried again, in milliseconds.
    #[serde(default = "default_retry_ms")]
    pub retry_ms: u64,
    /// Longest that the database may take to answer, in milliseconds; past it its connections are given up and the request may be repeated.
    #[serde(default = "default_database_timeout_ms")]
    pub database_timeout_ms: u64,
}

/// `[policy]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySection {
    /// The rules.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Who numbers and broadcasts transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// We do; the provider only signs.
    #[default]
    SignOnly,
    /// The provider does.
    Broadcast,
}

/// What an installation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A developer's machine or a test.
    Development,
    /// Everything else.
    Production,
}

/// Whether payloads need a compliance attestation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attestation {
    /// Every payload that moves something needs one.
    #[default]
    Required,
    /// None is asked for. Development only.
    Off,
}

fn default_request_deadline_s() -> u32 {
    24 * 60 * 60
}

fn default_retry_ms() -> u64 {
    2_000
}

fn default_database_timeout_ms() -> u64 {
    10_000
}

/// Whether an address leads to this machine.
fn is_loopback(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|host| matches!(host, "127.0.0.1" | "localhost" | "[::1]"))
}

// === impl SignerConfig ===

impl SignerConfig {
    /// Whether keys of this provider may be used.
    #[must_use]
    pub fn uses(&self, provider: ProviderKind) -> bool {
        self.signer.provider == provider || self.signer.allow_mixed
    }
}

impl Validate for SignerConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.section("server", |problems| self.server.validate(problems));
        problems.section("telemetry", |problems| self.telemetry.validate(problems));
        problems.section("database", |problems| self.database.validate(problems));
        problems.section("signer", |problems| self.signer.validate(problems));
        match &self.attestor {
            Some(attestor) => problems.section("attestor", |problems| attestor.validate(problems)),
            None if self.signer.attestation == Attestation::Required => {
                problems.push(
                    "attestor",
                    "there is no [attestor] section, but signer.attestation is \"required\": nothing could be signed",
                );
            }
            None => {}
        }
        if let Some(local) = &self.local {
            problems.section("local", |problems| local.validate(problems));
        }
        if let Some(pkcs11) = &self.pkcs11 {
            problems.section("pkcs11", |problems| pkcs11.validate(problems));
        }
        if let Some(dfns) = &self.dfns {
            problems.section("dfns", |problems| dfns.validate(problems));
        }
        if let Some(fireblocks) = &self.fireblocks {
            problems.section("fireblocks", |problems| fireblocks.validate(problems));
            if self.signer.environment == Environment::Production && fireblocks.environment_name() != "production" {
                problems.push(
                    "fireblocks.base_url",
                    "is no production host of Fireblocks, but signer.environment is \"production\"",
                );
            }
        }
        if let Some(kms) = &self.kms {
            problems.section("kms", |problems| kms.validate(problems));
        }
        let configured = match self.signer.provider {
            ProviderKind::Local => self.local.is_some(),
            ProviderKind::Pkcs11 => self.pkcs11.is_some(),
            ProviderKind::Dfns => self.dfns.is_some(),
            ProviderKind::Fireblocks => self.fireblocks.is_some(),
            ProviderKind::Kms => self.kms.is_some(),
        };
        if !configured {
            problems.push("signer.provider", format!("names {0}, but there is no [{0}] section", self.signer.provider));
        }
        for (index, grant) in self.grants.iter().enumerate() {
            if grant.peer.parse::<dalp_service::SpiffeId>().is_err() {
                problems.push(format!("grants[{index}].peer"), "must be spiffe://<trust domain>/<service name>");
            }
            if self.attestor.as_ref().is_some_and(|attestor| attestor.is(&grant.peer)) {
                problems.push(format!("grants[{index}].peer"), "is the attestor: it may not ask for what it judges");
            }
            if grant.kinds.is_empty() {
                problems.push(format!("grants[{index}].kinds"), "grants nothing; name at least one payload kind");
            }
        }
        self.policy.validate(problems);
    }
}

impl Validate for SignerSection {
    fn validate(&self, problems: &mut Problems) {
        if self.attestation == Attestation::Off && self.environment != Environment::Development {
            problems.push("attestation", "\"off\" is accepted only where signer.environment is \"development\"");
        }
        match self.digest_key.resolve() {
            Err(error) => problems.push("digest_key", error.to_string()),
            Ok(key) if secrecy::ExposeSecret::expose_secret(&key).len() < 32 => {
                problems.push("digest_key", "must have at least 32 characters");
            }
            Ok(_) => {}
        }
        if !(10..=86_400_000).contains(&self.retry_ms) {
            problems.push("retry_ms", "must lie between 10 and 86400000");
        }
        if !(100..=600_000).contains(&self.database_timeout_ms) {
            problems.push("database_timeout_ms", "must lie between 100 and 600000");
        }
        if self.request_deadline_s == 0 {
            problems.push("request_deadline_s", "must be at least 1");
        }
    }
}

impl Validate for PolicySection {
    fn validate(&self, problems: &mut Problems) {
        for (index, rule) in self.rules.iter().enumerate() {
            let key = |field: &str| format!("policy.rules[{index}].{field}");
            if rule.name.trim().is_empty() || rule.name == CATCH_ALL {
                problems.push(key("name"), format!("must be a name other than {CATCH_ALL}"));
            }
            if self.rules[..index].iter().any(|other| other.name == rule.name) {
                problems.push(key("name"), format!("{} is the name of an earlier rule", rule.name));
            }
            if rule.rolling.as_ref().is_some_and(|rolling| rolling.window_s == 0) {
                problems.push(key("rolling.window_s"), "must be at least 1");
            }
        }
    }
}
