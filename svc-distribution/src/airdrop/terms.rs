//! What callers ask for, checked and typed. Nothing here knows of protobuf, SQL or the network.

use alloy::primitives::{Address, B256, U256};
use dalp_contracts::bindings::AddonFactory::DistributionTerms;
use serde::{Deserialize, Serialize};

/// The most accounts of one release.
pub const MAX_RELEASED: usize = 100;

/// How recipients come to their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The issuer sends in batches.
    Push,
    /// Recipients claim their whole amount.
    Claim,
    /// Recipients claim, and receive linearly from then on.
    Vesting,
}

/// What an airdrop is bound to besides its list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What is distributed.
    pub asset: Address,
    /// How.
    pub kind: Kind,
    /// Receives what is left after the window.
    pub leftover_to: Address,
    /// Unix seconds from which pushes and claims happen.
    pub starts_at: u64,
    /// Unix seconds before which they happen.
    pub ends_at: u64,
    /// Vesting only: seconds from the claim with nothing.
    pub cliff_s: u64,
    /// Vesting only: seconds from the claim to everything.
    pub duration_s: u64,
    /// Push only: no more than this leaves in all; zero is no cap.
    pub cap: U256,
}

/// An airdrop to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateAirdrop {
    /// Who sends.
    pub sender: Address,
    /// Under which terms.
    pub terms: Terms,
    /// What the list says.
    pub digest: B256,
    /// How many recipients it has.
    pub recipients: u32,
    /// Their sum.
    pub total: U256,
}

/// A row to claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// Who sends.
    pub sender: Address,
    /// The airdrop.
    pub airdrop: Address,
    /// Whose row.
    pub account: Address,
}

/// Vestings to pay out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRows {
    /// Who sends.
    pub sender: Address,
    /// The airdrop.
    pub airdrop: Address,
    /// Whose.
    pub accounts: Vec<Address>,
}

/// Leftovers to withdraw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdraw {
    /// Who sends.
    pub sender: Address,
    /// The airdrop.
    pub airdrop: Address,
    /// Which currency; absent: the asset.
    pub currency: Option<Address>,
}

// === impl Kind ===

impl Kind {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 3] = [Self::Push, Self::Claim, Self::Vesting];

    /// The name under which it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Claim => "claim",
            Self::Vesting => "vesting",
        }
    }

    const fn on_chain(self) -> u8 {
        match self {
            Self::Push => 0,
            Self::Claim => 1,
            Self::Vesting => 2,
        }
    }
}

// === impl Terms ===

impl Terms {
    /// As the factory takes them.
    #[must_use]
    pub fn on_chain(&self, roots: Vec<B256>, rows_per_root: u64) -> DistributionTerms {
        DistributionTerms {
            token: self.asset,
            leftoverTo: self.leftover_to,
            kind: self.kind.on_chain(),
            roots,
            rowsPerRoot: rows_per_root,
            start: self.starts_at,
            end: self.ends_at,
            cliff: self.cliff_s,
            duration: self.duration_s,
            cap: self.cap,
        }
    }
}
