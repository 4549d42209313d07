//! Follows the chain and keeps which feed speaks for which pair, and every accepted round with its signature.
//!
//! Any contract can emit events that look like ours: a directory's word counts when a tenant's address book names it, a round when
//! such a directory has named its feed.

use crate::{
    domain::{
        feed::{Pair, Terms},
        update::Update,
    },
    metric_definitions as metric,
    readers::feeds,
    store::{
        Store, StoreError,
        index::{DirectoryLog, IndexBatch, KnownFeeds, SeenFeed, Told},
        rounds::StoredRound,
        systems::FollowedSystem,
    },
};
use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolEvent as _,
};
use dalp_chain::{
    BlockRef, ChainError, Filter, Log, Upstreams,
    follower::{Batch, Change, FollowerSink},
};
use dalp_contracts::bindings::{
    FeedsDirectory::{AdapterCreated, FeedRegistered, FeedRemoved, FeedReplaced},
    IdentityControl::{KeyRemoved, KeysRecovered},
    IssuerSignedScalarFeed::FeedUpdated,
    RegistryAdministration::{ClaimTopicsUpdated, TopicRetired, TrustedIssuerRemoved, TrustedIssuerRemovedFor},
};
use dalp_domain::{ChainReader, ReadError, Tables, indexing};
use dalp_service::stop::Stop;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::Notify;

/// Events that may mean that an issuer's key can sign no more.
const WITHDRAWALS: [B256; 6] = [
    KeyRemoved::SIGNATURE_HASH,
    KeysRecovered::SIGNATURE_HASH,
    TrustedIssuerRemoved::SIGNATURE_HASH,
    TrustedIssuerRemovedFor::SIGNATURE_HASH,
    ClaimTopicsUpdated::SIGNATURE_HASH,
    TopicRetired::SIGNATURE_HASH,
];

/// Why a batch was not indexed. The follower tries again.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database did not take it.
    #[error("the index is not written")]
    Store(#[from] StoreError),
    /// What a feed is pinned to cannot be read.
    #[error("a feed cannot be read")]
    Feed(#[from] ReadError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Chain(#[from] ChainError),
}

/// Indexes until stopped, whenever the lease can be had. `withdrawn` is told when the log holds the loss of a right to sign.
pub async fn run(
    store: Store,
    upstreams: Upstreams,
    start_block: u64,
    owner: String,
    withdrawn: Arc<Notify>,
    stop: Stop,
) {
    let sink = {
        let (store, upstreams, owner) = (store.clone(), upstreams.clone(), owner.clone());
        move || Sink {
            store: store.clone(),
            chain: ChainReader::new(upstreams.clone()),
            start_block,
            owner: owner.clone(),
            withdrawn: withdrawn.clone(),
        }
    };
    let topics = directory_topics().into_iter().chain([FeedUpdated::SIGNATURE_HASH]).chain(WITHDRAWALS);
    let filter = Filter::new().event_signature(topics.collect::<Vec<_>>());
    indexing::run(Tables::clone(&store), upstreams, filter, start_block, owner, sink, stop).await;
}

fn directory_topics() -> Vec<B256> {
    vec![
        FeedRegistered::SIGNATURE_HASH,
        FeedReplaced::SIGNATURE_HASH,
        FeedRemoved::SIGNATURE_HASH,
        AdapterCreated::SIGNATURE_HASH,
    ]
}

struct Sink {
    store: Store,
    chain: ChainReader,
    start_block: u64,
    owner: String,
    withdrawn: Arc<Notify>,
}

/// Whom a batch believes.
#[derive(Default)]
struct Known {
    /// Tenants by their directory.
    directories: BTreeMap<Address, String>,
    feeds: KnownFeeds,
}

#[async_trait::async_trait]
impl FollowerSink for Sink {
    type Error = IndexError;

    async fn applied(&mut self) -> Result<Vec<BlockRef>, IndexError> {
        Ok(self.store.indexed_blocks(self.chain.chain_id()).await?)
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), IndexError> {
        let chain_id = self.chain.chain_id();
        let systems = self.store.systems(chain_id).await?;
        let mut index = IndexBatch::default();
        let mut known = self.known(&systems, batch.changes.iter().flat_map(logs_of)).await?;
        // What a retraction takes back must not be written with it.
        if batch.changes.iter().all(|change| matches!(change, Change::Applied { .. })) {
            self.catch_up(&systems, &mut known, &mut index).await?;
        }
        for change in &batch.changes {
            match change {
                // Retractions come in a batch of their own, and the cursor is the last block that stays.
                Change::Retracted { .. } => index.rewind_to = Some(batch.cursor.map(|block| block.number)),
                Change::Applied { block, logs } => {
                    index.blocks.push(*block);
                    self.read(&mut known, &mut index, logs).await?;
                }
            }
        }
        metric::nonce_gaps(self.store.commit_index(chain_id, &self.owner, &index).await?);
        metric::indexed(chain_id, index.rounds.len());
        // From any contract: who has lost what is asked of the chain, not of the log.
        let takes = |log: &Log| log.topic0().is_some_and(|topic| WITHDRAWALS.contains(topic));
        if batch.changes.iter().flat_map(logs_of).any(takes) {
            self.withdrawn.notify_one();
        }
        Ok(())
    }
}

// === impl Sink ===

impl Sink {
    /// What is known of everybody whom these logs are from.
    async fn known(&self, systems: &[FollowedSystem], logs: impl Iterator<Item = &Log>) -> Result<Known, IndexError> {
        let directories = systems.iter().map(|one| (one.system.directory, one.tenant.clone())).collect();
        let emitters: BTreeSet<Address> =
            logs.filter(|log| log.topic0() == Some(&FeedUpdated::SIGNATURE_HASH)).map(Log::address).collect();
        let feeds = match emitters.is_empty() {
            true => KnownFeeds::new(),
            false => self.store.known_feeds(self.chain.chain_id(), &emitters).await?,
        };
        Ok(Known { directories, feeds })
    }

    /// Reads what the log says of a tenant's contracts below the cursor, for tenants that are seen for the first time. Should blocks
    /// among it be replaced before they are read, their retraction comes next and takes back what was read instead.
    async fn catch_up(
        &self,
        systems: &[FollowedSystem],
        known: &mut Known,
        index: &mut IndexBatch,
    ) -> Result<(), IndexError> {
        let new: Vec<&FollowedSystem> = systems.iter().filter(|one| !one.followed).collect();
        let Some(head) = self.store.indexed_head(self.chain.chain_id()).await?.filter(|_| !new.is_empty()) else {
            index.followed.extend(new.into_iter().map(|one| one.tenant.clone()));
            return Ok(());
        };
        let directories: Vec<Address> = new.iter().map(|one| one.system.directory).collect();
        let told = Filter::new().address(directories.clone()).event_signature(directory_topics());
        let mut logs = self.logs(&told, head).await?;
        let feeds: BTreeSet<Address> = logs.iter().filter_map(named_feed).collect();
        if !feeds.is_empty() {
            let feeds: Vec<Address> = feeds.into_iter().collect();
            let rounds = Filter::new().address(feeds).event_signature(FeedUpdated::SIGNATURE_HASH);
            logs.extend(self.logs(&rounds, head).await?);
        }
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        // Of tenants that are followed already, everything below the cursor is known.
        let tenants = new.iter().map(|one| (one.system.directory, one.tenant.clone())).collect();
        let mut alone = Known { directories: tenants, feeds: KnownFeeds::new() };
        self.read(&mut alone, index, &logs).await?;
        for (feed, of) in alone.feeds {
            known.feeds.entry(feed).or_default().extend(of);
        }
        index.followed.extend(new.into_iter().map(|one| one.tenant.clone()));
        Ok(())
    }

    async fn logs(&self, filter: &Filter, head: u64) -> Result<Vec<Log>, IndexError> {
        Ok(self.chain.upstreams().logs_between(filter, self.start_block, head).await?)
    }

    /// Notes what logs say, in their order.
    async fn read(&self, known: &mut Known, index: &mut IndexBatch, logs: &[Log]) -> Result<(), IndexError> {
        for log in logs {
            let block = log.block_number.unwrap_or_default();
            if let Some(tenant) = known.directories.get(&log.address()) {
                let Some((pair, told)) = directory_log(log) else { continue };
                let tenant = tenant.clone();
                if let Told::Speaks { feed, .. } = told {
                    self.see(known, index, &tenant, feed, pair, block).await?;
                }
                index.directory.push(DirectoryLog { tenant, block, pair, told });
            } else if let Some(of) = known.feeds.get(&log.address()) {
                for (tenant, terms) in of {
                    if let Some(round) = self.round(terms, log) {
                        index.rounds.push((tenant.clone(), log.address(), round));
                    }
                }
            }
        }
        Ok(())
    }

    /// Believes a feed from now on, with what it is pinned to; that never changes, so it is read as it stands now.
    async fn see(
        &self,
        known: &mut Known,
        index: &mut IndexBatch,
        tenant: &str,
        feed: Address,
        pair: Pair,
        block: u64,
    ) -> Result<(), IndexError> {
        if known.feeds.get(&feed).is_some_and(|of| of.iter().any(|(owner, _)| owner == tenant)) {
            return Ok(());
        }
        let terms = match feeds::terms(&self.chain, feed, pair).await {
            Ok(terms) => terms,
            Err(error) if error.is_unavailable() => return Err(error.into()),
            // The directory asked for its decimals, so it answered then; it is listed, and answers nothing more.
            Err(_) => Terms { pair, decimals: 0, description: String::new(), signed: None },
        };
        known.feeds.entry(feed).or_default().push((tenant.to_owned(), terms.clone()));
        index.feeds.push(SeenFeed { tenant: tenant.to_owned(), feed, terms, block });
        Ok(())
    }

    fn round(&self, terms: &Terms, log: &Log) -> Option<StoredRound> {
        let signed = terms.signed.as_ref()?;
        let event = FeedUpdated::decode_log(&log.inner).ok()?.data;
        let update = Update {
            topic_id: terms.pair.topic_id,
            schema_hash: signed.schema_hash,
            value: event.value,
            observed_at: event.observedAt.saturating_to(),
            nonce: event.nonce.saturating_to(),
            deadline: event.deadline,
        };
        Some(StoredRound {
            round_id: feeds::short(event.roundId),
            value: update.value,
            observed_at: update.observed_at,
            issuer: event.issuer,
            signer: update.recover(self.chain.chain_id(), log.address(), &event.signature),
            nonce: update.nonce,
            deadline: update.deadline,
            signature: event.signature,
            block: log.block_number?,
            tx_hash: log.transaction_hash?,
        })
    }
}

fn logs_of(change: &Change) -> &[Log] {
    match change {
        Change::Applied { logs, .. } => logs,
        Change::Retracted { .. } => &[],
    }
}

fn named_feed(log: &Log) -> Option<Address> {
    match directory_log(log)?.1 {
        Told::Speaks { feed, .. } => Some(feed),
        Told::Silent | Told::Adapter { .. } => None,
    }
}

/// What a directory's event tells, and of which pair.
fn directory_log(log: &Log) -> Option<(Pair, Told)> {
    let topic = *log.topic0()?;
    let pair = |subject: Address, topic_id: U256| Pair { subject, topic_id };
    Some(if topic == FeedRegistered::SIGNATURE_HASH {
        let event = FeedRegistered::decode_log(&log.inner).ok()?.data;
        (pair(event.subject, event.topicId), Told::Speaks { feed: event.feed, phase: event.phase })
    } else if topic == FeedReplaced::SIGNATURE_HASH {
        let event = FeedReplaced::decode_log(&log.inner).ok()?.data;
        (pair(event.subject, event.topicId), Told::Speaks { feed: event.feed, phase: event.phase })
    } else if topic == FeedRemoved::SIGNATURE_HASH {
        let event = FeedRemoved::decode_log(&log.inner).ok()?.data;
        (pair(event.subject, event.topicId), Told::Silent)
    } else if topic == AdapterCreated::SIGNATURE_HASH {
        let event = AdapterCreated::decode_log(&log.inner).ok()?.data;
        (pair(event.subject, event.topicId), Told::Adapter { adapter: event.adapter, decimals: event.decimals })
    } else {
        return None;
    })
}
