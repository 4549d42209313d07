//! For which writes something was shown.

use dalp_domain::store::{StoreError, during};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use super::{Ask, Factor};

/// Whether something right was shown for this very write: this message under this key.
pub async fn is_verified(
    database: impl PgExecutor<'_>,
    ask: &Ask<'_>,
    payload_hash: &[u8; 32],
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS one FROM gateway.verifications WHERE tenant_id = $1 AND principal_id = $2 AND method = $3 AND key = $4 AND payload_hash = $5",
    )
    .bind(ask.person.tenant)
    .bind(ask.person.principal)
    .bind(ask.method)
    .bind(ask.key)
    .bind(payload_hash.as_slice())
    .fetch_optional(database)
    .await;
    Ok(row.map_err(during("read verification"))?.is_some())
}

/// Whether something right was shown under this key, for whichever message.
pub async fn is_key_verified(database: impl PgExecutor<'_>, ask: &Ask<'_>) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS one FROM gateway.verifications WHERE tenant_id = $1 AND principal_id = $2 AND method = $3 AND key = $4 LIMIT 1",
    )
    .bind(ask.person.tenant)
    .bind(ask.person.principal)
    .bind(ask.method)
    .bind(ask.key)
    .fetch_optional(database)
    .await;
    Ok(row.map_err(during("read verification"))?.is_some())
}

/// Notes that something right was shown for a write; a second time changes nothing.
pub async fn put_verified(
    commit: &mut PgConnection,
    ask: &Ask<'_>,
    payload_hash: &[u8; 32],
    factor: Factor,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO gateway.verifications (tenant_id, principal_id, method, key, payload_hash, factor, verified_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(ask.person.tenant)
    .bind(ask.person.principal)
    .bind(ask.method)
    .bind(ask.key)
    .bind(payload_hash.as_slice())
    .bind(factor.as_str())
    .bind(now)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("write verification"))
}
