//! Commands on assets.

use super::{
    claim::TopicName,
    expression::Claims,
    feature::Feature,
    isin::Isin,
    rule::{Rule, RuleAction},
    system::SystemRole,
    terms::Terms,
};
use alloy::primitives::{Address, U256};
use dalp_contracts::roles::asset as roles;
use serde::{Deserialize, Serialize};

/// The most items of a batch transfer.
pub const MAX_BATCH: usize = 10_000;
/// The most rules of an asset.
pub const MAX_RULES: usize = 25;

/// Templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the documentation
pub enum AssetClass {
    Bond,
    Equity,
    Fund,
    Deposit,
    Stablecoin,
    RealEstate,
    PreciousMetal,
}

/// Roles per asset; none implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetRole {
    /// Rules, topics, upgrades.
    Governance,
    /// Mint and burn.
    Supply,
    /// Freeze, forced transfer, recovery.
    Custodian,
    /// Pause.
    Emergency,
    /// Primary sale.
    Sale,
    /// Funds management.
    Funds,
}

/// Create an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateAsset {
    /// Signs, pays, becomes owner and governance.
    pub issuer: Address,
    /// 1 to 50 characters.
    pub name: String,
    /// 1 to 24 of `[A-Z0-9]`.
    pub symbol: String,
    /// 0 to 18.
    pub decimals: u8,
    /// Template.
    pub class: AssetClass,
    /// If it has one.
    pub isin: Option<Isin>,
    /// In the order they are asked.
    pub rules: Vec<Rule>,
    /// What a holder needs, all of it; empty takes the registry's default.
    pub claim_topics: Vec<TopicName>,
    /// What a holder needs, instead of topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Claims>,
    /// Beside the issuer's governance.
    pub roles: Vec<(AssetRole, Address)>,
    /// Open for transfers at once.
    pub unpause: bool,
    /// Receiver and amount of the initial supply.
    pub initial_mint: Option<(Address, U256)>,
    /// Name of the template; none: the platform's template of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What the asset is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// Features beside those of template and terms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Feature>,
}

/// An operation of one sender on one asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetCommand {
    /// Signs and pays.
    pub sender: Address,
    /// The token.
    pub asset: Address,
    /// What to do.
    pub action: AssetAction,
}

/// What to do with an asset in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // fields are named like those of the wire
pub enum AssetAction {
    /// Mint to a holder.
    Mint { to: Address, amount: U256 },
    /// Burn from a holder.
    Burn { from: Address, amount: U256 },
    /// Move own tokens.
    Transfer { to: Address, amount: U256 },
    /// Move by order of the custodian.
    ForcedTransfer { from: Address, to: Address, amount: U256, reason: String },
    /// Freeze or unfreeze an address.
    SetAddressFrozen { holder: Address, frozen: bool, reason: String },
    /// Freeze an amount.
    FreezePartial { holder: Address, amount: U256, reason: String },
    /// Unfreeze an amount.
    UnfreezePartial { holder: Address, amount: U256, reason: String },
    /// Stop transfers.
    Pause,
    /// Open transfers.
    Unpause,
    /// Grant a role.
    GrantRole { role: AssetRole, account: Address },
    /// Revoke a role.
    RevokeRole { role: AssetRole, account: Address },
    /// Bind a rule.
    AddRule { rule: Rule },
    /// Unbind a rule.
    RemoveRule { module: Address },
    /// Change a bound rule, or what it keeps.
    Rules(RuleAction),
    /// Change the parameters of an attached feature.
    SetFeature { feature: Feature },
    /// Mint what has accrued of a management fee.
    CollectManagementFee,
    /// What holders need; none: the registry's default.
    SetPolicy { policy: Option<Claims> },
    /// Let a contract receive without an identity, or no more.
    SetIdentityExemption { account: Address, exempt: bool },
}

/// Transfer to many receivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTransfer {
    /// Signs, pays, holds.
    pub sender: Address,
    /// The token.
    pub asset: Address,
    /// 1 to [`MAX_BATCH`].
    pub items: Vec<(Address, U256)>,
}

// === impl AssetRole ===

impl AssetRole {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Governance, Self::Supply, Self::Custodian, Self::Emergency, Self::Sale, Self::Funds];

    /// The role of one bit.
    #[must_use]
    pub fn of_mask(mask: U256) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.mask() == mask)
    }

    /// The bit of the contract's mask.
    #[must_use]
    pub fn mask(self) -> U256 {
        match self {
            Self::Governance => roles::GOVERNANCE,
            Self::Supply => roles::SUPPLY,
            Self::Custodian => roles::CUSTODIAN,
            Self::Emergency => roles::EMERGENCY,
            Self::Sale => roles::SALE,
            Self::Funds => roles::FUNDS,
        }
    }

    /// The name as callers know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Supply => "supply",
            Self::Custodian => "custodian",
            Self::Emergency => "emergency",
            Self::Sale => "sale",
            Self::Funds => "funds",
        }
    }
}

// === impl AssetClass ===

impl AssetClass {
    /// The stored and attested name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bond => "bond",
            Self::Equity => "equity",
            Self::Fund => "fund",
            Self::Deposit => "deposit",
            Self::Stablecoin => "stablecoin",
            Self::RealEstate => "real_estate",
            Self::PreciousMetal => "precious_metal",
        }
    }

    /// Every class.
    pub const ALL: [Self; 7] =
        [Self::Bond, Self::Equity, Self::Fund, Self::Deposit, Self::Stablecoin, Self::RealEstate, Self::PreciousMetal];

    /// The class of a stored name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// Who must have agreed before an action is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// The sender has a right on the asset.
    OnAsset(Right),
    /// The sender holds a role in the tenant's system.
    System(SystemRole),
}

/// What a sender may do on an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// The sender moves what is its own.
    Holder,
    /// The sender holds a role on the asset.
    Role(AssetRole),
    /// The sender is the asset's admin.
    Owner,
    /// The sender is an approver of the asset's `ApprovalRule`.
    Approver,
    /// Any sender: what is done only makes books true.
    Anyone,
}

// === impl AssetAction ===

impl AssetAction {
    /// Name of the operation kind, for instance `asset.mint`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mint { .. } => "asset.mint",
            Self::Burn { .. } => "asset.burn",
            Self::Transfer { .. } => "asset.transfer",
            Self::ForcedTransfer { .. } => "asset.forced_transfer",
            Self::SetAddressFrozen { .. } => "asset.set_address_frozen",
            Self::FreezePartial { .. } => "asset.freeze_partial",
            Self::UnfreezePartial { .. } => "asset.unfreeze_partial",
            Self::Pause => "asset.pause",
            Self::Unpause => "asset.unpause",
            Self::GrantRole { .. } => "asset.grant_role",
            Self::RevokeRole { .. } => "asset.revoke_role",
            Self::AddRule { .. } => "compliance.add_rule",
            Self::RemoveRule { .. } => "compliance.remove_rule",
            Self::Rules(action) => action.kind(),
            Self::SetFeature { .. } => "compliance.set_feature_parameters",
            Self::CollectManagementFee => "compliance.collect_management_fee",
            Self::SetPolicy { .. } => "compliance.set_policy",
            Self::SetIdentityExemption { .. } => "compliance.set_identity_exemption",
        }
    }

    /// What the sender needs.
    #[must_use]
    pub fn authority(&self) -> Authority {
        Authority::OnAsset(match self {
            Self::Transfer { .. } => Right::Holder,
            Self::Mint { .. } | Self::Burn { .. } => Right::Role(AssetRole::Supply),
            Self::ForcedTransfer { .. }
            | Self::SetAddressFrozen { .. }
            | Self::FreezePartial { .. }
            | Self::UnfreezePartial { .. } => Right::Role(AssetRole::Custodian),
            Self::Pause | Self::Unpause => Right::Role(AssetRole::Emergency),
            Self::GrantRole { .. } | Self::RevokeRole { .. } => Right::Owner,
            Self::AddRule { .. }
            | Self::RemoveRule { .. }
            | Self::SetFeature { .. }
            | Self::SetIdentityExemption { .. } => Right::Role(AssetRole::Governance),
            Self::CollectManagementFee => Right::Anyone,
            Self::Rules(action) => action.right(),
            Self::SetPolicy { .. } => return Authority::System(SystemRole::ClaimPolicyManager),
        })
    }
}
