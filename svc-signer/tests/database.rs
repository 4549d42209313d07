//! What the database may do to the signer: two commits at once, a host that is gone without a word.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)] // a test that cannot go on stops where it stands

mod support;

use dalp_proto::signer::{
    EvmTransaction, ReleaseRequest, SignRequest, SignStatus, signer_service_server::SignerService as _,
};
use sqlx::Row as _;
use support::{Bench, PEER, approved_transaction, call, create, from_peer, meta, order, reason, sign, until};
use svc_signer::{
    providers::ProviderKind,
    store::requests::{Outcome, Status},
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
