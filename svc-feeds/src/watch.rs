//! Looks after what no caller asks for: updates that were refused, feeds that became stale, signers that lost their right.

use crate::{
    flows::batch::BatchDone,
    metric_definitions as metric,
    readers::{feeds::trusts, systems::signs_for},
    store::{Store, StoreError, alerts::LastSigner},
};
use dalp_domain::{ChainReader, ReadError, chain::bounded};
use dalp_engine::{Failure, OperationId, OperationState, OperationView, Reader, TenantId};
use dalp_service::{Refusal, stop::Stop};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// Operations of the queue that are looked at together.
const AT_ONCE: u32 = 1_000;
/// Signers are looked for every so many looks: each takes calls to the chain.
const SIGNERS_EVERY: u64 = 6;

/// What is looked after, by the replica that leads.
pub struct Watch {
    store: Store,
    chain: ChainReader,
    operations: Reader,
    owner: String,
    every: Duration,
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("the tables cannot be read")]
    Store(#[from] StoreError),
    #[error("operations cannot be read")]
    Operations(#[from] dalp_engine::StoreError),
    #[error("the chain cannot be read: {}", .0.message())]
    Chain(Refusal),
}

// === impl Watch ===

impl Watch {
    /// Looks at these tables and this chain as a replica.
    #[must_use]
    pub fn new(store: Store, chain: ChainReader, owner: String, every: Duration) -> Self {
        let operations = Reader::new(store.pool());
        Self { store, chain, operations, owner, every }
    }

    /// Looks until stopped.
    pub async fn run(self, stop: Stop) {
        let (mut looks, mut lost) = (0u64, 0);
        while !stop.is_requested() {
            if let Err(error) = self.look(looks, &mut lost).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "feeds could not be looked after, will look again"
                );
            }
            looks += 1;
            tokio::select! {
                () = stop.requested() => {}
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    async fn look(&self, looks: u64, lost: &mut usize) -> Result<(), WatchError> {
        let chain_id = self.chain.chain_id();
        if !self.store.leads(chain_id, &self.owner).await? {
            return Ok(());
        }
        let waiting = self.settle_queue(chain_id).await?;
        let now_s = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
        let stale = self.store.judge_staleness(chain_id, now_s).await?;
        if looks.is_multiple_of(SIGNERS_EVERY) {
            *lost = self.judge_signers(chain_id).await?;
        }
        metric::standing(stale, *lost, waiting);
        Ok(())
    }

    /// Takes final operations out of the queue and tells of refused updates. How many operations still wait.
    async fn settle_queue(&self, chain_id: u64) -> Result<usize, WatchError> {
        let mut waiting = 0;
        for one in self.store.queued_operations(chain_id, AT_ONCE).await? {
            let (tenant, id) = (TenantId::new(&one.tenant), OperationId(one.operation_id));
            match self.operations.get_operation(&tenant, id).await? {
                Some(operation) if !operation.state.is_final() => waiting += 1,
                operation => {
                    let refusals = operation.as_ref().map(refusals).unwrap_or_default();
                    let told = |item: usize| refusals.of(item).map(|failure| rejected(id, failure));
                    self.store.leave_queue(&one.tenant, chain_id, one.operation_id, told).await?;
                    refusals.each().for_each(|failure| metric::rejected(&failure.reason));
                }
            }
        }
        Ok(waiting)
    }

    async fn judge_signers(&self, chain_id: u64) -> Result<usize, WatchError> {
        let signers = self.store.last_signers(chain_id).await?;
        let judged = bounded(signers.iter().map(|last| async { Ok(self.lost(last).await?) }));
        let judged = judged.await.map_err(WatchError::Chain)?;
        let mut lost = 0;
        for (last, why) in signers.iter().zip(judged) {
            lost += usize::from(why.is_some());
            self.store.judge_signer(chain_id, last, why).await?;
        }
        Ok(lost)
    }

    /// Why the feed would refuse the next update of its last signer.
    async fn lost(&self, last: &LastSigner) -> Result<Option<&'static str>, ReadError> {
        if !trusts(&self.chain, last.registry, last.issuer, last.pair).await? {
            return Ok(Some("the issuer is not trusted for the topic any more"));
        }
        let signs = signs_for(&self.chain, last.issuer, last.signer).await?;
        Ok((!signs).then_some("the key has no CLAIM purpose on the issuer's identity any more"))
    }
}

/// What was refused of an operation.
#[derive(Default)]
struct Refusals {
    /// Of the whole of it.
    whole: Option<Failure>,
    /// Of its items.
    items: Vec<Option<Failure>>,
}

// === impl Refusals ===

impl Refusals {
    fn of(&self, item: usize) -> Option<&Failure> {
        self.whole.as_ref().or_else(|| self.items.get(item).and_then(Option::as_ref))
    }

    fn each(&self) -> impl Iterator<Item = &Failure> {
        self.whole.iter().chain(self.items.iter().flatten())
    }
}

fn refusals(operation: &OperationView) -> Refusals {
    let done = operation.result.clone().and_then(|result| serde_json::from_value::<BatchDone>(result).ok());
    Refusals {
        whole: operation.error.clone().filter(|_| operation.state == OperationState::Failed),
        items: done.map(|done| done.items.into_iter().map(|item| item.error).collect()).unwrap_or_default(),
    }
}

fn rejected(operation: OperationId, failure: &Failure) -> Value {
    let mut body = json!({
        "operation_id": operation.to_string(),
        "reason": failure.reason,
        "message": failure.message,
    });
    if let Some(error) = failure.metadata.get("contract_error") {
        body["contract_error"] = json!(error);
    }
    body
}
