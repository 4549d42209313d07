//! The endpoints.

use hyper::Method;
use serde_json::{Value, json};

use super::{
    book::{Book, HeldKey, Policy, Wallet, broadcast_work, fresh, signature_work},
    refused,
};
use crate::{
    chain::Chain,
    http::{Reply, Request},
    keys::{Key, Twist},
};

fn not_found(what: &str) -> Reply {
    refused(404, &format!("{what} was not found"))
}

/// Answers a request whose token and user action were found good.
pub async fn answer(request: &Request, book: &mut Book, chain: Option<&Chain>) -> Reply {
    let segments = request.segments();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let body = match request.json() {
        Ok(body) => body,
        Err(error) => return refused(400, &error),
    };
    let (get, post) = (request.method == Method::GET, request.method == Method::POST);
    match path.as_slice() {
        ["keys"] if post => create_key(&body, book),
        ["keys"] if get => {
            let keys = book.keys.iter().rev().map(key_shown).collect();
            page(request, keys)
        }
        ["keys", id] if get => book.key(id).map_or_else(|| not_found("the key"), |held| Reply::ok(key_shown(held))),
        ["keys", id, "signatures"] if post => {
            if book.key(id).is_none() {
                return not_found("the key");
            }
            let work = signature_work(&body);
            submit(request, (*id).to_owned(), body, work, book)
        }
        ["keys", _, "signatures"] | ["wallets", _, "transactions"] if get => listed(request, book),
        ["keys", _, "signatures", id] | ["wallets", _, "transactions", id] if get => {
            match book.requests.iter().position(|asked| asked.id == **id && request.path.starts_with(&asked.owner)) {
                Some(at) => {
                    book.advance(at, chain).await;
                    Reply::ok(book.shown(at))
                }
                None => not_found("the request"),
            }
        }
        ["wallets"] if post => create_wallet(body, book),
        ["wallets"] if get => {
            let wallets = book.wallets.iter().rev().map(|wallet| wallet_shown(wallet, book)).collect();
            page(request, wallets)
        }
        ["wallets", id] if get => match book.wallets.iter().find(|wallet| wallet.id == **id) {
            Some(wallet) => Reply::ok(wallet_shown(wallet, book)),
            None => not_found("the wallet"),
        },
        ["wallets", id, "transactions"] if post => match book.wallets.iter().find(|wallet| wallet.id == **id) {
            Some(wallet) => {
                let key = wallet.key.clone();
                let work = broadcast_work(&body);
                submit(request, key, body, work, book)
            }
            None => not_found("the wallet"),
        },
        ["v2", "policy-approvals"] if get => {
            let approvals = book.approvals.iter().map(|(id, status)| json!({"id": id, "status": status})).collect();
            page(request, approvals)
        }
        ["v2", "policy-approvals", id] if get => match book.approvals.get(*id) {
            Some(status) => Reply::ok(json!({
                "id": id, "initiatorId": "us-simulator", "activity": {"kind": "Wallets:Sign"}, "status": status,
                "policyEvaluations": [], "decisions": [], "dateUpdated": "2026-01-01T00:00:00.000Z",
            })),
            None => not_found("the approval"),
        },
        // The account that asks may not approve.
        ["v2", "policy-approvals", _, "decisions"] if post => refused(403, "the initiator cannot approve"),
        _ => refused(404, "no such endpoint"),
    }
}

fn create_key(body: &Value, book: &mut Book) -> Reply {
    if body["scheme"] != "ECDSA" || body["curve"] != "secp256k1" {
        return refused(400, "scheme and curve are not supported");
    }
    let name = body["name"].as_str().map(str::to_owned);
    let held = HeldKey { id: fresh("key"), name, key: Key::random(), twist: Twist::None };
    let shown = key_shown(&held);
    book.keys.push(held);
    Reply::ok(shown)
}

fn create_wallet(body: Value, book: &mut Book) -> Reply {
    let external_id = body["externalId"].as_str().map(str::to_owned);
    if let Some(known) = book.wallets.iter().find(|wallet| external_id.is_some() && wallet.external_id == external_id) {
        return match known.asked == body {
            true => Reply::ok(wallet_shown(known, book)),
            false => conflict(&known.id, &external_id),
        };
    }
    let (Some(network), Some(key)) = (body["network"].as_str(), body["signingKey"]["id"].as_str()) else {
        return refused(400, "network and signingKey.id are required");
    };
    if book.key(key).is_none() {
        return not_found("the key");
    }
    let wallet =
        Wallet { id: fresh("wa"), network: network.to_owned(), key: key.to_owned(), external_id, asked: body.clone() };
    let shown = wallet_shown(&wallet, book);
    book.wallets.push(wallet);
    Reply::ok(shown)
}

fn submit(
    request: &Request,
    key: String,
    body: Value,
    work: Result<super::book::Work, String>,
    book: &mut Book,
) -> Reply {
    let work = match work {
        Ok(work) => work,
        Err(message) => return refused(400, &message),
    };
    // An external id is bound for ever, whatever became of its request.
    let external_id = body["externalId"].as_str().map(str::to_owned);
    let known = external_id
        .as_ref()
        .and_then(|id| book.requests.iter().position(|asked| asked.body["externalId"].as_str() == Some(id)));
    if let Some(at) = known {
        let same = book.requests[at].body == body && book.requests[at].owner == request.path;
        return if same { Reply::ok(book.shown(at)) } else { conflict(&book.requests[at].id, &external_id) };
    }
    if book.policy == Policy::BlockAtOnce {
        return refused(403, "The action was blocked by policy pl-simulator");
    }
    let at = book.submit(&request.path, &key, body, work);
    Reply::ok(book.shown(at))
}

fn conflict(id: &str, external_id: &Option<String>) -> Reply {
    Reply::new(
        409,
        json!({"error": {"id": "er-1", "status": 409, "message": "Conflicting request with same externalId",
            "details": {"duplicate": {"id": id, "externalId": external_id}}}}),
    )
}

fn listed(request: &Request, book: &Book) -> Reply {
    let shown = (0..book.requests.len())
        .rev()
        .filter(|at| book.requests[*at].owner == request.path)
        .map(|at| book.shown(at))
        .collect();
    page(request, shown)
}

fn page(request: &Request, items: Vec<Value>) -> Reply {
    let limit = request.query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(50_usize).clamp(1, 100);
    let from: usize = request.query("paginationToken").and_then(|from| from.parse().ok()).unwrap_or(0);
    let more = from + limit < items.len();
    let mut body = json!({"items": items.into_iter().skip(from).take(limit).collect::<Vec<_>>()});
    if more {
        body["nextPageToken"] = json!((from + limit).to_string());
    }
    Reply::ok(body)
}

fn key_shown(held: &HeldKey) -> Value {
    json!({
        "id": held.id, "name": held.name, "scheme": "ECDSA", "curve": "secp256k1", "status": "Active", "custodial": true,
        "publicKey": hex::encode(held.key.public_key(true)), "dateCreated": "2026-01-01T00:00:00.000Z",
    })
}

fn wallet_shown(wallet: &Wallet, book: &Book) -> Value {
    let address = book.key(&wallet.key).map(|held| held.key.address().to_checksum(None));
    json!({
        "id": wallet.id, "network": wallet.network, "address": address, "status": "Active", "custodial": true,
        "signingKey": {"id": wallet.key, "scheme": "ECDSA", "curve": "secp256k1"}, "externalId": wallet.external_id,
        "tags": [], "dateCreated": "2026-01-01T00:00:00.000Z",
    })
}
