//! Messages of the compliance service to commands.

use super::{
    rule_messages::{claims, entries, rule, wire_kind},
    terms_messages::{feature, feature_kind},
};
use crate::domain::{
    ViolationKind, Violations,
    asset::{AssetAction, AssetCommand},
    compliance::Movement,
    feature::{AttachFeature, DetachFeature, Feature},
    rule::{
        Fields, RuleAction, RuleKind,
        action::MAX_COUNTED,
        approval::{self, Covers},
        list::ListEntry,
    },
};
use dalp_proto::compliance::{self as proto, set_policy_request::Policy};

impl TryFrom<&proto::AddRuleRequest> for AssetCommand {
    type Error = Violations;

    fn try_from(request: &proto::AddRuleRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let sender = violations.address("sender", &request.sender);
        let asset = violations.address("asset", &request.asset);
        match rule(&mut violations, "rule", request.rule.as_ref()) {
            Some(rule) => violations.into_result(Self { sender, asset, action: AssetAction::AddRule { rule } }),
            None => Err(violations),
        }
    }
}

impl TryFrom<&proto::RemoveRuleRequest> for AssetCommand {
    type Error = Violations;

    fn try_from(request: &proto::RemoveRuleRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let command = Self {
            sender: violations.address("sender", &request.sender),
            asset: violations.address("asset", &request.asset),
            action: AssetAction::RemoveRule { module: violations.address("module", &request.module) },
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::SetRuleParametersRequest> for AssetCommand {
    type Error = Violations;

    fn try_from(request: &proto::SetRuleParametersRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let sender = violations.address("sender", &request.sender);
        let asset = violations.address("asset", &request.asset);
        match rule(&mut violations, "rule", request.rule.as_ref()) {
            Some(rule) => {
                let action = AssetAction::Rules(RuleAction::SetParameters { rule });
                violations.into_result(Self { sender, asset, action })
            }
            None => Err(violations),
        }
    }
}

/// One message to one action: who, on which asset, and the fields of the action.
macro_rules! asset_command {
    ($message:ident, |$violations:ident, $request:ident| $action:expr) => {
        impl TryFrom<&proto::$message> for AssetCommand {
            type Error = Violations;

            fn try_from($request: &proto::$message) -> Result<Self, Violations> {
                let mut $violations = Violations::new();
                let sender = $violations.address("sender", &$request.sender);
                let asset = $violations.address("asset", &$request.asset);
                let command = Self { sender, asset, action: $action };
                $violations.into_result(command)
            }
        }
    };
}

asset_command!(SetListEntriesRequest, |violations, request| {
    if request.entries.is_empty() {
        violations.push_kind(ViolationKind::ModuleParameters, "entries", "needs at least one entry");
    }
    // The path of the message's own fields: there is nothing above `entries`.
    let mut fields = Fields::root(&mut violations);
    let entries = ListEntry::all(&mut fields, &entries(&request.entries));
    AssetAction::Rules(RuleAction::SetListEntries { entries })
});
asset_command!(SetRuleExemptionRequest, |violations, request| AssetAction::Rules(RuleAction::SetExemption {
    rule: exempting(&mut violations, request.rule),
    wallet: violations.address("wallet", &request.wallet),
    exempt: request.exempt,
}));
asset_command!(SetIdentityExemptionRequest, |violations, request| AssetAction::SetIdentityExemption {
    account: violations.address("account", &request.account),
    exempt: request.exempt,
});
asset_command!(SetPolicyRequest, |violations, request| AssetAction::SetPolicy {
    policy: match &request.policy {
        Some(Policy::Claims(wire)) => {
            claims(&mut Fields::of_kind(&mut violations, ViolationKind::Field, "claims"), wire)
        }
        Some(Policy::DefaultPolicy(_)) => None,
        None => {
            violations.push("claims", "is missing, and so is default_policy: one of them says what holders need");
            None
        }
    },
});
asset_command!(CollectManagementFeeRequest, |violations, request| AssetAction::CollectManagementFee);
asset_command!(CountHoldersRequest, |violations, request| {
    if !(1..=MAX_COUNTED).contains(&request.wallets.len()) {
        violations.push("wallets", format!("needs 1 to {MAX_COUNTED} wallets"));
    }
    let wallets = request.wallets.iter().take(MAX_COUNTED).enumerate();
    let wallets = wallets.map(|(index, text)| violations.address(&format!("wallets[{index}]"), text)).collect();
    AssetAction::Rules(RuleAction::CountHolders { wallets })
});
asset_command!(ApproveTransferRequest, |violations, request| AssetAction::Rules(RuleAction::Approve {
    movement: movement(&mut violations, request.movement.as_ref()),
    expires_at: request.expires_at,
}));
asset_command!(RevokeApprovalRequest, |violations, request| AssetAction::Rules(RuleAction::RevokeApproval {
    movement: movement(&mut violations, request.movement.as_ref()),
}));

impl TryFrom<&proto::SetFeatureParametersRequest> for AssetCommand {
    type Error = Violations;

    fn try_from(request: &proto::SetFeatureParametersRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let sender = violations.address("sender", &request.sender);
        let asset = violations.address("asset", &request.asset);
        let given = feature(&mut violations, "feature", request.feature.as_ref());
        if given == Some(Feature::VotingPower) {
            let kind = ViolationKind::ModuleParameters;
            violations.push_kind(kind, "feature.voting_power", "has no parameters that could change");
        }
        match given {
            Some(feature) => {
                violations.into_result(Self { sender, asset, action: AssetAction::SetFeature { feature } })
            }
            None => Err(violations),
        }
    }
}

impl TryFrom<&proto::AttachFeatureRequest> for AttachFeature {
    type Error = Violations;

    fn try_from(request: &proto::AttachFeatureRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let sender = violations.address("sender", &request.sender);
        let asset = violations.address("asset", &request.asset);
        match feature(&mut violations, "feature", request.feature.as_ref()) {
            Some(feature) => violations.into_result(Self { sender, asset, feature }),
            None => Err(violations),
        }
    }
}

impl TryFrom<&proto::DetachFeatureRequest> for DetachFeature {
    type Error = Violations;

    fn try_from(request: &proto::DetachFeatureRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let sender = violations.address("sender", &request.sender);
        let asset = violations.address("asset", &request.asset);
        match feature_kind(&mut violations, "feature", request.feature) {
            Some(feature) => violations.into_result(Self { sender, asset, feature }),
            None => Err(violations),
        }
    }
}

/// A movement that may be approved.
pub(super) fn movement(violations: &mut Violations, wire: Option<&proto::ApprovedMovement>) -> approval::Movement {
    let missing = proto::ApprovedMovement::default();
    let wire = wire.unwrap_or(&missing);
    let amount = violations.amount("movement.amount", &wire.amount);
    approval::Movement {
        from: violations.optional_address("movement.from", &wire.from),
        to: violations.address("movement.to", &wire.to),
        covers: if wire.standing { Covers::Standing { max: amount } } else { Covers::Once { amount } },
    }
}

fn exempting(violations: &mut Violations, rule: i32) -> RuleKind {
    let exempting: Vec<RuleKind> = RuleKind::ALL.into_iter().filter(|kind| kind.exempts()).collect();
    exempting.iter().copied().find(|kind| i32::from(wire_kind(*kind)) == rule).unwrap_or_else(|| {
        let names: Vec<_> = exempting.iter().map(|kind| wire_kind(*kind).as_str_name()).collect();
        violations.push("rule", format!("unknown value {rule}: one of {}", names.join(", ")));
        RuleKind::HolderLimit
    })
}

impl TryFrom<&proto::SimulateTransferRequest> for Movement {
    type Error = Violations;

    fn try_from(request: &proto::SimulateTransferRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let movement = Self {
            asset: violations.address("asset", &request.asset),
            from: violations.optional_address("from", &request.from),
            to: violations.optional_address("to", &request.to),
            amount: violations.amount("amount", &request.amount),
            forced: request.forced,
        };
        if request.from.is_empty() && request.to.is_empty() {
            violations.push("to", "give a sender, a receiver, or both");
        } else if request.forced && (request.from.is_empty() || request.to.is_empty()) {
            violations.push("forced", "a forced transfer has a sender and a receiver");
        }
        violations.into_result(movement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ViolationKind;

    const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";

    #[test]
    fn a_rule_must_be_named() {
        let request = proto::AddRuleRequest { sender: WALLET.into(), asset: WALLET.into(), rule: None };
        let violations = AssetCommand::try_from(&request).unwrap_err();
        assert_eq!((violations.kind(), violations.0[0].field.as_str()), (ViolationKind::ModuleParameters, "rule"));
    }

    #[test]
    fn a_movement_has_a_side() {
        let simulate = |from: &str, to: &str, forced: bool| {
            let request = proto::SimulateTransferRequest {
                asset: WALLET.into(),
                from: from.into(),
                to: to.into(),
                amount: "1".into(),
                forced,
            };
            Movement::try_from(&request).map_err(|violations| violations.0[0].field.clone())
        };
        assert_eq!(simulate("", "", false).unwrap_err(), "to");
        assert_eq!(simulate("0x1", "", false).unwrap_err(), "from");
        assert_eq!(simulate("", WALLET, true).unwrap_err(), "forced");
        assert!(simulate("", WALLET, false).unwrap().from.is_none());
    }
}
