//! A whole svc-compliance in one process: real chain, real database, real engine; keys in memory, behind the engine's trait.
#![allow(dead_code)] // each test file uses a part

pub mod desk;
pub mod outside;
pub mod recorded;

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope, TxLegacy},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, TxKind, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use dalp_chain::{Fees, Upstreams, testing::Anvil};
use dalp_contracts::encode::claim_signing_hash;
use dalp_domain::{
    Tables,
    rights::{KeyRecord, Keys, Rights},
};
use dalp_engine::{
    Engine, EngineConfig, LaneId, OperationId, OperationView, RequestId, SignDocument, Signature, TenantId,
    signer::{Intent, SignError, SignOutcome, SignPayload, SignRequest, Signer},
    testing::TestPostgres,
};
use dalp_proto::{
    asset::{
        AssetClass, AssetRole, AssetTerms, BondTerms, CreateAssetRequest, RoleGrant,
        asset_service_client::AssetServiceClient, asset_terms,
    },
    compliance::compliance_service_client::ComplianceServiceClient,
    holder::holder_service_client::HolderServiceClient,
    identity::{
        AddTrustedIssuerRequest, IssueClaimRequest, RegisterIdentityRequest, RegisterTopicRequest,
        identity_service_client::IdentityServiceClient,
    },
    operation::Operation,
    system::{BootstrapRequest, system_service_client::SystemServiceClient},
};
use dalp_service::{Caller, PeerIdentity, Reason, Refusal, caller::ANY_WALLET, errors::RefusalDetails, stop::Stop};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};
use svc_compliance::{
    app::{App, AppHandle},
    decoder::ContractDecoder,
    flows, indexer,
    readers::ChainReader,
    store::{MIGRATIONS, SCHEMA, Store},
};
use tokio::task::JoinHandle;
use tonic::{Request, Status, body::Body};
use tower::{ServiceExt as _, util::BoxCloneSyncService};

pub const TENANT: &str = "acme";
/// A second tenant of the same service.
pub const RIVAL: &str = "rival";
pub type Transport = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, std::convert::Infallible>;

#[derive(Clone, Default)]
pub struct MemorySigner {
    keys: Arc<HashMap<Address, PrivateKeySigner>>,
    outcomes: Arc<Mutex<HashMap<RequestId, SignOutcome>>>,
}

pub struct Stack {
    _anvil: Anvil,
    _postgres: TestPostgres,
    pub upstreams: Upstreams,
    pub engine: Engine,
    pub store: Store,
    pub transport: Transport,
    /// Keys of [`TENANT`].
    pub wallets: Vec<Address>,
    /// The key of [`RIVAL`].
    pub rival: Address,
    pub signer: MemorySigner,
    /// The indexer of this replica, under the name `test`.
    pub indexer: JoinHandle<()>,
    stop: Stop,
}

/// Wallets of tenants, all owned by `treasurer`.
struct MemoryKeys(HashMap<Address, &'static str>);

#[async_trait::async_trait]
impl Keys for MemoryKeys {
    async fn key(&self, tenant: &str, address: Address) -> Result<KeyRecord, Refusal> {
        match self.0.get(&address) {
            Some(owner) if *owner == tenant => Ok(KeyRecord { owner: "treasurer".into(), disabled: false }),
            _ => Err(Refusal::new(Reason::KeyNotFound, "there is no such key")),
        }
    }
}

impl MemorySigner {
    pub fn signed(&self) -> usize {
        self.outcomes.lock().unwrap().len()
    }
}

#[async_trait::async_trait]
impl Signer for MemorySigner {
    async fn sign(&self, request: SignRequest) -> Result<SignOutcome, SignError> {
        if let Some(stored) = self.outcomes.lock().unwrap().get(&request.request_id) {
            return Ok(stored.clone());
        }
        let outcome = match request.payload {
            SignPayload::Transaction(fields) | SignPayload::Reveal { transaction: fields, .. } => {
                let key = &self.keys[&fields.sender];
                let to = fields.target.map_or(TxKind::Create, TxKind::Call);
                let envelope: TxEnvelope = match fields.fees {
                    Fees::Eip1559 { max_fee_wei, priority_fee_wei } => {
                        let transaction = TxEip1559 {
                            chain_id: fields.chain_id,
                            nonce: fields.nonce,
                            gas_limit: fields.gas_limit,
                            max_fee_per_gas: max_fee_wei,
                            max_priority_fee_per_gas: priority_fee_wei,
                            to,
                            value: fields.value_wei,
                            access_list: Default::default(),
                            input: fields.data,
                        };
                        let signature = key.sign_hash_sync(&transaction.signature_hash()).unwrap();
                        transaction.into_signed(signature).into()
                    }
                    Fees::Legacy { gas_price_wei } => {
                        let transaction = TxLegacy {
                            chain_id: Some(fields.chain_id),
                            nonce: fields.nonce,
                            gas_price: gas_price_wei,
                            gas_limit: fields.gas_limit,
                            to,
                            value: fields.value_wei,
                            input: fields.data,
                        };
                        let signature = key.sign_hash_sync(&transaction.signature_hash()).unwrap();
                        transaction.into_signed(signature).into()
                    }
                };
                SignOutcome::SignedTransaction { raw: envelope.encoded_2718().into(), tx_hash: *envelope.tx_hash() }
            }
            SignPayload::Document(SignDocument::Claim { signer, identity, topic, data }) => {
                let hash = claim_signing_hash(identity, U256::from_be_bytes(topic.0), &data);
                SignOutcome::Signed(Signature(
                    self.keys[&signer].sign_hash_sync(&hash).unwrap().as_bytes().to_vec().into(),
                ))
            }
            SignPayload::Document(SignDocument::Eip712 { .. }) => panic!("this service signs no documents"),
            SignPayload::ByProvider(_) => panic!("keys of this signer broadcast nothing themselves"),
        };
        self.outcomes.lock().unwrap().insert(request.request_id, outcome.clone());
        Ok(outcome)
    }

    async fn status(&self, request_id: RequestId) -> Result<SignOutcome, SignError> {
        self.outcomes.lock().unwrap().get(&request_id).cloned().ok_or(SignError::NotFound)
    }

    async fn release(&self, _: RequestId) -> Result<(), SignError> {
        Ok(())
    }

    async fn broadcasts(&self, _: &TenantId, _: LaneId) -> Result<bool, SignError> {
        Ok(false)
    }

    async fn withdraw(&self, _: RequestId) -> Result<SignOutcome, SignError> {
        Err(SignError::NotFound)
    }

    async fn list_intents(&self, _: &TenantId, _: LaneId, _: u64) -> Result<Vec<Intent>, SignError> {
        Ok(Vec::new())
    }
}

impl Stack {
    /// A chain that mines every transaction at once.
    pub async fn start(wallets: usize) -> Self {
        Self::start_on(Anvil::start([""; 0]), wallets).await
    }

    pub async fn start_on(anvil: Anvil, wallets: usize) -> Self {
        let postgres = TestPostgres::start();
        let keys: Vec<PrivateKeySigner> =
            (1..=wallets + 1).map(|n| PrivateKeySigner::from_bytes(&B256::with_last_byte(n as u8)).unwrap()).collect();
        let mut wallets: Vec<Address> = keys.iter().map(PrivateKeySigner::address).collect();
        let signer = MemorySigner { keys: Arc::new(wallets.iter().copied().zip(keys).collect()), ..Default::default() };
        let rival = *wallets.last().unwrap();
        let upstreams = Upstreams::connect(anvil.config()).await.unwrap();
        for wallet in &wallets {
            let params = serde_json::json!([wallet, U256::from(10_u64.pow(18)) * U256::from(100)]);
            upstreams.request::<serde_json::Value>("anvil_setBalance", params).await.unwrap();
        }
        let store = Store::from(Tables::lazy(SCHEMA, &postgres.url(), 10).unwrap());
        store.migrate(&MIGRATIONS).await.unwrap();
        let engine = engine(&store, &upstreams, &signer).await;
        wallets.pop();
        let app = AppHandle::default();
        let tenants = wallets.iter().map(|wallet| (*wallet, TENANT)).chain([(rival, RIVAL)]).collect();
        let rights = Rights::new(Box::new(MemoryKeys(tenants)));
        let (chain, chains) = (ChainReader::new(upstreams.clone()), [upstreams.config().chain_id].into());
        app.set(App::new(engine.clone(), store.clone(), chain, chains, rights, None, 10_000_000, Arc::default()));
        let stop = Stop::new();
        let indexer = tokio::spawn(indexer::run(store.clone(), upstreams.clone(), 0, "test".into(), stop.clone()));
        let routes = svc_compliance::routes(&app).prepare();
        let transport = tower::service_fn(move |mut request: http::Request<Body>| {
            let gateway = PeerIdentity::trusted("spiffe://dalp.test/svc-gateway".parse().unwrap());
            request.extensions_mut().insert(gateway);
            routes.clone().oneshot(request)
        });
        let transport = BoxCloneSyncService::new(transport);
        Self {
            _anvil: anvil,
            _postgres: postgres,
            upstreams,
            engine,
            store,
            transport,
            wallets,
            rival,
            signer,
            indexer,
            stop,
        }
    }

    /// The engine ends at whatever line it stands, and another process takes over.
    pub async fn kill_and_restart(&mut self) {
        self.engine.kill().await;
        self.engine = engine(&self.store, &self.upstreams, &self.signer).await;
    }

    /// A request of a principal that may use every wallet of [`TENANT`], under a key.
    pub fn request<T>(&self, key: &str, message: T) -> Request<T> {
        self.request_of(TENANT, "ops", key, message)
    }

    pub fn request_of<T>(&self, tenant: &str, principal: &str, key: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let caller = Caller {
            tenant: tenant.parse().unwrap(),
            principal: principal.parse().unwrap(),
            roles: vec![ANY_WALLET.into()],
        };
        caller.apply(request.metadata_mut());
        request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
        request
    }

    /// A request under a key of its own.
    pub fn fresh<T>(&self, message: T) -> Request<T> {
        self.request(&uuid::Uuid::new_v4().to_string(), message)
    }

    pub fn systems(&self) -> SystemServiceClient<Transport> {
        SystemServiceClient::new(self.transport.clone())
    }

    pub fn identities(&self) -> IdentityServiceClient<Transport> {
        IdentityServiceClient::new(self.transport.clone())
    }

    pub fn assets(&self) -> AssetServiceClient<Transport> {
        AssetServiceClient::new(self.transport.clone())
    }

    pub fn rules(&self) -> ComplianceServiceClient<Transport> {
        ComplianceServiceClient::new(self.transport.clone())
    }

    pub fn holders(&self) -> HolderServiceClient<Transport> {
        HolderServiceClient::new(self.transport.clone())
    }

    /// How many rows each table holds, without those that time alone and the indexer change.
    pub async fn rows(&self) -> BTreeMap<String, i64> {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables
             WHERE table_schema IN ('engine', 'compliance') AND table_type = 'BASE TABLE'
               AND table_name NOT IN ('indexed_blocks', 'indexed_assets', 'indexed_compliances', 'holdings', 'rule_logs',
                                      'indexer_leases', 'lane_leases', 'follower_cursors')",
        )
        .fetch_all(&self.store.pool())
        .await
        .unwrap();
        let mut rows = BTreeMap::new();
        for table in tables {
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            rows.insert(table, sqlx::query_scalar(count).fetch_one(&self.store.pool()).await.unwrap());
        }
        rows
    }

    /// Waits until an operation is final.
    pub async fn ended(&self, operation: Option<Operation>) -> OperationView {
        let id: OperationId = operation.expect("an operation").operation_id.parse().unwrap();
        let mut view = None;
        for tenant in [TENANT, RIVAL] {
            let waited = self.engine.reader().wait(&TenantId::new(tenant), id, Duration::from_secs(60)).await.unwrap();
            view = view.or(waited);
        }
        let view = view.expect("known");
        assert!(view.state.is_final(), "{} is stuck: {view:#?}", view.kind);
        view
    }

    /// Waits until an operation has succeeded.
    pub async fn done(&self, operation: Option<Operation>) -> OperationView {
        let view = self.ended(operation).await;
        assert!(view.error.is_none() && view.result.is_some(), "{} failed: {:?}", view.kind, view.error);
        view
    }

    pub async fn end(self) {
        recorded::record(&self.store).await;
        self.stop.request();
        self.engine.stop().await;
    }

    // === the way to a bond ===

    /// A system with the topic `kyc`, whose administrator is a trusted issuer of it.
    pub async fn bootstrap(&self, tenant: &str, admin: Address) {
        let request = |key: &str, message| self.request_of(tenant, "ops", key, message);
        let bootstrap = request("bootstrap", BootstrapRequest { admin: text(admin), chain_id: 0 });
        self.done(self.systems().bootstrap(bootstrap).await.unwrap().into_inner().operation).await;
        self.register(tenant, admin, admin, 756).await;
        let topic =
            RegisterTopicRequest { sender: text(admin), name: "kyc".into(), signature: "(bytes payload)".into() };
        let topic = self.request_of(tenant, "ops", "topic", topic);
        self.done(self.identities().register_topic(topic).await.unwrap().into_inner().operation).await;
        let trust =
            AddTrustedIssuerRequest { sender: text(admin), issuer: text(admin), topics: vec!["kyc".to_owned()] };
        let trust = self.request_of(tenant, "ops", "trust", trust);
        self.done(self.identities().add_trusted_issuer(trust).await.unwrap().into_inner().operation).await;
    }

    pub async fn register(&self, tenant: &str, admin: Address, wallet: Address, country: u32) {
        let register = RegisterIdentityRequest { sender: text(admin), wallet: text(wallet), country };
        let register = self.request_of(tenant, "ops", &format!("identity-{wallet}"), register);
        self.done(self.identities().register_identity(register).await.unwrap().into_inner().operation).await;
    }

    /// Registers a wallet in Switzerland and attests its `kyc`.
    pub async fn verify(&self, admin: Address, wallet: Address) {
        if wallet != admin {
            self.register(TENANT, admin, wallet, 756).await;
        }
        let claim = IssueClaimRequest {
            issuer: text(admin),
            subject: text(wallet),
            topic: "kyc".into(),
            data: "0x01".into(),
            expires_at: 0,
        };
        let claim = self.request(&format!("kyc-{wallet}"), claim);
        self.done(self.identities().issue_claim(claim).await.unwrap().into_inner().operation).await;
    }

    /// An open bond of which the first wallet has every role and the second one, verified like all others, 1,000 units.
    pub async fn bond(&self) -> Address {
        let (admin, holder) = (self.wallets[0], self.wallets[1]);
        self.bootstrap(TENANT, admin).await;
        for wallet in &self.wallets[1..] {
            self.verify(admin, *wallet).await;
        }
        let order = self.request("bond", order(admin, holder, "BOND"));
        let created = self.done(self.assets().create_asset(order).await.unwrap().into_inner().operation).await;
        created.result.unwrap()["asset"].as_str().unwrap().parse().unwrap()
    }
}

async fn engine(store: &Store, upstreams: &Upstreams, signer: &MemorySigner) -> Engine {
    let chains = HashMap::from([(upstreams.config().chain_id, upstreams.clone())]);
    let mut config = EngineConfig::new("svc-compliance", "test");
    // An anvil that mines at once can lose sight of a transaction whose predecessor is mined while it is let into the pool:
    // it knows the bytes and never mines them. A replacement gets the lane on.
    config.replace_after = Duration::from_secs(5);
    Engine::start(config, store.pool(), chains, Arc::new(signer.clone()), flows::all(), Arc::new(ContractDecoder))
        .await
        .unwrap()
}

pub fn text(address: Address) -> String {
    address.to_checksum(None)
}

/// The order of an open bond with 1,000 units for a holder.
pub fn order(issuer: Address, holder: Address, symbol: &str) -> CreateAssetRequest {
    let roles = [AssetRole::Supply, AssetRole::Custodian, AssetRole::Emergency];
    CreateAssetRequest {
        issuer: text(issuer),
        name: "Green Bond 2031".into(),
        symbol: symbol.into(),
        decimals: 0,
        asset_class: AssetClass::Bond.into(),
        isin: "US0378331005".into(),
        rules: Vec::new(),
        claim_topics: vec!["kyc".into()],
        roles: roles.map(|role| RoleGrant { role: role.into(), account: text(issuer) }).to_vec(),
        unpause: true,
        initial_supply: "1000".into(),
        initial_holder: text(holder),
        terms: Some(bond_terms()),
        ..Default::default()
    }
}

/// Terms of a zero bond in francs.
pub fn bond_terms() -> AssetTerms {
    let terms = BondTerms {
        maturity_date: "2090-05-01".into(),
        denomination: "1000".into(),
        currency: "CHF".into(),
        ..Default::default()
    };
    AssetTerms { terms: Some(asset_terms::Terms::Bond(terms)) }
}

/// Reason and metadata of a refusal.
pub fn refusal(status: &Status) -> RefusalDetails {
    Refusal::details(status).unwrap_or_else(|| panic!("not a refusal of ours: {status:?}"))
}

/// What a refusal says first: its reason, the field of its first violation, the role that it misses.
pub struct Told {
    pub reason: String,
    pub field: String,
    pub role: String,
}

pub fn told(status: &Status) -> Told {
    let RefusalDetails { reason, violations, mut metadata, .. } = refusal(status);
    let field = violations.into_iter().next().map(|(field, _)| field).unwrap_or_default();
    Told { reason, field, role: metadata.remove("role").unwrap_or_default() }
}

/// Asks again until the answer is there; the test fails after a minute.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
