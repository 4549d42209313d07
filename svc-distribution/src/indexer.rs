//! Follows the chain for the index.
//!
//! Any contract can emit events that look like ours: only those of airdrops, sales and treasuries that were ordered here count, and a creation
//! only when the factory tells of it that was asked.

use crate::{
    airdrop::indexer as airdrops,
    index::{IndexBatch, Place},
    metric_definitions as metric,
    offering::indexer as offerings,
    store::Store,
    treasury::indexer as treasuries,
};
use alloy::primitives::Address;
use dalp_chain::{
    BlockRef, Filter, Log, Upstreams,
    follower::{Batch, Change, FollowerSink},
};
use dalp_domain::{indexing, store::StoreError};
use dalp_service::stop::Stop;
use std::collections::{BTreeMap, BTreeSet};

/// Contracts that were ordered here, each with the factory that makes it.
pub(crate) type Known = BTreeMap<Address, Address>;

/// Indexes until stopped, whenever the lease can be had.
pub async fn run(store: Store, upstreams: Upstreams, start_block: u64, owner: String, stop: Stop) {
    let sink = {
        let (store, chain_id, owner) = (store.clone(), upstreams.config().chain_id, owner.clone());
        move || Sink { store: store.clone(), chain_id, owner: owner.clone() }
    };
    let topics = [airdrops::TOPICS, offerings::TOPICS, treasuries::TOPICS].concat();
    let filter = Filter::new().event_signature(topics);
    indexing::run((*store).clone(), upstreams, filter, start_block, owner, sink, stop).await;
}

/// Where an event stands, if its node says so.
pub(crate) fn place_of(log: &Log) -> Option<Place> {
    Some(Place { block: log.block_number?, log_index: log.log_index?, tx_hash: log.transaction_hash? })
}

struct Sink {
    store: Store,
    chain_id: u64,
    owner: String,
}

#[async_trait::async_trait]
impl FollowerSink for Sink {
    type Error = StoreError;

    async fn applied(&mut self) -> Result<Vec<BlockRef>, StoreError> {
        self.store.indexed_blocks(self.chain_id).await
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut index = IndexBatch::default();
        let logs = || batch.changes.iter().flat_map(logs_of);
        let airdrops: Known = match logs().filter_map(airdrops::airdrop_of).collect::<BTreeSet<_>>() {
            named if named.is_empty() => Known::new(),
            named => self.store.known_airdrops(self.chain_id, &named).await?,
        };
        let offerings: Known = match logs().filter_map(offerings::offering_of).collect::<BTreeSet<_>>() {
            named if named.is_empty() => Known::new(),
            named => self.store.known_offerings(self.chain_id, &named).await?,
        };
        let treasuries: Known = match logs().filter_map(treasuries::treasury_of).collect::<BTreeSet<_>>() {
            named if named.is_empty() => Known::new(),
            named => self.store.known_treasuries(self.chain_id, &named).await?,
        };
        let assets = match logs().filter_map(treasuries::recovered_asset).collect::<BTreeSet<_>>() {
            named if named.is_empty() => BTreeSet::new(),
            named => self.store.serviced_assets(self.chain_id, &named).await?,
        };
        for change in &batch.changes {
            match change {
                // Retractions come in a batch of their own, and the cursor is the last block that stays.
                Change::Retracted { .. } => index.rewind_to = Some(batch.cursor.map(|block| block.number)),
                Change::Applied { block, logs } => {
                    index.blocks.push(*block);
                    for log in logs {
                        airdrops::read(&airdrops, &mut index.airdrops, log);
                        offerings::read(&offerings, &mut index.offerings, log);
                        treasuries::read(&treasuries, &mut index.treasuries, log);
                        treasuries::read_recovery(&assets, &mut index.treasuries, log);
                    }
                }
            }
        }
        self.store.commit_index(self.chain_id, &self.owner, &index).await?;
        metric::indexed(&index);
        Ok(())
    }
}

fn logs_of(change: &Change) -> &[Log] {
    match change {
        Change::Applied { logs, .. } => logs,
        Change::Retracted { .. } => &[],
    }
}
