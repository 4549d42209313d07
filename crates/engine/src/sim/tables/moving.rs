//! A reservation that goes behind others.

use super::{Done, Phase, Tables};
use crate::{
    model::{LaneId, ServiceName},
    states::TransactionState,
    store::{Attempt, AttemptKind},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

impl Tables {
    pub(crate) fn move_reservation(
        &mut self,
        _: &ServiceName,
        lane: LaneId,
        attempt: &Attempt,
        pause: Duration,
    ) -> Done<bool> {
        let others = self.attempts.iter().any(|(id, one)| {
            let open = one.raw.is_some() || one.phase != Phase::Refused;
            *id != attempt.request_id && one.lane == lane && one.nonce == attempt.nonce && open
        });
        let begin = self.begin;
        let stands = |row: &&mut super::AttemptRow| row.phase == Phase::Signing && row.kind == AttemptKind::Call;
        let row = self.attempts.get_mut(&attempt.request_id).filter(stands).filter(|_| !others);
        let Some(row) = row else { return Ok(false) };
        row.phase = Phase::Refused;
        row.release_pending = true;
        row.due_at = begin;
        let id = attempt.transaction.id;
        if self.transactions.get(&id).is_some_and(|row| row.state == TransactionState::Signing) {
            self.sequence += 1;
            let sequence = self.sequence;
            let row = self.become_state(id, TransactionState::Queued)?;
            row.sub_status = "nonce_moved".to_owned();
            (row.nonce, row.tx_hash) = (None, None);
            row.moved_from = Some(attempt.nonce);
            row.sequence = sequence;
            row.due_at = Instant::now() + pause;
            row.note("nonce_moved", &format!("nonce {}", attempt.nonce));
        }
        self.release_nonce(lane, attempt.nonce)?;
        if let Some(row) = self.lanes.get_mut(&lane)
            && row.next_nonce == Some(attempt.nonce + 1)
        {
            row.next_nonce = Some(attempt.nonce);
        }
        let body = json!({"nonce": attempt.nonce, "request_id": attempt.request_id, "lane": lane.to_string()});
        self.leaf("transaction.move", id, body);
        Ok(true)
    }
}
