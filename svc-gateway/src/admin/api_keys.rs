//! The ApiKey service.

use dalp_proto::{
    apikey::{
        self as wire, CreateApiKeyRequest, CreateApiKeyResponse, DisableApiKeyRequest, DisableApiKeyResponse,
        GetApiKeyRequest, GetApiKeyResponse, ListApiKeysRequest, ListApiKeysResponse, RotateApiKeyRequest,
        RotateApiKeyResponse, api_key_service_server::ApiKeyService,
    },
    timestamp,
};
use dalp_service::{Caller, PrincipalId, Reason, Refusal, errors::RefusalResult};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tonic::{Request, Response, Status};

use super::{Desk, Write, future, invalid_field, managed, nothing, page, refusal};
use crate::{
    access::{
        directory::Change,
        keys::{self, KeyRow},
        people,
        store::CredentialKey,
    },
    api_key::{ApiKey, is_prefix},
    config::Scope,
    requests::{foreign_page_token, page_size, reason},
};

const MOST_OVERLAP_S: u32 = 2_592_000;

#[tonic::async_trait]
impl ApiKeyService for Desk {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let asked = request.get_ref();
        let scope = match asked.scope() {
            wire::Scope::Read => Scope::Read,
            wire::Scope::ReadWrite => Scope::ReadWrite,
            wire::Scope::Unspecified => return Err(invalid_field("scope", "say what the key is good for").into()),
        };
        let ends_at = asked.expires_at;
        let principal = asked.principal_id.clone();
        let secret = |answer: &mut CreateApiKeyResponse| answer.secret.clear();
        let answer = self.write("dalp.apikey.v1.ApiKeyService/CreateApiKey", &request, secret, async |write| {
            let ends_at = future("expires_at", ends_at)?;
            let principal = if principal.is_empty() { write.caller.principal.to_string() } else { principal };
            let (api_key, secret) = make(write, &principal, scope, ends_at).await?;
            let body = json!({"principal": principal, "scope": scope.as_str()});
            let tenant = write.tenant().to_owned();
            write.leaf(&tenant, "api_key.create", &api_key.prefix, body).await?;
            Ok(CreateApiKeyResponse { api_key: Some(api_key.into()), secret })
        });
        Ok(answer.await?)
    }

    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<RotateApiKeyResponse>, Status> {
        let RotateApiKeyRequest { prefix, overlap_s, expires_at } = request.get_ref().clone();
        if overlap_s > MOST_OVERLAP_S {
            return Err(invalid_field("overlap_s", format!("must be at most {MOST_OVERLAP_S} (30 days)")).into());
        }
        let secret = |answer: &mut RotateApiKeyResponse| answer.secret.clear();
        let answer = self.write("dalp.apikey.v1.ApiKeyService/RotateApiKey", &request, secret, async |write| {
            let tenant = write.tenant().to_owned();
            let old = own(write, &prefix).await?;
            let now = OffsetDateTime::now_utc();
            let over =
                old.disabled_at.is_some() || old.successor.is_some() || old.expires_at.is_some_and(|end| end <= now);
            if over {
                let why = "the key is disabled, has ended, or has a successor; make a new one";
                return Err(Refusal::new(Reason::FailedPrecondition, why).meta("prefix", &prefix));
            }
            let ends_at = future("expires_at", expires_at)?.or(old.expires_at);
            let (api_key, secret) = make(write, &old.principal, old.scope, ends_at).await?;
            let old_ends = now + Duration::seconds(overlap_s.into());
            keys::succeed(write.commit, &prefix, &api_key.prefix, old_ends).await.map_err(refusal)?;
            let body = json!({"successor": api_key.prefix, "overlap_s": overlap_s});
            write.leaf(&tenant, "api_key.rotate", &prefix, body).await?;
            let predecessor = keys::find(write.commit, &tenant, &prefix).await?.map(Into::into);
            Ok(RotateApiKeyResponse { api_key: Some(api_key.into()), secret, predecessor })
        });
        Ok(answer.await?)
    }

    async fn disable_api_key(
        &self,
        request: Request<DisableApiKeyRequest>,
    ) -> Result<Response<DisableApiKeyResponse>, Status> {
        let DisableApiKeyRequest { prefix, reason: why } = request.get_ref().clone();
        let why = reason(&why)?;
        let answer = self.write("dalp.apikey.v1.ApiKeyService/DisableApiKey", &request, nothing, async |write| {
            let tenant = write.tenant().to_owned();
            own(write, &prefix).await?;
            keys::disable(write.commit, &prefix).await.map_err(refusal)?;
            write.leaf(&tenant, "api_key.disable", &prefix, json!({"reason": why})).await?;
            let row = keys::find(write.commit, &tenant, &prefix).await?;
            Ok(DisableApiKeyResponse { api_key: row.map(Into::into) })
        });
        Ok(answer.await?)
    }

    async fn get_api_key(&self, request: Request<GetApiKeyRequest>) -> Result<Response<GetApiKeyResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let prefix = &request.get_ref().prefix;
        let found = self.store().api_key(caller.tenant.as_str(), prefix).await.map_err(Refusal::from)?;
        Ok(Response::new(GetApiKeyResponse { api_key: Some(found.ok_or_else(|| absent(prefix))?.into()) }))
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let ListApiKeysRequest { page_size: asked, page_token, principal_id } = request.get_ref();
        if !page_token.is_empty() && !is_prefix(page_token) {
            return Err(foreign_page_token().into());
        }
        let size = page_size(*asked)?;
        let of = Some(principal_id.as_str()).filter(|id| !id.is_empty());
        let rows =
            self.store().api_keys(caller.tenant.as_str(), of, page_token, size + 1).await.map_err(Refusal::from)?;
        let (rows, next_page_token) = page(rows, size, |row| row.prefix.clone());
        Ok(Response::new(ListApiKeysResponse { api_keys: rows.into_iter().map(Into::into).collect(), next_page_token }))
    }
}

/// A key that an RPC may change, locked.
async fn own(write: &mut Write<'_>, prefix: &str) -> RefusalResult<KeyRow> {
    let tenant = write.tenant().to_owned();
    let row = keys::lock(write.commit, &tenant, prefix).await?.ok_or_else(|| absent(prefix))?;
    if row.managed {
        return Err(managed("the API key"));
    }
    let owner = people::lock(write.commit, &tenant, &row.principal).await?.ok_or_else(|| absent(prefix))?;
    write.require_over(&owner)?;
    write.changes.push(Change::One(CredentialKey::ApiKey(prefix.to_owned())));
    Ok(row)
}

/// Makes a key for a principal whose every permission the caller holds.
async fn make(
    write: &mut Write<'_>,
    principal: &str,
    scope: Scope,
    ends_at: Option<OffsetDateTime>,
) -> RefusalResult<(KeyRow, String)> {
    principal.parse::<PrincipalId>().map_err(|error| invalid_field("principal_id", error.to_string()))?;
    let (tenant, by) = (write.tenant().to_owned(), write.by.clone());
    let owner = people::lock(write.commit, &tenant, principal).await?;
    let owner = owner.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the tenant has no such principal").meta("principal", principal)
    })?;
    write.require_all_of(&write.granted(&owner))?;
    let key = ApiKey::generate().map_err(Refusal::internal)?;
    let hands = write.hands().await?;
    keys::create(write.commit, &tenant, principal, &key, scope, ends_at, (&by, &hands)).await?;
    let row = keys::find(write.commit, &tenant, key.prefix()).await?;
    Ok((row.ok_or_else(|| absent(key.prefix()))?, key.expose().to_owned()))
}

fn absent(prefix: &str) -> Refusal {
    Refusal::new(Reason::NotFound, "the tenant has no such API key").meta("prefix", prefix)
}

impl From<KeyRow> for wire::ApiKey {
    fn from(row: KeyRow) -> Self {
        let scope = match row.scope {
            Scope::Read => wire::Scope::Read,
            Scope::ReadWrite => wire::Scope::ReadWrite,
        };
        Self {
            prefix: row.prefix,
            principal_id: row.principal,
            scope: scope.into(),
            expires_at: row.expires_at.map(timestamp),
            disabled_at: row.disabled_at.map(timestamp),
            last_used_at: row.last_used_at.map(timestamp),
            successor: row.successor.unwrap_or_default(),
            managed: row.managed,
            created_at: Some(timestamp(row.created_at)),
            created_by: row.created_by,
        }
    }
}
