//! What is stored and read, as messages.

use crate::{
    preview::{LegFinding, LockFinding},
    readers::Contracts,
    state::{Book, EventKind, LegState, Progress, State},
    store::{events::StoredEvent, settlements::StoredSettlement},
    terms::{HashKind, HashLock, Terms},
};
use alloy::primitives::{Address, B256};
use dalp_domain::Head;
use dalp_engine::Failure;
use dalp_proto::settlement as proto;

/// An address as the wire carries it.
pub(super) fn text(address: Address) -> String {
    address.to_checksum(None)
}

/// An identifier or hash as the wire carries it.
pub(super) fn id(id: B256) -> String {
    format!("{id:#x}")
}

/// A state.
pub(super) fn state(state: State) -> proto::SettlementState {
    match state {
        State::Active => proto::SettlementState::Active,
        State::Approved => proto::SettlementState::Approved,
        State::Committed => proto::SettlementState::Committed,
        State::PartlyDelivered => proto::SettlementState::PartlyDelivered,
        State::Executed => proto::SettlementState::Executed,
        State::Cancelled => proto::SettlementState::Cancelled,
        State::Expired => proto::SettlementState::Expired,
        State::Withdrawn => proto::SettlementState::Withdrawn,
        State::Breached => proto::SettlementState::Breached,
    }
}

/// The state that a filter asks for; `None`: all.
pub(super) fn wanted(state: proto::SettlementState) -> Option<State> {
    match state {
        proto::SettlementState::Unspecified => None,
        proto::SettlementState::Active => Some(State::Active),
        proto::SettlementState::Approved => Some(State::Approved),
        proto::SettlementState::Committed => Some(State::Committed),
        proto::SettlementState::PartlyDelivered => Some(State::PartlyDelivered),
        proto::SettlementState::Executed => Some(State::Executed),
        proto::SettlementState::Cancelled => Some(State::Cancelled),
        proto::SettlementState::Expired => Some(State::Expired),
        proto::SettlementState::Withdrawn => Some(State::Withdrawn),
        proto::SettlementState::Breached => Some(State::Breached),
    }
}

fn leg_state(state: LegState) -> proto::LegState {
    match state {
        LegState::External => proto::LegState::External,
        LegState::Open => proto::LegState::Open,
        LegState::Locked => proto::LegState::Locked,
        LegState::Deliverable => proto::LegState::Deliverable,
        LegState::Delivered => proto::LegState::Delivered,
        LegState::Breached => proto::LegState::Breached,
    }
}

fn kind(kind: EventKind) -> proto::SettlementEventKind {
    match kind {
        EventKind::Created => proto::SettlementEventKind::Created,
        EventKind::Approved => proto::SettlementEventKind::Approved,
        EventKind::Revoked => proto::SettlementEventKind::Revoked,
        EventKind::Locked => proto::SettlementEventKind::Locked,
        EventKind::Revealed => proto::SettlementEventKind::Revealed,
        EventKind::LegDelivered => proto::SettlementEventKind::LegDelivered,
        EventKind::LegDeliverable => proto::SettlementEventKind::LegDeliverable,
        EventKind::Executed => proto::SettlementEventKind::Executed,
        EventKind::Voted => proto::SettlementEventKind::Voted,
        EventKind::VoteWithdrawn => proto::SettlementEventKind::VoteWithdrawn,
        EventKind::Cancelled => proto::SettlementEventKind::Cancelled,
        EventKind::ReclaimStarted => proto::SettlementEventKind::ReclaimStarted,
        EventKind::Reclaimed => proto::SettlementEventKind::Reclaimed,
        EventKind::HoldBroken => proto::SettlementEventKind::HoldBroken,
        EventKind::Breached => proto::SettlementEventKind::Breached,
    }
}

fn place(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// A lock.
pub(super) fn hash_lock(lock: HashLock) -> proto::HashLock {
    let kind = match lock.kind {
        HashKind::Keccak256 => proto::HashKind::Keccak256,
        HashKind::Sha256 => proto::HashKind::Sha256,
    };
    proto::HashLock { kind: kind.into(), hash: id(lock.hash) }
}

fn terms(terms: &Terms) -> proto::SettlementTerms {
    let hash_lock = terms.hash_lock.map(self::hash_lock);
    let legs = terms.legs.iter().map(|leg| proto::SettlementLeg {
        asset: text(leg.asset),
        from: text(leg.from),
        to: text(leg.to),
        amount: leg.amount.to_string(),
        chain_id: leg.chain_id,
    });
    proto::SettlementTerms {
        name: terms.name.clone(),
        cutoff: terms.cutoff,
        auto_execute: terms.auto_execute,
        hash_lock,
        legs: legs.collect(),
    }
}

/// A settlement.
pub(super) fn settlement(stored: &StoredSettlement) -> proto::Settlement {
    proto::Settlement {
        settlement_id: id(stored.settlement_id),
        contract: text(stored.contract),
        operation_id: stored.operation_id.map(|id| id.to_string()).unwrap_or_default(),
        creator: text(stored.creator),
        created: stored.created_block.is_some(),
        terms: Some(terms(&stored.deed.terms)),
        chain_id: stored.chain_id,
    }
}

/// Where a settlement stands as indexed, at a time; unspecified: it is not seen on chain.
pub(super) fn indexed_state(stored: &StoredSettlement, now_s: u64) -> proto::SettlementState {
    match stored.created_block {
        Some(_) => state(stored.state.at(&stored.deed.terms, now_s)),
        None => proto::SettlementState::Unspecified,
    }
}

/// Where a settlement stands at a block.
pub(super) fn status(
    terms: &Terms,
    progress: &Progress,
    book: &Book,
    contracts: Contracts,
    at: Head,
) -> proto::SettlementStatus {
    let senders = terms.senders();
    let parties = terms.parties().into_iter().map(|party| proto::PartyStatus {
        party: text(party),
        sends: senders.contains(&party),
        approved: progress.has_approved(terms, party),
        voted: progress.has_voted(terms, party),
    });
    let legs = (0..terms.legs.len()).map(|leg| proto::LegStatus {
        leg: place(leg),
        state: leg_state(progress.leg(terms, leg, &book.broken)).into(),
    });
    proto::SettlementStatus {
        state: state(progress.state).into(),
        armed: progress.is_armed(terms),
        parties: parties.collect(),
        legs: legs.collect(),
        reclaim_from_block: progress.reclaim_from.unwrap_or_default(),
        reclaim_delay_blocks: contracts.reclaim_delay,
        block_number: at.number,
        block_time: at.timestamp_s,
    }
}

/// Something that happened.
pub(super) fn event(stored: &StoredEvent) -> proto::SettlementEvent {
    proto::SettlementEvent {
        kind: kind(stored.told.kind).into(),
        party: stored.told.party.map(text).unwrap_or_default(),
        leg: stored.told.leg,
        reason: stored.told.reason.clone(),
        reclaim_from_block: stored.told.reclaim_from.unwrap_or_default(),
        block_number: stored.at.block,
        tx_hash: id(stored.at.tx_hash),
    }
}

/// What is found of a leg.
pub(super) fn leg((leg, found): (usize, &LegFinding)) -> proto::LegPreview {
    let (module, reason) = found.veto.clone().map(|(module, reason)| (text(module), reason)).unwrap_or_default();
    proto::LegPreview {
        leg: place(leg),
        state: leg_state(found.state).into(),
        own_asset: found.own,
        receiver: found.receiver.map(text).unwrap_or_default(),
        compliant: found.veto.is_none(),
        module,
        reason,
    }
}

/// What is found of a lock.
pub(super) fn lock(found: &LockFinding) -> proto::LockPreview {
    proto::LockPreview {
        sender: text(found.lock.sender),
        asset: text(found.lock.asset),
        own_asset: found.lock.own,
        needed: found.lock.amount.to_string(),
        available: found.available.to_string(),
        allowance: found.allowance.to_string(),
        locked: found.locked,
    }
}

/// A reason against settling.
pub(super) fn refusal(failure: Failure) -> proto::SettlementRefusal {
    proto::SettlementRefusal {
        reason: failure.reason,
        message: failure.message,
        metadata: failure.metadata.into_iter().collect(),
    }
}
