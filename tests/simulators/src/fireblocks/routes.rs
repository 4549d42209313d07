//! The endpoints.

use std::collections::HashMap;

use hyper::Method;
use serde_json::{Value, json};

use super::book::{Book, work};
use crate::{
    chain::Chain,
    http::{Reply, Request},
};

/// What the service holds besides its book.
#[derive(Debug, Default)]
pub struct Replays(HashMap<String, Reply>);

fn refused(status: u16, code: i64, message: &str) -> Reply {
    Reply::new(status, json!({"message": message, "code": code}))
}

fn not_found(what: &str) -> Reply {
    refused(404, 1004, &format!("{what} was not found"))
}

/// Answers a request whose token was found good. An idempotency key replays its answer, also an error.
pub async fn answer(
    request: &Request,
    book: &mut Book,
    replays: &mut Replays,
    chain: Option<&Chain>,
    now_ms: u128,
) -> Reply {
    let key = request.header("idempotency-key").map(str::to_owned);
    if let Some(key) = &key {
        if key.len() > 40 {
            return refused(400, 1000, "Idempotency-Key has more than 40 characters");
        }
        if let Some(replayed) = replays.0.get(key) {
            return replayed.clone();
        }
    }
    let reply = routed(request, book, chain, now_ms).await;
    if let Some(key) = key {
        replays.0.insert(key, reply.clone());
    }
    reply
}

async fn routed(request: &Request, book: &mut Book, chain: Option<&Chain>, now_ms: u128) -> Reply {
    let segments = request.segments();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let body = match request.json() {
        Ok(body) => body,
        Err(error) => return refused(400, 1000, &error),
    };
    let (get, post) = (request.method == Method::GET, request.method == Method::POST);
    match path.as_slice() {
        ["v1", "transactions"] if post => submit(body, book, now_ms),
        ["v1", "transactions"] if get => listed(request, book),
        ["v1", "transactions", "external_tx_id", external_id] if get => match book.by_external_id(external_id) {
            Some(at) => looked_at(at, book, chain).await,
            None => not_found("the transaction"),
        },
        ["v1", "transactions", id] if get => match book.by_id(id) {
            Some(at) => looked_at(at, book, chain).await,
            None => not_found("the transaction"),
        },
        ["v1", "transactions", id, "cancel"] if post => match book.by_id(id) {
            Some(at) if book.transactions[at].is_cancellable() => {
                book.transactions[at].set("CANCELLING", "");
                book.transactions[at].pinned = false;
                Reply::ok(json!({"success": true}))
            }
            Some(_) => refused(400, 1404, "the transaction can no longer be cancelled"),
            None => not_found("the transaction"),
        },
        ["v1", "vault", "accounts"] if post => match body["name"].as_str() {
            Some(name) if name.is_ascii() && !name.is_empty() => {
                let id = book.open_vault(name, body["customerRefId"].as_str().map(str::to_owned));
                Reply::ok(vault_shown(id, book))
            }
            _ => refused(400, 1000, "name must be ASCII"),
        },
        ["v1", "vault", "accounts_paged"] if get => vaults_listed(request, book),
        ["v1", "vault", "accounts", rest @ ..] => wallet(request, rest, book),
        _ => refused(404, 1000, "no such endpoint"),
    }
}

fn submit(body: Value, book: &mut Book, now_ms: u128) -> Reply {
    let external_id = body["externalTxId"].as_str();
    if external_id.is_some_and(|external_id| book.by_external_id(external_id).is_some()) {
        return refused(400, 1438, "The external tx id that was provided in the request, already exists");
    }
    let source = &body["source"];
    let vault = source["id"].as_str().and_then(|id| id.parse::<u64>().ok());
    let Some((id, vault)) = vault.and_then(|id| Some((id, book.vaults.get(&id)?))) else {
        return not_found("the vault account");
    };
    if source["type"] != "VAULT_ACCOUNT" {
        return refused(400, 1427, "source type is not supported");
    }
    if !body["assetId"].as_str().is_some_and(|asset| vault.assets.iter().any(|known| known == asset)) {
        return refused(404, 1006, "the asset was not found in the vault account");
    }
    if body.get("nonce").is_some() {
        return refused(400, 1000, "nonce is not a parameter of this endpoint");
    }
    let work = match work(&body) {
        Ok(work) => work,
        Err(message) => return refused(400, 1400, &message),
    };
    let at = book.submit(body, work, id, now_ms);
    Reply::ok(json!({"id": book.transactions[at].id, "status": book.transactions[at].status}))
}

async fn looked_at(at: usize, book: &mut Book, chain: Option<&Chain>) -> Reply {
    let shown = book.shown(at);
    // The next look finds it a status further.
    book.advance(at, chain).await;
    Reply::ok(shown)
}

fn listed(request: &Request, book: &Book) -> Reply {
    let limit = request.query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(200_usize).clamp(1, 500);
    let after: usize = request.query("next").and_then(|next| next.parse().ok()).unwrap_or(0);
    let status = request.query("status");
    let matching: Vec<usize> = (0..book.transactions.len())
        .filter(|at| status.as_ref().is_none_or(|status| *status == book.transactions[*at].status))
        .collect();
    let page: Vec<Value> = matching.iter().skip(after).take(limit).map(|at| book.shown(*at)).collect();
    let reply = Reply::ok(Value::Array(page));
    match after + limit < matching.len() {
        true => reply.with("next-page", format!("/v1/transactions?limit={limit}&next={}", after + limit)),
        false => reply,
    }
}

fn vaults_listed(request: &Request, book: &Book) -> Reply {
    let limit = request.query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(200_usize);
    if !(1..=500).contains(&limit) {
        return refused(400, 1000, "limit must lie between 1 and 500");
    }
    let after: u64 = request.query("after").and_then(|after| after.parse().ok()).unwrap_or(0);
    let (prefix, suffix) = (request.query("namePrefix"), request.query("nameSuffix"));
    let matching: Vec<u64> = book
        .vaults
        .iter()
        .filter(|(id, vault)| {
            **id >= after
                && prefix.as_ref().is_none_or(|prefix| vault.name.starts_with(prefix))
                && suffix.as_ref().is_none_or(|suffix| vault.name.ends_with(suffix))
        })
        .map(|(id, _)| *id)
        .collect();
    let accounts: Vec<Value> = matching.iter().take(limit).map(|id| vault_shown(*id, book)).collect();
    let mut paging = json!({});
    if let Some(next) = matching.get(limit) {
        paging["after"] = json!(next.to_string());
    }
    Reply::ok(json!({"accounts": accounts, "paging": paging}))
}

fn wallet(request: &Request, rest: &[&str], book: &mut Book) -> Reply {
    let (get, post) = (request.method == Method::GET, request.method == Method::POST);
    let Some((id, vault)) =
        rest.first().and_then(|id| id.parse::<u64>().ok()).and_then(|id| Some((id, book.vaults.get_mut(&id)?)))
    else {
        return not_found("the vault account");
    };
    let address = vault.key.address().to_checksum(None);
    let has = |asset: &str| vault.assets.iter().any(|known| known == asset);
    let no_asset = || refused(404, 1006, "the asset was not found in the vault account");
    match &rest[1..] {
        [] if get => Reply::ok(vault_shown(id, book)),
        [asset] if post && has(asset) => refused(400, 1026, "the asset wallet exists already"),
        [asset] if post => {
            vault.assets.push((*asset).to_owned());
            Reply::ok(json!({"id": asset, "address": address, "legacyAddress": "", "tag": "", "status": "READY"}))
        }
        [asset, ..] if !has(asset) => no_asset(),
        [asset] if get => Reply::ok(json!({"id": asset, "total": "0", "available": "0", "pending": "0"})),
        [asset, "activate"] if post => Reply::ok(json!({"id": asset, "address": address, "status": "READY"})),
        [asset, "addresses_paginated"] if get => Reply::ok(json!({
            "addresses": [{"assetId": asset, "address": address, "tag": "", "type": "Permanent", "bip44AddressIndex": 0}],
            "paging": {},
        })),
        [_, change, index, "public_key_info"] if get => {
            let (Ok(change), Ok(index)) = (change.parse::<u32>(), index.parse::<u32>()) else {
                return refused(400, 1000, "change and index are numbers");
            };
            let compressed = request.query("compressed").as_deref() == Some("true");
            Reply::ok(json!({
                "algorithm": "MPC_ECDSA_SECP256K1",
                "derivationPath": [44, 60, id, change, index],
                "publicKey": hex::encode(vault.key.public_key(compressed)),
            }))
        }
        _ => refused(404, 1000, "no such endpoint"),
    }
}

fn vault_shown(id: u64, book: &Book) -> Value {
    let Some(vault) = book.vaults.get(&id) else { return Value::Null };
    let assets: Vec<Value> =
        vault.assets.iter().map(|asset| json!({"id": asset, "total": "0", "available": "0"})).collect();
    let mut shown = json!({
        "id": id.to_string(), "name": vault.name, "hiddenOnUI": false, "autoFuel": false, "assets": assets, "tags": [],
    });
    if let Some(reference) = &vault.customer_ref {
        shown["customerRefId"] = json!(reference);
    }
    shown
}
