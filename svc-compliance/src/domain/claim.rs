//! Claims: topics and the expiry envelope.

use alloy::primitives::{Bytes, U256};
use dalp_contracts::encode::{claim_data, topic_id};
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
    /// How much collateral the asset has, in base units or in money, as its rule says.
    pub const COLLATERAL: &str = "asset.collateral";
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
        topic_id(&self.0)
    }
}

/// Puts the expiry into the claim data, so that the issuer's signature covers it. What never expires needs no envelope.
#[must_use]
pub fn with_expiry(expires_at: u64, payload: &[u8]) -> Bytes {
    match expires_at {
        0 => Bytes::copy_from_slice(payload),
        expires_at => claim_data(Some(expires_at), payload),
    }
}

/// What claim data says besides its expiry.
#[must_use]
pub fn payload_of(data: &[u8]) -> &[u8] {
    let tag = &claim_data(None, &[])[..8];
    match data.get(16..) {
        Some(payload) if data[..8] == *tag => payload,
        _ => data,
    }
}

/// Unix seconds after which claim data no longer counts; 0 never.
#[must_use]
pub fn expiry_of(data: &[u8]) -> u64 {
    let tag = &claim_data(None, &[])[..8];
    match data.get(..16) {
        Some(head) if head[..8] == *tag => head[8..].iter().fold(0, |expiry, byte| (expiry << 8) | u64::from(*byte)),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((expiry_of(&data), payload_of(&data)), (1_900_000_000, &b"payload"[..]));
        assert_eq!((payload_of(b"x"), payload_of(&[0; 20])), (&b"x"[..], &[0; 20][..]));
        assert_eq!((with_expiry(0, b"x"), expiry_of(b"x"), expiry_of(&[0; 64])), (Bytes::from_static(b"x"), 0, 0));
    }
}
