//! Configuration of the provider `pkcs11`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dalp_service::config::{Problems, SecretRef, Validate};
use serde::Deserialize;

use crate::providers::pkcs11::codes::{self, Class};

/// `[pkcs11]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Config {
    /// The vendor's module.
    pub module: PathBuf,
    /// Label of the token or partition; of the virtual slot where it is an HA group.
    pub token_label: String,
    /// The PIN, or the challenge secret of a quorum partition.
    pub pin: SecretRef,
    /// Logs in as Luna's crypto user, which may sign but not create keys.
    #[serde(default)]
    pub crypto_user: bool,
    /// What every key is to be authorised with besides, where the partition's keys have authorisations of their own.
    #[serde(default)]
    pub key_authorization: Option<SecretRef>,
    /// Members that the HA group should have; absent: it is none.
    #[serde(default)]
    pub ha_members: Option<u8>,
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
    /// How long a request waits for people at the HSM before it is EXPIRED, in seconds since the partition first asked for them; absent: until the signer's
    /// deadline, which counts from when it was accepted.
    #[serde(default)]
    pub quorum_retry_s: Option<u32>,
    /// Environment of the worker; it inherits nothing else.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What return codes mean, before the built-in table: "0x8000002e" = "quorum".
    #[serde(default)]
    pub codes: BTreeMap<String, Class>,
    /// Files of the network link, written before the module is loaded.
    #[serde(default)]
    pub ntls: Option<NtlsConfig>,
}

/// `[pkcs11.ntls]`: what Luna's client wants as files, out of secrets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NtlsConfig {
    /// Where they are written: a folder of this process alone, in memory.
    pub directory: PathBuf,
    /// The client's configuration, with `{client_certificate}`, `{client_key}` and `{server_ca}` in the places of the files.
    pub template: PathBuf,
    /// The client's certificate, PEM.
    pub client_certificate: SecretRef,
    /// Its key, PEM.
    pub client_key: SecretRef,
    /// Certificates of the appliances, PEM.
    pub server_ca: SecretRef,
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

    /// The configured return codes as numbers. Those that cannot be read are left out; validation names them.
    #[must_use]
    pub fn return_codes(&self) -> BTreeMap<u64, Class> {
        self.codes.iter().filter_map(|(code, class)| Some((number(code)?, *class))).collect()
    }
}

/// A return code as vendors write it: 0x and hex digits.
fn number(code: &str) -> Option<u64> {
    u32::from_str_radix(code.strip_prefix("0x")?, 16).ok().map(u64::from)
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
        if let Some(Err(error)) = self.key_authorization.as_ref().map(SecretRef::resolve) {
            problems.push("key_authorization", error.to_string());
        }
        if self.ha_members.is_some_and(|members| !(1..=32).contains(&members)) {
            problems.push("ha_members", "must lie between 1 and 32");
        }
        if self.quorum_retry_s == Some(0) {
            problems.push("quorum_retry_s", "must be at least 1");
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
        for (code, class) in &self.codes {
            match number(code) {
                None => problems.push(format!("codes.{code}"), "must be 0x and up to 8 hex digits"),
                Some(number) => {
                    if codes::of_the_pin(number).is_some_and(|own| own != *class) {
                        problems.push(
                            format!("codes.{code}"),
                            "tells of the PIN, and cannot be called anything else than it is (bad_pin, or locked): a wrong PIN would be tried until the partition locks",
                        );
                    }
                }
            }
        }
        if let Some(ntls) = &self.ntls {
            problems.section("ntls", |problems| ntls.validate(problems));
            if self.environment.contains_key(CONFIGURATION_VARIABLE) {
                problems.push("environment", format!("{CONFIGURATION_VARIABLE} is set by [pkcs11.ntls]"));
            }
        }
    }
}

/// Where Luna's client looks for its configuration.
pub const CONFIGURATION_VARIABLE: &str = "ChrystokiConfigurationPath";

// === impl NtlsConfig ===

impl NtlsConfig {
    /// The places of the files in the template, their names, and what is in them.
    #[must_use]
    pub fn files(&self) -> [(&'static str, PathBuf, &SecretRef); 3] {
        let at = |name: &str| Path::new(&self.directory).join(name);
        [
            ("{client_certificate}", at("client.pem"), &self.client_certificate),
            ("{client_key}", at("client.key"), &self.client_key),
            ("{server_ca}", at("server-ca.pem"), &self.server_ca),
        ]
    }
}

impl Validate for NtlsConfig {
    fn validate(&self, problems: &mut Problems) {
        if !self.directory.is_absolute() {
            problems.push("directory", "must be an absolute path");
        }
        for (key, secret) in [
            ("client_certificate", &self.client_certificate),
            ("client_key", &self.client_key),
            ("server_ca", &self.server_ca),
        ] {
            if let Err(error) = secret.resolve() {
                problems.push(key, error.to_string());
            }
        }
        match std::fs::read_to_string(&self.template) {
            Err(error) => problems.push("template", format!("{}: {error}", self.template.display())),
            Ok(text) => {
                // The vendor's reader stops at one.
                if text.contains('\t') {
                    problems.push("template", "holds a tab, which Luna's client does not read");
                }
                for (place, ..) in self.files() {
                    if !text.contains(place) {
                        problems.push("template", format!("lacks {place}"));
                    }
                }
            }
        }
    }
}
