//! Lanes and single transactions for operators: how they stand, what holds them, and what may be asked of them.
//!
//! An action is one commit with its audit leaf. What needs a worker is written down and carried out by the worker of the lane.

mod holds;
mod policy;

pub use holds::{AccountView, Hold, HoldKind, holds};
pub use policy::{LanePolicy, PolicySetView};

use crate::{
    custody::ProviderHold,
    doctor::DatabaseReport,
    error::StoreError,
    flow::Failure,
    model::{ActionView, LaneId, OperationId, RequestId, ServiceName, TenantId, TransactionId, TransactionView},
    named::named,
    states::TransactionState,
    store::{self, Reads, Recovery},
};
use alloy::primitives::{Address, B256, U256};
use dalp_chain::Fees;
use sqlx::PgPool;
use std::{str::FromStr, time::Duration};
use time::OffsetDateTime;
use uuid::Uuid;

/// Most entries of a page.
const MOST: u32 = 500;

/// Reads and controls lanes and transactions of a tenant. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Operator {
    reads: Reads,
}

/// Which lanes to list.
#[derive(Debug, Clone, Default)]
pub struct LaneFilter {
    /// Only this chain.
    pub chain_id: Option<u64>,
    /// Only this sender.
    pub sender: Option<Address>,
    /// Only those with work that waits or is in flight.
    pub busy_only: bool,
}

/// A page of lanes, by chain and sender.
#[derive(Debug, Clone)]
pub struct LanePage {
    /// The lanes.
    pub lanes: Vec<LaneView>,
    /// Give it back as `after` for the next page; absent on the last one.
    pub next: Option<LaneId>,
}

/// How a lane stands in the engine's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneView {
    /// The lane.
    pub lane: LaneId,
    /// Unknown until it was first compared with the chain.
    pub next_nonce: Option<u64>,
    /// Waiting for a nonce.
    pub queued: u64,
    /// Nonces that are given and in no block yet.
    pub in_flight: u64,
    /// In a block, below finality.
    pub confirming: u64,
    /// When the oldest of those that wait or are in flight was ordered.
    pub oldest_at: Option<OffsetDateTime>,
    /// Its key waits for approvals.
    pub needs_approval: bool,
    /// Its sender's provider numbers and broadcasts by itself.
    pub by_provider: bool,
    /// What waits longest at the provider of its key.
    pub provider_hold: Option<ProviderHold>,
    /// Why it is paused, if it is.
    pub pause: Option<PauseView>,
    /// What an operator has set, or the default.
    pub policy: LanePolicy,
    /// Who set it, and why; absent: it is the default.
    pub policy_set: Option<PolicySetView>,
    /// A comparison was asked for and is not done.
    pub resync_pending: bool,
    /// Who works on it, by service.
    pub leases: Vec<LeaseView>,
}

/// Why a lane is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseView {
    /// Who paused it.
    pub by: String,
    /// The reason given.
    pub reason: String,
    /// When.
    pub at: OffsetDateTime,
}

/// Who works on a lane for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// The service.
    pub service: ServiceName,
    /// Its replica.
    pub holder: Option<String>,
    /// Until when, unless it is renewed.
    pub expires_at: Option<OffsetDateTime>,
    /// Whether it is in force.
    pub live: bool,
}

/// What stands at the front of a lane.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneFront {
    /// The lowest nonces in flight.
    pub in_flight: Vec<WaitingTransaction>,
    /// The next of the queue.
    pub queue: Vec<WaitingTransaction>,
    /// Nonces below the next one that nobody uses.
    pub holes: Vec<u64>,
}

/// A transaction that waits or is in flight.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingTransaction {
    /// Identifier.
    pub transaction_id: TransactionId,
    /// Where it stands.
    pub state: TransactionState,
    /// Finer detail.
    pub sub_status: String,
    /// Its nonce, once bound.
    pub nonce: Option<u64>,
    /// When it was ordered.
    pub created_at: OffsetDateTime,
    /// The last counted action on it.
    pub last: Option<ActionView>,
    /// Native amount.
    pub value_wei: U256,
    /// Gas limit of its attempt.
    pub gas_limit: Option<u64>,
    /// Prices of its attempt.
    pub fees: Option<Fees>,
    /// When its attempt was written.
    pub attempt_at: Option<OffsetDateTime>,
    /// A node has its attempt.
    pub sent: bool,
    /// Where it waits for somebody at the provider of its key.
    pub provider_hold: Option<ProviderHold>,
}

/// Which transactions to list.
#[derive(Debug, Clone, Default)]
pub struct TransactionFilter {
    /// Only this state.
    pub state: Option<TransactionState>,
    /// Only this chain.
    pub chain_id: Option<u64>,
    /// Only this sender.
    pub sender: Option<Address>,
}

/// Where a page of transactions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionCursor {
    /// The operation of the last one.
    pub operation_id: OperationId,
    /// Its place among the steps.
    pub position: i32,
}

/// A page of transactions, newest first.
#[derive(Debug, Clone)]
pub struct TransactionPage {
    /// Without their attempts.
    pub transactions: Vec<TransactionRecord>,
    /// Give it back as `after` for the next page; absent on the last one.
    pub next: Option<TransactionCursor>,
}

/// A transaction with what is known of it beside its state.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionRecord {
    /// As its operation shows it.
    pub view: TransactionView,
    /// The operation that ordered it.
    pub operation_id: OperationId,
    /// Kind of the operation.
    pub kind: String,
    /// Who asked for the operation.
    pub principal: String,
    /// The service that carries it out.
    pub service: ServiceName,
    /// Native amount.
    pub value_wei: U256,
    /// A cancel was asked for and has not come to an end.
    pub cancel_requested: bool,
    /// A higher price was asked for and is not dealt with.
    pub bump_requested: bool,
    /// Every request to the signer, oldest first; empty in lists.
    pub attempts: Vec<AttemptView>,
    /// When it was ordered.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// One request to the signer as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    /// Counted from 1.
    pub number: u32,
    /// What it was for.
    pub kind: AttemptPurpose,
    /// Where it stands.
    pub state: AttemptStanding,
    /// Its nonce; of a handover the one that the provider gave it, once a node has shown it.
    pub nonce: Option<u64>,
    /// Its gas limit; of a handover the provider decides.
    pub gas_limit: Option<u64>,
    /// Its prices; of a handover the provider decides.
    pub fees: Option<Fees>,
    /// Of a handover: the provider's own id of it, once it has told one.
    pub provider_id: String,
    /// Of a handover: hashes that the provider told before the present one.
    pub earlier_hashes: Vec<B256>,
    /// Hash of the signed bytes, or the one that the provider told last.
    pub tx_hash: Option<B256>,
    /// The provider has held it for an approval.
    pub held: bool,
    /// Where it waits for somebody there now.
    pub provider_hold: Option<ProviderHold>,
    /// Block that has it.
    pub block_number: Option<u64>,
    /// Tries in its present state.
    pub tries: u32,
    /// The request.
    pub request_id: RequestId,
    /// When it was written.
    pub created_at: OffsetDateTime,
    /// When its lane looks at it again; absent: at once.
    pub due_at: Option<OffsetDateTime>,
}

named! {
    /// What an attempt was for.
    AttemptPurpose {
        /// The call itself.
        Call = "CALL",
        /// The same call at a higher price.
        Replacement = "REPLACEMENT",
        /// A transfer of nothing to its own sender.
        Cancel = "CANCEL",
        /// The call itself, for the provider to number, price and broadcast.
        Handover = "HANDOVER",
    }
}

named! {
    /// Where an attempt stands.
    AttemptStanding {
        /// With the signer.
        Signing = "SIGNING",
        /// The provider has it and has told no hash.
        Handed = "HANDED",
        /// Signed, with no node yet.
        Signed = "SIGNED",
        /// A node has it, or the provider has told a hash.
        Sent = "SENT",
        /// Nobody knows what the provider made of it. It is still watched.
        Parked = "PARKED",
        /// The provider sent it, and it can never be included any more.
        Dropped = "DROPPED",
        /// In a block, below finality.
        Mined = "MINED",
        /// In a block, final.
        Done = "DONE",
        /// Another attempt took its place.
        Superseded = "SUPERSEDED",
        /// Signed and never sent.
        Sealed = "SEALED",
        /// Refused for good.
        Refused = "REFUSED",
    }
}

named! {
    /// What a cancel came to at once.
    CancelOutcome {
        /// It had no nonce, and is CANCELLED.
        Withdrawn = "withdrawn",
        /// The wish is recorded for the worker of its lane.
        ReplacementRecorded = "replacement recorded",
        /// The wish is recorded for the worker of its lane, who asks the provider to give it up. The provider may not.
        WithdrawalRecorded = "withdrawal recorded",
    }
}

named! {
    /// What kind of thing is dead.
    DeadLetterKind {
        /// A transaction that was parked.
        Transaction = "TRANSACTION",
        /// An operation whose flow cannot be asked.
        Operation = "OPERATION",
    }
}

/// Something that waits for an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// What kind of thing it is.
    pub kind: DeadLetterKind,
    /// Of the transaction or the operation.
    pub id: Uuid,
    /// The operation that waits for it.
    pub operation_id: OperationId,
    /// Kind of the operation.
    pub flow: String,
    /// The service that carries it out.
    pub service: ServiceName,
    /// The lane of a transaction.
    pub lane: Option<LaneId>,
    /// Finer detail.
    pub sub_status: String,
    /// Why it was parked.
    pub error: Failure,
    /// When.
    pub parked_at: OffsetDateTime,
    /// Nothing of it can be included in a block any more, so it may be retried or closed.
    pub decided: bool,
    /// Its operation still waits for it, so it may be retried.
    pub awaited: bool,
}

/// Where a page of dead letters ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterCursor {
    /// When the last one was parked.
    pub parked_at: OffsetDateTime,
    /// Its id.
    pub id: Uuid,
}

/// A page of dead letters, the latest first.
#[derive(Debug, Clone)]
pub struct DeadLetterPage {
    /// The dead letters.
    pub letters: Vec<DeadLetter>,
    /// Give it back as `after` for the next page; absent on the last one.
    pub next: Option<DeadLetterCursor>,
}

/// What asking for a recovery came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterAnswer {
    /// It was carried out.
    Done,
    /// The tenant has no such dead letter.
    NotFound,
    /// One of its attempts may still be included: retried, it could be carried out twice; closed, it would be said to have failed.
    Undecided,
    /// Its operation has ended by itself, so nothing waits for it: it can only be closed.
    OperationEnded,
}

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The tenant has no such lane or transaction.
    #[error("the tenant has no such thing")]
    NotFound,
    /// It is too late, or too early, for this.
    #[error("not possible as it stands")]
    NotPossible,
    /// The sender's provider broadcasts it by itself: only there it can be made faster or replaced.
    #[error("the provider broadcasts it, as {provider_id:?}")]
    ByProvider {
        /// The provider's own id of it.
        provider_id: String,
    },
    /// The database did not answer.
    #[error("not stored")]
    Store(#[from] StoreError),
}

// === impl Operator ===

impl Operator {
    /// Works through a pool.
    pub fn new(pool: PgPool) -> Self {
        Self { reads: Reads { pool } }
    }

    /// A page of lanes.
    pub async fn list_lanes(
        &self,
        tenant: &TenantId,
        filter: &LaneFilter,
        after: Option<LaneId>,
        page_size: u32,
    ) -> Result<LanePage, StoreError> {
        self.reads.lanes(tenant, filter, after, page_size.clamp(1, MOST)).await
    }

    /// One lane, with what stands at its front.
    pub async fn look_at_lane(
        &self,
        tenant: &TenantId,
        lane: LaneId,
    ) -> Result<Option<(LaneView, LaneFront)>, StoreError> {
        let Some(view) = self.reads.lane(tenant, lane).await? else { return Ok(None) };
        Ok(Some((view, self.reads.lane_front(lane).await?)))
    }

    /// From the commit of this on, the lane gives no nonce.
    pub async fn pause_lane(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        actor: &str,
        reason: &str,
    ) -> Result<LaneView, ControlError> {
        let done = store::retry_quickly("pause lane", || self.reads.pause_lane(tenant, lane, actor, reason)).await?;
        self.lane_after(done, tenant, lane).await
    }

    /// Lets a paused lane go on.
    pub async fn resume_lane(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        actor: &str,
        reason: &str,
    ) -> Result<LaneView, ControlError> {
        let done = store::retry_quickly("resume lane", || self.reads.resume_lane(tenant, lane, actor, reason)).await?;
        self.lane_after(done, tenant, lane).await
    }

    /// Records that the lane shall be compared with chain and signer again.
    pub async fn resync_lane(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        actor: &str,
        reason: &str,
    ) -> Result<LaneView, ControlError> {
        let done =
            store::retry_quickly("ask for resync", || self.reads.ask_resync(tenant, lane, actor, reason)).await?;
        self.lane_after(done, tenant, lane).await
    }

    /// Sets what the lane does with those who stand behind an approval. It counts for what asks to be accepted from the commit of this on.
    pub async fn set_lane_policy(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        policy: LanePolicy,
        actor: &str,
        reason: &str,
    ) -> Result<LaneView, ControlError> {
        let set = || self.reads.set_lane_policy(tenant, lane, policy, actor, reason);
        let done = store::retry_quickly("set lane policy", set).await?;
        self.lane_after(done, tenant, lane).await
    }

    async fn lane_after(&self, done: bool, tenant: &TenantId, lane: LaneId) -> Result<LaneView, ControlError> {
        let view = if done { self.reads.lane(tenant, lane).await? } else { None };
        view.ok_or(ControlError::NotFound)
    }

    /// A page of dead letters, the latest first.
    pub async fn list_dead_letters(
        &self,
        tenant: &TenantId,
        after: Option<DeadLetterCursor>,
        page_size: u32,
    ) -> Result<DeadLetterPage, StoreError> {
        self.reads.dead_letters(tenant, after, page_size.clamp(1, MOST)).await
    }

    /// Puts a parked transaction into its queue again, or has a flow asked again.
    pub async fn retry_dead_letter(
        &self,
        tenant: &TenantId,
        id: Uuid,
        actor: &str,
        reason: &str,
    ) -> Result<DeadLetterAnswer, StoreError> {
        let retry = || self.reads.recover(tenant, id, Recovery::Retry, actor, reason);
        store::retry_quickly("retry dead letter", retry).await
    }

    /// Ends a dead letter as failed.
    pub async fn close_dead_letter(
        &self,
        tenant: &TenantId,
        id: Uuid,
        actor: &str,
        reason: &str,
    ) -> Result<DeadLetterAnswer, StoreError> {
        let close = || self.reads.recover(tenant, id, Recovery::Close, actor, reason);
        store::retry_quickly("close dead letter", close).await
    }

    /// What the database says of itself, or why it says nothing.
    pub async fn examine_database(&self, patience: Duration) -> Result<DatabaseReport, String> {
        self.reads.examine(patience).await
    }

    /// One transaction with its attempts.
    pub async fn transaction(
        &self,
        tenant: &TenantId,
        id: TransactionId,
    ) -> Result<Option<TransactionRecord>, StoreError> {
        self.reads.transaction(tenant, id).await
    }

    /// A page of transactions, newest first, without their attempts.
    pub async fn list_transactions(
        &self,
        tenant: &TenantId,
        filter: &TransactionFilter,
        after: Option<TransactionCursor>,
        page_size: u32,
    ) -> Result<TransactionPage, StoreError> {
        self.reads.transactions(tenant, filter, after, page_size.clamp(1, MOST)).await
    }

    /// Withdraws a transaction, or has it replaced by a self-transfer.
    pub async fn cancel_transaction(
        &self,
        tenant: &TenantId,
        id: TransactionId,
        actor: &str,
        reason: &str,
    ) -> Result<(TransactionRecord, CancelOutcome), ControlError> {
        let cancel = || self.reads.cancel_transaction(tenant, id, actor, reason);
        let outcome = store::retry_quickly("cancel transaction", cancel).await?;
        let record = self.transaction(tenant, id).await?.ok_or(ControlError::NotFound)?;
        match outcome {
            Some(outcome) => Ok((record, outcome)),
            None => Err(record.refused()),
        }
    }

    /// Records that a sent transaction shall be replaced at a higher price.
    pub async fn bump_transaction(
        &self,
        tenant: &TenantId,
        id: TransactionId,
        actor: &str,
        reason: &str,
    ) -> Result<TransactionRecord, ControlError> {
        let bump = || self.reads.bump_transaction(tenant, id, actor, reason);
        let asked = store::retry_quickly("bump transaction", bump).await?;
        let record = self.transaction(tenant, id).await?.ok_or(ControlError::NotFound)?;
        if asked { Ok(record) } else { Err(record.refused()) }
    }
}

// === impl TransactionRecord ===

impl TransactionRecord {
    /// Why nothing can be done about it: it is with a provider that broadcasts by itself, or it is too late.
    fn refused(&self) -> ControlError {
        let open = matches!(self.view.state, TransactionState::Signing | TransactionState::Broadcasting);
        match self.attempts.last().filter(|last| open && last.kind == AttemptPurpose::Handover) {
            Some(last) => ControlError::ByProvider { provider_id: last.provider_id.clone() },
            None => ControlError::NotPossible,
        }
    }

    /// Why it failed or was parked.
    pub fn error(&self) -> Option<&Failure> {
        self.view.error.as_ref()
    }
}

// === impl DeadLetterCursor ===

impl std::fmt::Display for DeadLetterCursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.parked_at.unix_timestamp_nanos() / 1_000, self.id.simple())
    }
}

impl FromStr for DeadLetterCursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (micros, id) = text.split_once('.').ok_or("expected a time and an id")?;
        Ok(Self { parked_at: moment(micros)?, id: id.parse().map_err(|error: uuid::Error| error.to_string())? })
    }
}

/// PostgreSQL's clock has microseconds.
fn moment(micros: &str) -> Result<OffsetDateTime, String> {
    let micros: i64 = micros.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).map_err(|error| error.to_string())
}

// === impl TransactionCursor ===

impl std::fmt::Display for TransactionCursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.operation_id.0.simple(), self.position)
    }
}

impl FromStr for TransactionCursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, position) = text.split_once('.').ok_or("expected an operation and a position")?;
        let operation_id = id.parse().map_err(|error: uuid::Error| error.to_string())?;
        let position = position.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
        Ok(Self { operation_id, position })
    }
}
