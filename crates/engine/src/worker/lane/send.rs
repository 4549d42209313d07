//! Send stored bytes, look again, replace.

use super::{LaneError, LaneWorker, backoff, is_cancel};
use crate::{
    error::StoreError,
    store::{self, Attempt, AttemptKind, NewAttempt},
    worker::chain,
};
use alloy::primitives::Bytes;
use dalp_chain::{BlockNumberOrTag, SendOutcome, fees};
use std::time::Duration;

/// A used nonce without a receipt of ours is looked at again after this long.
const RECEIPT_LAG: Duration = Duration::from_millis(500);

impl LaneWorker {
    /// Sends stored bytes in the order of their nonces.
    pub(super) async fn send(&self, attempts: &[&Attempt]) -> Result<bool, LaneError> {
        let shared = &self.shared;
        let raws: Vec<Bytes> = attempts.iter().map(|attempt| bytes(attempt)).collect::<Result<_, _>>()?;
        let outcomes = self.upstreams.send_raw_batch(raws).await;
        let (mut sent, mut used) = (Vec::new(), Vec::new());
        for (attempt, outcome) in attempts.iter().copied().zip(outcomes) {
            match outcome {
                SendOutcome::Accepted | SendOutcome::AlreadyKnown => sent.push(attempt.request_id),
                SendOutcome::NonceTooLow => used.push(attempt),
                SendOutcome::Underpriced | SendOutcome::ReplacementUnderpriced => self.bump(attempt).await?,
                SendOutcome::InsufficientFunds { .. } => {
                    self.later(attempt, "insufficient_funds", "the sender cannot pay").await?
                }
                SendOutcome::NonceTooHigh => {
                    self.later(attempt, "waiting_for_nonce", "the node waits for lower nonces").await?
                }
                SendOutcome::PoolFull => self.later(attempt, "retrying_upstream", "the pool is full").await?,
                SendOutcome::Rejected(error) if attempt.tries >= shared.config.retry_budget => {
                    self.give_up(attempt, error).await?
                }
                SendOutcome::Rejected(error) | SendOutcome::Unknown(error) => {
                    self.later(attempt, "retrying_upstream", &error).await?
                }
            }
        }
        let progress = !sent.is_empty();
        if progress {
            store::retry("mark sent", || shared.store.mark_sent(&sent, shared.config.rebroadcast_after)).await?;
            shared.changed();
        }
        self.used(&used).await?;
        Ok(progress)
    }

    /// Sent long ago and in no block yet: find the receipt, or send the same bytes again, or replace what holds the lane up.
    pub(super) async fn look_again(&self, attempts: &[&Attempt]) -> Result<bool, LaneError> {
        let next = self.upstreams.nonce(self.lane.sender, BlockNumberOrTag::Latest).await?;
        let (used, open): (Vec<&Attempt>, Vec<&Attempt>) =
            attempts.iter().copied().partition(|attempt| attempt.nonce < next);
        self.used(&used).await?;
        let stuck = |attempt: &&Attempt| attempt.nonce == next && attempt.age >= self.shared.config.replace_after;
        let (stuck, open): (Vec<&Attempt>, Vec<&Attempt>) = open.into_iter().partition(stuck);
        for attempt in stuck {
            self.bump(attempt).await?;
        }
        if open.is_empty() { Ok(false) } else { self.send(&open).await }
    }

    /// Nonces that the chain has used. By us: record the receipt. By somebody else, finally: a new nonce.
    async fn used(&self, attempts: &[&Attempt]) -> Result<(), LaneError> {
        if attempts.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let nonces: Vec<u64> = attempts.iter().map(|attempt| attempt.nonce).collect();
        let hashes = store::retry("hashes", || shared.store.hashes_of(self.lane, &nonces)).await?;
        let receipts = self.upstreams.receipts(hashes).await?;
        let inclusions: Vec<_> = receipts.into_iter().flatten().map(chain::inclusion).collect();
        let included: Vec<_> = inclusions.iter().map(|inclusion| inclusion.mined.tx_hash).collect();
        chain::include(shared, &inclusions).await?;
        let missing: Vec<&Attempt> = attempts
            .iter()
            .copied()
            .filter(|attempt| !attempt.tx_hash.is_some_and(|hash| included.contains(&hash)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        // Only what is final may cost a nonce: in a reorg our bytes could come back beside the ones with a new nonce.
        let final_next = match self.upstreams.final_height().await? {
            Some(height) => self.upstreams.nonce(self.lane.sender, BlockNumberOrTag::Number(height)).await?,
            None => 0,
        };
        for attempt in missing {
            let nonces = [attempt.nonce];
            let ours = store::retry("hashes", || shared.store.hashes_of(self.lane, &nonces)).await?;
            if ours.iter().any(|hash| included.contains(hash)) {
                continue; // another attempt at this nonce was the one
            }
            if attempt.nonce < final_next {
                tracing::warn!(lane = %self.lane, nonce = attempt.nonce, "nonce was used outside");
                store::retry("requeue", || shared.store.requeue_used_outside(self.lane, attempt)).await?;
            } else {
                let note = "the chain has used the nonce, no receipt yet";
                store::retry("defer", || {
                    shared.store.defer_attempt(attempt, RECEIPT_LAG, "find_receipt", "nonce_used", note, false)
                })
                .await?;
            }
        }
        let least = self.upstreams.nonce(self.lane.sender, BlockNumberOrTag::Latest).await?;
        let work = store::retry("lane work", || shared.store.lane_work(self.lane, 0)).await?;
        if work.next_nonce.is_some_and(|next| next < least) {
            store::retry("reconcile lane", || shared.store.reconcile_lane(self.lane, least)).await?;
        }
        Ok(())
    }

    /// The same call at a higher price. Above the cap nothing is signed: it waits for cheaper blocks.
    async fn bump(&self, attempt: &Attempt) -> Result<(), LaneError> {
        let market = self.market_fees().await?;
        match fees::bump(&attempt.fees, &market, self.upstreams.config().fees.max_fee_cap_wei) {
            Ok(price) => {
                let kind = if is_cancel(attempt) { AttemptKind::Cancel } else { AttemptKind::Replacement };
                let new = NewAttempt { of: attempt, kind, gas_limit: attempt.gas_limit, fees: price };
                self.shared.store.replace(self.lane, &new).await?;
                self.shared.changed();
                Ok(())
            }
            Err(error) => self.later(attempt, "fee_cap", &error.to_string()).await,
        }
    }

    /// No node will ever take it: parked, and its nonce is filled so that the lane moves on.
    async fn give_up(&self, attempt: &Attempt, error: String) -> Result<(), LaneError> {
        use crate::{flow::Failure, states::TransactionState};
        if is_cancel(attempt) {
            return self.later(attempt, "retrying_upstream", &error).await;
        }
        let market = self.market_fees().await?;
        let fill = fees::bump(&attempt.fees, &market, self.upstreams.config().fees.max_fee_cap_wei).unwrap_or(market);
        let refusal = super::refusal(
            &attempt.transaction,
            TransactionState::DeadLetter,
            "rejected_by_nodes",
            Failure::new("TRANSACTION_REJECTED", error),
        );
        self.shared.store.refuse_attempts(self.lane, vec![(attempt.clone(), refusal)], true, fill).await?;
        self.shared.woken();
        Ok(())
    }

    async fn later(&self, attempt: &Attempt, sub_status: &str, error: &str) -> Result<(), LaneError> {
        store::retry("defer", || {
            self.shared.store.defer_attempt(attempt, backoff(attempt.tries), "send", sub_status, error, false)
        })
        .await?;
        Ok(())
    }
}

fn bytes(attempt: &Attempt) -> Result<Bytes, StoreError> {
    attempt
        .raw
        .clone()
        .ok_or_else(|| StoreError::corrupt(format!("attempt {} is signed without bytes", attempt.request_id)))
}
