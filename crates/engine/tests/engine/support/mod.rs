//! A bench of PostgreSQL, anvil, a local signer and one small flow.

pub mod documents;
pub mod provider;
mod wire;

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    network::TxSignerSync as _,
    primitives::{Address, B256, Bytes, TxKind, U256, address},
    signers::local::PrivateKeySigner,
};
use dalp_chain::{BlockNumberOrTag, Fees, Finality, Upstreams, testing::Anvil};
pub use wire::Wire;

use dalp_engine::{
    Accepted, Admission, AdmitError, Amounts, Call, Cx, Decoder, Engine, EngineConfig, Failure, Flow, Flows, LaneId,
    OperationId, OperationView, PreCheck, Question, RequestId, SignDocument, Step, TenantId,
    custody::KeyProvider,
    signer::{Intent, SignError, SignOutcome, SignPayload, SignRequest, Signer, UnsignedTransaction},
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
/// Whose engine it is, and the name of its connections.
pub const SERVICE: &str = "svc-test";
const CHAIN: u64 = 31_337;
pub const PAYEE: Address = address!("00000000000000000000000000000000000000fe");
/// Initialised by `anvil_setCode`: reverts always.
const REVERTER: Address = address!("00000000000000000000000000000000000000fd");
/// Initialised by `anvil_setCode`: runs in a circle until the gas is used up.
const CIRCLE: Address = address!("00000000000000000000000000000000000000fc");
/// Longer than `replace_after`: anvil reads the account's nonce before it adds a transaction to its pool, and one whose predecessor is mined in
/// between waits there for good, unless it is replaced.
const ENDS_WITHIN: Duration = Duration::from_secs(100);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PayOrder {
    pub sender: Address,
    pub times: u32,
    pub together: u32,
    pub reverts: bool,
    pub too_much: bool,
    /// Asks the circle before each payment.
    pub dry_check: bool,
}

impl PayOrder {
    pub fn times(times: u32) -> Self {
        Self { sender: Address::ZERO, times, together: 0, reverts: false, too_much: false, dry_check: false }
    }
}

fn circle() -> PreCheck {
    PreCheck { target: CIRCLE, data: Bytes::new(), decoder: "circle".into() }
}

pub struct Pay;

impl Flow for Pay {
    const KIND: &'static str = "test.pay";
    type Order = PayOrder;
    type Outcome = u64;
    fn amounts(order: &PayOrder) -> Amounts {
        Amounts::of(PAYEE, U256::from(order.times))
    }
    fn run(cx: &mut Cx<'_, PayOrder>) -> Step<u64> {
        let order = cx.order();
        let call = || Call {
            value: if order.too_much { U256::MAX >> 8 } else { U256::from(1) },
            sensitive_checks: order.dry_check.then(circle).into_iter().collect(),
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

/// A flow with a defect that shows once its first step has happened.
pub struct Faulty;

impl Flow for Faulty {
    const KIND: &'static str = "test.faulty";
    type Order = PayOrder;
    type Outcome = u64;
    fn run(cx: &mut Cx<'_, PayOrder>) -> Step<u64> {
        let order = cx.order();
        let call = || Call { value: U256::from(1), ..Call::new(CHAIN, order.sender, PAYEE, vec![]) };
        let mined = cx.transact("pay", call)?;
        assert!(mined.block_number == 0, "a defect of this flow");
        cx.done(0)
    }
}

/// What a signer of a test does out of the ordinary.
#[derive(Default)]
pub struct Rules {
    /// Nonces whose next request is refused for good.
    pub deny: HashSet<u64>,
    /// Nonces whose calls are never answered; other requests at them are.
    pub deaf: HashSet<u64>,
    /// Nonces that wait for an approval.
    pub hold: HashSet<u64>,
    /// What is held is blocked instead.
    pub block: bool,
    /// Who holds it, if it says so.
    pub provider: Option<KeyProvider>,
    /// So many next requests get no answer.
    pub fail: u32,
    /// Requests that replace another are refused.
    pub deny_replacements: bool,
    /// Self-transfers are refused.
    pub deny_fillers: bool,
}

/// Real signatures by local keys; remembers every request, like svc-signer does.
pub struct LocalSigner {
    keys: HashMap<Address, PrivateKeySigner>,
    stored: Mutex<BTreeMap<RequestId, (UnsignedTransaction, SignOutcome)>>,
    asked: Mutex<(u64, HashSet<RequestId>)>,
    rules: Mutex<Rules>,
    /// Requests that were withdrawn while they were held.
    withdrawn: Mutex<HashSet<RequestId>>,
    documents: documents::Documents,
    pub provider: provider::Provider,
    count: watch::Sender<u64>,
}

impl LocalSigner {
    fn new(keys: &[PrivateKeySigner], chain: Upstreams) -> Self {
        Self {
            provider: provider::Provider::new(keys, chain),
            keys: keys.iter().map(|key| (key.address(), key.clone())).collect(),
            stored: Mutex::default(),
            asked: Mutex::default(),
            rules: Mutex::default(),
            withdrawn: Mutex::default(),
            documents: Default::default(),
            count: watch::channel(0).0,
        }
    }
    pub fn requests(&self) -> u64 {
        self.asked.lock().expect("not poisoned").0
    }
    pub fn distinct_requests(&self) -> usize {
        self.asked.lock().expect("not poisoned").1.len()
    }
    pub fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock().expect("not poisoned"));
    }
    pub async fn wait_for_more_requests(&self, more: u64, at_most: Duration) {
        let mut count = self.count.subscribe();
        let goal = *count.borrow() + more;
        let _ = tokio::time::timeout(at_most, count.wait_for(|count| *count >= goal)).await;
    }

    fn ruled(&self, request: &SignRequest, unsigned: &UnsignedTransaction) -> Option<Result<SignOutcome, SignError>> {
        let mut rules = self.rules.lock().expect("not poisoned");
        let filler = unsigned.target == Some(unsigned.sender) && unsigned.data.is_empty();
        let denied = || Some(Ok(SignOutcome::Denied(Failure::new("APPROVAL_DENIED", "no"))));
        if rules.fail > 0 {
            rules.fail -= 1;
            return Some(Err(SignError::Unavailable("test".into())));
        }
        if filler {
            return if rules.deny_fillers { denied() } else { None };
        }
        if rules.hold.contains(&unsigned.nonce) {
            let (provider, detail) = (rules.provider, "two of three have approved".to_owned());
            return Some(Ok(match rules.block {
                false => SignOutcome::Pending { provider, detail },
                true => SignOutcome::Blocked { provider, detail },
            }));
        }
        if (rules.deny_replacements && request.replaces.is_some()) || rules.deny.remove(&unsigned.nonce) {
            return denied();
        }
        None
    }

    /// Signs outside of any engine, as for a database that was restored to an earlier state since.
    pub fn sign_aside(&self, lane: LaneId, nonce: u64) {
        let unsigned = UnsignedTransaction {
            chain_id: lane.chain_id,
            sender: lane.sender,
            nonce,
            target: Some(PAYEE),
            value_wei: U256::from(1),
            data: Default::default(),
            gas_limit: 50_000,
            fees: Fees::Eip1559 { max_fee_wei: 100_000_000_000, priority_fee_wei: 1_000_000_000 },
        };
        let outcome = self.signed(unsigned.clone());
        let id = RequestId(uuid_of(nonce));
        self.stored.lock().expect("not poisoned").insert(id, (unsigned, outcome));
    }

    fn signed(&self, unsigned: UnsignedTransaction) -> SignOutcome {
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
        SignOutcome::SignedTransaction { raw: envelope.encoded_2718().into(), tx_hash: *envelope.tx_hash() }
    }
}

fn uuid_of(number: u64) -> uuid::Uuid {
    uuid::Uuid::from_u128(u128::from(number) + 1)
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
        let unsigned = match request.payload.clone() {
            SignPayload::Transaction(unsigned) | SignPayload::Reveal { transaction: unsigned, .. } => unsigned,
            SignPayload::Document(SignDocument::Eip712 { document, .. }) => {
                return self.documents.answer(&document).await;
            }
            SignPayload::Document(_) => return Err(SignError::Refused(Failure::new("UNSUPPORTED", ""))),
            SignPayload::ByProvider(call) => {
                if !self.provider.broadcasts_for(call.sender) && !self.provider.knows(request.request_id) {
                    return Err(SignError::Refused(Failure::new("BROADCAST_MODE_MISMATCH", "")));
                }
                return self.provider.hand_over(request.request_id, &call).await;
            }
        };
        let known = self.stored.lock().expect("not poisoned").contains_key(&request.request_id);
        if self.provider.broadcasts_for(unsigned.sender) && !known {
            return Err(SignError::Refused(Failure::new("BROADCAST_MODE_MISMATCH", "")));
        }
        let filler = unsigned.target == Some(unsigned.sender) && unsigned.data.is_empty();
        let deaf = !filler && self.rules.lock().expect("not poisoned").deaf.contains(&unsigned.nonce);
        if deaf {
            std::future::pending::<()>().await;
        }
        let mut stored = self.stored.lock().expect("not poisoned");
        if let Some((_, outcome)) = stored.get(&request.request_id) {
            return Ok(outcome.clone());
        }
        if self.withdrawn.lock().expect("not poisoned").contains(&request.request_id) {
            return Ok(SignOutcome::Denied(Failure::new("WITHDRAWN", "withdrawn")));
        }
        if let Some(answer) = self.ruled(&request, &unsigned) {
            return answer;
        }
        let outcome = self.signed(unsigned.clone());
        stored.insert(request.request_id, (unsigned, outcome.clone()));
        Ok(outcome)
    }
    async fn status(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        let stored = self.stored.lock().expect("not poisoned");
        stored.get(&id).map(|(_, outcome)| outcome.clone()).ok_or(SignError::NotFound)
    }
    async fn release(&self, _: RequestId) -> Result<(), SignError> {
        Ok(())
    }
    async fn broadcasts(&self, _: &TenantId, lane: LaneId) -> Result<bool, SignError> {
        Ok(self.provider.broadcasts_for(lane.sender))
    }
    async fn withdraw(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        if self.provider.knows(id) {
            return self.provider.withdraw(id);
        }
        if let Some((_, outcome)) = self.stored.lock().expect("not poisoned").get(&id) {
            return Ok(outcome.clone());
        }
        self.withdrawn.lock().expect("not poisoned").insert(id);
        // Whoever gets the nonce next is not held.
        self.rules.lock().expect("not poisoned").hold.clear();
        Ok(SignOutcome::Denied(Failure::new("WITHDRAWN", "withdrawn")))
    }
    async fn list_intents(&self, _: &TenantId, lane: LaneId, from_nonce: u64) -> Result<Vec<Intent>, SignError> {
        let stored = self.stored.lock().expect("not poisoned");
        let of_lane =
            stored.iter().filter(|(_, (signed, _))| signed.sender == lane.sender && signed.nonce >= from_nonce);
        let intent = |(id, (signed, outcome)): (&RequestId, &(UnsignedTransaction, SignOutcome))| Intent {
            nonce: signed.nonce,
            request_id: *id,
            transaction: Some(signed.clone()),
            outcome: outcome.clone(),
        };
        Ok(of_lane.map(intent).collect())
    }
}

pub struct Bench {
    pub signer: Arc<LocalSigner>,
    pub pool: sqlx::PgPool,
    /// Between the engines and the chain.
    pub wire: Wire,
    /// Straight to the chain.
    upstreams: Upstreams,
    /// Through the wire.
    wired: Upstreams,
    keys: Vec<PrivateKeySigner>,
    _anvil: Anvil,
    postgres: TestPostgres,
}

impl Bench {
    pub async fn start() -> Self {
        Self::start_with(&[], 0).await
    }

    pub async fn start_with(anvil_args: &[&str], depth: u64) -> Self {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
        Self::start_on(postgres, anvil_args, depth).await
    }

    /// A database that syncs and counts its statements, and a chain with a block a second.
    pub async fn start_to_measure() -> Self {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start_durable).await.expect("postgres");
        Self::start_on(postgres, &["--block-time", "1", "--gas-limit", "300000000"], 0).await
    }

    async fn start_on(postgres: TestPostgres, anvil_args: &[&str], depth: u64) -> Self {
        let args: Vec<String> = anvil_args.iter().map(|arg| arg.to_string()).collect();
        let anvil = tokio::task::spawn_blocking(move || Anvil::start(args)).await.expect("anvil");
        let mut config = anvil.config();
        config.finality = Finality::Depth(depth);
        config.block_time_hint_ms = 100;
        let upstreams = Upstreams::connect(config).await.expect("connects");
        for (contract, code) in [(REVERTER, "0x60006000fd"), (CIRCLE, "0x5b600056")] {
            let placed = upstreams.request::<serde_json::Value>("anvil_setCode", serde_json::json!([contract, code]));
            placed.await.expect("code is set");
        }
        let keys: Vec<PrivateKeySigner> =
            (1..=10u8).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).expect("key")).collect();
        for key in &keys {
            let rich = serde_json::json!([key.address(), "0x56bc75e2d63100000"]);
            let _: serde_json::Value = upstreams.request("anvil_setBalance", rich).await.expect("balance is set");
        }
        let wire = Wire::start(anvil.port).await;
        let mut through = upstreams.config().clone();
        through.upstreams[0].url = wire.url.clone();
        let wired = Upstreams::connect(through).await.expect("connects");
        let signer = Arc::new(LocalSigner::new(&keys, upstreams.clone()));
        let pool = postgres.pool().await;
        Self { signer, pool, wire, upstreams, wired, keys, _anvil: anvil, postgres }
    }

    pub async fn engine(&self, instance: &str) -> Engine {
        self.engine_with(instance, |_| {}).await
    }

    pub async fn engine_with(&self, instance: &str, adjust: impl FnOnce(&mut EngineConfig)) -> Engine {
        self.engine_on(self.pool_of_a_service(), instance, adjust).await
    }

    /// Connections as a service has them.
    pub fn pool_of_a_service(&self) -> sqlx::PgPool {
        dalp_engine::pool(&self.postgres.url(), SERVICE, "public", 16).expect("an address")
    }

    /// An engine on a database of its own, as after a restore to the empty state.
    pub async fn engine_on_new_database(&self, name: &str) -> (Engine, sqlx::PgPool) {
        let url = self.postgres.create_database(name).await;
        let pool = sqlx::PgPool::connect(&url).await.expect("the server answers");
        (self.engine_on(pool.clone(), "a", |_| {}).await, pool)
    }

    pub async fn engine_on(
        &self,
        pool: sqlx::PgPool,
        instance: &str,
        adjust: impl FnOnce(&mut EngineConfig),
    ) -> Engine {
        let chains = HashMap::from([(CHAIN, self.wired.clone())]);
        let mut config = EngineConfig::new(SERVICE, instance);
        config.slow_poll = Duration::from_millis(100);
        config.rebroadcast_after = Duration::from_millis(500);
        adjust(&mut config);
        let flows = Flows::new().with::<Pay>().with::<Faulty>().with::<documents::Attest>();
        Engine::start(config, pool, chains, self.signer.clone(), flows, Arc::new(TestDecoder)).await.expect("starts")
    }

    pub fn lane(&self, lane: usize) -> LaneId {
        LaneId { chain_id: CHAIN, sender: self.keys[lane].address() }
    }

    /// Asks again and again with the same key, as a client does.
    pub async fn pay_surely(&self, engine: &Engine, lane: usize, key: &str) -> OperationId {
        loop {
            match self.pay(engine, lane, key, PayOrder::times(1)).await {
                Ok(accepted) => return accepted.operation.operation_id,
                Err(AdmitError::Database(error)) if error.is_retryable() => tokio::task::yield_now().await,
                Err(error) => panic!("a good request was refused: {error}"),
            }
        }
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

    /// Asks as a person does, so that policies have a say.
    pub async fn pay_asking(
        &self,
        engine: &Engine,
        lane: usize,
        key: &str,
        order: PayOrder,
    ) -> Result<Accepted, AdmitError> {
        let order = PayOrder { sender: self.keys[lane].address(), ..order };
        let mut admission = Admission::<Pay>::new(TENANT.into(), "maker", "test.Pay", key, order);
        (admission.question, admission.refusable) = (Some(Question::default()), true);
        engine.accept(admission).await
    }

    /// Asks as somebody does who hears the answer and may ask again, so that a lane may refuse it.
    pub async fn pay_or_hear(&self, engine: &Engine, lane: usize, key: &str) -> Result<Accepted, AdmitError> {
        let order = PayOrder { sender: self.keys[lane].address(), ..PayOrder::times(1) };
        let mut admission = Admission::<Pay>::new(TENANT.into(), "tester", "test.Pay", key, order);
        admission.refusable = true;
        engine.accept(admission).await
    }

    /// Orders what a flow with a defect carries out.
    pub async fn faulty(&self, engine: &Engine, lane: usize, key: &str) -> OperationId {
        let order = PayOrder { sender: self.keys[lane].address(), ..PayOrder::times(1) };
        let admission = Admission::<Faulty>::new(TENANT.into(), "tester", "test.Faulty", key, order);
        engine.accept(admission).await.expect("accepted").operation.operation_id
    }

    pub async fn wait(&self, engine: &Engine, id: OperationId) -> OperationView {
        let view = engine.reader().wait(&TENANT.into(), id, ENDS_WITHIN).await.expect("readable").expect("exists");
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
        // A node that mines at once has it in a block a moment after it took it.
        while self.upstreams.nonce(key.address(), BlockNumberOrTag::Latest).await.expect("readable") <= nonce {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Until the node's pool holds so many transactions of a lane that somebody else has sent at this price.
    pub async fn until_pool_holds(&self, count: usize) {
        let held = async || {
            let pool: serde_json::Value =
                self.upstreams.request("txpool_content", serde_json::json!([])).await.expect("a pool");
            let senders = pool["pending"].as_object().cloned().unwrap_or_default();
            let transactions = senders.values().filter_map(|one| one.as_object()).flat_map(|one| one.values());
            transactions.filter(|one| one["to"] == one["from"]).count()
        };
        while held().await < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn automine(&self, on: bool) {
        let _: serde_json::Value =
            self.upstreams.request("evm_setAutomine", serde_json::json!([on])).await.expect("set");
    }

    /// Ends every connection to the database, as a failover does.
    pub async fn break_connections(&self) {
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
            .execute(&self.pool)
            .await
            .ok(); // this very connection may be one that was ended before
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

    /// Waits until a query answers a value.
    pub async fn until_scalar(&self, query: &'static str, wanted: i64) {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            let answer = self.scalar::<i64>(query).await;
            if answer == wanted {
                return;
            }
            looks.tick().await;
            assert!(tokio::time::Instant::now() < deadline, "{answer}, not {wanted}: {query}");
        }
    }

    /// Statements that the server has carried out.
    pub async fn statements(&self) -> i64 {
        self.postgres.statements().await
    }

    /// Where the server's time went.
    pub async fn costly_statements(&self) -> Vec<String> {
        self.column(
            "SELECT format('%s calls, %s ms: %s', calls, round(total_exec_time), left(regexp_replace(query, '\\s+', ' ', 'g'), 110))
             FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 25",
        )
        .await
    }
}
