//! What every edge module works with: engine, store, chain, rights, and what is known of the tenants' contracts.

use crate::{
    airdrop::push::Pusher, offering::store::offerings::is_replaced, readers, store::Store, treasury::payer::Payer,
};
use alloy::primitives::Address;
use dalp_domain::{ChainReader, Desk, Rights, systems::address_book};
use dalp_engine::Engine;
use dalp_service::{Reason, Refusal};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
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
    /// Hands batches of airdrops over.
    pub pusher: Pusher,
    /// Hands batches of payouts over.
    pub payer: Payer,
    /// What an operator allows.
    pub limits: Limits,
    factories: Mutex<HashMap<String, Address>>,
}

/// What an operator allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Gas of a batch of an airdrop.
    pub batch_gas: u64,
    /// Gas of a batch of a payout.
    pub payment_batch_gas: u64,
    /// The longest list whose identities are looked up.
    pub verified_rows: usize,
    /// Nothing of ours is older.
    pub index_from_block: u64,
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
        (pusher, payer): (Pusher, Payer),
        limits: Limits,
    ) -> Self {
        Self { engine, store, chain, rights, pusher, payer, limits, factories: Mutex::default() }
    }

    /// The tenant's factory of airdrops, sales and treasuries. Known for ever once seen.
    pub async fn factory(&self, tenant: &str) -> Result<Address, Refusal> {
        if let Some(known) = self.factories.lock().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Ok(*known);
        }
        let system = address_book(&self.engine, tenant, self.chain.chain_id()).await?;
        let factory = readers::factory(&self.chain, system).await?;
        self.factories.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), factory);
        Ok(factory)
    }
}

impl Desk for App {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn rights(&self) -> &Rights {
        &self.rights
    }

    fn taken(&self, error: &dalp_engine::StoreError) -> Option<Refusal> {
        is_replaced(error)
            .then(|| Refusal::new(Reason::FailedPrecondition, "another sale has taken the place of this one meanwhile"))
    }
}
