//! The Tenant service.

use dalp_proto::tenant::{
    self as wire, CreateTenantRequest, CreateTenantResponse, DisableTenantRequest, DisableTenantResponse,
    EnableTenantRequest, EnableTenantResponse, GetTenantRequest, GetTenantResponse, ListTenantsRequest,
    ListTenantsResponse, UpdateTenantRequest, UpdateTenantResponse, tenant_service_server::TenantService,
};
use dalp_proto::timestamp;
use dalp_service::{Caller, PrincipalId, Reason, Refusal, TenantId, errors::RefusalResult};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tonic::{Request, Response, Status};

use super::{Desk, Write, future, invalid_field, managed, name_for_people, nothing, page, refusal};
use crate::{
    access::{
        directory::Change,
        keys, people,
        store::GrantedRole,
        tenants::{self, TenantRow, TenantTerms},
    },
    api_key::ApiKey,
    config::{LimitsConfig, PrincipalKind, RateConfig, Scope, is_cell},
    permissions::{PLATFORM, is_platform},
    requests::{foreign_page_token, page_size, reason},
};

const ALL_TENANTS: &str = "platform:tenants";
/// A new tenant's first key is made to be replaced.
const FIRST_KEY_ENDS_WITHIN: Duration = Duration::days(366);

#[tonic::async_trait]
impl TenantService for Desk {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        let secret = |answer: &mut CreateTenantResponse| answer.secret.clear();
        let answer = self.write("dalp.tenant.v1.TenantService/CreateTenant", &request, secret, async |write| {
            // Read here: of a repeat it does not matter what is true by now.
            Opening::read(request.get_ref(), &self.cell)?.carry_out(write).await
        });
        Ok(answer.await?)
    }

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<GetTenantResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let id = match request.get_ref().tenant_id.as_str() {
            "" => caller.tenant.as_str(),
            id => id,
        };
        if id != caller.tenant.as_str() && !caller.has_role(ALL_TENANTS) {
            return Err(absent(id).into());
        }
        let found = self.store().tenant(id).await.map_err(Refusal::from)?.ok_or_else(|| absent(id))?;
        Ok(Response::new(GetTenantResponse { tenant: Some(found.into()) }))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let ListTenantsRequest { page_size: asked, page_token } = request.get_ref();
        if !page_token.is_empty() && page_token.parse::<TenantId>().is_err() {
            return Err(foreign_page_token().into());
        }
        let size = page_size(*asked)?;
        let rows = self.store().tenants(page_token, size + 1).await.map_err(Refusal::from)?;
        let (rows, next_page_token) = page(rows, size, |row| row.id.clone());
        Ok(Response::new(ListTenantsResponse { tenants: rows.into_iter().map(Into::into).collect(), next_page_token }))
    }

    async fn update_tenant(
        &self,
        request: Request<UpdateTenantRequest>,
    ) -> Result<Response<UpdateTenantResponse>, Status> {
        let UpdateTenantRequest { tenant_id, display_name, cell, chain_ids, limits } = request.get_ref().clone();
        let terms = terms(&display_name, cell, chain_ids, limits, &self.cell)?;
        let answer = self.write("dalp.tenant.v1.TenantService/UpdateTenant", &request, nothing, async |write| {
            own(write, &tenant_id).await?;
            let row = tenants::update(write.commit, &tenant_id, &terms).await.map_err(refusal)?;
            let body = json!({"cell": terms.cell, "chain_ids": terms.chain_ids, "limits": terms.limits});
            write.leaf(&tenant_id, "tenant.update", &tenant_id, body).await?;
            Ok(UpdateTenantResponse { tenant: Some(row.into()) })
        });
        Ok(answer.await?)
    }

    async fn disable_tenant(
        &self,
        request: Request<DisableTenantRequest>,
    ) -> Result<Response<DisableTenantResponse>, Status> {
        let DisableTenantRequest { tenant_id, reason: why } = request.get_ref().clone();
        let why = reason(&why)?;
        let answer = self.write("dalp.tenant.v1.TenantService/DisableTenant", &request, nothing, async |write| {
            let row = switch(write, &tenant_id, true, &why).await?;
            Ok(DisableTenantResponse { tenant: Some(row.into()) })
        });
        Ok(answer.await?)
    }

    async fn enable_tenant(
        &self,
        request: Request<EnableTenantRequest>,
    ) -> Result<Response<EnableTenantResponse>, Status> {
        let EnableTenantRequest { tenant_id, reason: why } = request.get_ref().clone();
        let why = reason(&why)?;
        let answer = self.write("dalp.tenant.v1.TenantService/EnableTenant", &request, nothing, async |write| {
            let row = switch(write, &tenant_id, false, &why).await?;
            Ok(EnableTenantResponse { tenant: Some(row.into()) })
        });
        Ok(answer.await?)
    }
}

/// A tenant that an RPC may change, locked.
async fn own(write: &mut Write<'_>, id: &str) -> RefusalResult<TenantRow> {
    let row = tenants::lock(write.commit, id).await?.ok_or_else(|| absent(id))?;
    write.changes.push(Change::Tenant(id.to_owned()));
    if row.managed { Err(managed("the tenant")) } else { Ok(row) }
}

async fn switch(write: &mut Write<'_>, id: &str, disabled: bool, why: &str) -> RefusalResult<TenantRow> {
    own(write, id).await?;
    let row = tenants::set_disabled(write.commit, id, disabled).await.map_err(refusal)?;
    let action = if disabled { "tenant.disable" } else { "tenant.enable" };
    write.leaf(id, action, id, json!({"reason": why})).await?;
    Ok(row)
}

fn absent(id: &str) -> Refusal {
    Refusal::new(Reason::NotFound, "there is no such tenant").meta("tenant", id)
}

/// A tenant to open.
struct Opening {
    id: TenantId,
    terms: TenantTerms,
    administrator: PrincipalId,
    roles: Vec<String>,
    ends_at: OffsetDateTime,
}

// === impl Opening ===

impl Opening {
    fn read(request: &CreateTenantRequest, cell: &str) -> RefusalResult<Self> {
        let request = request.clone();
        let id =
            request.tenant_id.parse::<TenantId>().map_err(|error| invalid_field("tenant_id", error.to_string()))?;
        let administrator = request.administrator_id.parse::<PrincipalId>();
        let administrator = administrator.map_err(|error| invalid_field("administrator_id", error.to_string()))?;
        if request.administrator_roles.is_empty() {
            return Err(invalid_field("administrator_roles", "name at least one"));
        }
        let ends_at = future("expires_at", request.expires_at)?;
        let latest = OffsetDateTime::now_utc() + FIRST_KEY_ENDS_WITHIN;
        let ends_at = ends_at.filter(|end| *end <= latest);
        let ends_at = ends_at.ok_or_else(|| invalid_field("expires_at", "must be given, and lie within a year"))?;
        let terms = terms(&request.display_name, request.cell, request.chain_ids, request.limits, cell)?;
        Ok(Self { id, terms, administrator, roles: request.administrator_roles, ends_at })
    }

    async fn carry_out(&self, write: &mut Write<'_>) -> RefusalResult<CreateTenantResponse> {
        let (id, administrator) = (self.id.as_str(), self.administrator.as_str());
        let by = write.by.clone();
        let tenant = tenants::create(write.commit, id, &self.terms, &by).await?.ok_or_else(|| {
            Refusal::new(Reason::AlreadyExists, "there is a tenant of this identifier").meta("tenant", id)
        })?;
        people::create(write.commit, id, administrator, (PrincipalKind::Service, None), administrator, &by).await?;
        for (index, role) in self.roles.iter().enumerate() {
            let path = format!("administrator_roles[{index}]");
            let permissions = people::role(write.commit, role).await?;
            let permissions = permissions.ok_or_else(|| invalid_field(&path, "there is no such role"))?;
            let area = PLATFORM.to_owned();
            let role_alone = GrantedRole { role: role.clone(), asset: String::new(), area, permissions };
            if write.granting.granted(&[role_alone]).permissions.iter().any(is_platform) {
                return Err(invalid_field(
                    &path,
                    "reaches over all tenants: only the gateway's configuration grants it",
                ));
            }
            people::grant(write.commit, id, administrator, role, "", &by).await?;
        }
        let key = ApiKey::generate().map_err(Refusal::internal)?;
        let ends = Some(self.ends_at);
        // Whoever opens a tenant is nobody in it.
        keys::create(write.commit, id, administrator, &key, Scope::ReadWrite, ends, (&by, &[])).await?;
        let stored = keys::find(write.commit, id, key.prefix()).await?;
        let body = json!({"administrator": administrator, "roles": self.roles, "api_key": key.prefix()});
        write.leaf(id, "tenant.create", id, body.clone()).await?;
        if id != write.tenant() {
            let own = write.tenant().to_owned();
            write.leaf(&own, "tenant.create", id, body).await?;
        }
        Ok(CreateTenantResponse {
            tenant: Some(tenant.into()),
            api_key: stored.map(Into::into),
            secret: key.expose().to_owned(),
        })
    }
}

fn terms(
    name: &str,
    cell: String,
    chain_ids: Vec<u64>,
    limits: Option<wire::Limits>,
    own_cell: &str,
) -> RefusalResult<TenantTerms> {
    let cell = if cell.is_empty() { own_cell.to_owned() } else { cell };
    if !is_cell(&cell) {
        return Err(invalid_field("cell", "small letters, digits and hyphens, 63 at most"));
    }
    if chain_ids.iter().any(|id| *id == 0 || *id > i64::MAX as u64) {
        return Err(invalid_field("chain_ids", "a chain id is at least 1"));
    }
    let limits = limits.map(read_limits).transpose()?;
    Ok(TenantTerms { name: name_for_people(name)?, cell, chain_ids, limits })
}

fn read_limits(limits: wire::Limits) -> RefusalResult<LimitsConfig> {
    let rate = |rate: Option<wire::Rate>| {
        let wire::Rate { per_second, burst } = rate.unwrap_or_default();
        RateConfig { per_second, burst }
    };
    let read = LimitsConfig {
        read: rate(limits.read),
        write: rate(limits.write),
        stream: rate(limits.stream),
        admin: rate(limits.admin),
        calls_at_once: limits.calls_at_once,
        streams_at_once: limits.streams_at_once,
    };
    match read.problems().first() {
        None => Ok(read),
        Some((key, why)) => Err(invalid_field(&format!("limits.{key}"), *why)),
    }
}

impl From<TenantRow> for wire::Tenant {
    fn from(row: TenantRow) -> Self {
        Self {
            tenant_id: row.id,
            display_name: row.name,
            cell: row.cell,
            chain_ids: row.chain_ids,
            limits: row.limits.map(Into::into),
            managed: row.managed,
            disabled_at: row.disabled_at.map(timestamp),
            created_at: Some(timestamp(row.created_at)),
            created_by: row.created_by,
        }
    }
}

impl From<LimitsConfig> for wire::Limits {
    fn from(limits: LimitsConfig) -> Self {
        let rate = |rate: RateConfig| Some(wire::Rate { per_second: rate.per_second, burst: rate.burst });
        Self {
            read: rate(limits.read),
            write: rate(limits.write),
            stream: rate(limits.stream),
            admin: rate(limits.admin),
            calls_at_once: limits.calls_at_once,
            streams_at_once: limits.streams_at_once,
        }
    }
}
