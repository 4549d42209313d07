//! What every edge module works with: engine, store, chain, rights, and what is known of the tenants' contracts.

use crate::{
    pairs::Rules,
    readers::{self, Contracts},
    store::{Store, settlements::StoredSettlement},
};
use alloy::primitives::Address;
use dalp_domain::{ChainReader, Desk, Head, Rights, Up, refusals::engine_store, systems::deployed};
use dalp_engine::{Engine, OperationId, OperationState, TenantId};
use dalp_proto::signer::signer_service_client::SignerServiceClient;
use dalp_service::{Reason, Refusal};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};
use tonic::transport::Channel;

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
    /// The first chain, on which the system's assets are.
    pub chain: ChainReader,
    /// Every chain by its EIP-155 id, that one among them.
    pub chains: BTreeMap<u64, ChainReader>,
    /// Where secrets are made.
    pub secrets: SignerServiceClient<Channel>,
    /// The rules for settlements across chains.
    pub rules: Rules,
    /// Wallet rights.
    pub rights: Rights,
    /// Settlement contracts of tenants, with when they were asked for.
    current: Mutex<HashMap<(String, u64), (Instant, Address)>>,
    contracts: Mutex<HashMap<(u64, Address), Contracts>>,
    recent: Mutex<HashMap<u64, (Instant, Head)>>,
    /// Wallets whose approvals are being accepted.
    turns: Mutex<HashMap<Address, Weak<tokio::sync::Mutex<()>>>>,
}

/// The app, once it is up.
pub type AppHandle = dalp_domain::AppHandle<App>;

// === impl App ===

impl App {
    /// An app of what there is once everything is up.
    #[must_use]
    pub fn new(up: Up, store: Store, rules: Rules) -> Self {
        Self {
            engine: up.engine,
            store,
            chain: up.chain,
            chains: up.chains,
            secrets: SignerServiceClient::new(up.signer),
            rules,
            rights: up.rights,
            current: Mutex::default(),
            contracts: Mutex::default(),
            recent: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// The turn of a wallet: who holds it is the only one here that accepts an approval of it.
    pub fn turn(&self, wallet: Address) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = turns.get(&wallet).and_then(Weak::upgrade) {
            return known;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(wallet, Arc::downgrade(&turn));
        turn
    }

    /// A chain by its EIP-155 id.
    pub fn on(&self, chain_id: u64) -> Result<&ChainReader, Refusal> {
        self.chains.get(&chain_id).ok_or_else(|| {
            let text = "the platform does not work on this chain";
            Refusal::new(Reason::InvalidField, text).field("chain_id", format!("chain {chain_id} is not configured"))
        })
    }

    /// The contract at which the tenant's settlements are opened now on a chain, followed by the index from then on. A tenant that
    /// replaces it keeps the settlements of the former ones.
    pub async fn contracts(&self, tenant: &str, chain_id: u64) -> Result<Contracts, Refusal> {
        let asked = (tenant.to_owned(), chain_id);
        let known = self.current.lock().unwrap_or_else(PoisonError::into_inner).get(&asked).copied();
        if let Some((at, contract)) = known
            && at.elapsed() < CURRENT
        {
            return self.contracts_of(chain_id, contract).await;
        }
        let chain = self.on(chain_id)?;
        let deployed = deployed(&self.engine, tenant, chain_id).await?;
        let contract = readers::settlement_contract(chain, deployed.system).await?;
        let contracts = self.contracts_of(chain_id, contract).await?;
        // A tenant may write any address into its book, also another's contract, which would then be lost to that one.
        if (contracts.registry, contracts.assets) != (deployed.identity_registry, deployed.asset_factory) {
            let text = "the tenant's system names a settlement contract that rests on another system";
            return Err(Refusal::new(Reason::FailedPrecondition, text).meta("contract", contract.to_checksum(None)));
        }
        if !self.store.put_contract(tenant, chain_id, contract).await? {
            tracing::error!(tenant, %contract, "the tenant's system names a settlement contract that another tenant holds");
            let text = "the tenant's system names a settlement contract that is another tenant's";
            return Err(Refusal::new(Reason::FailedPrecondition, text).meta("contract", contract.to_checksum(None)));
        }
        let now = (Instant::now(), contract);
        self.current.lock().unwrap_or_else(PoisonError::into_inner).insert(asked, now);
        Ok(contracts)
    }

    /// What a settlement contract rests on, which never changes.
    pub async fn contracts_of(&self, chain_id: u64, contract: Address) -> Result<Contracts, Refusal> {
        let asked = (chain_id, contract);
        if let Some(known) = self.contracts.lock().unwrap_or_else(PoisonError::into_inner).get(&asked) {
            return Ok(*known);
        }
        let contracts = readers::contracts(self.on(chain_id)?, contract).await?;
        self.contracts.lock().unwrap_or_else(PoisonError::into_inner).insert(asked, contracts);
        Ok(contracts)
    }

    /// Whether no reorg takes a block back any more.
    pub async fn is_final(&self, chain_id: u64, block: u64) -> Result<bool, Refusal> {
        let height = self
            .on(chain_id)?
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

    /// The latest block of a chain as of a moment ago.
    pub async fn recent(&self, chain_id: u64) -> Result<Head, Refusal> {
        let known = self.recent.lock().unwrap_or_else(PoisonError::into_inner).get(&chain_id).copied();
        if let Some((at, head)) = known
            && at.elapsed() < RECENT
        {
            return Ok(head);
        }
        let head = self.on(chain_id)?.latest().await?;
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).insert(chain_id, (Instant::now(), head));
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
