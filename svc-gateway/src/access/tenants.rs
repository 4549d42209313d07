//! Tenants in the tables.

use dalp_domain::store::{during, signed, unsigned};
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use time::OffsetDateTime;

use super::{Store, store::StoreError};
use crate::config::LimitsConfig;

/// A tenant.
#[derive(Clone, Debug)]
pub struct TenantRow {
    /// Identifier.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where its data is.
    pub cell: String,
    /// Where it works; empty: anywhere.
    pub chain_ids: Vec<u64>,
    /// Its own rates.
    pub limits: Option<LimitsConfig>,
    /// Kept by the configuration.
    pub managed: bool,
    /// Since when it is disabled.
    pub disabled_at: Option<OffsetDateTime>,
    /// Since when it is there.
    pub created_at: OffsetDateTime,
    /// Who opened it.
    pub created_by: String,
}

/// What can be changed of a tenant.
#[derive(Clone, Debug)]
pub struct TenantTerms {
    /// For people.
    pub name: String,
    /// Where its data is.
    pub cell: String,
    /// Where it works; empty: anywhere.
    pub chain_ids: Vec<u64>,
    /// Its own rates.
    pub limits: Option<LimitsConfig>,
}

impl Store {
    /// A tenant.
    pub async fn tenant(&self, id: &str) -> Result<Option<TenantRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM gateway.tenants WHERE tenant_id = $1").bind(id).fetch_optional(&self.pool);
        Ok(row.await.map_err(during("read tenant"))?.as_ref().map(parse))
    }

    /// Tenants behind `after`, by identifier.
    pub async fn tenants(&self, after: &str, limit: u32) -> Result<Vec<TenantRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM gateway.tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool);
        Ok(rows.await.map_err(during("list tenants"))?.iter().map(parse).collect())
    }
}

/// A tenant, locked until the commit.
pub async fn lock(commit: &mut PgConnection, id: &str) -> Result<Option<TenantRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM gateway.tenants WHERE tenant_id = $1 FOR UPDATE").bind(id);
    Ok(row.fetch_optional(commit).await.map_err(during("lock tenant"))?.as_ref().map(parse))
}

/// Opens a tenant; `None` when there is one of this identifier.
pub async fn create(
    commit: &mut PgConnection,
    id: &str,
    terms: &TenantTerms,
    by: &str,
) -> Result<Option<TenantRow>, StoreError> {
    let row = sqlx::query(
        "INSERT INTO gateway.tenants (tenant_id, display_name, cell, chain_ids, limits, managed, created_by)
         VALUES ($1, $2, $3, $4, $5, false, $6) ON CONFLICT DO NOTHING RETURNING *",
    )
    .bind(id)
    .bind(&terms.name)
    .bind(&terms.cell)
    .bind(chains(terms))
    .bind(terms.limits.map(Json))
    .bind(by);
    Ok(row.fetch_optional(commit).await.map_err(during("create tenant"))?.as_ref().map(parse))
}

/// Replaces what can be changed.
pub async fn update(commit: &mut PgConnection, id: &str, terms: &TenantTerms) -> Result<TenantRow, StoreError> {
    let row = sqlx::query(
        "UPDATE gateway.tenants SET display_name = $2, cell = $3, chain_ids = $4, limits = $5 WHERE tenant_id = $1 RETURNING *",
    )
    .bind(id)
    .bind(&terms.name)
    .bind(&terms.cell)
    .bind(chains(terms))
    .bind(terms.limits.map(Json));
    Ok(parse(&row.fetch_one(commit).await.map_err(during("update tenant"))?))
}

/// Disables or enables; a second time changes nothing.
pub async fn set_disabled(commit: &mut PgConnection, id: &str, disabled: bool) -> Result<TenantRow, StoreError> {
    let row = sqlx::query(
        "UPDATE gateway.tenants SET disabled_at = CASE WHEN $2 THEN coalesce(disabled_at, now()) END WHERE tenant_id = $1 RETURNING *",
    )
    .bind(id)
    .bind(disabled);
    Ok(parse(&row.fetch_one(commit).await.map_err(during("disable tenant"))?))
}

fn chains(terms: &TenantTerms) -> Vec<i64> {
    terms.chain_ids.iter().copied().map(signed).collect()
}

fn parse(row: &PgRow) -> TenantRow {
    TenantRow {
        id: row.get("tenant_id"),
        name: row.get("display_name"),
        cell: row.get("cell"),
        chain_ids: row.get::<Vec<i64>, _>("chain_ids").into_iter().map(unsigned).collect(),
        limits: row.get::<Option<Json<LimitsConfig>>, _>("limits").map(|Json(limits)| limits),
        managed: row.get("managed"),
        disabled_at: row.get("disabled_at"),
        created_at: row.get("created_at"),
        created_by: row.get("created_by"),
    }
}
