//! Flows: pure, synchronous functions that read like the sequence in the requirements.
//!
//! A flow is asked again at every wake-up. Each step is recorded under its name; `?` suspends until the step has happened.
//! No clock, no randomness and no I/O may decide what a flow does, or it would not resume where it stopped. Step names are
//! the contract: a step may be added behind the others or before one that has not happened, never renamed.

use crate::model::{LaneId, OperationId, RequestId, TransactionId};
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
    /// Decides the next steps from those that have happened.
    fn run(cx: &mut Cx<'_, Self::Order>) -> Step<Self::Outcome>;
}

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

/// What a flow sees: its order and the steps that have happened.
pub struct Cx<'a, O> {
    operation_id: OperationId,
    order: &'a O,
    history: &'a History,
    new_steps: Vec<(String, StepInput)>,
}

/// The flows that a service can run.
#[derive(Clone, Default)]
pub struct Flows {
    by_kind: HashMap<(String, u32), Ask>,
}

type Ask = fn(OperationId, &serde_json::Value, &History) -> Decision;

// === impl Cx ===

impl<'a, O> Cx<'a, O> {
    /// What is asked for.
    pub fn order(&self) -> &'a O {
        self.order
    }

    /// The operation, for instance as a salt that a repeat must not change.
    pub fn operation_id(&self) -> OperationId {
        self.operation_id
    }

    /// Sends a transaction and waits until it is final. Its refusal is the flow's.
    pub fn transact(&mut self, name: &str, call: impl FnOnce() -> Call) -> Step<Mined> {
        match self.try_transact(name, call)? {
            Ok(mined) => Ok(mined),
            Err(failure) => self.fail(at_step(failure, name)),
        }
    }

    /// Like [`Cx::transact`], but the flow decides what a refusal means.
    pub fn try_transact(&mut self, name: &str, call: impl FnOnce() -> Call) -> Step<Result<Mined, Failure>> {
        match self.step(name, || StepInput::Transaction { call: call() })? {
            StepOutcome::Mined { mined } => Ok(Ok(mined)),
            StepOutcome::Failed { failure } => Ok(Err(failure)),
            StepOutcome::Signed { .. } => broken(name, "a signature where a transaction was expected"),
        }
    }

    /// Sends transactions together and waits until all are final. The first refusal is the flow's.
    pub fn all<C: IntoIterator<Item = Call>>(&mut self, name: &str, calls: impl FnOnce() -> C) -> Step<Vec<Mined>> {
        let outcomes = self.try_all(name, calls)?;
        let mut mined = Vec::with_capacity(outcomes.len());
        for (index, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(one) => mined.push(one),
                Err(failure) => return self.fail(at_step(failure, &member(name, index))),
            }
        }
        Ok(mined)
    }

    /// Like [`Cx::all`], but the flow decides what a refusal means.
    pub fn try_all<C: IntoIterator<Item = Call>>(
        &mut self,
        name: &str,
        calls: impl FnOnce() -> C,
    ) -> Step<Vec<Result<Mined, Failure>>> {
        let Some(recorded) = self.history.steps.get(name) else {
            let calls: Vec<Call> = calls().into_iter().collect();
            let count = calls.len();
            self.new_steps.push((name.to_owned(), StepInput::Group { count }));
            for (index, call) in calls.into_iter().enumerate() {
                self.new_steps.push((member(name, index), StepInput::Transaction { call }));
            }
            return if count == 0 { Ok(Vec::new()) } else { Err(Suspend(Stop::Waiting)) };
        };
        let StepInput::Group { count } = recorded.input else {
            return broken(name, "recorded as another kind of step");
        };
        let mut outcomes = Vec::with_capacity(count);
        for index in 0..count {
            let one = member(name, index);
            match self.history.steps.get(&one).map(|step| &step.outcome) {
                None => return broken(&one, "not recorded"),
                Some(None) => return Err(Suspend(Stop::Waiting)),
                Some(Some(StepOutcome::Mined { mined })) => outcomes.push(Ok(mined.clone())),
                Some(Some(StepOutcome::Failed { failure })) => outcomes.push(Err(failure.clone())),
                Some(Some(StepOutcome::Signed { .. })) => {
                    return broken(&one, "a signature where a transaction was expected");
                }
            }
        }
        Ok(outcomes)
    }

    /// Has the signer sign a document and waits for the signature. A refusal is the flow's.
    pub fn sign(&mut self, name: &str, document: impl FnOnce() -> SignDocument) -> Step<Signature> {
        match self.step(name, || StepInput::Signature { document: document() })? {
            StepOutcome::Signed { signature } => Ok(signature),
            StepOutcome::Failed { failure } => self.fail(at_step(failure, name)),
            StepOutcome::Mined { .. } => broken(name, "a transaction where a signature was expected"),
        }
    }

    /// Records a value the first time and answers the same one ever after, even if the code that makes it has changed.
    pub fn value<T: Serialize + DeserializeOwned>(&mut self, name: &str, make: impl FnOnce() -> T) -> Step<T> {
        if let Some(RecordedStep { input: StepInput::Value { value }, .. }) = self.history.steps.get(name) {
            return serde_json::from_value(value.clone()).or_else(|error| broken(name, &error.to_string()));
        }
        let made = make();
        match serde_json::to_value(&made) {
            Ok(value) => {
                self.new_steps.push((name.to_owned(), StepInput::Value { value }));
                Ok(made)
            }
            Err(error) => broken(name, &error.to_string()),
        }
    }

    /// Ends the operation with a refusal.
    pub fn fail<T>(&self, failure: Failure) -> Step<T> {
        Err(Suspend(Stop::Failed(failure)))
    }

    /// Ends the operation.
    pub fn done<T>(&self, outcome: T) -> Step<T> {
        Ok(outcome)
    }

    fn step(&mut self, name: &str, input: impl FnOnce() -> StepInput) -> Step<StepOutcome> {
        match self.history.steps.get(name) {
            Some(RecordedStep { outcome: Some(outcome), .. }) => Ok(outcome.clone()),
            Some(RecordedStep { outcome: None, .. }) => Err(Suspend(Stop::Waiting)),
            None => {
                if self.new_steps.iter().any(|(taken, _)| taken == name) {
                    return broken(name, "two steps of one name");
                }
                self.new_steps.push((name.to_owned(), input()));
                Err(Suspend(Stop::Waiting))
            }
        }
    }
}

fn broken<T>(name: &str, why: &str) -> Step<T> {
    Err(Suspend(Stop::Broken(format!("step {name}: {why}"))))
}

fn member(name: &str, index: usize) -> String {
    format!("{name}[{index}]")
}

fn at_step(mut failure: Failure, name: &str) -> Failure {
    failure.metadata.entry("step".into()).or_insert_with(|| name.to_owned());
    failure
}

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

    /// Whether a flow is registered.
    pub fn contains(&self, kind: &str, version: u32) -> bool {
        self.by_kind.contains_key(&(kind.to_owned(), version))
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
            Some(ask) => ask(operation_id, order, history),
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

// === impl Failure ===

impl Failure {
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
