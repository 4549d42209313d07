//! What an operator writes down about wallet verification.

use std::collections::BTreeSet;

use dalp_service::config::{ExposeSecret as _, Problems, SecretRef, Validate};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

/// `[verification]`: factors of persons, and what wrong ones cost.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerificationConfig {
    /// Keys that factors are sealed with: the first seals, all open. None: nobody can enrol, and no policy can ask for it.
    pub keys: Vec<SealingKeyConfig>,
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

/// `[[verification.keys]]`: a key that factors are sealed with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealingKeyConfig {
    /// Its name, stored beside what it has sealed.
    pub id: String,
    /// 64 hex digits, by reference.
    pub key: SecretRef,
}

impl Default for VerificationConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            issuer: "DALP".to_owned(),
            hashes_at_once: 2,
            free_failures: 4,
            lockout_s: 60,
            lockout_most_s: 86_400,
            failures_most: 50,
        }
    }
}

// === impl SealingKeyConfig ===

impl SealingKeyConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub fn read(&self) -> Result<Zeroizing<[u8; 32]>, String> {
        let text = self.key.resolve().map_err(|error| error.to_string())?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.expose_secret(), key.as_mut_slice())
            .map_err(|_| "must be 64 hex digits, for instance from `openssl rand -hex 32`".to_owned())?;
        Ok(key)
    }
}

impl Validate for VerificationConfig {
    fn validate(&self, problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        for (index, key) in self.keys.iter().enumerate() {
            if !(1..=64).contains(&key.id.len()) || !key.id.bytes().all(|byte| byte.is_ascii_graphic()) {
                problems.push(format!("keys[{index}].id"), "a name of 1 to 64 visible ASCII characters");
            }
            if !seen.insert(&key.id) {
                problems.push(format!("keys[{index}].id"), format!("{} is configured twice", key.id));
            }
            if let Err(problem) = key.read() {
                problems.push(format!("keys[{index}].key"), problem);
            }
        }
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
