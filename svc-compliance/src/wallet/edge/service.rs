//! The service of smart wallets.

use super::{reads, writes};
use crate::app::AppHandle;
use dalp_proto::wallet::{self as proto, smart_wallet_service_server::SmartWalletService};
use dalp_service::Caller;
use tonic::{Request, Response, Status};

/// Serves `dalp.wallet.v1.SmartWalletService`.
pub(crate) struct SmartWalletEdge {
    app: AppHandle,
}

impl SmartWalletEdge {
    pub(super) fn new(app: AppHandle) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl SmartWalletService for SmartWalletEdge {
    async fn create_smart_wallet(
        &self,
        request: Request<proto::CreateSmartWalletRequest>,
    ) -> Result<Response<proto::CreateSmartWalletResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(writes::create(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn deploy_smart_wallet(
        &self,
        request: Request<proto::DeploySmartWalletRequest>,
    ) -> Result<Response<proto::DeploySmartWalletResponse>, Status> {
        let admitted = writes::deploy(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::DeploySmartWalletResponse { operation }))
    }

    async fn get_smart_wallet(
        &self,
        request: Request<proto::GetSmartWalletRequest>,
    ) -> Result<Response<proto::GetSmartWalletResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::wallet(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_smart_wallets(
        &self,
        request: Request<proto::ListSmartWalletsRequest>,
    ) -> Result<Response<proto::ListSmartWalletsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::wallets(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn propose_user_operation(
        &self,
        request: Request<proto::ProposeUserOperationRequest>,
    ) -> Result<Response<proto::ProposeUserOperationResponse>, Status> {
        let (admitted, proposed) = writes::propose(&self.app, request).await?;
        let user_operation = Some(proposed);
        Ok(admitted.respond(|operation| proto::ProposeUserOperationResponse { operation, user_operation }))
    }

    async fn get_user_operation(
        &self,
        request: Request<proto::GetUserOperationRequest>,
    ) -> Result<Response<proto::GetUserOperationResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::user_operation(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_user_operations(
        &self,
        request: Request<proto::ListUserOperationsRequest>,
    ) -> Result<Response<proto::ListUserOperationsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::user_operations(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn approve_user_operation(
        &self,
        request: Request<proto::ApproveUserOperationRequest>,
    ) -> Result<Response<proto::ApproveUserOperationResponse>, Status> {
        let (admitted, approved) = writes::approve(&self.app, request).await?;
        let user_operation = Some(approved);
        Ok(admitted.respond(|operation| proto::ApproveUserOperationResponse { operation, user_operation }))
    }

    async fn cancel_user_operation(
        &self,
        request: Request<proto::CancelUserOperationRequest>,
    ) -> Result<Response<proto::CancelUserOperationResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(writes::cancel(self.app.get()?, &caller, request.get_ref()).await?))
    }
}
