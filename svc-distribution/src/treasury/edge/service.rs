//! The treasury service.

use super::{export, reads, runs, schedules, writes};
use crate::app::AppHandle;
use dalp_proto::distribution::{self as proto, treasury_service_server::TreasuryService};
use dalp_service::Caller;
use tonic::{Request, Response, Status};

/// Serves `dalp.distribution.v1.TreasuryService`.
pub(crate) struct TreasuryEdge {
    app: AppHandle,
}

impl TreasuryEdge {
    pub(crate) fn new(app: AppHandle) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl TreasuryService for TreasuryEdge {
    type ExportRunStream = export::Pieces;

    async fn create_treasury(
        &self,
        request: Request<proto::CreateTreasuryRequest>,
    ) -> Result<Response<proto::CreateTreasuryResponse>, Status> {
        let writes::Created { admitted, treasury } = writes::create(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::CreateTreasuryResponse { operation, treasury }))
    }

    async fn attach_treasury(
        &self,
        request: Request<proto::AttachTreasuryRequest>,
    ) -> Result<Response<proto::AttachTreasuryResponse>, Status> {
        let admitted = writes::attach(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::AttachTreasuryResponse { operation }))
    }

    async fn schedule_coupons(
        &self,
        request: Request<proto::ScheduleCouponsRequest>,
    ) -> Result<Response<proto::ScheduleCouponsResponse>, Status> {
        let admitted = writes::schedule(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ScheduleCouponsResponse { operation }))
    }

    async fn announce_record_date(
        &self,
        request: Request<proto::AnnounceRecordDateRequest>,
    ) -> Result<Response<proto::AnnounceRecordDateResponse>, Status> {
        let admitted = writes::announce(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::AnnounceRecordDateResponse { operation }))
    }

    async fn fund_treasury(
        &self,
        request: Request<proto::FundTreasuryRequest>,
    ) -> Result<Response<proto::FundTreasuryResponse>, Status> {
        let admitted = writes::fund(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::FundTreasuryResponse { operation }))
    }

    async fn sweep_treasury(
        &self,
        request: Request<proto::SweepTreasuryRequest>,
    ) -> Result<Response<proto::SweepTreasuryResponse>, Status> {
        let admitted = writes::sweep(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::SweepTreasuryResponse { operation }))
    }

    async fn claim_payouts(
        &self,
        request: Request<proto::ClaimPayoutsRequest>,
    ) -> Result<Response<proto::ClaimPayoutsResponse>, Status> {
        let admitted = writes::claim(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ClaimPayoutsResponse { operation }))
    }

    async fn mature(&self, request: Request<proto::MatureRequest>) -> Result<Response<proto::MatureResponse>, Status> {
        let admitted = writes::mature(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::MatureResponse { operation }))
    }

    async fn redeem(&self, request: Request<proto::RedeemRequest>) -> Result<Response<proto::RedeemResponse>, Status> {
        let admitted = writes::redeem(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::RedeemResponse { operation }))
    }

    async fn prepare_run(
        &self,
        request: Request<proto::PrepareRunRequest>,
    ) -> Result<Response<proto::PrepareRunResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(runs::prepare(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn start_run(
        &self,
        request: Request<proto::StartRunRequest>,
    ) -> Result<Response<proto::StartRunResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(runs::start(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn pause_run(
        &self,
        request: Request<proto::PauseRunRequest>,
    ) -> Result<Response<proto::PauseRunResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(runs::pause(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn discard_run(
        &self,
        request: Request<proto::DiscardRunRequest>,
    ) -> Result<Response<proto::DiscardRunResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(runs::discard(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn automate_redemption(
        &self,
        request: Request<proto::AutomateRedemptionRequest>,
    ) -> Result<Response<proto::AutomateRedemptionResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(schedules::automate_redemption(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn automate_coupons(
        &self,
        request: Request<proto::AutomateCouponsRequest>,
    ) -> Result<Response<proto::AutomateCouponsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(schedules::automate(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn schedule_calendar(
        &self,
        request: Request<proto::ScheduleCalendarRequest>,
    ) -> Result<Response<proto::ScheduleCalendarResponse>, Status> {
        let admitted = schedules::calendar(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ScheduleCalendarResponse { operation }))
    }

    async fn stop_schedule(
        &self,
        request: Request<proto::StopScheduleRequest>,
    ) -> Result<Response<proto::StopScheduleResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(schedules::stop(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn list_due_payments(
        &self,
        request: Request<proto::ListDuePaymentsRequest>,
    ) -> Result<Response<proto::ListDuePaymentsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(schedules::list(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_treasury(
        &self,
        request: Request<proto::GetTreasuryRequest>,
    ) -> Result<Response<proto::GetTreasuryResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::treasury(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_treasuries(
        &self,
        request: Request<proto::ListTreasuriesRequest>,
    ) -> Result<Response<proto::ListTreasuriesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::treasuries(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_run(&self, request: Request<proto::GetRunRequest>) -> Result<Response<proto::GetRunResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::run(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_runs(
        &self,
        request: Request<proto::ListRunsRequest>,
    ) -> Result<Response<proto::ListRunsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::runs(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_entitlements(
        &self,
        request: Request<proto::ListEntitlementsRequest>,
    ) -> Result<Response<proto::ListEntitlementsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::entitlements(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_run_evidence(
        &self,
        request: Request<proto::GetRunEvidenceRequest>,
    ) -> Result<Response<proto::GetRunEvidenceResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::evidence(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn export_run(
        &self,
        request: Request<proto::ExportRunRequest>,
    ) -> Result<Response<Self::ExportRunStream>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(export::open(&self.app, caller.tenant.as_str(), request.get_ref()).await?))
    }
}
