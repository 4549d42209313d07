//! Requests to DFNS, as pure functions: what goes on the wire is decided here and nowhere else.

use std::collections::BTreeMap;

use alloy::{
    consensus::SignableTransaction as _,
    dyn_abi::TypedData,
    primitives::{B256, TxKind},
};
use serde_json::{Value, json};

use super::{super::http::Call, credentials::Assertion};
use crate::core::payload::UnsignedTransaction;

/// Where a key lives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The key.
    pub key: String,
    /// With provider broadcast: its wallet on each network.
    #[serde(default)]
    pub wallets: BTreeMap<String, String>,
}

/// Asks for a challenge over a call that changes something. `payload` are the bytes that will be sent, `path` is without query.
#[must_use]
pub fn challenge(call: &Call) -> Call {
    let payload = String::from_utf8_lossy(&call.body);
    let path = call.target.split('?').next().unwrap_or_default();
    let body = json!({
        "userActionPayload": payload,
        "userActionHttpMethod": call.method.as_str(),
        "userActionHttpPath": path,
        "userActionServerKind": "Api",
    });
    Call::post("/auth/action/init", &body)
}

/// Answers a challenge.
#[must_use]
pub fn action(challenge_identifier: &str, credential_id: &str, assertion: &Assertion) -> Call {
    let body = json!({
        "challengeIdentifier": challenge_identifier,
        "firstFactor": {
            "kind": "Key",
            "credentialAssertion": {
                "credId": credential_id,
                "clientData": assertion.client_data,
                "signature": assertion.signature,
            },
        },
    });
    Call::post("/auth/action", &body)
}

/// A new key.
#[must_use]
pub fn create_key(name: &str) -> Call {
    Call::post("/keys", &json!({"scheme": "ECDSA", "curve": "secp256k1", "name": name}))
}

/// A page of keys.
#[must_use]
pub fn keys(page: Option<&str>) -> Call {
    Call::get(paged("/keys", page))
}

/// The cheapest question: whether it is there and knows us.
#[must_use]
pub fn probe() -> Call {
    Call::get("/keys?limit=1")
}

/// The wallet of a key on a network. The external id makes a repeat answer with the same wallet.
#[must_use]
pub fn create_wallet(network: &str, key: &str, name: &str) -> Call {
    let body = json!({
        "network": network,
        "name": name,
        "signingKey": {"id": key},
        "externalId": format!("{name}:{network}"),
    });
    Call::post("/wallets", &body)
}

/// The signature over a transaction, which the provider's policy and approvers can read. `None`: it is not to be signed for us.
#[must_use]
pub fn sign_transaction(place: &Place, tx: &UnsignedTransaction, external_id: &str) -> Option<Call> {
    let unsigned = match tx {
        UnsignedTransaction::Eip1559(tx) => tx.encoded_for_signing(),
        UnsignedTransaction::Legacy(tx) => tx.encoded_for_signing(),
        UnsignedTransaction::ByProvider(_) => return None,
    };
    let transaction = format!("0x{}", hex::encode(unsigned));
    Some(sign(place, external_id, json!({"kind": "Transaction", "transaction": transaction})))
}

/// The signature over a document. The provider derives the domain's type by itself.
#[must_use]
pub fn sign_document(place: &Place, document: &TypedData, external_id: &str) -> Call {
    let mut document = serde_json::to_value(document).unwrap_or(Value::Null);
    if let Some(types) = document.get_mut("types").and_then(Value::as_object_mut) {
        types.remove("EIP712Domain");
    }
    let body = json!({
        "kind": "Eip712",
        "types": document["types"],
        "domain": without_nulls(document["domain"].clone()),
        "message": document["message"],
    });
    sign(place, external_id, body)
}

/// The signature over 32 bytes: the provider's policy cannot read them, and asks for every approval that it knows.
#[must_use]
pub fn sign_hash(place: &Place, digest: B256, external_id: &str) -> Call {
    sign(place, external_id, json!({"kind": "Hash", "hash": digest.to_string()}))
}

fn sign(place: &Place, external_id: &str, mut body: Value) -> Call {
    body["blockchainKind"] = json!("Evm");
    body["externalId"] = json!(external_id);
    Call::post(format!("/keys/{}/signatures", place.key), &body)
}

/// A signature request.
#[must_use]
pub fn signature(place: &Place, id: &str) -> Call {
    Call::get(format!("/keys/{}/signatures/{id}", place.key))
}

/// A page of signature requests.
#[must_use]
pub fn signatures(place: &Place, page: Option<&str>) -> Call {
    Call::get(paged(&format!("/keys/{}/signatures", place.key), page))
}

/// A call that the provider prices, numbers, signs and broadcasts by itself.
#[must_use]
pub fn broadcast(wallet: &str, tx: &UnsignedTransaction, external_id: &str) -> Call {
    let mut body = json!({
        "kind": "Evm",
        "value": tx.value_wei().to_string(),
        "data": tx.data().to_string(),
        "externalId": external_id,
    });
    // Without a target it creates a contract.
    if let TxKind::Call(to) = tx.to() {
        body["to"] = json!(to.to_checksum(None));
    }
    Call::post(format!("/wallets/{wallet}/transactions"), &body)
}

/// A broadcast.
#[must_use]
pub fn transaction(wallet: &str, id: &str) -> Call {
    Call::get(format!("/wallets/{wallet}/transactions/{id}"))
}

/// A page of broadcasts.
#[must_use]
pub fn transactions(wallet: &str, page: Option<&str>) -> Call {
    Call::get(paged(&format!("/wallets/{wallet}/transactions"), page))
}

/// An approval, which alone tells a denial from an expiry.
#[must_use]
pub fn approval(id: &str) -> Call {
    Call::get(format!("/v2/policy-approvals/{id}"))
}

fn paged(path: &str, page: Option<&str>) -> String {
    let page = page.map(|page| format!("&paginationToken={page}")).unwrap_or_default();
    format!("{path}?limit=100{page}")
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    value
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::TxEip1559,
        primitives::{Bytes, U256, address},
    };
    use reqwest::Method;

    use super::*;

    fn place() -> Place {
        Place { key: "key-1".to_owned(), wallets: BTreeMap::new() }
    }

    fn body(call: &Call) -> Value {
        serde_json::from_slice(&call.body).unwrap()
    }

    fn tx() -> UnsignedTransaction {
        UnsignedTransaction::Eip1559(TxEip1559 {
            chain_id: 5,
            nonce: 1,
            gas_limit: 21_000,
            max_fee_per_gas: 7,
            max_priority_fee_per_gas: 1,
            to: TxKind::Call(address!("70997970C51812dc3A010C7d01b50e0d17dc79C8")),
            value: U256::from(9),
            input: Bytes::from_static(&[0xa9]),
            ..Default::default()
        })
    }

    #[test]
    fn a_challenge_is_over_the_very_bytes_and_the_path_alone() {
        let call = Call::post("/keys/key-1/signatures?x=1", &json!({"kind": "Hash"}));
        let asked = challenge(&call);
        assert_eq!((asked.method.clone(), asked.target.as_str()), (Method::POST, "/auth/action/init"));
        assert_eq!(
            body(&asked),
            json!({
                "userActionPayload": "{\"kind\":\"Hash\"}",
                "userActionHttpMethod": "POST",
                "userActionHttpPath": "/keys/key-1/signatures",
                "userActionServerKind": "Api",
            })
        );
        let assertion = Assertion { client_data: "cd".to_owned(), signature: "sig".to_owned() };
        assert_eq!(
            body(&action("ci", "cr-1", &assertion)),
            json!({
                "challengeIdentifier": "ci",
                "firstFactor": {
                    "kind": "Key",
                    "credentialAssertion": {"credId": "cr-1", "clientData": "cd", "signature": "sig"},
                },
            })
        );
    }

    #[test]
    fn a_transaction_is_sent_unsigned_and_readable() {
        let call = sign_transaction(&place(), &tx(), "dalp-1").unwrap();
        assert_eq!(call.target, "/keys/key-1/signatures");
        assert_eq!(
            body(&call),
            json!({
                "kind": "Transaction",
                "transaction": "0x02e0050101078252089470997970c51812dc3a010c7d01b50e0d17dc79c80981a9c0",
                "blockchainKind": "Evm",
                "externalId": "dalp-1",
            })
        );
    }

    #[test]
    fn a_document_goes_without_the_type_of_its_domain() {
        let document = json!({
            "types": {"EIP712Domain": [{"name": "chainId", "type": "uint256"}], "Price": [{"name": "value", "type": "uint256"}]},
            "primaryType": "Price", "domain": {"chainId": 5}, "message": {"value": "5"}
        });
        let sent = body(&sign_document(&place(), &serde_json::from_value(document).unwrap(), "dalp-2"));
        assert_eq!(sent["kind"], "Eip712");
        assert_eq!(sent["types"], json!({"Price": [{"name": "value", "type": "uint256"}]}));
        assert_eq!(sent["message"], json!({"value": "5"}));
        assert!(sent["domain"]["chainId"] == "0x5" || sent["domain"]["chainId"] == 5, "{sent}");
        assert_eq!((&sent["externalId"], &sent["blockchainKind"]), (&json!("dalp-2"), &json!("Evm")));
    }

    #[test]
    fn a_broadcast_leaves_nonce_and_gas_to_the_provider() {
        let call = broadcast("wa-1", &tx(), "dalp-3");
        assert_eq!(call.target, "/wallets/wa-1/transactions");
        assert_eq!(
            body(&call),
            json!({
                "kind": "Evm",
                "to": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
                "value": "9",
                "data": "0xa9",
                "externalId": "dalp-3",
            })
        );
    }

    #[test]
    fn lists_are_paged() {
        assert_eq!(keys(None).target, "/keys?limit=100");
        assert_eq!(signatures(&place(), Some("t")).target, "/keys/key-1/signatures?limit=100&paginationToken=t");
        assert_eq!(approval("ap-1").target, "/v2/policy-approvals/ap-1");
    }
}
