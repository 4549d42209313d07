//! The statements that lanes and callers share: while one runs, the others gather for the next.

use crate::{
    engine::EngineConfig,
    error::StoreError,
    group::{Group, group},
    model::{LaneId, RequestId},
    store::{
        self, Admitted, Attempt, BindOrder, LaneLook, NewOperation, QueueLook, QueuedTransaction, Records, SignedBytes,
    },
};
use std::sync::Arc;
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One group per kind of statement.
pub(crate) struct Joint {
    admit: Group<NewOperation, Admitted>,
    look: Group<LaneId, LaneLook>,
    queued: Group<QueueLook, Vec<QueuedTransaction>>,
    bind: Group<BindOrder, Vec<Attempt>>,
    signed: Group<Vec<SignedBytes>, Vec<RequestId>>,
    sent: Group<Vec<RequestId>, ()>,
}

// === impl Joint ===

impl Joint {
    /// Starts a task per kind of statement.
    pub(crate) fn spawn(
        store: &Arc<dyn Records>,
        config: &EngineConfig,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> (Self, Vec<AbortHandle>) {
        let mut handles = Vec::new();
        let (instance, again_after) = (config.instance.clone(), config.rebroadcast_after);
        macro_rules! serve {
            (|$store:ident, $works:ident $(, $given:ident)?| $carry_out:expr) => {{
                let (group, turns) = group();
                let store = store.clone();
                $(let $given = $given.clone();)?
                let serving = turns.run(stop.clone(), move |$works| {
                    let $store = store.clone();
                    $(let $given = $given.clone();)?
                    Box::pin(async move { $carry_out })
                });
                handles.push(tasks.spawn(serving).abort_handle());
                group
            }};
        }
        let joint = Self {
            admit: serve!(|store, news| store::retry_quickly("admit", || store.admit(news)).await),
            look: serve!(|store, lanes, instance| store::retry("look at lanes", || store
                .look_at_lanes(&instance, lanes))
            .await),
            queued: serve!(|store, looks| store::retry("look at queues", || store.queued(looks)).await),
            bind: serve!(|store, orders| store::retry("bind", || store.bind(orders)).await),
            signed: serve!(|store, given| {
                let all: Vec<SignedBytes> = given.concat();
                let stored = store::retry("store signed", || store.store_signed(&all)).await?;
                let of = |one: &Vec<SignedBytes>| {
                    one.iter().map(|bytes| bytes.request_id).filter(|id| stored.contains(id)).collect()
                };
                Ok(given.iter().map(of).collect())
            }),
            sent: serve!(|store, ids| {
                let all: Vec<RequestId> = ids.concat();
                store::retry("mark sent", || store.mark_sent(&all, again_after)).await?;
                Ok(vec![(); ids.len()])
            }),
        };
        (joint, handles)
    }

    /// Accepts an operation.
    pub(crate) async fn admit(&self, new: NewOperation) -> Result<Admitted, StoreError> {
        self.admit.join(new).await
    }

    /// How a lane stands, and what of it is due.
    pub(crate) async fn look(&self, lane: LaneId) -> Result<LaneLook, StoreError> {
        self.look.join(lane).await
    }

    /// The front of a lane's queue.
    pub(crate) async fn queued(&self, look: QueueLook) -> Result<Vec<QueuedTransaction>, StoreError> {
        self.queued.join(look).await
    }

    /// Gives nonces and writes attempts; what is no longer queued is left out.
    pub(crate) async fn bind(&self, order: BindOrder) -> Result<Vec<Attempt>, StoreError> {
        self.bind.join(order).await
    }

    /// Stores signed bytes; returns the requests that waited for them.
    pub(crate) async fn store_signed(&self, signed: Vec<SignedBytes>) -> Result<Vec<RequestId>, StoreError> {
        self.signed.join(signed).await
    }

    /// Marks attempts as sent.
    pub(crate) async fn mark_sent(&self, ids: Vec<RequestId>) -> Result<(), StoreError> {
        self.sent.join(ids).await
    }
}
