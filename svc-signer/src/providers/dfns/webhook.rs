//! Events of DFNS: an HMAC over the very bytes of the body, by a secret that each webhook has.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use time::OffsetDateTime;

use crate::providers::hook::{Delivery, Event, Hook, HookError, Named, bounded, timely};

const HEADER: &str = "x-dfns-webhook-signature";
/// What an event may be about, as its data and the activity of an approval name it.
const REQUESTS: [&str; 3] = ["signatureRequest", "transactionRequest", "transferRequest"];
/// Kinds of events that tell of a request, by how they begin.
const KINDS: [&str; 5] =
    ["wallet.signature.", "wallet.transaction.", "wallet.transfer.", "policy.approval.", "policy.triggered"];

/// Verifies them.
pub struct Webhook {
    /// One, and during a rotation the next one too.
    secrets: Vec<SecretString>,
    tolerance: Duration,
}

/// An event as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    id: String,
    kind: String,
    /// Unix seconds of this delivery; a repeat of an undelivered one has another id and another time.
    timestamp_sent: i64,
    #[serde(default)]
    data: Value,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Webhook").field("tolerance", &self.tolerance).finish_non_exhaustive()
    }
}

// === impl Webhook ===

impl Webhook {
    /// With the secrets of the webhook, any of which may have signed.
    #[must_use]
    pub fn new(secrets: Vec<SecretString>, tolerance: Duration) -> Self {
        Self { secrets, tolerance }
    }

    fn is_signed(&self, delivery: &Delivery<'_>) -> Result<(), HookError> {
        const WRONG: HookError = HookError::Unverified("its signature does not hold");
        let given = delivery.only(HEADER)?;
        let given = given.strip_prefix("sha256=").and_then(|text| hex::decode(text).ok()).ok_or(WRONG)?;
        // Every secret is tried, so that the time tells nothing of which one held.
        let held = self.secrets.iter().fold(false, |held, secret| {
            let mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes());
            // A key of any length is one.
            held | mac.is_ok_and(|mac| mac.chain_update(delivery.body).verify_slice(&given).is_ok())
        });
        if held { Ok(()) } else { Err(WRONG) }
    }
}

#[async_trait]
impl Hook for Webhook {
    async fn verify(&self, delivery: &Delivery<'_>, now: OffsetDateTime) -> Result<Option<Event>, HookError> {
        self.is_signed(delivery)?;
        let Ok(body) = serde_json::from_slice::<Body>(delivery.body) else { return Ok(None) };
        let Ok(at) = OffsetDateTime::from_unix_timestamp(body.timestamp_sent) else { return Ok(None) };
        timely(at, now, self.tolerance, self.tolerance)?;
        let known = KINDS.iter().any(|kind| body.kind.starts_with(kind));
        let names = if known { bounded(names(&body.data)) } else { Vec::new() };
        Ok(Some(Event { id: body.id, kind: body.kind, at, names }))
    }

    fn kept_until(&self, event: &Event) -> OffsetDateTime {
        // Twice: the clocks of replicas and of the database differ, too.
        event.at + self.tolerance * 2
    }
}

fn names(data: &Value) -> impl Iterator<Item = Named> {
    let places = [data, &data["approval"]["activity"]];
    let requests = places.into_iter().flat_map(|place| REQUESTS.iter().map(move |request| &place[*request]));
    requests.flat_map(|request| {
        let text = |field: &str| request[field].as_str().map(str::to_owned);
        [text("externalId").map(Named::External), text("id").map(Named::Id)].into_iter().flatten()
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW_S: i64 = 1_700_000_000;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(NOW_S).unwrap()
    }

    fn signed(secret: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
        let text = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        vec![(HEADER.to_owned(), text.into_bytes())]
    }

    fn webhook() -> Webhook {
        Webhook::new(vec!["old".to_owned().into(), "new".to_owned().into()], Duration::from_secs(300))
    }

    async fn verified(headers: &[(String, Vec<u8>)], body: &[u8]) -> Result<Option<Event>, HookError> {
        webhook().verify(&Delivery { headers, body }, now()).await
    }

    fn event(kind: &str, sent_s: i64) -> Vec<u8> {
        let data = json!({"signatureRequest": {"id": "sig-1", "externalId": "dalp-1", "status": "Signed"}});
        json!({"id": "whe-1", "kind": kind, "data": data, "timestampSent": sent_s, "deliveryAttempt": 1})
            .to_string()
            .into_bytes()
    }

    #[tokio::test]
    async fn either_secret_signs_the_very_bytes() {
        // RFC 4231, test case 2, through the same header.
        let vector = b"what do ya want for nothing?";
        let known = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let jefe = Webhook::new(vec!["Jefe".to_owned().into()], Duration::from_secs(300));
        let headers = vec![(HEADER.to_owned(), known.as_bytes().to_vec())];
        assert_eq!(jefe.is_signed(&Delivery { headers: &headers, body: vector }), Ok(()));

        let body = event("wallet.signature.signed", NOW_S);
        for secret in ["old", "new"] {
            let event = verified(&signed(secret, &body), &body).await.unwrap().unwrap();
            assert_eq!(event.id, "whe-1");
            assert_eq!(event.names, [Named::External("dalp-1".to_owned()), Named::Id("sig-1".to_owned())]);
        }
        let mut other = body.clone();
        other.push(b' ');
        for (headers, body) in [
            (signed("another", &body), &body),
            (signed("new", &body), &other),
            (vec![(HEADER.to_owned(), b"sha256=".to_vec())], &body),
            (vec![(HEADER.to_owned(), b"sha256=zz".to_vec())], &body),
            (vec![(HEADER.to_owned(), hex::encode([0; 32]).into_bytes())], &body),
            (vec![], &body),
        ] {
            assert!(matches!(verified(&headers, body).await, Err(HookError::Unverified(_))), "{headers:?}");
        }
    }

    #[tokio::test]
    async fn a_delivery_is_of_now() {
        for (sent_s, stale) in [(NOW_S - 300, false), (NOW_S - 301, true), (NOW_S + 300, false), (NOW_S + 301, true)] {
            let body = event("wallet.signature.signed", sent_s);
            let verified = verified(&signed("new", &body), &body).await;
            assert_eq!(matches!(verified, Err(HookError::Stale { .. })), stale, "{sent_s}: {verified:?}");
        }
    }

    #[tokio::test]
    async fn approvals_name_their_request_and_odd_events_nothing() {
        let approval = json!({"id": "ap-1", "activity": {"kind": "Wallets:Sign", "signatureRequest": {"id": "sig-2"}}});
        let body = json!({"id": "whe-2", "kind": "policy.approval.resolved", "timestampSent": NOW_S, "data": {"approval": approval}});
        let body = body.to_string().into_bytes();
        let event_of = verified(&signed("new", &body), &body).await.unwrap().unwrap();
        assert_eq!(event_of.names, [Named::Id("sig-2".to_owned())]);

        let body = event("wallet.created", NOW_S);
        assert!(verified(&signed("new", &body), &body).await.unwrap().unwrap().names.is_empty());
        for odd in ["", "[]", "{}", r#"{"id":1}"#, r#"{"id":"e","kind":"k","timestampSent":"soon"}"#] {
            assert_eq!(verified(&signed("new", odd.as_bytes()), odd.as_bytes()).await, Ok(None), "{odd}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        assert!(!format!("{:?}", webhook()).contains("old"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_an_event_unless_signed(header in proptest::collection::vec(any::<u8>(), 0..90), body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let verified = verified(&[(HEADER.to_owned(), header)], &body).now_or_never().expect("nobody is asked");
            prop_assert!(verified.is_err());
        }

        #[test]
        fn nothing_signed_brings_it_down(kind in "\\PC{0,20}", sent_s in any::<i64>(), name in "\\PC{0,300}", raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let data = json!({"signatureRequest": {"externalId": name, "id": [name]}, "approval": {"activity": name}});
            let meant = json!({"id": name, "kind": kind, "data": data, "timestampSent": sent_s}).to_string().into_bytes();
            for body in [meant, raw] {
                let verified = verified(&signed("new", &body), &body).now_or_never().expect("nobody is asked");
                if let Ok(Some(event)) = verified {
                    prop_assert!(webhook().kept_until(&event) > now());
                }
            }
        }
    }
}
