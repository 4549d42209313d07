//! The compliance service.

use super::{asset::command, read_address, simulation::to_wire};
use crate::{
    app::AppHandle,
    domain::compliance::Movement,
    readers::{claim_findings, rules, simulation},
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

    async fn list_rules(
        &self,
        request: Request<proto::ListRulesRequest>,
    ) -> Result<Response<proto::ListRulesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let asset = read_address("asset", &request.get_ref().asset)?;
        let app = self.app.get()?;
        app.require_asset(caller.tenant.as_str(), asset).await?;
        let rules = rules::list(&app.chain, asset).await?;
        let rules = rules
            .into_iter()
            .map(|rule| proto::Rule { module: rule.module.to_checksum(None), name: rule.name })
            .collect();
        Ok(Response::new(proto::ListRulesResponse { rules }))
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
