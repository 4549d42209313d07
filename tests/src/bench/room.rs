//! The whole stack on a null chain, with a bond, verified holders and their lanes.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use dalp_chain::testing::Anvil;
use dalp_devstack::client::reason;
use dalp_devstack::configuration::TENANT;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use dalp_testing::TestPostgres;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::PgPool;
use uuid::Uuid;

use super::chain::Comparison;
use super::open_loop::Subject;
use super::platform::stack_processes;
use crate::load::Load;
use crate::null_chain::{self, NullChain};

/// Everything is set up on a real chain, which the null chain continues: so the services run their own flows, and what they
/// check before they send was true.
pub(super) struct Room {
    pub(super) stack: Stack,
    pub(super) load: Arc<Load>,
    /// The database of the domain services.
    pub(super) pool: PgPool,
    pub(super) chain: NullChain,
    _anvil: Anvil,
}

// === impl Room ===

impl Room {
    /// Sets everything up, on anvil still.
    pub(super) async fn prepare(lanes: usize, provider: &str) -> anyhow::Result<Self> {
        let anvil = Anvil::start(Options::default().chain_arguments);
        let chain = NullChain::in_front_of(&anvil.url, null_chain::Options::default()).await?;
        let options =
            Options { log_filter: "warn".to_owned(), chain_url: Some(chain.url().to_owned()), ..Options::default() };
        let stack = Stack::start(&options).await?;
        let view = ChainView::new(chain.url())?;
        let load = Load::prepare(&stack.client()?, &view, lanes, provider).await?;
        let pool = PgPool::connect(&stack.settings().database_url).await.context("the stack's database")?;
        Ok(Self { stack, load: Arc::new(load), pool, chain, _anvil: anvil })
    }

    /// Wallets whose keys stand outside of the platform; before the chain is taken over.
    pub(super) async fn comparison(&self, lanes: usize) -> anyhow::Result<Comparison> {
        Comparison::prepare(self.chain.url(), self.stack.settings().chain_id, &self.load, lanes).await
    }
}

impl Subject for Room {
    fn ask(&self, lane: usize, key: String) -> BoxFuture<'static, anyhow::Result<Uuid>> {
        let load = self.load.clone();
        async move {
            let answer = load.transfer(lane, &key).await;
            let operation = answer.map_err(|status| anyhow!("{} ({})", reason(&status), status.message()))?;
            Ok(operation.operation_id.parse()?)
        }
        .boxed()
    }

    fn tenant(&self) -> &str {
        TENANT
    }

    fn pool(&self) -> &PgPool {
        &self.pool
    }

    fn database(&self) -> anyhow::Result<&TestPostgres> {
        self.stack.database()
    }

    fn chain(&self) -> &NullChain {
        &self.chain
    }

    fn processes(&self) -> Vec<(String, u32)> {
        stack_processes(&self.stack)
    }
}
