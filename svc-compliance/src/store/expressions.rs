//! Claim expressions that tenants save, by name and version.

use super::{Store, StoreError, address_of, during, hex_of, signed};
use crate::domain::expression::{Expression, ExpressionName, SavedRef};
use alloy::primitives::Address;
use serde_json::json;
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

/// A version of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredExpression {
    /// Its name.
    pub name: String,
    /// This version.
    pub version: u32,
    /// The newest version.
    pub newest: u32,
    /// Whether nothing new is made from it.
    pub deleted: bool,
    /// As it was given.
    pub text: String,
    /// What it stands for.
    pub expression: Expression,
    /// Who wrote this version.
    pub created_by: String,
    /// When.
    pub created_at: OffsetDateTime,
}

/// Where an asset keeps an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// What holders need.
    Policy,
    /// The asset's `ClaimRule`.
    Rule,
}

/// An asset that took a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionUse {
    /// The asset.
    pub asset: Address,
    /// Where it keeps it.
    pub place: Place,
    /// What it took.
    pub saved: SavedRef,
}

// === impl Place ===

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Rule => "rule",
        }
    }
}

const SELECT: &str = "SELECT v.name, v.version, v.text, v.groups, v.created_by, v.created_at, e.newest, e.deleted_at
     FROM compliance.expression_versions v JOIN compliance.expressions e USING (tenant_id, name)";

/// What each asset took last, by place.
const LAST_USES: &str = "SELECT DISTINCT ON (coalesce(u.asset, a.asset), u.place)
            coalesce(u.asset, a.asset) AS asset, u.place, u.name, u.version
       FROM compliance.expression_uses u
       LEFT JOIN compliance.assets a USING (tenant_id, operation_id)
      WHERE u.tenant_id = $1 AND u.chain_id = $2 AND coalesce(u.asset, a.asset) IS NOT NULL";

/// Notes which version an order takes; runs in the commit that accepts it.
pub(crate) async fn put_use(
    connection: &mut sqlx::PgConnection,
    tenant: &str,
    chain_id: u64,
    operation_id: Uuid,
    asset: Option<Address>,
    (place, saved): &(Place, SavedRef),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO compliance.expression_uses (tenant_id, operation_id, place, chain_id, asset, name, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant)
    .bind(operation_id)
    .bind(place.name())
    .bind(signed(chain_id))
    .bind(asset.map(hex_of))
    .bind(saved.name.as_str())
    .bind(saved.version.and_then(|version| i32::try_from(version).ok()))
    .execute(connection)
    .await
    .map(drop)
}

impl Store {
    /// Saves the first version under a name, or the next one of a deleted name. False: the name is in use.
    pub async fn create_expression(
        &self,
        tenant: &str,
        principal: &str,
        name: &ExpressionName,
        text: &str,
        expression: &Expression,
    ) -> Result<bool, StoreError> {
        let head = "INSERT INTO compliance.expressions AS e (tenant_id, name, newest) VALUES ($1, $2, 1)
             ON CONFLICT (tenant_id, name) DO UPDATE SET newest = e.newest + 1, deleted_at = NULL
             WHERE e.deleted_at IS NOT NULL RETURNING newest";
        let version = sqlx::query_scalar::<_, i32>(head).bind(tenant).bind(name.as_str());
        self.write_version(version, tenant, principal, "expression.create", (name, text, expression)).await
    }

    /// Saves the version behind the one that the writer has seen. False: it is no longer the newest, or there is none.
    pub async fn update_expression(
        &self,
        tenant: &str,
        principal: &str,
        name: &ExpressionName,
        seen: u32,
        text: &str,
        expression: &Expression,
    ) -> Result<bool, StoreError> {
        let head = "UPDATE compliance.expressions SET newest = newest + 1
             WHERE tenant_id = $1 AND name = $2 AND newest = $3 AND deleted_at IS NULL RETURNING newest";
        let version = sqlx::query_scalar::<_, i32>(head)
            .bind(tenant)
            .bind(name.as_str())
            .bind(i32::try_from(seen).unwrap_or(i32::MAX));
        self.write_version(version, tenant, principal, "expression.update", (name, text, expression)).await
    }

    /// Gives an expression to nothing new any more. False: there is none, or it was deleted already.
    pub async fn delete_expression(
        &self,
        tenant: &str,
        principal: &str,
        name: &ExpressionName,
    ) -> Result<bool, StoreError> {
        let failed = || during("delete expression");
        let mut commit = self.pool.begin().await.map_err(failed())?;
        let deleted = sqlx::query(
            "UPDATE compliance.expressions SET deleted_at = now() WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL",
        )
        .bind(tenant)
        .bind(name.as_str())
        .execute(&mut *commit)
        .await
        .map_err(failed())?
        .rows_affected()
            == 1;
        if deleted {
            dalp_engine::audit_leaf(&mut commit, tenant, "expression.delete", principal, name.as_str(), json!({}))
                .await
                .map_err(failed())?;
            commit.commit().await.map_err(failed())?;
        }
        Ok(deleted)
    }

    /// A version of an expression, none for the newest; also of a deleted one.
    pub async fn expression(
        &self,
        tenant: &str,
        name: &ExpressionName,
        version: Option<u32>,
    ) -> Result<Option<StoredExpression>, StoreError> {
        let sql = format!("{SELECT} WHERE v.tenant_id = $1 AND v.name = $2 AND v.version = coalesce($3, e.newest)");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(tenant)
            .bind(name.as_str())
            .bind(version.map(|version| i32::try_from(version).unwrap_or(i32::MAX)))
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read expression"))?
            .map(parse)
            .transpose()
    }

    /// The newest version of each expression that was not deleted, behind a name.
    pub async fn expressions(
        &self,
        tenant: &str,
        behind: &str,
        limit: u32,
    ) -> Result<Vec<StoredExpression>, StoreError> {
        let sql = format!(
            "{SELECT} WHERE v.tenant_id = $1 AND v.version = e.newest AND e.deleted_at IS NULL AND v.name > $2 ORDER BY v.name LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(tenant)
            .bind(behind)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(during("list expressions"))?;
        rows.into_iter().map(parse).collect()
    }

    /// The assets whose last order took an expression; whether it came into force is the chain's to say.
    pub async fn expression_uses(
        &self,
        tenant: &str,
        chain_id: u64,
        name: &ExpressionName,
        limit: u32,
    ) -> Result<Vec<ExpressionUse>, StoreError> {
        let sql = format!(
            "SELECT * FROM ({LAST_USES} ORDER BY coalesce(u.asset, a.asset), u.place, u.seq DESC) last
              WHERE name = $3 ORDER BY asset, place LIMIT $4"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(name.as_str())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(during("list uses of an expression"))?;
        rows.into_iter().map(parse_use).collect()
    }

    /// What the last order of an asset took, by place.
    pub async fn expressions_of_asset(
        &self,
        tenant: &str,
        chain_id: u64,
        asset: Address,
    ) -> Result<Vec<ExpressionUse>, StoreError> {
        let sql = format!(
            "{LAST_USES} AND coalesce(u.asset, a.asset) = $3 ORDER BY coalesce(u.asset, a.asset), u.place, u.seq DESC"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(tenant)
            .bind(signed(chain_id))
            .bind(hex_of(asset))
            .fetch_all(&self.pool)
            .await
            .map_err(during("list expressions of an asset"))?;
        rows.into_iter().map(parse_use).collect()
    }

    /// Raises the number of an expression and writes what it says from now on, with its audit leaf, in one commit.
    async fn write_version(
        &self,
        head: sqlx::query::QueryScalar<'_, sqlx::Postgres, i32, sqlx::postgres::PgArguments>,
        tenant: &str,
        principal: &str,
        action: &'static str,
        (name, text, expression): (&ExpressionName, &str, &Expression),
    ) -> Result<bool, StoreError> {
        let failed = || during("write expression");
        let groups = serde_json::to_value(expression)
            .map_err(|error| StoreError::Malformed { what: "expression", value: error.to_string() })?;
        let mut commit = self.pool.begin().await.map_err(failed())?;
        let Some(version) = head.fetch_optional(&mut *commit).await.map_err(failed())? else { return Ok(false) };
        sqlx::query(
            "INSERT INTO compliance.expression_versions (tenant_id, name, version, text, groups, created_by)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant)
        .bind(name.as_str())
        .bind(version)
        .bind(text)
        .bind(groups)
        .bind(principal)
        .execute(&mut *commit)
        .await
        .map_err(failed())?;
        let body = json!({"version": version, "text": text});
        dalp_engine::audit_leaf(&mut commit, tenant, action, principal, name.as_str(), body).await.map_err(failed())?;
        commit.commit().await.map_err(failed())?;
        Ok(true)
    }
}

fn parse(row: PgRow) -> Result<StoredExpression, StoreError> {
    let groups: serde_json::Value = row.get("groups");
    let expression = serde_json::from_value(groups.clone())
        .map_err(|_| StoreError::Malformed { what: "expression", value: groups.to_string() })?;
    let number = |column: &str| u32::try_from(row.get::<i32, _>(column)).unwrap_or_default();
    Ok(StoredExpression {
        version: number("version"),
        newest: number("newest"),
        deleted: row.get::<Option<OffsetDateTime>, _>("deleted_at").is_some(),
        expression,
        name: row.get("name"),
        text: row.get("text"),
        created_by: row.get("created_by"),
        created_at: row.get("created_at"),
    })
}

fn parse_use(row: PgRow) -> Result<ExpressionUse, StoreError> {
    let place: String = row.get("place");
    let place = [Place::Policy, Place::Rule]
        .into_iter()
        .find(|known| known.name() == place)
        .ok_or(StoreError::Malformed { what: "place of an expression", value: place })?;
    Ok(ExpressionUse {
        asset: address_of(row.get("asset"))?,
        place,
        saved: SavedRef {
            name: ExpressionName::unchecked(&row.get::<String, _>("name")),
            version: u32::try_from(row.get::<i32, _>("version")).ok(),
        },
    })
}
