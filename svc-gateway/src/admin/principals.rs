//! The Principal service.

use dalp_proto::{
    principal::{
        self as wire, BindCredentialRequest, BindCredentialResponse, CreatePrincipalRequest, CreatePrincipalResponse,
        DisablePrincipalRequest, DisablePrincipalResponse, EnablePrincipalRequest, EnablePrincipalResponse,
        GetAccessRequest, GetAccessResponse, GetPrincipalRequest, GetPrincipalResponse, GrantRoleRequest,
        GrantRoleResponse, ListAccessRequest, ListAccessResponse, ListPrincipalsRequest, ListPrincipalsResponse,
        ListRolesRequest, ListRolesResponse, RevokeRoleRequest, RevokeRoleResponse, UnbindCredentialRequest,
        UnbindCredentialResponse, credential::Kind, principal_service_server::PrincipalService,
    },
    timestamp,
};
use dalp_service::{Caller, PrincipalId, Reason, Refusal, errors::RefusalResult, fields};
use serde_json::json;
use tonic::{Request, Response, Status};

use super::{Binding, Desk, Write, invalid_field, managed, name_for_people, nothing, page, refusal};
use crate::{
    access::{
        people::{self, PrincipalRow},
        store::{CredentialKey, GrantedRole},
    },
    config::PrincipalKind,
    permissions::{PLATFORM, is_platform},
    requests::{foreign_page_token, invalid, page_size, reason},
    standing::messages,
};

#[tonic::async_trait]
impl PrincipalService for Desk {
    async fn create_principal(
        &self,
        request: Request<CreatePrincipalRequest>,
    ) -> Result<Response<CreatePrincipalResponse>, Status> {
        let asked = request.get_ref();
        let id = asked.principal_id.parse::<PrincipalId>();
        let id = id.map_err(|error| invalid_field("principal_id", error.to_string()))?;
        let kind = match asked.kind() {
            wire::PrincipalKind::Person => PrincipalKind::Person,
            wire::PrincipalKind::Service => PrincipalKind::Service,
            wire::PrincipalKind::Unspecified => return Err(invalid_field("kind", "say what the principal is").into()),
        };
        let name = name_for_people(&asked.display_name)?;
        let owner = (!asked.owner.is_empty()).then(|| asked.owner.clone());
        if owner.is_some() && kind == PrincipalKind::Person {
            return Err(invalid_field("owner", "a person answers for itself").into());
        }
        let answer =
            self.write("dalp.principal.v1.PrincipalService/CreatePrincipal", &request, nothing, async |write| {
                let (tenant, by) = (write.tenant().to_owned(), write.by.clone());
                if let Some(owner) = &owner {
                    let known = people::find(write.commit, &tenant, owner).await?;
                    if known.is_none_or(|one| one.kind != PrincipalKind::Person) {
                        return Err(invalid_field("owner", "is no person of the tenant"));
                    }
                }
                let what = (kind, owner.as_deref());
                if !people::create(write.commit, &tenant, id.as_str(), what, &name, &by).await? {
                    return Err(Refusal::new(Reason::AlreadyExists, "the tenant has a principal of this identifier")
                        .meta("principal", &id));
                }
                write
                    .leaf(&tenant, "principal.create", id.as_str(), json!({"kind": kind.as_str(), "owner": owner}))
                    .await?;
                Ok(CreatePrincipalResponse { principal: now(write, id.as_str()).await? })
            });
        Ok(answer.await?)
    }

    async fn get_principal(
        &self,
        request: Request<GetPrincipalRequest>,
    ) -> Result<Response<GetPrincipalResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let id = match request.get_ref().principal_id.as_str() {
            "" => caller.principal.as_str(),
            id => id,
        };
        let found = self.store().principal(caller.tenant.as_str(), id).await.map_err(Refusal::from)?;
        Ok(Response::new(GetPrincipalResponse { principal: Some(found.ok_or_else(|| absent(id))?.into()) }))
    }

    async fn list_principals(
        &self,
        request: Request<ListPrincipalsRequest>,
    ) -> Result<Response<ListPrincipalsResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let ListPrincipalsRequest { page_size: asked, page_token } = request.get_ref();
        if !page_token.is_empty() && page_token.parse::<PrincipalId>().is_err() {
            return Err(foreign_page_token().into());
        }
        let size = page_size(*asked)?;
        let rows =
            self.store().principals(caller.tenant.as_str(), page_token, size + 1).await.map_err(Refusal::from)?;
        let (rows, next_page_token) = page(rows, size, |row| row.id.clone());
        let principals = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(ListPrincipalsResponse { principals, next_page_token }))
    }

    async fn disable_principal(
        &self,
        request: Request<DisablePrincipalRequest>,
    ) -> Result<Response<DisablePrincipalResponse>, Status> {
        let DisablePrincipalRequest { principal_id, reason: why } = request.get_ref().clone();
        let why = reason(&why)?;
        let answer =
            self.write("dalp.principal.v1.PrincipalService/DisablePrincipal", &request, nothing, async |write| {
                let (_, tenant) = own(write, &principal_id, true).await?;
                people::set_disabled(write.commit, &tenant, &principal_id, true).await.map_err(refusal)?;
                write.leaf(&tenant, "principal.disable", &principal_id, json!({"reason": why})).await?;
                Ok(DisablePrincipalResponse { principal: now(write, &principal_id).await? })
            });
        Ok(answer.await?)
    }

    async fn enable_principal(
        &self,
        request: Request<EnablePrincipalRequest>,
    ) -> Result<Response<EnablePrincipalResponse>, Status> {
        let EnablePrincipalRequest { principal_id, reason: why } = request.get_ref().clone();
        let why = reason(&why)?;
        let answer =
            self.write("dalp.principal.v1.PrincipalService/EnablePrincipal", &request, nothing, async |write| {
                let (_, tenant) = own(write, &principal_id, true).await?;
                people::set_disabled(write.commit, &tenant, &principal_id, false).await.map_err(refusal)?;
                write.leaf(&tenant, "principal.enable", &principal_id, json!({"reason": why})).await?;
                Ok(EnablePrincipalResponse { principal: now(write, &principal_id).await? })
            });
        Ok(answer.await?)
    }

    async fn grant_role(&self, request: Request<GrantRoleRequest>) -> Result<Response<GrantRoleResponse>, Status> {
        let GrantRoleRequest { principal_id, role, asset } = request.get_ref().clone();
        let asset = asset_of(&asset)?;
        let answer = self.write("dalp.principal.v1.PrincipalService/GrantRole", &request, nothing, async |write| {
            let (_, tenant) = own(write, &principal_id, false).await?;
            let by = write.by.clone();
            let permissions = people::role(write.commit, &role).await?;
            let permissions = permissions.ok_or_else(|| invalid_field("role", "there is no such role"))?;
            let granted = write.granting.granted(&[GrantedRole {
                role: role.clone(),
                asset: String::new(),
                area: PLATFORM.to_owned(),
                permissions,
            }]);
            if granted.permissions.iter().any(is_platform) {
                return Err(invalid_field(
                    "role",
                    "reaches over all tenants: only the gateway's configuration grants it",
                ));
            }
            write.require_all_of(&granted)?;
            people::grant(write.commit, &tenant, &principal_id, &role, &asset, &by).await?;
            write.leaf(&tenant, "principal.grant", &principal_id, json!({"role": role, "asset": asset})).await?;
            Ok(GrantRoleResponse { principal: now(write, &principal_id).await? })
        });
        Ok(answer.await?)
    }

    async fn revoke_role(&self, request: Request<RevokeRoleRequest>) -> Result<Response<RevokeRoleResponse>, Status> {
        let RevokeRoleRequest { principal_id, role, asset } = request.get_ref().clone();
        let asset = asset_of(&asset)?;
        let answer = self.write("dalp.principal.v1.PrincipalService/RevokeRole", &request, nothing, async |write| {
            let (row, tenant) = own(write, &principal_id, false).await?;
            let held = |(grant, _): &&(GrantedRole, bool)| grant.role == role && grant.asset == asset;
            if row.grants.iter().find(held).is_some_and(|(_, managed)| *managed) {
                return Err(managed("the grant"));
            }
            if !people::revoke(write.commit, &tenant, &principal_id, &role, &asset).await.map_err(refusal)? {
                return Err(Refusal::new(Reason::NotFound, "the principal has no such grant").meta("role", &role));
            }
            write.leaf(&tenant, "principal.revoke", &principal_id, json!({"role": role, "asset": asset})).await?;
            Ok(RevokeRoleResponse { principal: now(write, &principal_id).await? })
        });
        Ok(answer.await?)
    }

    async fn bind_credential(
        &self,
        request: Request<BindCredentialRequest>,
    ) -> Result<Response<BindCredentialResponse>, Status> {
        let BindCredentialRequest { principal_id, credential } = request.get_ref().clone();
        let credential = self.credential(credential)?;
        let answer =
            self.write("dalp.principal.v1.PrincipalService/BindCredential", &request, nothing, async |write| {
                let (_, tenant) = own(write, &principal_id, false).await?;
                self.may_bind(&tenant, &credential)?;
                let (by, hands) = (write.by.clone(), write.hands().await?);
                if !people::bind(write.commit, &tenant, &principal_id, &credential, (&by, &hands)).await? {
                    return Err(Refusal::new(Reason::AlreadyExists, "the credential belongs to another principal"));
                }
                write.leaf(&tenant, "principal.bind", &principal_id, told(&credential)).await?;
                Ok(BindCredentialResponse { principal: now(write, &principal_id).await? })
            });
        Ok(answer.await?)
    }

    async fn unbind_credential(
        &self,
        request: Request<UnbindCredentialRequest>,
    ) -> Result<Response<UnbindCredentialResponse>, Status> {
        let UnbindCredentialRequest { principal_id, credential } = request.get_ref().clone();
        let credential = self.credential(credential)?;
        let answer =
            self.write("dalp.principal.v1.PrincipalService/UnbindCredential", &request, nothing, async |write| {
                let (row, tenant) = own(write, &principal_id, false).await?;
                if row.credentials.iter().any(|(one, managed)| *one == credential && *managed) {
                    return Err(managed("the credential"));
                }
                if !people::unbind(write.commit, &tenant, &principal_id, &credential).await.map_err(refusal)? {
                    return Err(Refusal::new(Reason::NotFound, "the principal has no such credential"));
                }
                write.leaf(&tenant, "principal.unbind", &principal_id, told(&credential)).await?;
                Ok(UnbindCredentialResponse { principal: now(write, &principal_id).await? })
            });
        Ok(answer.await?)
    }

    async fn list_roles(&self, request: Request<ListRolesRequest>) -> Result<Response<ListRolesResponse>, Status> {
        Caller::from_metadata(request.metadata())?;
        let roles = self.store().roles().await.map_err(Refusal::from)?;
        let roles = roles.into_iter().map(|(name, patterns)| {
            let permissions = self.directory.granting().permissions(&patterns);
            wire::Role { name, permissions: permissions.iter().map(str::to_owned).collect() }
        });
        Ok(Response::new(ListRolesResponse { roles: roles.collect() }))
    }

    async fn get_access(&self, request: Request<GetAccessRequest>) -> Result<Response<GetAccessResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        Ok(Response::new(self.standings.get(&caller, request.get_ref()).await?))
    }

    async fn list_access(&self, request: Request<ListAccessRequest>) -> Result<Response<ListAccessResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        Ok(Response::new(self.standings.list(&caller, request.get_ref()).await?))
    }
}

impl Desk {
    fn credential(&self, credential: Option<wire::Credential>) -> RefusalResult<CredentialKey> {
        match credential.and_then(|credential| credential.kind) {
            None => Err(invalid_field("credential", "name a certificate or an identity")),
            Some(Kind::SpiffeId(text)) => match text.parse() {
                Ok(spiffe) => Ok(CredentialKey::Certificate(spiffe)),
                Err(error) => Err(invalid_field("credential.spiffe_id", format!("{error}"))),
            },
            Some(Kind::Oidc(identity)) => {
                let wire::OidcIdentity { issuer, subject } = identity;
                if !self.issuers.iter().any(|one| one.issuer == issuer) {
                    return Err(invalid_field("credential.oidc.issuer", "is not configured at the gateway"));
                }
                let subject = fields::bounded_string("credential.oidc.subject", &subject, 1, 255).map_err(invalid)?;
                Ok(CredentialKey::Oidc { issuer, subject })
            }
        }
    }

    /// A name is bound by whom it belongs to: nobody takes another tenant's before that has. The configuration binds any.
    fn may_bind(&self, tenant: &str, credential: &CredentialKey) -> RefusalResult<()> {
        match credential {
            CredentialKey::Certificate(spiffe) => {
                let space = format!("tenants/{tenant}/");
                match spiffe.trust_domain() == &*self.trust_domain && spiffe.name().starts_with(&space) {
                    true => Ok(()),
                    false => Err(invalid_field(
                        "credential.spiffe_id",
                        format!(
                            "must begin with spiffe://{}/{space}; the gateway's configuration binds others",
                            self.trust_domain
                        ),
                    )),
                }
            }
            CredentialKey::Oidc { issuer, .. } => {
                let own = |one: &Binding| {
                    one.issuer == *issuer && one.tenant.as_ref().is_some_and(|own| own.as_str() == tenant)
                };
                match self.issuers.iter().any(own) {
                    true => Ok(()),
                    false => Err(invalid_field(
                        "credential.oidc.issuer",
                        "is not the tenant's own: the gateway's configuration binds its subjects",
                    )),
                }
            }
            CredentialKey::ApiKey(_) => Ok(()),
        }
    }
}

/// A principal of the caller's tenant that the caller may change, locked; `change`: its own row is to be changed, which the configuration may keep.
pub(super) async fn own(write: &mut Write<'_>, id: &str, change: bool) -> RefusalResult<(PrincipalRow, String)> {
    let tenant = write.tenant().to_owned();
    let row = people::lock(write.commit, &tenant, id).await?.ok_or_else(|| absent(id))?;
    if change && row.managed {
        return Err(managed("the principal"));
    }
    write.require_over(&row)?;
    write.changes_principal(id);
    Ok((row, tenant))
}

async fn now(write: &mut Write<'_>, id: &str) -> RefusalResult<Option<wire::Principal>> {
    let tenant = write.tenant().to_owned();
    Ok(people::find(write.commit, &tenant, id).await?.map(Into::into))
}

fn absent(id: &str) -> Refusal {
    Refusal::new(Reason::NotFound, "the tenant has no such principal").meta("principal", id)
}

/// An asset in lower case, or nothing.
fn asset_of(text: &str) -> RefusalResult<String> {
    match text {
        "" => Ok(String::new()),
        text => Ok(format!("{:#x}", fields::address("asset", text).map_err(invalid)?)),
    }
}

fn told(credential: &CredentialKey) -> serde_json::Value {
    match credential {
        CredentialKey::ApiKey(prefix) => json!({"api_key": prefix}),
        CredentialKey::Certificate(spiffe) => json!({"certificate": spiffe.to_string()}),
        CredentialKey::Oidc { issuer, subject } => json!({"issuer": issuer, "subject": subject}),
    }
}

impl From<PrincipalRow> for wire::Principal {
    fn from(row: PrincipalRow) -> Self {
        let kind = messages::kind(row.kind);
        let grants = row.grants.iter().map(|(grant, managed)| messages::grant(grant, *managed));
        let credentials = row.credentials.into_iter().filter_map(|(credential, managed)| {
            let kind = match credential {
                CredentialKey::Certificate(spiffe) => Kind::SpiffeId(spiffe.to_string()),
                CredentialKey::Oidc { issuer, subject } => Kind::Oidc(wire::OidcIdentity { issuer, subject }),
                CredentialKey::ApiKey(_) => return None,
            };
            Some(wire::Credential { kind: Some(kind), managed })
        });
        Self {
            principal_id: row.id,
            kind: kind.into(),
            display_name: row.name,
            grants: grants.collect(),
            credentials: credentials.collect(),
            managed: row.managed,
            disabled_at: row.disabled_at.map(timestamp),
            created_at: Some(timestamp(row.created_at)),
            created_by: row.created_by,
            owner: row.owner.unwrap_or_default(),
        }
    }
}
