//! Asks somebody's approval of every transfer, and the approvals themselves.

use super::Fields;
use alloy::primitives::{Address, U256};
use serde::{Deserialize, Serialize};

/// The most approvers of one rule.
pub const MAX_APPROVERS: usize = 16;

/// Parameters of `ApprovalRule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRule {
    /// One to [`MAX_APPROVERS`], none twice.
    pub approvers: Vec<Address>,
    /// Not zero.
    pub max_validity_s: u32,
    /// Whether mints need approval too.
    pub mints: bool,
}

/// A movement that may be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// None: a mint.
    pub from: Option<Address>,
    /// Receiver.
    pub to: Address,
    /// What the approval covers.
    pub covers: Covers,
}

/// What an approval covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// One movement of exactly this amount.
    Once {
        /// Base units, not zero.
        amount: U256,
    },
    /// Every movement of at most this amount.
    Standing {
        /// Base units, not zero.
        max: U256,
    },
}

impl ApprovalRule {
    /// A rule of the fields of its message.
    pub fn new(fields: &mut Fields<'_>, approvers: &[String], max_validity_s: u32, mints: bool) -> Self {
        if !(1..=MAX_APPROVERS).contains(&approvers.len()) {
            fields.refuse("approvers", format!("needs 1 to {MAX_APPROVERS} approvers"));
        }
        let mut parsed: Vec<Address> = Vec::new();
        for (index, approver) in approvers.iter().take(MAX_APPROVERS).enumerate() {
            let (before, field) = (fields.problems(), format!("approvers[{index}]"));
            let approver = fields.address(&field, approver);
            if fields.problems() == before && parsed.contains(&approver) {
                fields.refuse(&field, "is named twice");
            }
            parsed.push(approver);
        }
        let max_validity_s = fields.number("max_validity_s", max_validity_s, 1, u32::MAX);
        Self { approvers: parsed, max_validity_s, mints }
    }
}

impl Covers {
    /// The amount that stands in it.
    #[must_use]
    pub fn amount(self) -> U256 {
        match self {
            Self::Once { amount } => amount,
            Self::Standing { max } => max,
        }
    }

    /// Whether it covers more than one movement.
    #[must_use]
    pub fn is_standing(self) -> bool {
        matches!(self, Self::Standing { .. })
    }
}
