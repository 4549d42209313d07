//! Features of assets: what there are, attaching and detaching.

use super::{Admitted, Write, catalogue, rules::wire_reasons, terms_messages::wire_feature_kind};
use crate::{
    app::{App, AppHandle},
    domain::{
        asset::{AssetRole, Right},
        feature::{AttachFeature, DetachFeature, FeatureKind},
    },
    flows::features::{AttachFeatureFlow, AttachFeatureOrder, DetachFeatureFlow, DetachFeatureOrder},
    readers::{assets, bounded, modules},
};
use alloy::primitives::{Address, Bytes, U256};
use dalp_contracts::bindings::AssetToken;
use dalp_proto::compliance as proto;
use dalp_service::{Reason, Refusal};
use tonic::Request;

pub(super) async fn attach(
    app: &AppHandle,
    request: Request<proto::AttachFeatureRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.compliance.v1.ComplianceService/AttachFeature", &request).await?;
    let command = AttachFeature::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let AttachFeature { sender, asset, ref feature } = command;
        let kind = feature.kind();
        app.require_asset(&tenant, asset).await?;
        assets::require_right(&app.chain, asset, sender, Right::Role(AssetRole::Governance)).await?;
        if let Some(module) = modules::feature(&app.chain, asset, kind).await? {
            let message = format!("the asset has {} already; SetFeatureParameters changes it", kind.contract());
            return Err(Refusal::new(Reason::AlreadyExists, message).meta("module", module.to_checksum(None)));
        }
        let (module, params, roles) = match kind {
            FeatureKind::VotingPower => (None, Bytes::new(), U256::ZERO),
            FeatureKind::ManagementFee | FeatureKind::TransactionFee => {
                let system = app.system(&tenant).await?;
                let module = modules::require(&app.chain, &system, kind.contract()).await?;
                let params = modules::accepted_feature(&app.chain, module, feature, "feature").await?;
                let held = assets::roles_among(&app.chain, asset, module, kind.roles()).await?;
                (Some(module), params, kind.roles() & !held)
            }
        };
        require_admin_for(app, asset, sender, roles).await?;
        let compliance = app.chain.read(asset, AssetToken::complianceCall {}).await?;
        let chain_id = app.chain.chain_id();
        Ok((AttachFeatureOrder { chain_id, compliance, module, params, roles, command: command.clone() }, None))
    };
    write.accept::<AttachFeatureFlow, _>(&command, order).await
}

pub(super) async fn detach(
    app: &AppHandle,
    request: Request<proto::DetachFeatureRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.compliance.v1.ComplianceService/DetachFeature", &request).await?;
    let command = DetachFeature::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let DetachFeature { sender, asset, feature } = command;
        app.require_asset(&tenant, asset).await?;
        assets::require_right(&app.chain, asset, sender, Right::Role(AssetRole::Governance)).await?;
        let target = modules::attached(&app.chain, asset, feature).await?;
        let roles = assets::roles_among(&app.chain, asset, target.module, feature.roles()).await?;
        require_admin_for(app, asset, sender, roles).await?;
        let order = DetachFeatureOrder {
            chain_id: app.chain.chain_id(),
            compliance: target.compliance,
            module: target.module,
            roles,
            command: command.clone(),
        };
        Ok((order, None))
    };
    write.accept::<DetachFeatureFlow, _>(&command, order).await
}

/// Every feature there is.
pub(super) async fn list(app: &App, tenant: &str) -> Result<proto::ListFeaturesResponse, Refusal> {
    let system = app.system(tenant).await?;
    let listed = bounded(FeatureKind::ALL.map(|kind| {
        let system = system.clone();
        async move {
            let module = match kind {
                FeatureKind::VotingPower => None,
                _ => modules::listed(&app.chain, &system, kind.contract()).await?,
            };
            Ok((kind, module))
        }
    }));
    let features = listed.await?.into_iter().map(|(kind, module)| proto::FeatureModule {
        kind: wire_feature_kind(kind).into(),
        name: kind.contract().to_owned(),
        module: module.map(|module| module.to_checksum(None)).unwrap_or_default(),
        purpose: kind.purpose().to_owned(),
        parameters: catalogue::fields_of_feature(kind.field()),
        reasons: wire_reasons(kind.reasons()),
    });
    Ok(proto::ListFeaturesResponse { features: features.collect() })
}

/// Only the asset's admin changes who holds a role.
async fn require_admin_for(app: &App, asset: Address, sender: Address, roles: U256) -> Result<(), Refusal> {
    match roles.is_zero() {
        true => Ok(()),
        false => assets::require_right(&app.chain, asset, sender, Right::Owner).await,
    }
}
