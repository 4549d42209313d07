//! A whole svc-compliance in one process: real chain, real database, real engine; keys in memory, behind the engine's trait.

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope, TxLegacy},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, TxKind, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use dalp_chain::{Fees, Upstreams, testing::Anvil};
use dalp_contracts::encode::claim_signing_hash;
use dalp_engine::{
    Engine, EngineConfig, LaneId, OperationId, OperationView, RequestId, SignDocument, Signature, TenantId,
    signer::{Intent, SignError, SignOutcome, SignPayload, SignRequest, Signer},
    testing::TestPostgres,
};
use dalp_proto::operation::Operation;
use dalp_service::{Caller, PeerIdentity, Reason, Refusal, stop::Stop};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use svc_compliance::{
    app::{App, AppHandle},
    decoder::ContractDecoder,
    flows, indexer,
    readers::ChainReader,
    rights::{ANY_WALLET, KeyRecord, Keys, Rights},
    store::Store,
};
use tonic::{Request, body::Body};
use tower::{ServiceExt as _, util::BoxCloneSyncService};

pub const TENANT: &str = "acme";
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
    pub transport: Transport,
    pub wallets: Vec<Address>,
    pub signer: MemorySigner,
    stop: Stop,
}

struct MemoryKeys(Vec<Address>);

#[async_trait::async_trait]
impl Keys for MemoryKeys {
    async fn key(&self, tenant: &str, address: Address) -> Result<KeyRecord, Refusal> {
        if tenant == TENANT && self.0.contains(&address) {
            return Ok(KeyRecord { owner: "treasurer".into(), disabled: false });
        }
        Err(Refusal::new(Reason::KeyNotFound, "there is no such key"))
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
            SignPayload::Transaction(fields) => {
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

    async fn list_intents(&self, _: &TenantId, _: LaneId, _: u64) -> Result<Vec<Intent>, SignError> {
        Ok(Vec::new())
    }
}

impl Stack {
    pub async fn start(wallets: usize) -> Self {
        let anvil = Anvil::start(["--block-time", "1"]);
        let postgres = TestPostgres::start();
        let keys: Vec<PrivateKeySigner> =
            (1..=wallets).map(|n| PrivateKeySigner::from_bytes(&B256::with_last_byte(n as u8)).unwrap()).collect();
        let wallets: Vec<Address> = keys.iter().map(PrivateKeySigner::address).collect();
        let signer = MemorySigner { keys: Arc::new(wallets.iter().copied().zip(keys).collect()), ..Default::default() };
        let upstreams = Upstreams::connect(anvil.config()).await.unwrap();
        for wallet in &wallets {
            let params = serde_json::json!([wallet, U256::from(10_u64.pow(18)) * U256::from(100)]);
            upstreams.request::<serde_json::Value>("anvil_setBalance", params).await.unwrap();
        }
        let store = Store::lazy(&postgres.url(), 10).unwrap();
        store.migrate().await.unwrap();
        let chains = HashMap::from([(upstreams.config().chain_id, upstreams.clone())]);
        let config = EngineConfig::new("svc-compliance", "test");
        let engine = Engine::start(
            config,
            store.pool(),
            chains,
            Arc::new(signer.clone()),
            flows::all(),
            Arc::new(ContractDecoder),
        )
        .await
        .unwrap();
        let app = AppHandle::default();
        let rights = Rights::new(Box::new(MemoryKeys(wallets.clone())));
        app.set(App::new(engine.clone(), store.clone(), ChainReader::new(upstreams.clone()), rights, None, 10_000_000));
        let stop = Stop::new();
        tokio::spawn(indexer::run(store, upstreams.clone(), 0, "test".into(), stop.clone()));
        let routes = svc_compliance::routes(&app).prepare();
        let transport = tower::service_fn(move |mut request: http::Request<Body>| {
            let gateway = PeerIdentity::trusted("spiffe://dalp.test/svc-gateway".parse().unwrap());
            request.extensions_mut().insert(gateway);
            routes.clone().oneshot(request)
        });
        let transport = BoxCloneSyncService::new(transport);
        Self { _anvil: anvil, _postgres: postgres, upstreams, engine, transport, wallets, signer, stop }
    }

    /// A request of a principal that may use every wallet, under a key.
    pub fn request<T>(&self, key: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let caller = Caller {
            tenant: TENANT.parse().unwrap(),
            principal: "ops".parse().unwrap(),
            roles: vec![ANY_WALLET.into()],
        };
        caller.apply(request.metadata_mut());
        request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
        request
    }

    /// Waits until an operation is final.
    pub async fn ended(&self, operation: Option<Operation>) -> OperationView {
        let id: OperationId = operation.expect("an operation").operation_id.parse().unwrap();
        let view = self
            .engine
            .reader()
            .wait(&TenantId::new(TENANT), id, Duration::from_secs(60))
            .await
            .unwrap()
            .expect("known");
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
        self.stop.request();
        self.engine.stop().await;
    }
}
