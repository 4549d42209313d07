//! Takes user operations from their approvals to their end: collects signatures, sends what reached its threshold, and looks what became of it.
//!
//! One replica at a time, by the lease of the index, though nothing depends on it: what is sent is an operation under a key made of the user operation,
//! and where that stands is decided in the commit that accepts it. So a replica may be killed at any line, and two may work at once.

use super::{
    flows::{BLOCK_NUMBER, Executed, SubmitFlow, SubmitOrder, TX_HASH},
    operation::Signed,
    readers::{self, CarriedOut},
    state::State,
    store::{
        approvals::StoredApproval,
        operations::{End, StoredUserOperation, is_overtaken, submit},
    },
};
use crate::{metric_definitions as metric, store::Store};
use dalp_domain::{ChainReader, Head, Up, store::StoreError};
use dalp_engine::{
    AcceptHook, Admission, AdmitError, Engine, Failure, OperationId, OperationState, OperationView, TenantId,
};
use dalp_service::{Reason, Refusal, stop::Stop};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

/// User operations that are read at a time.
const PAGE: u32 = 100;
/// User operations that are looked at together.
const AT_ONCE: usize = 8;
/// The principal on whose behalf the platform acts by itself.
pub const PRINCIPAL: &str = "platform";
/// The scope of its keys.
pub const METHOD: &str = "wallet.user_operations";

/// Looks after user operations.
pub struct Driver {
    engine: Engine,
    store: Store,
    chain: ChainReader,
    owner: String,
    every: Duration,
    /// Something was approved.
    approved: Arc<Notify>,
}

#[derive(Debug, thiserror::Error)]
enum DriveError {
    #[error("the tables cannot be used")]
    Store(#[from] StoreError),
    #[error("operations cannot be read")]
    Operations(#[from] dalp_engine::StoreError),
    #[error("an operation was not accepted")]
    Admit(#[from] AdmitError),
    #[error("the chain cannot be read: {0}")]
    Chain(#[from] Refusal),
}

/// What every user operation of a turn is held against.
#[derive(Clone, Copy)]
struct Turn {
    head: Head,
}

// === impl Driver ===

impl Driver {
    /// A driver with what there is once everything is up.
    #[must_use]
    pub fn new(up: &Up, store: Store, owner: String, every: Duration, approved: Arc<Notify>) -> Self {
        Self { engine: up.engine.clone(), store, chain: up.chain.clone(), owner, every, approved }
    }

    /// Works until stopped.
    pub async fn run(self, stop: Stop) {
        while !stop.is_requested() {
            if let Err(error) = self.turn().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "user operations cannot be read, will look again"
                );
            }
            tokio::select! {
                () = stop.requested() => {}
                () = self.approved.notified() => {}
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    async fn turn(&self) -> Result<(), DriveError> {
        if !self.store.leads(self.chain.chain_id(), &self.owner).await? {
            metric::user_operations(0);
            return Ok(());
        }
        let (mut above, mut going_on) = (0, 0);
        let mut turn = None;
        loop {
            let page = self.store.user_operations_going_on(above, PAGE).await?;
            let Some(last) = page.last() else { break };
            above = last.number;
            going_on += page.len();
            let now = match turn {
                Some(turn) => turn,
                None => *turn.insert(Turn { head: self.chain.latest().await? }),
            };
            for some in page.chunks(AT_ONCE) {
                futures::future::join_all(some.iter().map(|one| self.look_after(one, now))).await;
            }
        }
        metric::user_operations(going_on);
        Ok(())
    }

    async fn look_after(&self, one: &StoredUserOperation, turn: Turn) {
        if one.user_operation.chain_id != self.chain.chain_id() {
            return;
        }
        let advanced = match one.state {
            State::Pending => self.collect(one, turn).await,
            _ => self.follow(one, turn).await,
        };
        if let Err(error) = advanced {
            let id = one.id;
            tracing::warn!(user_operation_id = %id, error = &error as &dyn std::error::Error, "a user operation does not advance, will try again");
        }
    }

    /// Takes in what was signed, and sends once it suffices.
    async fn collect(&self, one: &StoredUserOperation, turn: Turn) -> Result<(), DriveError> {
        let Some(proposal) = self.operation(&one.tenant, one.id).await? else { return Ok(()) };
        if matches!(proposal.state, OperationState::Failed | OperationState::Cancelled) {
            let failure = proposal.error;
            return self.end(one, End { state: State::Cancelled, failure, mined: None }).await;
        }
        // Somebody outside of the platform may have sent it.
        if self.is_used(one, turn).await? {
            return self.end_as_carried_out(one).await;
        }
        if turn.head.timestamp_s > one.user_operation.deadline_s() {
            return self.end(one, End { state: State::Expired, failure: None, mined: None }).await;
        }
        let signed = self.signed(one).await?;
        // A second person may have to release the proposal first.
        if proposal.state != OperationState::Completed || signed.is_empty() {
            return Ok(());
        }
        let account = readers::account(&self.chain, one.command.wallet, turn.head).await?;
        let Some(released) = account.and_then(|account| account.signers.release(&signed)) else {
            return Ok(self.store.put_obstacle(one.id, None).await?);
        };
        // What the entry point would not take now, for instance because a contract signs no more, is not sent; what may yet change is waited for.
        let sender = one.command.sender;
        let taken = readers::taken(&self.chain, &one.user_operation, released.clone(), sender, turn.head).await?;
        if let Err(failure) = taken {
            metric::user_operation_held();
            return Ok(self.store.put_obstacle(one.id, Some(&failure)).await?);
        }
        self.submit(one, released).await
    }

    /// The signatures that are there, after those whose operations ended were taken in.
    async fn signed(&self, one: &StoredUserOperation) -> Result<Vec<Signed>, DriveError> {
        let mut signed = Vec::new();
        for approval in self.store.approvals(&[one.id]).await? {
            match approval.signed() {
                Some(known) => signed.push(known),
                None => signed.extend(self.settle(one, &approval).await?),
            }
        }
        Ok(signed)
    }

    async fn settle(&self, one: &StoredUserOperation, approval: &StoredApproval) -> Result<Option<Signed>, DriveError> {
        let Some(operation) = self.operation(&one.tenant, approval.operation_id).await? else { return Ok(None) };
        match operation.state {
            OperationState::Completed => {
                let signed = operation.result.and_then(|result| serde_json::from_value::<Signed>(result).ok());
                let Some(signed) = signed else {
                    tracing::error!(operation_id = %approval.operation_id, "an approval ended without its signature");
                    return Ok(None);
                };
                self.store.settle_approval(approval.operation_id, Ok(&signed)).await?;
                Ok(Some(signed))
            }
            OperationState::Failed | OperationState::Cancelled => {
                let withdrawn = || Failure::new(Reason::Cancelled.as_str(), "the operation was cancelled");
                let failure = operation.error.unwrap_or_else(withdrawn);
                self.store.settle_approval(approval.operation_id, Err(&failure)).await?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn submit(&self, one: &StoredUserOperation, signed: Vec<Signed>) -> Result<(), DriveError> {
        let order = SubmitOrder {
            user_operation_id: one.id,
            user_operation: one.user_operation.clone(),
            sender: one.command.sender,
            signed,
        };
        let key = one.id.to_string();
        let mut admission = Admission::<SubmitFlow>::new(TenantId::new(&one.tenant), PRINCIPAL, METHOD, key, order);
        let (tenant, wallet, id) = (one.tenant.clone(), one.command.wallet, one.id);
        let hook: AcceptHook = Box::new(move |connection, submission| {
            Box::pin(async move { submit(connection, &tenant, id, wallet, submission.0).await })
        });
        admission.hook = Some(hook);
        let accepted = match self.engine.accept(admission).await {
            // Cancelled, or sent by another replica, a moment ago.
            Err(AdmitError::Database(error)) if is_overtaken(&error) => return Ok(()),
            accepted => accepted?,
        };
        metric::user_operation_stands(State::Submitted);
        tracing::info!(user_operation_id = %one.id, operation_id = %accepted.operation.operation_id, "a user operation is sent");
        Ok(())
    }

    /// Looks what became of what was sent.
    async fn follow(&self, one: &StoredUserOperation, turn: Turn) -> Result<(), DriveError> {
        let Some(submission) = one.submission_id else { return Ok(()) };
        let Some(operation) = self.operation(&one.tenant, submission).await? else { return Ok(()) };
        let failure = match operation.state {
            OperationState::Completed => {
                let result = operation.result.and_then(|result| serde_json::from_value::<Executed>(result).ok());
                let Some(Executed { sent, .. }) = result else {
                    tracing::error!(operation_id = %submission, "a user operation was sent without a result");
                    return Ok(());
                };
                let mined = Some((sent.tx_hash, sent.block_number));
                return self.end(one, End { state: State::Executed, failure: None, mined }).await;
            }
            OperationState::Failed | OperationState::Cancelled => operation.error.unwrap_or_else(|| {
                Failure::new(Reason::Cancelled.as_str(), "the operation that sends it was cancelled")
            }),
            _ => return Ok(()),
        };
        if let Some(mined) = mined(&failure) {
            return self.end(one, End { state: State::Failed, failure: Some(failure), mined: Some(mined) }).await;
        }
        // Ours did not reach the entry point. Another's may have: the signatures stood in what was broadcast.
        if self.is_used(one, turn).await? {
            return self.end_as_carried_out(one).await;
        }
        let state = match turn.head.timestamp_s > one.user_operation.deadline_s() {
            true => State::Expired,
            false => State::Failed,
        };
        self.end(one, End { state, failure: Some(failure), mined: None }).await
    }

    async fn is_used(&self, one: &StoredUserOperation, turn: Turn) -> Result<bool, DriveError> {
        let used = readers::is_used(&self.chain, &one.user_operation, turn.head.id()).await;
        Ok(used.map_err(Refusal::from)?)
    }

    /// Ends what the entry point carried out, whoever sent it, once its block is final.
    async fn end_as_carried_out(&self, one: &StoredUserOperation) -> Result<(), DriveError> {
        let found = readers::carried_out(&self.chain, &one.user_operation, one.from_block).await?;
        let Some(CarriedOut { tx_hash, block_number, outcome }) = found else { return Ok(()) };
        let (state, failure) = match outcome {
            Ok(()) => (State::Executed, None),
            Err(failure) => (State::Failed, Some(failure)),
        };
        self.end(one, End { state, failure, mined: Some((tx_hash, block_number)) }).await
    }

    async fn end(&self, one: &StoredUserOperation, end: End) -> Result<(), DriveError> {
        if self.store.end_user_operation(one, &end).await? {
            metric::user_operation_stands(end.state);
            tracing::info!(user_operation_id = %one.id, state = end.state.name(), "a user operation has ended");
        }
        Ok(())
    }

    async fn operation(&self, tenant: &str, id: Uuid) -> Result<Option<OperationView>, dalp_engine::StoreError> {
        self.engine.reader().get_operation(&TenantId::new(tenant), OperationId(id)).await
    }
}

/// Where a failure says that a call was refused.
fn mined(failure: &Failure) -> Option<(alloy::primitives::B256, u64)> {
    let of = |name: &str| failure.metadata.get(name);
    Some((of(TX_HASH)?.parse().ok()?, of(BLOCK_NUMBER)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::B256;

    #[test]
    fn a_failure_says_whether_it_was_carried_out() {
        let hash = B256::repeat_byte(3);
        let failure = Failure::new("X", "x").with(TX_HASH, hash).with(BLOCK_NUMBER, 7);
        assert_eq!(mined(&failure), Some((hash, 7)));
        assert_eq!(mined(&Failure::new("X", "x").with(TX_HASH, hash)), None);
        assert_eq!(mined(&Failure::new("X", "x")), None);
    }
}
