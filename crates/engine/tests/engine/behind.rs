//! What a lane does with those who stand behind what waits for an approval.

use crate::support::{Bench, PayOrder, TENANT};
use dalp_engine::signer::Signer as _;
use dalp_engine::{
    AdmitError, Engine, OperationId, OperationState, Operator, TransactionState,
    checker::{self, Policy},
    custody::{BehindApproval, HoldCause, KeyProvider, LaneHeld},
    operator::{AttemptStanding, ControlError, HoldKind, LanePolicy, holds},
};
use std::time::Duration;
use time::OffsetDateTime;

const REFUSE: LanePolicy = LanePolicy { behind_approval: BehindApproval::Refuse, hold_nonce_for: None };
const MAKE_WAY: LanePolicy =
    LanePolicy { behind_approval: BehindApproval::Queue, hold_nonce_for: Some(Duration::from_secs(60)) };
/// As if everything under way had been asked for so much earlier.
const AN_HOUR_AGO: &str = "UPDATE engine.attempts SET created_at = created_at - interval '1 hour'";
const TWO_DAYS_AGO: &str = "UPDATE engine.attempts SET created_at = created_at - interval '2 days'";

/// A payment of lane 0 that waits for an approval.
async fn held(bench: &Bench, engine: &Engine, key: &str) -> OperationId {
    bench.signer.rule(|rules| {
        rules.hold = (0..20).collect();
        rules.provider = Some(KeyProvider::Dfns);
    });
    let id = bench.pay_surely(engine, 0, key).await;
    let waits = |view: &dalp_engine::OperationView| {
        view.transactions.iter().any(|one| one.state == TransactionState::Signing && one.sub_status == "provider_hold")
    };
    bench.until(engine, id, waits).await;
    id
}

fn refused(answer: Result<dalp_engine::Accepted, AdmitError>) -> LaneHeld {
    match answer {
        Err(AdmitError::BehindApproval(held)) => *held,
        other => panic!("accepted, or refused for something else: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_refuses_stores_nothing_of_what_stands_behind_an_approval() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let ahead = held(&bench, &engine, "ahead").await;
    let early = bench.pay_or_hear(&engine, 0, "early").await.expect("a lane queues unless it is set otherwise");

    let set = operator.set_lane_policy(&tenant, bench.lane(0), REFUSE, "keeper", "callers come again").await;
    let set = set.expect("set");
    assert_eq!(set.policy, REFUSE);
    let told = set.policy_set.map(|set| (set.by, set.reason));
    assert_eq!(told, Some(("keeper".to_owned(), "callers come again".to_owned())));
    let leaves: Vec<String> = bench
        .column("SELECT actor || ' ' || (body->>'behind_approval') || ' ' || (body->>'reason') FROM engine.audit_leaves WHERE action = 'lane.set_policy'")
        .await;
    assert_eq!(leaves, ["keeper REFUSE callers come again"]);

    let rows = "SELECT (SELECT count(*) FROM engine.operations) + (SELECT count(*) FROM engine.idempotency) + (SELECT count(*) FROM engine.steps)
                     + (SELECT count(*) FROM engine.transactions) + (SELECT count(*) FROM engine.outbox) + (SELECT count(*) FROM engine.audit_leaves)";
    let before: i64 = bench.scalar(rows).await;
    let of_ahead = engine.reader().get_operation(&tenant, ahead).await.expect("readable").expect("there");
    let LaneHeld { lane, hold } = refused(bench.pay_or_hear(&engine, 0, "late").await);
    assert_eq!((lane, hold.transaction_id), (bench.lane(0), of_ahead.transactions[0].transaction_id));
    assert_eq!((hold.provider, hold.cause), (Some(KeyProvider::Dfns), HoldCause::Approval));
    assert_eq!(bench.scalar::<i64>(rows).await, before, "nothing is stored");

    // Repeats are answered, another lane is open, and what the platform goes on with by itself waits.
    let again = bench.pay_or_hear(&engine, 0, "early").await.expect("it was accepted");
    assert_eq!((again.operation.operation_id, again.replayed), (early.operation.operation_id, true));
    bench.pay_or_hear(&engine, 1, "elsewhere").await.expect("another sender waits for nobody");
    let by_itself = bench.pay(&engine, 0, "by itself", PayOrder::times(1)).await.expect("the platform is not refused");
    let (view, front) = operator.look_at_lane(&tenant, bench.lane(0)).await.expect("readable").expect("a lane");
    let explained = holds(&view, &front, None, OffsetDateTime::now_utc());
    let approval = explained.iter().find(|hold| hold.kind == HoldKind::Approval).expect("it is held");
    assert!(approval.message.contains("is refused"), "{approval:?}");

    // The setting is one of its database: another replica knows it, before anything else.
    engine.kill().await;
    let engine = bench.engine("b").await;
    refused(bench.pay_or_hear(&engine, 0, "late").await);

    // What is blocked waits for no approval.
    bench.signer.rule(|rules| rules.block = true);
    bench.until_scalar("SELECT count(*) FROM engine.attempts WHERE hold = 'APPROVAL' AND state = 'SIGNING'", 0).await;
    let blocked = bench.pay_or_hear(&engine, 0, "behind a block").await.expect("it waits");
    bench.signer.rule(|rules| rules.block = false);
    bench.until_scalar("SELECT count(*) FROM engine.attempts WHERE hold = 'BLOCKED' AND state = 'SIGNING'", 0).await;
    refused(bench.pay_or_hear(&engine, 0, "late").await);

    // Decided: the same request under the same key is accepted.
    bench.signer.rule(|rules| rules.hold.clear());
    for id in [ahead, early.operation.operation_id, by_itself.operation.operation_id, blocked.operation.operation_id] {
        assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    }
    let late = bench.pay_or_hear(&engine, 0, "late").await.expect("nothing holds the lane");
    assert!(!late.replayed, "it was never stored");
    assert_eq!(bench.wait(&engine, late.operation.operation_id).await.state, OperationState::Completed);

    // And back.
    let queue = LanePolicy::default();
    let set = operator.set_lane_policy(&tenant, bench.lane(0), queue, "keeper", "callers wait").await.expect("set");
    assert_eq!(set.policy, queue);
    let ahead = held(&bench, &engine, "ahead again").await;
    let behind = bench.pay_or_hear(&engine, 0, "behind").await.expect("it waits");
    bench.signer.rule(|rules| rules.hold.clear());
    for id in [ahead, behind.operation.operation_id] {
        assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    }
    bench.assert_lane_is_whole(0, 7).await;

    for (tenant, lane) in [("another".into(), bench.lane(0)), (TENANT.into(), bench.lane(3))] {
        let unknown = operator.set_lane_policy(&tenant, lane, REFUSE, "keeper", "why").await.expect_err("no such lane");
        assert!(matches!(unknown, ControlError::NotFound), "{unknown}");
    }
    engine.stop().await;
}

/// What a second person has to approve stands behind nothing yet: it is accepted, and waits when it begins.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_holds_is_not_refused_for_an_approval() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let ahead = held(&bench, &engine, "ahead").await;
    operator.set_lane_policy(&tenant, bench.lane(0), REFUSE, "keeper", "callers come again").await.expect("set");
    let policy = Policy {
        policy_id: "all".to_owned(),
        kinds: vec!["test.pay".to_owned()],
        except_kinds: Vec::new(),
        asset: None,
        threshold: None,
        checkers: 1,
        time_limit_s: 3_600,
        unowned_makers: false,
    };
    let mut commit = bench.pool.begin().await.expect("begins");
    checker::put_policy(&mut commit, &tenant, &policy, "admin").await.expect("stored");
    commit.commit().await.expect("committed");
    let asks = bench.pay_asking(&engine, 0, "asks", PayOrder::times(1)).await.expect("accepted, and held");
    assert_eq!(asks.operation.state, OperationState::AwaitingChecker);
    refused(bench.pay_or_hear(&engine, 0, "asks nobody").await);
    bench.signer.rule(|rules| rules.hold.clear());
    assert_eq!(bench.wait(&engine, ahead).await.state, OperationState::Completed);
    engine.stop().await;
}

/// The columns take what the setting can be, and nothing by halves.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_refuses_a_policy_by_halves() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let id = bench.pay_surely(&engine, 0, "first").await;
    bench.wait(&engine, id).await;
    for broken in [
        "hold_nonce_for_s = 59",
        "behind_approval = 'REJECT'",
        "policy_by = 'keeper'",
        "policy_at = now(), policy_by = 'keeper'",
    ] {
        let update = format!("UPDATE engine.lanes SET {broken}");
        let refused = sqlx::query(sqlx::AssertSqlSafe(update)).execute(&bench.pool).await;
        let error = refused.expect_err(broken);
        assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("23514"), "{broken}");
    }
    engine.stop().await;
}

async fn held_at(bench: &Bench, engine: &Engine, provider: KeyProvider) -> OperationId {
    let id = held(bench, engine, "held").await;
    bench.signer.rule(|rules| rules.provider = Some(provider));
    let named = match provider {
        KeyProvider::Pkcs11 => "SELECT count(*) FROM engine.attempts WHERE held_by = 'pkcs11'",
        _ => "SELECT count(*) FROM engine.attempts WHERE held_by = 'dfns'",
    };
    bench.until_scalar(named, 1).await;
    id
}

async fn standing(bench: &Bench, engine: &Engine, id: OperationId) -> Vec<(AttemptStanding, Option<u64>)> {
    let operator = Operator::new(bench.pool.clone());
    let view = engine.reader().get_operation(&TENANT.into(), id).await.expect("readable").expect("there");
    let record = operator.transaction(&TENANT.into(), view.transactions[0].transaction_id).await.expect("readable");
    record.expect("there").attempts.iter().map(|one| (one.state, one.nonce)).collect()
}

/// Both nonces stand in the audit, the old one in the commit that gives it up, the new one in that which binds it.
async fn moves_told(bench: &Bench) -> Vec<String> {
    bench
        .column(
            "SELECT action || ' ' || coalesce(body->>'nonce', (body->>'from_nonce') || ' ' || (body->>'to_nonce')) FROM engine.audit_leaves
             WHERE action IN ('transaction.move', 'transaction.moved') ORDER BY sequence",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_reservation_makes_way_when_its_time_is_up() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let held = held_at(&bench, &engine, KeyProvider::Pkcs11).await;
    sqlx::query(AN_HOUR_AGO).execute(&bench.pool).await.expect("written");
    operator.set_lane_policy(&tenant, bench.lane(0), MAKE_WAY, "keeper", "others shall go on").await.expect("set");
    let (view, front) = operator.look_at_lane(&tenant, bench.lane(0)).await.expect("readable").expect("a lane");
    let told = holds(&view, &front, None, OffsetDateTime::now_utc());
    let approval = told.iter().find(|hold| hold.kind == HoldKind::Approval).expect("it is held");
    assert!(approval.message.contains("after 60 s with others behind it"), "{approval:?}");
    // Nobody is behind it: its nonce is in nobody's way.
    bench.signer.wait_for_more_requests(2, Duration::from_secs(60)).await;
    assert_eq!(standing(&bench, &engine, held).await, [(AttemptStanding::Signing, Some(0))]);

    let behind = bench.pay_surely(&engine, 0, "behind").await;
    for id in [behind, held] {
        assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    }
    assert_eq!(standing(&bench, &engine, behind).await, [(AttemptStanding::Done, Some(0))]);
    let moved = [(AttemptStanding::Refused, Some(0)), (AttemptStanding::Done, Some(1))];
    assert_eq!(standing(&bench, &engine, held).await, moved);
    assert_eq!(moves_told(&bench).await, ["transaction.move 0", "transaction.moved 0 1"]);
    bench.assert_lane_is_whole(0, 2).await;
    assert_eq!(bench.payments_on_chain().await, 2);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_custodian_may_have_keeps_its_nonce() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let held = held_at(&bench, &engine, KeyProvider::Dfns).await;
    sqlx::query(AN_HOUR_AGO).execute(&bench.pool).await.expect("written");
    operator.set_lane_policy(&tenant, bench.lane(0), MAKE_WAY, "keeper", "others shall go on").await.expect("set");
    let behind = bench.pay_surely(&engine, 0, "behind").await;
    bench.signer.wait_for_more_requests(2, Duration::from_secs(60)).await;
    assert_eq!(standing(&bench, &engine, held).await, [(AttemptStanding::Signing, Some(0))]);
    let (view, front) = operator.look_at_lane(&tenant, bench.lane(0)).await.expect("readable").expect("a lane");
    let told = holds(&view, &front, None, OffsetDateTime::now_utc());
    assert!(told.iter().any(|hold| hold.message.contains("its nonce stays")), "{told:?}");
    bench.signer.rule(|rules| rules.hold.clear());
    for id in [held, behind] {
        assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    }
    assert_eq!(standing(&bench, &engine, held).await, [(AttemptStanding::Done, Some(0))]);
    assert_eq!(moves_told(&bench).await, [""; 0]);
    engine.stop().await;
}

/// The signer has withdrawn it, and the engine ended before it could write that down: no refusal, and nothing lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_that_was_not_written_down_is_found_again() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let held = held_at(&bench, &engine, KeyProvider::Pkcs11).await;
    engine.kill().await;
    let request: uuid::Uuid = bench.scalar("SELECT request_id FROM engine.attempts").await;
    bench.signer.withdraw(dalp_engine::RequestId(request)).await.expect("withdrawn");
    let engine = bench.engine("b").await;
    assert_eq!(bench.wait(&engine, held).await.state, OperationState::Completed);
    let attempts = standing(&bench, &engine, held).await;
    assert_eq!(attempts, [(AttemptStanding::Refused, Some(0)), (AttemptStanding::Done, Some(0))]);
    assert_eq!(moves_told(&bench).await, ["transaction.move 0", "transaction.moved 0 0"]);
    bench.assert_lane_is_whole(0, 1).await;
    engine.stop().await;
}

/// However often it makes way, an approval has its time, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn what_made_way_for_too_long_ends_as_not_approved() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    let held = held_at(&bench, &engine, KeyProvider::Pkcs11).await;
    sqlx::query(TWO_DAYS_AGO).execute(&bench.pool).await.expect("written");
    operator.set_lane_policy(&tenant, bench.lane(0), MAKE_WAY, "keeper", "others shall go on").await.expect("set");
    let behind = bench.pay_surely(&engine, 0, "behind").await;
    assert_eq!(bench.wait(&engine, behind).await.state, OperationState::Completed);
    let ended = bench.wait(&engine, held).await;
    assert_eq!(ended.error.map(|failure| failure.reason).as_deref(), Some("APPROVAL_EXPIRED"));
    assert_eq!(ended.transactions[0].sub_status, "approval_expired");
    assert_eq!(standing(&bench, &engine, held).await, [(AttemptStanding::Refused, Some(0))]);
    assert_eq!(standing(&bench, &engine, behind).await, [(AttemptStanding::Done, Some(0))]);
    assert_eq!(bench.payments_on_chain().await, 1);
    engine.stop().await;
}
