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
