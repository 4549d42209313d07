//! What a running engine can tell of its nodes, for the gateway, which has none. Reads only.

use crate::{
    Engine,
    doctor::{self, Finding},
    model::{LaneId, TenantId},
    operator::AccountView,
    signer::{SignError, Signer},
    store::Reads,
};
use alloy::primitives::Address;
use dalp_chain::{BlockId, BlockNumberOrTag, ChainError, FeeError, Upstreams, fees};
use dalp_proto::{
    operator::{
        ExamineRequest, ExamineResponse, LookAtAccountRequest, LookAtAccountResponse,
        probe_service_server::{ProbeService, ProbeServiceServer},
    },
    timestamp,
};
use futures::future::join_all;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

/// What has not answered by then does not serve.
const PATIENCE: Duration = Duration::from_secs(3);
/// No tenant has this name; the signer knows nothing of it, and says so.
const NOBODY: &str = "doctor";

/// What an engine stands on. Cheap to clone.
#[derive(Clone)]
pub struct Probe {
    chains: Arc<BTreeMap<u64, Upstreams>>,
    lane_window: usize,
    reads: Reads,
    signer: Arc<dyn Signer>,
}

/// Why an account cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The engine is not configured for the chain.
    #[error("chain {0} is not configured")]
    UnknownChain(u64),
    /// No node gave a definite answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The chain says that it has no blocks.
    #[error("the chain has no latest block")]
    NoBlock,
}

// === impl Probe ===

impl Probe {
    pub(crate) fn new(
        chains: impl IntoIterator<Item = (u64, Upstreams)>,
        lane_window: usize,
        reads: Reads,
        signer: Arc<dyn Signer>,
    ) -> Self {
        Self { chains: Arc::new(chains.into_iter().collect()), lane_window, reads, signer }
    }

    /// Everything that the engine stands on, examined now. Nothing is changed.
    pub async fn examine(&self) -> Vec<Finding> {
        let chains = join_all(self.chains.iter().map(|(chain_id, node)| examine_chain(*chain_id, node)));
        let (database, signer, chains) = tokio::join!(self.reads.examine(PATIENCE), self.ask_signer(), chains);
        let mut findings = doctor::database(database.as_ref().map_err(Clone::clone));
        findings.push(doctor::signer(signer));
        findings.extend(chains.into_iter().flatten());
        findings
    }

    /// Asks the signer of a lane that does not exist: connection, identity, grant and database take part in the answer.
    async fn ask_signer(&self) -> Result<Duration, String> {
        let lane = LaneId { chain_id: self.chains.keys().next().copied().unwrap_or(1), sender: Address::ZERO };
        let (nobody, started) = (TenantId::new(NOBODY), Instant::now());
        match tokio::time::timeout(PATIENCE, self.signer.list_intents(&nobody, lane, 0)).await {
            Ok(Ok(_) | Err(SignError::NotFound | SignError::Refused(_))) => Ok(started.elapsed()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }

    /// The account of a lane, and what a transaction would cost now.
    pub async fn look_at_account(&self, lane: LaneId) -> Result<AccountView, ProbeError> {
        let node = self.chains.get(&lane.chain_id).ok_or(ProbeError::UnknownChain(lane.chain_id))?;
        let (latest_nonce, pending_nonce, balance_wei, head, inputs) = tokio::try_join!(
            node.nonce(lane.sender, BlockNumberOrTag::Latest),
            node.nonce(lane.sender, BlockNumberOrTag::Pending),
            node.balance(lane.sender, BlockId::latest()),
            node.block(BlockNumberOrTag::Latest),
            node.fee_inputs(),
        )?;
        let head = head.ok_or(ProbeError::NoBlock)?;
        let (price_wei, price_above_cap_wei) = match fees::price(&inputs, &node.config().fees) {
            Ok(price) => (Some(price.max_price_wei()), None),
            Err(FeeError::AboveCap { needed_wei, .. }) => (None, Some(needed_wei)),
            Err(FeeError::NoBaseFee | FeeError::NoGasPrice) => (None, None),
        };
        Ok(AccountView {
            latest_nonce,
            pending_nonce,
            balance_wei,
            price_wei,
            price_above_cap_wei,
            fee_cap_wei: node.config().fees.max_fee_cap_wei,
            head_number: head.number,
            head_timestamp_s: head.timestamp_s,
            lane_window: u32::try_from(self.lane_window).unwrap_or(u32::MAX),
        })
    }
}

async fn examine_chain(chain_id: u64, node: &Upstreams) -> Vec<Finding> {
    // One that is paused for its failures is not asked, and counts as failed.
    let _ = tokio::time::timeout(PATIENCE, node.probe()).await;
    let mut findings = doctor::nodes(chain_id, &node.status());
    if node.status().iter().any(dalp_chain::UpstreamStatus::is_in_use)
        && let Ok(Ok(Some(head))) = tokio::time::timeout(PATIENCE, node.block(BlockNumberOrTag::Latest)).await
        && let Ok(head_at) = OffsetDateTime::from_unix_timestamp(i64::try_from(head.timestamp_s).unwrap_or(i64::MAX))
    {
        let block_time = Duration::from_millis(node.config().block_time_hint_ms);
        findings.push(doctor::head(chain_id, head_at, block_time, OffsetDateTime::now_utc()));
    }
    findings
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Probe").field("chains", &self.chains.keys()).finish_non_exhaustive()
    }
}

/// The gRPC service of a probe, over an engine that may come up later: `engine` gives it, or the refusal that it is not up.
pub fn server<F>(engine: F) -> ProbeServiceServer<impl ProbeService>
where
    F: Fn() -> Result<Engine, Status> + Send + Sync + 'static,
{
    ProbeServiceServer::new(Served(engine))
}

struct Served<F>(F);

#[tonic::async_trait]
impl<F: Fn() -> Result<Engine, Status> + Send + Sync + 'static> ProbeService for Served<F> {
    async fn look_at_account(
        &self,
        request: Request<LookAtAccountRequest>,
    ) -> Result<Response<LookAtAccountResponse>, Status> {
        let engine = (self.0)()?;
        let LookAtAccountRequest { chain_id, sender } = request.into_inner();
        let sender: Address = sender.parse().map_err(|_| Status::invalid_argument("sender: not an address"))?;
        let account = engine.probe().look_at_account(LaneId { chain_id, sender }).await.map_err(status)?;
        Ok(Response::new(account.into()))
    }

    async fn examine(&self, _: Request<ExamineRequest>) -> Result<Response<ExamineResponse>, Status> {
        let engine = (self.0)()?;
        let findings = engine.probe().examine().await.into_iter().map(Into::into).collect();
        Ok(Response::new(ExamineResponse { findings, now: Some(timestamp(OffsetDateTime::now_utc())) }))
    }
}

/// Between services of ours; the gateway shows the message to operators.
fn status(error: ProbeError) -> Status {
    match error {
        ProbeError::UnknownChain(_) => Status::not_found(error.to_string()),
        ProbeError::Chain(_) | ProbeError::NoBlock => Status::unavailable(error.to_string()),
    }
}
