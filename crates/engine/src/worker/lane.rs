//! One lane of one service: sign, send, prepare, in batches.
//!
//! Simulation is done at one block, the latest. Not at `pending`: a node would run its whole pool for each estimate, and
//! what is in a pool may never happen. So two transactions that need one another's effect must be two steps of a flow, which
//! waits for finality between them. What passes here and fails in its block is reported as `reverted`, with its reason.

mod prepare;
mod send;
mod sign;

use super::{Shared, report};
use crate::{
    error::StoreError,
    metric_definitions as metric,
    model::LaneId,
    signer::{SignError, SignOutcome},
    states::TransactionState,
    store::{self, Attempt, AttemptKind, AttemptState, LaneWork, Refusal},
};
use dalp_chain::{BlockNumberOrTag, ChainError, FeeError, Fees, TransactionRequest, Upstreams, fees};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
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
}

pub(super) struct LaneWorker {
    shared: Arc<Shared>,
    lane: LaneId,
    upstreams: Upstreams,
    poke: Arc<Notify>,
    stop: CancellationToken,
}

// === impl LaneWorker ===

impl LaneWorker {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: LaneId,
        upstreams: Upstreams,
        poke: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self { shared, lane, upstreams, poke, stop }
    }

    /// Works until the lane has been idle for a while. Whatever fails here fails for this lane only.
    pub(super) async fn run(self) {
        let mut reconciled = false;
        let mut idle_looks = 0;
        let mut pause = Duration::ZERO;
        loop {
            let result = if reconciled { self.advance().await } else { self.reconcile().await.map(|()| true) };
            match result {
                Ok(progress) => {
                    reconciled = true;
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
                    match &error {
                        LaneError::Store(error) if !error.is_retryable() => report("lane", error),
                        error => tracing::warn!(lane = %self.lane, %error, "lane waits"),
                    }
                    pause = (pause * 2).clamp(Duration::from_millis(100), Duration::from_secs(5));
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))) => {}
                    }
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// One round. `true`: there may be more to do at once.
    async fn advance(&self) -> Result<bool, LaneError> {
        let config = &self.shared.config;
        let work = store::retry("lane work", || self.shared.store.lane_work(self.lane, config.prepare_batch)).await?;
        let mut progress = false;
        let due = |state| work.due.iter().filter(move |attempt: &&Attempt| attempt.state == state).collect::<Vec<_>>();
        for attempt in work.due.iter().filter(|attempt| attempt.release_pending) {
            self.release(attempt).await?;
        }
        let (signing, signed, sent) = (due(AttemptState::Signing), due(AttemptState::Signed), due(AttemptState::Sent));
        if !sent.is_empty() {
            progress |= self.timed("resend", self.look_again(&sent)).await?;
        }
        if !signed.is_empty() {
            progress |= self.timed("send", self.send(&signed)).await?;
        }
        if !signing.is_empty() {
            progress |= self.timed("sign", self.sign(&work, &signing)).await?;
        }
        let room = self.room(&work);
        if room > 0 && !work.queued.is_empty() {
            progress |= self.timed("prepare", self.prepare(&work.queued[..room.min(work.queued.len())])).await?;
        }
        Ok(progress)
    }

    /// How many more may be bound. A key that needs approvals binds one at a time, so that a refused nonce is the highest.
    fn room(&self, work: &LaneWork) -> usize {
        if work.filling || work.next_nonce.is_none() {
            0
        } else if work.needs_approval {
            usize::from(work.signing == 0)
        } else {
            self.shared.config.lane_window.saturating_sub(work.open)
        }
    }

    async fn timed<T>(&self, stage: &'static str, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let result = work.await;
        metric::stage(stage, started.elapsed());
        result
    }

    /// Compares the lane with chain and signer before anything is sent.
    async fn reconcile(&self) -> Result<(), LaneError> {
        let latest = self.upstreams.nonce(self.lane.sender, BlockNumberOrTag::Latest).await?;
        let work = store::retry("lane work", || self.shared.store.lane_work(self.lane, 0)).await?;
        let mut least = latest;
        if work.next_nonce.is_none() {
            // A sender that we have never used: what others have in the pool is theirs.
            least = least.max(self.upstreams.nonce(self.lane.sender, BlockNumberOrTag::Pending).await?);
        }
        if let Some(tenant) = &work.tenant {
            let intents = match self.shared.signer.list_intents(tenant, self.lane, latest).await {
                Ok(intents) => intents,
                Err(SignError::NotFound | SignError::Refused(_)) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            if !intents.is_empty() {
                let known =
                    store::retry("known requests", || self.shared.store.known_requests(self.lane, latest)).await?;
                // Signed for a state of this database that a restore has lost: the nonce is taken, and must not stay a hole.
                for intent in intents.into_iter().filter(|intent| !known.contains(&intent.request_id)) {
                    if let SignOutcome::SignedTransaction { raw, .. } = intent.outcome {
                        let outcome = self.upstreams.send_raw(raw).await;
                        tracing::warn!(lane = %self.lane, nonce = intent.nonce, request_id = %intent.request_id, ?outcome, "signed transaction that this database does not know");
                        least = least.max(intent.nonce + 1);
                    }
                }
            }
        }
        store::retry("reconcile lane", || self.shared.store.reconcile_lane(self.lane, least)).await?;
        Ok(())
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), LaneError> {
        match self.shared.signer.release(attempt.request_id).await {
            Ok(()) | Err(SignError::NotFound | SignError::Refused(_) | SignError::WatermarkConflict { .. }) => {
                store::retry("released", || self.shared.store.released(attempt.request_id)).await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn market_fees(&self) -> Result<Fees, LaneError> {
        let inputs = self.upstreams.fee_inputs().await?;
        Ok(fees::price(&inputs, &self.upstreams.config().fees)?)
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
    Duration::from_millis(millis).mul_f64(rand::random_range(0.7..1.0))
}

fn is_cancel(attempt: &Attempt) -> bool {
    attempt.kind == AttemptKind::Cancel
}
