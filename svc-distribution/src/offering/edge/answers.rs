//! What is stored and read, as messages.

use crate::offering::{
    readers::OnChain,
    state::{Book, State},
    store::{
        buyers::{Raised, StoredBuyer, Sums, Turns},
        offerings::StoredOffering,
    },
    terms::Terms,
};
use alloy::primitives::{Address, U256};
use dalp_engine::Failure;
use dalp_proto::distribution as proto;

/// An address as the wire carries it.
pub(super) fn text(address: Address) -> String {
    address.to_checksum(None)
}

/// A reason against a purchase.
pub(super) fn refusal(failure: Failure) -> proto::PurchaseRefusal {
    proto::PurchaseRefusal {
        reason: failure.reason,
        message: failure.message,
        metadata: failure.metadata.into_iter().collect(),
    }
}

fn terms(terms: &Terms) -> proto::OfferingTerms {
    let nonzero = |amount: U256| if amount.is_zero() { String::new() } else { amount.to_string() };
    proto::OfferingTerms {
        asset: text(terms.asset),
        minted: terms.minted,
        proceeds_to: text(terms.proceeds_to),
        unsold_to: text(terms.unsold_to),
        starts_at: terms.starts_at,
        ends_at: terms.ends_at,
        hard_cap: terms.hard_cap.to_string(),
        soft_cap: nonzero(terms.soft_cap),
        minimum: terms.minimum.to_string(),
        maximum: terms.maximum.to_string(),
        terms_hash: if terms.terms_hash.is_zero() { String::new() } else { terms.terms_hash.to_string() },
        presale: terms
            .presale
            .as_ref()
            .map(|presale| proto::Presale { ends_at: presale.ends_at, discount_bps: presale.discount_bps.into() }),
        lockup: terms.lockup.as_ref().map(|lockup| proto::Lockup {
            starts_at: lockup.starts_at,
            cliff_s: lockup.cliff_s,
            duration_s: lockup.duration_s,
        }),
        currencies: terms
            .currencies
            .iter()
            .map(|one| proto::OfferingCurrency { currency: text(one.currency), price: one.price.to_string() })
            .collect(),
    }
}

/// A sale.
pub(super) fn offering(stored: &StoredOffering) -> proto::Offering {
    let root = stored.terms.presale.as_ref().map(|presale| presale.allow_list.to_string());
    proto::Offering {
        offering: text(stored.offering),
        operation_id: stored.operation_id.to_string(),
        created: stored.created_block.is_some(),
        sender: text(stored.sender),
        terms: Some(terms(&stored.terms)),
        allow_list_root: root.unwrap_or_default(),
        allow_listed: stored.allow_listed,
        replaced_by: stored.replaced_by.map(text).unwrap_or_default(),
    }
}

fn state(state: State) -> proto::OfferingState {
    match state {
        State::Setup => proto::OfferingState::Setup,
        State::Presale => proto::OfferingState::Presale,
        State::PublicSale => proto::OfferingState::PublicSale,
        State::Paused => proto::OfferingState::Paused,
        State::Ended => proto::OfferingState::Ended,
        State::Succeeded => proto::OfferingState::Succeeded,
        State::Refunding => proto::OfferingState::Refunding,
        State::Closed => proto::OfferingState::Closed,
    }
}

/// Where a sale stands: what its contract says, and what time makes of it as far as the index agrees with that.
pub(super) fn status(terms: &Terms, sale: &OnChain, turns: Turns, indexed_block: u64) -> proto::OfferingStatus {
    let now_s = sale.at.timestamp_s;
    let owing = sale.state != State::Closed;
    let book = Book { phase: turns.phase, paused: turns.paused, sold: sale.sold, owing };
    let agreed = book.state_at(terms, now_s) == sale.state;
    let next = if agreed { book.next_after(terms, now_s) } else { None };
    proto::OfferingStatus {
        state: state(sale.state).into(),
        block_number: sale.at.number,
        block_time: now_s,
        next_state: next.map_or(proto::OfferingState::Unspecified, |(next, _)| state(next)).into(),
        next_at: next.map_or(0, |(_, at)| at),
        activated: turns.phase != crate::offering::state::Phase::Setup,
        paused: turns.paused,
        indexed_block,
    }
}

/// Sums of a sale.
pub(super) fn progress(stored: &StoredOffering, sale: &OnChain, sums: &Sums) -> proto::OfferingProgress {
    let terms = &stored.terms;
    let currencies = terms.currencies.iter().zip(&stored.rates.currencies).map(|(asked, rate)| {
        let Raised { raised, refunded, withdrawn } = sums.currencies.get(&rate.currency).copied().unwrap_or_default();
        proto::RaisedCurrency {
            currency: text(rate.currency),
            price: asked.price.to_string(),
            decimals: rate.decimals.into(),
            raised: raised.to_string(),
            refunded: refunded.to_string(),
            withdrawn: withdrawn.to_string(),
        }
    });
    proto::OfferingProgress {
        sold: sale.sold.to_string(),
        owed: sale.owed.to_string(),
        balance: sale.balance.to_string(),
        covered: if terms.minted { sale.mints } else { sale.balance >= terms.hard_cap },
        buyers: sums.buyers,
        delivered: sums.delivered.to_string(),
        currencies: currencies.collect(),
    }
}

/// A buyer.
pub(super) fn buyer(stored: StoredBuyer) -> proto::Buyer {
    let payments = stored.payments.into_iter().map(|payment| proto::BuyerPayment {
        currency: text(payment.currency),
        paid: payment.paid.to_string(),
        refunded: payment.refunded.to_string(),
    });
    proto::Buyer {
        buyer: text(stored.buyer),
        bought: stored.bought.to_string(),
        delivered: stored.delivered.to_string(),
        payments: payments.collect(),
        purchases: stored.purchases,
    }
}
