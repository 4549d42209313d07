//! Operations and the outbox for whoever has only a connection pool.

use crate::{
    custody::OperationHold,
    error::{AdmitError, StoreError},
    flow::Signature,
    model::{
        OperationFilter, OperationId, OperationPage, OperationView, OrderView, OutboxCursor, OutboxEvent, ServiceName,
        TenantId,
    },
    store::{HINT_CHANNEL, Reads},
};
use futures::{Stream, stream};
use sqlx::{PgPool, postgres::PgListener};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How long a waiter looks away when no hint comes.
const SLOW_POLL: Duration = Duration::from_secs(1);

/// Reads and withdraws operations. Cheap to clone; clones share one LISTEN connection, opened by the first waiter.
#[derive(Clone, Debug)]
pub struct Reader {
    reads: Reads,
    hints: Arc<OnceLock<watch::Receiver<u64>>>,
}

/// Tells when something may have changed.
#[derive(Debug)]
pub struct Hints(watch::Receiver<u64>);

/// Why an operation was not withdrawn.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The tenant has no such operation.
    #[error("no such operation")]
    NotFound,
    /// It is final, or all its transactions are in a block.
    #[error("nothing of the operation can be withdrawn any more")]
    NotCancellable,
    /// The database did not answer.
    #[error("not stored")]
    Store(#[from] StoreError),
}

// === impl Reader ===

impl Reader {
    /// Reads through a pool.
    pub fn new(pool: PgPool) -> Self {
        Self { reads: Reads { pool }, hints: Arc::default() }
    }

    /// One operation with its transactions.
    pub async fn get_operation(&self, tenant: &TenantId, id: OperationId) -> Result<Option<OperationView>, StoreError> {
        self.reads.operation(tenant, id).await
    }

    /// What of an operation waits at the providers of keys at this moment, or behind the nonces of what does; what has waited longest first.
    pub async fn holds_of(&self, tenant: &TenantId, id: OperationId) -> Result<Vec<OperationHold>, StoreError> {
        self.reads.holds_of(tenant, id).await
    }

    /// The order of the operation that an idempotency key stands for: a repeat takes from it what was resolved then. Refused
    /// as [`AdmitError::Archived`] when it has been taken out of history.
    pub async fn order_of_key(
        &self,
        tenant: &TenantId,
        principal: &str,
        method: &str,
        key: &str,
    ) -> Result<Option<serde_json::Value>, AdmitError> {
        self.reads.order_of_key(tenant, principal, method, key).await
    }

    /// The signature that a step of an operation has, for the service whose operation it is. No view of an operation shows it.
    pub async fn signature(
        &self,
        tenant: &TenantId,
        id: OperationId,
        step: &str,
    ) -> Result<Option<Signature>, StoreError> {
        self.reads.signature(tenant, id, step).await
    }

    /// Orders of a service's unfinished operations of some kinds, oldest first, of all tenants.
    pub async fn orders_under_way(
        &self,
        service: &ServiceName,
        kinds: &[&str],
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        self.reads.orders_under_way(service, kinds, limit).await
    }

    /// A page of operations, newest first, without their transactions.
    pub async fn list_operations(
        &self,
        tenant: &TenantId,
        filter: &OperationFilter,
        after: Option<OperationId>,
        page_size: u32,
    ) -> Result<OperationPage, StoreError> {
        self.reads.operations(tenant, filter, after, page_size.clamp(1, 500)).await
    }

    /// The operation once it is final, or as it stands after `timeout`.
    pub async fn wait(
        &self,
        tenant: &TenantId,
        id: OperationId,
        timeout: Duration,
    ) -> Result<Option<OperationView>, StoreError> {
        let deadline = Instant::now() + timeout;
        let mut hints = self.hints();
        loop {
            hints.borrow_and_update();
            match self.get_operation(tenant, id).await? {
                Some(operation) if !operation.state.is_final() && Instant::now() < deadline => {
                    next_look(&mut hints, deadline.min(Instant::now() + SLOW_POLL)).await;
                }
                other => return Ok(other),
            }
        }
    }

    /// The operation as it stands, then at each change, ending with its final state. Empty if there is none.
    pub fn watch(
        &self,
        tenant: TenantId,
        id: OperationId,
    ) -> impl Stream<Item = Result<OperationView, StoreError>> + Send + 'static {
        let reader = self.clone();
        let hints = self.hints();
        stream::unfold(Some((reader, hints, tenant, id, None::<OperationView>)), |state| async move {
            let (reader, mut hints, tenant, id, last) = state?;
            loop {
                hints.borrow_and_update();
                match reader.get_operation(&tenant, id).await {
                    Err(error) => return Some((Err(error), None)),
                    Ok(None) => return None,
                    Ok(Some(view)) if last.as_ref() != Some(&view) => {
                        let next = (!view.state.is_final()).then(|| (reader, hints, tenant, id, Some(view.clone())));
                        return Some((Ok(view), next));
                    }
                    Ok(Some(_)) => next_look(&mut hints, Instant::now() + SLOW_POLL).await,
                }
            }
        })
    }

    /// Withdraws what has no nonce yet. What is on its way is replaced by a self-transfer; whichever is mined first counts.
    pub async fn cancel(
        &self,
        tenant: &TenantId,
        id: OperationId,
        actor: &str,
        reason: &str,
    ) -> Result<OperationView, CancelError> {
        if !self.reads.cancel(tenant, id, actor, reason).await? {
            return match self.get_operation(tenant, id).await? {
                Some(_) => Err(CancelError::NotCancellable),
                None => Err(CancelError::NotFound),
            };
        }
        self.get_operation(tenant, id).await?.ok_or(CancelError::NotFound)
    }

    /// Events of a tenant behind a cursor, in commit order; none that could still be overtaken.
    pub async fn events(
        &self,
        tenant: &TenantId,
        after: OutboxCursor,
        limit: u32,
    ) -> Result<Vec<OutboxEvent>, StoreError> {
        self.reads.events(Some(tenant), after, limit).await
    }

    /// Events of all tenants behind a cursor, for relays such as webhooks.
    pub async fn all_events(&self, after: OutboxCursor, limit: u32) -> Result<Vec<OutboxEvent>, StoreError> {
        self.reads.events(None, after, limit).await
    }

    /// Behind every event that was written before now, and before every one that is written from now on.
    pub async fn end_of_events(&self) -> Result<OutboxCursor, StoreError> {
        self.reads.end_of_events().await
    }

    /// Hints from now on.
    pub fn changes(&self) -> Hints {
        let mut hints = self.hints();
        hints.mark_unchanged();
        Hints(hints)
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.get_or_init(|| listen(self.reads.pool.clone())).clone()
    }
}

// === impl Hints ===

impl Hints {
    /// Completes when something may have changed since it last did, at the latest after a second.
    pub async fn changed(&mut self) {
        next_look(&mut self.0, Instant::now() + SLOW_POLL).await;
    }
}

async fn next_look(hints: &mut watch::Receiver<u64>, at: Instant) {
    // A listener that has ended gives no hints; the slow poll alone carries on.
    if let Ok(Err(_)) = tokio::time::timeout_at(at, hints.changed()).await {
        tokio::time::sleep_until(at).await;
    }
}

/// Counts hints until nobody listens. The hint is only a hint, so a lost connection is made again without hurry.
fn listen(pool: PgPool) -> watch::Receiver<u64> {
    let (hint, receiver) = watch::channel(0u64);
    tokio::spawn(async move {
        while !hint.is_closed() && !pool.is_closed() {
            let Ok(mut listener) = PgListener::connect_with(&pool).await else {
                tokio::time::sleep(SLOW_POLL).await;
                continue;
            };
            if listener.listen(HINT_CHANNEL).await.is_err() {
                continue;
            }
            loop {
                tokio::select! {
                    () = hint.closed() => return,
                    notification = listener.recv() => match notification {
                        Ok(_) => hint.send_modify(|count| *count += 1),
                        Err(_) => break,
                    },
                }
            }
        }
    });
    receiver
}
