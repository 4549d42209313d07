//! The commit of the index, kept by one replica at a time: one cursor for everything of this service.

use crate::{
    airdrop::store::index::AirdropEvents, offering::store::index::OfferingEvents, store::Store,
    treasury::store::index::TreasuryEvents,
};
use alloy::primitives::B256;
use dalp_chain::BlockRef;
use dalp_domain::{
    indexing::{drop_blocks, put_blocks},
    store::{StoreError, during, signed},
};

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its block.
    pub block: u64,
    /// Its number in the block.
    pub log_index: u64,
    /// Its transaction.
    pub tx_hash: B256,
}

/// Everything a batch of blocks changes.
#[derive(Debug, Default)]
pub struct IndexBatch {
    /// Everything above this block is withdrawn first; `None` in `Some` withdraws all.
    pub rewind_to: Option<Option<u64>>,
    /// Applied blocks.
    pub blocks: Vec<BlockRef>,
    /// What they tell of airdrops.
    pub airdrops: AirdropEvents,
    /// What they tell of sales.
    pub offerings: OfferingEvents,
    /// What they tell of treasuries.
    pub treasuries: TreasuryEvents,
}

impl Store {
    /// Commits a batch with its cursor, if this replica still holds the lease.
    pub async fn commit_index(&self, chain_id: u64, owner: &str, batch: &IndexBatch) -> Result<(), StoreError> {
        let mut commit = self.begin_index(chain_id, owner).await?;
        if let Some(to) = batch.rewind_to {
            let statements = [AirdropEvents::RETRACT, OfferingEvents::RETRACT, TreasuryEvents::RETRACT].concat();
            for statement in statements {
                sqlx::query(statement)
                    .bind(signed(chain_id))
                    .bind(to.map_or(-1, signed))
                    .execute(&mut *commit)
                    .await
                    .map_err(during("retract blocks"))?;
            }
            drop_blocks(&mut commit, chain_id, to).await?;
        }
        batch.airdrops.put(&mut commit, chain_id).await?;
        batch.offerings.put(&mut commit, chain_id).await?;
        batch.treasuries.put(&mut commit, chain_id).await?;
        put_blocks(&mut commit, chain_id, &batch.blocks).await?;
        commit.commit().await.map_err(during("commit index"))
    }
}
