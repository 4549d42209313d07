//! What Fireblocks answers, as far as it is read. Every status is text: lists of literals grow.

use alloy::primitives::B256;
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{
        ProviderError,
        custody::{Report, State},
        http::Answer,
    },
    status::{Meaning, meaning},
};
use crate::core::signature::RawSignature;

/// The external id was used before, whatever became of that request.
pub const EXTERNAL_ID_USED: i64 = 1438;

/// A transaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// The platform's id.
    pub id: String,
    status: Option<String>,
    sub_status: Option<String>,
    operation: Option<String>,
    tx_hash: Option<String>,
    error_description: Option<String>,
    source: Option<Source>,
    extra_parameters: Option<Value>,
    #[serde(default)]
    signed_messages: Option<Vec<SignedMessage>>,
}

#[derive(Debug, Deserialize)]
struct Source {
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SignedMessage {
    signature: Option<Signature>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature {
    full_sig: Option<String>,
    r: Option<String>,
    s: Option<String>,
}

/// A vault account.
#[derive(Debug, Deserialize)]
pub struct Vault {
    /// Its id, a number in text.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its wallets.
    #[serde(default)]
    pub assets: Vec<Asset>,
}

/// A wallet of a vault account.
#[derive(Debug, Deserialize)]
pub struct Asset {
    /// Asset id.
    pub id: String,
}

/// A page of vault accounts.
#[derive(Debug, Deserialize)]
pub struct Vaults {
    /// The accounts.
    #[serde(default)]
    pub accounts: Vec<Vault>,
    /// Where the next page is.
    #[serde(default)]
    pub paging: Paging,
}

/// Where the next page is.
#[derive(Debug, Default, Deserialize)]
pub struct Paging {
    /// Set while there is one.
    pub after: Option<String>,
}

/// The public key of a wallet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicKeyInfo {
    /// Hex, without prefix.
    pub public_key: String,
}

/// Addresses of a wallet.
#[derive(Debug, Deserialize)]
pub struct Addresses {
    /// The first is the one of index 0.
    #[serde(default)]
    pub addresses: Vec<AddressEntry>,
}

/// One address.
#[derive(Debug, Deserialize)]
pub struct AddressEntry {
    /// As the chain writes it.
    pub address: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub http: u16,
    /// The platform's own number.
    pub code: Option<i64>,
    /// Its words.
    pub message: String,
}

/// Reads an answer of 2xx; anything else is a refusal with its number and words.
pub fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<Result<T, Refused>, ProviderError> {
    if (200..300).contains(&answer.status) {
        let read = serde_json::from_slice(&answer.body)
            .map_err(|error| ProviderError::Unavailable(format!("an unreadable answer: {error}")))?;
        return Ok(Ok(read));
    }
    #[derive(Deserialize)]
    struct Body {
        message: Option<String>,
        code: Option<i64>,
    }
    let body: Option<Body> = serde_json::from_slice(&answer.body).ok();
    let (message, code) = body.map_or((None, None), |body| (body.message, body.code));
    Ok(Err(Refused { http: answer.status, code, message: message.unwrap_or_default() }))
}

// === impl Refused ===

impl Refused {
    /// What the refusal of a call comes to. Number and words stay: an operator who reads only "400" cannot help.
    #[must_use]
    pub fn error(&self) -> ProviderError {
        let code = self.code.map(|code| format!(" code {code}")).unwrap_or_default();
        let said = format!("HTTP {}{code}: {}", self.http, self.message);
        match (self.http, self.code) {
            (401, Some(-10 | -12)) => ProviderError::ClockSkewed(said),
            (401 | 403, _) => ProviderError::Unauthorized(said),
            (429 | 500.., _) => ProviderError::Unavailable(said),
            _ => ProviderError::Failed(said),
        }
    }
}

// === impl Transaction ===

impl Transaction {
    /// What it means.
    #[must_use]
    pub fn report(self) -> Report {
        let (status, sub_status) = (self.status.unwrap_or_default(), self.sub_status.unwrap_or_default());
        let mut said = status.clone();
        for detail in [&sub_status, &self.error_description.unwrap_or_default()] {
            if !detail.is_empty() {
                said.push_str(": ");
                said.push_str(detail);
            }
        }
        let signs = matches!(self.operation.as_deref(), Some("RAW" | "TYPED_MESSAGE"));
        let tx_hash = self.tx_hash.as_deref().and_then(|hash| hash.parse::<B256>().ok());
        let signature = self.signed_messages.unwrap_or_default().into_iter().find_map(|message| message.signature);
        let state = match (meaning(&status, &sub_status), signs, tx_hash) {
            (Meaning::Completed, true, _) => match signature.and_then(|signature| signature.raw()) {
                Some(raw) => State::Signed(raw),
                None => Meaning::Completed.state(),
            },
            (Meaning::Completed, false, _) => State::Confirmed(tx_hash),
            (Meaning::Broadcast, _, _) => State::Broadcast(tx_hash),
            // What has a hash was sent: it is the chain that says how it ended, and a further attempt would be a second payment.
            (Meaning::Failed { .. } | Meaning::Expired | Meaning::Denied | Meaning::Blocked, false, Some(hash)) => {
                State::Ended(hash)
            }
            // Nor is one made where the platform failed without telling a hash: it may have sent it before it did.
            (Meaning::Failed { .. }, false, None) => State::Failed { again: false },
            (meaning, _, _) => meaning.state(),
        };
        Report { id: Some(self.id), said, state }
    }

    /// Whether it is what this order, composed by `request`, asks for. A document is not compared, for the platform may write it in
    /// another way; its signature is checked against our own digest.
    #[must_use]
    pub fn is_order(&self, ordered: &Value, vault: &str) -> bool {
        const CONTENT: [&str; 2] = ["/rawMessageData/messages/0/content", "/contractCallData"];
        let same = |pointer: &str| {
            let ordered = ordered["extraParameters"].pointer(pointer).and_then(Value::as_str);
            let found = self.extra_parameters.as_ref().and_then(|extra| extra.pointer(pointer)).and_then(Value::as_str);
            match (ordered, found) {
                (Some(ordered), Some(found)) => ordered.eq_ignore_ascii_case(found),
                (ordered, _) => ordered.is_none(),
            }
        };
        self.operation.as_deref() == ordered["operation"].as_str()
            && self.source.as_ref().and_then(|source| source.id.as_deref()) == Some(vault)
            && CONTENT.iter().all(|pointer| same(pointer))
    }
}

impl Signature {
    fn raw(&self) -> Option<RawSignature> {
        let bytes = |text: &Option<String>| text.as_ref().and_then(|text| hex::decode(text).ok());
        match (bytes(&self.r), bytes(&self.s), bytes(&self.full_sig)) {
            (Some(r), Some(s), _) => Some(RawSignature { r, s }),
            (_, _, Some(both)) => RawSignature::from_concatenated(&both).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(value: Value) -> Report {
        serde_json::from_value::<Transaction>(value).unwrap().report()
    }

    #[test]
    fn a_completed_raw_request_is_a_signature_and_a_completed_call_is_in_a_block() {
        let signed = json!({
            "id": "t", "status": "COMPLETED", "operation": "RAW", "subStatus": "CONFIRMED",
            "signedMessages": [{"signature": {"fullSig": "01020304", "r": "0102", "s": "0304", "v": 1}}],
        });
        let raw = RawSignature { r: vec![1, 2], s: vec![3, 4] };
        assert_eq!(report(signed.clone()).state, State::Signed(raw.clone()));
        let mut concatenated = signed.clone();
        concatenated["signedMessages"][0]["signature"] = json!({"fullSig": "01020304"});
        assert_eq!(report(concatenated).state, State::Signed(raw));
        let mut empty = signed;
        empty["signedMessages"] = Value::Null;
        assert_eq!(report(empty).state, State::Failed { again: true });

        let hash = B256::repeat_byte(7);
        let call = json!({"id": "t", "status": "COMPLETED", "operation": "CONTRACT_CALL", "txHash": hash.to_string()});
        assert_eq!(report(call).state, State::Confirmed(Some(hash)));
        let failed = json!({
            "id": "t", "status": "FAILED", "subStatus": "INTERNAL_ERROR", "operation": "CONTRACT_CALL",
            "txHash": hash.to_string(),
        });
        assert_eq!(report(failed).state, State::Ended(hash), "sent once is sent");
        let untold =
            json!({"id": "t", "status": "FAILED", "subStatus": "INTERNAL_ERROR", "operation": "CONTRACT_CALL"});
        assert_eq!(report(untold).state, State::Failed { again: false }, "it may have been sent");
    }

    #[test]
    fn an_orphan_is_taken_back_only_if_it_is_the_order() {
        let order = |content: &str, vault: &str| json!({"operation": "RAW", "source": {"id": vault}, "extraParameters": {"rawMessageData": {"messages": [{"content": content}]}}});
        let mut found = order("AB", "1");
        found["id"] = json!("t");
        let found: Transaction = serde_json::from_value(found).unwrap();
        assert!(found.is_order(&order("ab", "1"), "1"));
        assert!(!found.is_order(&order("ac", "1"), "1"), "another digest");
        assert!(!found.is_order(&order("ab", "2"), "2"), "another key");
        let mut call = order("ab", "1");
        call["operation"] = json!("CONTRACT_CALL");
        assert!(!found.is_order(&call, "1"), "another operation");
    }

    /// Named regression: operators saw only "400".
    #[test]
    fn error_without_its_body() {
        let refused = |status, body: &str| {
            let answer = Answer { status, body: body.as_bytes().to_vec() };
            read::<Transaction>(&answer).unwrap().unwrap_err().error()
        };
        let known = refused(400, r#"{"message": "the amount is wrong", "code": 1400}"#);
        assert_eq!(known, ProviderError::Failed("HTTP 400 code 1400: the amount is wrong".to_owned()));
        assert!(matches!(refused(401, r#"{"message": "x", "code": -1}"#), ProviderError::Unauthorized(_)));
        assert!(matches!(refused(401, r#"{"message": "x", "code": -12}"#), ProviderError::ClockSkewed(_)));
        assert!(matches!(refused(429, ""), ProviderError::Unavailable(_)));
        assert!(matches!(refused(503, "<html>"), ProviderError::Unavailable(_)));
    }
}
