//! Where a sale stands at a time: the same decision as the contract's, so that it can be told what time alone will make of it.

use super::terms::Terms;
use alloy::primitives::U256;

/// Where a sale stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not activated, or activated and not started.
    Setup,
    /// Listed buyers buy.
    Presale,
    /// Everybody who is eligible buys.
    PublicSale,
    /// Nobody buys for now.
    Paused,
    /// Over or sold out, and not decided.
    Ended,
    /// Tokens and proceeds are owed.
    Succeeded,
    /// Payments are owed.
    Refunding,
    /// Nobody is owed anything.
    Closed,
}

/// What was done with a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It was not activated.
    Setup,
    /// It was activated.
    Active,
    /// It was decided: success.
    Succeeded,
    /// It was decided: refunds.
    Refunding,
}

/// What the state follows from besides terms and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Book {
    /// What was done with it.
    pub phase: Phase,
    /// Whether it is paused.
    pub paused: bool,
    /// Base units sold.
    pub sold: U256,
    /// Whether somebody is owed tokens or money.
    pub owing: bool,
}

// === impl State ===

impl State {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 8] = [
        Self::Setup,
        Self::Presale,
        Self::PublicSale,
        Self::Paused,
        Self::Ended,
        Self::Succeeded,
        Self::Refunding,
        Self::Closed,
    ];

    /// The name as flows and contracts know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setup => "SETUP",
            Self::Presale => "PRESALE",
            Self::PublicSale => "PUBLIC_SALE",
            Self::Paused => "PAUSED",
            Self::Ended => "ENDED",
            Self::Succeeded => "SUCCEEDED",
            Self::Refunding => "REFUNDING",
            Self::Closed => "CLOSED",
        }
    }
}

// === impl Book ===

impl Book {
    /// Where the sale stands at a time.
    #[must_use]
    pub fn state_at(&self, terms: &Terms, now_s: u64) -> State {
        match self.phase {
            Phase::Succeeded | Phase::Refunding if !self.owing => State::Closed,
            Phase::Succeeded => State::Succeeded,
            Phase::Refunding => State::Refunding,
            Phase::Setup => State::Setup,
            Phase::Active if now_s < terms.starts_at => State::Setup,
            Phase::Active if now_s >= terms.ends_at || self.sold >= terms.hard_cap => State::Ended,
            Phase::Active if self.paused => State::Paused,
            Phase::Active if terms.presale_at(now_s).is_some() => State::Presale,
            Phase::Active => State::PublicSale,
        }
    }

    /// What time alone makes of it next, and from when on.
    #[must_use]
    pub fn next_after(&self, terms: &Terms, now_s: u64) -> Option<(State, u64)> {
        let present = self.state_at(terms, now_s);
        let presale_ends_at = terms.presale.as_ref().map(|presale| presale.ends_at);
        // In the order of time: a presale ends within the dates.
        let turns = [Some(terms.starts_at), presale_ends_at, Some(terms.ends_at)];
        turns
            .into_iter()
            .flatten()
            .filter(|turn| *turn > now_s)
            .map(|turn| (self.state_at(terms, turn), turn))
            .find(|(state, _)| *state != present)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::offering::terms::{Currency, Lockup, Presale};
    use alloy::primitives::{Address, B256};

    /// From 100 to 200 with a presale to 150, up to 1,000 base units, from 500 on a success.
    pub(crate) fn terms() -> Terms {
        Terms {
            asset: Address::repeat_byte(0xa5),
            minted: false,
            proceeds_to: Address::repeat_byte(1),
            unsold_to: Address::repeat_byte(2),
            starts_at: 100,
            ends_at: 200,
            hard_cap: U256::from(1_000),
            soft_cap: U256::from(500),
            minimum: U256::from(10),
            maximum: U256::from(600),
            terms_hash: B256::repeat_byte(7),
            presale: Some(Presale { ends_at: 150, discount_bps: 1_000, allow_list: B256::repeat_byte(8) }),
            lockup: Some(Lockup { starts_at: 200, cliff_s: 10, duration_s: 100 }),
            currencies: vec![Currency { currency: Address::repeat_byte(0xc1), price: "2".parse().unwrap() }],
        }
    }

    fn book(phase: Phase) -> Book {
        Book { phase, paused: false, sold: U256::ZERO, owing: true }
    }

    #[test]
    fn states_follow_from_time_and_from_what_was_done() {
        let terms = terms();
        let at = |book: Book, now_s| book.state_at(&terms, now_s);
        let active = book(Phase::Active);
        for (now_s, state) in [
            (99, State::Setup),
            (100, State::Presale),
            (149, State::Presale),
            (150, State::PublicSale),
            (199, State::PublicSale),
            (200, State::Ended),
        ] {
            assert_eq!(at(active, now_s), state, "{now_s}");
            assert_eq!(at(book(Phase::Setup), now_s), State::Setup, "{now_s}: never activated");
        }
        let paused = Book { paused: true, ..active };
        assert_eq!(
            [99, 100, 160, 200].map(|now_s| at(paused, now_s)),
            [State::Setup, State::Paused, State::Paused, State::Ended]
        );
        assert_eq!(at(Book { sold: U256::from(1_000), ..active }, 120), State::Ended, "sold out");
        assert_eq!(at(book(Phase::Succeeded), 300), State::Succeeded);
        assert_eq!(at(book(Phase::Refunding), 300), State::Refunding);
        for phase in [Phase::Succeeded, Phase::Refunding] {
            assert_eq!(at(Book { owing: false, ..book(phase) }, 300), State::Closed);
        }
    }

    #[test]
    fn what_time_makes_of_it_is_told_ahead() {
        let terms = terms();
        let next = |book: Book, now_s| book.next_after(&terms, now_s);
        let active = book(Phase::Active);
        assert_eq!(next(active, 50), Some((State::Presale, 100)));
        assert_eq!(next(active, 100), Some((State::PublicSale, 150)));
        assert_eq!(next(active, 150), Some((State::Ended, 200)));
        assert_eq!(next(active, 200), None);
        assert_eq!(next(Book { paused: true, ..active }, 120), Some((State::Ended, 200)), "the end does not move");
        assert_eq!(next(book(Phase::Setup), 50), None, "time alone activates nothing");
        assert_eq!(next(book(Phase::Refunding), 250), None);
        assert_eq!(State::ALL.map(State::name)[4], "ENDED");
    }
}
