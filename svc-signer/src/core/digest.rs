//! Typed payload to digest, and signed payload to bytes. The caller never supplies a hash.

use alloy::{
    consensus::{SignableTransaction, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes, Signature, eip191_hash_message, keccak256},
    sol_types::SolValue,
};
use sha2::{Digest as _, Sha256};

use super::payload::{Claim, Payload, PayloadError, ProviderCall, UnsignedTransaction};

/// A signed transaction as it goes on the wire of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTransaction {
    /// EIP-2718 bytes.
    pub raw: Bytes,
    /// keccak256 of `raw`.
    pub hash: B256,
}

/// The 32 bytes that a key signs for a payload.
pub fn digest(payload: &Payload) -> Result<B256, PayloadError> {
    Ok(match payload {
        Payload::Transaction(UnsignedTransaction::Eip1559(tx)) => tx.signature_hash(),
        Payload::Transaction(UnsignedTransaction::Legacy(tx)) => tx.signature_hash(),
        Payload::Transaction(UnsignedTransaction::ByProvider(tx)) => provider_call_digest(tx),
        Payload::Document(document) => {
            document.eip712_signing_hash().map_err(|error| PayloadError::Document(error.to_string()))?
        }
        Payload::Claim(claim) => claim_digest(claim),
        // An EIP-712 document whose domain names no chain: as a document nobody has it signed.
        Payload::AuditRoot(root) => root.statement().digest(),
    })
}

/// keccak256 of `abi.encode(identity, topic, data)`, eth-signed, as claim verifiers recover it.
fn claim_digest(claim: &Claim) -> B256 {
    let encoded = (claim.identity, claim.topic, claim.data.clone()).abi_encode_params();
    eip191_hash_message(keccak256(encoded))
}

/// Names what a provider is asked to broadcast, and is the hash of nothing that a chain takes: no key signs it.
fn provider_call_digest(call: &ProviderCall) -> B256 {
    let mut bytes = b"dalp.signer.provider_call.v1\0".to_vec();
    bytes.extend(call.chain_id.to_be_bytes());
    match call.to.to() {
        Some(to) => {
            bytes.push(1);
            bytes.extend(to);
        }
        None => bytes.push(0),
    }
    bytes.extend(call.value.to_be_bytes::<32>());
    bytes.extend(&call.input);
    keccak256(bytes)
}

/// Puts a signature into its transaction. `None` where there is none to put it into: its provider broadcasts by itself.
#[must_use]
pub fn assemble(tx: &UnsignedTransaction, signature: Signature) -> Option<SignedTransaction> {
    let envelope = match tx.clone() {
        UnsignedTransaction::Eip1559(tx) => TxEnvelope::from(tx.into_signed(signature)),
        UnsignedTransaction::Legacy(tx) => TxEnvelope::from(tx.into_signed(signature)),
        UnsignedTransaction::ByProvider(_) => return None,
    };
    let raw = Bytes::from(envelope.encoded_2718());
    Some(SignedTransaction { hash: keccak256(&raw), raw })
}

/// What makes two requests under one id the same request. The digest covers every field of the payload.
#[must_use]
pub fn request_hash(
    tenant: &str,
    signer: Address,
    payload: &Payload,
    digest: B256,
    replaces: Option<uuid::Uuid>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"dalp.signer.request.v1\0");
    hash.update((tenant.len() as u64).to_be_bytes());
    hash.update(tenant.as_bytes());
    hash.update(signer);
    hash.update(payload.kind().as_str().as_bytes());
    hash.update(digest);
    hash.update(replaces.map_or([0; 16], |id| *id.as_bytes()));
    hash.finalize().into()
}

/// What a replacement must keep: target, value and calldata.
#[must_use]
pub fn content_hash(tx: &UnsignedTransaction) -> [u8; 32] {
    let mut hash = Sha256::new();
    match tx.to().to() {
        Some(to) => hash.update(to),
        None => hash.update(b"create"),
    }
    hash.update(tx.value_wei().to_be_bytes::<32>());
    hash.update(tx.data());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{TxEip1559, TxLegacy},
        eips::eip2718::Decodable2718,
        primitives::{TxKind, U256, address, b256},
        signers::{SignerSync, local::PrivateKeySigner},
    };

    use super::*;

    fn call(nonce: u64) -> TxEip1559 {
        TxEip1559 {
            chain_id: 31337,
            nonce,
            gas_limit: 90_000,
            max_fee_per_gas: 7,
            max_priority_fee_per_gas: 1,
            to: TxKind::Call(address!("70997970C51812dc3A010C7d01b50e0d17dc79C8")),
            value: U256::from(5),
            input: Bytes::from_static(&[1, 2, 3, 4, 5]),
            ..Default::default()
        }
    }

    #[test]
    fn assembled_transactions_recover_to_their_signer() {
        let key = PrivateKeySigner::random();
        let legacy =
            TxLegacy { chain_id: Some(31337), nonce: 3, gas_price: 9, gas_limit: 21_000, ..Default::default() };
        for tx in [UnsignedTransaction::Eip1559(call(0)), UnsignedTransaction::Legacy(legacy)] {
            let digest = digest(&Payload::Transaction(tx.clone())).unwrap();
            let signed = assemble(&tx, key.sign_hash_sync(&digest).unwrap()).unwrap();
            let decoded = TxEnvelope::decode_2718(&mut signed.raw.as_ref()).unwrap();
            assert_eq!(
                decoded.signature().recover_address_from_prehash(&decoded.signature_hash()).unwrap(),
                key.address()
            );
            assert_eq!(*decoded.tx_hash(), signed.hash);
        }
    }

    #[test]
    fn a_call_by_the_provider_is_named_by_all_its_fields_and_never_assembled() {
        let pay = ProviderCall {
            chain_id: 31337,
            to: TxKind::Call(address!("70997970C51812dc3A010C7d01b50e0d17dc79C8")),
            value: U256::from(5),
            input: Bytes::from_static(&[1]),
        };
        let others = [
            ProviderCall { chain_id: 31338, ..pay.clone() },
            ProviderCall { to: TxKind::Create, ..pay.clone() },
            ProviderCall { value: U256::from(6), ..pay.clone() },
            ProviderCall { input: Bytes::new(), ..pay.clone() },
        ];
        let named =
            |call: &ProviderCall| digest(&Payload::Transaction(UnsignedTransaction::ByProvider(call.clone()))).unwrap();
        assert!(others.iter().all(|other| named(other) != named(&pay)));
        let key = PrivateKeySigner::random();
        let signature = key.sign_hash_sync(&named(&pay)).unwrap();
        assert_eq!(assemble(&UnsignedTransaction::ByProvider(pay.clone()), signature), None);
        let stored = serde_json::to_vec(&UnsignedTransaction::ByProvider(pay.clone())).unwrap();
        assert_eq!(
            serde_json::from_slice::<UnsignedTransaction>(&stored).unwrap(),
            UnsignedTransaction::ByProvider(pay)
        );
    }

    #[test]
    fn the_mail_document_of_eip712_has_its_known_digest() {
        let document = serde_json::json!({
            "types": {
                "EIP712Domain": [{"name": "name", "type": "string"}, {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"}],
                "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
                "Mail": [{"name": "from", "type": "Person"}, {"name": "to", "type": "Person"}, {"name": "contents", "type": "string"}]
            },
            "primaryType": "Mail",
            "domain": {"name": "Ether Mail", "version": "1", "chainId": 1,
                "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"},
            "message": {"from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
                "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"}, "contents": "Hello, Bob!"}
        });
        let payload = Payload::Document(Box::new(serde_json::from_value(document).unwrap()));
        assert_eq!(
            digest(&payload).unwrap(),
            b256!("be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2")
        );
    }

    #[test]
    fn a_claim_digest_follows_the_abi() {
        let claim = Claim {
            identity: address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"),
            topic: B256::with_last_byte(1),
            data: Bytes::from_static(b"kyc"),
        };
        // Written out by hand: three head words, the length of the data, the data padded to a word.
        let mut encoded = Vec::new();
        encoded.extend_from_slice(claim.identity.into_word().as_slice());
        encoded.extend_from_slice(claim.topic.as_slice());
        encoded.extend_from_slice(B256::with_last_byte(0x60).as_slice());
        encoded.extend_from_slice(B256::with_last_byte(3).as_slice());
        encoded.extend_from_slice(&{
            let mut word = [0; 32];
            word[..3].copy_from_slice(b"kyc");
            word
        });
        assert_eq!(claim_digest(&claim), eip191_hash_message(keccak256(encoded)));
    }

    #[test]
    fn fees_are_outside_the_content_and_inside_the_request() {
        let signer = Address::repeat_byte(7);
        let cheap = UnsignedTransaction::Eip1559(call(0));
        let dear = UnsignedTransaction::Eip1559(TxEip1559 { max_fee_per_gas: 8, ..call(0) });
        assert_eq!(content_hash(&cheap), content_hash(&dear));
        let hash = |tx: &UnsignedTransaction| {
            let payload = Payload::Transaction(tx.clone());
            request_hash("t", signer, &payload, digest(&payload).unwrap(), None)
        };
        assert_ne!(hash(&cheap), hash(&dear));
    }
}
