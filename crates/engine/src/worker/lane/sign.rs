//! Ask the signer, store what it signed.

use super::{LaneError, LaneWorker, backoff, is_cancel, refusal};
use crate::{
    flow::Failure,
    model::TenantId,
    signer::{SignError, SignOutcome, SignPayload, SignRequest, UnsignedTransaction},
    states::TransactionState,
    store::{self, Attempt, AttemptKind, LaneWork},
};
use alloy::primitives::{Bytes, U256, keccak256};
use futures::{StreamExt as _, stream};
use std::time::Duration;

/// After a refused replacement the transaction is left alone for this long.
const REPLACE_AGAIN: Duration = Duration::from_secs(60);

impl LaneWorker {
    /// Asks for all signatures at once. A request that was made before answers with its stored outcome.
    pub(super) async fn sign(&self, work: &LaneWork, attempts: &[&Attempt]) -> Result<bool, LaneError> {
        let Some(tenant) = &work.tenant else { return Ok(false) };
        let shared = &self.shared;
        let requests: Vec<(Attempt, SignRequest)> =
            attempts.iter().map(|attempt| ((*attempt).clone(), self.sign_request(tenant, attempt))).collect();
        let answers: Vec<(Attempt, Result<SignOutcome, SignError>)> = stream::iter(requests)
            .map(|(attempt, request)| async move { (attempt, shared.signer.sign(request).await) })
            .buffer_unordered(shared.config.sign_concurrency.max(1))
            .collect()
            .await;
        let (mut signed, mut refused, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
        for (attempt, answer) in &answers {
            match answer {
                Ok(SignOutcome::SignedTransaction { raw, tx_hash }) if keccak256(raw) == *tx_hash => {
                    // What was true when it was bound may not be true after a hold.
                    let refused_now = if attempt.held && !is_cancel(attempt) {
                        self.refused_now(&attempt.transaction).await?
                    } else {
                        None
                    };
                    signed.push((attempt.request_id, raw.clone(), *tx_hash));
                    if let Some(failure) = refused_now {
                        sealed.push((
                            attempt.clone(),
                            refusal(&attempt.transaction, TransactionState::Failed, "simulation_reverted", failure),
                        ));
                    }
                }
                Ok(SignOutcome::SignedTransaction { .. } | SignOutcome::Signed(_)) => {
                    self.again(attempt, "sign", "", "the signer's answer does not fit the request", false).await?;
                }
                Ok(SignOutcome::Pending { detail }) => {
                    self.again(attempt, "approval", "provider_hold", detail, true).await?
                }
                Ok(SignOutcome::Blocked { detail }) => self.again(attempt, "approval", "blocked", detail, true).await?,
                Ok(SignOutcome::Denied(failure)) | Err(SignError::Refused(failure)) => {
                    self.denied(attempt, "denied", failure.clone(), &mut refused).await?
                }
                Ok(SignOutcome::Expired(failure)) => {
                    self.denied(attempt, "approval_expired", failure.clone(), &mut refused).await?
                }
                Err(error @ (SignError::Unavailable(_) | SignError::NotFound)) => {
                    self.again(attempt, "sign", "", &error.to_string(), false).await?
                }
                Err(error @ SignError::WatermarkConflict { .. }) => {
                    self.again(attempt, "sign", "watermark", &error.to_string(), false).await?
                }
            }
        }
        let progress = !signed.is_empty() || !refused.is_empty();
        if !signed.is_empty() {
            store::retry("store signed", || shared.store.store_signed(&signed)).await?;
            shared.changed();
        }
        if !refused.is_empty() {
            let fees = self.market_fees().await?;
            shared.store.refuse_attempts(self.lane, refused, false, fees).await?;
            shared.woken();
        }
        if !sealed.is_empty() {
            let fees = self.market_fees().await?;
            shared.store.refuse_attempts(self.lane, sealed, true, fees).await?;
            shared.woken();
        }
        Ok(progress)
    }

    /// A cancel that is refused leaves a hole that only an operator can fill: it is asked for again and again.
    async fn denied(
        &self,
        attempt: &Attempt,
        sub_status: &'static str,
        failure: Failure,
        refused: &mut Vec<(Attempt, store::Refusal)>,
    ) -> Result<(), LaneError> {
        if is_cancel(attempt) {
            tracing::error!(lane = %self.lane, nonce = attempt.nonce, %failure, "the signer refuses to fill a nonce; the lane waits");
            return self.again(attempt, "fill_nonce", "", &failure.to_string(), false).await;
        }
        if attempt.kind == AttemptKind::Replacement {
            // The transaction itself is still on its way: only the higher price was refused.
            store::retry("drop replacement", || {
                self.shared.store.drop_replacement(attempt, REPLACE_AGAIN, &failure.message)
            })
            .await?;
            return Ok(());
        }
        refused.push((attempt.clone(), refusal(&attempt.transaction, TransactionState::Failed, sub_status, failure)));
        Ok(())
    }

    async fn again(
        &self,
        attempt: &Attempt,
        action: &str,
        sub_status: &str,
        error: &str,
        held: bool,
    ) -> Result<(), LaneError> {
        store::retry("defer attempt", || {
            self.shared.store.defer_attempt(attempt, backoff(attempt.tries), action, sub_status, error, held)
        })
        .await?;
        Ok(())
    }

    fn sign_request(&self, tenant: &TenantId, attempt: &Attempt) -> SignRequest {
        let transaction = &attempt.transaction;
        let (target, value_wei, data) = if is_cancel(attempt) {
            (Some(self.lane.sender), U256::ZERO, Bytes::new())
        } else {
            (transaction.target, transaction.value_wei, transaction.data.clone())
        };
        SignRequest {
            request_id: attempt.request_id,
            tenant: tenant.clone(),
            payload: SignPayload::Transaction(UnsignedTransaction {
                chain_id: self.lane.chain_id,
                sender: self.lane.sender,
                nonce: attempt.nonce,
                target,
                value_wei,
                data,
                gas_limit: attempt.gas_limit,
                fees: attempt.fees,
            }),
            replaces: attempt.replaces,
        }
    }
}
