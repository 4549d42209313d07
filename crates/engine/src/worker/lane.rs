//! One lane of one service: prepare, sign, send, in rounds of whatever has gathered. The statements of a round are shared with
//! the other lanes.
//!
//! Simulation is done at one block that is known. Not at `pending`: a node would run its whole pool for each estimate, and
//! what is in a pool may never happen. So two transactions that need one another's effect must be two steps of a flow, which
//! waits for finality between them. What passes here and fails in its block is reported as `reverted`, with its reason.

mod handover;
mod make_way;
mod operator;
mod prepare;
mod reconcile;
mod send;
mod sign;

use super::{Node, Shared, market::Market, report};
use crate::{
    error::StoreError,
    jitter::jittered,
    metric_definitions as metric,
    model::{LaneId, RequestId},
    signer::SignError,
    states::TransactionState,
    store::{self, Attempt, AttemptState, LaneLook, QueueLook, Refusal},
};
use dalp_chain::{ChainError, FeeError, TransactionRequest};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// Looks without work after which the worker of a lane ends.
const IDLE_LOOKS: u32 = 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Fees(#[from] FeeError),
    #[error(transparent)]
    Signer(#[from] SignError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("request {0} of before a restore of this database is not decided yet")]
    Undecided(RequestId),
}

pub(super) struct LaneWorker {
    shared: Arc<Shared>,
    lane: LaneId,
    node: Arc<dyn Node>,
    poke: Arc<Notify>,
    stop: CancellationToken,
    /// How the lane stood when it was last looked at, kept up with what was done since.
    look: LaneLook,
    looked_at: Option<Instant>,
    /// When it was last compared with chain and signer.
    reconciled_at: Option<Instant>,
    /// Has to be compared with them before anything is sent.
    reconcile_due: bool,
    /// The comparison that is due answers whoever asked for it up to here.
    resync_asked: Option<u64>,
    hole_since: Option<Instant>,
}

// === impl LaneWorker ===

impl LaneWorker {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: LaneId,
        node: Arc<dyn Node>,
        poke: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared,
            lane,
            node,
            poke,
            stop,
            look: LaneLook::default(),
            looked_at: None,
            reconciled_at: None,
            reconcile_due: true,
            resync_asked: None,
            hole_since: None,
        }
    }

    /// Works until the lane has been idle for a while, or another replica has it. Whatever fails here fails for this lane only.
    pub(super) async fn run(mut self) {
        let mut idle_looks = 0;
        let mut pause = Duration::ZERO;
        loop {
            let result = if self.reconcile_due { self.compare().await.map(|()| true) } else { self.round().await };
            match result {
                Ok(_) if self.look.leased_elsewhere => return,
                Ok(progress) => {
                    pause = Duration::ZERO;
                    idle_looks = if progress { 0 } else { idle_looks + 1 };
                    if idle_looks > IDLE_LOOKS {
                        return;
                    }
                    if !progress && !super::next_turn(&self.stop, &self.poke, self.shared.config.slow_poll).await {
                        return;
                    }
                }
                Err(error) => {
                    self.looked_at = None; // nothing of the round that broke off is relied on
                    match &error {
                        LaneError::Store(error) if !error.is_retryable() => report("lane", error),
                        error => tracing::warn!(lane = %self.lane, %error, "lane waits"),
                    }
                    pause = (pause * 2).clamp(Duration::from_millis(100), Duration::from_secs(5));
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(jittered(pause, 0.5..1.0)) => {}
                    }
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// One round. `true`: there may be more to do at once.
    async fn round(&mut self) -> Result<bool, LaneError> {
        let mut progress = false;
        if self.looked_at.is_none_or(|at| at.elapsed() >= self.shared.config.slow_poll) {
            self.look = self.shared.joint.look(self.lane).await?;
            self.looked_at = Some(Instant::now());
            if self.look.leased_elsewhere {
                return Ok(false);
            }
            if self.shall_compare() {
                return Ok(true);
            }
            let due = std::mem::take(&mut self.look.due);
            let handovers = std::mem::take(&mut self.look.handovers);
            if !due.is_empty() {
                self.looked_at = None;
                progress |= self.deal_with(due).await?;
            }
            if !handovers.is_empty() {
                progress |= self.carry(handovers).await?;
            }
        }
        let room = self.room();
        if room == 0 {
            // What fills the window may wait behind a hole that another service has left.
            if !self.look.paused && !self.look.needs_approval {
                self.fill_old_holes().await?;
            }
            self.looked_at = None; // how it stands is known to the database only
            return Ok(progress);
        }
        let at_most = room.min(self.shared.config.prepare_batch);
        let queued = self.shared.joint.queued(QueueLook { lane: self.lane, at_most }).await?;
        if queued.is_empty() {
            self.fill_old_holes().await?;
            return Ok(progress);
        }
        let prepared = timed("prepare", self.prepare(&queued)).await?;
        progress |= prepared.progress;
        if !prepared.handed.is_empty() {
            self.carry(prepared.handed).await?;
        } else if prepared.bound.is_empty() {
            self.looked_at = None; // what was prepared and not bound has gone elsewhere, or the lane was paused
        } else {
            self.look.open += prepared.bound.len();
            if self.look.needs_approval || self.look.holes {
                self.looked_at = None;
            }
            self.sign_and_send(prepared.bound).await?;
        }
        Ok(progress)
    }

    /// Attempts that come up again: after a restart, after a pause, when no block has them yet, when they shall be cancelled.
    async fn deal_with(&mut self, due: Vec<Attempt>) -> Result<bool, LaneError> {
        let mut progress = false;
        for attempt in due.iter().filter(|attempt| attempt.release_pending) {
            self.release(attempt).await?;
        }
        let (to_cancel, mut due): (Vec<Attempt>, Vec<Attempt>) = due
            .into_iter()
            .filter(|attempt| attempt.state != AttemptState::Other)
            .partition(|attempt| attempt.transaction.cancel_requested && !attempt.is_cancel());
        for attempt in to_cancel {
            if self.cancel(&attempt).await? {
                progress = true;
            } else {
                due.push(attempt);
            }
        }
        let (mut due, bumped) = self.bump_as_asked(due).await?;
        progress |= bumped;
        due.sort_by_key(|attempt| attempt.nonce);
        let of = |state| due.iter().filter(|attempt| attempt.state == state).cloned().collect::<Vec<_>>();
        let (signing, signed, sent) = (of(AttemptState::Signing), of(AttemptState::Signed), of(AttemptState::Sent));
        if !sent.is_empty() {
            progress |= timed("resend", self.look_again(&sent)).await?;
        }
        if !signed.is_empty() {
            progress |= timed("send", self.send(&signed)).await?;
        }
        if !signing.is_empty() {
            progress |= self.sign_and_send(signing).await?;
        }
        Ok(progress)
    }

    /// How many more may be bound, or handed over: there what waits for the signer counts, and what waits at the provider holds nothing up. A key that needs approvals binds one at a time, so that a refused nonce is the highest.
    fn room(&self) -> usize {
        if self.look.by_provider && !self.look.paused {
            self.shared.config.lane_window.saturating_sub(self.look.handing)
        } else if self.look.filling || self.look.paused || self.look.next_nonce.is_none() {
            0
        } else if self.look.needs_approval {
            usize::from(self.look.signing == 0)
        } else {
            self.shared.config.lane_window.saturating_sub(self.look.open)
        }
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), LaneError> {
        match self.shared.signer.release(attempt.request_id).await {
            Ok(()) | Err(SignError::NotFound | SignError::Refused(_)) => {
                store::retry("released", || self.shared.store.released(attempt.request_id)).await?;
                Ok(())
            }
            // The signer has not decided it yet, so it still holds the nonce: asked again, or the lane could never use it.
            Err(error @ SignError::WatermarkConflict { .. }) => {
                let (pause, error) = (backoff(attempt.tries), error.to_string());
                store::retry("defer release", || {
                    self.shared.store.defer_attempt(attempt, pause, "release", "", &error, None)
                })
                .await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Nonces that nobody took, with transactions waiting behind them.
    async fn fill_old_holes(&mut self) -> Result<(), LaneError> {
        if !self.look.holes || self.look.open == 0 {
            self.hole_since = None;
            return Ok(());
        }
        if self.hole_since.get_or_insert_with(Instant::now).elapsed() >= self.shared.config.fill_again {
            self.hole_since = None;
            self.looked_at = None;
            let fees = self.market_fees().await?;
            store::retry("fill holes", || self.shared.store.fill_holes(self.lane, fees)).await?;
        }
        Ok(())
    }

    fn market(&self) -> &Market {
        self.shared.market(self.lane.chain_id)
    }

    fn request(&self, transaction: &store::QueuedTransaction) -> TransactionRequest {
        let mut request = TransactionRequest::default()
            .from(self.lane.sender)
            .value(transaction.value_wei)
            .input(transaction.data.clone().into());
        request.to = transaction.target.map(Into::into);
        request
    }
}

async fn timed<T>(stage: &'static str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = work.await;
    metric::stage(stage, started.elapsed());
    result
}

fn refusal(
    transaction: &store::QueuedTransaction,
    state: TransactionState,
    sub_status: &'static str,
    failure: crate::flow::Failure,
) -> Refusal {
    Refusal {
        tenant: transaction.tenant.clone(),
        operation_id: transaction.operation_id,
        transaction_id: transaction.id,
        state,
        sub_status,
        failure,
    }
}

/// Exponential with jitter, from a tenth of a second to ten seconds.
fn backoff(tries: u32) -> Duration {
    let millis = 100u64.saturating_mul(1 << tries.min(7)).min(10_000);
    jittered(Duration::from_millis(millis), 0.7..1.0)
}
