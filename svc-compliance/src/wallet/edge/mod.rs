//! The gRPC edge of smart wallets: message to command, right, acceptance. No proto type passes beyond this module.

mod answers;
mod messages;
mod reads;
mod service;
mod writes;

use crate::{
    app::{App, AppHandle},
    wallet::store::{operations::StoredUserOperation, wallets::StoredWallet},
};
use alloy::primitives::Address;
use dalp_proto::wallet::smart_wallet_service_server::SmartWalletServiceServer;
use dalp_service::{Reason, Refusal};
use uuid::Uuid;

pub(crate) use writes::already_approved;

/// The refusal of what comes too late, where nobody knows any more what it has become.
pub(crate) fn closed() -> Refusal {
    writes::closed(None)
}

/// What a write knows before its message is read.
type Write<'a> = dalp_domain::Write<'a, App>;

/// The service, over an app that may come up later.
pub(crate) fn server(app: &AppHandle) -> SmartWalletServiceServer<service::SmartWalletEdge> {
    SmartWalletServiceServer::new(service::SmartWalletEdge::new(app.clone()))
}

/// A wallet of the tenant.
async fn wallet_of(app: &App, tenant: &str, wallet: Address) -> Result<StoredWallet, Refusal> {
    app.store.wallet(tenant, app.chain.chain_id(), wallet).await?.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the tenant has no such smart wallet").meta("wallet", wallet.to_checksum(None))
    })
}

/// A user operation of the tenant.
async fn user_operation_of(app: &App, tenant: &str, id: Uuid) -> Result<StoredUserOperation, Refusal> {
    app.store.user_operation(tenant, id).await?.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the tenant has no such user operation").meta("user_operation_id", id)
    })
}
