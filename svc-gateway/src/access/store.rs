//! The gateway's own tables. No sqlx type passes beyond this module and the ones beside it.

use std::{collections::BTreeSet, ops::Deref};

use dalp_domain::store::{Schema, Tables, during, parsed};
use dalp_service::{PrincipalId, SpiffeId, TenantId};
use sqlx::{Row as _, migrate::Migrator, postgres::PgRow, types::Json};
use time::OffsetDateTime;

use crate::{
    NAME,
    api_key::KeyDigest,
    config::{LimitsConfig, Scope},
    verification::{Policy, policy::Mode},
};

pub use dalp_domain::StoreError;

/// The schema of this service.
pub const SCHEMA: Schema = Schema { service: NAME, name: "gateway", index_version: 1 };
/// What brings it up to date.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The gateway's tables.
#[derive(Clone, Debug)]
pub struct Store {
    tables: Tables,
}

/// What a caller shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKey {
    /// The prefix of an API key.
    ApiKey(String),
    /// The identity of a client certificate.
    Certificate(SpiffeId),
    /// A subject of an identity provider.
    Oidc {
        /// The issuer.
        issuer: String,
        /// The subject.
        subject: String,
    },
}

/// What the tables say of a credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// What proves it; only API keys have one.
    pub digest: Option<KeyDigest>,
    /// What it is good for.
    pub scope: Scope,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
    /// It, or its principal, was disabled.
    pub disabled: bool,
    /// The tenant was disabled.
    pub tenant_disabled: bool,
    /// The tenant.
    pub tenant: TenantId,
    /// Where the tenant's data is.
    pub cell: String,
    /// The tenant's own rates.
    pub limits: Option<LimitsConfig>,
    /// The chains that the tenant works on; empty: whichever the cell serves.
    pub chain_ids: Vec<u64>,
    /// The principal.
    pub principal: PrincipalId,
    /// It is a person, and this is its sign-in at an identity provider.
    pub signed_in: bool,
    /// Of such a person, the tenant's policy of wallet verifications.
    pub verification: Option<Policy>,
    /// What it was granted.
    pub grants: Vec<GrantedRole>,
    /// Through whose hands the credential went.
    pub hands: BTreeSet<String>,
}

/// A role that a principal holds, with what the role permits now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
pub struct GrantedRole {
    /// Its name.
    pub role: String,
    /// Empty: for the whole tenant. Else one asset, in lower case.
    pub asset: String,
    /// How far it reaches: `platform`, `system` or `asset`.
    pub area: String,
    /// Patterns of permissions.
    pub permissions: Vec<String>,
}

/// What every look-up of a credential `c` reads of its principal, tenant and grants.
macro_rules! credential_query {
    ($own:literal, $from:literal) => {
        concat!(
            "SELECT ", $own, ", p.disabled_at IS NOT NULL AS principal_disabled, t.disabled_at IS NOT NULL AS tenant_disabled,
                    t.tenant_id, t.cell, t.limits, t.chain_ids, p.principal_id, c.hands,
                    coalesce((SELECT jsonb_agg(jsonb_build_object('role', g.role, 'asset', g.asset, 'area', g.area, 'permissions', r.permissions) ORDER BY g.role, g.asset)
                              FROM gateway.grants g JOIN gateway.roles r ON r.role = g.role
                              WHERE g.tenant_id = p.tenant_id AND g.principal_id = p.principal_id), '[]'::jsonb) AS grants
             FROM ", $from, " c JOIN gateway.principals p ON p.tenant_id = c.tenant_id AND p.principal_id = c.principal_id
             JOIN gateway.tenants t ON t.tenant_id = c.tenant_id WHERE "
        )
    };
}

const BY_API_KEY: &str = concat!(
    credential_query!(
        "c.digest, c.scope, c.expires_at, c.disabled_at IS NOT NULL AS disabled, false AS signed_in, NULL::jsonb AS verification",
        "gateway.api_keys"
    ),
    "c.prefix = $1"
);
const BY_CERTIFICATE: &str = concat!(
    credential_query!(
        "NULL::bytea AS digest, 'read-write' AS scope, NULL::timestamptz AS expires_at, false AS disabled, false AS signed_in, NULL::jsonb AS verification",
        "gateway.certificates"
    ),
    "c.spiffe_id = $1"
);
const BY_OIDC: &str = concat!(
    credential_query!(
        "NULL::bytea AS digest, 'read-write' AS scope, NULL::timestamptz AS expires_at, false AS disabled, p.kind = 'person' AS signed_in,
         (SELECT jsonb_build_object('mode', v.mode, 'methods', v.methods, 'permissions', v.permissions)
          FROM gateway.verification_policies v WHERE v.tenant_id = c.tenant_id) AS verification",
        "gateway.oidc_identities"
    ),
    "c.issuer = $1 AND c.subject = $2"
);

// === impl Store ===

impl From<Tables> for Store {
    fn from(tables: Tables) -> Self {
        Self { tables }
    }
}

impl Deref for Store {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

impl Store {
    /// Brings the engine's schema, which the audit is part of, and our own up to date.
    pub async fn bring_up(&self) -> Result<(), StoreError> {
        dalp_engine::migrate(&self.pool)
            .await
            .map_err(|source| StoreError::Database { action: "migrate engine", source })?;
        self.migrate(&MIGRATIONS).await
    }

    /// What the tables say of a credential; `None` when there is no such.
    pub async fn credential(&self, key: &CredentialKey) -> Result<Option<Credential>, StoreError> {
        let query = match key {
            CredentialKey::ApiKey(prefix) => sqlx::query(BY_API_KEY).bind(prefix),
            CredentialKey::Certificate(spiffe) => sqlx::query(BY_CERTIFICATE).bind(spiffe.to_string()),
            CredentialKey::Oidc { issuer, subject } => sqlx::query(BY_OIDC).bind(issuer).bind(subject),
        };
        let row = query.fetch_optional(&self.pool).await.map_err(during("find credential"))?;
        row.as_ref().map(credential).transpose()
    }

    /// Notes when keys were last used; an older note than the stored one changes nothing.
    pub async fn note_uses(&self, uses: &[(String, OffsetDateTime)]) -> Result<(), StoreError> {
        let (prefixes, times): (Vec<String>, Vec<OffsetDateTime>) = uses.iter().cloned().unzip();
        sqlx::query(
            "INSERT INTO gateway.api_key_uses AS u (prefix, last_used_at)
             SELECT g.prefix, g.at FROM unnest($1::text[], $2::timestamptz[]) AS g(prefix, at) JOIN gateway.api_keys k USING (prefix) ORDER BY g.prefix
             ON CONFLICT (prefix) DO UPDATE SET last_used_at = excluded.last_used_at WHERE u.last_used_at < excluded.last_used_at",
        )
        .bind(prefixes)
        .bind(times)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(during("note uses of keys"))
    }
}

fn credential(row: &PgRow) -> Result<Credential, StoreError> {
    let get = during("read credential");
    let parse = || -> Result<_, sqlx::Error> {
        let digest: Option<Vec<u8>> = row.try_get("digest")?;
        let scope: String = row.try_get("scope")?;
        let tenant: String = row.try_get("tenant_id")?;
        let principal: String = row.try_get("principal_id")?;
        let disabled: bool = row.try_get::<bool, _>("disabled")? || row.try_get::<bool, _>("principal_disabled")?;
        let limits: Option<Json<LimitsConfig>> = row.try_get("limits")?;
        let Json(grants): Json<Vec<GrantedRole>> = row.try_get("grants")?;
        let signed_in: bool = row.try_get("signed_in")?;
        let policy: Option<Json<Policy>> = row.try_get("verification")?;
        let policy = policy.map(|Json(policy)| policy).filter(|policy| signed_in && policy.mode != Mode::Off);
        Ok((digest, scope, tenant, principal, disabled, limits, grants, (signed_in, policy)))
    };
    let (digest, scope, tenant, principal, disabled, limits, grants, (signed_in, verification)) =
        parse().map_err(get)?;
    Ok(Credential {
        digest: digest
            .map(|bytes| KeyDigest::try_from(bytes.as_slice()))
            .transpose()
            .map_err(|_| StoreError::Malformed { what: "digest of an API key", value: "not 32 bytes".to_owned() })?,
        scope: parsed("scope", scope)?,
        expires_at: row.try_get("expires_at").map_err(during("read credential"))?,
        disabled,
        tenant_disabled: row.try_get("tenant_disabled").map_err(during("read credential"))?,
        tenant: parsed("tenant", tenant)?,
        cell: row.try_get("cell").map_err(during("read credential"))?,
        limits: limits.map(|Json(limits)| limits),
        chain_ids: {
            let ids: Vec<i64> = row.try_get("chain_ids").map_err(during("read credential"))?;
            ids.into_iter().map(|id| u64::try_from(id).unwrap_or(0)).collect()
        },
        principal: parsed("principal", principal)?,
        signed_in,
        verification,
        grants,
        hands: {
            let hands: Vec<String> = row.try_get("hands").map_err(during("read credential"))?;
            hands.into_iter().collect()
        },
    })
}
