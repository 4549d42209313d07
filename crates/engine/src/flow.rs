//! Flows: pure, synchronous functions that read like the sequence in the requirements.
//!
//! A flow is asked again at every wake-up. Each step is recorded under its name; `?` suspends until the step has happened.
//! No clock, no randomness and no I/O may decide what a flow does, or it would not resume where it stopped. Step names are
//! the contract: a step may be added behind the others or before one that has not happened, never renamed.

mod cx;

pub use cx::Cx;

use crate::{
    checker::Amounts,
    model::{LaneId, OperationId, RequestId, TransactionId},
};
use alloy::primitives::{Address, B256, Bytes, U256};
use dalp_chain::Log;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashMap};

/// What a kind of operation does.
pub trait Flow: Send + Sync + 'static {
    /// Name of the kind, for instance `asset.transfer`. Stored; never changes.
    const KIND: &'static str;
    /// Raised when stored operations of the earlier version must go on as they were; both stay registered then.
    const VERSION: u32 = 1;
    /// What is asked for. Its canonical JSON is the payload that an idempotency key stands for.
    type Order: Serialize + DeserializeOwned + Send + 'static;
    /// What it ends with.
    type Outcome: Serialize;
    /// What it moves, in base units by asset or currency: a maker-checker policy compares it with its threshold. Nothing, unless a flow says so.
    fn amounts(_order: &Self::Order) -> Amounts {
        Amounts::default()
    }
    /// Decides the next steps from those that have happened.
    fn run(cx: &mut Cx<'_, Self::Order>) -> Step<Self::Outcome>;
}

/// The signer's reason for what the compliance attestor has vetoed.
const ATTESTATION_REFUSED: &str = "ATTESTATION_REFUSED";

/// The result of a step, or the reason to stop here for now.
pub type Step<T> = Result<T, Suspend>;

/// Why a flow stops. Made by [`Cx`] only; pass it on with `?`.
#[derive(Debug)]
pub struct Suspend(Stop);

#[derive(Debug)]
enum Stop {
    Waiting,
    Failed(Failure),
    Broken(String),
}

/// A definite refusal, in the words of the error catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// Reason of the catalogue, for instance `COMPLIANCE_REFUSED`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// For programs, for instance `module` and `module_reason`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// A transaction that a flow orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Who sends it; must belong to the tenant.
    pub sender: Address,
    /// Called contract; absent to create one.
    pub target: Option<Address>,
    /// Native amount.
    #[serde(rename = "value_wei")]
    pub value: U256,
    /// Calldata or creation code.
    pub data: Bytes,
    /// Read-only calls that must agree, at the same block as the simulation, before anything is signed.
    #[serde(default)]
    pub sensitive_checks: Vec<PreCheck>,
    /// The secret that the calldata lacks. Absent: the calldata is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// A word of the calldata that only the signer knows, and writes into it when it signs. Until then the word is zero.
///
/// Such a call cannot be simulated as it will be: it is run with the zero word, and passes when the contract has nothing else against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Under which the signer keeps it.
    pub id: uuid::Uuid,
    /// Gas that the call is given, since it cannot be estimated.
    pub gas_limit: u64,
    /// Unix seconds: the signer shows it no later than this.
    pub not_after_s: u64,
    /// The reason with which the contract refuses the zero word, and nothing else.
    pub lacking: String,
}

/// A read-only call whose answer can refuse a transaction with module and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreCheck {
    /// Contract to ask.
    pub target: Address,
    /// Calldata.
    pub data: Bytes,
    /// Names the rule by which [`Decoder::judge`] reads the answer.
    pub decoder: String,
}

/// A transaction that is final and succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mined {
    /// Its hash.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
    /// Hash of that block.
    pub block_hash: B256,
    /// Gas used.
    pub gas_used: u64,
    /// The created contract, for a creation.
    pub contract_address: Option<Address>,
    /// Its events, in order.
    pub logs: Vec<Log>,
}

/// Something other than a transaction that a flow has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SignDocument {
    /// An EIP-712 document.
    Eip712 {
        /// Signing address.
        signer: Address,
        /// `types`, `primaryType`, `domain` and `message`.
        document: serde_json::Value,
    },
    /// An ERC-735 claim.
    Claim {
        /// Address of the claim key.
        signer: Address,
        /// The identity contract the claim is about.
        identity: Address,
        /// Topic id.
        topic: B256,
        /// Claim data.
        data: Bytes,
    },
}

/// A signature, `r || s || v` of 65 bytes with low s and v 27 or 28.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(pub Bytes);

/// Turns what contracts answer into failures of the catalogue. Given by the service, which knows its contracts.
pub trait Decoder: Send + Sync + 'static {
    /// Reads revert data.
    fn decode_revert(&self, data: &[u8]) -> Failure;
    /// Judges the answer to a [`PreCheck`]; `decoder` is the name that the flow gave it.
    fn judge(&self, decoder: &str, answer: &[u8]) -> Result<(), Failure>;
}

/// What a step is, as stored when it is ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StepInput {
    /// A transaction.
    Transaction {
        /// The call.
        call: Call,
    },
    /// A fan-out of transactions `name[0]` ...
    Group {
        /// How many.
        count: usize,
    },
    /// A signature.
    Signature {
        /// The document.
        document: SignDocument,
    },
    /// A value decided once.
    Value {
        /// It.
        value: serde_json::Value,
    },
}

/// How a step ended, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StepOutcome {
    /// The transaction is final and succeeded.
    Mined {
        /// What it did.
        mined: Mined,
    },
    /// The signature is there.
    Signed {
        /// It.
        signature: Signature,
    },
    /// Refused for good.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// The recorded steps of one operation: everything a flow decides from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// By name: what was ordered and, once it has happened, how it ended.
    pub steps: BTreeMap<String, RecordedStep>,
}

/// One recorded step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedStep {
    /// What was ordered.
    pub input: StepInput,
    /// How it ended, once it has.
    pub outcome: Option<StepOutcome>,
}

/// What asking a flow once brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Steps to record, in order; transactions and signatures among them are to be carried out.
    pub new_steps: Vec<(String, StepInput)>,
    /// Whether it is done.
    pub verdict: Verdict,
}

/// Whether a flow is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It waits for steps.
    Waiting,
    /// It ended.
    Done(serde_json::Value),
    /// It failed by its own decision.
    Failed(Failure),
    /// It cannot be asked: the stored order or a stored step does not fit the code. Nothing is decided.
    Broken(String),
}

/// Which of the transactions of a lane goes first. Between lanes, and so between tenants, it decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Before everything else: what stops harm, for instance a freeze.
    Urgent,
    /// In the order in which it came.
    #[default]
    Normal,
    /// When nothing else waits: large batches.
    Bulk,
}

/// The flows that a service can run.
#[derive(Clone, Default)]
pub struct Flows {
    by_kind: HashMap<(String, u32), Ask>,
    priorities: HashMap<String, Priority>,
}

type Ask = fn(OperationId, &serde_json::Value, &History) -> Decision;

// === impl Flows ===

impl Flows {
    /// No flows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a flow.
    #[must_use]
    pub fn with<F: Flow>(mut self) -> Self {
        self.by_kind.insert((F::KIND.to_owned(), F::VERSION), ask::<F>);
        self
    }

    /// Gives kinds of flows a priority other than normal.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority, kinds: &[&str]) -> Self {
        self.priorities.extend(kinds.iter().map(|kind| ((*kind).to_owned(), priority)));
        self
    }

    /// The priority of what a flow of this kind orders.
    pub fn priority(&self, kind: &str) -> Priority {
        self.priorities.get(kind).copied().unwrap_or_default()
    }

    /// Whether a flow is registered.
    pub fn contains(&self, kind: &str, version: u32) -> bool {
        self.by_kind.contains_key(&(kind.to_owned(), version))
    }

    /// Every registered flow: its kind and version.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, u32)> {
        self.by_kind.keys().map(|(kind, version)| (kind.as_str(), *version))
    }

    /// Asks a flow what comes next. Also what the replay tests of stored histories call.
    pub fn ask(
        &self,
        kind: &str,
        version: u32,
        operation_id: OperationId,
        order: &serde_json::Value,
        history: &History,
    ) -> Decision {
        match self.by_kind.get(&(kind.to_owned(), version)) {
            // A defect of one flow must not end the worker that asks them all.
            Some(ask) => std::panic::catch_unwind(|| ask(operation_id, order, history)).unwrap_or_else(|_| Decision {
                new_steps: Vec::new(),
                verdict: Verdict::Broken(format!("flow {kind} version {version} panicked")),
            }),
            None => Decision {
                new_steps: Vec::new(),
                verdict: Verdict::Broken(format!("flow {kind} version {version} is not registered")),
            },
        }
    }
}

fn ask<F: Flow>(operation_id: OperationId, order: &serde_json::Value, history: &History) -> Decision {
    let order: F::Order = match serde_json::from_value(order.clone()) {
        Ok(order) => order,
        Err(error) => {
            return Decision {
                new_steps: Vec::new(),
                verdict: Verdict::Broken(format!("order of {}: {error}", F::KIND)),
            };
        }
    };
    let mut cx = Cx { operation_id, order: &order, history, new_steps: Vec::new() };
    let verdict = match F::run(&mut cx) {
        Ok(outcome) => match serde_json::to_value(outcome) {
            Ok(value) => Verdict::Done(value),
            Err(error) => Verdict::Broken(format!("outcome of {}: {error}", F::KIND)),
        },
        Err(Suspend(Stop::Waiting)) => Verdict::Waiting,
        Err(Suspend(Stop::Failed(failure))) => Verdict::Failed(failure),
        Err(Suspend(Stop::Broken(why))) => Verdict::Broken(why),
    };
    Decision { new_steps: cx.new_steps, verdict }
}

// === impl Priority ===

impl Priority {
    /// As the database orders by it.
    pub(crate) fn place(self) -> i16 {
        match self {
            Self::Urgent => -1,
            Self::Normal => 0,
            Self::Bulk => 1,
        }
    }
}

// === impl Failure ===

impl Failure {
    /// The reason of what was reverted in a block, while the same call at that block's end tells none.
    pub const REVERTED: &str = "TRANSACTION_REVERTED";

    /// A failure without metadata.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), metadata: BTreeMap::new() }
    }

    /// Adds metadata.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.metadata.insert(key.into(), value.to_string());
        self
    }

    /// Whether this is why: said by the chain itself, or by the compliance attestor, which looks a moment later and may be the first to see it.
    #[must_use]
    pub fn is_for(&self, reason: &str) -> bool {
        let attestor = || self.metadata.get("attestor_reason").map(String::as_str);
        self.reason == reason || self.reason == ATTESTATION_REFUSED && attestor() == Some(reason)
    }
}

// === impl Call ===

impl Call {
    /// A call without value and checks.
    pub fn new(chain_id: u64, sender: Address, target: Address, data: impl Into<Bytes>) -> Self {
        Self {
            chain_id,
            sender,
            target: Some(target),
            value: U256::ZERO,
            data: data.into(),
            sensitive_checks: Vec::new(),
            secret: None,
        }
    }

    /// Its lane.
    pub fn lane(&self) -> LaneId {
        LaneId { chain_id: self.chain_id, sender: self.sender }
    }
}

// === impl SignDocument ===

impl SignDocument {
    /// The signing address.
    pub fn signer(&self) -> Address {
        match self {
            Self::Eip712 { signer, .. } | Self::Claim { signer, .. } => *signer,
        }
    }
}

// === impl StepInput ===

impl StepInput {
    pub(crate) fn transaction_id(operation: OperationId, step: &str) -> TransactionId {
        TransactionId::of_step(operation, step)
    }

    pub(crate) fn request_id(operation: OperationId, step: &str) -> RequestId {
        RequestId::of_step(operation, step)
    }
}

#[cfg(test)]
mod tests;
