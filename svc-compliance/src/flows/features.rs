//! Attaching a feature to an asset that exists, and detaching it. A feature stands among the rules of the asset's compliance; a fee also
//! works with a role on the asset, which it is given before it is bound and which is taken back once it is not.

use super::{Sent, call};
use crate::domain::feature::{AttachFeature, DetachFeature};
use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::SolConstructor as _,
};
use dalp_contracts::bindings::{AssetTokenGovernance, TokenCompliance, VotingPower};
use dalp_engine::{Call, Cx, Failure, Flow, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// `compliance.attach_feature`.
pub struct AttachFeatureFlow;

/// `compliance.detach_feature`.
pub struct DetachFeatureFlow;

/// A feature to attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachFeatureOrder {
    /// Where.
    pub chain_id: u64,
    /// Compliance of the asset.
    pub compliance: Address,
    /// Contract of the feature; none where each asset has its own, which is created first.
    pub module: Option<Address>,
    /// Its parameters in the contract's encoding.
    pub params: Bytes,
    /// Roles on the asset that it works with and does not hold yet.
    pub roles: U256,
    /// What was asked for.
    pub command: AttachFeature,
}

/// A feature to detach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachFeatureOrder {
    /// Where.
    pub chain_id: u64,
    /// Compliance of the asset.
    pub compliance: Address,
    /// Contract of the feature.
    pub module: Address,
    /// Roles on the asset that it holds for its work.
    pub roles: U256,
    /// What was asked for.
    pub command: DetachFeature,
}

/// An attached feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureAttached {
    /// Its contract.
    pub module: Address,
    /// The transaction that bound it.
    #[serde(flatten)]
    pub bound: Sent,
}

impl Flow for AttachFeatureFlow {
    const KIND: &'static str = "compliance.attach_feature";
    type Order = AttachFeatureOrder;
    type Outcome = FeatureAttached;

    fn run(cx: &mut Cx<'_, AttachFeatureOrder>) -> Step<FeatureAttached> {
        let AttachFeatureOrder { chain_id, compliance, module, ref params, roles, ref command } = *cx.order();
        let AttachFeature { sender, asset, .. } = *command;
        let module = match module {
            Some(module) => module,
            None => {
                let mined = cx.transact("create", || voting_power(chain_id, sender, asset))?;
                match mined.contract_address {
                    Some(created) => created,
                    None => {
                        let message = "the creation has no contract address";
                        return cx.fail(Failure::new(Reason::Internal.as_str(), message));
                    }
                }
            }
        };
        if !roles.is_zero() {
            let grant = AssetTokenGovernance::grantCall { account: module, roleMask: roles };
            cx.transact("grant", || call(chain_id, sender, asset, &grant))?;
        }
        let attach = TokenCompliance::addModuleCall { module, params: params.clone() };
        let bound = cx.transact("attach", || call(chain_id, sender, compliance, &attach))?.into();
        cx.done(FeatureAttached { module, bound })
    }
}

impl Flow for DetachFeatureFlow {
    const KIND: &'static str = "compliance.detach_feature";
    type Order = DetachFeatureOrder;
    type Outcome = Sent;

    fn run(cx: &mut Cx<'_, DetachFeatureOrder>) -> Step<Sent> {
        let DetachFeatureOrder { chain_id, compliance, module, roles, ref command } = *cx.order();
        let DetachFeature { sender, asset, .. } = *command;
        let remove = TokenCompliance::removeModuleCall { module };
        let removed = cx.transact("detach", || call(chain_id, sender, compliance, &remove))?;
        if !roles.is_zero() {
            let revoke = AssetTokenGovernance::revokeCall { account: module, roleMask: roles };
            cx.transact("revoke", || call(chain_id, sender, asset, &revoke))?;
        }
        cx.done(removed.into())
    }
}

/// The creation of the contract that counts the votes of an asset.
pub(super) fn voting_power(chain_id: u64, sender: Address, asset: Address) -> Call {
    let init_code =
        [VotingPower::BYTECODE.as_ref(), &VotingPower::constructorCall { token: asset }.abi_encode()].concat();
    Call {
        chain_id,
        sender,
        target: None,
        value: U256::ZERO,
        data: init_code.into(),
        sensitive_checks: Vec::new(),
        secret: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::feature::{Feature, FeatureKind, Fee},
        flows::replay::{Played, play},
    };
    use alloy::sol_types::SolCall as _;
    use dalp_engine::flow::Verdict;

    const SENDER: Address = Address::repeat_byte(1);
    const ASSET: Address = Address::repeat_byte(2);
    const COMPLIANCE: Address = Address::repeat_byte(3);
    const FEE: Address = Address::repeat_byte(4);

    fn attach(feature: Feature, module: Option<Address>, roles: u64) -> Played {
        let command = AttachFeature { sender: SENDER, asset: ASSET, feature };
        let order = AttachFeatureOrder {
            chain_id: 1,
            compliance: COMPLIANCE,
            module,
            params: Bytes::from_static(&[7]),
            roles: U256::from(roles),
            command,
        };
        play::<AttachFeatureFlow>(&order, |_| Ok(vec![]))
    }

    fn steps(played: &Played) -> Vec<(&str, Option<Address>)> {
        played.calls.iter().map(|(name, call)| (name.as_str(), call.target)).collect()
    }

    #[test]
    fn a_fee_has_its_role_before_it_is_bound_and_loses_it_after() {
        let feature = Feature::TransactionFee(Fee { bps: 5, collector: SENDER });
        let attached = attach(feature, Some(FEE), 64);
        assert_eq!(steps(&attached), [("grant", Some(ASSET)), ("attach", Some(COMPLIANCE))]);
        let bound = TokenCompliance::addModuleCall::abi_decode(&attached.calls[1].1.data).expect("addModule");
        assert_eq!((bound.module, bound.params.as_ref()), (FEE, [7].as_slice()));
        assert_eq!(steps(&attach(feature, Some(FEE), 0)), [("attach", Some(COMPLIANCE))], "it has the role already");
        let order = DetachFeatureOrder {
            chain_id: 1,
            compliance: COMPLIANCE,
            module: FEE,
            roles: U256::from(64),
            command: DetachFeature { sender: SENDER, asset: ASSET, feature: FeatureKind::TransactionFee },
        };
        let detached = play::<DetachFeatureFlow>(&order, |_| Ok(vec![]));
        assert_eq!(steps(&detached), [("detach", Some(COMPLIANCE)), ("revoke", Some(ASSET))]);
    }

    #[test]
    fn votes_get_a_contract_of_their_own() {
        let played = attach(Feature::VotingPower, None, 0);
        assert_eq!(steps(&played), [("create", None), ("attach", Some(COMPLIANCE))]);
        assert!(played.calls[0].1.data.ends_with(ASSET.as_slice()));
        let Verdict::Done(outcome) = played.verdict else { panic!("{:?}", played.verdict) };
        let attached: FeatureAttached = serde_json::from_value(outcome).expect("an attached feature");
        assert_eq!(attached.module, Address::repeat_byte(0xcc));
    }
}
