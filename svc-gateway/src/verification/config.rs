//! What an operator writes down about wallet verification.

use dalp_service::config::{Problems, Validate};
use serde::Deserialize;

/// `[verification]`: factors of persons, and what wrong ones cost. They are sealed with the keys of `[sealing]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerificationConfig {
    /// The name that authenticator apps show.
    pub issuer: String,
    /// PINs that are hashed at once in this process.
    pub hashes_at_once: u32,
    /// Wrong ones without a lockout.
    pub free_failures: u32,
    /// The first lockout in seconds; each further one is twice as long,
    pub lockout_s: u64,
    /// and none is longer than this.
    pub lockout_most_s: u64,
    /// After so many wrong ones it is locked for good: until a recovery code changes the PIN or an administrator resets it.
    pub failures_most: u32,
}

impl Default for VerificationConfig {
    fn default() -> Self {
        Self {
            issuer: "DALP".to_owned(),
            hashes_at_once: 2,
            free_failures: 4,
            lockout_s: 60,
            lockout_most_s: 86_400,
            failures_most: 50,
        }
    }
}

impl Validate for VerificationConfig {
    fn validate(&self, problems: &mut Problems) {
        let plain = |character: char| character.is_ascii_alphanumeric() || " .-".contains(character);
        if !(1..=40).contains(&self.issuer.len()) || !self.issuer.chars().all(plain) {
            problems.push("issuer", "1 to 40 letters, digits, blanks, dots and hyphens");
        }
        let ranges = [
            ("hashes_at_once", u64::from(self.hashes_at_once), 1, 64),
            ("free_failures", u64::from(self.free_failures), 0, 20),
            ("lockout_s", self.lockout_s, 1, 86_400),
            ("lockout_most_s", self.lockout_most_s, self.lockout_s, 2_592_000),
            ("failures_most", u64::from(self.failures_most), u64::from(self.free_failures) + 1, 100),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                problems.push(name, format!("must lie between {least} and {most}"));
            }
        }
    }
}
