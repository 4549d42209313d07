//! Which persons stand behind principals, as the tables have it in the commit that decides by it.

use std::collections::BTreeMap;

use dalp_domain::store::{during, parsed};
use sqlx::{PgConnection, PgPool, Row as _, types::Json};

use super::store::{GrantedRole, StoreError};
use crate::{NAME, config::PrincipalKind};

/// A principal as far as decisions about held operations go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Somebody {
    /// Identifier.
    pub id: String,
    /// What it is.
    pub kind: PrincipalKind,
    /// Of a machine, the person who answers for it.
    pub owner: Option<String>,
    /// That person was disabled.
    pub owner_disabled: bool,
    /// It was disabled.
    pub disabled: bool,
    /// What it was granted.
    pub grants: Vec<GrantedRole>,
}

/// Principals of a tenant by identifier, those that there are, locked against change until the commit.
pub async fn people(
    commit: &mut PgConnection,
    tenant: &str,
    ids: &[&str],
) -> Result<BTreeMap<String, Somebody>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.principal_id, p.kind, o.principal_id AS owner, o.disabled_at IS NOT NULL AS owner_disabled, p.disabled_at IS NOT NULL AS disabled,
                coalesce((SELECT jsonb_agg(jsonb_build_object('role', g.role, 'asset', g.asset, 'area', g.area, 'permissions', r.permissions) ORDER BY g.role, g.asset)
                          FROM gateway.grants g JOIN gateway.roles r ON r.role = g.role
                          WHERE g.tenant_id = p.tenant_id AND g.principal_id = p.principal_id), '[]'::jsonb) AS grants
         FROM gateway.principals p
         LEFT JOIN gateway.principals o ON o.tenant_id = p.tenant_id AND o.principal_id = p.owner_id AND o.kind = 'person'
         WHERE p.tenant_id = $1 AND p.principal_id = ANY ($2) ORDER BY p.principal_id FOR SHARE OF p",
    )
    .bind(tenant)
    .bind(ids)
    .fetch_all(commit)
    .await
    .map_err(during("read persons"))?;
    rows.iter()
        .map(|row| {
            let read = || -> Result<_, sqlx::Error> {
                let Json(grants): Json<Vec<GrantedRole>> = row.try_get("grants")?;
                let id: String = row.try_get("principal_id")?;
                let kind: String = row.try_get("kind")?;
                let owner_disabled: bool = row.try_get("owner_disabled")?;
                Ok((id, kind, row.try_get("owner")?, owner_disabled, row.try_get("disabled")?, grants))
            };
            let (id, kind, owner, owner_disabled, disabled, grants) = read().map_err(during("read persons"))?;
            Ok((id.clone(), Somebody { id, kind: parsed("kind", kind)?, owner, owner_disabled, disabled, grants }))
        })
        .collect()
}

/// Through whose hands the credentials of a principal went, also of those that have ended.
pub async fn hands_of(commit: &mut PgConnection, tenant: &str, id: &str) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT DISTINCT h FROM (
             SELECT unnest(hands) AS h FROM gateway.api_keys WHERE tenant_id = $1 AND principal_id = $2
             UNION SELECT unnest(hands) FROM gateway.certificates WHERE tenant_id = $1 AND principal_id = $2
             UNION SELECT unnest(hands) FROM gateway.oidc_identities WHERE tenant_id = $1 AND principal_id = $2
             UNION SELECT hand FROM gateway.unbound_hands WHERE tenant_id = $1 AND principal_id = $2) made ORDER BY h",
    )
    .bind(tenant)
    .bind(id)
    .fetch_all(commit)
    .await
    .map_err(during("read through whose hands credentials went"))
}

/// How many changes of policies wait for a second person, and for how many seconds the oldest.
pub async fn waiting(pool: &PgPool) -> Result<(i64, f64), StoreError> {
    let row = sqlx::query(
        "SELECT count(*) AS held, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s FROM engine.operations
         WHERE service = $1 AND state = 'AWAITING_CHECKER'",
    )
    .bind(NAME)
    .fetch_one(pool)
    .await
    .map_err(during("count changes of policies"))?;
    let read = || -> Result<_, sqlx::Error> { Ok((row.try_get("held")?, row.try_get("oldest_s")?)) };
    read().map_err(during("count changes of policies"))
}

// === impl Somebody ===

impl Somebody {
    /// The person behind it; of a machine that nobody answers for, none.
    #[must_use]
    pub fn person(&self) -> Option<&str> {
        match self.kind {
            PrincipalKind::Person => Some(&self.id),
            PrincipalKind::Service => self.owner.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_the_person_who_answers_for_it() {
        let somebody = |kind, owner: Option<&str>| Somebody {
            id: "it".into(),
            kind,
            owner: owner.map(str::to_owned),
            owner_disabled: false,
            disabled: false,
            grants: Vec::new(),
        };
        assert_eq!(somebody(PrincipalKind::Person, None).person(), Some("it"));
        assert_eq!(somebody(PrincipalKind::Service, Some("ann")).person(), Some("ann"));
        assert_eq!(somebody(PrincipalKind::Service, None).person(), None);
    }
}
