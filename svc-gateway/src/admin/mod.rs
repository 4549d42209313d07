//! The services by which tenants, principals, API keys and webhooks are kept: each write one commit with its audit leaf and its answer.

mod api_keys;
mod principals;
mod tenants;
pub(crate) mod verification;
mod webhooks;

use std::{collections::BTreeSet, sync::Arc};

use dalp_engine::{CallLeaf, audit_leaf, call_leaves};
use dalp_proto::{
    apikey::api_key_service_server::ApiKeyServiceServer, principal::principal_service_server::PrincipalServiceServer,
    tenant::tenant_service_server::TenantServiceServer, webhook::webhook_service_server::WebhookServiceServer,
};
use dalp_service::{
    Caller, Reason, Refusal, TenantId,
    caller::{self, set_idempotency},
    errors::RefusalResult,
    fields,
    server::Routes,
};
use prost::Message;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tonic::{Request, Response};

use crate::{
    access::{
        Directory, Store,
        directory::Change,
        people::{self, PrincipalRow},
        requests::{self, Repeat, RequestName},
        store::{GrantedRole, StoreError},
    },
    permissions::{Granted, Granting},
    requests::invalid,
    standing::Standings,
    webhooks::Office,
};

/// What the services work with.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    directory: Arc<Directory>,
    /// The cell that new tenants come to.
    cell: String,
    issuers: Arc<[Binding]>,
    /// That of the gateway's own certificate.
    trust_domain: Arc<str>,
    /// Unset: this gateway sends no webhooks.
    webhooks: Option<Arc<Office>>,
    /// What principals may do, on chain too.
    standings: Standings,
}

/// An identity provider, and whose administrators bind its subjects.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) issuer: String,
    pub(crate) tenant: Option<TenantId>,
}

/// A write on its way: who asks, in the commit.
struct Write<'w> {
    commit: &'w mut PgConnection,
    caller: &'w Caller,
    /// `<tenant>/<principal>`: who it was, also for who looks from another tenant.
    by: String,
    granting: &'w Granting,
    /// Through whose hands the credential of the caller went.
    hands: &'w BTreeSet<String>,
    /// What others must read again, told to our own cache with the commit: the tables tell everybody, but may not reach us.
    changes: Vec<Change>,
}

/// Who asks for a write.
#[derive(Clone, Copy)]
struct Asking<'w> {
    caller: &'w Caller,
    by: &'w str,
    hands: &'w BTreeSet<String>,
}

// === impl Desk ===

impl Desk {
    pub(crate) fn new(
        directory: Arc<Directory>,
        cell: String,
        issuers: Arc<[Binding]>,
        trust_domain: Arc<str>,
        webhooks: Option<Arc<Office>>,
        standings: Standings,
    ) -> Self {
        Self { directory, cell, issuers, trust_domain, webhooks, standings }
    }

    /// The services, beside those that are in `routes`.
    pub(crate) fn add_to(self, routes: Routes) -> Routes {
        routes
            .add_service(TenantServiceServer::new(self.clone()))
            .add_service(PrincipalServiceServer::new(self.clone()))
            .add_service(ApiKeyServiceServer::new(self.clone()))
            .add_service(WebhookServiceServer::new(self))
    }

    fn store(&self) -> &Store {
        self.directory.store()
    }

    /// Carries a write out once for its key: `work` in a commit that also holds the answer. `secret` takes out of the answer what is
    /// told once, before it is kept.
    async fn write<T, R>(
        &self,
        method: &'static str,
        request: &Request<T>,
        secret: fn(&mut R),
        work: impl AsyncFnOnce(&mut Write<'_>) -> RefusalResult<R>,
    ) -> RefusalResult<Response<R>>
    where
        T: Message,
        R: Message + Default + Clone,
    {
        // What was read and written again: the same whoever encoded it, and from whichever format.
        let payload_hash = Sha256::digest(request.get_ref().encode_to_vec()).into();
        self.write_hashed(method, request, payload_hash, secret, work).await
    }

    /// As [`write`](Self::write), of a message whose plain hash would tell a secret in it.
    async fn write_hashed<T, R>(
        &self,
        method: &'static str,
        request: &Request<T>,
        payload_hash: [u8; 32],
        secret: fn(&mut R),
        work: impl AsyncFnOnce(&mut Write<'_>) -> RefusalResult<R>,
    ) -> RefusalResult<Response<R>>
    where
        R: Message + Default + Clone,
    {
        let caller = Caller::from_metadata(request.metadata())?;
        let key = caller::idempotency_key(request.metadata().as_ref())?
            .ok_or_else(|| Refusal::new(Reason::IdempotencyKeyMissing, "the call needs an idempotency key"))?;
        let name =
            RequestName { tenant: caller.tenant.as_str(), principal: caller.principal.as_str(), method, key: &key };
        let by = format!("{}/{}", caller.tenant, caller.principal);
        let asking = Asking { caller: &caller, by: &by, hands: &caller::hands(request.metadata()) };
        let outcome = self.carry_out(name, &payload_hash, asking, secret, work).await;
        let (answer, replayed) = match outcome {
            Ok(answered) => answered,
            Err(refusal) => {
                self.note_refusal(&caller, &by, method, &payload_hash, &refusal).await?;
                return Err(refusal);
            }
        };
        let mut response = Response::new(answer);
        set_idempotency(&mut response, &key, replayed);
        Ok(response)
    }

    async fn carry_out<R: Message + Default + Clone>(
        &self,
        name: RequestName<'_>,
        payload_hash: &[u8],
        Asking { caller, by, hands }: Asking<'_>,
        secret: fn(&mut R),
        work: impl AsyncFnOnce(&mut Write<'_>) -> RefusalResult<R>,
    ) -> RefusalResult<(R, bool)> {
        let mut commit = self.store().begin("begin write").await?;
        Ok(match requests::take(&mut commit, name, payload_hash).await? {
            Repeat::Same(stored) => (R::decode(stored.as_slice()).map_err(Refusal::internal)?, true),
            Repeat::Other(stored) => {
                return Err(Refusal::new(
                    Reason::IdempotencyKeyReused,
                    "the idempotency key was used before with another payload",
                )
                .meta("stored_hash", hex::encode(stored))
                .meta("given_hash", hex::encode(payload_hash)));
            }
            Repeat::First => {
                let (by, granting) = (by.to_owned(), self.directory.granting());
                let mut write = Write { commit: &mut commit, caller, by, granting, hands, changes: Vec::new() };
                let answer = work(&mut write).await?;
                let changes = std::mem::take(&mut write.changes);
                let mut kept = answer.clone();
                secret(&mut kept);
                requests::answer(&mut commit, name, &kept.encode_to_vec()).await?;
                let committed = commit.commit().await;
                // Also when it is not known whether the commit was taken.
                changes.into_iter().for_each(|change| self.directory.changed(change));
                committed.map_err(dalp_domain::store::during("commit write")).map_err(refusal)?;
                (answer, false)
            }
        })
    }

    /// A refusal is as much of an administrator's doing as a change: it stands in the audit before it is told. Nothing stands there of what
    /// nobody decided, such as a database that does not answer.
    async fn note_refusal(
        &self,
        caller: &Caller,
        by: &str,
        method: &str,
        payload_hash: &[u8],
        refusal: &Refusal,
    ) -> RefusalResult<()> {
        if matches!(refusal.reason(), Reason::DatabaseUnavailable | Reason::Internal) {
            return Ok(());
        }
        let reason = refusal.reason().as_str();
        let leaf = CallLeaf {
            is_refused: true,
            tenant: caller.tenant.to_string(),
            action: "admin.refused".to_owned(),
            actor: by.to_owned(),
            subject: method.to_owned(),
            reason: reason.to_owned(),
            payload_hash: payload_hash.try_into().ok(),
            body: json!({ "reason": reason, "message": refusal.message() }),
        };
        let mut commit = self.store().begin("begin refusal").await?;
        call_leaves(&mut commit, &[leaf]).await.map_err(dalp_domain::store::during("write audit leaf"))?;
        commit.commit().await.map_err(dalp_domain::store::during("commit refusal"))?;
        Ok(())
    }
}

// === impl Write ===

impl Write<'_> {
    fn tenant(&self) -> &str {
        self.caller.tenant.as_str()
    }

    /// Who did what to what, in the audit of a tenant.
    async fn leaf(&mut self, tenant: &str, action: &str, subject: &str, body: serde_json::Value) -> RefusalResult<()> {
        audit_leaf(self.commit, tenant, action, &self.by, subject, body)
            .await
            .map_err(dalp_domain::store::during("write audit leaf"))
            .map_err(Refusal::from)
    }

    /// Through whose hands goes what the caller makes: its own, those of the person who answers for it, and those that its own credential came from.
    async fn hands(&mut self) -> RefusalResult<Vec<String>> {
        let (tenant, id) = (self.caller.tenant.as_str(), self.caller.principal.as_str());
        let own = people::find(self.commit, tenant, id).await?;
        let mut hands = self.hands.clone();
        hands.insert(id.to_owned());
        hands.extend(own.and_then(|own| own.owner));
        Ok(hands.into_iter().collect())
    }

    /// Nobody gives what he does not hold.
    fn require_all_of(&self, granted: &Granted) -> RefusalResult<()> {
        match self.lacking(granted) {
            None => Ok(()),
            Some(lacking) => Err(Refusal::new(
                Reason::GrantExceedsOwn,
                format!("this gives the permission {lacking}, which the caller does not hold"),
            )
            .meta("permission", lacking)),
        }
    }

    /// Nobody changes anything of a principal that may more than he.
    fn require_over(&self, principal: &PrincipalRow) -> RefusalResult<()> {
        match self.lacking(&self.granted(principal)) {
            None => Ok(()),
            Some(lacking) => Err(Refusal::new(
                Reason::GrantExceedsOwn,
                format!("the principal holds the permission {lacking}, which the caller does not hold"),
            )
            .meta("permission", lacking)),
        }
    }

    fn lacking<'g>(&self, granted: &'g Granted) -> Option<&'g str> {
        let single = granted.on_assets.iter().flat_map(|(_, set)| set.iter());
        granted.permissions.iter().chain(single).find(|permission| !self.caller.has_role(permission))
    }

    /// Our own cache is to read a principal of the caller's tenant again.
    fn changes_principal(&mut self, id: &str) {
        let tenant = self.tenant().to_owned();
        self.changes.push(Change::Principal(tenant, id.to_owned()));
    }

    /// What a principal holds.
    fn granted(&self, principal: &PrincipalRow) -> Arc<Granted> {
        let grants: Vec<GrantedRole> = principal.grants.iter().map(|(grant, _)| grant.clone()).collect();
        self.granting.granted(&grants)
    }
}

fn managed(what: &str) -> Refusal {
    Refusal::new(
        Reason::ManagedByConfiguration,
        format!("{what} is kept by the gateway's configuration: change it there"),
    )
}

/// A refusal of the store; what the configuration keeps is guarded by the tables themselves as well.
fn refusal(error: StoreError) -> Refusal {
    if let StoreError::Database { source: dalp_engine::StoreError::Database(sqlx::Error::Database(inner)), .. } = &error
        && inner.constraint() == Some("managed_by_configuration")
    {
        return managed("this");
    }
    Refusal::from(error)
}

fn invalid_field(path: &str, why: impl Into<String>) -> Refusal {
    invalid(fields::violation(path, why))
}

fn name_for_people(text: &str) -> RefusalResult<String> {
    fields::bounded_string("display_name", text, 1, 200).map_err(invalid)
}

fn future(path: &str, at: Option<prost_types::Timestamp>) -> RefusalResult<Option<OffsetDateTime>> {
    let Some(at) = at else { return Ok(None) };
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    match OffsetDateTime::from_unix_timestamp_nanos(nanos) {
        Ok(at) if at > OffsetDateTime::now_utc() => Ok(Some(at)),
        Ok(_) => Err(invalid_field(path, "must lie in the future")),
        Err(_) => Err(invalid_field(path, "is not a time")),
    }
}

fn nothing<R>(_: &mut R) {}

/// A page and whether another follows: one more than asked was read.
fn page<T>(mut rows: Vec<T>, size: u32, name: impl Fn(&T) -> String) -> (Vec<T>, String) {
    let size = size as usize;
    if rows.len() <= size {
        return (rows, String::new());
    }
    rows.truncate(size);
    let next = rows.last().map(name).unwrap_or_default();
    (rows, next)
}
