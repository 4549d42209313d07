//! Comparing a lane with chain and signer: on every start, and whenever one of them knows more than this database does.
//!
//! A restore of the database forgets what was done since. The chain tells which nonces were used, the signer what it signed,
//! and because a request's id follows from its transaction, also what for. So that is taken back before anything is bound
//! again: else a payment that was made would be ordered a second time.

use super::{LaneError, LaneWorker, refusal};
use crate::{
    model::{RequestId, TenantId},
    signer::{Intent, SignError, SignOutcome, UnsignedTransaction},
    states::TransactionState,
    store::{self, Adoption, AttemptKind, Forgotten, QueuedTransaction},
};
use alloy::primitives::U256;
use dalp_chain::BlockNumberOrTag;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// What chain and signer say is not asked again sooner.
const RECONCILE_AGAIN: Duration = Duration::from_secs(10);

impl LaneWorker {
    /// Compares the lane with chain and signer before anything is sent.
    pub(super) async fn reconcile(&mut self) -> Result<(), LaneError> {
        let look = self.shared.joint.look(self.lane).await?;
        if let Some(tenant) = &look.tenant {
            let by_provider = self.shared.signer.broadcasts(tenant, self.lane).await?;
            if by_provider || look.by_provider {
                store::retry("broadcasts", || self.shared.store.broadcasts(self.lane, by_provider)).await?;
            }
            // The provider's nonces are its own. What was bound before it broadcast is compared all the same.
            if by_provider && look.open == 0 {
                self.compared();
                return Ok(());
            }
        }
        let latest = self.node.nonce(self.lane.sender, BlockNumberOrTag::Latest).await?;
        let mut least = latest;
        if look.next_nonce.is_none() {
            // A sender that we have never used: what others have in the pool is theirs.
            least = least.max(self.node.nonce(self.lane.sender, BlockNumberOrTag::Pending).await?);
        }
        if let Some(tenant) = &look.tenant {
            // Everything that this database may have forgotten is behind the last that it knows.
            let from = latest.min(look.next_nonce.unwrap_or(0)).min(look.lowest_open.unwrap_or(latest));
            least = least.max(self.recall(tenant, from, latest).await?);
        }
        store::retry("reconcile lane", || self.shared.store.reconcile_lane(self.lane, least)).await?;
        self.compared();
        Ok(())
    }

    fn compared(&mut self) {
        self.reconcile_due = false;
        self.reconciled_at = Some(Instant::now());
        self.looked_at = None;
    }

    /// The signer knows something of this lane that this database does not: compare, but not in a circle without a pause.
    pub(super) fn in_doubt(&mut self) {
        self.reconcile_due = self.reconciled_at.is_none_or(|at| at.elapsed() >= RECONCILE_AGAIN);
    }

    /// Takes back what the signer knows and this database does not. Returns the least next nonce that leaves.
    async fn recall(&self, tenant: &TenantId, from: u64, latest: u64) -> Result<u64, LaneError> {
        let mut intents = match self.shared.signer.list_intents(tenant, self.lane, from).await {
            Ok(intents) => intents,
            Err(SignError::NotFound | SignError::Refused(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if intents.is_empty() {
            return Ok(0);
        }
        let shared = &self.shared;
        let known = store::retry("known requests", || shared.store.known_requests(self.lane, from)).await?;
        intents.retain(|intent| !known.contains(&intent.request_id));
        if intents.is_empty() {
            return Ok(0);
        }
        let ids: Vec<RequestId> = intents.iter().map(|intent| intent.request_id).collect();
        let forgotten = store::retry("forgotten", || shared.store.forgotten(self.lane, &ids)).await?;
        let mut forgotten: HashMap<RequestId, Forgotten> =
            forgotten.into_iter().map(|one| (one.request_id, one)).collect();
        let mut least = 0;
        let (mut adoptions, mut refused) = (Vec::new(), Vec::new());
        for intent in intents {
            let Intent { nonce, request_id, transaction, outcome } = intent;
            let owner = forgotten.remove(&request_id);
            match (outcome, owner) {
                (SignOutcome::SignedTransaction { raw, tx_hash }, owner) => {
                    let ours = owner.zip(transaction).filter(|(one, signed)| self.is_of(signed, &one.transaction));
                    least = least.max(nonce + 1);
                    if let Some((forgotten, signed)) = ours {
                        tracing::warn!(lane = %self.lane, nonce, %request_id, %tx_hash, "signed before a restore of this database: taken back");
                        let kind = if self.only_uses_up(&signed) { AttemptKind::Cancel } else { AttemptKind::Call };
                        let (gas_limit, fees) = (signed.gas_limit, signed.fees);
                        adoptions.push(Adoption { forgotten, nonce, kind, gas_limit, fees, raw, tx_hash });
                    } else if nonce >= latest {
                        // The nonce is taken, and must not stay a hole.
                        let outcome = self.node.send_raw(raw).await;
                        tracing::warn!(lane = %self.lane, nonce, %request_id, ?outcome, "signed transaction that this database does not know");
                    }
                }
                (SignOutcome::Denied(failure) | SignOutcome::Expired(failure), owner) => {
                    match shared.signer.release(request_id).await {
                        Ok(()) | Err(SignError::NotFound | SignError::Refused(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                    if let Some(owner) = owner {
                        let state = TransactionState::Failed;
                        refused.push(refusal(&owner.transaction, state, "denied", failure));
                    }
                }
                // Bound once more it would be another request for the same payment.
                (SignOutcome::Pending { .. } | SignOutcome::Blocked { .. }, Some(_)) => {
                    return Err(LaneError::Undecided(request_id));
                }
                (SignOutcome::Pending { .. } | SignOutcome::Blocked { .. }, None) => least = least.max(nonce + 1),
                (SignOutcome::Signed(_) | SignOutcome::ByProvider(_), _) => {}
            }
        }
        adoptions.sort_by_key(|one| one.forgotten.number);
        if !adoptions.is_empty() {
            store::retry("adopt", || shared.store.adopt(self.lane, &adoptions)).await?;
            shared.changed();
        }
        if !refused.is_empty() {
            store::retry("refuse", || shared.store.refuse_queued(refused.clone())).await?;
            shared.woken();
        }
        Ok(least)
    }

    /// Whether signed bytes carry this transaction out, or cancel it.
    fn is_of(&self, signed: &UnsignedTransaction, transaction: &QueuedTransaction) -> bool {
        // Of a call with a secret only its length is known here.
        let same_data = match &transaction.secret {
            Some(_) => signed.data.len() == transaction.data.len() && signed.data.get(..4) == transaction.data.get(..4),
            None => signed.data == transaction.data,
        };
        let same = signed.target == transaction.target && signed.value_wei == transaction.value_wei && same_data;
        same || self.only_uses_up(signed)
    }

    /// Whether it is a transfer of nothing to itself.
    fn only_uses_up(&self, signed: &UnsignedTransaction) -> bool {
        signed.target == Some(self.lane.sender) && signed.value_wei == U256::ZERO && signed.data.is_empty()
    }
}
