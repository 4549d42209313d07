//! The platform under load, through the gateway as a client sees it.

use std::time::{Duration, Instant};

use alloy::primitives::U256;
use anyhow::{Context, ensure};
use dalp_devstack::report::Figure;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use futures::StreamExt as _;
use futures::stream;

use super::{chain, clients, cpu};
use crate::load::Load;

/// Requests of a throughput run that are under way at once.
pub(super) const IN_FLIGHT: usize = 64;
/// How long accepted work may take to be mined.
const MINED_WITHIN: Duration = Duration::from_secs(600);

/// Accepted-to-mined throughput, and on the same chain the ceiling, the floor and alloy, then the memory of each service.
pub(super) async fn throughput(lanes: usize, transfers: usize) -> anyhow::Result<Vec<Figure>> {
    let stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let chain_view = ChainView::new(stack.chain_url())?;
    let load = Load::prepare(&stack.client()?, &chain_view, lanes, "local").await?;
    let (statements, cpu_before) = (stack.database()?.statements().await, cpu::by_part(&stack_processes(&stack)));
    let rate = platform_rate(&load, &chain_view, lanes, transfers).await?;
    let cpu_after = cpu::by_part(&stack_processes(&stack));
    let of_platform = |parts: &[(String, f64)]| -> f64 {
        parts.iter().filter(|(name, _)| name != cpu::OWN).map(|(_, cpu_s)| cpu_s).sum()
    };
    let per_thousand = |total: f64| total * 1_000.0 / count(transfers);
    let cpu_s = per_thousand(of_platform(&cpu_after) - of_platform(&cpu_before));
    #[allow(clippy::cast_precision_loss)] // counts of a bench are far below 2^52
    let statements = per_thousand((stack.database()?.statements().await - statements) as f64);
    let mut figures = vec![];
    if lanes == 10 {
        let parts = cpu::per_thousand(&cpu_before, &cpu_after, count(transfers));
        let note = format!("of all services and PostgreSQL, without chain and load; each: {parts}");
        figures.push(Figure::of("cpu_s_per_1000tx", "s", vec![cpu_s], Some(3.0), &note));
        let note = "of all services, each BEGIN and COMMIT counted";
        figures.push(Figure::of("sql_statements_per_1000tx", "1", vec![statements], None, note));
    }
    for service in stack.services() {
        let name = format!("rss_mib.{}", service.name());
        let note = format!("after {transfers} transfers on {lanes} lanes");
        figures.push(match service.pid().and_then(cpu::resident_mib) {
            Some(mib) => Figure::of(&name, "MiB", vec![mib], Some(200.0), &note),
            None => Figure::missing(&name, "MiB", Some(200.0), "the process is gone"),
        });
    }
    let raw = chain::Comparison::prepare(stack.chain_url(), stack.settings().chain_id, &load, lanes).await?;
    let before = load.received(&chain_view).await?;
    let ceiling = raw.ceiling(transfers).await?;
    let alloy = raw.alloy(transfers).await?;
    let wanted = before + U256::from(2 * transfers);
    ensure!(load.received(&chain_view).await? == wanted, "calls of the comparison were mined and reverted");
    let goal = (lanes == 10).then_some(alloy);
    let note = "first request sent to last transfer mined, through the gateway; goal: alloy's rate in the same run";
    figures.push(Figure::of(&format!("throughput.anvil.local.lanes{lanes}"), "tx/s", vec![rate], goal, note));
    figures.push(chain::ceiling_figure("anvil", lanes, ceiling));
    figures.push(chain::alloy_figure("anvil", lanes, alloy));
    figures.extend(clients::figures("anvil", &raw).await?);
    if lanes == 1 {
        figures.push(Figure::of("floor.anvil", "tx/s", vec![raw.floor(5).await?], None, "send and wait, one by one"));
    }
    Ok(figures)
}

/// Services and database by name.
pub(super) fn stack_processes(stack: &Stack) -> Vec<(String, u32)> {
    let services = stack.services().filter_map(|service| Some((service.name().to_owned(), service.pid()?)));
    services.chain(stack.database().ok().map(|server| ("postgresql".to_owned(), server.pid()))).collect()
}

async fn platform_rate(load: &Load, chain: &ChainView, lanes: usize, transfers: usize) -> anyhow::Result<f64> {
    let before = load.received(chain).await?;
    let begun = Instant::now();
    let mut accepted = stream::iter(0..transfers)
        .map(|number| async move { load.transfer(number % lanes, &format!("bench-{lanes}-{number}")).await })
        .buffer_unordered(IN_FLIGHT);
    while let Some(answer) = accepted.next().await {
        answer.context("a transfer was refused")?;
    }
    let wanted = before + U256::from(transfers);
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    loop {
        looks.tick().await;
        if load.received(chain).await? == wanted {
            break;
        }
        ensure!(begun.elapsed() < MINED_WITHIN, "accepted transfers are not mined after {MINED_WITHIN:?}");
    }
    Ok(rate(transfers, begun.elapsed()))
}

/// Transactions a second.
pub(super) fn rate(transfers: usize, elapsed: Duration) -> f64 {
    count(transfers) / elapsed.as_secs_f64()
}

#[allow(clippy::cast_precision_loss)] // counts of a bench are far below 2^52
pub(super) fn count(number: usize) -> f64 {
    number as f64
}
