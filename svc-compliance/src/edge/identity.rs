//! The identity service.

use super::{Admitted, Write, read_address, recovery};
use crate::{
    app::{App, AppHandle},
    domain::{
        identity::{
            AddTrustedIssuer, ChangeKey, IssueClaim, RegisterIdentity, RegisterTopic, RemoveTrustedIssuer, RevokeClaim,
        },
        system::SystemRole,
    },
    flows::{
        claims::{IssueClaimFlow, IssueClaimOrder, RevokeClaimFlow, RevokeClaimOrder},
        identities::{AddKeyFlow, ChangeKeyOrder, RegisterIdentityFlow, RegisterIdentityOrder, RemoveKeyFlow},
        trust::{AddTrustedIssuerFlow, RegisterTopicFlow, RegistryOrder, RemoveTrustedIssuerFlow},
    },
    readers::{
        identities::{self, claim_digest, identity_of, require_identity, require_topic, topic_exists},
        systems::require_role,
    },
    store::systems::{self, SystemAddresses},
};
use alloy::primitives::Address;
use dalp_engine::{AcceptHook, Flow};
use dalp_proto::identity::{self as proto, identity_service_server::IdentityService};
use dalp_service::{Caller, Reason, Refusal};
use tonic::{Request, Response, Status};

/// Serves `dalp.identity.v1.IdentityService`.
pub(super) struct IdentityEdge {
    app: AppHandle,
}

impl IdentityEdge {
    pub(super) fn new(app: AppHandle) -> Self {
        Self { app }
    }

    async fn register(&self, request: Request<proto::RegisterIdentityRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.identity.v1.IdentityService/RegisterIdentity", &request).await?;
        let command = RegisterIdentity::try_from(request.get_ref())?;
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let system = app.system(&tenant).await?;
            require_role(&app.chain, &system, command.sender, SystemRole::IdentityManager).await?;
            if let Some(identity) = identity_of(&app.chain, &system, command.wallet).await? {
                return Err(Refusal::new(Reason::IdentityExists, "the wallet has an identity already")
                    .meta("identity", identity.to_checksum(None)));
            }
            identities::require_not_recovered(&app.chain, &system, command.wallet).await?;
            let order = RegisterIdentityOrder {
                chain_id: app.chain.chain_id(),
                identity_factory: system.identity_factory,
                command: command.clone(),
            };
            Ok((order, None))
        };
        write.accept::<RegisterIdentityFlow, _>(&command, order).await
    }

    async fn change_key<F: Flow<Order = ChangeKeyOrder>>(
        &self,
        write: Write<'_>,
        command: ChangeKey,
    ) -> Result<Admitted, Refusal> {
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let system = app.system(&tenant).await?;
            let identity = require_identity(&app.chain, &system, command.wallet).await?;
            if !identities::manages(&app.chain, identity, command.sender).await? {
                return Err(Refusal::new(Reason::RoleMissing, "the sender holds no management key of the identity")
                    .meta("role", "management_key")
                    .meta("account", command.sender.to_checksum(None))
                    .meta("identity", identity.to_checksum(None))
                    .meta("granted_by", "IdentityService.AddKey, from a wallet with a management key"));
            }
            Ok((ChangeKeyOrder { chain_id: app.chain.chain_id(), identity, command: command.clone() }, None))
        };
        write.accept::<F, _>(&command, order).await
    }

    async fn issue(&self, request: Request<proto::IssueClaimRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.identity.v1.IdentityService/IssueClaim", &request).await?;
        let command = IssueClaim::try_from(request.get_ref())?;
        write.require_wallet(command.issuer).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let system = app.system(&tenant).await?;
            let (issuer_identity, subject_identity, ()) = futures::try_join!(
                require_identity(&app.chain, &system, command.issuer),
                identities::subject(&app.chain, &system, command.subject),
                require_topic(&app.chain, &system, &command.topic),
            )?;
            Ok((
                IssueClaimOrder {
                    chain_id: app.chain.chain_id(),
                    issuer_identity,
                    subject_identity,
                    command: command.clone(),
                },
                None,
            ))
        };
        write.accept::<IssueClaimFlow, _>(&command, order).await
    }

    async fn revoke(&self, request: Request<proto::RevokeClaimRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.identity.v1.IdentityService/RevokeClaim", &request).await?;
        let command = RevokeClaim::try_from(request.get_ref())?;
        write.require_wallet(command.issuer).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let system = app.system(&tenant).await?;
            let issuer_identity = require_identity(&app.chain, &system, command.issuer).await?;
            let subject_identity = identities::subject(&app.chain, &system, command.subject).await?;
            let digest = claim_digest(&app.chain, subject_identity, issuer_identity, &command.topic).await?;
            Ok((
                RevokeClaimOrder { chain_id: app.chain.chain_id(), issuer_identity, digest, command: command.clone() },
                None,
            ))
        };
        write.accept::<RevokeClaimFlow, _>(&command, order).await
    }

    async fn topic(&self, request: Request<proto::RegisterTopicRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.identity.v1.IdentityService/RegisterTopic", &request).await?;
        let command = RegisterTopic::try_from(request.get_ref())?;
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let (system, chain_id) = (app.system(&tenant).await?, app.chain.chain_id());
            require_role(&app.chain, &system, command.sender, SystemRole::ClaimPolicyManager).await?;
            if topic_exists(&app.chain, &system, &command.name).await? {
                return Err(Refusal::new(Reason::AlreadyExists, "the topic is registered already")
                    .meta("topic", command.name.as_str()));
            }
            // The chain knows only the hash, so the name is kept for readers.
            let (owner, name) = (tenant.clone(), command.name.clone());
            let hook: AcceptHook = Box::new(move |connection, _| {
                Box::pin(async move { systems::put_topic(connection, &owner, chain_id, &name).await })
            });
            let order = RegistryOrder {
                chain_id,
                registry: system.topic_scheme_registry,
                issuer_identity: Address::ZERO,
                command: command.clone(),
            };
            Ok((order, Some(hook)))
        };
        write.accept::<RegisterTopicFlow, _>(&command, order).await
    }

    async fn trust(&self, request: Request<proto::AddTrustedIssuerRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.identity.v1.IdentityService/AddTrustedIssuer", &request).await?;
        let command = AddTrustedIssuer::try_from(request.get_ref())?;
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let system = app.system(&tenant).await?;
            for topic in &command.topics {
                require_topic(&app.chain, &system, topic).await?;
            }
            Ok((registry_order(app, &system, command.sender, command.issuer, &command).await?, None))
        };
        write.accept::<AddTrustedIssuerFlow, _>(&command, order).await
    }

    async fn distrust(&self, request: Request<proto::RemoveTrustedIssuerRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.identity.v1.IdentityService/RemoveTrustedIssuer", &request).await?;
        let command = RemoveTrustedIssuer::try_from(request.get_ref())?;
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let system = app.system(&tenant).await?;
            Ok((registry_order(app, &system, command.sender, command.issuer, &command).await?, None))
        };
        write.accept::<RemoveTrustedIssuerFlow, _>(&command, order).await
    }
}

/// An order to the registry about an issuer, from a sender who may decide on trust.
async fn registry_order<C: Clone>(
    app: &App,
    system: &SystemAddresses,
    sender: Address,
    issuer: Address,
    command: &C,
) -> Result<RegistryOrder<C>, Refusal> {
    require_role(&app.chain, system, sender, SystemRole::ClaimPolicyManager).await?;
    let issuer_identity = require_identity(&app.chain, system, issuer).await?;
    Ok(RegistryOrder {
        chain_id: app.chain.chain_id(),
        registry: system.identity_registry,
        issuer_identity,
        command: command.clone(),
    })
}

#[tonic::async_trait]
impl IdentityService for IdentityEdge {
    async fn register_identity(
        &self,
        request: Request<proto::RegisterIdentityRequest>,
    ) -> Result<Response<proto::RegisterIdentityResponse>, Status> {
        Ok(self.register(request).await?.respond(|operation| proto::RegisterIdentityResponse { operation }))
    }

    async fn add_key(&self, request: Request<proto::AddKeyRequest>) -> Result<Response<proto::AddKeyResponse>, Status> {
        let write = Write::begin(&self.app, "dalp.identity.v1.IdentityService/AddKey", &request).await?;
        let command = ChangeKey::try_from(request.get_ref()).map_err(Refusal::from)?;
        Ok(self
            .change_key::<AddKeyFlow>(write, command)
            .await?
            .respond(|operation| proto::AddKeyResponse { operation }))
    }

    async fn remove_key(
        &self,
        request: Request<proto::RemoveKeyRequest>,
    ) -> Result<Response<proto::RemoveKeyResponse>, Status> {
        let write = Write::begin(&self.app, "dalp.identity.v1.IdentityService/RemoveKey", &request).await?;
        let command = ChangeKey::try_from(request.get_ref()).map_err(Refusal::from)?;
        Ok(self
            .change_key::<RemoveKeyFlow>(write, command)
            .await?
            .respond(|operation| proto::RemoveKeyResponse { operation }))
    }

    async fn issue_claim(
        &self,
        request: Request<proto::IssueClaimRequest>,
    ) -> Result<Response<proto::IssueClaimResponse>, Status> {
        Ok(self.issue(request).await?.respond(|operation| proto::IssueClaimResponse { operation }))
    }

    async fn revoke_claim(
        &self,
        request: Request<proto::RevokeClaimRequest>,
    ) -> Result<Response<proto::RevokeClaimResponse>, Status> {
        Ok(self.revoke(request).await?.respond(|operation| proto::RevokeClaimResponse { operation }))
    }

    async fn register_topic(
        &self,
        request: Request<proto::RegisterTopicRequest>,
    ) -> Result<Response<proto::RegisterTopicResponse>, Status> {
        Ok(self.topic(request).await?.respond(|operation| proto::RegisterTopicResponse { operation }))
    }

    async fn add_trusted_issuer(
        &self,
        request: Request<proto::AddTrustedIssuerRequest>,
    ) -> Result<Response<proto::AddTrustedIssuerResponse>, Status> {
        Ok(self.trust(request).await?.respond(|operation| proto::AddTrustedIssuerResponse { operation }))
    }

    async fn remove_trusted_issuer(
        &self,
        request: Request<proto::RemoveTrustedIssuerRequest>,
    ) -> Result<Response<proto::RemoveTrustedIssuerResponse>, Status> {
        Ok(self.distrust(request).await?.respond(|operation| proto::RemoveTrustedIssuerResponse { operation }))
    }

    async fn recover_wallet(
        &self,
        request: Request<proto::RecoverWalletRequest>,
    ) -> Result<Response<proto::RecoverWalletResponse>, Status> {
        let admitted = recovery::recover(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::RecoverWalletResponse { operation }))
    }

    async fn preview_recovery(
        &self,
        request: Request<proto::PreviewRecoveryRequest>,
    ) -> Result<Response<proto::PreviewRecoveryResponse>, Status> {
        Ok(Response::new(recovery::preview(&self.app, request).await?))
    }

    async fn get_identity(
        &self,
        request: Request<proto::GetIdentityRequest>,
    ) -> Result<Response<proto::GetIdentityResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        let wallet = read_address("wallet", &request.get_ref().wallet)?;
        let (app, tenant) = (self.app.get()?, caller.tenant.as_str());
        let system = app.system(tenant).await?;
        let topics = app.store.topics(tenant, app.chain.chain_id()).await.map_err(Refusal::from)?;
        let view = identities::view(&app.chain, &system, wallet, &topics).await?;
        let view = view.ok_or_else(|| {
            Refusal::new(Reason::IdentityNotFound, "the wallet has no identity in the tenant's registry")
        })?;
        let claims = view
            .claims
            .into_iter()
            .map(|claim| proto::Claim {
                claim_id: claim.claim_id.to_string(),
                topic: format!("{:#066x}", claim.topic),
                issuer: claim.issuer.to_checksum(None),
                data: claim.data.to_string(),
                expires_at: claim.expires_at,
                live: claim.live,
            })
            .collect();
        let identity = proto::Identity {
            wallet: wallet.to_checksum(None),
            identity: view.identity.to_checksum(None),
            country: view.country.into(),
            claims,
        };
        Ok(Response::new(proto::GetIdentityResponse { identity: Some(identity) }))
    }
}
