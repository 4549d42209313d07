//! What there is to know of each kind of rule before one is bound. Parameters are described by the wire, refusals by their table.

use super::RuleKind;
use crate::domain::compliance::{Cure, REASONS, module_of};

/// When a rule is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before a transfer or mint, to judge it.
    Check,
    /// After a transfer.
    Transfer,
    /// After a mint.
    Mint,
    /// After a burn.
    Burn,
    /// Before a mint only, to judge it.
    CheckMint,
}

// === impl RuleKind ===

impl RuleKind {
    /// What it does, in a sentence.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Country => "admits or bars recipients by the country of their registration",
            Self::Claim => "asks recipients, senders or both for claims beyond the asset's policy",
            Self::List => "admits only who is on an allow list, and bars who is on a block list",
            Self::HolderLimit => "limits how many people hold the asset, in all and by country",
            Self::Issuance => "limits what may be issued: supply, ever, or within a window, in units or in fiat",
            Self::HoldingPeriod => "keeps tokens with their holder for whole days after they were received",
            Self::Approval => "lets a transfer pass that an approver has agreed to",
            Self::TransferLimit => "limits single transfers, and the volume of a person and of the asset",
            Self::Collateral => "lets mint only as far as collateral is attested on the asset's identity",
        }
    }

    /// When its contract is called.
    #[must_use]
    pub fn hooks(self) -> Vec<Hook> {
        match self {
            Self::Country | Self::Claim | Self::List => vec![Hook::Check],
            Self::HolderLimit | Self::HoldingPeriod => vec![Hook::Check, Hook::Transfer, Hook::Mint, Hook::Burn],
            Self::Issuance => vec![Hook::CheckMint, Hook::Mint],
            Self::Approval => vec![Hook::Check, Hook::Transfer, Hook::Mint],
            Self::TransferLimit => vec![Hook::Check, Hook::Transfer],
            Self::Collateral => vec![Hook::CheckMint],
        }
    }

    /// Why it refuses, who can cure that, and how.
    pub fn reasons(self) -> impl Iterator<Item = (&'static str, Cure, &'static str)> {
        // What every rule says that was bound without parameters is of the module "Rule".
        REASONS
            .iter()
            .filter(move |(reason, ..)| [self.contract(), "Rule"].contains(&module_of(reason)))
            .map(|(reason, cure, advice)| (*reason, *cure, *advice))
    }

    /// The RPCs of the compliance service that change what it keeps, beside those that every rule has.
    #[must_use]
    pub fn calls(self) -> Vec<&'static str> {
        let mut calls = match self {
            Self::List => vec!["SetListEntries"],
            Self::HolderLimit => vec!["CountHolders"],
            Self::Approval => vec!["ApproveTransfer", "RevokeApproval"],
            _ => Vec::new(),
        };
        if self.exempts() {
            calls.push("SetRuleExemption");
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_says_why_it_refuses() {
        for kind in RuleKind::ALL {
            let reasons: Vec<_> = kind.reasons().map(|(reason, ..)| reason).collect();
            assert!(reasons.len() >= 2 && reasons.contains(&"RULE_NOT_CONFIGURED"), "{kind:?}: {reasons:?}");
            assert_eq!(RuleKind::of_contract(kind.contract()), Some(kind));
        }
    }

    #[test]
    fn its_calls_are_rpcs() {
        let methods = dalp_proto::Methods::load();
        for call in RuleKind::ALL.into_iter().flat_map(RuleKind::calls) {
            let path = format!("/dalp.compliance.v1.ComplianceService/{call}");
            assert!(methods.iter().any(|method| method.path == path), "{call}");
        }
    }
}
