//! Passes over lists: batches handed over as operations, several at once, until everybody was tried. Airdrops and payouts are paid so.
//!
//! Any replica may do it, and several may do it at once. A batch is planned under a lock, and accepted as an operation under a key made of
//! its number; the contracts pass over who is paid. So nothing that is done twice pays twice, wherever a replica is killed.

use dalp_domain::store::StoreError;
use dalp_engine::{AdmitError, Engine, Failure, OperationId, OperationState, OperationView, TenantId};
use dalp_service::{Reason, stop::Stop};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use uuid::Uuid;

/// The most rows of a batch, whatever they cost.
const MAX_ROWS: u64 = 500;
/// Gas of a transaction beside its rows: its own, the share of a proof, and the sums that a contract keeps.
const OVERHEAD_GAS: u64 = 60_000;
/// How long it looks away while passes go on and nothing is told.
const PAUSE: Duration = Duration::from_millis(500);
/// How long it looks away while none does.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// A batch that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBatch {
    /// Its number.
    pub batch: u32,
    /// Its rows.
    pub places: Vec<u64>,
    /// Its operation, once accepted.
    pub operation_id: Option<Uuid>,
}

/// Why a pass did not advance. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The tables cannot be used.
    #[error("the tables cannot be used")]
    Store(#[from] StoreError),
    /// Operations cannot be read.
    #[error("operations cannot be read")]
    Operations(#[from] dalp_engine::StoreError),
    /// A batch was not accepted.
    #[error("the batch was not accepted")]
    Admit(#[from] AdmitError),
}

/// What must be done before the first batch of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Nothing, or it is done.
    Done,
    /// An operation that goes on.
    Waits,
    /// It failed for good.
    Failed(Failure),
}

/// Lists of one kind that are paid in passes.
#[async_trait::async_trait]
pub trait Passes: Clone + Send + Sync + 'static {
    /// A pass that goes on.
    type Pass: Send + Sync;

    /// Those that go on.
    async fn running(&self) -> Result<Vec<Self::Pass>, StoreError>;
    /// Whose it is.
    fn tenant<'a>(&self, pass: &'a Self::Pass) -> &'a str;
    /// What it is called in logs.
    fn name(&self, pass: &Self::Pass) -> String;
    /// Does what must be done before its first batch.
    async fn open(&self, pass: &mut Self::Pass) -> Result<Opening, PassError>;
    /// Its batches that are not settled.
    async fn open_batches(&self, pass: &Self::Pass) -> Result<Vec<OpenBatch>, StoreError>;
    /// Plans its next batch; `None`: everybody stands in one, or it does not go on any more.
    async fn plan(&self, pass: &Self::Pass) -> Result<Option<OpenBatch>, StoreError>;
    /// Has a batch accepted under its key.
    async fn hand_over(&self, pass: &Self::Pass, batch: &OpenBatch) -> Result<OperationView, PassError>;
    /// Notes the operation of a batch.
    async fn note(&self, pass: &Self::Pass, batch: u32, operation_id: Uuid) -> Result<(), StoreError>;
    /// Notes that the operation of a batch is final.
    async fn settle(&self, pass: &Self::Pass, batch: u32) -> Result<(), StoreError>;
    /// Ends it.
    async fn end(&self, pass: &Self::Pass, failure: Option<&Failure>) -> Result<(), StoreError>;
    /// Measures how many go on.
    fn measure(&self, running: usize);
    /// Measures that one stopped.
    fn stopped(&self);
}

/// Advances passes.
#[derive(Clone)]
pub struct Driver<P> {
    passes: P,
    engine: Engine,
    window: usize,
    wake: Arc<Notify>,
}

/// Rows of a batch, for what a sample of them costs and what a transaction may cost. A row costs at least `least_row_gas`: a sample of rows
/// that are refused would promise less.
#[must_use]
pub fn rows_per_batch(sample_gas: u64, sample_rows: usize, batch_gas: u64, least_row_gas: u64) -> u32 {
    let rows = (sample_rows as u64).max(1);
    let row_gas = (sample_gas.saturating_sub(21_000).div_ceil(rows)).max(least_row_gas);
    let fitting = batch_gas.saturating_sub(OVERHEAD_GAS) / row_gas;
    u32::try_from(fitting.clamp(1, MAX_ROWS)).unwrap_or(1)
}

/// How an operation ended, once it has.
pub async fn ended(
    engine: &Engine,
    tenant: &str,
    id: Uuid,
) -> Result<Option<Result<OperationView, Failure>>, PassError> {
    let tenant = TenantId::new(tenant);
    let Some(operation) = engine.reader().get_operation(&tenant, OperationId(id)).await? else { return Ok(None) };
    Ok(match operation.state {
        OperationState::Running | OperationState::AwaitingChecker => None,
        OperationState::Completed => Some(Ok(operation)),
        OperationState::Failed | OperationState::Cancelled => Some(Err(operation
            .error
            .unwrap_or_else(|| Failure::new(Reason::Cancelled.as_str(), "an operation of the pass was cancelled")))),
    })
}

// === impl Driver ===

impl<P: Passes> Driver<P> {
    /// A driver that keeps at most `window` batches of a pass under way.
    #[must_use]
    pub fn new(passes: P, engine: Engine, window: usize) -> Self {
        Self { passes, engine, window, wake: Arc::default() }
    }

    /// Tells of a pass that was begun.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Works until stopped.
    pub async fn run(self, stop: Stop) {
        while !stop.is_requested() {
            let running = match self.turn().await {
                Ok(running) => running,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "passes cannot be read, will look again");
                    1
                }
            };
            let pause = if running == 0 { LONG_PAUSE } else { PAUSE };
            tokio::select! {
                () = stop.requested() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks after every pass that goes on. How many do.
    async fn turn(&self) -> Result<usize, StoreError> {
        let mut running = self.passes.running().await?;
        self.passes.measure(running.len());
        for pass in &mut running {
            if let Err(error) = self.advance(pass).await {
                tracing::warn!(
                    pass = self.passes.name(pass),
                    error = &error as &dyn std::error::Error,
                    "a pass does not advance, will try again"
                );
            }
        }
        Ok(running.len())
    }

    async fn advance(&self, pass: &mut P::Pass) -> Result<(), PassError> {
        match self.passes.open(pass).await? {
            Opening::Done => {}
            Opening::Waits => return Ok(()),
            Opening::Failed(failure) => return self.fail(pass, &failure).await,
        }
        let mut open = 0;
        for batch in self.passes.open_batches(pass).await? {
            match batch.operation_id {
                None => self.hand_over(pass, &batch).await?,
                Some(id) => match ended(&self.engine, self.passes.tenant(pass), id).await? {
                    None => {}
                    Some(ended) => {
                        self.passes.settle(pass, batch.batch).await?;
                        if let Err(failure) = ended {
                            return self.fail(pass, &failure).await;
                        }
                        continue;
                    }
                },
            }
            open += 1;
        }
        while open < self.window {
            match self.passes.plan(pass).await? {
                Some(batch) => self.hand_over(pass, &batch).await?,
                None if open == 0 => return Ok(self.passes.end(pass, None).await?),
                None => break,
            }
            open += 1;
        }
        Ok(())
    }

    async fn fail(&self, pass: &P::Pass, failure: &Failure) -> Result<(), PassError> {
        self.passes.stopped();
        Ok(self.passes.end(pass, Some(failure)).await?)
    }

    async fn hand_over(&self, pass: &P::Pass, batch: &OpenBatch) -> Result<(), PassError> {
        if batch.places.is_empty() {
            return Ok(());
        }
        let operation = self.passes.hand_over(pass, batch).await?;
        Ok(self.passes.note(pass, batch.batch, operation.operation_id.0).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_as_large_as_their_gas_allows() {
        let rows = |gas, rows, batch_gas| rows_per_batch(gas, rows, batch_gas, 50_000);
        assert_eq!(rows(21_000 + 50 * 60_000, 50, 8_000_000), 132);
        assert_eq!(rows(21_000 + 50 * 100_000, 50, 8_000_000), 79);
        assert_eq!(rows(21_000 + 50 * 3_000, 50, 8_000_000), 158, "a sample of skipped rows promises too much");
        assert_eq!(rows(30_000_000, 1, 8_000_000), 1, "never none");
        assert_eq!(rows(21_000, 1, 1_000_000_000), 500, "nor more than one call carries");
    }
}
