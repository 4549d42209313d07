//! What becomes of an operation, and the failures of others that must not be ours.

use crate::support::{Bench, PayOrder, TENANT};
use dalp_engine::{AdmitError, OperationState, TransactionState, flow::Failure};
use std::{collections::BTreeSet, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_mined_and_told_once() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let accepted = bench.pay(&engine, 0, "one", PayOrder::times(2)).await.expect("accepted");
    let done = bench.wait(&engine, accepted.operation.operation_id).await;
    assert_eq!(done.state, OperationState::Completed, "{done:?}");
    assert_eq!(done.transactions.len(), 2);
    assert!(
        done.transactions
            .iter()
            .all(|one| one.state == TransactionState::Completed && one.tx_hash.is_some() && one.block_number.is_some())
    );
    let finals: i64 = bench.scalar("SELECT count(*) FROM engine.outbox WHERE topic = 'engine.transaction.final'").await;
    assert_eq!(finals, 2, "duplicate_confirmation_events");
    bench.assert_lane_is_whole(0, 2).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_the_same_operation() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let first = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    let again = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    assert!(again.replayed && !first.replayed);
    assert_eq!(first.operation.operation_id, again.operation.operation_id);
    bench.wait(&engine, first.operation.operation_id).await;
    bench.assert_lane_is_whole(0, 1).await;
    engine.stop().await;
}

/// Asked at once, so that they meet in one commit.
#[tokio::test(flavor = "multi_thread")]
async fn blind_retry_pays_twice() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let asking = (0..8).map(|number| {
        let (bench, engine) = (&bench, &engine);
        let key = if number < 6 { "key" } else { "other key" };
        async move { bench.pay(engine, 0, key, PayOrder::times(1)).await.expect("accepted") }
    });
    let accepted = futures::future::join_all(asking).await;
    let ids: BTreeSet<_> = accepted.iter().map(|one| one.operation.operation_id).collect();
    assert_eq!((ids.len(), accepted.iter().filter(|one| !one.replayed).count()), (2, 2), "one operation a key");
    for id in ids {
        bench.wait(&engine, id).await;
    }
    bench.assert_lane_is_whole(0, 2).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn same_key_other_payload() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    let refused = bench.pay(&engine, 0, "key", PayOrder::times(2)).await.expect_err("another payload");
    assert!(matches!(refused, AdmitError::KeyReused { stored_hash, given_hash } if stored_hash != given_hash));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_belongs_to_one_tenant() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    let refused =
        bench.pay_as(&engine, "other", 0, "key", PayOrder::times(1)).await.expect_err("another tenant's sender");
    assert!(matches!(refused, AdmitError::LaneOfOtherTenant(_)));
    let stored: i64 = bench.scalar("SELECT count(*) FROM engine.operations WHERE tenant = 'other'").await;
    assert_eq!(stored, 0, "a refusal queues nothing");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gas_estimate_failure_sends_anyway() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let accepted =
        bench.pay(&engine, 0, "bad", PayOrder { reverts: true, ..PayOrder::times(1) }).await.expect("accepted");
    let failed = bench.wait(&engine, accepted.operation.operation_id).await;
    assert_eq!(failed.state, OperationState::Failed);
    assert_eq!(failed.error.as_ref().map(|failure| failure.reason.as_str()), Some("DECODED"), "{failed:?}");
    assert_eq!(
        (failed.transactions[0].sub_status.as_str(), failed.transactions[0].nonce),
        ("simulation_reverted", None)
    );
    assert_eq!(bench.signer.requests(), 0, "nothing was signed");
    bench.assert_lane_is_whole(0, 0).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_runs_out_of_gas_has_not_passed() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let order = PayOrder { dry_check: true, ..PayOrder::times(1) };
    let accepted = bench.pay(&engine, 0, "dry", order).await.expect("accepted");
    let failed = bench.wait(&engine, accepted.operation.operation_id).await;
    assert_eq!(failed.error.as_ref().map(|failure| failure.reason.as_str()), Some("SIMULATION_REFUSED"), "{failed:?}");
    assert_eq!(
        (failed.transactions[0].sub_status.as_str(), failed.transactions[0].nonce),
        ("simulation_reverted", None)
    );
    assert_eq!(bench.signer.requests(), 0, "nothing was signed");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn insufficient_funds_is_opaque() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let accepted =
        bench.pay(&engine, 0, "rich", PayOrder { too_much: true, ..PayOrder::times(1) }).await.expect("accepted");
    let failed = bench.wait(&engine, accepted.operation.operation_id).await;
    assert_eq!(failed.error.map(|failure: Failure| failure.reason).as_deref(), Some("INSUFFICIENT_FUNDS"));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_nonce_leaves_no_gap() {
    let bench = Bench::start().await;
    bench.signer.rule(|rules| rules.deny.extend([1, 4]));
    let engine = bench.engine("a").await;
    let accepted =
        bench.pay(&engine, 0, "group", PayOrder { together: 5, ..PayOrder::times(0) }).await.expect("accepted");
    let done = bench.wait(&engine, accepted.operation.operation_id).await;
    let state = |state| done.transactions.iter().filter(|one| one.state == state).count();
    assert_eq!((state(TransactionState::Completed), state(TransactionState::Failed)), (3, 2), "{done:?}");
    let next = bench.pay(&engine, 0, "next", PayOrder::times(1)).await.expect("accepted");
    let next = bench.wait(&engine, next.operation.operation_id).await;
    assert_eq!(next.state, OperationState::Completed, "gap_after_failed_send: {next:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_signer_is_asked_again_with_the_same_request() {
    let bench = Bench::start().await;
    bench.signer.rule(|rules| rules.fail = 3);
    let engine = bench.engine("a").await;
    let accepted = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    assert_eq!(bench.wait(&engine, accepted.operation.operation_id).await.state, OperationState::Completed);
    assert_eq!(bench.signer.distinct_requests(), 1);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonce_used_outside() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let first = bench.pay(&engine, 0, "first", PayOrder::times(1)).await.expect("accepted");
    bench.wait(&engine, first.operation.operation_id).await;
    bench.send_outside(0).await;
    let second = bench.pay(&engine, 0, "second", PayOrder::times(1)).await.expect("accepted");
    let done = bench.wait(&engine, second.operation.operation_id).await;
    assert_eq!((done.state, done.transactions[0].nonce), (OperationState::Completed, Some(2)), "{done:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_disagrees_with_chain() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let first = bench.pay(&engine, 0, "first", PayOrder::times(1)).await.expect("accepted");
    bench.wait(&engine, first.operation.operation_id).await;
    engine.stop().await;
    bench.send_outside(0).await;
    bench.send_outside(0).await;
    let engine = bench.engine("a").await;
    let second = bench.pay(&engine, 0, "second", PayOrder::times(1)).await.expect("accepted");
    let done = bench.wait(&engine, second.operation.operation_id).await;
    assert_eq!((done.state, done.transactions[0].nonce), (OperationState::Completed, Some(3)), "{done:?}");
    engine.stop().await;
}

/// Killed again and again at whatever line it stands, with a backlog on several lanes.
#[tokio::test(flavor = "multi_thread")]
async fn backlog_jams_after_kill() {
    const OPERATIONS: usize = 120;
    const LANES: usize = 4;
    let bench = Bench::start().await;
    let mut engine = bench.engine("a").await;
    let mut ids = Vec::new();
    for index in 0..OPERATIONS {
        let accepted =
            bench.pay(&engine, index % LANES, &format!("key{index}"), PayOrder::times(2)).await.expect("accepted");
        ids.push(accepted.operation.operation_id);
        if index % 15 == 14 {
            engine.kill().await;
            engine = bench.engine("a").await;
        }
    }
    for round in 0..6u64 {
        // A different line each time: after so many signatures.
        bench.signer.wait_for_more_requests(5 + 7 * round, Duration::from_secs(5)).await;
        engine.kill().await;
        engine = bench.engine("a").await;
    }
    for id in &ids {
        let done = bench.wait(&engine, *id).await;
        assert_eq!(done.state, OperationState::Completed, "{done:?}");
    }
    for lane in 0..LANES {
        bench.assert_lane_is_whole(lane, (OPERATIONS / LANES * 2) as u64).await;
    }
    let hashes: BTreeSet<Vec<u8>> =
        bench.column("SELECT tx_hash FROM engine.transactions WHERE state = 'COMPLETED'").await.into_iter().collect();
    assert_eq!(hashes.len(), OPERATIONS * 2, "each mined once");
    assert_eq!(bench.payments_on_chain().await, (OPERATIONS * 2) as u64, "recovery_double_send");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_disappears_is_told() {
    let bench = Bench::start_with(&[], 3).await;
    bench.mine(5).await;
    let engine = bench.engine("a").await;
    let accepted = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    let id = accepted.operation.operation_id;
    bench
        .until(&engine, id, |view| view.transactions.iter().any(|one| one.state == TransactionState::Confirming))
        .await;
    // Its block is the last one, and stays so until it is taken away.
    bench.automine(false).await;
    bench.reorg(1).await;
    let told = "SELECT count(*) FROM engine.outbox WHERE topic = 'engine.transaction.retracted'";
    bench.until_scalar(told, 1).await;
    let blocks = async {
        loop {
            bench.mine(1).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let done = tokio::select! {
        done = bench.wait(&engine, id) => done,
        () = blocks => unreachable!("blocks are made without end"),
    };
    assert_eq!(done.state, OperationState::Completed, "{done:?}");
    assert_eq!(bench.payments_on_chain().await, 1);
    assert_eq!(bench.scalar::<i64>(told).await, 1, "reorg_leaves_holes");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_never_overtaken() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let mut open = bench.pool.begin().await.expect("a transaction begins");
    // Written first, committed last.
    sqlx::query("INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body) VALUES ($1, 'test', 's', gen_random_uuid(), '{}')")
        .bind(TENANT)
        .execute(&mut *open)
        .await
        .expect("event is written");
    let accepted = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    bench.wait(&engine, accepted.operation.operation_id).await;
    let tenant = TENANT.into();
    assert!(
        engine.reader().events(&tenant, Default::default(), 100).await.expect("readable").is_empty(),
        "readers stop below an open transaction"
    );
    open.commit().await.expect("committed");
    let events = engine.reader().events(&tenant, Default::default(), 100).await.expect("readable");
    assert_eq!(events[0].topic, "test");
    assert!(events.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
    engine.stop().await;
}

/// Numbers of transactions are numbers: a page that ended at 99 goes on with 100.
#[tokio::test(flavor = "multi_thread")]
async fn events_keep_their_order_when_transaction_numbers_grow_longer() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    for xid in ["9", "10", "99", "100"] {
        sqlx::query(
            "INSERT INTO engine.outbox (xid, tenant, topic, subject, operation_id, body)
             VALUES ($1::text::xid8, $2, 'test', $1::text, gen_random_uuid(), '{}')",
        )
        .bind(xid)
        .bind(TENANT)
        .execute(&bench.pool)
        .await
        .expect("event is written");
    }
    let (tenant, mut after, mut subjects) = (TENANT.into(), Default::default(), Vec::new());
    while let [event] = &engine.reader().events(&tenant, after, 1).await.expect("readable")[..] {
        subjects.push(event.subject.clone());
        after = event.cursor;
    }
    assert_eq!(subjects, ["9", "10", "99", "100"]);
    engine.stop().await;
}
