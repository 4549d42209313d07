//! A figure, not a check.

use crate::support::{Bench, PayOrder};
use futures::StreamExt as _;

/// `cargo nextest run -p dalp-engine --run-ignored only throughput --no-capture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn throughput() {
    const LANES: usize = 10;
    const COUNT: usize = 2_000;
    const IN_FLIGHT: usize = 64;
    let bench = Bench::start_to_measure().await;
    let engine = bench.engine("a").await;
    let before: i64 = bench.statements().await;
    let started = std::time::Instant::now();
    let ids: Vec<_> = futures::stream::iter(0..COUNT)
        .map(|number| {
            let (bench, engine) = (&bench, &engine);
            async move {
                let key = format!("{number}");
                let accepted = bench.pay(engine, number % LANES, &key, PayOrder::times(1)).await.expect("accepted");
                accepted.operation.operation_id
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .collect()
        .await;
    let accepted = started.elapsed();
    bench.until_scalar("SELECT count(*) FROM engine.operations WHERE state = 'COMPLETED'", ids.len() as i64).await;
    let elapsed = started.elapsed();
    let statements = bench.statements().await - before;
    eprintln!(
        "{COUNT} transactions on {LANES} lanes: accepted in {accepted:?}, final in {elapsed:?}, {:.0} tx/s, {:.0} statements per 1,000",
        COUNT as f64 / elapsed.as_secs_f64(),
        statements as f64 * 1_000.0 / COUNT as f64
    );
    for line in bench.costly_statements().await {
        eprintln!("{line}");
    }
    engine.stop().await;
}
