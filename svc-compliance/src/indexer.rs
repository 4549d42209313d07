//! Follows the chain and keeps who holds what after each block, and what rules were told. One replica at a time, by a lease that every commit checks.

mod rules;

use crate::store::{
    Store, StoreError,
    holdings::{CreatedAsset, Holding, HoldingKey, IndexBatch, Owners},
    rule_logs::CreatedCompliance,
};
use alloy::{
    primitives::{Address, B256, Log as PrimitiveLog, U256},
    sol_types::SolEvent,
};
use dalp_chain::{
    BlockRef, Filter, Log, Upstreams,
    follower::{Batch, Change, FollowerSink},
};
use dalp_contracts::bindings::{AssetFactory, AssetToken};
use dalp_domain::{Tables, indexing};
use dalp_service::stop::Stop;
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// One event that changes a holding, or creates an asset or a compliance.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Created { token: Address, compliance: Address, salt: B256 },
    ComplianceCreated { token: Address, compliance: Address },
    Moved { from: Address, to: Address, amount: U256 },
    AddressFrozen { holder: Address, frozen: bool },
    Frozen { holder: Address, amount: U256 },
    Unfrozen { holder: Address, amount: U256 },
}

/// Indexes until stopped, whenever the lease can be had.
pub async fn run(store: Store, upstreams: Upstreams, start_block: u64, owner: String, stop: Stop) {
    let chain_id = upstreams.config().chain_id;
    let sink = {
        let (store, owner) = (store.clone(), owner.clone());
        move || Sink { store: store.clone(), chain_id, owner: owner.clone() }
    };
    indexing::run(Tables::clone(&store), upstreams, filter(), start_block, owner, sink, stop).await;
}

/// By topic, not by address: the first events of a new asset stand in the block of its creation.
fn filter() -> Filter {
    let holdings = [
        AssetFactory::AssetCreated::SIGNATURE_HASH,
        AssetToken::Transfer::SIGNATURE_HASH,
        AssetToken::AddressFrozen::SIGNATURE_HASH,
        AssetToken::TokensFrozen::SIGNATURE_HASH,
        AssetToken::TokensUnfrozen::SIGNATURE_HASH,
    ];
    Filter::new().event_signature(holdings.into_iter().chain(rules::TOPICS).collect::<Vec<_>>())
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
        let logged: BTreeSet<Address> = batch.changes.iter().flat_map(logs_of).map(Log::address).collect();
        let (factories, mut owners) = match logged.is_empty() {
            true => Default::default(),
            false => self.store.indexed_contracts(self.chain_id, &logged).await?,
        };
        let mut known =
            rules::Known::of_logs(&self.store, self.chain_id, batch.changes.iter().flat_map(logs_of)).await?;
        let mut index = IndexBatch::default();
        let mut events: Vec<(u64, Address, Event)> = Vec::new();
        let mut rewinds = false;
        for change in &batch.changes {
            match change {
                Change::Retracted { .. } => rewinds = true,
                Change::Applied { block, logs } => {
                    index.blocks.push(*block);
                    // Creations first: a node may not promise the order of one block.
                    for (asset, compliance) in logs.iter().filter_map(|log| created(&factories, block.number, log)) {
                        known.created(&compliance);
                        index.compliances.push(compliance);
                        if let Some(created) = asset {
                            owners.insert(created.asset, created.tenant.clone());
                            index.assets.push(created);
                        }
                    }
                    index.rule_logs.extend(known.read(block.number, logs));
                    let ours = logs.iter().filter(|log| owners.contains_key(&log.address()));
                    events.extend(ours.filter_map(|log| Some((block.number, log.address(), decode(log)?))));
                }
            }
        }
        if rewinds {
            // Retractions come in a batch of their own, and the cursor is the last block that stays.
            index.rewind_to = Some(batch.cursor.map(|block| block.number));
        }
        let keys: Vec<HoldingKey> = touched(&events);
        let mut current = match keys.is_empty() {
            true => HashMap::new(),
            false => self.store.newest_holdings(self.chain_id, &owners, &keys).await?,
        };
        for (block, asset, event) in events {
            apply(&mut current, &mut index, block, asset, event);
        }
        index.owners = owners;
        self.store.commit_index(self.chain_id, &self.owner, &index).await
    }
}

fn logs_of(change: &Change) -> &[Log] {
    match change {
        Change::Applied { logs, .. } => logs,
        Change::Retracted { .. } => &[],
    }
}

/// The compliance that a tenant's factory made, with its asset where that was made with it.
fn created(factories: &Owners, block: u64, log: &Log) -> Option<(Option<CreatedAsset>, CreatedCompliance)> {
    let tenant = factories.get(&log.address())?.clone();
    match decode(log)? {
        Event::Created { token, compliance, salt } => {
            let operation_id = Uuid::from_slice(&salt[16..]).unwrap_or_default();
            let asset = CreatedAsset {
                tenant: tenant.clone(),
                asset: token,
                asset_factory: log.address(),
                block,
                operation_id,
            };
            Some((Some(asset), CreatedCompliance { tenant, compliance, asset: token, block }))
        }
        Event::ComplianceCreated { token, compliance } => {
            Some((None, CreatedCompliance { tenant, compliance, asset: token, block }))
        }
        _ => None,
    }
}

fn decode(log: &Log) -> Option<Event> {
    fn as_event<E: SolEvent>(log: &PrimitiveLog) -> Option<E> {
        E::decode_log(log).ok().map(|decoded| decoded.data)
    }
    let (topic, log) = (*log.topic0()?, &log.inner);
    if topic == AssetToken::Transfer::SIGNATURE_HASH {
        as_event::<AssetToken::Transfer>(log).map(|event| Event::Moved {
            from: event.from,
            to: event.to,
            amount: event.value,
        })
    } else if topic == AssetFactory::AssetCreated::SIGNATURE_HASH {
        as_event::<AssetFactory::AssetCreated>(log).map(|event| Event::Created {
            token: event.token,
            compliance: event.compliance,
            salt: event.salt,
        })
    } else if topic == AssetFactory::ComplianceCreated::SIGNATURE_HASH {
        as_event::<AssetFactory::ComplianceCreated>(log)
            .map(|event| Event::ComplianceCreated { token: event.token, compliance: event.compliance })
    } else if topic == AssetToken::AddressFrozen::SIGNATURE_HASH {
        as_event::<AssetToken::AddressFrozen>(log)
            .map(|event| Event::AddressFrozen { holder: event._userAddress, frozen: event._isFrozen })
    } else if topic == AssetToken::TokensFrozen::SIGNATURE_HASH {
        as_event::<AssetToken::TokensFrozen>(log)
            .map(|event| Event::Frozen { holder: event._userAddress, amount: event._amount })
    } else if topic == AssetToken::TokensUnfrozen::SIGNATURE_HASH {
        as_event::<AssetToken::TokensUnfrozen>(log)
            .map(|event| Event::Unfrozen { holder: event._userAddress, amount: event._amount })
    } else {
        None // of rules
    }
}

fn touched(events: &[(u64, Address, Event)]) -> Vec<HoldingKey> {
    let mut keys: Vec<HoldingKey> = events
        .iter()
        .flat_map(|(_, asset, event)| match event {
            Event::Moved { from, to, .. } => vec![(*asset, *from), (*asset, *to)],
            Event::AddressFrozen { holder, .. } | Event::Frozen { holder, .. } | Event::Unfrozen { holder, .. } => {
                vec![(*asset, *holder)]
            }
            Event::Created { .. } | Event::ComplianceCreated { .. } => Vec::new(),
        })
        .filter(|(_, holder)| !holder.is_zero())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn apply(current: &mut HashMap<HoldingKey, Holding>, index: &mut IndexBatch, block: u64, asset: Address, event: Event) {
    let mut change = |holder: Address, change: &dyn Fn(&mut Holding)| {
        if holder.is_zero() {
            return; // the other side of a mint or burn
        }
        let holding = current.entry((asset, holder)).or_default();
        change(holding);
        index.holdings.insert((block, asset, holder), *holding);
    };
    match event {
        Event::Moved { from, to, amount } => {
            change(from, &|holding| holding.balance = less(holding.balance, amount, asset, block));
            change(to, &|holding| holding.balance = holding.balance.saturating_add(amount));
        }
        Event::AddressFrozen { holder, frozen } => change(holder, &|holding| holding.address_frozen = frozen),
        Event::Frozen { holder, amount } => {
            change(holder, &|holding| holding.frozen = holding.frozen.saturating_add(amount))
        }
        Event::Unfrozen { holder, amount } => {
            change(holder, &|holding| holding.frozen = less(holding.frozen, amount, asset, block))
        }
        Event::Created { .. } | Event::ComplianceCreated { .. } => {}
    }
}

/// The difference. The token never lets it go below zero, so a negative one means that an event was missed: said loudly, because
/// the list no longer equals the chain.
fn less(held: U256, amount: U256, asset: Address, block: u64) -> U256 {
    held.checked_sub(amount).unwrap_or_else(|| {
        tracing::error!(%asset, block, %held, %amount, "a holding would be negative, the index needs to be built again");
        U256::ZERO
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_add_up_per_block() {
        let (asset, a, b) = (Address::repeat_byte(1), Address::repeat_byte(2), Address::repeat_byte(3));
        let (mut current, mut index) = (HashMap::new(), IndexBatch::default());
        let mut add = |block, event| apply(&mut current, &mut index, block, asset, event);
        add(1, Event::Moved { from: Address::ZERO, to: a, amount: U256::from(10) });
        add(1, Event::Moved { from: a, to: b, amount: U256::from(4) });
        add(2, Event::Frozen { holder: a, amount: U256::from(3) });
        add(3, Event::Moved { from: a, to: Address::ZERO, amount: U256::from(1) });
        add(3, Event::AddressFrozen { holder: b, frozen: true });
        let at = |block, holder| index.holdings.get(&(block, asset, holder)).copied();
        assert_eq!(at(1, a).map(|holding| holding.balance), Some(U256::from(6)));
        assert_eq!(at(2, a).map(|holding| holding.frozen), Some(U256::from(3)));
        assert_eq!(at(3, a).map(|holding| (holding.balance, holding.frozen)), Some((U256::from(5), U256::from(3))));
        assert_eq!(at(3, b).map(|holding| holding.address_frozen), Some(true));
        assert_eq!(index.holdings.len(), 5);
    }

    #[test]
    fn a_transfer_to_oneself_changes_nothing() {
        let (asset, a) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let (mut current, mut index) = (HashMap::new(), IndexBatch::default());
        apply(&mut current, &mut index, 1, asset, Event::Moved { from: Address::ZERO, to: a, amount: U256::from(10) });
        apply(&mut current, &mut index, 1, asset, Event::Moved { from: a, to: a, amount: U256::from(10) });
        assert_eq!(current[&(asset, a)].balance, U256::from(10));
    }
}
