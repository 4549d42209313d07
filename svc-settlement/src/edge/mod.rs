//! The gRPC edge: message to command, object-level right, acceptance. No proto type passes beyond this module.

mod answers;
mod evidence;
mod messages;
mod pairs;
mod preview;
mod reads;
mod service;
mod stream;
mod writes;

use crate::{
    app::{App, AppHandle},
    store::settlements::StoredSettlement,
};
use alloy::primitives::B256;
use dalp_proto::{
    operator::probe_service_server::{ProbeService, ProbeServiceServer},
    settlement::settlement_service_server::SettlementServiceServer,
};
use dalp_service::{Reason, Refusal, fields, server::Routes};

/// What a write knows before its message is read.
type Write<'a> = dalp_domain::Write<'a, App>;

pub(crate) fn routes(app: &AppHandle) -> Routes {
    Routes::new(SettlementServiceServer::new(service::SettlementEdge::new(app.clone()))).add_service(probe(app.clone()))
}

/// What the gateway asks of our nodes.
fn probe(app: AppHandle) -> ProbeServiceServer<impl ProbeService> {
    dalp_engine::probe::server(move || Ok(app.get()?.engine.clone()))
}

/// A settlement of the tenant, on whatever chain it stands.
async fn settlement_of(app: &App, tenant: &str, id: B256) -> Result<StoredSettlement, Refusal> {
    if let Some(stored) = app.store.settlement(tenant, id).await? {
        return Ok(stored);
    }
    // From here on the index follows the tenant's contracts, also where nothing was opened through the platform.
    app.contracts(tenant, app.chain.chain_id()).await?;
    for further in app.chains.keys().filter(|chain_id| **chain_id != app.chain.chain_id()) {
        match app.contracts(tenant, *further).await {
            Err(refusal) if refusal.reason() != Reason::SystemNotBootstrapped => return Err(refusal),
            _ => {}
        }
    }
    app.store.settlement(tenant, id).await?.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the tenant has no such settlement").meta("settlement_id", answers::id(id))
    })
}

/// An identifier of a read.
fn id(text: &str) -> Result<B256, Refusal> {
    Ok(fields::bytes32("settlement_id", text)?)
}
