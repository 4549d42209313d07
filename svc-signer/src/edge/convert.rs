//! Messages to orders and back.

use alloy::{
    consensus::{TxEip1559, TxLegacy},
    dyn_abi::TypedData,
    primitives::{Address, TxKind},
};
use dalp_attestation::Attestation;
use dalp_proto::signer as proto;
use dalp_service::{
    Refusal, TenantId,
    fields::{self, Violations},
};
use uuid::Uuid;

use crate::{
    core::{
        digest,
        document::check_size,
        payload::{AuditRoot, Claim, Payload, PayloadKind, ProviderCall, UnsignedTransaction},
        reveal::{Purpose, SecretHash},
    },
    signing::{Reveal, SignOrder},
    store::{
        keys::{KeyPurpose, KeyRecord},
        logs::Continuation,
        requests::{Status, StoredRequest},
    },
};

/// Longest calldata; nodes take no larger transaction.
const DATA_MAX_BYTES: usize = 128 * 1024;
/// Longest claim data.
const CLAIM_MAX_BYTES: usize = 64 * 1024;
/// Most that moves when a secret is shown: the legs that the contract takes.
const MOVEMENTS_MAX: usize = 32;
/// The contract keeps times in 40 bits.
const CUTOFF_MAX_S: u64 = (1 << 40) - 1;
/// Most hashes of a consistency proof; those of a log of 2^63 leaves are fewer.
const PROOF_MAX_HASHES: usize = 128;
/// Longest document.
const DOCUMENT_MAX_BYTES: usize = 256 * 1024;

/// Reads a sign request; every field that is wrong is named.
pub fn sign_order(request: proto::SignRequest) -> Result<SignOrder, Refusal> {
    let mut bad = Violations::new();
    let request_id = uuid(&mut bad, "request_id", &request.request_id);
    let tenant = tenant(&mut bad, "tenant", &request.tenant);
    let signer = bad.check(fields::nonzero_address("signer", &request.signer));
    let replaces = match request.replaces_request_id.as_str() {
        "" => None,
        id => uuid(&mut bad, "replaces_request_id", id),
    };
    let (mut reveal, mut continuation) = (None, Continuation::default());
    let payload = match request.payload {
        Some(proto::sign_request::Payload::EvmTransaction(tx)) => transaction(&mut bad, &tx).map(Payload::Transaction),
        Some(proto::sign_request::Payload::Eip712(document)) => self::document(&mut bad, &document.document_json),
        Some(proto::sign_request::Payload::Claim(claim)) => self::claim(&mut bad, &claim).map(Payload::Claim),
        Some(proto::sign_request::Payload::SettlementReveal(shown)) => {
            let secret_id = uuid(&mut bad, "settlement_reveal.secret_id", &shown.secret_id);
            reveal = secret_id.map(|secret_id| Reveal { secret_id, not_after_s: shown.not_after });
            transaction(&mut bad, &shown.transaction.unwrap_or_default()).map(Payload::Transaction)
        }
        Some(proto::sign_request::Payload::AuditRoot(root)) => {
            continuation = self::continuation(&mut bad, &root);
            audit_root(&mut bad, &root, tenant.clone(), signer, request_id).map(Payload::AuditRoot)
        }
        None => {
            bad.push(
                "payload",
                "exactly one of evm_transaction, settlement_reveal, eip712, claim and audit_root must be set",
            );
            None
        }
    };
    if replaces.is_some()
        && payload.as_ref().is_some_and(|one| one.is_by_provider() || !matches!(one, Payload::Transaction(_)))
    {
        bad.push("replaces_request_id", "only a transaction with a nonce can replace another");
    }
    let digest = payload.as_ref().and_then(|payload| match payload.validate().and_then(|()| digest::digest(payload)) {
        Ok(digest) => Some(digest),
        Err(error) => {
            let path = match payload {
                Payload::Transaction(_) => "evm_transaction.chain_id",
                Payload::Document(_) => "eip712.document_json",
                Payload::Claim(_) => "claim",
                Payload::AuditRoot(_) => "audit_root",
            };
            bad.push(path, error.to_string());
            None
        }
    });
    bad.finish()?;
    match (request_id, tenant, signer, payload, digest) {
        (Some(request_id), Some(tenant), Some(signer), Some(payload), Some(digest)) => {
            Ok(SignOrder { request_id, tenant, signer, payload, digest, replaces, reveal, continuation })
        }
        _ => Err(Refusal::internal("a field was neither read nor refused")),
    }
}

/// A secret that is asked for.
#[derive(Debug)]
pub struct SecretOrder {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: Uuid,
    /// How it is hashed.
    pub kind: SecretHash,
    /// What it is made for.
    pub purpose: Purpose,
}

/// Reads the request for a secret; every field that is wrong is named.
pub fn secret_order(request: &proto::CreateSecretRequest) -> Result<SecretOrder, Refusal> {
    let mut bad = Violations::new();
    let id = uuid(&mut bad, "secret_id", &request.secret_id);
    let tenant = tenant(&mut bad, "tenant", &request.tenant);
    let kind = match bad.check(fields::enum_value("hash_kind", request.hash_kind)) {
        Some(proto::SecretHash::Sha256) => SecretHash::Sha256,
        _ => SecretHash::Keccak256,
    };
    let purpose = match &request.terms {
        Some(terms) => self::purpose(&mut bad, terms),
        None => {
            bad.push("terms", "must be set: a secret is shown for the terms it was made for, and for no others");
            None
        }
    };
    bad.finish()?;
    match (tenant, id, purpose) {
        (Some(tenant), Some(id), Some(purpose)) => Ok(SecretOrder { tenant, id, kind, purpose }),
        _ => Err(Refusal::internal("a field was neither read nor refused")),
    }
}

fn purpose(bad: &mut Violations, terms: &proto::SecretTerms) -> Option<Purpose> {
    bad.check(fields::in_range("terms.chain_id", terms.chain_id, 1, i64::MAX.unsigned_abs()));
    bad.check(fields::in_range("terms.cutoff", terms.cutoff, 1, CUTOFF_MAX_S));
    let contract = bad.check(fields::nonzero_address("terms.contract", &terms.contract));
    if !(1..=MOVEMENTS_MAX).contains(&terms.movements.len()) {
        bad.push("terms.movements", format!("must be 1 to {MOVEMENTS_MAX}"));
    }
    let mut movements = Vec::with_capacity(terms.movements.len().min(MOVEMENTS_MAX));
    for (place, one) in terms.movements.iter().take(MOVEMENTS_MAX).enumerate() {
        let at = |field: &str| format!("terms.movements[{place}].{field}");
        let asset = bad.check(fields::nonzero_address(&at("asset"), &one.asset));
        let from = bad.check(fields::nonzero_address(&at("from"), &one.from));
        let to = bad.check(fields::nonzero_address(&at("to"), &one.to));
        let amount = bad.check(fields::nonzero_amount(&at("amount"), &one.amount));
        movements
            .extend(asset.zip(from).zip(to.zip(amount)).map(|((asset, from), (to, amount))| (asset, from, to, amount)));
    }
    Some(Purpose::new(terms.chain_id, contract?, terms.cutoff, movements))
}

/// Reads an id.
pub fn request_id(path: &str, text: &str) -> Result<Uuid, Refusal> {
    let mut bad = Violations::new();
    let id = uuid(&mut bad, path, text);
    bad.finish()?;
    id.ok_or_else(|| Refusal::internal("an id was neither read nor refused"))
}

fn uuid(bad: &mut Violations, path: &str, text: &str) -> Option<Uuid> {
    match Uuid::try_parse(text) {
        Ok(id) if !id.is_nil() => Some(id),
        _ => {
            bad.push(path, "must be a UUID");
            None
        }
    }
}

/// Reads a tenant.
pub fn tenant(bad: &mut Violations, path: &str, text: &str) -> Option<String> {
    match text.parse::<TenantId>() {
        Ok(tenant) => Some(tenant.as_str().to_owned()),
        Err(error) => {
            bad.push(path, error.to_string());
            None
        }
    }
}

fn transaction(bad: &mut Violations, tx: &proto::EvmTransaction) -> Option<UnsignedTransaction> {
    let at = |field: &str| format!("evm_transaction.{field}");
    if i64::try_from(tx.chain_id).is_err() {
        bad.push(at("chain_id"), "must be below 2^63");
    }
    // EIP-2681 ends nonces at 2^64 - 2; a database ends them earlier and no account gets there.
    if i64::try_from(tx.nonce).is_err() {
        bad.push(at("nonce"), "must be below 2^63");
    }
    if tx.gas_limit == 0 && !tx.by_provider {
        bad.push(at("gas_limit"), "must be at least 1");
    }
    let value = bad.check(fields::amount(&at("value_wei"), &tx.value_wei));
    let input =
        bad.check(fields::hex_bytes(&at("data"), if tx.data.is_empty() { "0x" } else { &tx.data }, DATA_MAX_BYTES));
    let to = match tx.target.as_str() {
        "" => {
            if input.as_ref().is_some_and(|input| input.is_empty()) {
                bad.push(at("target"), "is empty, which creates a contract, but there is no code in data");
            }
            Some(TxKind::Create)
        }
        target => bad.check(fields::address(&at("target"), target)).map(TxKind::Call),
    };
    if tx.by_provider {
        let prices = [&tx.max_fee_per_gas_wei, &tx.max_priority_fee_per_gas_wei, &tx.gas_price_wei];
        if tx.nonce != 0 || tx.gas_limit != 0 || prices.iter().any(|price| !price.is_empty()) {
            bad.push(at("by_provider"), "excludes nonce, gas limit and prices: the key's provider gives them");
        }
        return Some(UnsignedTransaction::ByProvider(ProviderCall {
            chain_id: tx.chain_id,
            to: to?,
            value: value?,
            input: input?,
        }));
    }
    let mut fee = |field: &str, text: &str| {
        let path = at(field);
        let value = bad.check(fields::amount(&path, text))?;
        match u128::try_from(value) {
            Ok(value) => Some(value),
            Err(_) => {
                bad.push(path, "must be below 2^128");
                None
            }
        }
    };
    let legacy = !tx.gas_price_wei.is_empty();
    if legacy {
        let gas_price = fee("gas_price_wei", &tx.gas_price_wei)?;
        if !tx.max_fee_per_gas_wei.is_empty() || !tx.max_priority_fee_per_gas_wei.is_empty() {
            bad.push(at("gas_price_wei"), "excludes max_fee_per_gas_wei and max_priority_fee_per_gas_wei");
        }
        return Some(UnsignedTransaction::Legacy(TxLegacy {
            // Chain id 0 stands here as it came, so that it is refused and not taken for "no EIP-155".
            chain_id: Some(tx.chain_id),
            nonce: tx.nonce,
            gas_price,
            gas_limit: tx.gas_limit,
            to: to?,
            value: value?,
            input: input?,
        }));
    }
    let max_fee_per_gas = fee("max_fee_per_gas_wei", &tx.max_fee_per_gas_wei);
    let max_priority_fee_per_gas = fee("max_priority_fee_per_gas_wei", &tx.max_priority_fee_per_gas_wei);
    let (max_fee_per_gas, max_priority_fee_per_gas) = (max_fee_per_gas?, max_priority_fee_per_gas?);
    if max_priority_fee_per_gas > max_fee_per_gas {
        bad.push(at("max_priority_fee_per_gas_wei"), "must not be above max_fee_per_gas_wei");
    }
    Some(UnsignedTransaction::Eip1559(TxEip1559 {
        chain_id: tx.chain_id,
        nonce: tx.nonce,
        gas_limit: tx.gas_limit,
        max_fee_per_gas,
        max_priority_fee_per_gas,
        to: to?,
        value: value?,
        access_list: Default::default(),
        input: input?,
    }))
}

fn document(bad: &mut Violations, json: &str) -> Option<Payload> {
    const PATH: &str = "eip712.document_json";
    if json.len() > DOCUMENT_MAX_BYTES {
        bad.push(PATH, format!("has more than {DOCUMENT_MAX_BYTES} bytes"));
        return None;
    }
    if let Err(error) = check_size(json) {
        bad.push(PATH, error.to_string());
        return None;
    }
    match serde_json::from_str::<TypedData>(json) {
        Ok(document) => Some(Payload::Document(Box::new(document))),
        Err(error) => {
            bad.push(PATH, format!("is not an EIP-712 document with types, primaryType, domain and message: {error}"));
            None
        }
    }
}

fn claim(bad: &mut Violations, claim: &proto::ClaimAttestation) -> Option<Claim> {
    let identity = bad.check(fields::nonzero_address("claim.identity", &claim.identity));
    let topic = bad.check(fields::bytes32("claim.topic", &claim.topic));
    let data = bad.check(fields::hex_bytes(
        "claim.data",
        if claim.data.is_empty() { "0x" } else { &claim.data },
        CLAIM_MAX_BYTES,
    ));
    Some(Claim { identity: identity?, topic: topic?, data: data? })
}

/// The id of a request for a root is made of key and size: under it there is one root, and a key never signs two of a size.
fn audit_root(
    bad: &mut Violations,
    root: &proto::AuditRootStatement,
    tenant: Option<String>,
    signer: Option<Address>,
    request_id: Option<Uuid>,
) -> Option<AuditRoot> {
    if !(1..=i64::MAX.unsigned_abs()).contains(&root.size) {
        bad.push("audit_root.size", "must be at least 1 and below 2^63");
    }
    if !(1..=i64::MAX.unsigned_abs()).contains(&root.sealed_at_us) {
        bad.push("audit_root.sealed_at_us", "must be at least 1 and below 2^63");
    }
    let hash = bad.check(fields::bytes32("audit_root.root_hash", &root.root_hash));
    let signer = signer?;
    if request_id.is_some_and(|id| id != dalp_audit::root::request_id(signer, root.size)) {
        bad.push("request_id", "is not that of this key and size");
    }
    Some(AuditRoot { tenant: tenant?, size: root.size, root: hash?, sealed_at_us: root.sealed_at_us })
}

/// What shows that a root continues the last one.
fn continuation(bad: &mut Violations, root: &proto::AuditRootStatement) -> Continuation {
    if root.consistency_proof.len() > PROOF_MAX_HASHES {
        bad.push("audit_root.consistency_proof", format!("holds at most {PROOF_MAX_HASHES} hashes"));
        return Continuation::default();
    }
    let hash = |(index, text): (usize, &String)| {
        bad.check(fields::bytes32(&format!("audit_root.consistency_proof[{index}]"), text)).unwrap_or_default().0
    };
    Continuation { last_size: root.last_size, proof: root.consistency_proof.iter().enumerate().map(hash).collect() }
}

/// The outcome of a stored request as a message. Documents and claims carry the bare signature, transactions the signed bytes.
#[must_use]
pub fn outcome(request: &StoredRequest, provider: &str) -> proto::SignOutcome {
    let hex =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| format!("0x{}", hex::encode(bytes))).unwrap_or_default();
    let is_transaction = request.kind == PayloadKind::EvmTransaction;
    proto::SignOutcome {
        request_id: request.request_id.to_string(),
        status: match request.status {
            Status::Pending => proto::SignStatus::Pending,
            Status::Approved => proto::SignStatus::Approved,
            Status::Denied => proto::SignStatus::Denied,
            Status::Expired => proto::SignStatus::Expired,
            Status::Blocked => proto::SignStatus::Blocked,
        }
        .into(),
        signature: if is_transaction { String::new() } else { hex(&request.signature) },
        signed_transaction: hex(&request.signed_tx),
        tx_hash: hex(&request.tx_hash),
        provider: provider.to_owned(),
        detail: request.detail.clone(),
        error: request.error.clone(),
        updated_at: Some(dalp_proto::timestamp(request.updated_at)),
        stage: match request.stage.as_str() {
            "BROADCAST" => proto::SignStage::Broadcast,
            "CONFIRMED" => proto::SignStage::Confirmed,
            "FAILED" => proto::SignStage::Failed,
            _ => proto::SignStage::Unspecified,
        }
        .into(),
        provider_request_id: String::new(),
        attestation: request.attestation.as_ref().map(attestation),
    }
}

fn attestation(held: &Attestation) -> proto::AttestationEvidence {
    let Attestation { judgement, hash } = held;
    proto::AttestationEvidence {
        hash: hash.to_string(),
        verdict: judgement.verdict.as_str().to_owned(),
        block_number: judgement.block_number,
        block_hash: judgement.block_hash.to_string(),
        ruleset: judgement.ruleset.to_string(),
        expires_at_s: judgement.expires_at_s,
    }
}

/// A key as a message.
#[must_use]
pub fn key(record: &KeyRecord) -> proto::Key {
    proto::Key {
        address: record.address.to_checksum(None),
        wallet: record.name.wallet.clone(),
        provider: record.provider.to_string(),
        owner: record.owner.clone(),
        public_key: format!("0x{}", hex::encode(record.public_key.serialize_uncompressed())),
        disabled: record.disabled,
        created_at: Some(dalp_proto::timestamp(record.created_at)),
        tier: record.tier.as_str().to_owned(),
        purpose: match record.purpose {
            KeyPurpose::General => proto::KeyPurpose::General,
            KeyPurpose::AuditRoot => proto::KeyPurpose::AuditRoot,
        }
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use dalp_proto::signer::{Eip712Document, EvmTransaction, SettlementReveal, SignRequest, sign_request};
    use proptest::prelude::*;

    use super::*;

    const DOCUMENT: &str = r#"{"types":{"EIP712Domain":[{"name":"name","type":"string"},{"name":"chainId","type":"uint256"}],"Permit":[{"name":"owner","type":"address"},
        {"name":"amounts","type":"uint256[2][]"},{"name":"note","type":"string"}]},"primaryType":"Permit","domain":{"name":"x","chainId":"0x7a69"},
        "message":{"owner":"0x1111111111111111111111111111111111111111","amounts":[["1","2"]],"note":"once"}}"#;

    /// A request whose content is `payload`, and else sound.
    fn with(payload: sign_request::Payload) -> SignRequest {
        SignRequest {
            request_id: Uuid::from_u128(1).to_string(),
            tenant: "acme".to_owned(),
            signer: "0x1111111111111111111111111111111111111111".to_owned(),
            payload: Some(payload),
            replaces_request_id: String::new(),
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["\\PC{0,80}", "0x[0-9a-fA-F]{0,130}", "[0-9]{0,80}"]
    }

    proptest! {
        #[test]
        fn a_transaction_is_read_or_refused(texts in proptest::collection::vec(text(), 8), numbers in any::<[u64; 3]>(), by_provider in any::<bool>()) {
            let [target, value_wei, data, max_fee_per_gas_wei, max_priority_fee_per_gas_wei, gas_price_wei, secret_id, other] =
                <[String; 8]>::try_from(texts).expect("eight");
            let transaction = EvmTransaction {
                chain_id: numbers[0],
                nonce: numbers[1],
                target,
                value_wei,
                data,
                gas_limit: numbers[2],
                max_fee_per_gas_wei,
                max_priority_fee_per_gas_wei,
                gas_price_wei,
                by_provider,
            };
            let reveal = SettlementReveal { transaction: Some(transaction.clone()), secret_id, not_after: numbers[2] };
            for mut request in [
                with(sign_request::Payload::EvmTransaction(transaction)),
                with(sign_request::Payload::SettlementReveal(reveal)),
            ] {
                let _ = sign_order(request.clone());
                request.tenant = other.clone();
                request.signer = other.clone();
                request.request_id = other.clone();
                prop_assert!(sign_order(request).is_err());
            }
        }

        #[test]
        fn a_document_is_read_or_refused(free in "\\PC{0,200}", at in 0_usize..DOCUMENT.len(), cut in 0_usize..20, insert in r#"[\[\]{}",:0-9a-z]{0,20}"#) {
            let end = (at + cut).min(DOCUMENT.len());
            let changed = format!("{}{insert}{}", &DOCUMENT[..at], &DOCUMENT[end..]);
            for document_json in [free, changed] {
                let _ = sign_order(with(sign_request::Payload::Eip712(Eip712Document { document_json })));
            }
        }
    }

    #[test]
    fn the_document_that_is_changed_is_sound() {
        let document_json = DOCUMENT.to_owned();
        assert!(sign_order(with(sign_request::Payload::Eip712(Eip712Document { document_json }))).is_ok());
    }
}
