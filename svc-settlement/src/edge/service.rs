//! The settlement service.

use super::{evidence, pairs, preview, reads, stream, writes};
use crate::{
    app::AppHandle,
    commands::{Deliver, Execute, Reclaim, Revoke, StartReclaim, VoteCancel, WithdrawVote},
};
use dalp_proto::settlement::{self as proto, settlement_service_server::SettlementService};
use dalp_service::Caller;
use tonic::{Request, Response, Status};

/// Serves `dalp.settlement.v1.SettlementService`.
pub(crate) struct SettlementEdge {
    app: AppHandle,
}

impl SettlementEdge {
    pub(crate) fn new(app: AppHandle) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl SettlementService for SettlementEdge {
    type WatchSettlementStream = stream::Changes;

    async fn create_settlement(
        &self,
        request: Request<proto::CreateSettlementRequest>,
    ) -> Result<Response<proto::CreateSettlementResponse>, Status> {
        let writes::Created { admitted, settlement_id } = writes::create(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::CreateSettlementResponse { operation, settlement_id }))
    }

    async fn preview_settlement(
        &self,
        request: Request<proto::PreviewSettlementRequest>,
    ) -> Result<Response<proto::PreviewSettlementResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(preview::preview(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn approve(
        &self,
        request: Request<proto::ApproveRequest>,
    ) -> Result<Response<proto::ApproveResponse>, Status> {
        let admitted = writes::approve(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ApproveResponse { operation }))
    }

    async fn cancel(&self, request: Request<proto::CancelRequest>) -> Result<Response<proto::CancelResponse>, Status> {
        let admitted = writes::cancel(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::CancelResponse { operation }))
    }

    async fn revoke(&self, request: Request<proto::RevokeRequest>) -> Result<Response<proto::RevokeResponse>, Status> {
        let method = "dalp.settlement.v1.SettlementService/Revoke";
        let admitted = writes::act::<Revoke, _>(&self.app, method, request).await?;
        Ok(admitted.respond(|operation| proto::RevokeResponse { operation }))
    }

    async fn execute(
        &self,
        request: Request<proto::ExecuteRequest>,
    ) -> Result<Response<proto::ExecuteResponse>, Status> {
        let method = "dalp.settlement.v1.SettlementService/Execute";
        let admitted = writes::act::<Execute, _>(&self.app, method, request).await?;
        Ok(admitted.respond(|operation| proto::ExecuteResponse { operation }))
    }

    async fn vote_cancel(
        &self,
        request: Request<proto::VoteCancelRequest>,
    ) -> Result<Response<proto::VoteCancelResponse>, Status> {
        let method = "dalp.settlement.v1.SettlementService/VoteCancel";
        let admitted = writes::act::<VoteCancel, _>(&self.app, method, request).await?;
        Ok(admitted.respond(|operation| proto::VoteCancelResponse { operation }))
    }

    async fn withdraw_vote(
        &self,
        request: Request<proto::WithdrawVoteRequest>,
    ) -> Result<Response<proto::WithdrawVoteResponse>, Status> {
        let method = "dalp.settlement.v1.SettlementService/WithdrawVote";
        let admitted = writes::act::<WithdrawVote, _>(&self.app, method, request).await?;
        Ok(admitted.respond(|operation| proto::WithdrawVoteResponse { operation }))
    }

    async fn reveal(&self, request: Request<proto::RevealRequest>) -> Result<Response<proto::RevealResponse>, Status> {
        let admitted = writes::reveal(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::RevealResponse { operation }))
    }

    async fn deliver(
        &self,
        request: Request<proto::DeliverRequest>,
    ) -> Result<Response<proto::DeliverResponse>, Status> {
        let method = "dalp.settlement.v1.SettlementService/Deliver";
        let admitted = writes::act::<Deliver, _>(&self.app, method, request).await?;
        Ok(admitted.respond(|operation| proto::DeliverResponse { operation }))
    }

    async fn start_reclaim(
        &self,
        request: Request<proto::StartReclaimRequest>,
    ) -> Result<Response<proto::StartReclaimResponse>, Status> {
        let method = "dalp.settlement.v1.SettlementService/StartReclaim";
        let admitted = writes::act::<StartReclaim, _>(&self.app, method, request).await?;
        Ok(admitted.respond(|operation| proto::StartReclaimResponse { operation }))
    }

    async fn reclaim(
        &self,
        request: Request<proto::ReclaimRequest>,
    ) -> Result<Response<proto::ReclaimResponse>, Status> {
        let method = "dalp.settlement.v1.SettlementService/Reclaim";
        let admitted = writes::act::<Reclaim, _>(&self.app, method, request).await?;
        Ok(admitted.respond(|operation| proto::ReclaimResponse { operation }))
    }

    async fn open_pair(
        &self,
        request: Request<proto::OpenPairRequest>,
    ) -> Result<Response<proto::OpenPairResponse>, Status> {
        let (admitted, pair) = pairs::open(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::OpenPairResponse { operation, pair: Some(pair) }))
    }

    async fn get_pair(
        &self,
        request: Request<proto::GetPairRequest>,
    ) -> Result<Response<proto::GetPairResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(pairs::pair(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_pairs(
        &self,
        request: Request<proto::ListPairsRequest>,
    ) -> Result<Response<proto::ListPairsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(pairs::list(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_attention(
        &self,
        request: Request<proto::ListAttentionRequest>,
    ) -> Result<Response<proto::ListAttentionResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(pairs::attention(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_pair_evidence(
        &self,
        request: Request<proto::GetPairEvidenceRequest>,
    ) -> Result<Response<proto::GetPairEvidenceResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(evidence::evidence(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_settlement(
        &self,
        request: Request<proto::GetSettlementRequest>,
    ) -> Result<Response<proto::GetSettlementResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::settlement(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_settlements(
        &self,
        request: Request<proto::ListSettlementsRequest>,
    ) -> Result<Response<proto::ListSettlementsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::settlements(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_settlement_events(
        &self,
        request: Request<proto::ListSettlementEventsRequest>,
    ) -> Result<Response<proto::ListSettlementEventsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::events(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_pair_actions(
        &self,
        request: Request<proto::ListPairActionsRequest>,
    ) -> Result<Response<proto::ListPairActionsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(evidence::actions(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_pair_events(
        &self,
        request: Request<proto::ListPairEventsRequest>,
    ) -> Result<Response<proto::ListPairEventsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(evidence::events(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn watch_settlement(
        &self,
        request: Request<proto::WatchSettlementRequest>,
    ) -> Result<Response<Self::WatchSettlementStream>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(stream::open(&self.app, caller.tenant.as_str(), request.get_ref()).await?))
    }
}
