//! The tables of the engine in memory, under the rules of the schema. Each statement stands here once more, in Rust, beside
//! nothing but these rows; a test runs the same sequences of statements here and on PostgreSQL and compares every answer and
//! every row.

mod admission;
mod attempts;
mod blocks;
mod ends;
mod handovers;
mod lanes;
mod moving;
mod operator;

pub(crate) use handovers::{HandoverRow, Place};
pub(super) use lanes::Snapshot;

use super::bug::Bug;
use crate::{
    custody::{BehindApproval, Held},
    error::StoreError,
    flow::{PreCheck, Priority, Secret, StepInput, StepOutcome},
    model::{LaneId, OperationId, RequestId, ServiceName, TenantId, TransactionId},
    states::{OperationState, TransactionState},
    store::{Attempt, AttemptKind, AttemptState, Event, Inclusion, QueuedTransaction},
};
use alloy::primitives::{Address, B256, Bytes, U256};
use dalp_chain::Fees;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

#[derive(Debug, Clone)]
pub(crate) struct OperationRow {
    pub(crate) tenant: TenantId,
    pub(crate) service: ServiceName,
    pub(crate) kind: String,
    pub(crate) version: u32,
    pub(crate) order: serde_json::Value,
    pub(crate) state: OperationState,
    pub(crate) result: Option<serde_json::Value>,
    pub(crate) error: Option<serde_json::Value>,
    pub(crate) wake: bool,
    pub(crate) cancel_requested: bool,
    pub(crate) retry_at: Instant,
}

#[derive(Debug, Clone)]
pub(crate) struct StepRow {
    pub(crate) input: StepInput,
    pub(crate) outcome: Option<StepOutcome>,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) due_at: Option<Instant>,
    pub(crate) tries: u32,
    pub(crate) service: ServiceName,
}

#[derive(Debug, Clone)]
pub(crate) struct LaneRow {
    pub(crate) tenant: TenantId,
    pub(crate) next_nonce: Option<u64>,
    pub(crate) needs_approval: bool,
    pub(crate) paused: bool,
    pub(crate) by_provider: bool,
    pub(crate) behind_approval: BehindApproval,
    pub(crate) hold_nonce_for: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(crate) struct LeaseRow {
    pub(crate) holder: Option<String>,
    pub(crate) expires_at: Instant,
    pub(crate) resync_asked: u64,
    pub(crate) resync_done: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Action {
    pub(crate) name: String,
    pub(crate) tries: u32,
    pub(crate) last_error: String,
}

#[derive(Debug, Clone)]
pub(crate) struct TransactionRow {
    pub(crate) tenant: TenantId,
    pub(crate) operation_id: OperationId,
    pub(crate) step: String,
    pub(crate) sequence: u64,
    pub(crate) priority: Priority,
    pub(crate) service: ServiceName,
    pub(crate) lane: LaneId,
    pub(crate) target: Option<Address>,
    pub(crate) value_wei: U256,
    pub(crate) data: Bytes,
    pub(crate) checks: Vec<PreCheck>,
    pub(crate) secret: Option<Secret>,
    pub(crate) state: TransactionState,
    pub(crate) sub_status: String,
    pub(crate) nonce: Option<u64>,
    pub(crate) moved_from: Option<u64>,
    pub(crate) tx_hash: Option<B256>,
    pub(crate) block_number: Option<u64>,
    pub(crate) gas_used: Option<u64>,
    pub(crate) error: Option<serde_json::Value>,
    pub(crate) history: Vec<Action>,
    pub(crate) tries: u32,
    pub(crate) due_at: Instant,
    pub(crate) cancel_requested: bool,
    pub(crate) bump_requested: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NonceRow {
    pub(crate) transaction_id: TransactionId,
    pub(crate) released: bool,
}

/// Every state of an attempt, as the column holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Signing,
    Signed,
    Sent,
    Mined,
    Done,
    Superseded,
    Sealed,
    Refused,
}

#[derive(Debug, Clone)]
pub(crate) struct AttemptRow {
    pub(crate) transaction_id: TransactionId,
    pub(crate) number: u32,
    pub(crate) service: ServiceName,
    pub(crate) lane: LaneId,
    pub(crate) nonce: u64,
    pub(crate) kind: AttemptKind,
    pub(crate) replaces: Option<RequestId>,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
    pub(crate) phase: Phase,
    pub(crate) held: bool,
    pub(crate) hold: Option<Held>,
    pub(crate) release_pending: bool,
    pub(crate) raw: Option<Bytes>,
    pub(crate) tx_hash: Option<B256>,
    pub(crate) inclusion: Option<Inclusion>,
    pub(crate) tries: u32,
    pub(crate) due_at: Instant,
    pub(crate) created_at: Instant,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LeafRow {
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) body: serde_json::Value,
}

/// All of it.
#[derive(Clone)]
pub(crate) struct Tables {
    /// A defect put back.
    bug: Option<Bug>,
    /// Before everything: what is due since ever.
    begin: Instant,
    sequence: u64,
    pub(crate) operations: BTreeMap<OperationId, OperationRow>,
    pub(crate) idempotency: BTreeMap<Key, ([u8; 32], OperationId)>,
    pub(crate) steps: BTreeMap<(OperationId, String), StepRow>,
    pub(crate) lanes: BTreeMap<LaneId, LaneRow>,
    pub(crate) leases: BTreeMap<(ServiceName, LaneId), LeaseRow>,
    pub(crate) transactions: BTreeMap<TransactionId, TransactionRow>,
    pub(crate) nonces: BTreeMap<(LaneId, u64), NonceRow>,
    pub(crate) attempts: BTreeMap<RequestId, AttemptRow>,
    pub(crate) handovers: BTreeMap<RequestId, HandoverRow>,
    pub(crate) outbox: Vec<Event>,
    pub(crate) leaves: Vec<LeafRow>,
    /// Written back late, when a defect says so.
    unwritten: Vec<crate::store::SignedBytes>,
    /// Numbers from before the lock, when a defect says so.
    stale: Option<Snapshot>,
}

/// Tenant, principal, method and key.
pub(crate) type Key = (TenantId, String, String, String);

type Done<T> = Result<T, StoreError>;

/// A rule of the schema that a statement would have broken.
fn broken<T>(rule: impl std::fmt::Display) -> Done<T> {
    Err(StoreError::Corrupt(format!("refused by the schema: {rule}")))
}

// === impl Phase ===

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "SIGNING",
            Self::Signed => "SIGNED",
            Self::Sent => "SENT",
            Self::Mined => "MINED",
            Self::Done => "DONE",
            Self::Superseded => "SUPERSEDED",
            Self::Sealed => "SEALED",
            Self::Refused => "REFUSED",
        }
    }

    /// How a worker that looks at it sees it.
    fn seen_as(self) -> AttemptState {
        match self {
            Self::Signing => AttemptState::Signing,
            Self::Signed => AttemptState::Signed,
            Self::Sent => AttemptState::Sent,
            Self::Mined | Self::Done | Self::Superseded | Self::Sealed | Self::Refused => AttemptState::Other,
        }
    }

    /// Under way to a block.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Signing | Self::Signed | Self::Sent)
    }
}

// === impl Tables ===

impl Tables {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Self {
            bug,
            begin: Instant::now(),
            sequence: 0,
            operations: BTreeMap::new(),
            idempotency: BTreeMap::new(),
            steps: BTreeMap::new(),
            lanes: BTreeMap::new(),
            leases: BTreeMap::new(),
            transactions: BTreeMap::new(),
            nonces: BTreeMap::new(),
            attempts: BTreeMap::new(),
            handovers: BTreeMap::new(),
            outbox: Vec::new(),
            leaves: Vec::new(),
            unwritten: Vec::new(),
            stale: None,
        }
    }

    /// The next binding numbers from an older snapshot.
    pub(super) fn number_from(&mut self, snapshot: Snapshot) {
        self.stale = Some(snapshot);
    }

    /// A line per transaction, attempt and lane, for people.
    pub(super) fn summary(&self) -> Vec<String> {
        let lanes = self.lanes.iter().map(|(lane, row)| format!("{lane} {row:?}"));
        let transactions = self.transactions.iter().map(|(id, row)| {
            format!(
                "transaction {id} {} {} {:?} nonce {:?} {:?}",
                row.step,
                row.state,
                row.sub_status,
                row.nonce,
                row.history.last()
            )
        });
        let attempts = self.attempts.iter().map(|(id, row)| {
            let bytes = if row.raw.is_some() { "with bytes" } else { "" };
            let (phase, due) = (row.phase.as_str(), row.due_at.saturating_duration_since(self.begin));
            format!(
                "attempt {id} {:?} of {} nonce {} {phase} {bytes} {:?} due {due:?} tries {} release {}",
                row.kind, row.transaction_id, row.nonce, row.tx_hash, row.tries, row.release_pending
            )
        });
        let nonces = self.nonces.iter().filter(|(_, row)| row.released);
        let nonces = nonces.map(|((lane, nonce), _)| format!("nonce {nonce} of {lane} is given back"));
        let operations = self.operations.iter().map(|(id, row)| {
            format!("operation {id} {} wake {} {:?} {:?}", row.state, row.wake, row.result, row.error)
        });
        let handovers = self.handovers.iter().map(|(id, row)| {
            let due = row.due_at.saturating_duration_since(self.begin);
            format!(
                "handover {id} {} of {} {:?} {:?} nonce {:?} due {due:?} tries {}",
                row.number, row.transaction_id, row.place, row.hashes, row.chain_nonce, row.tries
            )
        });
        lanes.chain(operations).chain(transactions).chain(attempts).chain(handovers).chain(nonces).collect()
    }

    pub(crate) fn bug(&self) -> Option<Bug> {
        self.bug
    }

    /// The trigger of the transition table, and the check that nothing is included without a hash.
    fn become_state(&mut self, id: TransactionId, state: TransactionState) -> Done<&mut TransactionRow> {
        let Some(row) = self.transactions.get_mut(&id) else { return broken(format!("no transaction {id}")) };
        if row.state != state && !row.state.may_become(state) {
            return broken(format!("transaction {id} must not go from {} to {state}", row.state));
        }
        row.state = state;
        Ok(row)
    }

    /// The checks of an attempt's row, asked after each change of one.
    fn checked(&self, id: RequestId) -> Done<()> {
        let Some(row) = self.attempts.get(&id) else { return Ok(()) };
        let needs_bytes = matches!(row.phase, Phase::Signed | Phase::Sent | Phase::Mined | Phase::Done | Phase::Sealed);
        if needs_bytes && row.raw.is_none() {
            return broken(format!("attempt {id} is {} without bytes", row.phase.as_str()));
        }
        if row.raw.is_none() != row.tx_hash.is_none() {
            return broken(format!("attempt {id} has bytes without a hash, or a hash without bytes"));
        }
        Ok(())
    }

    fn insert_attempt(&mut self, id: RequestId, row: AttemptRow) -> Done<()> {
        if self.attempts.contains_key(&id) {
            return broken(format!("request {id} exists"));
        }
        if !self.nonces.contains_key(&(row.lane, row.nonce)) {
            return broken(format!("nonce {} of {} belongs to nobody", row.nonce, row.lane));
        }
        if row.gas_limit == 0 {
            return broken("gas limit 0");
        }
        self.attempts.insert(id, row);
        self.checked(id)
    }

    /// The trigger of the nonces: given back only once every request for it was refused.
    fn release_nonce(&mut self, lane: LaneId, nonce: u64) -> Done<()> {
        let of = |one: &&AttemptRow| one.lane == lane && one.nonce == nonce;
        let signed_only = self.bug == Some(Bug::GivenBackUndecided);
        let undecided = |one: &AttemptRow| one.raw.is_some() || (one.phase != Phase::Refused && !signed_only);
        let may_be_signed = self.attempts.values().filter(of).any(undecided);
        let Some(row) = self.nonces.get_mut(&(lane, nonce)) else { return Ok(()) };
        if !row.released && may_be_signed {
            return broken(format!("nonce {nonce} of {lane} may be signed for and cannot be released"));
        }
        row.released = true;
        Ok(())
    }

    fn wake(&mut self, id: OperationId) {
        if self.bug == Some(Bug::LostWakeUp) && self.sequence.is_multiple_of(2) {
            return;
        }
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.wake = operation.state == OperationState::Running;
        }
    }

    fn tell(&mut self, topic: &'static str, id: TransactionId, body: serde_json::Value) {
        let row = &self.transactions[&id];
        self.outbox.push(Event::transaction(topic, row.tenant.as_str(), row.operation_id.0, id.0, body));
    }

    fn leaf(&mut self, action: &str, subject: impl ToString, body: serde_json::Value) {
        self.leaves.push(LeafRow { action: action.to_owned(), subject: subject.to_string(), body });
    }

    fn queued_view(&self, id: TransactionId) -> QueuedTransaction {
        let row = &self.transactions[&id];
        QueuedTransaction {
            tenant: row.tenant.to_string(),
            id,
            operation_id: row.operation_id.0,
            target: row.target,
            value_wei: row.value_wei,
            data: row.data.clone(),
            checks: row.checks.clone(),
            secret: row.secret.clone(),
            tries: row.tries,
            state: row.state,
            cancel_requested: row.cancel_requested,
            bump_requested: row.bump_requested,
        }
    }

    /// Since the transaction of a held attempt was first held.
    fn held_for(&self, of: &AttemptRow) -> Duration {
        let held = self.attempts.values().filter(|one| of.held && one.held && one.transaction_id == of.transaction_id);
        held.map(|one| one.created_at.elapsed()).max().unwrap_or_default()
    }

    pub(crate) fn attempt_view(&self, id: RequestId) -> Attempt {
        let row = &self.attempts[&id];
        Attempt {
            transaction: self.queued_view(row.transaction_id),
            nonce: row.nonce,
            kind: row.kind,
            state: row.phase.seen_as(),
            request_id: id,
            replaces: row.replaces,
            gas_limit: row.gas_limit,
            fees: row.fees,
            held: row.held,
            release_pending: row.release_pending,
            raw: row.raw.clone(),
            tries: row.tries,
            age: row.created_at.elapsed(),
            held_for: self.held_for(row),
        }
    }
}

// === impl TransactionRow ===

impl TransactionRow {
    /// Counts an action: the same one in a row is one entry.
    fn note(&mut self, name: &str, error: &str) {
        match self.history.last_mut().filter(|last| last.name == name) {
            Some(last) => {
                last.tries += 1;
                last.last_error = error.to_owned();
            }
            None => self.history.push(Action { name: name.to_owned(), tries: 1, last_error: error.to_owned() }),
        }
    }
}
