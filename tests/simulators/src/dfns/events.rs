//! Events of the organisation, signed with the secret of its webhook.

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    Shared,
    book::{Book, Work, fresh},
};
use crate::hooks::{Letter, now_ms};

/// The header with the signature.
pub const SIGNATURE: &str = "x-dfns-webhook-signature";

/// Signs a body with a secret, as the service does.
#[must_use]
pub fn signed(secret: &str, body: Vec<u8>) -> Letter {
    // A key of any length is one.
    let tag = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map(|mac| mac.chain_update(&body).finalize().into_bytes())
        .unwrap_or_default();
    Letter { headers: vec![(SIGNATURE.to_owned(), format!("sha256={}", hex::encode(tag)))], body }
}

/// An event of now.
#[must_use]
pub fn event(kind: &str, data: &Value) -> Value {
    json!({
        "id": fresh("whe"), "kind": kind, "date": "2026-01-01T00:00:00.000Z", "data": data, "status": "Pending",
        "timestampSent": now_ms() / 1000, "deliveryAttempt": 1,
    })
}

// === impl Shared ===

impl Shared {
    /// Tells what has changed since it was last told.
    pub(super) fn tell(&self, book: &Book) {
        if !self.hooks.is_on() {
            return;
        }
        for (id, status) in &book.approvals {
            if self.hooks.is_news(id, status) {
                let kind = if status == "Pending" { "policy.approval.pending" } else { "policy.approval.resolved" };
                let at = book.requests.iter().position(|asked| asked.approval.as_deref() == Some(id.as_str()));
                let request = at.map(|at| book.shown(at)).unwrap_or_default();
                let activity = json!({"kind": "Wallets:Sign", "signatureRequest": request});
                self.send(kind, &json!({"approval": {"id": id, "status": status, "activity": activity}}));
            }
        }
        for at in 0..book.requests.len() {
            let asked = &book.requests[at];
            if self.hooks.is_news(&asked.id, &asked.status) {
                let (area, field) = match asked.work {
                    Work::Sign(_) => ("signature", "signatureRequest"),
                    Work::Call(_) => ("transaction", "transactionRequest"),
                };
                let verb = match asked.status.as_str() {
                    "Signed" => "signed",
                    "Broadcasted" => "broadcasted",
                    "Confirmed" => "confirmed",
                    "Failed" => "failed",
                    "Rejected" => "rejected",
                    _ => "requested",
                };
                self.send(&format!("wallet.{area}.{verb}"), &json!({ field: book.shown(at) }));
            }
        }
    }

    /// With somebody to tell, time passes for requests by itself.
    pub(super) async fn run_on(&self, book: &mut Book) {
        if !self.hooks.is_on() {
            return;
        }
        // More steps than the longest walk has.
        for _ in 0..4 {
            self.tell(book);
            for at in 0..book.requests.len() {
                book.advance(at, self.chain.as_ref()).await;
            }
        }
        self.tell(book);
    }

    fn send(&self, kind: &str, data: &Value) {
        self.hooks.send(signed(&self.secret, event(kind, data).to_string().into_bytes()));
    }
}
