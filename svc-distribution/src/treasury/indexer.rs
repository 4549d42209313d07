//! What the chain tells of treasuries: who was paid, who was skipped and why, and of their assets: which wallets were recovered.

use super::store::index::{Payment, Recovery, Told, TreasuryEvents};
use crate::indexer::{Known, place_of};
use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolEvent as _,
};
use dalp_chain::Log;
use dalp_contracts::{
    bindings::{
        AddonFactory::ServicingCreated,
        AssetTokenCustody::RecoverySuccess,
        Servicing::{Paid, PaymentSkipped, Redeemed, RedemptionSkipped},
    },
    revert::reason_text,
};
use std::collections::BTreeSet;

/// The events of treasuries.
pub(crate) const TOPICS: &[B256] = &[
    ServicingCreated::SIGNATURE_HASH,
    Paid::SIGNATURE_HASH,
    PaymentSkipped::SIGNATURE_HASH,
    Redeemed::SIGNATURE_HASH,
    RedemptionSkipped::SIGNATURE_HASH,
    RecoverySuccess::SIGNATURE_HASH,
];

/// The asset whose tokens were recovered.
pub(crate) fn recovered_asset(log: &Log) -> Option<Address> {
    (log.topic0() == Some(&RecoverySuccess::SIGNATURE_HASH)).then(|| log.address())
}

/// Notes what an asset of a treasury says of a recovery.
pub(crate) fn read_recovery(assets: &BTreeSet<Address>, index: &mut TreasuryEvents, log: &Log) {
    let (Some(asset), Some(at)) = (recovered_asset(log).filter(|asset| assets.contains(asset)), place_of(log)) else {
        return;
    };
    if let Ok(event) = RecoverySuccess::decode_log(&log.inner)
        && event._lostWallet != event._newWallet
    {
        let (lost_wallet, new_wallet) = (event._lostWallet, event._newWallet);
        index.recoveries.push(Recovery { at, asset, lost_wallet, new_wallet });
    }
}

/// The treasury that an event is about.
pub(crate) fn treasury_of(log: &Log) -> Option<Address> {
    match log.topic0() == Some(&ServicingCreated::SIGNATURE_HASH) {
        true => Some(ServicingCreated::decode_log(&log.inner).ok()?.servicing),
        false => Some(log.address()),
    }
}

/// Notes what an event says.
pub(crate) fn read(known: &Known, index: &mut TreasuryEvents, log: &Log) {
    let (Some(treasury), Some(at)) = (treasury_of(log), place_of(log)) else { return };
    let Some(factory) = known.get(&treasury) else { return };
    if log.address() == *factory {
        index.created.push((treasury, at.block));
    } else if let Some((payout_id, holder, told)) = payment(log) {
        index.payments.push(Payment { at, treasury, payout_id, holder, told });
    }
}

fn payment(log: &Log) -> Option<(Option<u64>, Address, Told)> {
    let inner = &log.inner;
    if let Ok(event) = Paid::decode_log(inner) {
        let told = Told::Paid { to: event.to, amount: event.amount, units: None };
        return Some((Some(number(event.id)?), event.holder, told));
    }
    if let Ok(event) = PaymentSkipped::decode_log(inner) {
        let told = Told::Skipped { reason: reason_text(event.reason) };
        return Some((Some(number(event.id)?), event.holder, told));
    }
    if let Ok(event) = Redeemed::decode_log(inner) {
        let told = Told::Paid { to: event.to, amount: event.payment, units: Some(event.amount) };
        return Some((None, event.holder, told));
    }
    let event = RedemptionSkipped::decode_log(inner).ok()?;
    Some((None, event.holder, Told::Skipped { reason: reason_text(event.reason) }))
}

/// The number of a payout. Contracts count up from zero: whoever tells of one that cannot be stored is none of ours.
fn number(id: U256) -> Option<u64> {
    i64::try_from(id).ok().and_then(|id| u64::try_from(id).ok())
}
