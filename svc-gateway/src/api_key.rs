//! API keys: `dalp_<prefix>_<secret>`. The prefix finds the principal, the SHA-256 of the whole key proves it.
//!
//! Tables and configuration hold only the digest. A plain hash is enough because the secret carries 256 random bits: there is nothing
//! to guess from a dictionary, and a slow hash would only let strangers spend our processor time.

use std::{fmt, str::FromStr};

use rand::{TryRngCore as _, rngs::OsRng};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const SCHEME: &str = "dalp_";
const PREFIX_BYTES: usize = 5;
const SECRET_BYTES: usize = 32;

/// A key as a client presents it. Its `Debug` shows the prefix only.
pub struct ApiKey {
    prefix: String,
    text: SecretString,
}

/// SHA-256 of a whole API key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

/// Why a text is no API key. It never quotes the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: expected dalp_<prefix>_<secret>")]
pub struct ApiKeyError;

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest: expected 64 hex digits")]
pub struct KeyDigestError;

/// Whether a text may stand as a prefix: 4 to 16 of `[a-z0-9]`.
#[must_use]
pub fn is_prefix(text: &str) -> bool {
    (4..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

// === impl ApiKey ===

impl ApiKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn generate() -> std::io::Result<Self> {
        let mut bytes = secrecy::zeroize::Zeroizing::new([0_u8; PREFIX_BYTES + SECRET_BYTES]);
        OsRng.try_fill_bytes(bytes.as_mut_slice()).map_err(std::io::Error::other)?;
        let (prefix, secret) = bytes.split_at(PREFIX_BYTES);
        let prefix = hex::encode(prefix);
        let text = SecretString::from(format!("{SCHEME}{prefix}_{}", hex::encode(secret)));
        Ok(Self { prefix, text })
    }

    /// Whether a credential wants to be an API key rather than a token of an identity provider.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME) || !text.contains('.')
    }

    /// The public part, by which a key is found and named.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The whole key, to hand to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// What tables and configuration hold.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.expose().as_bytes()).into())
    }
}

impl FromStr for ApiKey {
    type Err = ApiKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, secret) = text.strip_prefix(SCHEME).and_then(|rest| rest.split_once('_')).ok_or(ApiKeyError)?;
        let plain = (32..=128).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_prefix(prefix) || !plain {
            return Err(ApiKeyError);
        }
        Ok(Self { prefix: prefix.to_owned(), text: SecretString::from(text.to_owned()) })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiKey({SCHEME}{}_***)", self.prefix)
    }
}

// === impl KeyDigest ===

impl KeyDigest {
    /// Whether both are equal, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Its bytes, for the tables.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for KeyDigest {
    type Error = KeyDigestError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| KeyDigestError)
    }
}

impl FromStr for KeyDigest {
    type Err = KeyDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0_u8; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyDigestError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyDigest({self})")
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_key_is_read_back_and_matches_its_digest_only() {
        let (key, other) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        let read: ApiKey = key.expose().parse().unwrap();
        assert_eq!(read.prefix(), key.prefix());
        assert!(read.digest().matches(&key.digest()));
        assert!(!read.digest().matches(&other.digest()));
        assert_eq!(key.digest().to_string().parse::<KeyDigest>().unwrap(), key.digest());
    }

    #[test]
    fn the_secret_is_not_shown() {
        let key = ApiKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("ApiKey(dalp_{}_***)", key.prefix()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let secret = "a".repeat(64);
        let bad = ["", "dalp_", "dalp_abcd", "dalp_abcd_", "dalp_abcd_short", &secret]
            .map(str::to_owned)
            .into_iter()
            .chain([
                format!("sk_abcd_{secret}"),
                format!("dalp_ABCD_{secret}"),
                format!("dalp_abcd_{secret}_"),
                format!("dalp_abcd_{}", "a".repeat(129)),
            ]);
        for text in bad {
            assert_eq!(text.parse::<ApiKey>().unwrap_err(), ApiKeyError, "{text}");
        }
        assert!(format!("dalp_abcd_{secret}").parse::<ApiKey>().is_ok());
        assert!("xyz".parse::<KeyDigest>().is_err());
    }

    proptest! {
        #[test]
        fn a_key_is_read_whole_or_not_at_all(text in "\\PC{0,80}", prefix in "[a-z0-9]{1,20}", secret in "[0-9a-zA-Z_]{20,140}") {
            for text in [text.clone(), format!("{SCHEME}{text}"), format!("{SCHEME}{prefix}_{secret}")] {
                if let Ok(key) = text.parse::<ApiKey>() {
                    prop_assert!(is_prefix(key.prefix()));
                    prop_assert_eq!(key.expose(), text.as_str());
                    let shown = format!("{key:?}");
                    prop_assert!(!shown.contains(&text));
                }
                prop_assert!(text.parse::<KeyDigest>().is_err() || text.len() == 64);
            }
        }
    }
}
