//! What is kept of PINs and one-time secrets is sealed under a key of the configuration, which the database never sees.

use std::fmt;

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use hmac::{Hmac, Mac as _};
use rand::{TryRngCore as _, rngs::OsRng};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;

use super::{config::SealingKeyConfig, store::Person};

const NONCE_LEN: usize = 24;

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

/// What is sealed. Nothing opens as something else.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// The hash of a PIN.
    Pin,
    /// The secret of an authenticator app.
    Totp,
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
    pub fn read(config: &[SealingKeyConfig]) -> Result<Option<Self>, String> {
        let read = |one: &SealingKeyConfig| one.read().map(|key| (one.id.clone(), key));
        let keys = config.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(keys))
    }

    /// These keys, the sealing one first; `None` when there is none.
    #[must_use]
    pub fn new(keys: Vec<(String, Zeroizing<[u8; 32]>)>) -> Option<Self> {
        let (_, first) = keys.first()?;
        let hashing = Zeroizing::new(mac(first.as_slice(), b"dalp.gateway.verification.requests"));
        let keys = keys.into_iter().map(|(id, key)| (id, XChaCha20Poly1305::new(key.as_slice().into())));
        Some(Self { keys: keys.collect(), hashing })
    }

    /// A hash of a request that tells nothing of the code in it: of a million PINs each one's plain hash would be.
    #[must_use]
    pub fn hash(&self, request: &[u8]) -> [u8; 32] {
        mac(self.hashing.as_slice(), request)
    }

    /// Seals for a person and purpose.
    pub(super) fn seal(&self, person: Person<'_>, purpose: Purpose, plain: &[u8]) -> Result<Sealed, SealingError> {
        let mut nonce = [0; NONCE_LEN];
        OsRng.try_fill_bytes(&mut nonce).map_err(|_| SealingError::NoRandomness)?;
        // Never empty: `new` sees to it.
        let (key_id, cipher) = self.keys.first().ok_or(SealingError::Refused)?;
        let aad = associated(person, purpose, key_id);
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &aad });
        let sealed = sealed.map_err(|_| SealingError::Refused)?;
        Ok(Sealed { key_id: key_id.clone(), bytes: [nonce.as_slice(), &sealed].concat() })
    }

    /// Opens what was sealed for this person and purpose.
    pub(super) fn open(
        &self,
        person: Person<'_>,
        purpose: Purpose,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let id = &sealed.key_id;
        let (_, cipher) =
            self.keys.iter().find(|(own, _)| own == id).ok_or_else(|| SealingError::UnknownKey(id.clone()))?;
        let open = || {
            let (nonce, body) = sealed.bytes.split_at_checked(NONCE_LEN)?;
            let aad = associated(person, purpose, id);
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

/// Binds a ciphertext to its purpose and owner, so that a row moved to somebody else does not open.
fn associated(person: Person<'_>, purpose: Purpose, key_id: &str) -> Vec<u8> {
    let purpose = match purpose {
        Purpose::Pin => "pin",
        Purpose::Totp => "totp",
    };
    let mut data = Vec::new();
    for part in ["dalp.gateway.verification.v1", purpose, key_id, person.tenant, person.principal] {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Person<'static> = Person { tenant: "acme", principal: "anna" };

    fn keys(ids: &[(&str, u8)]) -> SealingKeys {
        SealingKeys::new(ids.iter().map(|(id, byte)| ((*id).to_owned(), Zeroizing::new([*byte; 32]))).collect())
            .unwrap()
    }

    #[test]
    fn it_opens_for_its_owner_and_purpose_only() {
        let keys = keys(&[("one", 1)]);
        let sealed = keys.seal(ANNA, Purpose::Totp, b"twenty bytes of luck").unwrap();
        assert_eq!(keys.open(ANNA, Purpose::Totp, &sealed).unwrap().as_slice(), b"twenty bytes of luck");
        assert!(!sealed.bytes.windows(6).any(|some| some == b"twenty"));
        assert!(keys.open(ANNA, Purpose::Pin, &sealed).is_err());
        for other in [Person { tenant: "acme", principal: "bert" }, Person { tenant: "other", principal: "anna" }] {
            assert!(keys.open(other, Purpose::Totp, &sealed).is_err());
        }
        let mut changed = sealed.clone();
        *changed.bytes.last_mut().unwrap() ^= 1;
        assert!(keys.open(ANNA, Purpose::Totp, &changed).is_err());
    }

    #[test]
    fn after_a_rotation_the_old_key_still_opens_and_the_new_one_seals() {
        let before = keys(&[("one", 1)]).seal(ANNA, Purpose::Pin, b"hash").unwrap();
        let rotated = keys(&[("two", 2), ("one", 1)]);
        assert_eq!(rotated.open(ANNA, Purpose::Pin, &before).unwrap().as_slice(), b"hash");
        assert_eq!(rotated.seal(ANNA, Purpose::Pin, b"hash").unwrap().key_id, "two");
        let gone = keys(&[("two", 2)]).open(ANNA, Purpose::Pin, &before).unwrap_err();
        assert!(matches!(gone, SealingError::UnknownKey(id) if id == "one"));
        // A key under the name of another is not it.
        assert!(keys(&[("one", 9)]).open(ANNA, Purpose::Pin, &before).is_err());
    }

    #[test]
    fn the_hash_of_a_request_depends_on_the_key() {
        assert_eq!(keys(&[("one", 1)]).hash(b"pin"), keys(&[("one", 1)]).hash(b"pin"));
        assert_ne!(keys(&[("one", 1)]).hash(b"pin"), keys(&[("one", 2)]).hash(b"pin"));
        assert!(SealingKeys::new(Vec::new()).is_none());
    }
}
