//! Events of Fireblocks (webhooks v2): a detached JWS over the very bytes of the body, by a key that the platform publishes.
//!
//! The keys are the platform's, not the workspace's: every customer's events hold under them. An event of another workspace can name nothing of ours but by
//! an id it has guessed, and then wakes a look that finds nothing; with `workspace_id` it is refused.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::jwks::{ALGORITHM, Keys};
use crate::providers::hook::{Delivery, Event, Hook, HookError, Named, bounded, timely};

const HEADER: &str = "fireblocks-webhook-signature";
/// Kinds of events that tell of a request, by how they begin.
const KINDS: &str = "transaction.";
/// How far the platform's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(300);

/// Verifies them.
pub struct Webhook {
    keys: Keys,
    workspace: Option<String>,
    /// An event keeps the time at which it was made through all its deliveries.
    oldest: Duration,
}

/// What a signature says of itself.
#[derive(Deserialize)]
struct Protected {
    alg: String,
    kid: String,
    #[serde(default)]
    crit: Value,
    #[serde(default)]
    b64: Value,
}

/// An event as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    id: String,
    event_type: String,
    created_at: Value,
    #[serde(default)]
    resource_id: Option<String>,
    #[serde(default)]
    workspace_id: Option<String>,
    #[serde(default)]
    data: Value,
}

// === impl Webhook ===

impl Webhook {
    /// With the keys; `workspace`: events of others are refused.
    #[must_use]
    pub fn new(keys: Keys, workspace: Option<String>, oldest: Duration) -> Self {
        Self { keys, workspace, oldest }
    }

    async fn is_signed(&self, delivery: &Delivery<'_>) -> Result<(), HookError> {
        const NONE: HookError = HookError::Unverified("its signature is no detached JWS");
        let given = delivery.only(HEADER)?;
        let mut parts = given.split('.');
        let (Some(protected), Some(""), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NONE);
        };
        let head = URL_SAFE_NO_PAD.decode(protected).map_err(|_| NONE)?;
        let head: Protected = serde_json::from_slice(&head).map_err(|_| NONE)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| NONE)?;
        if head.alg != ALGORITHM {
            return Err(HookError::Unverified("its signature is not made with RS512"));
        }
        // What we would have to understand, or would compute otherwise.
        if !head.crit.is_null() || !matches!(head.b64, Value::Null | Value::Bool(true)) {
            return Err(NONE);
        }
        let key = self.keys.get(&head.kid).await?;
        let key = key.ok_or(HookError::Unverified("its key is not one of the platform's"))?;
        let message = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(delivery.body));
        match key.has_signed(message.as_bytes(), &signature) {
            true => Ok(()),
            false => Err(HookError::Unverified("its signature does not hold")),
        }
    }
}

#[async_trait]
impl Hook for Webhook {
    async fn verify(&self, delivery: &Delivery<'_>, now: OffsetDateTime) -> Result<Option<Event>, HookError> {
        self.is_signed(delivery).await?;
        let Ok(body) = serde_json::from_slice::<Body>(delivery.body) else { return Ok(None) };
        if self.workspace.is_some() && self.workspace != body.workspace_id {
            return Err(HookError::Unverified("it is of another workspace"));
        }
        let Some(at) = moment(&body.created_at) else { return Ok(None) };
        timely(at, now, self.oldest, AHEAD)?;
        let names = if body.event_type.starts_with(KINDS) { names(&body) } else { Vec::new() };
        Ok(Some(Event { id: body.id, kind: body.event_type, at, names }))
    }

    fn kept_until(&self, event: &Event) -> OffsetDateTime {
        event.at + self.oldest + AHEAD * 2
    }
}

/// Milliseconds since 1970 as the documentation has them, or a text of the standard form.
fn moment(value: &Value) -> Option<OffsetDateTime> {
    match value {
        Value::String(text) => OffsetDateTime::parse(text, &Rfc3339).ok(),
        value => OffsetDateTime::from_unix_timestamp_nanos(i128::from(value.as_i64()?) * 1_000_000).ok(),
    }
}

fn names(body: &Body) -> Vec<Named> {
    let text = |field: &str| body.data[field].as_str().map(str::to_owned);
    let names =
        [text("externalTxId").map(Named::External), text("id").map(Named::Id), body.resource_id.clone().map(Named::Id)];
    bounded(names.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::{KeyPair, KeySize},
        signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding},
    };
    use futures::FutureExt as _;
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::jwks::KeySet, *};

    const NOW_S: i64 = 1_700_000_000;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(NOW_S).unwrap()
    }

    fn key(name: &'static str) -> &'static KeyPair {
        static KEYS: OnceLock<[KeyPair; 2]> = OnceLock::new();
        let keys = KEYS.get_or_init(|| [(); 2].map(|()| KeyPair::generate(KeySize::Rsa2048).unwrap()));
        &keys[usize::from(name != "platform")]
    }

    fn webhook() -> Webhook {
        // DER of 2048 bits: a sequence of the modulus with a leading zero, and of 65537.
        let der = key("platform").public_key().as_ref();
        let (n, e) = (&der[9..9 + 256], &der[der.len() - 3..]);
        assert_eq!((der.len(), e), (270, [1, 0, 1].as_slice()));
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let document = json!({"keys": [
            {"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS512", "n": part(n), "e": part(e)},
        ]});
        let keys = Keys::Pinned(KeySet::read(document.to_string().as_bytes()).unwrap());
        Webhook::new(keys, Some("ws".to_owned()), Duration::from_secs(86_400))
    }

    fn jws(head: &Value, by: &'static str, encoding: &'static dyn RsaEncoding, body: &[u8]) -> String {
        let protected = URL_SAFE_NO_PAD.encode(head.to_string());
        let message = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(body));
        let mut signature = vec![0; key(by).public_modulus_len()];
        key(by).sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{protected}..{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signed(body: &[u8]) -> String {
        jws(&json!({"alg": "RS512", "kid": "k1"}), "platform", &RSA_PKCS1_SHA512, body)
    }

    async fn verified(signature: &str, body: &[u8]) -> Result<Option<Event>, HookError> {
        let headers = vec![(HEADER.to_owned(), signature.as_bytes().to_vec())];
        webhook().verify(&Delivery { headers: &headers, body }, now()).await
    }

    fn event(kind: &str, created: Value) -> Vec<u8> {
        json!({"id": "ev-1", "eventType": kind, "eventVersion": 1, "resourceId": "tx-1", "workspaceId": "ws", "createdAt": created,
            "data": {"id": "tx-1", "externalTxId": "dalp-1", "status": "COMPLETED"}})
        .to_string()
        .into_bytes()
    }

    #[tokio::test]
    async fn only_the_platforms_key_signs_the_very_bytes() {
        let body = event("transaction.status.updated", json!(NOW_S * 1000));
        let event = verified(&signed(&body), &body).await.unwrap().unwrap();
        let id = || Named::Id("tx-1".to_owned());
        assert_eq!((event.id.as_str(), event.names), ("ev-1", vec![Named::External("dalp-1".to_owned()), id(), id()]));

        let head = json!({"alg": "RS512", "kid": "k1"});
        let mut other = body.clone();
        other.push(b' ');
        let good = signed(&body);
        for (what, signature, body) in [
            ("another key", jws(&head, "stranger", &RSA_PKCS1_SHA512, &body), &body),
            ("an unknown kid", jws(&json!({"alg": "RS512", "kid": "k2"}), "platform", &RSA_PKCS1_SHA512, &body), &body),
            (
                "another algorithm",
                jws(&json!({"alg": "RS256", "kid": "k1"}), "platform", &RSA_PKCS1_SHA256, &body),
                &body,
            ),
            ("an algorithm it does not have", jws(&head, "platform", &RSA_PKCS1_SHA256, &body), &body),
            ("no algorithm", jws(&json!({"alg": "none", "kid": "k1"}), "platform", &RSA_PKCS1_SHA512, &body), &body),
            ("no key id", jws(&json!({"alg": "RS512"}), "platform", &RSA_PKCS1_SHA512, &body), &body),
            (
                "something critical",
                jws(
                    &json!({"alg": "RS512", "kid": "k1", "crit": ["b64"], "b64": false}),
                    "platform",
                    &RSA_PKCS1_SHA512,
                    &body,
                ),
                &body,
            ),
            ("another body", good.clone(), &other),
            ("an attached payload", good.replace("..", &format!(".{}.", URL_SAFE_NO_PAD.encode(&body))), &body),
            ("nothing", String::new(), &body),
            ("dots", "...".to_owned(), &body),
            ("a cut signature", good[..good.len() - 8].to_owned(), &body),
        ] {
            assert!(matches!(verified(&signature, body).await, Err(HookError::Unverified(_))), "{what}");
        }
    }

    #[tokio::test]
    async fn times_workspaces_and_kinds_are_looked_at() {
        for (created, stale) in [
            (json!(NOW_S * 1000 - 86_400_000), false),
            (json!(NOW_S * 1000 - 86_401_000), true),
            (json!(NOW_S * 1000 + 300_000), false),
            (json!(NOW_S * 1000 + 301_000), true),
            (json!("2023-11-14T22:13:20Z"), false),
        ] {
            let body = event("transaction.created", created.clone());
            let verified = verified(&signed(&body), &body).await;
            assert_eq!(matches!(verified, Err(HookError::Stale { .. })), stale, "{created}: {verified:?}");
        }
        let body = event("vault_account.created", json!(NOW_S * 1000));
        assert!(verified(&signed(&body), &body).await.unwrap().unwrap().names.is_empty());
        let body = String::from_utf8(event("transaction.created", json!(NOW_S * 1000))).unwrap();
        let foreign = body.replace("\"ws\"", "\"theirs\"").into_bytes();
        assert!(matches!(verified(&signed(&foreign), &foreign).await, Err(HookError::Unverified(_))));
        for odd in ["", "[]", "{}", r#"{"id":"e","eventType":"k","createdAt":{}}"#] {
            let verified = verified(&signed(odd.as_bytes()), odd.as_bytes()).await;
            assert!(matches!(verified, Ok(None) | Err(HookError::Unverified("it is of another workspace"))), "{odd}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_is_a_signature(header in "\\PC{0,90}", head in "\\PC{0,60}", body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for header in [header.clone(), format!("{}..{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(header))] {
                prop_assert!(verified(&header, &body).now_or_never().expect("nobody is asked").is_err());
            }
        }

        #[test]
        fn nothing_signed_brings_it_down(kind in "\\PC{0,20}", at_ms in any::<i64>(), name in "\\PC{0,300}", raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let meant = json!({"id": name, "eventType": kind, "createdAt": at_ms, "workspaceId": "ws", "resourceId": name, "data": {"id": [name], "externalTxId": name}});
            for body in [meant.to_string().into_bytes(), raw] {
                let verified = verified(&signed(&body), &body).now_or_never().expect("nobody is asked");
                if let Ok(Some(event)) = verified {
                    prop_assert!(webhook().kept_until(&event) > now());
                }
            }
        }
    }
}
