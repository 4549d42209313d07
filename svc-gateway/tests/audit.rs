//! The audit log on a real PostgreSQL: places, trees and proofs whatever happens meanwhile.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use dalp_audit::{
    Hash,
    tree::{CompactRange, verify_consistency, verify_inclusion},
};
use support::ledger::{Bench, leaf, number};

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_commits_late_gets_a_later_place_and_none_is_left_out() {
    let bench = Bench::new().await;
    let mut late = bench.pool.begin().await.unwrap();
    leaf(&mut late, "acme", 1).await;
    bench.write("acme", 3).await;
    // What is behind the open transaction waits, though it is committed: it could be overtaken.
    bench.seal_all(10).await;
    assert_eq!(bench.log.edge("acme").await.unwrap().size(), 0);
    assert_eq!(bench.log.backlog().await.unwrap().unsealed, 3);
    let mut rolled_back = bench.pool.begin().await.unwrap();
    leaf(&mut rolled_back, "acme", 9).await;
    rolled_back.rollback().await.unwrap();
    late.commit().await.unwrap();
    bench.write("other", 2).await;
    bench.seal_all(2).await;
    assert_eq!(bench.whole("acme").await, 4);
    assert_eq!(bench.whole("other").await, 2);
    let backlog = bench.log.backlog().await.unwrap();
    assert_eq!((backlog.unsealed, backlog.seal_lag_s), (0, 0.0));
    assert!(backlog.root_lag_s >= 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_and_several_sealers_make_one_log() {
    let bench = Arc::new(Bench::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move {
            for round in 0..30 {
                let mut commit = bench.pool.begin().await.unwrap();
                for number in 0..5 {
                    leaf(&mut commit, ["acme", "other", "third"][(writer + round) % 3], number).await;
                }
                match round % 7 {
                    6 => commit.rollback().await.unwrap(),
                    _ => commit.commit().await.unwrap(),
                }
            }
        });
    }
    let stop = dalp_service::stop::Stop::new();
    let mut sealers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (bench, stop) = (Arc::clone(&bench), stop.clone());
        sealers.spawn(async move {
            while !stop.is_requested() {
                bench.log.seal(17).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    stop.request();
    while let Some(done) = sealers.join_next().await {
        done.unwrap();
    }
    bench.seal_all(1_000).await;
    let mut sealed = 0;
    for tenant in ["acme", "other", "third"] {
        sealed += bench.whole(tenant).await;
    }
    assert_eq!(sealed.cast_signed(), number(&bench.pool, "SELECT count(*) FROM engine.audit_leaves").await);
    assert_eq!(sealed, 6 * 5 * 26);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealer_that_dies_in_the_middle_leaves_nothing_half_done() {
    let bench = Bench::new().await;
    bench.write("acme", 40).await;
    // Its statement after the places waits for this lock: there it is killed.
    let mut lock = bench.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE gateway.audit_tiles IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let log = bench.log.clone();
    let sealing = tokio::spawn(async move { log.seal(100).await });
    let waiting = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO gateway.audit_tiles%'";
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut pid = 0;
    while pid == 0 {
        assert!(Instant::now() < deadline, "it comes to the lock");
        pid = number(&bench.pool, waiting).await;
    }
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(i32::try_from(pid).unwrap())
        .execute(&bench.pool)
        .await
        .unwrap();
    sealing.await.unwrap().unwrap_err();
    lock.rollback().await.unwrap();
    for table in ["SELECT count(*) FROM gateway.audit_entries", "SELECT count(*) FROM gateway.audit_trees"] {
        assert_eq!(number(&bench.pool, table).await, 0);
    }
    bench.seal_all(7).await;
    assert_eq!(bench.whole("acme").await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_goes_on_in_a_database_whose_transaction_numbers_began_anew() {
    let bench = Bench::new().await;
    bench.write("acme", 5).await;
    bench.seal_all(100).await;
    bench.write("acme", 3).await;
    // As a dump restored elsewhere: rows keep their numbers, which this server has not reached.
    for statement in [
        "SET session_replication_role = replica",
        "UPDATE engine.audit_leaves SET xid = (xid::text::numeric + 1000000000)::text::xid8",
        "UPDATE gateway.audit_sealer SET after_xid = (after_xid::text::numeric + 1000000000)::text::xid8",
    ] {
        // On one connection: the setting is its own.
        let mut connection = bench.pool.acquire().await.unwrap();
        sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await.unwrap();
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
        sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await.unwrap();
    }
    bench.write("acme", 4).await;
    for _ in 0..6 {
        bench.log.seal(2).await.unwrap();
    }
    bench.write("acme", 2).await;
    bench.seal_all(2).await;
    assert_eq!(bench.whole("acme").await, 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_refuse_what_must_never_be() {
    let bench = Bench::new().await;
    bench.write("acme", 40).await;
    bench.seal_all(100).await;
    bench.log.make_roots(Duration::ZERO, 10).await.unwrap();
    let root = bench.log.roots_to_sign(10).await.unwrap().pop().unwrap();
    bench.log.signed(&root, [1; 20], &[7; 65]).await.unwrap();
    for forbidden in [
        "UPDATE gateway.audit_entries SET position = position + 100",
        "DELETE FROM gateway.audit_entries",
        "INSERT INTO gateway.audit_entries VALUES ('acme', 3, 999)",
        "INSERT INTO gateway.audit_entries SELECT 'other', 0, min(leaf_sequence) FROM gateway.audit_entries",
        "UPDATE gateway.audit_tiles SET hashes = hashes",
        "DELETE FROM gateway.audit_tiles",
        "UPDATE gateway.audit_trees SET size = 1",
        "DELETE FROM gateway.audit_trees",
        "UPDATE gateway.audit_roots SET root = sha256('x')",
        "UPDATE gateway.audit_roots SET signature = NULL, signer = NULL",
        "DELETE FROM gateway.audit_roots",
        "UPDATE engine.audit_leaves SET actor = 'nobody'",
        "DELETE FROM engine.audit_leaves",
        "TRUNCATE engine.audit_leaves",
    ] {
        sqlx::query(forbidden).execute(&bench.pool).await.expect_err(forbidden);
    }
    // Of a tenant one root at a time waits for its signature, whoever makes roots.
    bench.write("acme", 1).await;
    bench.seal_all(100).await;
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 1);
    bench.write("acme", 1).await;
    bench.seal_all(100).await;
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 0);
    let waits = bench.log.roots_to_sign(10).await.unwrap();
    assert_eq!(waits.iter().map(|root| root.size).collect::<Vec<_>>(), [41]);
    bench.log.refused(&waits[0], "REQUEST_ID_REUSED").await.unwrap();
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 1, "the next one of another size");
    assert_eq!(bench.log.make_roots(Duration::from_secs(60), 10).await.unwrap(), 0);
    assert!(bench.postgres.pid() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_proof_of_a_log_with_full_tiles_holds() {
    let bench = Bench::new().await;
    let mut connection = bench.pool.acquire().await.unwrap();
    sqlx::query(
        "INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body) SELECT 'acme', 'a', 'b', n::text, '{}' FROM generate_series(1, 2500) n",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
    bench.seal_all(333).await;
    let size = bench.whole("acme").await;
    assert_eq!(size, 2500);
    let roots: BTreeMap<u64, Hash> = {
        let mut tree = CompactRange::default();
        let entries = bench.log.entries("acme", 0, size).await.unwrap();
        entries
            .iter()
            .map(|entry| {
                tree.append(entry.hash);
                (tree.size(), tree.root())
            })
            .collect()
    };
    let entries = bench.log.entries("acme", 0, size).await.unwrap();
    for (position, at) in
        [(0, 1), (0, 2500), (1023, 1024), (1024, 1025), (31, 32), (32, 33), (2499, 2500), (1777, 2048)]
    {
        let proof = bench.log.inclusion("acme", position, at).await.unwrap().unwrap();
        assert_eq!(proof.root, roots[&at]);
        let leaf = &entries[usize::try_from(position).unwrap()].hash;
        assert!(verify_inclusion(leaf, position, at, &proof.hashes, &proof.root), "{position} of {at}");
    }
    for (first, second) in [(1, 2500), (1024, 2048), (1000, 1025), (2499, 2500), (2500, 2500), (33, 64)] {
        let (first_root, proof) = bench.log.consistency("acme", first, second).await.unwrap().unwrap();
        assert_eq!((first_root, proof.root), (roots[&first], roots[&second]));
        assert!(verify_consistency(first, second, &first_root, &proof.root, &proof.hashes), "{first} to {second}");
    }
    assert_eq!(bench.log.inclusion("acme", 2500, 2500).await.unwrap(), None);
    assert_eq!(bench.log.inclusion("acme", 0, 2501).await.unwrap(), None);
    assert_eq!(bench.log.inclusion("nobody", 0, 1).await.unwrap(), None);
    assert_eq!(bench.log.consistency("acme", 1, 2501).await.unwrap(), None);
}
