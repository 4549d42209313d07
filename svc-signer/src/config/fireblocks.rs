//! Configuration of the provider `fireblocks`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use dalp_service::config::{Problems, SecretRef, Validate};
use reqwest::Url;
use serde::Deserialize;

use super::{Mode, is_loopback, polling::Polling};
use crate::providers::fireblocks::{
    credentials::Credentials,
    jwks::{Fetched, KeySet, Keys},
    webhook::Webhook,
};

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
    /// Its events. Absent: none are taken.
    #[serde(default)]
    pub webhook: Option<FireblocksWebhookConfig>,
}

/// `[fireblocks.webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FireblocksWebhookConfig {
    /// Where the platform publishes the keys that sign events. Unset: the address of the region of `base_url`.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// A file with those keys, in place of the address: nothing is fetched.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// How often fetched keys are fetched again, in seconds.
    #[serde(default = "default_refresh_s")]
    pub refresh_s: u32,
    /// The workspace whose events are taken. Unset: of every workspace, for they can do no more than wake a look.
    #[serde(default)]
    pub workspace_id: Option<String>,
    /// Longest time since an event was made, in seconds.
    #[serde(default = "default_longest_age_s")]
    pub longest_age_s: u32,
}

/// API host, host of the keys, environment.
const HOSTS: [(&str, &str, &str); 4] = [
    ("api.fireblocks.io", "keys.fireblocks.io", "production"),
    ("eu-api.fireblocks.io", "eu-keys.fireblocks.io", "production"),
    ("eu2-api.fireblocks.io", "eu2-keys.fireblocks.io", "production"),
    ("sandbox-api.fireblocks.io", "sandbox-keys.fireblocks.io", "sandbox"),
];

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

fn default_refresh_s() -> u32 {
    3_600
}

fn default_longest_age_s() -> u32 {
    86_400
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
        HOSTS.iter().find(|(api, _, _)| *api == host).map_or("other", |(_, _, environment)| environment)
    }

    /// What verifies its events, where they are taken.
    pub fn hook(&self) -> Result<Option<Webhook>, String> {
        let Some(webhook) = &self.webhook else { return Ok(None) };
        let keys = match &webhook.jwks_file {
            Some(path) => {
                let text = std::fs::read(path).map_err(|error| format!("jwks_file: {}: {error}", path.display()))?;
                Keys::Pinned(KeySet::read(&text).map_err(|problem| format!("jwks_file: {problem}"))?)
            }
            None => {
                let refresh = Duration::from_secs(u64::from(webhook.refresh_s));
                Keys::Fetched(Box::new(Fetched::new(self.jwks(webhook)?, refresh)?))
            }
        };
        let oldest = Duration::from_secs(u64::from(webhook.longest_age_s));
        Ok(Some(Webhook::new(keys, webhook.workspace_id.clone(), oldest)))
    }

    /// Where the keys of events are.
    fn jwks(&self, webhook: &FireblocksWebhookConfig) -> Result<Url, String> {
        let host = self.base()?.host_str().unwrap_or_default().to_owned();
        let own = HOSTS.iter().find(|(api, _, _)| *api == host).map(|(_, keys, _)| *keys);
        let Some(given) = &webhook.jwks_url else {
            let keys = own.ok_or("jwks_url: is needed, for base_url is no host of the platform")?;
            return Url::parse(&format!("https://{keys}/.well-known/jwks.json")).map_err(|error| error.to_string());
        };
        let url = Url::parse(given).map_err(|error| format!("jwks_url: {error}"))?;
        if url.scheme() != "https" && !is_loopback(&url) {
            return Err(
                "jwks_url: must be https; plain http is accepted of a simulator on this machine only".to_owned()
            );
        }
        let named = url.host_str().unwrap_or_default();
        if HOSTS.iter().any(|(_, keys, _)| *keys == named) && own.is_some_and(|own| own != named) {
            return Err(format!("jwks_url: {named} has the keys of another environment than that of base_url"));
        }
        Ok(url)
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
        if let Some(webhook) = &self.webhook {
            problems.section("webhook", |problems| webhook.validate(problems));
        }
        if let Err(problem) = self.hook() {
            problems.push("webhook", problem);
        }
    }
}

impl Validate for FireblocksWebhookConfig {
    fn validate(&self, problems: &mut Problems) {
        if self.jwks_url.is_some() && self.jwks_file.is_some() {
            problems.push("jwks_file", "stands in place of jwks_url: give one of them");
        }
        if !(60..=86_400).contains(&self.refresh_s) {
            problems.push("refresh_s", "must lie between 60 and 86400 (a day)");
        }
        if !(60..=604_800).contains(&self.longest_age_s) {
            problems.push("longest_age_s", "must lie between 60 and 604800 (a week)");
        }
        if self.workspace_id.as_ref().is_some_and(|id| id.trim().is_empty()) {
            problems.push("workspace_id", "is blank");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(base_url: &str, webhook: &str) -> FireblocksConfig {
        let text =
            format!("base_url = \"{base_url}\"\napi_key = \"env:A\"\nsecret_key = \"env:B\"\n[webhook]\n{webhook}");
        toml::from_str(&text).unwrap()
    }

    fn jwks(base_url: &str, webhook: &str) -> Result<String, String> {
        let config = config(base_url, webhook);
        config.jwks(config.webhook.as_ref().unwrap()).map(|url| url.to_string())
    }

    #[test]
    fn keys_of_events_come_from_the_region_of_the_api() {
        for (api, keys, _) in HOSTS {
            let found = jwks(&format!("https://{api}/v1"), "");
            assert_eq!(found, Ok(format!("https://{keys}/.well-known/jwks.json")));
        }
        assert!(jwks("https://proxy.bank.example/v1", "").is_err(), "it must be told");
        let told = "jwks_url = \"https://sandbox-keys.fireblocks.io/.well-known/jwks.json\"";
        assert!(jwks("https://proxy.bank.example/v1", told).is_ok());
        assert!(jwks("https://api.fireblocks.io/v1", told).is_err(), "keys of the sandbox in production");
        assert!(jwks("https://api.fireblocks.io/v1", "jwks_url = \"http://keys.fireblocks.io/k\"").is_err());
    }
}
