//! What a flow sees and asks for.

use super::{
    Call, Failure, History, Mined, RecordedStep, SignDocument, Signature, Step, StepInput, StepOutcome, Stop, Suspend,
};
use crate::model::OperationId;
use serde::{Serialize, de::DeserializeOwned};

/// What a flow sees: its order and the steps that have happened.
pub struct Cx<'a, O> {
    pub(super) operation_id: OperationId,
    pub(super) order: &'a O,
    pub(super) history: &'a History,
    pub(super) new_steps: Vec<(String, StepInput)>,
}

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
        match self.try_sign(name, document)? {
            Ok(signature) => Ok(signature),
            Err(failure) => self.fail(at_step(failure, name)),
        }
    }

    /// Like [`Cx::sign`], but the flow decides what a refusal means.
    pub fn try_sign(
        &mut self,
        name: &str,
        document: impl FnOnce() -> SignDocument,
    ) -> Step<Result<Signature, Failure>> {
        match self.step(name, || StepInput::Signature { document: document() })? {
            StepOutcome::Signed { signature } => Ok(Ok(signature)),
            StepOutcome::Failed { failure } => Ok(Err(failure)),
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
