//! Calls of senders whose provider broadcasts by itself, against a real database and a real chain.

use crate::support::{Bench, PayOrder, TENANT};
use dalp_engine::{
    Engine, EngineConfig, OperationId, OperationState, OperationView, Operator, TransactionId, TransactionState,
    operator::{AttemptPurpose, AttemptStanding, CancelOutcome, ControlError, HoldKind, holds},
};
use std::time::Duration;
use time::OffsetDateTime;

const HELD: &str = "SELECT count(*) FROM engine.handovers WHERE state = 'HANDED' AND held";
const SENT: &str = "SELECT count(*) FROM engine.handovers WHERE state = 'SENT'";
const DONE: &str = "SELECT count(*) FROM engine.handovers WHERE state = 'DONE'";

/// A bench whose first keys are of a provider that broadcasts by itself.
async fn bench(depth: u64) -> Bench {
    let bench = Bench::start_with(&[], depth).await;
    for lane in 0..2 {
        bench.signer.provider.broadcast_for(bench.lane(lane).sender, true);
    }
    bench
}

async fn pay(bench: &Bench, engine: &Engine, lane: usize, key: &str) -> OperationView {
    bench.pay(engine, lane, key, PayOrder::times(1)).await.expect("accepted").operation
}

fn of(view: &OperationView) -> TransactionId {
    view.transactions[0].transaction_id
}

async fn completed(bench: &Bench, engine: &Engine, id: OperationId) -> OperationView {
    let view = bench.wait(engine, id).await;
    assert_eq!(view.state, OperationState::Completed, "{view:#?}");
    view
}

async fn stands(bench: &Bench, engine: &Engine, id: OperationId, state: TransactionState, sub_status: &str) {
    let reached = |view: &OperationView| {
        view.transactions.iter().any(|one| (one.state, one.sub_status.as_str()) == (state, sub_status))
    };
    bench.until(engine, id, reached).await;
}

fn brief(config: &mut EngineConfig) {
    config.lease = Duration::from_secs(1);
    config.sign_timeout = Duration::from_millis(500);
}

/// Nothing of a lane was taken for what a provider numbers.
async fn no_nonce_was_taken(bench: &Bench) {
    assert_eq!(bench.scalar::<i64>("SELECT count(*) FROM engine.nonces").await, 0);
    assert_eq!(bench.scalar::<i64>("SELECT count(*) FROM engine.attempts").await, 0);
    assert_eq!(bench.scalar::<i64>("SELECT count(*) FROM engine.transactions WHERE nonce IS NOT NULL").await, 0);
}

/// Lost answers, holds, two replicas of which one is killed, and again and again the one that is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_with_its_provider_once() {
    const COUNT: usize = 40;
    let bench = bench(0).await;
    let provider = &bench.signer.provider;
    let (one, mut other) = (bench.engine_with("one", brief).await, bench.engine_with("other", brief).await);
    provider.ask_people_for_every_third();
    let mut ids = Vec::new();
    for number in 0..COUNT {
        if number == 5 {
            provider.lose_answers(6);
        }
        let replica = if number % 2 == 0 && number < COUNT / 2 { &one } else { &other };
        ids.push(bench.pay_surely(replica, number % 2, &format!("key{number}")).await);
        if number == COUNT / 2 {
            one.kill().await;
        }
    }
    for round in 0..4u64 {
        bench.signer.wait_for_more_requests(3 + 5 * round, Duration::from_secs(3)).await;
        other.kill().await;
        other = bench.engine_with("other", brief).await;
    }
    bench.until_scalar(HELD, 13).await;
    provider.approve();
    for id in ids {
        completed(&bench, &other, id).await;
    }
    assert_eq!(bench.payments_on_chain().await, COUNT as u64, "lost or doubled");
    assert_eq!(provider.orders(), COUNT);
    assert_eq!(bench.scalar::<i64>(DONE).await, COUNT as i64);
    no_nonce_was_taken(&bench).await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_survives_an_end_at_every_step() {
    let bench = bench(2).await;
    let provider = &bench.signer.provider;
    let engine = bench.engine_with("a", brief).await;
    // Written, and the signer's answer never came.
    provider.be_deaf(true);
    provider.ask_people(true);
    let id = pay(&bench, &engine, 0, "key").await.operation_id;
    bench.until_scalar("SELECT count(*) FROM engine.handovers WHERE state = 'SIGNING'", 1).await;
    bench.signer.wait_for_more_requests(1, Duration::from_secs(5)).await;
    engine.kill().await;
    provider.be_deaf(false);
    let engine = bench.engine_with("b", brief).await;
    // Held.
    stands(&bench, &engine, id, TransactionState::Broadcasting, "provider_policy").await;
    engine.kill().await;
    bench.automine(false).await;
    provider.approve();
    let engine = bench.engine_with("c", brief).await;
    // Sent, and in no block.
    stands(&bench, &engine, id, TransactionState::Broadcasting, "sent_by_provider").await;
    engine.kill().await;
    bench.mine(1).await;
    let engine = bench.engine_with("d", brief).await;
    // In a block, below finality.
    stands(&bench, &engine, id, TransactionState::Confirming, "included").await;
    engine.kill().await;
    bench.mine(3).await;
    let engine = bench.engine_with("e", brief).await;
    let view = completed(&bench, &engine, id).await;
    assert_eq!(view.transactions[0].nonce, None, "the provider's nonce is none of ours");
    assert_eq!((provider.orders(), bench.payments_on_chain().await), (1, 1));
    assert_eq!(bench.scalar::<i64>("SELECT count(*) FROM engine.handovers").await, 1);
    no_nonce_was_taken(&bench).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_holds_no_other_up_and_is_given_up_when_asked() {
    let bench = bench(0).await;
    let provider = &bench.signer.provider;
    let engine = bench.engine_with("a", |config| config.lane_window = 1).await;
    let (operator, tenant) = (Operator::new(bench.pool.clone()), TENANT.into());
    provider.ask_people(true);
    let mut held = Vec::new();
    for number in 0..4 {
        held.push(pay(&bench, &engine, 0, &format!("held{number}")).await);
    }
    bench.until_scalar(HELD, 4).await;
    provider.ask_people(false);
    let quick = pay(&bench, &engine, 0, "quick").await.operation_id;
    completed(&bench, &engine, quick).await;

    // What readers are told.
    let record = operator.transaction(&tenant, of(&held[0])).await.expect("readable").expect("there");
    let [attempt] = &record.attempts[..] else { panic!("{record:#?}") };
    assert_eq!((attempt.kind, attempt.state), (AttemptPurpose::Handover, AttemptStanding::Handed));
    assert_eq!((attempt.nonce, attempt.gas_limit, attempt.fees, attempt.tx_hash), (None, None, None, None));
    assert_eq!(attempt.provider_id, format!("tx-{}", attempt.request_id));
    assert!(attempt.held);
    let said = record.view.history.last().map(|last| (last.action.as_str(), last.last_error.as_str()));
    assert_eq!(said, Some(("approval", "two of three have approved")));
    let (lane, front) = operator.look_at_lane(&tenant, bench.lane(0)).await.expect("readable").expect("there");
    assert_eq!((lane.by_provider, lane.in_flight, lane.queued), (true, 4, 0));
    let found = holds(&lane, &front, None, OffsetDateTime::now_utc());
    assert!(found.iter().filter(|hold| hold.kind == HoldKind::Approval).count() == 4, "{found:#?}");
    assert!(!found.iter().any(|hold| hold.kind == HoldKind::NeverCompared), "{found:#?}");

    // What may be asked for.
    let bump = operator.bump_transaction(&tenant, of(&held[0]), "anybody", "urgent").await.expect_err("not ours");
    assert!(matches!(&bump, ControlError::ByProvider { provider_id } if *provider_id == attempt.provider_id), "{bump}");
    let (_, outcome) = operator.cancel_transaction(&tenant, of(&held[0]), "anybody", "a mistake").await.expect("asked");
    assert_eq!(outcome, CancelOutcome::WithdrawalRecorded);
    let ended = bench.wait(&engine, held[0].operation_id).await;
    let transaction = &ended.transactions[0];
    assert_eq!((transaction.state, transaction.sub_status.as_str()), (TransactionState::Cancelled, "given_up"));
    provider.never_give_up();
    operator.cancel_transaction(&tenant, of(&held[1]), "anybody", "another").await.expect("asked");
    let refused = "SELECT count(*) FROM engine.transactions WHERE NOT cancel_requested AND history @> '[{\"action\": \"withdraw\"}]'";
    bench.until_scalar(refused, 1).await;

    // The others end as their people decide.
    provider.deny();
    for one in &held[1..] {
        let ended = bench.wait(&engine, one.operation_id).await;
        assert_eq!((ended.state, ended.transactions[0].sub_status.as_str()), (OperationState::Failed, "denied"));
    }
    assert_eq!(bench.payments_on_chain().await, 1);
    provider.ask_people(true);
    let late = pay(&bench, &engine, 1, "late").await.operation_id;
    stands(&bench, &engine, late, TransactionState::Broadcasting, "provider_policy").await;
    provider.block();
    stands(&bench, &engine, late, TransactionState::Broadcasting, "blocked").await;
    provider.expire();
    let ended = bench.wait(&engine, late).await;
    assert_eq!(ended.transactions[0].sub_status, "approval_expired");
    no_nonce_was_taken(&bench).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_hash_that_was_told_may_be_the_one() {
    let bench = bench(0).await;
    let provider = &bench.signer.provider;
    bench.automine(false).await;
    let engine = bench.engine("a").await;
    let (operator, tenant) = (Operator::new(bench.pool.clone()), TENANT.into());
    // Sent again at a higher price: the later one is mined.
    let faster = pay(&bench, &engine, 0, "faster").await;
    bench.until_scalar(SENT, 1).await;
    let sent_late = operator.cancel_transaction(&tenant, of(&faster), "anybody", "late").await.expect_err("it is sent");
    assert!(matches!(sent_late, ControlError::ByProvider { .. }), "{sent_late}");
    provider.speed_up().await;
    bench.until_scalar("SELECT count(*) FROM engine.handover_hashes", 2).await;
    bench.mine(1).await;
    let view = completed(&bench, &engine, faster.operation_id).await;
    let record = operator.transaction(&tenant, of(&faster)).await.expect("readable").expect("there");
    assert_eq!(record.attempts[0].tx_hash, view.transactions[0].tx_hash);
    assert_eq!(record.attempts[0].earlier_hashes.len(), 1, "{record:#?}");
    assert_eq!(record.attempts[0].nonce, Some(0), "as a node has shown it");

    // It tells another one, and the first is mined.
    let odd = pay(&bench, &engine, 1, "odd").await;
    bench.until_scalar(SENT, 1).await;
    let first = operator.transaction(&tenant, of(&odd)).await.expect("readable").expect("there").attempts[0].tx_hash;
    provider.tell_another_hash();
    bench.until_scalar("SELECT count(*) FROM engine.handover_hashes", 4).await;
    bench.mine(1).await;
    let view = completed(&bench, &engine, odd.operation_id).await;
    assert_eq!(view.transactions[0].tx_hash, first);
    assert_eq!((bench.payments_on_chain().await, provider.orders()), (2, 2));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_disappears_takes_a_handover_back() {
    let bench = bench(3).await;
    let engine = bench.engine("a").await;
    let id = pay(&bench, &engine, 0, "key").await.operation_id;
    stands(&bench, &engine, id, TransactionState::Confirming, "included").await;
    bench.automine(false).await;
    bench.reorg(1).await;
    let told = "SELECT count(*) FROM engine.outbox WHERE topic = 'engine.transaction.retracted'";
    bench.until_scalar(told, 1).await;
    // The provider sees to it that it comes into a block again.
    bench.signer.provider.speed_up().await;
    bench.until_scalar("SELECT count(*) FROM engine.handover_hashes", 2).await;
    bench.mine(5).await;
    completed(&bench, &engine, id).await;
    assert_eq!((bench.payments_on_chain().await, bench.scalar::<i64>(told).await), (1, 1));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_failed_decides_nothing_until_the_chain_does() {
    let bench = bench(1).await;
    let provider = &bench.signer.provider;
    bench.automine(false).await;
    let engine = bench.engine_with("a", |config| config.retry_budget = 5).await;
    let mined = pay(&bench, &engine, 0, "mined").await.operation_id;
    bench.until_scalar(SENT, 1).await;
    provider.say_failed();
    stands(&bench, &engine, mined, TransactionState::Broadcasting, "provider_failed").await;
    bench.mine(2).await;
    completed(&bench, &engine, mined).await;

    // Its nonce is used by something else, finally: it is dropped, and only then it has failed.
    let dropped = pay(&bench, &engine, 1, "dropped").await;
    bench.until_scalar(SENT, 1).await;
    provider.say_failed();
    bench
        .until_scalar(
            "SELECT count(*) FROM engine.transactions WHERE state = 'DEAD_LETTER' AND sub_status = 'provider_failed'",
            1,
        )
        .await;
    let (operator, tenant) = (Operator::new(bench.pool.clone()), TENANT.into());
    let letters = operator.list_dead_letters(&tenant, None, 10).await.expect("readable").letters;
    assert!(letters.len() == 1 && !letters[0].decided, "{letters:#?}");
    let (_, ()) = tokio::join!(bench.send_outside(1), async {
        bench.until_pool_holds(1).await;
        bench.mine(3).await;
    });
    operator.resync_lane(&tenant, bench.lane(1), "anybody", "look again").await.expect("asked");
    bench.until_scalar("SELECT count(*) FROM engine.handovers WHERE state = 'DROPPED'", 1).await;
    let letters = operator.list_dead_letters(&tenant, None, 10).await.expect("readable").letters;
    assert!(letters[0].decided, "{letters:#?}");
    operator.retry_dead_letter(&tenant, of(&dropped).0, "anybody", "it never came").await.expect("retried");
    bench.until_scalar(SENT, 1).await;
    bench.mine(3).await;
    completed(&bench, &engine, dropped.operation_id).await;
    assert_eq!((bench.payments_on_chain().await, provider.orders()), (2, 3));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_changes_its_mode_and_loses_nothing() {
    let bench = Bench::start().await;
    let (provider, sender) = (&bench.signer.provider, bench.lane(0).sender);
    let engine = bench.engine("a").await;
    for (round, by_provider) in [false, true, true, false, true].into_iter().enumerate() {
        provider.broadcast_for(sender, by_provider);
        let mut ids = Vec::new();
        for number in 0..3 {
            ids.push(pay(&bench, &engine, 0, &format!("{round}-{number}")).await.operation_id);
        }
        for id in ids {
            completed(&bench, &engine, id).await;
        }
    }
    assert_eq!((bench.payments_on_chain().await, provider.orders()), (15, 9));
    let handed: i64 = bench.scalar(DONE).await;
    let numbered: i64 =
        bench.scalar("SELECT count(*) FROM engine.attempts WHERE state = 'DONE' AND kind = 'CALL'").await;
    assert_eq!((handed, numbered), (9, 6));
    engine.stop().await;
}

/// Whatever a statement asks for.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_keeps_what_was_handed_over() {
    let bench = bench(0).await;
    bench.signer.provider.ask_people(true);
    let engine = bench.engine("a").await;
    let held = pay(&bench, &engine, 0, "held").await.operation_id;
    stands(&bench, &engine, held, TransactionState::Broadcasting, "provider_policy").await;
    bench.signer.provider.ask_people(false);
    let done = pay(&bench, &engine, 1, "done").await.operation_id;
    completed(&bench, &engine, done).await;
    engine.stop().await;
    for statement in [
        "INSERT INTO engine.handovers (tenant, transaction_id, attempt, service, chain_id, sender, request_id, state)
         SELECT tenant, transaction_id, 2, service, chain_id, sender, gen_random_uuid(), 'SIGNING' FROM engine.handovers WHERE state = 'HANDED'",
        "UPDATE engine.handovers SET state = 'REFUSED' WHERE state = 'DONE'",
        "UPDATE engine.handovers SET state = 'SENT', block_number = NULL, block_hash = NULL, receipt = NULL WHERE state = 'DONE'",
        "UPDATE engine.handovers SET state = 'SENT' WHERE state = 'HANDED'",
        "UPDATE engine.handovers SET request_id = gen_random_uuid()",
        "UPDATE engine.handovers SET tx_hash = NULL WHERE state = 'DONE'",
        "UPDATE engine.handovers SET provider_id = ''",
        "DELETE FROM engine.handovers",
        "DELETE FROM engine.handover_hashes",
        "UPDATE engine.handover_hashes SET request_id = (SELECT request_id FROM engine.handovers WHERE state = 'HANDED')",
        "UPDATE engine.transactions SET state = 'QUEUED' WHERE state = 'COMPLETED'",
    ] {
        sqlx::query(statement).execute(&bench.pool).await.expect_err(statement);
    }
}
