//! Hands the batches of running pushes over, several at once, until everybody was tried.
//!
//! Any replica may do it, and several may do it at once. A batch is planned under a lock, and accepted as an operation under a key made of
//! its number; the contract passes over rows that are paid. So nothing that is done twice pays twice, wherever a replica is killed.

use super::{
    flows::{BatchOrder, PushBatch, PushBatchFlow},
    store::{
        airdrops::StoredAirdrop,
        lists::StoredRow,
        pushes::{OpenBatch, StoredPush},
    },
    tree::Tree,
};
use crate::{metric_definitions as metric, store::Store};
use alloy::{
    primitives::{Address, U256},
    sol_types::SolCall as _,
};
use dalp_contracts::bindings::Distribution;
use dalp_domain::store::StoreError;
use dalp_engine::{Admission, AdmitError, Engine, Failure, OperationId, OperationState, TenantId};
use dalp_service::{Reason, stop::Stop};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// The RPC that batches are accepted under.
pub const METHOD: &str = "dalp.distribution.v1.AirdropService/PushAirdrop";
/// Rows that are measured before a push begins.
pub const SAMPLE: u32 = 50;
/// The most rows of a batch, whatever they cost.
const MAX_ROWS: u64 = 500;
/// Gas of a transaction beside its rows: its own, the share of the proof, and the sum that the contract keeps.
const OVERHEAD_GAS: u64 = 60_000;
/// The least that a payment of an asset of ours costs: a sample of rows that the token refuses would promise less.
const LEAST_ROW_GAS: u64 = 50_000;
/// How long it looks away while pushes run and nothing is told.
const PAUSE: Duration = Duration::from_millis(500);
/// How long it looks away while none runs.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// Hands batches over.
#[derive(Clone)]
pub struct Pusher {
    store: Store,
    engine: Engine,
    chain_id: u64,
    window: usize,
    wake: Arc<Notify>,
}

/// Why a batch was not handed over. It is tried again.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("the tables cannot be used")]
    Store(#[from] StoreError),
    #[error("operations cannot be read")]
    Operations(#[from] dalp_engine::StoreError),
    #[error("the batch was not accepted")]
    Admit(#[from] AdmitError),
    #[error("the airdrop {0} is gone")]
    Gone(Address),
}

/// Rows of a batch, for what a sample of them costs and what a transaction may cost.
#[must_use]
pub fn rows_per_batch(sample_gas: u64, sample_rows: usize, batch_gas: u64) -> u32 {
    let rows = (sample_rows as u64).max(1);
    let row_gas = (sample_gas.saturating_sub(21_000).div_ceil(rows)).max(LEAST_ROW_GAS);
    let fitting = batch_gas.saturating_sub(OVERHEAD_GAS) / row_gas;
    u32::try_from(fitting.clamp(1, MAX_ROWS)).unwrap_or(1)
}

/// The call that pushes rows of one tree, made of all rows of that tree.
#[must_use]
pub fn push_call(first: u64, part: &[StoredRow], places: &[u64]) -> Distribution::pushCall {
    let recipients: Vec<_> = part.iter().map(|row| row.recipient).collect();
    let leaves: Vec<usize> = places.iter().filter_map(|place| usize::try_from(place - first).ok()).collect();
    let proof = Tree::of_part(first, &recipients).multi_proof(&leaves);
    let rows = leaves.iter().zip(places).map(|(leaf, place)| Distribution::Recipient {
        index: U256::from(*place),
        account: recipients[*leaf].account,
        amount: U256::from(recipients[*leaf].amount),
    });
    Distribution::pushCall { rows: rows.collect(), proof: proof.proof, flags: proof.flags }
}

// === impl Pusher ===

impl Pusher {
    /// A pusher that keeps at most `window` batches of an airdrop under way.
    #[must_use]
    pub fn new(store: Store, engine: Engine, chain_id: u64, window: usize) -> Self {
        Self { store, engine, chain_id, window, wake: Arc::default() }
    }

    /// Tells of a push that was begun.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Works until stopped.
    pub async fn run(self, stop: Stop) {
        while !stop.is_requested() {
            let running = match self.turn().await {
                Ok(running) => running,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "pushes cannot be read, will look again");
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

    /// Looks after every push that runs. How many do.
    async fn turn(&self) -> Result<usize, StoreError> {
        let running = self.store.running_pushes(self.chain_id).await?;
        metric::pushes_running(running.len());
        for push in &running {
            if let Err(error) = self.advance(push).await {
                tracing::warn!(
                    airdrop = %push.airdrop,
                    push = push.push,
                    error = &error as &dyn std::error::Error,
                    "a push does not advance, will try again"
                );
            }
        }
        Ok(running.len())
    }

    async fn advance(&self, push: &StoredPush) -> Result<(), PushError> {
        let airdrop = self.store.airdrop(&push.tenant, self.chain_id, push.airdrop).await?;
        let airdrop = airdrop.ok_or(PushError::Gone(push.airdrop))?;
        let mut open = 0;
        for batch in self.store.open_batches(self.chain_id, push).await? {
            match batch.operation_id {
                None => self.hand_over(push, &airdrop, &batch).await?,
                Some(id) => match self.ended(push, OperationId(id)).await? {
                    None => {}
                    Some(ended) => {
                        self.store.note_batch(self.chain_id, push, batch.batch, id, true).await?;
                        if let Err(failure) = ended {
                            metric::push_stopped();
                            return Ok(self.store.end_push(self.chain_id, push, Some(&failure)).await?);
                        }
                        continue;
                    }
                },
            }
            open += 1;
        }
        while open < self.window {
            let list = (airdrop.list_id, airdrop.parts);
            match self.store.plan_batch(self.chain_id, push, list).await? {
                Some(batch) => self.hand_over(push, &airdrop, &batch).await?,
                None if open == 0 => return Ok(self.store.end_push(self.chain_id, push, None).await?),
                None => break,
            }
            open += 1;
        }
        Ok(())
    }

    /// How a batch ended, once it has.
    async fn ended(&self, push: &StoredPush, id: OperationId) -> Result<Option<Result<(), Failure>>, PushError> {
        let tenant = TenantId::new(&push.tenant);
        let Some(operation) = self.engine.reader().get_operation(&tenant, id).await? else { return Ok(None) };
        let failed = || {
            operation
                .error
                .clone()
                .unwrap_or_else(|| Failure::new(Reason::Cancelled.as_str(), "a batch of the push was cancelled"))
        };
        Ok(match operation.state {
            OperationState::Running => None,
            OperationState::Completed => Some(Ok(())),
            OperationState::Failed | OperationState::Cancelled => Some(Err(failed())),
        })
    }

    async fn hand_over(&self, push: &StoredPush, airdrop: &StoredAirdrop, batch: &OpenBatch) -> Result<(), PushError> {
        let Some(place) = batch.places.first() else { return Ok(()) };
        let (first, count) = airdrop.parts.of_row(*place);
        let part = self.store.rows(airdrop.list_id, first, count).await?;
        let data = push_call(first, &part, &batch.places).abi_encode().into();
        let command = PushBatch { sender: push.sender, airdrop: push.airdrop, push: push.push, batch: batch.batch };
        let order = BatchOrder { chain_id: self.chain_id, command, data };
        let key = format!("push-{:#x}-{}-{}", push.airdrop, push.push, batch.batch);
        let admission =
            Admission::<PushBatchFlow>::new(TenantId::new(&push.tenant), &push.principal, METHOD, key, order);
        let accepted = self.engine.accept(admission).await?;
        let id = accepted.operation.operation_id.0;
        Ok(self.store.note_batch(self.chain_id, push, batch.batch, id, false).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::airdrop::list::Recipient;

    #[test]
    fn batches_are_as_large_as_their_gas_allows() {
        assert_eq!(rows_per_batch(21_000 + 50 * 60_000, 50, 8_000_000), 132);
        assert_eq!(rows_per_batch(21_000 + 50 * 100_000, 50, 8_000_000), 79);
        assert_eq!(
            rows_per_batch(21_000 + 50 * 3_000, 50, 8_000_000),
            158,
            "a sample of skipped rows promises too much"
        );
        assert_eq!(rows_per_batch(30_000_000, 1, 8_000_000), 1, "never none");
        assert_eq!(rows_per_batch(21_000, 1, 1_000_000_000), 500, "nor more than one call carries");
    }

    #[test]
    fn a_call_carries_rows_with_the_index_of_the_whole_list() {
        let recipient = |n: u8| Recipient { account: Address::repeat_byte(n), amount: u128::from(n) };
        let part: Vec<StoredRow> =
            (1..=8).map(|n| StoredRow { place: 15 + u64::from(n), recipient: recipient(n) }).collect();
        let call = push_call(16, &part, &[17, 18, 22]);
        let indices: Vec<u64> = call.rows.iter().map(|row| row.index.to()).collect();
        assert_eq!((indices, call.rows[2].account), (vec![17, 18, 22], Address::repeat_byte(7)));
        assert_eq!(call.flags.len(), call.rows.len() + call.proof.len() - 1);
    }
}
