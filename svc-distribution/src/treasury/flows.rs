//! What happens on chain. Pure: asked again at every wake-up, the flows decide from what has happened.
//!
//! Step names are stored; they are never renamed.

use super::terms::{
    AnnounceDate, ClaimPayouts, CreateTreasury, Handle, MoveMoney, Redeem, ScheduleCalendar, ScheduleCoupons, Units,
};
use crate::offering::flows::{Moved, On};
use alloy::{
    primitives::{Address, B256, Bytes, U256, aliases::U48},
    sol_types::SolCall as _,
};
use dalp_contracts::{
    bindings::{
        AddonFactory::{ServicingCreated, createServicingCall},
        AssetToken::transferCall,
        AssetTokenGovernance::addRecordDateCall,
        Servicing::{Paid, PaymentSkipped, PayoutOpened, Swept, claimCall, distributeCall, openCouponsCall, sweepCall},
        ServicingLifecycle::{Redeemed, RedemptionSkipped, matureCall, redeemCall, scheduleCall},
        TokenCompliance::addModuleCall,
    },
    revert::reason_text,
};
use dalp_domain::flows::{Sent, call, events};
use dalp_engine::{Amounts, Call, Cx, Failure, Flow, Flows, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// `treasury.create`.
pub struct CreateTreasuryFlow;
/// `treasury.attach`.
pub struct AttachFlow;
/// `treasury.schedule_coupons`.
pub struct ScheduleFlow;
/// `treasury.announce_date`.
pub struct AnnounceFlow;
/// `treasury.fund`.
pub struct FundFlow;
/// `treasury.sweep`.
pub struct SweepFlow;
/// `treasury.open`.
pub struct OpenFlow;
/// `treasury.pay_batch`.
pub struct PayBatchFlow;
/// `treasury.claim`.
pub struct ClaimFlow;
/// `treasury.mature`.
pub struct MatureFlow;
/// `treasury.redeem`.
pub struct RedeemFlow;
/// `treasury.schedule_calendar`.
pub struct CalendarFlow;

/// A treasury to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's factory.
    pub factory: Address,
    /// Where the factory puts it.
    pub treasury: Address,
    /// The creator's own.
    pub salt: B256,
    /// What the numbers come to.
    pub units: Units,
    /// What was asked for.
    pub command: CreateTreasury,
}

/// A created treasury.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreasuryMade {
    /// The contract.
    pub treasury: Address,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// A command that goes to another contract than the treasury.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At<C> {
    /// Where.
    pub chain_id: u64,
    /// The asset, its compliance or the currency.
    pub target: Address,
    /// What was asked for.
    pub command: C,
}

/// Coupons to fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleOrder {
    /// Where.
    pub chain_id: u64,
    /// Base units of the currency for 1e18 base units of the asset and a whole interval. Below 2^128, but beyond the numbers of JSON.
    pub rate: U256,
    /// What was asked for.
    pub command: ScheduleCoupons,
}

/// A calendar to pay by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarOrder {
    /// Where.
    pub chain_id: u64,
    /// The asset.
    pub asset: Address,
    /// Base units of the currency for 1e18 base units of the asset and a year.
    pub annual_ratio: U256,
    /// Unix seconds whose holders are paid, in order.
    pub record_dates: Vec<u64>,
    /// What was asked for.
    pub command: ScheduleCalendar,
}

/// A calendar whose record dates are announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarMade {
    /// The transactions, in the order of the dates.
    pub announced: Vec<Sent>,
}

/// Money to sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepOrder {
    /// Where.
    pub chain_id: u64,
    /// Which currency.
    pub currency: Address,
    /// What was asked for.
    pub command: MoveMoney,
}

/// A pass over the list of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassOf {
    /// Who sends.
    pub sender: Address,
    /// The treasury.
    pub treasury: Address,
    /// Number of the run.
    pub run: u32,
    /// Number of the pass.
    pub pass: u32,
}

/// What reserves the money of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    /// Coupon periods up to one.
    Coupons {
        /// The last.
        through: u32,
    },
    /// A dividend.
    Dividend {
        /// In what it is paid.
        currency: Address,
        /// Whose holders are paid.
        record_date: u64,
        /// Base units.
        total: U256,
    },
}

/// Money to reserve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenOrder {
    /// Where.
    pub chain_id: u64,
    /// For what.
    pub opening: Opening,
    /// For which run.
    pub command: PassOf,
}

/// Money that is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Number of the payout in the contract.
    pub payout_id: u64,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// Holders to pay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOrder {
    /// Where.
    pub chain_id: u64,
    /// The whole call.
    pub data: Bytes,
    /// Which batch.
    pub batch: u32,
    /// Of which pass.
    pub command: PassOf,
}

/// A batch that is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchDone {
    /// How many were paid.
    pub paid: u32,
    /// Who was not, and why.
    pub skipped: Vec<SkippedHolder>,
    /// Gas used.
    pub gas_used: u64,
    /// Transaction.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// A holder who was not paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedHolder {
    /// Who.
    pub holder: Address,
    /// Why.
    pub reason: String,
}

/// Adds the flows of treasuries.
#[must_use]
pub fn add(flows: Flows) -> Flows {
    flows
        .with::<CreateTreasuryFlow>()
        .with::<AttachFlow>()
        .with::<ScheduleFlow>()
        .with::<AnnounceFlow>()
        .with::<FundFlow>()
        .with::<SweepFlow>()
        .with::<OpenFlow>()
        .with::<PayBatchFlow>()
        .with::<ClaimFlow>()
        .with::<MatureFlow>()
        .with::<RedeemFlow>()
        .with::<CalendarFlow>()
}

// === impl Opening ===

impl Opening {
    /// The call that reserves the money.
    #[must_use]
    pub fn data(&self) -> Bytes {
        let data = match self {
            Self::Coupons { through } => openCouponsCall { through: U256::from(*through) }.abi_encode(),
            Self::Dividend { currency, record_date, total } => {
                let record_date = U48::from(*record_date);
                distributeCall { currency: *currency, recordDate: record_date, total: *total }.abi_encode()
            }
        };
        data.into()
    }
}

impl Flow for CreateTreasuryFlow {
    const KIND: &'static str = "treasury.create";
    type Order = CreateOrder;
    type Outcome = TreasuryMade;

    fn run(cx: &mut Cx<'_, CreateOrder>) -> Step<TreasuryMade> {
        let order = cx.order();
        let mined = cx.transact("create", || {
            let create = createServicingCall { salt: order.salt, terms: order.command.terms.on_chain(&order.units) };
            call(order.chain_id, order.command.sender, order.factory, &create)
        })?;
        let made = events::<ServicingCreated>(&mined, order.factory).map(|event| event.servicing).next();
        match made {
            Some(treasury) => {
                cx.done(TreasuryMade { treasury, tx_hash: mined.tx_hash, block_number: mined.block_number })
            }
            None => cx.fail(untold("the factory told of no treasury")),
        }
    }
}

impl Flow for AttachFlow {
    const KIND: &'static str = "treasury.attach";
    type Order = At<Handle>;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, At<Handle>>) -> Step<Sent> {
        let At { chain_id, target, command } = cx.order();
        let bind = addModuleCall { module: command.treasury, params: Bytes::new() };
        let mined = cx.transact("attach", || call(*chain_id, command.sender, *target, &bind))?;
        cx.done(mined.into())
    }
}

impl Flow for ScheduleFlow {
    const KIND: &'static str = "treasury.schedule_coupons";
    type Order = ScheduleOrder;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, ScheduleOrder>) -> Step<Sent> {
        let ScheduleOrder { chain_id, rate, command } = cx.order();
        let mined = cx.transact("schedule", || {
            let schedule = scheduleCall { plan_: command.plan.on_chain(rate.saturating_to()) };
            call(*chain_id, command.sender, command.treasury, &schedule)
        })?;
        cx.done(mined.into())
    }
}

impl Flow for AnnounceFlow {
    const KIND: &'static str = "treasury.announce_date";
    type Order = At<AnnounceDate>;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, At<AnnounceDate>>) -> Step<Sent> {
        let At { chain_id, target, command } = cx.order();
        let announce = addRecordDateCall { date: U48::from(command.record_date) };
        let mined = cx.transact("announce", || call(*chain_id, command.sender, *target, &announce))?;
        cx.done(mined.into())
    }
}

impl Flow for FundFlow {
    const KIND: &'static str = "treasury.fund";
    type Order = At<MoveMoney>;
    type Outcome = Sent;

    fn amounts(order: &At<MoveMoney>) -> Amounts {
        Amounts::of(order.target, order.command.amount)
    }

    fn run(cx: &mut Cx<'_, At<MoveMoney>>) -> Step<Sent> {
        let At { chain_id, target, command } = cx.order();
        let pay = transferCall { to: command.treasury, amount: command.amount };
        let mined = cx.transact("pay", || call(*chain_id, command.sender, *target, &pay))?;
        cx.done(mined.into())
    }
}

impl Flow for SweepFlow {
    const KIND: &'static str = "treasury.sweep";
    type Order = SweepOrder;
    type Outcome = Moved;

    fn amounts(order: &SweepOrder) -> Amounts {
        Amounts::of(order.currency, order.command.amount)
    }

    fn run(cx: &mut Cx<'_, SweepOrder>) -> Step<Moved> {
        let SweepOrder { chain_id, currency, command } = cx.order();
        let sweep = sweepCall { currency: *currency, amount: command.amount };
        let mined = cx.transact("sweep", || call(*chain_id, command.sender, command.treasury, &sweep))?;
        let amount = events::<Swept>(&mined, command.treasury).map(|event| event.amount).next();
        cx.done(Moved::of(amount, &mined))
    }
}

impl Flow for OpenFlow {
    const KIND: &'static str = "treasury.open";
    type Order = OpenOrder;
    type Outcome = Opened;

    fn run(cx: &mut Cx<'_, OpenOrder>) -> Step<Opened> {
        let OpenOrder { chain_id, opening, command } = cx.order();
        let mined = cx.transact("open", || Call::new(*chain_id, command.sender, command.treasury, opening.data()))?;
        let payout_id = match opening {
            // Whoever opened it before this did: then nothing is told.
            Opening::Coupons { through } => Some(u64::from(*through)),
            Opening::Dividend { .. } => {
                events::<PayoutOpened>(&mined, command.treasury).map(|event| event.id.saturating_to()).next()
            }
        };
        match payout_id {
            Some(payout_id) => cx.done(Opened { payout_id, tx_hash: mined.tx_hash, block_number: mined.block_number }),
            None => cx.fail(untold("the treasury told of no payout")),
        }
    }
}

impl Flow for PayBatchFlow {
    const KIND: &'static str = "treasury.pay_batch";
    type Order = BatchOrder;
    type Outcome = BatchDone;

    fn run(cx: &mut Cx<'_, BatchOrder>) -> Step<BatchDone> {
        let BatchOrder { chain_id, data, command, .. } = cx.order();
        let mined = cx.transact("pay", || Call::new(*chain_id, command.sender, command.treasury, data.clone()))?;
        let paid =
            events::<Paid>(&mined, command.treasury).count() + events::<Redeemed>(&mined, command.treasury).count();
        let unpaid = events::<PaymentSkipped>(&mined, command.treasury).map(|event| (event.holder, event.reason));
        let unredeemed =
            events::<RedemptionSkipped>(&mined, command.treasury).map(|event| (event.holder, event.reason));
        let skipped =
            unpaid.chain(unredeemed).map(|(holder, reason)| SkippedHolder { holder, reason: reason_text(reason) });
        cx.done(BatchDone {
            paid: u32::try_from(paid).unwrap_or(u32::MAX),
            skipped: skipped.collect(),
            gas_used: mined.gas_used,
            tx_hash: mined.tx_hash,
            block_number: mined.block_number,
        })
    }
}

impl Flow for ClaimFlow {
    const KIND: &'static str = "treasury.claim";
    type Order = On<ClaimPayouts>;
    type Outcome = Moved;

    fn run(cx: &mut Cx<'_, On<ClaimPayouts>>) -> Step<Moved> {
        let On { chain_id, command } = cx.order();
        let mined = cx.transact("claim", || {
            let ids = command.payout_ids.iter().map(|id| U256::from(*id)).collect();
            call(*chain_id, command.sender, command.treasury, &claimCall { holder: command.holder, ids })
        })?;
        let amount = events::<Paid>(&mined, command.treasury).map(|event| event.amount).sum();
        cx.done(Moved::of(Some(amount), &mined))
    }
}

impl Flow for MatureFlow {
    const KIND: &'static str = "treasury.mature";
    type Order = On<Handle>;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, On<Handle>>) -> Step<Sent> {
        let On { chain_id, command } = cx.order();
        let mined = cx.transact("mature", || call(*chain_id, command.sender, command.treasury, &matureCall {}))?;
        cx.done(mined.into())
    }
}

impl Flow for RedeemFlow {
    const KIND: &'static str = "treasury.redeem";
    type Order = On<Redeem>;
    type Outcome = Moved;

    fn run(cx: &mut Cx<'_, On<Redeem>>) -> Step<Moved> {
        let On { chain_id, command } = cx.order();
        let redeem = redeemCall { amount: command.amount };
        let mined = cx.transact("redeem", || call(*chain_id, command.sender, command.treasury, &redeem))?;
        let amount = events::<Redeemed>(&mined, command.treasury).map(|event| event.payment).next();
        cx.done(Moved::of(amount, &mined))
    }
}

impl Flow for CalendarFlow {
    const KIND: &'static str = "treasury.schedule_calendar";
    type Order = CalendarOrder;
    type Outcome = CalendarMade;

    fn run(cx: &mut Cx<'_, CalendarOrder>) -> Step<CalendarMade> {
        let CalendarOrder { chain_id, asset, record_dates, command, .. } = cx.order();
        let mined = cx.all("announce", || {
            record_dates.iter().map(|date| {
                let announce = addRecordDateCall { date: U48::from(*date) };
                call(*chain_id, command.sender, *asset, &announce)
            })
        })?;
        cx.done(CalendarMade { announced: mined.into_iter().map(Sent::from).collect() })
    }
}

/// A contract that did something without telling of it is none of ours.
fn untold(message: &str) -> Failure {
    Failure::new(Reason::Internal.as_str(), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::treasury::terms::Plan;

    #[test]
    fn an_order_keeps_rates_of_any_size() {
        let plan = Plan { starts_at: 1, ends_at: 9, interval_s: 2, lead_s: 1, rate: "12.5".parse().unwrap() };
        let command = ScheduleCoupons { sender: Address::ZERO, treasury: Address::ZERO, plan };
        for rate in [U256::ONE, U256::from(1_250_000_000_000_000_000_000_u128), U256::from(u128::MAX)] {
            let order = ScheduleOrder { chain_id: 1, rate, command: command.clone() };
            let stored = serde_json::to_value(&order).unwrap();
            assert_eq!(serde_json::from_value::<ScheduleOrder>(stored).unwrap(), order);
        }
    }
}
