//! `dalp.signer.v1.KeyService`.

use std::sync::Arc;

use dalp_proto::signer::{
    CreateKeyRequest, CreateKeyResponse, DisableKeyRequest, DisableKeyResponse, GetKeyRequest, GetKeyResponse,
    ListKeysRequest, ListKeysResponse, key_service_server::KeyService,
};
use dalp_service::{
    Caller, PeerIdentity, PrincipalId, Reason, Refusal,
    caller::{GATEWAY, idempotency_key, set_idempotency},
    fields::{self, Violations},
};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{
    errors::SignerError,
    keys::{create_key, is_wallet_name},
    providers::{KeyName, ProviderKind},
    signing::{AUDIT_WALLET_PREFIX, Signer},
    store::keys::{Creation, KeyPurpose},
};

const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 500;

/// The service.
#[derive(Clone)]
pub struct KeyEdge {
    signer: Arc<Signer>,
}

// === impl KeyEdge ===

impl KeyEdge {
    /// Serves the keys of this signer.
    #[must_use]
    pub fn new(signer: Arc<Signer>) -> Self {
        Self { signer }
    }
}

#[tonic::async_trait]
impl KeyService for KeyEdge {
    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<CreateKeyResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let idempotency_key = idempotency_key(request.metadata().as_ref())?
            .ok_or_else(|| Refusal::new(Reason::IdempotencyKeyMissing, "creating a key needs an idempotency-key"))?;
        let request = request.into_inner();
        let mut bad = Violations::new();
        if !is_wallet_name(&request.wallet) {
            bad.push("wallet", "must be 1 to 64 of [a-z0-9-]");
        }
        if request.wallet.starts_with(AUDIT_WALLET_PREFIX) {
            bad.push("wallet", "names that begin so are the platform's own");
        }
        let provider = match request.provider.as_str() {
            "" => Some(self.signer.providers().active()),
            name => match name.parse::<ProviderKind>() {
                Ok(provider) => Some(provider),
                Err(error) => {
                    bad.push("provider", error.to_string());
                    None
                }
            },
        };
        let owner = match request.owner.as_str() {
            "" => caller.principal.to_string(),
            owner => match owner.parse::<PrincipalId>() {
                Ok(owner) => owner.to_string(),
                Err(error) => {
                    bad.push("owner", error.to_string());
                    String::new()
                }
            },
        };
        bad.finish()?;
        let provider = provider.ok_or_else(|| Refusal::internal("a field was neither read nor refused"))?;
        let creation = Creation {
            payload_hash: creation_hash(&request),
            name: KeyName { tenant: caller.tenant.to_string(), wallet: request.wallet },
            principal: caller.principal.to_string(),
            owner,
            idempotency_key,
            purpose: KeyPurpose::General,
        };
        let (record, replayed) = create_key(&self.signer, provider, &creation).await.map_err(Refusal::from)?;
        let mut response = Response::new(CreateKeyResponse { key: Some(convert::key(&record)) });
        set_idempotency(&mut response, &creation.idempotency_key, replayed);
        Ok(response)
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let request = request.into_inner();
        let mut bad = Violations::new();
        let page_size = match request.page_size {
            0 => Some(PAGE_SIZE_DEFAULT),
            size => bad.check(fields::in_range("page_size", size, 1, PAGE_SIZE_MAX)),
        };
        bad.finish()?;
        let page_size = i64::from(page_size.unwrap_or(PAGE_SIZE_DEFAULT));
        let after = match request.page_token.as_str() {
            "" => 0,
            token => token
                .parse::<i64>()
                .map_err(|_| Refusal::new(Reason::PageTokenInvalid, "this page token is not of this list"))?,
        };
        let owner = Some(request.owner.as_str()).filter(|owner| !owner.is_empty());
        let mut keys = self
            .signer
            .store()
            .keys(caller.tenant.as_str(), owner, after, page_size + 1)
            .await
            .map_err(SignerError::from)
            .map_err(Refusal::from)?;
        let more = keys.len() as i64 > page_size;
        keys.truncate(usize::try_from(page_size).unwrap_or(usize::MAX));
        let next_page_token = match keys.last() {
            Some(last) if more => last.number.to_string(),
            _ => String::new(),
        };
        Ok(Response::new(ListKeysResponse { keys: keys.iter().map(convert::key).collect(), next_page_token }))
    }

    async fn get_key(&self, request: Request<GetKeyRequest>) -> Result<Response<GetKeyResponse>, Status> {
        let from_gateway = request.extensions().get::<PeerIdentity>().is_some_and(|peer| peer.is_service(GATEWAY));
        let tenant = if from_gateway {
            let caller = Caller::from_request(&request)?;
            let named = &request.get_ref().tenant;
            if !named.is_empty() && named != caller.tenant.as_str() {
                return Err(
                    Refusal::new(Reason::TenantMismatch, "the request names another tenant than its caller's").into()
                );
            }
            caller.tenant.to_string()
        } else {
            let mut bad = Violations::new();
            let tenant = convert::tenant(&mut bad, "tenant", &request.get_ref().tenant);
            bad.finish()?;
            tenant.ok_or_else(|| Refusal::internal("a field was neither read nor refused"))?
        };
        let address = fields::nonzero_address("address", &request.get_ref().address)?;
        // Read afresh: an answer about a key must not be older than its disabling on another replica.
        let found = self.signer.store().key(address).await.map_err(SignerError::from).map_err(Refusal::from)?;
        let key = found
            .filter(|key| key.name.tenant == tenant)
            .ok_or(SignerError::KeyNotFound { tenant, signer: address })
            .map_err(Refusal::from)?;
        Ok(Response::new(GetKeyResponse { key: Some(convert::key(&key)) }))
    }

    async fn disable_key(&self, request: Request<DisableKeyRequest>) -> Result<Response<DisableKeyResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let request = request.into_inner();
        let mut bad = Violations::new();
        let address = bad.check(fields::nonzero_address("address", &request.address));
        let reason = bad.check(fields::bounded_string("reason", &request.reason, 0, 500));
        bad.finish()?;
        let (Some(address), Some(reason)) = (address, reason) else {
            return Err(Refusal::internal("a field was neither read nor refused").into());
        };
        let (tenant, principal) = (caller.tenant.as_str(), caller.principal.as_str());
        let disabled = self
            .signer
            .store()
            .disable_key(tenant, principal, address, &reason)
            .await
            .map_err(SignerError::from)
            .map_err(Refusal::from)?;
        self.signer.forget_key(address);
        let key = disabled
            .ok_or_else(|| SignerError::KeyNotFound { tenant: tenant.to_owned(), signer: address })
            .map_err(Refusal::from)?;
        Ok(Response::new(DisableKeyResponse { key: Some(convert::key(&key)) }))
    }
}

fn creation_hash(request: &CreateKeyRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"dalp.signer.create-key.v1\0");
    for part in [&request.wallet, &request.provider, &request.owner] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}
