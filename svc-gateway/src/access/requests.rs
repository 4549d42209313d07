//! Writes by idempotency key, in the commit of the write itself.

use dalp_domain::store::during;
use sqlx::{PgConnection, Row as _};

use super::store::StoreError;

/// Whose request under which key.
#[derive(Clone, Copy, Debug)]
pub struct RequestName<'r> {
    /// Tenant of who asks.
    pub tenant: &'r str,
    /// Who asks.
    pub principal: &'r str,
    /// The RPC.
    pub method: &'r str,
    /// The key.
    pub key: &'r str,
}

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing yet: this is the first.
    First,
    /// The same payload, answered so.
    Same(Vec<u8>),
    /// Another payload, with this hash.
    Other(Vec<u8>),
}

/// Takes the key. Waits for another commit that has it at this moment.
pub async fn take(commit: &mut PgConnection, name: RequestName<'_>, payload_hash: &[u8]) -> Result<Repeat, StoreError> {
    let taken = sqlx::query(
        "INSERT INTO gateway.requests (tenant_id, principal_id, method, key, payload_hash) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(name.tenant)
    .bind(name.principal)
    .bind(name.method)
    .bind(name.key)
    .bind(payload_hash)
    .execute(&mut *commit)
    .await
    .map_err(during("take idempotency key"))?;
    if taken.rows_affected() == 1 {
        return Ok(Repeat::First);
    }
    let row = sqlx::query(
        "SELECT payload_hash, answer FROM gateway.requests WHERE tenant_id = $1 AND principal_id = $2 AND method = $3 AND key = $4",
    )
    .bind(name.tenant)
    .bind(name.principal)
    .bind(name.method)
    .bind(name.key)
    .fetch_one(commit)
    .await
    .map_err(during("read idempotency key"))?;
    let stored: Vec<u8> = row.get("payload_hash");
    match stored == payload_hash {
        true => Ok(Repeat::Same(row.get::<Option<Vec<u8>>, _>("answer").unwrap_or_default())),
        false => Ok(Repeat::Other(stored)),
    }
}

/// Writes the answer that a repeat gets.
pub async fn answer(commit: &mut PgConnection, name: RequestName<'_>, answer: &[u8]) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE gateway.requests SET answer = $5 WHERE tenant_id = $1 AND principal_id = $2 AND method = $3 AND key = $4",
    )
    .bind(name.tenant)
    .bind(name.principal)
    .bind(name.method)
    .bind(name.key)
    .bind(answer)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("write answer"))
}
