//! Deploys a tenant's system. Every address but the first follows from the tenant, so a repeated run finds what is there:
//! the deterministic deployer answers with the existing contract instead of creating a second one.

use crate::{domain::system::Bootstrap, store::systems::SystemAddresses};
use alloy::primitives::{Address, U256, keccak256};
use dalp_contracts::{DeploymentPlan, DeploymentStep, TenantParams, deployer, roles};
use dalp_engine::{Call, Cx, Failure, Flow, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};

/// `system.bootstrap`.
pub struct BootstrapFlow;

/// A system to deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapOrder {
    /// Where.
    pub chain_id: u64,
    /// For whom; separates tenants that share a deployer.
    pub tenant: String,
    /// The deterministic deployer of the chain; absent: the first step creates one.
    pub create2_deployer: Option<Address>,
    /// What was asked for.
    pub command: Bootstrap,
}

impl Flow for BootstrapFlow {
    const KIND: &'static str = "system.bootstrap";
    type Order = BootstrapOrder;
    type Outcome = SystemAddresses;

    fn run(cx: &mut Cx<'_, BootstrapOrder>) -> Step<SystemAddresses> {
        let order = cx.order();
        let admin = order.command.admin;
        let create2_deployer = match order.create2_deployer {
            Some(deployer) => deployer,
            None => {
                // The address in the answer of this helper is for a nonce we do not know yet; the receipt names the real one.
                let (_, creation) = deployer::create2_deployer_creation(admin, 0);
                let mined = cx.transact("deployer", || step_call(order, &creation))?;
                match mined.contract_address {
                    Some(address) => address,
                    None => {
                        return cx
                            .fail(Failure::new(Reason::Internal.as_str(), "the creation has no contract address"));
                    }
                }
            }
        };
        let plan = deployer::plan(&TenantParams {
            create2_deployer,
            tenant_salt: keccak256(order.tenant.as_bytes()),
            operator: admin,
            admin,
            grants: vec![(admin, roles::system::ALL_MANAGERS)],
        });
        let Some((configure, deployments)) = plan.steps.split_last() else {
            return cx.fail(Failure::new(Reason::Internal.as_str(), "the deployment plan is empty"));
        };
        let planned = cx
            .value("plan", || Planned { addresses: addresses(&plan, admin), configure: step_call(order, configure) })?;
        cx.all("deploy", || deployments.iter().map(|step| step_call(order, step)).collect::<Vec<_>>())?;
        cx.transact("configure", || planned.configure)?;
        cx.done(planned.addresses)
    }
}

/// What is known from the start and holds to the end: the addresses follow from the contracts' code, which another release may
/// change while this operation runs.
#[derive(Debug, Serialize, Deserialize)]
struct Planned {
    addresses: SystemAddresses,
    configure: Call,
}

fn addresses(plan: &DeploymentPlan, admin: Address) -> SystemAddresses {
    let addresses = &plan.addresses;
    SystemAddresses {
        admin,
        system: addresses.system,
        identity_registry: addresses.identity_registry,
        identity_factory: addresses.identity_factory,
        topic_scheme_registry: addresses.topic_scheme_registry,
        asset_factory: addresses.asset_factory,
        country_rule: addresses.country_rule,
        claim_rule: addresses.claim_rule,
    }
}

fn step_call(order: &BootstrapOrder, step: &DeploymentStep) -> Call {
    Call {
        chain_id: order.chain_id,
        sender: order.command.admin,
        target: step.to,
        value: U256::ZERO,
        data: step.data.clone(),
        sensitive_checks: Vec::new(),
        secret: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::replay::play;
    use dalp_engine::flow::Verdict;

    fn order(create2_deployer: Option<Address>) -> BootstrapOrder {
        BootstrapOrder {
            chain_id: 1,
            tenant: "acme".into(),
            create2_deployer,
            command: Bootstrap { admin: Address::repeat_byte(1), chain_id: 0 },
        }
    }

    #[test]
    fn deploys_in_order_and_ends_with_the_addresses() {
        let played = play::<BootstrapFlow>(&order(None), |_| Ok(vec![]));
        let names: Vec<_> = played.calls.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names[0], names[1], names.last().copied()), ("deployer", "deploy[0]", Some("configure")));
        assert!(played.calls[0].1.target.is_none());
        // What the receipt names is what the others are sent to.
        assert_eq!(played.calls[1].1.target, Some(Address::repeat_byte(0xcc)));
        let Verdict::Done(outcome) = played.verdict else { panic!("{:?}", played.verdict) };
        let addresses: SystemAddresses = serde_json::from_value(outcome).expect("addresses");
        assert_eq!(addresses.admin, Address::repeat_byte(1));
    }

    #[test]
    fn a_known_deployer_is_not_created_again() {
        let played = play::<BootstrapFlow>(&order(Some(Address::repeat_byte(0xdd))), |_| Ok(vec![]));
        assert_eq!(played.calls[0].0, "deploy[0]");
        assert_eq!(played.calls[0].1.target, Some(Address::repeat_byte(0xdd)));
    }
}
