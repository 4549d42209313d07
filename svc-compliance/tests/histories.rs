//! Step names and stored orders are part of the contract: operations that an earlier version accepted go on with this one.
//!
//! `tests/histories` holds one finished operation per kind, as the database kept it. A new kind is recorded by running the tests
//! with `DALP_RECORD_HISTORIES=1`; what is there is never written again.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use dalp_engine::flow::{History, StepInput, Verdict};
use std::collections::BTreeSet;
use support::recorded::{Recorded, folder};
use svc_compliance::flows;

#[test]
fn stored_histories_replay_step_by_step() {
    let flows = flows::all();
    let mut kinds = BTreeSet::new();
    for file in std::fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let Recorded { kind, version, operation_id, order, steps, result } =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut history = History::default();
        let mut left = steps.into_iter().peekable();
        // After each recorded step the flow either waits, or orders exactly what was recorded next, or is done.
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
            for (name, _) in &decision.new_steps {
                // How many members a group has was decided then: another release may order more or fewer.
                if name.ends_with(']') {
                    continue;
                }
                let (recorded, step) =
                    left.next().unwrap_or_else(|| panic!("{kind}: {name} is a step that was not taken"));
                assert_eq!(*name, recorded, "{kind}: the next step has another name");
                let members = if let StepInput::Group { count } = step.input { count } else { 0 };
                history.steps.insert(recorded, step);
                history.steps.extend(left.by_ref().take(members));
            }
            assert!(!decision.new_steps.is_empty(), "{kind} waits for a step that has happened");
        }
        assert!(left.peek().is_none(), "{kind}: steps that were taken are left out");
        kinds.insert(kind);
    }
    let missing: Vec<_> = flows.kinds().filter(|(kind, _)| !kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "no history of {missing:?}");
}
