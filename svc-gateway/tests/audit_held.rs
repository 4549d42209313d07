//! What is wrong with one tenant's log holds up nobody else's.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::ledger::{Bench, number};

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_cannot_be_read_holds_up_its_own_tenant_alone_until_it_is_mended() {
    let bench = Bench::new().await;
    bench.write("acme", 3).await;
    // A superuser's hand, past the constraints.
    bench.by_hand("ALTER TABLE engine.audit_leaves DROP CONSTRAINT audit_leaves_decision_check").await;
    bench.by_hand("INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body, decision) VALUES ('acme', 'a', 'b', 'broken', '{}', 'PERHAPS')").await;
    bench.write("acme", 2).await;
    bench.write("other", 4).await;
    bench.seal_all(2).await;
    assert_eq!((bench.whole("acme").await, bench.whole("other").await), (3, 4), "up to the one that cannot be read");
    bench.write("other", 2).await;
    bench.write("acme", 1).await;
    bench.seal_all(100).await;
    assert_eq!((bench.whole("acme").await, bench.whole("other").await), (3, 6));
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 2, "what is sealed has its root");
    bench.log.mend(100).await.unwrap();
    assert_eq!(bench.whole("acme").await, 3, "nothing has changed");
    assert_eq!(
        number(&bench.pool, "SELECT count(*) FROM gateway.audit_held WHERE tenant = 'acme' AND why LIKE '%PERHAPS%'")
            .await,
        1
    );
    assert!(bench.log.backlog().await.unwrap().seal_lag_s > 0.0, "the alert hears of it");

    bench.by_hand("UPDATE engine.audit_leaves SET decision = 'ALLOWED' WHERE decision = 'PERHAPS'").await;
    // A few at a time, while the sealer goes on.
    for _ in 0..4 {
        bench.log.mend(2).await.unwrap();
        bench.write("acme", 1).await;
        bench.seal_all(100).await;
    }
    assert_eq!(number(&bench.pool, "SELECT count(*) FROM gateway.audit_held").await, 0);
    let leaves = number(&bench.pool, "SELECT count(*) FROM engine.audit_leaves WHERE tenant = 'acme'").await;
    assert_eq!(bench.whole("acme").await.cast_signed(), leaves);
    let out_of_order = "SELECT count(*) FROM gateway.audit_entries e JOIN engine.audit_leaves l ON l.sequence = e.leaf_sequence
        JOIN gateway.audit_entries f ON f.tenant = e.tenant AND f.position = e.position + 1 JOIN engine.audit_leaves m ON m.sequence = f.leaf_sequence
        WHERE (l.xid, l.sequence) > (m.xid, m.sequence)";
    assert_eq!(number(&bench.pool, out_of_order).await, 0, "in their order, also after that");
    assert_eq!(bench.log.backlog().await.unwrap().seal_lag_s, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tree_holds_up_its_own_tenant_alone() {
    let bench = Bench::new().await;
    bench.write("acme", 5).await;
    bench.write("other", 5).await;
    bench.seal_all(100).await;
    bench.by_hand("UPDATE gateway.audit_trees SET edge = '{}' WHERE tenant = 'acme'").await;
    bench.write("acme", 2).await;
    bench.write("other", 2).await;
    bench.seal_all(100).await;
    assert_eq!(bench.whole("other").await, 7);
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 1, "the damaged one gets no root");
    assert_eq!(number(&bench.pool, "SELECT count(*) FROM gateway.audit_held WHERE tenant = 'acme'").await, 1);
}

const HELD: &str = "SELECT count(*) FROM gateway.audit_held";

/// Whether the leaves of a tenant stand in the order of their sequences.
async fn in_order(bench: &Bench) -> bool {
    let out_of_order = "SELECT count(*) FROM gateway.audit_entries e JOIN gateway.audit_entries f ON f.tenant = e.tenant AND f.position = e.position + 1
        WHERE e.leaf_sequence > f.leaf_sequence";
    number(&bench.pool, out_of_order).await == 0
}

async fn held_because(bench: &Bench, tenant: &str, why: &str) {
    let held: Vec<(String, String)> =
        sqlx::query_as("SELECT tenant, why FROM gateway.audit_held").fetch_all(&bench.pool).await.unwrap();
    assert!(held.len() == 1 && held[0].0 == tenant && held[0].1.contains(why), "{held:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_went_back_holds_up_its_own_tenant_alone() {
    let bench = Bench::new().await;
    bench.write("acme", 3).await;
    bench.seal_all(100).await;
    bench.by_hand("CREATE TABLE gateway.before AS SELECT * FROM gateway.audit_trees").await;
    bench.write("acme", 2).await;
    bench.seal_all(100).await;
    bench.by_hand("CREATE TABLE gateway.after AS SELECT * FROM gateway.audit_trees").await;
    // Part of a backup comes back.
    bench.by_hand("UPDATE gateway.audit_trees t SET size = b.size, edge = b.edge FROM gateway.before b WHERE b.tenant = t.tenant").await;
    bench.write("acme", 1).await;
    bench.write("other", 4).await;
    bench.write("acme", 1).await;
    bench.write("third", 1).await;
    bench.seal_all(100).await;
    assert_eq!((bench.whole("other").await, bench.whole("third").await), (4, 1));
    held_because(&bench, "acme", "audit_entries_pkey").await;
    bench.write("acme", 1).await;
    bench.write("other", 1).await;
    bench.seal_all(1).await;
    bench.log.mend(100).await.unwrap();
    assert_eq!(bench.whole("other").await, 5);
    held_because(&bench, "acme", "(acme, 3) already exists").await;

    bench.by_hand("UPDATE gateway.audit_trees t SET size = a.size, edge = a.edge FROM gateway.after a WHERE a.tenant = t.tenant").await;
    bench.log.mend(2).await.unwrap();
    assert_eq!(number(&bench.pool, HELD).await, 1, "one more waits");
    bench.log.mend(2).await.unwrap();
    assert_eq!((bench.whole("acme").await, number(&bench.pool, HELD).await), (8, 0));
    assert!(in_order(&bench).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_wrote_into_the_tables_holds_up_its_own_tenant_alone() {
    let bench = Bench::new().await;
    bench.write("acme", 1).await;
    bench.write("other", 1).await;
    bench.seal_all(100).await;
    // A tile that will be full one day, and a leaf that stands in another one's log.
    bench.by_hand("INSERT INTO gateway.audit_tiles SELECT 'acme', 0, 0, decode(repeat('00', 1024), 'hex')").await;
    bench.write("acme", 40).await;
    bench.write("other", 40).await;
    bench.seal_all(100).await;
    assert_eq!((bench.whole("acme").await, bench.whole("other").await), (1, 41));
    held_because(&bench, "acme", "audit_tiles_pkey").await;
    bench.by_hand("DELETE FROM gateway.audit_tiles WHERE tenant = 'acme'").await;
    bench.log.mend(100).await.unwrap();
    assert_eq!((bench.whole("acme").await, number(&bench.pool, HELD).await), (41, 0));

    bench.write("acme", 2).await;
    bench.write("third", 2).await;
    bench.by_hand("INSERT INTO gateway.audit_entries SELECT 'nobody', 7, max(sequence) FROM engine.audit_leaves WHERE tenant = 'acme'").await;
    bench.seal_all(100).await;
    assert_eq!(bench.whole("third").await, 2);
    bench.log.mend(100).await.unwrap();
    held_because(&bench, "acme", "audit_entries_leaf_sequence_key").await;
    bench.by_hand("DELETE FROM gateway.audit_entries WHERE tenant = 'nobody'").await;
    bench.log.mend(100).await.unwrap();
    assert_eq!((bench.whole("acme").await, number(&bench.pool, HELD).await), (43, 0));
    assert!(in_order(&bench).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealer_that_went_back_seals_nothing_twice() {
    let bench = Bench::new().await;
    bench.write("acme", 3).await;
    bench.seal_all(100).await;
    bench.by_hand("CREATE TABLE gateway.before AS SELECT * FROM gateway.audit_sealer").await;
    bench.write("acme", 3).await;
    bench.write("other", 2).await;
    bench.seal_all(100).await;
    bench.by_hand("UPDATE gateway.audit_sealer s SET after_xid = b.after_xid, after_sequence = b.after_sequence FROM gateway.before b").await;
    bench.write("acme", 2).await;
    bench.seal_all(2).await;
    assert_eq!((bench.whole("acme").await, bench.whole("other").await, number(&bench.pool, HELD).await), (8, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_a_tree_does_not_know_of_holds_up_its_own_tenant_alone() {
    let bench = Bench::new().await;
    bench.write("acme", 3).await;
    bench.seal_all(100).await;
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 1);
    let root = bench.log.roots_to_sign(10).await.unwrap().pop().unwrap();
    bench.log.signed(&root, [1; 20], &[7; 65]).await.unwrap();
    let knows = "UPDATE gateway.audit_trees SET rooted_size = 3, signed_size = 3 WHERE tenant = 'acme'";
    bench.by_hand("UPDATE gateway.audit_trees SET rooted_size = 0, signed_size = 0, unsigned_since = now()").await;
    bench.write("other", 2).await;
    bench.seal_all(100).await;
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 1, "the other one's");
    held_because(&bench, "acme", "root of 3 leaves").await;
    bench.log.mend(100).await.unwrap();
    bench.log.make_roots(Duration::ZERO, 1).await.unwrap();
    held_because(&bench, "acme", "root of 3 leaves").await;
    // Its leaves are sealed meanwhile.
    bench.write("acme", 2).await;
    bench.seal_all(100).await;
    bench.write("other", 1).await;
    bench.seal_all(100).await;
    bench.log.mend(100).await.unwrap();
    assert_eq!(bench.whole("acme").await, 5);
    assert_eq!(number(&bench.pool, HELD).await, 1);

    bench.by_hand(knows).await;
    bench.log.mend(100).await.unwrap();
    assert_eq!(number(&bench.pool, HELD).await, 0);
    assert_eq!(bench.log.make_roots(Duration::ZERO, 10).await.unwrap(), 1);
    let sizes: Vec<i64> =
        sqlx::query_scalar("SELECT size FROM gateway.audit_roots WHERE tenant = 'acme' ORDER BY size")
            .fetch_all(&bench.pool)
            .await
            .unwrap();
    assert_eq!(sizes, [3, 5]);
}

/// As a dump restored elsewhere: rows keep their transaction numbers, which this server has not reached.
async fn restore(bench: &Bench) {
    bench.by_hand("UPDATE engine.audit_leaves SET xid = (xid::text::numeric + 1000000000)::text::xid8").await;
    bench
        .by_hand("UPDATE gateway.audit_sealer SET after_xid = (after_xid::text::numeric + 1000000000)::text::xid8")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlives_a_restore_into_another_database() {
    for (others_after, passed) in [(0, false), (0, true), (3, true)] {
        let bench = Bench::new().await;
        bench.by_hand("ALTER TABLE engine.audit_leaves DROP CONSTRAINT audit_leaves_decision_check").await;
        bench.write("acme", 3).await;
        bench.write("other", 2).await;
        bench.seal_all(100).await;
        bench.by_hand("INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body, decision) VALUES ('acme', 'a', 'b', 'broken', '{}', 'PERHAPS')").await;
        bench.write("acme", 2).await;
        bench.write("other", others_after).await;
        if passed {
            bench.seal_all(100).await;
        }
        restore(&bench).await;
        // Before the first round here.
        bench.write("acme", 2).await;
        bench.write("other", 2).await;
        bench.log.mend(100).await.unwrap();
        for _ in 0..6 {
            bench.log.seal(2).await.unwrap();
        }
        bench.write("acme", 1).await;
        bench.seal_all(100).await;
        bench.log.mend(1).await.unwrap();
        assert_eq!(bench.whole("acme").await, 3, "{others_after} {passed}");
        held_because(&bench, "acme", "PERHAPS").await;
        bench.by_hand("UPDATE engine.audit_leaves SET decision = 'ALLOWED' WHERE decision = 'PERHAPS'").await;
        for _ in 0..8 {
            bench.log.mend(1).await.unwrap();
            bench.write("other", 1).await;
            bench.seal_all(100).await;
        }
        bench.write("acme", 1).await;
        bench.seal_all(100).await;
        assert_eq!(number(&bench.pool, HELD).await, 0);
        assert_eq!(bench.whole("acme").await, 10);
        assert_eq!(bench.whole("other").await, 12 + others_after as u64);
        assert!(in_order(&bench).await);
        let backlog = bench.log.backlog().await.unwrap();
        assert_eq!((backlog.unsealed, backlog.seal_lag_s), (0, 0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlives_two_restores() {
    let bench = Bench::new().await;
    bench.by_hand("ALTER TABLE engine.audit_leaves DROP CONSTRAINT audit_leaves_decision_check").await;
    bench.write("acme", 1).await;
    bench.by_hand("INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body, decision) VALUES ('acme', 'a', 'b', 'broken', '{}', 'PERHAPS')").await;
    for _ in 0..2 {
        bench.write("acme", 2).await;
        bench.seal_all(100).await;
        restore(&bench).await;
        bench.write("acme", 1).await;
        bench.seal_all(100).await;
    }
    bench.write("acme", 1).await;
    bench.seal_all(100).await;
    bench.log.mend(100).await.unwrap();
    assert_eq!((bench.whole("acme").await, number(&bench.pool, HELD).await), (1, 1));
    bench.by_hand("UPDATE engine.audit_leaves SET decision = 'ALLOWED' WHERE decision = 'PERHAPS'").await;
    bench.log.mend(3).await.unwrap();
    bench.log.mend(100).await.unwrap();
    bench.write("acme", 1).await;
    bench.seal_all(100).await;
    assert_eq!((bench.whole("acme").await, number(&bench.pool, HELD).await), (10, 0));
    assert!(in_order(&bench).await);
}
