//! What the seams of a schedule share: its randomness, its faults, what happened, and what must not have.

use super::{bug::Bug, custody::Custody, ledger::Ledger, rng::Rng, signer::Vault, tables::Tables};
use crate::error::StoreError;
use alloy::primitives::Address;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// A schedule that asks its seams so often runs in a circle without its clock moving.
const MOST_CALLS: u64 = 60_000;

/// How often each fault comes, in a thousand chances. Each schedule has faults of its own: some it never has.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// A commit fails, and nothing of it is there.
    pub(super) commit_lost: u64,
    /// A commit succeeds, and its answer is lost.
    pub(super) commit_unsure: u64,
    /// A call takes long.
    pub(super) slow: u64,
    /// A process ends at this very line.
    pub(super) crash: u64,
    /// A node does not answer.
    pub(super) node_lost: u64,
    /// A node answers from some blocks ago.
    pub(super) node_lags: u64,
    /// A node answers from a branch that has disappeared.
    pub(super) node_stale: u64,
    /// A node takes a transaction, and its answer is lost.
    pub(super) send_unsure: u64,
    /// A node says that it took a transaction, and forgets it.
    pub(super) send_forgotten: u64,
    /// A node refuses a good transaction.
    pub(super) send_refused: u64,
    /// The signer does not get a request.
    pub(super) sign_lost: u64,
    /// The signer signs, and its answer is lost.
    pub(super) sign_unsure: u64,
    /// The signer never answers about a request.
    pub(super) sign_deaf: u64,
    /// A provider refuses for good.
    pub(super) deny: u64,
    /// A provider waits for an approval.
    pub(super) hold: u64,
    /// A block is replaced by another branch, per block.
    pub(super) reorg: u64,
    /// A pool forgets a transaction, per block.
    pub(super) drop: u64,
    /// Somebody else uses a key, per block.
    pub(super) outside: u64,
    /// A miner takes an earlier version of a transaction than its pool holds.
    pub(super) earlier: u64,
    /// A pool transaction waits for another block.
    pub(super) left_out: u64,
    /// An operation is cancelled on its way.
    pub(super) cancel: u64,
    /// A caller asks twice at once.
    pub(super) twice: u64,
    /// An operator acts, per second.
    pub(super) operate: u64,
}

pub(super) struct World {
    inner: Mutex<Inner>,
    pub(super) tables: Mutex<Tables>,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) vault: Mutex<Vault>,
    pub(super) custody: Mutex<Custody>,
    /// Senders whose provider broadcasts by itself.
    by_provider: BTreeSet<Address>,
    pub(super) policies: bool,
    /// A replica has ended.
    pub(super) ended: Notify,
    started: Instant,
    tracing: bool,
}

struct Inner {
    rng: Rng,
    plan: Plan,
    calm: bool,
    calls: u64,
    crash_at: Option<u64>,
    ended: Vec<usize>,
    trace: Vec<String>,
    violations: Vec<String>,
    seen: BTreeMap<&'static str, u64>,
}

// === impl Plan ===

impl Plan {
    /// Faults of a schedule: half of the kinds not at all, the others rarely or often.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut often = |rates: [u64; 3]| if rng.per_mille(500) { 0 } else { rng.pick(&rates) };
        Self {
            commit_lost: often([3, 15, 60]),
            commit_unsure: often([3, 15, 60]),
            slow: often([1, 5, 20]),
            crash: often([2, 6, 20]),
            node_lost: often([10, 40, 150]),
            node_lags: often([10, 80, 300]),
            node_stale: often([50, 200, 500]),
            send_unsure: often([10, 60, 200]),
            send_forgotten: often([10, 60, 200]),
            send_refused: often([10, 60, 300]),
            sign_lost: often([10, 60, 200]),
            sign_unsure: often([10, 60, 200]),
            sign_deaf: often([10, 40, 150]),
            deny: often([20, 100, 300]),
            hold: often([20, 150, 400]),
            reorg: often([30, 100, 250]),
            drop: often([20, 100, 300]),
            outside: often([10, 30, 80]),
            earlier: often([30, 200, 500]),
            left_out: often([50, 300, 700]),
            cancel: often([50, 200, 500]),
            twice: often([50, 200, 500]),
            operate: often([50, 200, 500]),
        }
    }
}

// === impl World ===

impl World {
    pub(super) fn new(
        rng: Rng,
        plan: Plan,
        depth: u64,
        bug: Option<Bug>,
        crash_at: Option<u64>,
        tracing: bool,
    ) -> Self {
        let inner = Inner {
            rng,
            plan,
            calm: false,
            calls: 0,
            crash_at,
            ended: Vec::new(),
            trace: Vec::new(),
            violations: Vec::new(),
            seen: BTreeMap::new(),
        };
        Self {
            inner: Mutex::new(inner),
            tables: Mutex::new(Tables::new(bug)),
            ledger: Mutex::new(Ledger::new(depth)),
            vault: Mutex::default(),
            custody: Mutex::default(),
            by_provider: BTreeSet::new(),
            policies: false,
            ended: Notify::new(),
            started: Instant::now(),
            tracing,
        }
    }

    /// The providers of these senders broadcast by themselves.
    pub(super) fn with_provider(self, by_provider: BTreeSet<Address>) -> Self {
        Self { by_provider, ..self }
    }

    /// The operator sets policies of lanes.
    pub(super) fn with_policies(self, policies: bool) -> Self {
        Self { policies, ..self }
    }

    pub(super) fn is_by_provider(&self, sender: Address) -> bool {
        self.by_provider.contains(&sender)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }

    /// Draws from the schedule's randomness.
    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Rng, &Plan) -> T) -> T {
        let mut inner = self.inner();
        let Inner { rng, plan, .. } = &mut *inner;
        draw(rng, plan)
    }

    /// Whether a fault comes now.
    pub(super) fn fault(&self, name: &'static str, often: impl FnOnce(&Plan) -> u64) -> bool {
        let hit = self.draw(|rng, plan| rng.per_mille(often(plan)));
        if hit {
            self.saw(name);
        }
        hit
    }

    /// From now on everything works.
    pub(super) fn calm_down(&self) {
        self.note(|| "no more faults".into());
        let mut inner = self.inner();
        inner.plan = Plan::default();
        inner.calm = true;
    }

    /// A line at which a process may end, may have to wait, and lets others run. Every await of the workers that is not a pause
    /// of their own stands at one.
    pub(super) async fn line(&self, replica: usize, what: &'static str) {
        let (circle, crash, pause, turn) = {
            let mut inner = self.inner();
            inner.calls += 1;
            let circle = inner.calls > MOST_CALLS;
            if circle {
                inner.violations.push(format!("runs in a circle at {what}"));
                inner.calls = 0;
            }
            let Inner { rng, plan, crash_at, calls, calm, .. } = &mut *inner;
            let crash = crash_at.is_some_and(|at| at == *calls) || rng.per_mille(plan.crash / 2);
            let pause = if rng.per_mille(plan.slow) {
                Some(Duration::from_millis(rng.between(200, 20_000)))
            } else if !*calm && rng.per_mille(150) {
                Some(Duration::from_millis(rng.between(1, 60)))
            } else {
                None
            };
            (circle, crash, pause, !*calm && rng.per_mille(300))
        };
        if circle {
            // Or the clock, which moves only while everybody waits, would stand still for ever.
            std::future::pending::<()>().await;
        }
        if crash {
            self.saw("crash");
            self.note(|| format!("replica {replica} ends at {what}"));
            self.inner().ended.push(replica);
            self.ended.notify_one();
            std::future::pending::<()>().await;
        }
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None if turn => tokio::task::yield_now().await,
            None => {}
        }
    }

    /// Replicas that have ended since this was last asked.
    pub(super) fn take_ended(&self) -> Vec<usize> {
        std::mem::take(&mut self.inner().ended)
    }

    /// Lines passed so far.
    pub(super) fn lines(&self) -> u64 {
        self.inner().calls
    }

    /// Counts something that the schedules are meant to reach.
    pub(super) fn saw(&self, what: &'static str) {
        *self.inner().seen.entry(what).or_default() += 1;
    }

    /// Writes down what happened, where somebody reads it.
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.tracing {
            let line = format!("{:>9.3} {}", self.started.elapsed().as_secs_f64(), what());
            self.inner().trace.push(line);
        }
    }

    pub(super) fn is_tracing(&self) -> bool {
        self.tracing
    }

    /// Something that must never be.
    pub(super) fn violated(&self, what: String) {
        self.note(|| format!("VIOLATION {what}"));
        self.inner().violations.push(what);
    }

    pub(super) fn is_violated(&self) -> bool {
        !self.inner().violations.is_empty()
    }

    /// Violations, trace, and what came about.
    pub(super) fn report(&self) -> (Vec<String>, Vec<String>, BTreeMap<&'static str, u64>) {
        let mut inner = self.inner();
        (std::mem::take(&mut inner.violations), std::mem::take(&mut inner.trace), std::mem::take(&mut inner.seen))
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a lost connection to the database looks like.
pub(super) fn no_database() -> StoreError {
    StoreError::Database(sqlx::Error::PoolTimedOut)
}
