//! Drives a flow without a database: everything it orders is carried out at once.

use alloy::primitives::{Address, B256, Bytes, Log as PrimitiveLog};
use alloy::sol_types::SolEvent;
use dalp_chain::Log;
use dalp_engine::{
    Call, Failure, Flow, Flows, Mined, OperationId, SignDocument, Signature,
    flow::{History, RecordedStep, StepInput, StepOutcome, Verdict},
};

/// What the flow ordered, by step name in order, and how it ended.
pub(crate) struct Played {
    pub(crate) calls: Vec<(String, Call)>,
    pub(crate) documents: Vec<(String, SignDocument)>,
    pub(crate) verdict: Verdict,
}

/// What becomes of the steps.
pub(crate) struct World<S, T> {
    /// Of a document to sign.
    pub(crate) sign: S,
    /// Of a transaction.
    pub(crate) transact: T,
}

pub(crate) fn play<F: Flow>(
    order: &F::Order,
    world: &World<impl Fn(&str) -> Result<(), Failure>, impl Fn(&str) -> Result<Vec<Log>, Failure>>,
) -> Played {
    let flows = Flows::new().with::<F>();
    let order = serde_json::to_value(order).expect("orders serialise");
    let (mut history, mut calls, mut documents) = (History::default(), Vec::new(), Vec::new());
    for _ in 0..200 {
        // Histories are stored as JSON: what does not survive that would not survive a restart.
        let stored = serde_json::to_string(&history).expect("serialises");
        history = serde_json::from_str(&stored).expect("parses");
        let decision = flows.ask(F::KIND, F::VERSION, OperationId(uuid::Uuid::from_u128(7)), &order, &history);
        if decision.verdict != Verdict::Waiting {
            return Played { calls, documents, verdict: decision.verdict };
        }
        assert!(!decision.new_steps.is_empty(), "the flow waits for nothing");
        for (name, input) in decision.new_steps {
            let outcome = match &input {
                StepInput::Transaction { call } => {
                    calls.push((name.clone(), call.clone()));
                    Some(match (world.transact)(&name) {
                        Ok(logs) => StepOutcome::Mined { mined: mined(logs) },
                        Err(failure) => StepOutcome::Failed { failure },
                    })
                }
                StepInput::Signature { document } => {
                    documents.push((name.clone(), document.clone()));
                    Some(match (world.sign)(&name) {
                        Ok(()) => StepOutcome::Signed { signature: Signature(Bytes::from(vec![1; 65])) },
                        Err(failure) => StepOutcome::Failed { failure },
                    })
                }
                StepInput::Group { .. } | StepInput::Value { .. } => None,
            };
            history.steps.insert(name, RecordedStep { input, outcome });
        }
    }
    panic!("the flow never ends");
}

/// An event of a contract.
pub(crate) fn log<E: SolEvent>(address: Address, event: &E) -> Log {
    Log { inner: PrimitiveLog { address, data: event.encode_log_data() }, ..Default::default() }
}

fn mined(logs: Vec<Log>) -> Mined {
    Mined {
        tx_hash: B256::repeat_byte(1),
        block_number: 9,
        block_hash: B256::repeat_byte(2),
        gas_used: 21_000,
        contract_address: None,
        logs,
    }
}
