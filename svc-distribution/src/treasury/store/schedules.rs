//! Schedules: on whose decision payments start by themselves.

use super::{
    due::{Decision, NewDue},
    place, place_of,
};
use crate::{
    store::Store,
    treasury::{calendar::Calendar, flows::CalendarOrder},
};
use alloy::primitives::Address;
use dalp_domain::store::{StoreError, address_of, during, hex_of, signed};
use dalp_engine::Failure;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// What a schedule pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleKind {
    /// The coupons of the treasury.
    Coupons,
    /// Dividends by a calendar.
    Calendar,
    /// The redemption at maturity.
    Maturity,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSchedule {
    /// Its number.
    pub schedule: u32,
    /// What it pays.
    pub kind: ScheduleKind,
    /// Who decided on it last.
    pub principal: String,
    /// Who sends.
    pub sender: Address,
}

/// A calendar whose operation was not seen to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// Whose.
    pub tenant: String,
    /// The treasury.
    pub treasury: Address,
    /// Number of the schedule.
    pub schedule: u32,
    /// The operation that announces its dates.
    pub operation_id: Uuid,
}

// === impl ScheduleKind ===

impl ScheduleKind {
    const ALL: [Self; 3] = [Self::Coupons, Self::Calendar, Self::Maturity];

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coupons => "coupons",
            Self::Calendar => "calendar",
            Self::Maturity => "maturity",
        }
    }

    /// The kind that is stored under a name.
    pub(super) fn named(name: String) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or(StoreError::Malformed { what: "kind of a schedule", value: name })
    }
}

/// Writes a calendar with its payments in the commit that accepts it.
pub async fn put_calendar(
    commit: &mut PgConnection,
    tenant: &str,
    operation_id: Uuid,
    (principal, any_wallet): (&str, bool),
    order: &CalendarOrder,
    periods: &[NewDue],
) -> Result<(), sqlx::Error> {
    let command = &order.command;
    let calendar: &Calendar = &command.calendar;
    // Schedules of a treasury are numbered one after the other.
    sqlx::query("SELECT 1 FROM distribution.treasuries WHERE chain_id = $1 AND treasury = $2 FOR NO KEY UPDATE")
        .bind(signed(order.chain_id))
        .bind(hex_of(command.treasury))
        .execute(&mut *commit)
        .await?;
    let schedule: i32 = sqlx::query_scalar(
        "INSERT INTO distribution.treasury_schedules (tenant_id, chain_id, treasury, schedule, kind, operation_id, principal, sender,
                                                      any_wallet, alert_s, confirmed, calendar, annual_ratio)
         SELECT $1, $2, $3, coalesce(max(schedule), 0) + 1, 'calendar', $4, $5, $6, $10, $7, false, $8, $9::numeric
         FROM distribution.treasury_schedules WHERE chain_id = $2 AND treasury = $3 RETURNING schedule",
    )
    .bind(tenant)
    .bind(signed(order.chain_id))
    .bind(hex_of(command.treasury))
    .bind(operation_id)
    .bind(principal)
    .bind(hex_of(command.sender))
    .bind(signed(command.alert_s))
    .bind(serde_json::json!(calendar))
    .bind(order.annual_ratio.to_string())
    .bind(any_wallet)
    .fetch_one(&mut *commit)
    .await?;
    put_due(commit, order.chain_id, command.treasury, schedule, periods).await
}

async fn put_due(
    commit: &mut PgConnection,
    chain_id: u64,
    treasury: Address,
    schedule: i32,
    periods: &[NewDue],
) -> Result<(), sqlx::Error> {
    for one in periods {
        sqlx::query(
            "INSERT INTO distribution.treasury_due (chain_id, treasury, schedule, period, record_date, due_at, days, year)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(signed(chain_id))
        .bind(hex_of(treasury))
        .bind(schedule)
        .bind(i64::from(one.period))
        .bind(signed(one.record_date))
        .bind(signed(one.due_at))
        .bind(one.year.map(|year| place(year.days)))
        .bind(one.year.map(|year| place(year.year)))
        .execute(&mut *commit)
        .await?;
    }
    Ok(())
}

impl Store {
    /// Lets the coupons of a treasury, or its redemption, start by themselves, on somebody's decision. Asked again, the decision is the new
    /// one, and what was stopped waits again.
    pub async fn automate(
        &self,
        chain_id: u64,
        (tenant, treasury): (&str, Address),
        kind: ScheduleKind,
        decision: &Decision,
        periods: &[NewDue],
    ) -> Result<(), StoreError> {
        let mut commit = self.begin("automate payments").await?;
        sqlx::query("SELECT 1 FROM treasuries WHERE chain_id = $1 AND treasury = $2 FOR NO KEY UPDATE")
            .bind(signed(chain_id))
            .bind(hex_of(treasury))
            .execute(&mut *commit)
            .await
            .map_err(during("lock treasury"))?;
        let schedule: i32 = sqlx::query_scalar(
            "INSERT INTO treasury_schedules (tenant_id, chain_id, treasury, schedule, kind, principal, sender, alert_s, confirmed, any_wallet)
             SELECT $1, $2, $3, coalesce(max(schedule), 0) + 1, $8, $4, $5, $6, true, $7 FROM treasury_schedules
             WHERE chain_id = $2 AND treasury = $3
             ON CONFLICT (chain_id, treasury, kind) WHERE kind <> 'calendar'
             DO UPDATE SET principal = excluded.principal, sender = excluded.sender, alert_s = excluded.alert_s,
                           any_wallet = excluded.any_wallet RETURNING schedule",
        )
        .bind(tenant)
        .bind(signed(chain_id))
        .bind(hex_of(treasury))
        .bind(&decision.principal)
        .bind(hex_of(decision.sender))
        .bind(signed(decision.alert_s))
        .bind(decision.any_wallet)
        .bind(kind.name())
        .fetch_one(&mut *commit)
        .await
        .map_err(during("automate payments"))?;
        put_due(&mut commit, chain_id, treasury, schedule, periods).await.map_err(during("automate payments"))?;
        sqlx::query(
            "UPDATE treasury_due SET state = 'waiting', tries = 0, tried_at = NULL
             WHERE chain_id = $1 AND treasury = $2 AND schedule = $3 AND state = 'stopped'",
        )
        .bind(signed(chain_id))
        .bind(hex_of(treasury))
        .bind(schedule)
        .execute(&mut *commit)
        .await
        .map_err(during("automate payments"))?;
        commit.commit().await.map_err(during("automate payments"))
    }

    /// Lets nothing further of a schedule start by itself.
    pub async fn stop_schedule(&self, chain_id: u64, treasury: Address, schedule: u32) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE treasury_due SET state = 'stopped' WHERE chain_id = $1 AND treasury = $2 AND schedule = $3 AND state = 'waiting'",
        )
        .bind(signed(chain_id))
        .bind(hex_of(treasury))
        .bind(place(schedule))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("stop schedule"))
    }

    /// Schedules of a treasury, in their order.
    pub async fn schedules(&self, chain_id: u64, treasury: Address) -> Result<Vec<StoredSchedule>, StoreError> {
        let rows = sqlx::query(
            "SELECT schedule, kind, principal, sender FROM treasury_schedules
             WHERE chain_id = $1 AND treasury = $2 ORDER BY schedule",
        )
        .bind(signed(chain_id))
        .bind(hex_of(treasury))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read schedules"))?;
        rows.iter()
            .map(|row| {
                Ok(StoredSchedule {
                    schedule: place_of(row.get("schedule")),
                    kind: ScheduleKind::named(row.get("kind"))?,
                    principal: row.get("principal"),
                    sender: address_of(row.get("sender"))?,
                })
            })
            .collect()
    }

    /// Calendars whose operation was not seen to end.
    pub async fn unconfirmed_calendars(&self, chain_id: u64, limit: u32) -> Result<Vec<Unconfirmed>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant_id, treasury, schedule, operation_id FROM treasury_schedules
             WHERE chain_id = $1 AND NOT confirmed AND operation_id IS NOT NULL ORDER BY random() LIMIT $2",
        )
        .bind(signed(chain_id))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(during("read calendars"))?;
        rows.iter()
            .map(|row| {
                Ok(Unconfirmed {
                    tenant: row.get("tenant_id"),
                    treasury: address_of(row.get("treasury"))?,
                    schedule: place_of(row.get("schedule")),
                    operation_id: row.get("operation_id"),
                })
            })
            .collect()
    }

    /// Notes how the operation of a calendar ended: its payments may start, or none ever will.
    pub async fn settle_calendar(
        &self,
        chain_id: u64,
        calendar: &Unconfirmed,
        failure: Option<&Failure>,
    ) -> Result<(), StoreError> {
        let mut commit = self.begin("settle calendar").await?;
        if let Some(failure) = failure {
            sqlx::query(
                "UPDATE treasury_due SET state = 'stopped', failure = $4
                 WHERE chain_id = $1 AND treasury = $2 AND schedule = $3 AND state = 'waiting'",
            )
            .bind(signed(chain_id))
            .bind(hex_of(calendar.treasury))
            .bind(place(calendar.schedule))
            .bind(serde_json::json!(failure))
            .execute(&mut *commit)
            .await
            .map_err(during("settle calendar"))?;
        }
        sqlx::query(
            "UPDATE treasury_schedules SET confirmed = true WHERE chain_id = $1 AND treasury = $2 AND schedule = $3",
        )
        .bind(signed(chain_id))
        .bind(hex_of(calendar.treasury))
        .bind(place(calendar.schedule))
        .execute(&mut *commit)
        .await
        .map_err(during("settle calendar"))?;
        commit.commit().await.map_err(during("settle calendar"))
    }
}
