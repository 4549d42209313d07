//! Calls of a sender whose provider numbers, prices and broadcasts by itself: handed over once, followed by the hashes that the provider tells, ended by the chain's word
//! or by a definite refusal.
//!
//! No nonce is taken, so none waits for another: whatever one call comes to, the others go on. The same request asked again is answered by the signer as it stands, so
//! that a lost answer, or an end of this process at any line, hands nothing over a second time.

use super::{LaneError, LaneWorker, backoff, refusal, sign::until_asked_again, timed};
use crate::{
    custody::{Held, HoldCause},
    flow::Failure,
    model::{LaneId, TenantId},
    signer::{ProviderCall, ProviderStage, ProviderWord, SignError, SignOutcome, SignPayload, SignRequest},
    states::TransactionState,
    store::{self, Handover, HandoverEnding, Heard, PARKED_AGAIN, QueuedTransaction, Standing},
};
use alloy::primitives::{B256, U64};
use dalp_chain::ChainError;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use std::time::Duration;

/// The signer's reason for a call in a form that does not fit its key: who broadcasts has changed.
pub(super) const MODE_MISMATCH: &str = "BROADCAST_MODE_MISMATCH";
/// The signer's reason for a call that was given up because we asked for it.
pub(super) const WITHDRAWN: &str = "WITHDRAWN";
/// The signer's reason for a call that its provider's policy stopped, and nobody released in time.
const PROVIDER_BLOCKED: &str = "PROVIDER_BLOCKED";
/// A call that the signer wants in another form waits for so long, so that the lane is compared first.
pub(super) const OTHER_FORM_AFTER: Duration = Duration::from_secs(1);

type Answer = Result<SignOutcome, SignError>;

impl LaneWorker {
    /// Asks how handovers stand, several at once, and writes down what is heard. `true`: something has changed.
    pub(super) async fn carry(&mut self, handovers: Vec<Handover>) -> Result<bool, LaneError> {
        let Some(tenant) = self.look.tenant.clone() else { return Ok(false) };
        self.looked_at = None; // how they stand afterwards is known to the database only
        // What a block has needs nobody's word any more.
        let hashes: Vec<B256> = handovers.iter().flat_map(|one| one.hashes.iter().copied()).collect();
        let included = if hashes.is_empty() { Vec::new() } else { self.look_for(hashes).await? };
        let found = |one: &Handover| one.hashes.iter().any(|hash| included.contains(hash));
        let mut progress = !included.is_empty();
        let open: Vec<Handover> = handovers.into_iter().filter(|one| !found(one)).collect();
        let (signer, at_most) = (self.shared.signer.clone(), self.shared.config.sign_timeout);
        let (lane, at_once) = (self.lane, self.shared.config.sign_concurrency.max(1));
        let mut answers = stream::iter(open)
            .map(move |one| {
                let (signer, tenant) = (signer.clone(), tenant.clone());
                async move {
                    let withdraw = one.transaction.cancel_requested && one.standing == Standing::Handed;
                    let asked = async {
                        match withdraw {
                            true => signer.withdraw(one.request_id).await,
                            false => signer.sign(request(&tenant, lane, &one)).await,
                        }
                    };
                    // A time-out of ours says nothing about the request: it may have been taken.
                    let answer = tokio::time::timeout(at_most, asked).await;
                    let answer = answer.unwrap_or_else(|_| Err(SignError::Unavailable("no answer in time".into())));
                    (one, withdraw, answer)
                }
            })
            .buffer_unordered(at_once);
        while let Some((one, withdrawn, answer)) = answers.next().await {
            progress |= timed("hand_over", self.take_word(one, withdrawn, answer)).await?;
        }
        Ok(progress)
    }

    async fn take_word(&mut self, one: Handover, withdrawn: bool, answer: Answer) -> Result<bool, LaneError> {
        if !matches!(answer, Err(SignError::Unavailable(_) | SignError::Unjudged(_))) {
            self.shared.signer_answered();
        }
        match answer {
            Ok(SignOutcome::ByProvider(word)) => {
                let sent = matches!(word.stage, ProviderStage::Sent(_) | ProviderStage::Failed(_));
                if withdrawn || (one.transaction.cancel_requested && sent) {
                    let why = format!("the provider does not give it up: {}", word.detail);
                    store::retry("not withdrawn", || self.shared.store.not_withdrawn(&one, &why)).await?;
                }
                self.follow(one, word).await
            }
            Ok(SignOutcome::Denied(failure)) if failure.reason == WITHDRAWN => {
                let failure = Failure::new("TRANSACTION_CANCELLED", "given up by the provider");
                self.end(&one, HandoverEnding::Refused, (TransactionState::Cancelled, "given_up"), failure).await
            }
            Err(SignError::Refused(failure)) if failure.reason == MODE_MISMATCH => {
                self.in_doubt();
                store::retry("requeue handover", || self.shared.store.requeue_handover(&one, OTHER_FORM_AFTER)).await?;
                self.shared.changed();
                Ok(true)
            }
            Err(SignError::Refused(failure)) if failure.reason == super::sign::REQUEST_ID_REUSED => {
                // This database was restored to a moment before the request, and the call has become another one since.
                tracing::error!(lane = %self.lane, request_id = %one.request_id, %failure, "handed over before a restore of this database: an operator must compare it with the chain");
                self.unheard(&one, "known_to_signer", failure.message).await
            }
            Ok(SignOutcome::Denied(failure)) | Err(SignError::Refused(failure)) => {
                let ending = HandoverEnding::Refused;
                self.end(&one, ending, (ending.state(), "denied"), failure).await
            }
            Ok(SignOutcome::Expired(failure)) => {
                let sub_status = if failure.reason == PROVIDER_BLOCKED { "policy_blocked" } else { "approval_expired" };
                let ending = HandoverEnding::Refused;
                self.end(&one, ending, (ending.state(), sub_status), failure).await
            }
            Ok(
                SignOutcome::Pending { .. }
                | SignOutcome::Blocked { .. }
                | SignOutcome::SignedTransaction { .. }
                | SignOutcome::Signed(_),
            ) => self.unheard(&one, "", "the signer's answer does not fit the request".to_owned()).await,
            Err(error) => self.unanswered_handover(&one, &error).await,
        }
    }

    /// The provider has it, or the signer does on its way there.
    async fn follow(&self, one: Handover, word: ProviderWord) -> Result<bool, LaneError> {
        let ProviderWord { provider, provider_id, stage, detail } = word;
        let parked = one.standing == Standing::Parked;
        let standing = |usual: Standing| if parked { Standing::Parked } else { usual };
        let waits = |sub_status, cause: Option<HoldCause>| Heard {
            standing: if one.standing == Standing::Sent { Standing::Sent } else { standing(Standing::Handed) },
            provider_id: provider_id.clone(),
            tx_hash: None,
            chain_nonce: None,
            hold: cause.map(|cause| Held { provider, cause }),
            sub_status,
            detail: detail.clone(),
            is_answer: true,
            pause: if parked { PARKED_AGAIN } else { until_asked_again(one.age) },
        };
        let (hash, failed) = match stage {
            ProviderStage::Working => return self.write_down(&one, waits("handed_over", None)).await,
            ProviderStage::Held => {
                return self.write_down(&one, waits("provider_policy", Some(HoldCause::Approval))).await;
            }
            ProviderStage::Blocked => return self.write_down(&one, waits("blocked", Some(HoldCause::Blocked))).await,
            ProviderStage::Sent(hash) => (hash, false),
            ProviderStage::Failed(hash) => (hash, true),
        };
        let sent = Heard {
            standing: standing(Standing::Sent),
            tx_hash: Some(hash),
            chain_nonce: self.nonce_of(&one, hash).await?,
            pause: if parked { PARKED_AGAIN } else { self.shared.config.rebroadcast_after },
            ..waits(if failed { "provider_failed" } else { "sent_by_provider" }, None)
        };
        let is_new = one.hashes.last() != Some(&hash);
        if is_new || !failed {
            self.write_down(&one, sent.clone()).await?;
        }
        if is_new && !self.look_for(vec![hash]).await?.is_empty() {
            return Ok(true); // the block was there before the word
        }
        if !failed {
            return Ok(is_new);
        }
        let mut hashes = one.hashes.clone();
        if is_new {
            hashes.push(hash);
        }
        let chain_nonce = sent.chain_nonce.or(one.chain_nonce);
        let now = Handover { standing: if is_new { sent.standing } else { one.standing }, hashes, chain_nonce, ..one };
        self.failed_there(&now, sent).await
    }

    /// The provider says that it failed, and no block has it. That is its end once the chain has used its nonce finally for something else; else it may still come.
    async fn failed_there(&self, one: &Handover, heard: Heard) -> Result<bool, LaneError> {
        let account = self.node.final_account(self.lane.sender, &one.hashes).await?;
        if let (Some(account), Some(nonce)) = (account, one.chain_nonce) {
            if !account.receipts.is_empty() {
                let hashes = account.receipts.iter().map(|receipt| receipt.transaction_hash).collect();
                return Ok(!self.look_for(hashes).await?.is_empty());
            }
            if account.next_nonce > nonce {
                let failure = Failure::new("PROVIDER_FAILED", heard.detail).with("nonce", nonce);
                let ending = HandoverEnding::Dropped;
                return self.end(one, ending, (ending.state(), "dropped"), failure).await;
            }
        }
        if one.standing != Standing::Parked && one.tries >= self.shared.config.retry_budget {
            let failure =
                Failure::new("PROVIDER_FAILED", heard.detail).with("tx_hash", heard.tx_hash.unwrap_or_default());
            let ending = HandoverEnding::Parked;
            return self.end(one, ending, (ending.state(), "provider_failed"), failure).await;
        }
        // No answer in the sense of a step forward: these looks are counted.
        let pause = if one.standing == Standing::Parked { PARKED_AGAIN } else { backoff(one.tries) };
        self.write_down(one, Heard { is_answer: false, pause, standing: one.standing, ..heard }).await
    }

    /// No answer to this request. The signer may have taken it all the same, and follows it by itself then; a request that alone is never answered is parked, and stays watched.
    async fn unanswered_handover(&mut self, one: &Handover, error: &SignError) -> Result<bool, LaneError> {
        let at_work = self.shared.signer_is_at_work(super::sign::AT_WORK);
        let hopeless = one.standing == Standing::Signing && one.tries >= self.shared.config.retry_budget && at_work;
        // Without the attestor everything that moves waits alike.
        if hopeless && !matches!(error, SignError::Unjudged(_)) {
            let failure = Failure::new("PROVIDER_UNAVAILABLE", error.to_string());
            let ending = HandoverEnding::Parked;
            return self.end(one, ending, (ending.state(), "signer_unavailable"), failure).await;
        }
        self.unheard(one, "", error.to_string()).await
    }

    async fn unheard(&self, one: &Handover, sub_status: &'static str, why: String) -> Result<bool, LaneError> {
        let heard = Heard {
            standing: one.standing,
            provider_id: String::new(),
            tx_hash: None,
            chain_nonce: None,
            hold: None,
            sub_status,
            detail: why,
            is_answer: false,
            pause: if one.standing == Standing::Parked { PARKED_AGAIN } else { backoff(one.tries) },
        };
        self.write_down(one, heard).await?;
        Ok(false)
    }

    async fn write_down(&self, one: &Handover, heard: Heard) -> Result<bool, LaneError> {
        let changed =
            heard.standing != one.standing || (heard.tx_hash.is_some() && heard.tx_hash != one.hashes.last().copied());
        store::retry("heard", || self.shared.store.heard(one, &heard)).await?;
        if changed {
            self.shared.changed();
        }
        Ok(changed)
    }

    async fn end(
        &self,
        one: &Handover,
        ending: HandoverEnding,
        (state, sub_status): (TransactionState, &'static str),
        failure: Failure,
    ) -> Result<bool, LaneError> {
        let failure = match one.provider_id.as_str() {
            "" => failure,
            id => failure.with("provider_request_id", id),
        };
        let refusal = refusal(&one.transaction, state, sub_status, failure);
        self.shared.store.end_handover(one, ending, refusal).await?;
        self.shared.woken();
        Ok(true)
    }

    /// Records the receipts of hashes; returns those that have one.
    async fn look_for(&self, hashes: Vec<B256>) -> Result<Vec<B256>, LaneError> {
        let receipts = self.node.receipts(hashes).await?.into_iter().flatten().collect();
        self.included(receipts).await
    }

    /// The nonce that the provider gave, if a node shows it: the only way to know later whether a block can still have it.
    async fn nonce_of(&self, one: &Handover, hash: B256) -> Result<Option<u64>, LaneError> {
        if one.chain_nonce.is_some() {
            return Ok(None);
        }
        let asked =
            self.node.batch(vec![("eth_getTransactionByHash", json!([hash]))]).await.map_err(ChainError::from)?;
        let shown = asked.into_iter().next().and_then(Result::ok);
        let shown: Value = shown.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let nonce = shown.get("nonce").and_then(|nonce| serde_json::from_value::<U64>(nonce.clone()).ok());
        Ok(nonce.map(|nonce| nonce.to::<u64>()))
    }
}

fn request(tenant: &TenantId, lane: LaneId, one: &Handover) -> SignRequest {
    let QueuedTransaction { target, value_wei, data, secret, .. } = one.transaction.clone();
    let LaneId { chain_id, sender } = lane;
    let call = ProviderCall { chain_id, sender, target, value_wei, data, secret };
    SignRequest {
        request_id: one.request_id,
        tenant: tenant.clone(),
        payload: SignPayload::ByProvider(call),
        replaces: None,
    }
}
