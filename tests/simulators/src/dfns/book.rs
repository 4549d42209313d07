//! Keys, wallets, requests and approvals, and how a request walks through its statuses.

use std::collections::BTreeMap;

use alloy::{
    consensus::{TxEip1559, TxLegacy},
    dyn_abi::{Eip712Types, Resolver, TypedData},
    primitives::{Address, B256, Bytes, U256, eip191_hash_message, keccak256},
    rlp::Decodable as _,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    chain::{Chain, Mined, Wanted},
    keys::{Key, Signed, Twist},
};

/// What the policy does with requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Nothing.
    #[default]
    NoAction,
    /// Asks for an approval.
    RequestApproval,
    /// Refuses at once, as HTTP 403.
    BlockAtOnce,
    /// Refuses afterwards: the request is rejected without an approval.
    BlockLater,
}

/// A key.
#[derive(Debug, Clone)]
pub struct HeldKey {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// The key itself.
    pub key: Key,
    /// What is wrong with its signatures.
    pub twist: Twist,
}

/// A wallet.
#[derive(Debug, Clone)]
pub struct Wallet {
    /// Its id.
    pub id: String,
    /// Network name.
    pub network: String,
    /// Its key.
    pub key: String,
    /// The customer's id.
    pub external_id: Option<String>,
    /// The request, for repeats.
    pub asked: Value,
}

/// What a request does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Signs a digest.
    Sign(B256),
    /// Signs, sends and follows.
    Call(Wanted),
}

/// A signature request or a broadcast.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `sig-…` or `tx-…`.
    pub id: String,
    /// The path it was sent to.
    pub owner: String,
    /// Its key.
    pub key: String,
    /// The request, mirrored in answers.
    pub body: Value,
    /// What it does.
    pub work: Work,
    /// Status.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// Its approval.
    pub approval: Option<String>,
    /// Stays as it is, however often it is looked at.
    pub pinned: bool,
    /// The signature, once made.
    pub signed: Option<Signed>,
    /// The hash, once sent.
    pub tx_hash: Option<B256>,
}

/// Everything the organisation knows.
#[derive(Debug, Default)]
pub struct Book {
    /// Keys, oldest first.
    pub keys: Vec<HeldKey>,
    /// Wallets, oldest first.
    pub wallets: Vec<Wallet>,
    /// Requests, oldest first.
    pub requests: Vec<Asked>,
    /// Status of each approval.
    pub approvals: BTreeMap<String, String>,
    /// The policy.
    pub policy: Policy,
}

/// An id as the service makes them.
#[must_use]
pub fn fresh(prefix: &str) -> String {
    format!("{prefix}-{}", Uuid::new_v4().simple())
}

/// Reads a signature request. Errors are what the service says with its 400.
pub fn signature_work(body: &Value) -> Result<Work, String> {
    let hex_of = |field: &str| -> Result<Bytes, String> {
        body[field].as_str().unwrap_or_default().parse().map_err(|_| format!("{field} is not 0x-hex"))
    };
    let digest = match body["kind"].as_str() {
        Some("Hash") => B256::try_from(hex_of("hash")?.as_ref()).map_err(|_| "hash has not 32 bytes".to_owned())?,
        Some("Message") => eip191_hash_message(hex_of("message")?),
        Some("Transaction") => {
            let unsigned = hex_of("transaction")?;
            readable(&unsigned)?;
            keccak256(&unsigned)
        }
        Some("Eip712") => typed(body)?,
        _ => return Err("kind is not supported".to_owned()),
    };
    Ok(Work::Sign(digest))
}

/// Whether it is an unsigned transaction: policies are evaluated on its fields.
fn readable(unsigned: &[u8]) -> Result<(), String> {
    let readable = match unsigned.split_first() {
        Some((2, mut rest)) => TxEip1559::decode(&mut rest).is_ok() && rest.is_empty(),
        Some((0xc0.., _)) => {
            let mut rest = unsigned;
            // Legacy with EIP-155: nine items, of which the last three are chain id and zeros.
            alloy::rlp::Header::decode(&mut rest).is_ok_and(|header| header.list && header.payload_length == rest.len())
                || TxLegacy::decode(&mut &*unsigned).is_ok()
        }
        _ => false,
    };
    if readable { Ok(()) } else { Err("transaction is no unsigned EVM transaction".to_owned()) }
}

/// The document has no primary type: it is the one that no other type names.
fn typed(body: &Value) -> Result<B256, String> {
    let types = body["types"].as_object().ok_or("types are missing")?;
    let named: Vec<&str> =
        types.values().filter_map(Value::as_array).flatten().filter_map(|field| field["type"].as_str()).collect();
    let is_named = |name: &str| named.iter().any(|used| used.split('[').next() == Some(name));
    let primary = types.keys().find(|name| *name != "EIP712Domain" && !is_named(name)).ok_or("no primary type")?;
    let resolver: Eip712Types = serde_json::from_value(body["types"].clone()).map_err(|error| error.to_string())?;
    let document = TypedData {
        domain: serde_json::from_value(body["domain"].clone()).map_err(|error| error.to_string())?,
        resolver: Resolver::from(resolver),
        primary_type: primary.clone(),
        message: body["message"].clone(),
    };
    document.eip712_signing_hash().map_err(|error| error.to_string())
}

/// Reads a broadcast.
pub fn broadcast_work(body: &Value) -> Result<Work, String> {
    if body["kind"] != "Evm" {
        return Err("kind is not supported".to_owned());
    }
    let to = match body["to"].as_str() {
        Some(to) => Some(to.parse::<Address>().map_err(|_| "to is no address".to_owned())?),
        None => None,
    };
    let value_wei: U256 =
        body["value"].as_str().unwrap_or("0").parse().map_err(|_| "value is not a decimal string".to_owned())?;
    let data: Bytes = body["data"].as_str().unwrap_or("0x").parse().map_err(|_| "data is not 0x-hex".to_owned())?;
    Ok(Work::Call(Wanted { to, value_wei, data }))
}

// === impl Book ===

impl Book {
    /// A key by its id.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<&HeldKey> {
        self.keys.iter().find(|held| held.id == id)
    }

    /// Takes a request in.
    pub fn submit(&mut self, owner: &str, key: &str, body: Value, work: Work) -> usize {
        let prefix = if matches!(work, Work::Sign(_)) { "sig" } else { "tx" };
        let (status, approval) = match self.policy {
            Policy::RequestApproval => {
                let approval = fresh("ap");
                self.approvals.insert(approval.clone(), "Pending".to_owned());
                ("Pending", Some(approval))
            }
            Policy::BlockLater => ("Rejected", None),
            Policy::NoAction | Policy::BlockAtOnce => ("Executing", None),
        };
        self.requests.push(Asked {
            id: fresh(prefix),
            owner: owner.to_owned(),
            key: key.to_owned(),
            body,
            work,
            status: status.to_owned(),
            reason: (status == "Rejected").then(|| "policy".to_owned()),
            approval,
            pinned: false,
            signed: None,
            tx_hash: None,
        });
        self.requests.len() - 1
    }

    /// Takes a request one status further, as far as nobody is waited for.
    pub async fn advance(&mut self, at: usize, chain: Option<&Chain>) {
        let Self { keys, requests, approvals, .. } = self;
        let request = &mut requests[at];
        let Some(held) = keys.iter().find(|held| held.id == request.key) else { return };
        if request.pinned {
            return;
        }
        let decided = request.approval.as_ref().and_then(|id| approvals.get(id)).map(String::as_str);
        match (request.status.as_str(), decided, request.work.clone()) {
            ("Pending", Some("Approved") | None, _) => request.status = "Executing".to_owned(),
            ("Pending", Some("Denied" | "Expired"), _) => request.status = "Rejected".to_owned(),
            ("Executing", _, Work::Sign(digest)) => match held.key.sign(digest, held.twist) {
                Ok(signed) => {
                    request.signed = Some(signed);
                    request.status = "Signed".to_owned();
                }
                Err(error) => request.fail(error.to_string()),
            },
            ("Executing", _, Work::Call(wanted)) => match chain {
                None => request.fail("the simulator has no node".to_owned()),
                Some(chain) => match chain.send(&held.key, &wanted).await {
                    Ok(hash) => {
                        request.tx_hash = Some(hash);
                        request.status = "Broadcasted".to_owned();
                    }
                    Err(error) => request.fail(format!("{error:#}")),
                },
            },
            ("Broadcasted", _, _) => {
                let (Some(chain), Some(hash)) = (chain, request.tx_hash) else { return };
                match chain.mined(hash).await {
                    Ok(Mined::Succeeded) => request.status = "Confirmed".to_owned(),
                    Ok(Mined::Reverted) => request.fail("reverted".to_owned()),
                    Ok(Mined::Waiting) | Err(_) => {}
                }
            }
            _ => {}
        }
    }

    /// A request as the service shows it.
    #[must_use]
    pub fn shown(&self, at: usize) -> Value {
        let request = &self.requests[at];
        let mut shown = json!({
            "id": request.id,
            "requester": {"userId": "us-simulator"},
            "requestBody": request.body,
            "status": request.status,
            "dateRequested": "2026-01-01T00:00:00.000Z",
        });
        match request.work {
            Work::Sign(_) => shown["keyId"] = json!(request.key),
            Work::Call(_) => {
                shown["walletId"] = json!(request.owner.split('/').nth(2));
                let wallet = self.wallets.iter().find(|wallet| request.owner.contains(&wallet.id));
                shown["network"] = json!(wallet.map(|wallet| wallet.network.clone()));
            }
        }
        for (field, value) in [
            ("externalId", request.body["externalId"].as_str().map(str::to_owned)),
            ("reason", request.reason.clone()),
            ("approvalId", request.approval.clone()),
            ("txHash", request.tx_hash.map(|hash| hash.to_string())),
        ] {
            if let Some(value) = value {
                shown[field] = json!(value);
            }
        }
        if let Some(signed) = request.signed {
            let (r, s) = (B256::from(signed.r), B256::from(signed.s));
            shown["signature"] = json!({
                "r": r.to_string(),
                "s": s.to_string(),
                "recid": u8::from(signed.odd),
                "encoded": format!("{r}{}{:x}", hex::encode(s), 27 + u8::from(signed.odd)),
            });
        }
        shown
    }
}

// === impl Asked ===

impl Asked {
    /// Ends it.
    pub fn fail(&mut self, reason: String) {
        self.status = "Failed".to_owned();
        self.reason = Some(reason);
    }

    /// Whether it is not over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.status.as_str(), "Pending" | "Executing")
    }
}
