//! Messages of the compliance service to commands.

use super::asset_messages::rule;
use crate::domain::{
    Violations,
    asset::{AssetAction, AssetCommand},
    compliance::Movement,
};
use dalp_proto::compliance as proto;

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
