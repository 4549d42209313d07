//! What an operator asks of lanes and transactions, and what becomes of it.

use crate::support::{Bench, PayOrder, TENANT};
use dalp_engine::{
    LaneId, OperationState, Operator, TransactionId, TransactionState,
    operator::{
        AttemptPurpose, AttemptStanding, CancelOutcome, ControlError, DeadLetter, DeadLetterAnswer, DeadLetterKind,
        HoldKind, LaneFilter, LaneView, TransactionFilter, holds,
    },
};
use std::time::Duration;
use time::OffsetDateTime;

const ANYBODY: &str = "keeper";

/// Waits until a lane looks as wanted.
async fn until_lane(operator: &Operator, lane: LaneId, wanted: impl Fn(&LaneView) -> bool) -> LaneView {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        looks.tick().await;
        let (view, _) = operator.look_at_lane(&TENANT.into(), lane).await.expect("readable").expect("a lane");
        if wanted(&view) {
            return view;
        }
        assert!(tokio::time::Instant::now() < deadline, "{view:#?}");
    }
}

fn of(view: &dalp_engine::OperationView) -> TransactionId {
    view.transactions[0].transaction_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_lane_gives_no_nonce_and_goes_on_when_resumed() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let first = bench.pay(&engine, 0, "first", PayOrder::times(1)).await.expect("accepted");
    bench.wait(&engine, first.operation.operation_id).await;
    let lane = bench.lane(0);
    let paused = operator.pause_lane(&tenant, lane, ANYBODY, "key ceremony").await.expect("paused");
    assert_eq!(paused.pause.map(|pause| (pause.by, pause.reason)), Some((ANYBODY.into(), "key ceremony".into())));
    // Another lane is not concerned.
    let second = bench.pay(&engine, 0, "second", PayOrder::times(1)).await.expect("accepted");
    let elsewhere = bench.pay(&engine, 1, "elsewhere", PayOrder::times(1)).await.expect("accepted");
    assert_eq!(bench.wait(&engine, elsewhere.operation.operation_id).await.state, OperationState::Completed);
    // Its worker has looked at it, and waits.
    until_lane(&operator, lane, |view| view.leases.iter().any(|lease| lease.live)).await;
    let (view, front) = operator.look_at_lane(&tenant, lane).await.expect("readable").expect("a lane");
    assert_eq!((view.queued, view.in_flight, view.next_nonce), (1, 0, Some(1)));
    let account = engine.probe().look_at_account(lane).await.expect("the node answers");
    assert_eq!((account.latest_nonce, account.pending_nonce), (1, 1));
    let held = holds(&view, &front, Some(&account), OffsetDateTime::now_utc());
    assert_eq!(held.iter().map(|hold| hold.kind).collect::<Vec<_>>(), [HoldKind::Paused], "{held:?}");
    operator.resume_lane(&tenant, lane, ANYBODY, "ceremony is over").await.expect("resumed");
    assert_eq!(bench.wait(&engine, second.operation.operation_id).await.state, OperationState::Completed);
    bench.assert_lane_is_whole(0, 2).await;
    let told: Vec<String> = bench
        .column("SELECT action || ' ' || actor || ' ' || (body->>'reason') FROM engine.audit_leaves WHERE action LIKE 'lane.%e' AND actor = 'keeper' ORDER BY sequence")
        .await;
    assert_eq!(told, ["lane.pause keeper key ceremony", "lane.resume keeper ceremony is over"]);
    engine.stop().await;
}

/// Looked at before the pause, bound after it: the commit that binds sees the pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_counts_from_its_commit_on() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    for round in 0..10 {
        let accepted = bench.pay(&engine, 0, &format!("key {round}"), PayOrder::times(1)).await.expect("accepted");
        operator.pause_lane(&tenant, bench.lane(0), ANYBODY, "now").await.expect("paused");
        let query = "SELECT count(*) FROM engine.attempts";
        let bound: i64 = bench.scalar(query).await;
        // Whatever was under way has had its turn by the time another lane's transaction is through.
        let other = bench.pay(&engine, 1, &format!("other {round}"), PayOrder::times(1)).await.expect("accepted");
        bench.wait(&engine, other.operation.operation_id).await;
        let of_the_other = 1;
        assert_eq!(bench.scalar::<i64>(query).await, bound + of_the_other, "nothing of the paused lane was bound");
        operator.resume_lane(&tenant, bench.lane(0), ANYBODY, "now").await.expect("resumed");
        bench.wait(&engine, accepted.operation.operation_id).await;
    }
    bench.assert_lane_is_whole(0, 10).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_is_done_also_on_a_lane_without_work() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let first = bench.pay(&engine, 0, "first", PayOrder::times(1)).await.expect("accepted");
    bench.wait(&engine, first.operation.operation_id).await;
    bench.send_outside(0).await;
    let lane = bench.lane(0);
    operator.resync_lane(&tenant, lane, ANYBODY, "somebody used the key").await.expect("recorded");
    // The worker may have done it before it is looked at.
    let done = until_lane(&operator, lane, |view| !view.resync_pending).await;
    assert_eq!(done.next_nonce, Some(2), "it knows of the nonce that was used outside");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bump_outbids_and_keeps_the_call() {
    let bench = Bench::start().await;
    bench.automine(false).await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let accepted = bench.pay(&engine, 0, "key", PayOrder::times(1)).await.expect("accepted");
    let (operation, id) = (accepted.operation.operation_id, of(&accepted.operation));
    bench.until_scalar("SELECT count(*) FROM engine.attempts WHERE state = 'SENT'", 1).await;
    let record = operator.bump_transaction(&tenant, id, ANYBODY, "urgent").await.expect("recorded");
    assert_eq!(record.view.state, TransactionState::Broadcasting, "nothing is said to have happened yet");
    bench.until_scalar("SELECT count(*) FROM engine.attempts WHERE state = 'SENT' AND kind = 'REPLACEMENT'", 1).await;
    bench.automine(true).await;
    bench.mine(1).await;
    assert_eq!(bench.wait(&engine, operation).await.state, OperationState::Completed);
    let record = operator.transaction(&tenant, id).await.expect("readable").expect("there");
    assert!(!record.bump_requested);
    let told: Vec<_> = record.attempts.iter().map(|one| (one.number, one.kind, one.state, one.nonce)).collect();
    let (first, second) = (AttemptStanding::Superseded, AttemptStanding::Done);
    assert_eq!(told, [(1, AttemptPurpose::Call, first, Some(0)), (2, AttemptPurpose::Replacement, second, Some(0))]);
    let prices: Vec<u128> = record.attempts.iter().map(|one| one.fees.expect("prices").max_price_wei()).collect();
    assert!(prices[1] * 1000 >= prices[0] * 1125, "{prices:?}");
    assert_eq!(bench.payments_on_chain().await, 1);
    let late = operator.bump_transaction(&tenant, id, ANYBODY, "again").await.expect_err("it is final");
    assert!(matches!(late, ControlError::NotPossible), "{late}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_transaction_is_withdrawn_or_replaced() {
    let bench = Bench::start().await;
    bench.automine(false).await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let sent = bench.pay(&engine, 0, "sent", PayOrder::times(1)).await.expect("accepted");
    bench.until_scalar("SELECT count(*) FROM engine.attempts WHERE state = 'SENT'", 1).await;
    operator.pause_lane(&tenant, bench.lane(0), ANYBODY, "so that one waits").await.expect("paused");
    let waits = bench.pay(&engine, 0, "waits", PayOrder::times(1)).await.expect("accepted");
    let cancel = async |view: &dalp_engine::OperationView| {
        operator.cancel_transaction(&tenant, of(view), ANYBODY, "a mistake").await
    };
    let (record, outcome) = cancel(&waits.operation).await.expect("withdrawn");
    assert_eq!((record.view.state, outcome), (TransactionState::Cancelled, CancelOutcome::Withdrawn));
    let ended = bench.wait(&engine, waits.operation.operation_id).await;
    assert_eq!(ended.error.map(|failure| failure.reason).as_deref(), Some("TRANSACTION_CANCELLED"));
    // A paused lane still ends what has a nonce.
    let (record, outcome) = cancel(&sent.operation).await.expect("recorded");
    assert_eq!((record.cancel_requested, outcome), (true, CancelOutcome::ReplacementRecorded));
    bench.until_scalar("SELECT count(*) FROM engine.attempts WHERE state = 'SENT' AND kind = 'CANCEL'", 1).await;
    bench.automine(true).await;
    bench.mine(1).await;
    let ended = bench.wait(&engine, sent.operation.operation_id).await;
    assert_eq!(ended.transactions[0].state, TransactionState::Cancelled, "{ended:?}");
    assert_eq!(bench.payments_on_chain().await, 0, "nothing was paid");
    assert!(matches!(cancel(&sent.operation).await, Err(ControlError::NotPossible)));
    let leaves: i64 =
        bench.scalar("SELECT count(*) FROM engine.audit_leaves WHERE action = 'transaction.cancel'").await;
    assert_eq!(leaves, 2, "what was refused did not happen");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_and_moves_its_own_only() {
    let bench = Bench::start().await;
    let (engine, operator) = (bench.engine("a").await, Operator::new(bench.pool.clone()));
    let accepted = bench.pay(&engine, 0, "key", PayOrder::times(3)).await.expect("accepted");
    bench.wait(&engine, accepted.operation.operation_id).await;
    let (ours, other, lane, id) = (TENANT.into(), "other".into(), bench.lane(0), of(&accepted.operation));
    assert!(operator.look_at_lane(&other, lane).await.expect("readable").is_none());
    assert!(operator.transaction(&other, id).await.expect("readable").is_none());
    for refused in [
        operator.pause_lane(&other, lane, "thief", "mine").await.map(drop),
        operator.resume_lane(&other, lane, "thief", "mine").await.map(drop),
        operator.resync_lane(&other, lane, "thief", "mine").await.map(drop),
        operator.cancel_transaction(&other, id, "thief", "mine").await.map(drop),
        operator.bump_transaction(&other, id, "thief", "mine").await.map(drop),
    ] {
        assert!(matches!(refused, Err(ControlError::NotFound)), "{refused:?}");
    }
    let thieves: i64 = bench.scalar("SELECT count(*) FROM engine.audit_leaves WHERE actor = 'thief'").await;
    assert_eq!(thieves, 0);
    // Pages hold each once, newest first.
    let all = operator.list_transactions(&ours, &TransactionFilter::default(), None, 10).await.expect("readable");
    let steps: Vec<&str> = all.transactions.iter().map(|one| one.view.step.as_str()).collect();
    assert_eq!((steps, all.next), (vec!["pay2", "pay1", "pay0"], None));
    let first = operator.list_transactions(&ours, &TransactionFilter::default(), None, 2).await.expect("readable");
    let rest = operator.list_transactions(&ours, &TransactionFilter::default(), first.next, 2).await.expect("readable");
    assert_eq!([first.transactions, rest.transactions].concat(), all.transactions);
    assert!(rest.next.is_none());
    let queued = TransactionFilter { state: Some(TransactionState::Queued), ..TransactionFilter::default() };
    assert!(operator.list_transactions(&ours, &queued, None, 10).await.expect("readable").transactions.is_empty());
    // The lane is listed to its tenant, and is idle.
    let lanes = operator.list_lanes(&ours, &LaneFilter::default(), None, 10).await.expect("readable").lanes;
    assert_eq!(lanes.iter().map(|view| view.lane).collect::<Vec<_>>(), [lane]);
    assert_eq!((lanes[0].queued, lanes[0].in_flight, lanes[0].oldest_at), (0, 0, None));
    let busy = LaneFilter { busy_only: true, ..LaneFilter::default() };
    assert!(operator.list_lanes(&ours, &busy, None, 10).await.expect("readable").lanes.is_empty());
    assert!(operator.list_lanes(&other, &LaneFilter::default(), None, 10).await.expect("readable").lanes.is_empty());
    engine.stop().await;
}

/// A signer that answers everybody but one request: parked, and its nonce used up by a self-transfer.
async fn parked(bench: &Bench) -> (dalp_engine::Engine, dalp_engine::OperationView) {
    bench.signer.rule(|rules| rules.deaf.extend([0]));
    let adjust = |config: &mut dalp_engine::EngineConfig| {
        config.retry_budget = 3;
        config.sign_timeout = Duration::from_millis(100);
    };
    let engine = bench.engine_with("a", adjust).await;
    let order = PayOrder { together: 2, ..PayOrder::times(0) };
    let accepted = bench.pay(&engine, 0, "group", order).await.expect("accepted");
    bench.until_scalar("SELECT count(*) FROM engine.transactions WHERE state = 'DEAD_LETTER'", 1).await;
    (engine, accepted.operation)
}

/// Waits until nothing of the only dead letter can be included any more.
async fn decided(operator: &Operator) -> DeadLetter {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        looks.tick().await;
        let mut page = operator.list_dead_letters(&TENANT.into(), None, 10).await.expect("readable");
        assert_eq!(page.letters.len(), 1, "{page:#?}");
        let letter = page.letters.remove(0);
        if letter.decided {
            return letter;
        }
        assert!(tokio::time::Instant::now() < deadline, "{letter:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_retried_and_paid_once() {
    let bench = Bench::start().await;
    let (engine, operation) = parked(&bench).await;
    let (operator, tenant) = (Operator::new(bench.pool.clone()), TENANT.into());
    let letter = decided(&operator).await;
    assert_eq!((letter.kind, letter.awaited, letter.lane), (DeadLetterKind::Transaction, true, Some(bench.lane(0))));
    assert_eq!((letter.sub_status.as_str(), letter.flow.as_str()), ("signer_unavailable", "test.pay"));
    let foreign = operator.retry_dead_letter(&"other".into(), letter.id, "thief", "mine").await.expect("answered");
    assert_eq!(foreign, DeadLetterAnswer::NotFound);
    let retry = async || operator.retry_dead_letter(&tenant, letter.id, ANYBODY, "the signer is repaired").await;
    assert_eq!(retry().await.expect("answered"), DeadLetterAnswer::Done);
    let done = bench.wait(&engine, operation.operation_id).await;
    assert_eq!(done.state, OperationState::Completed, "{done:#?}");
    assert_eq!(bench.payments_on_chain().await, 2, "each once");
    assert_eq!(retry().await.expect("answered"), DeadLetterAnswer::NotFound, "it is none any more");
    let page = operator.list_dead_letters(&tenant, None, 10).await.expect("readable");
    assert!(page.letters.is_empty() && page.next.is_none());
    let told: Vec<String> = bench
        .column("SELECT action || ' ' || actor || ' ' || (body->>'reason') FROM engine.audit_leaves WHERE action LIKE 'dead_letter.%'")
        .await;
    assert_eq!(told, ["dead_letter.retry keeper the signer is repaired"]);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_dead_letter_fails_its_step() {
    let bench = Bench::start().await;
    let (engine, operation) = parked(&bench).await;
    let (operator, tenant) = (Operator::new(bench.pool.clone()), TENANT.into());
    let letter = decided(&operator).await;
    let closed = operator.close_dead_letter(&tenant, letter.id, ANYBODY, "paid by hand").await.expect("answered");
    assert_eq!(closed, DeadLetterAnswer::Done);
    let done = bench.wait(&engine, operation.operation_id).await;
    let failed = done.transactions.iter().find(|one| one.transaction_id.0 == letter.id).expect("it is there");
    assert_eq!((failed.state, failed.sub_status.as_str()), (TransactionState::Failed, "closed"), "{done:#?}");
    let error = failed.error.as_ref().expect("a failure");
    assert_eq!(error.reason, "PROVIDER_UNAVAILABLE", "what it was parked for");
    assert_eq!(error.metadata.get("closed").map(String::as_str), Some("paid by hand"));
    assert_eq!(bench.payments_on_chain().await, 1, "the other one");
    engine.stop().await;
}

/// The request may have been signed all the same: until its nonce is used up, nobody may say that it failed, or order it again.
#[tokio::test(flavor = "multi_thread")]
async fn an_undecided_dead_letter_is_left_alone() {
    let bench = Bench::start().await;
    bench.automine(false).await;
    let (engine, operation) = parked(&bench).await;
    let (operator, tenant) = (Operator::new(bench.pool.clone()), TENANT.into());
    let page = operator.list_dead_letters(&tenant, None, 10).await.expect("readable");
    let letter = page.letters[0].clone();
    assert!(!letter.decided, "no block has its filler yet");
    let retried = operator.retry_dead_letter(&tenant, letter.id, ANYBODY, "too early").await.expect("answered");
    let closed = operator.close_dead_letter(&tenant, letter.id, ANYBODY, "too early").await.expect("answered");
    assert_eq!((retried, closed), (DeadLetterAnswer::Undecided, DeadLetterAnswer::Undecided));
    let leaves: i64 = bench.scalar("SELECT count(*) FROM engine.audit_leaves WHERE actor = 'keeper'").await;
    assert_eq!(leaves, 0);
    bench.automine(true).await;
    bench.mine(1).await;
    decided(&operator).await;
    let closed = operator.close_dead_letter(&tenant, letter.id, ANYBODY, "now").await.expect("answered");
    assert_eq!(closed, DeadLetterAnswer::Done);
    bench.wait(&engine, operation.operation_id).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_flow_is_listed_and_closed() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let id = bench.faulty(&engine, 0, "faulty").await;
    bench.until_scalar("SELECT count(*) FROM engine.operations WHERE quarantined_at IS NOT NULL", 1).await;
    let page = operator.list_dead_letters(&tenant, None, 10).await.expect("readable");
    let letter = page.letters[0].clone();
    assert_eq!((letter.kind, letter.id, letter.decided), (DeadLetterKind::Operation, id.0, true), "{letter:#?}");
    assert!(letter.error.message.contains("panicked"), "{letter:#?}");
    let retried = operator.retry_dead_letter(&tenant, id.0, ANYBODY, "perhaps now").await.expect("answered");
    assert_eq!(retried, DeadLetterAnswer::Done);
    bench
        .until_scalar("SELECT count(*) FROM engine.operations WHERE quarantined_at IS NOT NULL AND retry_at > now()", 1)
        .await;
    let closed = operator.close_dead_letter(&tenant, id.0, ANYBODY, "carried on by hand").await.expect("answered");
    assert_eq!(closed, DeadLetterAnswer::Done);
    let done = bench.wait(&engine, id).await;
    let error = done.error.expect("a failure");
    assert_eq!((done.state, error.reason.as_str()), (OperationState::Failed, "FLOW_QUARANTINED"), "{error:?}");
    engine.stop().await;
}
