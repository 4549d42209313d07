//! What every edge module works with: engine, store, chain, rights, and the tenants' feed contracts.

use crate::{
    domain::feed::{SignedTerms, Terms},
    queue::Queue,
    readers::{feeds, systems},
    store::{Store, latest::LatestReads, systems::FeedSystem},
};
use alloy::primitives::Address;
use dalp_domain::{ChainReader, Desk, Rights, systems::address_book};
use dalp_engine::Engine;
use dalp_service::{Reason, Refusal};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The parts that work once database and schema are there.
pub struct App {
    /// Durable operations.
    pub engine: Engine,
    /// Our own tables.
    pub store: Store,
    /// The chain.
    pub chain: ChainReader,
    /// Wallet rights.
    pub rights: Rights,
    /// The order of an issuer's updates.
    pub queue: Queue,
    /// The latest values.
    pub latest: LatestReads,
    /// The most updates of one transaction.
    pub batch_items: usize,
    systems: Mutex<HashMap<String, Arc<FeedSystem>>>,
    feeds: Mutex<HashMap<(String, Address), Arc<Terms>>>,
}

/// The app, once it is up.
pub type AppHandle = dalp_domain::AppHandle<App>;

// === impl App ===

impl App {
    /// An app of these parts.
    #[must_use]
    pub fn new(
        engine: Engine,
        store: Store,
        chain: ChainReader,
        rights: Rights,
        queue: Queue,
        latest: LatestReads,
        batch_items: usize,
    ) -> Self {
        let (systems, feeds) = (Mutex::default(), Mutex::default());
        Self { engine, store, chain, rights, queue, latest, batch_items, systems, feeds }
    }

    /// The tenant's feed contracts. Known for ever once seen.
    pub async fn system(&self, tenant: &str) -> Result<Arc<FeedSystem>, Refusal> {
        if let Some(known) = self.systems.lock().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Ok(known.clone());
        }
        let chain_id = self.chain.chain_id();
        let system = match self.store.system(tenant, chain_id).await? {
            Some(stored) => stored,
            None => {
                let book = address_book(&self.engine, tenant, chain_id).await?;
                let system = systems::feed_system(&self.chain, book).await?;
                self.store.put_system(tenant, chain_id, &system).await?;
                system
            }
        };
        let system = Arc::new(system);
        self.systems.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), system.clone());
        Ok(system)
    }

    /// What a feed of the tenant is pinned to: one that its directory named, or one that its factory made.
    pub async fn feed(&self, tenant: &str, feed: Address) -> Result<Arc<Terms>, Refusal> {
        let id = (tenant.to_owned(), feed);
        if let Some(known) = self.feeds.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(known.clone());
        }
        let terms = match self.store.feed(tenant, self.chain.chain_id(), feed).await? {
            Some(stored) => Some(stored.terms),
            // Made a moment ago: the index may not have seen it yet.
            None => feeds::made_by(&self.chain, self.system(tenant).await?.factory, feed).await?,
        };
        let terms = terms.ok_or_else(|| {
            Refusal::new(Reason::NotFound, "the tenant has no such feed").meta("feed", feed.to_checksum(None))
        })?;
        let terms = Arc::new(terms);
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).insert(id, terms.clone());
        Ok(terms)
    }

    /// As [`Self::feed`]; an external feed is a refusal, because nobody signs for it here.
    pub async fn signed_feed(&self, tenant: &str, feed: Address) -> Result<(Arc<Terms>, SignedTerms), Refusal> {
        let terms = self.feed(tenant, feed).await?;
        let signed = terms.signed.clone().ok_or_else(|| {
            Refusal::new(Reason::FailedPrecondition, "the feed is not issuer-signed: it takes no updates here")
                .meta("feed", feed.to_checksum(None))
        })?;
        Ok((terms, signed))
    }
}

impl Desk for App {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn rights(&self) -> &Rights {
        &self.rights
    }

    fn taken(&self, _: &dalp_engine::StoreError) -> Option<Refusal> {
        None
    }
}
