//! What the chain tells of airdrops: what became of every recipient.

use super::store::index::{AirdropEvents, Payout, PayoutKind, Withdrawal};
use crate::{
    decoder::reason_of_revert,
    indexer::{Known, place_of},
};
use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolEvent as _,
};
use dalp_chain::Log;
use dalp_contracts::bindings::{
    AddonFactory::DistributionCreated,
    Distribution::{Claimed, LeftoverWithdrawn, PushSkipped, Pushed, Released, VestingStarted},
};

/// The events of airdrops.
pub(crate) const TOPICS: &[B256] = &[
    DistributionCreated::SIGNATURE_HASH,
    Pushed::SIGNATURE_HASH,
    PushSkipped::SIGNATURE_HASH,
    Claimed::SIGNATURE_HASH,
    VestingStarted::SIGNATURE_HASH,
    Released::SIGNATURE_HASH,
    LeftoverWithdrawn::SIGNATURE_HASH,
];

/// The airdrop that an event is about.
pub(crate) fn airdrop_of(log: &Log) -> Option<Address> {
    match log.topic0() == Some(&DistributionCreated::SIGNATURE_HASH) {
        true => Some(DistributionCreated::decode_log(&log.inner).ok()?.distribution),
        false => Some(log.address()),
    }
}

/// Notes what an event says.
pub(crate) fn read(known: &Known, index: &mut AirdropEvents, log: &Log) {
    let (Some(airdrop), Some(at)) = (airdrop_of(log), place_of(log)) else { return };
    let Some(factory) = known.get(&airdrop) else { return };
    if log.address() == *factory {
        index.created.push((airdrop, at.block));
        return;
    }
    if let Ok(event) = LeftoverWithdrawn::decode_log(&log.inner) {
        index.withdrawals.push(Withdrawal { at, airdrop, currency: event.currency, amount: event.amount });
    } else if let Some((row, kind, amount, reason)) = payout(log) {
        index.payouts.push(Payout { at, airdrop, row: row.saturating_to(), kind, amount, reason });
    }
}

fn payout(log: &Log) -> Option<(U256, PayoutKind, U256, String)> {
    let topic = *log.topic0()?;
    let said = |row, kind, amount| Some((row, kind, amount, String::new()));
    if topic == Pushed::SIGNATURE_HASH {
        let event = Pushed::decode_log(&log.inner).ok()?.data;
        said(event.index, PayoutKind::Paid, event.amount)
    } else if topic == Claimed::SIGNATURE_HASH {
        let event = Claimed::decode_log(&log.inner).ok()?.data;
        said(event.index, PayoutKind::Paid, event.amount)
    } else if topic == VestingStarted::SIGNATURE_HASH {
        let event = VestingStarted::decode_log(&log.inner).ok()?.data;
        said(event.index, PayoutKind::Started, event.amount)
    } else if topic == Released::SIGNATURE_HASH {
        let event = Released::decode_log(&log.inner).ok()?.data;
        said(event.index, PayoutKind::Released, event.amount)
    } else {
        let event = PushSkipped::decode_log(&log.inner).ok()?.data;
        Some((event.index, PayoutKind::Skipped, U256::ZERO, reason_of_revert(&event.reason)))
    }
}
