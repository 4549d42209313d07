//! Configuration of the provider `pkcs11`.

use std::{collections::BTreeMap, path::PathBuf};

use dalp_service::config::{Problems, SecretRef, Validate};
use serde::Deserialize;

/// `[pkcs11]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Config {
    /// The vendor's module.
    pub module: PathBuf,
    /// Label of the token or partition.
    pub token_label: String,
    /// The PIN, or the challenge secret of a quorum partition.
    pub pin: SecretRef,
    /// Logs in as Luna's crypto user, which may sign but not create keys.
    #[serde(default)]
    pub crypto_user: bool,
    /// Sessions, one thread each, 1 to 32.
    #[serde(default = "default_sessions")]
    pub sessions: u8,
    /// Longest signature, in milliseconds; past it the worker is killed and replaced.
    #[serde(default = "default_call_deadline_ms")]
    pub call_deadline_ms: u64,
    /// Longest key generation, in milliseconds.
    #[serde(default = "default_generate_deadline_ms")]
    pub generate_deadline_ms: u64,
    /// Longest login, in milliseconds; a quorum partition asks people meanwhile.
    #[serde(default = "default_login_deadline_ms")]
    pub login_deadline_ms: u64,
    /// Environment of the worker; it inherits nothing else.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Return codes that mean "a person has to act"; replaces the built-in list.
    #[serde(default)]
    pub quorum_codes: Option<Vec<u64>>,
}

fn default_sessions() -> u8 {
    4
}

fn default_call_deadline_ms() -> u64 {
    5_000
}

fn default_generate_deadline_ms() -> u64 {
    30_000
}

fn default_login_deadline_ms() -> u64 {
    30_000
}

// === impl Pkcs11Config ===

impl Pkcs11Config {
    /// What identifies the partition in the memory of logins.
    #[must_use]
    pub fn partition(&self) -> String {
        format!("{}#{}", self.module.display(), self.token_label)
    }
}

impl Validate for Pkcs11Config {
    fn validate(&self, problems: &mut Problems) {
        if !self.module.is_file() {
            problems.push("module", format!("{} is not a file", self.module.display()));
        }
        if self.token_label.trim().is_empty() {
            problems.push("token_label", "is blank; a blank label would match an uninitialised token");
        } else if self.token_label.len() > 32 || self.token_label.trim_end() != self.token_label {
            problems.push("token_label", "has at most 32 characters and no blanks at its end");
        }
        if let Err(error) = self.pin.resolve() {
            problems.push("pin", error.to_string());
        }
        if !(1..=32).contains(&self.sessions) {
            problems.push("sessions", "must lie between 1 and 32");
        }
        for (key, value) in [
            ("call_deadline_ms", self.call_deadline_ms),
            ("generate_deadline_ms", self.generate_deadline_ms),
            ("login_deadline_ms", self.login_deadline_ms),
        ] {
            if !(1..=1_800_000).contains(&value) {
                problems.push(key, "must lie between 1 and 1800000 (half an hour)");
            }
        }
    }
}
