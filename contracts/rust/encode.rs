//! Encodings the contracts expect inside `bytes` arguments: rule parameters and claim data.
use alloy::primitives::{Address, B256, Bytes, U256, eip191_hash_message, keccak256};
use alloy::sol_types::{SolType, SolValue, sol_data};

use crate::bindings::ClaimRule::Group;

/// Whose claims a [`claim_rule_params`] rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Sides {
    /// Only the recipient.
    Recipient = 1,
    /// Only the sender.
    Sender = 2,
    /// Both.
    Both = 3,
}

/// Parameters of `CountryRule`; countries are ISO 3166 numeric, 1 to 999.
pub fn country_rule_params(allow: bool, countries: &[u16]) -> Bytes {
    type Params = (sol_data::Bool, sol_data::Array<sol_data::Uint<16>>);
    Params::abi_encode_params(&(allow, countries)).into()
}

/// Parameters of `ClaimRule`: an OR of groups; in a group all of `allOf` and none of `noneOf` must be attested.
pub fn claim_rule_params(sides: Sides, any_of: Vec<Group>) -> Bytes {
    (U256::from(sides as u8), any_of).abi_encode_params().into()
}

/// Id of a claim topic: keccak-256 of its name.
pub fn topic_id(name: &str) -> U256 {
    U256::from_be_bytes(keccak256(name.as_bytes()).0)
}

/// Claim data in the envelope that carries the expiry (unix seconds, `None` never expires) inside what the issuer signs.
pub fn claim_data(expires_at_s: Option<u64>, payload: &[u8]) -> Bytes {
    let tag = keccak256(b"dalp.claim.v1");
    let mut data = Vec::with_capacity(16 + payload.len());
    data.extend_from_slice(&tag[..8]);
    data.extend_from_slice(&expires_at_s.unwrap_or(0).to_be_bytes());
    data.extend_from_slice(payload);
    data.into()
}

/// What an issuer revokes: the digest of (identity, topic, data).
pub fn claim_digest(identity: Address, topic: U256, data: &Bytes) -> B256 {
    keccak256((identity, topic, data.clone()).abi_encode_params())
}

/// What an issuer's CLAIM key signs: the digest as an eth-signed message.
pub fn claim_signing_hash(identity: Address, topic: U256, data: &Bytes) -> B256 {
    eip191_hash_message(claim_digest(identity, topic, data))
}

/// ERC-735 claim id.
pub fn claim_id(issuer: Address, topic: U256) -> B256 {
    keccak256((issuer, topic).abi_encode())
}

/// ERC-734 key of an account.
pub fn key_of(account: Address) -> B256 {
    keccak256(account.abi_encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::address;

    #[test]
    fn digest_and_key_are_those_of_abi_encode() {
        let identity = address!("0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045");
        let topic = topic_id("kyc");
        // abi.encode(address, uint256, bytes): two words, offset 0x60, length, padded bytes.
        let mut expected = vec![0; 12];
        expected.extend(identity);
        expected.extend(topic.to_be_bytes::<32>());
        expected.extend(U256::from(0x60).to_be_bytes::<32>());
        expected.extend(U256::from(2).to_be_bytes::<32>());
        expected.extend([0xab, 0xcd]);
        expected.extend([0; 30]);
        assert_eq!(claim_digest(identity, topic, &Bytes::from_static(&[0xab, 0xcd])), keccak256(&expected));
        let mut key = vec![0; 12];
        key.extend(identity);
        assert_eq!(key_of(identity), keccak256(&key));
    }
}
