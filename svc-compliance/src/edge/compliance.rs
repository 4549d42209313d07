//! The compliance service.

use super::{asset::command, compliance_messages::Movement, read_address};
use crate::{app::AppHandle, domain::compliance::Cure, readers::rules};
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
        let app = self.app.get()?;
        app.require_asset(caller.tenant.as_str(), movement.asset).await?;
        let (verdicts, block_number) =
            rules::simulate(&app.chain, movement.asset, movement.from, movement.to, movement.amount).await?;
        let allowed = verdicts.iter().all(|verdict| verdict.veto.is_none());
        let verdicts = verdicts
            .into_iter()
            .map(|verdict| {
                let passed = verdict.veto.is_none();
                let (reason, cure, advice) = match verdict.veto {
                    None => (String::new(), proto::Cure::Unspecified, String::new()),
                    Some((reason, cure, advice)) => (reason, wire_cure(cure), advice.to_owned()),
                };
                let module = verdict.module.map(|module| module.to_checksum(None)).unwrap_or_default();
                proto::Verdict { check: verdict.check, module, passed, reason, cure: cure.into(), advice }
            })
            .collect();
        Ok(Response::new(proto::SimulateTransferResponse { allowed, verdicts, block_number }))
    }
}

fn wire_cure(cure: Cure) -> proto::Cure {
    match cure {
        Cure::Holder => proto::Cure::Holder,
        Cure::Operator => proto::Cure::Operator,
        Cure::Nobody => proto::Cure::Nobody,
    }
}
