//! Principals, their grants and credentials in the tables.

use dalp_domain::store::during;
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use time::OffsetDateTime;

use super::{
    Store,
    store::{CredentialKey, GrantedRole, StoreError},
};
use crate::config::PrincipalKind;

/// A principal with everything that belongs to it.
#[derive(Clone, Debug)]
pub struct PrincipalRow {
    /// Identifier in its tenant.
    pub id: String,
    /// What it is.
    pub kind: PrincipalKind,
    /// Of a machine, who answers for it.
    pub owner: Option<String>,
    /// For people.
    pub name: String,
    /// Kept by the configuration.
    pub managed: bool,
    /// Since when it is disabled.
    pub disabled_at: Option<OffsetDateTime>,
    /// Since when it is there.
    pub created_at: OffsetDateTime,
    /// Who added it.
    pub created_by: String,
    /// What it was granted, and whether by the configuration.
    pub grants: Vec<(GrantedRole, bool)>,
    /// How it proves who it is, API keys aside, and whether by the configuration.
    pub credentials: Vec<(CredentialKey, bool)>,
}

/// A role and its patterns.
pub type RoleRow = (String, Vec<String>);

#[derive(serde::Deserialize)]
struct StoredGrant {
    #[serde(flatten)]
    granted: GrantedRole,
    managed: bool,
}

#[derive(serde::Deserialize)]
struct StoredCredential {
    spiffe: Option<dalp_service::SpiffeId>,
    issuer: Option<String>,
    subject: Option<String>,
    managed: bool,
}

const READ: &str = "SELECT p.*,
        coalesce((SELECT jsonb_agg(jsonb_build_object('role', g.role, 'asset', g.asset, 'area', g.area, 'permissions', r.permissions, 'managed', g.managed) ORDER BY g.role, g.asset)
                  FROM gateway.grants g JOIN gateway.roles r ON r.role = g.role
                  WHERE g.tenant_id = p.tenant_id AND g.principal_id = p.principal_id), '[]'::jsonb) AS grants,
        coalesce((SELECT jsonb_agg(jsonb_build_object('spiffe', c.spiffe_id, 'managed', c.managed) ORDER BY c.spiffe_id)
                  FROM gateway.certificates c WHERE c.tenant_id = p.tenant_id AND c.principal_id = p.principal_id), '[]'::jsonb)
        || coalesce((SELECT jsonb_agg(jsonb_build_object('issuer', o.issuer, 'subject', o.subject, 'managed', o.managed) ORDER BY o.issuer, o.subject)
                  FROM gateway.oidc_identities o WHERE o.tenant_id = p.tenant_id AND o.principal_id = p.principal_id), '[]'::jsonb) AS credentials
    FROM gateway.principals p WHERE p.tenant_id = $1";

impl Store {
    /// A principal.
    pub async fn principal(&self, tenant: &str, id: &str) -> Result<Option<PrincipalRow>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(during("read principal"))?;
        find(&mut connection, tenant, id).await
    }

    /// Principals behind `after`, by identifier.
    pub async fn principals(&self, tenant: &str, after: &str, limit: u32) -> Result<Vec<PrincipalRow>, StoreError> {
        let query = sqlx::AssertSqlSafe(format!("{READ} AND p.principal_id > $2 ORDER BY p.principal_id LIMIT $3"));
        let rows = sqlx::query(query).bind(tenant).bind(after).bind(i64::from(limit)).fetch_all(&self.pool).await;
        rows.map_err(during("list principals"))?.iter().map(parse).collect()
    }

    /// Every role there is to grant.
    pub async fn roles(&self) -> Result<Vec<RoleRow>, StoreError> {
        sqlx::query_as("SELECT role, permissions FROM gateway.roles WHERE permissions <> '{}' ORDER BY role")
            .fetch_all(&self.pool)
            .await
            .map_err(during("list roles"))
    }
}

/// A principal, in the commit that a connection is in.
pub async fn find(connection: &mut PgConnection, tenant: &str, id: &str) -> Result<Option<PrincipalRow>, StoreError> {
    let query = sqlx::AssertSqlSafe(format!("{READ} AND p.principal_id = $2"));
    let row = sqlx::query(query).bind(tenant).bind(id).fetch_optional(connection).await;
    row.map_err(during("read principal"))?.as_ref().map(parse).transpose()
}

/// A principal, its row locked until the commit: what is decided by its rights holds when it is written.
pub async fn lock(commit: &mut PgConnection, tenant: &str, id: &str) -> Result<Option<PrincipalRow>, StoreError> {
    sqlx::query("SELECT 1 FROM gateway.principals WHERE tenant_id = $1 AND principal_id = $2 FOR UPDATE")
        .bind(tenant)
        .bind(id)
        .execute(&mut *commit)
        .await
        .map_err(during("lock principal"))?;
    find(commit, tenant, id).await
}

/// Adds a principal; `false` when there is one of this identifier.
pub async fn create(
    commit: &mut PgConnection,
    tenant: &str,
    id: &str,
    (kind, owner): (PrincipalKind, Option<&str>),
    name: &str,
    by: &str,
) -> Result<bool, StoreError> {
    let added = sqlx::query(
        "INSERT INTO gateway.principals (tenant_id, principal_id, kind, display_name, managed, created_by, owner_id)
         VALUES ($1, $2, $3, $4, false, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(id)
    .bind(kind.as_str())
    .bind(name)
    .bind(by)
    .bind(owner)
    .execute(commit)
    .await;
    Ok(added.map_err(during("create principal"))?.rows_affected() == 1)
}

/// Disables or enables; a second time changes nothing.
pub async fn set_disabled(commit: &mut PgConnection, tenant: &str, id: &str, disabled: bool) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE gateway.principals SET disabled_at = CASE WHEN $3 THEN coalesce(disabled_at, now()) END WHERE tenant_id = $1 AND principal_id = $2",
    )
    .bind(tenant)
    .bind(id)
    .bind(disabled)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("disable principal"))
}

/// The patterns of a role; `None` when there is no such.
pub async fn role(commit: &mut PgConnection, role: &str) -> Result<Option<Vec<String>>, StoreError> {
    // Locked, so that a configuration which changes the role tells whom it is being granted to.
    sqlx::query_scalar("SELECT permissions FROM gateway.roles WHERE role = $1 AND permissions <> '{}' FOR SHARE")
        .bind(role)
        .fetch_optional(commit)
        .await
        .map_err(during("read role"))
}

/// Grants a role; a second time changes nothing.
pub async fn grant(
    commit: &mut PgConnection,
    tenant: &str,
    id: &str,
    role: &str,
    asset: &str,
    by: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO gateway.grants (tenant_id, principal_id, role, area, asset, managed, granted_by)
         VALUES ($1, $2, $3, CASE WHEN $4 = '' THEN 'system' ELSE 'asset' END, $4, false, $5) ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(id)
    .bind(role)
    .bind(asset)
    .bind(by)
    .execute(commit)
    .await
    .map(drop)
    .map_err(during("grant role"))
}

/// Takes a grant back; `false` when there was none.
pub async fn revoke(
    commit: &mut PgConnection,
    tenant: &str,
    id: &str,
    role: &str,
    asset: &str,
) -> Result<bool, StoreError> {
    let taken = sqlx::query(
        "DELETE FROM gateway.grants WHERE tenant_id = $1 AND principal_id = $2 AND role = $3 AND asset = $4",
    )
    .bind(tenant)
    .bind(id)
    .bind(role)
    .bind(asset)
    .execute(commit)
    .await;
    Ok(taken.map_err(during("revoke role"))?.rows_affected() > 0)
}

/// Binds a credential; `false` when it belongs to somebody else. `by` whom, and through whose hands it went.
pub async fn bind(
    commit: &mut PgConnection,
    tenant: &str,
    id: &str,
    credential: &CredentialKey,
    (by, hands): (&str, &[String]),
) -> Result<bool, StoreError> {
    let owner: Option<(String, String)> = match credential {
        CredentialKey::Certificate(spiffe) => {
            sqlx::query(
                "INSERT INTO gateway.certificates (spiffe_id, tenant_id, principal_id, managed, bound_by, hands) VALUES ($1, $2, $3, false, $4, $5) ON CONFLICT DO NOTHING",
            )
            .bind(spiffe.to_string())
            .bind(tenant)
            .bind(id)
            .bind(by)
            .bind(hands)
            .execute(&mut *commit)
            .await
            .map_err(during("bind certificate"))?;
            sqlx::query_as("SELECT tenant_id, principal_id FROM gateway.certificates WHERE spiffe_id = $1")
                .bind(spiffe.to_string())
                .fetch_optional(commit)
                .await
        }
        CredentialKey::Oidc { issuer, subject } => {
            sqlx::query(
                "INSERT INTO gateway.oidc_identities (issuer, subject, tenant_id, principal_id, managed, bound_by, hands) VALUES ($1, $2, $3, $4, false, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(issuer)
            .bind(subject)
            .bind(tenant)
            .bind(id)
            .bind(by)
            .bind(hands)
            .execute(&mut *commit)
            .await
            .map_err(during("bind identity"))?;
            sqlx::query_as("SELECT tenant_id, principal_id FROM gateway.oidc_identities WHERE issuer = $1 AND subject = $2")
                .bind(issuer)
                .bind(subject)
                .fetch_optional(commit)
                .await
        }
        CredentialKey::ApiKey(_) => return Ok(false),
    }
    .map_err(during("read credential"))?;
    Ok(owner.is_some_and(|(of, by)| of == tenant && by == id))
}

/// Takes a credential away; `false` when the principal has no such.
pub async fn unbind(
    commit: &mut PgConnection,
    tenant: &str,
    id: &str,
    credential: &CredentialKey,
) -> Result<bool, StoreError> {
    let query = match credential {
        CredentialKey::Certificate(spiffe) => sqlx::query(
            "DELETE FROM gateway.certificates WHERE tenant_id = $1 AND principal_id = $2 AND spiffe_id = $3",
        )
        .bind(tenant)
        .bind(id)
        .bind(spiffe.to_string()),
        CredentialKey::Oidc { issuer, subject } => sqlx::query(
            "DELETE FROM gateway.oidc_identities WHERE tenant_id = $1 AND principal_id = $2 AND issuer = $3 AND subject = $4",
        )
        .bind(tenant)
        .bind(id)
        .bind(issuer)
        .bind(subject),
        CredentialKey::ApiKey(_) => return Ok(false),
    };
    Ok(query.execute(commit).await.map_err(during("unbind credential"))?.rows_affected() > 0)
}

fn parse(row: &PgRow) -> Result<PrincipalRow, StoreError> {
    let Json(grants): Json<Vec<StoredGrant>> = row.try_get("grants").map_err(during("read grants"))?;
    let Json(credentials): Json<Vec<StoredCredential>> =
        row.try_get("credentials").map_err(during("read credentials"))?;
    let credentials = credentials.into_iter().filter_map(|one| {
        let key = match (one.spiffe, one.issuer, one.subject) {
            (Some(spiffe), _, _) => CredentialKey::Certificate(spiffe),
            (None, Some(issuer), Some(subject)) => CredentialKey::Oidc { issuer, subject },
            _ => return None,
        };
        Some((key, one.managed))
    });
    Ok(PrincipalRow {
        id: row.get("principal_id"),
        kind: dalp_domain::store::parsed("kind", row.get("kind"))?,
        owner: row.get("owner_id"),
        name: row.get("display_name"),
        managed: row.get("managed"),
        disabled_at: row.get("disabled_at"),
        created_at: row.get("created_at"),
        created_by: row.get("created_by"),
        grants: grants.into_iter().map(|one| (one.granted, one.managed)).collect(),
        credentials: credentials.collect(),
    })
}
