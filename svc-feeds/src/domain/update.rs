//! Updates: what an issuer signs, as a document for the signer and as the contract reads it.

use alloy::primitives::{Address, B256, Bytes, I256, Signature, U256};
use dalp_contracts::{bindings::IssuerSignedScalarFeed::FeedUpdate, eip712::feed_update_digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The most values of a batch.
pub const MAX_BATCH: usize = 500;
/// The longest signature that is looked at; the contract takes 65 bytes only.
pub const MAX_SIGNATURE: usize = 256;

/// A value to sign and submit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitUpdate {
    /// Who sends and pays.
    pub sender: Address,
    /// Wallet whose identity is the issuer.
    pub issuer: Address,
    /// Wallet whose key signs.
    pub signer: Address,
    /// Unix seconds; 0 never.
    pub deadline: u64,
    /// What is published.
    pub observation: Observation,
}

/// Values to sign and submit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitBatch {
    /// Who sends and pays.
    pub sender: Address,
    /// Wallet whose identity is the issuer.
    pub issuer: Address,
    /// Wallet whose key signs.
    pub signer: Address,
    /// Unix seconds; 0 never.
    pub deadline: u64,
    /// What is published, each feed once.
    pub observations: Vec<Observation>,
}

/// An update that was signed outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitSigned {
    /// Who sends and pays.
    pub sender: Address,
    /// The feed.
    pub feed: Address,
    /// Identity of the issuer.
    pub issuer: Address,
    /// What was signed.
    pub update: Update,
    /// The signature.
    pub signature: Bytes,
}

/// A value for a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The feed.
    pub feed: Address,
    /// In the feed's decimals.
    pub value: I256,
    /// Unix seconds.
    pub observed_at: u64,
}

/// The document that an issuer signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Topic of the feed.
    pub topic_id: U256,
    /// Hash of the topic's schema.
    pub schema_hash: B256,
    /// Value.
    pub value: I256,
    /// Unix seconds.
    pub observed_at: u64,
    /// The issuer's place on the feed.
    pub nonce: u64,
    /// Unix seconds; 0 never.
    pub deadline: U256,
}

/// What a document to sign says of its place: on which feed, with which nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The chain.
    pub chain_id: u64,
    /// The feed.
    pub feed: Address,
    /// The nonce.
    pub nonce: u64,
}

// === impl Update ===

impl Update {
    /// As the contract reads it.
    #[must_use]
    pub fn on_chain(&self) -> FeedUpdate {
        FeedUpdate {
            topicId: self.topic_id,
            schemaHash: self.schema_hash,
            value: self.value,
            observedAt: U256::from(self.observed_at),
            nonce: U256::from(self.nonce),
            deadline: self.deadline,
        }
    }

    /// As the signer reads it.
    #[must_use]
    pub fn document(&self, chain_id: u64, feed: Address) -> Value {
        let field = |name: &str, of: &str| json!({"name": name, "type": of});
        json!({
            "types": {
                "EIP712Domain": [
                    field("name", "string"),
                    field("version", "string"),
                    field("chainId", "uint256"),
                    field("verifyingContract", "address"),
                ],
                "FeedUpdate": [
                    field("topicId", "uint256"),
                    field("schemaHash", "bytes32"),
                    field("value", "int256"),
                    field("observedAt", "uint256"),
                    field("nonce", "uint256"),
                    field("deadline", "uint256"),
                ],
            },
            "primaryType": "FeedUpdate",
            "domain": {
                "name": "IssuerSignedScalarFeed",
                "version": "1",
                "chainId": chain_id,
                "verifyingContract": feed,
            },
            "message": {
                "topicId": self.topic_id.to_string(),
                "schemaHash": self.schema_hash,
                "value": self.value.to_string(),
                "observedAt": self.observed_at.to_string(),
                "nonce": self.nonce.to_string(),
                "deadline": self.deadline.to_string(),
            },
        })
    }

    /// What the signature is over.
    #[must_use]
    pub fn digest(&self, chain_id: u64, feed: Address) -> B256 {
        feed_update_digest(chain_id, feed, &self.on_chain())
    }

    /// The key that a signature over this update recovers to.
    #[must_use]
    pub fn recover(&self, chain_id: u64, feed: Address, signature: &[u8]) -> Option<Address> {
        let signature = Signature::from_raw(signature).ok()?;
        signature.recover_address_from_prehash(&self.digest(chain_id, feed)).ok()
    }
}

// === impl Place ===

impl Place {
    /// Of a document; `None` when it is no update of a feed.
    #[must_use]
    pub fn of(document: &Value) -> Option<Self> {
        let (domain, message) = (&document["domain"], &document["message"]);
        if document["primaryType"] != "FeedUpdate" || domain["name"] != "IssuerSignedScalarFeed" {
            return None;
        }
        Some(Self {
            chain_id: domain["chainId"].as_u64()?,
            feed: domain["verifyingContract"].as_str()?.parse().ok()?,
            nonce: message["nonce"].as_str()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{
        dyn_abi::TypedData,
        signers::{SignerSync as _, local::PrivateKeySigner},
    };

    fn update(value: I256, nonce: u64, deadline: U256) -> Update {
        Update {
            topic_id: U256::MAX,
            schema_hash: B256::repeat_byte(0xab),
            value,
            observed_at: 1_800_000_000,
            nonce,
            deadline,
        }
    }

    /// The signer hashes the document, the contract the struct: both must be one.
    #[test]
    fn the_document_is_the_contract_s() {
        let feed = Address::repeat_byte(0xfe);
        for value in [I256::MIN, I256::MAX, I256::ZERO, I256::MINUS_ONE, I256::unchecked_from(15_000)] {
            let update = update(value, 7, U256::MAX);
            let document: TypedData = serde_json::from_value(update.document(31_337, feed)).unwrap();
            assert_eq!(document.eip712_signing_hash().unwrap(), update.digest(31_337, feed), "{value}");
        }
    }

    #[test]
    fn a_document_tells_its_place() {
        let feed = Address::repeat_byte(0xfe);
        let document = update(I256::ONE, 9, U256::ZERO).document(5, feed);
        assert_eq!(Place::of(&document), Some(Place { chain_id: 5, feed, nonce: 9 }));
        let mut other = document.clone();
        other["primaryType"] = "Permit".into();
        assert_eq!(Place::of(&other), None);
        let mut foreign = document;
        foreign["domain"]["name"] = "Another".into();
        assert_eq!(Place::of(&foreign), None);
    }

    #[test]
    fn a_signature_recovers_to_its_key_and_to_no_other_update() {
        let (key, feed) = (PrivateKeySigner::random(), Address::repeat_byte(1));
        let one = update(I256::ONE, 1, U256::ZERO);
        let signature = key.sign_hash_sync(&one.digest(1, feed)).unwrap().as_bytes();
        assert_eq!(one.recover(1, feed, &signature), Some(key.address()));
        assert_ne!(update(I256::ONE, 2, U256::ZERO).recover(1, feed, &signature), Some(key.address()));
        assert_ne!(one.recover(2, feed, &signature), Some(key.address()));
        assert_eq!(one.recover(1, feed, &signature[..64]), None);
    }
}
