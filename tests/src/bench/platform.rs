//! The platform under load, through the gateway as a client sees it.

use std::time::{Duration, Instant};

use alloy::primitives::U256;
use anyhow::{Context, ensure};
use dalp_devstack::report::Figure;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use futures::StreamExt as _;
use futures::stream;

use super::chain;
use crate::load::Load;

/// Requests of a throughput run that are under way at once.
const IN_FLIGHT: usize = 64;
/// Requests a second of the latency run, and how long it lasts.
const RATE: usize = 50;
const LATENCY_S: usize = 20;
/// How long accepted work may take to be mined.
const MINED_WITHIN: Duration = Duration::from_secs(600);

/// Accepted-to-mined throughput, and on the same chain the ceiling, the floor and alloy, then the memory of each service.
pub(super) async fn throughput(lanes: usize, transfers: usize) -> anyhow::Result<Vec<Figure>> {
    let stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let chain_view = ChainView::new(stack.chain_url())?;
    let load = Load::prepare(&stack.client()?, &chain_view, lanes, "local").await?;
    let (statements, cpu_s) = (stack.database().statements().await, cpu_seconds(&stack));
    let rate = platform_rate(&load, &chain_view, lanes, transfers).await?;
    let per_thousand = |total: f64| total * 1_000.0 / count(transfers);
    let cpu_s = per_thousand(cpu_seconds(&stack) - cpu_s);
    #[allow(clippy::cast_precision_loss)] // counts of a bench are far below 2^52
    let statements = per_thousand((stack.database().statements().await - statements) as f64);
    let mut figures = vec![];
    if lanes == 10 {
        let note = "of all services and PostgreSQL, without the chain";
        figures.push(Figure::of("cpu_s_per_1000tx", "s", vec![cpu_s], Some(3.0), note));
        let note = "of all services, each BEGIN and COMMIT counted";
        figures.push(Figure::of("sql_statements_per_1000tx", "1", vec![statements], None, note));
    }
    for service in stack.services() {
        let name = format!("rss_mib.{}", service.name());
        let note = format!("after {transfers} transfers on {lanes} lanes");
        figures.push(match service.pid().and_then(resident_mib) {
            Some(mib) => Figure::of(&name, "MiB", vec![mib], Some(200.0), &note),
            None => Figure::missing(&name, "MiB", Some(200.0), "the process is gone"),
        });
    }
    let raw =
        chain::Comparison::prepare(stack.chain_url(), stack.settings().chain_id, &load, &chain_view, lanes).await?;
    let ceiling = raw.ceiling(transfers).await?;
    let alloy = raw.alloy(transfers).await?;
    let goal = (lanes == 10).then_some(alloy / 4.0);
    figures.push(Figure::of(
        &format!("throughput.anvil.local.lanes{lanes}"),
        "tx/s",
        vec![rate],
        goal,
        "first request sent to last transfer mined, through the gateway; goal: a quarter of alloy's rate",
    ));
    figures.push(Figure::of(
        &format!("ceiling.anvil.lanes{lanes}"),
        "tx/s",
        vec![ceiling],
        None,
        "the same calls pre-signed and pushed raw",
    ));
    figures.push(Figure::of(
        &format!("library.alloy.anvil.lanes{lanes}"),
        "tx/s",
        vec![alloy],
        None,
        "alloy's fillers with a cached nonce manager; keeps nothing, checks nothing",
    ));
    if lanes == 1 {
        figures.push(Figure::of("floor.anvil", "tx/s", vec![raw.floor(5).await?], None, "send and wait, one by one"));
    }
    Ok(figures)
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

/// Time from sending a request to holding the accepted operation, at a steady rate.
pub(super) async fn accept_latency() -> anyhow::Result<Vec<Figure>> {
    let stack = Stack::start(&Options { log_filter: "warn".to_owned(), ..Options::default() }).await?;
    let chain = ChainView::new(stack.chain_url())?;
    let load = Load::prepare(&stack.client()?, &chain, 10, "local").await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE)?);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..RATE * LATENCY_S {
        ticks.tick().await;
        let load = load.clone();
        running.spawn(async move {
            let begun = Instant::now();
            load.transfer(number % 10, &format!("latency-{number}")).await.map(|_| begun.elapsed())
        });
    }
    let mut millis = Vec::new();
    while let Some(done) = running.join_next().await {
        millis.push(done??.as_secs_f64() * 1_000.0);
    }
    millis.sort_by(f64::total_cmp);
    let at = |share: usize| millis.get(millis.len() * share / 100).copied().into_iter().collect::<Vec<_>>();
    let note = format!("{} requests", millis.len());
    Ok(vec![
        Figure::of(&format!("accept_ms.p50.rate{RATE}"), "ms", at(50), None, &note),
        Figure::of(&format!("accept_ms.p99.rate{RATE}"), "ms", at(99), None, &note),
    ])
}

/// Transactions a second.
pub(super) fn rate(transfers: usize, elapsed: Duration) -> f64 {
    count(transfers) / elapsed.as_secs_f64()
}

#[allow(clippy::cast_precision_loss)] // counts of a bench are far below 2^52
fn count(number: usize) -> f64 {
    number as f64
}

/// Processor time that the services and the database have used so far.
fn cpu_seconds(stack: &Stack) -> f64 {
    let server = stack.database().pid();
    let backends = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        (process_times(pid)?.parent == server).then_some(pid)
    });
    let services = stack.services().iter().filter_map(|service| service.pid());
    backends.chain(services).chain([server]).filter_map(|pid| Some(process_times(pid)?.cpu_s)).sum()
}

struct ProcessTimes {
    parent: u32,
    /// Of the process and of its children that have ended.
    cpu_s: f64,
}

fn process_times(pid: u32) -> Option<ProcessTimes> {
    /// Linux counts processor time in hundredths of a second.
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields behind it begin with the state, the third of the line.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    #[allow(clippy::cast_precision_loss)] // ticks of a bench are far below 2^52
    let cpu_s = ticks as f64 / TICKS_PER_S;
    Some(ProcessTimes { parent: fields.get(1)?.parse().ok()?, cpu_s })
}

fn resident_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
