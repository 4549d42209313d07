//! Secrets that must be had again, sealed under a key that is not in the database.

use std::fmt;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand::{TryRngCore as _, rngs::OsRng};
use zeroize::Zeroizing;

/// First byte of what is sealed; a change of algorithm takes the next number.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;

/// Seals and opens (XChaCha20-Poly1305). What was sealed in one context opens in no other.
pub struct Seal {
    cipher: XChaCha20Poly1305,
}

/// What is given is not what was sealed in this context under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is stored does not open under the configured key")]
pub struct DoesNotOpen;

impl fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seal").finish_non_exhaustive()
    }
}

// === impl Seal ===

impl Seal {
    /// Takes the key; the cipher zeroizes it when it is dropped.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.as_slice().into()) }
    }

    /// Seals `plain`.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, rand::rand_core::OsError> {
        let mut nonce = [0; NONCE_BYTES];
        OsRng.try_fill_bytes(&mut nonce)?;
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("a secret is far below the limit of the cipher");
        Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`Self::seal`] made in the same context.
    ///
    /// # Errors
    /// When it is something else, or the key is another.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let body = sealed.strip_prefix(&[VERSION]).ok_or(DoesNotOpen)?;
        let (nonce, body) = body.split_at_checked(NONCE_BYTES).ok_or(DoesNotOpen)?;
        let payload = Payload { msg: body, aad: context.as_bytes() };
        self.cipher.decrypt(XNonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| DoesNotOpen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_own_context_under_its_own_key() {
        let seal = Seal::new(&Zeroizing::new([7; 32]));
        let sealed = seal.seal("webhook/1", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(seal.open("webhook/1", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(seal.open("webhook/2", &sealed), Err(DoesNotOpen));
        assert_eq!(Seal::new(&Zeroizing::new([8; 32])).open("webhook/1", &sealed), Err(DoesNotOpen));
        for length in 0..sealed.len() {
            assert_eq!(seal.open("webhook/1", &sealed[..length]), Err(DoesNotOpen), "{length}");
        }
    }
}
