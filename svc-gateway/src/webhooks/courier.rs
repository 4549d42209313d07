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
    task::{self, JoinSet},
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{
    queue::{self, Due, Room, UnderWay},
    rows,
    schedule::{Tried, Verdict, judge},
    sender::Sender,
};
use crate::{metric_definitions as names, sealing::SealingKeys};

/// How often tries are looked for when nothing hints at any.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A try that is not ended so long after its deadline belongs to a process that has died.
const LEASE_MARGIN: Duration = Duration::from_secs(15);
const COUNTED_EVERY: Duration = Duration::from_secs(5);
const PRUNED_EVERY: Duration = Duration::from_secs(600);
/// One tenant has at most this part of the tries at once.
const TENANT_SHARE: usize = 4;
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
    keys: Arc<SealingKeys>,
    sender: Sender,
    pace: Pace,
    /// There may be tries to make.
    fed: Notify,
}

// === impl Courier ===

impl Courier {
    /// Over connections of its own, so that callers never wait for receivers.
    #[must_use]
    pub fn new(tables: Tables, reader: Reader, keys: Arc<SealingKeys>, sender: Sender, pace: Pace) -> Self {
        Self { tables, reader, keys, sender, pace, fed: Notify::new() }
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
            match queue::feed(&self.tables, webhook).await {
                Ok(read) => fed += read,
                // One that cannot be fed holds up no other.
                Err(error) => report("events of a webhook are not made deliveries", &error),
            }
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
                match queue::prune(&self.tables.pool).await {
                    Ok(true) => {}
                    Ok(false) => pruned_at = Some(Instant::now()),
                    Err(error) => report("old deliveries are not forgotten", &error),
                }
            }
            pause(COUNTED_EVERY, &stop).await;
        }
    }

    async fn deliver(self: &Arc<Self>, stop: &Stop) {
        let mut tries: JoinSet<()> = JoinSet::new();
        let mut under_way: HashMap<task::Id, Due> = HashMap::new();
        while !stop.is_requested() {
            let taken = match self.take(&under_way).await {
                Ok(taken) => taken,
                Err(error) => {
                    report("deliveries are not looked for", &error);
                    Vec::new()
                }
            };
            let has_taken = !taken.is_empty();
            for due in taken {
                let (courier, own) = (Arc::clone(self), due.clone());
                let task = tries.spawn(async move { courier.bring(&own).await });
                under_way.insert(task.id(), due);
            }
            let is_full = tries.len() >= self.pace.in_flight;
            tokio::select! {
                Some(ended) = tries.join_next_with_id() => forget(&mut under_way, &ended),
                () = self.fed.notified(), if !is_full => {}
                () = sleep(LOOK_EVERY), if !is_full && !has_taken => {}
                () = std::future::ready(()), if has_taken && !is_full => {}
                () = stop.requested() => {}
            }
            while let Some(ended) = tries.try_join_next_with_id() {
                forget(&mut under_way, &ended);
            }
        }
        let last = async {
            while let Some(ended) = tries.join_next_with_id().await {
                forget(&mut under_way, &ended);
            }
        };
        if timeout(LAST_TRIES, last).await.is_err() {
            tries.shutdown().await;
            for due in under_way.values() {
                self.hand_back(due).await;
            }
        }
    }

    async fn take(&self, under_way: &HashMap<task::Id, Due>) -> Result<Vec<Due>, StoreError> {
        let Pace { in_flight, in_flight_each, timeout, .. } = self.pace;
        let room = Room {
            all: in_flight.saturating_sub(under_way.len()),
            of_tenant: (in_flight / TENANT_SHARE).max(in_flight_each),
            of_webhook: in_flight_each,
        };
        if room.all == 0 {
            return Ok(Vec::new());
        }
        let mut counted: HashMap<Uuid, UnderWay> = HashMap::new();
        for due in under_way.values() {
            let none = || UnderWay { webhook: due.webhook, tenant: due.tenant.clone(), count: 0 };
            counted.entry(due.webhook).or_insert_with(none).count += 1;
        }
        let counted: Vec<_> = counted.into_values().collect();
        queue::take(&self.tables.pool, room, &counted, timeout + LEASE_MARGIN).await
    }

    async fn hand_back(&self, due: &Due) {
        if let Err(error) = queue::hand_back(&self.tables.pool, due).await {
            report("a try is not given back", &error);
        }
    }

    /// Makes one try and notes what came of it.
    async fn bring(&self, due: &Due) {
        let begun = Instant::now();
        let secrets = match rows::secrets(&self.tables.pool, &self.keys, due.webhook).await {
            Ok(secrets) => secrets,
            Err(error) => {
                report("a webhook's secrets are not read", &error);
                self.hand_back(due).await;
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

/// A try has ended; one that panicked as well, whose lease lets it come again.
fn forget(under_way: &mut HashMap<task::Id, Due>, ended: &Result<(task::Id, ()), task::JoinError>) {
    let id = match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    };
    under_way.remove(&id);
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
