//! What must be had again, and nobody else may have, is sealed under a key of the configuration, which the database never sees: hashes of PINs, secrets of
//! authenticator apps, secrets of webhooks.
//!
//! XChaCha20-Poly1305. Beside what is sealed stands which key did; what it is sealed for is bound to it, so that a row moved elsewhere does not open.

pub(crate) mod missing;

use std::{collections::BTreeSet, fmt};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use dalp_service::config::{ExposeSecret as _, Problems, SecretRef, Validate};
use hmac::{Hmac, Mac as _};
use rand::{TryRngCore as _, rngs::OsRng};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use sha2::Sha256;
use uuid::Uuid;

const NONCE_LEN: usize = 24;

/// `[sealing]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SealingConfig {
    /// Keys: the first seals, all open. None: nobody can enrol a factor, and there are no webhooks.
    pub keys: Vec<SealingKeyConfig>,
}

/// `[[sealing.keys]]`: a key to seal with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealingKeyConfig {
    /// Its name, stored beside what it has sealed.
    pub id: String,
    /// 64 hex digits, by reference.
    pub key: SecretRef,
}

/// The keys of the configuration: the first seals, all open.
pub struct SealingKeys {
    keys: Vec<(String, XChaCha20Poly1305)>,
    /// For hashes of requests that hold a code.
    hashing: Zeroizing<[u8; 32]>,
}

/// Something sealed, and with which key.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The key.
    pub key_id: String,
    /// Nonce and ciphertext.
    pub bytes: Vec<u8>,
}

/// What something is sealed for. Nothing opens as something else.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'p> {
    /// The hash of a person's PIN.
    Pin {
        /// Whose tenant.
        tenant: &'p str,
        /// Which principal.
        principal: &'p str,
    },
    /// The secret of a person's authenticator app.
    Totp {
        /// Whose tenant.
        tenant: &'p str,
        /// Which principal.
        principal: &'p str,
    },
    /// What deliveries of a webhook are signed with.
    WebhookSecret {
        /// The webhook.
        webhook: Uuid,
        /// The secret.
        secret: Uuid,
    },
}

/// Why it is not to be had. It names the key, never what is sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealingError {
    /// The operating system gives none.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// Of this length nothing is sealed.
    #[error("the cipher refused")]
    Refused,
    /// A key was taken out of the configuration too early.
    #[error("the sealing key {0} is not configured any more")]
    UnknownKey(String),
    /// Another key, another row, or a changed one.
    #[error("what is stored does not open under the sealing key {0}")]
    DoesNotOpen(String),
}

// === impl SealingKeyConfig, SealingConfig ===

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

impl Validate for SealingConfig {
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
    }
}

// === impl SealingKeys ===

impl fmt::Debug for SealingKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sealed({})", self.key_id)
    }
}

impl SealingKeys {
    /// Reads the keys of the configuration; `None` when it has none.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn read(config: &SealingConfig) -> Result<Option<Self>, String> {
        let read = |one: &SealingKeyConfig| one.read().map(|key| (one.id.clone(), key));
        let keys = config.keys.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(keys))
    }

    /// These keys, the sealing one first; `None` when there is none.
    #[must_use]
    pub fn new(keys: Vec<(String, Zeroizing<[u8; 32]>)>) -> Option<Self> {
        let (_, first) = keys.first()?;
        let hashing = Zeroizing::new(mac(first.as_slice(), b"dalp.gateway.verification.requests"));
        // Each cipher zeroizes its key when it is dropped.
        let keys = keys.into_iter().map(|(id, key)| (id, XChaCha20Poly1305::new(key.as_slice().into())));
        Some(Self { keys: keys.collect(), hashing })
    }

    /// A hash of a request that tells nothing of the code in it: of a million PINs each one's plain hash would be.
    #[must_use]
    pub fn hash(&self, request: &[u8]) -> [u8; 32] {
        mac(self.hashing.as_slice(), request)
    }

    /// Seals for a purpose.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn seal(&self, purpose: Purpose<'_>, plain: &[u8]) -> Result<Sealed, SealingError> {
        let mut nonce = [0; NONCE_LEN];
        OsRng.try_fill_bytes(&mut nonce).map_err(|_| SealingError::NoRandomness)?;
        // Never empty: `new` sees to it.
        let (key_id, cipher) = self.keys.first().ok_or(SealingError::Refused)?;
        let aad = purpose.associated(key_id);
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &aad });
        let sealed = sealed.map_err(|_| SealingError::Refused)?;
        Ok(Sealed { key_id: key_id.clone(), bytes: [nonce.as_slice(), &sealed].concat() })
    }

    /// Opens what was sealed for this purpose.
    ///
    /// # Errors
    /// When it is something else, or its key is not here.
    pub fn open(&self, purpose: Purpose<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let id = &sealed.key_id;
        let (_, cipher) =
            self.keys.iter().find(|(own, _)| own == id).ok_or_else(|| SealingError::UnknownKey(id.clone()))?;
        let open = || {
            let (nonce, body) = sealed.bytes.split_at_checked(NONCE_LEN)?;
            let aad = purpose.associated(id);
            cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: &aad }).ok()
        };
        open().map(Zeroizing::new).ok_or_else(|| SealingError::DoesNotOpen(id.clone()))
    }
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length.
    let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

// === impl Purpose ===

impl Purpose<'_> {
    /// What a ciphertext is bound to. As it was when these were two: what was sealed then opens.
    fn associated(self, key_id: &str) -> Vec<u8> {
        let (factor, tenant, principal) = match self {
            Self::Pin { tenant, principal } => ("pin", tenant, principal),
            Self::Totp { tenant, principal } => ("totp", tenant, principal),
            Self::WebhookSecret { webhook, secret } => {
                return format!("dalp.gateway.webhook-secret.v1/{webhook}/{secret}").into_bytes();
            }
        };
        let mut data = Vec::new();
        for part in ["dalp.gateway.verification.v1", factor, key_id, tenant, principal] {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: Purpose<'static> = Purpose::Pin { tenant: "acme", principal: "anna" };
    const TOTP: Purpose<'static> = Purpose::Totp { tenant: "acme", principal: "anna" };
    const HOOK: Purpose<'static> = Purpose::WebhookSecret { webhook: Uuid::from_u128(1), secret: Uuid::from_u128(2) };

    fn keys(ids: &[(&str, u8)]) -> SealingKeys {
        SealingKeys::new(ids.iter().map(|(id, byte)| ((*id).to_owned(), Zeroizing::new([*byte; 32]))).collect())
            .unwrap()
    }

    #[test]
    fn it_opens_for_its_purpose_only() {
        let keys = keys(&[("one", 1)]);
        let others = [
            PIN,
            TOTP,
            HOOK,
            Purpose::Totp { tenant: "acme", principal: "bert" },
            Purpose::Totp { tenant: "other", principal: "anna" },
            Purpose::WebhookSecret { webhook: Uuid::from_u128(2), secret: Uuid::from_u128(2) },
            Purpose::WebhookSecret { webhook: Uuid::from_u128(1), secret: Uuid::from_u128(3) },
        ];
        for (index, purpose) in others.into_iter().enumerate() {
            let sealed = keys.seal(purpose, b"twenty bytes of luck").unwrap();
            assert!(!sealed.bytes.windows(6).any(|some| some == b"twenty"));
            for (at, other) in others.into_iter().enumerate() {
                let opened = keys.open(other, &sealed);
                assert_eq!(opened.is_ok_and(|plain| plain.as_slice() == b"twenty bytes of luck"), at == index);
            }
            for length in 0..sealed.bytes.len() {
                let cut = Sealed { key_id: sealed.key_id.clone(), bytes: sealed.bytes[..length].to_vec() };
                assert!(keys.open(purpose, &cut).is_err(), "{length}");
            }
            let mut changed = sealed;
            *changed.bytes.last_mut().unwrap() ^= 1;
            assert!(keys.open(purpose, &changed).is_err());
        }
    }

    #[test]
    fn after_a_rotation_the_old_key_still_opens_and_the_new_one_seals() {
        for purpose in [PIN, HOOK] {
            let before = keys(&[("one", 1)]).seal(purpose, b"hash").unwrap();
            let rotated = keys(&[("two", 2), ("one", 1)]);
            assert_eq!(rotated.open(purpose, &before).unwrap().as_slice(), b"hash");
            assert_eq!(rotated.seal(purpose, b"hash").unwrap().key_id, "two");
            let gone = keys(&[("two", 2)]).open(purpose, &before).unwrap_err();
            assert!(matches!(gone, SealingError::UnknownKey(id) if id == "one"));
            // A key under the name of another is not it.
            assert!(keys(&[("one", 9)]).open(purpose, &before).is_err());
        }
    }

    /// A nonce and a ciphertext as releases before have written them: of a webhook behind one byte, which a migration takes away.
    #[test]
    fn what_was_sealed_when_these_were_two_opens() {
        let cipher = XChaCha20Poly1305::new(&[7; 32].into());
        let nonce = [9; NONCE_LEN];
        let with = |aad: &[u8]| {
            let sealed = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: b"secret", aad }).unwrap();
            Sealed { key_id: "one".to_owned(), bytes: [nonce.as_slice(), &sealed].concat() }
        };
        let keys = keys(&[("one", 7)]);
        let context =
            "dalp.gateway.webhook-secret.v1/00000000-0000-0000-0000-000000000001/00000000-0000-0000-0000-000000000002";
        assert_eq!(keys.open(HOOK, &with(context.as_bytes())).unwrap().as_slice(), b"secret");
        let mut parts = Vec::new();
        for part in ["dalp.gateway.verification.v1", "pin", "one", "acme", "anna"] {
            parts.extend_from_slice(&(part.len() as u64).to_be_bytes());
            parts.extend_from_slice(part.as_bytes());
        }
        assert_eq!(keys.open(PIN, &with(&parts)).unwrap().as_slice(), b"secret");
    }

    #[test]
    fn the_hash_of_a_request_depends_on_the_key() {
        assert_eq!(keys(&[("one", 1)]).hash(b"pin"), keys(&[("one", 1)]).hash(b"pin"));
        assert_ne!(keys(&[("one", 1)]).hash(b"pin"), keys(&[("one", 2)]).hash(b"pin"));
        assert!(SealingKeys::new(Vec::new()).is_none());
    }
}
