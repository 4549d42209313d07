//! Where a settlement stands: the same decision as the contract's, from what happened to it, so that it can be listed without asking the chain.

use crate::terms::Terms;
use alloy::primitives::Address;
use std::collections::BTreeSet;

/// Where a settlement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Approvals are collected.
    Active,
    /// Every local sender's amount is locked.
    Approved,
    /// The secret is out and no leg has moved yet.
    Committed,
    /// Some legs have moved.
    PartlyDelivered,
    /// Every local leg has moved.
    Executed,
    /// Cancelled before anything moved.
    Cancelled,
    /// The cutoff passed before it was settled.
    Expired,
    /// The cutoff passed, and everything went back.
    Withdrawn,
    /// A custodian broke a hold.
    Breached,
}

/// What happened to a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// It was opened.
    Created,
    /// A sender approved.
    Approved,
    /// A sender took its approval back.
    Revoked,
    /// Every local sender has approved.
    Locked,
    /// The secret came out.
    Revealed,
    /// A leg moved by itself.
    LegDelivered,
    /// A leg could not move.
    LegDeliverable,
    /// Every local leg has moved.
    Executed,
    /// A party voted to cancel.
    Voted,
    /// A party took its vote back.
    VoteWithdrawn,
    /// It was cancelled.
    Cancelled,
    /// The way back was started.
    ReclaimStarted,
    /// A sender got its amounts back.
    Reclaimed,
    /// A custodian broke a hold.
    HoldBroken,
    /// Amounts went back because of a broken hold.
    Breached,
}

/// An event of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What happened.
    pub kind: EventKind,
    /// Whom it is about.
    pub party: Option<Address>,
    /// Of a broken hold: of which asset.
    pub asset: Option<Address>,
    /// Which leg it is about.
    pub leg: Option<u32>,
    /// Why, in words or a code.
    pub reason: String,
    /// From this block on amounts go back.
    pub reclaim_from: Option<u64>,
}

/// What all events of a settlement come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    stored: State,
    /// Who has approved, and has not got it back.
    pub approvals: BTreeSet<Address>,
    /// Whose hold of which asset a custodian broke.
    pub broken: BTreeSet<(Address, Address)>,
}

/// What the contract says of a settlement at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands, with what follows from time and holds.
    pub state: State,
    /// Where it stood after its last change: a broken hold does not hide that the secret is out.
    pub stored: State,
    /// Bits of senders.
    pub approvals: u32,
    /// Bits of legs.
    pub delivered: u32,
    /// Bits of parties.
    pub votes: u64,
    /// From this block on amounts go back.
    pub reclaim_from: Option<u64>,
}

/// Where a leg stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegState {
    /// On another chain.
    External,
    /// Its sender has locked nothing.
    Open,
    /// Held or in escrow.
    Locked,
    /// Owed to its receiver.
    Deliverable,
    /// With its receiver.
    Delivered,
    /// A custodian broke its hold.
    Breached,
}

// === impl State ===

impl State {
    /// All of them, in the order of the contract, where the first has number 1.
    pub const ALL: [Self; 9] = [
        Self::Active,
        Self::Approved,
        Self::Committed,
        Self::PartlyDelivered,
        Self::Executed,
        Self::Cancelled,
        Self::Expired,
        Self::Withdrawn,
        Self::Breached,
    ];

    /// That of the contract's number; `None` for one that it does not know.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Its number in the contract.
    #[must_use]
    pub fn number(self) -> u8 {
        Self::ALL.iter().zip(1..).find(|(state, _)| **state == self).map_or(0, |(_, number)| number)
    }

    /// The name as flows and contracts know it, and under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Approved => "APPROVED",
            Self::Committed => "COMMITTED",
            Self::PartlyDelivered => "PARTLY_DELIVERED",
            Self::Executed => "EXECUTED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Withdrawn => "WITHDRAWN",
            Self::Breached => "BREACHED",
        }
    }

    /// The state of a stored name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether it neither settled nor ended.
    #[must_use]
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Active | Self::Approved)
    }

    /// Whether the secret is out and legs are owed.
    #[must_use]
    pub fn is_committed(self) -> bool {
        matches!(self, Self::Committed | Self::PartlyDelivered)
    }

    /// What it is at a time.
    #[must_use]
    pub fn at(self, terms: &Terms, now_s: u64) -> Self {
        if self.is_pending() && now_s >= terms.cutoff { Self::Expired } else { self }
    }
}

// === impl EventKind ===

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Created,
        Self::Approved,
        Self::Revoked,
        Self::Locked,
        Self::Revealed,
        Self::LegDelivered,
        Self::LegDeliverable,
        Self::Executed,
        Self::Voted,
        Self::VoteWithdrawn,
        Self::Cancelled,
        Self::ReclaimStarted,
        Self::Reclaimed,
        Self::HoldBroken,
        Self::Breached,
    ];

    /// The name under which it is stored and counted.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Approved => "approved",
            Self::Revoked => "revoked",
            Self::Locked => "locked",
            Self::Revealed => "revealed",
            Self::LegDelivered => "leg_delivered",
            Self::LegDeliverable => "leg_deliverable",
            Self::Executed => "executed",
            Self::Voted => "voted",
            Self::VoteWithdrawn => "vote_withdrawn",
            Self::Cancelled => "cancelled",
            Self::ReclaimStarted => "reclaim_started",
            Self::Reclaimed => "reclaimed",
            Self::HoldBroken => "hold_broken",
            Self::Breached => "breached",
        }
    }

    /// The kind of a stored name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

// === impl Book ===

impl Book {
    /// What events come to, in their order.
    #[must_use]
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Told>) -> Self {
        let empty = Self { stored: State::Active, approvals: BTreeSet::new(), broken: BTreeSet::new() };
        events.into_iter().fold(empty, |mut book, event| {
            book.take(event);
            book
        })
    }

    fn take(&mut self, event: &Told) {
        match event.kind {
            EventKind::Approved => self.approvals.extend(event.party),
            EventKind::Revoked => {
                self.gone_back(event);
                self.stored = State::Active;
            }
            EventKind::Locked => self.stored = State::Approved,
            EventKind::Revealed => self.stored = State::Committed,
            EventKind::LegDelivered => self.stored = State::PartlyDelivered,
            EventKind::Executed => self.stored = State::Executed,
            EventKind::Cancelled => self.stored = State::Cancelled,
            EventKind::Breached => self.stored = State::Breached,
            EventKind::HoldBroken => self.broken.extend(event.party.zip(event.asset)),
            EventKind::Reclaimed => {
                self.gone_back(event);
                if self.stored.is_pending() {
                    self.stored = State::Expired;
                }
                if self.stored == State::Expired && self.approvals.is_empty() {
                    self.stored = State::Withdrawn;
                }
            }
            EventKind::Created
            | EventKind::LegDeliverable
            | EventKind::Voted
            | EventKind::VoteWithdrawn
            | EventKind::ReclaimStarted => {}
        }
    }

    /// A sender has its amounts back: nothing of it can be broken any more.
    fn gone_back(&mut self, event: &Told) {
        if let Some(party) = &event.party {
            self.approvals.remove(party);
            self.broken.retain(|(holder, _)| holder != party);
        }
    }

    /// Where it stands, but for what follows from time.
    #[must_use]
    pub fn state(&self) -> State {
        let open = self.stored.is_pending() || self.stored.is_committed();
        if open && self.broken.iter().any(|(holder, _)| self.approvals.contains(holder)) {
            return State::Breached;
        }
        self.stored
    }

    /// Whether nothing can happen to it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.state() {
            State::Executed | State::Withdrawn => true,
            State::Cancelled => self.approvals.is_empty(),
            // Stored, not only found: everybody may still get the rest back.
            State::Breached => self.stored == State::Breached && self.approvals.is_empty(),
            _ => false,
        }
    }
}

// === impl Progress ===

impl Progress {
    /// Whether a sender has approved.
    #[must_use]
    pub fn has_approved(&self, terms: &Terms, sender: Address) -> bool {
        self.approvals & terms.sender_bit(sender) != 0
    }

    /// Whether a party's vote to cancel stands.
    #[must_use]
    pub fn has_voted(&self, terms: &Terms, party: Address) -> bool {
        self.votes & terms.party_bit(party) != 0
    }

    /// Whether nobody backs out alone.
    #[must_use]
    pub fn is_armed(&self, terms: &Terms) -> bool {
        self.stored == State::Approved && terms.is_cross_chain()
    }

    /// Where a leg stands; `broken`: whose holds of which assets a custodian broke.
    #[must_use]
    pub fn leg(&self, terms: &Terms, place: usize, broken: &BTreeSet<(Address, Address)>) -> LegState {
        let Some(leg) = terms.legs.get(place) else { return LegState::Open };
        if !leg.is_local() {
            LegState::External
        } else if self.delivered & (1 << place) != 0 {
            LegState::Delivered
        } else if self.has_approved(terms, leg.from) && broken.contains(&(leg.from, leg.asset)) {
            LegState::Breached
        } else if self.stored.is_committed() {
            LegState::Deliverable
        } else if self.has_approved(terms, leg.from) {
            LegState::Locked
        } else {
            LegState::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::tests::{ALICE, BOB, BOND, CAROL, CASH, cross_chain, delivery};

    fn told(kind: EventKind, party: Option<Address>) -> Told {
        let asset = (kind == EventKind::HoldBroken).then_some(BOND);
        Told { kind, party, asset, leg: None, reason: String::new(), reclaim_from: None }
    }

    fn after(events: &[(EventKind, Option<Address>)]) -> Book {
        let events: Vec<_> = events.iter().map(|(kind, party)| told(*kind, *party)).collect();
        Book::of(&events)
    }

    const LOCKED: [(EventKind, Option<Address>); 3] =
        [(EventKind::Approved, Some(ALICE)), (EventKind::Approved, Some(BOB)), (EventKind::Locked, None)];

    #[test]
    fn names_and_numbers_are_those_of_the_contract() {
        assert_eq!(State::of_number(0), None);
        assert_eq!((State::of_number(1), State::of_number(9)), (Some(State::Active), Some(State::Breached)));
        assert_eq!(State::of_number(10), None);
        for state in State::ALL {
            assert_eq!(State::of_name(state.name()), Some(state));
            assert_eq!(State::of_number(state.number()), Some(state));
        }
        for kind in EventKind::ALL {
            assert_eq!(EventKind::of_name(kind.name()), Some(kind));
        }
    }

    #[test]
    fn approvals_lock_and_revoking_unlocks() {
        assert_eq!(after(&LOCKED[..1]).state(), State::Active);
        assert_eq!(after(&LOCKED).state(), State::Approved);
        let revoked = after(&[&LOCKED[..], &[(EventKind::Revoked, Some(BOB))]].concat());
        assert_eq!((revoked.state(), revoked.approvals), (State::Active, BTreeSet::from([ALICE])));
        let executed = after(&[&LOCKED[..], &[(EventKind::Executed, None)]].concat());
        assert_eq!((executed.state(), executed.is_over()), (State::Executed, true));
    }

    #[test]
    fn time_expires_what_is_pending_only() {
        let terms = delivery();
        assert_eq!(State::Approved.at(&terms, 999), State::Approved);
        assert_eq!(State::Approved.at(&terms, 1_000), State::Expired);
        for state in [State::Executed, State::Cancelled, State::Committed, State::Breached] {
            assert_eq!(state.at(&terms, 5_000), state);
        }
    }

    #[test]
    fn what_expired_is_withdrawn_when_the_last_one_has_its_amounts() {
        let one = [&LOCKED[..], &[(EventKind::ReclaimStarted, None), (EventKind::Reclaimed, Some(ALICE))]].concat();
        assert_eq!((after(&one).state(), after(&one).is_over()), (State::Expired, false));
        let both = after(&[&one[..], &[(EventKind::Reclaimed, Some(BOB))]].concat());
        assert_eq!((both.state(), both.is_over()), (State::Withdrawn, true));
        let cancelled = [&LOCKED[..], &[(EventKind::Cancelled, None), (EventKind::Reclaimed, Some(ALICE))]].concat();
        assert_eq!((after(&cancelled).state(), after(&cancelled).is_over()), (State::Cancelled, false));
    }

    #[test]
    fn a_broken_hold_shows_at_once_and_ends_with_the_approval_behind_it() {
        let broken = [&LOCKED[..], &[(EventKind::HoldBroken, Some(ALICE))]].concat();
        assert_eq!((after(&broken).state(), after(&broken).is_over()), (State::Breached, false));
        let revoked = [&broken[..], &[(EventKind::Revoked, Some(ALICE))]].concat();
        assert_eq!(after(&revoked).state(), State::Active, "the others may still settle");
        let back = [&broken[..], &[(EventKind::Breached, None), (EventKind::Reclaimed, Some(BOB))]].concat();
        assert_eq!((after(&back).state(), after(&back).is_over()), (State::Breached, false));
        let all = after(&[&back[..], &[(EventKind::Reclaimed, Some(ALICE))]].concat());
        assert_eq!((all.state(), all.is_over()), (State::Breached, true));
        let executed = [&LOCKED[..], &[(EventKind::Executed, None), (EventKind::HoldBroken, Some(ALICE))]].concat();
        assert_eq!(after(&executed).state(), State::Executed, "another settlement's hold is not this one's");
    }

    #[test]
    fn a_secret_commits_and_legs_follow_one_by_one() {
        let revealed = [&LOCKED[..], &[(EventKind::Revealed, None), (EventKind::LegDeliverable, None)]].concat();
        assert_eq!(after(&revealed).state(), State::Committed);
        let partly = [&revealed[..], &[(EventKind::LegDelivered, None)]].concat();
        assert_eq!(after(&partly).state(), State::PartlyDelivered);
        let broken = [&partly[..], &[(EventKind::HoldBroken, Some(ALICE))]].concat();
        assert_eq!(after(&broken).state(), State::Breached);
        assert_eq!(after(&[&partly[..], &[(EventKind::Executed, None)]].concat()).state(), State::Executed);
    }

    #[test]
    fn legs_and_parties_stand_as_the_bits_say() {
        let terms = cross_chain();
        let none = BTreeSet::new();
        let legs = |progress: &Progress, broken: &BTreeSet<(Address, Address)>| {
            (0..terms.legs.len()).map(|place| progress.leg(&terms, place, broken)).collect::<Vec<_>>()
        };
        let stored = State::Active;
        let open = Progress { state: stored, stored, approvals: 1, delivered: 0, votes: 0, reclaim_from: None };
        let (locked, external) = (LegState::Locked, LegState::External);
        assert_eq!(legs(&open, &none), [locked, LegState::Open, LegState::Open, external]);
        assert!(!open.is_armed(&terms));
        let armed = Progress { state: State::Approved, stored: State::Approved, approvals: 3, votes: 1 << 34, ..open };
        assert_eq!(legs(&armed, &none), [locked, locked, locked, external]);
        assert!(armed.is_armed(&terms) && !armed.is_armed(&delivery()));
        assert!(armed.has_voted(&terms, CAROL) && !armed.has_voted(&terms, ALICE));
        let broken = Progress { state: State::Breached, ..armed };
        assert_eq!(legs(&broken, &BTreeSet::from([(ALICE, BOND)]))[..2], [LegState::Breached, locked]);
        assert_eq!(legs(&broken, &BTreeSet::from([(ALICE, CASH)]))[..2], [locked, locked], "another asset of hers");
        let broken_first = broken;
        let partly = Progress { state: State::PartlyDelivered, stored: State::PartlyDelivered, delivered: 2, ..armed };
        let owed = LegState::Deliverable;
        assert_eq!(legs(&partly, &none), [owed, LegState::Delivered, owed, external]);
        assert!(!partly.is_armed(&terms));
        // The secret is out, and a custodian broke a hold since: what is left is owed all the same.
        let hidden = Progress { state: State::Breached, ..partly };
        let broken = BTreeSet::from([(ALICE, BOND)]);
        assert_eq!(legs(&hidden, &broken), [LegState::Breached, LegState::Delivered, owed, external]);
        assert!(!Progress { stored: State::Committed, delivered: 0, ..hidden }.is_armed(&terms));
        assert!(broken_first.is_armed(&terms), "before the secret it stays armed");
    }
}
