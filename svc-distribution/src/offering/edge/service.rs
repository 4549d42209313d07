//! The offering service.

use super::{quote, reads, writes};
use crate::app::AppHandle;
use dalp_proto::distribution::{self as proto, offering_service_server::OfferingService};
use dalp_service::Caller;
use tonic::{Request, Response, Status};

/// Serves `dalp.distribution.v1.OfferingService`.
pub(crate) struct OfferingEdge {
    app: AppHandle,
}

impl OfferingEdge {
    pub(crate) fn new(app: AppHandle) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl OfferingService for OfferingEdge {
    async fn create_offering(
        &self,
        request: Request<proto::CreateOfferingRequest>,
    ) -> Result<Response<proto::CreateOfferingResponse>, Status> {
        let writes::Created { admitted, offering } = writes::create(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::CreateOfferingResponse { operation, offering }))
    }

    async fn configure_offering(
        &self,
        request: Request<proto::ConfigureOfferingRequest>,
    ) -> Result<Response<proto::ConfigureOfferingResponse>, Status> {
        let writes::Created { admitted, offering } = writes::configure(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ConfigureOfferingResponse { operation, offering }))
    }

    async fn activate_offering(
        &self,
        request: Request<proto::ActivateOfferingRequest>,
    ) -> Result<Response<proto::ActivateOfferingResponse>, Status> {
        let admitted = writes::activate(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ActivateOfferingResponse { operation }))
    }

    async fn pause_offering(
        &self,
        request: Request<proto::PauseOfferingRequest>,
    ) -> Result<Response<proto::PauseOfferingResponse>, Status> {
        let admitted = writes::pause(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::PauseOfferingResponse { operation }))
    }

    async fn resume_offering(
        &self,
        request: Request<proto::ResumeOfferingRequest>,
    ) -> Result<Response<proto::ResumeOfferingResponse>, Status> {
        let admitted = writes::resume(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ResumeOfferingResponse { operation }))
    }

    async fn finalize_offering(
        &self,
        request: Request<proto::FinalizeOfferingRequest>,
    ) -> Result<Response<proto::FinalizeOfferingResponse>, Status> {
        let admitted = writes::finalize(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::FinalizeOfferingResponse { operation }))
    }

    async fn buy(&self, request: Request<proto::BuyRequest>) -> Result<Response<proto::BuyResponse>, Status> {
        let admitted = quote::buy(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::BuyResponse { operation }))
    }

    async fn claim_tokens(
        &self,
        request: Request<proto::ClaimTokensRequest>,
    ) -> Result<Response<proto::ClaimTokensResponse>, Status> {
        let admitted = writes::claim(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::ClaimTokensResponse { operation }))
    }

    async fn refund(&self, request: Request<proto::RefundRequest>) -> Result<Response<proto::RefundResponse>, Status> {
        let admitted = writes::refund(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::RefundResponse { operation }))
    }

    async fn withdraw_proceeds(
        &self,
        request: Request<proto::WithdrawProceedsRequest>,
    ) -> Result<Response<proto::WithdrawProceedsResponse>, Status> {
        let admitted = writes::withdraw_proceeds(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::WithdrawProceedsResponse { operation }))
    }

    async fn withdraw_unsold(
        &self,
        request: Request<proto::WithdrawUnsoldRequest>,
    ) -> Result<Response<proto::WithdrawUnsoldResponse>, Status> {
        let admitted = writes::withdraw_unsold(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::WithdrawUnsoldResponse { operation }))
    }

    async fn quote_purchase(
        &self,
        request: Request<proto::QuotePurchaseRequest>,
    ) -> Result<Response<proto::QuotePurchaseResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(quote::quote(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_offering(
        &self,
        request: Request<proto::GetOfferingRequest>,
    ) -> Result<Response<proto::GetOfferingResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::offering(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_offerings(
        &self,
        request: Request<proto::ListOfferingsRequest>,
    ) -> Result<Response<proto::ListOfferingsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::offerings(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_buyers(
        &self,
        request: Request<proto::ListBuyersRequest>,
    ) -> Result<Response<proto::ListBuyersResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::buyers(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_allow_list_proof(
        &self,
        request: Request<proto::GetAllowListProofRequest>,
    ) -> Result<Response<proto::GetAllowListProofResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::proof(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }
}
