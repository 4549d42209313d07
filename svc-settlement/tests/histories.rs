//! Step names and stored orders are part of the contract: operations that an earlier version accepted go on with this one.
//!
//! `tests/histories` holds one finished operation per kind and version, as the database kept it. A new one is recorded by running
//! `tests/tests/settlement.rs` of the workspace with `DALP_RECORD_HISTORIES=1`; what is there is never written again.
#![allow(clippy::unwrap_used, missing_docs)]

use dalp_engine::{
    OperationId,
    flow::{History, RecordedStep, Verdict},
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use svc_settlement::flows;

/// A finished operation with its steps in their order.
#[derive(Deserialize)]
struct Recorded {
    kind: String,
    version: u32,
    operation_id: OperationId,
    order: serde_json::Value,
    steps: Vec<(String, RecordedStep)>,
    result: serde_json::Value,
}

#[test]
fn stored_histories_replay_step_by_step() {
    let flows = flows();
    let mut kinds = BTreeSet::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let Recorded { kind, version, operation_id, order, steps, result } = serde_json::from_str(&text).unwrap();
        let mut left: BTreeMap<String, RecordedStep> = steps.into_iter().collect();
        let mut history = History::default();
        // Each time the flow orders steps that were recorded, or it is done with all of them.
        loop {
            let decision = flows.ask(&kind, version, operation_id, &order, &history);
            match decision.verdict {
                Verdict::Done(outcome) => {
                    assert_eq!(outcome, result, "{kind}");
                    break;
                }
                Verdict::Waiting => {}
                other => panic!("{kind} after {:?}: {other:?}", history.steps.keys()),
            }
            assert!(!decision.new_steps.is_empty(), "{kind} waits for a step that has happened");
            for (name, _) in decision.new_steps {
                let step = left.remove(&name).unwrap_or_else(|| panic!("{kind}: {name} is a step that was not taken"));
                history.steps.insert(name, step);
            }
        }
        assert!(left.is_empty(), "{kind}: steps that were taken are left out: {:?}", left.keys());
        kinds.insert((kind, version));
    }
    let missing: Vec<_> =
        flows.kinds().filter(|(kind, version)| !kinds.contains(&((*kind).to_owned(), *version))).collect();
    assert!(missing.is_empty(), "no history of {missing:?}");
}
