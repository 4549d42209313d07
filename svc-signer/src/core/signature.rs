//! Whatever a provider returns becomes one shape before it leaves: 32-byte r and s, low s, a recovery id, verified against the key.
//!
//! The C library is used because HSM signatures carry no recovery id: finding it takes one or two recoveries, which cost a fifth here.

use std::sync::OnceLock;

use alloy::primitives::{Address, B256, Signature};
use secp256k1::{
    All, Message, PublicKey, Secp256k1,
    ecdsa::{RecoverableSignature, RecoveryId},
};

/// Half of the order of the group; above it a signature is malleable and chains refuse it (EIP-2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// r and s as a provider returned them, of any length a library may produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSignature {
    /// Big-endian r, possibly short.
    pub r: Vec<u8>,
    /// Big-endian s, possibly short, possibly high.
    pub s: Vec<u8>,
}

/// A provider's signature that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// Odd or zero length, or a scalar beyond the group's order.
    #[error("the provider returned something that is not an ECDSA signature over secp256k1")]
    Malformed,
    /// It verifies, but not for this key.
    #[error("the provider signed with another key than {expected}")]
    OtherKey {
        /// The key that was asked for.
        expected: Address,
    },
}

/// The one context of the C library.
pub fn context() -> &'static Secp256k1<All> {
    static CONTEXT: OnceLock<Secp256k1<All>> = OnceLock::new();
    CONTEXT.get_or_init(Secp256k1::new)
}

/// The address of a public key.
#[must_use]
pub fn address_of(key: &PublicKey) -> Address {
    Address::from_raw_public_key(&key.serialize_uncompressed()[1..])
}

// === impl RawSignature ===

impl RawSignature {
    /// Splits the r || s of PKCS#11, whose halves are equally long.
    pub fn from_concatenated(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(2) {
            return Err(SignatureError::Malformed);
        }
        let (r, s) = bytes.split_at(bytes.len() / 2);
        Ok(Self { r: r.to_vec(), s: s.to_vec() })
    }

    /// Normalises and verifies: what comes back was made by `key` over `digest` and is accepted by every chain.
    pub fn normalise(&self, digest: B256, key: &PublicKey) -> Result<Signature, SignatureError> {
        let mut compact = [0; 64];
        compact[..32].copy_from_slice(&padded(&self.r)?);
        compact[32..].copy_from_slice(&padded(&self.s)?);
        let mut standard =
            secp256k1::ecdsa::Signature::from_compact(&compact).map_err(|_| SignatureError::Malformed)?;
        standard.normalize_s();
        let compact = standard.serialize_compact();
        let message = Message::from_digest(digest.0);
        // Ids 2 and 3 mean that r overflowed the order, which happens once in 2^128 signatures.
        for parity in [false, true] {
            let id = if parity { RecoveryId::One } else { RecoveryId::Zero };
            let recoverable =
                RecoverableSignature::from_compact(&compact, id).map_err(|_| SignatureError::Malformed)?;
            if context().recover_ecdsa(message, &recoverable).is_ok_and(|found| found == *key) {
                return Ok(Signature::from_bytes_and_parity(&compact, parity));
            }
        }
        Err(SignatureError::OtherKey { expected: address_of(key) })
    }
}

fn padded(scalar: &[u8]) -> Result<[u8; 32], SignatureError> {
    let significant = match scalar.iter().position(|byte| *byte != 0) {
        Some(start) => &scalar[start..],
        None => return Err(SignatureError::Malformed),
    };
    if significant.len() > 32 {
        return Err(SignatureError::Malformed);
    }
    let mut word = [0; 32];
    word[32 - significant.len()..].copy_from_slice(significant);
    if word >= ORDER { Err(SignatureError::Malformed) } else { Ok(word) }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
    use proptest::prelude::*;
    use secp256k1::SecretKey;

    use super::*;

    fn raw(digest: B256, key: &SecretKey) -> ([u8; 32], [u8; 32]) {
        let compact = context().sign_ecdsa(Message::from_digest(digest.0), key).serialize_compact();
        (compact[..32].try_into().unwrap(), compact[32..].try_into().unwrap())
    }

    proptest! {
        /// Named regression: high s and short r or s of an HSM were refused by the chain.
        #[test]
        fn malleable_or_unpadded_signature(secret in 1u128.., digest in any::<[u8; 32]>(), high in any::<bool>()) {
            let key = SecretKey::from_byte_array(U256::from(secret).to_be_bytes()).unwrap();
            let public = key.public_key(context());
            let (r, s) = raw(B256::from(digest), &key);
            let order = U256::from_be_bytes(ORDER);
            let s = if high { order - U256::from_be_bytes(s) } else { U256::from_be_bytes(s) };
            let given = RawSignature { r: U256::from_be_bytes(r).to_be_bytes_trimmed_vec(), s: s.to_be_bytes_trimmed_vec() };
            let signature = given.normalise(B256::from(digest), &public).unwrap();
            prop_assert!(signature.normalize_s().is_none(), "low s");
            prop_assert_eq!(signature.recover_address_from_prehash(&B256::from(digest)).unwrap(), address_of(&public));
        }
    }

    #[test]
    fn a_short_r_is_padded_on_the_left() {
        let key = SecretKey::from_byte_array([3; 32]).unwrap();
        let (digest, r, s) = (0u64..)
            .map(|number| B256::from(U256::from(number)))
            .map(|digest| (digest, raw(digest, &key)))
            .find_map(|(digest, (r, s))| (r[0] == 0).then_some((digest, r, s)))
            .unwrap();
        let signature =
            RawSignature { r: r[1..].to_vec(), s: s.to_vec() }.normalise(digest, &key.public_key(context())).unwrap();
        assert_eq!(signature.r(), U256::from_be_bytes(r));
        assert_eq!(signature.as_bytes().len(), 65);
    }

    #[test]
    fn another_key_and_nonsense_are_refused() {
        let key = SecretKey::from_byte_array([3; 32]).unwrap();
        let other = SecretKey::from_byte_array([4; 32]).unwrap().public_key(context());
        let (r, s) = raw(B256::repeat_byte(1), &key);
        let given = RawSignature { r: r.to_vec(), s: s.to_vec() };
        assert!(matches!(given.normalise(B256::repeat_byte(1), &other), Err(SignatureError::OtherKey { .. })));
        let zero = RawSignature { r: vec![0; 32], s: s.to_vec() };
        assert_eq!(zero.normalise(B256::repeat_byte(1), &other), Err(SignatureError::Malformed));
        let beyond = RawSignature { r: ORDER.to_vec(), s: s.to_vec() };
        assert_eq!(beyond.normalise(B256::repeat_byte(1), &other), Err(SignatureError::Malformed));
        assert_eq!(RawSignature::from_concatenated(&[1; 63]), Err(SignatureError::Malformed));
    }
}
