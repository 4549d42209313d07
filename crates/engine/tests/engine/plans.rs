//! What the database does for a statement.

use crate::support::{Bench, PayOrder};
use futures::{StreamExt as _, TryStreamExt as _};

/// Autovacuum has not counted the tables yet, so the server believes that they are as empty as they were at first.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_reads_no_whole_tables() {
    const COUNT: usize = 300;
    let bench = Bench::start().await;
    let pool = bench.pool_of_a_service();
    let engine = bench.engine_on(pool.clone(), "a", |_| {}).await;
    let accepted: Vec<_> = futures::stream::iter(0..COUNT)
        .map(|number| {
            let (bench, engine) = (&bench, &engine);
            async move { bench.pay(engine, number % 4, &format!("{number}"), PayOrder::times(1)).await }
        })
        .buffer_unordered(16)
        .try_collect()
        .await
        .expect("accepted");
    for one in &accepted {
        bench.wait(&engine, one.operation.operation_id).await;
    }
    engine.stop().await;
    pool.close().await;
    // A connection counts for all to see at the latest when it ends.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'svc-test'";
    bench.until_scalar(open, 0).await;
    let read: Vec<String> = bench
        .column(
            "SELECT format('%s: %s scans read %s rows', relname, seq_scan, seq_tup_read) FROM pg_stat_user_tables
             WHERE schemaname = 'engine' AND seq_tup_read > 0 ORDER BY seq_tup_read DESC",
        )
        .await;
    assert!(read.is_empty(), "{read:#?}");
}
