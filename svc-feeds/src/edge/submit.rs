//! Acceptance of updates: everything that the service finds for a publisher, and the place in the issuer's order.

use super::Write;
use crate::{
    app::{App, AppHandle},
    domain::update::{SubmitBatch, SubmitSigned, SubmitUpdate},
    flows::{
        batch::{BatchOrder, ItemTerms, SubmitBatchFlow},
        update::{SignedOrder, SubmitSignedFlow, SubmitUpdateFlow, UpdateOrder},
    },
    readers::{feeds::last_nonces, systems::require_identity},
    store::queue::take_places,
};
use alloy::primitives::Address;
use dalp_domain::{Admitted, chain::bounded};
use dalp_engine::AcceptHook;
use dalp_proto::feeds as proto;
use dalp_service::Refusal;
use tonic::Request;

/// Accepts one update.
pub(super) async fn update(app: &AppHandle, request: Request<proto::SubmitUpdateRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.feeds.v1.FeedService/SubmitUpdate", &request).await?;
    let command = SubmitUpdate::try_from(request.get_ref())?;
    require_wallets(&write, command.sender, command.signer).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let system = app.system(&tenant).await?;
        let issuer_identity = require_identity(&app.chain, &system, command.issuer).await?;
        let feeds = [command.observation.feed];
        let item = items(app, &tenant, issuer_identity, &feeds).await?.remove(0);
        let order = UpdateOrder {
            chain_id: app.chain.chain_id(),
            issuer_identity,
            topic_id: item.topic_id,
            schema_hash: item.schema_hash,
            nonce: item.nonce,
            command: command.clone(),
        };
        Ok((order, Some(places(app, &tenant, issuer_identity, feeds.to_vec()))))
    };
    write.accept::<SubmitUpdateFlow, _>(&command, order).await
}

/// Accepts updates for many feeds.
pub(super) async fn batch(app: &AppHandle, request: Request<proto::SubmitBatchRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.feeds.v1.FeedService/SubmitBatch", &request).await?;
    let command = SubmitBatch::try_from(request.get_ref())?;
    require_wallets(&write, command.sender, command.signer).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let system = app.system(&tenant).await?;
        let issuer_identity = require_identity(&app.chain, &system, command.issuer).await?;
        let feeds: Vec<Address> = command.observations.iter().map(|one| one.feed).collect();
        let order = BatchOrder {
            chain_id: app.chain.chain_id(),
            batch: system.batch,
            issuer_identity,
            items_per_transaction: app.batch_items,
            items: items(app, &tenant, issuer_identity, &feeds).await?,
            command: command.clone(),
        };
        Ok((order, Some(places(app, &tenant, issuer_identity, feeds))))
    };
    write.accept::<SubmitBatchFlow, _>(&command, order).await
}

/// Accepts an update that was signed outside. It stands in the order like the others, but waits for nobody: its nonce is what it is.
pub(super) async fn signed(
    app: &AppHandle,
    request: Request<proto::SubmitSignedUpdateRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.feeds.v1.FeedService/SubmitSignedUpdate", &request).await?;
    let command = SubmitSigned::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        app.signed_feed(&tenant, command.feed).await?;
        let order = SignedOrder { chain_id: app.chain.chain_id(), command: command.clone() };
        Ok((order, Some(places(app, &tenant, command.issuer, vec![command.feed]))))
    };
    write.accept::<SubmitSignedFlow, _>(&command, order).await
}

async fn require_wallets(write: &Write<'_>, sender: Address, signer: Address) -> Result<(), Refusal> {
    write.require_wallet(sender).await?;
    if signer != sender {
        write.require_wallet(signer).await?;
    }
    Ok(())
}

/// What the feeds are pinned to, and the nonce that stands next on each behind everything accepted before.
async fn items(app: &App, tenant: &str, issuer: Address, feeds: &[Address]) -> Result<Vec<ItemTerms>, Refusal> {
    let ahead = app.queue.ahead(tenant, issuer, feeds).await?;
    let pinned = bounded(feeds.iter().map(|feed| app.signed_feed(tenant, *feed))).await?;
    let pairs: Vec<(Address, Address)> = feeds.iter().map(|feed| (*feed, issuer)).collect();
    let last = last_nonces(&app.chain, &pairs).await?;
    let each = feeds.iter().zip(pinned).zip(last);
    each.map(|((feed, (terms, signed)), last)| {
        let before = ahead.get(feed).copied().unwrap_or_default();
        Ok(ItemTerms {
            topic_id: terms.pair.topic_id,
            schema_hash: signed.schema_hash,
            nonce: last?.saturating_add(1 + before),
        })
    })
    .collect()
}

/// Takes the places in the commit that accepts the updates.
fn places(app: &App, tenant: &str, issuer: Address, feeds: Vec<Address>) -> AcceptHook {
    let (tenant, chain_id) = (tenant.to_owned(), app.chain.chain_id());
    Box::new(move |connection, id| {
        Box::pin(async move { take_places(connection, &tenant, chain_id, issuer, id.0, &feeds).await })
    })
}
