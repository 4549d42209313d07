//! The gRPC edge: message to command, object-level right, acceptance. No proto type passes beyond this module.

mod asset;
mod asset_messages;
mod catalogue;
mod command;
mod compliance;
mod compliance_messages;
mod expressions;
mod features;
mod holder;
mod identity;
mod identity_messages;
mod recovery;
mod roles;
mod rule_messages;
mod rules;
mod simulation;
mod system;
mod system_messages;
mod templates;
mod terms_messages;

use crate::{
    app::{App, AppHandle},
    domain::{ViolationKind, Violations},
};
use alloy::primitives::Address;
use dalp_domain::{
    Admitted,
    pages::{bad_page_token, page_size},
};
use dalp_proto::{
    asset::asset_service_server::AssetServiceServer,
    compliance::compliance_service_server::ComplianceServiceServer,
    holder::holder_service_server::HolderServiceServer,
    identity::identity_service_server::IdentityServiceServer,
    operator::probe_service_server::{ProbeService, ProbeServiceServer},
    system::system_service_server::SystemServiceServer,
};
use dalp_service::{Reason, Refusal, server::Routes};

/// Every service of this process.
pub(crate) fn routes(app: &AppHandle) -> Routes {
    Routes::new(SystemServiceServer::new(system::SystemEdge::new(app.clone())))
        .add_service(IdentityServiceServer::new(identity::IdentityEdge::new(app.clone())))
        .add_service(AssetServiceServer::new(asset::AssetEdge::new(app.clone())))
        .add_service(ComplianceServiceServer::new(compliance::ComplianceEdge::new(app.clone())))
        .add_service(HolderServiceServer::new(holder::HolderEdge::new(app.clone())))
        .add_service(crate::wallet::edge::server(app))
        .add_service(probe(app.clone()))
}

/// What the gateway asks of our nodes.
fn probe(app: AppHandle) -> ProbeServiceServer<impl ProbeService> {
    dalp_engine::probe::server(move || Ok(app.get()?.engine.clone()))
}

/// What a write knows before its message is read.
type Write<'a> = dalp_domain::Write<'a, App>;

impl From<Violations> for Refusal {
    fn from(violations: Violations) -> Self {
        let reason = match violations.kind() {
            ViolationKind::Field => Reason::InvalidField,
            ViolationKind::ModuleParameters => Reason::ModuleParametersInvalid,
            ViolationKind::Template => Reason::TemplateUnknown,
        };
        let message = match violations.0.as_slice() {
            [one] => format!("{}: {}", one.field, one.description),
            many => format!("{} fields are not valid", many.len()),
        };
        violations
            .0
            .into_iter()
            .fold(Self::new(reason, message), |refusal, one| refusal.field(one.field, one.description))
    }
}

/// The block that a question is about; 0 is the newest indexed one.
async fn block_of(app: &App, asked: u64) -> Result<u64, Refusal> {
    let head = app.store.indexed_head(app.chain.chain_id()).await?;
    match (asked, head) {
        (0, Some(head)) => Ok(head),
        (asked, Some(head)) if asked <= head => Ok(asked),
        (_, head) => Err(Refusal::new(Reason::BlockNotIndexed, "the block is not indexed yet")
            .meta("indexed_block", head.unwrap_or_default())),
    }
}

/// The block and the place of a page in a list by address. The token carries the block, so that all pages of a list hold for the
/// same one.
async fn page_at(app: &App, block_number: u64, token: &str) -> Result<(u64, Option<Address>), Refusal> {
    if token.is_empty() {
        return Ok((block_of(app, block_number).await?, None));
    }
    let (block, after) = token.split_once('-').ok_or_else(bad_page_token)?;
    let block = block.parse().map_err(|_| bad_page_token())?;
    Ok((block_of(app, block).await?, Some(after.parse().map_err(|_| bad_page_token())?)))
}

/// The token of the page behind an address.
fn page_token(block: u64, last: Address) -> String {
    format!("{block}-{last:#x}")
}

/// An address field of a read.
fn read_address(field: &str, text: &str) -> Result<Address, Refusal> {
    let mut violations = Violations::new();
    let address = violations.address(field, text);
    Ok(violations.into_result(address)?)
}
