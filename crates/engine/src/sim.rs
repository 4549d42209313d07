//! A deterministic simulator of the engine.
//!
//! The workers are the engine's own. What they stand on is simulated: store, chain, signer, clock and randomness. A schedule is
//! one seed: it decides what is ordered, which faults come and when, and in which order everybody's turn is. The same seed
//! plays the same schedule. Processes end at any line and start again on what survives; after the faults are over, everything
//! that was accepted must come to rest within bounded time, and the invariants are asked of tables and chain together.

mod bug;
mod check;
mod custody;
#[cfg(all(test, feature = "testing"))]
mod differential;
mod fleet;
mod flow;
mod ledger;
mod memory;
mod node;
mod operator;
mod rng;
mod signer;
mod tables;
mod world;

pub use bug::Bug;
pub(crate) use memory::Memory;
pub(crate) use tables::Phase;

use self::{
    fleet::{Fleet, Setup},
    flow::{Callee, Errand, Order},
    rng::Rng,
    world::{Plan, World, locked},
};
use crate::{
    engine::Admission,
    model::{OperationId, TenantId},
    store::Admitted,
};
use alloy::primitives::Address;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

const TENANT: &str = "bank";
/// After its faults a schedule comes to rest within this time of its own clock.
const REST_WITHIN: Duration = Duration::from_secs(1_200);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One schedule.
#[derive(Debug, Clone, Copy, Default)]
pub struct Schedule {
    /// Decides everything.
    pub seed: u64,
    /// A defect to put back.
    pub bug: Option<Bug>,
    /// No faults but those asked for here.
    pub calm: bool,
    /// The process ends at this line, counted from 1.
    pub crash_at: Option<u64>,
    /// Write down what happens.
    pub traced: bool,
}

/// What a schedule came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// Its seed.
    pub seed: u64,
    /// What must never be, and was.
    pub violations: Vec<String>,
    /// What happened, if it was to be written down.
    pub trace: Vec<String>,
    /// Lines that were passed.
    pub lines: u64,
    /// What came about, and how often.
    pub seen: BTreeMap<&'static str, u64>,
}

/// What many schedules came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// How many were played.
    pub schedules: u64,
    /// Those with violations, by seed.
    pub violated: BTreeMap<u64, Vec<String>>,
    /// What came about, over all of them.
    pub seen: BTreeMap<&'static str, u64>,
}

/// Plays schedules with these seeds on so many threads. Stops early once `at_most` of them were violated.
pub fn play_many(seeds: Range<u64>, bug: Option<Bug>, threads: usize, at_most: usize) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || locked(&summary).violated.len() >= at_most {
                return;
            }
            let played = Schedule { seed, bug, ..Schedule::default() }.play();
            let mut summary = locked(&summary);
            summary.schedules += 1;
            for (what, count) in played.seen {
                *summary.seen.entry(what).or_default() += count;
            }
            if !played.violations.is_empty() {
                summary.violated.insert(seed, played.violations);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

// === impl Schedule ===

impl Schedule {
    /// Plays it, on this thread.
    pub fn play(self) -> Played {
        crate::jitter::seed(self.seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the machine");
        runtime.block_on(self.run())
    }

    async fn run(self) -> Played {
        let mut rng = Rng::new(self.seed);
        let mut setup = Setup::draw(&mut rng);
        if self.bug == Some(Bug::NoTimeout) {
            setup.wait_for_ever();
        }
        let drawn = Plan::draw(&mut rng);
        let plan = if self.calm { Plan::default() } else { drawn };
        let orders = orders(&mut rng, self.calm);
        let faults_for = Duration::from_millis(rng.between(3_000, 20_000));
        let block_every = setup.block_every;
        // Beside the schedule's own randomness: seeds from before there were such providers play as they did, but for their keys.
        let mut keys = Rng::new(!self.seed);
        let by_provider = [1, 2].map(Address::repeat_byte).into_iter().filter(|_| keys.per_mille(300)).collect();
        let policies = !self.calm && keys.per_mille(300);
        setup.approval_deadline(Duration::from_secs(keys.pick(&[8, 86_400])));
        let world = World::new(rng, plan, setup.depth, self.bug, self.crash_at, self.traced);
        let world = Arc::new(world.with_provider(by_provider).with_policies(policies));
        world.note(|| format!("{setup:?}"));
        world.note(|| world.draw(|_, plan| format!("{plan:?}")));
        let replicas = setup.services.len();
        let fleet = Arc::new(Fleet::start(world.clone(), setup));
        let accepted: Arc<Mutex<BTreeMap<String, OperationId>>> = Arc::default();
        let mut callers = tokio::task::JoinSet::new();
        for order in orders {
            let (world, fleet, accepted) = (world.clone(), fleet.clone(), accepted.clone());
            callers.spawn(call(world, fleet, accepted, replicas, order));
        }
        let miner = tokio::spawn(mine(world.clone(), block_every));
        let operator = tokio::spawn(operator::operate(world.clone(), fleet.clone(), replicas));
        let started = Instant::now();
        let mut calm = false;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                biased;
                () = world.ended.notified() => {
                    fleet.end(world.take_ended());
                    continue;
                }
                _ = looks.tick() => {}
            }
            fleet.bring_back();
            while callers.try_join_next().is_some() {}
            if world.is_violated() {
                break;
            }
            if !calm && started.elapsed() >= faults_for {
                calm = true;
                operator.abort();
                world.calm_down();
            }
            if !calm {
                continue;
            }
            operator::tidy_up(&world);
            let unrest = check::unrest(&locked(&world.tables), &locked(&world.ledger));
            if callers.is_empty() && unrest.is_none() {
                check::check(&world, &locked(&accepted));
                break;
            }
            if started.elapsed() >= faults_for + REST_WITHIN {
                world.violated(format!("no rest: {}", unrest.unwrap_or_else(|| "a caller has no answer".into())));
                break;
            }
        }
        if fleet.lost_workers() > 0 {
            world.violated("a worker has panicked".into());
        }
        miner.abort();
        let lines = world.lines();
        let (violations, trace, seen) = world.report();
        Played { seed: self.seed, violations, trace, lines, seen }
    }
}

fn orders(rng: &mut Rng, calm: bool) -> Vec<Order> {
    let senders = rng.between(1, 2);
    let count = if calm { 3 } else { rng.between(1, 5) };
    let callee = |rng: &mut Rng| match rng.below(12) {
        0 => Callee::Reverter,
        1 | 2 => Callee::Moody,
        _ => Callee::Payee,
    };
    let mut orders = Vec::new();
    for number in 0..count {
        let (together, in_turn) = (rng.below(4), rng.below(3));
        orders.push(Order {
            number,
            chain_id: ledger::CHAIN,
            sender: Address::repeat_byte(1 + rng.below(senders) as u8),
            together: (0..together).map(|_| callee(rng)).collect(),
            in_turn: (0..in_turn).map(|_| callee(rng)).collect(),
            signs: rng.per_mille(200),
        });
    }
    orders
}

/// A caller: asks until it has an answer, may ask twice at once, may cancel later.
async fn call(
    world: Arc<World>,
    fleet: Arc<Fleet>,
    accepted: Arc<Mutex<BTreeMap<String, OperationId>>>,
    replicas: usize,
    order: Order,
) {
    let (first_at, replica, twice, cancel) = world.draw(|rng, plan| {
        let at = Duration::from_millis(rng.below(6_000));
        (at, rng.below(replicas as u64) as usize, rng.per_mille(plan.twice), rng.per_mille(plan.cancel))
    });
    tokio::time::sleep(first_at).await;
    let asking = (0..=u64::from(twice)).map(|_| ask(&world, &fleet, replica, &order));
    let ids = futures::future::join_all(asking).await;
    for id in ids {
        let key = order.number.to_string();
        let known = *locked(&accepted).entry(key.clone()).or_insert(id);
        if known != id {
            world.violated(format!("key {key} stands for {known} and for {id}"));
        }
    }
    if cancel {
        world.saw("cancelled");
        let pause = world.draw(|rng, _| Duration::from_millis(rng.below(12_000)));
        tokio::time::sleep(pause).await;
        let (memory, id) = (fleet.memory(replica), locked(&accepted)[&order.number.to_string()]);
        let tenant = TenantId::new(TENANT);
        // An operator who gets no answer gives up: whether it was taken shows in the operation.
        let asked = tokio::time::timeout(
            Duration::from_secs(5),
            memory.commit("cancel", |tables, _| tables.cancel(&tenant, id, "simulated")),
        );
        let _ = asked.await;
    }
}

async fn ask(world: &World, fleet: &Fleet, replica: usize, order: &Order) -> OperationId {
    loop {
        if let Some(shared) = fleet.shared(replica) {
            let id = world.draw(|rng, _| OperationId(Uuid::from_u64_pair(rng.next(), rng.next())));
            let key = order.number.to_string();
            let mut admission = Admission::<Errand>::new(TENANT.into(), "caller", "sim.Errand", key, order.clone());
            admission.refusable = true;
            let answer = match shared.asked(id, admission) {
                Ok((new, _)) => {
                    let answer = tokio::time::timeout(Duration::from_secs(10), shared.joint.admit(new.clone())).await;
                    if let Ok(Ok(Admitted::New(_))) = answer {
                        shared.accepted(&new);
                    }
                    answer
                }
                Err(error) => {
                    world.violated(format!("a good order was refused: {error}"));
                    return id;
                }
            };
            match answer {
                Ok(Ok(Admitted::New(_))) => return id,
                Ok(Ok(Admitted::Repeat(known))) => return known,
                Ok(Ok(Admitted::BehindApproval(_))) => world.saw("refused behind an approval"),
                Ok(Ok(other)) => {
                    world.violated(format!("a good order was refused: {other:?}"));
                    return id;
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        let pause = world.draw(|rng, _| Duration::from_millis(rng.between(20, 900)));
        tokio::time::sleep(pause).await;
    }
}

/// Makes blocks, and does to the chain what happens to chains.
async fn mine(world: Arc<World>, every: Duration) {
    loop {
        let pause = world.draw(|rng, _| every.mul_f64(rng.between(50, 150) as f64 / 100.0));
        tokio::time::sleep(pause).await;
        let reorg = world.fault("reorg", |plan| plan.reorg);
        let drop = world.fault("pool forgets", |plan| plan.drop);
        let outside = world.fault("used outside", |plan| plan.outside);
        custody::work(&world);
        let mut ledger = locked(&world.ledger);
        world.draw(|rng, plan| {
            if drop {
                ledger.forget_one(rng);
            }
            if outside {
                ledger.send_outside(Address::repeat_byte(1));
            }
            if reorg {
                ledger.reorg(rng, plan.earlier);
            } else {
                ledger.mine(rng, plan.left_out, plan.earlier);
            }
        });
        let head = ledger.head();
        let mined: Vec<_> = head.receipts.iter().map(|receipt| receipt.transaction_hash).collect();
        world.note(|| format!("block {} {mined:?}{}", head.number, if reorg { " on another branch" } else { "" }));
    }
}
