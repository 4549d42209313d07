//! Feeds, and who speaks for a pair of subject and topic.

use alloy::primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};

/// The most decimals of a feed; the contract's own bound.
pub const MAX_DECIMALS: u8 = 18;
/// The most characters of a description.
pub const MAX_DESCRIPTION: usize = 128;

/// How many rounds a feed keeps on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum History {
    /// The latest answer only.
    LatestOnly,
    /// The last `size` rounds.
    Bounded {
        /// At least 1.
        size: u32,
    },
    /// Every round.
    Full,
}

/// A subject and a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Asset or identity; zero for a global feed.
    pub subject: Address,
    /// Topic.
    pub topic_id: U256,
}

/// A feed to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateFeed {
    /// Who sends.
    pub sender: Address,
    /// What it is about.
    pub pair: Pair,
    /// Places after the decimal point.
    pub decimals: u8,
    /// For people.
    pub description: String,
    /// Rounds kept on chain.
    pub history: History,
    /// Refuse zero and negative values.
    pub require_positive: bool,
    /// Seconds that an observation may lie ahead of the block.
    pub drift_allowance_s: u32,
    /// In the place of the feed that the pair has now.
    pub replace: bool,
}

/// What is to change in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum DirectoryChange {
    /// Enter a feed that exists.
    Register {
        /// It.
        feed: Address,
    },
    /// Put another feed in the place of the present one.
    Replace {
        /// The other one.
        feed: Address,
    },
    /// Take the feed of the pair out.
    Remove,
    /// Create the adapter of the pair.
    CreateAdapter,
}

/// A change of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeDirectory {
    /// Who sends.
    pub sender: Address,
    /// Of which pair.
    pub pair: Pair,
    /// What.
    pub change: DirectoryChange,
}

/// What a feed is pinned to for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What it is about.
    pub pair: Pair,
    /// Places after the decimal point.
    pub decimals: u8,
    /// As the contract describes itself.
    pub description: String,
    /// What an issuer-signed feed has besides; none of an external feed.
    pub signed: Option<SignedTerms>,
}

/// What an issuer-signed feed is pinned to besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTerms {
    /// Says which issuers are trusted.
    pub registry: Address,
    /// Hash of the topic's schema.
    pub schema_hash: B256,
    /// Rounds kept on chain.
    pub history: History,
    /// Refuse zero and negative values.
    pub require_positive: bool,
    /// Seconds that an observation may lie ahead of the block.
    pub drift_allowance_s: u32,
}

// === impl History ===

impl History {
    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LatestOnly => "latest_only",
            Self::Bounded { .. } => "bounded",
            Self::Full => "full",
        }
    }

    /// Rounds kept in mode BOUNDED; 0 in the others.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::Bounded { size } => size,
            Self::LatestOnly | Self::Full => 0,
        }
    }

    /// From name and size.
    #[must_use]
    pub fn of(name: &str, size: u32) -> Option<Self> {
        [Self::LatestOnly, Self::Bounded { size }, Self::Full].into_iter().find(|history| history.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_mode_is_found_by_its_name() {
        for history in [History::LatestOnly, History::Bounded { size: 3 }, History::Full] {
            assert_eq!(History::of(history.name(), history.size()), Some(history));
        }
        assert_eq!(History::of("some", 0), None);
    }
}
