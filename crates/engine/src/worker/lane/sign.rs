//! Ask the signer, store what it signed, send that.

use super::{
    LaneError, LaneWorker, backoff,
    handover::{MODE_MISMATCH, OTHER_FORM_AFTER, WITHDRAWN},
    refusal, timed,
};
use crate::{
    custody::{Held, HoldCause},
    flow::Failure,
    jitter::jittered,
    model::TenantId,
    signer::{SignError, SignOutcome, SignPayload, SignRequest, UnsignedTransaction},
    states::TransactionState,
    store::{self, Attempt, AttemptKind, AttemptState, Ending, SignedBytes},
};
use alloy::primitives::{Bytes, U256, keccak256};
use futures::{StreamExt as _, stream};
use std::time::Duration;

/// After a refused replacement or filler the lane is left alone for this long.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// A signer that has answered anybody within this time is at work: who it never answers is the trouble itself.
pub(super) const AT_WORK: Duration = Duration::from_secs(60);

/// The signer's reason for a request id that it holds with another payload.
pub(super) const REQUEST_ID_REUSED: &str = "REQUEST_ID_REUSED";

/// A held request is asked about after a tenth of the time that it has waited.
pub(super) fn until_asked_again(waited: Duration) -> Duration {
    jittered((waited / 10).clamp(Duration::from_millis(100), Duration::from_secs(10)), 0.7..1.0)
}

type Answer = Result<SignOutcome, SignError>;

/// What the answers of a batch come to.
#[derive(Default)]
pub(super) struct Sorted {
    signed: Vec<SignedBytes>,
    to_send: Vec<Attempt>,
    refused: Vec<(Attempt, store::Refusal)>,
    sealed: Vec<(Attempt, store::Refusal)>,
    abandoned: Vec<(Attempt, store::Refusal)>,
}

impl LaneWorker {
    /// Asks for signatures, several at once, and sends each batch of them as soon as it is stored. A request that was made
    /// before answers with its stored outcome.
    pub(super) async fn sign_and_send(&mut self, attempts: Vec<Attempt>) -> Result<bool, LaneError> {
        let Some(tenant) = self.look.tenant.clone() else { return Ok(false) };
        let shared = self.shared.clone();
        let requests: Vec<(Attempt, SignRequest)> =
            attempts.into_iter().map(|attempt| (attempt.clone(), self.sign_request(&tenant, &attempt))).collect();
        let at_once = shared.config.sign_concurrency.max(1);
        let (signer, at_most) = (shared.signer.clone(), shared.config.sign_timeout);
        let mut answers = stream::iter(requests)
            .map(move |(attempt, request)| {
                let signer = signer.clone();
                async move {
                    // A time-out of ours says nothing about the request: it may have been signed.
                    let answer = tokio::time::timeout(at_most, signer.sign(request)).await;
                    (attempt, answer.unwrap_or_else(|_| Err(SignError::Unavailable("no answer in time".into()))))
                }
            })
            .buffered(at_once)
            .ready_chunks(at_once);
        let mut progress = false;
        while let Some(batch) = answers.next().await {
            let sorted = timed("sign", self.sort(batch)).await?;
            progress |= self.record(sorted).await?;
        }
        Ok(progress)
    }

    /// Stores signed bytes and refusals, then sends what may be sent.
    async fn record(&mut self, sorted: Sorted) -> Result<bool, LaneError> {
        let shared = self.shared.clone();
        let Sorted { signed, mut to_send, refused, sealed, abandoned } = sorted;
        let mut progress = false;
        if !signed.is_empty() {
            let stored = shared.joint.store_signed(signed).await?;
            to_send.retain(|attempt| stored.contains(&attempt.request_id));
            shared.changed();
            progress = true;
            if self.look.needs_approval && to_send.iter().any(|attempt| !attempt.held) {
                store::retry("signs at once", || shared.store.signs_at_once(self.lane)).await?;
                self.looked_at = None;
            }
        }
        for (ended, ending) in [(refused, Ending::Refused), (sealed, Ending::Sealed), (abandoned, Ending::Abandoned)] {
            if !ended.is_empty() {
                let fees = self.market_fees().await?;
                shared.store.end_attempts(self.lane, ended, ending, fees).await?;
                shared.woken();
                self.looked_at = None;
                progress = true;
            }
        }
        if !to_send.is_empty() {
            timed("send", self.send(&to_send)).await?;
        }
        Ok(progress)
    }

    async fn sort(&mut self, answers: Vec<(Attempt, Answer)>) -> Result<Sorted, LaneError> {
        let mut sorted = Sorted::default();
        for (attempt, answer) in answers {
            if !matches!(answer, Err(SignError::Unavailable(_) | SignError::Unjudged(_))) {
                self.shared.signer_answered();
            }
            match answer {
                Ok(SignOutcome::SignedTransaction { raw, tx_hash }) if keccak256(&raw) == tx_hash => {
                    // What was true when it was bound may not be true after a hold. A replacement stops nothing: the call
                    // itself is on its way at the lower price.
                    let refused_now = if attempt.held && attempt.kind == AttemptKind::Call {
                        self.refused_now(&attempt.transaction).await?
                    } else {
                        None
                    };
                    if let Some(failure) = refused_now {
                        let state = TransactionState::Failed;
                        let refusal = refusal(&attempt.transaction, state, "simulation_reverted", failure);
                        sorted.sealed.push((Attempt { raw: Some(raw), ..attempt }, refusal));
                    } else {
                        let (request_id, held) = (attempt.request_id, attempt.held);
                        sorted.signed.push(SignedBytes { request_id, raw: raw.clone(), tx_hash, held });
                        sorted.to_send.push(Attempt { state: AttemptState::Signed, raw: Some(raw), ..attempt });
                    }
                }
                Ok(SignOutcome::SignedTransaction { .. } | SignOutcome::Signed(_) | SignOutcome::ByProvider(_)) => {
                    self.again(&attempt, "sign", "", "the signer's answer does not fit the request", None).await?;
                }
                Ok(SignOutcome::Pending { provider, detail }) => {
                    let hold = Held { provider, cause: HoldCause::Approval };
                    match self.withdrawn(&attempt, hold).await? {
                        Some(failure) => self.make_way(attempt, failure, &mut sorted).await?,
                        None => self.again(&attempt, "approval", "provider_hold", &detail, Some(hold)).await?,
                    }
                }
                Ok(SignOutcome::Blocked { provider, detail }) => {
                    let hold = Held { provider, cause: HoldCause::Blocked };
                    self.again(&attempt, "approval", "blocked", &detail, Some(hold)).await?;
                }
                Err(SignError::Refused(failure)) if failure.reason == REQUEST_ID_REUSED => {
                    // This database was restored to a moment before the request: the transaction may long be on its way with
                    // another nonce. That is no refusal; failed, it would be asked for and paid a second time.
                    tracing::error!(lane = %self.lane, request_id = %attempt.request_id, %failure, "signed before a restore of this database: an operator must compare it with the chain");
                    self.in_doubt();
                    self.again(&attempt, "sign", "known_to_signer", &failure.message, None).await?;
                }
                Err(SignError::Refused(failure))
                    if failure.reason == MODE_MISMATCH && attempt.kind == AttemptKind::Call =>
                {
                    // The signer has not taken it: without a nonce it is taken.
                    self.in_doubt();
                    self.looked_at = None;
                    store::retry("requeue attempt", || {
                        self.shared.store.requeue_attempt(self.lane, &attempt, OTHER_FORM_AFTER)
                    })
                    .await?;
                }
                // Withdrawn before this process was there to write it down.
                Ok(SignOutcome::Denied(failure))
                    if failure.reason == WITHDRAWN && attempt.kind == AttemptKind::Call =>
                {
                    self.make_way(attempt, failure, &mut sorted).await?;
                }
                Ok(SignOutcome::Denied(failure)) | Err(SignError::Refused(failure)) => {
                    self.denied(attempt, "denied", failure, &mut sorted).await?;
                }
                Ok(SignOutcome::Expired(failure)) => {
                    self.denied(attempt, "approval_expired", failure, &mut sorted).await?;
                }
                Err(error @ (SignError::Unavailable(_) | SignError::Unjudged(_) | SignError::NotFound)) => {
                    self.unanswered(attempt, &error, &mut sorted).await?;
                }
                Err(error @ SignError::WatermarkConflict { .. }) => {
                    // The signer knows of something at this nonce that this database does not.
                    self.in_doubt();
                    self.again(&attempt, "sign", "watermark", &error.to_string(), None).await?;
                }
            }
        }
        Ok(sorted)
    }

    /// No answer to this request. While the signer answers nobody, everything waits; a request that alone fails again and
    /// again is parked. It may have been signed all the same, so its nonce is filled, never given back.
    async fn unanswered(&mut self, attempt: Attempt, error: &SignError, sorted: &mut Sorted) -> Result<(), LaneError> {
        let hopeless = attempt.tries >= self.shared.config.retry_budget && self.shared.signer_is_at_work(AT_WORK);
        // Without the attestor everything that moves waits alike, while the signer still answers for what does not.
        let hopeless = hopeless && !matches!(error, SignError::Unjudged(_));
        // What a person was asked to approve ends by that request's own deadline, not because an answer got lost.
        if !hopeless || attempt.held || attempt.is_cancel() {
            return self.again(&attempt, "sign", "", &error.to_string(), None).await;
        }
        if attempt.kind == AttemptKind::Replacement {
            // The transaction itself is on its way at the lower price: only the higher one is given up.
            let (shared, error) = (&self.shared, error.to_string());
            store::retry("drop replacement", || {
                shared.store.drop_replacement(&attempt, Ending::Abandoned, ASK_AGAIN, &error)
            })
            .await?;
            self.looked_at = None;
            return Ok(());
        }
        let failure = Failure::new("PROVIDER_UNAVAILABLE", error.to_string());
        let refusal = refusal(&attempt.transaction, TransactionState::DeadLetter, "signer_unavailable", failure);
        sorted.abandoned.push((attempt, refusal));
        Ok(())
    }

    /// Refused for good. What that means depends on what the attempt was for.
    pub(super) async fn denied(
        &mut self,
        attempt: Attempt,
        sub_status: &'static str,
        failure: Failure,
        sorted: &mut Sorted,
    ) -> Result<(), LaneError> {
        self.looked_at = None;
        let shared = &self.shared;
        if attempt.kind == AttemptKind::Call {
            let refusal = refusal(&attempt.transaction, TransactionState::Failed, sub_status, failure);
            sorted.refused.push((attempt, refusal));
        } else if attempt.transaction.state.is_final() {
            tracing::error!(lane = %self.lane, nonce = attempt.nonce, %failure, "the signer refuses to fill a nonce");
            store::retry("refuse filler", || shared.store.refuse_filler(self.lane, &attempt, ASK_AGAIN)).await?;
        } else {
            // The transaction itself is still on its way: only the higher price, or the cancel, was refused.
            store::retry("drop replacement", || {
                shared.store.drop_replacement(&attempt, Ending::Refused, ASK_AGAIN, &failure.message)
            })
            .await?;
        }
        Ok(())
    }

    async fn again(
        &mut self,
        attempt: &Attempt,
        action: &str,
        sub_status: &str,
        error: &str,
        hold: Option<Held>,
    ) -> Result<(), LaneError> {
        self.looked_at = None;
        let pause = if hold.is_some() { until_asked_again(attempt.age) } else { backoff(attempt.tries) };
        store::retry("defer attempt", || {
            self.shared.store.defer_attempt(attempt, pause, action, sub_status, error, hold)
        })
        .await?;
        Ok(())
    }

    fn sign_request(&self, tenant: &TenantId, attempt: &Attempt) -> SignRequest {
        let transaction = &attempt.transaction;
        let (target, value_wei, data) = if attempt.is_cancel() {
            (Some(self.lane.sender), U256::ZERO, Bytes::new())
        } else {
            (transaction.target, transaction.value_wei, transaction.data.clone())
        };
        let unsigned = UnsignedTransaction {
            chain_id: self.lane.chain_id,
            sender: self.lane.sender,
            nonce: attempt.nonce,
            target,
            value_wei,
            data,
            gas_limit: attempt.gas_limit,
            fees: attempt.fees,
        };
        let payload = match transaction.secret.clone().filter(|_| !attempt.is_cancel()) {
            Some(secret) => SignPayload::Reveal { transaction: unsigned, secret },
            None => SignPayload::Transaction(unsigned),
        };
        SignRequest { request_id: attempt.request_id, tenant: tenant.clone(), payload, replaces: attempt.replaces }
    }
}
