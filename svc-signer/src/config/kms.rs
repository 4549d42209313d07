//! Configuration of the provider `kms`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use dalp_aws::{Credentials, client::Settings};
use dalp_service::config::{Problems, SecretRef, Validate};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

/// Longest prefix of aliases: with it, a tenant and a wallet an alias stays below AWS's 256 characters.
const PREFIX_MAX: usize = 64;

/// `[kms]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmsConfig {
    /// The region that holds the keys.
    pub region: String,
    /// Where the service is, if not at AWS's public address.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// An access key of a user. Both unset: what the place where the signer runs gives it.
    #[serde(default)]
    pub access_key_id: Option<SecretRef>,
    /// Its secret.
    #[serde(default)]
    pub secret_access_key: Option<SecretRef>,
    /// What stands before tenant and wallet in the aliases of keys.
    #[serde(default = "default_alias_prefix")]
    pub alias_prefix: String,
    /// Whether CreateKey makes keys, or only takes up those that have their alias already.
    #[serde(default = "default_create_keys")]
    pub create_keys: bool,
    /// A file with the key policy of keys that are made.
    #[serde(default)]
    pub key_policy: Option<PathBuf>,
    /// Longest call, in milliseconds.
    #[serde(default = "default_call_timeout_ms")]
    pub call_timeout_ms: u64,
    /// Calls under way at once.
    #[serde(default = "default_calls_at_once")]
    pub calls_at_once: u16,
    /// First pause after a refusal for the rate, in milliseconds; it doubles, with jitter.
    #[serde(default = "default_first_pause_ms")]
    pub first_pause_ms: u64,
    /// Longest such pause, in milliseconds.
    #[serde(default = "default_longest_pause_ms")]
    pub longest_pause_ms: u64,
}

fn default_alias_prefix() -> String {
    "dalp".to_owned()
}

fn default_create_keys() -> bool {
    true
}

fn default_call_timeout_ms() -> u64 {
    5_000
}

fn default_calls_at_once() -> u16 {
    32
}

fn default_first_pause_ms() -> u64 {
    100
}

fn default_longest_pause_ms() -> u64 {
    20_000
}

// === impl KmsConfig ===

impl KmsConfig {
    /// Where the service is and how it is called.
    pub fn settings(&self) -> Result<Settings, String> {
        let endpoint = self.endpoint.as_deref().map(dalp_aws::endpoint).transpose();
        Ok(Settings {
            region: self.region.clone(),
            endpoint: endpoint.map_err(|problem| format!("kms.endpoint: {problem}"))?,
            call_timeout: Duration::from_millis(self.call_timeout_ms),
            calls_at_once: usize::from(self.calls_at_once),
        })
    }

    /// Who we are there.
    pub fn credentials(&self) -> Result<Arc<Credentials>, String> {
        let resolve = |name: &str, secret: &SecretRef| secret.resolve().map_err(|error| format!("kms.{name}: {error}"));
        let credentials = match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(secret)) => {
                let (id, secret) = (resolve("access_key_id", id)?, resolve("secret_access_key", secret)?);
                Credentials::of_keys(id.expose_secret(), secret.expose_secret())
            }
            (None, None) => Credentials::of_environment(&|name| std::env::var(name).ok(), &self.region)
                .map_err(|error| format!("kms: {error}"))?,
            _ => return Err("kms.access_key_id and kms.secret_access_key come together or not at all".to_owned()),
        };
        Ok(Arc::new(credentials))
    }

    /// The key policy of keys that are made.
    pub fn policy(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.key_policy else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(policy) if policy["Statement"].is_array() => Ok(Some(policy.to_string())),
            _ => Err(format!("{} holds no policy: a JSON object with a list `Statement`", path.display())),
        }
    }
}

impl Validate for KmsConfig {
    fn validate(&self, problems: &mut Problems) {
        if !dalp_aws::is_region(&self.region) {
            problems.push("region", "must be a region of AWS, for instance eu-central-1");
        }
        if let Some(Err(problem)) = self.endpoint.as_deref().map(dalp_aws::endpoint) {
            problems.push("endpoint", problem);
        }
        if let Err(problem) = self.credentials() {
            problems.push("access_key_id", problem);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
        if !(1..=PREFIX_MAX).contains(&self.alias_prefix.len())
            || !self.alias_prefix.bytes().all(plain)
            || self.alias_prefix.starts_with("aws/")
            || self.alias_prefix.starts_with('/')
            || self.alias_prefix.ends_with('/')
        {
            problems.push(
                "alias_prefix",
                "must be 1 to 64 of [A-Za-z0-9/_-], without / at either end, and not begin with aws/",
            );
        }
        if let Err(problem) = self.policy() {
            problems.push("key_policy", problem);
        }
        if self.key_policy.is_some() && !self.create_keys {
            problems.push("key_policy", "is for keys that are made, but create_keys is false");
        }
        if !(100..=60_000).contains(&self.call_timeout_ms) {
            problems.push("call_timeout_ms", "must lie between 100 and 60000");
        }
        if !(1..=256).contains(&self.calls_at_once) {
            problems.push("calls_at_once", "must lie between 1 and 256");
        }
        if !(10..=60_000).contains(&self.first_pause_ms) {
            problems.push("first_pause_ms", "must lie between 10 and 60000");
        }
        if !(self.first_pause_ms..=600_000).contains(&self.longest_pause_ms) {
            problems.push("longest_pause_ms", "must lie between first_pause_ms and 600000");
        }
    }
}
