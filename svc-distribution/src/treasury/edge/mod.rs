//! The gRPC edge of treasuries: message to command, object-level right, acceptance. No proto type passes beyond this module.

mod answers;
mod export;
mod messages;
mod reads;
mod runs;
mod schedules;
mod service;
mod writes;

pub(crate) use service::TreasuryEdge;

use super::store::{runs::StoredRun, treasuries::StoredTreasury};
use crate::app::App;
use alloy::primitives::Address;
use dalp_domain::Rights;
use dalp_service::{Caller, Reason, Refusal, fields};

/// What a write knows before its message is read.
type Write<'a> = dalp_domain::Write<'a, App>;

/// An address of a read.
fn address(path: &str, text: &str) -> Result<Address, Refusal> {
    Ok(fields::nonzero_address(path, text)?)
}

/// A treasury of the tenant.
async fn treasury_of(app: &App, tenant: &str, treasury: Address) -> Result<StoredTreasury, Refusal> {
    app.store.treasury(tenant, app.chain.chain_id(), treasury).await?.ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the tenant has no such treasury").meta("treasury", treasury.to_checksum(None))
    })
}

/// Refuses whoever may not use the wallet that a schedule or a run sends with. A disabled one sends nothing any more, so it guards nothing:
/// otherwise nobody could put another in its place.
async fn require_current(rights: &Rights, caller: &Caller, sender: Address) -> Result<(), Refusal> {
    match rights.require_wallet(caller, sender).await {
        Err(refusal) if refusal.reason() == Reason::KeyDisabled => Ok(()),
        other => other.map(drop),
    }
}

/// A run of a treasury of the tenant.
async fn run_of(app: &App, tenant: &str, treasury: &str, run: u32) -> Result<(StoredTreasury, StoredRun), Refusal> {
    let treasury = treasury_of(app, tenant, address("treasury", treasury)?).await?;
    let found = app.store.run(app.chain.chain_id(), treasury.treasury, run).await?;
    let found = found.ok_or_else(|| Refusal::new(Reason::NotFound, "the treasury has no such run").meta("run", run))?;
    Ok((treasury, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_domain::rights::{KeyRecord, Keys};

    struct OneKey(bool);

    #[async_trait::async_trait]
    impl Keys for OneKey {
        async fn key(&self, _: &str, _: Address) -> Result<KeyRecord, Refusal> {
            Ok(KeyRecord { owner: "alice".into(), disabled: self.0 })
        }
    }

    #[tokio::test]
    async fn a_wallet_is_guarded_until_it_is_disabled() {
        let asked = async |principal: &str, disabled| {
            let caller =
                Caller { tenant: "acme".parse().unwrap(), principal: principal.parse().unwrap(), roles: vec![] };
            require_current(&Rights::new(Box::new(OneKey(disabled))), &caller, Address::repeat_byte(1)).await
        };
        assert!(asked("alice", false).await.is_ok());
        assert_eq!(asked("bob", false).await.unwrap_err().reason(), Reason::WalletNotOwned);
        assert!(asked("bob", true).await.is_ok());
    }
}
