//! Configuration of the provider `fireblocks`.

use std::collections::BTreeMap;

use dalp_service::config::{Problems, SecretRef, Validate};
use reqwest::Url;
use serde::Deserialize;

use super::{Mode, is_loopback, polling::Polling};
use crate::providers::fireblocks::credentials::Credentials;

/// `[fireblocks]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FireblocksConfig {
    /// Where the API is, version included.
    #[serde(default = "default_base_url")]
    pub base_url: String,
    /// The API user's key.
    pub api_key: SecretRef,
    /// The API user's RSA key, PEM.
    pub secret_key: SecretRef,
    /// Who numbers and broadcasts transactions.
    #[serde(default)]
    pub mode: Mode,
    /// Asset whose wallet is made in each vault account; its key signs.
    #[serde(default = "default_asset")]
    pub asset: String,
    /// With `mode = "broadcast"`: the asset of each chain id.
    #[serde(default)]
    pub assets: BTreeMap<String, String>,
    /// Longest call, in milliseconds.
    #[serde(default = "default_call_timeout_ms")]
    pub call_timeout_ms: u64,
    /// Calls under way at once.
    #[serde(default = "default_calls_at_once")]
    pub calls_at_once: u16,
    /// How often undecided requests are looked at.
    #[serde(default)]
    pub polling: Polling,
}

fn default_base_url() -> String {
    "https://api.fireblocks.io/v1".to_owned()
}

fn default_asset() -> String {
    "ETH".to_owned()
}

fn default_call_timeout_ms() -> u64 {
    10_000
}

fn default_calls_at_once() -> u16 {
    16
}

// === impl FireblocksConfig ===

impl FireblocksConfig {
    /// Reads the credentials.
    pub fn credentials(&self) -> Result<Credentials, String> {
        let api_key = self.api_key.resolve().map_err(|error| format!("fireblocks.api_key: {error}"))?;
        let pem = self.secret_key.resolve().map_err(|error| format!("fireblocks.secret_key: {error}"))?;
        Credentials::new(api_key, &pem).map_err(|problem| format!("fireblocks.secret_key: {problem}"))
    }

    /// The API's address.
    pub fn base(&self) -> Result<Url, String> {
        Url::parse(&self.base_url).map_err(|error| format!("fireblocks.base_url: {error}"))
    }

    /// The asset of a chain.
    #[must_use]
    pub fn asset_of(&self, chain_id: u64) -> Option<&str> {
        self.assets.get(&chain_id.to_string()).map(String::as_str)
    }

    /// Which of the platform's environments the host belongs to.
    #[must_use]
    pub fn environment_name(&self) -> &'static str {
        let host = self.base().ok().and_then(|base| base.host_str().map(str::to_owned)).unwrap_or_default();
        match host.as_str() {
            "sandbox-api.fireblocks.io" => "sandbox",
            "api.fireblocks.io" | "eu-api.fireblocks.io" | "eu2-api.fireblocks.io" => "production",
            _ => "other",
        }
    }
}

impl Validate for FireblocksConfig {
    fn validate(&self, problems: &mut Problems) {
        match self.base() {
            Err(error) => problems.push("base_url", error),
            Ok(base) => {
                if base.scheme() != "https" && !is_loopback(&base) {
                    problems
                        .push("base_url", "must be https; plain http is accepted of a simulator on this machine only");
                }
                if base.path().trim_end_matches('/').is_empty() || base.query().is_some() {
                    problems.push(
                        "base_url",
                        "must end with the version of the API, for instance https://api.fireblocks.io/v1",
                    );
                }
            }
        }
        if let Err(problem) = self.credentials() {
            problems.push("secret_key", problem);
        }
        if self.asset.trim().is_empty() {
            problems.push("asset", "is blank");
        }
        for chain_id in self.assets.keys().filter(|chain_id| chain_id.parse::<u64>().is_err()) {
            problems.push("assets", format!("{chain_id} is no chain id"));
        }
        if self.mode == Mode::Broadcast && self.assets.is_empty() {
            problems.push("assets", "is empty, so that no chain could be served with mode = \"broadcast\"");
        }
        if !(100..=60_000).contains(&self.call_timeout_ms) {
            problems.push("call_timeout_ms", "must lie between 100 and 60000");
        }
        if !(1..=256).contains(&self.calls_at_once) {
            problems.push("calls_at_once", "must lie between 1 and 256");
        }
        problems.section("polling", |problems| self.polling.validate(problems));
    }
}
