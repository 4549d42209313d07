//! Takes user operations from their approvals to their end: collects signatures, sends what reached its threshold, and looks what became of it.
//!
//! One replica at a time, by the lease of the index, though nothing depends on it: what is sent is an operation under a key made of the user operation,
//! and where that stands is decided in the commit that accepts it. So a replica may be killed at any line, and two may work at once.

use super::{
    flows::{BLOCK_NUMBER, Executed, SIGN_STEP, SubmitFlow, SubmitOrder, TX_HASH},
    operation::Signed,
    readers::{self, CarriedOut},
    state::State,
    store::{
        approvals::StoredApproval,
        operations::{End, StoredUserOperation, is_overtaken, submit},
    },
};
use crate::{decoder::ContractDecoder, metric_definitions as metric, store::Store};
use dalp_domain::{ChainReader, Head, ReadError, Up, store::StoreError};
use dalp_engine::{
    AcceptHook, Admission, AdmitError, Decoder as _, Engine, Failure, OperationId, OperationState, OperationView,
    TenantId,
};
use dalp_service::{Reason, Refusal, stop::Stop};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
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
    /// The highest final block: by it alone it is decided that something has not happened.
    settled: Option<Head>,
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
                None => {
                    let (head, settled) = futures::try_join!(self.chain.latest(), self.chain.latest_final())?;
                    *turn.insert(Turn { head, settled })
                }
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
            _ => self.follow(one).await,
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
        if let Some(settled) = turn.settled {
            // Somebody outside of the platform may have sent it, or a submission of ours that failed.
            if self.is_used(one, settled).await? {
                return self.end_as_carried_out(one, settled).await;
            }
            // Until that is final it may yet be carried out, by whoever has the signatures.
            if settled.timestamp_s > one.user_operation.deadline_s() {
                let failure = one.failure.clone();
                return self.end(one, End { state: State::Expired, failure, mined: None }).await;
            }
        }
        let signed = self.signed(one).await?;
        if turn.head.timestamp_s > one.user_operation.deadline_s() || self.is_used(one, turn.head).await? {
            return Ok(()); // over, once that is final
        }
        // A second person may have to release the proposal first.
        if proposal.state != OperationState::Completed || signed.is_empty() {
            return Ok(());
        }
        if one.send_after.is_some_and(|after| after > OffsetDateTime::now_utc()) {
            return Ok(());
        }
        let account = readers::account(&self.chain, one.command.wallet, turn.head).await?;
        let Some(account) = account.filter(|account| account.signers.release(&signed).is_some()) else {
            return Ok(self.store.put_obstacle(one.id, None).await?);
        };
        // One that counts no more, for instance of a contract that has changed its mind, holds up none of the others.
        let signed = self.valid(one, signed, turn).await?;
        let Some(released) = account.signers.release(&signed) else {
            let text = "the signatures that are valid now do not suffice";
            return self.hold(one, &Failure::new(Reason::SignatureInvalid.as_str(), text)).await;
        };
        // Calls that would fail now use up the nonce, and with it every approval: they wait.
        let entry_point = one.user_operation.entry_point;
        match readers::rehearsed(&self.chain, entry_point, &one.command, turn.head).await {
            Err(ReadError::Reverted(data)) => {
                return self.hold(one, &ContractDecoder.decode_revert(&data)).await;
            }
            other => other.map_err(Refusal::from)?,
        }
        // What the entry point would not take now, for instance because a contract signs no more, is not sent; what may yet change is waited for.
        let sender = one.command.sender;
        let taken = readers::taken(&self.chain, &one.user_operation, released.clone(), sender, turn.head).await?;
        if let Err(failure) = taken {
            return self.hold(one, &failure).await;
        }
        self.submit(one, released).await
    }

    /// Notes why what could be sent is not.
    async fn hold(&self, one: &StoredUserOperation, obstacle: &Failure) -> Result<(), DriveError> {
        metric::user_operation_held();
        Ok(self.store.put_obstacle(one.id, Some(obstacle)).await?)
    }

    /// Those signatures that are their signers' now.
    async fn valid(&self, one: &StoredUserOperation, all: Vec<Signed>, turn: Turn) -> Result<Vec<Signed>, DriveError> {
        let mut valid = Vec::new();
        for Signed { signer, signature } in all {
            let taken = readers::verified(&self.chain, signer, one.hash, &signature, turn.head).await?;
            valid.extend(taken.map(|signature| Signed { signer, signature }));
        }
        Ok(valid)
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
                let signature = match &approval.signature {
                    Some(brought) => Some(brought.clone()),
                    None => {
                        let (tenant, id) = (TenantId::new(&one.tenant), OperationId(approval.operation_id));
                        self.engine.reader().signature(&tenant, id, SIGN_STEP).await?.map(|signature| signature.0)
                    }
                };
                let Some(signature) = signature else {
                    tracing::error!(operation_id = %approval.operation_id, "an approval ended without its signature");
                    return Ok(None);
                };
                self.store.settle_approval(approval.operation_id, Ok(&signature)).await?;
                Ok(Some(Signed { signer: approval.signer, signature }))
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
        // Each attempt is an operation of its own, and two replicas make the same one.
        let key = format!("{}/{}", one.id, one.submissions);
        let earlier = one.submissions;
        let mut admission = Admission::<SubmitFlow>::new(TenantId::new(&one.tenant), PRINCIPAL, METHOD, key, order);
        let (tenant, wallet, id) = (one.tenant.clone(), one.command.wallet, one.id);
        let hook: AcceptHook = Box::new(move |connection, submission| {
            Box::pin(async move { submit(connection, &tenant, id, wallet, submission.0, earlier).await })
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
    async fn follow(&self, one: &StoredUserOperation) -> Result<(), DriveError> {
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
        // The entry point did not take ours. It may take another's, or our next one: the signatures are good until the deadline, so nothing has ended.
        if self.store.take_back_user_operation(one, &failure).await? {
            metric::user_operation_held();
            tracing::warn!(user_operation_id = %one.id, operation_id = %submission, reason = failure.reason, "a user operation was not sent, will try again");
        }
        Ok(())
    }

    async fn is_used(&self, one: &StoredUserOperation, at: Head) -> Result<bool, DriveError> {
        let used = readers::is_used(&self.chain, &one.user_operation, at.id()).await;
        Ok(used.map_err(Refusal::from)?)
    }

    /// Ends what the entry point carried out by a final block, whoever sent it.
    async fn end_as_carried_out(&self, one: &StoredUserOperation, by: Head) -> Result<(), DriveError> {
        let found = readers::carried_out(&self.chain, &one.user_operation, one.from_block, by).await?;
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
