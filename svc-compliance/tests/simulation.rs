//! SimulateTransfer: every check with its numbers, who cures it, and that the cure cures.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::{
    primitives::{Address, B256, Bytes, U256, aliases::U48},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use dalp_contracts::{
    bindings::{
        ApprovalRule, AssetToken, AssetTokenCustody, ClaimRule, HolderLimitRule, Identity, IdentityRegistry, ListRule,
        RegistryRecords, TokenCompliance,
    },
    encode::{
        EarlierBalance, IssuanceLimit, Issued, Sides, VolumeLimit, Window, approval_rule_params, claim_rule_params,
        claim_signing_hash, collateral_rule_params, country_rule_params, holder_limit_rule_params,
        holding_period_rule_params, issuance_rule_params, list_rule_params, topic_id, transfer_limit_rule_params,
    },
    roles::names,
};
use dalp_proto::{
    asset::{self, AssetRole},
    compliance::{Cure, SimulateTransferRequest, SimulateTransferResponse, Verdict},
    identity,
    system::{self, SystemRole},
};
use serde_json::json;
use std::collections::BTreeMap;
use support::{Stack, order, text};

/// An open bond, whoever runs it, and two holders with keys of their own.
struct Desk {
    stack: Stack,
    admin: Address,
    treasurer: Address,
    token: Address,
    compliance: Address,
    /// Governance, supply, custodian and identity manager in one.
    officer: Address,
    sender: Address,
    receiver: Address,
}

impl Desk {
    /// The sender has 100.
    async fn open() -> Self {
        let stack = Stack::start(2).await;
        let [admin, treasurer] = stack.wallets[..] else { panic!("two wallets") };
        let token = stack.bond().await;
        let [officer, sender, receiver] =
            [stack.outsider(0xe1).await, stack.outsider(0xe2).await, stack.outsider(0xe3).await];
        for holder in [sender, receiver] {
            stack.verify(admin, holder).await;
        }
        stack.transfer(token, treasurer, sender, 100).await;
        stack.grant(token, officer, &[AssetRole::Governance, AssetRole::Supply, AssetRole::Custodian]).await;
        let manager = system::GrantRoleRequest {
            sender: text(admin),
            account: text(officer),
            role: SystemRole::IdentityManager.into(),
        };
        stack.done(stack.systems().grant_role(stack.fresh(manager)).await.unwrap().into_inner().operation).await;
        let compliance = stack.read(token, AssetToken::complianceCall {}).await;
        Self { stack, admin, treasurer, token, compliance, officer, sender, receiver }
    }

    async fn simulate(&self, from: Option<Address>, to: Option<Address>, amount: u64) -> SimulateTransferResponse {
        self.judge(self.token, from, to, amount, false).await
    }

    async fn judge(
        &self,
        asset: Address,
        from: Option<Address>,
        to: Option<Address>,
        amount: u64,
        forced: bool,
    ) -> SimulateTransferResponse {
        let side = |account: Option<Address>| account.map(text).unwrap_or_default();
        let request = SimulateTransferRequest {
            asset: text(asset),
            from: side(from),
            to: side(to),
            amount: amount.to_string(),
            forced,
        };
        let answer = self.stack.rules().simulate_transfer(self.stack.fresh(request)).await.unwrap().into_inner();
        let agreed = answer.verdicts.iter().all(|verdict| verdict.passed || verdict.advisory);
        assert_eq!(answer.allowed, agreed, "{answer:#?}");
        answer
    }

    /// One check refuses, the chain refuses the same way, and the verdict carries these numbers.
    async fn vetoed(
        &self,
        from: Option<Address>,
        to: Address,
        amount: u64,
        (check, reason, cure): (&str, &str, Cure),
        figures: &[(&str, &str)],
    ) -> Verdict {
        let answer = self.simulate(from, Some(to), amount).await;
        let vetoes: Vec<&Verdict> = answer.verdicts.iter().filter(|one| !one.passed && !one.advisory).collect();
        let [veto] = vetoes[..] else { panic!("one veto, not {vetoes:#?}") };
        assert_eq!((veto.check.as_str(), veto.reason.as_str(), veto.cure()), (check, reason, cure), "{veto:#?}");
        for (name, value) in figures {
            assert_eq!(veto.figures.get(*name).map(String::as_str), Some(*value), "{name} of {veto:#?}");
        }
        assert!(!veto.module.is_empty() && veto.advice.ends_with(')'), "numbers are told: {}", veto.advice);
        let refused = match from {
            Some(from) => {
                let call = AssetToken::transferCall { to, amount: U256::from(amount) };
                self.stack.refused(from, self.token, &call).await
            }
            None => {
                let call = AssetToken::mintCall { to, amount: U256::from(amount) };
                self.stack.refused(self.officer, self.token, &call).await
            }
        };
        assert_eq!(refused.and_then(|refused| refused.reason).as_deref(), Some(reason));
        veto.clone()
    }

    /// Nothing refuses, and the movement takes place.
    async fn passes(&self, from: Option<Address>, to: Address, amount: u64) {
        let answer = self.simulate(from, Some(to), amount).await;
        assert!(answer.allowed, "{answer:#?}");
        let amount = U256::from(amount);
        match from {
            Some(from) => self.stack.send(from, self.token, &AssetToken::transferCall { to, amount }).await,
            None => self.stack.send(self.officer, self.token, &AssetToken::mintCall { to, amount }).await,
        };
    }

    async fn bind(&self, name: B256, params: Bytes) -> Address {
        let module = self.stack.contract(name).await;
        self.stack.send(self.officer, self.compliance, &TokenCompliance::addModuleCall { module, params }).await;
        module
    }

    async fn unbind(&self, module: Address) {
        self.stack.send(self.officer, self.compliance, &TokenCompliance::removeModuleCall { module }).await;
    }

    async fn topic(&self, name: &str, issuer: Address) {
        let register = identity::RegisterTopicRequest {
            sender: text(self.admin),
            name: name.into(),
            signature: "(bytes payload)".into(),
        };
        let stack = &self.stack;
        stack
            .done(stack.identities().register_topic(stack.fresh(register)).await.unwrap().into_inner().operation)
            .await;
        let trust = identity::AddTrustedIssuerRequest {
            sender: text(self.admin),
            issuer: text(issuer),
            topics: vec![name.into()],
        };
        stack
            .done(stack.identities().add_trusted_issuer(stack.fresh(trust)).await.unwrap().into_inner().operation)
            .await;
    }

    async fn attest(&self, issuer: Address, subject: Address, topic: &str) {
        let claim = identity::IssueClaimRequest {
            issuer: text(issuer),
            subject: text(subject),
            topic: topic.into(),
            data: "0x01".into(),
            expires_at: 0,
        };
        let stack = &self.stack;
        stack.done(stack.identities().issue_claim(stack.fresh(claim)).await.unwrap().into_inner().operation).await;
    }
}

fn verdict<'a>(answer: &'a SimulateTransferResponse, check: &str) -> &'a Verdict {
    answer.verdicts.iter().find(|one| one.check == check).unwrap_or_else(|| panic!("no {check} in {answer:#?}"))
}

/// The checks that refuse, with their reasons.
fn vetoes(answer: &SimulateTransferResponse) -> Vec<(&str, &str)> {
    let refusing = answer.verdicts.iter().filter(|one| !one.passed && !one.advisory);
    refusing.map(|one| (one.check.as_str(), one.reason.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rule_on_holders_vetoes_and_passes_when_cured() {
    let desk = Desk::open().await;
    let (stack, officer) = (&desk.stack, desk.officer);
    let (sender, receiver) = (desk.sender, desk.receiver);
    let registry = stack.contract(names::IDENTITY_REGISTRY).await;

    // CountryRule: the registration names the wrong country.
    let module = desk.bind(names::COUNTRY_RULE, country_rule_params(true, &[276, 840])).await;
    let told = ("CountryRule", "COUNTRY_NOT_ALLOWED", Cure::ComplianceOfficer);
    desk.vetoed(Some(sender), receiver, 1, told, &[("country", "756"), ("countries", "276, 840"), ("mode", "allow")])
        .await;
    stack.send(officer, registry, &RegistryRecords::updateCountryCall { wallet: receiver, country: 276 }).await;
    desk.passes(Some(sender), receiver, 1).await;
    desk.unbind(module).await;

    // ListRule: governance puts the receiver on the list.
    let module = desk.bind(names::LIST_RULE, list_rule_params(Some(Sides::Recipient), None, vec![])).await;
    let told = ("ListRule", "RECIPIENT_NOT_LISTED", Cure::ComplianceOfficer);
    desk.vetoed(Some(sender), receiver, 1, told, &[("recipient", &text(receiver))]).await;
    let entries = ListRule::setEntriesCall { entries: vec![ListRule::ListEntry { account: receiver, lists: 1 }] };
    let call = TokenCompliance::callModuleCall { module, data: alloy::sol_types::SolCall::abi_encode(&entries).into() };
    stack.send(officer, desk.compliance, &call).await;
    desk.passes(Some(sender), receiver, 1).await;
    desk.unbind(module).await;

    // ClaimRule: a trusted issuer attests what is missing.
    desk.topic("aml", desk.treasurer).await;
    let group = ClaimRule::Group { allOf: vec![topic_id("kyc"), topic_id("aml")], noneOf: vec![] };
    let module = desk.bind(names::CLAIM_RULE, claim_rule_params(Sides::Recipient, vec![group])).await;
    let answer = desk.simulate(Some(sender), Some(receiver), 1).await;
    let veto = verdict(&answer, "ClaimRule");
    assert_eq!((veto.reason.as_str(), veto.cure()), ("RECIPIENT_CLAIMS_MISSING", Cure::ClaimIssuer));
    let found: Vec<_> = veto.claims.iter().map(|one| (one.topic.as_str(), one.passed, one.reason.as_str())).collect();
    assert_eq!(found, [("kyc", true, ""), ("aml", false, "CLAIM_MISSING")]);
    assert_eq!((veto.claims[1].issuers.len(), veto.claims[1].cure()), (1, Cure::ClaimIssuer));
    desk.attest(desk.treasurer, receiver, "aml").await;
    desk.passes(Some(sender), receiver, 1).await;
    desk.unbind(module).await;

    // HolderLimitRule: holders from before are counted, then governance raises the limit.
    let newcomer = stack.outsider(0xe4).await;
    stack.verify(desk.admin, newcomer).await;
    let module = desk.bind(names::HOLDER_LIMIT_RULE, holder_limit_rule_params(Some(3), &BTreeMap::new())).await;
    let answer = desk.simulate(Some(sender), Some(newcomer), 1).await;
    assert_eq!(vetoes(&answer), [("HolderLimitRule", "HOLDERS_NOT_COUNTED")]);
    let wallets = vec![desk.treasurer, sender, receiver];
    stack.send(officer, module, &HolderLimitRule::syncCall { compliance: desk.compliance, wallets }).await;
    let told = ("HolderLimitRule", "HOLDER_LIMIT_REACHED", Cure::ComplianceOfficer);
    desk.vetoed(Some(sender), newcomer, 1, told, &[("holders", "3"), ("limit", "3")]).await;
    let params = holder_limit_rule_params(Some(4), &BTreeMap::new());
    stack.send(officer, desk.compliance, &TokenCompliance::setModuleParamsCall { module, params }).await;
    desk.passes(Some(sender), newcomer, 1).await;
    desk.unbind(module).await;

    // ApprovalRule: an approver approves exactly this movement.
    let module = desk.bind(names::APPROVAL_RULE, approval_rule_params(vec![officer], 3600, false)).await;
    let told = ("ApprovalRule", "TRANSFER_NOT_APPROVED", Cure::ComplianceOfficer);
    desk.vetoed(Some(sender), receiver, 7, told, &[("approvers", &text(officer))]).await;
    let now = stack.upstreams.block(dalp_chain::BlockNumberOrTag::Latest).await.unwrap().unwrap().timestamp_s;
    let approval = ApprovalRule::Approval {
        from: sender,
        to: receiver,
        amount: 7,
        expiresAt: U48::from(now + 1800),
        standing: false,
    };
    stack.send(officer, module, &ApprovalRule::approveCall { compliance: desk.compliance, approval }).await;
    desk.passes(Some(sender), receiver, 7).await;
    desk.unbind(module).await;
    desk.stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rule_on_amounts_vetoes_and_passes_when_cured() {
    let desk = Desk::open().await;
    let (stack, officer) = (&desk.stack, desk.officer);
    let (sender, receiver) = (desk.sender, desk.receiver);

    // TransferLimitRule: less at a time, and waiting for the window.
    let per_holder = VolumeLimit { window: Window::Rolling { length_s: 3600 }, max: 15 };
    let params = transfer_limit_rule_params(Some(10), Some(per_holder), None);
    let module = desk.bind(names::TRANSFER_LIMIT_RULE, params).await;
    let told = ("TransferLimitRule", "TRANSFER_AMOUNT_EXCEEDED", Cure::Holder);
    desk.vetoed(Some(sender), receiver, 11, told, &[("needed", "11"), ("limit", "10")]).await;
    desk.passes(Some(sender), receiver, 10).await;
    let told = ("TransferLimitRule", "HOLDER_VOLUME_EXCEEDED", Cure::Holder);
    desk.vetoed(Some(sender), receiver, 6, told, &[("holder_used", "10"), ("holder_limit", "15")]).await;
    stack.pass(3700).await;
    desk.passes(Some(sender), receiver, 6).await;
    desk.unbind(module).await;

    // IssuanceRule: burning gives room under a cap of the supply.
    let cap = IssuanceLimit { measure: Issued::Supply, max: 1000, price: None };
    let module = desk.bind(names::ISSUANCE_RULE, issuance_rule_params(&[cap])).await;
    let told = ("IssuanceRule", "ISSUANCE_CAP_EXCEEDED", Cure::Operator);
    desk.vetoed(None, receiver, 5, told, &[("supply", "1000"), ("supply_limit", "1000"), ("needed", "5")]).await;
    stack.send(officer, desk.token, &AssetToken::burnCall { account: sender, amount: U256::from(5) }).await;
    desk.passes(None, receiver, 5).await;
    desk.unbind(module).await;

    // CollateralRule: an issuer attests collateral on the asset's identity, first too little, then enough.
    let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x77)).unwrap();
    let attestor = key.address();
    stack.node("anvil_impersonateAccount", json!([attestor])).await;
    stack.node("anvil_setBalance", json!([attestor, U256::from(10_u64.pow(18))])).await;
    stack.register(support::TENANT, desk.admin, attestor, 756).await;
    desk.topic("collateral", attestor).await;
    let module = desk.bind(names::COLLATERAL_RULE, collateral_rule_params(topic_id("collateral"), 10_000)).await;
    let told = ("CollateralRule", "COLLATERAL_MISSING", Cure::ClaimIssuer);
    desk.vetoed(None, receiver, 1, told, &[("topic", "collateral"), ("collateral_needed", "1001")]).await;
    let registry = stack.contract(names::IDENTITY_REGISTRY).await;
    let issuer = stack.read(registry, IdentityRegistry::identityCall { wallet: attestor }).await;
    let subject = stack.read(desk.token, AssetToken::onchainIDCall {}).await;
    let attest = async |amount: u64| {
        let data = Bytes::from(U256::from(amount).to_be_bytes_vec());
        let hash = claim_signing_hash(subject, topic_id("collateral"), &data);
        let add = Identity::addClaimCall {
            topic: topic_id("collateral"),
            scheme: U256::ONE,
            issuer,
            signature: key.sign_hash_sync(&hash).unwrap().as_bytes().to_vec().into(),
            data,
            uri: String::new(),
        };
        stack.send(attestor, subject, &add).await;
    };
    attest(500).await;
    let told = ("CollateralRule", "COLLATERAL_TOO_LOW", Cure::Operator);
    desk.vetoed(None, receiver, 1, told, &[("collateral", "500"), ("collateral_needed", "1001")]).await;
    attest(5000).await;
    desk.passes(None, receiver, 1).await;
    desk.unbind(module).await;

    // HoldingPeriodRule: time alone cures it.
    let module = desk.bind(names::HOLDING_PERIOD_RULE, holding_period_rule_params(1, EarlierBalance::AsNew)).await;
    let told = ("HoldingPeriodRule", "HOLDING_PERIOD_NOT_OVER", Cure::Nobody);
    desk.vetoed(Some(sender), receiver, 3, told, &[("days", "1"), ("free", "0"), ("needed", "3")]).await;
    stack.pass(2 * 86_400).await;
    desk.passes(Some(sender), receiver, 3).await;
    desk.unbind(module).await;

    // A rule that does not answer bars everything, and is named.
    let module = desk.bind(names::COUNTRY_RULE, country_rule_params(false, &[1])).await;
    stack.node("anvil_setCode", json!([module, "0x5f5ffd"])).await;
    let answer = desk.simulate(Some(sender), Some(receiver), 1).await;
    let [veto] = vetoes(&answer)[..] else { panic!("{answer:#?}") };
    assert_eq!(veto.1, "RULE_FAILED");
    assert_eq!(verdict(&answer, "Rule").module, text(module));
    desk.stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_s_own_checks_and_both_identities_are_told_at_once() {
    let desk = Desk::open().await;
    let (stack, officer, token) = (&desk.stack, desk.officer, desk.token);
    let (sender, receiver) = (desk.sender, desk.receiver);
    let custody = async |call: AssetTokenCustody::freezePartialTokensCall| stack.send(officer, token, &call).await;

    // Free balance 10, needed 25; frozen 90: with both addresses frozen, all of it is told.
    custody(AssetTokenCustody::freezePartialTokensCall { account: sender, amount: U256::from(90) }).await;
    for account in [sender, receiver] {
        let freeze = AssetTokenCustody::setAddressFrozenCall { account, freeze: true };
        stack.send(officer, token, &freeze).await;
    }
    let answer = desk.simulate(Some(sender), Some(receiver), 25).await;
    assert_eq!(
        vetoes(&answer),
        [
            ("sender_freeze", "SENDER_FROZEN"),
            ("recipient_freeze", "RECIPIENT_FROZEN"),
            ("free_balance", "FREE_BALANCE_TOO_LOW")
        ]
    );
    let free = verdict(&answer, "free_balance");
    assert!(free.advice.ends_with("(free balance 10, needed 25; frozen 90, held 0)"), "{}", free.advice);
    assert_eq!((free.cure(), free.figures["free"].as_str()), (Cure::ComplianceOfficer, "10"));
    // A forced transfer and a burn reach frozen tokens; a mint does not ask the sender.
    assert!(desk.judge(token, Some(sender), Some(receiver), 25, true).await.allowed);
    assert!(desk.simulate(Some(sender), None, 25).await.allowed);
    assert_eq!(vetoes(&desk.simulate(Some(sender), None, 101).await), [("balance", "BALANCE_TOO_LOW")]);
    assert_eq!(vetoes(&desk.simulate(None, Some(receiver), 5).await), [("recipient_freeze", "RECIPIENT_FROZEN")]);
    // What is held is out of reach of a burn and a forced transfer.
    for account in [sender, receiver] {
        let lift = AssetTokenCustody::setAddressFrozenCall { account, freeze: false };
        stack.send(officer, token, &lift).await;
    }
    let spender = stack.outsider(0xe5).await;
    stack.send(sender, token, &AssetToken::approveCall { spender, value: U256::from(10) }).await;
    let hold = AssetToken::holdCall { id: B256::ZERO, holder: sender, amount: U256::from(10) };
    stack.send(spender, token, &hold).await;
    assert_eq!(vetoes(&desk.simulate(Some(sender), None, 91).await), [("held", "BALANCE_HELD")]);
    let answer = desk.judge(token, Some(sender), Some(receiver), 91, true).await;
    assert_eq!(vetoes(&answer), [("held", "BALANCE_HELD")]);
    let forced = AssetTokenCustody::forcedTransferForCall {
        from: sender,
        to: receiver,
        amount: U256::from(91),
        reason: B256::repeat_byte(1),
    };
    assert_eq!(
        stack.refused(officer, token, &forced).await.and_then(|refused| refused.reason).as_deref(),
        Some("BALANCE_HELD")
    );

    // A paused asset with two topics: each missing one is named, of both parties; the sender's is for information.
    desk.topic("aml", desk.treasurer).await;
    let second = asset::CreateAssetRequest {
        claim_topics: vec!["kyc".into(), "aml".into()],
        unpause: false,
        initial_supply: String::new(),
        initial_holder: String::new(),
        ..order(desk.admin, desk.admin, "TWO")
    };
    let created = stack.assets().create_asset(stack.fresh(second)).await.unwrap().into_inner().operation;
    let second: Address = stack.done(created).await.result.unwrap()["asset"].as_str().unwrap().parse().unwrap();
    let bare = stack.outsider(0xe6).await;
    stack.register(support::TENANT, desk.admin, bare, 276).await;
    let answer = desk.judge(second, Some(sender), Some(bare), 25, false).await;
    assert_eq!(
        vetoes(&answer),
        [("paused", "TOKEN_PAUSED"), ("balance", "BALANCE_TOO_LOW"), ("identity", "CLAIM_MISSING")]
    );
    assert!(verdict(&answer, "balance").advice.ends_with("(balance 0, needed 25)"));
    let topics = |check: &str| -> Vec<(String, bool, String)> {
        let claims = &verdict(&answer, check).claims;
        claims.iter().map(|one| (one.topic.clone(), one.passed, one.reason.clone())).collect()
    };
    let missing = |topic: &str| (topic.to_owned(), false, "CLAIM_MISSING".to_owned());
    assert_eq!(topics("identity"), [missing("kyc"), missing("aml")]);
    assert_eq!(topics("sender_identity"), [("kyc".to_owned(), true, String::new()), missing("aml")]);
    assert!(verdict(&answer, "sender_identity").advisory);

    // A contract that governance exempts from identity is admitted, and told as such.
    let (registry, contract) =
        (stack.contract(names::IDENTITY_REGISTRY).await, stack.contract(names::SETTLEMENT).await);
    assert_eq!(vetoes(&desk.simulate(None, Some(contract), 5).await), [("identity", "NOT_REGISTERED")]);
    let exempt = RegistryRecords::setExemptCall { token, account: contract, exempt: true };
    stack.send(officer, registry, &exempt).await;
    let answer = desk.simulate(None, Some(contract), 5).await;
    assert!(answer.allowed);
    assert_eq!(verdict(&answer, "identity").figures["exempt"], "true");

    // A revoked claim, an issuer no longer trusted, and a wallet nobody knows.
    let revoke =
        identity::RevokeClaimRequest { issuer: text(desk.admin), subject: text(receiver), topic: "kyc".into() };
    stack.done(stack.identities().revoke_claim(stack.fresh(revoke)).await.unwrap().into_inner().operation).await;
    let answer = desk.simulate(None, Some(receiver), 5).await;
    assert_eq!(vetoes(&answer), [("identity", "CLAIM_REVOKED")]);
    let found = &verdict(&answer, "identity").claims[0];
    assert_eq!((found.issuers[0].reason.as_str(), found.issuers[0].live), ("CLAIM_REVOKED", false));
    let distrust = identity::RemoveTrustedIssuerRequest { sender: text(desk.admin), issuer: text(desk.admin) };
    let distrusted = stack.identities().remove_trusted_issuer(stack.fresh(distrust)).await.unwrap();
    stack.done(distrusted.into_inner().operation).await;
    let answer = desk.simulate(None, Some(sender), 5).await;
    assert_eq!(vetoes(&answer), [("identity", "ISSUER_NOT_TRUSTED")]);
    assert_eq!(verdict(&answer, "identity").claims[0].reason, "ISSUER_NOT_TRUSTED");
    let stranger = Address::repeat_byte(0x5a);
    let answer = desk.judge(token, Some(sender), Some(stranger), 5, true).await;
    assert_eq!(vetoes(&answer), [("identity", "NOT_REGISTERED")]);
    desk.stack.end().await;
}
