//! What a lane does with those who stand behind what waits for an approval.

use crate::support::{Bench, PayOrder, TENANT};
use dalp_engine::{
    AdmitError, Engine, OperationId, OperationState, Operator, TransactionState,
    checker::{self, Policy},
    custody::{BehindApproval, HoldCause, KeyProvider, LaneHeld},
    operator::{ControlError, HoldKind, LanePolicy, holds},
};
use time::OffsetDateTime;

const REFUSE: LanePolicy = LanePolicy { behind_approval: BehindApproval::Refuse };

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
    for broken in ["behind_approval = 'REJECT'", "policy_by = 'keeper'", "policy_at = now(), policy_by = 'keeper'"] {
        let update = format!("UPDATE engine.lanes SET {broken}");
        let refused = sqlx::query(sqlx::AssertSqlSafe(update)).execute(&bench.pool).await;
        let error = refused.expect_err(broken);
        assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("23514"), "{broken}");
    }
    engine.stop().await;
}
