//! Webhooks and their secrets in the tables.

use dalp_domain::store::{StoreError, during, parsed};
use dalp_engine::OutboxCursor;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::signature::Secret;
use crate::sealing::{Purpose, Sealed, SealingError, SealingKeys};

/// Webhooks of one tenant.
pub const MOST_WEBHOOKS: i64 = 50;
/// Secrets of one webhook that are in force at once.
pub const MOST_SECRETS: i64 = 5;
/// Deliveries that are counted.
const MOST_COUNTED: i64 = 1_000;

/// Whether a webhook sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It sends.
    Active,
    /// Paused by the tenant.
    Paused,
    /// Its receiver is gone.
    Disabled,
}

/// A webhook, without its secrets.
#[derive(Clone, Debug)]
pub struct WebhookRow {
    /// Its id.
    pub id: Uuid,
    /// Where events go.
    pub url: String,
    /// The types it asks for; empty: all.
    pub types: Vec<String>,
    /// For people.
    pub description: String,
    /// Whether it sends.
    pub state: State,
    /// Why it is disabled.
    pub reason: String,
    /// Secrets in force.
    pub secrets: i64,
    /// Deliveries that wait.
    pub pending: i64,
    /// Dead letters.
    pub dead: i64,
    /// Up to which event deliveries were made.
    pub after: OutboxCursor,
    /// Since when.
    pub created_at: OffsetDateTime,
    /// Who made it.
    pub created_by: String,
}

/// What a webhook is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewWebhook<'n> {
    /// Its id.
    pub id: Uuid,
    /// Its tenant.
    pub tenant: &'n str,
    /// Where events go.
    pub url: &'n str,
    /// The types it asks for.
    pub types: &'n [String],
    /// For people.
    pub description: &'n str,
    /// Events behind this are sent.
    pub after: OutboxCursor,
    /// Who makes it.
    pub by: &'n str,
}

const READ: &str = "SELECT w.*, w.after_xid::text AS after_xid_text,
        (SELECT count(*) FROM gateway.webhook_secrets s WHERE s.webhook_id = w.webhook_id AND (s.ends_at IS NULL OR s.ends_at > now())) AS secrets,
        (SELECT count(*) FROM (SELECT FROM gateway.webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.state = 'pending' LIMIT $1) AS counted) AS pending,
        (SELECT count(*) FROM (SELECT FROM gateway.webhook_deliveries d WHERE d.webhook_id = w.webhook_id AND d.state = 'dead' LIMIT $1) AS counted) AS dead
     FROM gateway.webhooks w";

/// A webhook of a tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn find(connection: &mut PgConnection, tenant: &str, id: Uuid) -> Result<Option<WebhookRow>, StoreError> {
    let query = sqlx::AssertSqlSafe(format!("{READ} WHERE w.tenant_id = $2 AND w.webhook_id = $3"));
    let row = sqlx::query(query).bind(MOST_COUNTED).bind(tenant).bind(id).fetch_optional(connection).await;
    row.map_err(during("read webhook"))?.as_ref().map(parse).transpose()
}

/// Webhooks of a tenant behind `after`, by id.
///
/// # Errors
/// When the database does not answer.
pub async fn list(pool: &PgPool, tenant: &str, after: Uuid, limit: u32) -> Result<Vec<WebhookRow>, StoreError> {
    let query = sqlx::AssertSqlSafe(format!(
        "{READ} WHERE w.tenant_id = $2 AND w.webhook_id > $3 ORDER BY w.webhook_id LIMIT $4"
    ));
    let rows = sqlx::query(query).bind(MOST_COUNTED).bind(tenant).bind(after).bind(i64::from(limit));
    rows.fetch_all(pool).await.map_err(during("list webhooks"))?.iter().map(parse).collect()
}

/// Locks a webhook of a tenant until the commit; whether there is such.
///
/// # Errors
/// When the database does not answer.
pub async fn lock(commit: &mut PgConnection, tenant: &str, id: Uuid) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM gateway.webhooks WHERE tenant_id = $1 AND webhook_id = $2 FOR UPDATE")
        .bind(tenant)
        .bind(id)
        .fetch_optional(commit)
        .await;
    Ok(row.map_err(during("lock webhook"))?.is_some())
}

/// Writes a new webhook, unless the tenant has [`MOST_WEBHOOKS`]; whether it was written.
///
/// # Errors
/// When the database does not answer.
pub async fn create(commit: &mut PgConnection, new: NewWebhook<'_>) -> Result<bool, StoreError> {
    // The tenant's row: two that are made at once are counted one after the other.
    sqlx::query("SELECT 1 FROM gateway.tenants WHERE tenant_id = $1 FOR NO KEY UPDATE")
        .bind(new.tenant)
        .execute(&mut *commit)
        .await
        .map_err(during("count webhooks"))?;
    let written = sqlx::query(
        "INSERT INTO gateway.webhooks (webhook_id, tenant_id, url, types, description, after_xid, after_sequence, created_by)
         SELECT $1, $2, $3, $4, $5, $6::text::xid8, $7, $8
         WHERE (SELECT count(*) FROM gateway.webhooks WHERE tenant_id = $2) < $9",
    )
    .bind(new.id)
    .bind(new.tenant)
    .bind(new.url)
    .bind(new.types)
    .bind(new.description)
    .bind(new.after.xid.to_string())
    .bind(new.after.sequence)
    .bind(new.by)
    .bind(MOST_WEBHOOKS)
    .execute(commit)
    .await
    .map_err(during("write webhook"))?;
    Ok(written.rows_affected() == 1)
}

/// Changes a webhook: what is given.
///
/// # Errors
/// When the database does not answer.
pub async fn update(
    commit: &mut PgConnection,
    id: Uuid,
    url: Option<&str>,
    types: Option<&[String]>,
    state: Option<State>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE gateway.webhooks SET url = coalesce($2, url), types = coalesce($3, types), state = coalesce($4, state),
            reason = CASE WHEN $4 IS NULL THEN reason ELSE '' END
         WHERE webhook_id = $1",
    )
    .bind(id)
    .bind(url)
    .bind(types)
    .bind(state.map(State::as_str))
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("change webhook"))
}

/// Deletes a webhook with its secrets and deliveries.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(commit: &mut PgConnection, id: Uuid) -> Result<(), StoreError> {
    let deleted = sqlx::query("DELETE FROM gateway.webhooks WHERE webhook_id = $1").bind(id).execute(commit).await;
    deleted.map(drop).map_err(during("delete webhook"))
}

/// Writes a secret; those before it go on until `overlap_s` seconds have passed. Whether it was written: not beyond [`MOST_SECRETS`].
///
/// # Errors
/// When the database does not answer.
pub async fn add_secret(
    commit: &mut PgConnection,
    webhook: Uuid,
    secret: (Uuid, &Sealed),
    overlap_s: u32,
) -> Result<bool, StoreError> {
    let ending = [
        "DELETE FROM gateway.webhook_secrets WHERE webhook_id = $1 AND least(ends_at, now() + make_interval(secs => $2)) <= now()",
        "UPDATE gateway.webhook_secrets SET ends_at = least(ends_at, now() + make_interval(secs => $2)) WHERE webhook_id = $1",
    ];
    for statement in ending {
        let ended = sqlx::query(statement).bind(webhook).bind(f64::from(overlap_s)).execute(&mut *commit).await;
        ended.map_err(during("end secrets"))?;
    }
    let written = sqlx::query(
        "INSERT INTO gateway.webhook_secrets (secret_id, webhook_id, key_id, sealed) SELECT $1, $2, $5, $3
         WHERE (SELECT count(*) FROM gateway.webhook_secrets WHERE webhook_id = $2) < $4",
    )
    .bind(secret.0)
    .bind(webhook)
    .bind(&secret.1.bytes)
    .bind(MOST_SECRETS)
    .bind(&secret.1.key_id)
    .execute(commit)
    .await
    .map_err(during("write secret"))?;
    Ok(written.rows_affected() == 1)
}

/// The secrets of a webhook that are in force, the newest first.
///
/// # Errors
/// When the database does not answer, or one does not open.
pub async fn secrets(pool: &PgPool, keys: &SealingKeys, webhook: Uuid) -> Result<Vec<Secret>, StoreError> {
    let rows = sqlx::query(
        "SELECT secret_id, key_id, sealed FROM gateway.webhook_secrets WHERE webhook_id = $1 AND (ends_at IS NULL OR ends_at > now())
         ORDER BY ends_at IS NULL DESC, created_at DESC",
    )
    .bind(webhook)
    .fetch_all(pool)
    .await
    .map_err(during("read secrets"))?;
    rows.iter()
        .map(|row| {
            let sealed = Sealed { key_id: row.get("key_id"), bytes: row.get("sealed") };
            let opened = keys.open(Purpose::WebhookSecret { webhook, secret: row.get("secret_id") }, &sealed);
            let broken = |error: SealingError| StoreError::Malformed {
                what: "sealed secret of a webhook",
                value: error.to_string(),
            };
            opened.map(Secret::from_bytes).map_err(broken)
        })
        .collect()
}

fn parse(row: &PgRow) -> Result<WebhookRow, StoreError> {
    Ok(WebhookRow {
        id: row.get("webhook_id"),
        url: row.get("url"),
        types: row.get("types"),
        description: row.get("description"),
        state: parsed("state of a webhook", row.get("state"))?,
        reason: row.get("reason"),
        secrets: row.get("secrets"),
        pending: row.get("pending"),
        dead: row.get("dead"),
        after: OutboxCursor { xid: parsed("xid", row.get("after_xid_text"))?, sequence: row.get("after_sequence") },
        created_at: row.get("created_at"),
        created_by: row.get("created_by"),
    })
}

// === impl State ===

impl State {
    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

impl std::str::FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Active, Self::Paused, Self::Disabled].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}
