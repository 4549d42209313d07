//! Load while something goes wrong: requests at a steady rate, whatever becomes of the earlier ones, and reads beside them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use dalp_devstack::client::{Client, reason};
use dalp_devstack::configuration::TENANT;
use dalp_proto::holder::GetBalanceRequest;
use dalp_proto::holder::holder_service_client::HolderServiceClient;
use dalp_proto::operation::ListOperationsRequest;
use dalp_proto::operation::operation_service_client::OperationServiceClient;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::Status;
use uuid::Uuid;

use super::book::{Answer, BEFORE, Book, End};
use super::reads::Answers;
use super::site::{LANES, Site};
use super::verdict::Verdict;
use super::{Episode, Measures, Outcome};
use crate::load::Load;
use crate::waiting::repeated_after;

/// How long a client waits for one answer.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// How long it repeats a request that is not answered, and how often.
const ANSWERED_WITHIN: Duration = Duration::from_secs(420);
const REPEATED_AFTER: Duration = Duration::from_millis(300);
/// A read that takes longer counts as not answered.
const READ_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After this long without an end, what is open counts as lost.
const ENDS_WITHIN: Duration = Duration::from_secs(420);
/// How much has to end while nothing is wrong, before and after.
const SECONDS_OF_WORK: f64 = 4.0;

/// The kinds of reads: of the platform's record, and of the index made of the chain.
const READS: [&str; 2] = ["operations", "balances"];

/// Something that went wrong.
struct Fault {
    what: String,
    from: Instant,
    until: Instant,
    /// From its begin until as much ended a second as before, where that was waited for.
    throughput_back: Option<Duration>,
}

/// A load that is under way.
pub(super) struct Run {
    name: String,
    rate: f64,
    tell: fn(&str),
    book: Arc<Mutex<Book>>,
    answers: [Arc<Mutex<Answers>>; 2],
    faults: Vec<Fault>,
    remarks: Vec<String>,
    first_block: u64,
    load: Load,
    stop: watch::Sender<bool>,
    /// Ended when this is dropped, like what watches.
    sending: JoinSet<()>,
    watching: JoinSet<()>,
}

// === impl Run ===

impl Run {
    /// Begins, and waits until it has got going.
    pub(super) async fn begin(site: &Site, name: &str, measures: &Measures) -> anyhow::Result<Self> {
        let book = Arc::new(Mutex::new(Book::default()));
        let answers: [Arc<Mutex<Answers>>; 2] = Default::default();
        let first_block = site.chain.height().await? + 1;
        let mut watching = JoinSet::new();
        watching.spawn(watch_ends(site.pool.clone(), book.clone()));
        for (kind, answers) in READS.into_iter().zip(&answers) {
            // A connection of its own: one that hangs must not hold up the other.
            watching.spawn(keep_reading(kind, site.stack.client()?, site.load.clone(), answers.clone()));
        }
        let mut run = Self {
            name: name.to_owned(),
            rate: measures.rate,
            tell: measures.tell,
            book,
            answers,
            faults: Vec::new(),
            remarks: Vec::new(),
            first_block,
            load: site.load.through(&site.stack.client()?),
            stop: watch::channel(false).0,
            sending: JoinSet::new(),
            watching,
        };
        run.resume();
        run.work().await?;
        Ok(run)
    }

    /// Lets the callers ask, at first or again.
    pub(super) fn resume(&mut self) {
        let (stop, stopped) = watch::channel(false);
        self.stop = stop;
        let every = Duration::from_secs_f64(1.0 / self.rate);
        self.sending.spawn(keep_asking(self.load.clone(), self.name.clone(), every, self.book.clone(), stopped));
    }

    /// Has the callers ask for nothing more, and waits until they are answered.
    pub(super) async fn pause(&mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.sending.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// What was accepted, each with its number.
    pub(super) fn accepted(&self) -> Vec<(u64, Uuid)> {
        locked(&self.book).accepted()
    }

    /// Notes that the caller has found on chain what it asked for.
    pub(super) fn found(&self, number: u64) {
        locked(&self.book).found(number, Instant::now());
    }

    /// Has a caller ask again for what neither the platform nor the chain knows of.
    pub(super) async fn repeat(&self, number: u64) {
        locked(&self.book).again(number);
        let answer = answered(&self.load, &self.name, number).await;
        locked(&self.book).answered(number, answer);
    }

    /// The amounts that the chain has moved.
    pub(super) async fn moved(&self, site: &Site) -> anyhow::Result<Vec<u64>> {
        let moved = site.chain.moved_to(site.load.token, site.load.receiver.address, self.first_block).await?;
        Ok(moved.iter().map(|(_, amount)| amount.saturating_to()).collect())
    }

    /// Waits until so many more requests have ended as come in a few seconds.
    pub(super) async fn work(&mut self) -> anyhow::Result<()> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a small number
        let more = (self.rate * SECONDS_OF_WORK) as usize;
        let wanted = locked(&self.book).count_ended() + more;
        self.wait("requests end", |book| book.count_ended() >= wanted).await
    }

    /// Lets requests end undisturbed for as long as a throughput is compared with.
    pub(super) async fn steady(&self) {
        tokio::time::sleep(BEFORE).await;
    }

    /// Waits as long as a fault lasts, and until as much ends a second as before it; says when that was.
    pub(super) async fn throughput_back(&self, fault: Instant, lasts: Duration) -> anyhow::Result<Duration> {
        tokio::time::sleep(lasts).await;
        let back = |book: &Book| book.throughput_back(fault, Instant::now());
        self.wait("the throughput is back", |book| back(book).is_some()).await?;
        Ok(back(&locked(&self.book)).unwrap_or_default())
    }

    /// Notes something that went wrong, that is over now, and waits until everything asked for before has ended and a few seconds' work beside.
    pub(super) async fn over(&mut self, what: &str, from: Instant, until: Instant) -> anyhow::Result<()> {
        self.noted(Fault { what: what.to_owned(), from, until, throughput_back: None }).await
    }

    /// As [`Run::over`], of what began then, is over by now, and after which the throughput was back so long after its begin.
    pub(super) async fn over_with(&mut self, what: &str, from: Instant, back: Duration) -> anyhow::Result<()> {
        let until = Instant::now();
        self.noted(Fault { what: what.to_owned(), from, until, throughput_back: Some(back) }).await
    }

    async fn noted(&mut self, fault: Fault) -> anyhow::Result<()> {
        self.wait(&format!("all of before ends after: {}", fault.what), |book| book.is_settled(fault.until)).await?;
        self.work().await?;
        let episode = self.episode(&fault);
        (self.tell)(&format!("{}: {}", episode.what, episode.say()));
        self.faults.push(fault);
        Ok(())
    }

    /// Adds to what the report says.
    pub(super) fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    async fn wait(&self, what: &str, condition: impl Fn(&Book) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let (met, open) = {
                let book = locked(&self.book);
                (condition(&book), book.open())
            };
            if met {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < ENDS_WITHIN,
                "{what}: not so after {ENDS_WITHIN:?}; {} open: {:?}",
                open.len(),
                open.first()
            );
        }
    }

    fn episode(&self, fault: &Fault) -> Episode {
        let Fault { what, from, until, throughput_back } = fault;
        let (from, until) = (*from, *until);
        let recovery = locked(&self.book).recovery(until);
        let window_end = until + recovery.unwrap_or(ENDS_WITHIN).max(Duration::from_secs(1));
        let away = |answers: &Mutex<Answers>| locked(answers).away(from, window_end.min(Instant::now())).as_secs_f64();
        let meanwhile = locked(&self.book).ended_within(from, until);
        Episode {
            ended_meanwhile: meanwhile,
            what: what.clone(),
            lasted_s: (until - from).as_secs_f64(),
            recovery_s: recovery.map(|recovery| recovery.as_secs_f64()),
            throughput_back_s: throughput_back.map(|back| back.as_secs_f64()),
            reads_away_s: READS.into_iter().zip(&self.answers).map(|(kind, answers)| (kind, away(answers))).collect(),
        }
    }

    /// Ends the load, waits until everything accepted has ended, and counts on the chain what became of it.
    pub(super) async fn finish(mut self, site: &Site) -> anyhow::Result<Outcome> {
        self.pause().await?;
        let drained = self.wait("everything accepted ends", |book| book.open().is_empty()).await;
        if let Err(error) = drained {
            self.remark(error.to_string());
        }
        let gapped = gapped(site).await?;
        let moved = self.moved(site).await?;
        let episodes = self.faults.iter().map(|fault| self.episode(fault)).collect();
        self.watching.abort_all();
        let verdict = Verdict::of(locked(&self.book).requests(), &moved, gapped);
        Ok(Outcome { name: self.name, verdict, episodes, rate: self.rate, remarks: self.remarks })
    }
}

/// Asks at a steady rate until it is stopped, each request again and again under its key until it is answered.
async fn keep_asking(
    load: Load,
    name: String,
    every: Duration,
    book: Arc<Mutex<Book>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = JoinSet::new();
    while !*stopped.borrow() {
        tokio::select! {
            _ = due.tick() => {}
            _ = stopped.changed() => break,
        }
        let number = locked(&book).is_due(Instant::now());
        let (load, name, book) = (load.clone(), name.clone(), book.clone());
        asked.spawn(async move {
            let answer = answered(&load, &name, number).await;
            locked(&book).answered(number, answer);
        });
        while asked.try_join_next().is_some() {}
    }
    while asked.join_next().await.is_some() {}
}

/// Asks under the request's key until it is answered.
async fn answered(load: &Load, name: &str, number: u64) -> Answer {
    let (lane, key) = (usize::try_from(number).unwrap_or_default() % LANES, format!("{name}-{number}"));
    let answer = repeated_after(REPEATED_AFTER, ANSWERED_WITHIN, || async {
        let answer = tokio::time::timeout(CALL_WITHIN, load.transfer_of(number, lane, &key)).await;
        answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
    });
    match answer.await {
        Ok(operation) => match operation.operation_id.parse() {
            Ok(id) => Answer::Accepted(id),
            Err(error) => Answer::Refused(format!("its id is none: {error}")),
        },
        Err(status) => Answer::Refused(format!("{} ({})", reason(&status), status.message())),
    }
}

/// Looks which accepted operations have ended; what is away meanwhile is looked at later.
async fn watch_ends(pool: PgPool, book: Arc<Mutex<Book>>) {
    let query = "SELECT operation_id, state, coalesce(error::text, '') FROM engine.operations
                 WHERE tenant = $1 AND operation_id = ANY($2) AND state <> 'RUNNING'";
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let open = locked(&book).open();
        if open.is_empty() {
            continue;
        }
        let ended = sqlx::query_as::<_, (Uuid, String, String)>(query).bind(TENANT).bind(open).fetch_all(&pool).await;
        let now = Instant::now();
        for (id, state, error) in ended.unwrap_or_default() {
            let end = if state == "COMPLETED" { End::Completed } else { End::Otherwise(format!("{state} {error}")) };
            locked(&book).ended(id, end, now);
        }
    }
}

/// Reads again and again, and notes when it was answered.
async fn keep_reading(kind: &str, client: Client, load: Load, answers: Arc<Mutex<Answers>>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let read = async {
            if kind == READS[0] {
                let request = ListOperationsRequest { page_size: 1, ..ListOperationsRequest::default() };
                OperationServiceClient::new(client.gateway()).list_operations(request).await.is_ok()
            } else {
                let (asset, holder) = (load.token.to_checksum(None), load.receiver.text.clone());
                let request = GetBalanceRequest { asset, holder, block_number: 0 };
                HolderServiceClient::new(client.gateway()).get_balance(request).await.is_ok()
            }
        };
        if tokio::time::timeout(READ_WITHIN, read).await == Ok(true) {
            locked(&answers).note(Instant::now());
        }
    }
}

/// Nonces that the engine has bound and no block has used, and what the node still holds.
async fn gapped(site: &Site) -> anyhow::Result<usize> {
    let mut open = usize::try_from(site.chain.waiting().await?)?;
    for holder in &site.load.holders {
        let query = "SELECT max(nonce) FROM engine.nonces WHERE sender = $1 AND NOT released";
        let last: Option<i64> = sqlx::query_scalar(query).bind(holder.address.as_slice()).fetch_one(&site.pool).await?;
        let next = site.chain.nonce(holder.address).await?;
        open += usize::try_from(last.map_or(0, |last| last.unsigned_abs() + 1).saturating_sub(next))?;
    }
    Ok(open)
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
