//! The order of an issuer's updates on a feed.
//!
//! A feed takes an issuer's nonces one after the other, so of several accepted updates only the first may be signed: the next one's
//! nonce is known when that one is in a block, or will never be. A place in the queue is taken in the commit that accepts an update;
//! [`InTurn`] has a document signed when its turn has come and its nonce is the next one.

use crate::{
    domain::update::Place,
    flows::{ATTEMPTS, nonce_refused, sign_step, submits},
    readers::feeds::last_nonce,
    store::{Store, StoreError, queue::Waiting},
};
use alloy::primitives::Address;
use dalp_domain::{ChainReader, ReadError};
use dalp_engine::{
    Failure, LaneId, OperationId, OperationView, Reader, RequestId, SignDocument, TenantId, TransactionState,
    signer::{Intent, SignError, SignOutcome, SignPayload, SignRequest, Signer},
};
use std::collections::HashMap;
use uuid::Uuid;

/// Reads the queue.
#[derive(Clone)]
pub struct Queue {
    store: Store,
    chain: ChainReader,
    operations: Reader,
}

/// Why the queue could not be read. The work waits.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The database did not answer.
    #[error("the queue cannot be read")]
    Store(#[from] StoreError),
    /// The database did not answer about an operation.
    #[error("an operation of the queue cannot be read")]
    Operations(#[from] dalp_engine::StoreError),
    /// The chain did not answer.
    #[error("the issuer's nonce cannot be read")]
    Chain(#[from] ReadError),
}

/// Where an update stands.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// It may be signed.
    Now,
    /// Others are before it.
    Later,
    /// It may not be signed as it is.
    Refused(Failure),
}

/// A signer that signs the updates of a feed one after the other; everything else at once.
pub struct InTurn<S> {
    inner: S,
    queue: Queue,
}

// === impl Queue ===

impl Queue {
    /// The queue of these tables on this chain.
    #[must_use]
    pub fn new(store: Store, chain: ChainReader) -> Self {
        let operations = Reader::new(store.pool());
        Self { store, chain, operations }
    }

    /// How many updates of an issuer are accepted and not in a block yet, for each of some feeds.
    pub async fn ahead(
        &self,
        tenant: &str,
        issuer: Address,
        feeds: &[Address],
    ) -> Result<HashMap<Address, u64>, QueueError> {
        let waiting = self.store.waiting(tenant, self.chain.chain_id(), feeds).await?;
        let (mut over, mut ahead) = (HashMap::new(), HashMap::new());
        for one in waiting.into_iter().filter(|one| one.issuer == issuer) {
            if !self.is_over(&mut over, &one).await? {
                *ahead.entry(one.feed).or_default() += 1;
            }
        }
        Ok(ahead)
    }

    async fn turn(&self, tenant: &str, request: RequestId, place: Place) -> Result<Turn, QueueError> {
        let waiting = self.store.waiting(tenant, place.chain_id, &[place.feed]).await?;
        // One that has left the queue is of an operation that is final: nothing it does matters any more.
        if let Some(own) = waiting.iter().find(|one| asks(one, request)) {
            let mut over = HashMap::new();
            for before in waiting.iter().filter(|one| one.issuer == own.issuer && one.place < own.place) {
                if !self.is_over(&mut over, before).await? {
                    return Ok(Turn::Later);
                }
            }
            let expected = last_nonce(&self.chain, place.feed, own.issuer).await? + 1;
            if expected != place.nonce {
                return Ok(Turn::Refused(nonce_refused(expected, place.nonce)));
            }
        }
        Ok(Turn::Now)
    }

    /// Whether whoever comes behind need not wait for it: its transactions are in blocks, or never will be.
    async fn is_over(&self, known: &mut HashMap<Uuid, bool>, one: &Waiting) -> Result<bool, QueueError> {
        if let Some(over) = known.get(&one.operation_id) {
            return Ok(*over);
        }
        let operation =
            self.operations.get_operation(&TenantId::new(&one.tenant), OperationId(one.operation_id)).await?;
        let over = operation.is_none_or(|operation| is_over(&operation));
        known.insert(one.operation_id, over);
        Ok(over)
    }
}

/// An operation's submissions are in blocks, or it is final. Those that came to nothing do not count: another attempt follows.
fn is_over(operation: &OperationView) -> bool {
    use TransactionState::{Cancelled, Completed, Confirming, DeadLetter, Failed};
    let mut live = operation
        .transactions
        .iter()
        .filter(|one| submits(&one.step) && !matches!(one.state, Failed | Cancelled | DeadLetter))
        .peekable();
    operation.state.is_final() || live.peek().is_some() && live.all(|one| matches!(one.state, Confirming | Completed))
}

/// Whether a request is for the update of a place.
fn asks(one: &Waiting, request: RequestId) -> bool {
    let operation = OperationId(one.operation_id);
    (0..ATTEMPTS).any(|attempt| RequestId::of_step(operation, &sign_step(one.item, attempt)) == request)
}

// === impl InTurn ===

impl<S: Signer> InTurn<S> {
    /// Signs through another signer.
    pub fn new(inner: S, queue: Queue) -> Self {
        Self { inner, queue }
    }
}

#[async_trait::async_trait]
impl<S: Signer> Signer for InTurn<S> {
    async fn sign(&self, request: SignRequest) -> Result<SignOutcome, SignError> {
        if let SignPayload::Document(SignDocument::Eip712 { document, .. }) = &request.payload
            && let Some(place) = Place::of(document)
        {
            match self.queue.turn(request.tenant.as_str(), request.request_id, place).await {
                Ok(Turn::Now) => {}
                Ok(Turn::Later) => return Ok(SignOutcome::Pending { detail: "other updates come first".to_owned() }),
                Ok(Turn::Refused(failure)) => return Ok(SignOutcome::Denied(failure)),
                Err(error) => return Err(SignError::Unavailable(error.to_string())),
            }
        }
        self.inner.sign(request).await
    }

    async fn status(&self, request_id: RequestId) -> Result<SignOutcome, SignError> {
        self.inner.status(request_id).await
    }

    async fn release(&self, request_id: RequestId) -> Result<(), SignError> {
        self.inner.release(request_id).await
    }

    async fn list_intents(&self, tenant: &TenantId, lane: LaneId, from_nonce: u64) -> Result<Vec<Intent>, SignError> {
        self.inner.list_intents(tenant, lane, from_nonce).await
    }
}
