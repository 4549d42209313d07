//! What is due of schedules: one row for each payment, which one replica locks.

use super::{amount_of, place, place_of, schedules::ScheduleKind};
use crate::{store::Store, treasury::daycount::YearFraction};
use alloy::primitives::{Address, U256};
use dalp_domain::store::{StoreError, address_of, during, hex_of, signed, unsigned};
use dalp_engine::Failure;
use sqlx::{Postgres, Row as _, Transaction, postgres::PgRow};
use uuid::Uuid;

/// Seconds until a payment that could not be started is tried again; after each further try twice as long.
const AGAIN_AFTER_S: f64 = 10.0;
/// The most seconds until it is.
const AGAIN_AFTER_AT_MOST_S: f64 = 600.0;
/// Seconds until a payment that waits for an operation is looked at again.
const LOOK_AFTER_S: f64 = 1.0;

/// Where a payment of a schedule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueState {
    /// It will be started when it is due.
    Waiting,
    /// It has a run that was started.
    Started,
    /// It will not be started.
    Stopped,
}

/// A payment to make when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDue {
    /// Its number.
    pub period: u32,
    /// Unix seconds whose holders are paid.
    pub record_date: u64,
    /// Unix seconds from which it is paid.
    pub due_at: u64,
    /// Of a calendar: its part of a year.
    pub year: Option<YearFraction>,
}

/// A payment of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDue {
    /// Whose.
    pub tenant: String,
    /// The treasury.
    pub treasury: Address,
    /// Number of its schedule.
    pub schedule: u32,
    /// What its schedule pays.
    pub kind: ScheduleKind,
    /// What it is.
    pub due: NewDue,
    /// Of a calendar: base units of the currency for 1e18 base units of the asset and a year.
    pub annual_ratio: Option<U256>,
    /// Who decided on the schedule.
    pub decision: Decision,
    /// Where it stands.
    pub state: DueState,
    /// Its run, once started.
    pub run: Option<u32>,
    /// Why it could not be started at the last try.
    pub failure: Option<Failure>,
    /// Whether an alert was raised.
    pub alerted: bool,
    /// Of a redemption: the operation that opens it.
    pub open_operation: Option<Uuid>,
    /// How many operations to open it have failed.
    pub openings_failed: i32,
    /// How often it could not be started since it last was.
    pub tries: u32,
}

/// A place in the order in which payments are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuePlace {
    /// Unix seconds.
    pub due_at: u64,
    /// Number of the schedule.
    pub schedule: u32,
    /// Number of the payment.
    pub period: u32,
}

/// A decision that payments start by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who decided.
    pub principal: String,
    /// Whether they might use every wallet of the tenant.
    pub any_wallet: bool,
    /// Who sends.
    pub sender: Address,
    /// How long before a payment the treasury must be able to make it.
    pub alert_s: u64,
}

/// Why a payment was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotStarted {
    /// It waits for an operation that opens the redemption.
    Opening(Uuid),
    /// The operation that was to open it has failed. Another one is tried.
    NotOpened(Failure),
    /// It is tried again.
    Yet(Failure),
    /// There is nothing to pay, however often it is tried.
    Ever(Failure),
}

/// A payment that is due, locked until it is settled.
pub struct Locked {
    /// The payment.
    pub due: StoredDue,
    commit: Transaction<'static, Postgres>,
    chain_id: u64,
}

// === impl DueState ===

impl DueState {
    const ALL: [Self; 3] = [Self::Waiting, Self::Started, Self::Stopped];

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Started => "started",
            Self::Stopped => "stopped",
        }
    }
}

// === impl StoredDue ===

impl StoredDue {
    /// Its place in the order.
    #[must_use]
    pub const fn place(&self) -> DuePlace {
        DuePlace { due_at: self.due.due_at, schedule: self.schedule, period: self.due.period }
    }
}

/// Payments of schedules that meet a condition.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT d.*, s.tenant_id, s.kind, s.principal, s.sender, s.any_wallet, s.alert_s, s.annual_ratio::text AS ratio_text
             FROM treasury_due d JOIN treasury_schedules s USING (chain_id, treasury, schedule) WHERE ",
            $rest
        )
    };
}

impl Store {
    /// Payments of a treasury's schedules in the order in which they are due, after a place in it.
    pub async fn due_payments(
        &self,
        chain_id: u64,
        treasury: Address,
        after: Option<DuePlace>,
        limit: u32,
    ) -> Result<Vec<StoredDue>, StoreError> {
        let rows = sqlx::query(select!(
            "d.chain_id = $1 AND d.treasury = $2 AND ($3::bigint IS NULL OR (d.due_at, d.schedule, d.period) > ($3, $4, $5))
             ORDER BY d.due_at, d.schedule, d.period LIMIT $6"
        ))
        .bind(signed(chain_id))
        .bind(hex_of(treasury))
        .bind(after.map(|after| signed(after.due_at)))
        .bind(after.map_or(0, |after| place(after.schedule)))
        .bind(after.map_or(0, |after| i64::from(after.period)))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read due payments"))?;
        rows.iter().map(due_of).collect()
    }

    /// Payments that must be covered by now and are not due, whoever's they are: a page of them, those of a treasury together, after one.
    pub async fn payments_ahead(
        &self,
        chain_id: u64,
        now_s: u64,
        after: Option<&StoredDue>,
        limit: u32,
    ) -> Result<Vec<StoredDue>, StoreError> {
        let rows = sqlx::query(select!(
            "d.chain_id = $1 AND d.state = 'waiting' AND s.confirmed AND d.due_at >= $2 AND d.due_at - s.alert_s <= $2
             AND (d.treasury, d.schedule, d.period) > ($3, $4, $5) ORDER BY d.treasury, d.schedule, d.period LIMIT $6"
        ))
        .bind(signed(chain_id))
        .bind(signed(now_s))
        .bind(after.map_or_else(String::new, |one| hex_of(one.treasury)))
        .bind(after.map_or(0, |one| place(one.schedule)))
        .bind(after.map_or(-1, |one| i64::from(one.due.period)))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read payments ahead"))?;
        rows.iter().map(due_of).collect()
    }

    /// Notes whether there is an alert for a payment.
    pub async fn note_alert(&self, chain_id: u64, due: &StoredDue, alerted: bool) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE treasury_due SET alerted = $5 WHERE chain_id = $1 AND treasury = $2 AND schedule = $3 AND period = $4",
        )
        .bind(signed(chain_id))
        .bind(hex_of(due.treasury))
        .bind(place(due.schedule))
        .bind(i64::from(due.due.period))
        .bind(alerted)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("note alert"))
    }

    /// A payment that is due and that nobody else works on, locked: one that was never tried, or else the one that was tried longest
    /// ago. A missed one is as good as one of now. None of some treasuries, nor of those where a run is about to reserve money.
    pub async fn lock_due(&self, chain_id: u64, now_s: u64, without: &[Address]) -> Result<Option<Locked>, StoreError> {
        let mut commit = self.begin("lock due payment").await?;
        let row = sqlx::query(select!(
            "d.chain_id = $1 AND d.state = 'waiting' AND s.confirmed AND d.due_at < $2
             AND (d.tried_at IS NULL
                  OR d.open_operation IS NOT NULL AND d.failure IS NULL AND d.tried_at < clock_timestamp() - make_interval(secs => $6)
                  OR d.tried_at < clock_timestamp() - make_interval(secs => least($3 * power(2, least(d.tries, 20) - 1), $4)))
             AND d.treasury <> ALL($5)
             AND NOT EXISTS (SELECT 1 FROM treasury_runs r WHERE r.chain_id = d.chain_id AND r.treasury = d.treasury
                                 AND r.state = 'paying' AND NOT r.reserved)
             ORDER BY d.tried_at NULLS FIRST, d.due_at, d.schedule, d.period LIMIT 1 FOR UPDATE OF d SKIP LOCKED"
        ))
        .bind(signed(chain_id))
        .bind(signed(now_s))
        .bind(AGAIN_AFTER_S)
        .bind(AGAIN_AFTER_AT_MOST_S)
        .bind(without.iter().copied().map(hex_of).collect::<Vec<_>>())
        .bind(LOOK_AFTER_S)
        .fetch_optional(&mut *commit)
        .await
        .map_err(during("lock due payment"))?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Locked { due: due_of(&row)?, commit, chain_id }))
    }
}

// === impl Locked ===

impl Locked {
    /// Notes the run that was started, or why none was, and lets the payment go. A run that stopped meanwhile before its money was
    /// reserved counts as not started.
    pub async fn settle(mut self, outcome: Result<u32, NotStarted>) -> Result<(), StoreError> {
        let (mut opening, mut openings_failed) = (None, 0_i32);
        let (state, run, failure) = match outcome {
            // Whoever ends the pass of the run, or gives the run up, waits for this commit, or it is seen here.
            Ok(run) => match self.stopped_unreserved(run).await? {
                Some(failure) => (DueState::Waiting, None, failure),
                None => (DueState::Started, Some(place(run)), None),
            },
            Err(NotStarted::Opening(operation_id)) => {
                opening = Some(operation_id);
                (DueState::Waiting, None, None)
            }
            Err(NotStarted::NotOpened(failure)) => {
                openings_failed = 1;
                (DueState::Waiting, None, Some(serde_json::json!(failure)))
            }
            Err(NotStarted::Yet(failure)) => (DueState::Waiting, None, Some(serde_json::json!(failure))),
            Err(NotStarted::Ever(failure)) => (DueState::Stopped, None, Some(serde_json::json!(failure))),
        };
        sqlx::query(
            "UPDATE treasury_due SET state = $5, run = $6, failure = $7, tried_at = clock_timestamp(),
                    open_operation = CASE WHEN $9 > 0 THEN NULL ELSE coalesce($8, open_operation) END, openings_failed = openings_failed + $9,
                    tries = CASE WHEN $8 IS NOT NULL THEN tries WHEN $5 = 'waiting' THEN tries + 1 ELSE 0 END
             WHERE chain_id = $1 AND treasury = $2 AND schedule = $3 AND period = $4",
        )
        .bind(signed(self.chain_id))
        .bind(hex_of(self.due.treasury))
        .bind(place(self.due.schedule))
        .bind(i64::from(self.due.due.period))
        .bind(state.name())
        .bind(run)
        .bind(failure)
        .bind(opening)
        .bind(openings_failed)
        .execute(&mut *self.commit)
        .await
        .map_err(during("settle due payment"))?;
        self.commit.commit().await.map_err(during("settle due payment"))
    }

    /// Why a run stopped, if it did before its money was reserved or was given up.
    async fn stopped_unreserved(&mut self, run: u32) -> Result<Option<Option<serde_json::Value>>, StoreError> {
        let row = sqlx::query(
            "SELECT failure, state = 'discarded' OR (state = 'stopped' AND NOT reserved) AS failed FROM treasury_runs
             WHERE chain_id = $1 AND treasury = $2 AND run = $3 FOR SHARE",
        )
        .bind(signed(self.chain_id))
        .bind(hex_of(self.due.treasury))
        .bind(place(run))
        .fetch_optional(&mut *self.commit)
        .await
        .map_err(during("lock run"))?;
        Ok(row.filter(|row| row.get("failed")).map(|row| row.get("failure")))
    }
}

fn due_of(row: &PgRow) -> Result<StoredDue, StoreError> {
    let name: String = row.get("state");
    let state = DueState::ALL.into_iter().find(|state| state.name() == name);
    let year = match (row.get::<Option<i32>, _>("days"), row.get::<Option<i32>, _>("year")) {
        (Some(days), Some(year)) => Some(YearFraction { days: place_of(days), year: place_of(year) }),
        _ => None,
    };
    Ok(StoredDue {
        tenant: row.get("tenant_id"),
        treasury: address_of(row.get("treasury"))?,
        schedule: place_of(row.get("schedule")),
        kind: ScheduleKind::named(row.get("kind"))?,
        due: NewDue {
            period: u32::try_from(row.get::<i64, _>("period")).unwrap_or(u32::MAX),
            record_date: unsigned(row.get("record_date")),
            due_at: unsigned(row.get("due_at")),
            year,
        },
        annual_ratio: row.get::<Option<String>, _>("ratio_text").map(amount_of).transpose()?,
        decision: Decision {
            principal: row.get("principal"),
            any_wallet: row.get("any_wallet"),
            sender: address_of(row.get("sender"))?,
            alert_s: unsigned(row.get("alert_s")),
        },
        state: state.ok_or(StoreError::Malformed { what: "state of a due payment", value: name })?,
        run: row.get::<Option<i32>, _>("run").map(place_of),
        failure: row
            .get::<Option<serde_json::Value>, _>("failure")
            .and_then(|failure| serde_json::from_value(failure).ok()),
        alerted: row.get("alerted"),
        open_operation: row.get("open_operation"),
        openings_failed: row.get("openings_failed"),
        tries: place_of(row.get("tries")),
    })
}
