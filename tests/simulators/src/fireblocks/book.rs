//! Vault accounts and transactions, and how a transaction walks through its statuses.

use std::collections::{BTreeMap, HashMap};

use alloy::{
    dyn_abi::TypedData,
    primitives::{Address, B256, Bytes, U256, eip191_hash_message},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::policy::{Action, Rule, Subject, decide};
use crate::{
    chain::{Chain, Mined, Wanted},
    keys::{Key, Signed, Twist},
};

/// A vault account.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Name.
    pub name: String,
    /// Reference of the customer.
    pub customer_ref: Option<String>,
    /// Asset wallets.
    pub assets: Vec<String>,
    /// All its EVM assets share one address.
    pub key: Key,
    /// What is wrong with its signatures.
    pub twist: Twist,
}

/// What a transaction does.
#[derive(Debug, Clone)]
pub enum Work {
    /// Signs a digest.
    Sign(B256),
    /// Signs, sends and follows.
    Call(Wanted),
}

/// A transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The platform's id.
    pub id: String,
    /// The customer's id.
    pub external_id: Option<String>,
    /// The request, mirrored in answers.
    pub asked: Value,
    /// What it does.
    pub work: Work,
    /// Vault account.
    pub vault: u64,
    /// Status.
    pub status: String,
    /// Sub-status.
    pub sub_status: String,
    /// What the policy said.
    pub action: Action,
    /// Approvals so far.
    pub approvals: usize,
    /// Stays as it is, however often it is looked at.
    pub pinned: bool,
    /// The signature, once made.
    pub signed: Option<Signed>,
    /// The hash, once sent.
    pub tx_hash: Option<B256>,
    /// Why it failed.
    pub error: Option<String>,
    /// Milliseconds since 1970.
    pub created_ms: u128,
}

/// Everything the workspace knows.
#[derive(Debug, Default)]
pub struct Book {
    /// Vault accounts by id.
    pub vaults: BTreeMap<u64, Vault>,
    /// Transactions, oldest first.
    pub transactions: Vec<Transaction>,
    by_external_id: HashMap<String, usize>,
    /// The policy.
    pub rules: Vec<Rule>,
    /// Whether raw signing is enabled in the workspace.
    pub raw_enabled: bool,
    /// What was signed before is signed again without asking.
    cache: HashMap<(u64, B256), Signed>,
}

/// Reads what a request asks for. Errors are what the service says with its 400.
pub fn work(asked: &Value) -> Result<Work, String> {
    let operation = asked["operation"].as_str().unwrap_or("TRANSFER");
    match operation {
        "RAW" | "TYPED_MESSAGE" => {
            let messages = asked["extraParameters"]["rawMessageData"]["messages"].as_array();
            let [message] = messages.map(Vec::as_slice).unwrap_or_default() else {
                return Err("RAW_MSG_EMPTY_OR_INVALID: one message is expected here".to_owned());
            };
            let digest = if operation == "RAW" { raw_digest(message)? } else { typed_digest(message)? };
            Ok(Work::Sign(digest))
        }
        "CONTRACT_CALL" => {
            let destination = &asked["destination"];
            if destination["type"] != "ONE_TIME_ADDRESS" {
                return Err("destination type is not supported".to_owned());
            }
            let target = destination["oneTimeAddress"]["address"].as_str().unwrap_or_default();
            let to = match target {
                "0x0" => None,
                target => {
                    Some(Address::parse_checksummed(target, None).map_err(|_| "INVALID_ADDRESS: checksum".to_owned())?)
                }
            };
            let data = asked["extraParameters"]["contractCallData"].as_str().unwrap_or("0x");
            let data: Bytes = data.parse().map_err(|_| "INVALID_CONTRACT_CALL_DATA".to_owned())?;
            let value_wei = asked["amount"].as_str().and_then(wei).ok_or("amount must be a decimal string")?;
            Ok(Work::Call(Wanted { to, value_wei, data }))
        }
        other => Err(format!("operation {other} is not supported")),
    }
}

fn raw_digest(message: &Value) -> Result<B256, String> {
    let content = message["content"].as_str().unwrap_or_default();
    let bytes =
        hex::decode(content).map_err(|_| "RAW_MSG_EMPTY_OR_INVALID: content is no hex without 0x".to_owned())?;
    B256::try_from(bytes.as_slice()).map_err(|_| "RAW_MSG_LEN_INVALID: content has not 32 bytes".to_owned())
}

fn typed_digest(message: &Value) -> Result<B256, String> {
    match message["type"].as_str() {
        Some("EIP712") => {
            if message["content"]["types"]["EIP712Domain"].as_array().is_none() {
                return Err("EIP712Domain is missing in types".to_owned());
            }
            let document: TypedData =
                serde_json::from_value(message["content"].clone()).map_err(|error| error.to_string())?;
            document.eip712_signing_hash().map_err(|error| error.to_string())
        }
        Some("EIP191") => {
            let content = message["content"].as_str().unwrap_or_default();
            Ok(eip191_hash_message(hex::decode(content).map_err(|error| error.to_string())?))
        }
        _ => Err("message type is not supported".to_owned()),
    }
}

/// A decimal string of whole units in wei.
fn wei(text: &str) -> Option<U256> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 18 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    format!("{whole}{rest:0<18}").parse().ok()
}

// === impl Book ===

impl Book {
    /// The id of a new vault account.
    pub fn open_vault(&mut self, name: &str, customer_ref: Option<String>) -> u64 {
        let id = self.vaults.keys().next_back().map_or(0, |last| last + 1);
        let vault =
            Vault { name: name.to_owned(), customer_ref, assets: Vec::new(), key: Key::random(), twist: Twist::None };
        self.vaults.insert(id, vault);
        id
    }

    /// The transaction of an external id.
    #[must_use]
    pub fn by_external_id(&self, external_id: &str) -> Option<usize> {
        self.by_external_id.get(external_id).copied()
    }

    /// The transaction of an id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<usize> {
        self.transactions.iter().position(|transaction| transaction.id == id)
    }

    /// Takes a transaction in.
    pub fn submit(&mut self, asked: Value, work: Work, vault: u64, now_ms: u128) -> usize {
        let operation = asked["operation"].as_str().unwrap_or("TRANSFER").to_owned();
        let destination = asked["destination"]["oneTimeAddress"]["address"].as_str().map(str::to_owned);
        let subject = Subject { operation: &operation, vault: &vault.to_string(), destination: destination.as_deref() };
        let action = match operation.as_str() {
            "RAW" if !self.raw_enabled => Action::Block,
            _ => decide(&self.rules, subject),
        };
        let external_id = asked["externalTxId"].as_str().map(str::to_owned);
        let at = self.transactions.len();
        if let Some(external_id) = &external_id {
            self.by_external_id.insert(external_id.clone(), at);
        }
        self.transactions.push(Transaction {
            id: Uuid::new_v4().to_string(),
            external_id,
            asked,
            work,
            vault,
            status: "SUBMITTED".to_owned(),
            sub_status: String::new(),
            action,
            approvals: 0,
            pinned: false,
            signed: None,
            tx_hash: None,
            error: None,
            created_ms: now_ms,
        });
        at
    }

    /// Takes a transaction one status further, as far as nobody is waited for.
    pub async fn advance(&mut self, at: usize, chain: Option<&Chain>) {
        let Self { vaults, transactions, cache, .. } = self;
        let transaction = &mut transactions[at];
        let Some(vault) = vaults.get(&transaction.vault) else { return };
        if transaction.pinned {
            return;
        }
        let approved = match transaction.action {
            Action::Allow => true,
            Action::Approval(needed) => transaction.approvals >= needed,
            Action::Block => false,
        };
        match (transaction.status.as_str(), transaction.work.clone()) {
            ("SUBMITTED", _) if transaction.action == Action::Block => transaction.set("BLOCKED", "BLOCKED_BY_POLICY"),
            ("SUBMITTED", Work::Sign(digest)) if cache.contains_key(&(transaction.vault, digest)) => {
                transaction.signed = cache.get(&(transaction.vault, digest)).copied();
                transaction.set("COMPLETED", "");
            }
            ("SUBMITTED", Work::Call(_)) => transaction.set("PENDING_ENRICHMENT", ""),
            ("SUBMITTED" | "PENDING_ENRICHMENT", _) if !approved => transaction.set("PENDING_AUTHORIZATION", ""),
            ("SUBMITTED" | "PENDING_ENRICHMENT" | "PENDING_AUTHORIZATION", _) if approved => {
                transaction.set("QUEUED", "")
            }
            ("QUEUED", _) => transaction.set("PENDING_SIGNATURE", ""),
            ("PENDING_SIGNATURE", Work::Sign(digest)) => match vault.key.sign(digest, vault.twist) {
                Ok(signed) => {
                    if vault.twist == Twist::None {
                        cache.insert((transaction.vault, digest), signed);
                    }
                    transaction.signed = Some(signed);
                    transaction.set("COMPLETED", "");
                }
                Err(error) => transaction.fail("SIGNING_ERROR", error.to_string()),
            },
            ("PENDING_SIGNATURE", Work::Call(wanted)) => match chain {
                None => transaction.fail("ENV_UNSUPPORTED_ASSET", "the simulator has no node".to_owned()),
                Some(chain) => match chain.send(&vault.key, &wanted).await {
                    Ok(hash) => {
                        transaction.tx_hash = Some(hash);
                        transaction.set("BROADCASTING", "");
                    }
                    Err(error) => transaction.fail("SMART_CONTRACT_EXECUTION_FAILED", format!("{error:#}")),
                },
            },
            ("BROADCASTING", _) => transaction.set("CONFIRMING", "PENDING_BLOCKCHAIN_CONFIRMATIONS"),
            ("CONFIRMING", _) => {
                let (Some(chain), Some(hash)) = (chain, transaction.tx_hash) else { return };
                match chain.mined(hash).await {
                    Ok(Mined::Succeeded) => transaction.set("COMPLETED", "CONFIRMED"),
                    Ok(Mined::Reverted) => transaction.fail("SMART_CONTRACT_EXECUTION_FAILED", "reverted".to_owned()),
                    Ok(Mined::Waiting) | Err(_) => {}
                }
            }
            ("CANCELLING", _) => transaction.set("CANCELLED", "CANCELLED_BY_USER"),
            _ => {}
        }
    }

    /// A transaction as the service shows it.
    #[must_use]
    pub fn shown(&self, at: usize) -> Value {
        let transaction = &self.transactions[at];
        let mut shown = json!({
            "id": transaction.id,
            "status": transaction.status,
            "subStatus": transaction.sub_status,
            "operation": transaction.asked["operation"],
            "assetId": transaction.asked["assetId"],
            "source": {"type": "VAULT_ACCOUNT", "id": transaction.vault.to_string(),
                "name": self.vaults.get(&transaction.vault).map(|vault| vault.name.clone())},
            "destination": transaction.asked["destination"],
            "note": transaction.asked["note"],
            "extraParameters": transaction.asked["extraParameters"],
            "txHash": transaction.tx_hash.map(|hash| hash.to_string()).unwrap_or_default(),
            "createdAt": u64::try_from(transaction.created_ms).unwrap_or_default(),
            "lastUpdated": u64::try_from(transaction.created_ms).unwrap_or_default(),
            "amountInfo": {"amount": transaction.asked["amount"].as_str().unwrap_or("0")},
            "feeInfo": {},
            "signedBy": [],
            "numOfConfirmations": u32::from(transaction.status == "COMPLETED"),
        });
        if let Some(external_id) = &transaction.external_id {
            shown["externalTxId"] = json!(external_id);
        }
        if let Some(error) = &transaction.error {
            shown["errorDescription"] = json!(error);
        }
        if let Action::Approval(needed) = transaction.action {
            shown["authorizationInfo"] =
                json!({"allowOperatorAsAuthorizer": false, "logic": "AND", "groups": [{"th": needed, "users": {}}]});
        }
        if transaction.status == "COMPLETED"
            && let (Some(signed), Some(vault), Work::Sign(digest)) =
                (transaction.signed, self.vaults.get(&transaction.vault), &transaction.work)
        {
            let (r, s) = (hex::encode(signed.r.to_be_bytes::<32>()), hex::encode(signed.s.to_be_bytes::<32>()));
            shown["signedMessages"] = json!([{
                "content": hex::encode(digest),
                "algorithm": "MPC_ECDSA_SECP256K1",
                "derivationPath": [44, 60, transaction.vault, 0, 0],
                "signature": {"fullSig": format!("{r}{s}"), "r": r, "s": s, "v": u8::from(signed.odd)},
                "publicKey": hex::encode(vault.key.public_key(true)),
            }]);
        }
        shown
    }
}

// === impl Transaction ===

impl Transaction {
    /// Sets status and sub-status.
    pub fn set(&mut self, status: &str, sub_status: &str) {
        (self.status, self.sub_status) = (status.to_owned(), sub_status.to_owned());
    }

    fn fail(&mut self, sub_status: &str, error: String) {
        self.set("FAILED", sub_status);
        self.error = Some(error);
    }

    /// Whether it can still be cancelled.
    #[must_use]
    pub fn is_cancellable(&self) -> bool {
        !matches!(
            self.status.as_str(),
            "BROADCASTING"
                | "CONFIRMING"
                | "COMPLETED"
                | "CANCELLED"
                | "CANCELLING"
                | "REJECTED"
                | "BLOCKED"
                | "FAILED"
        )
    }
}
