//! Commands on a tenant's system.

use alloy::primitives::{Address, U256};
use dalp_contracts::roles::system as roles;
use serde::{Deserialize, Serialize};

/// Deploy the tenant's system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Deploys and becomes the administrator.
    pub admin: Address,
    /// Where; 0: the first chain.
    #[serde(default, skip_serializing_if = "is_first")]
    pub chain_id: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks so
fn is_first(chain_id: &u64) -> bool {
    *chain_id == 0
}

/// Roles of a tenant's system; none implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemRole {
    /// Daily administration: address book, and every role but this one.
    PlatformAdmin,
    /// Identities and registrations.
    IdentityManager,
    /// Creates assets.
    TokenManager,
    /// Compliance defaults.
    ComplianceManager,
    /// Topics, trusted issuers, policies.
    ClaimPolicyManager,
    /// Feeds.
    FeedsManager,
}

/// Grant or revoke a system role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSystemRole {
    /// Signs and pays; administrator, or platform admin for the other roles.
    pub sender: Address,
    /// Whose role.
    pub account: Address,
    /// The role.
    pub role: SystemRole,
}

// === impl SystemRole ===

impl SystemRole {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::PlatformAdmin,
        Self::IdentityManager,
        Self::TokenManager,
        Self::ComplianceManager,
        Self::ClaimPolicyManager,
        Self::FeedsManager,
    ];

    /// The bit of the contract's mask.
    #[must_use]
    pub fn mask(self) -> U256 {
        match self {
            Self::PlatformAdmin => roles::PLATFORM_ADMIN,
            Self::IdentityManager => roles::IDENTITY_MANAGER,
            Self::TokenManager => roles::TOKEN_MANAGER,
            Self::ComplianceManager => roles::COMPLIANCE_MANAGER,
            Self::ClaimPolicyManager => roles::CLAIM_POLICY_MANAGER,
            Self::FeedsManager => roles::FEEDS_MANAGER,
        }
    }

    /// The role of one bit.
    #[must_use]
    pub fn of_mask(mask: U256) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.mask() == mask)
    }

    /// The name as callers know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PlatformAdmin => "platform_admin",
            Self::IdentityManager => "identity_manager",
            Self::TokenManager => "token_manager",
            Self::ComplianceManager => "compliance_manager",
            Self::ClaimPolicyManager => "claim_policy_manager",
            Self::FeedsManager => "feeds_manager",
        }
    }
}
