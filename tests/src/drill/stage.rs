//! Stages: where a service is killed, and how it is brought there.
//!
//! Most of what a kill may interrupt lies between two statements that follow each other within a millisecond. So the drill takes a lock that the
//! statement needs, waits until the service stands before it, and kills it there. Nothing is guessed: a stage that is not reached fails the drill,
//! and so does one that was left before the kill, as the chain and the records tell once the service is dead.

use std::time::{Duration, Instant};

use alloy::primitives::B256;
use anyhow::{Context as _, bail, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::Killed;
use super::ground::{Ground, VICTIM, wait_for};

/// How long a stage is waited for, and how much longer for each recipient.
const PATIENCE: Duration = Duration::from_secs(120);
const LONGER_FOR_EACH: Duration = Duration::from_millis(30);
/// How long a transaction is waited for while no block is made, before the chain makes some again.
const WITHOUT_BLOCKS: Duration = Duration::from_secs(15);
/// How long blocks are made then.
const WITH_BLOCKS: Duration = Duration::from_secs(3);
/// How long a lock is held for the service to come.
const HELD: Duration = Duration::from_secs(10);
/// How long it is held while the service stands before another statement.
const TURN: Duration = Duration::from_millis(400);
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// Where the service is killed. Conditions are SQL of the contract (`$1`) and the number of recipients (`$2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// It stands before a statement that writes to a table, while a condition holds.
    Before { table: &'static str, statement: &'static str, and: &'static str },
    /// A transaction of a kind of operation waits for the signer.
    Signing { kind: &'static str },
    /// It has the signature, and stands before it stores it.
    Signed { kind: &'static str },
    /// A transaction was sent, and no block has it.
    Sent { kind: &'static str },
    /// A block has it, and the service stands before it notes that.
    Included { kind: &'static str },
    /// So many quarters of the recipients are paid, as the index knows, and not one quarter more.
    Paid { quarters: u32 },
    /// A condition holds.
    Once { condition: &'static str },
}

/// A stage of a list that is paid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    /// In words.
    pub(super) name: &'static str,
    /// Where.
    pub(super) point: Point,
}

/// A list that is paid, as conditions name it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// Its contract, lower case; empty while there is none.
    pub(super) contract: String,
    /// Recipients.
    pub(super) recipients: usize,
    /// Counts those whom the index knows as paid.
    pub(super) paid: &'static str,
}

/// How the service was brought to a point.
#[derive(Default)]
struct Reached {
    /// The lock that it stands before.
    held: Option<Held>,
    /// Transactions that this point is about.
    hashes: Vec<B256>,
}

/// A lock on a table, until dropped.
struct Held {
    connection: PgConnection,
    pid: i32,
    /// Another connection sees who waits; within a transaction the server shows what it once showed.
    pool: PgPool,
}

// === impl Stage ===

impl Stage {
    pub(super) const fn before(
        name: &'static str,
        (table, statement): (&'static str, &'static str),
        and: &'static str,
    ) -> Self {
        Self { name, point: Point::Before { table, statement, and } }
    }

    pub(super) const fn once(name: &'static str, condition: &'static str) -> Self {
        Self { name, point: Point::Once { condition } }
    }

    pub(super) const fn at(name: &'static str, point: Point) -> Self {
        Self { name, point }
    }
}

// === impl Subject ===

impl Subject {
    fn patience(&self) -> Duration {
        PATIENCE + LONGER_FOR_EACH * u32::try_from(self.recipients).unwrap_or(u32::MAX)
    }

    /// Whether so many recipients are that many quarters of all, or more.
    fn are_quarters(&self, paid: u64, quarters: u32) -> bool {
        paid * 4 >= self.recipients as u64 * u64::from(quarters)
    }
}

// === impl Reached ===

impl From<Held> for Reached {
    fn from(held: Held) -> Self {
        Self { held: Some(held), hashes: Vec::new() }
    }
}

/// What a condition needs of an attempt of a kind.
fn attempt(kind: &str, state: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM engine.attempts a JOIN engine.transactions t USING (tenant, transaction_id) JOIN engine.operations o USING (tenant, operation_id)
                 WHERE o.kind = '{kind}' AND a.state = '{state}')"
    )
}

// === impl Held ===

impl Held {
    /// Takes a lock that every writer of a table needs, and no reader.
    async fn take(ground: &Ground, table: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(&ground.stack.settings().database_url).await?;
        sqlx::query("BEGIN").execute(&mut connection).await?;
        let lock = format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut connection).await.context("a table to lock")?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        Ok(Self { connection, pid, pool: ground.pool.clone() })
    }

    /// Whether the service stands before this statement; `None`: before nothing yet.
    async fn stands_before(&self, statement: &str) -> anyhow::Result<Option<bool>> {
        let waiting: Vec<String> = sqlx::query_scalar(
            "SELECT query FROM pg_stat_activity WHERE application_name = $1 AND $2 = ANY (pg_blocking_pids(pid))",
        )
        .bind(VICTIM)
        .bind(self.pid)
        .fetch_all(&self.pool)
        .await?;
        Ok((!waiting.is_empty()).then(|| waiting.iter().any(|query| query.contains(statement))))
    }

    /// Waits until the service stands before this statement. `false`: it stands before another one, or before none for a while.
    async fn catches(&self, statement: &str) -> anyhow::Result<bool> {
        let begun = Instant::now();
        let mut other: Option<Instant> = None;
        while begun.elapsed() < HELD && other.is_none_or(|since| since.elapsed() < TURN) {
            match self.stands_before(statement).await? {
                Some(true) => return Ok(true),
                Some(false) => other = other.or_else(|| Some(Instant::now())),
                None => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(false)
    }

    async fn release(self) -> anyhow::Result<()> {
        Ok(self.connection.close().await?)
    }
}

// === impl Ground ===

impl Ground {
    /// Kills the service at each stage in turn.
    pub(super) async fn kill_at(&mut self, stages: &[Stage], subject: &Subject) -> anyhow::Result<Vec<Killed>> {
        let (mut killed, mut ahead) = (Vec::new(), None);
        for (number, stage) in stages.iter().enumerate() {
            let next = stages.get(number + 1).map(|next| next.point);
            let kill = self.kill_at_one(stage, (ahead, next), subject).await;
            let (kill, held) = kill.with_context(|| format!("a kill of {VICTIM}: {}", stage.name))?;
            self.progress.killed(&kill, subject.recipients);
            killed.push(kill);
            ahead = held;
        }
        self.chain.mine_every(1).await?;
        Ok(killed)
    }

    /// With the lock that was taken ahead. Before the service is there again, what stops it at the next point is prepared: some points come
    /// only once.
    async fn kill_at_one(
        &mut self,
        stage: &Stage,
        (ahead, next): (Option<Held>, Option<Point>),
        subject: &Subject,
    ) -> anyhow::Result<(Killed, Option<Held>)> {
        let begun = Instant::now();
        let Reached { held, hashes } = self.reach(stage.point, ahead, subject).await?;
        let reached_s = begun.elapsed().as_secs_f64();
        let at = Instant::now();
        self.kill().await?;
        // Nothing changes the records any more, and only what was sent can still come into a block.
        let paid: i64 = sqlx::query_scalar(subject.paid).bind(&subject.contract).fetch_one(&self.pool).await?;
        let paid = paid.unsigned_abs();
        self.was_there(stage.point, &hashes, paid, subject).await?;
        if let Some(held) = held {
            held.release().await?;
        }
        self.silence_signer(false)?;
        let ahead = match next {
            Some(Point::Before { table, .. }) => Some(Held::take(self, table).await?),
            _ => None,
        };
        // Without blocks it gets no further than the batches that are under way.
        self.chain.mine_every(0).await?;
        self.bring_back().await?;
        let recovery_s = at.elapsed().as_secs_f64();
        Ok((Killed { stage: stage.name, paid, reached_s, recovery_s }, ahead))
    }

    /// Brings the service to a point, where it stays until the lock is released and signer and chain go on.
    async fn reach(&mut self, point: Point, ahead: Option<Held>, subject: &Subject) -> anyhow::Result<Reached> {
        match point {
            Point::Before { table, statement, and } => {
                self.chain.mine_every(1).await?;
                Ok(self.before(table, (statement, and), ahead, subject).await?.into())
            }
            Point::Signing { kind } => {
                self.silence_signer(true)?;
                self.chain.mine_every(1).await?;
                self.holds(&attempt(kind, "SIGNING"), subject).await?;
                Ok(Reached::default())
            }
            Point::Sent { kind } => Ok(Reached { held: None, hashes: self.sent(kind, subject).await? }),
            Point::Signed { kind } => Ok(self.signed(kind, subject).await?.into()),
            Point::Included { kind } => self.included(kind, subject).await,
            Point::Paid { quarters } => {
                self.chain.mine_every(1).await?;
                wait_for("so many are paid", subject.patience(), async || {
                    let paid: i64 =
                        sqlx::query_scalar(subject.paid).bind(&subject.contract).fetch_one(&self.pool).await?;
                    Ok(subject.are_quarters(paid.unsigned_abs(), quarters))
                })
                .await?;
                // Nothing further is paid until it is killed, however long that takes.
                self.chain.mine_every(0).await?;
                Ok(Reached::default())
            }
            Point::Once { condition } => {
                self.chain.mine_every(1).await?;
                self.holds(condition, subject).await?;
                self.chain.mine_every(0).await?;
                Ok(Reached::default())
            }
        }
    }

    /// Refuses a kill that fell elsewhere, as chain and records have it now that the service is dead.
    async fn was_there(&self, point: Point, hashes: &[B256], paid: u64, subject: &Subject) -> anyhow::Result<()> {
        match point {
            Point::Before { and, .. } => ensure!(self.is_so(and, subject).await?, "it was further already: not {and}"),
            Point::Signing { kind } | Point::Signed { kind } => {
                ensure!(
                    self.is_so(&attempt(kind, "SIGNING"), subject).await?,
                    "nothing of {kind} waited for a signature"
                );
            }
            Point::Sent { kind } => {
                let in_blocks = self.with_receipt(hashes.to_vec()).await?;
                ensure!(in_blocks.len() < hashes.len(), "blocks have all that was sent of {kind}: {in_blocks:?}");
            }
            Point::Included { kind } => {
                let unnoted = self.with_receipt(self.hashes_of(kind).await?).await?;
                ensure!(!unnoted.is_empty(), "no block had what is not noted of {kind}");
            }
            Point::Paid { quarters } => {
                let so = subject.are_quarters(paid, quarters) && !subject.are_quarters(paid, quarters + 1);
                ensure!(so, "{paid} of {} were paid, which is not {quarters} quarters", subject.recipients);
            }
            Point::Once { condition } => {
                ensure!(self.is_so(condition, subject).await?, "it was further already: not {condition}");
            }
        }
        Ok(())
    }

    async fn before(
        &self,
        table: &str,
        (statement, and): (&str, &str),
        mut ahead: Option<Held>,
        subject: &Subject,
    ) -> anyhow::Result<Held> {
        let begun = Instant::now();
        while begun.elapsed() < subject.patience() {
            let held = match ahead.take() {
                Some(held) => held,
                None => Held::take(self, table).await?,
            };
            self.armed.notify_one();
            if held.catches(statement).await? && self.is_so(and, subject).await? {
                return Ok(held);
            }
            held.release().await?;
        }
        bail!("it never stands before {statement} while {and}")
    }

    /// Transactions that were sent, while no block is made. What was sent may be in a block that is not noted: the node is asked.
    async fn sent(&self, kind: &str, subject: &Subject) -> anyhow::Result<Vec<B256>> {
        let begun = Instant::now();
        while begun.elapsed() < subject.patience() {
            self.chain.mine_every(0).await?;
            let stopped = Instant::now();
            while stopped.elapsed() < WITHOUT_BLOCKS {
                let all = self.hashes_of(kind).await?;
                let in_blocks = self.with_receipt(all.clone()).await?;
                let sent: Vec<B256> = all.into_iter().filter(|hash| !in_blocks.contains(hash)).collect();
                if !sent.is_empty() {
                    return Ok(sent);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            // Whatever it waits for needs blocks.
            self.chain.mine_every(1).await?;
            tokio::time::sleep(WITH_BLOCKS).await;
        }
        bail!("nothing of {kind} is sent and in no block")
    }

    /// Transactions of a kind of operation that were sent, and of which no block is noted.
    async fn hashes_of(&self, kind: &str) -> anyhow::Result<Vec<B256>> {
        let hashes: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT a.tx_hash FROM engine.attempts a JOIN engine.transactions t USING (tenant, transaction_id)
             JOIN engine.operations o USING (tenant, operation_id) WHERE o.kind = $1 AND a.state = 'SENT' AND a.tx_hash IS NOT NULL",
        )
        .bind(kind)
        .fetch_all(&self.pool)
        .await?;
        hashes.iter().map(|hash| B256::try_from(hash.as_slice()).context("a hash of another length")).collect()
    }

    /// Those of some transactions that a block has.
    async fn with_receipt(&self, hashes: Vec<B256>) -> anyhow::Result<Vec<B256>> {
        let mut found = Vec::new();
        for hash in hashes {
            if self.chain.block_of(hash).await?.is_some() {
                found.push(hash);
            }
        }
        Ok(found)
    }

    async fn signed(&mut self, kind: &str, subject: &Subject) -> anyhow::Result<Held> {
        let begun = Instant::now();
        while begun.elapsed() < subject.patience() {
            self.silence_signer(true)?;
            self.chain.mine_every(1).await?;
            self.holds(&attempt(kind, "SIGNING"), subject).await?;
            let held = Held::take(self, "engine.attempts").await?;
            self.silence_signer(false)?;
            if held.catches("SET state = 'SIGNED'").await? {
                return Ok(held);
            }
            held.release().await?;
        }
        bail!("it never stores a signature")
    }

    async fn included(&mut self, kind: &str, subject: &Subject) -> anyhow::Result<Reached> {
        let begun = Instant::now();
        while begun.elapsed() < subject.patience() {
            let hashes = self.sent(kind, subject).await?;
            let held = Held::take(self, "engine.attempts").await?;
            self.chain.mine_every(1).await?;
            if held.catches("SET state = 'MINED'").await? && !self.with_receipt(hashes.clone()).await?.is_empty() {
                return Ok(Reached { held: Some(held), hashes });
            }
            held.release().await?;
        }
        bail!("it never notes a block")
    }

    async fn holds(&self, condition: &str, subject: &Subject) -> anyhow::Result<()> {
        wait_for(condition, subject.patience(), async || self.is_so(condition, subject).await).await
    }

    async fn is_so(&self, condition: &str, subject: &Subject) -> anyhow::Result<bool> {
        let asked = format!("SELECT ({condition}) AND $1::text IS NOT NULL AND $2::bigint IS NOT NULL");
        let so: bool = sqlx::query_scalar(AssertSqlSafe(asked))
            .bind(&subject.contract)
            .bind(i64::try_from(subject.recipients)?)
            .fetch_one(&self.pool)
            .await?;
        Ok(so)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two stages at one point would be one kill told twice.
    pub(in crate::drill) fn each_is_a_point_of_its_own(stages: &[Stage]) {
        for (number, stage) in stages.iter().enumerate() {
            let same = stages[..number].iter().find(|other| other.point == stage.point || other.name == stage.name);
            assert!(same.is_none(), "{} is {:?}", stage.name, same);
            if let Point::Before { statement, and, .. } = stage.point {
                assert_ne!(and, "true", "{}: what holds before {statement}?", stage.name);
            }
        }
    }

    #[test]
    fn quarters_are_counted_exactly() {
        let subject = Subject { contract: String::new(), recipients: 301, paid: "" };
        assert!(!subject.are_quarters(75, 1) && subject.are_quarters(76, 1));
        assert!(!subject.are_quarters(300, 4) && subject.are_quarters(301, 4));
    }
}
