//! Which payloads move nothing: the signer's own list, by kind of payload, kind of contract and function. Everything that is not on it moves and needs
//! the attestor's word, also what nobody here has heard of yet.
//!
//! The list is short on purpose. A transaction names an address and a selector; what stands at the address only the attestor sees, so no function of a
//! contract is on it, not even those of our own contracts that move nothing.

use alloy::primitives::Address;

use super::{
    payload::{Payload, UnsignedTransaction},
    watermark::is_cancel,
};

/// The EIP-712 type of a feed's update. A signature over it counts as nothing else: the hash of the type is part of what is signed.
const FEED_UPDATE: &str =
    "FeedUpdate(uint256 topicId,bytes32 schemaHash,int256 value,uint256 observedAt,uint256 nonce,uint256 deadline)";

/// Whether a payload needs a compliance attestation.
#[must_use]
pub fn moves(payload: &Payload, signer: Address) -> bool {
    match payload {
        Payload::Transaction(tx) => !cancels(tx, signer),
        Payload::Document(document) => !document.encode_type().is_ok_and(|encoded| encoded == FEED_UPDATE),
        // What a claim's issuer signs is the hash of an address, a word and bytes, as what some wallets take for an order to call: only the attestor
        // sees whether the address is an identity.
        Payload::Claim(_) => true,
        // Signed by keys that sign nothing else, under a domain that no contract of a chain can have.
        Payload::AuditRoot(_) => false,
    }
}

/// What a transfer costs by itself: with no more than that, no code runs, and gas cannot make the fee a large one.
const TRANSFER_GAS: u64 = 21_000;

/// A zero-value transfer of a wallet to itself, with gas for nothing more, uses a nonce up and does nothing else.
fn cancels(tx: &UnsignedTransaction, signer: Address) -> bool {
    is_cancel(tx, signer) && tx.gas_limit() <= TRANSFER_GAS
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{TxEip1559, TxLegacy},
        dyn_abi::TypedData,
        primitives::{B256, Bytes, TxKind, U256},
    };
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::core::payload::{AuditRoot, Claim};

    const SIGNER: Address = Address::repeat_byte(1);
    const OTHER: Address = Address::repeat_byte(2);

    fn transaction(to: TxKind, value: u64, input: &[u8]) -> Payload {
        let (value, input) = (U256::from(value), Bytes::copy_from_slice(input));
        Payload::Transaction(UnsignedTransaction::Eip1559(TxEip1559 {
            chain_id: 1,
            to,
            value,
            input,
            ..Default::default()
        }))
    }

    fn document(primary: &str, fields: &serde_json::Value) -> Payload {
        let message: serde_json::Map<String, serde_json::Value> = fields
            .as_array()
            .unwrap()
            .iter()
            .map(|field| {
                let zero = match field["type"].as_str().unwrap() {
                    "bytes32" => json!(B256::ZERO),
                    "address" => json!(Address::ZERO),
                    _ => json!("0"),
                };
                (field["name"].as_str().unwrap().to_owned(), zero)
            })
            .collect();
        let document = json!({
            "types": {"EIP712Domain": [{"name": "chainId", "type": "uint256"}], primary: fields},
            "primaryType": primary, "domain": {"chainId": 1}, "message": message
        });
        Payload::Document(Box::new(serde_json::from_value::<TypedData>(document).unwrap()))
    }

    fn feed_update() -> serde_json::Value {
        json!([{"name": "topicId", "type": "uint256"}, {"name": "schemaHash", "type": "bytes32"}, {"name": "value", "type": "int256"},
            {"name": "observedAt", "type": "uint256"}, {"name": "nonce", "type": "uint256"}, {"name": "deadline", "type": "uint256"}])
    }

    #[test]
    fn the_whole_list() {
        assert!(!moves(&transaction(TxKind::Call(SIGNER), 0, &[]), SIGNER));
        let legacy = TxLegacy { chain_id: Some(1), to: TxKind::Call(SIGNER), ..Default::default() };
        assert!(!moves(&Payload::Transaction(UnsignedTransaction::Legacy(legacy)), SIGNER));
        assert!(!moves(&document("FeedUpdate", &feed_update()), SIGNER));
        let root = AuditRoot { tenant: "bank".into(), size: 1, root: B256::ZERO, sealed_at_us: 1 };
        assert!(!moves(&Payload::AuditRoot(root), SIGNER));
    }

    #[test]
    fn a_cancel_has_gas_for_nothing_more() {
        let with = |gas_limit| {
            let to = TxKind::Call(SIGNER);
            Payload::Transaction(UnsignedTransaction::Eip1559(TxEip1559 { gas_limit, to, ..Default::default() }))
        };
        assert!(!moves(&with(21_000), SIGNER));
        assert!(moves(&with(21_001), SIGNER));
        assert!(moves(&with(30_000_000), SIGNER));
    }

    #[test]
    fn everything_else_moves() {
        let selectors: [&[u8]; 9] = [
            &[0xa9, 0x05, 0x9c, 0xbb], // transfer
            &[0x09, 0x5e, 0xa7, 0xb3], // approve
            &[0xd5, 0x05, 0xac, 0xcf], // permit
            &[0xac, 0x96, 0x50, 0xd8], // multicall
            &[0xb6, 0x1d, 0x27, 0xf6], // execute
            &[0x4f, 0x1e, 0xf2, 0x86], // upgradeToAndCall
            &[0x76, 0x5e, 0x82, 0x7f], // handleOps
            &[0xde, 0xad, 0xbe, 0xef], // nobody knows
            &[1, 2, 3],
        ];
        for selector in selectors {
            assert!(moves(&transaction(TxKind::Call(OTHER), 0, selector), SIGNER), "{selector:?}");
            assert!(moves(&transaction(TxKind::Call(SIGNER), 0, selector), SIGNER), "to itself, with {selector:?}");
        }
        assert!(moves(&transaction(TxKind::Call(OTHER), 0, &[]), SIGNER), "an empty call runs a contract's receive");
        assert!(moves(&transaction(TxKind::Call(SIGNER), 1, &[]), SIGNER), "value");
        assert!(moves(&transaction(TxKind::Create, 0, &[0x60]), SIGNER), "creation");
        assert!(moves(&Payload::Claim(Claim { identity: OTHER, topic: B256::ZERO, data: Bytes::new() }), SIGNER));
    }

    #[test]
    fn a_document_is_known_by_its_whole_type() {
        let permit = json!([{"name": "owner", "type": "address"}, {"name": "spender", "type": "address"}, {"name": "value", "type": "uint256"}]);
        assert!(moves(&document("Permit", &permit), SIGNER));
        assert!(moves(&document("FeedUpdate", &permit), SIGNER), "another's fields under the name");
        let operation = json!([{"name": "sender", "type": "address"}, {"name": "nonce", "type": "uint256"}]);
        assert!(moves(&document("PackedUserOperation", &operation), SIGNER), "what a smart wallet is told");
        let mut longer = feed_update();
        longer.as_array_mut().unwrap().push(json!({"name": "spender", "type": "address"}));
        assert!(moves(&document("FeedUpdate", &longer), SIGNER));
    }

    proptest! {
        #[test]
        fn no_calldata_is_on_the_list(input in proptest::collection::vec(any::<u8>(), 1..80), to in any::<[u8; 20]>()) {
            prop_assert!(moves(&transaction(TxKind::Call(Address::from(to)), 0, &input), SIGNER));
        }
    }
}
