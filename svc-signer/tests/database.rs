//! What the database may do to the signer: two commits at once, a host that is gone without a word.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use std::{sync::Arc, time::Duration};

use dalp_proto::signer::{
    CreateKeyRequest, EvmTransaction, ListKeysRequest, ReleaseRequest, SignRequest, SignStatus, StatusRequest,
    key_service_server::KeyService as _, signer_service_server::SignerService as _,
};
use dalp_service::stop::Stop;
use dalp_testing::{Signal, TestPostgres, signal};
use sqlx::Row as _;
use support::{
    Bench, Holders, PEER, Setting, approved_transaction, call, create, from_caller, from_peer, meta, order, reason,
    sign, until,
};
use svc_signer::{
    edge::{key::KeyEdge, signer::SignerEdge},
    providers::ProviderKind,
    signing::Signer,
    store::{Store, outcomes::Outcome, requests::Status},
};

/// The request that held a nonce gives it back while another takes it over: the other keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_leaves_the_watermark_of_whoever_took_the_nonce_meanwhile() {
    let bench = Bench::new(ProviderKind::Pkcs11).await;
    let key = create(&bench, "desk").await;
    // Refused for good, and not released yet.
    let refused = order(&key.address, call(0));
    let token = bench.token.clone().unwrap();
    std::fs::write(token.pin_file(), "wrong\n").unwrap();
    let blocked = bench.replica().await;
    assert_eq!(sign(&blocked, &refused).await.unwrap().status(), SignStatus::Blocked);
    let denial = Outcome {
        request_id: refused.request_id.parse().unwrap(),
        was: Status::Blocked,
        status: Status::Denied,
        signature: None,
        signed_tx: None,
        tx_hash: None,
        stage: "",
        detail: String::new(),
        error: "",
    };
    bench.store.conclude(&[denial]).await.unwrap();

    // The filler waits for the row of the nonce, in the middle of its commit; the release comes behind it.
    let pool = bench.postgres.pool().await;
    let mut held = pool.begin().await.unwrap();
    sqlx::query("select from signer.watermarks for update").execute(&mut *held).await.unwrap();
    let waiting = async |number: i64| {
        let count =
            "select count(*) from pg_stat_activity where application_name = 'svc-signer' and wait_event_type = 'Lock'";
        until(async || sqlx::query(count).fetch_one(&pool).await.unwrap().get::<i64, _>(0), |found| *found == number)
            .await;
    };
    let filler = SignRequest {
        replaces_request_id: refused.request_id.clone(),
        ..order(&key.address, EvmTransaction { target: key.address.clone(), data: String::new(), ..call(0) })
    };
    let (edge, request) = (bench.edge.clone(), from_peer(filler.clone(), PEER));
    let filling = tokio::spawn(async move { edge.sign(request).await });
    waiting(1).await;
    let (edge, request) = (bench.edge.clone(), from_peer(ReleaseRequest { request_id: refused.request_id }, PEER));
    let releasing = tokio::spawn(async move { edge.release(request).await });
    waiting(2).await;
    held.commit().await.unwrap();
    approved_transaction(&filling.await.unwrap().unwrap().into_inner().outcome.unwrap());
    releasing.await.unwrap().unwrap();

    let third = order(&key.address, EvmTransaction { data: "0x12345678".to_owned(), ..call(0) });
    let conflict = sign(&bench, &third).await.unwrap_err();
    assert_eq!((reason(&conflict).as_str(), meta(&conflict, "next_nonce").as_str()), ("WATERMARK_CONFLICT", "1"));
}

/// A signer over another store, with the same providers.
fn over(store: Store, bench: &mut Bench) {
    bench.store = store;
    bench.signer = Arc::new(Signer::new(&bench.config, bench.store.clone(), bench.signer.providers().clone()));
    bench.edge = SignerEdge::new(Arc::clone(&bench.signer), Stop::new());
    bench.keys = KeyEdge::new(Arc::clone(&bench.signer));
}

/// The signer listens before its schema is up to date: whoever comes then is asked to come again, and is not told of a defect.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_up_to_date_yet_is_waited_for() {
    let mut bench = Bench::new(ProviderKind::Local).await;
    let key = create(&bench, "desk").await;
    let pool = bench.postgres.pool().await;
    let change = async |sql: &'static str| {
        sqlx::query(sql).execute(&pool).await.unwrap();
    };
    // As it stands between two migrations: the table is there, a column of a later one is not.
    change("alter table signer.keys rename column tier to tier_of_tomorrow").await;
    let asked = async |bench: &Bench, wallet: &str| {
        let made = CreateKeyRequest { wallet: wallet.to_owned(), ..Default::default() };
        let made = bench.keys.create_key(from_caller(made, "bank", wallet)).await;
        let listed = bench.keys.list_keys(from_caller(ListKeysRequest::default(), "bank", "list")).await;
        let request = order(&key.address, call(0));
        let status = bench.edge.status(from_peer(StatusRequest { request_id: request.request_id.clone() }, PEER)).await;
        [
            made.map(drop).unwrap_err(),
            listed.map(drop).unwrap_err(),
            status.map(drop).unwrap_err(),
            sign(bench, &request).await.map(drop).unwrap_err(),
        ]
        .map(|refused| reason(&refused))
    };
    let store = Store::new(&bench.config).unwrap();
    over(store.clone(), &mut bench);
    assert_eq!(asked(&bench, "early").await, ["DATABASE_UNAVAILABLE"; 4]);
    let half = Store::as_it_stands(&bench.config).unwrap();
    over(half, &mut bench);
    assert_eq!(asked(&bench, "early").await[0], "INTERNAL", "which is what was kept from callers");
    change("alter table signer.keys rename column tier_of_tomorrow to tier").await;
    over(store.clone(), &mut bench);
    assert_eq!(asked(&bench, "early").await, ["DATABASE_UNAVAILABLE"; 4], "nobody has said that it is up to date");
    store.migrate().await.unwrap();
    create(&bench, "early").await;
    approved_transaction(&sign(&bench, &order(&key.address, call(0))).await.unwrap());
}

/// Processes that are stopped, and go on when this is dropped.
struct Stopped(Vec<u32>);

impl Stopped {
    fn new(processes: impl IntoIterator<Item = u32>) -> Self {
        let stopped = Self(processes.into_iter().collect());
        assert!(stopped.0.iter().all(|pid| signal(*pid, Signal::STOP)));
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal(*pid, Signal::CONT);
        }
    }
}

/// A host that dies leaves its connections open and silent. Whoever waits on one is told, and those that come when another host has taken over
/// are not sent to the dead one.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_answering_does_not_stop_signing_for_ever() {
    let mut bench = Bench::new(ProviderKind::Local).await;
    bench.config.signer.database_timeout_ms = 2_000;
    let store = Store::as_it_stands(&bench.config).unwrap();
    over(store, &mut bench);
    let key = create(&bench, "desk").await;
    let before = order(&key.address, call(0));
    let signed = sign(&bench, &before).await.unwrap();
    // As many connections as the pool may have.
    let reads = futures::future::join_all((0..200).map(|_| sign(&bench, &before))).await;
    assert!(reads.into_iter().all(|read| read.unwrap() == signed));

    let pool = bench.postgres.pool().await;
    let pids = "select pid from pg_stat_activity where application_name = 'svc-signer'";
    let connections: Vec<i32> = sqlx::query_scalar(pids).fetch_all(&pool).await.unwrap();
    assert!(connections.len() > 2, "{connections:?}");
    let _connections = Stopped::new(connections.into_iter().map(i32::cast_unsigned));
    let host = Stopped::new([bench.postgres.pid()]);
    let asked = async |request: SignRequest| {
        let answer = tokio::time::timeout(Duration::from_secs(20), sign(&bench, &request));
        answer.await.expect("whoever asks is answered")
    };
    let request = order(&key.address, call(1));
    for request in [&request, &before, &request] {
        assert_eq!(reason(&asked(request.clone()).await.unwrap_err()), "DATABASE_UNAVAILABLE");
    }
    // New connections are answered again, the old ones never.
    drop(host);
    let recovered = until(async || asked(request.clone()).await, Result::is_ok).await.unwrap();
    approved_transaction(&recovered);
    for nonce in 2..40 {
        let request = order(&key.address, call(nonce));
        approved_transaction(&until(async || asked(request.clone()).await, Result::is_ok).await.unwrap());
    }
    assert_eq!(asked(before).await.unwrap(), signed);
}

/// While a failover is under way an address leads to a standby for moments. A connection to it is not kept: it would refuse writes for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_not_signed_through_and_its_connections_are_not_kept() {
    let durable = Arc::new(TestPostgres::start_durable()); // what is signed must outlive the restart
    let holders = Holders::of(ProviderKind::Local).await;
    let mut bench = Bench::over(Setting::of(ProviderKind::Local), durable, holders).await;
    let key = create(&bench, "desk").await;
    let server = Arc::get_mut(&mut bench.postgres).expect("nobody else has the server");
    tokio::task::block_in_place(|| server.restart_as_standby());
    let request = order(&key.address, call(0));
    for _ in 0..3 {
        assert_eq!(reason(&sign(&bench, &request).await.unwrap_err()), "DATABASE_UNAVAILABLE");
    }
    bench.postgres.promote().await;
    approved_transaction(&sign(&bench, &request).await.unwrap());
}
