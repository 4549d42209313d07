//! Events of the platform (webhooks v2), each a detached JWS by a key that it publishes.

use std::sync::OnceLock;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA512, RsaEncoding},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Shared, book::Book};
use crate::hooks::{Letter, now_ms};

/// The header with the signature.
pub const SIGNATURE: &str = "fireblocks-webhook-signature";
/// Where the keys are.
pub const JWKS: &str = "/.well-known/jwks.json";
/// The id of the key.
pub const KEY_ID: &str = "webhook-key-1";
/// The workspace whose events are sent.
pub const WORKSPACE: &str = "9f1d0d5c-6a0b-4d57-9f3c-3a4f2a6b7c8d";

/// The keys that sign events, as they are published.
#[must_use]
pub fn published() -> Value {
    let Some(key) = key() else { return json!({"keys": []}) };
    let Some([n, e]) = numbers(key.public_key().as_ref()) else { return json!({"keys": []}) };
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({"keys": [{"kty": "RSA", "kid": KEY_ID, "use": "sig", "alg": "RS512", "n": part(n), "e": part(e)}]})
}

/// Modulus and exponent of an RSA public key in DER (PKCS#1), without leading zeros.
fn numbers(der: &[u8]) -> Option<[&[u8]; 2]> {
    /// A value with its tag, and what comes after it.
    fn value(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
        let (&[tag, short], rest) = der.split_first_chunk::<2>()?;
        let (length, rest) = match short {
            0..0x80 => (usize::from(short), rest),
            long => {
                let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
        };
        let (value, rest) = rest.split_at_checked(length)?;
        (tag == wanted).then_some((value, rest))
    }
    let (numbers, _) = value(der, 0x30)?;
    let (n, rest) = value(numbers, 2)?;
    let (e, _) = value(rest, 2)?;
    Some([n.strip_prefix(&[0]).unwrap_or(n), e.strip_prefix(&[0]).unwrap_or(e)])
}

/// Signs a body under this key id, as the platform does; and in the old manner, as it does until everybody has changed.
#[must_use]
pub fn signed(key_id: &str, body: Vec<u8>) -> Letter {
    let protected = URL_SAFE_NO_PAD.encode(json!({"alg": "RS512", "kid": key_id}).to_string());
    let message = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(&body));
    let detached = format!("{protected}..{}", URL_SAFE_NO_PAD.encode(signature(message.as_bytes())));
    let old = STANDARD.encode(signature(&body));
    Letter { headers: vec![(SIGNATURE.to_owned(), detached), ("fireblocks-signature".to_owned(), old)], body }
}

/// An event of now.
#[must_use]
pub fn event(kind: &str, resource: &str, data: &Value) -> Value {
    json!({
        "id": Uuid::new_v4(), "eventType": kind, "eventVersion": 1, "resourceId": resource, "workspaceId": WORKSPACE,
        "createdAt": now_ms(), "data": data,
    })
}

fn signature(message: &[u8]) -> Vec<u8> {
    let Some(key) = key() else { return Vec::new() };
    let encoding: &'static dyn RsaEncoding = &RSA_PKCS1_SHA512;
    let mut signature = vec![0; key.public_modulus_len()];
    match key.sign(encoding, &SystemRandom::new(), message, &mut signature) {
        Ok(()) => signature,
        Err(_) => Vec::new(),
    }
}

/// One for the process: making one takes longer than a test.
fn key() -> Option<&'static KeyPair> {
    static KEY: OnceLock<Option<KeyPair>> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).ok()).as_ref()
}

// === impl Shared ===

impl Shared {
    /// Tells what has changed since it was last told.
    pub(super) fn tell(&self, book: &Book) {
        if !self.hooks.is_on() {
            return;
        }
        for (at, transaction) in book.transactions.iter().enumerate() {
            let stands = format!("{} {}", transaction.status, transaction.approvals);
            if self.hooks.is_news(&transaction.id, &stands) {
                let kind = match (transaction.status.as_str(), transaction.approvals) {
                    ("SUBMITTED", _) => "transaction.created",
                    ("PENDING_AUTHORIZATION", 1..) => "transaction.approval_status.updated",
                    _ => "transaction.status.updated",
                };
                let event = event(kind, &transaction.id, &book.shown(at));
                self.hooks.send(signed(KEY_ID, event.to_string().into_bytes()));
            }
        }
    }

    /// With somebody to tell, time passes for transactions by itself.
    pub(super) async fn run_on(&self, book: &mut Book) {
        if !self.hooks.is_on() {
            return;
        }
        // More steps than the longest walk has.
        for _ in 0..8 {
            self.tell(book);
            for at in 0..book.transactions.len() {
                book.advance(at, self.chain.as_ref()).await;
            }
        }
        self.tell(book);
    }
}
