//! The stack that is drilled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use anyhow::{Context as _, bail, ensure};
use dalp_devstack::client::Client;
use dalp_devstack::scenario::{ChainView, Wallet};
use dalp_devstack::stack::{Options, Stack};
use dalp_testing::Signal;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::PgPool;
use tokio::sync::Notify;
use tonic::Status;

use super::progress::{Counter, Progress};
use super::stage::{Stage, Subject};
use super::{Killed, Outcome};
use crate::load::{Load, patience_for};

/// Who is killed.
pub(super) const VICTIM: &str = "svc-distribution";
/// Balances that are read at once.
const READS_AT_ONCE: usize = 64;
/// Connections that wallets are verified through: with 80 calls of each, a tenant stays below the calls it may have under way.
const CONNECTIONS: usize = 2;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a service may take to serve again, on a machine that is busy with other things.
const SERVES_WITHIN: Duration = Duration::from_secs(300);

/// A running stack with a bond.
pub struct Ground {
    /// The platform.
    pub stack: Stack,
    /// An ordinary client of it.
    pub client: Client,
    /// The chain, read past the platform.
    pub chain: ChainView,
    /// The bond.
    pub load: Load,
    /// The database of the domain services.
    pub(super) pool: PgPool,
    /// Told when the first lock is held: what is killed must not be faster.
    pub(super) armed: Arc<Notify>,
    /// Tells how far it is.
    pub(super) progress: Progress,
}

// === impl Ground ===

impl Ground {
    /// Starts a stack whose svc-distribution has further settings.
    ///
    /// # Errors
    /// When a part of it does not start, or the bond cannot be issued.
    pub async fn start(distribution: &str) -> anyhow::Result<Self> {
        let options = Options { distribution: distribution.to_owned(), ..Options::default() };
        let stack = Stack::start(&options).await?;
        let client = stack.client()?;
        let chain = ChainView::new(stack.chain_url())?;
        let load = Load::prepare(&client, &chain, 0, "local").await?;
        let pool = PgPool::connect(&stack.settings().database_url).await.context("the stack's database")?;
        Ok(Self { stack, client, chain, load, pool, armed: Arc::default(), progress: Progress::default() })
    }

    /// Verifies wallets.
    ///
    /// # Errors
    /// When any step does not complete.
    pub async fn verify(&self, wallets: &[Wallet]) -> anyhow::Result<()> {
        verify(&self.stack, &self.load, wallets).await
    }

    /// Kills the service and what its connections still carry out, as the end of a machine does.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let service = self.stack.service(VICTIM).context("a service of the stack")?;
        tokio::task::block_in_place(|| service.kill());
        // A statement that waits for a lock does not notice that nobody waits for its answer.
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        wait_for("its connections end", Duration::from_secs(30), async || {
            sqlx::query(ended).bind(VICTIM).execute(&self.pool).await?;
            Ok(sqlx::query_scalar::<_, i64>(left).bind(VICTIM).fetch_one(&self.pool).await? == 0)
        })
        .await
    }

    /// Starts the service again and waits until it serves.
    pub(super) async fn bring_back(&mut self) -> anyhow::Result<()> {
        let service = self.stack.service(VICTIM).context("a service of the stack")?;
        tokio::task::block_in_place(|| service.restart())?;
        let begun = Instant::now();
        loop {
            match self.stack.wait_until_serving().await {
                Err(error) if begun.elapsed() > SERVES_WITHIN => return Err(error),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Lets the signer answer nothing, or go on.
    pub(super) fn silence_signer(&mut self, silent: bool) -> anyhow::Result<()> {
        let signer = self.stack.service("svc-signer").and_then(|signer| signer.pid()).context("the signer runs")?;
        let signal = if silent { Signal::STOP } else { Signal::CONT };
        ensure!(dalp_testing::signal(signer, signal), "the signer is not there");
        Ok(())
    }

    /// Makes a call that is repeated until it is answered, and kills the service at stages meanwhile; the first stands before a statement.
    pub(super) async fn under_kills<T: Send + 'static>(
        &mut self,
        stages: &[Stage],
        subject: &Subject,
        call: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> anyhow::Result<(T, Vec<Killed>)> {
        let (told, mut refused) = tokio::sync::oneshot::channel();
        self.armed = Arc::default();
        let armed = self.armed.clone();
        let calling = tokio::spawn(async move {
            armed.notified().await;
            match call.await {
                Ok(answer) => Ok((answer, told)),
                Err(status) => Err(told.send(status)),
            }
        });
        let kills = tokio::select! {
            kills = self.kill_at(stages, subject) => kills?,
            Ok(status) = &mut refused => bail!("refused: {status:?}"),
        };
        let answered = calling.await?;
        let Ok((answer, _)) = answered else { bail!("refused: {:?}", refused.await) };
        Ok((answer, kills))
    }

    /// Counts on chain who has what they are due, and what is left in the contract that had so much to pay out.
    pub(super) async fn count(
        &self,
        outcome: &mut Outcome,
        token: Address,
        (contract, had): (Address, u64),
        due: &[(Wallet, u64)],
    ) -> anyhow::Result<()> {
        let balances: Vec<(u64, u64)> = stream::iter(due)
            .map(|(wallet, due)| async { anyhow::Ok((self.chain.balance(token, wallet.address).await?.to(), *due)) })
            .buffer_unordered(READS_AT_ONCE)
            .try_collect()
            .await?;
        let counted = |of: &dyn Fn(&(u64, u64)) -> bool| balances.iter().filter(|one| of(one)).count();
        outcome.paid = counted(&|(has, due)| has == due);
        outcome.duplicated = counted(&|(has, due)| has > due);
        outcome.lost = counted(&|(has, due)| has < due);
        let left: u64 = self.chain.balance(token, contract).await?.to();
        let received: u64 = balances.iter().map(|(has, _)| has).sum();
        let owed: u64 = due.iter().map(|(_, due)| due).sum();
        outcome.left = left;
        outcome.difference = i128::from(had) - i128::from(received) - i128::from(left);
        if left != had - owed {
            outcome.deviations.push(format!("the contract holds {left} on chain, not {}", had - owed));
        }
        Ok(())
    }
}

/// Verifies wallets through several connections, as a server takes only so many unread requests of one. The more there are, the longer each
/// may take.
pub(crate) async fn verify(stack: &Stack, load: &Load, wallets: &[Wallet]) -> anyhow::Result<()> {
    let counter = Counter::of("wallets are verified", wallets.len());
    let parts = wallets.chunks(wallets.len().div_ceil(CONNECTIONS).max(1)).map(|part| {
        let counter = &counter;
        async move {
            let client = stack.client()?;
            load.through(&client).verify_telling(part, patience_for(wallets.len()), || counter.one()).await
        }
    });
    try_join_all(parts).await.map(drop)
}

/// Asks again until it is so.
pub(super) async fn wait_for(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !ask().await? {
        ensure!(begun.elapsed() < within, "not after {within:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
