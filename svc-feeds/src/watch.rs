//! Looks after what no caller asks for: updates that were refused, feeds that became stale, signers that lose their right, events
//! that are old.

mod signers;

use crate::{
    flows::batch::BatchDone,
    metric_definitions as metric,
    store::{Store, StoreError},
};
use dalp_domain::ChainReader;
use dalp_engine::{Failure, OperationId, OperationState, OperationView, Reader, TenantId};
use dalp_service::{Refusal, stop::Stop};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::Notify;

/// Operations of the queue that are looked at together.
const AT_ONCE: u32 = 1_000;
/// Signers are looked for every so many looks, each takes calls to the chain; and at once when the log tells that somebody lost a right.
const SIGNERS_EVERY: u64 = 6;
/// Old events are deleted every so many looks, so many at a time.
const TRIM_EVERY: u64 = 12;
const TRIM_AT_ONCE: u32 = 10_000;

/// What is looked after, by the replica that leads.
pub struct Watch {
    store: Store,
    chain: ChainReader,
    operations: Reader,
    settings: Settings,
    withdrawn: Arc<Notify>,
}

/// How it is looked after.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of this replica.
    pub owner: String,
    /// How often.
    pub every: Duration,
    /// How long events are kept.
    pub keep_events: Duration,
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
    /// Looks at these tables and this chain as a replica; `withdrawn` tells that the log holds the loss of a right.
    #[must_use]
    pub fn new(store: Store, chain: ChainReader, settings: Settings, withdrawn: Arc<Notify>) -> Self {
        let operations = Reader::new(store.pool());
        Self { store, chain, operations, settings, withdrawn }
    }

    /// Looks until stopped.
    pub async fn run(self, stop: Stop) {
        let (mut looks, mut withdrawn) = (0u64, false);
        while !stop.is_requested() {
            if let Err(error) = self.look(looks, withdrawn).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "feeds could not be looked after, will look again"
                );
            }
            looks += 1;
            withdrawn = tokio::select! {
                () = stop.requested() => false,
                () = self.withdrawn.notified() => true,
                () = tokio::time::sleep(self.settings.every) => false,
            };
        }
    }

    async fn look(&self, looks: u64, withdrawn: bool) -> Result<(), WatchError> {
        let chain_id = self.chain.chain_id();
        if !self.store.leads(chain_id, &self.settings.owner).await? {
            return Ok(());
        }
        let waiting = self.settle_queue(chain_id).await?;
        let now_s = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
        metric::standing(self.store.judge_staleness(chain_id, now_s).await?, waiting);
        if withdrawn || looks.is_multiple_of(SIGNERS_EVERY) {
            let endangered = signers::judge(&self.store, &self.chain, &self.operations).await?;
            metric::signers(endangered.lost, endangered.losing);
        }
        if looks.is_multiple_of(TRIM_EVERY) {
            while self.store.trim_events(chain_id, self.settings.keep_events, TRIM_AT_ONCE).await? > 0 {}
        }
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
