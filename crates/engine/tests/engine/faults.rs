//! What must not jam, double or lose anything: faults of the chain, the signer, the database and other replicas.

use crate::support::{Bench, PayOrder, TENANT};
use dalp_engine::{OperationState, OperationView, TransactionState, states::TRANSITIONS};
use futures::StreamExt as _;
use std::{collections::BTreeSet, time::Duration};

const STUCK: &str = "a jam";

#[tokio::test(flavor = "multi_thread")]
async fn low_nonce_sticks_forever() {
    let bench = Bench::start().await;
    bench.automine(false).await;
    let engine = bench.engine_with("a", |config| config.replace_after = Duration::from_millis(300)).await;
    let accepted = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    let replaced =
        "SELECT least(count(*), 2) FROM engine.attempts WHERE kind = 'REPLACEMENT' AND state IN ('SENT', 'SUPERSEDED')";
    bench.until_scalar(replaced, 2).await;
    bench.automine(true).await;
    bench.mine(1).await;
    let done = bench.wait(&engine, accepted.operation.operation_id).await;
    assert_eq!(done.state, OperationState::Completed, "{STUCK}: {done:?}");
    let prices: Vec<i64> =
        bench.column("SELECT (fees->>'max_fee_wei')::bigint FROM engine.attempts ORDER BY attempt").await;
    assert!(prices.windows(2).all(|pair| pair[1] * 1000 >= pair[0] * 1125), "each outbids the one before: {prices:?}");
    assert_eq!(bench.payments_on_chain().await, 1, "the same call, once");
    bench.assert_lane_is_whole(0, 1).await;
    let later: i64 =
        bench.scalar("SELECT count(*) FROM engine.attempts WHERE state IN ('SIGNING', 'SIGNED', 'SENT')").await;
    assert_eq!(later, 0, "bump_loop_on_confirmed");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_replacement_leaves_the_transaction_on_its_way() {
    let bench = Bench::start().await;
    bench.automine(false).await;
    bench.signer.rule(|rules| rules.deny_replacements = true);
    let engine = bench.engine_with("a", |config| config.replace_after = Duration::from_millis(300)).await;
    let accepted = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    bench
        .until_scalar("SELECT count(*) FROM engine.attempts WHERE kind = 'REPLACEMENT' AND state = 'REFUSED'", 1)
        .await;
    bench.automine(true).await;
    bench.mine(1).await;
    let done = bench.wait(&engine, accepted.operation.operation_id).await;
    assert_eq!(done.state, OperationState::Completed, "{done:?}");
    bench.assert_lane_is_whole(0, 1).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_parked_and_its_lane_moves_on() {
    let bench = Bench::start().await;
    bench.signer.rule(|rules| rules.deaf.extend([0]));
    let adjust = |config: &mut dalp_engine::EngineConfig| {
        config.retry_budget = 3;
        config.sign_timeout = Duration::from_millis(100);
    };
    let engine = bench.engine_with("a", adjust).await;
    let accepted =
        bench.pay(&engine, 0, "group", PayOrder { together: 3, ..PayOrder::times(0) }).await.expect("accepted");
    use TransactionState::{Completed, DeadLetter};
    let id = accepted.operation.operation_id;
    let states = |view: &OperationView| view.transactions.iter().map(|one| one.state).collect::<Vec<_>>();
    bench.until(&engine, id, |view| states(view) == [DeadLetter, Completed, Completed]).await;
    let parked = engine.reader().get_operation(&TENANT.into(), id).await.expect("readable").expect("there");
    assert_eq!(parked.state, OperationState::Running, "it waits for an operator: {STUCK}: {parked:#?}");
    assert!(parked.transactions[0].history.iter().any(|action| action.action == "sign" && action.tries >= 3));
    let released: i64 = bench.scalar("SELECT count(*) FROM engine.nonces WHERE released").await;
    assert_eq!(released, 0, "our own timeout does not free a nonce");
    let next = bench.pay(&engine, 0, "next", PayOrder::times(1)).await.expect("accepted");
    assert_eq!(bench.wait(&engine, next.operation.operation_id).await.state, OperationState::Completed);
    assert_eq!(bench.payments_on_chain().await, 3);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_signer_answers_nobody_everything_waits() {
    let bench = Bench::start().await;
    bench.signer.rule(|rules| rules.fail = 8);
    let engine = bench.engine_with("a", |config| config.retry_budget = 2).await;
    let accepted = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    let done = bench.wait(&engine, accepted.operation.operation_id).await;
    assert_eq!(done.state, OperationState::Completed, "an outage is nobody's fault: {done:?}");
    assert_eq!(bench.signer.distinct_requests(), 1, "always the same request");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_filler_does_not_jam_its_lane() {
    let bench = Bench::start().await;
    bench.signer.rule(|rules| {
        rules.deny.extend([0]);
        rules.deny_fillers = true;
    });
    let engine = bench.engine("a").await;
    let accepted =
        bench.pay(&engine, 0, "group", PayOrder { together: 3, ..PayOrder::times(0) }).await.expect("accepted");
    bench.until_scalar("SELECT count(*) FROM engine.audit_leaves WHERE action = 'lane.filler_refused'", 1).await;
    let next = bench.pay(&engine, 0, "next", PayOrder::times(1)).await.expect("accepted");
    let next = bench.wait(&engine, next.operation.operation_id).await;
    assert_eq!((next.state, next.transactions[0].nonce), (OperationState::Completed, Some(0)), "{STUCK}: {next:#?}");
    let done = bench.wait(&engine, accepted.operation.operation_id).await;
    let completed = done.transactions.iter().filter(|one| one.state == TransactionState::Completed).count();
    assert_eq!(completed, 2, "{done:#?}");
    assert_eq!(bench.payments_on_chain().await, 3);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filler_is_asked_for_again_when_nothing_takes_the_nonce() {
    let bench = Bench::start().await;
    bench.signer.rule(|rules| {
        rules.deny.extend([0]);
        rules.deny_fillers = true;
    });
    let engine = bench.engine_with("a", |config| config.fill_again = Duration::from_millis(200)).await;
    let accepted =
        bench.pay(&engine, 0, "group", PayOrder { together: 3, ..PayOrder::times(0) }).await.expect("accepted");
    bench
        .until_scalar("SELECT least(count(*), 2) FROM engine.audit_leaves WHERE action = 'lane.filler_refused'", 2)
        .await;
    bench.signer.rule(|rules| rules.deny_fillers = false);
    let done = bench.wait(&engine, accepted.operation.operation_id).await;
    let completed = done.transactions.iter().filter(|one| one.state == TransactionState::Completed).count();
    assert_eq!(completed, 2, "{STUCK}: {done:#?}");
    assert_eq!(bench.payments_on_chain().await, 2);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_signature_gives_its_nonce_back() {
    let bench = Bench::start().await;
    bench.signer.rule(|rules| rules.deny.extend([0]));
    let engine = bench.engine("a").await;
    let first = bench.pay(&engine, 0, "first", PayOrder::times(1)).await.expect("accepted");
    let first = bench.wait(&engine, first.operation.operation_id).await;
    assert_eq!((first.state, first.transactions[0].sub_status.as_str()), (OperationState::Failed, "denied"));
    let second = bench.pay(&engine, 0, "second", PayOrder::times(1)).await.expect("accepted");
    let second = bench.wait(&engine, second.operation.operation_id).await;
    assert_eq!((second.state, second.transactions[0].nonce), (OperationState::Completed, Some(0)), "{second:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_approval_is_not_a_stuck_wallet() {
    let bench = Bench::start().await;
    bench.signer.rule(|rules| rules.hold.extend([0]));
    let engine = bench.engine("a").await;
    let held = bench.pay(&engine, 0, "held", PayOrder::times(1)).await.expect("accepted").operation.operation_id;
    bench.until(&engine, held, |view| view.transactions[0].sub_status == "provider_hold").await;
    let behind = bench.pay(&engine, 0, "behind", PayOrder::times(1)).await.expect("accepted").operation.operation_id;
    let other = bench.pay(&engine, 1, "other", PayOrder { sender: bench.lane(1).sender, ..PayOrder::times(2) }).await;
    bench.signer.rule(|rules| rules.hold.clear());
    for id in [held, behind, other.expect("accepted").operation.operation_id] {
        assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    }
    bench.assert_lane_is_whole(0, 2).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_withdrawn_at_once() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    bench.wire.cut();
    let id = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted").operation.operation_id;
    let cancelled = engine.reader().cancel(&TENANT.into(), id, "operator", "not wanted").await.expect("withdrawn");
    assert_eq!(
        (cancelled.state, cancelled.transactions[0].state),
        (OperationState::Cancelled, TransactionState::Cancelled)
    );
    bench.wire.mend();
    let next = bench.pay(&engine, 0, "next", PayOrder::times(1)).await.expect("accepted");
    assert_eq!(bench.wait(&engine, next.operation.operation_id).await.state, OperationState::Completed);
    bench.assert_lane_is_whole(0, 1).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_cancelled_by_replacement() {
    let bench = Bench::start().await;
    bench.automine(false).await;
    let engine = bench.engine("a").await;
    let id = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted").operation.operation_id;
    bench.until(&engine, id, |view| view.transactions[0].sub_status == "accepted_by_node").await;
    engine.reader().cancel(&TENANT.into(), id, "operator", "not wanted").await.expect("taken");
    bench.until_scalar("SELECT count(*) FROM engine.attempts WHERE kind = 'CANCEL' AND state = 'SENT'", 1).await;
    bench.automine(true).await;
    bench.mine(1).await;
    let done = bench.wait(&engine, id).await;
    assert_eq!(done.transactions[0].state, TransactionState::Cancelled, "{done:?}");
    assert_eq!(done.error.map(|failure| failure.reason).as_deref(), Some("TRANSACTION_CANCELLED"));
    assert_eq!(bench.payments_on_chain().await, 0);
    bench.assert_lane_is_whole(0, 1).await;
    engine.reader().cancel(&TENANT.into(), id, "operator", "again").await.expect_err("it is final");
    engine.stop().await;
}

/// Two replicas work on one database, and one of them is killed at whatever line it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_taken_over() {
    const COUNT: usize = 160;
    const LANES: usize = 4;
    let bench = Bench::start().await;
    let short = |config: &mut dalp_engine::EngineConfig| config.lease = Duration::from_secs(1);
    let (one, other) = (bench.engine_with("one", short).await, bench.engine_with("other", short).await);
    let mut ids = Vec::new();
    for number in 0..COUNT {
        let replica = if number % 2 == 0 && number < COUNT / 2 { &one } else { &other };
        ids.push(bench.pay_surely(replica, number % LANES, &format!("key{number}")).await);
        if number == COUNT / 2 {
            one.kill().await;
        }
    }
    for id in ids {
        let done = bench.wait(&other, id).await;
        assert_eq!(done.state, OperationState::Completed, "{STUCK}: {done:?}");
    }
    for lane in 0..LANES {
        bench.assert_lane_is_whole(lane, (COUNT / LANES) as u64).await;
    }
    assert_eq!(bench.payments_on_chain().await, COUNT as u64, "lost or doubled");
    other.stop().await;
}

/// As in a rollout: leases that last an hour would outlive the test.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_gives_its_lanes_to_the_other_at_once() {
    let bench = Bench::start().await;
    let long = |config: &mut dalp_engine::EngineConfig| config.lease = Duration::from_secs(3_600);
    let one = bench.engine_with("one", long).await;
    let id = bench.pay_surely(&one, 0, "first").await;
    assert_eq!(bench.wait(&one, id).await.state, OperationState::Completed, "{STUCK}");
    let other = bench.engine_with("other", long).await;
    let id = bench.pay_surely(&one, 0, "second").await;
    one.stop().await;
    assert_eq!(bench.wait(&other, id).await.state, OperationState::Completed, "{STUCK}");
    bench.assert_lane_is_whole(0, 2).await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_to_the_database_lose_nothing() {
    const COUNT: usize = 120;
    const LANES: usize = 4;
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let paying = futures::stream::iter(0..COUNT)
        .map(|number| {
            let (bench, engine) = (&bench, &engine);
            async move { bench.pay_surely(engine, number % LANES, &format!("key{number}")).await }
        })
        .buffer_unordered(8)
        .collect::<Vec<_>>();
    let breaking = async {
        for requests in [5, 20, 20, 20] {
            bench.signer.wait_for_more_requests(requests, Duration::from_secs(2)).await;
            bench.break_connections().await;
        }
    };
    let (ids, ()) = tokio::join!(paying, breaking);
    for id in ids {
        let done = bench.wait(&engine, id).await;
        assert_eq!(done.state, OperationState::Completed, "{STUCK}: {done:?}");
    }
    for lane in 0..LANES {
        bench.assert_lane_is_whole(lane, (COUNT / LANES) as u64).await;
    }
    assert_eq!(bench.payments_on_chain().await, COUNT as u64, "lost or doubled");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_away_for_a_while_loses_nothing() {
    const COUNT: usize = 60;
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let mut ids = Vec::new();
    for number in 0..COUNT {
        if number == COUNT / 3 {
            bench.wire.cut();
        }
        ids.push(bench.pay_surely(&engine, number % 2, &format!("key{number}")).await);
    }
    let waiting = "SELECT least(count(*), 1) FROM engine.transactions WHERE sub_status = 'retrying_upstream'";
    bench.until_scalar(waiting, 1).await;
    bench.wire.mend();
    for id in ids {
        let done = bench.wait(&engine, id).await;
        assert_eq!(done.state, OperationState::Completed, "{STUCK}: {done:?}");
    }
    for lane in 0..2 {
        bench.assert_lane_is_whole(lane, (COUNT / 2) as u64).await;
    }
    engine.stop().await;
}

/// The database was restored to a state before the signer signed: the nonce is taken, and the lane goes on behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_reconciled_with_the_signer() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let id = bench.pay_surely(&engine, 0, "before").await;
    bench.wait(&engine, id).await;
    engine.stop().await;
    bench.signer.sign_aside(bench.lane(0), 1);
    let (engine, pool) = bench.engine_on_new_database("restored").await;
    let id = bench.pay_surely(&engine, 0, "after").await;
    let done = bench.wait(&engine, id).await;
    assert_eq!((done.state, done.transactions[0].nonce), (OperationState::Completed, Some(2)), "{done:?}");
    assert_eq!(bench.payments_on_chain().await, 3, "what the signer had signed is on chain, once");
    engine.stop().await;
    pool.close().await;
}

/// Everything since the commit that accepted it is forgotten, as after a restore of the database to that moment.
const FORGET: &str = "SET session_replication_role = replica; -- the triggers forbid all of this
    DELETE FROM engine.attempts; DELETE FROM engine.nonces; UPDATE engine.lanes SET next_nonce = 0;
    UPDATE engine.transactions SET state = 'QUEUED', sub_status = '', nonce = NULL, tx_hash = NULL, block_number = NULL, gas_used = NULL;
    UPDATE engine.steps SET outcome = NULL; UPDATE engine.operations SET state = 'RUNNING', result = NULL, wake = false;
    RESET session_replication_role";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_before_a_restore_is_not_paid_again() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let order = PayOrder { together: 3, ..PayOrder::times(0) };
    let id = bench.pay(&engine, 0, "key", order).await.expect("accepted").operation.operation_id;
    let before = bench.wait(&engine, id).await;
    engine.stop().await;
    sqlx::raw_sql(FORGET).execute(&bench.pool).await.expect("restored");
    let engine = bench.engine("a").await;
    let after = bench.wait(&engine, id).await;
    let hashes = |view: &dalp_engine::OperationView| {
        view.transactions.iter().map(|one| (one.nonce, one.tx_hash)).collect::<Vec<_>>()
    };
    assert_eq!(after.state, OperationState::Completed, "{after:#?}");
    assert_eq!(hashes(&after), hashes(&before), "the same transactions, taken back");
    assert_eq!(bench.payments_on_chain().await, 3);
    assert_eq!(bench.signer.distinct_requests(), 3, "nothing was signed a second time");
    let adopted: i64 =
        bench.scalar("SELECT count(*) FROM engine.audit_leaves WHERE action = 'transaction.adopted'").await;
    assert_eq!(adopted, 3);
    let next = bench.pay_surely(&engine, 0, "next").await;
    assert_eq!(bench.wait(&engine, next).await.transactions[0].nonce, Some(3));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_panics_harms_only_itself() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let faulty = bench.faulty(&engine, 0, "faulty").await;
    bench.until(&engine, faulty, |view| view.transactions[0].state == TransactionState::Completed).await;
    let id = bench.pay_surely(&engine, 0, "good").await;
    assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    let still = engine.reader().get_operation(&TENANT.into(), faulty).await.expect("readable").expect("exists");
    assert_eq!(still.state, OperationState::Running, "it waits for a build that can run it");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_what_must_never_be() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let id = bench.pay_surely(&engine, 0, "key").await;
    bench.wait(&engine, id).await;
    engine.stop().await;
    for forbidden in [
        "UPDATE engine.nonces SET transaction_id = gen_random_uuid()",
        "UPDATE engine.nonces SET released = true",
        "UPDATE engine.nonces SET nonce = 7",
        "DELETE FROM engine.nonces",
        "INSERT INTO engine.nonces (chain_id, sender, nonce, transaction_id) SELECT chain_id, sender, nonce, gen_random_uuid() FROM engine.nonces",
        "UPDATE engine.attempts SET raw = '\\x00'",
        "UPDATE engine.attempts SET nonce = 7",
        "UPDATE engine.attempts SET gas_limit = 7",
        "DELETE FROM engine.attempts",
        "UPDATE engine.transactions SET state = 'QUEUED'",
        "UPDATE engine.transactions SET state = 'FAILED'",
        "INSERT INTO engine.lanes (tenant, chain_id, sender) SELECT 'other', chain_id, sender FROM engine.lanes",
        "UPDATE engine.transactions SET tenant = 'other'",
        "UPDATE engine.audit_leaves SET action = 'forged'",
        "DELETE FROM engine.audit_leaves",
        "TRUNCATE engine.audit_leaves",
    ] {
        sqlx::query(forbidden).execute(&bench.pool).await.expect_err(forbidden);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_holds_the_table_of_transitions() {
    let bench = Bench::start().await;
    bench.engine("a").await.stop().await;
    let states: Vec<&str> = TransactionState::ALL.iter().map(|state| state.as_str()).collect();
    let stored: Vec<String> = sqlx::query_scalar(
        "SELECT a || ' ' || b FROM unnest($1::text[]) AS a, unnest($1::text[]) AS b WHERE engine.may_become(a, b)",
    )
    .bind(states)
    .fetch_all(&bench.pool)
    .await
    .expect("readable");
    let wanted: BTreeSet<String> = TRANSITIONS.iter().map(|(from, to, _)| format!("{from} {to}")).collect();
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), wanted);
}
