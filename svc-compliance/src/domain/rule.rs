//! Rules and their parameters, one file per rule. Each is parsed into what its contract can take; nothing empty ever means
//! "everyone".

pub mod action;
pub mod approval;
pub mod catalogue;
pub mod claim;
pub mod collateral;
pub mod country;
mod fields;
pub mod holder_limit;
pub mod holding_period;
pub mod issuance;
pub mod list;
mod price;
pub mod transfer_limit;
pub mod window;

pub use action::RuleAction;
pub use approval::ApprovalRule;
pub use claim::ClaimRule;
pub use collateral::CollateralRule;
pub use country::CountryRule;
pub use fields::Fields;
pub use holder_limit::HolderLimitRule;
pub use holding_period::HoldingPeriodRule;
pub use issuance::IssuanceRule;
pub use list::ListRule;
pub use price::PriceSource;
pub use transfer_limit::TransferLimitRule;
pub use window::{VolumeLimit, Window};

use super::{
    claim::TopicName,
    expression::{Claims, Expression, SavedRef},
};
use serde::{Deserialize, Serialize};

/// A rule with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Allows or blocks countries.
    Country(CountryRule),
    /// Demands claims beyond the asset's policy.
    Claim(ClaimRule),
    /// Keeps an allow list and a block list.
    List(ListRule),
    /// Limits how many people hold the asset.
    HolderLimit(HolderLimitRule),
    /// Limits what may be issued.
    Issuance(IssuanceRule),
    /// Keeps tokens with their holder for some days.
    HoldingPeriod(HoldingPeriodRule),
    /// Asks approval of every transfer.
    Approval(ApprovalRule),
    /// Limits amount and volume of transfers.
    TransferLimit(TransferLimitRule),
    /// Lets mint only what attested collateral covers.
    Collateral(CollateralRule),
}

/// Which rule contract a rule is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are those of the contracts
pub enum RuleKind {
    Country,
    Claim,
    List,
    HolderLimit,
    Issuance,
    HoldingPeriod,
    Approval,
    TransferLimit,
    Collateral,
}

/// Who of the two parties of a transfer is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sides {
    /// The recipient.
    #[default]
    Recipient,
    /// The sender.
    Sender,
    /// Both.
    Both,
}

// === impl Rule ===

impl Rule {
    /// Which contract judges it.
    #[must_use]
    pub fn kind(&self) -> RuleKind {
        match self {
            Self::Country(_) => RuleKind::Country,
            Self::Claim(_) => RuleKind::Claim,
            Self::List(_) => RuleKind::List,
            Self::HolderLimit(_) => RuleKind::HolderLimit,
            Self::Issuance(_) => RuleKind::Issuance,
            Self::HoldingPeriod(_) => RuleKind::HoldingPeriod,
            Self::Approval(_) => RuleKind::Approval,
            Self::TransferLimit(_) => RuleKind::TransferLimit,
            Self::Collateral(_) => RuleKind::Collateral,
        }
    }

    /// The topics it needs to exist, without those of a saved expression.
    #[must_use]
    pub fn topics(&self) -> Vec<&TopicName> {
        match self {
            Self::Claim(rule) => rule.claims.written().map(Expression::topics).unwrap_or_default(),
            Self::Collateral(rule) => vec![&rule.topic],
            _ => Vec::new(),
        }
    }

    /// The saved expression it names.
    #[must_use]
    pub fn saved(&self) -> Option<&SavedRef> {
        match self {
            Self::Claim(rule) => rule.claims.saved(),
            _ => None,
        }
    }

    /// The same rule with the saved expression that it names written down.
    #[must_use]
    pub fn with_expression(self, expression: Expression) -> Self {
        match self {
            Self::Claim(rule) => Self::Claim(ClaimRule { claims: Claims::AnyOf(expression), ..rule }),
            other => other,
        }
    }
}

// === impl RuleKind ===

impl RuleKind {
    /// Every kind, in the order of the wire.
    pub const ALL: [Self; 9] = [
        Self::Country,
        Self::Claim,
        Self::List,
        Self::HolderLimit,
        Self::Issuance,
        Self::HoldingPeriod,
        Self::Approval,
        Self::TransferLimit,
        Self::Collateral,
    ];

    /// The name that the contract gives itself; also its key in the address book.
    #[must_use]
    pub const fn contract(self) -> &'static str {
        match self {
            Self::Country => "CountryRule",
            Self::Claim => "ClaimRule",
            Self::List => "ListRule",
            Self::HolderLimit => "HolderLimitRule",
            Self::Issuance => "IssuanceRule",
            Self::HoldingPeriod => "HoldingPeriodRule",
            Self::Approval => "ApprovalRule",
            Self::TransferLimit => "TransferLimitRule",
            Self::Collateral => "CollateralRule",
        }
    }

    /// The kind of a contract's name.
    #[must_use]
    pub fn of_contract(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.contract() == name)
    }

    /// The field of a binding that holds its parameters.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Country => "country",
            Self::Claim => "claim",
            Self::List => "list",
            Self::HolderLimit => "holder_limit",
            Self::Issuance => "issuance",
            Self::HoldingPeriod => "holding_period",
            Self::Approval => "approval",
            Self::TransferLimit => "transfer_limit",
            Self::Collateral => "collateral",
        }
    }

    /// The path, below the binding, of what the contract calls by another name when it refuses parameters.
    #[must_use]
    pub fn field_of(self, refused: &str) -> String {
        let field = match (self, refused) {
            (Self::List, "allowSides") => "allow",
            (Self::List, "blockSides") => "block",
            (Self::HolderLimit, "max") => "max_holders",
            (Self::Issuance, "kind") => "limits.measure",
            (Self::Issuance, "window") => "limits.window",
            (Self::Issuance, "max") => "limits.max",
            (Self::Issuance, "issuedBefore") => "limits.ever.issued_before",
            (Self::Issuance, "maxAge") => "limits.price.max_age_s",
            (Self::Issuance, "feed") => "limits.price.feed",
            (Self::Approval, "maxValidity") => "max_validity_s",
            (Self::TransferLimit, "maxAmount") => "max_amount",
            (Self::TransferLimit, "perHolder") => "per_holder",
            (Self::TransferLimit, "perToken") => "per_token",
            (Self::Collateral, "ratio") => "ratio_bps",
            (Self::Collateral, "maxAge") => "price.max_age_s",
            (Self::Collateral, "feed") => "price.feed",
            (_, other) => other,
        };
        format!("{}.{field}", self.field())
    }

    /// Whether wallets of the platform can be exempted from it.
    #[must_use]
    pub fn exempts(self) -> bool {
        matches!(self, Self::HolderLimit | Self::HoldingPeriod | Self::TransferLimit)
    }
}

// === impl Sides ===

impl Sides {
    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
    fn is_recipient(&self) -> bool {
        *self == Self::Recipient
    }
}
