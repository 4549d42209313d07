//! What every edge module works with: engine, store, chain, rights, and what is known of the tenants' contracts.

use crate::{
    readers::{self, Contracts},
    store::{Store, settlements::StoredSettlement},
};
use alloy::primitives::Address;
use dalp_domain::{ChainReader, Desk, Head, Rights, refusals::engine_store, systems::address_book};
use dalp_engine::{Engine, OperationId, OperationState, TenantId};
use dalp_service::{Reason, Refusal};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a block counts as the latest for streams, which may be many.
const RECENT: Duration = Duration::from_millis(250);
/// How long an address book is not asked again for the contract that it names.
const CURRENT: Duration = Duration::from_secs(10);

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
    /// Settlement contracts of tenants, with when they were asked for.
    current: Mutex<HashMap<String, (Instant, Address)>>,
    contracts: Mutex<HashMap<Address, Contracts>>,
    recent: Mutex<Option<(Instant, Head)>>,
}

/// The app, once it is up.
pub type AppHandle = dalp_domain::AppHandle<App>;

// === impl App ===

impl App {
    /// An app of these parts.
    #[must_use]
    pub fn new(engine: Engine, store: Store, chain: ChainReader, rights: Rights) -> Self {
        Self {
            engine,
            store,
            chain,
            rights,
            current: Mutex::default(),
            contracts: Mutex::default(),
            recent: Mutex::default(),
        }
    }

    /// The contract at which the tenant's settlements are opened now, followed by the index from then on. A tenant that replaces it
    /// keeps the settlements of the former ones.
    pub async fn contracts(&self, tenant: &str) -> Result<Contracts, Refusal> {
        let known = self.current.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).copied();
        if let Some((at, contract)) = known
            && at.elapsed() < CURRENT
        {
            return self.contracts_of(contract).await;
        }
        let chain_id = self.chain.chain_id();
        let system = address_book(&self.engine, tenant, chain_id).await?;
        let contract = readers::settlement_contract(&self.chain, system).await?;
        let contracts = self.contracts_of(contract).await?;
        if !self.store.put_contract(tenant, chain_id, contract).await? {
            tracing::error!(tenant, %contract, "the tenant's system names a settlement contract that another tenant holds");
            let text = "the tenant's system names a settlement contract that is another tenant's";
            return Err(Refusal::new(Reason::FailedPrecondition, text).meta("contract", contract.to_checksum(None)));
        }
        let now = (Instant::now(), contract);
        self.current.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), now);
        Ok(contracts)
    }

    /// What a settlement contract rests on, which never changes.
    pub async fn contracts_of(&self, contract: Address) -> Result<Contracts, Refusal> {
        if let Some(known) = self.contracts.lock().unwrap_or_else(PoisonError::into_inner).get(&contract) {
            return Ok(*known);
        }
        let contracts = readers::contracts(&self.chain, contract).await?;
        self.contracts.lock().unwrap_or_else(PoisonError::into_inner).insert(contract, contracts);
        Ok(contracts)
    }

    /// Whether no reorg takes a block back any more.
    pub async fn is_final(&self, block: u64) -> Result<bool, Refusal> {
        let height = self
            .chain
            .upstreams()
            .final_height()
            .await
            .map_err(|error| Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error))?;
        Ok(height.is_some_and(|height| block <= height))
    }

    /// Whether the operation that was to open a settlement ended without doing so.
    pub async fn never_opened(&self, tenant: &str, stored: &StoredSettlement) -> Result<bool, Refusal> {
        let Some(id) = stored.operation_id else { return Ok(false) };
        let operation = self.engine.reader().get_operation(&TenantId::new(tenant), OperationId(id)).await;
        let operation = operation.map_err(engine_store)?;
        Ok(operation.is_some_and(|one| one.state.is_final() && one.state != OperationState::Completed))
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
