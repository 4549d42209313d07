//! Services killed at load with a backlog in the queue: what is lost, doubled, left out or stuck, and how long the backlog needs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256};
use anyhow::Context as _;
use dalp_devstack::report::Figure;
use futures::{StreamExt as _, stream};
use tokio::time::Instant;
use tonic::{Code, Status};
use uuid::Uuid;

use super::open_loop::{ends, still_running};
use super::platform::count;
use super::room::Room;
use crate::load::Load;

/// Who is killed in each round.
const VICTIMS: [&str; 5] = ["svc-compliance", "svc-signer", "svc-compliance", "svc-gateway", "svc-compliance"];
const LANES: usize = 10;
/// Requests of a round; half of them are accepted when the kill comes.
const REQUESTS: usize = 2_000;
/// Requests under way at once: many, so that more are accepted than are carried out.
const IN_FLIGHT: usize = 256;
/// After this long an operation counts as stuck.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);
const REPEAT_AFTER: Duration = Duration::from_millis(20);

/// `kill9.*`.
pub(super) async fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut room = Room::prepare(LANES, "local").await?;
    room.chain.take_over().await?;
    let (mut accepted, mut drain_s, mut backlogs) = (Vec::new(), Vec::new(), Vec::new());
    for (round, victim) in VICTIMS.into_iter().enumerate() {
        let done_before = room.chain.included().await.len();
        let so_far = Arc::new(AtomicUsize::new(0));
        let load = tokio::spawn(offer(room.load.clone(), round, so_far.clone()));
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while so_far.load(Ordering::SeqCst) < REQUESTS / 2 {
            looks.tick().await;
        }
        let done = room.chain.included().await.len() - done_before;
        backlogs.push(so_far.load(Ordering::SeqCst).saturating_sub(done));
        let killed = Instant::now();
        let service = room.stack.service(victim).context("a service of the stack")?;
        tokio::task::block_in_place(|| service.restart())?;
        let ids = load.await?;
        let mut running = ids.clone();
        while !running.is_empty() && killed.elapsed() < DRAINED_WITHIN {
            looks.tick().await;
            running = still_running(&room, &running).await?;
        }
        drain_s.push(killed.elapsed().as_secs_f64());
        accepted.extend(ids);
    }
    count_damage(&room, &accepted, drain_s, &backlogs).await
}

/// Sends a round's requests, each again and again under its key until it is answered.
async fn offer(load: Arc<Load>, round: usize, so_far: Arc<AtomicUsize>) -> Vec<Uuid> {
    let answered = stream::iter(0..REQUESTS).map(|number| {
        let (load, so_far) = (load.clone(), so_far.clone());
        async move {
            let key = format!("kill-{round}-{number}");
            loop {
                match load.transfer(number % LANES, &key).await {
                    Ok(operation) => {
                        so_far.fetch_add(1, Ordering::SeqCst);
                        return operation.operation_id.parse::<Uuid>().ok();
                    }
                    Err(status) if is_to_repeat(&status) => tokio::time::sleep(REPEAT_AFTER).await,
                    Err(_) => return None,
                }
            }
        }
    });
    answered.buffer_unordered(IN_FLIGHT).filter_map(|id| async move { id }).collect().await
}

fn is_to_repeat(status: &Status) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown};
    matches!(status.code(), Unavailable | Aborted | Cancelled | DeadlineExceeded | ResourceExhausted | Unknown)
}

async fn count_damage(
    room: &Room,
    accepted: &[Uuid],
    drain_s: Vec<f64>,
    backlogs: &[usize],
) -> anyhow::Result<Vec<Figure>> {
    let ended = ends(room, accepted).await?;
    let lanes: HashSet<Address> = room.load.holders.iter().map(|holder| holder.address).collect();
    let calls: Vec<_> =
        room.chain.included().await.into_iter().filter(|one| one.target == Some(room.load.token)).collect();
    let included: HashSet<B256> = calls.iter().map(|one| one.hash).collect();
    let refused = VICTIMS.len() * REQUESTS - accepted.len();
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
    let rounds = format!(
        "{} rounds of {REQUESTS} transfers on {LANES} lanes; accepted and in no block at the kill: {backlogs:?} ({VICTIMS:?})",
        VICTIMS.len()
    );
    let number = |name: &str, value: usize, note: &str| {
        Figure::of(&format!("kill9.{name}"), "1", vec![count(value)], Some(0.0), note)
    };
    Ok(vec![
        number("lost", lost, &format!("a good request refused, or not completed with a call in a block; {rounds}")),
        number("duplicated", duplicated, "calls in blocks beyond one per accepted operation"),
        number("gapped", gapped, "nonces bound and not used, and transactions that wait behind a gap"),
        number("stuck", stuck, &format!("not final {DRAINED_WITHIN:?} after the kill")),
        Figure::of(
            "kill9.drain_s",
            "s",
            drain_s,
            None,
            "from the kill until everything of the round was final, the rest of its requests included",
        ),
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
