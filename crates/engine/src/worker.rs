//! The workers: one drives flows, one asks for document signatures, one per lane sends, one per chain confirms.

mod chain;
mod documents;
mod joint;
mod lane;
mod market;
mod node;

pub(crate) use joint::Joint;
pub(crate) use node::Node;

use self::market::Market;
use crate::{
    engine::EngineConfig,
    error::StoreError,
    flow::{Decoder, Flows},
    metric_definitions as metric,
    model::LaneId,
    signer::Signer,
    store::{self, Reads, Records, Store, checks},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const FLOWS_AT_ONCE: i64 = 128;
/// Free lanes taken at a time; the next round takes more, if no other replica has.
const LANES_AT_ONCE: i64 = 100;
const MORE_LANES_AFTER: Duration = Duration::from_millis(20);
/// Hints to other processes are joined for this long: NOTIFY takes a lock that every commit with one waits for.
const HINT_EVERY: Duration = Duration::from_millis(20);
/// An operation that still runs after this long is counted as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(15 * 60);
const STALLED_EVERY: Duration = Duration::from_secs(15);
/// The pause after a commit that moved finished work: live work goes first.
const MORE_FINISHED_AFTER: Duration = Duration::from_millis(100);
/// Between two looks for held operations whose time is over.
const CHECKS_EVERY: Duration = Duration::from_secs(1);

/// What the workers share.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) store: Arc<dyn Records>,
    /// Statements that lanes and callers share.
    pub(crate) joint: Joint,
    pub(crate) chains: BTreeMap<u64, Arc<dyn Node>>,
    pub(crate) chain_ids: BTreeSet<u64>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) flows: Flows,
    pub(crate) decoder: Arc<dyn Decoder>,
    /// A flow may be woken.
    driver: Notify,
    /// A document may wait for its signature.
    pub(crate) signatures: Notify,
    /// A lane without a worker may have work.
    supervisor: Notify,
    /// Something that readers see has changed.
    hint: Notify,
    lanes: Mutex<BTreeMap<LaneId, LaneHandle>>,
    markets: BTreeMap<u64, Market>,
    /// When the signer last gave anybody an answer.
    signer_answered: Mutex<Option<Instant>>,
}

struct LaneHandle {
    poke: Arc<Notify>,
    abort: AbortHandle,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(
        config: EngineConfig,
        store: Arc<dyn Records>,
        joint: Joint,
        chains: BTreeMap<u64, Arc<dyn Node>>,
        signer: Arc<dyn Signer>,
        flows: Flows,
        decoder: Arc<dyn Decoder>,
    ) -> Self {
        let chain_ids = chains.keys().copied().collect();
        let markets = chains.keys().map(|chain| (*chain, Market::default())).collect();
        Self {
            config,
            store,
            joint,
            chains,
            chain_ids,
            signer,
            flows,
            decoder,
            driver: Notify::new(),
            signatures: Notify::new(),
            supervisor: Notify::new(),
            hint: Notify::new(),
            lanes: Mutex::default(),
            markets,
            signer_answered: Mutex::default(),
        }
    }

    /// What is known of a chain.
    pub(crate) fn market(&self, chain_id: u64) -> &Market {
        self.markets.get(&chain_id).expect("workers are started for configured chains only")
    }

    /// The signer has answered somebody.
    pub(crate) fn signer_answered(&self) {
        *self.signer_answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether the signer has answered anybody within this time.
    pub(crate) fn signer_is_at_work(&self, within: Duration) -> bool {
        let answered = *self.signer_answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.is_some_and(|at| at.elapsed() <= within)
    }

    /// Lanes got work.
    pub(crate) fn poke_lanes(&self, lanes: impl IntoIterator<Item = LaneId>) {
        let handles = self.lanes();
        for lane in lanes {
            match handles.get(&lane) {
                Some(handle) => handle.poke.notify_one(),
                None => self.supervisor.notify_one(),
            }
        }
    }

    /// Something that readers see has changed.
    pub(crate) fn changed(&self) {
        self.hint.notify_one();
    }

    /// Flows may be woken.
    pub(crate) fn woken(&self) {
        self.driver.notify_one();
        self.hint.notify_one();
    }

    #[cfg(any(feature = "testing", feature = "sim"))]
    pub(crate) fn kill_lanes(&self) {
        self.lanes().values().for_each(|handle| handle.abort.abort());
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<LaneId, LaneHandle>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts every worker.
pub(crate) fn spawn(shared: Arc<Shared>, tasks: &TaskTracker, stop: CancellationToken) -> Vec<AbortHandle> {
    let mut handles = vec![
        tasks.spawn(drive_flows(shared.clone(), stop.clone())).abort_handle(),
        tasks.spawn(documents::sign(shared.clone(), stop.clone())).abort_handle(),
        tasks.spawn(supervise_lanes(shared.clone(), tasks.clone(), stop.clone())).abort_handle(),
        tasks.spawn(give_hints(shared.clone(), stop.clone())).abort_handle(),
        tasks.spawn(count_stalled(shared.clone(), stop.clone())).abort_handle(),
    ];
    for (chain_id, node) in &shared.chains {
        handles.push(tasks.spawn(chain::confirm(shared.clone(), *chain_id, node.clone(), stop.clone())).abort_handle());
    }
    handles
}

/// Waits for a hint, or for the slow poll behind it. `false`: the engine stops.
async fn next_turn(stop: &CancellationToken, hint: &Notify, at_most: Duration) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = hint.notified() => true,
        () = tokio::time::sleep(at_most) => true,
    }
}

fn report(what: &'static str, error: &StoreError) {
    tracing::error!(what, error = error as &dyn std::error::Error, "worker failed, will try again");
}

async fn drive_flows(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let started = Instant::now();
        match store::retry("drive flows", || shared.store.drive(&shared.flows, &shared.chain_ids, FLOWS_AT_ONCE)).await
        {
            Ok((0, _)) => {
                if !next_turn(&stop, &shared.driver, shared.config.slow_poll).await {
                    return;
                }
            }
            Ok((_, lanes)) => {
                metric::stage("drive", started.elapsed());
                shared.poke_lanes(lanes);
                shared.signatures.notify_one();
                shared.changed();
            }
            Err(error) => {
                report("drive flows", &error);
                tokio::time::sleep(shared.config.slow_poll).await;
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn supervise_lanes(shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let mut taken = 0;
        match store::retry("lease lanes", || {
            shared.store.lease_lanes(&shared.config.instance, shared.config.lease, LANES_AT_ONCE)
        })
        .await
        {
            Ok(leased) => {
                let mut handles = shared.lanes();
                handles.retain(|_, handle| !handle.abort.is_finished());
                for lane in leased {
                    // A lane that ends between this check and its last look is found again by the next lease query.
                    let Some(node) = shared.chains.get(&lane.chain_id).filter(|_| !handles.contains_key(&lane)) else {
                        continue;
                    };
                    let poke = Arc::new(Notify::new());
                    let worker = lane::LaneWorker::new(shared.clone(), lane, node.clone(), poke.clone(), stop.clone());
                    let abort = tasks.spawn(worker.run()).abort_handle();
                    handles.insert(lane, LaneHandle { poke, abort });
                    taken += 1;
                }
                metric::lanes_leased(handles.len());
            }
            Err(error) => report("lease lanes", &error),
        }
        // Another replica gets a chance at the rest.
        let pause = if taken >= LANES_AT_ONCE { MORE_LANES_AFTER } else { shared.config.slow_poll };
        if !next_turn(&stop, &shared.supervisor, pause).await {
            return;
        }
    }
}

async fn give_hints(shared: Arc<Shared>, stop: CancellationToken) {
    while next_turn(&stop, &shared.hint, Duration::from_secs(60)).await {
        // A hint that fails is made up for by the slow poll.
        let _ = shared.store.hint().await;
        tokio::time::sleep(HINT_EVERY).await;
    }
}

async fn count_stalled(shared: Arc<Shared>, stop: CancellationToken) {
    let never = Notify::new();
    while next_turn(&stop, &never, STALLED_EVERY).await {
        match shared.store.stalled(STALLED_AFTER).await {
            Ok((held, other)) => metric::operations_stalled(held, other),
            Err(error) => report("count stalled operations", &error),
        }
    }
}

/// Ends held operations whose time to be decided is over, and tells how many wait. Every replica looks; the rows' locks share the work.
pub(crate) async fn keep_checks(shared: Arc<Shared>, store: Store, stop: CancellationToken) {
    let never = Notify::new();
    let reads = Reads { pool: store.pool.clone() };
    while next_turn(&stop, &never, CHECKS_EVERY).await {
        match checks::expire(&store.pool, &store.service).await {
            Ok(0) => {}
            Ok(expired) => {
                metric::checks_expired(expired);
                shared.changed();
            }
            Err(error) => report("end held operations", &error),
        }
        match reads.held(&store.service).await {
            Ok((held, oldest_s)) => metric::awaiting_checker(held, oldest_s),
            Err(error) => report("count held operations", &error),
        }
    }
}

/// Moves what has ended long ago to history, tenant by tenant. Every replica looks; the rows' locks share the work.
pub(crate) async fn move_finished(shared: Arc<Shared>, store: Store, stop: CancellationToken) {
    let never = Notify::new();
    while next_turn(&stop, &never, shared.config.finished_every).await {
        let walks = match store.walks().await {
            Ok(walks) => walks,
            Err(error) => {
                report("look for finished work", &error);
                continue;
            }
        };
        for mut walk in walks {
            loop {
                let before = walk.moved();
                match store.move_finished(&mut walk, shared.config.finished_kept).await {
                    Ok(true) => metric::operations_moved(walk.moved() - before),
                    Ok(false) => break,
                    Err(error) => {
                        report("move finished work to history", &error);
                        break;
                    }
                }
                if !next_turn(&stop, &never, MORE_FINISHED_AFTER).await {
                    return;
                }
            }
        }
    }
}
