//! What a hostile peer, a careless operator or a changed row must not get out of the signer.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::{sync::Arc, time::Duration};

use dalp_proto::signer::{
    ClaimAttestation, CreateKeyRequest, DisableKeyRequest, Eip712Document, EvmTransaction, ListIntentsRequest,
    ReleaseRequest, SignRequest, SignStatus, StatusRequest, key_service_server::KeyService as _, sign_request::Payload,
    signer_service_server::SignerService as _,
};
use sqlx::{PgPool, Row as _};
use support::{
    Bench, PEER, RULES, TARGET, approved_transaction, call, create, from_caller, from_peer, order, reason, sign, until,
};
use svc_signer::providers::{
    Provider as _, ProviderKind,
    pkcs11::{Attempt, Ended, PinLatch as _},
};

/// Peers with the same rights as [`PEER`], so that only the ownership of a request tells them apart.
const TWO_PEERS: &str = r#"
[[grants]]
peer = "spiffe://dalp.dev/svc-compliance"
kinds = ["evm_transaction", "eip712", "claim"]
[[grants]]
peer = "spiffe://dalp.dev/svc-settlement"
kinds = ["evm_transaction"]
[[policy.rules]]
name = "all"
action = "allow"
"#;

fn claim(signer: &str) -> SignRequest {
    let claim = ClaimAttestation {
        identity: TARGET.to_owned(),
        topic: format!("0x{}", "01".repeat(32)),
        data: "0x01".to_owned(),
    };
    SignRequest { payload: Some(Payload::Claim(claim)), ..order(signer, call(0)) }
}

async fn pool(bench: &Bench) -> PgPool {
    bench.postgres.pool().await
}

/// A request that waits because the HSM does not answer: its process is stopped, and the deadline of the call has passed.
async fn waiting(bench: &Bench, request: &SignRequest) {
    let hsm = bench.hsm.as_ref().unwrap();
    assert!(hsm.status().await.ready);
    let pid = hsm.worker_pid().unwrap();
    assert!(dalp_testing::signal(pid, dalp_testing::Signal::STOP));
    assert_eq!(sign(bench, request).await.unwrap().status(), SignStatus::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_its_peers_own() {
    let bench = Bench::new(ProviderKind::Local).await.replica_with(TWO_PEERS).await;
    let key = create(&bench, "desk").await;
    let request = order(&key.address, call(0));
    approved_transaction(&sign(&bench, &request).await.unwrap());
    let stranger = bench.edge.sign(from_peer(request, "spiffe://dalp.dev/svc-settlement")).await.unwrap_err();
    assert_eq!(reason(&stranger), "REQUEST_ID_REUSED", "the same payload under another peer's id is not answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_read_by_those_who_may_use_the_key() {
    let bench = Bench::new(ProviderKind::Local).await;
    let key = create(&bench, "desk").await;
    sign(&bench, &order(&key.address, call(0))).await.unwrap();
    let other = format!(
        "[[grants]]\npeer = \"{PEER}\"\nkinds = [\"evm_transaction\"]\nsigners = [\"{TARGET}\"]\n\
         [[grants]]\npeer = \"{PEER}\"\nkinds = [\"claim\"]\n"
    );
    let narrowed = bench.replica_with(&other).await;
    let list =
        ListIntentsRequest { tenant: "bank".to_owned(), chain_id: 31337, signer: key.address.clone(), from_nonce: 0 };
    let refused = narrowed.edge.list_intents(from_peer(list.clone(), PEER)).await.unwrap_err();
    assert_eq!(reason(&refused), "GRANT_MISSING");
    assert_eq!(bench.edge.list_intents(from_peer(list, PEER)).await.unwrap().into_inner().intents.len(), 1);
}

/// Accepted under yesterday's rules, still unsigned today: today's rules decide.
#[tokio::test(flavor = "multi_thread")]
async fn a_tightened_policy_reaches_what_is_not_signed_yet() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let (by_repeat, by_sweep, document) =
        (order(&key.address, call(0)), order(&key.address, call(1)), claim(&key.address));
    waiting(&bench, &by_repeat).await;
    for request in [&by_sweep, &document] {
        waiting(&bench, request).await;
    }
    let strict = bench
        .replica_with(&format!(
            "{RULES}\n[[policy.rules]]\nname = \"halt\"\naction = \"deny\"\nsigners = [\"{}\"]\n",
            key.address
        ))
        .await;
    let denied = sign(&strict, &by_repeat).await.unwrap();
    assert_eq!(denied.status(), SignStatus::Denied);
    assert!(denied.detail.contains("halt"), "{denied:?}");
    let sweeping = tokio::spawn({
        let signer = Arc::clone(&strict.signer);
        async move { signer.sweep().await }
    });
    for request in [&by_sweep, &document] {
        let outcome =
            until(async || sign(&strict, request).await.unwrap(), |outcome| outcome.status() != SignStatus::Pending);
        assert_eq!(outcome.await.status(), SignStatus::Denied);
    }
    sweeping.abort();
    // Nothing of it is signed by a replica with the old rules either.
    assert_eq!(sign(&bench, &by_repeat).await.unwrap().status(), SignStatus::Denied);
}

/// A grant that goes away ends what is not signed yet, for good; what was decided before keeps its answer. The caller must not take a refusal
/// for one of a request that was never accepted: it would give a nonce back that is still held here.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_grant_reaches_what_is_not_signed_yet() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let (signed, by_repeat, by_sweep) =
        (order(&key.address, call(0)), order(&key.address, call(1)), order(&key.address, call(2)));
    let before = sign(&bench, &signed).await.unwrap();
    for request in [&by_repeat, &by_sweep] {
        waiting(&bench, request).await;
    }
    let without = bench.replica_with("[[policy.rules]]\nname = \"all\"\naction = \"allow\"\n").await;
    let denied = sign(&without, &by_repeat).await.unwrap();
    assert_eq!(denied.status(), SignStatus::Denied, "{denied:?}");
    assert!(denied.detail.contains("grant"), "{denied:?}");
    assert_eq!(sign(&bench, &by_repeat).await.unwrap(), denied, "also where the grant is still in force");
    let release = ReleaseRequest { request_id: by_repeat.request_id.clone() };
    without.edge.release(from_peer(release, PEER)).await.unwrap();
    let heir = order(&key.address, EvmTransaction { data: "0x12345678".to_owned(), ..call(1) });
    assert_eq!(reason(&sign(&without, &heir).await.unwrap_err()), "GRANT_MISSING", "a new request is refused");
    approved_transaction(&sign(&bench, &heir).await.unwrap());
    assert_eq!(sign(&without, &signed).await.unwrap(), before, "what was signed stays readable");

    let sweeping = tokio::spawn({
        let signer = Arc::clone(&without.signer);
        async move { signer.sweep().await }
    });
    let status = StatusRequest { request_id: by_sweep.request_id.clone() };
    until(
        async || bench.edge.status(from_peer(status.clone(), PEER)).await.unwrap().into_inner().outcome.unwrap(),
        |outcome| outcome.status() == SignStatus::Denied,
    )
    .await;
    sweeping.abort();
}

/// Another replica has the key in memory; the database has the last word, also over a signature that was made already.
#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_releases_nothing_it_had_accepted() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let replica = bench.replica().await;
    approved_transaction(&sign(&replica, &order(&key.address, call(0))).await.unwrap());
    let request = order(&key.address, call(1));
    waiting(&bench, &request).await;
    let disable = DisableKeyRequest { address: key.address.clone(), reason: "lost".to_owned() };
    bench.keys.disable_key(from_caller(disable, "bank", "d")).await.unwrap();
    let outcome = sign(&replica, &request).await.unwrap();
    assert_eq!((outcome.status(), outcome.signed_transaction.as_str()), (SignStatus::Denied, ""), "{outcome:?}");
}

/// Who can write a row of the database cannot have it signed: a late signature is over the payload that was allowed, or none.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_is_not_signed() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let request = order(&key.address, call(0));
    waiting(&bench, &request).await;
    let pool = pool(&bench).await;
    sqlx::query("update signer.requests set digest = sha256('a transfer of everything')").execute(&pool).await.unwrap();
    let replica = bench.replica().await;
    let sweeping = tokio::spawn({
        let signer = Arc::clone(&replica.signer);
        async move { signer.sweep().await }
    });
    let row = until(
        async || sqlx::query("select status, signature is null from signer.requests").fetch_one(&pool).await.unwrap(),
        |row| row.get::<String, _>(0) != "PENDING",
    )
    .await;
    assert_eq!((row.get::<String, _>(0).as_str(), row.get::<bool, _>(1)), ("DENIED", true));
    sweeping.abort();
}

/// Two replicas with two wrong PINs must not take turns until the partition locks.
#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_pin_is_tried_once_whoever_has_it() {
    let bench = Bench::new(ProviderKind::Local).await;
    let (wrong, worse, right, longest) = ([1; 32], [2; 32], [3; 32], Duration::from_secs(5));
    let latch = &bench.store;
    for pin in [wrong, worse] {
        assert_eq!(latch.begin("p", pin, longest).await.unwrap(), Attempt::Go { unclear: false });
        assert_eq!(latch.begin("p", right, longest).await.unwrap(), Attempt::Busy, "one login at a time");
        latch.end("p", pin, Ended::BadPin).await.unwrap();
    }
    for pin in [wrong, worse, wrong, worse] {
        assert_eq!(latch.begin("p", pin, longest).await.unwrap(), Attempt::Refused);
        assert_eq!(latch.bars("p", pin).await.unwrap(), Some(Attempt::Refused));
    }
    assert_eq!(latch.bars("p", right).await.unwrap(), None);
    assert_eq!(latch.begin("p", right, longest).await.unwrap(), Attempt::Go { unclear: false });
    latch.end("p", right, Ended::Opened).await.unwrap();
    assert_eq!(
        latch.begin("p", wrong, longest).await.unwrap(),
        Attempt::Refused,
        "a good PIN does not absolve a bad one"
    );
    assert_eq!(
        latch.begin("other", wrong, longest).await.unwrap(),
        Attempt::Go { unclear: false },
        "another partition, another memory"
    );
    // A PIN whose outcome stays unknown is tried three times in all.
    let unsure = [4; 32];
    for unclear in [false, true, true] {
        assert_eq!(latch.begin("p", unsure, longest).await.unwrap(), Attempt::Go { unclear });
        latch.end("p", unsure, Ended::Unknown).await.unwrap();
    }
    assert_eq!(latch.begin("p", unsure, longest).await.unwrap(), Attempt::Unclear);
    assert_eq!(latch.bars("p", unsure).await.unwrap(), Some(Attempt::Unclear));
}

/// Repeats of CreateKey at once would have made two HSM keys of one identifier, and then none can be used.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_asked_for_many_times_at_once_is_one_key() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let replica = bench.replica().await;
    let keys = futures::future::join_all((0..8).map(|number| {
        let bench = if number % 2 == 0 { &bench } else { &replica };
        async move {
            let request = CreateKeyRequest { wallet: "desk".to_owned(), ..Default::default() };
            let made = until(
                async || bench.keys.create_key(from_caller(request.clone(), "bank", "desk")).await,
                |made| made.as_ref().err().is_none_or(|refused| reason(refused) != "CONFLICT"),
            );
            made.await.unwrap().into_inner().key.unwrap()
        }
    }))
    .await;
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    for (nonce, bench) in [(0, &bench), (1, &replica)] {
        approved_transaction(&sign(bench, &order(&keys[0].address, call(nonce))).await.unwrap());
    }
}

/// More requests than the HSM serves within a call's deadline wait for their turn; a busy partition is not one that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_partition_is_not_killed() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let pid = bench.hsm.as_ref().unwrap().worker_pid().unwrap();
    sign(&bench, &order(&key.address, call(0))).await.unwrap();
    let requests: Vec<_> = (1..1_000).map(|nonce| order(&key.address, call(nonce))).collect();
    let answers = futures::future::join_all(requests.iter().map(|request| sign(&bench, request))).await;
    for answer in answers {
        let status = answer.unwrap().status();
        assert!(matches!(status, SignStatus::Approved | SignStatus::Pending), "{status:?}");
    }
    assert_eq!(bench.hsm.as_ref().unwrap().worker_pid(), Some(pid));
}

/// Types nested without end must not end the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_nested_too_deep_is_refused() {
    let bench = Bench::new(ProviderKind::Local).await;
    let key = create(&bench, "desk").await;
    let domain = serde_json::json!([{"name": "chainId", "type": "uint256"}]);
    let document = |types: serde_json::Value| serde_json::json!({"types": types, "primaryType": "T0", "domain": {"chainId": 31337}, "message": {"n": {}}});
    let arrays = document(serde_json::json!({
        "EIP712Domain": domain, "T0": [{"name": "n", "type": format!("uint256{}", "[]".repeat(60_000))}]
    }));
    let mut types = serde_json::Map::new();
    types.insert("EIP712Domain".to_owned(), domain);
    for level in 0..5_000 {
        types.insert(format!("T{level}"), serde_json::json!([{"name": "n", "type": format!("T{}", level + 1)}]));
    }
    types.insert("T5000".to_owned(), serde_json::json!([{"name": "n", "type": "uint256"}]));
    let structs = document(serde_json::Value::Object(types));
    for document in [arrays, structs] {
        let request = SignRequest {
            payload: Some(Payload::Eip712(Eip712Document { document_json: document.to_string() })),
            ..order(&key.address, call(0))
        };
        assert_eq!(reason(&sign(&bench, &request).await.unwrap_err()), "INVALID_FIELD");
    }
}

/// Nothing that is printed for people shows what a key is made of.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_printed() {
    let bench = Bench::new(ProviderKind::Local).await;
    let key = create(&bench, "desk").await;
    let record = bench.store.key(key.address.parse().unwrap()).await.unwrap().unwrap();
    let printed = format!("{record:?} {:?}", bench.config);
    assert!(!printed.contains("material"), "{printed}");
    for secret in ["07".repeat(32), "k".repeat(40), format!("{:?}", &record.material[..8])] {
        assert!(!printed.contains(secret.trim_matches(['[', ']'])), "{printed}");
    }
}

/// A refusal that repeats every two seconds for a day is one decision.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_audited_when_it_is_made() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let token = bench.token.clone().unwrap();
    std::fs::write(token.pin_file(), "wrong\n").unwrap();
    let mut blocked = bench.replica().await;
    blocked.config.signer.retry_ms = 10;
    let request = order(&key.address, call(0));
    for _ in 0..5 {
        assert_eq!(sign(&blocked, &request).await.unwrap().status(), SignStatus::Blocked);
        tokio::time::sleep(Duration::from_millis(210)).await; // past the pause between two looks
    }
    let leaves =
        sqlx::query("select count(*) from signer.audit_leaves where subject = 'sign' and decision = 'blocked'");
    assert_eq!(leaves.fetch_one(&pool(&bench).await).await.unwrap().get::<i64, _>(0), 1);
}
