//! What an operator asks of lanes and transactions: what [`crate::Operator`] does, and the workers' answers to it.

use super::{Done, Phase, Place, Tables};
use crate::{
    flow::{Failure, StepOutcome},
    model::{LaneId, ServiceName, TenantId, TransactionId},
    operator::{CancelOutcome, DeadLetterAnswer, LanePolicy},
    states::{OperationState, TransactionState},
    store::{AttemptKind, Recovery, Standing},
};
use serde_json::json;

impl Tables {
    pub(crate) fn pause_lane(&mut self, tenant: &TenantId, lane: LaneId, reason: &str) -> Done<bool> {
        self.set_paused(tenant, lane, true, "lane.pause", reason)
    }

    pub(crate) fn resume_lane(&mut self, tenant: &TenantId, lane: LaneId, reason: &str) -> Done<bool> {
        self.set_paused(tenant, lane, false, "lane.resume", reason)
    }

    fn set_paused(&mut self, tenant: &TenantId, lane: LaneId, paused: bool, action: &str, reason: &str) -> Done<bool> {
        let Some(row) = self.lanes.get_mut(&lane).filter(|row| row.tenant == *tenant) else { return Ok(false) };
        row.paused = paused;
        self.leaf(action, lane, json!({"reason": reason}));
        Ok(true)
    }

    pub(crate) fn set_lane_policy(
        &mut self,
        tenant: &TenantId,
        lane: LaneId,
        policy: LanePolicy,
        reason: &str,
    ) -> Done<bool> {
        let Some(row) = self.lanes.get_mut(&lane).filter(|row| row.tenant == *tenant) else { return Ok(false) };
        row.behind_approval = policy.behind_approval;
        row.hold_nonce_for = policy.hold_nonce_for;
        self.leaf("lane.set_policy", lane, policy.leaf(reason));
        Ok(true)
    }

    pub(crate) fn ask_resync(&mut self, tenant: &TenantId, lane: LaneId, reason: &str) -> Done<bool> {
        if self.lanes.get(&lane).is_none_or(|row| row.tenant != *tenant) {
            return Ok(false);
        }
        let mut asked = false;
        for (_, row) in self.leases.iter_mut().filter(|((_, of), _)| *of == lane) {
            row.resync_asked += 1;
            asked = true;
        }
        if asked {
            self.leaf("lane.ask_resync", lane, json!({"reason": reason}));
        }
        Ok(asked)
    }

    pub(crate) fn resynced(&mut self, service: &ServiceName, lane: LaneId, asked: u64) -> Done<()> {
        if let Some(row) = self.leases.get_mut(&(service.clone(), lane)) {
            row.resync_done = row.resync_done.max(asked);
            if row.resync_done > row.resync_asked {
                return super::broken("more comparisons done than were asked for");
            }
        }
        Ok(())
    }

    pub(crate) fn bump_transaction(&mut self, tenant: &TenantId, id: TransactionId, reason: &str) -> Done<bool> {
        let waits =
            |row: &&mut super::TransactionRow| row.tenant == *tenant && row.state == TransactionState::Broadcasting;
        let over = self.handovers_are_over(id);
        let Some(row) = self.transactions.get_mut(&id).filter(waits).filter(|_| over) else { return Ok(false) };
        row.bump_requested = true;
        row.note("bump_requested", "");
        for attempt in self.attempts.values_mut().filter(|one| one.transaction_id == id) {
            if matches!(attempt.phase, Phase::Signed | Phase::Sent) {
                attempt.due_at = self.begin;
            }
        }
        self.leaf("transaction.bump", id, json!({"reason": reason}));
        Ok(true)
    }

    pub(crate) fn drop_bump(&mut self, _: &ServiceName, id: TransactionId, error: &str) -> Done<()> {
        if let Some(row) = self.transactions.get_mut(&id).filter(|row| row.bump_requested) {
            row.bump_requested = false;
            row.note("bump", error);
        }
        Ok(())
    }

    /// Nothing of a dead letter can be included any more.
    pub(crate) fn is_decided(&self, id: TransactionId) -> bool {
        let Some(row) = self.transactions.get(&id) else { return false };
        if !self.handovers_are_over(id) {
            return false;
        }
        let Some(nonce) = row.nonce else { return true };
        let used_up = |one: &super::AttemptRow| {
            one.lane == row.lane && one.nonce == nonce && one.kind == AttemptKind::Cancel && one.phase == Phase::Done
        };
        self.attempts.values().any(used_up)
    }

    pub(crate) fn recover(
        &mut self,
        tenant: &TenantId,
        id: TransactionId,
        recovery: Recovery,
        reason: &str,
    ) -> Done<DeadLetterAnswer> {
        let dead = |row: &&super::TransactionRow| row.tenant == *tenant && row.state == TransactionState::DeadLetter;
        let Some(row) = self.transactions.get(&id).filter(dead) else { return Ok(DeadLetterAnswer::NotFound) };
        let (operation, step) = (row.operation_id, row.step.clone());
        let awaited = self.operations[&operation].state == OperationState::Running;
        if !self.is_decided(id) {
            return Ok(DeadLetterAnswer::Undecided);
        }
        let begin = self.begin;
        if recovery == Recovery::Retry {
            if !awaited {
                return Ok(DeadLetterAnswer::OperationEnded);
            }
            let row = self.become_state(id, TransactionState::Queued)?;
            row.sub_status = String::new();
            (row.nonce, row.tx_hash, row.error) = (None, None, None);
            (row.tries, row.due_at) = (0, begin);
            (row.cancel_requested, row.bump_requested) = (false, false);
            row.note("retry", "");
            self.leaf("dead_letter.retry", id, json!({"reason": reason, "operation_id": operation}));
            return Ok(DeadLetterAnswer::Done);
        }
        let row = self.become_state(id, TransactionState::Failed)?;
        let stored = row.error.clone().and_then(|error| serde_json::from_value::<Failure>(error).ok());
        let failure = stored.unwrap_or_else(|| Failure::new("DEAD_LETTER", "parked")).with("closed", reason);
        row.sub_status = "closed".to_owned();
        row.error = Some(json!(failure));
        row.note("close", "");
        let body = json!({
            "state": "FAILED", "sub_status": "closed", "tx_hash": row.tx_hash.map(alloy::hex::encode_prefixed),
            "block_number": row.block_number, "error": failure,
        });
        self.tell("engine.transaction.final", id, body);
        if let Some(step) = self.steps.get_mut(&(operation, step)).filter(|step| step.outcome.is_none()) {
            step.outcome = Some(StepOutcome::Failed { failure });
        }
        self.wake(operation);
        self.leaf("dead_letter.close", id, json!({"reason": reason, "operation_id": operation}));
        Ok(DeadLetterAnswer::Done)
    }

    pub(crate) fn cancel_transaction(
        &mut self,
        tenant: &TenantId,
        id: TransactionId,
        reason: &str,
    ) -> Done<Option<CancelOutcome>> {
        use TransactionState::{Broadcasting, Cancelled, Preparing, Queued, Received, Signing};
        let of_tenant = |row: &&super::TransactionRow| row.tenant == *tenant;
        let Some(state) = self.transactions.get(&id).filter(of_tenant).map(|row| row.state) else { return Ok(None) };
        let outcome = match state {
            Received | Queued | Preparing => {
                let failure = Failure::new("TRANSACTION_CANCELLED", reason);
                let row = self.become_state(id, Cancelled)?;
                row.sub_status = "withdrawn".to_owned();
                row.error = Some(json!(failure));
                let (operation, step) = (row.operation_id, row.step.clone());
                if let Some(step) = self.steps.get_mut(&(operation, step)).filter(|step| step.outcome.is_none()) {
                    step.outcome = Some(StepOutcome::Failed { failure });
                }
                self.wake(operation);
                CancelOutcome::Withdrawn
            }
            Signing | Broadcasting => {
                let sent = |place: Place| matches!(place, Place::At(Standing::Sent | Standing::Parked) | Place::Mined);
                if self.handovers.values().any(|one| one.transaction_id == id && sent(one.place)) {
                    return Ok(None);
                }
                if let Some(row) = self.transactions.get_mut(&id) {
                    row.cancel_requested = true;
                    row.note("cancel_requested", "");
                }
                for attempt in self.attempts.values_mut().filter(|one| one.transaction_id == id) {
                    if attempt.phase.is_open() {
                        attempt.due_at = self.begin;
                    }
                }
                let mut handed = false;
                for one in self.handovers.values_mut().filter(|one| one.transaction_id == id) {
                    if one.place.is_live() {
                        one.due_at = self.begin;
                        handed = true;
                    }
                }
                if handed { CancelOutcome::WithdrawalRecorded } else { CancelOutcome::ReplacementRecorded }
            }
            _ => return Ok(None),
        };
        self.leaf("transaction.cancel", id, json!({"reason": reason, "outcome": outcome.as_str()}));
        Ok(Some(outcome))
    }
}
