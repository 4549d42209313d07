//! The system service.

use super::{Admitted, Write};
use crate::{
    app::AppHandle,
    domain::system::Bootstrap,
    flows::bootstrap::{BootstrapFlow, BootstrapOrder},
    store::systems,
};
use dalp_engine::{AcceptHook, OperationState};
use dalp_proto::system::{self as proto, system_service_server::SystemService};
use dalp_service::{Caller, Refusal};
use tonic::{Request, Response, Status};

/// Serves `dalp.system.v1.SystemService`.
pub(super) struct SystemEdge {
    app: AppHandle,
}

impl SystemEdge {
    pub(super) fn new(app: AppHandle) -> Self {
        Self { app }
    }

    async fn start(&self, request: Request<proto::BootstrapRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.system.v1.SystemService/Bootstrap", &request).await?;
        let command = Bootstrap::try_from(request.get_ref())?;
        write.require_wallet(command.admin).await?;
        let (app, tenant, chain_id) = (write.app, write.tenant().to_owned(), write.app.chain.chain_id());
        let stored = app.store.system(&tenant, chain_id).await?;
        let mut replaces = None;
        if let (None, Some(stored)) = (&write.repeated, stored) {
            // One system per tenant and chain: whoever asks again gets the operation that deploys it, unless it came to nothing.
            let operation = app.operation(&tenant, stored.operation_id).await?;
            match operation {
                Some(operation) if !matches!(operation.state, OperationState::Failed | OperationState::Cancelled) => {
                    return Ok(Admitted { operation, key: write.key, replayed: true });
                }
                _ => replaces = Some(stored.operation_id),
            }
        }
        let order = BootstrapOrder {
            chain_id,
            tenant: tenant.clone(),
            create2_deployer: app.create2_deployer,
            command: command.clone(),
        };
        let hook: AcceptHook = Box::new(move |connection, id| {
            Box::pin(async move { systems::claim(connection, &tenant, chain_id, id.0, replaces).await })
        });
        write.accept::<BootstrapFlow, _>(&command, async { Ok((order, Some(hook))) }).await
    }
}

#[tonic::async_trait]
impl SystemService for SystemEdge {
    async fn bootstrap(
        &self,
        request: Request<proto::BootstrapRequest>,
    ) -> Result<Response<proto::BootstrapResponse>, Status> {
        Ok(self.start(request).await?.respond(|operation| proto::BootstrapResponse { operation }))
    }

    async fn get_system(
        &self,
        request: Request<proto::GetSystemRequest>,
    ) -> Result<Response<proto::GetSystemResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let app = self.app.get()?;
        let system = app.system(caller.tenant.as_str()).await?;
        let text = |address: alloy::primitives::Address| address.to_checksum(None);
        Ok(Response::new(proto::GetSystemResponse {
            system: Some(proto::System {
                chain_id: app.chain.chain_id(),
                system: text(system.system),
                identity_registry: text(system.identity_registry),
                identity_factory: text(system.identity_factory),
                topic_scheme_registry: text(system.topic_scheme_registry),
                asset_factory: text(system.asset_factory),
                country_rule: text(system.country_rule),
                claim_rule: text(system.claim_rule),
                admin: text(system.admin),
            }),
        }))
    }
}
