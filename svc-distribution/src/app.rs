//! What every edge module works with: engine, store, chain, rights, and what is known of the tenants' contracts.

use crate::{
    airdrop::{push::Pusher, readers},
    store::Store,
};
use alloy::primitives::Address;
use dalp_domain::{ChainReader, Desk, Rights, refusals::engine_store};
use dalp_engine::{Engine, OperationFilter, OperationState, TenantId};
use dalp_service::{Reason, Refusal};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// The operation of svc-compliance that deploys a tenant's contracts; its result names the address book as `system`.
const BOOTSTRAP: &str = "system.bootstrap";
/// Bootstraps that are looked through.
const BOOTSTRAPS: u32 = 100;

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
    /// Hands batches over.
    pub pusher: Pusher,
    /// What an operator allows.
    pub limits: Limits,
    factories: Mutex<HashMap<String, Address>>,
}

/// What an operator allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Gas of a batch.
    pub batch_gas: u64,
    /// The longest list whose identities are looked up.
    pub verified_rows: usize,
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
        pusher: Pusher,
        limits: Limits,
    ) -> Self {
        Self { engine, store, chain, rights, pusher, limits, factories: Mutex::default() }
    }

    /// The tenant's factory of airdrops. Known for ever once seen.
    pub async fn factory(&self, tenant: &str) -> Result<Address, Refusal> {
        if let Some(known) = self.factories.lock().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Ok(*known);
        }
        let system = self.address_book(tenant).await?.ok_or_else(|| {
            Refusal::new(
                Reason::SystemNotBootstrapped,
                "the tenant has no system on this chain; call SystemService.Bootstrap first",
            )
        })?;
        let factory = readers::factory(&self.chain, system).await?;
        self.factories.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), factory);
        Ok(factory)
    }

    /// The address book that the tenant's bootstrap on this chain ended with, from the records that all services share.
    async fn address_book(&self, tenant: &str) -> Result<Option<Address>, Refusal> {
        let (tenant, reader) = (TenantId::new(tenant), self.engine.reader());
        let filter = OperationFilter { state: Some(OperationState::Completed), kind: Some(BOOTSTRAP.to_owned()) };
        let page = reader.list_operations(&tenant, &filter, None, BOOTSTRAPS).await.map_err(engine_store)?;
        for listed in page.operations {
            let operation = reader.get_operation(&tenant, listed.operation_id).await.map_err(engine_store)?;
            let Some(operation) = operation else { continue };
            let here = operation.transactions.iter().any(|one| one.lane.chain_id == self.chain.chain_id());
            let system = operation.result.as_ref().and_then(|result| result["system"].as_str()?.parse().ok());
            if here && system.is_some() {
                return Ok(system);
            }
        }
        Ok(None)
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
