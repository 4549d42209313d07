//! Follows the chain and keeps what became of every recipient.
//!
//! Any contract can emit events that look like ours: only those of airdrops that were ordered here count, and a creation only when the
//! factory tells of it that was asked.

use super::store::index::{IndexBatch, Payout, PayoutKind, Place, Withdrawal};
use crate::{decoder::reason_of_revert, metric_definitions as metric, store::Store};
use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolEvent as _,
};
use dalp_chain::{
    BlockRef, Filter, Log, Upstreams,
    follower::{Batch, Change, FollowerSink},
};
use dalp_contracts::bindings::{
    AddonFactory::DistributionCreated,
    Distribution::{Claimed, LeftoverWithdrawn, PushSkipped, Pushed, Released, VestingStarted},
};
use dalp_domain::{indexing, store::StoreError};
use dalp_service::stop::Stop;
use std::collections::{BTreeMap, BTreeSet};

/// Indexes until stopped, whenever the lease can be had.
pub async fn run(store: Store, upstreams: Upstreams, start_block: u64, owner: String, stop: Stop) {
    let sink = {
        let (store, chain_id, owner) = (store.clone(), upstreams.config().chain_id, owner.clone());
        move || Sink { store: store.clone(), chain_id, owner: owner.clone() }
    };
    let filter = Filter::new().event_signature(topics());
    indexing::run((*store).clone(), upstreams, filter, start_block, owner, sink, stop).await;
}

fn topics() -> Vec<B256> {
    vec![
        DistributionCreated::SIGNATURE_HASH,
        Pushed::SIGNATURE_HASH,
        PushSkipped::SIGNATURE_HASH,
        Claimed::SIGNATURE_HASH,
        VestingStarted::SIGNATURE_HASH,
        Released::SIGNATURE_HASH,
        LeftoverWithdrawn::SIGNATURE_HASH,
    ]
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
        let named: BTreeSet<Address> = batch.changes.iter().flat_map(logs_of).filter_map(airdrop_of).collect();
        let known = match named.is_empty() {
            true => BTreeMap::new(),
            false => self.store.known_airdrops(self.chain_id, &named).await?,
        };
        for change in &batch.changes {
            match change {
                // Retractions come in a batch of their own, and the cursor is the last block that stays.
                Change::Retracted { .. } => index.rewind_to = Some(batch.cursor.map(|block| block.number)),
                Change::Applied { block, logs } => {
                    index.blocks.push(*block);
                    logs.iter().for_each(|log| read(&known, &mut index, log));
                }
            }
        }
        self.store.commit_index(self.chain_id, &self.owner, &index).await?;
        metric::indexed(&index.payouts);
        Ok(())
    }
}

fn logs_of(change: &Change) -> &[Log] {
    match change {
        Change::Applied { logs, .. } => logs,
        Change::Retracted { .. } => &[],
    }
}

/// The airdrop that an event is about.
fn airdrop_of(log: &Log) -> Option<Address> {
    match log.topic0() == Some(&DistributionCreated::SIGNATURE_HASH) {
        true => Some(DistributionCreated::decode_log(&log.inner).ok()?.distribution),
        false => Some(log.address()),
    }
}

/// Notes what an event says.
fn read(known: &BTreeMap<Address, Address>, index: &mut IndexBatch, log: &Log) {
    let Some(airdrop) = airdrop_of(log) else { return };
    let (Some(factory), Some(block), Some(log_index), Some(tx_hash)) =
        (known.get(&airdrop), log.block_number, log.log_index, log.transaction_hash)
    else {
        return;
    };
    if log.address() == *factory {
        index.created.push((airdrop, block));
        return;
    }
    let at = Place { block, log_index, tx_hash };
    if let Ok(event) = LeftoverWithdrawn::decode_log(&log.inner) {
        index.withdrawals.push(Withdrawal { at, airdrop, currency: event.currency, amount: event.amount });
    } else if let Some((row, kind, amount, reason)) = payout(log) {
        index.payouts.push(Payout { at, airdrop, row: row.saturating_to(), kind, amount, reason });
    }
}

fn payout(log: &Log) -> Option<(U256, PayoutKind, U256, String)> {
    let topic = *log.topic0()?;
    let said = |row, kind, amount| Some((row, kind, amount, String::new()));
    if topic == Pushed::SIGNATURE_HASH {
        let event = Pushed::decode_log(&log.inner).ok()?.data;
        said(event.index, PayoutKind::Paid, event.amount)
    } else if topic == Claimed::SIGNATURE_HASH {
        let event = Claimed::decode_log(&log.inner).ok()?.data;
        said(event.index, PayoutKind::Paid, event.amount)
    } else if topic == VestingStarted::SIGNATURE_HASH {
        let event = VestingStarted::decode_log(&log.inner).ok()?.data;
        said(event.index, PayoutKind::Started, event.amount)
    } else if topic == Released::SIGNATURE_HASH {
        let event = Released::decode_log(&log.inner).ok()?.data;
        said(event.index, PayoutKind::Released, event.amount)
    } else {
        let event = PushSkipped::decode_log(&log.inner).ok()?.data;
        Some((event.index, PayoutKind::Skipped, U256::ZERO, reason_of_revert(&event.reason)))
    }
}
