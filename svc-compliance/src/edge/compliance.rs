//! The compliance service.

use super::{command::command, expressions, features, read_address, rules as rule_reads, simulation::to_wire};
use crate::{
    app::AppHandle,
    domain::compliance::Movement,
    readers::{claim_findings, simulation},
};
use dalp_proto::compliance::{self as proto, compliance_service_server::ComplianceService};
use dalp_service::{Caller, Refusal};
use tonic::{Request, Response, Status};

/// Serves `dalp.compliance.v1.ComplianceService`.
pub(super) struct ComplianceEdge {
    app: AppHandle,
}

impl ComplianceEdge {
    pub(super) fn new(app: AppHandle) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl ComplianceService for ComplianceEdge {
    async fn add_rule(
        &self,
        request: Request<proto::AddRuleRequest>,
    ) -> Result<Response<proto::AddRuleResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/AddRule", request).await?;
        Ok(admitted.respond(|operation| proto::AddRuleResponse { operation }))
    }

    async fn remove_rule(
        &self,
        request: Request<proto::RemoveRuleRequest>,
    ) -> Result<Response<proto::RemoveRuleResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/RemoveRule", request).await?;
        Ok(admitted.respond(|operation| proto::RemoveRuleResponse { operation }))
    }

    async fn set_rule_parameters(
        &self,
        request: Request<proto::SetRuleParametersRequest>,
    ) -> Result<Response<proto::SetRuleParametersResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/SetRuleParameters", request).await?;
        Ok(admitted.respond(|operation| proto::SetRuleParametersResponse { operation }))
    }

    async fn set_list_entries(
        &self,
        request: Request<proto::SetListEntriesRequest>,
    ) -> Result<Response<proto::SetListEntriesResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/SetListEntries", request).await?;
        Ok(admitted.respond(|operation| proto::SetListEntriesResponse { operation }))
    }

    async fn set_rule_exemption(
        &self,
        request: Request<proto::SetRuleExemptionRequest>,
    ) -> Result<Response<proto::SetRuleExemptionResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/SetRuleExemption", request).await?;
        Ok(admitted.respond(|operation| proto::SetRuleExemptionResponse { operation }))
    }

    async fn set_identity_exemption(
        &self,
        request: Request<proto::SetIdentityExemptionRequest>,
    ) -> Result<Response<proto::SetIdentityExemptionResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/SetIdentityExemption", request).await?;
        Ok(admitted.respond(|operation| proto::SetIdentityExemptionResponse { operation }))
    }

    async fn set_policy(
        &self,
        request: Request<proto::SetPolicyRequest>,
    ) -> Result<Response<proto::SetPolicyResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/SetPolicy", request).await?;
        Ok(admitted.respond(|operation| proto::SetPolicyResponse { operation }))
    }

    async fn set_feature_parameters(
        &self,
        request: Request<proto::SetFeatureParametersRequest>,
    ) -> Result<Response<proto::SetFeatureParametersResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/SetFeatureParameters", request).await?;
        Ok(admitted.respond(|operation| proto::SetFeatureParametersResponse { operation }))
    }

    async fn attach_feature(
        &self,
        request: Request<proto::AttachFeatureRequest>,
    ) -> Result<Response<proto::AttachFeatureResponse>, Status> {
        let admitted = features::attach(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::AttachFeatureResponse { operation }))
    }

    async fn detach_feature(
        &self,
        request: Request<proto::DetachFeatureRequest>,
    ) -> Result<Response<proto::DetachFeatureResponse>, Status> {
        let admitted = features::detach(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::DetachFeatureResponse { operation }))
    }

    async fn collect_management_fee(
        &self,
        request: Request<proto::CollectManagementFeeRequest>,
    ) -> Result<Response<proto::CollectManagementFeeResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/CollectManagementFee", request).await?;
        Ok(admitted.respond(|operation| proto::CollectManagementFeeResponse { operation }))
    }

    async fn list_features(
        &self,
        request: Request<proto::ListFeaturesRequest>,
    ) -> Result<Response<proto::ListFeaturesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(features::list(self.app.get()?, caller.tenant.as_str()).await?))
    }

    async fn get_exemptions(
        &self,
        request: Request<proto::GetExemptionsRequest>,
    ) -> Result<Response<proto::GetExemptionsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let asset = read_address("asset", &request.get_ref().asset)?;
        let (app, tenant) = (self.app.get()?, caller.tenant.as_str());
        app.require_asset(tenant, asset).await?;
        Ok(Response::new(rule_reads::exemptions(app, tenant, asset, &request.get_ref().accounts).await?))
    }

    async fn count_holders(
        &self,
        request: Request<proto::CountHoldersRequest>,
    ) -> Result<Response<proto::CountHoldersResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/CountHolders", request).await?;
        Ok(admitted.respond(|operation| proto::CountHoldersResponse { operation }))
    }

    async fn approve_transfer(
        &self,
        request: Request<proto::ApproveTransferRequest>,
    ) -> Result<Response<proto::ApproveTransferResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/ApproveTransfer", request).await?;
        Ok(admitted.respond(|operation| proto::ApproveTransferResponse { operation }))
    }

    async fn revoke_approval(
        &self,
        request: Request<proto::RevokeApprovalRequest>,
    ) -> Result<Response<proto::RevokeApprovalResponse>, Status> {
        let admitted = command(&self.app, "dalp.compliance.v1.ComplianceService/RevokeApproval", request).await?;
        Ok(admitted.respond(|operation| proto::RevokeApprovalResponse { operation }))
    }

    async fn list_rules(
        &self,
        request: Request<proto::ListRulesRequest>,
    ) -> Result<Response<proto::ListRulesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let asset = read_address("asset", &request.get_ref().asset)?;
        let app = self.app.get()?;
        app.require_asset(caller.tenant.as_str(), asset).await?;
        Ok(Response::new(rule_reads::of_asset(app, caller.tenant.as_str(), asset).await?))
    }

    async fn create_expression(
        &self,
        request: Request<proto::CreateExpressionRequest>,
    ) -> Result<Response<proto::CreateExpressionResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(expressions::create(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn update_expression(
        &self,
        request: Request<proto::UpdateExpressionRequest>,
    ) -> Result<Response<proto::UpdateExpressionResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(expressions::update(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn delete_expression(
        &self,
        request: Request<proto::DeleteExpressionRequest>,
    ) -> Result<Response<proto::DeleteExpressionResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(expressions::delete(self.app.get()?, &caller, request.get_ref()).await?))
    }

    async fn get_expression(
        &self,
        request: Request<proto::GetExpressionRequest>,
    ) -> Result<Response<proto::GetExpressionResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(expressions::get(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_expressions(
        &self,
        request: Request<proto::ListExpressionsRequest>,
    ) -> Result<Response<proto::ListExpressionsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(expressions::list(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn parse_expression(
        &self,
        request: Request<proto::ParseExpressionRequest>,
    ) -> Result<Response<proto::ParseExpressionResponse>, Status> {
        Caller::from_request(&request)?;
        Ok(Response::new(expressions::parse(request.get_ref())?))
    }

    async fn list_modules(
        &self,
        request: Request<proto::ListModulesRequest>,
    ) -> Result<Response<proto::ListModulesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(rule_reads::modules(self.app.get()?, caller.tenant.as_str()).await?))
    }

    async fn get_list_entries(
        &self,
        request: Request<proto::GetListEntriesRequest>,
    ) -> Result<Response<proto::GetListEntriesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let asset = read_address("asset", &request.get_ref().asset)?;
        let app = self.app.get()?;
        app.require_asset(caller.tenant.as_str(), asset).await?;
        Ok(Response::new(rule_reads::list_entries(app, asset, &request.get_ref().accounts).await?))
    }

    async fn list_list_entries(
        &self,
        request: Request<proto::ListListEntriesRequest>,
    ) -> Result<Response<proto::ListListEntriesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let asset = read_address("asset", &request.get_ref().asset)?;
        let (app, tenant) = (self.app.get()?, caller.tenant.as_str());
        app.require_asset(tenant, asset).await?;
        Ok(Response::new(rule_reads::listed(app, tenant, asset, request.get_ref()).await?))
    }

    async fn get_approval(
        &self,
        request: Request<proto::GetApprovalRequest>,
    ) -> Result<Response<proto::GetApprovalResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let asset = read_address("asset", &request.get_ref().asset)?;
        let app = self.app.get()?;
        app.require_asset(caller.tenant.as_str(), asset).await?;
        Ok(Response::new(rule_reads::approval(app, asset, request.get_ref().movement.as_ref()).await?))
    }

    async fn simulate_transfer(
        &self,
        request: Request<proto::SimulateTransferRequest>,
    ) -> Result<Response<proto::SimulateTransferResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let movement = Movement::try_from(request.get_ref()).map_err(Refusal::from)?;
        let (app, tenant) = (self.app.get()?, caller.tenant.as_str());
        app.require_asset(tenant, movement.asset).await?;
        let system = app.system(tenant).await?;
        let topics = app.store.topics(tenant, app.chain.chain_id()).await.map_err(Refusal::from)?;
        let topics = claim_findings::names(&topics);
        let simulation = simulation::simulate(&app.chain, &system, movement, &topics).await?;
        Ok(Response::new(to_wire(simulation)))
    }
}
