//! The engine alone: the library in this process with its real store, svc-signer as a process behind mutual TLS, and a null chain.
//!
//! What the gateway and the domain service cost is missing here, so the difference to the platform's figures is theirs.

use std::collections::HashMap;
use std::sync::Arc;

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall as _;
use dalp_chain::Upstreams;
use dalp_devstack::report::Figure;
use dalp_engine::signer::RemoteSigner;
use dalp_engine::{Admission, Call, Cx, Decoder, Engine, EngineConfig, Failure, Flow, Flows, Step};
use dalp_testing::TestPostgres;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use super::chain::transferCall;
use super::null::{climb, highest_rate, throughput};
use super::open_loop::{OWNER, Subject};
use super::signer::{SignerRoom, TENANT};
use crate::null_chain::{NullChain, Options};

/// Requests a second that are offered, one after the other.
const RATES: [usize; 3] = [400, 800, 1_600];
const HSM_RATES: [usize; 3] = [100, 200, 400];
/// As many connections as a service has.
const CONNECTIONS: u32 = 16;
const TOKEN: Address = Address::repeat_byte(0x70);
const PAYEE: Address = Address::repeat_byte(0xfe);

/// `engine.null.*`.
pub(super) async fn figures(transfers: usize) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, provider, lanes, rates, goal) in
        [("local", "local", 10, RATES.as_slice(), 1_000.0), ("softhsm", "pkcs11", 1, HSM_RATES.as_slice(), 150.0)]
    {
        let room = EngineRoom::prepare(lanes, provider).await?;
        let figure =
            throughput(&room, &format!("engine.null.{name}.lanes{lanes}"), lanes, transfers, Some(goal)).await?;
        let steps = climb(&room, lanes, rates, name).await?;
        figures.extend([figure, highest_rate(&format!("engine.highest_rate.null.{name}.lanes{lanes}"), &steps)]);
        room.engine.stop().await;
    }
    Ok(figures)
}

struct EngineRoom {
    engine: Engine,
    pool: PgPool,
    chain: NullChain,
    signer: SignerRoom,
    senders: Vec<Address>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TransferOrder {
    chain_id: u64,
    sender: Address,
    data: Bytes,
}

struct Transfer;

impl Flow for Transfer {
    const KIND: &'static str = "bench.transfer";
    type Order = TransferOrder;
    type Outcome = u64;

    fn run(cx: &mut Cx<'_, TransferOrder>) -> Step<u64> {
        let order = cx.order();
        let call = || Call::new(order.chain_id, order.sender, TOKEN, order.data.clone());
        let mined = cx.transact("transfer", call)?;
        cx.done(mined.block_number)
    }
}

/// Nothing reverts here.
struct NoDecoder;

impl Decoder for NoDecoder {
    fn decode_revert(&self, _: &[u8]) -> Failure {
        Failure::new("REVERTED", "reverted")
    }
    fn judge(&self, _: &str, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

// === impl EngineRoom ===

impl EngineRoom {
    async fn prepare(lanes: usize, provider: &str) -> anyhow::Result<Self> {
        let chain = NullChain::start(Options::default()).await?;
        let mut signer = SignerRoom::start().await?;
        let mut senders = Vec::new();
        for lane in 0..lanes {
            senders.push(signer.create_key(provider, &format!("lane-{lane}")).await?.parse()?);
        }
        let url = signer.postgres().create_database("engine").await;
        let pool = dalp_engine::pool(&url, OWNER, "public", CONNECTIONS)?;
        let chain_id = Options::default().chain_id;
        let mut config = dalp_chain::testing::config(chain_id, [("null", chain.url())]);
        config.block_time_hint_ms = 200;
        let chains = HashMap::from([(chain_id, Upstreams::connect(config).await?)]);
        let remote = Arc::new(RemoteSigner::new(signer.channel()));
        let flows = Flows::new().with::<Transfer>();
        let config = EngineConfig::new(OWNER, "bench");
        let engine = Engine::start(config, pool.clone(), chains, remote, flows, Arc::new(NoDecoder)).await?;
        Ok(Self { engine, pool, chain, signer, senders })
    }
}

impl Subject for EngineRoom {
    fn ask(&self, lane: usize, key: String) -> BoxFuture<'static, anyhow::Result<Uuid>> {
        let data = transferCall { to: PAYEE, amount: U256::from(1) }.abi_encode().into();
        let order = TransferOrder { chain_id: Options::default().chain_id, sender: self.senders[lane], data };
        let engine = self.engine.clone();
        async move {
            let admission = Admission::<Transfer>::new(TENANT.into(), "bench", "bench.Transfer", key, order);
            Ok(engine.accept(admission).await?.operation.operation_id.0)
        }
        .boxed()
    }

    fn tenant(&self) -> &str {
        TENANT
    }

    fn pool(&self) -> &PgPool {
        &self.pool
    }

    fn chain(&self) -> &NullChain {
        &self.chain
    }

    fn database(&self) -> anyhow::Result<&TestPostgres> {
        Ok(self.signer.postgres())
    }

    fn processes(&self) -> Vec<(String, u32)> {
        vec![("svc-signer".to_owned(), self.signer.pid()), ("postgresql".to_owned(), self.signer.postgres().pid())]
    }
}
