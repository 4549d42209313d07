//! What is done with the rules of an asset, in one transaction each.

use super::{Rule, RuleKind, approval::Movement, list::ListEntry};
use crate::domain::asset::{AssetRole, Right};
use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

/// The most wallets that are counted at once.
pub const MAX_COUNTED: usize = 200;

/// What to do with the rules of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // fields are named like those of the wire
pub enum RuleAction {
    /// Replace the parameters of a bound rule.
    SetParameters { rule: Rule },
    /// Put accounts on the lists of the `ListRule` and take them off.
    SetListEntries { entries: Vec<ListEntry> },
    /// Take a wallet of the platform out of a rule, or back in.
    SetExemption { rule: RuleKind, wallet: Address, exempt: bool },
    /// Count holders from before the `HolderLimitRule`.
    CountHolders { wallets: Vec<Address> },
    /// Approve a movement at the `ApprovalRule`.
    Approve { movement: Movement, expires_at: u64 },
    /// Take an approval back.
    RevokeApproval { movement: Movement },
}

// === impl RuleAction ===

impl RuleAction {
    /// Name of the operation kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SetParameters { .. } => "compliance.set_rule_parameters",
            Self::SetListEntries { .. } => "compliance.set_list_entries",
            Self::SetExemption { .. } => "compliance.set_rule_exemption",
            Self::CountHolders { .. } => "compliance.count_holders",
            Self::Approve { .. } => "compliance.approve_transfer",
            Self::RevokeApproval { .. } => "compliance.revoke_approval",
        }
    }

    /// The rule it is about, which must be bound.
    #[must_use]
    pub fn rule(&self) -> RuleKind {
        match self {
            Self::SetParameters { rule } => rule.kind(),
            Self::SetListEntries { .. } => RuleKind::List,
            Self::SetExemption { rule, .. } => *rule,
            Self::CountHolders { .. } => RuleKind::HolderLimit,
            Self::Approve { .. } | Self::RevokeApproval { .. } => RuleKind::Approval,
        }
    }

    /// The right the sender needs on the asset.
    #[must_use]
    pub fn right(&self) -> Right {
        match self {
            Self::SetParameters { .. } | Self::SetListEntries { .. } | Self::SetExemption { .. } => {
                Right::Role(AssetRole::Governance)
            }
            Self::CountHolders { .. } => Right::Anyone,
            Self::Approve { .. } | Self::RevokeApproval { .. } => Right::Approver,
        }
    }
}
