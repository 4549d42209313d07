//! Send stored bytes, look again, replace, cancel.

use super::{LaneError, LaneWorker, backoff, refusal};
use crate::{
    error::StoreError,
    flow::Failure,
    states::TransactionState,
    store::{self, Attempt, AttemptKind, AttemptState, Ending, FILL_GAS, NewAttempt},
    worker::chain,
};
use alloy::primitives::{B256, Bytes};
use dalp_chain::{BlockNumberOrTag, Receipt, SendOutcome, fees};
use std::time::Duration;

/// A used nonce without a receipt of ours is looked at again after this long.
const RECEIPT_LAG: Duration = Duration::from_millis(500);

impl LaneWorker {
    /// Sends stored bytes in the order of their nonces.
    pub(super) async fn send(&self, attempts: &[Attempt]) -> Result<bool, LaneError> {
        let shared = &self.shared;
        let raws: Vec<Bytes> = attempts.iter().map(bytes).collect::<Result<_, _>>()?;
        let outcomes = self.node.send_raw_batch(raws).await;
        let (mut sent, mut used) = (Vec::new(), Vec::new());
        for (attempt, outcome) in attempts.iter().zip(outcomes) {
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
            shared.joint.mark_sent(sent).await?;
            shared.changed();
        }
        self.used(&used).await?;
        Ok(progress)
    }

    /// Sent long ago and in no block yet: find the receipt, or send the same bytes again, or replace what holds the lane up.
    pub(super) async fn look_again(&self, attempts: &[Attempt]) -> Result<bool, LaneError> {
        let next = self.node.nonce(self.lane.sender, BlockNumberOrTag::Latest).await?;
        let (used, open): (Vec<&Attempt>, Vec<&Attempt>) = attempts.iter().partition(|attempt| attempt.nonce < next);
        self.used(&used).await?;
        let stuck = |attempt: &&Attempt| attempt.nonce == next && attempt.age >= self.shared.config.replace_after;
        let (stuck, open): (Vec<&Attempt>, Vec<&Attempt>) = open.into_iter().partition(stuck);
        let mut again: Vec<Attempt> = open.into_iter().cloned().collect();
        for attempt in stuck {
            if !self.replaced(attempt).await? {
                again.push(attempt.clone()); // at the cap the same bytes are all there is: a pool may have dropped them
            }
        }
        if again.is_empty() { Ok(false) } else { self.send(&again).await }
    }

    /// Nonces that the chain has used. By us: record the receipt. By somebody else, finally: a new nonce.
    async fn used(&self, attempts: &[&Attempt]) -> Result<(), LaneError> {
        if attempts.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let nonces: Vec<u64> = attempts.iter().map(|attempt| attempt.nonce).collect();
        let hashes = store::retry("hashes", || shared.store.hashes_of(self.lane, &nonces)).await?;
        // Any attempt at a nonce may have been the one.
        let asked: Vec<B256> = hashes.iter().map(|(_, hash)| *hash).collect();
        let receipts = self.node.receipts(asked).await?.into_iter().flatten().collect();
        let included = self.included(receipts).await?;
        let by_us =
            |nonce: u64, included: &[B256]| hashes.iter().any(|(of, hash)| *of == nonce && included.contains(hash));
        let (found, missing): (Vec<&Attempt>, Vec<&Attempt>) =
            attempts.iter().copied().partition(|attempt| by_us(attempt.nonce, &included));
        if !found.is_empty() {
            let nonces: Vec<u64> = found.iter().map(|attempt| attempt.nonce).collect();
            store::retry("overtake", || shared.store.overtake(self.lane, &nonces)).await?;
        }
        if missing.is_empty() {
            return Ok(());
        }
        // Only what is final may cost a nonce: in a reorg our bytes could come back beside the ones with a new nonce. And only
        // by the word of one node: another one's missing receipt may be a block that it has not seen.
        let doubtful = |nonce: u64| missing.iter().any(|attempt| attempt.nonce == nonce);
        let asked: Vec<B256> = hashes.iter().filter(|(nonce, _)| doubtful(*nonce)).map(|(_, hash)| *hash).collect();
        let account = self.node.final_account(self.lane.sender, &asked).await?;
        let (final_next, receipts) = account.map_or((0, Vec::new()), |account| (account.next_nonce, account.receipts));
        let included = self.included(receipts).await?;
        for attempt in missing {
            if attempt.nonce < final_next && !by_us(attempt.nonce, &included) {
                tracing::warn!(lane = %self.lane, nonce = attempt.nonce, "nonce was used outside");
                store::retry("requeue", || shared.store.requeue_used_outside(self.lane, attempt)).await?;
            } else {
                let note = "the chain has used the nonce, no receipt yet";
                store::retry("defer", || {
                    shared.store.defer_attempt(attempt, RECEIPT_LAG, "find_receipt", "nonce_used", note, None)
                })
                .await?;
            }
        }
        let least = self.node.nonce(self.lane.sender, BlockNumberOrTag::Latest).await?;
        let look = shared.joint.look(self.lane).await?;
        if look.next_nonce.is_some_and(|next| next < least) {
            store::retry("reconcile lane", || shared.store.reconcile_lane(self.lane, least)).await?;
        }
        Ok(())
    }

    /// Records receipts; returns their hashes.
    pub(super) async fn included(&self, receipts: Vec<Receipt>) -> Result<Vec<B256>, LaneError> {
        let inclusions: Vec<_> = receipts.into_iter().map(chain::inclusion).collect();
        chain::include(&self.shared, &inclusions).await?;
        Ok(inclusions.iter().map(|inclusion| inclusion.mined.tx_hash).collect())
    }

    /// A higher price, or a pause until blocks are cheaper.
    async fn bump(&self, attempt: &Attempt) -> Result<(), LaneError> {
        if !self.replaced(attempt).await? {
            self.later(attempt, "fee_cap", "the price that would be needed is above the cap").await?;
        }
        Ok(())
    }

    /// Orders the same call at a higher price. `false`: that would be above the cap, so nothing was ordered.
    pub(super) async fn replaced(&self, attempt: &Attempt) -> Result<bool, LaneError> {
        let market = self.market_fees().await?;
        let Ok(price) = fees::bump(&attempt.fees, &market, self.node.config().fees.max_fee_cap_wei) else {
            tracing::warn!(lane = %self.lane, nonce = attempt.nonce, "replacement would be above the fee cap");
            return Ok(false);
        };
        let (kind, gas_limit) = if attempt.is_cancel() {
            (AttemptKind::Cancel, attempt.gas_limit)
        } else {
            // What it needs may have grown since; what it had is never taken away.
            let needed = self.gas_limit_now(&attempt.transaction).await.unwrap_or_default();
            (AttemptKind::Replacement, needed.max(attempt.gas_limit))
        };
        let new = NewAttempt { of: attempt, kind, gas_limit, fees: price };
        self.shared.store.replace(self.lane, &new).await?;
        self.shared.changed();
        Ok(true)
    }

    /// Orders a self-transfer in the place of a transaction on its way; whichever is mined first counts. `false`: that would be
    /// above the cap, so the transaction itself goes on.
    pub(super) async fn cancel(&self, attempt: &Attempt) -> Result<bool, LaneError> {
        let market = self.market_fees().await?;
        let cap_wei = self.node.config().fees.max_fee_cap_wei;
        let price = match attempt.state {
            AttemptState::Signing => market, // nothing to outbid in a pool
            _ => match fees::bump(&attempt.fees, &market, cap_wei) {
                Ok(price) => price,
                Err(_) => return Ok(false),
            },
        };
        let new = NewAttempt { of: attempt, kind: AttemptKind::Cancel, gas_limit: FILL_GAS, fees: price };
        self.shared.store.replace(self.lane, &new).await?;
        self.shared.changed();
        Ok(true)
    }

    /// No node will ever take it: parked, and its nonce is filled so that the lane moves on.
    async fn give_up(&self, attempt: &Attempt, error: String) -> Result<(), LaneError> {
        if attempt.is_cancel() {
            return self.later(attempt, "retrying_upstream", &error).await;
        }
        let market = self.market_fees().await?;
        let fill = fees::bump(&attempt.fees, &market, self.node.config().fees.max_fee_cap_wei).unwrap_or(market);
        let failure = Failure::new("TRANSACTION_REJECTED", error);
        let refusal = refusal(&attempt.transaction, TransactionState::DeadLetter, "rejected_by_nodes", failure);
        let ended = vec![(attempt.clone(), refusal)];
        self.shared.store.end_attempts(self.lane, ended, Ending::Abandoned, fill).await?;
        self.shared.woken();
        Ok(())
    }

    async fn later(&self, attempt: &Attempt, sub_status: &str, error: &str) -> Result<(), LaneError> {
        store::retry("defer", || {
            self.shared.store.defer_attempt(attempt, backoff(attempt.tries), "send", sub_status, error, None)
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
