//! What every edge module works with: engine, store, chain, rights, and what is known of the tenants' contracts.

use crate::{
    readers::{self, Contracts},
    store::Store,
};
use dalp_domain::{ChainReader, Desk, Head, Rights, systems::address_book};
use dalp_engine::Engine;
use dalp_service::Refusal;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a block counts as the latest for streams, which may be many.
const RECENT: Duration = Duration::from_millis(250);

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
    contracts: Mutex<HashMap<String, Contracts>>,
    recent: Mutex<Option<(Instant, Head)>>,
}

/// The app, once it is up.
pub type AppHandle = dalp_domain::AppHandle<App>;

// === impl App ===

impl App {
    /// An app of these parts.
    #[must_use]
    pub fn new(engine: Engine, store: Store, chain: ChainReader, rights: Rights) -> Self {
        Self { engine, store, chain, rights, contracts: Mutex::default(), recent: Mutex::default() }
    }

    /// The tenant's contracts. Known for ever once seen, and followed by the index from then on.
    pub async fn contracts(&self, tenant: &str) -> Result<Contracts, Refusal> {
        if let Some(known) = self.contracts.lock().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Ok(*known);
        }
        let chain_id = self.chain.chain_id();
        let system = address_book(&self.engine, tenant, chain_id).await?;
        let contracts = readers::contracts(&self.chain, system).await?;
        self.store.put_contract(tenant, chain_id, contracts.settlement).await?;
        self.contracts.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), contracts);
        Ok(contracts)
    }

    /// The latest block as of a moment ago.
    pub async fn recent(&self) -> Result<Head, Refusal> {
        let known = *self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, head)) = known
            && at.elapsed() < RECENT
        {
            return Ok(head);
        }
        let head = self.chain.latest().await?;
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), head));
        Ok(head)
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
