//! Before the signer: an update of a feed is signed when its turn has come, everything else at once.

use crate::{
    domain::update::Place,
    queue::{Asking, Queue, QueueError, Turn},
};
use dalp_engine::{
    LaneId, RequestId, SignDocument, TenantId,
    group::{Group, group},
    signer::{Intent, SignError, SignOutcome, SignPayload, SignRequest, Signer},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A look that takes longer is given up, or a connection that hangs would hold up all who come behind it. Time enough to ask a second node
/// when the first does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// A signer that signs the updates of a feed one after the other; everything else at once. The updates of a batch are asked for
/// together, and their turns are looked up together.
pub struct InTurn<S> {
    inner: S,
    turns: Group<Asking, Result<Turn, String>>,
}

// === impl InTurn ===

impl<S: Signer> InTurn<S> {
    /// Signs through another signer. Looks up turns in a task of its own, as long as this is there.
    pub fn new(inner: S, queue: Queue) -> Self {
        let (turns, serving) = group();
        let never = CancellationToken::new();
        tokio::spawn(serving.run(never, move |asked: &[Asking]| {
            let queue = queue.clone();
            Box::pin(async move {
                let turns = tokio::time::timeout(ANSWER_WITHIN, queue.turns(asked)).await;
                let late = |_| vec![Err("the queue was not read in time".to_owned()); asked.len()];
                let told = |turn: Result<Turn, Arc<QueueError>>| turn.map_err(|error| error.to_string());
                Ok(turns.map_or_else(late, |turns| turns.into_iter().map(told).collect()))
            })
        }));
        Self { inner, turns }
    }

    async fn turn(&self, tenant: &TenantId, request: RequestId, place: Place) -> Result<Turn, String> {
        let asking = Asking { tenant: tenant.as_str().to_owned(), request, place };
        self.turns.join(asking).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

#[async_trait::async_trait]
impl<S: Signer> Signer for InTurn<S> {
    async fn sign(&self, request: SignRequest) -> Result<SignOutcome, SignError> {
        if let SignPayload::Document(SignDocument::Eip712 { document, .. }) = &request.payload
            && let Some(place) = Place::of(document)
        {
            match self.turn(&request.tenant, request.request_id, place).await {
                Ok(Turn::Now) => {}
                Ok(Turn::Later) => {
                    return Ok(SignOutcome::Pending { provider: None, detail: "other updates come first".to_owned() });
                }
                Ok(Turn::Refused(failure)) => return Ok(SignOutcome::Denied(failure)),
                Err(error) => return Err(SignError::Unavailable(error)),
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

    async fn broadcasts(&self, tenant: &TenantId, lane: LaneId) -> Result<bool, SignError> {
        self.inner.broadcasts(tenant, lane).await
    }

    async fn withdraw(&self, request_id: RequestId) -> Result<SignOutcome, SignError> {
        self.inner.withdraw(request_id).await
    }

    async fn list_intents(&self, tenant: &TenantId, lane: LaneId, from_nonce: u64) -> Result<Vec<Intent>, SignError> {
        self.inner.list_intents(tenant, lane, from_nonce).await
    }
}
