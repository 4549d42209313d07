//! The gRPC edge of sales: message to command, object-level right, acceptance. No proto type passes beyond this module.

mod answers;
mod messages;
mod quote;
mod reads;
mod service;
mod writes;

pub(crate) use service::OfferingEdge;

use super::store::offerings::StoredOffering;
use crate::app::App;
use alloy::primitives::Address;
use dalp_service::{Reason, Refusal, fields};

/// What a write knows before its message is read.
type Write<'a> = dalp_domain::Write<'a, App>;

/// An address of a read.
fn address(path: &str, text: &str) -> Result<Address, Refusal> {
    Ok(fields::nonzero_address(path, text)?)
}

/// A sale of the tenant.
async fn offering_of(app: &App, tenant: &str, offering: Address) -> Result<StoredOffering, Refusal> {
    app.store.offering(tenant, app.chain.chain_id(), offering).await?.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the tenant has no such sale").meta("offering", offering.to_checksum(None))
    })
}
