//! What operators change about an asset that exists: its features, who is exempt, what holders need. Each is read back.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::{Address, U256};
use dalp_contracts::{
    bindings::{AssetToken, VotingPower},
    roles::{asset as roles, names},
};
use dalp_proto::{
    asset::{
        self, AssetRole, ClaimExpression, Feature, FeatureKind, FeeFeature, RuleKind, SavedExpression,
        TransferLimitRule, VotingPowerFeature, claim_expression::Form, feature::Feature as Wire, rule_binding,
    },
    compliance::{self, DefaultPolicy, Exemption, set_policy_request::Policy},
    identity,
    operation::Operation,
};
use serde_json::json;
use support::{Stack, refusal, text};

/// A bond, its admin, who governs it, and three verified wallets, of which the holder has 1,000.
struct Desk {
    stack: Stack,
    token: Address,
    admin: Address,
    holder: Address,
    receiver: Address,
    third: Address,
}

impl Desk {
    async fn open() -> Self {
        let stack = Stack::start(4).await;
        let [admin, holder, receiver, third] = stack.wallets[..] else { panic!("four wallets") };
        let token = stack.bond().await;
        Self { stack, token, admin, holder, receiver, third }
    }

    fn attaching(&self, sender: Address, feature: Option<Wire>) -> compliance::AttachFeatureRequest {
        compliance::AttachFeatureRequest {
            sender: text(sender),
            asset: text(self.token),
            feature: Some(Feature { feature }),
        }
    }

    /// The contract of a feature once it is attached.
    async fn attach(&self, feature: Wire) -> Address {
        let request = self.stack.fresh(self.attaching(self.admin, Some(feature)));
        let attached =
            self.done(self.stack.rules().attach_feature(request).await.unwrap().into_inner().operation).await;
        attached["module"].as_str().unwrap().parse().unwrap()
    }

    async fn refused(&self, request: compliance::AttachFeatureRequest) -> support::Told {
        support::told(&self.stack.rules().attach_feature(self.stack.fresh(request)).await.unwrap_err())
    }

    fn setting(&self, feature: Wire) -> compliance::SetFeatureParametersRequest {
        compliance::SetFeatureParametersRequest {
            sender: text(self.admin),
            asset: text(self.token),
            feature: Some(Feature { feature: Some(feature) }),
        }
    }

    async fn detach(&self, feature: FeatureKind) {
        let request = compliance::DetachFeatureRequest {
            sender: text(self.admin),
            asset: text(self.token),
            feature: feature.into(),
        };
        let detached = self.stack.rules().detach_feature(self.stack.fresh(request)).await.unwrap();
        self.done(detached.into_inner().operation).await;
    }

    async fn done(&self, operation: Option<Operation>) -> serde_json::Value {
        self.stack.done(operation).await.result.unwrap()
    }

    /// The features that the asset has.
    async fn features(&self) -> Vec<Wire> {
        let request = compliance::ListRulesRequest { asset: text(self.token) };
        let bound = self.stack.rules().list_rules(self.stack.fresh(request)).await.unwrap().into_inner().rules;
        bound.into_iter().filter_map(|rule| rule.feature?.feature).collect()
    }

    async fn balance(&self, account: Address) -> u64 {
        self.stack.read(self.token, AssetToken::balanceOfCall { account }).await.to()
    }

    async fn roles_of(&self, account: Address) -> U256 {
        self.stack.read(self.token, AssetToken::rolesOfCall { account }).await
    }

    /// Why the receiver would not be sent something.
    async fn vetoes(&self, to: Address) -> Vec<String> {
        let request = compliance::SimulateTransferRequest {
            asset: text(self.token),
            from: text(self.holder),
            to: text(to),
            amount: "1".into(),
            ..Default::default()
        };
        let answer = self.stack.rules().simulate_transfer(self.stack.fresh(request)).await.unwrap().into_inner();
        let vetoes = answer.verdicts.into_iter().filter(|verdict| !verdict.passed && !verdict.advisory);
        vetoes.map(|verdict| verdict.reason).collect()
    }

    async fn exempt(&self, account: Address, exempt: bool) {
        let request = self.exempting(self.admin, account, exempt);
        let set = self.stack.rules().set_identity_exemption(self.stack.fresh(request)).await.unwrap();
        self.done(set.into_inner().operation).await;
    }

    fn exempting(&self, sender: Address, account: Address, exempt: bool) -> compliance::SetIdentityExemptionRequest {
        compliance::SetIdentityExemptionRequest {
            sender: text(sender),
            asset: text(self.token),
            account: text(account),
            exempt,
        }
    }

    async fn exemptions(&self, accounts: &[Address]) -> Vec<Exemption> {
        let accounts = accounts.iter().copied().map(text).collect();
        let request = compliance::GetExemptionsRequest { asset: text(self.token), accounts };
        self.stack.rules().get_exemptions(self.stack.fresh(request)).await.unwrap().into_inner().exemptions
    }

    fn policy(&self, sender: Address, policy: Option<Policy>) -> compliance::SetPolicyRequest {
        compliance::SetPolicyRequest { sender: text(sender), asset: text(self.token), policy }
    }

    async fn set_policy(&self, policy: Policy) {
        let request = self.policy(self.admin, Some(policy));
        let set = self.stack.rules().set_policy(self.stack.fresh(request)).await.unwrap();
        self.done(set.into_inner().operation).await;
    }

    async fn asset(&self) -> asset::Asset {
        let request = asset::GetAssetRequest { asset: text(self.token) };
        self.stack.assets().get_asset(self.stack.fresh(request)).await.unwrap().into_inner().asset.unwrap()
    }
}

fn claims(form: Form) -> Policy {
    Policy::Claims(ClaimExpression { form: Some(form) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_are_attached_changed_and_detached() {
    let desk = Desk::open().await;
    let (stack, token, holder, receiver, third) = (&desk.stack, desk.token, desk.holder, desk.receiver, desk.third);
    let mut rules = stack.rules();
    let listed =
        rules.list_features(stack.fresh(compliance::ListFeaturesRequest {})).await.unwrap().into_inner().features;
    let names: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.module.is_empty())).collect();
    assert_eq!(names, [("VotingPower", true), ("ManagementFee", false), ("TransactionFee", false)]);
    assert_eq!(listed[2].parameters[0].path, "transaction_fee.bps");
    assert_eq!(listed[2].reasons[0].reason, "FEE_COLLECTOR_NOT_VERIFIED");

    // --- refusals
    let fee = |bps, collector: Address| FeeFeature { bps, collector: text(collector) };
    let charge = |bps| Wire::TransactionFee(fee(bps, third));
    let before = stack.rows().await;
    assert_eq!(desk.refused(desk.attaching(desk.admin, None)).await.field, "feature");
    let told = desk.refused(desk.attaching(desk.admin, Some(charge(1001)))).await;
    assert_eq!(told.field, "feature.transaction_fee.bps");
    let told = desk.refused(desk.attaching(holder, Some(charge(10)))).await;
    assert_eq!((told.reason.as_str(), told.role.as_str()), ("ASSET_ROLE_MISSING", "governance"));
    let status = rules.set_feature_parameters(stack.fresh(desk.setting(charge(10)))).await.unwrap_err();
    assert_eq!(
        (refusal(&status).reason.as_str(), refusal(&status).metadata["feature"].as_str()),
        ("FEATURE_NOT_ATTACHED", "TransactionFee")
    );
    let votes = Wire::VotingPower(VotingPowerFeature {});
    let status = rules.set_feature_parameters(stack.fresh(desk.setting(votes.clone()))).await.unwrap_err();
    assert_eq!(refusal(&status).violations[0].0, "feature.voting_power");
    assert_eq!(stack.rows().await, before, "a refused request stored something");
    // Only the admin gives the fee's contract its role, so governance alone is not enough.
    stack.grant(token, receiver, &[AssetRole::Governance]).await;
    let told = desk.refused(desk.attaching(receiver, Some(charge(10)))).await;
    assert_eq!((told.reason.as_str(), told.role.as_str()), ("ASSET_ROLE_MISSING", "admin"));

    // --- a fee of each transfer
    let module = desk.attach(charge(1000)).await;
    assert_eq!((desk.features().await, desk.roles_of(module).await), (vec![charge(1000)], roles::FEES));
    let told = desk.refused(desk.attaching(desk.admin, Some(charge(10)))).await;
    assert_eq!(told.reason, "ALREADY_EXISTS");
    stack.transfer(token, holder, receiver, 100).await;
    assert_eq!((desk.balance(receiver).await, desk.balance(third).await), (90, 10));
    let changed = rules.set_feature_parameters(stack.fresh(desk.setting(charge(500)))).await.unwrap().into_inner();
    desk.done(changed.operation).await;
    assert_eq!(desk.features().await, [charge(500)]);
    stack.transfer(token, holder, receiver, 100).await;
    assert_eq!((desk.balance(receiver).await, desk.balance(third).await), (185, 15));
    desk.detach(FeatureKind::TransactionFee).await;
    assert_eq!((desk.features().await, desk.roles_of(module).await), (vec![], U256::ZERO));
    stack.transfer(token, holder, receiver, 100).await;
    assert_eq!((desk.balance(receiver).await, desk.balance(third).await), (285, 15));

    // --- a yearly fee works with the supply role
    let module = desk.attach(Wire::ManagementFee(fee(1000, third))).await;
    assert_eq!(desk.roles_of(module).await, roles::SUPPLY);
    let collecting = || compliance::CollectManagementFeeRequest { sender: text(holder), asset: text(token) };
    let early = rules.collect_management_fee(stack.fresh(collecting())).await.unwrap().into_inner();
    assert_eq!(stack.ended(early.operation).await.error.unwrap().reason, "NOTHING_DUE");
    stack.node("evm_increaseTime", json!([73 * 24 * 3600])).await;
    stack.node("evm_mine", json!([])).await;
    let supply = stack.read(token, AssetToken::totalSupplyCall {}).await;
    let before = desk.balance(third).await;
    let collected = rules.collect_management_fee(stack.fresh(collecting())).await.unwrap().into_inner();
    desk.done(collected.operation).await;
    assert_eq!(U256::from(desk.balance(third).await - before), supply / U256::from(50), "a fifth of 10 %");
    desk.detach(FeatureKind::ManagementFee).await;
    assert_eq!(desk.roles_of(module).await, U256::ZERO);
    let status = rules.collect_management_fee(stack.fresh(collecting())).await.unwrap_err();
    assert_eq!(refusal(&status).reason, "FEATURE_NOT_ATTACHED");

    // --- votes count what is held already, and start anew in another contract
    let first = desk.attach(votes.clone()).await;
    stack.node("anvil_impersonateAccount", json!([receiver])).await;
    stack.send(receiver, first, &VotingPower::delegateCall { delegatee: receiver }).await;
    assert_eq!(stack.read(first, VotingPower::getVotesCall { account: receiver }).await, U256::from(285));
    desk.detach(FeatureKind::VotingPower).await;
    assert_ne!(desk.attach(votes.clone()).await, first);
    assert_eq!(desk.features().await, [votes]);
    desk.stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contracts_are_exempted_from_identity_and_wallets_from_rules() {
    let desk = Desk::open().await;
    let stack = &desk.stack;
    let mut rules = stack.rules();
    let contract = stack.contract(names::SETTLEMENT).await;
    let exempt = |account: Address, identity, rules: &[RuleKind]| Exemption {
        account: text(account),
        identity,
        rules: rules.iter().copied().map(i32::from).collect(),
    };
    assert_eq!(desk.vetoes(contract).await, ["NOT_REGISTERED"]);
    assert_eq!(desk.exemptions(&[contract]).await, [exempt(contract, false, &[])]);

    // People are never exempt, and only governance exempts.
    let refused =
        async |request| support::told(&stack.rules().set_identity_exemption(stack.fresh(request)).await.unwrap_err());
    let told = refused(desk.exempting(desk.admin, desk.receiver, true)).await;
    assert_eq!((told.reason.as_str(), told.field.as_str()), ("INVALID_FIELD", "account"));
    let told = refused(desk.exempting(desk.holder, contract, true)).await;
    assert_eq!((told.reason.as_str(), told.role.as_str()), ("ASSET_ROLE_MISSING", "governance"));

    desk.exempt(contract, true).await;
    assert!(desk.vetoes(contract).await.is_empty());
    stack.transfer(desk.token, desk.holder, contract, 5).await;

    // What rules leave out is told beside it, of bound rules only.
    let limit = TransferLimitRule { max_amount: "10".into(), ..Default::default() };
    let bind = compliance::AddRuleRequest {
        sender: text(desk.admin),
        asset: text(desk.token),
        rule: Some(asset::RuleBinding { rule: Some(rule_binding::Rule::TransferLimit(limit)) }),
    };
    desk.done(rules.add_rule(stack.fresh(bind)).await.unwrap().into_inner().operation).await;
    let free = compliance::SetRuleExemptionRequest {
        sender: text(desk.admin),
        asset: text(desk.token),
        rule: RuleKind::TransferLimit.into(),
        wallet: text(desk.holder),
        exempt: true,
    };
    desk.done(rules.set_rule_exemption(stack.fresh(free)).await.unwrap().into_inner().operation).await;
    assert_eq!(
        desk.exemptions(&[contract, desk.holder, desk.receiver]).await,
        [
            exempt(contract, true, &[]),
            exempt(desk.holder, false, &[RuleKind::TransferLimit]),
            exempt(desk.receiver, false, &[])
        ]
    );
    desk.exempt(contract, false).await;
    assert_eq!(desk.exemptions(&[contract]).await, [exempt(contract, false, &[])]);
    assert_eq!(desk.vetoes(contract).await, ["NOT_REGISTERED"]);
    let many = compliance::GetExemptionsRequest { asset: text(desk.token), accounts: vec![] };
    let status = rules.get_exemptions(stack.fresh(many)).await.unwrap_err();
    assert_eq!(refusal(&status).violations[0].0, "accounts");
    desk.stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holders_need_is_changed_and_returned_to_the_default() {
    let desk = Desk::open().await;
    let stack = &desk.stack;
    let mut identities = stack.identities();
    let topic = identity::RegisterTopicRequest {
        sender: text(desk.admin),
        name: "aml".into(),
        signature: "(bytes payload)".into(),
    };
    desk.done(identities.register_topic(stack.fresh(topic)).await.unwrap().into_inner().operation).await;
    let trust = identity::AddTrustedIssuerRequest {
        sender: text(desk.admin),
        issuer: text(desk.third),
        topics: vec!["aml".into()],
    };
    desk.done(identities.add_trusted_issuer(stack.fresh(trust)).await.unwrap().into_inner().operation).await;

    // --- refusals
    let refused = async |request| support::told(&stack.rules().set_policy(stack.fresh(request)).await.unwrap_err());
    let strict = "kyc AND aml";
    assert_eq!(refused(desk.policy(desk.admin, None)).await.field, "claims");
    let unread = claims(Form::Text("kyc AND".into()));
    assert_eq!(refused(desk.policy(desk.admin, Some(unread))).await.field, "claims.text");
    let unknown = claims(Form::Text("kyc AND lei".into()));
    assert_eq!(refused(desk.policy(desk.admin, Some(unknown))).await.reason, "TOPIC_UNKNOWN");
    let told = refused(desk.policy(desk.holder, Some(claims(Form::Text(strict.into()))))).await;
    assert_eq!((told.reason.as_str(), told.role.as_str()), ("ROLE_MISSING", "claim_policy_manager"));

    // --- stricter: who lacks a claim may leave and not receive
    desk.set_policy(claims(Form::Text(strict.into()))).await;
    assert_eq!(desk.asset().await.policy, strict);
    assert_eq!(desk.vetoes(desk.receiver).await, ["CLAIM_MISSING"]);
    let attest = identity::IssueClaimRequest {
        issuer: text(desk.third),
        subject: text(desk.receiver),
        topic: "aml".into(),
        data: "0x01".into(),
        expires_at: 0,
    };
    desk.done(identities.issue_claim(stack.fresh(attest)).await.unwrap().into_inner().operation).await;
    stack.transfer(desk.token, desk.holder, desk.receiver, 1).await;

    // --- a saved expression, whose version is shown while it is in force
    let saved = compliance::CreateExpressionRequest { name: "known".into(), text: "kyc".into() };
    stack.rules().create_expression(stack.fresh(saved)).await.unwrap();
    let reference = SavedExpression { name: "known".into(), version: 0 };
    desk.set_policy(claims(Form::Saved(reference))).await;
    let shown = desk.asset().await;
    let expected = SavedExpression { name: "known".into(), version: 1 };
    assert_eq!((shown.policy.as_str(), shown.policy_expression), ("kyc", Some(expected)));
    assert!(desk.vetoes(desk.third).await.is_empty());

    // --- the registry's own topics, of which it has none: that admits nobody
    desk.set_policy(Policy::DefaultPolicy(DefaultPolicy {})).await;
    let shown = desk.asset().await;
    assert_eq!((shown.policy.as_str(), shown.policy_expression), ("", None));
    assert_eq!(desk.vetoes(desk.third).await, ["POLICY_EMPTY"]);
    desk.stack.end().await;
}
