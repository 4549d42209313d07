//! How transactions end: refused, given up, final.

use super::{AttemptRow, Done, Phase, Tables};
use crate::{
    flow::StepOutcome,
    model::{LaneId, OperationId, ServiceName, TransactionId},
    sim::bug::Bug,
    states::TransactionState,
    store::{Attempt, AttemptKind, Ending, FILL_GAS, NewAttempt, Refusal},
};
use alloy::primitives::keccak256;
use dalp_chain::Fees;
use serde_json::json;
use std::{cmp::Reverse, time::Duration};

impl Tables {
    pub(super) fn settle(
        &mut self,
        settled: Vec<(Refusal, Option<StepOutcome>)>,
        from: &[TransactionState],
    ) -> Done<()> {
        for (refusal, _) in &settled {
            self.wake(OperationId(refusal.operation_id));
        }
        for (refusal, outcome) in settled {
            let id = refusal.transaction_id;
            if !self.transactions.get(&id).is_some_and(|row| from.contains(&row.state)) {
                continue;
            }
            let completed = refusal.state == TransactionState::Completed;
            let row = self.become_state(id, refusal.state)?;
            row.sub_status = refusal.sub_status.to_owned();
            row.error = (!completed).then(|| json!(refusal.failure));
            let body = json!({
                "state": row.state, "sub_status": row.sub_status, "tx_hash": row.tx_hash.map(alloy::hex::encode_prefixed),
                "block_number": row.block_number, "error": row.error,
            });
            let key = (row.operation_id, row.step.clone());
            let parked = refusal.state == TransactionState::DeadLetter;
            self.tell(if parked { "engine.transaction.pending" } else { "engine.transaction.final" }, id, body);
            if let Some(step) = self.steps.get_mut(&key).filter(|step| step.outcome.is_none() && !parked) {
                step.outcome = Some(outcome.unwrap_or(StepOutcome::Failed { failure: refusal.failure }));
            }
        }
        Ok(())
    }

    pub(crate) fn refuse_queued(&mut self, _: &ServiceName, refusals: Vec<Refusal>) -> Done<()> {
        let from = [TransactionState::Queued, TransactionState::Preparing];
        self.settle(refusals.into_iter().map(|refusal| (refusal, None)).collect(), &from)
    }

    pub(crate) fn end_attempts(
        &mut self,
        service: &ServiceName,
        lane: LaneId,
        ended: Vec<(Attempt, Refusal)>,
        ending: Ending,
        fill_fees: Fees,
    ) -> Done<()> {
        let timeout_is_final = self.bug == Some(Bug::ReleasedOnOurOwnTimeout);
        let ending = if timeout_is_final && ending == Ending::Abandoned { Ending::Refused } else { ending };
        let from = [TransactionState::Signing, TransactionState::Broadcasting];
        let mut ended_here: Vec<Attempt> = Vec::new();
        for (attempt, refusal) in ended {
            let begin = self.begin;
            let stands = |row: &&mut AttemptRow| row.phase.seen_as() == attempt.state;
            let row = self.attempts.get_mut(&attempt.request_id).filter(|row| row.phase.is_open()).filter(stands);
            let Some(row) = row else { continue };
            if row.raw.is_none() {
                row.raw = attempt.raw.clone();
                row.tx_hash = attempt.raw.as_ref().map(keccak256);
            }
            row.phase = match ending {
                Ending::Refused => Phase::Refused,
                Ending::Sealed if self.bug == Some(Bug::SealedIsSent) => Phase::Signed,
                Ending::Sealed => Phase::Sealed,
                Ending::Abandoned => Phase::Superseded,
            };
            row.release_pending = ending == Ending::Refused;
            row.due_at = begin;
            self.checked(attempt.request_id)?;
            self.settle(vec![(refusal, None)], &from)?;
            ended_here.push(attempt);
        }
        ended_here.sort_by_key(|attempt| Reverse(attempt.nonce));
        let mut next = self.next_nonce(lane)?;
        for attempt in &ended_here {
            let highest = attempt.nonce + 1 == next || self.bug == Some(Bug::UnfilledGap);
            let given_back = ending == Ending::Refused && attempt.kind == AttemptKind::Call && highest;
            if given_back {
                self.release_nonce(lane, attempt.nonce)?;
                next = if attempt.nonce + 1 == next { attempt.nonce } else { next };
            } else {
                let new = NewAttempt { of: attempt, kind: AttemptKind::Cancel, gas_limit: FILL_GAS, fees: fill_fees };
                self.add_attempt(service, lane, &new, Duration::ZERO)?;
            }
            let body = json!({"nonce": attempt.nonce, "request_id": attempt.request_id, "filled": !given_back});
            self.leaf("transaction.refused", attempt.transaction.id, body);
        }
        self.set_next_nonce(lane, next);
        Ok(())
    }

    fn next_nonce(&self, lane: LaneId) -> Done<u64> {
        let next = self.lanes.get(&lane).and_then(|row| row.next_nonce);
        next.map_or_else(|| super::broken("a lane that binds has a next nonce"), Ok)
    }

    fn set_next_nonce(&mut self, lane: LaneId, next: u64) {
        if let Some(row) = self.lanes.get_mut(&lane) {
            row.next_nonce = Some(next);
        }
    }

    pub(crate) fn refuse_filler(
        &mut self,
        service: &ServiceName,
        lane: LaneId,
        filler: &Attempt,
        pause: Duration,
    ) -> Done<()> {
        let next = self.next_nonce(lane)?;
        if !self.refuse_signing(filler.request_id) {
            return Ok(());
        }
        let signed_only = self.bug == Some(Bug::GivenBackUndecided);
        let undecided = |one: &AttemptRow| one.raw.is_some() || (one.phase != Phase::Refused && !signed_only);
        let may_be_signed =
            self.attempts.values().any(|one| one.lane == lane && one.nonce == filler.nonce && undecided(one));
        if may_be_signed {
            let (kind, gas_limit, fees) = (AttemptKind::Cancel, filler.gas_limit, filler.fees);
            self.add_attempt(service, lane, &NewAttempt { of: filler, kind, gas_limit, fees }, pause)?;
        } else {
            self.release_nonce(lane, filler.nonce)?;
            if filler.nonce + 1 == next {
                self.set_next_nonce(lane, filler.nonce);
            }
        }
        let body = json!({"nonce": filler.nonce, "request_id": filler.request_id, "given_back": !may_be_signed});
        self.leaf("lane.filler_refused", filler.transaction.id, body);
        Ok(())
    }

    pub(crate) fn fill_holes(&mut self, service: &ServiceName, lane: LaneId, fees: Fees) -> Done<()> {
        if self.bug == Some(Bug::UnfilledGap) {
            return Ok(());
        }
        let next = self.next_nonce(lane)?;
        let holes: Vec<(u64, TransactionId)> = self
            .nonces
            .range((lane, 0)..(lane, next))
            .filter(|(_, row)| row.released)
            .map(|((_, nonce), row)| (*nonce, row.transaction_id))
            .collect();
        for (nonce, transaction) in holes {
            let of = self
                .attempts
                .iter()
                .filter(|(_, one)| one.lane == lane && one.nonce == nonce && one.transaction_id == transaction);
            let Some(id) = of.max_by_key(|(_, one)| one.number).map(|(id, _)| *id) else { continue };
            let last = self.attempt_view(id);
            if let Some(row) = self.nonces.get_mut(&(lane, nonce)) {
                row.released = false;
            }
            let new = NewAttempt { of: &last, kind: AttemptKind::Cancel, gas_limit: FILL_GAS, fees };
            self.add_attempt(service, lane, &new, Duration::ZERO)?;
        }
        Ok(())
    }

    /// The first nonce of a lane that only a further transaction will use: those that were given back at its top count as such.
    pub(crate) fn free_from(&self, lane: LaneId) -> u64 {
        let given_back = |nonce: u64| self.nonces.get(&(lane, nonce)).is_some_and(|row| row.released);
        let mut next = self.lanes.get(&lane).and_then(|row| row.next_nonce).unwrap_or(0);
        while next > 0 && given_back(next - 1) {
            next -= 1;
        }
        next
    }

    /// A nonce that nobody uses although something stands behind it.
    pub(crate) fn hole(&self, used_below: impl Fn(LaneId) -> u64) -> Option<(LaneId, u64)> {
        let is_one = |lane: LaneId, nonce: u64| nonce < self.free_from(lane) && nonce >= used_below(lane);
        let of = self.nonces.iter().filter(|((lane, nonce), row)| row.released && is_one(*lane, *nonce));
        of.map(|(key, _)| *key).next()
    }
}
