//! A bench of PostgreSQL, anvil, a local signer and one small flow.

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    network::TxSignerSync as _,
    primitives::{Address, B256, TxKind, U256, address},
    signers::local::PrivateKeySigner,
};
use dalp_chain::{BlockNumberOrTag, Fees, Finality, Upstreams, testing::Anvil};
use dalp_engine::{
    Accepted, Admission, AdmitError, Call, Cx, Decoder, Engine, EngineConfig, Failure, Flow, Flows, LaneId,
    OperationId, OperationView, RequestId, Step, TenantId,
    signer::{Intent, SignError, SignOutcome, SignPayload, SignRequest, Signer},
    testing::TestPostgres,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

pub const TENANT: &str = "bank";
const CHAIN: u64 = 31_337;
const PAYEE: Address = address!("00000000000000000000000000000000000000fe");
/// Initialised by `anvil_setCode`: reverts always.
const REVERTER: Address = address!("00000000000000000000000000000000000000fd");

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PayOrder {
    pub sender: Address,
    pub times: u32,
    pub together: u32,
    pub reverts: bool,
    pub too_much: bool,
}

impl PayOrder {
    pub fn times(times: u32) -> Self {
        Self { sender: Address::ZERO, times, together: 0, reverts: false, too_much: false }
    }
}

pub struct Pay;

impl Flow for Pay {
    const KIND: &'static str = "test.pay";
    type Order = PayOrder;
    type Outcome = u64;
    fn run(cx: &mut Cx<'_, PayOrder>) -> Step<u64> {
        let order = cx.order();
        let call = || Call {
            value: if order.too_much { U256::MAX >> 8 } else { U256::from(1) },
            ..Call::new(CHAIN, order.sender, if order.reverts { REVERTER } else { PAYEE }, vec![])
        };
        let together = cx.try_all("together", || (0..order.together).map(|_| call()))?;
        let mut block = 0;
        for time in 0..order.times {
            block = cx.transact(&format!("pay{time}"), call)?.block_number;
        }
        cx.done(block + together.len() as u64)
    }
}

struct TestDecoder;

impl Decoder for TestDecoder {
    fn decode_revert(&self, data: &[u8]) -> Failure {
        Failure::new("DECODED", format!("{} bytes", data.len()))
    }
    fn judge(&self, _: &str, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// Real signatures by local keys; remembers every request, like svc-signer does.
pub struct LocalSigner {
    keys: HashMap<Address, PrivateKeySigner>,
    stored: Mutex<BTreeMap<RequestId, SignOutcome>>,
    asked: Mutex<(u64, HashSet<RequestId>)>,
    deny: Mutex<HashSet<u64>>,
    fail: Mutex<u32>,
    count: watch::Sender<u64>,
}

impl LocalSigner {
    pub fn requests(&self) -> u64 {
        self.asked.lock().expect("not poisoned").0
    }
    pub fn distinct_requests(&self) -> usize {
        self.asked.lock().expect("not poisoned").1.len()
    }
    pub fn deny_nonces(&self, nonces: &[u64]) {
        self.deny.lock().expect("not poisoned").extend(nonces);
    }
    pub fn fail_next(&self, times: u32) {
        *self.fail.lock().expect("not poisoned") = times;
    }
    pub async fn wait_for_more_requests(&self, more: u64, at_most: Duration) {
        let mut count = self.count.subscribe();
        let goal = *count.borrow() + more;
        let _ = tokio::time::timeout(at_most, count.wait_for(|count| *count >= goal)).await;
    }
}

#[async_trait::async_trait]
impl Signer for LocalSigner {
    async fn sign(&self, request: SignRequest) -> Result<SignOutcome, SignError> {
        {
            let mut asked = self.asked.lock().expect("not poisoned");
            asked.0 += 1;
            asked.1.insert(request.request_id);
            self.count.send_modify(|count| *count += 1);
        }
        {
            let mut fail = self.fail.lock().expect("not poisoned");
            if *fail > 0 {
                *fail -= 1;
                return Err(SignError::Unavailable("test".into()));
            }
        }
        let SignPayload::Transaction(unsigned) = request.payload else {
            return Err(SignError::Refused(Failure::new("UNSUPPORTED", "")));
        };
        let mut stored = self.stored.lock().expect("not poisoned");
        if let Some(outcome) = stored.get(&request.request_id) {
            return Ok(outcome.clone());
        }
        if self.deny.lock().expect("not poisoned").remove(&unsigned.nonce) {
            return Ok(SignOutcome::Denied(Failure::new("PROVIDER_DENIED", "no")));
        }
        let key = self.keys.get(&unsigned.sender).expect("key of the sender");
        let Fees::Eip1559 { max_fee_wei, priority_fee_wei } = unsigned.fees else { panic!("typed fees") };
        let mut transaction = TxEip1559 {
            chain_id: unsigned.chain_id,
            nonce: unsigned.nonce,
            gas_limit: unsigned.gas_limit,
            max_fee_per_gas: max_fee_wei,
            max_priority_fee_per_gas: priority_fee_wei,
            to: unsigned.target.map_or(TxKind::Create, TxKind::Call),
            value: unsigned.value_wei,
            input: unsigned.data,
            access_list: Default::default(),
        };
        let signature = key.sign_transaction_sync(&mut transaction).expect("signs");
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        let outcome =
            SignOutcome::SignedTransaction { raw: envelope.encoded_2718().into(), tx_hash: *envelope.tx_hash() };
        stored.insert(request.request_id, outcome.clone());
        Ok(outcome)
    }
    async fn status(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        self.stored.lock().expect("not poisoned").get(&id).cloned().ok_or(SignError::NotFound)
    }
    async fn release(&self, _: RequestId) -> Result<(), SignError> {
        Ok(())
    }
    async fn list_intents(&self, _: &TenantId, _: LaneId, _: u64) -> Result<Vec<Intent>, SignError> {
        Ok(Vec::new())
    }
}

pub struct Bench {
    pub signer: Arc<LocalSigner>,
    pub pool: sqlx::PgPool,
    upstreams: Upstreams,
    keys: Vec<PrivateKeySigner>,
    _anvil: Anvil,
    _postgres: TestPostgres,
}

impl Bench {
    pub async fn start() -> Self {
        Self::start_with(&[], 0).await
    }

    pub async fn start_with(anvil_args: &[&str], depth: u64) -> Self {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
        let args: Vec<String> = anvil_args.iter().map(|arg| arg.to_string()).collect();
        let anvil = tokio::task::spawn_blocking(move || Anvil::start(args)).await.expect("anvil");
        let mut config = anvil.config();
        config.finality = Finality::Depth(depth);
        config.block_time_hint_ms = 100;
        let upstreams = Upstreams::connect(config).await.expect("connects");
        let _: serde_json::Value = upstreams
            .request("anvil_setCode", serde_json::json!([REVERTER, "0x60006000fd"]))
            .await
            .expect("code is set");
        let keys: Vec<PrivateKeySigner> =
            (1..=10u8).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).expect("key")).collect();
        for key in &keys {
            let rich = serde_json::json!([key.address(), "0x56bc75e2d63100000"]);
            let _: serde_json::Value = upstreams.request("anvil_setBalance", rich).await.expect("balance is set");
        }
        let signer = Arc::new(LocalSigner {
            keys: keys.iter().map(|key| (key.address(), key.clone())).collect(),
            stored: Mutex::default(),
            asked: Mutex::default(),
            deny: Mutex::default(),
            fail: Mutex::default(),
            count: watch::channel(0).0,
        });
        let pool = postgres.pool().await;
        Self { signer, pool, upstreams, keys, _anvil: anvil, _postgres: postgres }
    }

    pub async fn engine(&self, instance: &str) -> Engine {
        let chains = HashMap::from([(CHAIN, self.upstreams.clone())]);
        let mut config = EngineConfig::new("svc-test", instance);
        config.slow_poll = Duration::from_millis(100);
        config.rebroadcast_after = Duration::from_millis(500);
        Engine::start(
            config,
            self.pool.clone(),
            chains,
            self.signer.clone(),
            Flows::new().with::<Pay>(),
            Arc::new(TestDecoder),
        )
        .await
        .expect("starts")
    }

    pub async fn pay(&self, engine: &Engine, lane: usize, key: &str, order: PayOrder) -> Result<Accepted, AdmitError> {
        self.pay_as(engine, TENANT, lane, key, order).await
    }

    pub async fn pay_as(
        &self,
        engine: &Engine,
        tenant: &str,
        lane: usize,
        key: &str,
        order: PayOrder,
    ) -> Result<Accepted, AdmitError> {
        let order = PayOrder { sender: self.keys[lane].address(), ..order };
        engine.accept(Admission::<Pay>::new(tenant.into(), "tester", "test.Pay", key, order)).await
    }

    pub async fn wait(&self, engine: &Engine, id: OperationId) -> OperationView {
        let view =
            engine.reader().wait(&TENANT.into(), id, Duration::from_secs(40)).await.expect("readable").expect("exists");
        assert!(view.state.is_final(), "stuck: {view:#?}");
        view
    }

    pub async fn until(&self, engine: &Engine, id: OperationId, reached: impl Fn(&OperationView) -> bool) {
        use futures::StreamExt as _;
        let mut views = std::pin::pin!(engine.reader().watch(TENANT.into(), id));
        let waiting = async {
            while let Some(view) = views.next().await {
                if reached(&view.expect("readable")) {
                    return;
                }
            }
            panic!("ended before");
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("reached in time");
    }

    /// Exactly `count` nonces were used on the lane, all by us, none twice, none left out.
    pub async fn assert_lane_is_whole(&self, lane: usize, count: u64) {
        let sender = self.keys[lane].address();
        let on_chain = self.upstreams.nonce(sender, BlockNumberOrTag::Latest).await.expect("readable");
        let nonces: Vec<i64> = sqlx::query_scalar(
            "SELECT nonce FROM engine.transactions WHERE sender = $1 AND nonce IS NOT NULL ORDER BY nonce",
        )
        .bind(sender.as_slice())
        .fetch_all(&self.pool)
        .await
        .expect("readable");
        assert_eq!(on_chain, count, "nonces used on chain");
        assert_eq!(nonces, (0..count as i64).collect::<Vec<_>>(), "nonces bound");
    }

    pub async fn payments_on_chain(&self) -> u64 {
        self.upstreams.balance(PAYEE, dalp_chain::BlockId::latest()).await.expect("readable").to()
    }

    /// Somebody else uses the key.
    pub async fn send_outside(&self, lane: usize) {
        let key = &self.keys[lane];
        let nonce = self.upstreams.nonce(key.address(), BlockNumberOrTag::Latest).await.expect("readable");
        let mut transaction = TxEip1559 {
            chain_id: CHAIN,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: TxKind::Call(key.address()),
            ..Default::default()
        };
        let signature = key.sign_transaction_sync(&mut transaction).expect("signs");
        let outcome =
            self.upstreams.send_raw(TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()).await;
        assert!(outcome.is_in_a_pool(), "{outcome:?}");
    }

    pub async fn mine(&self, blocks: u64) {
        let _: serde_json::Value =
            self.upstreams.request("anvil_mine", serde_json::json!([blocks])).await.expect("mined");
    }

    pub async fn reorg(&self, depth: u64) {
        let _: serde_json::Value =
            self.upstreams.request("anvil_reorg", serde_json::json!([depth, []])).await.expect("reorganised");
    }

    pub async fn scalar<T>(&self, query: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.expect("readable")
    }

    pub async fn column<T>(&self, query: &'static str) -> Vec<T>
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(query).fetch_all(&self.pool).await.expect("readable")
    }
}
