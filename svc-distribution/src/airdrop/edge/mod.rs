//! The gRPC edge of airdrops: message to command, object-level right, acceptance. No proto type passes beyond this module.

mod answers;
mod messages;
mod push;
mod reads;
mod service;
mod stream;
mod upload;
mod writes;

pub(crate) use service::AirdropEdge;

use super::store::airdrops::StoredAirdrop;
use crate::app::App;
use alloy::primitives::Address;
use dalp_service::{Reason, Refusal, fields};

/// What a write knows before its message is read.
type Write<'a> = dalp_domain::Write<'a, App>;

/// An address of a read.
fn address(path: &str, text: &str) -> Result<Address, Refusal> {
    Ok(fields::nonzero_address(path, text)?)
}

/// An airdrop of the tenant.
async fn airdrop_of(app: &App, tenant: &str, airdrop: Address) -> Result<StoredAirdrop, Refusal> {
    app.store.airdrop(tenant, app.chain.chain_id(), airdrop).await?.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the tenant has no such airdrop").meta("airdrop", airdrop.to_checksum(None))
    })
}
