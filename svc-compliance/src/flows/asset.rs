//! Operations of one transaction on an asset. One kind each, one body for all.

use super::{
    Moves, call,
    rules::{self, rule_params},
    single_transaction,
};
use crate::{
    decoder::PREVIEW,
    domain::{
        asset::{AssetAction, AssetCommand},
        expression::Expression,
    },
};
use alloy::{
    primitives::{Address, Bytes, U256, keccak256},
    sol_types::SolCall as _,
};
use dalp_contracts::bindings::{
    AssetToken, AssetTokenCustody, AssetTokenGovernance, ManagementFee, RegistryAdministration, RegistryRecords,
    TokenCompliance,
};
use dalp_engine::{Amounts, Call, Flows, PreCheck};
use serde::{Deserialize, Serialize};

/// An operation on an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetOrder {
    /// Where.
    pub chain_id: u64,
    /// Compliance of the asset and contract of the rule, for operations on rules and features.
    pub rule_target: Option<RuleTarget>,
    /// The registry, for operations on what it keeps of the asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Address>,
    /// What holders need, written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Expression>,
    /// What was asked for.
    pub command: AssetCommand,
}

/// What an operation on rules is sent to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTarget {
    /// Compliance of the asset.
    pub compliance: Address,
    /// Contract of the rule.
    pub module: Address,
    /// Parameters in the contract's encoding, with saved expressions written down. Empty in orders of the first release, whose
    /// rules say everything themselves.
    #[serde(default, skip_serializing_if = "<[u8]>::is_empty")]
    pub params: Bytes,
}

macro_rules! flows {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)+) => {
        single_transaction! {
            $($(#[$doc])* $name = $kind, AssetOrder, "send", |order| transaction(order);)+
        }

        /// Adds the flows of this module.
        #[must_use]
        pub fn register(flows: Flows) -> Flows {
            flows$(.with::<$name>())+
        }

        /// Runs the macro for the flow of an action's kind.
        macro_rules! with_asset_flow {
            ($action:expr, $then:ident) => {
                match $action.kind() {
                    $($kind => $then!($crate::flows::asset::$name),)+
                    other => unreachable!("every action has a flow, {other} has none"),
                }
            };
        }
        pub(crate) use with_asset_flow;
    };
}

flows! {
    /// `asset.mint`.
    MintFlow = "asset.mint";
    /// `asset.burn`.
    BurnFlow = "asset.burn";
    /// `asset.transfer`.
    TransferFlow = "asset.transfer";
    /// `asset.forced_transfer`.
    ForcedTransferFlow = "asset.forced_transfer";
    /// `asset.set_address_frozen`.
    SetAddressFrozenFlow = "asset.set_address_frozen";
    /// `asset.freeze_partial`.
    FreezePartialFlow = "asset.freeze_partial";
    /// `asset.unfreeze_partial`.
    UnfreezePartialFlow = "asset.unfreeze_partial";
    /// `asset.pause`.
    PauseFlow = "asset.pause";
    /// `asset.unpause`.
    UnpauseFlow = "asset.unpause";
    /// `asset.grant_role`.
    GrantRoleFlow = "asset.grant_role";
    /// `asset.revoke_role`.
    RevokeRoleFlow = "asset.revoke_role";
    /// `compliance.add_rule`.
    AddRuleFlow = "compliance.add_rule";
    /// `compliance.remove_rule`.
    RemoveRuleFlow = "compliance.remove_rule";
    /// `compliance.set_rule_parameters`.
    SetRuleParametersFlow = "compliance.set_rule_parameters";
    /// `compliance.set_list_entries`.
    SetListEntriesFlow = "compliance.set_list_entries";
    /// `compliance.set_rule_exemption`.
    SetRuleExemptionFlow = "compliance.set_rule_exemption";
    /// `compliance.count_holders`.
    CountHoldersFlow = "compliance.count_holders";
    /// `compliance.approve_transfer`.
    ApproveTransferFlow = "compliance.approve_transfer";
    /// `compliance.revoke_approval`.
    RevokeApprovalFlow = "compliance.revoke_approval";
    /// `compliance.set_feature_parameters`.
    SetFeatureParametersFlow = "compliance.set_feature_parameters";
    /// `compliance.collect_management_fee`.
    CollectManagementFeeFlow = "compliance.collect_management_fee";
    /// `compliance.set_policy`.
    SetPolicyFlow = "compliance.set_policy";
    /// `compliance.set_identity_exemption`.
    SetIdentityExemptionFlow = "compliance.set_identity_exemption";
}

impl Moves for AssetOrder {
    fn moves(&self) -> Amounts {
        let AssetCommand { asset, action, .. } = &self.command;
        match action {
            AssetAction::Mint { amount, .. }
            | AssetAction::Burn { amount, .. }
            | AssetAction::Transfer { amount, .. }
            | AssetAction::ForcedTransfer { amount, .. }
            | AssetAction::FreezePartial { amount, .. }
            | AssetAction::UnfreezePartial { amount, .. } => Amounts::of(*asset, *amount),
            _ => Amounts::about(*asset),
        }
    }
}

/// The transaction of an operation, with the pre-check where compliance has a say.
pub(crate) fn transaction(order: &AssetOrder) -> Call {
    let AssetCommand { sender, asset, action } = &order.command;
    let token = |data: Vec<u8>| Call::new(order.chain_id, *sender, *asset, data);
    let target = order.rule_target.clone().unwrap_or_default();
    let compliance = |data: Vec<u8>| Call::new(order.chain_id, *sender, target.compliance, data);
    let registry = |data: Vec<u8>| Call::new(order.chain_id, *sender, order.registry.unwrap_or_default(), data);
    match action {
        AssetAction::Mint { to, amount } => checked(
            call(order.chain_id, *sender, *asset, &AssetToken::mintCall { to: *to, amount: *amount }),
            Address::ZERO,
            *to,
            *amount,
        ),
        AssetAction::Transfer { to, amount } => checked(
            call(order.chain_id, *sender, *asset, &AssetToken::transferCall { to: *to, amount: *amount }),
            *sender,
            *to,
            *amount,
        ),
        AssetAction::Burn { from, amount } => {
            token(AssetToken::burnCall { account: *from, amount: *amount }.abi_encode())
        }
        // The reason's text stays in the audit log; the chain keeps its hash.
        AssetAction::ForcedTransfer { from, to, amount, reason } => token(
            AssetTokenCustody::forcedTransferForCall {
                from: *from,
                to: *to,
                amount: *amount,
                reason: keccak256(reason.as_bytes()),
            }
            .abi_encode(),
        ),
        AssetAction::SetAddressFrozen { holder, frozen, .. } => {
            token(AssetTokenCustody::setAddressFrozenCall { account: *holder, freeze: *frozen }.abi_encode())
        }
        AssetAction::FreezePartial { holder, amount, .. } => {
            token(AssetTokenCustody::freezePartialTokensCall { account: *holder, amount: *amount }.abi_encode())
        }
        AssetAction::UnfreezePartial { holder, amount, .. } => {
            token(AssetTokenCustody::unfreezePartialTokensCall { account: *holder, amount: *amount }.abi_encode())
        }
        AssetAction::Pause => token(AssetToken::pauseCall {}.abi_encode()),
        AssetAction::Unpause => token(AssetToken::unpauseCall {}.abi_encode()),
        AssetAction::GrantRole { role, account } => {
            token(AssetTokenGovernance::grantCall { account: *account, roleMask: role.mask() }.abi_encode())
        }
        AssetAction::RevokeRole { role, account } => {
            token(AssetTokenGovernance::revokeCall { account: *account, roleMask: role.mask() }.abi_encode())
        }
        AssetAction::AddRule { rule } => {
            let params = if target.params.is_empty() { rule_params(rule) } else { target.params.clone() };
            compliance(TokenCompliance::addModuleCall { module: target.module, params }.abi_encode())
        }
        AssetAction::RemoveRule { module } => {
            compliance(TokenCompliance::removeModuleCall { module: *module }.abi_encode())
        }
        AssetAction::Rules(action) => {
            let (to, data) = rules::transaction(action, &target);
            Call::new(order.chain_id, *sender, to, data)
        }
        AssetAction::SetFeature { .. } => compliance(
            TokenCompliance::setModuleParamsCall { module: target.module, params: target.params }.abi_encode(),
        ),
        AssetAction::CollectManagementFee => {
            call(order.chain_id, *sender, target.module, &ManagementFee::collectCall { token: *asset })
        }
        AssetAction::SetPolicy { .. } => registry(match &order.policy {
            Some(expression) => RegistryAdministration::setPolicyCall {
                token: *asset,
                anyOf: rules::groups(expression)
                    .map(|(all_of, none_of)| RegistryAdministration::Group { allOf: all_of, noneOf: none_of })
                    .collect(),
            }
            .abi_encode(),
            None => RegistryAdministration::clearPolicyCall { token: *asset }.abi_encode(),
        }),
        AssetAction::SetIdentityExemption { account, exempt } => {
            registry(RegistryRecords::setExemptCall { token: *asset, account: *account, exempt: *exempt }.abi_encode())
        }
    }
}

/// Adds the question whether compliance agrees, so that a refusal names module and reason before anything is signed.
pub(crate) fn checked(mut call: Call, from: Address, to: Address, amount: U256) -> Call {
    if let Some(target) = call.target {
        let data = AssetToken::previewCall { from, to, amount }.abi_encode().into();
        call.sensitive_checks.push(PreCheck { target, data, decoder: PREVIEW.to_owned() });
    }
    call
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            claim::TopicName,
            expression::{Claims, Group},
        },
        flows::replay::play,
    };
    use dalp_engine::{Failure, flow::Verdict};

    fn order(action: AssetAction) -> AssetOrder {
        let command = AssetCommand { sender: Address::repeat_byte(1), asset: Address::repeat_byte(2), action };
        AssetOrder { chain_id: 1, rule_target: None, registry: None, policy: None, command }
    }

    #[test]
    fn transfers_and_mints_ask_compliance_first() {
        let (to, amount) = (Address::repeat_byte(3), U256::from(5));
        for (action, from) in [
            (AssetAction::Transfer { to, amount }, Address::repeat_byte(1)),
            (AssetAction::Mint { to, amount }, Address::ZERO),
        ] {
            let played = play::<TransferFlow>(&order(action), |_| Ok(vec![]));
            let check = &played.calls[0].1.sensitive_checks[0];
            let asked = AssetToken::previewCall::abi_decode(&check.data).expect("preview");
            assert_eq!((asked.from, asked.to, asked.amount, check.target), (from, to, amount, Address::repeat_byte(2)));
        }
    }

    #[test]
    fn a_forced_transfer_skips_the_rules() {
        let action = AssetAction::ForcedTransfer {
            from: Address::repeat_byte(4),
            to: Address::repeat_byte(3),
            amount: U256::from(5),
            reason: "court order".into(),
        };
        let call = transaction(&order(action));
        assert!(call.sensitive_checks.is_empty());
        let sent = AssetTokenCustody::forcedTransferForCall::abi_decode(&call.data)
            .expect("a forced transfer with its reason");
        assert_eq!(sent.reason, keccak256("court order"));
    }

    #[test]
    fn a_refusal_is_the_operation_s() {
        let action = AssetAction::Transfer { to: Address::repeat_byte(3), amount: U256::from(5) };
        let refusal = Failure::new("COMPLIANCE_REFUSED", "no").with("module", "CountryRule");
        let played = play::<TransferFlow>(&order(action), |_| Err(refusal.clone()));
        assert_eq!(played.verdict, Verdict::Failed(refusal.clone().with("step", "send")));
    }

    #[test]
    fn a_policy_is_set_as_it_was_written_down_or_cleared() {
        let group = Group { all_of: vec![TopicName::unchecked("kyc")], none_of: vec![TopicName::unchecked("barred")] };
        let written = Expression::of_contract(vec![group]);
        let policy = Some(Claims::AnyOf(written.clone()));
        let registry = Some(Address::repeat_byte(9));
        let set = AssetOrder { registry, policy: Some(written), ..order(AssetAction::SetPolicy { policy }) };
        let sent = transaction(&set);
        let call = RegistryAdministration::setPolicyCall::abi_decode(&sent.data).expect("setPolicy");
        assert_eq!((sent.target, call.token, call.anyOf.len()), (registry, Address::repeat_byte(2), 1));
        assert_eq!(call.anyOf[0].noneOf, [TopicName::unchecked("barred").id()]);
        let clear = AssetOrder { registry, ..order(AssetAction::SetPolicy { policy: None }) };
        RegistryAdministration::clearPolicyCall::abi_decode(&transaction(&clear).data).expect("clearPolicy");
    }

    #[test]
    fn every_action_has_a_registered_flow() {
        let flows = register(Flows::new());
        for kind in
            ["asset.mint", "asset.transfer", "compliance.add_rule", "compliance.remove_rule", "asset.revoke_role"]
        {
            assert!(flows.contains(kind, 1), "{kind}");
        }
    }
}
