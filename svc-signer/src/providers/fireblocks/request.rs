//! Requests to Fireblocks, as pure functions: what goes on the wire is decided here and nowhere else.

use alloy::{
    dyn_abi::TypedData,
    primitives::{B256, TxKind, U256},
};
use serde_json::{Value, json};

use super::super::http::Call;
use crate::core::payload::UnsignedTransaction;

/// Where a key lives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// Vault account.
    pub vault: String,
    /// Asset whose wallet holds the key.
    pub asset: String,
}

/// The digest itself: the policy of the workspace sees no more than that it is raw.
#[must_use]
pub fn raw(prefix: &str, place: &Place, digest: B256, external_id: &str, note: &str) -> Call {
    let messages = json!([{"content": hex::encode(digest)}]);
    sign(prefix, "RAW", place, messages, external_id, note)
}

/// A document that approvers can read. `EIP712Domain` is spelled out, which the platform asks for.
#[must_use]
pub fn typed(prefix: &str, place: &Place, document: &TypedData, external_id: &str, note: &str) -> Call {
    let content = with_domain_type(serde_json::to_value(document).unwrap_or(Value::Null));
    let messages = json!([{"content": content, "type": "EIP712"}]);
    sign(prefix, "TYPED_MESSAGE", place, messages, external_id, note)
}

fn sign(prefix: &str, operation: &str, place: &Place, messages: Value, external_id: &str, note: &str) -> Call {
    let body = json!({
        "operation": operation,
        "assetId": place.asset,
        "source": {"type": "VAULT_ACCOUNT", "id": place.vault},
        "note": note,
        "externalTxId": external_id,
        "extraParameters": {"rawMessageData": {"messages": messages}},
    });
    Call::post(format!("{prefix}/transactions"), &body)
}

/// A call that the platform prices, numbers, signs and broadcasts by itself. It takes no nonce.
#[must_use]
pub fn contract_call(
    prefix: &str,
    place: &Place,
    asset: &str,
    tx: &UnsignedTransaction,
    external_id: &str,
    note: &str,
) -> Call {
    // EIP-55 always: other spellings are refused. "0x0" creates a contract.
    let target = match tx.to() {
        TxKind::Call(to) => to.to_checksum(None),
        TxKind::Create => "0x0".to_owned(),
    };
    let body = json!({
        "operation": "CONTRACT_CALL",
        "assetId": asset,
        "source": {"type": "VAULT_ACCOUNT", "id": place.vault},
        "destination": {"type": "ONE_TIME_ADDRESS", "oneTimeAddress": {"address": target}},
        "amount": whole_units(tx.value_wei()),
        "note": note,
        "externalTxId": external_id,
        "extraParameters": {"contractCallData": tx.data().to_string()},
    });
    Call::post(format!("{prefix}/transactions"), &body)
}

/// A transaction by the platform's id.
#[must_use]
pub fn transaction(prefix: &str, id: &str) -> Call {
    Call::get(format!("{prefix}/transactions/{}", encoded(id)))
}

/// A transaction by our id.
#[must_use]
pub fn transaction_by_external_id(prefix: &str, external_id: &str) -> Call {
    Call::get(format!("{prefix}/transactions/external_tx_id/{}", encoded(external_id)))
}

/// Gives a transaction up.
#[must_use]
pub fn cancel(prefix: &str, id: &str) -> Call {
    Call { body: Vec::new(), ..Call::post(format!("{prefix}/transactions/{}/cancel", encoded(id)), &Value::Null) }
}

/// Vault accounts whose name begins so, from a page on.
#[must_use]
pub fn vaults_named(prefix: &str, name: &str, after: Option<&str>) -> Call {
    let after = after.map(|after| format!("&after={}", encoded(after))).unwrap_or_default();
    Call::get(format!("{prefix}/vault/accounts_paged?namePrefix={}&limit=500{after}", encoded(name)))
}

/// A new vault account. The idempotency key has at most 40 characters.
#[must_use]
pub fn create_vault(prefix: &str, name: &str, idempotency_key: &str) -> Call {
    let body = json!({"name": name, "hiddenOnUI": false, "autoFuel": false, "customerRefId": name});
    Call::post(format!("{prefix}/vault/accounts"), &body).with("Idempotency-Key", idempotency_key)
}

/// The wallet of an asset in a vault account, made if it is not there.
#[must_use]
pub fn create_wallet(prefix: &str, place: &Place, idempotency_key: &str) -> Call {
    Call::post(format!("{prefix}/vault/accounts/{}/{}", encoded(&place.vault), encoded(&place.asset)), &json!({}))
        .with("Idempotency-Key", idempotency_key)
}

/// The addresses of a wallet.
#[must_use]
pub fn addresses(prefix: &str, place: &Place) -> Call {
    let (vault, asset) = (encoded(&place.vault), encoded(&place.asset));
    Call::get(format!("{prefix}/vault/accounts/{vault}/{asset}/addresses_paginated"))
}

/// The public key of a wallet.
#[must_use]
pub fn public_key(prefix: &str, place: &Place) -> Call {
    let (vault, asset) = (encoded(&place.vault), encoded(&place.asset));
    Call::get(format!("{prefix}/vault/accounts/{vault}/{asset}/0/0/public_key_info?compressed=false"))
}

/// The cheapest question: whether it is there and knows us.
#[must_use]
pub fn probe(prefix: &str) -> Call {
    Call::get(format!("{prefix}/vault/accounts_paged?limit=1"))
}

/// Percent-encoded for a path or query: all but what RFC 3986 leaves unreserved.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Wei as the platform wants amounts: a decimal string of whole units.
fn whole_units(wei: U256) -> String {
    let unit = U256::from(10).pow(U256::from(18));
    let (whole, rest) = wei.div_rem(unit);
    if rest.is_zero() {
        return whole.to_string();
    }
    let rest = format!("{rest:0>18}");
    format!("{whole}.{}", rest.trim_end_matches('0'))
}

/// A document whose types name the domain's own fields.
pub(super) fn with_domain_type(mut document: Value) -> Value {
    const FIELDS: [(&str, &str); 5] = [
        ("name", "string"),
        ("version", "string"),
        ("chainId", "uint256"),
        ("verifyingContract", "address"),
        ("salt", "bytes32"),
    ];
    let domain = document.get("domain").cloned().unwrap_or_default();
    let fields: Vec<Value> = FIELDS
        .iter()
        .filter(|(name, _)| domain.get(name).is_some_and(|value| !value.is_null()))
        .map(|(name, kind)| json!({"name": name, "type": kind}))
        .collect();
    if let Some(types) = document.get_mut("types").and_then(Value::as_object_mut) {
        types.entry("EIP712Domain").or_insert_with(|| Value::Array(fields));
    }
    document
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::TxEip1559,
        primitives::{Bytes, address},
    };
    use reqwest::Method;

    use super::*;

    fn place() -> Place {
        Place { vault: "7".to_owned(), asset: "ETH_TEST5".to_owned() }
    }

    fn body(call: &Call) -> Value {
        serde_json::from_slice(&call.body).unwrap()
    }

    #[test]
    fn a_raw_signature_carries_64_hex_digits_without_prefix() {
        let call = raw("/v1", &place(), B256::repeat_byte(0xab), "dalp-1", "bank desk");
        assert_eq!((call.method.clone(), call.target.as_str()), (Method::POST, "/v1/transactions"));
        assert_eq!(
            body(&call),
            json!({
                "operation": "RAW",
                "assetId": "ETH_TEST5",
                "source": {"type": "VAULT_ACCOUNT", "id": "7"},
                "note": "bank desk",
                "externalTxId": "dalp-1",
                "extraParameters": {"rawMessageData": {"messages": [{"content": "ab".repeat(32)}]}},
            })
        );
        assert!(call.headers.is_empty(), "an idempotency key would replay even an error");
    }

    #[test]
    fn a_document_names_its_domain() {
        let document = json!({
            "types": {"Price": [{"name": "value", "type": "uint256"}]},
            "primaryType": "Price", "domain": {"name": "Feed", "chainId": 5}, "message": {"value": "5"}
        });
        let call = typed("/v1", &place(), &serde_json::from_value(document).unwrap(), "dalp-2", "");
        let message = &body(&call)["extraParameters"]["rawMessageData"]["messages"][0];
        assert_eq!((&body(&call)["operation"], &message["type"]), (&json!("TYPED_MESSAGE"), &json!("EIP712")));
        assert_eq!(
            message["content"]["types"]["EIP712Domain"],
            json!([{"name": "name", "type": "string"}, {"name": "chainId", "type": "uint256"}])
        );
        assert_eq!(message["content"]["primaryType"], "Price");
    }

    #[test]
    fn a_contract_call_has_a_checksummed_target_a_decimal_amount_and_no_nonce() {
        let tx = UnsignedTransaction::Eip1559(TxEip1559 {
            chain_id: 5,
            nonce: 9,
            to: TxKind::Call(address!("70997970C51812dc3A010C7d01b50e0d17dc79C8")),
            value: U256::from(1_500_000_000_000_000_000_u64),
            input: Bytes::from_static(&[0xa9, 5]),
            ..Default::default()
        });
        let call = contract_call("/v1", &place(), "ETH", &tx, "dalp-3", "n");
        assert_eq!(
            body(&call),
            json!({
                "operation": "CONTRACT_CALL",
                "assetId": "ETH",
                "source": {"type": "VAULT_ACCOUNT", "id": "7"},
                "destination": {
                    "type": "ONE_TIME_ADDRESS",
                    "oneTimeAddress": {"address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"},
                },
                "amount": "1.5",
                "note": "n",
                "externalTxId": "dalp-3",
                "extraParameters": {"contractCallData": "0xa905"},
            })
        );
        let creation = UnsignedTransaction::Eip1559(TxEip1559::default());
        let created = body(&contract_call("/v1", &place(), "ETH", &creation, "x", ""));
        assert_eq!(created["destination"]["oneTimeAddress"]["address"], "0x0");
        assert_eq!(created["amount"], "0");
    }

    #[test]
    fn amounts_are_exact() {
        for (wei, text) in [("1", "0.000000000000000001"), ("1000000000000000000", "1"), ("0", "0")] {
            assert_eq!(whole_units(wei.parse().unwrap()), text);
        }
    }

    #[test]
    fn paths_are_what_the_token_signs() {
        assert_eq!(transaction("/v1", "a-b").target, "/v1/transactions/a-b");
        assert_eq!(transaction_by_external_id("/v1", "dalp-1").target, "/v1/transactions/external_tx_id/dalp-1");
        assert_eq!(
            vaults_named("/v1", "dalp:bank:desk", Some("p=2")).target,
            "/v1/vault/accounts_paged?namePrefix=dalp%3Abank%3Adesk&limit=500&after=p%3D2"
        );
        assert_eq!(
            public_key("/v1", &place()).target,
            "/v1/vault/accounts/7/ETH_TEST5/0/0/public_key_info?compressed=false"
        );
        assert_eq!(addresses("/v1", &place()).target, "/v1/vault/accounts/7/ETH_TEST5/addresses_paginated");
        let cancelled = cancel("/v1", "x");
        assert_eq!((cancelled.method, cancelled.target.as_str()), (Method::POST, "/v1/transactions/x/cancel"));
        assert!(cancelled.body.is_empty());
        let made = create_vault("/v1", "dalp:bank:desk", "key");
        assert_eq!(made.headers, [("Idempotency-Key", "key".to_owned())]);
        assert_eq!(
            body(&made),
            json!({"name": "dalp:bank:desk", "hiddenOnUI": false, "autoFuel": false, "customerRefId": "dalp:bank:desk"})
        );
    }
}
