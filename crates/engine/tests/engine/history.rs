//! Finished work in history: found as before, never lost, never in the way of live work.

use crate::support::{Bench, PayOrder, TENANT};
use dalp_engine::{
    AdmitError, Engine, OperationFilter, OperationId, OperationState, OperationView, Operator, TransactionState,
    checker::{self, Decision, Policy},
    operator::{TransactionFilter, TransactionRecord},
};
use std::time::Duration;

/// What an operation leaves behind.
const TABLES: [&str; 8] =
    ["operations", "steps", "transactions", "attempts", "handovers", "handover_hashes", "checks", "check_decisions"];

async fn number(bench: &Bench, query: String) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&bench.pool).await.expect("readable")
}

/// How many rows of each table stand there, of live work and of history.
async fn rows(bench: &Bench) -> (Vec<i64>, Vec<i64>) {
    let (mut live, mut history) = (Vec::new(), Vec::new());
    for table in TABLES {
        live.push(number(bench, format!("SELECT count(*) FROM engine.{table}")).await);
        history.push(number(bench, format!("SELECT count(*) FROM engine.history_{table}")).await);
    }
    (live, history)
}

/// All that readers can see of a tenant, page by page.
async fn seen(bench: &Bench, engine: &Engine) -> (Vec<OperationView>, Vec<TransactionRecord>) {
    let (reader, operator, tenant) = (engine.reader(), Operator::new(bench.pool.clone()), TENANT.into());
    let (mut operations, mut transactions) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let page = reader.list_operations(&tenant, &OperationFilter::default(), after, 2).await.expect("readable");
        for listed in page.operations {
            let whole = reader.get_operation(&tenant, listed.operation_id).await.expect("readable").expect("listed");
            assert_eq!((&whole.result, &whole.check), (&listed.result, &listed.check));
            operations.push(whole);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut after = None;
    loop {
        let page =
            operator.list_transactions(&tenant, &TransactionFilter::default(), after, 2).await.expect("readable");
        for listed in page.transactions {
            let id = listed.view.transaction_id;
            transactions.push(operator.transaction(&tenant, id).await.expect("readable").expect("listed"));
        }
        after = page.next;
        if after.is_none() {
            return (operations, transactions);
        }
    }
}

/// Has a payment held for a second person, and approved.
async fn approved(bench: &Bench, engine: &Engine, key: &str) -> OperationId {
    let policy = Policy {
        policy_id: "payments".into(),
        kinds: vec!["test.pay".into()],
        except_kinds: vec![],
        asset: None,
        threshold: None,
        checkers: 1,
        time_limit_s: 3_600,
        unowned_makers: false,
    };
    let tenant = TENANT.into();
    let mut commit = bench.pool.begin().await.expect("begins");
    checker::put_policy(&mut commit, &tenant, &policy, "admin").await.expect("stored");
    commit.commit().await.expect("committed");
    let held = bench.pay_asking(engine, 1, key, PayOrder::times(1)).await.expect("accepted").operation;
    assert_eq!(held.state, OperationState::AwaitingChecker);
    let decision = Decision {
        principal: "checker".into(),
        person: "checker".into(),
        hands: [].into(),
        makers: [held.principal.clone()].into(),
        makers_hands: [].into(),
        approved: true,
        reason: "looked at".into(),
        payload_hash: held.check.as_ref().expect("a check").payload_hash,
    };
    let mut commit = bench.pool.begin().await.expect("begins");
    checker::decide(&mut commit, &tenant, held.operation_id, &decision).await.expect("counts");
    commit.commit().await.expect("committed");
    held.operation_id
}

async fn several_ends(bench: &Bench, engine: &Engine) -> Vec<OperationId> {
    let mut ids = Vec::new();
    for (number, order) in [
        PayOrder::times(2),
        PayOrder { together: 3, ..PayOrder::times(1) },
        PayOrder { reverts: true, ..PayOrder::times(1) },
        PayOrder { too_much: true, ..PayOrder::times(1) },
    ]
    .into_iter()
    .enumerate()
    {
        let accepted = bench.pay(engine, 0, &format!("key{number}"), order).await.expect("accepted");
        ids.push(accepted.operation.operation_id);
    }
    ids.push(approved(bench, engine, "checked").await);
    for id in &ids {
        bench.wait(engine, *id).await;
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_history_is_found_as_before() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let ids = several_ends(&bench, &engine).await;
    let (before, (live, history)) = (seen(&bench, &engine).await, rows(&bench).await);
    assert_eq!(before.0.len(), ids.len());
    assert!(history.iter().all(|count| *count == 0) && live[0] == 5 && live[3] > 0 && live[7] == 1, "{live:?}");
    let kept =
        "SELECT (SELECT count(*) FROM engine.nonces) * 1000000 + (SELECT count(*) FROM engine.idempotency) * 10000
                       + (SELECT count(*) FROM engine.outbox) + (SELECT count(*) FROM engine.audit_leaves)";
    let for_ever: i64 = bench.scalar(kept).await;

    assert_eq!(engine.move_finished(Duration::from_secs(3_600)).await.expect("readable"), 0, "it ended just now");
    assert_eq!(engine.move_finished(Duration::ZERO).await.expect("moved"), ids.len());
    let (live_after, history_after) = rows(&bench).await;
    assert_eq!((live_after, history_after), (history, live), "all of it, and nothing else");
    assert_eq!(bench.scalar::<i64>(kept).await, for_ever, "nonces, keys, events and leaves stay");
    assert_eq!(seen(&bench, &engine).await, before);

    let again = bench.pay(&engine, 0, "key0", PayOrder::times(2)).await.expect("a repeat");
    assert!(again.replayed && again.operation.operation_id == ids[0], "{again:?}");
    let other = bench.pay(&engine, 0, "key0", PayOrder::times(3)).await.expect_err("another payload");
    assert!(matches!(other, AdmitError::KeyReused { .. }), "{other}");
    let order = engine.reader().order_of_key(&TENANT.into(), "tester", "test.Pay", "key0").await.expect("readable");
    assert_eq!(order.map(|order| order["times"].clone()), Some(2.into()));

    // The lane goes on behind the nonces of history, and lists go on into it.
    let nonces =
        before.1.iter().filter(|record| record.view.lane == bench.lane(0)).filter_map(|record| record.view.nonce);
    let next = nonces.max().expect("a nonce") + 1;
    let id = bench.pay_surely(&engine, 0, "next").await;
    assert_eq!(bench.wait(&engine, id).await.transactions[0].nonce, Some(next));
    let after = seen(&bench, &engine).await;
    assert_eq!((after.0[0].operation_id, &after.0[1..], &after.1[1..]), (id, &before.0[..], &before.1[..]));
    for (state, count) in [(OperationState::Completed, 4), (OperationState::Failed, 2), (OperationState::Running, 0)] {
        let filter = OperationFilter { state: Some(state), kind: None };
        let page = engine.reader().list_operations(&TENANT.into(), &filter, None, 50).await.expect("readable");
        assert_eq!(page.operations.len(), count, "{state:?}");
    }
    let filter = TransactionFilter { sender: Some(bench.lane(1).sender), ..TransactionFilter::default() };
    let page = Operator::new(bench.pool.clone()).list_transactions(&TENANT.into(), &filter, None, 50).await;
    assert_eq!(page.expect("readable").transactions.len(), 1);
    assert_eq!(engine.move_finished(Duration::ZERO).await.expect("moved"), 1);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_ended_for_good_stays() {
    let bench = Bench::start().await;
    // One waits for an approval, one is parked, one has a flow with a defect, one waits for a second person.
    bench.signer.rule(|rules| {
        rules.hold.extend([7]);
        rules.deaf.extend([0]);
    });
    let engine = bench
        .engine_with("a", |config| {
            config.retry_budget = 3;
            config.sign_timeout = Duration::from_millis(100);
        })
        .await;
    let parked =
        bench.pay(&engine, 0, "parked", PayOrder { together: 2, ..PayOrder::times(0) }).await.expect("accepted");
    bench.until_scalar("SELECT count(*) FROM engine.transactions WHERE state = 'DEAD_LETTER'", 1).await;
    bench.signer.rule(|rules| rules.deaf.clear());
    let faulty = bench.faulty(&engine, 1, "faulty").await;
    bench.until_scalar("SELECT count(*) FROM engine.operations WHERE quarantined_at IS NOT NULL", 1).await;
    for count in 0..7 {
        let id = bench.pay_surely(&engine, 2, &format!("{count}")).await;
        bench.wait(&engine, id).await;
    }
    let held = bench.pay_surely(&engine, 2, "held").await;
    let waits = |view: &OperationView| view.transactions.iter().any(|one| one.sub_status == "provider_hold");
    bench.until(&engine, held, waits).await;
    assert_eq!(engine.move_finished(Duration::ZERO).await.expect("moved"), 7);
    assert_eq!(engine.move_finished(Duration::ZERO).await.expect("readable"), 0);
    for id in [parked.operation.operation_id, faulty, held] {
        let stays = number(&bench, format!("SELECT count(*) FROM engine.operations WHERE operation_id = '{id}'")).await;
        assert_eq!(stays, 1, "{id}");
    }
    let running = OperationFilter { state: Some(OperationState::Running), kind: None };
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = engine.reader().list_operations(&TENANT.into(), &running, after, 1).await.expect("readable");
        listed.extend(page.operations.iter().map(|one| one.operation_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, [held, faulty, parked.operation.operation_id], "the newest first");
    let filter = TransactionFilter { state: Some(TransactionState::DeadLetter), ..TransactionFilter::default() };
    let page = Operator::new(bench.pool.clone()).list_transactions(&TENANT.into(), &filter, None, 50).await;
    assert_eq!(page.expect("readable").transactions.len(), 1);
    bench.signer.rule(|rules| rules.hold.clear());
    assert_eq!(bench.wait(&engine, held).await.state, OperationState::Completed);
    assert_eq!(engine.move_finished(Duration::ZERO).await.expect("moved"), 1);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_moves_what_has_ended() {
    let bench = Bench::start().await;
    let engine = bench
        .engine_with("a", |config| {
            config.finished_kept = Duration::ZERO;
            config.finished_every = Duration::from_millis(50);
        })
        .await;
    let id = bench.pay_surely(&engine, 0, "key").await;
    assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    bench.until_scalar("SELECT count(*) FROM engine.history_operations", 1).await;
    assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    engine.stop().await;
}

/// What each operation has left behind, wherever it stands.
const LEFT_BEHIND: &str = "SELECT format('%s %s: %s steps, %s transactions, %s attempts', o.operation_id, o.state,
        (SELECT count(*) FROM engine.all_steps s WHERE s.operation_id = o.operation_id),
        (SELECT count(*) FROM engine.all_transactions t WHERE t.operation_id = o.operation_id),
        (SELECT count(*) FROM engine.all_transactions t JOIN engine.all_attempts a USING (transaction_id) WHERE t.operation_id = o.operation_id))
    FROM engine.all_operations o ORDER BY o.operation_id";

/// Several move at once, and some are given up at any line.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_moves_and_dies_loses_nothing() {
    const COUNT: usize = 40;
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let mut ids = Vec::new();
    for count in 0..COUNT {
        ids.push(bench.pay_surely(&engine, count % 4, &format!("{count}")).await);
    }
    for id in &ids {
        bench.wait(&engine, *id).await;
    }
    let (before, whole) = (seen(&bench, &engine).await, bench.column::<String>(LEFT_BEHIND).await);
    assert_eq!(whole.len(), COUNT);
    for round in 0..30 {
        let gives_up = Duration::from_millis(3 * round);
        let mover = || tokio::time::timeout(gives_up, engine.move_finished(Duration::ZERO));
        let moved = tokio::join!(mover(), mover());
        for outcome in [moved.0, moved.1].into_iter().flatten() {
            outcome.expect("moved");
        }
        assert_eq!(bench.column::<String>(LEFT_BEHIND).await, whole, "in one place each, and whole");
    }
    // Whoever was given up may hold its rows for a moment yet.
    let all = async {
        while rows(&bench).await.0 != [0; 8] {
            engine.move_finished(Duration::ZERO).await.expect("moved");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("all of it in the end");
    assert_eq!(seen(&bench, &engine).await, before);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_neither_changed_nor_bypassed() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    several_ends(&bench, &engine).await;
    for table in TABLES {
        let loss = format!("DELETE FROM engine.{table}");
        let filled = number(&bench, format!("SELECT count(*) FROM engine.{table}")).await > 0;
        let answer = sqlx::query(sqlx::AssertSqlSafe(loss)).execute(&bench.pool).await;
        assert_eq!(answer.is_err(), filled, "what history lacks leaves live work: {table}");
    }
    engine.move_finished(Duration::ZERO).await.expect("moved");
    engine.stop().await;
    for forbidden in [
        "DELETE FROM engine.history_operations",
        "DELETE FROM engine.history_attempts",
        "UPDATE engine.history_operations SET state = 'FAILED'",
        "UPDATE engine.history_transactions SET tx_hash = NULL",
        "UPDATE engine.history_attempts SET raw = NULL",
        "UPDATE engine.history_check_decisions SET person = 'other'",
        "UPDATE engine.nonces SET released = true",
    ] {
        sqlx::query(forbidden).execute(&bench.pool).await.expect_err(forbidden);
    }
}

/// A month is taken out, as the how-to says. Its keys still stand for what was carried out.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_archived_is_not_carried_out_again() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let id = bench.pay_surely(&engine, 0, "old").await;
    let transaction = bench.wait(&engine, id).await.transactions[0].transaction_id;
    engine.move_finished(Duration::ZERO).await.expect("moved");
    let how_to = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/how-to/keep-history.md"));
    let how_to = how_to.expect("the how-to");
    let drop = how_to.lines().find(|line| line.starts_with("DROP TABLE")).expect("a statement that takes a month out");
    let month = bench.scalar::<String>("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')").await;
    let drop = drop.replace("2026_01", &month);
    sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&bench.pool).await.expect("taken out");
    assert_eq!(rows(&bench).await, (vec![0; 8], vec![0; 8]));

    let sent = bench.signer.requests();
    let again = bench.pay(&engine, 0, "old", PayOrder::times(1)).await.expect_err("it is not there");
    assert!(matches!(again, AdmitError::Archived(archived) if archived == id), "{again}");
    let other = bench.pay(&engine, 0, "old", PayOrder::times(2)).await.expect_err("another payload");
    assert!(matches!(other, AdmitError::KeyReused { .. }), "{other}");
    // Services look for the order first: what it resolved then differs from now, and would pass for another payload.
    let order = engine.reader().order_of_key(&TENANT.into(), "tester", "test.Pay", "old").await.expect_err("archived");
    assert!(matches!(order, AdmitError::Archived(archived) if archived == id), "{order}");
    assert_eq!(bench.signer.requests(), sent);
    assert!(engine.reader().get_operation(&TENANT.into(), id).await.expect("readable").is_none());
    let found = Operator::new(bench.pool.clone()).transaction(&TENANT.into(), transaction).await;
    assert!(found.expect("readable").is_none());

    // The month is opened again for what ends later.
    let next = bench.pay_surely(&engine, 0, "new").await;
    assert_eq!(bench.wait(&engine, next).await.transactions[0].nonce, Some(1));
    assert_eq!(engine.move_finished(Duration::ZERO).await.expect("moved"), 1);
    assert!(engine.reader().get_operation(&TENANT.into(), next).await.expect("readable").is_some());
    engine.stop().await;
}

/// Reading one operation, or a page of a list, costs the same whatever stands in history.
#[tokio::test(flavor = "multi_thread")]
async fn reads_find_history_by_its_indexes() {
    let bench = Bench::start().await;
    let pool = bench.pool_of_a_service();
    let engine = bench.engine_on(pool.clone(), "a", |_| {}).await;
    several_ends(&bench, &engine).await;
    engine.move_finished(Duration::ZERO).await.expect("moved");
    let read = "SELECT format('%s: %s scans read %s rows', relname, seq_scan, seq_tup_read) FROM pg_stat_user_tables
                WHERE schemaname = 'engine' AND relname LIKE 'history%' AND seq_tup_read > 0";
    let settled = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'svc-test'";
    let reader = dalp_engine::Reader::new(pool.clone());
    let operator = Operator::new(pool.clone());
    let tenant = TENANT.into();
    for view in
        reader.list_operations(&tenant, &OperationFilter::default(), None, 50).await.expect("readable").operations
    {
        reader.get_operation(&tenant, view.operation_id).await.expect("readable").expect("listed");
    }
    let page = operator.list_transactions(&tenant, &TransactionFilter::default(), None, 50).await.expect("readable");
    for record in page.transactions {
        operator.transaction(&tenant, record.view.transaction_id).await.expect("readable").expect("listed");
    }
    engine.stop().await;
    drop((reader, operator));
    pool.close().await;
    bench.until_scalar(settled, 0).await;
    let read: Vec<String> = bench.column(read).await;
    assert!(read.is_empty(), "{read:#?}");
}

/// A backup reads history for an hour: the month cannot be opened, readers go on, and what has ended moves afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_delays_what_moves_and_no_reader() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    let id = bench.pay_surely(&engine, 0, "key").await;
    bench.wait(&engine, id).await;
    let mut backup = bench.pool.begin().await.expect("begins");
    sqlx::query("LOCK TABLE engine.history_operations IN ACCESS SHARE MODE")
        .execute(&mut *backup)
        .await
        .expect("reads");
    let refused = engine.move_finished(Duration::ZERO).await.expect_err("the month cannot be opened");
    assert!(format!("{refused:?}").contains("55P03"), "{refused:?}");
    assert_eq!(bench.wait(&engine, id).await.state, OperationState::Completed);
    backup.rollback().await.expect("ends");
    assert_eq!(engine.move_finished(Duration::ZERO).await.expect("moved"), 1);
    engine.stop().await;
}
