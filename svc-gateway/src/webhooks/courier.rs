//! Makes deliveries of events and brings them, in the background. Every replica does: a webhook's row lets one of them make its deliveries, and a delivery's
//! row lets one of them bring it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dalp_domain::store::{StoreError, Tables};
use dalp_engine::Reader;
use dalp_service::stop::Stop;
use rand::Rng as _;
use time::OffsetDateTime;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{
    queue::{self, Due},
    rows,
    schedule::{Tried, Verdict, judge},
    seal::Seal,
    sender::Sender,
};
use crate::metric_definitions as names;

/// How often tries are looked for when nothing hints at any.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A try that is not ended so long after its deadline belongs to a process that has died.
const LEASE_MARGIN: Duration = Duration::from_secs(15);
const COUNTED_EVERY: Duration = Duration::from_secs(5);
const PRUNED_EVERY: Duration = Duration::from_secs(600);
/// How long tries under way are waited for at the end.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// How tries are made.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Tries at once.
    pub in_flight: usize,
    /// Of these for one webhook.
    pub in_flight_each: usize,
    /// Deadline of a try.
    pub timeout: Duration,
    /// Pauses between tries of one delivery.
    pub retries: Vec<Duration>,
}

/// Brings deliveries.
#[derive(Debug)]
pub struct Courier {
    tables: Tables,
    reader: Reader,
    seal: Arc<Seal>,
    sender: Sender,
    pace: Pace,
    /// There may be tries to make.
    fed: Notify,
}

// === impl Courier ===

impl Courier {
    /// Over connections of its own, so that callers never wait for receivers.
    #[must_use]
    pub fn new(tables: Tables, reader: Reader, seal: Arc<Seal>, sender: Sender, pace: Pace) -> Self {
        Self { tables, reader, seal, sender, pace, fed: Notify::new() }
    }

    /// Works until stopped.
    pub async fn run(self, stop: Stop) {
        let courier = Arc::new(self);
        let feeding = tokio::spawn(Arc::clone(&courier).feed(stop.clone()));
        let keeping = tokio::spawn(Arc::clone(&courier).keep(stop.clone()));
        courier.deliver(&stop).await;
        let _ = tokio::join!(feeding, keeping); // a panic in one was logged by the runtime
    }

    async fn feed(self: Arc<Self>, stop: Stop) {
        // Asked for before the first look: what is written after the look gives a hint.
        let mut hints = self.reader.changes();
        while !stop.is_requested() {
            match self.feed_all().await {
                Ok(0) => tokio::select! {
                    () = hints.changed() => {}
                    () = stop.requested() => {}
                },
                Ok(_) => self.fed.notify_one(),
                Err(error) => {
                    report("events are not made deliveries", &error);
                    pause(LOOK_EVERY, &stop).await;
                }
            }
        }
    }

    async fn feed_all(&self) -> Result<usize, StoreError> {
        let mut fed = 0;
        for webhook in queue::hungry(&self.tables.pool).await? {
            fed += queue::feed(&self.tables, &self.reader, webhook).await?;
        }
        Ok(fed)
    }

    async fn keep(self: Arc<Self>, stop: Stop) {
        let mut pruned_at: Option<Instant> = None;
        while !stop.is_requested() {
            match queue::backlog(&self.tables.pool).await {
                Ok(backlog) => {
                    metrics::gauge!(names::WEBHOOK_PENDING).set(backlog.pending as f64);
                    metrics::gauge!(names::WEBHOOK_DEAD).set(backlog.dead as f64);
                    metrics::gauge!(names::WEBHOOK_LAG_SECONDS).set(backlog.lag_s);
                }
                Err(error) => report("deliveries are not counted", &error),
            }
            if pruned_at.is_none_or(|at| at.elapsed() >= PRUNED_EVERY) {
                pruned_at = Some(Instant::now());
                if let Err(error) = queue::prune(&self.tables.pool).await {
                    report("old deliveries are not forgotten", &error);
                }
            }
            pause(COUNTED_EVERY, &stop).await;
        }
    }

    async fn deliver(self: &Arc<Self>, stop: &Stop) {
        let mut tries: JoinSet<Uuid> = JoinSet::new();
        let mut under_way: HashMap<Uuid, usize> = HashMap::new();
        while !stop.is_requested() {
            let taken = match self.take(tries.len(), &under_way).await {
                Ok(taken) => taken,
                Err(error) => {
                    report("deliveries are not looked for", &error);
                    Vec::new()
                }
            };
            let has_taken = !taken.is_empty();
            for due in taken {
                *under_way.entry(due.webhook).or_default() += 1;
                let courier = Arc::clone(self);
                tries.spawn(async move {
                    courier.bring(&due).await;
                    due.webhook
                });
            }
            let is_full = tries.len() >= self.pace.in_flight;
            tokio::select! {
                Some(ended) = tries.join_next() => note_end(&mut under_way, &tries, ended),
                () = self.fed.notified(), if !is_full => {}
                () = sleep(LOOK_EVERY), if !is_full && !has_taken => {}
                () = std::future::ready(()), if has_taken && !is_full => {}
                () = stop.requested() => {}
            }
            while let Some(ended) = tries.try_join_next() {
                note_end(&mut under_way, &tries, ended);
            }
        }
        let last = async { while tries.join_next().await.is_some() {} };
        let _ = timeout(LAST_TRIES, last).await; // what is cut off is tried again when its lease has ended
    }

    async fn take(&self, under_way: usize, of_each: &HashMap<Uuid, usize>) -> Result<Vec<Due>, StoreError> {
        let room = self.pace.in_flight.saturating_sub(under_way);
        if room == 0 {
            return Ok(Vec::new());
        }
        let busy: Vec<Uuid> =
            of_each.iter().filter(|(_, count)| **count >= self.pace.in_flight_each).map(|(id, _)| *id).collect();
        queue::take(&self.tables.pool, room, self.pace.in_flight_each, &busy, self.pace.timeout + LEASE_MARGIN).await
    }

    /// Makes one try and notes what came of it.
    async fn bring(&self, due: &Due) {
        let begun = Instant::now();
        let secrets = match rows::secrets(&self.tables.pool, &self.seal, due.webhook).await {
            Ok(secrets) => secrets,
            Err(error) => {
                report("a webhook's secrets are not read", &error);
                if let Err(error) = queue::hand_back(&self.tables.pool, due).await {
                    report("a try is not given back", &error);
                }
                return;
            }
        };
        // The webhook was deleted a moment ago. Nothing is sent unsigned.
        if secrets.is_empty() {
            return;
        }
        let tried = self.sender.send(due, &secrets, OffsetDateTime::now_utc()).await;
        metrics::histogram!(names::WEBHOOK_TRY_SECONDS).record(begun.elapsed().as_secs_f64());
        let verdict = judge(&tried, due.attempts, &self.pace.retries, rand::rng().random());
        let outcome = match &verdict {
            Verdict::Delivered => "delivered",
            Verdict::Again { .. } => "again",
            Verdict::Dead { .. } => "dead",
            Verdict::Gone => "gone",
        };
        metrics::counter!(names::WEBHOOK_TRIES_TOTAL, "outcome" => outcome).increment(1);
        if let Verdict::Dead { why } = &verdict {
            tracing::warn!(webhook = %due.webhook, tenant = due.tenant, event = due.event_id, why, "a delivery is a dead letter");
        }
        let status = match tried {
            Tried::Answered { status, .. } => status,
            Tried::Failed(_) => 0,
        };
        if let Err(error) = queue::finish(&self.tables, due, status, &verdict).await {
            report("the outcome of a delivery is not kept; it is sent again", &error);
        }
    }
}

fn note_end(under_way: &mut HashMap<Uuid, usize>, tries: &JoinSet<Uuid>, ended: Result<Uuid, tokio::task::JoinError>) {
    match ended {
        Ok(webhook) => {
            if let Some(count) = under_way.get_mut(&webhook) {
                *count -= 1;
                if *count == 0 {
                    under_way.remove(&webhook);
                }
            }
        }
        // Whose it was is not told: when nothing is under way, nothing is counted.
        Err(_) if tries.is_empty() => under_way.clear(),
        Err(_) => {}
    }
}

async fn pause(at_most: Duration, stop: &Stop) {
    tokio::select! {
        () = sleep(at_most) => {}
        () = stop.requested() => {}
    }
}

fn report(what: &'static str, error: &StoreError) {
    tracing::warn!(what, error = error as &dyn std::error::Error, "webhooks will try again");
}
