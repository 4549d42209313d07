//! Stages: where a service is killed, and how it is brought there.
//!
//! Most of what a kill may interrupt lies between two statements that follow each other within a millisecond. So the drill takes a lock that the
//! statement needs, waits until the service stands before it, and kills it there. Nothing is guessed: a stage that is not reached fails the drill.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::Killed;
use super::ground::{Ground, VICTIM, wait_for};

/// How long a stage is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a lock is held for the service to come.
const HELD: Duration = Duration::from_secs(3);
/// How long it is held while the service stands before another statement.
const TURN: Duration = Duration::from_millis(60);
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// Where the service is killed. Conditions are SQL of the contract (`$1`) and the number of recipients (`$2`).
#[derive(Debug, Clone, Copy)]
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

/// A lock on a table, until dropped.
struct Held {
    connection: PgConnection,
    pid: i32,
    /// Another connection sees who waits; within a transaction the server shows what it once showed.
    pool: PgPool,
}

// === impl Stage ===

impl Stage {
    pub(super) const fn before(name: &'static str, table: &'static str, statement: &'static str) -> Self {
        Self { name, point: Point::Before { table, statement, and: "true" } }
    }

    pub(super) const fn before_while(
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
        let held = self.reach(stage.point, ahead, subject).await?;
        let reached_s = begun.elapsed().as_secs_f64();
        let paid: i64 = sqlx::query_scalar(subject.paid).bind(&subject.contract).fetch_one(&self.pool).await?;
        let at = Instant::now();
        self.kill().await?;
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
        Ok((Killed { stage: stage.name, paid: paid.unsigned_abs(), reached_s, recovery_s }, ahead))
    }

    /// Brings the service to a point, where it stays until the lock is released and signer and chain go on.
    async fn reach(&mut self, point: Point, ahead: Option<Held>, subject: &Subject) -> anyhow::Result<Option<Held>> {
        match point {
            Point::Before { table, statement, and } => {
                self.chain.mine_every(1).await?;
                self.before(table, (statement, and), ahead, subject).await.map(Some)
            }
            Point::Signing { kind } => {
                self.silence_signer(true)?;
                self.chain.mine_every(1).await?;
                self.holds(&attempt(kind, "SIGNING"), subject).await.map(|()| None)
            }
            Point::Sent { kind } => {
                self.chain.mine_every(0).await?;
                self.holds(&attempt(kind, "SENT"), subject).await.map(|()| None)
            }
            Point::Signed { kind } => self.signed(kind, subject).await.map(Some),
            Point::Included { kind } => self.included(kind, subject).await.map(Some),
            Point::Once { condition } => {
                self.chain.mine_every(1).await?;
                self.holds(condition, subject).await.map(|()| None)
            }
        }
    }

    async fn before(
        &self,
        table: &str,
        (statement, and): (&str, &str),
        mut ahead: Option<Held>,
        subject: &Subject,
    ) -> anyhow::Result<Held> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
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

    async fn signed(&mut self, kind: &str, subject: &Subject) -> anyhow::Result<Held> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
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

    async fn included(&mut self, kind: &str, subject: &Subject) -> anyhow::Result<Held> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.chain.mine_every(0).await?;
            self.holds(&attempt(kind, "SENT"), subject).await?;
            let held = Held::take(self, "engine.attempts").await?;
            self.chain.mine_every(1).await?;
            if held.catches("SET state = 'MINED'").await? {
                return Ok(held);
            }
            held.release().await?;
        }
        bail!("it never notes a block")
    }

    async fn holds(&self, condition: &str, subject: &Subject) -> anyhow::Result<()> {
        wait_for(condition, PATIENCE, async || self.is_so(condition, subject).await).await
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
