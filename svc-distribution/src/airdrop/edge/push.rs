//! Beginning and pausing a push.

use super::{address, airdrop_of, reads::progress};
use crate::{
    airdrop::{
        push::{LEAST_ROW_GAS, SAMPLE, push_call},
        readers,
        store::{
            airdrops::StoredAirdrop,
            pushes::{NewPush, PushState},
        },
        terms::Kind,
    },
    app::App,
    passes::rows_per_batch,
    readers::registry_of,
};
use alloy::primitives::Address;
use dalp_proto::distribution as proto;
use dalp_service::{Caller, Reason, Refusal};

/// Begins a push, or lets it go on.
pub(super) async fn begin(
    app: &App,
    caller: &Caller,
    request: &proto::PushAirdropRequest,
) -> Result<proto::AirdropProgress, Refusal> {
    let (sender, airdrop) = (address("sender", &request.sender)?, address("airdrop", &request.airdrop)?);
    let (tenant, chain_id) = (caller.tenant.as_str(), app.chain.chain_id());
    let airdrop = airdrop_of(app, tenant, airdrop).await?;
    if airdrop.terms.kind != Kind::Push {
        return Err(Refusal::new(Reason::FailedPrecondition, "the airdrop is not pushed: recipients claim from it"));
    }
    app.rights.require_wallet(caller, sender).await?;
    let latest = app.store.push(chain_id, airdrop.airdrop).await?;
    match latest.filter(|push| matches!(push.state, PushState::Running | PushState::Paused)) {
        // Its batches stand under keys that are for their sender, too.
        Some(push) if push.sender != sender => {
            return Err(Refusal::new(
                Reason::FailedPrecondition,
                "the push goes on with the wallet that it began with",
            )
            .meta("sender", push.sender.to_checksum(None)));
        }
        Some(_) => app.store.resume_push(chain_id, airdrop.airdrop).await?,
        None => {
            let new = NewPush {
                tenant: tenant.to_owned(),
                airdrop: airdrop.airdrop,
                principal: caller.principal.as_str().to_owned(),
                sender,
                rows_per_batch: measure(app, &airdrop, sender).await?,
            };
            app.store.begin_push(chain_id, &new).await?;
        }
    }
    app.pusher.wake();
    progress(app, &airdrop).await
}

/// Hands nothing further over.
pub(super) async fn pause(
    app: &App,
    caller: &Caller,
    request: &proto::PauseAirdropRequest,
) -> Result<proto::AirdropProgress, Refusal> {
    let airdrop = airdrop_of(app, caller.tenant.as_str(), address("airdrop", &request.airdrop)?).await?;
    app.store.pause_push(app.chain.chain_id(), airdrop.airdrop).await?;
    progress(app, &airdrop).await
}

/// Rows of a batch, measured on the first ones that are not paid. Refuses a push that could not pay them.
async fn measure(app: &App, airdrop: &StoredAirdrop, sender: Address) -> Result<u32, Refusal> {
    let (chain_id, list) = (app.chain.chain_id(), (airdrop.list_id, airdrop.parts));
    let unpaid = app.store.unpaid(chain_id, airdrop.airdrop, airdrop.list_id).await?;
    let sample = app.store.unpaid_rows(chain_id, airdrop.airdrop, list, 0, SAMPLE).await?;
    let Some(first) = sample.first() else {
        return Err(Refusal::new(Reason::FailedPrecondition, "every recipient of the airdrop is paid"));
    };
    let (first, count) = airdrop.parts.of_row(first.place);
    let part = app.store.rows(airdrop.list_id, first, count).await?;
    let places: Vec<u64> = sample.iter().map(|row| row.place).collect();
    let gas = readers::push_gas(&app.chain, sender, airdrop.airdrop, push_call(first, &part, &places)).await?;
    let registry = registry_of(&app.chain, airdrop.terms.asset).await?;
    let standing = readers::standing(&app.chain, registry, airdrop.terms.asset, airdrop.airdrop).await?;
    if standing.balance < unpaid.amount {
        if app.store.indexed_head(chain_id).await? < Some(standing.at.number) {
            let text = "what the airdrop has paid lately is not indexed yet, so what it still has to pay is not known";
            return Err(Refusal::new(Reason::BlockNotIndexed, text).meta("block", standing.at.number));
        }
        return Err(Refusal::new(Reason::TreasuryUnderfunded, "the airdrop holds less than it is to pay")
            .meta("needed", unpaid.amount)
            .meta("available", standing.balance));
    }
    Ok(rows_per_batch(gas, places.len(), app.limits.batch_gas, LEAST_ROW_GAS))
}
