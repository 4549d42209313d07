//! The failures of other signers that must not be ours, each by its name.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::{sync::Arc, time::Duration};

use alloy::primitives::keccak256;
use dalp_proto::signer::{
    CreateKeyRequest, EvmTransaction, ReleaseRequest, SignStatus, key_service_server::KeyService as _,
    signer_service_server::SignerService as _,
};
use dalp_service::stop::Stop;
use support::{Bench, PEER, approved_transaction, call, create, from_caller, from_peer, order, reason, sign, until};
use svc_signer::{
    providers::{KeyHandle, KeyName, Provider as _, ProviderError, ProviderKind, SignAtOnce as _},
    store::{outcomes::Outcome, requests::Status},
};

/// Named regression: retried logins locked the HSM user out.
#[tokio::test(flavor = "multi_thread")]
async fn bad_pin_loop_locks_the_partition() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let token = bench.token.clone().unwrap();
    std::fs::write(token.pin_file(), "wrong\n").unwrap();
    let wrong = bench.replica().await;
    let request = order(&key.address, call(0));
    let outcome = sign(&wrong, &request).await.unwrap();
    assert_eq!(
        (outcome.status(), outcome.error.as_str()),
        (SignStatus::Blocked, "PARTITION_PIN_REFUSED"),
        "{outcome:?}"
    );
    assert!(
        outcome.detail.contains("PIN") || outcome.detail.contains("C_Login") || outcome.detail.contains("0x000000a0"),
        "{outcome:?}"
    );
    // Again, after the pause, and on another replica: the PIN is not tried a second time.
    let replica = bench.replica().await;
    for bench in [&wrong, &replica] {
        let outcome =
            until(async || sign(bench, &request).await.unwrap(), |outcome| outcome.detail.contains("not tried again"));
        assert_eq!(outcome.await.status(), SignStatus::Blocked);
        let create = CreateKeyRequest { wallet: "new".to_owned(), ..Default::default() };
        assert_eq!(
            reason(&bench.keys.create_key(from_caller(create, "bank", "new")).await.unwrap_err()),
            "PARTITION_PIN_REFUSED"
        );
    }
    // A corrected PIN is another version and is tried; nothing restarts.
    std::fs::write(token.pin_file(), support::PIN).unwrap();
    let signed =
        until(async || sign(&wrong, &request).await.unwrap(), |outcome| outcome.status() == SignStatus::Approved);
    approved_transaction(&signed.await);
}

/// Named regression: a blocking module call froze the process.
#[tokio::test(flavor = "multi_thread")]
async fn pkcs11_call_hangs_for_minutes() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let hsm = bench.hsm.clone().unwrap();
    let pid = hsm.worker_pid().unwrap();
    assert!(dalp_testing::signal(pid, dalp_testing::Signal::STOP));
    let request = order(&key.address, call(0));
    let outcome = tokio::time::timeout(Duration::from_secs(20), sign(&bench, &request)).await.unwrap().unwrap();
    assert_eq!(outcome.status(), SignStatus::Pending, "{outcome:?}");
    assert_eq!(
        outcome.error, "PROVIDER_UNAVAILABLE",
        "nobody has to act: the caller must not take it for an approval hold"
    );
    let signed = sign(&bench, &request).await.unwrap();
    approved_transaction(&signed);
    assert_eq!(signed.error, "");
    assert_ne!(hsm.worker_pid().unwrap(), pid, "a fresh worker");
}

/// Named regressions: two contexts in one process are undefined behaviour; after an HSM restart everything failed until the service restarted.
#[tokio::test(flavor = "multi_thread")]
async fn second_initialise_crashes() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let hsm = bench.hsm.clone().unwrap();
    for nonce in 0..3 {
        let pid = hsm.worker_pid().unwrap();
        assert!(dalp_testing::signal(pid, dalp_testing::Signal::KILL));
        approved_transaction(&sign(&bench, &order(&key.address, call(nonce))).await.unwrap());
        assert_ne!(hsm.worker_pid().unwrap(), pid, "each context has a process of its own");
    }
    let replica = bench.replica().await;
    let (one, two) = (order(&key.address, call(3)), order(&key.address, call(4)));
    let (one, two) = tokio::join!(sign(&bench, &one), sign(&replica, &two));
    approved_transaction(&one.unwrap());
    approved_transaction(&two.unwrap());
}

/// Named regression: CKR_OPERATION_ACTIVE.
#[tokio::test(flavor = "multi_thread")]
async fn session_shared_between_threads() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let record = bench.store.key(key.address.parse().unwrap()).await.unwrap().unwrap();
    let hsm = bench.hsm.clone().unwrap();
    let signatures = (0u64..400).map(|number| {
        let (hsm, record) = (Arc::clone(&hsm), record.clone());
        async move {
            let digest = keccak256(number.to_be_bytes());
            let raw = hsm.sign(KeyHandle { name: &record.name, material: &record.material }, digest).await?;
            raw.normalise(digest, &record.public_key).map_err(|error| ProviderError::Failed(error.to_string()))
        }
    });
    for signature in futures::future::join_all(signatures).await {
        signature.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hsm_key_is_found_again_after_a_crash() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let hsm = bench.hsm.clone().unwrap();
    let name = KeyName { tenant: "bank".to_owned(), wallet: "orphan".to_owned() };
    // Generated, and the signer died before it was stored.
    let first = hsm.create(&name).await.unwrap();
    let key = create(&bench, "orphan").await;
    assert_eq!(key.public_key, format!("0x{}", hex::encode(first.public_key.serialize_uncompressed())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_nonce_is_given_back() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let token = bench.token.clone().unwrap();
    std::fs::write(token.pin_file(), "wrong\n").unwrap();
    let mut replica = bench.replica().await;
    let request = order(&key.address, call(0));
    assert_eq!(sign(&replica, &request).await.unwrap().status(), SignStatus::Blocked);
    let release = || from_peer(ReleaseRequest { request_id: request.request_id.clone() }, PEER);
    assert_eq!(
        reason(&replica.edge.release(release()).await.unwrap_err()),
        "WATERMARK_CONFLICT",
        "blocked is not final"
    );
    // The same signer with a deadline that has passed.
    replica.config.signer.request_deadline_s = 1;
    let signer =
        svc_signer::signing::Signer::new(&replica.config, replica.store.clone(), replica.signer.providers().clone());
    replica.edge = svc_signer::edge::signer::SignerEdge::new(Arc::new(signer), Stop::new());
    let expired =
        until(async || sign(&replica, &request).await.unwrap(), |outcome| outcome.status() == SignStatus::Expired);
    assert_eq!(expired.await.error, "POLL_TIMEOUT");
    replica.edge.release(release()).await.unwrap();
    replica.edge.release(release()).await.unwrap();
    let other = order(&key.address, EvmTransaction { data: "0x12345678".to_owned(), ..call(0) });
    approved_transaction(&sign(&bench, &other).await.unwrap());
}

/// A repeat that overtakes the first asking is signed as well; an HSM signs each time differently, and one signature only may leave.
#[tokio::test(flavor = "multi_thread")]
async fn one_request_asked_for_many_times_at_once_has_one_signature() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    let replica = bench.replica().await;
    for nonce in 0..10 {
        let request = order(&key.address, call(nonce));
        let asking = (0..24).map(|number| sign(if number % 4 == 0 { &replica } else { &bench }, &request));
        let answers = futures::future::join_all(asking).await;
        let stored = sign(&bench, &request).await.unwrap();
        approved_transaction(&stored);
        for answer in answers {
            assert_eq!(answer.unwrap(), stored);
        }
    }
}

/// Outcomes of one request in one write: one of them stands, a final one before others, and all are answered with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_final_outcome_is_written_once() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    std::fs::write(bench.token.as_ref().unwrap().pin_file(), "wrong\n").unwrap();
    let blocked = bench.replica().await;
    let pool = bench.postgres.pool().await;
    let update = async |sql: &'static str, id: &str| {
        let id: uuid::Uuid = id.parse().unwrap();
        sqlx::query(sql).bind(id).execute(&pool).await.map(|done| done.rows_affected())
    };
    let outcome = |id: &str, status, signature: Option<u8>| Outcome {
        request_id: id.parse().unwrap(),
        was: Status::Blocked,
        status,
        signature: signature.map(|byte| vec![byte; 65]),
        signed_tx: signature.map(|byte| vec![byte; 80]),
        tx_hash: signature.map(|byte| vec![byte; 32]),
        stage: "",
        detail: String::new(),
        error: "",
    };
    let undecided = async |nonce| {
        let request = order(&key.address, call(nonce));
        assert_eq!(sign(&blocked, &request).await.unwrap().status(), SignStatus::Blocked);
        request.request_id
    };

    let id = undecided(0).await;
    let given = [
        outcome(&id, Status::Pending, None),
        outcome(&id, Status::Approved, Some(1)),
        outcome(&id, Status::Approved, Some(2)),
        outcome(&id, Status::Denied, None),
    ];
    for round in 0..2 {
        for stands in bench.store.conclude(&given[round..]).await.unwrap() {
            let stands = stands.unwrap();
            assert_eq!((stands.status, stands.signature), (Status::Approved, Some(vec![1; 65])));
            assert_eq!((stands.signed_tx, stands.tx_hash), (Some(vec![1; 80]), Some(vec![1; 32])));
        }
    }
    let absent = outcome(&uuid::Uuid::new_v4().to_string(), Status::Denied, None);
    assert!(bench.store.conclude(&[absent]).await.unwrap()[0].is_none());
    // The database refuses it as well, whoever writes.
    for sql in [
        "update signer.requests set signature = digest || digest || 'x' where request_id = $1",
        "update signer.requests set status = 'PENDING', signature = null where request_id = $1",
        "delete from signer.requests where request_id = $1",
    ] {
        assert!(update(sql, &id).await.is_err(), "{sql}");
    }

    let id = undecided(1).await;
    let stands = bench.store.conclude(&[outcome(&id, Status::Denied, None)]).await.unwrap();
    assert_eq!(stands[0].as_ref().unwrap().status, Status::Denied);
    for sql in [
        "update signer.requests set status = 'PENDING' where request_id = $1",
        "update signer.requests set status = 'EXPIRED' where request_id = $1",
        "update signer.requests set detail = 'other' where request_id = $1",
        "delete from signer.requests where request_id = $1",
    ] {
        assert!(update(sql, &id).await.is_err(), "{sql}");
    }
    assert_eq!(update("update signer.requests set released = true where request_id = $1", &id).await.unwrap(), 1);
    assert!(update("update signer.requests set released = false where request_id = $1", &id).await.is_err());
}
