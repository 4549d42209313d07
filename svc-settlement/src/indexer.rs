//! Follows the chain for the index.
//!
//! Any contract can emit events that look like ours: only those of tenants' settlement contracts count, and of a broken hold the word
//! of an asset that its settlement moves. A tenant chooses its contract, which may tell what no sound contract tells: that is left out
//! and counted, so that it stops nobody else's index.

use crate::{
    decoder::reason_of_revert,
    metric_definitions as metric,
    state::{EventKind, Told},
    store::{
        Store,
        contracts::FollowedContract,
        events::Place,
        index::{Happened, IndexBatch, Opened},
    },
    terms::Deed,
};
use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolEvent,
};
use dalp_chain::{
    BlockRef, ChainError, Filter, Log, Upstreams,
    follower::{Batch, Change, FollowerSink},
};
use dalp_contracts::{
    bindings::{
        AssetFactory,
        AssetToken::HoldBroken,
        Settlement::{
            self, AmountsReclaimed, ApprovalRevoked, CancelVoteWithdrawn, CancelVoted, LegDeliverable, LegDelivered,
            ReclaimStarted, SecretRevealed, SettlementApproved, SettlementBreached, SettlementCancelled,
            SettlementCreated, SettlementExecuted, SettlementLocked,
        },
    },
    revert::reason_text,
};
use dalp_domain::{ChainReader, ReadError, indexing, store::StoreError};
use dalp_service::stop::Stop;
use std::collections::{BTreeMap, BTreeSet};

/// What settlement contracts tell.
const TOPICS: [B256; 14] = [
    SettlementCreated::SIGNATURE_HASH,
    SettlementApproved::SIGNATURE_HASH,
    ApprovalRevoked::SIGNATURE_HASH,
    SettlementLocked::SIGNATURE_HASH,
    SecretRevealed::SIGNATURE_HASH,
    LegDelivered::SIGNATURE_HASH,
    LegDeliverable::SIGNATURE_HASH,
    SettlementExecuted::SIGNATURE_HASH,
    CancelVoted::SIGNATURE_HASH,
    CancelVoteWithdrawn::SIGNATURE_HASH,
    SettlementCancelled::SIGNATURE_HASH,
    ReclaimStarted::SIGNATURE_HASH,
    AmountsReclaimed::SIGNATURE_HASH,
    SettlementBreached::SIGNATURE_HASH,
];

/// Why a batch was not indexed. The follower tries again.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database did not take it.
    #[error("the index is not written")]
    Store(#[from] StoreError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Chain(#[from] ChainError),
    /// No node answers whose an asset is.
    #[error("an asset cannot be asked for")]
    Read(#[from] ReadError),
}

/// Indexes until stopped, whenever the lease can be had.
pub async fn run(store: Store, upstreams: Upstreams, start_block: u64, owner: String, stop: Stop) {
    let sink = {
        let (store, upstreams, owner) = (store.clone(), upstreams.clone(), owner.clone());
        move || Sink { store: store.clone(), upstreams: upstreams.clone(), start_block, owner: owner.clone() }
    };
    let filter = Filter::new().event_signature([&TOPICS[..], &[HoldBroken::SIGNATURE_HASH]].concat());
    indexing::run((*store).clone(), upstreams, filter, start_block, owner, sink, stop).await;
}

struct Sink {
    store: Store,
    upstreams: Upstreams,
    start_block: u64,
    owner: String,
}

/// Whom a batch believes.
#[derive(Debug, Default)]
struct Known {
    /// Tenants by their contract.
    contracts: BTreeMap<Address, String>,
    /// Terms by contract and identifier.
    deeds: BTreeMap<(Address, B256), Deed>,
}

/// What a log says of a settlement.
struct Said {
    contract: Address,
    settlement_id: B256,
    told: Told,
    /// Of a creation: its terms.
    deed: Option<Deed>,
}

#[async_trait::async_trait]
impl FollowerSink for Sink {
    type Error = IndexError;

    async fn applied(&mut self) -> Result<Vec<BlockRef>, IndexError> {
        Ok(self.store.indexed_blocks(self.chain_id()).await?)
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), IndexError> {
        let contracts = self.store.contracts(self.chain_id()).await?;
        let mut index = IndexBatch::default();
        let mut known = self.known(&contracts, batch.changes.iter().flat_map(logs_of)).await?;
        // What a retraction takes back must not be written with it.
        if batch.changes.iter().all(|change| matches!(change, Change::Applied { .. })) {
            self.catch_up(&contracts, &mut known, &mut index).await?;
        }
        for change in &batch.changes {
            match change {
                // Retractions come in a batch of their own, and the cursor is the last block that stays.
                Change::Retracted { .. } => index.rewind_to = Some(batch.cursor.map(|block| block.number)),
                Change::Applied { block, logs } => {
                    index.blocks.push(*block);
                    for log in logs {
                        read(&mut known, &mut index, log);
                    }
                }
            }
        }
        let own = self.own_assets(&index).await?;
        believe(&mut index, &own);
        let repeated = self.store.commit_index(self.chain_id(), &self.owner, &index).await?;
        metric::indexed(&index, repeated);
        Ok(())
    }
}

// === impl Sink ===

impl Sink {
    fn chain_id(&self) -> u64 {
        self.upstreams.config().chain_id
    }

    /// What is known of everything that these logs are about.
    async fn known(
        &self,
        contracts: &[FollowedContract],
        logs: impl Iterator<Item = &Log>,
    ) -> Result<Known, IndexError> {
        let contracts = contracts.iter().map(|one| (one.contract, one.tenant.clone())).collect();
        let mut known = Known { contracts, deeds: BTreeMap::new() };
        let ids: Vec<(Address, B256)> = logs.filter_map(|log| subject(&known, log)).collect();
        if !ids.is_empty() {
            let stored = self.store.known_settlements(self.chain_id(), &ids).await?;
            known.deeds = stored.into_iter().map(|one| ((one.contract, one.settlement_id), one.deed)).collect();
        }
        Ok(known)
    }

    /// Reads what the log says below the cursor of contracts that are seen for the first time. Should blocks among it be replaced
    /// before they are read, their retraction comes next and takes back what was read instead.
    async fn catch_up(
        &self,
        contracts: &[FollowedContract],
        known: &mut Known,
        index: &mut IndexBatch,
    ) -> Result<(), IndexError> {
        let new: Vec<Address> = contracts.iter().filter(|one| !one.followed).map(|one| one.contract).collect();
        index.followed.clone_from(&new);
        let head = self.store.indexed_head(self.chain_id()).await?;
        let Some(head) = head.filter(|_| !new.is_empty()) else { return Ok(()) };
        let told = Filter::new().address(new.clone()).event_signature(TOPICS.to_vec());
        let spenders: Vec<B256> = new.iter().map(|contract| contract.into_word()).collect();
        let broken = Filter::new().event_signature(HoldBroken::SIGNATURE_HASH).topic1(spenders);
        let mut logs = self.logs(&told, head).await?;
        logs.extend(self.logs(&broken, head).await?);
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        // Of contracts that are followed already, everything below the cursor is known.
        let contracts = known.contracts.iter().filter(|(contract, _)| new.contains(contract));
        let contracts = contracts.map(|(contract, tenant)| (*contract, tenant.clone())).collect();
        let mut alone = Known { contracts, deeds: BTreeMap::new() };
        for log in &logs {
            read(&mut alone, index, log);
        }
        known.deeds.extend(alone.deeds);
        Ok(())
    }

    /// Those assets whose broken holds a batch tells of that are the own ones of the system that the settlement belongs to, each with
    /// the settlement contract. Currencies are not held, so their word is nothing.
    async fn own_assets(&self, index: &IndexBatch) -> Result<BTreeSet<(Address, Address)>, IndexError> {
        let told = index.happened.iter().filter_map(|event| Some((event.contract, event.told.asset?)));
        let told: BTreeSet<(Address, Address)> = told.collect();
        if told.is_empty() {
            return Ok(told);
        }
        let chain = ChainReader::new(self.upstreams.clone());
        let asks = told.iter().map(|(contract, _)| (*contract, Settlement::ASSETSCall {})).collect();
        let mut of = Vec::new();
        for (one, factory) in told.into_iter().zip(chain.read_each(asks).await?) {
            of.extend(answered(factory)?.map(|factory| (one, factory)));
        }
        let asks =
            of.iter().map(|((_, token), factory)| (*factory, AssetFactory::isAssetCall { token: *token })).collect();
        let mut own = BTreeSet::new();
        for ((one, _), answer) in of.iter().zip(chain.read_each(asks).await?) {
            own.extend(answered(answer)?.filter(|own| *own).map(|_| *one));
        }
        Ok(own)
    }

    async fn logs(&self, filter: &Filter, head: u64) -> Result<Vec<Log>, IndexError> {
        Ok(self.upstreams.logs_between(filter, self.start_block, head).await?)
    }
}

/// What a contract answered. `None`: it refused or is none, which is its tenant's affair and stops nobody else.
#[allow(clippy::result_large_err)] // the reader's own error, passed on at once
fn answered<T>(answer: Result<T, ReadError>) -> Result<Option<T>, IndexError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_unavailable() => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Leaves out broken holds of assets that are not the system's own.
fn believe(index: &mut IndexBatch, own: &BTreeSet<(Address, Address)>) {
    index.happened.retain(|event| event.told.asset.is_none_or(|asset| own.contains(&(event.contract, asset))));
}

fn logs_of(change: &Change) -> &[Log] {
    match change {
        Change::Applied { logs, .. } => logs,
        Change::Retracted { .. } => &[],
    }
}

/// The settlement that a log is about, if it is one of ours.
fn subject(known: &Known, log: &Log) -> Option<(Address, B256)> {
    let (contract, id) = match HoldBroken::decode_log(&log.inner) {
        Ok(event) => (event.spender, event.id),
        // Of all others the identifier is the first topic behind the signature.
        Err(_) => (log.address(), *log.topics().get(1)?),
    };
    known.contracts.contains_key(&contract).then_some((contract, id))
}

/// Notes what a log says.
fn read(known: &mut Known, index: &mut IndexBatch, log: &Log) {
    let (Some((contract, id)), Some(at)) = (subject(known, log), place_of(log)) else { return };
    let Some(Said { contract, settlement_id, told, deed }) = said(known, contract, id, log) else {
        index.left_out += u64::from(log.address() == contract);
        return;
    };
    if let Some(deed) = deed {
        let Some(tenant) = known.contracts.get(&contract) else { return };
        known.deeds.insert((contract, settlement_id), deed.clone());
        index.opened.push(Opened {
            tenant: tenant.clone(),
            contract,
            settlement_id,
            creator: told.party.unwrap_or_default(),
            deed,
            block: at.block,
        });
    }
    index.happened.push(Happened { at, contract, settlement_id, told });
}

fn place_of(log: &Log) -> Option<Place> {
    Some(Place { block: log.block_number?, log_index: log.log_index?, tx_hash: log.transaction_hash? })
}

fn said(known: &Known, contract: Address, settlement_id: B256, log: &Log) -> Option<Said> {
    let inner = &log.inner;
    let said = |told, deed| Some(Said { contract, settlement_id, told, deed });
    if let Ok(event) = SettlementCreated::decode_log(inner) {
        let creator = event.creator;
        return match Deed::told(settlement_id, event.data.terms) {
            Some(deed) => said(by(EventKind::Created, creator), Some(deed)),
            None => {
                tracing::warn!(%contract, %settlement_id, "a settlement whose terms no sound contract takes is left out");
                None
            }
        };
    }
    let deed = known.deeds.get(&(contract, settlement_id))?;
    if let Ok(event) = HoldBroken::decode_log(inner) {
        let asset = inner.address;
        // Any contract can say so: only an asset that the holder sends in this settlement is believed, and later only the system's own.
        let sends = !event.amount.is_zero()
            && deed.terms.local().any(|(_, leg)| leg.asset == asset && leg.from == event.holder);
        let told =
            Told { asset: Some(asset), reason: reason_text(event.reason), ..by(EventKind::HoldBroken, event.holder) };
        return if sends { said(told, None) } else { None };
    }
    // A contract may name any leg; one that does not move here is never delivered here.
    let moves = |leg: U256| deed.terms.local().map(|(place, _)| place as u32).find(|place| U256::from(*place) == leg);
    let told = if let Ok(event) = SettlementApproved::decode_log(inner) {
        by(EventKind::Approved, event.sender)
    } else if let Ok(event) = ApprovalRevoked::decode_log(inner) {
        by(EventKind::Revoked, event.sender)
    } else if SettlementLocked::decode_log(inner).is_ok() {
        plain(EventKind::Locked)
    } else if SecretRevealed::decode_log(inner).is_ok() {
        plain(EventKind::Revealed)
    } else if let Ok(event) = LegDelivered::decode_log(inner) {
        Told { leg: Some(moves(event.leg)?), ..plain(EventKind::LegDelivered) }
    } else if let Ok(event) = LegDeliverable::decode_log(inner) {
        let reason = reason_of_revert(&event.cause);
        Told { leg: Some(moves(event.leg)?), reason, ..plain(EventKind::LegDeliverable) }
    } else if SettlementExecuted::decode_log(inner).is_ok() {
        plain(EventKind::Executed)
    } else if let Ok(event) = CancelVoted::decode_log(inner) {
        by(EventKind::Voted, event.party)
    } else if let Ok(event) = CancelVoteWithdrawn::decode_log(inner) {
        by(EventKind::VoteWithdrawn, event.party)
    } else if SettlementCancelled::decode_log(inner).is_ok() {
        plain(EventKind::Cancelled)
    } else if let Ok(event) = ReclaimStarted::decode_log(inner) {
        Told { reclaim_from: Some(event.fromBlock.saturating_to()), ..plain(EventKind::ReclaimStarted) }
    } else if let Ok(event) = AmountsReclaimed::decode_log(inner) {
        by(EventKind::Reclaimed, event.sender)
    } else if SettlementBreached::decode_log(inner).is_ok() {
        plain(EventKind::Breached)
    } else {
        return None;
    };
    said(told, None)
}

fn plain(kind: EventKind) -> Told {
    Told { kind, party: None, asset: None, leg: None, reason: String::new(), reclaim_from: None }
}

fn by(kind: EventKind, party: Address) -> Told {
    Told { party: Some(party), ..plain(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::{
        Terms,
        tests::{ALICE, BOB, BOND, CAROL, CASH, delivery},
    };

    const CONTRACT: Address = Address::repeat_byte(0x5e);

    fn log(address: Address, log_index: u64, told: impl SolEvent) -> Log {
        let inner = alloy::primitives::Log { address, data: told.encode_log_data() };
        let (block_number, transaction_hash) = (Some(7), Some(B256::ZERO));
        Log { inner, block_number, log_index: Some(log_index), transaction_hash, ..Default::default() }
    }

    fn indexed(logs: &[Log]) -> IndexBatch {
        let contracts = BTreeMap::from([(CONTRACT, "acme".to_owned())]);
        let (mut known, mut index) = (Known { contracts, deeds: BTreeMap::new() }, IndexBatch::default());
        for log in logs {
            read(&mut known, &mut index, log);
        }
        index
    }

    fn deed() -> Deed {
        Deed { salt: B256::repeat_byte(3), terms: delivery() }
    }

    fn created(at: Address) -> Log {
        log(at, 0, SettlementCreated { id: deed().id(), creator: CAROL, terms: deed().on_chain() })
    }

    fn broken(asset: Address, spender: Address, holder: Address) -> Log {
        let reason = dalp_contracts::roles::book_key("COURT_ORDER");
        log(asset, 1, HoldBroken { spender, id: deed().id(), holder, amount: U256::ONE, reason })
    }

    #[test]
    fn a_settlement_and_what_happens_to_it_in_one_batch() {
        let id = deed().id();
        let approved = log(CONTRACT, 1, SettlementApproved { id, sender: ALICE });
        let owed = LegDeliverable { id, leg: U256::from(2), cause: Default::default() };
        let index = indexed(&[created(CONTRACT), approved, log(CONTRACT, 2, owed)]);
        assert_eq!((index.opened.len(), index.opened[0].deed.clone()), (1, deed()));
        assert_eq!(index.opened[0].creator, CAROL);
        let kinds: Vec<_> = index.happened.iter().map(|event| (event.told.kind, event.told.party)).collect();
        let wanted =
            [(EventKind::Created, Some(CAROL)), (EventKind::Approved, Some(ALICE)), (EventKind::LegDeliverable, None)];
        assert_eq!(kinds, wanted);
        assert_eq!(index.happened[2].told.leg, Some(2));
    }

    #[test]
    fn a_stranger_s_word_does_not_count() {
        let id = deed().id();
        assert!(indexed(&[created(CASH)]).opened.is_empty(), "another contract");
        let forged = SettlementCreated { id: B256::ZERO, creator: CAROL, terms: deed().on_chain() };
        assert!(indexed(&[log(CONTRACT, 0, forged)]).opened.is_empty(), "terms of another identifier");
        let unknown = log(CONTRACT, 1, SettlementApproved { id, sender: ALICE });
        assert!(indexed(&[unknown]).happened.is_empty(), "a settlement that nobody saw opened");
    }

    #[test]
    fn what_no_sound_contract_tells_is_left_out() {
        let (id, cause) = (deed().id(), alloy::primitives::Bytes::new());
        let worthless = Deed { salt: B256::ZERO, terms: Terms { legs: Vec::new(), ..delivery() } };
        let opened = SettlementCreated { id: worthless.id(), creator: CAROL, terms: worthless.on_chain() };
        let index = indexed(&[
            created(CONTRACT),
            log(CONTRACT, 1, opened),
            log(CONTRACT, 2, LegDelivered { id, leg: U256::ONE << 200_usize }),
            log(CONTRACT, 3, LegDeliverable { id, leg: U256::from(3), cause }),
            log(CONTRACT, 4, LegDelivered { id, leg: U256::from(2) }),
        ]);
        assert_eq!((index.opened.len(), index.left_out), (1, 3));
        let kinds: Vec<_> = index.happened.iter().map(|event| (event.told.kind, event.told.leg)).collect();
        assert_eq!(kinds, [(EventKind::Created, None), (EventKind::LegDelivered, Some(2))]);
    }

    #[test]
    fn a_broken_hold_is_believed_of_an_asset_that_the_holder_sends() {
        let breaks = |log: Log| {
            let index = indexed(&[created(CONTRACT), log]);
            index.happened.get(1).map(|event| (event.told.party, event.told.reason.clone()))
        };
        let told = Some((Some(ALICE), "COURT_ORDER".to_owned()));
        assert_eq!(breaks(broken(BOND, CONTRACT, ALICE)), told);
        assert_eq!(breaks(broken(CASH, CONTRACT, ALICE)), None, "Alice sends no cash");
        assert_eq!(breaks(broken(BOND, CONTRACT, BOB)), None, "Bob sends no bonds");
        assert_eq!(breaks(broken(BOND, CASH, ALICE)), None, "a hold for somebody else");
        let reason = dalp_contracts::roles::book_key("COURT_ORDER");
        let nothing = HoldBroken { spender: CONTRACT, id: deed().id(), holder: ALICE, amount: U256::ZERO, reason };
        assert_eq!(breaks(log(BOND, 1, nothing)), None, "nothing of it");
        let mut index = indexed(&[created(CONTRACT), broken(BOND, CONTRACT, ALICE)]);
        believe(&mut index, &BTreeSet::from([(CONTRACT, BOND)]));
        assert_eq!(index.happened.len(), 2, "the system's own asset");
        believe(&mut index, &BTreeSet::from([(CONTRACT, CASH), (CASH, BOND)]));
        assert_eq!(index.happened.len(), 1, "a currency, or another system's");
    }
}
