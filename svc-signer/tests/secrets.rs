//! A secret of a settlement is shown for the terms it was made for, in time, and for nothing else.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::{
    consensus::Transaction as _,
    primitives::{Address, B256, Bytes, U256, aliases::U40, hex, keccak256},
    sol_types::SolCall as _,
};
use dalp_proto::signer::{
    CreateSecretRequest, EvmTransaction, SecretHash, SecretMovement, SecretTerms, SettlementReveal, SignRequest,
    sign_request::Payload, signer_service_server::SignerService as _,
};
use support::{Bench, PEER, TARGET, approved_transaction, call, create, from_peer, order, reason, sign, until};
use svc_signer::{
    core::reveal::{Leg, Terms, revealCall},
    providers::ProviderKind,
};
use tonic::Status;
use uuid::Uuid;

/// 2100, and the year after.
const CUTOFF_S: u64 = 4_102_444_800;

fn asked(id: Uuid) -> CreateSecretRequest {
    let address = |byte| Address::repeat_byte(byte).to_checksum(None);
    let movement =
        |to| SecretMovement { asset: address(1), from: address(2), to: address(to), amount: "10".to_owned() };
    let terms = SecretTerms {
        chain_id: 31337,
        contract: TARGET.to_owned(),
        cutoff: CUTOFF_S,
        movements: vec![movement(4), movement(3)],
    };
    CreateSecretRequest {
        secret_id: id.to_string(),
        tenant: "bank".to_owned(),
        hash_kind: SecretHash::Keccak256.into(),
        terms: Some(terms),
    }
}

async fn made(bench: &Bench, request: CreateSecretRequest) -> Result<B256, Status> {
    let answer = bench.edge.create_secret(from_peer(request, PEER)).await?;
    Ok(answer.into_inner().hash.parse().unwrap())
}

fn terms(hash: B256) -> Terms {
    let address = Address::repeat_byte;
    let leg = |to, chain_id| Leg {
        asset: address(1),
        from: address(2),
        to: address(to),
        amount: U256::from(10),
        chainId: chain_id,
    };
    Terms {
        salt: B256::repeat_byte(8),
        name: "Theirs".to_owned(),
        cutoff: U40::from(CUTOFF_S),
        autoExecute: false,
        hashKind: 1,
        hashlock: hash,
        legs: vec![leg(3, 0), leg(4, 0), leg(9, 77)],
    }
}

fn shown(signer: &str, id: Uuid, terms: Terms, change: impl FnOnce(&mut EvmTransaction)) -> SignRequest {
    let data = revealCall { terms, secret: B256::ZERO }.abi_encode();
    let mut transaction = EvmTransaction { data: hex::encode_prefixed(data), ..call(0) };
    change(&mut transaction);
    let reveal =
        SettlementReveal { transaction: Some(transaction), secret_id: id.to_string(), not_after: 2 * CUTOFF_S };
    SignRequest { payload: Some(Payload::SettlementReveal(reveal)), ..order(signer, call(0)) }
}

fn secret_in(data: &Bytes) -> B256 {
    revealCall::abi_decode(data).unwrap().secret
}

#[tokio::test]
async fn a_secret_is_shown_for_the_terms_it_was_made_for() {
    let bench = Bench::new(ProviderKind::Local).await;
    let (key, id) = (create(&bench, "holder").await, Uuid::new_v4());
    let hash = made(&bench, asked(id)).await.unwrap();
    for (what, request) in [
        ("a contract", shown(&key.address, id, terms(hash), |tx| tx.target = key.address.clone())),
        ("a chain", shown(&key.address, id, terms(hash), |tx| tx.chain_id = 1)),
        ("a cutoff", shown(&key.address, id, Terms { cutoff: U40::from(CUTOFF_S - 1), ..terms(hash) }, |_| ())),
        ("less", shown(&key.address, id, Terms { legs: terms(hash).legs[1..].to_vec(), ..terms(hash) }, |_| ())),
        ("a hash", shown(&key.address, id, terms(B256::ZERO), |_| ())),
    ] {
        let refused = sign(&bench, &request).await.expect_err(what);
        assert_eq!(reason(&refused), "INVALID_FIELD", "another {what}");
    }
    let request = shown(&key.address, id, terms(hash), |_| ());
    let signed = approved_transaction(&sign(&bench, &request).await.unwrap());
    assert_eq!(keccak256(secret_in(signed.input())), hash, "of another salt, name and order, and what moves elsewhere");
    let pool = bench.postgres.pool().await;
    let decisions: Vec<String> =
        sqlx::query_scalar("select decision from signer.audit_leaves where subject = 'secret' order by number")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(decisions, ["made", "refused", "refused", "refused", "refused", "refused", "shown"]);
}

#[tokio::test]
async fn a_secret_is_asked_for_with_what_it_is_for_and_stays_so() {
    let bench = Bench::new(ProviderKind::Local).await;
    let id = Uuid::new_v4();
    let nothing = made(&bench, CreateSecretRequest { terms: None, ..asked(id) }).await.unwrap_err();
    assert_eq!(reason(&nothing), "INVALID_FIELD");
    let with = |change: &dyn Fn(&mut SecretTerms)| {
        let mut request = asked(id);
        change(request.terms.as_mut().unwrap());
        request
    };
    for wrong in [
        with(&|terms| terms.chain_id = 0),
        with(&|terms| terms.contract = String::new()),
        with(&|terms| terms.cutoff = 0),
        with(&|terms| terms.cutoff = 1 << 40),
        with(&|terms| terms.movements.clear()),
        with(&|terms| terms.movements = vec![terms.movements[0].clone(); 33]),
        with(&|terms| terms.movements[1].amount = "0".to_owned()),
        with(&|terms| terms.movements[1].asset = "0x".to_owned()),
    ] {
        assert_eq!(reason(&made(&bench, wrong.clone()).await.unwrap_err()), "INVALID_FIELD", "{wrong:?}");
    }
    let hash = made(&bench, asked(id)).await.unwrap();
    assert_eq!(made(&bench, with(&|terms| terms.movements.reverse())).await.unwrap(), hash, "the same, again");
    for other in [
        with(&|terms| terms.chain_id += 1),
        with(&|terms| terms.cutoff += 1),
        with(&|terms| terms.movements.truncate(1)),
        CreateSecretRequest { hash_kind: SecretHash::Sha256.into(), ..asked(id) },
    ] {
        assert_eq!(reason(&made(&bench, other).await.unwrap_err()), "REQUEST_ID_REUSED");
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_secret_is_not_shown_after_its_cutoff() {
    let bench = Bench::new(ProviderKind::Local).await;
    let (key, id) = (create(&bench, "holder").await, Uuid::new_v4());
    let mut request = asked(id);
    request.terms.as_mut().unwrap().cutoff = 9;
    let hash = made(&bench, request).await.unwrap();
    let mut show = shown(&key.address, id, Terms { cutoff: U40::from(9), ..terms(hash) }, |_| ());
    assert_eq!(reason(&sign(&bench, &show).await.unwrap_err()), "CUTOFF_PASSED", "whatever the caller says");
    // Nor as the replacement of something that was never signed.
    show.replaces_request_id = Uuid::new_v4().to_string();
    assert_eq!(reason(&sign(&bench, &show).await.unwrap_err()), "CUTOFF_PASSED");
}

#[tokio::test]
async fn a_secret_that_is_out_is_shown_again_whatever_the_time() {
    let bench = Bench::new(ProviderKind::Local).await;
    let (key, id, cutoff) = (create(&bench, "holder").await, Uuid::new_v4(), now_s() + 2);
    let mut request = asked(id);
    request.terms.as_mut().unwrap().cutoff = cutoff;
    let hash = made(&bench, request).await.unwrap();
    let terms = Terms { cutoff: U40::from(cutoff), ..terms(hash) };
    let first = shown(&key.address, id, terms.clone(), |_| ());
    approved_transaction(&sign(&bench, &first).await.unwrap());
    until(async || now_s(), |now_s| *now_s > cutoff).await;
    // The first one was taken back by a reorg, and its nonce was used by another.
    let again = shown(&key.address, id, terms.clone(), |tx| tx.nonce = 1);
    approved_transaction(&sign(&bench, &again).await.unwrap());
    approved_transaction(&sign(&bench, &first).await.unwrap());
    // Not for another settlement, even so.
    let other = Terms { salt: B256::ZERO, ..terms };
    let other = shown(&key.address, id, other, |tx| tx.nonce = 2);
    assert_eq!(reason(&sign(&bench, &other).await.unwrap_err()), "CUTOFF_PASSED");
}

#[tokio::test]
async fn a_secret_does_not_open_for_terms_that_somebody_wrote_beside_it() {
    let bench = Bench::new(ProviderKind::Local).await;
    let (key, id) = (create(&bench, "holder").await, Uuid::new_v4());
    let hash = made(&bench, asked(id)).await.unwrap();
    let pool = bench.postgres.pool().await;
    for change in ["cutoff_s = cutoff_s - 1", "chain_id = null, contract = null, cutoff_s = null, movements = null"] {
        let change = format!("set session_replication_role = replica; update signer.settlement_secrets set {change}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&pool).await.unwrap();
        let show = shown(&key.address, id, Terms { cutoff: U40::from(CUTOFF_S - 1), ..terms(hash) }, |_| ());
        assert_eq!(reason(&sign(&bench, &show).await.unwrap_err()), "PROVIDER_FAILED");
    }
}
