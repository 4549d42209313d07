//! What DFNS answers, as far as it is read, and what it means. Every status is text: lists of literals grow.

use alloy::primitives::B256;
use serde::Deserialize;

use super::super::{
    ProviderError,
    custody::{Report, State},
    http::Answer,
};
use crate::core::signature::RawSignature;

/// A signature request or a broadcast.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The provider's id.
    pub id: String,
    status: Option<String>,
    reason: Option<String>,
    signature: Option<Signature>,
    tx_hash: Option<String>,
    /// The approval that it waits for, or waited for.
    pub approval_id: Option<String>,
    /// Our id.
    pub external_id: Option<String>,
    /// What was asked for.
    pub request_body: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Signature {
    r: Option<String>,
    s: Option<String>,
}

/// An approval.
#[derive(Debug, Deserialize)]
pub struct Approval {
    /// How it stands.
    pub status: Option<String>,
}

/// A key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Hex.
    pub public_key: String,
    /// `Active`, or no longer.
    pub status: Option<String>,
}

/// A wallet.
#[derive(Debug, Deserialize)]
pub struct Wallet {
    /// Its id.
    pub id: String,
    /// As the chain writes it.
    pub address: Option<String>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// Its items.
    #[serde(default = "Vec::new")]
    pub items: Vec<T>,
    /// Set while there is a next one.
    pub next_page_token: Option<String>,
}

/// A challenge.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// To be signed.
    pub challenge: String,
    /// To be sent back.
    pub challenge_identifier: String,
    /// Who may answer it.
    #[serde(default)]
    pub allow_credentials: AllowCredentials,
}

/// Who may answer a challenge.
#[derive(Debug, Default, Deserialize)]
pub struct AllowCredentials {
    /// Key credentials.
    #[serde(default)]
    pub key: Vec<AllowedCredential>,
}

/// One credential.
#[derive(Debug, Deserialize)]
pub struct AllowedCredential {
    /// Its id.
    pub id: String,
}

/// The token of an answered challenge; good for one call.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserAction {
    /// The token.
    pub user_action: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub http: u16,
    /// The provider's words.
    pub message: String,
}

/// Reads an answer of 2xx; anything else is a refusal with its words. `{"error": {"message"}}` and `{"message"}` are both in use.
pub fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<Result<T, Refused>, ProviderError> {
    if (200..300).contains(&answer.status) {
        let read = serde_json::from_slice(&answer.body)
            .map_err(|error| ProviderError::Unavailable(format!("an unreadable answer: {error}")))?;
        return Ok(Ok(read));
    }
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = body["error"]["message"].as_str().or_else(|| body["message"].as_str()).unwrap_or_default().to_owned();
    Ok(Err(Refused { http: answer.status, message }))
}

// === impl Refused ===

impl Refused {
    /// What the refusal of a call comes to.
    #[must_use]
    pub fn error(&self) -> ProviderError {
        let said = format!("HTTP {}: {}", self.http, self.message);
        match self.http {
            401..=403 => ProviderError::Unauthorized(said),
            409 => ProviderError::Blocked(said),
            429 | 500.. => ProviderError::Unavailable(said),
            _ => ProviderError::Failed(said),
        }
    }

    /// Whether a policy refused a new request. The wire form of that is not documented, so the words are looked at.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        self.http == 403 && self.message.to_lowercase().contains("policy")
    }
}

// === impl Request ===

impl Request {
    /// Whether only its approval tells how it ended.
    #[must_use]
    pub fn was_rejected(&self) -> bool {
        self.status.as_deref() == Some("Rejected")
    }

    /// What it means. `approval` is the status of its approval, where it was rejected and has one.
    #[must_use]
    pub fn report(&self, approval: Option<&str>) -> Report {
        let status = self.status.as_deref().unwrap_or_default();
        let mut said = status.to_owned();
        for detail in [approval, self.reason.as_deref()].into_iter().flatten().filter(|detail| !detail.is_empty()) {
            said.push_str(": ");
            said.push_str(detail);
        }
        let tx_hash = self.tx_hash.as_deref().and_then(|hash| hash.parse::<B256>().ok());
        let signature = self.signature.as_ref().and_then(Signature::raw);
        let is_broadcast = self.id.starts_with("tx-");
        let state = match status {
            "Pending" if self.approval_id.is_some() => State::Awaiting,
            "Signed" | "Confirmed" if !is_broadcast => match signature {
                Some(raw) => State::Signed(raw),
                None => State::Failed { again: true },
            },
            "Broadcasted" => State::Broadcast(tx_hash),
            "Confirmed" => State::Confirmed(tx_hash),
            // Of a broadcast it is the chain's last word, so that a further attempt would be a second payment.
            "Failed" => match tx_hash.filter(|_| is_broadcast) {
                Some(hash) => State::Ended(hash),
                None => State::Failed { again: !is_broadcast },
            },
            "Rejected" => match approval {
                Some("Denied") => State::Denied,
                Some("Expired") => State::Expired,
                _ => State::Blocked,
            },
            _ => State::Processing,
        };
        Report { id: Some(self.id.clone()), said, state }
    }

    /// Whether it is what this order, composed by `request`, asks for.
    #[must_use]
    pub fn is_order(&self, ordered: &serde_json::Value) -> bool {
        let asked = self.request_body.as_ref();
        ["kind", "transaction", "hash", "to", "data", "value"].iter().all(|field| {
            let found = asked.and_then(|asked| asked.get(field)).and_then(serde_json::Value::as_str);
            ordered
                .get(field)
                .and_then(serde_json::Value::as_str)
                .is_none_or(|ordered| found.is_some_and(|found| found.eq_ignore_ascii_case(ordered)))
        })
    }
}

impl Signature {
    fn raw(&self) -> Option<RawSignature> {
        let bytes = |text: &Option<String>| hex::decode(text.as_ref()?.trim_start_matches("0x")).ok();
        Some(RawSignature { r: bytes(&self.r)?, s: bytes(&self.s)? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn state(value: Value, approval: Option<&str>) -> State {
        serde_json::from_value::<Request>(value).unwrap().report(approval).state
    }

    /// The master mapping, line by line.
    #[test]
    fn every_status_means_what_the_table_says() {
        let signature = json!({"r": "0x01", "s": "0x02", "recid": 0});
        let raw = RawSignature { r: vec![1], s: vec![2] };
        let hash = B256::repeat_byte(7);
        let of = |id: &str, status: &str| json!({"id": id, "status": status});
        let with = |mut value: Value, key: &str, field: Value| {
            value[key] = field;
            value
        };
        let approval = json!("ap-1");
        assert_eq!(state(with(of("sig-1", "Pending"), "approvalId", approval.clone()), None), State::Awaiting);
        assert_eq!(state(of("sig-1", "Pending"), None), State::Processing);
        assert_eq!(state(of("sig-1", "Executing"), None), State::Processing);
        assert_eq!(state(with(of("sig-1", "Signed"), "signature", signature), None), State::Signed(raw));
        assert_eq!(state(of("sig-1", "Signed"), None), State::Failed { again: true }, "without what it says it has");
        assert_eq!(state(of("sig-1", "Failed"), None), State::Failed { again: true });
        assert_eq!(state(of("tx-1", "Failed"), None), State::Failed { again: false });
        let reverted = with(of("tx-1", "Failed"), "txHash", json!(hash.to_string()));
        assert_eq!(state(reverted, None), State::Ended(hash), "the chain says how");
        let sent = with(of("tx-1", "Broadcasted"), "txHash", json!(hash.to_string()));
        assert_eq!(state(sent, None), State::Broadcast(Some(hash)));
        let confirmed = with(of("tx-1", "Confirmed"), "txHash", json!(hash.to_string()));
        assert_eq!(state(confirmed, None), State::Confirmed(Some(hash)));
        let rejected = with(of("sig-1", "Rejected"), "approvalId", approval);
        assert_eq!(state(rejected.clone(), Some("Denied")), State::Denied);
        assert_eq!(state(rejected, Some("Expired")), State::Expired);
        assert_eq!(state(of("sig-1", "Rejected"), None), State::Blocked);
        assert_eq!(state(of("sig-1", "Pondering"), None), State::Processing, "unknown words are no end");
    }

    #[test]
    fn refusals_keep_their_words() {
        let refused = |status, body: Value| {
            let answer = Answer { status, body: body.to_string().into_bytes() };
            read::<Request>(&answer).unwrap().unwrap_err()
        };
        let policy = refused(403, json!({"error": {"message": "Blocked by Policy pl-1"}}));
        assert!(policy.is_policy());
        let permission = refused(403, json!({"error": {"message": "Missing permission"}}));
        assert!(!permission.is_policy());
        assert!(matches!(permission.error(), ProviderError::Unauthorized(_)));
        assert_eq!(
            refused(400, json!({"message": "bad hash"})).error(),
            ProviderError::Failed("HTTP 400: bad hash".to_owned())
        );
        assert!(matches!(refused(409, json!({})).error(), ProviderError::Blocked(_)));
        assert!(matches!(refused(429, json!({})).error(), ProviderError::Unavailable(_)));
    }

    #[test]
    fn an_orphan_is_taken_back_only_if_it_is_the_order() {
        let found: Request =
            serde_json::from_value(json!({"id": "sig-1", "requestBody": {"kind": "Hash", "hash": "0xAB"}})).unwrap();
        assert!(found.is_order(&json!({"kind": "Hash", "hash": "0xab"})));
        assert!(!found.is_order(&json!({"kind": "Hash", "hash": "0xac"})));
        assert!(!found.is_order(&json!({"kind": "Transaction", "transaction": "0xab"})));
    }
}
