//! The airdrop service.

use super::{push, reads, stream, upload, writes};
use crate::app::AppHandle;
use dalp_proto::distribution::{self as proto, airdrop_service_server::AirdropService};
use dalp_service::Caller;
use tonic::{Request, Response, Status, Streaming};

/// Serves `dalp.distribution.v1.AirdropService`.
pub(crate) struct AirdropEdge {
    app: AppHandle,
}

impl AirdropEdge {
    pub(crate) fn new(app: AppHandle) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AirdropService for AirdropEdge {
    type WatchAirdropStream = stream::Progress;

    async fn validate_recipients(
        &self,
        request: Request<Streaming<proto::ValidateRecipientsRequest>>,
    ) -> Result<Response<proto::ValidateRecipientsResponse>, Status> {
        Caller::from_request(&request)?;
        Ok(Response::new(upload::validate(self.app.get()?, request).await?))
    }

    async fn create_airdrop(
        &self,
        request: Request<Streaming<proto::CreateAirdropRequest>>,
    ) -> Result<Response<proto::CreateAirdropResponse>, Status> {
        Ok(upload::create(&self.app, request).await?)
    }

    async fn push_airdrop(
        &self,
        request: Request<proto::PushAirdropRequest>,
    ) -> Result<Response<proto::PushAirdropResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let progress = Some(push::begin(self.app.get()?, &caller, request.get_ref()).await?);
        Ok(Response::new(proto::PushAirdropResponse { progress }))
    }

    async fn pause_airdrop(
        &self,
        request: Request<proto::PauseAirdropRequest>,
    ) -> Result<Response<proto::PauseAirdropResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let progress = Some(push::pause(self.app.get()?, &caller, request.get_ref()).await?);
        Ok(Response::new(proto::PauseAirdropResponse { progress }))
    }

    async fn claim_airdrop(
        &self,
        request: Request<proto::ClaimAirdropRequest>,
    ) -> Result<Response<proto::ClaimAirdropResponse>, Status> {
        let admitted = writes::claim(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ClaimAirdropResponse { operation }))
    }

    async fn release_airdrop(
        &self,
        request: Request<proto::ReleaseAirdropRequest>,
    ) -> Result<Response<proto::ReleaseAirdropResponse>, Status> {
        let admitted = writes::release(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ReleaseAirdropResponse { operation }))
    }

    async fn withdraw_leftovers(
        &self,
        request: Request<proto::WithdrawLeftoversRequest>,
    ) -> Result<Response<proto::WithdrawLeftoversResponse>, Status> {
        let admitted = writes::withdraw(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::WithdrawLeftoversResponse { operation }))
    }

    async fn get_airdrop(
        &self,
        request: Request<proto::GetAirdropRequest>,
    ) -> Result<Response<proto::GetAirdropResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::airdrop(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_proof(
        &self,
        request: Request<proto::GetProofRequest>,
    ) -> Result<Response<proto::GetProofResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::proof(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_recipients(
        &self,
        request: Request<proto::ListRecipientsRequest>,
    ) -> Result<Response<proto::ListRecipientsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::recipients(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn watch_airdrop(
        &self,
        request: Request<proto::WatchAirdropRequest>,
    ) -> Result<Response<Self::WatchAirdropStream>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(stream::open(&self.app, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_airdrop_evidence(
        &self,
        request: Request<proto::GetAirdropEvidenceRequest>,
    ) -> Result<Response<proto::GetAirdropEvidenceResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::evidence(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }
}
