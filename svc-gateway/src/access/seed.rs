//! What the configuration says of tenants, roles and principals, applied to the tables in one commit.
//!
//! What stands in the configuration is `managed`: changed there and nowhere else. What was taken out of it is disabled, never deleted,
//! for the audit names it. What changes nothing writes nothing, so a restart leaves no trace.

use dalp_domain::store::during;
use serde_json::{Value, json};
use sqlx::{PgConnection, types::Json};

use super::{Store, store::StoreError};
use crate::{
    config::{GatewayConfig, PrincipalConfig, RoleConfig, TenantConfig},
    permissions::is_platform,
};

/// Who acts, in audit and rows.
pub const CONFIGURATION: &str = "configuration";

impl Store {
    /// Makes the tables say what `config` says. Replicas that start together do it one after the other.
    pub async fn apply(&self, config: &GatewayConfig) -> Result<(), StoreError> {
        let mut commit = self.begin("apply configuration").await?;
        sqlx::query("UPDATE gateway.configurations SET applied_at = now() WHERE name = 'gateway'")
            .execute(&mut *commit)
            .await
            .map_err(during("lock configuration"))?;
        sqlx::query("SELECT set_config('dalp.configuration', 'on', true)")
            .execute(&mut *commit)
            .await
            .map_err(during("begin configuration"))?;
        let mut seed = Seed { commit: &mut commit, config };
        let applied = async {
            seed.roles().await?;
            seed.tenants().await?;
            seed.principals().await?;
            seed.api_keys().await?;
            seed.grants().await?;
            seed.certificates().await?;
            seed.identities().await
        };
        applied.await.map_err(during("apply configuration"))?;
        commit.commit().await.map_err(during("apply configuration"))
    }
}

struct Seed<'s> {
    commit: &'s mut PgConnection,
    config: &'s GatewayConfig,
}

// === impl Seed ===

impl Seed<'_> {
    async fn leaf(&mut self, tenant: &str, action: &str, subject: &str, body: Value) -> Result<(), sqlx::Error> {
        tracing::info!(tenant, action, subject, "the configuration changes what is stored");
        dalp_engine::audit_leaf(self.commit, tenant, action, CONFIGURATION, subject, body).await
    }

    /// Leaves for what was taken out of the configuration.
    async fn gone(&mut self, action: &str, rows: Vec<(String, String)>) -> Result<(), sqlx::Error> {
        for (tenant, subject) in rows {
            self.leaf(&tenant, action, &subject, json!({"why": "taken out of the configuration"})).await?;
        }
        Ok(())
    }

    async fn roles(&mut self) -> Result<(), sqlx::Error> {
        let config = self.config;
        for role in &config.roles {
            let permissions: Vec<String> = role.permissions.iter().map(ToString::to_string).collect();
            sqlx::query(
                "INSERT INTO gateway.roles AS r (role, permissions, managed) VALUES ($1, $2, true)
                 ON CONFLICT (role) DO UPDATE SET permissions = excluded.permissions, managed = true
                 WHERE (r.permissions, r.managed) IS DISTINCT FROM (excluded.permissions, true)",
            )
            .bind(&role.name)
            .bind(permissions)
            .execute(&mut *self.commit)
            .await?;
        }
        let names: Vec<&str> = config.roles.iter().map(|role| role.name.as_str()).collect();
        sqlx::query(
            "UPDATE gateway.roles SET permissions = '{}' WHERE managed AND role <> ALL($1) AND permissions <> '{}'",
        )
        .bind(names)
        .execute(&mut *self.commit)
        .await
        .map(drop)
    }

    async fn tenants(&mut self) -> Result<(), sqlx::Error> {
        let config = self.config;
        for tenant in &config.tenants {
            let TenantConfig { id, name, cell, chain_ids, limits } = tenant;
            let chain_ids: Vec<i64> = chain_ids.iter().map(|id| i64::try_from(*id).unwrap_or(i64::MAX)).collect();
            let changed = sqlx::query(
                "INSERT INTO gateway.tenants AS t (tenant_id, display_name, cell, chain_ids, limits, managed, created_by) VALUES ($1, $2, $3, $4, $5, true, $6)
                 ON CONFLICT (tenant_id) DO UPDATE SET display_name = excluded.display_name, cell = excluded.cell, chain_ids = excluded.chain_ids,
                     limits = excluded.limits, managed = true, disabled_at = NULL
                 WHERE (t.display_name, t.cell, t.chain_ids, t.limits, t.managed, t.disabled_at IS NULL)
                     IS DISTINCT FROM (excluded.display_name, excluded.cell, excluded.chain_ids, excluded.limits, true, true)",
            )
            .bind(id.as_str())
            .bind(name.as_deref().unwrap_or(id.as_str()))
            .bind(cell.as_ref().unwrap_or(&config.cell))
            .bind(chain_ids)
            .bind(limits.map(Json))
            .bind(CONFIGURATION)
            .execute(&mut *self.commit)
            .await?;
            if changed.rows_affected() > 0 {
                self.leaf(id.as_str(), "tenant.configure", id.as_str(), json!({"limits": limits})).await?;
            }
        }
        let kept: Vec<&str> = config.tenants.iter().map(|tenant| tenant.id.as_str()).collect();
        let gone = sqlx::query_as(
            "UPDATE gateway.tenants SET disabled_at = now() WHERE managed AND tenant_id <> ALL($1) AND disabled_at IS NULL RETURNING tenant_id, tenant_id",
        )
        .bind(kept)
        .fetch_all(&mut *self.commit)
        .await?;
        self.gone("tenant.disable", gone).await
    }

    async fn principals(&mut self) -> Result<(), sqlx::Error> {
        let config = self.config;
        for section in &config.principals {
            let changed = sqlx::query(
                "INSERT INTO gateway.principals AS p (tenant_id, principal_id, kind, display_name, managed, disabled_at, created_by)
                 VALUES ($1, $2, $3, $2, true, CASE WHEN $4 THEN now() END, $5)
                 ON CONFLICT (tenant_id, principal_id) DO UPDATE SET kind = excluded.kind, managed = true, disabled_at = excluded.disabled_at
                 WHERE (p.kind, p.managed, p.disabled_at IS NULL) IS DISTINCT FROM (excluded.kind, true, excluded.disabled_at IS NULL)",
            )
            .bind(section.tenant.as_str())
            .bind(section.id.as_str())
            .bind(section.kind.as_str())
            .bind(section.disabled)
            .bind(CONFIGURATION)
            .execute(&mut *self.commit)
            .await?;
            if changed.rows_affected() > 0 {
                let body = json!({"kind": section.kind.as_str(), "disabled": section.disabled});
                self.leaf(section.tenant.as_str(), "principal.configure", section.id.as_str(), body).await?;
            }
        }
        let (tenants, ids) = self.named(config.principals.iter());
        let gone = sqlx::query_as(
            "UPDATE gateway.principals p SET disabled_at = now() WHERE p.managed AND p.disabled_at IS NULL
               AND NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[]) AS k(tenant, id) WHERE k.tenant = p.tenant_id AND k.id = p.principal_id)
             RETURNING tenant_id, principal_id",
        )
        .bind(tenants)
        .bind(ids)
        .fetch_all(&mut *self.commit)
        .await?;
        self.gone("principal.disable", gone).await
    }

    fn named<'c>(&self, sections: impl Iterator<Item = &'c PrincipalConfig>) -> (Vec<&'c str>, Vec<&'c str>) {
        sections.map(|section| (section.tenant.as_str(), section.id.as_str())).unzip()
    }

    async fn api_keys(&mut self) -> Result<(), sqlx::Error> {
        let config = self.config;
        let mut kept = Vec::new();
        for section in &config.principals {
            let (Some(prefix), Some(digest)) = (&section.prefix, section.api_key_sha256) else { continue };
            kept.push(prefix.as_str());
            // A prefix that an RPC has given out stays its owner's.
            let changed = sqlx::query(
                "INSERT INTO gateway.api_keys AS k (prefix, tenant_id, principal_id, digest, scope, expires_at, managed, created_by)
                 VALUES ($1, $2, $3, $4, $5, $6, true, $7)
                 ON CONFLICT (prefix) DO UPDATE SET tenant_id = excluded.tenant_id, principal_id = excluded.principal_id, digest = excluded.digest,
                     scope = excluded.scope, expires_at = excluded.expires_at, disabled_at = NULL
                 WHERE k.managed AND (k.tenant_id, k.principal_id, k.digest, k.scope, k.expires_at, k.disabled_at IS NULL)
                     IS DISTINCT FROM (excluded.tenant_id, excluded.principal_id, excluded.digest, excluded.scope, excluded.expires_at, true)",
            )
            .bind(prefix)
            .bind(section.tenant.as_str())
            .bind(section.id.as_str())
            .bind(digest.as_bytes())
            .bind(section.scope.as_str())
            .bind(section.expires_at.map(|moment| moment.0))
            .bind(CONFIGURATION)
            .execute(&mut *self.commit)
            .await?;
            if changed.rows_affected() > 0 {
                let body = json!({"principal": section.id, "scope": section.scope.as_str()});
                self.leaf(section.tenant.as_str(), "api_key.configure", prefix, body).await?;
            }
        }
        let gone = sqlx::query_as(
            "UPDATE gateway.api_keys SET disabled_at = now() WHERE managed AND disabled_at IS NULL AND prefix <> ALL($1) RETURNING tenant_id, prefix",
        )
        .bind(kept)
        .fetch_all(&mut *self.commit)
        .await?;
        self.gone("api_key.disable", gone).await
    }

    async fn grants(&mut self) -> Result<(), sqlx::Error> {
        let config = self.config;
        let (mut tenants, mut principals, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        let held = config.principals.iter().flat_map(|one| one.roles.iter().map(move |role| (one, role)));
        let held: Vec<(&PrincipalConfig, &String)> = held.collect();
        for (section, role) in held {
            let platform = config.roles.iter().any(|known| known.name == *role && reaches_over_tenants(known));
            let changed = sqlx::query(
                "INSERT INTO gateway.grants AS g (tenant_id, principal_id, role, area, managed, granted_by) VALUES ($1, $2, $3, $4, true, $5)
                 ON CONFLICT (tenant_id, principal_id, role, asset) DO UPDATE SET area = excluded.area, managed = true
                 WHERE (g.area, g.managed) IS DISTINCT FROM (excluded.area, true)",
            )
            .bind(section.tenant.as_str())
            .bind(section.id.as_str())
            .bind(role)
            .bind(if platform { "platform" } else { "system" })
            .bind(CONFIGURATION)
            .execute(&mut *self.commit)
            .await?;
            if changed.rows_affected() > 0 {
                self.leaf(section.tenant.as_str(), "principal.grant", section.id.as_str(), json!({"role": role}))
                    .await?;
            }
            tenants.push(section.tenant.as_str());
            principals.push(section.id.as_str());
            roles.push(role.as_str());
        }
        let gone = sqlx::query_as(
            "DELETE FROM gateway.grants g WHERE g.managed
               AND NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, id, role)
                               WHERE k.tenant = g.tenant_id AND k.id = g.principal_id AND k.role = g.role)
             RETURNING tenant_id, principal_id || ' ' || role",
        )
        .bind(tenants)
        .bind(principals)
        .bind(roles)
        .fetch_all(&mut *self.commit)
        .await?;
        self.gone("principal.revoke", gone).await
    }

    async fn certificates(&mut self) -> Result<(), sqlx::Error> {
        let config = self.config;
        let mut kept = Vec::new();
        for section in &config.principals {
            let Some(spiffe) = &section.spiffe else { continue };
            let spiffe = spiffe.to_string();
            let changed = sqlx::query(
                "INSERT INTO gateway.certificates AS c (spiffe_id, tenant_id, principal_id, managed, bound_by) VALUES ($1, $2, $3, true, $4)
                 ON CONFLICT (spiffe_id) DO UPDATE SET tenant_id = excluded.tenant_id, principal_id = excluded.principal_id, managed = true
                 WHERE (c.tenant_id, c.principal_id, c.managed) IS DISTINCT FROM (excluded.tenant_id, excluded.principal_id, true)",
            )
            .bind(&spiffe)
            .bind(section.tenant.as_str())
            .bind(section.id.as_str())
            .bind(CONFIGURATION)
            .execute(&mut *self.commit)
            .await?;
            if changed.rows_affected() > 0 {
                let body = json!({"certificate": spiffe});
                self.leaf(section.tenant.as_str(), "principal.bind", section.id.as_str(), body).await?;
            }
            kept.push(spiffe);
        }
        let gone = sqlx::query_as(
            "DELETE FROM gateway.certificates WHERE managed AND spiffe_id <> ALL($1) RETURNING tenant_id, principal_id || ' ' || spiffe_id",
        )
        .bind(kept)
        .fetch_all(&mut *self.commit)
        .await?;
        self.gone("principal.unbind", gone).await
    }

    async fn identities(&mut self) -> Result<(), sqlx::Error> {
        let config = self.config;
        let (mut issuers, mut subjects) = (Vec::new(), Vec::new());
        for section in &config.principals {
            let Some(subject) = &section.oidc else { continue };
            let changed = sqlx::query(
                "INSERT INTO gateway.oidc_identities AS o (issuer, subject, tenant_id, principal_id, managed, bound_by) VALUES ($1, $2, $3, $4, true, $5)
                 ON CONFLICT (issuer, subject) DO UPDATE SET tenant_id = excluded.tenant_id, principal_id = excluded.principal_id, managed = true
                 WHERE (o.tenant_id, o.principal_id, o.managed) IS DISTINCT FROM (excluded.tenant_id, excluded.principal_id, true)",
            )
            .bind(&subject.issuer)
            .bind(&subject.subject)
            .bind(section.tenant.as_str())
            .bind(section.id.as_str())
            .bind(CONFIGURATION)
            .execute(&mut *self.commit)
            .await?;
            if changed.rows_affected() > 0 {
                let body = json!({"issuer": subject.issuer, "subject": subject.subject});
                self.leaf(section.tenant.as_str(), "principal.bind", section.id.as_str(), body).await?;
            }
            issuers.push(subject.issuer.as_str());
            subjects.push(subject.subject.as_str());
        }
        let gone = sqlx::query_as(
            "DELETE FROM gateway.oidc_identities o WHERE o.managed
               AND NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[]) AS k(issuer, subject) WHERE k.issuer = o.issuer AND k.subject = o.subject)
             RETURNING tenant_id, principal_id || ' ' || issuer || ' ' || subject",
        )
        .bind(issuers)
        .bind(subjects)
        .fetch_all(&mut *self.commit)
        .await?;
        self.gone("principal.unbind", gone).await
    }
}

fn reaches_over_tenants(role: &RoleConfig) -> bool {
    role.permissions.iter().any(|pattern| is_platform(&pattern.to_string()))
}
