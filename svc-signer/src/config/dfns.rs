//! Configuration of the provider `dfns`.

use std::{collections::BTreeMap, time::Duration};

use dalp_service::config::{Problems, SecretRef, Validate};
use reqwest::Url;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use time::OffsetDateTime;

use super::{Mode, is_loopback, polling::Polling};
use crate::providers::dfns::{credentials::Credentials, webhook::Webhook};

/// `[dfns]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DfnsConfig {
    /// Where the API is.
    #[serde(default = "default_base_url")]
    pub base_url: String,
    /// The organisation; a token of another one is refused.
    pub organization_id: String,
    /// The service account's token.
    pub auth_token: SecretRef,
    /// Id of the credential that signs user actions.
    pub credential_id: String,
    /// Its P-256 key, PEM.
    pub credential_key: SecretRef,
    /// Who numbers and broadcasts transactions.
    #[serde(default)]
    pub mode: Mode,
    /// With `mode = "broadcast"`: the network of each chain id.
    #[serde(default)]
    pub networks: BTreeMap<String, String>,
    /// Longest call, in milliseconds.
    #[serde(default = "default_call_timeout_ms")]
    pub call_timeout_ms: u64,
    /// Calls under way at once.
    #[serde(default = "default_calls_at_once")]
    pub calls_at_once: u16,
    /// How often undecided requests are looked at.
    #[serde(default)]
    pub polling: Polling,
    /// Its events. Absent: none are taken.
    #[serde(default)]
    pub webhook: Option<DfnsWebhookConfig>,
}

/// `[dfns.webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DfnsWebhookConfig {
    /// The webhook's secret; during a rotation the old one and the new one.
    pub secrets: Vec<SecretRef>,
    /// How far an event's time of sending may be from ours, in seconds.
    #[serde(default = "default_tolerance_s")]
    pub tolerance_s: u32,
}

fn default_base_url() -> String {
    "https://api.dfns.io".to_owned()
}

fn default_call_timeout_ms() -> u64 {
    10_000
}

fn default_calls_at_once() -> u16 {
    16
}

fn default_tolerance_s() -> u32 {
    300
}

// === impl DfnsConfig ===

impl DfnsConfig {
    /// Reads the credentials.
    pub fn credentials(&self) -> Result<Credentials, String> {
        let token = self.auth_token.resolve().map_err(|error| format!("dfns.auth_token: {error}"))?;
        let pem = self.credential_key.resolve().map_err(|error| format!("dfns.credential_key: {error}"))?;
        Credentials::new(token, &self.credential_id, &pem).map_err(|problem| format!("dfns.credential_key: {problem}"))
    }

    /// The API's address.
    pub fn base(&self) -> Result<Url, String> {
        Url::parse(&self.base_url).map_err(|error| format!("dfns.base_url: {error}"))
    }

    /// The network of a chain.
    #[must_use]
    pub fn network_of(&self, chain_id: u64) -> Option<&str> {
        self.networks.get(&chain_id.to_string()).map(String::as_str)
    }
}

impl Validate for DfnsConfig {
    fn validate(&self, problems: &mut Problems) {
        match self.base() {
            Err(error) => problems.push("base_url", error),
            Ok(base) => {
                if base.scheme() != "https" && !is_loopback(&base) {
                    problems
                        .push("base_url", "must be https; plain http is accepted of a simulator on this machine only");
                }
                if base.path() != "/" || base.query().is_some() {
                    problems.push("base_url", "must be a host without a path");
                }
            }
        }
        if self.credential_id.trim().is_empty() {
            problems.push("credential_id", "is blank");
        }
        match self.credentials() {
            Err(problem) => problems.push("credential_key", problem),
            Ok(credentials) => {
                if credentials.organisation().is_some_and(|found| found != self.organization_id) {
                    problems.push("organization_id", "is not the organisation of auth_token");
                }
                if credentials.expires_s().is_some_and(|end| end <= OffsetDateTime::now_utc().unix_timestamp()) {
                    problems.push("auth_token", "has expired");
                }
            }
        }
        for chain_id in self.networks.keys().filter(|chain_id| chain_id.parse::<u64>().is_err()) {
            problems.push("networks", format!("{chain_id} is no chain id"));
        }
        if self.mode == Mode::Broadcast && self.networks.is_empty() {
            problems.push("networks", "is empty, so that no chain could be served with mode = \"broadcast\"");
        }
        if !(100..=60_000).contains(&self.call_timeout_ms) {
            problems.push("call_timeout_ms", "must lie between 100 and 60000");
        }
        if !(1..=256).contains(&self.calls_at_once) {
            problems.push("calls_at_once", "must lie between 1 and 256");
        }
        problems.section("polling", |problems| self.polling.validate(problems));
        if let Some(webhook) = &self.webhook {
            problems.section("webhook", |problems| webhook.validate(problems));
        }
    }
}

// === impl DfnsWebhookConfig ===

impl DfnsWebhookConfig {
    /// Reads the secrets.
    pub fn hook(&self) -> Result<Webhook, String> {
        let secret = |reference: &SecretRef| reference.resolve().map_err(|error| format!("secrets: {error}"));
        let secrets = self.secrets.iter().map(secret).collect::<Result<_, _>>()?;
        Ok(Webhook::new(secrets, Duration::from_secs(u64::from(self.tolerance_s))))
    }
}

impl Validate for DfnsWebhookConfig {
    fn validate(&self, problems: &mut Problems) {
        if !(1..=4).contains(&self.secrets.len()) {
            problems.push("secrets", "name one, or the old and the new one; at most four");
        }
        for (index, reference) in self.secrets.iter().enumerate() {
            match reference.resolve() {
                Err(error) => problems.push(format!("secrets[{index}]"), error.to_string()),
                Ok(secret) if secret.expose_secret().len() < 16 => {
                    problems.push(format!("secrets[{index}]"), "must have at least 16 characters");
                }
                Ok(_) => {}
            }
        }
        if !(10..=3_600).contains(&self.tolerance_s) {
            problems.push("tolerance_s", "must lie between 10 and 3600");
        }
    }
}
