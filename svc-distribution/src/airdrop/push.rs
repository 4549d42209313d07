//! Pushes: the passes over the lists of airdrops.

use super::{
    flows::{BatchOrder, PushBatch, PushBatchFlow},
    store::{airdrops::StoredAirdrop, lists::StoredRow, pushes::StoredPush},
    tree::Tree,
};
use crate::{
    metric_definitions as metric,
    passes::{Driver, OpenBatch, Opening, PassError, Passes},
    store::Store,
};
use alloy::{primitives::U256, sol_types::SolCall as _};
use dalp_contracts::bindings::Distribution;
use dalp_domain::store::StoreError;
use dalp_engine::{Admission, Engine, Failure, OperationView, TenantId};
use uuid::Uuid;

/// The RPC that batches are accepted under.
pub const METHOD: &str = "dalp.distribution.v1.AirdropService/PushAirdrop";
/// Rows that are measured before a push begins.
pub const SAMPLE: u32 = 50;
/// The least that a payment of an asset of ours costs.
pub const LEAST_ROW_GAS: u64 = 50_000;

/// Hands batches of airdrops over.
pub type Pusher = Driver<Pushes>;

/// Pushes of every tenant on a chain.
#[derive(Clone)]
pub struct Pushes {
    store: Store,
    engine: Engine,
    chain_id: u64,
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

// === impl Pushes ===

impl Pushes {
    /// Those of a chain.
    #[must_use]
    pub fn new(store: Store, engine: Engine, chain_id: u64) -> Self {
        Self { store, engine, chain_id }
    }
}

#[async_trait::async_trait]
impl Passes for Pushes {
    type Pass = (StoredPush, StoredAirdrop);

    async fn running(&self) -> Result<Vec<Self::Pass>, StoreError> {
        let mut running = Vec::new();
        for push in self.store.running_pushes(self.chain_id).await? {
            // A push refers to its airdrop, which is never deleted.
            if let Some(airdrop) = self.store.airdrop(&push.tenant, self.chain_id, push.airdrop).await? {
                running.push((push, airdrop));
            }
        }
        Ok(running)
    }

    fn tenant<'a>(&self, (push, _): &'a Self::Pass) -> &'a str {
        &push.tenant
    }

    fn name(&self, (push, _): &Self::Pass) -> String {
        format!("push {} of airdrop {}", push.push, push.airdrop)
    }

    async fn open(&self, _: &mut Self::Pass) -> Result<Opening, PassError> {
        Ok(Opening::Done)
    }

    async fn open_batches(&self, (push, _): &Self::Pass) -> Result<Vec<OpenBatch>, StoreError> {
        self.store.open_batches(self.chain_id, push).await
    }

    async fn plan(&self, (push, airdrop): &Self::Pass) -> Result<Option<OpenBatch>, StoreError> {
        self.store.plan_batch(self.chain_id, push, (airdrop.list_id, airdrop.parts)).await
    }

    async fn hand_over(&self, (push, airdrop): &Self::Pass, batch: &OpenBatch) -> Result<OperationView, PassError> {
        let (first, count) = airdrop.parts.of_row(batch.places.first().copied().unwrap_or_default());
        let part = self.store.rows(airdrop.list_id, first, count).await?;
        let data = push_call(first, &part, &batch.places).abi_encode().into();
        let command = PushBatch { sender: push.sender, airdrop: push.airdrop, push: push.push, batch: batch.batch };
        let order = BatchOrder { chain_id: self.chain_id, command, data };
        let key = format!("push-{:#x}-{}-{}", push.airdrop, push.push, batch.batch);
        let admission =
            Admission::<PushBatchFlow>::new(TenantId::new(&push.tenant), &push.principal, METHOD, key, order);
        Ok(self.engine.accept(admission).await?.operation)
    }

    async fn note(&self, (push, _): &Self::Pass, batch: u32, id: Uuid) -> Result<(), StoreError> {
        self.store.note_batch(self.chain_id, push, batch, id).await
    }

    async fn settle(&self, (push, _): &Self::Pass, batch: u32) -> Result<(), StoreError> {
        self.store.settle_batch(self.chain_id, push, batch).await
    }

    async fn end(&self, (push, _): &Self::Pass, failure: Option<&Failure>) -> Result<(), StoreError> {
        self.store.end_push(self.chain_id, push, failure).await
    }

    fn measure(&self, running: usize) {
        metric::pushes_running(running);
    }

    fn stopped(&self) {
        metric::push_stopped();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::airdrop::list::Recipient;
    use alloy::primitives::Address;

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
