//! Attempts on their way from the signer to a block.

use super::{AttemptRow, Done, Phase, Tables};
use crate::{
    custody::Held,
    model::{LaneId, RequestId, ServiceName, TransactionId},
    sim::bug::Bug,
    states::TransactionState,
    store::{Attempt, AttemptKind, AttemptState, Ending, NewAttempt, SignedBytes},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

fn on_its_way(state: TransactionState) -> bool {
    matches!(state, TransactionState::Signing | TransactionState::Broadcasting)
}

impl Tables {
    pub(super) fn add_attempt(
        &mut self,
        service: &ServiceName,
        lane: LaneId,
        new: &NewAttempt<'_>,
        pause: Duration,
    ) -> Done<()> {
        let (transaction_id, begin) = (new.of.transaction.id, self.begin);
        let at_nonce =
            |row: &AttemptRow| row.transaction_id == transaction_id && row.nonce == new.of.nonce && row.raw.is_some();
        let mut again = false;
        for row in self.attempts.values_mut().filter(|row| at_nonce(row)) {
            let same_content = (row.kind == AttemptKind::Cancel) == (new.kind == AttemptKind::Cancel);
            if same_content && row.gas_limit == new.gas_limit && row.fees == new.fees {
                row.phase = if row.phase == Phase::Superseded { Phase::Sent } else { row.phase };
                row.due_at = begin;
                again = true;
            }
        }
        if again && self.bug != Some(Bug::SameBytesTwice) {
            return Ok(());
        }
        let known = self.attempts.iter().filter(|(_, row)| {
            row.transaction_id == transaction_id && row.nonce == new.of.nonce && row.phase != Phase::Refused
        });
        let known = known.min_by_key(|(_, row)| {
            let number = i64::from(row.number);
            (row.raw.is_none(), if row.raw.is_none() { number } else { -number })
        });
        let known = known.filter(|_| self.bug != Some(Bug::ReplacesTheUnknown));
        let replaces = known.map_or(new.of.request_id, |(id, _)| *id);
        let number = self.last_number(transaction_id) + 1;
        let now = Instant::now();
        let row = AttemptRow {
            transaction_id,
            number,
            service: service.clone(),
            lane,
            nonce: new.of.nonce,
            kind: new.kind,
            replaces: Some(replaces),
            gas_limit: new.gas_limit,
            fees: new.fees,
            phase: Phase::Signing,
            held: false,
            hold: None,
            release_pending: false,
            raw: None,
            tx_hash: None,
            inclusion: None,
            tries: 0,
            due_at: now + pause,
            created_at: now,
        };
        self.insert_attempt(RequestId::of_attempt(transaction_id, number), row)
    }

    pub(crate) fn store_signed(&mut self, _: &ServiceName, given: &[SignedBytes]) -> Done<Vec<RequestId>> {
        if self.bug == Some(Bug::SentBeforeStored) {
            self.unwritten.extend(given.iter().cloned());
            return Ok(given.iter().map(|one| one.request_id).collect());
        }
        self.write_signed(given)
    }

    fn write_signed(&mut self, given: &[SignedBytes]) -> Done<Vec<RequestId>> {
        let mut stored = Vec::new();
        for one in given {
            if self.attempts.iter().any(|(id, row)| row.tx_hash == Some(one.tx_hash) && *id != one.request_id) {
                return super::broken(format!("hash {} belongs to another attempt", one.tx_hash));
            }
            let row = self.attempts.get_mut(&one.request_id);
            let stands = |row: &&mut AttemptRow| row.phase == Phase::Signing && row.held == one.held;
            let Some(row) = row.filter(stands) else { continue };
            if row.raw.as_ref().is_some_and(|raw| *raw != one.raw) {
                return super::broken(format!("attempt {} is written once", one.request_id));
            }
            row.phase = Phase::Signed;
            row.raw = Some(one.raw.clone());
            row.tx_hash = Some(one.tx_hash);
            row.tries = 0;
            row.due_at = self.begin;
            let id = row.transaction_id;
            stored.push(one.request_id);
            if !on_its_way(self.transactions[&id].state) {
                continue;
            }
            let row = self.become_state(id, TransactionState::Broadcasting)?;
            row.sub_status = String::new();
            row.tx_hash = Some(one.tx_hash);
            let body = json!({"state": "BROADCASTING", "sub_status": "", "nonce": row.nonce});
            self.tell("engine.transaction.pending", id, body);
        }
        Ok(stored)
    }

    pub(crate) fn mark_sent(&mut self, _: &ServiceName, ids: &[RequestId], again_after: Duration) -> Done<()> {
        if self.bug == Some(Bug::SentBeforeStored) {
            let late = std::mem::take(&mut self.unwritten);
            self.write_signed(&late)?;
        }
        let due_at = Instant::now() + again_after;
        for id in ids {
            let row = self.attempts.get_mut(id);
            let Some(row) = row.filter(|row| matches!(row.phase, Phase::Signed | Phase::Sent)) else { continue };
            row.phase = Phase::Sent;
            row.due_at = due_at;
            if let Some(row) = self.transactions.get_mut(&row.transaction_id)
                && row.state == TransactionState::Broadcasting
            {
                row.sub_status = "accepted_by_node".into();
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // those of the statement
    pub(crate) fn defer_attempt(
        &mut self,
        _: &ServiceName,
        attempt: &Attempt,
        pause: Duration,
        action: &str,
        sub_status: &str,
        error: &str,
        hold: Option<Held>,
    ) -> Done<()> {
        let stands = |row: &&mut AttemptRow| match attempt.state {
            AttemptState::Other => row.release_pending,
            seen => row.phase.seen_as() == seen,
        };
        let Some(row) = self.attempts.get_mut(&attempt.request_id).filter(stands) else { return Ok(()) };
        row.tries = if hold.is_some() { 0 } else { row.tries + 1 };
        row.due_at = Instant::now() + pause;
        row.held |= hold.is_some();
        row.hold = hold.or(row.hold);
        let lane = row.lane;
        if let Some(row) = self.transactions.get_mut(&attempt.transaction.id)
            && on_its_way(row.state)
        {
            row.sub_status = sub_status.to_owned();
            row.note(action, error);
        }
        if hold.is_some()
            && let Some(row) = self.lanes.get_mut(&lane)
        {
            row.needs_approval = true;
        }
        Ok(())
    }

    pub(crate) fn defer_queued(
        &mut self,
        _: &ServiceName,
        ids: &[TransactionId],
        pause: Duration,
        action: &str,
        sub_status: &str,
        error: &str,
    ) -> Done<()> {
        for id in ids {
            let waits = |row: &super::TransactionRow| {
                matches!(row.state, TransactionState::Queued | TransactionState::Preparing)
            };
            if !self.transactions.get(id).is_some_and(waits) {
                continue;
            }
            let row = self.become_state(*id, TransactionState::Preparing)?;
            row.sub_status = sub_status.to_owned();
            row.tries += 1;
            row.due_at = Instant::now() + pause;
            row.note(action, error);
        }
        Ok(())
    }

    pub(crate) fn signs_at_once(&mut self, _: &ServiceName, lane: LaneId) -> Done<()> {
        let held = |one: &AttemptRow| one.lane == lane && one.held && one.phase == Phase::Signing;
        if !self.attempts.values().any(held)
            && let Some(row) = self.lanes.get_mut(&lane)
        {
            row.needs_approval = false;
        }
        Ok(())
    }

    pub(crate) fn replace(&mut self, service: &ServiceName, lane: LaneId, new: &NewAttempt<'_>) -> Done<()> {
        let earlier = self.attempts.get_mut(&new.of.request_id).filter(|row| row.phase.is_open());
        match earlier {
            Some(earlier) => earlier.phase = Phase::Superseded,
            None if self.bug == Some(Bug::ReplacedOnceIncluded) => {}
            None => return Ok(()),
        }
        self.add_attempt(service, lane, new, Duration::ZERO)?;
        let is_cancel = new.kind == AttemptKind::Cancel;
        if let Some(row) = self.transactions.get_mut(&new.of.transaction.id)
            && on_its_way(row.state)
        {
            row.sub_status = if is_cancel { "cancelling" } else { "replacing" }.into();
            row.bump_requested = false;
            row.note(if is_cancel { "cancel" } else { "replace" }, "");
        }
        Ok(())
    }

    pub(crate) fn drop_replacement(
        &mut self,
        _: &ServiceName,
        refused: &Attempt,
        ending: Ending,
        pause: Duration,
        error: &str,
    ) -> Done<()> {
        if !self.refuse_signing(refused.request_id) {
            return Ok(());
        }
        let given_up = ending == Ending::Abandoned && self.bug != Some(Bug::UnansweredIsRefused);
        if let Some(row) = self.attempts.get_mut(&refused.request_id).filter(|_| given_up) {
            row.phase = Phase::Superseded;
            row.release_pending = false;
        }
        let now = Instant::now();
        let earlier = refused.replaces.and_then(|id| self.attempts.get_mut(&id));
        if let Some(row) = earlier.filter(|row| row.phase == Phase::Superseded) {
            let unsigned = row.raw.is_none();
            row.phase = if unsigned { Phase::Signing } else { Phase::Sent };
            row.created_at = now;
            row.due_at = if unsigned { now } else { now + pause };
        }
        if let Some(row) = self.transactions.get_mut(&refused.transaction.id)
            && on_its_way(row.state)
        {
            let signing = row.state == TransactionState::Signing;
            row.sub_status = if signing { "" } else { "accepted_by_node" }.into();
            row.cancel_requested = false;
            row.note(if refused.is_cancel() { "cancel" } else { "replace" }, error);
        }
        Ok(())
    }

    /// Whether it was with the signer until now.
    pub(super) fn refuse_signing(&mut self, id: RequestId) -> bool {
        let begin = self.begin;
        let row = self.attempts.get_mut(&id).filter(|row| row.phase == Phase::Signing);
        let Some(row) = row else { return false };
        row.phase = Phase::Refused;
        row.release_pending = true;
        row.due_at = begin;
        true
    }

    pub(crate) fn requeue_used_outside(&mut self, _: &ServiceName, lane: LaneId, attempt: &Attempt) -> Done<()> {
        for row in self.attempts.values_mut() {
            if row.lane == lane && row.nonce == attempt.nonce && row.phase.is_open() {
                row.phase = if row.raw.is_none() { Phase::Refused } else { Phase::Superseded };
            }
        }
        let id = attempt.transaction.id;
        let any_nonce = self.bug == Some(Bug::RequeuedWithAnotherNonce);
        let with_it =
            |row: &super::TransactionRow| on_its_way(row.state) && (row.nonce == Some(attempt.nonce) || any_nonce);
        if self.transactions.get(&id).is_some_and(with_it) {
            let row = self.become_state(id, TransactionState::Queued)?;
            row.sub_status = "nonce_used_outside".into();
            row.nonce = None;
            row.tx_hash = None;
            row.note("nonce_used_outside", &format!("nonce {}", attempt.nonce));
        }
        let parked = |row: &&mut super::TransactionRow| {
            row.state == TransactionState::DeadLetter && row.nonce == Some(attempt.nonce)
        };
        if let Some(row) = self.transactions.get_mut(&id).filter(parked) {
            row.nonce = None;
        }
        let body = json!({"nonce": attempt.nonce, "lane": lane.to_string()});
        self.leaf("lane.nonce_used_outside", id, body);
        Ok(())
    }

    pub(crate) fn overtake(&mut self, _: &ServiceName, lane: LaneId, nonces: &[u64]) -> Done<()> {
        let mined = |row: &&AttemptRow| row.lane == lane && matches!(row.phase, Phase::Mined | Phase::Done);
        let used: Vec<u64> = self.attempts.values().filter(mined).map(|row| row.nonce).collect();
        for row in self.attempts.values_mut() {
            let overtaken = row.lane == lane && nonces.contains(&row.nonce) && used.contains(&row.nonce);
            if overtaken && row.phase.is_open() {
                row.phase = if row.raw.is_none() { Phase::Refused } else { Phase::Superseded };
            }
        }
        Ok(())
    }

    pub(crate) fn released(&mut self, _: &ServiceName, id: RequestId) -> Done<()> {
        if let Some(row) = self.attempts.get_mut(&id) {
            row.release_pending = false;
        }
        Ok(())
    }
}
