//! Exchanges across two chains.
//!
//! In reading order:
//! - [`agreement`]: what is agreed on, as the terms of the settlement on each chain; pure.
//! - [`decide`]: what to do next, from what both chains say; pure.
//! - [`view`]: what both chains say.
//! - [`driver`]: does it, again and again, wherever a replica is killed.

pub mod agreement;
pub mod decide;
pub mod driver;
pub mod view;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which of the two settlements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Where the secret is shown first.
    Reveal,
    /// Where it is carried to.
    Carry,
}

/// Where an exchange stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Settlements are opened and approved.
    Locking,
    /// Our secret is on its way.
    Revealing,
    /// The secret came out.
    Carrying,
    /// Every leg has moved.
    Settled,
    /// Our secret is not shown any more.
    Returning,
    /// Nothing is locked any more.
    Returned,
    /// One is committed, the other went back.
    Split,
}

/// How exchanges are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The cutoffs lie at least so far apart: the longest outage of the first chain that is to be survived.
    pub cutoff_gap_s: u64,
    /// Our secret is shown only while at least so much is left before the first cutoff.
    pub reveal_margin_s: u64,
    /// The longest that a transaction takes to be final on either chain.
    pub confirmation_s: u64,
    /// From so long before a cutoff on a settlement that is not locked needs attention.
    pub notice_s: u64,
    /// How often they are looked after.
    pub every: Duration,
}

// === impl Role ===

impl Role {
    /// Both, in the order of their cutoffs.
    pub const BOTH: [Self; 2] = [Self::Reveal, Self::Carry];

    /// Its place in pairs of things.
    #[must_use]
    pub const fn place(self) -> usize {
        match self {
            Self::Reveal => 0,
            Self::Carry => 1,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Reveal => Self::Carry,
            Self::Carry => Self::Reveal,
        }
    }

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reveal => "reveal",
            Self::Carry => "carry",
        }
    }
}

// === impl Phase ===

impl Phase {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Locking, Self::Revealing, Self::Carrying, Self::Settled, Self::Returning, Self::Returned, Self::Split];

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Locking => "LOCKING",
            Self::Revealing => "REVEALING",
            Self::Carrying => "CARRYING",
            Self::Settled => "SETTLED",
            Self::Returning => "RETURNING",
            Self::Returned => "RETURNED",
            Self::Split => "SPLIT",
        }
    }

    /// That of a stored name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Settled | Self::Returned | Self::Split)
    }
}
