//! Everything that changes a treasury but its runs: command, right, acceptance.

use super::{Write, answers, treasury_of};
use crate::{
    app::{App, AppHandle},
    offering::flows::On,
    readers::ratio_of,
    treasury::{
        flows::{
            AnnounceFlow, At, AttachFlow, ClaimFlow, CreateOrder, CreateTreasuryFlow, FundFlow, MatureFlow, RedeemFlow,
            ScheduleFlow, ScheduleOrder, SweepFlow, SweepOrder,
        },
        readers,
        store::treasuries::{StoredTreasury, put_treasury},
        terms::{
            AnnounceDate, ClaimPayouts, CreateTreasury, Handle, MoveMoney, Redeem, ScheduleCoupons, first_record_date,
        },
    },
};
use alloy::{
    primitives::{Address, U256, aliases::U48, keccak256},
    sol_types::SolCall,
};
use dalp_chain::BlockId;
use dalp_contracts::bindings::{
    AssetTokenGovernance::addRecordDateCall,
    Servicing::{claimCall, sweepCall},
    ServicingLifecycle::{matureCall, redeemCall, scheduleCall},
};
use dalp_domain::Admitted;
use dalp_engine::AcceptHook;
use dalp_proto::distribution as proto;
use dalp_service::{Reason, Refusal};
use tonic::Request;
use uuid::Uuid;

/// A creation that was accepted.
pub(super) struct Created {
    pub(super) admitted: Admitted,
    /// Address at which the treasury will stand.
    pub(super) treasury: String,
}

/// Accepts a creation.
pub(super) async fn create(
    app: &AppHandle,
    request: Request<proto::CreateTreasuryRequest>,
) -> Result<Created, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/CreateTreasury", &request).await?;
    let command = CreateTreasury::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let order = resolve(app, &tenant, &command).await?;
        Ok((order.clone(), Some(treasury_row(&tenant, order))))
    };
    let admitted = write.accept::<CreateTreasuryFlow, _>(&command, order).await?;
    let stored = app.store.treasury_of_operation(&tenant, admitted.operation.operation_id.0).await?;
    let stored = stored.ok_or_else(|| Refusal::internal("an accepted creation without its treasury"))?;
    Ok(Created { admitted, treasury: answers::text(stored.treasury) })
}

/// Prices, and where the factory would put the treasury: what it refuses is refused here, before anything is accepted.
async fn resolve(app: &App, tenant: &str, command: &CreateTreasury) -> Result<CreateOrder, Refusal> {
    let factory = app.factory(tenant).await?;
    let now_s = app.chain.latest().await?.timestamp_s;
    if command.terms.maturity.is_some_and(|maturity| maturity.at <= now_s) {
        return Err(Refusal::new(Reason::InvalidField, "the asset would have matured before it was paid for")
            .field("terms.maturity", format!("must be later than the latest block, which is of {now_s}")));
    }
    let units = readers::units(&app.chain, &command.terms).await?;
    let salt = keccak256(Uuid::new_v4().as_bytes());
    let treasury = readers::dry_create(&app.chain, factory, (command.sender, salt), &command.terms, &units).await?;
    Ok(CreateOrder { chain_id: app.chain.chain_id(), factory, treasury, salt, units, command: command.clone() })
}

/// Writes the treasury in the commit that accepts its creation.
fn treasury_row(tenant: &str, order: CreateOrder) -> AcceptHook {
    let tenant = tenant.to_owned();
    Box::new(move |connection, id| Box::pin(async move { put_treasury(connection, &tenant, id.0, &order).await }))
}

/// A treasury of the tenant whose contract stands: an address without code takes money and calls, and does nothing with either.
async fn standing_of(app: &App, tenant: &str, treasury: Address) -> Result<StoredTreasury, Refusal> {
    let stored = treasury_of(app, tenant, treasury).await?;
    readers::require_code(&app.chain, stored.treasury, BlockId::latest()).await?;
    Ok(stored)
}

/// Tries a call of the treasury as the sender.
async fn tried<C: SolCall>(app: &App, sender: Address, target: Address, call: C) -> Result<(), Refusal> {
    readers::try_as(&app.chain, sender, target, call.abi_encode().into()).await
}

/// Accepts that a treasury becomes one of the asset's rules.
pub(super) async fn attach(
    app: &AppHandle,
    request: Request<proto::AttachTreasuryRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/AttachTreasury", &request).await?;
    let command = Handle::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let stored = standing_of(app, &tenant, command.treasury).await?;
        if stored.terms.maturity.is_none() {
            return Err(Refusal::new(Reason::FailedPrecondition, "the asset never matures, so there is no such rule"));
        }
        let target = readers::compliance_of(&app.chain, stored.terms.asset).await?;
        Ok((At { chain_id: app.chain.chain_id(), target, command: command.clone() }, None))
    };
    write.accept::<AttachFlow, _>(&command, order).await
}

/// Accepts a plan of coupons.
pub(super) async fn schedule(
    app: &AppHandle,
    request: Request<proto::ScheduleCouponsRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/ScheduleCoupons", &request).await?;
    let command = ScheduleCoupons::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let stored = standing_of(app, &tenant, command.treasury).await?;
        let rate = U256::from(planned(app, &stored, &command).await?);
        Ok((ScheduleOrder { chain_id: app.chain.chain_id(), rate, command: command.clone() }, None))
    };
    write.accept::<ScheduleFlow, _>(&command, order).await
}

/// The rate of a plan in the contract's units, when the plan can be kept.
async fn planned(app: &App, stored: &StoredTreasury, command: &ScheduleCoupons) -> Result<u128, Refusal> {
    let plan = &command.plan;
    let now_s = app.chain.latest().await?.timestamp_s;
    if first_record_date(plan) <= now_s {
        let text = format!("the first holders would be recorded before the latest block, which is of {now_s}");
        return Err(Refusal::new(Reason::InvalidField, "the schedule lies in the past").field("plan.starts_at", text));
    }
    if stored.terms.maturity.is_some_and(|maturity| plan.ends_at > maturity.at) {
        return Err(Refusal::new(Reason::InvalidField, "the schedule ends after maturity")
            .field("plan.ends_at", "must not be later than the maturity of the terms"));
    }
    let units = &stored.units;
    let rate = ratio_of(plan.rate, units.currency_decimals, units.asset_decimals, "plan.rate")?;
    let rate = u128::try_from(rate)
        .map_err(|_| Refusal::new(Reason::InvalidField, "a price cannot be used").field("plan.rate", "is too large"))?;
    tried(app, command.sender, command.treasury, scheduleCall { plan_: plan.on_chain(rate) }).await?;
    Ok(rate)
}

/// Accepts a record date.
pub(super) async fn announce(
    app: &AppHandle,
    request: Request<proto::AnnounceRecordDateRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/AnnounceRecordDate", &request).await?;
    let command = AnnounceDate::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let target = standing_of(app, &tenant, command.treasury).await?.terms.asset;
        tried(app, command.sender, target, addRecordDateCall { date: U48::from(command.record_date) }).await?;
        Ok((At { chain_id: app.chain.chain_id(), target, command: command.clone() }, None))
    };
    write.accept::<AnnounceFlow, _>(&command, order).await
}

/// Accepts money for a treasury.
pub(super) async fn fund(app: &AppHandle, request: Request<proto::FundTreasuryRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/FundTreasury", &request).await?;
    let command = MoveMoney::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let stored = treasury_of(app, &tenant, command.treasury).await?;
        // Whatever a reorg takes back, the money must not be sent to an address without code.
        readers::require_code(&app.chain, stored.treasury, readers::last_final(&app.chain).await?).await?;
        let target = command.currency.unwrap_or(stored.terms.currency);
        Ok((At { chain_id: app.chain.chain_id(), target, command: command.clone() }, None))
    };
    write.accept::<FundFlow, _>(&command, order).await
}

/// Accepts a sweep.
pub(super) async fn sweep(app: &AppHandle, request: Request<proto::SweepTreasuryRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/SweepTreasury", &request).await?;
    let command = MoveMoney::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        let stored = standing_of(app, &tenant, command.treasury).await?;
        let currency = command.currency.unwrap_or(stored.terms.currency);
        tried(app, command.sender, command.treasury, sweepCall { currency, amount: command.amount }).await?;
        Ok((SweepOrder { chain_id: app.chain.chain_id(), currency, command: command.clone() }, None))
    };
    write.accept::<SweepFlow, _>(&command, order).await
}

/// Accepts a claim.
pub(super) async fn claim(app: &AppHandle, request: Request<proto::ClaimPayoutsRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/ClaimPayouts", &request).await?;
    let command = ClaimPayouts::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        standing_of(app, &tenant, command.treasury).await?;
        let ids = command.payout_ids.iter().map(|id| U256::from(*id)).collect();
        tried(app, command.sender, command.treasury, claimCall { holder: command.holder, ids }).await?;
        Ok((On { chain_id: app.chain.chain_id(), command: command.clone() }, None))
    };
    write.accept::<ClaimFlow, _>(&command, order).await
}

/// Accepts that redemption is opened.
pub(super) async fn mature(app: &AppHandle, request: Request<proto::MatureRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/Mature", &request).await?;
    let command = Handle::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        standing_of(app, &tenant, command.treasury).await?;
        tried(app, command.sender, command.treasury, matureCall {}).await?;
        Ok((On { chain_id: app.chain.chain_id(), command: command.clone() }, None))
    };
    write.accept::<MatureFlow, _>(&command, order).await
}

/// Accepts a redemption by a holder.
pub(super) async fn redeem(app: &AppHandle, request: Request<proto::RedeemRequest>) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/Redeem", &request).await?;
    let command = Redeem::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let order = async {
        standing_of(app, &tenant, command.treasury).await?;
        tried(app, command.sender, command.treasury, redeemCall { amount: command.amount }).await?;
        Ok((On { chain_id: app.chain.chain_id(), command: command.clone() }, None))
    };
    write.accept::<RedeemFlow, _>(&command, order).await
}
