//! What must hold of a schedule once its faults are over: the invariants, asked of tables and chain together.

use super::{
    ledger::Ledger,
    tables::{Phase, Place, Tables, TransactionRow},
    world::{World, locked},
};
use crate::{
    flow::StepOutcome,
    model::{OperationId, TransactionId},
    sim::flow::Order,
    states::{OperationState, TransactionState},
};
use alloy::primitives::B256;
use std::collections::BTreeMap;

/// Why the engine is not at rest. `None`: everything that was accepted has ended, and no lane has anything left to do.
pub(super) fn unrest(tables: &Tables, ledger: &Ledger) -> Option<String> {
    if let Some((id, _)) = tables.operations.iter().find(|(_, row)| row.state == OperationState::Running) {
        return Some(format!("operation {id} runs"));
    }
    if let Some((id, row)) = tables.transactions.iter().find(|(_, row)| !row.state.is_final()) {
        return Some(format!("transaction {id} is {} {}", row.state, row.sub_status));
    }
    let at_work = |phase: Phase| phase.is_open() || phase == Phase::Mined;
    if let Some((id, row)) = tables.attempts.iter().find(|(_, row)| at_work(row.phase) || row.release_pending) {
        return Some(format!("attempt {id} of nonce {} is {}", row.nonce, row.phase.as_str()));
    }
    let at_work = |place: Place| place.is_live() || place == Place::Mined;
    if let Some((id, row)) = tables.handovers.iter().find(|(_, row)| at_work(row.place)) {
        return Some(format!("handover {id} is {:?}", row.place));
    }
    if let Some((lane, nonce)) = tables.hole(|lane| ledger.next_nonce(lane.sender)) {
        return Some(format!("nonce {nonce} of {lane} is a hole"));
    }
    for lane in tables.lanes.keys() {
        let (given, mined) = (tables.free_from(*lane), ledger.next_nonce(lane.sender));
        if given > mined {
            return Some(format!("{lane} has given nonces up to {given}, the chain has used {mined}"));
        }
    }
    (!ledger.pool_is_empty()).then(|| "the pool is not empty".into())
}

/// Checks everything that ended.
pub(super) fn check(world: &World, accepted: &BTreeMap<String, OperationId>) {
    let (tables, ledger) = (locked(&world.tables), locked(&world.ledger));
    one_nonce_one_intent(world, &tables);
    for (id, row) in &tables.transactions {
        ended_once(world, &tables, &ledger, *id, row);
        told_once(world, &tables, *id, row);
        world.saw(row.state.as_str());
    }
    tables.attempts.values().for_each(|row| world.saw(row.phase.as_str()));
    for row in tables.handovers.values() {
        world.saw(match row.place {
            Place::Done => "handed over, DONE",
            Place::Dropped => "handed over, DROPPED",
            Place::Refused => "handed over, REFUSED",
            Place::At(_) | Place::Mined => "handed over, open",
        });
        if tables.attempts.values().any(|one| one.transaction_id == row.transaction_id) {
            world.violated(format!("{} was handed over and has a nonce of ours", row.transaction_id));
        }
    }
    for (key, id) in accepted {
        ended_as_its_steps_did(world, &tables, key, *id);
    }
    let orphans = tables.operations.keys().filter(|id| !accepted.values().any(|known| known == *id)).count();
    if orphans > 0 {
        world.violated(format!("{orphans} operations that nobody asked for"));
    }
    for receipt in ledger.blocks.iter().flat_map(|block| &block.receipts) {
        let hash = receipt.transaction_hash;
        let outside = ledger.transaction(hash).is_some_and(|sent| sent.outside);
        let done = tables.attempts.values().any(|one| one.tx_hash == Some(hash) && one.phase == Phase::Done)
            || tables.handovers.values().any(|one| one.tx_hash == Some(hash) && one.place == Place::Done);
        if !outside && !done {
            world.violated(format!("mined and not recorded as final: {hash}"));
        }
    }
}

/// Only one intent was ever signed for a nonce, and what replaces it keeps the call or cancels it.
fn one_nonce_one_intent(world: &World, tables: &Tables) {
    let mut owners: BTreeMap<_, TransactionId> = BTreeMap::new();
    for row in tables.attempts.values().filter(|row| row.raw.is_some()) {
        let owner = owners.entry((row.lane, row.nonce)).or_insert(row.transaction_id);
        if *owner != row.transaction_id {
            world.violated(format!("nonce {} of {} is signed for two intents", row.nonce, row.lane));
        }
    }
    for ((lane, nonce), row) in &tables.nonces {
        if owners.get(&(*lane, *nonce)).is_some_and(|owner| *owner != row.transaction_id) {
            world.violated(format!("nonce {nonce} of {lane} was signed for an intent that does not own it"));
        }
    }
}

/// The receipts of a call on the chain that stands: of any attempt of it, found by the call's own bytes.
fn receipts_of<'l>(ledger: &'l Ledger, row: &TransactionRow) -> Vec<(&'l B256, bool)> {
    let receipts = ledger.blocks.iter().flat_map(|block| &block.receipts);
    let is_it = |hash: &B256| {
        ledger.transaction(*hash).is_some_and(|sent| {
            let unsigned = &sent.unsigned;
            unsigned.sender == row.lane.sender && unsigned.data == row.data && !unsigned.data.is_empty()
        })
    };
    receipts
        .filter(|receipt| is_it(&receipt.transaction_hash))
        .map(|receipt| (&receipt.transaction_hash, receipt.succeeded))
        .collect()
}

/// Exactly one mined call, or a definite refusal and none.
fn ended_once(world: &World, tables: &Tables, ledger: &Ledger, id: TransactionId, row: &TransactionRow) {
    let receipts = receipts_of(ledger, row);
    let outcome = tables.steps.get(&(row.operation_id, row.step.clone())).and_then(|step| step.outcome.as_ref());
    let what = || format!("{id} is {} {:?} with receipts {receipts:?}", row.state, row.sub_status);
    let fits = match (row.state, row.sub_status.as_str()) {
        (TransactionState::Completed, _) => {
            receipts.len() == 1 && receipts[0].1 && row.tx_hash.as_ref() == Some(receipts[0].0)
        }
        (TransactionState::Failed, "reverted") => receipts.len() == 1 && !receipts[0].1,
        _ => receipts.is_empty(),
    };
    if !fits {
        world.violated(what());
    }
    let mined = match outcome {
        Some(StepOutcome::Mined { mined }) => Some(mined.tx_hash),
        _ => None,
    };
    let completed = row.state == TransactionState::Completed;
    if completed != mined.is_some() || (completed && mined != row.tx_hash) {
        world.violated(format!("{}, and its step ended with {outcome:?}", what()));
    }
}

/// One final event, and nothing told twice.
fn told_once(world: &World, tables: &Tables, id: TransactionId, row: &TransactionRow) {
    let of = |topic: &str| tables.outbox.iter().filter(|event| event.subject == id.0 && event.topic == topic).count();
    let withdrawn =
        row.state == TransactionState::Cancelled && !matches!(row.sub_status.as_str(), "cancelled" | "given_up");
    let (finals, retracted) = (of("engine.transaction.final"), of("engine.transaction.retracted"));
    let expected = usize::from(!withdrawn);
    if finals != expected {
        world.violated(format!("{id} is {} {}, told {finals} times", row.state, row.sub_status));
    }
    if retracted > 0 {
        world.saw("retracted");
    }
}

/// The operation says what became of its transactions.
fn ended_as_its_steps_did(world: &World, tables: &Tables, key: &str, id: OperationId) {
    let Some(row) = tables.operations.get(&id) else {
        return world.violated(format!("operation {id} of {key} was accepted and is not there"));
    };
    let finals =
        tables.outbox.iter().filter(|event| event.subject == id.0 && event.topic == "engine.operation.final").count();
    if finals != 1 {
        world.violated(format!("operation {id} is {}, told {finals} times", row.state));
    }
    let Ok(order) = serde_json::from_value::<Order>(row.order.clone()) else {
        return world.violated(format!("order of {id}"));
    };
    let of: Vec<_> = tables.transactions.values().filter(|one| one.operation_id == id).collect();
    let succeeded = of.iter().filter(|one| one.state == TransactionState::Completed).count() as u64;
    match row.state {
        OperationState::Completed => {
            let all = of.len() == order.together.len() + order.in_turn.len();
            if row.result != Some(serde_json::json!(succeeded)) || !all {
                world.violated(format!("operation {id} ended with {:?}, {succeeded} succeeded", row.result));
            }
        }
        OperationState::Failed | OperationState::Cancelled => {
            let in_turn = of.iter().filter(|one| one.step.starts_with("turn"));
            let completed = in_turn.filter(|one| one.state == TransactionState::Completed).count();
            if !order.in_turn.is_empty() && completed == order.in_turn.len() && !row.cancel_requested {
                world.violated(format!("operation {id} is {} and everything of it succeeded", row.state));
            }
        }
        OperationState::Running | OperationState::AwaitingChecker => {
            world.violated(format!("operation {id} runs"));
        }
    }
}
