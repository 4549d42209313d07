//! Deliveries, from the outbox to their end. A try is counted before it is made, so a process that dies makes a repeat and no loss.

use std::time::Duration;

use dalp_domain::store::{StoreError, Tables, during, parsed};
use dalp_engine::{OutboxCursor, Reader, TenantId, audit_leaf};
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{event::Letter, schedule::Verdict};
use crate::events;

/// Deliveries of one webhook that wait at once; more events wait in the outbox.
pub const MOST_PENDING: i64 = 1_000;
/// Events made deliveries in one commit.
const FED_AT_ONCE: u32 = 200;
/// How long deliveries that ended well are kept.
const KEPT_DAYS: i32 = 30;
const PRUNED_AT_ONCE: i64 = 1_000;
const MAX_ERROR_CHARACTERS: usize = 300;

/// A try to be made.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its place; the name of the delivery among ourselves.
    pub position: i64,
    /// The webhook.
    pub webhook: Uuid,
    /// The tenant.
    pub tenant: String,
    /// Where it goes.
    pub url: String,
    /// The event.
    pub event_id: String,
    /// The bytes that are signed and sent.
    pub body: String,
    /// Which try this is, from 1.
    pub attempts: u32,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be sent, perhaps again.
    Pending,
    /// The receiver took it.
    Delivered,
    /// All tries failed.
    Dead,
}

/// A delivery as it is told.
#[derive(Clone, Debug)]
pub struct DeliveryRow {
    /// Its place.
    pub position: i64,
    /// The event.
    pub event_id: String,
    /// Its type.
    pub r#type: String,
    /// What it is about.
    pub subject: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Tries so far.
    pub attempts: i32,
    /// When it is tried next.
    pub due_at: OffsetDateTime,
    /// The last answer; 0: none.
    pub last_status: i32,
    /// Why the last try failed.
    pub last_error: String,
    /// Since when.
    pub created_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: Option<OffsetDateTime>,
}

/// What waits, of webhooks that send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backlog {
    /// Deliveries.
    pub pending: i64,
    /// Age of the oldest, in seconds.
    pub lag_s: f64,
    /// Dead letters.
    pub dead: i64,
}

/// The webhooks for which there are events, and room.
///
/// # Errors
/// When the database does not answer.
pub async fn hungry(pool: &PgPool) -> Result<Vec<Uuid>, StoreError> {
    let rows = sqlx::query(
        "SELECT w.webhook_id FROM gateway.webhooks w JOIN gateway.tenants t USING (tenant_id)
         WHERE w.state = 'active' AND t.disabled_at IS NULL
            AND (w.after_xid > pg_snapshot_xmax(pg_current_snapshot())
                OR EXISTS (SELECT FROM engine.outbox o WHERE o.tenant = w.tenant_id AND (o.xid, o.sequence) > (w.after_xid, w.after_sequence)
                    AND o.xid < pg_snapshot_xmin(pg_current_snapshot())))
            AND (SELECT count(*) FROM (SELECT FROM gateway.webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' LIMIT $1) AS counted) < $1",
    )
    .bind(MOST_PENDING)
    .fetch_all(pool)
    .await
    .map_err(during("look for events"))?;
    Ok(rows.iter().map(|row| row.get("webhook_id")).collect())
}

/// Makes deliveries of the next events of a webhook; how many events were looked at. Somebody else who is at it is left to it.
///
/// # Errors
/// When the database does not answer.
pub async fn feed(tables: &Tables, reader: &Reader, webhook: Uuid) -> Result<usize, StoreError> {
    let mut commit = tables.begin("begin deliveries").await?;
    let row = sqlx::query(
        "SELECT tenant_id, types, after_xid::text AS after_xid, after_sequence, again_xid::text AS again_xid, again_sequence,
            after_xid > pg_snapshot_xmax(pg_current_snapshot()) AS foreign_cursor
         FROM gateway.webhooks WHERE webhook_id = $1 AND state = 'active' FOR UPDATE SKIP LOCKED",
    )
    .bind(webhook)
    .fetch_optional(&mut *commit)
    .await
    .map_err(during("lock webhook"))?;
    let Some(row) = row else { return Ok(0) };
    if row.get("foreign_cursor") {
        begin_anew(&mut commit, webhook).await?;
        commit.commit().await.map_err(during("commit deliveries"))?;
        return Ok(1);
    }
    let tenant = TenantId::new(row.get::<String, _>("tenant_id"));
    let types: Vec<String> = row.get("types");
    let after = OutboxCursor { xid: parsed("xid", row.get("after_xid"))?, sequence: row.get("after_sequence") };
    let again = match row.get::<Option<String>, _>("again_xid") {
        Some(xid) => OutboxCursor { xid: parsed("xid", xid)?, sequence: row.get("again_sequence") },
        None => OutboxCursor::default(),
    };
    let read = reader.events(&tenant, after, FED_AT_ONCE).await;
    let read = read.map_err(|source| StoreError::Database { action: "read events", source })?;
    let Some(last) = read.last().map(|event| event.cursor) else { return Ok(0) };
    let wanted = read.iter().filter(|event| types.is_empty() || types.contains(&event.topic));
    let (old, new): (Vec<_>, Vec<_>) = wanted.partition(|event| event.cursor <= again);
    for (events, is_again) in [(old, true), (new, false)] {
        let letters: Vec<_> = events.into_iter().map(|event| Letter::of(event, &events::token(event.cursor))).collect();
        post(&mut commit, webhook, &letters, is_again).await?;
    }
    sqlx::query("UPDATE gateway.webhooks SET after_xid = $2::text::xid8, after_sequence = $3 WHERE webhook_id = $1")
        .bind(webhook)
        .bind(last.xid.to_string())
        .bind(last.sequence)
        .execute(&mut *commit)
        .await
        .map_err(during("note events"))?;
    commit.commit().await.map_err(during("commit deliveries"))?;
    Ok(read.len())
}

/// The cursor is of another database, which this one was restored from: its numbers begin anew. Deliveries that are there are not made again.
async fn begin_anew(commit: &mut PgConnection, webhook: Uuid) -> Result<(), StoreError> {
    tracing::warn!(%webhook, "the webhook's place in the events is of another database: looking through them again");
    sqlx::query(
        "UPDATE gateway.webhooks w SET again_xid = NULL, again_sequence = NULL, (after_xid, after_sequence) = (
            SELECT place.xid, place.sequence FROM (
                (SELECT o.xid, o.sequence - 1 AS sequence FROM engine.outbox o
                 WHERE o.tenant = w.tenant_id AND o.created_at >= greatest(w.created_at, now() - make_interval(days => $2))
                 ORDER BY o.xid, o.sequence LIMIT 1)
                UNION ALL SELECT pg_snapshot_xmin(pg_current_snapshot()), 0::bigint
            ) AS place ORDER BY place.xid LIMIT 1)
         WHERE webhook_id = $1",
    )
    .bind(webhook)
    .bind(KEPT_DAYS)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("begin events anew"))
}

/// Writes deliveries. One that is there stays as it is, or is sent again if that is asked for.
///
/// # Errors
/// When the database does not answer.
pub async fn post(
    commit: &mut PgConnection,
    webhook: Uuid,
    letters: &[Letter],
    is_again: bool,
) -> Result<(), StoreError> {
    if letters.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO gateway.webhook_deliveries AS d (webhook_id, event_id, type, subject, body)
         SELECT $1, l.* FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS l
         ON CONFLICT (webhook_id, event_id) DO UPDATE SET state = 'pending', attempts = 0, due_at = now(), ended_at = NULL
            WHERE $6 AND d.state <> 'pending'",
    )
    .bind(webhook)
    .bind(letters.iter().map(|letter| letter.event_id.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.r#type.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.subject.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.body.as_str()).collect::<Vec<_>>())
    .bind(is_again)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("write deliveries"))
}

/// Takes tries that are due for as long as `lease`: at most `limit`, at most `each` of a webhook, none of those that are busy, and of each subject only the
/// oldest that waits.
///
/// # Errors
/// When the database does not answer.
pub async fn take(
    pool: &PgPool,
    limit: usize,
    each: usize,
    busy: &[Uuid],
    lease: Duration,
) -> Result<Vec<Due>, StoreError> {
    let rows = sqlx::query(
        "UPDATE gateway.webhook_deliveries taken SET attempts = taken.attempts + 1, due_at = now() + make_interval(secs => $4)
         FROM (
            SELECT d.position, w.tenant_id, w.url FROM gateway.webhooks w JOIN gateway.tenants t USING (tenant_id)
            CROSS JOIN LATERAL (
                SELECT one.position FROM gateway.webhook_deliveries one
                WHERE one.webhook_id = w.webhook_id AND one.state = 'pending' AND one.due_at <= now()
                    AND NOT EXISTS (SELECT FROM gateway.webhook_deliveries earlier
                        WHERE earlier.webhook_id = one.webhook_id AND earlier.subject = one.subject AND earlier.state = 'pending' AND earlier.position < one.position)
                ORDER BY one.position LIMIT $2 FOR UPDATE SKIP LOCKED
            ) AS d
            WHERE w.state = 'active' AND t.disabled_at IS NULL AND NOT w.webhook_id = ANY($3)
            LIMIT $1
         ) AS due
         WHERE taken.position = due.position
         RETURNING taken.position, taken.webhook_id, due.tenant_id, due.url, taken.event_id, taken.body, taken.attempts",
    )
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(i64::try_from(each).unwrap_or(i64::MAX))
    .bind(busy)
    .bind(lease.as_secs_f64())
    .fetch_all(pool)
    .await
    .map_err(during("take deliveries"))?;
    let due = |row: &PgRow| Due {
        position: row.get("position"),
        webhook: row.get("webhook_id"),
        tenant: row.get("tenant_id"),
        url: row.get("url"),
        event_id: row.get("event_id"),
        body: row.get("body"),
        attempts: u32::try_from(row.get::<i32, _>("attempts")).unwrap_or_default(),
    };
    Ok(rows.iter().map(due).collect())
}

/// Gives a try back that was not made: the next one is that.
///
/// # Errors
/// When the database does not answer.
pub async fn hand_back(pool: &PgPool, due: &Due) -> Result<(), StoreError> {
    sqlx::query("UPDATE gateway.webhook_deliveries SET attempts = attempts - 1 WHERE position = $1 AND attempts = $2 AND state = 'pending'")
        .bind(due.position)
        .bind(i32::try_from(due.attempts).unwrap_or(i32::MAX))
        .execute(pool)
        .await
        .map(drop)
        .map_err(during("give a try back"))
}

/// Notes what came of a try, unless the delivery was taken again since.
///
/// # Errors
/// When the database does not answer.
pub async fn finish(tables: &Tables, due: &Due, status: u16, verdict: &Verdict) -> Result<(), StoreError> {
    let (state, after, why) = match verdict {
        Verdict::Delivered => (DeliveryState::Delivered, Duration::ZERO, ""),
        Verdict::Again { after, why } => (DeliveryState::Pending, *after, why.as_str()),
        Verdict::Dead { why } => (DeliveryState::Dead, Duration::ZERO, why.as_str()),
        Verdict::Gone => (DeliveryState::Pending, Duration::ZERO, "the receiver answered 410 (gone)"),
    };
    let mut commit = tables.begin("begin outcome").await?;
    sqlx::query(
        "UPDATE gateway.webhook_deliveries SET state = $3, due_at = now() + make_interval(secs => $4), last_status = $5, last_error = $6,
            ended_at = CASE WHEN $3 = 'pending' THEN NULL ELSE now() END
         WHERE position = $1 AND attempts = $2 AND state = 'pending'",
    )
    .bind(due.position)
    .bind(i32::try_from(due.attempts).unwrap_or(i32::MAX))
    .bind(state.as_str())
    .bind(after.as_secs_f64())
    .bind(i32::from(status))
    .bind(why.chars().take(MAX_ERROR_CHARACTERS).collect::<String>())
    .execute(&mut *commit)
    .await
    .map_err(during("note outcome"))?;
    if *verdict == Verdict::Gone {
        disable(&mut commit, due, why).await?;
    }
    commit.commit().await.map_err(during("commit outcome"))
}

/// The receiver that said so is gone; where the webhook points elsewhere by now, it said nothing of that.
async fn disable(commit: &mut PgConnection, due: &Due, why: &str) -> Result<(), StoreError> {
    let disabled = sqlx::query(
        "UPDATE gateway.webhooks SET state = 'disabled', reason = $3 WHERE webhook_id = $1 AND url = $2 AND state = 'active'",
    )
    .bind(due.webhook)
    .bind(&due.url)
    .bind(why)
    .execute(&mut *commit)
    .await
    .map_err(during("disable webhook"))?;
    if disabled.rows_affected() == 1 {
        let body = serde_json::json!({"reason": why, "event_id": due.event_id});
        let subject = due.webhook.to_string();
        audit_leaf(commit, &due.tenant, "webhook.disable", "gateway", &subject, body)
            .await
            .map_err(during("write audit leaf"))?;
    }
    Ok(())
}

/// Sends deliveries again that have ended: that of one event, or all dead letters. How many.
///
/// # Errors
/// When the database does not answer.
pub async fn reopen(commit: &mut PgConnection, webhook: Uuid, event_id: Option<&str>) -> Result<u64, StoreError> {
    let opened = sqlx::query(
        "UPDATE gateway.webhook_deliveries SET state = 'pending', attempts = 0, due_at = now(), ended_at = NULL
         WHERE webhook_id = $1 AND CASE WHEN $2::text IS NULL THEN state = 'dead' ELSE event_id = $2 AND state <> 'pending' END",
    )
    .bind(webhook)
    .bind(event_id)
    .execute(commit)
    .await
    .map_err(during("send again"))?;
    Ok(opened.rows_affected())
}

/// Goes back to a cursor, if it lies before where the webhook is: what follows it is sent again.
///
/// # Errors
/// When the database does not answer.
pub async fn rewind(commit: &mut PgConnection, webhook: Uuid, after: OutboxCursor) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE gateway.webhooks SET after_xid = $2::text::xid8, after_sequence = $3,
            (again_xid, again_sequence) = (SELECT g.xid, g.sequence
                FROM (VALUES (after_xid, after_sequence), (again_xid, again_sequence)) AS g(xid, sequence)
                WHERE g.xid IS NOT NULL ORDER BY g.xid DESC, g.sequence DESC LIMIT 1)
         WHERE webhook_id = $1 AND (after_xid, after_sequence) > ($2::text::xid8, $3)",
    )
    .bind(webhook)
    .bind(after.xid.to_string())
    .bind(after.sequence)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("go back"))
}

/// Deliveries of a webhook before a place, the newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    pool: &PgPool,
    webhook: Uuid,
    state: Option<DeliveryState>,
    before: i64,
    limit: u32,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM gateway.webhook_deliveries WHERE webhook_id = $1 AND ($2::text IS NULL OR state = $2) AND position < $3
         ORDER BY position DESC LIMIT $4",
    )
    .bind(webhook)
    .bind(state.map(DeliveryState::as_str))
    .bind(before)
    .bind(i64::from(limit));
    rows.fetch_all(pool).await.map_err(during("list deliveries"))?.iter().map(parse).collect()
}

/// Whether there is a delivery of an event.
///
/// # Errors
/// When the database does not answer.
pub async fn exists(commit: &mut PgConnection, webhook: Uuid, event_id: &str) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM gateway.webhook_deliveries WHERE webhook_id = $1 AND event_id = $2")
        .bind(webhook)
        .bind(event_id)
        .fetch_optional(commit)
        .await;
    Ok(row.map_err(during("find delivery"))?.is_some())
}

/// What waits.
///
/// # Errors
/// When the database does not answer.
pub async fn backlog(pool: &PgPool) -> Result<Backlog, StoreError> {
    let row = sqlx::query(
        "SELECT count(*) FILTER (WHERE d.state = 'pending' AND w.state = 'active') AS pending, count(*) FILTER (WHERE d.state = 'dead') AS dead,
            coalesce(extract(epoch FROM now() - min(d.created_at) FILTER (WHERE d.state = 'pending' AND w.state = 'active')), 0)::float8 AS lag_s
         FROM gateway.webhooks w JOIN gateway.webhook_deliveries d USING (webhook_id) WHERE d.state IN ('pending', 'dead')",
    )
    .fetch_one(pool)
    .await
    .map_err(during("count deliveries"))?;
    Ok(Backlog { pending: row.get("pending"), lag_s: row.get("lag_s"), dead: row.get("dead") })
}

/// Forgets deliveries that ended well long ago, and secrets that have ended.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(pool: &PgPool) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM gateway.webhook_deliveries WHERE position IN (
            SELECT position FROM gateway.webhook_deliveries WHERE state = 'delivered' AND ended_at < now() - make_interval(days => $1) LIMIT $2)",
    )
    .bind(KEPT_DAYS)
    .bind(PRUNED_AT_ONCE)
    .execute(pool)
    .await
    .map_err(during("forget deliveries"))?;
    let ended = sqlx::query("DELETE FROM gateway.webhook_secrets WHERE ends_at < now()").execute(pool).await;
    ended.map(drop).map_err(during("forget secrets"))
}

fn parse(row: &PgRow) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        position: row.get("position"),
        event_id: row.get("event_id"),
        r#type: row.get("type"),
        subject: row.get("subject"),
        state: parsed("state of a delivery", row.get("state"))?,
        attempts: row.get("attempts"),
        due_at: row.get("due_at"),
        last_status: row.get("last_status"),
        last_error: row.get("last_error"),
        created_at: row.get("created_at"),
        ended_at: row.get("ended_at"),
    })
}

// === impl DeliveryState ===

impl DeliveryState {
    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

impl std::str::FromStr for DeliveryState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Pending, Self::Delivered, Self::Dead].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}
