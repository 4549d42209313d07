//! The stack that is drilled.

use anyhow::{Context as _, ensure};
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Options, Stack};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::time::{Duration, Instant};

use crate::load::Load;

/// Holders who transfer, each on a lane of its own.
pub(super) const LANES: usize = 4;
/// How long a look at the database may wait for a connection; it may be away.
const CONNECTS_WITHIN: Duration = Duration::from_secs(2);

/// How long a service may take until it is ready, and how often it is looked at.
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A running stack with a bond.
pub(super) struct Site {
    pub(super) stack: Stack,
    /// The chain, read past the platform and past everything that stands before the node.
    pub(super) chain: ChainView,
    pub(super) load: Load,
    /// The database of the domain services.
    pub(super) pool: PgPool,
}

// === impl Site ===

impl Site {
    /// Starts a stack of holders whose keys a provider has.
    pub(super) async fn open(options: &Options, provider: &str) -> anyhow::Result<Self> {
        Self::open_at(options, provider, None).await
    }

    /// The same, with the chain read at another address than the services are given.
    pub(super) async fn open_at(options: &Options, provider: &str, node: Option<&str>) -> anyhow::Result<Self> {
        let stack = Stack::start(options).await?;
        let client = stack.client()?;
        let chain = ChainView::new(node.unwrap_or(stack.chain_url()))?;
        let load = Load::prepare(&client, &chain, LANES, provider).await?;
        let database = PgPoolOptions::new().max_connections(4).acquire_timeout(CONNECTS_WITHIN);
        let pool = database.connect(&stack.settings().database_url).await.context("the stack's database")?;
        Ok(Self { stack, chain, load, pool })
    }

    /// Starts a service again that was killed or stopped.
    pub(super) fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        let service = self.stack.service(name).context("a service of the stack")?;
        tokio::task::block_in_place(|| service.restart())
    }

    /// Kills a service, as a crash does.
    pub(super) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let service = self.stack.service(name).context("a service of the stack")?;
        tokio::task::block_in_place(|| service.kill());
        Ok(())
    }

    /// Asks a service to end; it must end by itself.
    pub(super) fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let service = self.stack.service(name).context("a service of the stack")?;
        let ended = tokio::task::block_in_place(|| service.stop());
        ensure!(ended, "{name} did not end by itself when it was asked to");
        Ok(())
    }

    /// Waits until a service, or a replica, says that it is ready to be called.
    pub(super) async fn ready(&self, name: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while !self.stack.is_ready(name).await {
            ensure!(begun.elapsed() < READY_WITHIN, "{name} is not ready after {READY_WITHIN:?}");
            looks.tick().await;
        }
        Ok(())
    }
}
