//! The system service.

use super::{Admitted, Write, read_address, system_messages::role_of};
use crate::{
    app::{App, AppHandle, came_to_nothing},
    domain::system::{Bootstrap, ChangeSystemRole},
    flows::{
        bootstrap::{BootstrapFlow, BootstrapOrder},
        system_roles::{GrantSystemRoleFlow, RevokeSystemRoleFlow, SystemRoleOrder},
    },
    readers::systems::{require_administration, standing},
    store::systems,
};
use dalp_engine::{AcceptHook, Flow, OperationView};
use dalp_proto::system::{self as proto, system_service_server::SystemService};
use dalp_service::{Caller, Reason, Refusal};
use tonic::{Request, Response, Status};
use uuid::Uuid;

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
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let chain_id = chain_of(app, &command)?;
        let mut replaces = None;
        if write.repeated.is_none() {
            match ordered(app, &tenant, &command).await? {
                Ordered::Stands(operation) => return write.answer(*operation, true).await,
                Ordered::CameToNothing(operation_id) => replaces = Some(operation_id),
                Ordered::Never => {}
            }
        }
        let order = BootstrapOrder {
            chain_id,
            tenant: tenant.clone(),
            create2_deployer: app.create2_deployer.filter(|_| chain_id == app.chain.chain_id()),
            command: command.clone(),
        };
        let (owner, admin) = (tenant.clone(), command.admin);
        let hook: AcceptHook = Box::new(move |connection, id| {
            Box::pin(async move { systems::claim(connection, &owner, chain_id, id.0, admin, replaces).await })
        });
        match write.accept::<BootstrapFlow, _>(&command, async { Ok((order, Some(hook))) }).await {
            // Another bootstrap of the tenant was faster; this one asks for the same.
            Err(refusal) if refusal.reason() == Reason::Conflict => match ordered(app, &tenant, &command).await? {
                Ordered::Stands(operation) => write.answer(*operation, true).await,
                Ordered::CameToNothing(_) | Ordered::Never => Err(refusal),
            },
            other => other,
        }
    }

    async fn change_role<F: Flow<Order = SystemRoleOrder>>(
        &self,
        write: Write<'_>,
        command: ChangeSystemRole,
    ) -> Result<Admitted, Refusal> {
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let system = app.system(&tenant).await?;
            require_administration(&app.chain, &system, command.sender, command.role).await?;
            let order =
                SystemRoleOrder { chain_id: app.chain.chain_id(), system: system.system, command: command.clone() };
            Ok((order, None))
        };
        write.accept::<F, _>(&command, order).await
    }
}

/// The chain that is meant: the first one, or a further one that is configured.
fn chain_of(app: &App, command: &Bootstrap) -> Result<u64, Refusal> {
    match command.chain_id {
        0 => Ok(app.chain.chain_id()),
        known if app.chains.contains(&known) => Ok(known),
        unknown => Err(Refusal::new(Reason::InvalidField, "the platform does not work on this chain")
            .field("chain_id", format!("chain {unknown} is not configured"))),
    }
}

/// Where the tenant's one system on the chain stands.
enum Ordered {
    Never,
    CameToNothing(Uuid),
    Stands(Box<OperationView>),
}

/// Refuses who asks for another administrator than the one it was ordered with: that is no repeat.
async fn ordered(app: &App, tenant: &str, command: &Bootstrap) -> Result<Ordered, Refusal> {
    let Some(stored) = app.store.system(tenant, chain_of(app, command)?).await? else { return Ok(Ordered::Never) };
    let operation = app.operation(tenant, stored.operation_id).await?;
    let Some(operation) = operation.filter(|operation| !came_to_nothing(operation)) else {
        return Ok(Ordered::CameToNothing(stored.operation_id));
    };
    match stored.admin {
        Some(admin) if admin != command.admin => {
            let text = "the tenant's system on this chain was ordered with another administrator";
            Err(Refusal::new(Reason::AlreadyExists, text)
                .meta("admin", admin.to_checksum(None))
                .meta("operation_id", stored.operation_id))
        }
        _ => Ok(Ordered::Stands(Box::new(operation))),
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

    async fn grant_role(
        &self,
        request: Request<proto::GrantRoleRequest>,
    ) -> Result<Response<proto::GrantRoleResponse>, Status> {
        let write = Write::begin(&self.app, "dalp.system.v1.SystemService/GrantRole", &request).await?;
        let command = ChangeSystemRole::try_from(request.get_ref()).map_err(Refusal::from)?;
        let admitted = self.change_role::<GrantSystemRoleFlow>(write, command).await?;
        Ok(admitted.respond(|operation| proto::GrantRoleResponse { operation }))
    }

    async fn revoke_role(
        &self,
        request: Request<proto::RevokeRoleRequest>,
    ) -> Result<Response<proto::RevokeRoleResponse>, Status> {
        let write = Write::begin(&self.app, "dalp.system.v1.SystemService/RevokeRole", &request).await?;
        let command = ChangeSystemRole::try_from(request.get_ref()).map_err(Refusal::from)?;
        let admitted = self.change_role::<RevokeSystemRoleFlow>(write, command).await?;
        Ok(admitted.respond(|operation| proto::RevokeRoleResponse { operation }))
    }

    async fn get_roles(
        &self,
        request: Request<proto::GetRolesRequest>,
    ) -> Result<Response<proto::GetRolesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let account = read_address("account", &request.get_ref().account)?;
        let app = self.app.get()?;
        let system = app.system(caller.tenant.as_str()).await?;
        let standing = standing(&app.chain, &system, account).await?;
        let roles = standing.roles.into_iter().map(|role| role_of(role).into()).collect();
        Ok(Response::new(proto::GetRolesResponse { roles, administrator: standing.administrator }))
    }

    async fn read_roles(
        &self,
        request: Request<proto::ReadRolesRequest>,
    ) -> Result<Response<proto::ReadRolesResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let answer = super::roles::read(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?;
        Ok(Response::new(answer))
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
