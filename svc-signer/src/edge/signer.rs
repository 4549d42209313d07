//! `dalp.signer.v1.SignerService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use dalp_proto::signer::{
    CreateSecretRequest, CreateSecretResponse, DeliverProviderEventRequest, DeliverProviderEventResponse,
    EnsureAuditKeyRequest, EnsureAuditKeyResponse, Intent, ListIntentsRequest, ListIntentsResponse,
    ProviderEventOutcome, ReleaseRequest, ReleaseResponse, SignOutcome, SignRequest, SignResponse, StatusRequest,
    StatusResponse, WatchStatusRequest, WatchStatusResponse, WithdrawRequest, WithdrawResponse,
    signer_service_server::SignerService,
};
use dalp_service::{
    Reason, Refusal,
    fields::{self, Violations},
    stop::Stop,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    convert::{self, SecretOrder},
    peer_of,
};
use crate::{
    core::payload::PayloadKind,
    errors::SignerError,
    providers::{ProviderKind, hook::Delivery},
    signing::{Delivered, Signer},
    store::requests::StoredRequest,
};

/// How often a watched request is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// The service.
#[derive(Clone)]
pub struct SignerEdge {
    signer: Arc<Signer>,
    /// Ends the streams.
    stop: Stop,
}

// === impl SignerEdge ===

impl SignerEdge {
    /// Serves this signer; streams end when `stop` is requested.
    #[must_use]
    pub fn new(signer: Arc<Signer>, stop: Stop) -> Self {
        Self { signer, stop }
    }

    /// A request that this peer may see: its own.
    async fn find(&self, peer: &str, id: Uuid) -> Result<StoredRequest, Refusal> {
        let found = self.signer.store().request(id).await.map_err(SignerError::from)?;
        found.filter(|request| request.peer == peer).ok_or_else(|| SignerError::RequestNotFound.into())
    }

    async fn outcome(&self, request: &StoredRequest) -> Result<SignOutcome, Refusal> {
        let key = self.signer.key(&request.tenant, request.signer).await?;
        let mut outcome = convert::outcome(request, key.provider.as_str());
        if request.kind == PayloadKind::EvmTransaction && request.nonce.is_none() {
            let attempt = self.signer.store().open_attempt(request.request_id).await.map_err(SignerError::from)?;
            outcome.provider_request_id = attempt.and_then(|(_, id)| id).unwrap_or_default();
        }
        Ok(outcome)
    }
}

#[tonic::async_trait]
impl SignerService for SignerEdge {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let peer = peer_of(&request)?;
        let order = convert::sign_order(request.into_inner())?;
        let stored = self.signer.sign(&peer, order).await.map_err(Refusal::from)?;
        Ok(Response::new(SignResponse { outcome: Some(self.outcome(&stored).await?) }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let peer = peer_of(&request)?;
        let id = convert::request_id("request_id", &request.get_ref().request_id)?;
        let found = self.find(&peer, id).await?;
        Ok(Response::new(StatusResponse { outcome: Some(self.outcome(&found).await?) }))
    }

    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<WatchStatusResponse, Status>> + Send>>;

    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let peer = peer_of(&request)?;
        let id = convert::request_id("request_id", &request.get_ref().request_id)?;
        let mut found = self.find(&peer, id).await?;
        let (changes, stream) = tokio::sync::mpsc::channel(4);
        let edge = self.clone();
        tokio::spawn(async move {
            loop {
                let (status, seen) = (found.status, (found.status, found.detail.clone(), found.error.clone()));
                let change = edge.outcome(&found).await.map(|outcome| WatchStatusResponse { outcome: Some(outcome) });
                if changes.send(change.map_err(Status::from)).await.is_err() || status.is_final() {
                    return;
                }
                // A change may come from another replica, so the row is asked, not this process.
                while (found.status, found.detail.clone(), found.error.clone()) == seen {
                    tokio::select! {
                        () = tokio::time::sleep(WATCH_EVERY) => {}
                        () = changes.closed() => return,
                        () = edge.stop.requested() => {
                            let stopping = Refusal::new(Reason::Stopping, "this replica is stopping; watch again");
                            let _ = changes.send(Err(stopping.into())).await; // gone is gone
                            return;
                        }
                    }
                    match edge.find(&peer, id).await {
                        Ok(now) => found = now,
                        Err(refusal) => {
                            let _ = changes.send(Err(refusal.into())).await;
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let peer = peer_of(&request)?;
        let id = convert::request_id("request_id", &request.get_ref().request_id)?;
        self.signer.release(&peer, id).await.map_err(Refusal::from)?;
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn withdraw(&self, request: Request<WithdrawRequest>) -> Result<Response<WithdrawResponse>, Status> {
        let peer = peer_of(&request)?;
        let id = convert::request_id("request_id", &request.get_ref().request_id)?;
        let stored = self.signer.withdraw_request(&peer, id).await.map_err(Refusal::from)?;
        Ok(Response::new(WithdrawResponse { outcome: Some(self.outcome(&stored).await?) }))
    }

    async fn create_secret(
        &self,
        request: Request<CreateSecretRequest>,
    ) -> Result<Response<CreateSecretResponse>, Status> {
        let peer = peer_of(&request)?;
        let SecretOrder { tenant, id, kind, purpose } = convert::secret_order(request.get_ref())?;
        let hash = self.signer.create_secret(&peer, &tenant, id, kind, purpose).await.map_err(Refusal::from)?;
        Ok(Response::new(CreateSecretResponse { hash: hash.to_string(), bound: true }))
    }

    async fn ensure_audit_key(
        &self,
        request: Request<EnsureAuditKeyRequest>,
    ) -> Result<Response<EnsureAuditKeyResponse>, Status> {
        let peer = peer_of(&request)?;
        let mut bad = Violations::new();
        let tenant = convert::tenant(&mut bad, "tenant", &request.get_ref().tenant);
        bad.finish()?;
        let tenant = tenant.ok_or_else(|| Refusal::internal("a field was neither read nor refused"))?;
        let key = self.signer.ensure_audit_key(&peer, &tenant).await.map_err(Refusal::from)?;
        Ok(Response::new(EnsureAuditKeyResponse { key: Some(convert::key(&key)) }))
    }

    async fn deliver_provider_event(
        &self,
        request: Request<DeliverProviderEventRequest>,
    ) -> Result<Response<DeliverProviderEventResponse>, Status> {
        peer_of(&request)?;
        let message = request.into_inner();
        let provider = message.provider.parse::<ProviderKind>().map_err(|error| {
            Refusal::new(Reason::InvalidField, format!("provider: {error}")).field("provider", error.to_string())
        })?;
        let headers: Vec<_> = message.headers.into_iter().map(|header| (header.name, header.value)).collect();
        let delivery = Delivery { headers: &headers, body: &message.body };
        let outcome = match self.signer.deliver(provider, &delivery).await.map_err(Refusal::from)? {
            Delivered::Woken => ProviderEventOutcome::Woken,
            Delivered::Ignored => ProviderEventOutcome::Ignored,
            Delivered::Repeated => ProviderEventOutcome::Repeated,
        };
        Ok(Response::new(DeliverProviderEventResponse { outcome: outcome.into() }))
    }

    async fn list_intents(
        &self,
        request: Request<ListIntentsRequest>,
    ) -> Result<Response<ListIntentsResponse>, Status> {
        let peer = peer_of(&request)?;
        let request = request.into_inner();
        let mut bad = Violations::new();
        let tenant = convert::tenant(&mut bad, "tenant", &request.tenant);
        let signer = bad.check(fields::nonzero_address("signer", &request.signer));
        let chain_id = bad.check(fields::in_range("chain_id", request.chain_id, 1, i64::MAX.unsigned_abs()));
        let from_nonce = bad.check(fields::in_range("from_nonce", request.from_nonce, 0, i64::MAX.unsigned_abs()));
        bad.finish()?;
        let (Some(tenant), Some(signer), Some(chain_id), Some(from_nonce)) = (tenant, signer, chain_id, from_nonce)
        else {
            return Err(Refusal::internal("a field was neither read nor refused").into());
        };
        // All services share the lanes of a key, so one may see the intents of another; who may not use the key may not.
        if !self.signer.may_read_lanes(&peer, signer) {
            let refusal = Refusal::new(Reason::GrantMissing, "the peer holds no grant for transactions of this key");
            return Err(refusal.meta("peer", peer).into());
        }
        let found = self
            .signer
            .store()
            .intents(&tenant, chain_id.cast_signed(), signer, from_nonce.cast_signed())
            .await
            .map_err(SignerError::from)
            .map_err(Refusal::from)?;
        let mut intents = Vec::with_capacity(found.len());
        for intent in &found {
            let nonce = intent.nonce.unwrap_or_default().unsigned_abs();
            intents.push(Intent { nonce, outcome: Some(self.outcome(intent).await?) });
        }
        let by_provider = self.signer.broadcasts_by_provider(&tenant, signer).await.map_err(Refusal::from)?;
        Ok(Response::new(ListIntentsResponse { intents, by_provider }))
    }
}
