//! Who holds what since when, and what a set-up call is told of it.

use crate::support::{Bench, PayOrder, TENANT};
use dalp_engine::{
    Engine, OperationId, OperationState, OperationView, Operator, TransactionState,
    custody::{HoldCause, KeyProvider, OperationHold, Reply, reply},
    operator::{HoldKind, holds},
};
use std::time::Duration;
use time::OffsetDateTime;

async fn pay(bench: &Bench, engine: &Engine, lane: usize, key: &str) -> OperationView {
    bench.pay(engine, lane, key, PayOrder::times(1)).await.expect("accepted").operation
}

async fn stands(bench: &Bench, engine: &Engine, id: OperationId, state: TransactionState, sub_status: &str) {
    let reached = |view: &OperationView| {
        view.transactions.iter().any(|one| (one.state, one.sub_status.as_str()) == (state, sub_status))
    };
    bench.until(engine, id, reached).await;
}

async fn holds_of(engine: &Engine, view: &OperationView) -> Vec<OperationHold> {
    engine.reader().holds_of(&TENANT.into(), view.operation_id).await.expect("readable")
}

fn is_stopped(holds: &[OperationHold]) -> bool {
    reply(true, holds) != Reply::Operation
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_holds_its_transaction_and_what_stands_behind_its_nonce() {
    let bench = Bench::start().await;
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    bench.signer.rule(|rules| {
        rules.hold.extend([0]);
        rules.provider = Some(KeyProvider::Dfns);
    });
    let begun = OffsetDateTime::now_utc() - Duration::from_secs(5);
    let held = pay(&bench, &engine, 0, "held").await;
    stands(&bench, &engine, held.operation_id, TransactionState::Signing, "provider_hold").await;
    let behind = pay(&bench, &engine, 0, "behind").await;
    let elsewhere = pay(&bench, &engine, 1, "elsewhere").await;
    let (of_held, of_behind) = (held.transactions[0].transaction_id, behind.transactions[0].transaction_id);

    let told = holds_of(&engine, &held).await;
    let [one] = &told[..] else { panic!("{told:#?}") };
    assert_eq!((one.waiting, one.hold.transaction_id), (of_held, of_held));
    assert_eq!((one.hold.provider, one.hold.cause), (Some(KeyProvider::Dfns), HoldCause::Approval));
    assert!(!one.hold.by_provider && one.hold.since > begun, "{one:?}");
    assert!(is_stopped(&told));
    let told = holds_of(&engine, &behind).await;
    assert_eq!(told, [OperationHold { waiting: of_behind, hold: one.hold.clone() }], "it waits for the same");
    assert!(is_stopped(&told));
    assert!(engine.reader().holds_of(&"another".into(), held.operation_id).await.expect("readable").is_empty());

    // Operators see the same.
    let record = operator.transaction(&tenant, of_held).await.expect("readable").expect("there");
    assert_eq!(record.attempts[0].provider_hold.as_ref(), Some(&one.hold));
    let (view, front) = operator.look_at_lane(&tenant, bench.lane(0)).await.expect("readable").expect("a lane");
    assert_eq!(view.provider_hold.as_ref(), Some(&one.hold));
    let explained = holds(&view, &front, None, OffsetDateTime::now_utc());
    let approval = explained.iter().find(|hold| hold.kind == HoldKind::Approval);
    assert_eq!(approval.and_then(|hold| hold.provider_hold.as_ref()), Some(&one.hold));

    // Another sender waits for nobody.
    bench.signer.rule(|rules| rules.hold.clear());
    bench.wait(&engine, elsewhere.operation_id).await;
    assert!(holds_of(&engine, &elsewhere).await.is_empty());
    for view in [&held, &behind] {
        assert_eq!(bench.wait(&engine, view.operation_id).await.state, OperationState::Completed);
        assert!(holds_of(&engine, view).await.is_empty());
    }
    let record = operator.transaction(&tenant, of_held).await.expect("readable").expect("there");
    assert!(record.attempts[0].held && record.attempts[0].provider_hold.is_none(), "{:#?}", record.attempts);
    let (view, _) = operator.look_at_lane(&tenant, bench.lane(0)).await.expect("readable").expect("a lane");
    assert_eq!(view.provider_hold, None);
    bench.assert_lane_is_whole(0, 2).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_outlives_a_signer_that_is_away_and_an_end_of_the_engine() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    bench.signer.rule(|rules| {
        rules.hold.extend([0]);
        rules.provider = Some(KeyProvider::Dfns);
    });
    let held = pay(&bench, &engine, 0, "held").await;
    stands(&bench, &engine, held.operation_id, TransactionState::Signing, "provider_hold").await;
    let told = holds_of(&engine, &held).await;
    bench.signer.rule(|rules| rules.fail = u32::MAX);
    stands(&bench, &engine, held.operation_id, TransactionState::Signing, "").await;
    assert_eq!(holds_of(&engine, &held).await, told, "nobody has said that it is over");
    bench.signer.rule(|rules| rules.fail = 0);
    engine.kill().await;
    let engine = bench.engine("b").await;
    stands(&bench, &engine, held.operation_id, TransactionState::Signing, "provider_hold").await;
    assert_eq!(holds_of(&engine, &held).await, told, "since the same time");

    // What is blocked waits for no approval.
    bench.signer.rule(|rules| rules.block = true);
    stands(&bench, &engine, held.operation_id, TransactionState::Signing, "blocked").await;
    let blocked = holds_of(&engine, &held).await;
    assert_eq!((blocked[0].hold.cause, blocked[0].hold.provider), (HoldCause::Blocked, Some(KeyProvider::Dfns)));
    assert!(blocked[0].hold.since > told[0].hold.since, "since then");
    assert!(!is_stopped(&blocked));
    bench.signer.rule(|rules| {
        rules.hold.clear();
        rules.deny.extend([0]);
    });
    let ended = bench.wait(&engine, held.operation_id).await;
    assert_eq!(ended.error.map(|failure| failure.reason), Some("APPROVAL_DENIED".to_owned()));
    assert!(holds_of(&engine, &held).await.is_empty());
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_else_holds_is_told_and_stops_no_set_up() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    for provider in [Some(KeyProvider::Pkcs11), Some(KeyProvider::Fireblocks), None] {
        bench.signer.rule(|rules| {
            rules.hold = (0..3).collect();
            rules.provider = provider;
        });
        let held = pay(&bench, &engine, 0, &format!("{provider:?}")).await;
        stands(&bench, &engine, held.operation_id, TransactionState::Signing, "provider_hold").await;
        let told = holds_of(&engine, &held).await;
        assert_eq!(told.iter().map(|one| one.hold.provider).collect::<Vec<_>>(), [provider]);
        assert!(!is_stopped(&told), "{told:?}");
        bench.signer.rule(|rules| rules.hold.clear());
        assert_eq!(bench.wait(&engine, held.operation_id).await.state, OperationState::Completed);
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_broadcasts_is_held_alone() {
    let bench = Bench::start().await;
    bench.signer.provider.broadcast_for(bench.lane(0).sender, true);
    let (engine, operator, tenant) = (bench.engine("a").await, Operator::new(bench.pool.clone()), TENANT.into());
    bench.signer.provider.ask_people(true);
    let held = pay(&bench, &engine, 0, "held").await;
    stands(&bench, &engine, held.operation_id, TransactionState::Broadcasting, "provider_policy").await;
    bench.signer.provider.ask_people(false);
    operator.pause_lane(&tenant, bench.lane(0), "keeper", "to look").await.expect("paused");
    let behind = pay(&bench, &engine, 0, "not behind").await;
    assert!(holds_of(&engine, &behind).await.is_empty(), "no nonce is reserved");
    operator.resume_lane(&tenant, bench.lane(0), "keeper", "looked").await.expect("resumed");
    let told = holds_of(&engine, &held).await;
    let [one] = &told[..] else { panic!("{told:#?}") };
    assert_eq!((one.hold.provider, one.hold.cause), (Some(KeyProvider::Fireblocks), HoldCause::Approval));
    assert!(one.hold.by_provider && !is_stopped(&told));
    let record = operator.transaction(&tenant, one.waiting).await.expect("readable").expect("there");
    assert_eq!(record.attempts[0].provider_hold.as_ref(), Some(&one.hold));
    let (view, _) = operator.look_at_lane(&tenant, bench.lane(0)).await.expect("readable").expect("a lane");
    assert_eq!(view.provider_hold.as_ref(), Some(&one.hold));
    bench.signer.provider.approve();
    for view in [&held, &behind] {
        assert_eq!(bench.wait(&engine, view.operation_id).await.state, OperationState::Completed);
    }
    let query =
        "SELECT count(*) FROM engine.handovers WHERE hold IS NOT NULL OR held_by IS NOT NULL OR held_since IS NOT NULL";
    assert_eq!(bench.scalar::<i64>(query).await, 0, "it was sent: nobody holds it any more");
    engine.stop().await;
}
