//! What holds others up for longer than its lane lets it, and makes way for them.

use super::{LaneError, LaneWorker, handover::WITHDRAWN, sign::Sorted};
use crate::{
    custody::{Held, moves},
    flow::Failure,
    metric_definitions as metric,
    signer::{SignError, SignOutcome},
    store::{self, Attempt, AttemptKind},
};
use std::time::Duration;

/// For so long what was moved lets others of its lane go first, whatever their priority.
const LET_OTHERS_PASS: Duration = Duration::from_secs(2);

impl LaneWorker {
    /// Has the signer withdraw a held request that shall make way. Only its word that it is withdrawn, for good, lets the nonce go; with any other the request
    /// goes on as it was.
    pub(super) async fn withdrawn(&self, attempt: &Attempt, held: Held) -> Result<Option<Failure>, LaneError> {
        let call = attempt.kind == AttemptKind::Call && !attempt.transaction.cancel_requested;
        if !(call && moves(held, attempt.age, self.look.move_after)) {
            return Ok(None);
        }
        match self.shared.signer.withdraw(attempt.request_id).await {
            Ok(SignOutcome::Denied(failure)) if failure.reason == WITHDRAWN => Ok(Some(failure)),
            // Decided meanwhile, or nothing that a signer gives back: the next look tells.
            Ok(_) | Err(SignError::Refused(_) | SignError::NotFound) => Ok(None),
            Err(error) => {
                tracing::debug!(lane = %self.lane, request_id = %attempt.request_id, %error, "not withdrawn");
                Ok(None)
            }
        }
    }

    /// The request is withdrawn: its transaction goes behind those that wait, or ends when it has waited for as long as an approval may take.
    pub(super) async fn make_way(
        &mut self,
        attempt: Attempt,
        failure: Failure,
        sorted: &mut Sorted,
    ) -> Result<(), LaneError> {
        self.looked_at = None;
        if attempt.held_for >= self.shared.config.approval_deadline {
            let message = "not approved in time, with any of the nonces that it has had";
            return self.denied(attempt, "approval_expired", Failure::new("APPROVAL_EXPIRED", message), sorted).await;
        }
        let moved = store::retry("move reservation", || {
            self.shared.store.move_reservation(self.lane, &attempt, LET_OTHERS_PASS)
        })
        .await?;
        if !moved {
            return self.denied(attempt, "denied", failure, sorted).await;
        }
        metric::nonce_moved();
        tracing::info!(lane = %self.lane, nonce = attempt.nonce, transaction_id = %attempt.transaction.id, "a held reservation makes way");
        self.shared.changed();
        Ok(())
    }
}
