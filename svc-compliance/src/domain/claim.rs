//! Claims: topics, the expiry envelope, and what an issuer signs.

use alloy::{
    primitives::{Address, B256, Bytes, U256, eip191_hash_message, keccak256},
    sol_types::SolValue as _,
};
use serde::{Deserialize, Serialize};

/// The name of a claim topic, 1 to 64 of `[a-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicName(String);

/// Topics of the claims that an asset's own identity carries.
pub mod asset_topics {
    /// Who issued the asset: the address of the issuer's identity.
    pub const ISSUER: &str = "asset.issuer";
    /// Which template the asset was made from.
    pub const CLASS: &str = "asset.class";
    /// The asset's ISIN.
    pub const ISIN: &str = "asset.isin";
}

/// The ERC-735 scheme of ECDSA over the eth-signed digest.
pub const SCHEME_ECDSA: u64 = 1;

// === impl TopicName ===

impl TopicName {
    /// A well-formed name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        ((1..=64).contains(&name.len()) && name.bytes().all(plain)).then(|| Self(name.to_owned()))
    }

    /// A name that was not checked; only for values that are thrown away with their violation, and for our own constants.
    pub(crate) fn unchecked(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic id on chain: keccak256 of the name.
    #[must_use]
    pub fn id(&self) -> U256 {
        U256::from_be_bytes(keccak256(self.0.as_bytes()).0)
    }
}

/// Puts the expiry into the claim data, so that the issuer's signature covers it: 8 bytes tag, 8 bytes unix seconds, payload.
/// Zero never expires and needs no envelope.
#[must_use]
pub fn with_expiry(expires_at: u64, payload: &[u8]) -> Bytes {
    if expires_at == 0 {
        return Bytes::copy_from_slice(payload);
    }
    let tag = keccak256(b"dalp.claim.v1");
    [&tag[..8], &expires_at.to_be_bytes(), payload].concat().into()
}

/// Unix seconds after which claim data no longer counts; 0 never.
#[must_use]
pub fn expiry_of(data: &[u8]) -> u64 {
    let tag = keccak256(b"dalp.claim.v1");
    match data.get(..16) {
        Some(head) if head[..8] == tag[..8] => {
            head[8..].iter().fold(0, |expiry, byte| (expiry << 8) | u64::from(*byte))
        }
        _ => 0,
    }
}

/// What an issuer revokes: `keccak256(abi.encode(identity, topic, data))`.
#[must_use]
pub fn digest(identity: Address, topic: U256, data: &Bytes) -> B256 {
    keccak256((identity, topic, data.clone()).abi_encode_params())
}

/// What an issuer's key signs: the eth-signed [`digest`].
#[must_use]
pub fn signing_hash(identity: Address, topic: U256, data: &Bytes) -> B256 {
    eip191_hash_message(digest(identity, topic, data))
}

/// ERC-735 claim id: `keccak256(abi.encode(issuer, topic))`.
#[must_use]
pub fn claim_id(issuer: Address, topic: U256) -> B256 {
    keccak256((issuer, topic).abi_encode_params())
}

/// The ERC-734 key of an account: `keccak256(abi.encode(account))`.
#[must_use]
pub fn key_of(account: Address) -> B256 {
    keccak256(account.abi_encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::address;

    #[test]
    fn topic_names() {
        assert!(TopicName::new("kyc").is_some());
        for bad in ["", "KYC", "k y", "é", &"x".repeat(65)] {
            assert!(TopicName::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_envelope_carries_the_expiry() {
        let data = with_expiry(1_900_000_000, b"payload");
        assert_eq!((expiry_of(&data), &data[16..]), (1_900_000_000, &b"payload"[..]));
        assert_eq!((with_expiry(0, b"x"), expiry_of(b"x"), expiry_of(&[0; 64])), (Bytes::from_static(b"x"), 0, 0));
    }

    #[test]
    fn the_digest_is_that_of_abi_encode() {
        let identity = address!("0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045");
        let topic = TopicName::unchecked("kyc").id();
        // abi.encode(address, uint256, bytes): two words, offset 0x60, length, padded bytes.
        let mut expected = Vec::new();
        expected.extend([0; 12]);
        expected.extend(identity);
        expected.extend(topic.to_be_bytes::<32>());
        expected.extend(U256::from(0x60).to_be_bytes::<32>());
        expected.extend(U256::from(2).to_be_bytes::<32>());
        expected.extend([0xab, 0xcd]);
        expected.extend([0; 30]);
        assert_eq!(digest(identity, topic, &Bytes::from_static(&[0xab, 0xcd])), keccak256(&expected));
        let mut key = vec![0; 12];
        key.extend(identity);
        assert_eq!(key_of(identity), keccak256(&key));
    }
}
