//! API keys in the tables.

use dalp_domain::store::{during, parsed};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{Store, store::StoreError};
use crate::{api_key::ApiKey, config::Scope};

/// An API key, without what proves it.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Its public part.
    pub prefix: String,
    /// For whom it stands.
    pub principal: String,
    /// What it is good for.
    pub scope: Scope,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
    /// Since when it is disabled.
    pub disabled_at: Option<OffsetDateTime>,
    /// When it was last used.
    pub last_used_at: Option<OffsetDateTime>,
    /// The key that took its place.
    pub successor: Option<String>,
    /// Kept by the configuration.
    pub managed: bool,
    /// Since when it is there.
    pub created_at: OffsetDateTime,
    /// Who made it.
    pub created_by: String,
}

const READ: &str = "SELECT k.*, u.last_used_at FROM gateway.api_keys k LEFT JOIN gateway.api_key_uses u USING (prefix)";

impl Store {
    /// A key of a tenant.
    pub async fn api_key(&self, tenant: &str, prefix: &str) -> Result<Option<KeyRow>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("read API key"))?;
        find(&mut connection, tenant, prefix).await
    }

    /// Keys of a tenant behind `after`, by prefix; only those of one principal, if given.
    pub async fn api_keys(
        &self,
        tenant: &str,
        principal: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<KeyRow>, StoreError> {
        let query = sqlx::AssertSqlSafe(format!(
            "{READ} WHERE k.tenant_id = $1 AND ($2::text IS NULL OR k.principal_id = $2) AND k.prefix > $3 ORDER BY k.prefix LIMIT $4"
        ));
        let rows = sqlx::query(query).bind(tenant).bind(principal).bind(after).bind(i64::from(limit));
        rows.fetch_all(&self.pool).await.map_err(during("list API keys"))?.iter().map(parse).collect()
    }
}

/// A key of a tenant, in the commit that a connection is in.
pub async fn find(connection: &mut PgConnection, tenant: &str, prefix: &str) -> Result<Option<KeyRow>, StoreError> {
    let query = sqlx::AssertSqlSafe(format!("{READ} WHERE k.tenant_id = $1 AND k.prefix = $2"));
    let row = sqlx::query(query).bind(tenant).bind(prefix).fetch_optional(connection).await;
    row.map_err(during("read API key"))?.as_ref().map(parse).transpose()
}

/// A key of a tenant, locked until the commit.
pub async fn lock(commit: &mut PgConnection, tenant: &str, prefix: &str) -> Result<Option<KeyRow>, StoreError> {
    sqlx::query("SELECT 1 FROM gateway.api_keys WHERE tenant_id = $1 AND prefix = $2 FOR UPDATE")
        .bind(tenant)
        .bind(prefix)
        .execute(&mut *commit)
        .await
        .map_err(during("lock API key"))?;
    find(commit, tenant, prefix).await
}

/// Writes a new key. `by` whom, and through whose hands it went.
pub async fn create(
    commit: &mut PgConnection,
    tenant: &str,
    principal: &str,
    key: &ApiKey,
    scope: Scope,
    expires_at: Option<OffsetDateTime>,
    (by, hands): (&str, &[String]),
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO gateway.api_keys (prefix, tenant_id, principal_id, digest, scope, expires_at, managed, created_by, hands)
         VALUES ($1, $2, $3, $4, $5, $6, false, $7, $8)",
    )
    .bind(key.prefix())
    .bind(tenant)
    .bind(principal)
    .bind(key.digest().as_bytes())
    .bind(scope.as_str())
    .bind(expires_at)
    .bind(by)
    .bind(hands)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("write API key"))
}

/// Says which key takes the place of another, and when that ends: at `ends_at`, or sooner if it would have anyway.
pub async fn succeed(
    commit: &mut PgConnection,
    prefix: &str,
    successor: &str,
    ends_at: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE gateway.api_keys SET successor = $2, expires_at = least(expires_at, $3) WHERE prefix = $1")
        .bind(prefix)
        .bind(successor)
        .bind(ends_at)
        .execute(commit)
        .await
        .map(drop)
        .map_err(during("rotate API key"))
}

/// Ends a key; a second time changes nothing.
pub async fn disable(commit: &mut PgConnection, prefix: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE gateway.api_keys SET disabled_at = now() WHERE prefix = $1 AND disabled_at IS NULL")
        .bind(prefix)
        .execute(commit)
        .await
        .map(drop)
        .map_err(during("disable API key"))
}

fn parse(row: &PgRow) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        prefix: row.get("prefix"),
        principal: row.get("principal_id"),
        scope: parsed("scope", row.get("scope"))?,
        expires_at: row.get("expires_at"),
        disabled_at: row.get("disabled_at"),
        last_used_at: row.get("last_used_at"),
        successor: row.get("successor"),
        managed: row.get("managed"),
        created_at: row.get("created_at"),
        created_by: row.get("created_by"),
    })
}
