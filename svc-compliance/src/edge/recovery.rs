//! Recovery of lost wallets, a part of the identity service.

use super::{Admitted, Write};
use crate::{
    app::{App, AppHandle},
    domain::identity::{PreviewRecovery, RecoverWallet},
    flows::recovery::{RecoverWalletFlow, RecoverWalletOrder},
    readers::recovery::{self, Recovery, RecoveryView},
    store::audit,
};
use alloy::primitives::Address;
use dalp_engine::AcceptHook;
use dalp_proto::identity as proto;
use dalp_service::{Caller, Refusal};
use tonic::Request;

pub(super) async fn recover(
    app: &AppHandle,
    request: Request<proto::RecoverWalletRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.identity.v1.IdentityService/RecoverWallet", &request).await?;
    let command = RecoverWallet::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let principal = write.caller.principal.as_str().to_owned();
    let order = async {
        let system = app.system(&tenant).await?;
        let RecoverWallet { sender, lost_wallet, new_wallet, ref assets, .. } = command;
        let candidates = candidates(app, &tenant, lost_wallet, assets).await?;
        let recovery = Recovery { sender: Some(sender), lost_wallet, new_wallet };
        let found = recovery::view(&app.chain, &system, recovery, candidates).await?;
        let obstacles = found.obstacles.len();
        if let Some(first) = found.obstacles.into_iter().next() {
            return Err(first.meta("obstacles", obstacles));
        }
        let order = RecoverWalletOrder {
            chain_id: app.chain.chain_id(),
            registry: system.identity_registry,
            identity: found.identity.unwrap_or_default(),
            registered: found.registered,
            assets: found.assets.iter().map(|asset| asset.asset).collect(),
            command: command.clone(),
        };
        let recorded = order.clone();
        let hook: AcceptHook = Box::new(move |connection, id| {
            Box::pin(async move { audit::recovery(connection, &tenant, &principal, id.0, &recorded).await })
        });
        Ok((order, Some(hook)))
    };
    write.accept::<RecoverWalletFlow, _>(&command, order).await
}

pub(super) async fn preview(
    app: &AppHandle,
    request: Request<proto::PreviewRecoveryRequest>,
) -> Result<proto::PreviewRecoveryResponse, Refusal> {
    let caller = Caller::from_request(&request)?;
    let PreviewRecovery { sender, lost_wallet, new_wallet, assets } = PreviewRecovery::try_from(request.get_ref())?;
    let (app, tenant) = (app.get()?, caller.tenant.as_str());
    let system = app.system(tenant).await?;
    let candidates = candidates(app, tenant, lost_wallet, &assets).await?;
    let recovery = Recovery { sender, lost_wallet, new_wallet };
    Ok(to_wire(recovery::view(&app.chain, &system, recovery, candidates).await?))
}

/// The assets to look at: those that are named, else every one in which the wallet ever had something.
async fn candidates(app: &App, tenant: &str, lost_wallet: Address, named: &[Address]) -> Result<Vec<Address>, Refusal> {
    if named.is_empty() {
        app.indexed_up_to(app.chain.latest().await?.number).await?;
        return Ok(app.store.assets_of_holder(tenant, app.chain.chain_id(), lost_wallet).await?);
    }
    for asset in named {
        app.require_asset(tenant, *asset).await?;
    }
    Ok(named.to_vec())
}

fn to_wire(view: RecoveryView) -> proto::PreviewRecoveryResponse {
    proto::PreviewRecoveryResponse {
        identity: view.identity.map(|identity| identity.to_checksum(None)).unwrap_or_default(),
        country: view.country.into(),
        registry_recovered: view.identity.is_some() && !view.registered,
        assets: view
            .assets
            .into_iter()
            .map(|asset| proto::RecoverableAsset {
                asset: asset.asset.to_checksum(None),
                balance: asset.balance.to_string(),
                frozen: asset.frozen.to_string(),
                held: asset.held.to_string(),
                address_frozen: asset.address_frozen,
            })
            .collect(),
        obstacles: view
            .obstacles
            .into_iter()
            .map(|obstacle| proto::RecoveryObstacle {
                reason: obstacle.reason().as_str().to_owned(),
                message: obstacle.message().to_owned(),
                metadata: obstacle.metadata().iter().cloned().collect(),
            })
            .collect(),
        block_number: view.block_number,
    }
}
