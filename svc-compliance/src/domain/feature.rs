//! Features of assets: contracts of their own that are bound to an asset's compliance and follow what it does.

use super::{
    Violations,
    compliance::{Cure, REASONS, module_of},
    rule::Fields,
};
use alloy::primitives::{Address, U256};
use dalp_contracts::roles::asset as roles;
use serde::{Deserialize, Serialize};

/// The highest fee, 10 %.
pub const MAX_FEE_BPS: u32 = 1000;

/// A feature with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// One unit is one vote once its holder has delegated. A contract per asset.
    VotingPower,
    /// A yearly share of the units outstanding, minted to a collector.
    ManagementFee(Fee),
    /// A share of every transfer, paid by the recipient to a collector.
    TransactionFee(Fee),
}

/// Which contract a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are those of the contracts
pub enum FeatureKind {
    VotingPower,
    ManagementFee,
    TransactionFee,
}

/// A rate and who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fee {
    /// Basis points, 1 to [`MAX_FEE_BPS`].
    pub bps: u16,
    /// Who gets it; must be verified for the asset when it is paid.
    pub collector: Address,
}

/// Attach a feature to an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachFeature {
    /// Signs and pays.
    pub sender: Address,
    /// The token.
    pub asset: Address,
    /// What is attached.
    pub feature: Feature,
}

/// Detach a feature from an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachFeature {
    /// Signs and pays.
    pub sender: Address,
    /// The token.
    pub asset: Address,
    /// What is detached.
    pub feature: FeatureKind,
}

// === impl Feature ===

impl Feature {
    /// Which contract it is.
    #[must_use]
    pub fn kind(&self) -> FeatureKind {
        match self {
            Self::VotingPower => FeatureKind::VotingPower,
            Self::ManagementFee(_) => FeatureKind::ManagementFee,
            Self::TransactionFee(_) => FeatureKind::TransactionFee,
        }
    }

    /// Its rate, if it has one.
    #[must_use]
    pub fn fee(&self) -> Option<Fee> {
        match self {
            Self::VotingPower => None,
            Self::ManagementFee(fee) | Self::TransactionFee(fee) => Some(*fee),
        }
    }
}

// === impl FeatureKind ===

impl FeatureKind {
    /// Every feature.
    pub const ALL: [Self; 3] = [Self::VotingPower, Self::ManagementFee, Self::TransactionFee];

    /// The name that the contract gives itself; of the shared ones also the key in the address book.
    #[must_use]
    pub const fn contract(self) -> &'static str {
        match self {
            Self::VotingPower => "VotingPower",
            Self::ManagementFee => "ManagementFee",
            Self::TransactionFee => "TransactionFee",
        }
    }

    /// The field of its message.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::VotingPower => "voting_power",
            Self::ManagementFee => "management_fee",
            Self::TransactionFee => "transaction_fee",
        }
    }

    /// What it does, in a sentence.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::VotingPower => "counts a vote for each unit whose holder has delegated, now and at any time before",
            Self::ManagementFee => "accrues a yearly share of the units outstanding, minted to a collector on demand",
            Self::TransactionFee => "takes a share of every transfer from what the recipient gets, for a collector",
        }
    }

    /// Why it refuses, who can cure that, and how.
    pub fn reasons(self) -> impl Iterator<Item = (&'static str, Cure, &'static str)> {
        REASONS
            .iter()
            .filter(move |(reason, ..)| self.contract() == module_of(reason))
            .map(|(reason, cure, advice)| (*reason, *cure, *advice))
    }

    /// The path, below the feature, of what the contract calls by another name when it refuses parameters.
    #[must_use]
    pub fn field_of(self, refused: &str) -> String {
        let field = if refused == "yearlyBps" { "bps" } else { refused };
        format!("{}.{field}", self.field())
    }

    /// The kind of a contract's name.
    #[must_use]
    pub fn of_contract(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.contract() == name)
    }

    /// The roles on the asset that its contract works with.
    #[must_use]
    pub const fn roles(self) -> U256 {
        match self {
            Self::VotingPower => U256::ZERO,
            Self::ManagementFee => roles::SUPPLY,
            Self::TransactionFee => roles::FEES,
        }
    }
}

// === impl Fee ===

impl Fee {
    /// A fee of the fields of its message.
    pub fn new(fields: &mut Fields<'_>, bps: u32, collector: &str) -> Self {
        let bps = fields.number("bps", bps, 1, MAX_FEE_BPS);
        Self { bps: u16::try_from(bps).unwrap_or(u16::MAX), collector: fields.address("collector", collector) }
    }
}

/// Refuses a feature that is named twice in a list.
pub fn refuse_repeats(violations: &mut Violations, path: &str, features: &[Feature]) {
    for (index, feature) in features.iter().enumerate() {
        if features[..index].iter().any(|earlier| earlier.kind() == feature.kind()) {
            violations.push(format!("{path}[{index}]"), "is attached twice");
        }
    }
}
