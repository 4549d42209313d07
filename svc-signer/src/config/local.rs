//! Configuration of the provider `local`.

use dalp_service::config::{Problems, SecretRef, Validate};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::providers::KeyTier;

/// `[local]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// The key-encryption key: 64 hex digits.
    pub key_encryption_key: SecretRef,
}

// === impl LocalConfig ===

impl LocalConfig {
    /// What guards the keys: whoever keeps the key that encrypts them.
    #[must_use]
    pub const fn tier(&self) -> KeyTier {
        match self.key_encryption_key.is_of_secret_manager() {
            true => KeyTier::CloudSecretManager,
            false => KeyTier::EncryptedDatabase,
        }
    }

    /// Reads the key-encryption key.
    pub fn key_encryption_key(&self) -> Result<Zeroizing<[u8; 32]>, String> {
        let text = self.key_encryption_key.resolve().map_err(|error| error.to_string())?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.expose_secret(), key.as_mut_slice())
            .map_err(|_| "must be 64 hex digits, for instance from `openssl rand -hex 32`".to_owned())?;
        Ok(key)
    }
}

impl Validate for LocalConfig {
    fn validate(&self, problems: &mut Problems) {
        if let Err(problem) = self.key_encryption_key() {
            problems.push("key_encryption_key", problem);
        }
    }
}
