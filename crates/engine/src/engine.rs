//! Admission, and the life of the workers.

use crate::{
    audit,
    checker::Question,
    error::{AdmitError, StoreError},
    flow::{Decoder, Flow, Flows, History, StepInput, Verdict},
    metric_definitions as metric,
    model::{OperationId, OperationView, ServiceName, TenantId, TransactionId, TransactionView},
    probe::Probe,
    quota::{Quota, Room},
    reader::Reader,
    signer::Signer,
    states::TransactionState,
    store::{self, Admitted, KnownLanes, NewOperation, Reads, Records, Store},
    worker::{self, Joint, Node, Shared},
};
use dalp_chain::Upstreams;
use sqlx::PgPool;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use crate::store::AcceptHook;

/// How long an end may wait for leases to be given back; they run out by themselves.
const GIVES_BACK_WITHIN: Duration = Duration::from_secs(2);

/// How an engine runs. [`EngineConfig::new`] gives what suits most chains.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The service whose work this engine does.
    pub service: ServiceName,
    /// Stable name of this replica: after a restart it takes its own leases back at once. No two running replicas share it.
    pub instance: String,
    /// Most transactions of a lane that are simulated and bound together.
    pub prepare_batch: usize,
    /// Most transactions of a lane that are bound and not yet included.
    pub lane_window: usize,
    /// Most sign requests of a lane under way at once.
    pub sign_concurrency: usize,
    /// After this long without an answer a sign request counts as unanswered. It is made again under the same id.
    pub sign_timeout: Duration,
    /// Transactions that wait behind a given-back nonce wait this long for another one to take it, before a filler is asked for
    /// again.
    pub fill_again: Duration,
    /// Added to the node's gas estimate, because state may move between simulation and inclusion.
    pub gas_margin_percent: u64,
    /// After this long without a receipt the stored bytes are sent again.
    pub rebroadcast_after: Duration,
    /// After this long without a receipt the lowest transaction of a lane is replaced at a higher price.
    pub replace_after: Duration,
    /// Longest pause between looks at the database when no hint comes.
    pub slow_poll: Duration,
    /// How long a lane lease lasts unrenewed.
    pub lease: Duration,
    /// Most operations of one tenant that are unfinished at once.
    pub tenant_quota: u64,
    /// So long after it was first held a transaction that makes way for others ends as not approved in time.
    pub approval_deadline: Duration,
    /// How often a step is tried before its transaction is parked as DEAD_LETTER.
    pub retry_budget: u32,
    /// So long after its last change what has ended is moved to history.
    pub finished_kept: Duration,
    /// How often such is looked for; first after so long, when a release that does not know of history has been replaced.
    pub finished_every: Duration,
}

/// An operation that asks to be accepted.
pub struct Admission<F: Flow> {
    /// Owner.
    pub tenant: TenantId,
    /// Who asks.
    pub principal: String,
    /// Full name of the RPC, part of the scope of the key.
    pub method: String,
    /// The caller's key, or the one generated for it.
    pub idempotency_key: String,
    /// The canonical command.
    pub order: F::Order,
    /// The service's own rows, written in the same commit; not called on a repeat.
    pub hook: Option<AcceptHook>,
    /// What policies are asked, beside what the flow itself says it moves. None: the platform goes on by itself with what was accepted before,
    /// and no policy holds that.
    pub question: Option<Question>,
    /// Whoever asks hears the answer and may ask again, so that a lane may refuse it for the approval that holds it. False: the platform goes on by itself.
    pub refusable: bool,
}

/// An accepted operation.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// As it stands now.
    pub operation: OperationView,
    /// Whether an earlier request with the same key was accepted, and this is its operation.
    pub replayed: bool,
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The schema could not be brought up to date.
    #[error("schema")]
    Store(#[from] StoreError),
}

/// A running engine. Cheap to clone; [`Engine::stop`] ends it for all clones.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    /// For commits that carry rows of the service's own.
    store: Store,
    reader: Reader,
    probe: Probe,
    quota: Arc<Quota>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The commits that workers share; they end after the workers.
    stop_commits: CancellationToken,
    commits: TaskTracker,
    aborts: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

// === impl EngineConfig ===

impl EngineConfig {
    /// Defaults for a service replica.
    pub fn new(service: impl Into<String>, instance: impl Into<String>) -> Self {
        Self {
            service: ServiceName::new(service),
            instance: instance.into(),
            prepare_batch: 100,
            lane_window: 400,
            sign_concurrency: 32,
            sign_timeout: Duration::from_secs(30),
            fill_again: Duration::from_secs(30),
            gas_margin_percent: 25,
            rebroadcast_after: Duration::from_secs(10),
            replace_after: Duration::from_secs(60),
            slow_poll: Duration::from_millis(500),
            // A killed replica's lanes stand still for so long; the holder renews ten times meanwhile.
            lease: Duration::from_secs(5),
            tenant_quota: 100_000,
            approval_deadline: Duration::from_secs(86_400),
            retry_budget: 30,
            finished_kept: Duration::from_secs(90 * 86_400),
            finished_every: Duration::from_secs(3_600),
        }
    }
}

// === impl Admission ===

impl<F: Flow> Admission<F> {
    /// An admission without rows of the service's own.
    pub fn new(
        tenant: TenantId,
        principal: impl Into<String>,
        method: impl Into<String>,
        idempotency_key: impl Into<String>,
        order: F::Order,
    ) -> Self {
        Self {
            tenant,
            principal: principal.into(),
            method: method.into(),
            idempotency_key: idempotency_key.into(),
            order,
            hook: None,
            question: None,
            refusable: false,
        }
    }
}

// === impl Engine ===

impl Engine {
    /// Brings the schema up to date and starts the workers.
    pub async fn start(
        config: EngineConfig,
        pool: PgPool,
        chains: HashMap<u64, Upstreams>,
        signer: Arc<dyn Signer>,
        flows: Flows,
        decoder: Arc<dyn Decoder>,
    ) -> Result<Self, StartError> {
        store::migrate(&pool).await?;
        metric::describe();
        let kinds: Vec<String> = flows.kinds().map(|(kind, _)| kind.to_owned()).collect();
        let quota = Arc::new(Quota::new(config.tenant_quota));
        let known_lanes = Arc::new(KnownLanes::default());
        let store = Store { pool: pool.clone(), service: config.service.clone(), known_lanes };
        store.tell_kinds(kinds).await?;
        let records: Arc<dyn Records> = Arc::new(store.clone());
        let (commits, stop_commits) = (TaskTracker::new(), CancellationToken::new());
        let (joint, mut handles) = Joint::spawn(&records, &config, &commits, &stop_commits);
        let probe = Probe::new(chains.clone(), config.lane_window, Reads { pool: pool.clone() }, signer.clone());
        let chains = chains.into_iter().map(|(chain, node)| (chain, Arc::new(node) as Arc<dyn Node>)).collect();
        let shared = Arc::new(Shared::new(config, records, joint, chains, signer, flows, decoder));
        let engine = Self {
            shared: shared.clone(),
            store,
            reader: Reader::new(pool),
            probe,
            quota,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            stop_commits,
            commits,
            aborts: Arc::default(),
        };
        handles.extend(worker::spawn(shared.clone(), &engine.tasks, engine.stop.clone()));
        let keeping = worker::keep_checks(shared.clone(), engine.store.clone(), engine.stop.clone());
        handles.push(engine.tasks.spawn(keeping).abort_handle());
        let moving = worker::move_finished(shared, engine.store.clone(), engine.stop.clone());
        handles.push(engine.tasks.spawn(moving).abort_handle());
        engine.aborts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(handles);
        engine.tasks.close();
        engine.commits.close();
        Ok(engine)
    }

    /// Accepts an operation in one commit, or finds the one that the key stands for.
    pub async fn accept<F: Flow>(&self, admission: Admission<F>) -> Result<Accepted, AdmitError> {
        let (new, hook) = self.shared.asked(OperationId::generate(), admission)?;
        self.require_room(&new).await?;
        let admitted = match hook {
            Some(hook) => self.store.admit_with(&new, hook).await?,
            None => self.shared.joint.admit(new.clone()).await?,
        };
        match admitted {
            Admitted::New(at) => {
                self.shared.accepted(&new);
                self.quota.accepted(&new.tenant);
                Ok(Accepted { operation: view_of(new, at), replayed: false })
            }
            Admitted::Held(_) => {
                metric::operation_held(new.kind);
                self.quota.accepted(&new.tenant);
                self.shared.changed();
                let operation = self.reader.get_operation(&new.tenant, new.id).await?;
                let operation = operation.ok_or_else(|| StoreError::corrupt("a held operation that is not there"))?;
                Ok(Accepted { operation, replayed: false })
            }
            Admitted::Repeat(id) => {
                let operation = self.reader.get_operation(&new.tenant, id).await?;
                // Keys are kept for ever, and a month of history may have been taken out.
                let operation = operation.ok_or(AdmitError::Archived(id))?;
                Ok(Accepted { operation, replayed: true })
            }
            Admitted::OtherPayload(stored_hash) => Err(AdmitError::KeyReused {
                stored_hash: hex::encode(stored_hash),
                given_hash: hex::encode(new.command_hash),
            }),
            Admitted::ForeignLane(lane) => Err(AdmitError::LaneOfOtherTenant(lane)),
            Admitted::BehindApproval(held) => {
                metric::refused_behind_approval();
                Err(AdmitError::BehindApproval(Box::new(held)))
            }
        }
    }

    /// Refuses a tenant that has as much unfinished work as it may. A repeat is no more work.
    async fn require_room(&self, new: &NewOperation) -> Result<(), AdmitError> {
        let room = match self.quota.room(&new.tenant, Instant::now()) {
            Room::Yes => true,
            Room::No => false,
            Room::Unknown => {
                let count = || self.store.running(&new.tenant, self.quota.at_most());
                let running = store::retry_quickly("count running operations", count).await?;
                self.quota.counted(&new.tenant, running, Instant::now())
            }
        };
        if room || self.reader.order_of_key(&new.tenant, &new.principal, &new.method, &new.key).await?.is_some() {
            return Ok(());
        }
        metric::quota_refused();
        Err(AdmitError::QuotaExceeded { quota: self.quota.at_most() })
    }

    /// Has the signer asked again, at once, for the documents of an operation that it holds back: what they waited for has happened.
    /// Without this they come up by themselves, a second after they were last asked for.
    pub async fn ask_signer_again(&self, tenant: &TenantId, id: OperationId) -> Result<(), StoreError> {
        if self.store.ask_signer_again(tenant, id.0).await? {
            self.shared.signatures.notify_one();
        }
        Ok(())
    }

    /// Reads operations and the outbox.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What this engine can tell of its nodes.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Lets every worker finish the commit it is in, then ends and gives its lanes back, so that another replica goes on at once. Without one, unfinished
    /// work goes on at the next start.
    pub async fn stop(&self) {
        self.end().await;
        let given_back =
            tokio::time::timeout(GIVES_BACK_WITHIN, self.store.give_lanes_back(&self.shared.config.instance)).await;
        if !matches!(given_back, Ok(Ok(()))) {
            tracing::warn!(?given_back, "the leases of lanes are left to run out");
        }
    }

    /// Moves what ended so long ago to history at once, as a worker does by itself. Returns how many operations.
    ///
    /// # Errors
    /// When the database does not answer.
    #[cfg(feature = "testing")]
    pub async fn move_finished(&self, kept_for: Duration) -> Result<usize, StoreError> {
        let mut moved = 0;
        for mut walk in self.store.walks().await? {
            while self.store.move_finished(&mut walk, kept_for).await? {}
            moved += walk.moved();
        }
        Ok(moved)
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.stop_commits.cancel();
        self.commits.wait().await;
    }

    /// Ends every worker at whatever line it stands, like a killed process does. For crash tests.
    #[cfg(feature = "testing")]
    pub async fn kill(&self) {
        self.shared.kill_lanes();
        for handle in self.aborts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            handle.abort();
        }
        self.end().await;
    }
}

// === impl Shared ===

impl Shared {
    /// Asks the flow of a new operation for its first steps. Nothing is stored yet.
    pub(crate) fn asked<F: Flow>(
        &self,
        id: OperationId,
        admission: Admission<F>,
    ) -> Result<(NewOperation, Option<AcceptHook>), AdmitError> {
        if !self.flows.contains(F::KIND, F::VERSION) {
            return Err(AdmitError::UnknownFlow(F::KIND.to_owned()));
        }
        let order = serde_json::to_value(&admission.order)?;
        let decision = self.flows.ask(F::KIND, F::VERSION, id, &order, &History::default());
        if let Some(chain) = store::unknown_chain(&decision, &self.chain_ids) {
            return Err(AdmitError::UnknownChain(chain));
        }
        if let Verdict::Broken(why) = &decision.verdict {
            return Err(AdmitError::Database(StoreError::Corrupt(why.clone())));
        }
        let question = admission
            .question
            .map(|question| Question { amounts: question.amounts.merged(F::amounts(&admission.order)), ..question });
        let new = NewOperation {
            id,
            question,
            tenant: admission.tenant,
            principal: admission.principal,
            method: admission.method,
            key: admission.idempotency_key,
            command_hash: audit::command_hash(&order),
            kind: F::KIND,
            version: F::VERSION,
            order,
            decision,
            priority: self.flows.priority(F::KIND),
            refusable: admission.refusable,
        };
        Ok((new, admission.hook))
    }

    /// Tells the workers of an operation that was just stored.
    pub(crate) fn accepted(&self, new: &NewOperation) {
        metric::operation_accepted(new.kind);
        self.poke_lanes(store::lanes_of(&new.decision));
        if new.decision.new_steps.iter().any(|(_, input)| matches!(input, StepInput::Signature { .. })) {
            self.signatures.notify_one();
        }
        self.changed();
    }
}

/// What was just stored, without asking for it.
fn view_of(new: NewOperation, at: OffsetDateTime) -> OperationView {
    let state = new.state();
    let transactions = store::calls(&new.decision)
        .map(|(step, call)| TransactionView {
            transaction_id: TransactionId::of_step(new.id, step),
            step: step.to_owned(),
            lane: call.lane(),
            target: call.target,
            state: TransactionState::Queued,
            sub_status: String::new(),
            nonce: None,
            tx_hash: None,
            block_number: None,
            gas_used: None,
            error: None,
            history: Vec::new(),
        })
        .collect();
    let (result, error) = match new.decision.verdict {
        Verdict::Done(result) => (Some(result), None),
        Verdict::Failed(failure) => (None, Some(failure)),
        Verdict::Waiting | Verdict::Broken(_) => (None, None),
    };
    OperationView {
        operation_id: new.id,
        tenant: new.tenant,
        principal: new.principal,
        kind: new.kind.to_owned(),
        state,
        result,
        error,
        transactions,
        check: None,
        created_at: at,
        updated_at: at,
    }
}
