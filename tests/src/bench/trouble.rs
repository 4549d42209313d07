//! What is lost, doubled, left out or stuck, and how long a backlog needs, when services are killed at load and when the node
//! behaves badly.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256};
use anyhow::Context as _;
use dalp_devstack::report::Figure;
use futures::{StreamExt as _, stream};
use tokio::time::Instant;
use uuid::Uuid;

use super::open_loop::{ends, something_runs};
use super::platform::count;
use super::room::Room;
use crate::load::Load;
use crate::null_chain::Fault;
use crate::waiting::repeated;

/// Who is killed in each round.
const VICTIMS: [&str; 5] = ["svc-compliance", "svc-signer", "svc-compliance", "svc-gateway", "svc-compliance"];
const LANES: usize = 10;
/// Requests of a round; half of them are accepted when the kill comes.
const REQUESTS: usize = 2_000;
/// Requests under way at once: many, so that more are accepted than are carried out.
const IN_FLIGHT: usize = 256;
/// After this long an operation counts as stuck.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);
/// How long a request is repeated until it is answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `kill9.*`.
pub(super) async fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut room = Room::prepare(LANES, "local").await?;
    room.chain.take_over().await?;
    let (mut accepted, mut drain_s, mut backlogs) = (Vec::new(), Vec::new(), Vec::new());
    for (number, victim) in VICTIMS.into_iter().enumerate() {
        let round = Round::begin(&room, &format!("kill-{number}")).await;
        backlogs.push(round.backlog(&room).await);
        let killed = Instant::now();
        let service = room.stack.service(victim).context("a service of the stack")?;
        tokio::task::block_in_place(|| service.restart())?;
        accepted.extend(round.drained(&room).await?);
        drain_s.push(killed.elapsed().as_secs_f64());
    }
    let note = format!(
        "{} rounds of {REQUESTS} transfers on {LANES} lanes; accepted and in no block at the kill: {backlogs:?} ({VICTIMS:?})",
        VICTIMS.len()
    );
    damage(&room, "kill9", VICTIMS.len() * REQUESTS, &accepted, drain_s, &note).await
}

/// `faults.*`: a node that refuses, forgets, breaks off and dawdles in the middle of the load.
pub(super) async fn at_a_bad_node() -> anyhow::Result<Vec<Figure>> {
    const SEND: &str = "eth_sendRawTransaction";
    let room = Room::prepare(LANES, "local").await?;
    room.chain.take_over().await?;
    let round = Round::begin(&room, "faults").await;
    let begun = Instant::now();
    let refuse = |code: i64, message: &str| Fault::Refuse { code, message: message.to_owned() };
    for (method, fault, times) in [
        (SEND, refuse(-32_000, "txpool is full"), 100),
        (SEND, Fault::Drop, 50),
        (SEND, Fault::Break, 20),
        (SEND, Fault::Delay(Duration::from_millis(20)), 50),
        ("eth_call", refuse(-32_005, "rate limit exceeded"), 5),
        ("eth_call", Fault::Break, 5),
        ("eth_getBlockReceipts", Fault::Break, 3),
        ("eth_getBlockByNumber", refuse(-32_603, "request timed out"), 5),
    ] {
        room.chain.inject(method, fault, times);
    }
    let accepted = round.drained(&room).await?;
    let note = format!(
        "{REQUESTS} transfers on {LANES} lanes while the node refuses 100 sends, forgets 50, breaks off 20 and delays 50, and \
         does not answer some reads"
    );
    damage(&room, "faults", REQUESTS, &accepted, vec![begun.elapsed().as_secs_f64()], &note).await
}

/// Load of which half is accepted and half is still to come.
struct Round {
    load: tokio::task::JoinHandle<Vec<Uuid>>,
    so_far: Arc<AtomicUsize>,
    /// In blocks before it began.
    before: usize,
}

// === impl Round ===

impl Round {
    async fn begin(room: &Room, label: &str) -> Self {
        let before = room.chain.included().await.len();
        let so_far = Arc::new(AtomicUsize::new(0));
        let load = tokio::spawn(offer(room.load.clone(), label.to_owned(), so_far.clone()));
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while so_far.load(Ordering::SeqCst) < REQUESTS / 2 && !load.is_finished() {
            looks.tick().await;
        }
        Self { load, so_far, before }
    }

    /// Accepted, and in no block.
    async fn backlog(&self, room: &Room) -> usize {
        let done = room.chain.included().await.len() - self.before;
        self.so_far.load(Ordering::SeqCst).saturating_sub(done)
    }

    /// Waits until everything is final, or counts as stuck. Returns what was accepted.
    async fn drained(self, room: &Room) -> anyhow::Result<Vec<Uuid>> {
        let begun = Instant::now();
        let accepted = self.load.await?;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while something_runs(room).await? && begun.elapsed() < DRAINED_WITHIN {
            looks.tick().await;
        }
        Ok(accepted)
    }
}

/// Sends a round's requests, each again and again under its key until it is answered.
async fn offer(load: Arc<Load>, label: String, so_far: Arc<AtomicUsize>) -> Vec<Uuid> {
    let answered = stream::iter(0..REQUESTS).map(|number| {
        let (load, so_far, key) = (load.clone(), so_far.clone(), format!("{label}-{number}"));
        async move {
            let operation = repeated(ANSWERED_WITHIN, || load.transfer(number % LANES, &key)).await.ok()?;
            so_far.fetch_add(1, Ordering::SeqCst);
            operation.operation_id.parse::<Uuid>().ok()
        }
    });
    answered.buffer_unordered(IN_FLIGHT).filter_map(|id| async move { id }).collect().await
}

/// Counts what went wrong, straight from the chain and the records.
async fn damage(
    room: &Room,
    name: &str,
    asked: usize,
    accepted: &[Uuid],
    drain_s: Vec<f64>,
    note: &str,
) -> anyhow::Result<Vec<Figure>> {
    let ended = ends(room, accepted).await?;
    let lanes: HashSet<Address> = room.load.holders.iter().map(|holder| holder.address).collect();
    let calls: Vec<_> =
        room.chain.included().await.into_iter().filter(|one| one.target == Some(room.load.token)).collect();
    let included: HashSet<B256> = calls.iter().map(|one| one.hash).collect();
    let refused = asked - accepted.len();
    let stuck = ended.values().filter(|(state, ..)| state == "RUNNING").count();
    let lost = ended.values().filter(|(state, _, hashes)| {
        state != "RUNNING" && (state != "COMPLETED" || !hashes.iter().any(|hash| included.contains(hash)))
    });
    let lost = lost.count() + refused + accepted.len().saturating_sub(ended.len());
    let of_accepted: HashSet<B256> = ended.values().flat_map(|(_, _, hashes)| hashes.iter().copied()).collect();
    let twice =
        ended.values().filter(|(_, _, hashes)| hashes.iter().filter(|hash| included.contains(*hash)).count() > 1);
    let nobodys = calls.iter().filter(|one| lanes.contains(&one.sender) && !of_accepted.contains(&one.hash));
    let duplicated = twice.count() + nobodys.count();
    let gapped = gapped(room, &lanes).await?;
    let number = |what: &str, value: usize, note: &str| {
        Figure::of(&format!("{name}.{what}"), "1", vec![count(value)], Some(0.0), note)
    };
    let drained = "until everything was final, requests that came after the trouble began included";
    Ok(vec![
        number("lost", lost, &format!("good requests refused, or not completed with a call in a block; {note}")),
        number("duplicated", duplicated, "calls in blocks beyond one per accepted operation"),
        number("gapped", gapped, "nonces bound and not used, and transactions that wait behind a gap"),
        number("stuck", stuck, &format!("not final {DRAINED_WITHIN:?} later")),
        Figure::of(&format!("{name}.drain_s"), "s", drain_s, None, drained),
    ])
}

/// Nonces that the engine has bound and no block has used, and what the pool still holds.
async fn gapped(room: &Room, lanes: &HashSet<Address>) -> anyhow::Result<usize> {
    let senders: Vec<&[u8]> = lanes.iter().map(|lane| lane.as_slice()).collect();
    let query =
        "SELECT sender, max(nonce) AS last FROM engine.nonces WHERE sender = ANY($1) AND NOT released GROUP BY sender";
    let bound: Vec<(Vec<u8>, i64)> = sqlx::query_as(query).bind(senders).fetch_all(&room.pool).await?;
    let bound: HashMap<Address, u64> =
        bound.into_iter().map(|(sender, last)| (Address::from_slice(&sender), last.unsigned_abs())).collect();
    let mut open = room.chain.waiting().await;
    for (sender, last) in bound {
        let next = room.chain.nonce(sender).await;
        open += usize::try_from((last + 1).saturating_sub(next))?;
    }
    Ok(open)
}
