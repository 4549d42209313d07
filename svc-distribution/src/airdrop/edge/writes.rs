//! Claims, releases and withdrawals: command, right, acceptance.

use super::{Write, airdrop_of, answers, reads::proven};
use crate::{
    airdrop::{
        flows::{ClaimFlow, ClaimOrder, ReleaseFlow, ReleaseOrder, WithdrawFlow, WithdrawOrder},
        terms::{ClaimRow, Kind, ReleaseRows, Withdraw},
    },
    app::AppHandle,
};
use alloy::primitives::U256;
use dalp_domain::Admitted;
use dalp_proto::distribution as proto;
use dalp_service::{Reason, Refusal};
use tonic::Request;

/// Accepts a claim.
pub(super) async fn claim(app: &AppHandle, request: Request<proto::ClaimAirdropRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.AirdropService/ClaimAirdrop", &request).await?;
    let command = ClaimRow::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let airdrop = airdrop_of(app, &tenant, command.airdrop).await?;
        let (row, proof, _) = proven(app, &airdrop, command.account).await?;
        let order = ClaimOrder {
            chain_id: app.chain.chain_id(),
            index: row.place,
            amount: U256::from(row.recipient.amount),
            proof,
            command: command.clone(),
        };
        Ok((order, None))
    };
    write.accept::<ClaimFlow, _>(&command, order).await
}

/// Accepts a release.
pub(super) async fn release(
    app: &AppHandle,
    request: Request<proto::ReleaseAirdropRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.AirdropService/ReleaseAirdrop", &request).await?;
    let command = ReleaseRows::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let airdrop = airdrop_of(app, &tenant, command.airdrop).await?;
        if airdrop.terms.kind != Kind::Vesting {
            return Err(Refusal::new(Reason::FailedPrecondition, "the airdrop does not vest"));
        }
        let rows = app.store.rows_of(airdrop.list_id, &command.accounts).await?;
        let missing = command.accounts.iter().find(|account| rows.iter().all(|row| row.recipient.account != **account));
        if let Some(missing) = missing {
            return Err(Refusal::new(Reason::NotFound, "an account is not on the airdrop's list")
                .meta("account", answers::text(*missing)));
        }
        let indices = rows.iter().map(|row| row.place).collect();
        Ok((ReleaseOrder { chain_id: app.chain.chain_id(), indices, command: command.clone() }, None))
    };
    write.accept::<ReleaseFlow, _>(&command, order).await
}

/// Accepts a withdrawal.
pub(super) async fn withdraw(
    app: &AppHandle,
    request: Request<proto::WithdrawLeftoversRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.AirdropService/WithdrawLeftovers", &request).await?;
    let command = Withdraw::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let airdrop = airdrop_of(app, &tenant, command.airdrop).await?;
        let currency = command.currency.unwrap_or(airdrop.terms.asset);
        Ok((WithdrawOrder { chain_id: app.chain.chain_id(), currency, command: command.clone() }, None))
    };
    write.accept::<WithdrawFlow, _>(&command, order).await
}
