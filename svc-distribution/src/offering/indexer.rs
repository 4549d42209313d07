//! What the chain tells of sales: who bought, what came in, what went out.

use super::store::index::{Delivery, OfferingEvents, Proceeds, PurchaseEvent, RefundEvent, Turn, TurnKind};
use crate::indexer::{Known, place_of};
use alloy::{
    primitives::{Address, B256},
    sol_types::SolEvent as _,
};
use dalp_chain::Log;
use dalp_contracts::bindings::{
    AddonFactory::OfferingCreated,
    Offering::{Activated, Claimed, Finalized, PauseSet, ProceedsWithdrawn, Purchased, Refunded, UnsoldWithdrawn},
};

/// The events of sales.
pub(crate) const TOPICS: &[B256] = &[
    OfferingCreated::SIGNATURE_HASH,
    Activated::SIGNATURE_HASH,
    PauseSet::SIGNATURE_HASH,
    Finalized::SIGNATURE_HASH,
    Purchased::SIGNATURE_HASH,
    Claimed::SIGNATURE_HASH,
    Refunded::SIGNATURE_HASH,
    ProceedsWithdrawn::SIGNATURE_HASH,
    UnsoldWithdrawn::SIGNATURE_HASH,
];

/// The sale that an event is about.
pub(crate) fn offering_of(log: &Log) -> Option<Address> {
    match log.topic0() == Some(&OfferingCreated::SIGNATURE_HASH) {
        true => Some(OfferingCreated::decode_log(&log.inner).ok()?.offering),
        false => Some(log.address()),
    }
}

/// Notes what an event says.
pub(crate) fn read(known: &Known, index: &mut OfferingEvents, log: &Log) {
    let (Some(offering), Some(at)) = (offering_of(log), place_of(log)) else { return };
    let Some(factory) = known.get(&offering) else { return };
    if log.address() == *factory {
        index.created.push((offering, at.block));
        return;
    }
    let inner = &log.inner;
    let turn = |kind| Turn { at, offering, kind };
    if let Ok(event) = Purchased::decode_log(inner) {
        let (buyer, currency) = (event.buyer, event.currency);
        index.purchases.push(PurchaseEvent { at, offering, buyer, currency, tokens: event.tokens, cost: event.cost });
    } else if let Ok(event) = Claimed::decode_log(inner) {
        index.deliveries.push(Delivery { at, offering, buyer: event.buyer, paid_to: event.to, tokens: event.amount });
    } else if let Ok(event) = Refunded::decode_log(inner) {
        let (buyer, currency, paid_to) = (event.buyer, event.currency, event.to);
        index.refunds.push(RefundEvent { at, offering, buyer, currency, paid_to, amount: event.amount });
    } else if let Ok(event) = ProceedsWithdrawn::decode_log(inner) {
        let (currency, paid_to) = (Some(event.currency), event.to);
        index.proceeds.push(Proceeds { at, offering, currency, paid_to, amount: event.amount });
    } else if let Ok(event) = UnsoldWithdrawn::decode_log(inner) {
        index.proceeds.push(Proceeds { at, offering, currency: None, paid_to: event.to, amount: event.amount });
    } else if Activated::decode_log(inner).is_ok() {
        index.turns.push(turn(TurnKind::Activated));
    } else if let Ok(event) = PauseSet::decode_log(inner) {
        index.turns.push(turn(if event.paused { TurnKind::Paused } else { TurnKind::Resumed }));
    } else if let Ok(event) = Finalized::decode_log(inner) {
        index.turns.push(turn(if event.succeeded { TurnKind::Succeeded } else { TurnKind::Refunding }));
    }
}
