//! The keys that a custodian holds. They sign for real, and wrongly when asked to.

use alloy::{
    primitives::{Address, B256, U256, uint},
    signers::{SignerSync as _, local::PrivateKeySigner},
};

/// The order of the group: of a signature (r, s), (r, ORDER - s) is one as well.
pub const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

/// What is wrong with the signatures of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Twist {
    /// Nothing.
    #[default]
    None,
    /// The other s of the same signature, as MPC and HSMs return it half of the time.
    HighS,
    /// Made by another key.
    OtherKey,
}

/// A signature as its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// r.
    pub r: U256,
    /// s.
    pub s: U256,
    /// Parity of the recovery id.
    pub odd: bool,
}

/// One key.
#[derive(Debug, Clone)]
pub struct Key(PrivateKeySigner);

// === impl Key ===

impl Key {
    /// A fresh one.
    #[must_use]
    pub fn random() -> Self {
        Self(PrivateKeySigner::random())
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// Its public key, uncompressed or compressed.
    #[must_use]
    pub fn public_key(&self, compressed: bool) -> Vec<u8> {
        let point = self.0.credential().verifying_key().to_encoded_point(compressed);
        point.as_bytes().to_vec()
    }

    /// Signs a digest.
    ///
    /// # Errors
    /// When the library fails, which it does for no digest.
    pub fn sign(&self, digest: B256, twist: Twist) -> anyhow::Result<Signed> {
        let signature = match twist {
            Twist::OtherKey => PrivateKeySigner::random().sign_hash_sync(&digest)?,
            Twist::None | Twist::HighS => self.0.sign_hash_sync(&digest)?,
        };
        let (r, s, odd) = (signature.r(), signature.s(), signature.v());
        Ok(match twist {
            Twist::HighS => Signed { r, s: ORDER - s, odd: !odd },
            Twist::None | Twist::OtherKey => Signed { r, s, odd },
        })
    }
}
