//! Asset issuance: token, compliance, rules, identity, policy and roles in one factory call (born paused), then claims on the
//! token's own identity, then unpause and the first mint.

use super::{
    asset::checked,
    call,
    features::voting_power,
    rules::{policy, rule_params},
};
use crate::domain::{
    asset::{AssetRole, CreateAsset},
    claim::{SCHEME_ECDSA, TopicName, asset_topics},
    expression::Expression,
    rule::RuleKind,
};
use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::{SolEvent as _, SolValue as _},
};
use dalp_contracts::bindings::{AssetFactory, AssetToken, Identity, TokenCompliance};
use dalp_engine::{Amounts, Call, Cx, Failure, Flow, Mined, OperationId, SignDocument, Step};
use dalp_service::Reason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `asset.create`.
pub struct CreateAssetFlow;

/// An asset to create, with the contracts of the tenant that take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateAssetOrder {
    /// Where.
    pub chain_id: u64,
    /// The tenant's asset factory.
    pub asset_factory: Address,
    /// Contract of country rules; only in orders of the first release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_rule: Option<Address>,
    /// Contract of claim rules; only in orders of the first release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_rule: Option<Address>,
    /// Contracts and parameters of rules, in the order they are asked, and of features that assets share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<ModuleConfig>,
    /// Roles of the template that the order gives to nobody: the issuer's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuer_roles: Vec<AssetRole>,
    /// Whether the asset gets a contract for its votes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub voting_power: bool,
    /// What holders need, written down; none where the command's topics say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Expression>,
    /// Identity of the issuer.
    pub issuer_identity: Address,
    /// What was asked for.
    pub command: CreateAsset,
}

/// A contract that is bound to the compliance of an asset, with its parameters in the contract's encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleConfig {
    /// The contract.
    pub module: Address,
    /// Its parameters.
    pub params: Bytes,
    /// The roles on the asset that it works with.
    #[serde(default, skip_serializing_if = "U256::is_zero")]
    pub roles: U256,
}

/// A created asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetCreated {
    /// Token.
    pub asset: Address,
    /// Its compliance.
    pub compliance: Address,
    /// Its own identity.
    pub identity: Address,
    /// Block of its creation.
    pub block_number: u64,
    /// The contract of its votes, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voting_power: Option<Address>,
}

impl Flow for CreateAssetFlow {
    const KIND: &'static str = "asset.create";
    type Order = CreateAssetOrder;
    type Outcome = AssetCreated;

    /// The asset has no address before it is created: its initial supply counts for policies over every asset.
    fn amounts(order: &CreateAssetOrder) -> Amounts {
        order.command.initial_mint.map(|(_, amount)| Amounts::of(Address::ZERO, amount)).unwrap_or_default()
    }

    fn run(cx: &mut Cx<'_, CreateAssetOrder>) -> Step<AssetCreated> {
        let (order, operation) = (cx.order(), cx.operation_id());
        let (chain_id, issuer) = (order.chain_id, order.command.issuer);
        let create = AssetFactory::createCall { config: config(order, operation) };
        let mined = cx.transact("create", || call(chain_id, issuer, order.asset_factory, &create))?;
        let Some(mut created) = created(order, &mined) else {
            return cx.fail(Failure::new(Reason::Internal.as_str(), "the creation has no AssetCreated event"));
        };
        if order.voting_power {
            let mined = cx.transact("voting_power", || voting_power(chain_id, issuer, created.asset))?;
            let Some(votes) = mined.contract_address else {
                return cx.fail(Failure::new(Reason::Internal.as_str(), "the creation has no contract address"));
            };
            let attach = TokenCompliance::addModuleCall { module: votes, params: Bytes::new() };
            cx.transact("attach_voting_power", || call(chain_id, issuer, created.compliance, &attach))?;
            created.voting_power = Some(votes);
        }
        for (name, claim) in claims(order, &created) {
            let signature = cx.sign(&format!("sign_{name}"), || SignDocument::Claim {
                signer: issuer,
                identity: created.identity,
                topic: B256::from(claim.topic.to_be_bytes::<32>()),
                data: claim.data.clone(),
            })?;
            let add = Identity::addClaimCall {
                topic: claim.topic,
                scheme: U256::from(SCHEME_ECDSA),
                issuer: order.issuer_identity,
                signature: signature.0,
                data: claim.data,
                uri: String::new(),
            };
            cx.transact(&format!("claim_{name}"), || call(chain_id, issuer, created.identity, &add))?;
        }
        if order.command.unpause {
            cx.transact("unpause", || call(chain_id, issuer, created.asset, &AssetToken::unpauseCall {}))?;
        }
        if let Some((to, amount)) = order.command.initial_mint {
            cx.transact("mint", || initial_mint(order, &created, to, amount))?;
        }
        cx.done(created)
    }
}

/// A claim on the asset's own identity.
struct AssetClaim {
    topic: U256,
    data: Bytes,
}

fn config(order: &CreateAssetOrder, operation: OperationId) -> AssetFactory::AssetConfig {
    let command = &order.command;
    let mut salt = [0; 32];
    salt[16..].copy_from_slice(operation.0.as_bytes());
    let asked = order.policy.clone().or_else(|| Expression::all_of(&command.claim_topics));
    AssetFactory::AssetConfig {
        salt: B256::new(salt),
        name: command.name.clone(),
        symbol: command.symbol.clone(),
        decimals: command.decimals,
        owner: command.issuer,
        grants: grants(order),
        rules: modules(order)
            .into_iter()
            .map(|one| AssetFactory::RuleConfig { module: one.module, params: one.params })
            .collect(),
        policy: asked.as_ref().map(policy).unwrap_or_default(),
        unpause: false,
        mints: Vec::new(),
    }
}

/// Roles by account. The issuer gets governance, the roles that the order itself needs of it, and those of the template that are
/// given to nobody; features get what they work with.
fn grants(order: &CreateAssetOrder) -> Vec<AssetFactory::RoleGrant> {
    let command = &order.command;
    let mut masks: BTreeMap<Address, U256> = BTreeMap::new();
    *masks.entry(command.issuer).or_default() |= AssetRole::Governance.mask();
    if command.unpause {
        *masks.entry(command.issuer).or_default() |= AssetRole::Emergency.mask();
    }
    if command.initial_mint.is_some() {
        *masks.entry(command.issuer).or_default() |= AssetRole::Supply.mask();
    }
    for role in &order.issuer_roles {
        *masks.entry(command.issuer).or_default() |= role.mask();
    }
    for feature in order.modules.iter().filter(|module| !module.roles.is_zero()) {
        *masks.entry(feature.module).or_default() |= feature.roles;
    }
    for (role, account) in &command.roles {
        *masks.entry(*account).or_default() |= role.mask();
    }
    masks.into_iter().map(|(account, roles)| AssetFactory::RoleGrant { account, roles }).collect()
}

/// What is bound at birth. Orders of the first release name two contracts and leave the encoding to the flow.
fn modules(order: &CreateAssetOrder) -> Vec<ModuleConfig> {
    if !order.modules.is_empty() {
        return order.modules.clone();
    }
    let first_release = order.command.rules.iter().filter_map(|rule| {
        let module = match rule.kind() {
            RuleKind::Country => order.country_rule,
            RuleKind::Claim => order.claim_rule,
            _ => None,
        };
        Some(ModuleConfig { module: module?, params: rule_params(rule), roles: U256::ZERO })
    });
    first_release.collect()
}

fn created(order: &CreateAssetOrder, mined: &Mined) -> Option<AssetCreated> {
    mined.logs.iter().filter(|log| log.address() == order.asset_factory).find_map(|log| {
        let event = AssetFactory::AssetCreated::decode_log(&log.inner).ok()?;
        Some(AssetCreated {
            asset: event.token,
            compliance: event.compliance,
            identity: event.onchainID,
            block_number: mined.block_number,
            voting_power: None,
        })
    })
}

fn claims(order: &CreateAssetOrder, created: &AssetCreated) -> Vec<(&'static str, AssetClaim)> {
    let claim = |topic: &str, data: Vec<u8>| AssetClaim { topic: TopicName::unchecked(topic).id(), data: data.into() };
    let mut claims = vec![
        ("issuer", claim(asset_topics::ISSUER, (order.issuer_identity, created.asset).abi_encode())),
        ("class", claim(asset_topics::CLASS, order.command.class.name().abi_encode())),
    ];
    if let Some(isin) = &order.command.isin {
        claims.push(("isin", claim(asset_topics::ISIN, isin.as_str().abi_encode())));
    }
    claims
}

fn initial_mint(order: &CreateAssetOrder, created: &AssetCreated, to: Address, amount: U256) -> Call {
    let mint = call(order.chain_id, order.command.issuer, created.asset, &AssetToken::mintCall { to, amount });
    checked(mint, Address::ZERO, to, amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            asset::AssetClass,
            isin::Isin,
            rule::{CountryRule, Rule},
        },
        flows::replay::play,
    };
    use alloy::{primitives::Log, sol_types::SolCall as _};
    use dalp_engine::flow::Verdict;

    fn order() -> CreateAssetOrder {
        CreateAssetOrder {
            chain_id: 1,
            asset_factory: Address::repeat_byte(0xfa),
            country_rule: None,
            claim_rule: None,
            policy: None,
            modules: vec![ModuleConfig {
                module: Address::repeat_byte(0xc0),
                params: Bytes::from_static(&[1]),
                roles: U256::ZERO,
            }],
            issuer_roles: Vec::new(),
            voting_power: false,
            issuer_identity: Address::repeat_byte(0x1d),
            command: CreateAsset {
                issuer: Address::repeat_byte(1),
                name: "Bond".into(),
                symbol: "BND".into(),
                decimals: 0,
                class: AssetClass::Bond,
                isin: Isin::parse("US0378331005").ok(),
                rules: vec![Rule::Country(CountryRule { allow: true, countries: vec![756] })],
                claim_topics: vec![TopicName::unchecked("kyc")],
                policy: None,
                roles: vec![(AssetRole::Custodian, Address::repeat_byte(5))],
                unpause: true,
                initial_mint: Some((Address::repeat_byte(6), U256::from(100))),
                template: None,
                terms: None,
                features: Vec::new(),
            },
        }
    }

    fn event() -> dalp_chain::Log {
        let event = AssetFactory::AssetCreated {
            token: Address::repeat_byte(0xaa),
            creator: Address::repeat_byte(1),
            compliance: Address::repeat_byte(0xbb),
            onchainID: Address::repeat_byte(0xdd),
            salt: B256::ZERO,
            name: "Bond".into(),
            symbol: "BND".into(),
        };
        let inner = Log { address: Address::repeat_byte(0xfa), data: event.encode_log_data() };
        dalp_chain::Log { inner, ..Default::default() }
    }

    #[test]
    fn the_sequence_is_that_of_the_flow_page() {
        let played = play::<CreateAssetFlow>(&order(), |_| Ok(vec![event()]));
        let names: Vec<_> = played.calls.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["create", "claim_issuer", "claim_class", "claim_isin", "unpause", "mint"]);
        let created = AssetFactory::createCall::abi_decode(&played.calls[0].1.data).expect("create").config;
        assert!(!created.unpause && created.mints.is_empty(), "born paused, zero supply");
        let issuer = created.grants.iter().find(|grant| grant.account == Address::repeat_byte(1)).expect("issuer");
        assert_eq!(issuer.roles, U256::from(1 + 2 + 8));
        let Verdict::Done(outcome) = played.verdict else { panic!("{:?}", played.verdict) };
        let asset: AssetCreated = serde_json::from_value(outcome).expect("outcome");
        assert_eq!(asset.asset, Address::repeat_byte(0xaa));
    }

    #[test]
    fn features_are_attached_before_anything_is_minted() {
        let fee = Address::repeat_byte(0xfe);
        let mut with_features = CreateAssetOrder { voting_power: true, ..order() };
        with_features.issuer_roles = vec![AssetRole::Funds];
        let roles = dalp_contracts::roles::asset::SUPPLY;
        with_features.modules.push(ModuleConfig { module: fee, params: Bytes::new(), roles });
        let played = play::<CreateAssetFlow>(&with_features, |_| Ok(vec![event()]));
        let names: Vec<_> = played.calls.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..3], ["create", "voting_power", "attach_voting_power"]);
        let votes = &played.calls[1].1;
        assert!(votes.target.is_none() && votes.data.ends_with(Address::repeat_byte(0xaa).as_slice()));
        let attach = TokenCompliance::addModuleCall::abi_decode(&played.calls[2].1.data).expect("addModule");
        assert_eq!(
            (attach.module, played.calls[2].1.target),
            (Address::repeat_byte(0xcc), Some(Address::repeat_byte(0xbb)))
        );
        let created = AssetFactory::createCall::abi_decode(&played.calls[0].1.data).expect("create").config;
        let of = |account| created.grants.iter().find(|grant| grant.account == account).map(|grant| grant.roles);
        assert_eq!(of(fee), Some(roles));
        assert_eq!(of(Address::repeat_byte(1)), Some(U256::from(1 + 2 + 8 + 32)));
        let Verdict::Done(outcome) = played.verdict else { panic!("{:?}", played.verdict) };
        let asset: AssetCreated = serde_json::from_value(outcome).expect("outcome");
        assert_eq!(asset.voting_power, Some(Address::repeat_byte(0xcc)));
    }

    #[test]
    fn an_order_of_the_first_release_binds_its_rules() {
        let first = CreateAssetOrder { country_rule: Some(Address::repeat_byte(0xc0)), modules: Vec::new(), ..order() };
        let stored = serde_json::to_value(&first).expect("serialises");
        assert_eq!(
            (&stored["modules"], &stored["country_rule"]),
            (&serde_json::Value::Null, &serde_json::json!("0xc0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"))
        );
        let played = play::<CreateAssetFlow>(&first, |_| Ok(vec![event()]));
        let created = AssetFactory::createCall::abi_decode(&played.calls[0].1.data).expect("create").config;
        assert_eq!((created.rules.len(), created.rules[0].module), (1, Address::repeat_byte(0xc0)));
        assert_eq!(created.rules[0].params, rule_params(&first.command.rules[0]));
    }

    #[test]
    fn a_foreign_event_is_not_believed() {
        let played = play::<CreateAssetFlow>(&order(), |_| {
            let mut log = event();
            log.inner.address = Address::repeat_byte(0x66);
            Ok(vec![log])
        });
        assert!(matches!(played.verdict, Verdict::Failed(failure) if failure.reason == "INTERNAL"));
    }
}
