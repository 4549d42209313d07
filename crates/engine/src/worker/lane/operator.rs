//! What an operator has asked of a lane or a transaction, carried out by the lane's worker.

use super::{LaneError, LaneWorker};
use crate::store::{self, Attempt, AttemptState};

impl LaneWorker {
    /// Compares the lane with chain and signer, and answers whoever asked for that before it began.
    pub(super) async fn compare(&mut self) -> Result<(), LaneError> {
        let asked = self.resync_asked.take();
        if let Err(error) = self.reconcile().await {
            self.resync_asked = asked;
            return Err(error);
        }
        if let Some(asked) = asked {
            store::retry("resynced", || self.shared.store.resynced(self.lane, asked)).await?;
            self.shared.changed();
        }
        Ok(())
    }

    /// A comparison that was asked for, as the last look shows it. `true`: it comes before anything else.
    pub(super) fn shall_compare(&mut self) -> bool {
        self.resync_asked = self.look.resync_asked.take();
        self.reconcile_due |= self.resync_asked.is_some();
        self.resync_asked.is_some()
    }

    /// Orders the higher prices that were asked for. Returns what goes on as it is, and whether anything was ordered.
    pub(super) async fn bump_as_asked(&self, due: Vec<Attempt>) -> Result<(Vec<Attempt>, bool), LaneError> {
        let asked = |attempt: &Attempt| {
            attempt.transaction.bump_requested
                && !attempt.is_cancel()
                && matches!(attempt.state, AttemptState::Signed | AttemptState::Sent)
        };
        let (to_bump, mut rest): (Vec<Attempt>, Vec<Attempt>) = due.into_iter().partition(asked);
        let mut ordered = false;
        for attempt in to_bump {
            if self.replaced(&attempt).await? {
                ordered = true;
            } else {
                let error = "the price that would be needed is above the cap";
                store::retry("drop bump", || self.shared.store.drop_bump(attempt.transaction.id, error)).await?;
                self.shared.changed();
                rest.push(attempt);
            }
        }
        Ok((rest, ordered))
    }
}
