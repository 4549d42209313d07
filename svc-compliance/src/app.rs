//! What every edge module works with: engine, store, chain, rights, and the tenants' systems.

use crate::{
    readers::ChainReader,
    store::{Store, Taken, systems::SystemAddresses},
    wallet,
};
use alloy::primitives::Address;
use dalp_contracts::bindings::AssetFactory;
use dalp_domain::{Desk, Rights, refusals::engine_store};
use dalp_engine::{Engine, OperationId, OperationState, OperationView, TenantId};
use dalp_service::{Reason, Refusal};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// How long a caller waits for the index.
const INDEX_PATIENCE: Duration = Duration::from_secs(10);
const INDEX_PAUSE: Duration = Duration::from_millis(100);

/// The parts that work once database and schema are there.
pub struct App {
    /// Durable operations.
    pub engine: Engine,
    /// Our own tables.
    pub store: Store,
    /// The chain.
    pub chain: ChainReader,
    /// Ids of every chain on which systems are bootstrapped.
    pub chains: BTreeSet<u64>,
    /// Wallet rights.
    pub rights: Rights,
    /// The deterministic deployer of the chain, if the operator names one.
    pub create2_deployer: Option<Address>,
    /// Gas that one transaction of a batch may use.
    pub batch_gas_limit: u64,
    /// Tells that a user operation was approved.
    pub approved: Arc<Notify>,
    systems: Mutex<HashMap<String, Arc<SystemAddresses>>>,
    assets: Mutex<HashSet<(String, Address)>>,
}

/// The app, once it is up.
pub type AppHandle = dalp_domain::AppHandle<App>;

// === impl App ===

impl App {
    /// An app of these parts.
    #[must_use]
    #[allow(clippy::too_many_arguments)] // its fields
    pub fn new(
        engine: Engine,
        store: Store,
        chain: ChainReader,
        chains: BTreeSet<u64>,
        rights: Rights,
        create2_deployer: Option<Address>,
        batch_gas_limit: u64,
        approved: Arc<Notify>,
    ) -> Self {
        Self {
            engine,
            store,
            chain,
            chains,
            rights,
            create2_deployer,
            batch_gas_limit,
            approved,
            systems: Mutex::default(),
            assets: Mutex::default(),
        }
    }

    /// The tenant's system. Known for ever once deployed.
    pub async fn system(&self, tenant: &str) -> Result<Arc<SystemAddresses>, Refusal> {
        if let Some(known) = self.systems.lock().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Ok(known.clone());
        }
        let missing = || {
            Refusal::new(Reason::SystemNotBootstrapped, "the tenant has no system on this chain; call Bootstrap first")
        };
        let chain_id = self.chain.chain_id();
        let stored = self.store.system(tenant, chain_id).await?.ok_or_else(missing)?;
        let addresses = match stored.addresses {
            Some(addresses) => addresses,
            None => {
                let operation = self.operation(tenant, stored.operation_id).await?.ok_or_else(missing)?;
                let result = match (operation.state, operation.result) {
                    (OperationState::Completed, Some(result)) => result,
                    _ => return Err(missing().meta("operation_id", stored.operation_id)),
                };
                let addresses: SystemAddresses = serde_json::from_value(result).map_err(Refusal::internal)?;
                self.store.put_addresses(tenant, chain_id, stored.operation_id, &addresses).await?;
                addresses
            }
        };
        let addresses = Arc::new(addresses);
        self.systems.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), addresses.clone());
        Ok(addresses)
    }

    /// Refuses an address that is no asset of the tenant: its own factory says so.
    pub async fn require_asset(&self, tenant: &str, asset: Address) -> Result<(), Refusal> {
        let id = (tenant.to_owned(), asset);
        if self.assets.lock().unwrap_or_else(PoisonError::into_inner).contains(&id) {
            return Ok(());
        }
        let system = self.system(tenant).await?;
        if !self.chain.read(system.asset_factory, AssetFactory::isAssetCall { token: asset }).await? {
            return Err(
                Refusal::new(Reason::NotFound, "the tenant has no such asset").meta("asset", asset.to_checksum(None))
            );
        }
        self.assets.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Ok(())
    }

    /// Waits a little until a block is indexed, so that what it changed is not overlooked.
    pub async fn indexed_up_to(&self, block: u64) -> Result<(), Refusal> {
        let deadline = tokio::time::Instant::now() + INDEX_PATIENCE;
        loop {
            let head = self.store.indexed_head(self.chain.chain_id()).await?;
            if head.is_some_and(|head| head >= block) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Refusal::new(Reason::BlockNotIndexed, "the latest block is not indexed yet")
                    .meta("indexed_block", head.unwrap_or_default()));
            }
            tokio::time::sleep(INDEX_PAUSE).await;
        }
    }

    /// An operation of the tenant.
    pub async fn operation(&self, tenant: &str, id: uuid::Uuid) -> Result<Option<OperationView>, Refusal> {
        self.engine.reader().get_operation(&TenantId::new(tenant), OperationId(id)).await.map_err(engine_store)
    }
}

/// Whether an operation ended without having done what was ordered.
pub(crate) fn came_to_nothing(operation: &OperationView) -> bool {
    matches!(operation.state, OperationState::Failed | OperationState::Cancelled)
}

impl Desk for App {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn rights(&self) -> &Rights {
        &self.rights
    }

    fn taken(&self, error: &dalp_engine::StoreError) -> Option<Refusal> {
        Some(match Taken::of(error)? {
            Taken::Symbol => Refusal::new(Reason::SymbolTaken, "another asset of the tenant has this symbol"),
            Taken::System => Refusal::new(
                Reason::Conflict,
                "another bootstrap of the tenant was faster; repeat to get its operation",
            ),
            Taken::Approval => wallet::edge::already_approved(),
            Taken::UserOperation => wallet::edge::closed(),
        })
    }
}
