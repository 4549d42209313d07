//! The replicas of a schedule: the engine's own workers, started, ended at any line, and started again on what survives.

use super::{
    flow::{Errand, Plain},
    ledger::CHAIN,
    memory::Memory,
    node::SimNode,
    rng::Rng,
    signer::SimSigner,
    world::{World, locked},
};
use crate::{
    engine::EngineConfig,
    flow::Flows,
    model::ServiceName,
    store::Records,
    worker::{self, Joint, Node, Shared},
};
use dalp_chain::{ChainConfig, FeePolicy, Finality};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{task::AbortHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How the replicas of a schedule run.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// The service of each replica. Two of one service compete for its lanes; two services share them.
    pub(super) services: Vec<&'static str>,
    engine: EngineConfig,
    chain: ChainConfig,
    pub(super) depth: u64,
    pub(super) block_every: Duration,
}

struct Running {
    shared: Arc<Shared>,
    aborts: Vec<AbortHandle>,
}

pub(super) struct Fleet {
    world: Arc<World>,
    setup: Setup,
    running: Mutex<Vec<Option<Running>>>,
    /// When each that has ended comes back.
    back_at: Mutex<BTreeMap<usize, Instant>>,
}

// === impl Setup ===

impl Setup {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let services = match rng.below(6) {
            0..=3 => vec!["svc-a"],
            4 => vec!["svc-a", "svc-a"],
            _ => vec!["svc-a", "svc-b"],
        };
        let seconds = |rng: &mut Rng, from: &[u64]| Duration::from_secs(rng.pick(from));
        let engine = EngineConfig {
            prepare_batch: rng.pick(&[1, 3, 100]),
            lane_window: rng.pick(&[1, 4, 400]),
            sign_concurrency: rng.pick(&[1, 3, 32]),
            sign_timeout: seconds(rng, &[3, 10]),
            fill_again: seconds(rng, &[4, 20]),
            rebroadcast_after: seconds(rng, &[3, 8]),
            replace_after: seconds(rng, &[6, 25]),
            slow_poll: Duration::from_millis(rng.pick(&[1_000, 3_000, 6_000])),
            lease: seconds(rng, &[2, 15]),
            retry_budget: rng.pick(&[2, 8, 30]) as u32,
            ..EngineConfig::new("", "")
        };
        let depth = rng.pick(&[0, 1, 2, 4]);
        let block_ms = rng.pick(&[1_000, 2_000, 4_000]);
        let chain = ChainConfig {
            chain_id: CHAIN,
            upstreams: Vec::new(),
            finality: if rng.per_mille(500) { Finality::Depth(depth) } else { Finality::FinalizedTag },
            fees: FeePolicy { max_fee_cap_wei: rng.pick(&[70_000_000_000, 500_000_000_000]), ..FeePolicy::default() },
            block_time_hint_ms: block_ms,
            request_timeout_ms: 1_000,
        };
        Self { services, engine, chain, depth, block_every: Duration::from_millis(block_ms) }
    }

    /// What makes way for others ends after so long.
    pub(super) fn approval_deadline(&mut self, after: Duration) {
        self.engine.approval_deadline = after;
    }

    /// Waits for the signer as long as it takes.
    pub(super) fn wait_for_ever(&mut self) {
        self.engine.sign_timeout = Duration::from_secs(1_000_000);
    }
}

// === impl Fleet ===

impl Fleet {
    pub(super) fn start(world: Arc<World>, setup: Setup) -> Self {
        let count = setup.services.len();
        let fleet =
            Self { world, setup, running: Mutex::new((0..count).map(|_| None).collect()), back_at: Mutex::default() };
        for replica in 0..count {
            fleet.start_one(replica);
        }
        fleet
    }

    pub(super) fn memory(&self, replica: usize) -> Memory {
        let service = ServiceName::new(self.setup.services[replica]);
        Memory { world: self.world.clone(), service, replica }
    }

    fn start_one(&self, replica: usize) {
        let world = self.world.clone();
        world.note(|| format!("replica {replica} starts"));
        let memory = self.memory(replica);
        let config = EngineConfig {
            service: memory.service.clone(),
            instance: format!("instance-{replica}"),
            ..self.setup.engine.clone()
        };
        let records: Arc<dyn Records> = Arc::new(memory);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (joint, mut aborts) = Joint::spawn(&records, &config, &tasks, &stop);
        let node = SimNode { world: world.clone(), replica, config: self.setup.chain.clone() };
        let chains = BTreeMap::from([(CHAIN, Arc::new(node) as Arc<dyn Node>)]);
        let signer = Arc::new(SimSigner { world, replica });
        let flows = Flows::new().with::<Errand>();
        let shared = Arc::new(Shared::new(config, records, joint, chains, signer, flows, Arc::new(Plain)));
        aborts.extend(worker::spawn(shared.clone(), &tasks, stop));
        locked(&self.running)[replica] = Some(Running { shared, aborts });
    }

    /// Ends replicas at whatever line they stand, like a killed process does.
    pub(super) fn end(&self, replicas: Vec<usize>) {
        for replica in replicas {
            if let Some(running) = locked(&self.running)[replica].take() {
                running.shared.kill_lanes();
                running.aborts.iter().for_each(AbortHandle::abort);
                let pause = self.world.draw(|rng, _| Duration::from_millis(rng.below(6_000)));
                locked(&self.back_at).insert(replica, Instant::now() + pause);
            }
        }
    }

    /// Starts what has been away for long enough.
    pub(super) fn bring_back(&self) {
        let now = Instant::now();
        let back: Vec<usize> =
            locked(&self.back_at).iter().filter(|(_, at)| **at <= now).map(|(replica, _)| *replica).collect();
        for replica in back {
            locked(&self.back_at).remove(&replica);
            self.start_one(replica);
        }
    }

    /// What a caller of the replica would reach.
    pub(super) fn shared(&self, replica: usize) -> Option<Arc<Shared>> {
        locked(&self.running)[replica].as_ref().map(|running| running.shared.clone())
    }

    /// A worker that ended by itself has panicked: none of them ever returns.
    pub(super) fn lost_workers(&self) -> usize {
        let running = locked(&self.running);
        running.iter().flatten().flat_map(|one| &one.aborts).filter(|abort| abort.is_finished()).count()
    }
}
