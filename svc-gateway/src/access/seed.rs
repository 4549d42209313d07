//! What the configuration says of tenants, roles and principals, applied to the tables in one commit.
//!
//! What stands in the configuration is `managed`: changed there and nowhere else. What was taken out of it is disabled, never deleted,
//! for the audit names it. What changes nothing writes nothing, so a restart leaves no trace.
//!
//! A file that says something else than what was applied last is applied only with a greater `generation`: a replica that starts with an old
//! file revives nothing. A tenant or principal that an RPC has disabled is not taken over; of a principal that is, what RPCs had given it
//! ends: whoever made keys for the name before does not hold the configuration's principal.

use std::collections::HashSet;

use dalp_domain::store::during;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, Row as _, types::Json};

use super::{Store, store::StoreError};
use crate::{
    config::{GatewayConfig, PrincipalConfig, RoleConfig, TenantConfig},
    permissions::is_platform,
};

/// Who acts, in audit and rows.
pub const CONFIGURATION: &str = "configuration";

/// What became of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The tables say what it says by now.
    Now,
    /// They did already.
    Before,
    /// They hold one of a greater generation: nothing was changed.
    Older {
        /// The generation of that.
        applied: u64,
    },
    /// They hold another one of the same generation: somebody changed the file and not its number, so nobody can say which one is meant. Nothing was changed.
    Ambiguous,
}

impl Store {
    /// Makes the tables say what `config` says, if that is newer. Replicas that start together do it one after the other.
    pub async fn apply(&self, config: &GatewayConfig) -> Result<Applied, StoreError> {
        let mut commit = self.begin("apply configuration").await?;
        let row =
            sqlx::query("SELECT generation, digest FROM gateway.configurations WHERE name = 'gateway' FOR UPDATE")
                .fetch_one(&mut *commit)
                .await
                .map_err(during("lock configuration"))?;
        let applied = u64::try_from(row.get::<i64, _>("generation")).unwrap_or(0);
        let digest = digest_of(config);
        match row.get::<Option<Vec<u8>>, _>("digest") {
            Some(_) if config.generation < applied => return Ok(Applied::Older { applied }),
            Some(before) if config.generation == applied && before == digest => return Ok(Applied::Before),
            Some(_) if config.generation == applied => return Ok(Applied::Ambiguous),
            _ => {}
        }
        sqlx::query(
            "UPDATE gateway.configurations SET applied_at = now(), generation = $1, digest = $2 WHERE name = 'gateway'",
        )
        .bind(i64::try_from(config.generation).unwrap_or(i64::MAX))
        .bind(digest)
        .execute(&mut *commit)
        .await
        .map_err(during("note configuration"))?;
        sqlx::query("SELECT set_config('dalp.configuration', 'on', true)")
            .execute(&mut *commit)
            .await
            .map_err(during("begin configuration"))?;
        let mut seed = Seed { commit: &mut commit, config, left: HashSet::new() };
        let applied = async {
            let roles = seed.roles().await?;
            seed.tenants().await?;
            for (role, permissions) in roles {
                seed.role_leaves(&role, &permissions).await?;
            }
            seed.principals().await?;
            seed.api_keys().await?;
            seed.grants().await?;
            seed.certificates().await?;
            seed.identities().await
        };
        applied.await.map_err(during("apply configuration"))?;
        commit.commit().await.map_err(during("apply configuration"))?;
        Ok(Applied::Now)
    }
}

/// Of everything that is applied, whatever stands beside it in the file.
fn digest_of(config: &GatewayConfig) -> Vec<u8> {
    let roles = config.roles.iter().map(|role| {
        let permissions: Vec<String> = role.permissions.iter().map(ToString::to_string).collect();
        json!([role.name, permissions])
    });
    let tenants = config.tenants.iter().map(|tenant| {
        json!([
            tenant.id.as_str(),
            tenant.name,
            tenant.cell.as_ref().unwrap_or(&config.cell),
            tenant.chain_ids,
            tenant.limits
        ])
    });
    let principals = config.principals.iter().map(|one| {
        let mut said = json!([
            one.tenant.as_str(),
            one.id.as_str(),
            one.roles,
            one.kind.as_str(),
            one.oidc.as_ref().map(|oidc| [&oidc.issuer, &oidc.subject]),
            one.spiffe.as_ref().map(ToString::to_string),
            one.prefix,
            one.api_key_sha256.map(|digest| digest.to_string()),
            one.expires_at.map(|moment| moment.0.unix_timestamp_nanos().to_string()),
            one.scope.as_str(),
            one.disabled,
        ]);
        // Only where there is one: a file without owners means what it meant to releases that knew none.
        if let (Some(all), Some(owner)) = (said.as_array_mut(), &one.owner) {
            all.push(json!(owner));
        }
        said
    });
    let all = json!([roles.collect::<Vec<_>>(), tenants.collect::<Vec<_>>(), principals.collect::<Vec<_>>()]);
    Sha256::digest(all.to_string()).to_vec()
}

struct Seed<'s> {
    commit: &'s mut PgConnection,
    config: &'s GatewayConfig,
    /// Principals that are not taken over, by tenant and identifier.
    left: HashSet<(&'s str, &'s str)>,
}

// === impl Seed ===

impl<'s> Seed<'s> {
    async fn leaf(&mut self, tenant: &str, action: &str, subject: &str, body: Value) -> Result<(), sqlx::Error> {
        tracing::info!(tenant, action, subject, "the configuration changes what is stored");
        dalp_engine::audit_leaf(&mut *self.commit, tenant, action, CONFIGURATION, subject, body).await
    }

    /// Leaves for what was taken out of the configuration.
    async fn gone(&mut self, action: &str, rows: Vec<(String, String)>) -> Result<(), sqlx::Error> {
        for (tenant, subject) in rows {
            self.leaf(&tenant, action, &subject, json!({"why": "taken out of the configuration"})).await?;
        }
        Ok(())
    }

    /// The principals that the configuration keeps.
    fn kept(&self) -> Vec<&'s PrincipalConfig> {
        let left = |one: &&PrincipalConfig| self.left.contains(&(one.tenant.as_str(), one.id.as_str()));
        self.config.principals.iter().filter(|one| !left(one)).collect()
    }

    /// A role stands over all tenants: its change is told to each that has somebody who holds it, and to the configuration's.
    async fn role_leaves(&mut self, role: &str, permissions: &[String]) -> Result<(), sqlx::Error> {
        let tenants: Vec<String> = sqlx::query_scalar(
            "SELECT tenant_id FROM gateway.grants WHERE role = $1 UNION SELECT tenant_id FROM gateway.tenants WHERE tenant_id = ANY($2) ORDER BY 1",
        )
        .bind(role)
        .bind(self.config.tenants.iter().map(|tenant| tenant.id.as_str()).collect::<Vec<_>>())
        .fetch_all(&mut *self.commit)
        .await?;
        for tenant in tenants {
            self.leaf(&tenant, "role.configure", role, json!({"permissions": permissions})).await?;
        }
        Ok(())
    }

    async fn roles(&mut self) -> Result<Vec<(String, Vec<String>)>, sqlx::Error> {
        let config = self.config;
        let mut told = Vec::new();
        for role in &config.roles {
            let permissions: Vec<String> = role.permissions.iter().map(ToString::to_string).collect();
            let changed = sqlx::query(
                "INSERT INTO gateway.roles AS r (role, permissions, managed) VALUES ($1, $2, true)
                 ON CONFLICT (role) DO UPDATE SET permissions = excluded.permissions, managed = true
                 WHERE (r.permissions, r.managed) IS DISTINCT FROM (excluded.permissions, true)",
            )
            .bind(&role.name)
            .bind(&permissions)
            .execute(&mut *self.commit)
            .await?;
            if changed.rows_affected() > 0 {
                told.push((role.name.clone(), permissions));
            }
        }
        let names: Vec<&str> = config.roles.iter().map(|role| role.name.as_str()).collect();
        let gone: Vec<String> = sqlx::query_scalar(
            "UPDATE gateway.roles SET permissions = '{}' WHERE managed AND role <> ALL($1) AND permissions <> '{}' RETURNING role",
        )
        .bind(names)
        .fetch_all(&mut *self.commit)
        .await?;
        told.extend(gone.into_iter().map(|role| (role, Vec::new())));
        Ok(told)
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
                 WHERE (t.managed OR t.disabled_at IS NULL) AND (t.display_name, t.cell, t.chain_ids, t.limits, t.managed, t.disabled_at IS NULL)
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
            let (tenant, id) = (section.tenant.as_str(), section.id.as_str());
            let before = sqlx::query(
                "SELECT managed, disabled_at IS NOT NULL AS disabled FROM gateway.principals WHERE tenant_id = $1 AND principal_id = $2 FOR UPDATE",
            )
            .bind(tenant)
            .bind(id)
            .fetch_optional(&mut *self.commit)
            .await?;
            match before.map(|row| (row.get::<bool, _>("managed"), row.get::<bool, _>("disabled"))) {
                Some((false, true)) => {
                    tracing::error!(
                        tenant,
                        principal = id,
                        "was disabled by an RPC: the configuration does not take it over"
                    );
                    self.left.insert((tenant, id));
                    continue;
                }
                Some((false, false)) => self.end_what_rpcs_gave(tenant, id).await?,
                _ => {}
            }
            let changed = sqlx::query(
                "INSERT INTO gateway.principals AS p (tenant_id, principal_id, kind, display_name, managed, disabled_at, created_by, owner_id)
                 VALUES ($1, $2, $3, $2, true, CASE WHEN $4 THEN now() END, $5, $6)
                 ON CONFLICT (tenant_id, principal_id) DO UPDATE SET kind = excluded.kind, managed = true, disabled_at = excluded.disabled_at, owner_id = excluded.owner_id
                 WHERE (p.kind, p.managed, p.disabled_at IS NULL, p.owner_id) IS DISTINCT FROM (excluded.kind, true, excluded.disabled_at IS NULL, excluded.owner_id)",
            )
            .bind(tenant)
            .bind(id)
            .bind(section.kind.as_str())
            .bind(section.disabled)
            .bind(CONFIGURATION)
            .bind(section.owner.as_ref().map(|owner| owner.as_str()))
            .execute(&mut *self.commit)
            .await?;
            if changed.rows_affected() > 0 {
                let body = json!({"kind": section.kind.as_str(), "disabled": section.disabled, "owner": section.owner});
                self.leaf(tenant, "principal.configure", id, body).await?;
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

    /// A principal that RPCs made becomes the configuration's: its keys, grants and bindings were for another one of that name.
    async fn end_what_rpcs_gave(&mut self, tenant: &str, id: &str) -> Result<(), sqlx::Error> {
        for (action, query) in [
            (
                "api_key.disable",
                "UPDATE gateway.api_keys SET disabled_at = now() WHERE tenant_id = $1 AND principal_id = $2 AND NOT managed AND disabled_at IS NULL RETURNING prefix",
            ),
            (
                "principal.revoke",
                "DELETE FROM gateway.grants WHERE tenant_id = $1 AND principal_id = $2 AND NOT managed RETURNING principal_id || ' ' || role",
            ),
            (
                "principal.unbind",
                "DELETE FROM gateway.certificates WHERE tenant_id = $1 AND principal_id = $2 AND NOT managed RETURNING principal_id || ' ' || spiffe_id",
            ),
            (
                "principal.unbind",
                "DELETE FROM gateway.oidc_identities WHERE tenant_id = $1 AND principal_id = $2 AND NOT managed RETURNING principal_id || ' ' || issuer || ' ' || subject",
            ),
        ] {
            let ended: Vec<String> =
                sqlx::query_scalar(query).bind(tenant).bind(id).fetch_all(&mut *self.commit).await?;
            for subject in ended {
                self.leaf(tenant, action, &subject, json!({"why": "the configuration takes the principal over"}))
                    .await?;
            }
        }
        Ok(())
    }

    fn named<'c>(&self, sections: impl Iterator<Item = &'c PrincipalConfig>) -> (Vec<&'c str>, Vec<&'c str>) {
        sections.map(|section| (section.tenant.as_str(), section.id.as_str())).unzip()
    }

    async fn api_keys(&mut self) -> Result<(), sqlx::Error> {
        let mut kept = Vec::new();
        for section in self.kept() {
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
        let held = self.kept().into_iter().flat_map(|one| one.roles.iter().map(move |role| (one, role)));
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
        let mut kept = Vec::new();
        for section in self.kept() {
            let Some(spiffe) = &section.spiffe else { continue };
            let spiffe = spiffe.to_string();
            let changed = sqlx::query(
                "INSERT INTO gateway.certificates AS c (spiffe_id, tenant_id, principal_id, managed, bound_by) VALUES ($1, $2, $3, true, $4)
                 ON CONFLICT (spiffe_id) DO UPDATE SET tenant_id = excluded.tenant_id, principal_id = excluded.principal_id, managed = true, hands = '{}'
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
        let (mut issuers, mut subjects) = (Vec::new(), Vec::new());
        for section in self.kept() {
            let Some(subject) = &section.oidc else { continue };
            let changed = sqlx::query(
                "INSERT INTO gateway.oidc_identities AS o (issuer, subject, tenant_id, principal_id, managed, bound_by) VALUES ($1, $2, $3, $4, true, $5)
                 ON CONFLICT (issuer, subject) DO UPDATE SET tenant_id = excluded.tenant_id, principal_id = excluded.principal_id, managed = true, hands = '{}'
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
