//! Keys in the signer's own database, envelope-encrypted: each key under a data key of its own, each data key under the
//! key-encryption key, which never touches the database.

use std::time::Duration;

use alloy::primitives::B256;
use async_trait::async_trait;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand::{TryRngCore as _, rngs::OsRng};
use secp256k1::{Message, SecretKey};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    KeyHandle, KeyName, KeyTier, NewKey, Provider, ProviderError, ProviderKind, ProviderStatus, SignAtOnce, Signing,
};
use crate::core::{
    reveal::Purpose,
    signature::{RawSignature, context},
};

/// First byte of a sealed key; a change of algorithm takes the next number.
const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;
const WRAPPED_LEN: usize = 32 + 16;
const SEALED_LEN: usize = 1 + NONCE_LEN + WRAPPED_LEN + NONCE_LEN + WRAPPED_LEN;

/// The provider of the development and low-value tier.
pub struct LocalProvider {
    /// Wraps the data keys; zeroized by the cipher when dropped.
    key_encryption: XChaCha20Poly1305,
    tier: KeyTier,
}

// === impl LocalProvider ===

impl LocalProvider {
    /// Takes the key-encryption key.
    #[must_use]
    pub fn new(key_encryption_key: &Zeroizing<[u8; 32]>) -> Self {
        let key_encryption = XChaCha20Poly1305::new(key_encryption_key.as_slice().into());
        Self { key_encryption, tier: ProviderKind::Local.tier() }
    }

    /// The same, where another keeps the key-encryption key.
    #[must_use]
    pub fn guarded(self, tier: KeyTier) -> Self {
        Self { tier, ..self }
    }

    fn seal(&self, name: &KeyName, secret: &[u8; 32]) -> Result<Vec<u8>, ProviderError> {
        let data_key = Zeroizing::new(random::<32>()?);
        let mut sealed = Vec::with_capacity(SEALED_LEN);
        sealed.push(VERSION);
        encrypt(&self.key_encryption, name, b"data-key", data_key.as_slice(), &mut sealed)?;
        encrypt(&XChaCha20Poly1305::new(data_key.as_slice().into()), name, b"key", secret, &mut sealed)?;
        Ok(sealed)
    }

    /// Makes a secret of a tenant and seals it for its purpose; both, for the caller to hash the one and store the other.
    pub(crate) fn make_secret(
        &self,
        tenant: &str,
        what: (Uuid, Option<&Purpose>),
    ) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), ProviderError> {
        let secret = Zeroizing::new(random::<32>()?);
        let sealed = self.seal(&secret_name(tenant, what), &secret)?;
        Ok((secret, sealed))
    }

    /// Opens a sealed secret; not under another purpose than it was sealed for.
    pub(crate) fn open_secret(
        &self,
        tenant: &str,
        what: (Uuid, Option<&Purpose>),
        sealed: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, ProviderError> {
        self.unsealed(&secret_name(tenant, what), sealed)
    }

    fn unsealed(&self, name: &KeyName, sealed: &[u8]) -> Result<Zeroizing<[u8; 32]>, ProviderError> {
        let broken = || ProviderError::Failed("the sealed key does not open under this key-encryption key".to_owned());
        let body = sealed.strip_prefix(&[VERSION]).filter(|body| body.len() == SEALED_LEN - 1).ok_or_else(broken)?;
        let (wrapped, body) = body.split_at(NONCE_LEN + WRAPPED_LEN);
        let data_key = decrypt(&self.key_encryption, name, b"data-key", wrapped).ok_or_else(broken)?;
        let cipher = XChaCha20Poly1305::new(data_key.as_slice().into());
        let secret = decrypt(&cipher, name, b"key", body).ok_or_else(broken)?;
        Ok(Zeroizing::new(secret.as_slice().try_into().map_err(|_| broken())?))
    }

    fn open(&self, name: &KeyName, sealed: &[u8]) -> Result<SecretKey, ProviderError> {
        let bytes = self.unsealed(name, sealed)?;
        SecretKey::from_byte_array(*bytes).map_err(|_| ProviderError::Failed("the sealed key is none".to_owned()))
    }
}

/// What a secret is sealed for. No wallet has such a name, so neither opens as the other.
fn secret_name(tenant: &str, (id, purpose): (Uuid, Option<&Purpose>)) -> KeyName {
    let bound = purpose.map(|purpose| format!("/{}", purpose.digest())).unwrap_or_default();
    KeyName { tenant: tenant.to_owned(), wallet: format!("settlement-secret/{id}{bound}") }
}

#[async_trait]
impl Provider for LocalProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Local
    }

    fn tier(&self) -> KeyTier {
        self.tier
    }

    fn longest_creation(&self) -> Duration {
        // It only computes; a process that dies in between leaves the name reserved for so long.
        Duration::from_secs(1)
    }

    async fn create(&self, name: &KeyName) -> Result<NewKey, ProviderError> {
        // A draw outside the group's order happens once in 2^128 times.
        let (bytes, mut secret) = loop {
            let bytes = Zeroizing::new(random::<32>()?);
            if let Ok(secret) = SecretKey::from_byte_array(*bytes) {
                break (bytes, secret);
            }
        };
        let public_key = secret.public_key(context());
        secret.non_secure_erase();
        Ok(NewKey { public_key, material: self.seal(name, &bytes)? })
    }

    fn signing(&self) -> Signing<'_> {
        Signing::AtOnce(self)
    }

    async fn status(&self) -> ProviderStatus {
        ProviderStatus { ready: true, detail: "in process".to_owned() }
    }
}

#[async_trait]
impl SignAtOnce for LocalProvider {
    async fn sign(&self, key: KeyHandle<'_>, digest: B256) -> Result<RawSignature, ProviderError> {
        let mut secret = self.open(key.name, key.material)?;
        let compact = context().sign_ecdsa(Message::from_digest(digest.0), &secret).serialize_compact();
        secret.non_secure_erase();
        Ok(RawSignature { r: compact[..32].to_vec(), s: compact[32..].to_vec() })
    }
}

/// Binds a ciphertext to its purpose and owner, so that a row moved to another tenant or wallet does not open.
fn associated(name: &KeyName, purpose: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for part in [b"dalp.signer.local.v1".as_slice(), purpose, name.tenant.as_bytes(), name.wallet.as_bytes()] {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part);
    }
    data
}

fn encrypt(
    cipher: &XChaCha20Poly1305,
    name: &KeyName,
    purpose: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ProviderError> {
    let nonce = random::<NONCE_LEN>()?;
    let sealed = cipher
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &associated(name, purpose) })
        .map_err(|_| ProviderError::Failed("encryption failed".to_owned()))?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    Ok(())
}

fn decrypt(cipher: &XChaCha20Poly1305, name: &KeyName, purpose: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
    let plain =
        cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: &associated(name, purpose) }).ok()?;
    Some(Zeroizing::new(plain))
}

fn random<const N: usize>() -> Result<[u8; N], ProviderError> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| ProviderError::Unavailable(format!("no randomness: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(wallet: &str) -> KeyName {
        KeyName { tenant: "bank".to_owned(), wallet: wallet.to_owned() }
    }

    #[test]
    fn a_sealed_secret_opens_only_for_its_tenant_and_id() {
        let provider = LocalProvider::new(&Zeroizing::new([7; 32]));
        let (id, other) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
        let purpose = Purpose::new(1, alloy::primitives::Address::ZERO, 9, Vec::new());
        let (secret, sealed) = provider.make_secret("bank", (id, Some(&purpose))).unwrap();
        assert_eq!(provider.open_secret("bank", (id, Some(&purpose)), &sealed).unwrap(), secret);
        let later = Purpose { cutoff_s: 10, ..purpose };
        for what in [(other, Some(&purpose)), (id, Some(&later)), (id, None)] {
            assert!(provider.open_secret("bank", what, &sealed).is_err(), "{what:?}");
        }
        assert!(provider.open_secret("other", (id, Some(&purpose)), &sealed).is_err());
        assert!(!sealed.windows(8).any(|some| secret.windows(8).any(|other| some == other)), "it is sealed");
    }

    #[tokio::test]
    async fn a_sealed_key_opens_only_for_its_owner_and_its_key() {
        let provider = LocalProvider::new(&Zeroizing::new([7; 32]));
        let key = provider.create(&name("a")).await.unwrap();
        assert_eq!(key.material.len(), SEALED_LEN);
        assert_eq!(provider.open(&name("a"), &key.material).unwrap().public_key(context()), key.public_key);
        assert!(provider.open(&name("b"), &key.material).is_err(), "a row moved to another wallet");
        assert!(LocalProvider::new(&Zeroizing::new([8; 32])).open(&name("a"), &key.material).is_err(), "another key");
        for position in [0, 1, 30, 100, SEALED_LEN - 1] {
            let mut damaged = key.material.clone();
            damaged[position] ^= 1;
            assert!(provider.open(&name("a"), &damaged).is_err(), "byte {position} changed");
        }
    }
}
