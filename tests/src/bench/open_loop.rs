//! Requests at a steady rate, whatever becomes of the earlier ones; then how long each took to be accepted, sent and final. And
//! as many as can be done at once.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use alloy::primitives::B256;
use anyhow::{Context as _, ensure};
use dalp_testing::TestPostgres;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::{PgPool, Row as _};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::platform::{IN_FLIGHT, count, rate};
use crate::null_chain::NullChain;

/// How long the requests of a rate come that is measured.
pub(super) const LASTS: Duration = Duration::from_secs(5);
/// A backlog counts as bounded when everything is final so long after the last request: a block, and the look at it.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);
const FINAL_WITHIN: Duration = Duration::from_secs(180);
/// The service whose engine carries the transfers out.
pub(super) const OWNER: &str = "svc-compliance";
/// How often it is looked whether all is final.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is under load, on a null chain.
pub(super) trait Subject: Sync {
    /// Asks for one transfer on a lane, and returns the accepted operation.
    fn ask(&self, lane: usize, key: String) -> BoxFuture<'static, anyhow::Result<Uuid>>;
    fn tenant(&self) -> &str;
    /// The engine's records.
    fn pool(&self) -> &PgPool;
    fn database(&self) -> anyhow::Result<&TestPostgres>;
    fn chain(&self) -> &NullChain;
    /// Its processes by name, without this one.
    fn processes(&self) -> Vec<(String, u32)>;
}

/// What one rate came to. Times are counted from the moment that a request was due.
pub(super) struct Step {
    pub(super) offered: usize,
    pub(super) lanes: usize,
    /// Requests that were not accepted, by reason: the client's to repeat.
    pub(super) refused: BTreeMap<String, usize>,
    /// Accepted requests a second, from the first one due to the last one final.
    pub(super) finished_rate: f64,
    /// How long after the last request was due everything was final.
    pub(super) settled: Duration,
    pub(super) accept_ms: Latencies,
    pub(super) first_broadcast_ms: Latencies,
    pub(super) final_ms: Latencies,
    /// Statements per thousand transactions.
    pub(super) statements: f64,
}

/// Sorted.
pub(super) struct Latencies(Vec<f64>);

struct Sent {
    due: SystemTime,
    accepted: SystemTime,
}

// === impl Step ===

impl Step {
    pub(super) fn is_bounded(&self) -> bool {
        self.refused.is_empty() && self.settled <= SETTLES_WITHIN
    }

    /// One line of a note.
    pub(super) fn say(&self) -> String {
        let refused: String =
            self.refused.iter().map(|(reason, times)| format!(", {times} refused with {reason}")).collect();
        format!(
            "{} tx/s: {:.0} done, settled after {:.1} s, accept p99 {:.0} ms, first broadcast p99 {:.0} ms, {:.0} statements{refused}",
            self.offered,
            self.finished_rate,
            self.settled.as_secs_f64(),
            self.accept_ms.at(99),
            self.first_broadcast_ms.at(99),
            self.statements,
        )
    }
}

// === impl Latencies ===

impl Latencies {
    fn of(mut millis: Vec<f64>) -> Self {
        millis.sort_by(f64::total_cmp);
        Self(millis)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// A percentile.
    pub(super) fn at(&self, share: usize) -> f64 {
        self.0.get(self.0.len() * share / 100).or(self.0.last()).copied().unwrap_or_default()
    }
}

/// Offers a rate to a number of lanes and waits until everything accepted is final.
pub(super) async fn step(
    subject: &dyn Subject,
    lanes: usize,
    offered: usize,
    lasts: Duration,
    label: &str,
) -> anyhow::Result<Step> {
    let statements_before = subject.database()?.statements().await;
    let requests = offered * usize::try_from(lasts.as_secs())?;
    let (begun, begun_at) = (Instant::now(), SystemTime::now());
    let mut running = JoinSet::new();
    for number in 0..requests {
        let due = lasts.mul_f64(count(number) / count(requests));
        tokio::time::sleep_until(begun + due).await;
        let asked = subject.ask(number % lanes, format!("{label}-{lanes}-{offered}-{number}"));
        running.spawn(async move { (due, asked.await.map(|id| (id, SystemTime::now()))) });
    }
    let (mut sent, mut refused) = (HashMap::new(), BTreeMap::new());
    while let Some(done) = running.join_next().await {
        match done? {
            (due, Ok((id, accepted))) => {
                sent.insert(id, Sent { due: begun_at + due, accepted });
            }
            (_, Err(error)) => *refused.entry(error.to_string()).or_default() += 1,
        }
    }
    ensure!(!sent.is_empty(), "every request was refused: {refused:?}");
    let ids: Vec<Uuid> = sent.keys().copied().collect();
    until_final(subject).await?;
    let statements = subject.database()?.statements().await - statements_before;

    let ended = ends(subject, &ids).await?;
    let since = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
    let (mut first_broadcast_ms, mut final_ms) = (Vec::new(), Vec::new());
    let mut last = begun_at;
    for (id, (state, at, hashes)) in &ended {
        ensure!(state == "COMPLETED", "operation {id} ended as {state}");
        let due = sent[id].due;
        let arrival = hashes.iter().filter_map(|hash| subject.chain().arrival(*hash)).min();
        first_broadcast_ms.push(millis(since(due, arrival.context("sent, but it never came to the chain")?)));
        final_ms.push(millis(since(due, *at)));
        last = last.max(*at);
    }
    ensure!(ended.len() == sent.len(), "{} of {} accepted operations are lost", sent.len() - ended.len(), sent.len());
    #[allow(clippy::cast_precision_loss)] // counts of a bench are far below 2^52
    let statements = statements as f64 * 1_000.0 / count(sent.len());
    Ok(Step {
        offered,
        lanes,
        refused,
        finished_rate: rate(sent.len(), since(begun_at, last)),
        settled: since(begun_at + lasts, last),
        accept_ms: Latencies::of(sent.values().map(|one| millis(since(one.due, one.accepted))).collect()),
        first_broadcast_ms: Latencies::of(first_broadcast_ms),
        final_ms: Latencies::of(final_ms),
        statements,
    })
}

/// Asks for that many transfers, some at a time, and waits until all are final. Returns how many were done a second.
pub(super) async fn burst(subject: &dyn Subject, lanes: usize, transfers: usize, label: &str) -> anyhow::Result<f64> {
    let begun_at = SystemTime::now();
    let asked =
        stream::iter(0..transfers).map(|number| subject.ask(number % lanes, format!("{label}-{lanes}-{number}")));
    let ids: Vec<Uuid> = asked.buffer_unordered(IN_FLIGHT).try_collect().await?;
    until_final(subject).await?;
    let last = ends(subject, &ids).await?.into_values().map(|(_, at, _)| at).max().context("nothing was asked for")?;
    Ok(rate(transfers, last.duration_since(begun_at)?))
}

/// Waits until no operation runs any more.
async fn until_final(subject: &dyn Subject) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while something_runs(subject).await? {
        looks.tick().await;
        ensure!(begun.elapsed() < FINAL_WITHIN, "operations still run after {FINAL_WITHIN:?}");
    }
    Ok(())
}

/// Whether any operation is not final. Asked while a backlog drains, so it must cost next to nothing: one entry of an index.
pub(super) async fn something_runs(subject: &dyn Subject) -> anyhow::Result<bool> {
    let query = "SELECT operation_id FROM engine.operations WHERE service = $1 AND state = 'RUNNING' ORDER BY created_at LIMIT 1";
    let oldest: Option<Uuid> = sqlx::query_scalar(query).bind(OWNER).fetch_optional(subject.pool()).await?;
    Ok(oldest.is_some())
}

type End = (String, SystemTime, Vec<B256>);

/// How operations ended and when, by the database's clock, which is this machine's; and what was signed for them.
pub(super) async fn ends(subject: &dyn Subject, ids: &[Uuid]) -> anyhow::Result<HashMap<Uuid, End>> {
    let query = "SELECT o.operation_id, o.state, extract(epoch FROM o.updated_at)::float8 AS at,
                        coalesce(array_agg(a.tx_hash) FILTER (WHERE a.tx_hash IS NOT NULL), '{}') AS hashes
                 FROM engine.operations o
                 LEFT JOIN engine.transactions t USING (tenant, operation_id)
                 LEFT JOIN engine.attempts a USING (tenant, transaction_id)
                 WHERE o.tenant = $1 AND o.operation_id = ANY($2)
                 GROUP BY o.operation_id, o.state, o.updated_at";
    let rows = sqlx::query(query).bind(subject.tenant()).bind(ids).fetch_all(subject.pool()).await?;
    let end = |row: sqlx::postgres::PgRow| -> anyhow::Result<(Uuid, End)> {
        let hashes: Vec<Vec<u8>> = row.try_get("hashes")?;
        let hashes = hashes.iter().map(|hash| B256::try_from(hash.as_slice())).collect::<Result<_, _>>()?;
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(row.try_get("at")?);
        Ok((row.try_get("operation_id")?, (row.try_get("state")?, at, hashes)))
    };
    rows.into_iter().map(end).collect()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
