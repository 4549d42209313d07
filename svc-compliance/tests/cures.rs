//! Every code with which a rule refuses: SimulateTransfer names it with its numbers and who can cure it, the chain refuses alike, and
//! once it is cured the movement passes.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "cures/attestor.rs"]
mod attestor;
mod support;

use alloy::{
    primitives::{Address, Bytes, U256, aliases::U48},
    sol_types::{SolCall, SolValue as _},
};
use attestor::Attestor;
use dalp_contracts::{
    bindings::{
        ApprovalRule, AssetToken, ClaimRule, CountryRule, HolderLimitRule, IdentityRegistry, ListRule, RegistryRecords,
        TokenCompliance,
    },
    encode::{
        EarlierBalance, IssuanceLimit, Issued, PriceSource, Sides, VolumeLimit, Window, approval_rule_params,
        claim_rule_params, collateral_rule_params, country_rule_params, holder_limit_rule_params,
        holding_period_rule_params, issuance_rule_params, list_rule_params, topic_id, transfer_limit_rule_params,
    },
    roles::{book_key, names},
};
use dalp_proto::compliance::Cure;
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde_json::json;
use std::collections::BTreeMap;
use support::{
    desk::{Desk, verdict, vetoes},
    text,
};
use svc_compliance::domain::rule::RuleKind;

/// The countries of the desk's holders, and another one.
const SWITZERLAND: u16 = 756;
const GERMANY: u16 = 276;
/// How old a price may be.
const MAX_AGE_S: u32 = 600;
const NO_COUNTRIES: BTreeMap<u16, u32> = BTreeMap::new();

/// The desk, an attestor of collateral and prices with a key of its own, and the feed of the asset's price.
struct Scene {
    desk: Desk,
    attestor: Attestor,
    feed: Address,
    /// What collateral is compared with; another one, as each is without an answer at first.
    worth: Address,
}

/// A movement that is refused, who can cure that, and how.
struct Case<'a> {
    from: Option<Address>,
    to: Address,
    amount: u64,
    cure: Cure,
    figures: Vec<(&'static str, String)>,
    /// Cures it when awaited.
    remedy: LocalBoxFuture<'a, ()>,
    /// What passes then.
    cured_amount: u64,
}

impl<'a> Case<'a> {
    /// One unit from the sender to the receiver.
    fn transfer(scene: &Scene, cure: Cure, remedy: impl Future<Output = ()> + 'a) -> Self {
        Self {
            from: Some(scene.desk.sender),
            to: scene.desk.receiver,
            amount: 1,
            cure,
            figures: Vec::new(),
            remedy: remedy.boxed_local(),
            cured_amount: 1,
        }
    }

    /// One unit for the receiver.
    fn mint(scene: &Scene, cure: Cure, remedy: impl Future<Output = ()> + 'a) -> Self {
        Self { from: None, ..Self::transfer(scene, cure, remedy) }
    }

    fn of(self, amount: u64) -> Self {
        Self { amount, cured_amount: amount, ..self }
    }

    fn told(self, figures: &[(&'static str, &dyn ToString)]) -> Self {
        Self { figures: figures.iter().map(|(name, value)| (*name, value.to_string())).collect(), ..self }
    }
}

impl Scene {
    async fn open() -> Self {
        let desk = Desk::open().await;
        let attestor = Attestor::open(&desk).await;
        desk.topics(&[("aml", "(bytes payload)")], desk.treasurer).await;
        let feed = attestor.feed(&desk, "price").await;
        let worth = attestor.feed(&desk, "worth").await;
        Self { desk, attestor, feed, worth }
    }

    async fn module(&self, kind: RuleKind) -> Address {
        self.desk.stack.contract(book_key(kind.contract())).await
    }

    /// A call of governance that the asset's compliance hands to a rule.
    async fn through_compliance<C: SolCall>(&self, module: Address, call: &C) {
        let call = TokenCompliance::callModuleCall { module, data: call.abi_encode().into() };
        self.desk.stack.send(self.desk.officer, self.desk.compliance, &call).await;
    }

    /// Another person who may hold the asset and does not.
    async fn newcomer(&self, byte: u8) -> Address {
        let wallet = self.desk.stack.outsider(byte).await;
        self.desk.stack.verify(self.desk.admin, wallet).await;
        wallet
    }

    /// Parameters under which one unit passes from the sender to the receiver, who holds some, and one is issued.
    fn harmless(&self, kind: RuleKind) -> Bytes {
        match kind {
            RuleKind::Country => country_rule_params(true, &[SWITZERLAND]),
            RuleKind::Claim => claim_rule_params(Sides::Both, vec![claims(&["kyc"])]),
            RuleKind::List => list_rule_params(None, Some(Sides::Both), vec![]),
            RuleKind::HolderLimit => holder_limit_rule_params(Some(1000), &NO_COUNTRIES),
            RuleKind::Issuance => issuance_rule_params(&[issuance(Issued::Supply, 1_000_000)]),
            RuleKind::HoldingPeriod => holding_period_rule_params(1, EarlierBalance::Free),
            RuleKind::Approval => approval_rule_params(vec![self.desk.officer], 3600, false),
            RuleKind::TransferLimit => transfer_limit_rule_params(Some(1000), None, None),
            RuleKind::Collateral => collateral_rule_params(topic_id("collateral"), 10_000, None),
        }
    }

    /// Binds a rule so that it refuses a movement with a code.
    async fn provoke(&self, kind: RuleKind, reason: &str) -> Case<'_> {
        let module = self.module(kind).await;
        if reason == "RULE_NOT_CONFIGURED" {
            return self.forgotten(kind, module).await;
        }
        match kind {
            RuleKind::Country => self.country(module, reason).await,
            RuleKind::Claim => self.claim(module, reason).await,
            RuleKind::List => self.list(module, reason).await,
            RuleKind::HolderLimit => self.holder_limit(module, reason).await,
            RuleKind::Issuance => self.issuance(module, reason).await,
            RuleKind::HoldingPeriod => self.holding_period(module).await,
            RuleKind::Approval => self.approval(module, reason).await,
            RuleKind::TransferLimit => self.transfer_limit(module, reason).await,
            RuleKind::Collateral => self.collateral(module, reason).await,
        }
    }

    /// Only its own compliance can make a bound rule forget its parameters, and never does: here somebody acts in its name.
    async fn forgotten(&self, kind: RuleKind, module: Address) -> Case<'_> {
        let (desk, harmless) = (&self.desk, self.harmless(kind));
        desk.bind(module, harmless.clone()).await;
        desk.stack.node("anvil_impersonateAccount", json!([desk.compliance])).await;
        desk.stack.node("anvil_setBalance", json!([desk.compliance, U256::from(10_u64.pow(18))])).await;
        desk.stack.send(desk.compliance, module, &CountryRule::clearParamsCall {}).await;
        let remedy = desk.set_params(module, harmless);
        match kind {
            // An approval rule that asks about every transfer lets mints pass.
            RuleKind::Issuance | RuleKind::Collateral | RuleKind::Approval => {
                Case::mint(self, Cure::ComplianceOfficer, remedy)
            }
            _ => Case::transfer(self, Cure::ComplianceOfficer, remedy),
        }
    }

    async fn country(&self, module: Address, reason: &str) -> Case<'_> {
        let (desk, wallet) = (&self.desk, self.desk.receiver);
        let registry = desk.stack.contract(names::IDENTITY_REGISTRY).await;
        let register = async move |country: u16| {
            let update = RegistryRecords::updateCountryCall { wallet, country };
            desk.stack.send(desk.officer, registry, &update).await;
        };
        let officer = Cure::ComplianceOfficer;
        match reason {
            // The registration names no country, or the wrong one.
            "COUNTRY_UNKNOWN" => {
                desk.bind(module, country_rule_params(false, &[GERMANY])).await;
                register(0).await;
                Case::transfer(self, officer, async move { register(SWITZERLAND).await }).told(&[("wallet", &wallet)])
            }
            "COUNTRY_NOT_ALLOWED" => {
                desk.bind(module, country_rule_params(true, &[GERMANY, 840])).await;
                let figures: [(_, &dyn ToString); 3] =
                    [("country", &SWITZERLAND), ("countries", &"276, 840"), ("mode", &"allow")];
                Case::transfer(self, officer, async move { register(GERMANY).await }).told(&figures)
            }
            // Governance changes the list.
            "COUNTRY_BLOCKED" => {
                register(SWITZERLAND).await;
                desk.bind(module, country_rule_params(false, &[SWITZERLAND])).await;
                Case::transfer(self, officer, desk.set_params(module, country_rule_params(false, &[GERMANY]))).told(&[
                    ("country", &SWITZERLAND),
                    ("countries", &SWITZERLAND),
                    ("mode", &"block"),
                ])
            }
            other => panic!("no case of {other}"),
        }
    }

    /// An issuer that is trusted for the topic attests what is missing. Which topics are, `simulation.rs` shows for policies.
    async fn claim(&self, module: Address, reason: &str) -> Case<'_> {
        let desk = &self.desk;
        let (sides, asked) = match reason {
            "SENDER_CLAIMS_MISSING" => (Sides::Sender, desk.sender),
            "RECIPIENT_CLAIMS_MISSING" => (Sides::Recipient, desk.receiver),
            other => panic!("no case of {other}"),
        };
        desk.bind(module, claim_rule_params(sides, vec![claims(&["kyc", "aml"])])).await;
        let answer = desk.simulate(Some(desk.sender), Some(desk.receiver), 1).await;
        let found: Vec<_> = verdict(&answer, "ClaimRule")
            .claims
            .iter()
            .map(|one| (one.wallet.parse().unwrap(), one.topic.as_str(), one.passed, one.reason.as_str(), one.cure()))
            .collect();
        let missing = (asked, "aml", false, "CLAIM_MISSING", Cure::ClaimIssuer);
        assert_eq!(found, [(asked, "kyc", true, "", Cure::Unspecified), missing]);
        Case::transfer(self, Cure::ClaimIssuer, desk.attest(desk.treasurer, asked, "aml"))
    }

    /// Governance changes the lists: of a wallet, or of the identity behind it.
    async fn list(&self, module: Address, reason: &str) -> Case<'_> {
        let desk = &self.desk;
        let registry = desk.stack.contract(names::IDENTITY_REGISTRY).await;
        let (sides, side, wallet, blocked) = match reason {
            "SENDER_NOT_LISTED" => (Sides::Sender, "sender", desk.sender, false),
            "SENDER_BLOCKED" => (Sides::Sender, "sender", desk.sender, true),
            "RECIPIENT_NOT_LISTED" => (Sides::Recipient, "recipient", desk.receiver, false),
            "RECIPIENT_BLOCKED" => (Sides::Recipient, "recipient", desk.receiver, true),
            other => panic!("no case of {other}"),
        };
        let identity = desk.stack.read(registry, IdentityRegistry::identityCall { wallet }).await;
        let (params, entry) = match blocked {
            true => {
                let entries = vec![ListRule::ListEntry { account: identity, lists: 2 }];
                (list_rule_params(None, Some(sides), entries), ListRule::ListEntry { account: identity, lists: 0 })
            }
            false => (list_rule_params(Some(sides), None, vec![]), ListRule::ListEntry { account: wallet, lists: 1 }),
        };
        desk.bind(module, params).await;
        let remedy = async move {
            self.through_compliance(module, &ListRule::setEntriesCall { entries: vec![entry] }).await;
        };
        Case::transfer(self, Cure::ComplianceOfficer, remedy).told(&[(side, &wallet)])
    }

    async fn holder_limit(&self, module: Address, reason: &str) -> Case<'_> {
        let (desk, stack) = (&self.desk, &self.desk.stack);
        let compliance = desk.compliance;
        // Each case brings one more holder.
        let newcomers = ["HOLDER_LIMIT_REACHED", "HOLDER_LIMIT_OF_COUNTRY_REACHED", "HOLDERS_NOT_COUNTED"];
        let nth = newcomers.iter().position(|known| *known == reason).unwrap_or_else(|| panic!("no case of {reason}"));
        let to = self.newcomer(0xd0 + u8::try_from(nth).unwrap()).await;
        let mut wallets = vec![desk.treasurer, desk.sender, desk.receiver];
        wallets.extend((0..newcomers.len()).map(|nth| Address::repeat_byte(0xd0 + u8::try_from(nth).unwrap())));
        let count = async move {
            stack.send(desk.officer, module, &HolderLimitRule::syncCall { compliance, wallets }).await;
        };
        desk.bind(module, self.harmless(RuleKind::HolderLimit)).await;
        if reason == "HOLDERS_NOT_COUNTED" {
            return Case { to, ..Case::transfer(self, Cure::Operator, count) };
        }
        count.await;
        let holders: u32 =
            stack.read(module, HolderLimitRule::holdersOfCall { compliance }).await.holders.saturating_to();
        let (now, raised, figures) = match reason {
            "HOLDER_LIMIT_REACHED" => (
                holder_limit_rule_params(Some(holders), &NO_COUNTRIES),
                holder_limit_rule_params(Some(holders + 1), &NO_COUNTRIES),
                ["holders", "limit"],
            ),
            _ => (
                holder_limit_rule_params(None, &BTreeMap::from([(SWITZERLAND, holders)])),
                holder_limit_rule_params(None, &BTreeMap::from([(SWITZERLAND, holders + 1)])),
                ["holders_of_country", "limit_of_country"],
            ),
        };
        desk.set_params(module, now).await;
        let figures = figures.map(|name| -> (_, &dyn ToString) { (name, &holders) });
        Case { to, ..Case::transfer(self, Cure::ComplianceOfficer, desk.set_params(module, raised)).told(&figures) }
    }

    async fn approval(&self, module: Address, reason: &str) -> Case<'_> {
        let (desk, stack) = (&self.desk, &self.desk.stack);
        let approve = async move || {
            let expires_at = U48::from(desk.now().await + 600);
            let (from, to) = (desk.sender, desk.receiver);
            let approval = ApprovalRule::Approval { from, to, amount: 2, expiresAt: expires_at, standing: false };
            let call = ApprovalRule::approveCall { compliance: desk.compliance, approval };
            stack.send(desk.officer, module, &call).await;
            expires_at
        };
        let remedy = async move {
            approve().await;
        };
        desk.bind(module, approval_rule_params(vec![desk.officer], 3600, false)).await;
        let case = Case::transfer(self, Cure::ComplianceOfficer, remedy).of(2);
        match reason {
            "TRANSFER_NOT_APPROVED" => case.told(&[("approvers", &desk.officer)]),
            "TRANSFER_APPROVAL_EXPIRED" => {
                let expired_at = approve().await;
                stack.pass(700).await;
                case.told(&[("approvers", &desk.officer), ("expires_at", &expired_at)])
            }
            other => panic!("no case of {other}"),
        }
    }

    /// Less at a time, or waiting for the window.
    async fn transfer_limit(&self, module: Address, reason: &str) -> Case<'_> {
        let desk = &self.desk;
        let volume = |max| Some(VolumeLimit { window: Window::Rolling { length_s: 3600 }, max });
        let wait = desk.stack.pass(3700);
        match reason {
            "TRANSFER_AMOUNT_EXCEEDED" => {
                desk.bind(module, transfer_limit_rule_params(Some(10), None, None)).await;
                let case = Case::transfer(self, Cure::Holder, async {}).told(&[("needed", &11), ("limit", &10)]);
                Case { amount: 11, cured_amount: 10, ..case }
            }
            "HOLDER_VOLUME_EXCEEDED" => {
                desk.bind(module, transfer_limit_rule_params(None, volume(6), None)).await;
                desk.passes(Some(desk.sender), desk.receiver, 4).await;
                Case::transfer(self, Cure::Holder, wait).of(3).told(&[("holder_used", &4), ("holder_limit", &6)])
            }
            // What others have used up no sender can help.
            "TOKEN_VOLUME_EXCEEDED" => {
                desk.bind(module, transfer_limit_rule_params(None, None, volume(6))).await;
                desk.passes(Some(desk.receiver), desk.sender, 4).await;
                Case::transfer(self, Cure::Nobody, wait).of(3).told(&[("token_used", &4), ("token_limit", &6)])
            }
            other => panic!("no case of {other}"),
        }
    }

    async fn issuance(&self, module: Address, reason: &str) -> Case<'_> {
        let (desk, stack) = (&self.desk, &self.desk.stack);
        let supply: u128 = stack.read(desk.token, AssetToken::totalSupplyCall {}).await.saturating_to();
        let rolling = Issued::Within(Window::Rolling { length_s: 3600 });
        let price = Some(PriceSource { feed: self.feed, max_age_s: MAX_AGE_S });
        let raised = IssuanceLimit { price, ..issuance(Issued::Ever { issued_before: 0 }, u128::MAX) };
        let operator = Cure::Operator;
        match reason {
            // Burning gives room under a cap.
            "ISSUANCE_CAP_EXCEEDED" => {
                desk.bind(module, issuance_rule_params(&[issuance(Issued::Supply, supply)])).await;
                let burn = AssetToken::burnCall { account: desk.sender, amount: U256::ONE };
                let remedy = async move {
                    stack.send(desk.officer, desk.token, &burn).await;
                };
                Case::mint(self, operator, remedy).told(&[("supply", &supply), ("supply_limit", &supply)])
            }
            // Nothing gives room back here, but governance may allow more.
            "ISSUANCE_LIFETIME_EXCEEDED" => {
                let ever = |max| issuance_rule_params(&[issuance(Issued::Ever { issued_before: 100 }, max)]);
                desk.bind(module, ever(100)).await;
                let figures: [(_, &dyn ToString); 2] = [("lifetime_used", &100), ("lifetime_limit", &100)];
                Case::mint(self, operator, desk.set_params(module, ever(101))).told(&figures)
            }
            "ISSUANCE_WINDOW_EXCEEDED" => {
                desk.bind(module, issuance_rule_params(&[issuance(rolling, 5)])).await;
                desk.passes(None, desk.receiver, 5).await;
                Case::mint(self, operator, stack.pass(3700)).told(&[("window_used", &5), ("window_limit", &5)])
            }
            // The feed has no answer yet.
            "ISSUANCE_PRICE_UNAVAILABLE" => {
                desk.bind(module, issuance_rule_params(&[raised])).await;
                Case::mint(self, operator, self.attestor.price(&self.desk, self.feed))
                    .told(&[("feed", &self.feed), ("max_age_s", &MAX_AGE_S)])
            }
            "ISSUANCE_PRICE_STALE" => {
                self.attestor.price(&self.desk, self.feed).await;
                desk.bind(module, issuance_rule_params(&[raised])).await;
                stack.pass(u64::from(MAX_AGE_S) + 60).await;
                Case::mint(self, operator, self.attestor.price(&self.desk, self.feed))
                    .told(&[("feed", &self.feed), ("max_age_s", &MAX_AGE_S)])
            }
            other => panic!("no case of {other}"),
        }
    }

    async fn collateral(&self, module: Address, reason: &str) -> Case<'_> {
        let stack = &self.desk.stack;
        let supply: u64 = stack.read(self.desk.token, AssetToken::totalSupplyCall {}).await.saturating_to();
        let identity = stack.read(self.desk.token, AssetToken::onchainIDCall {}).await;
        let operator = Cure::Operator;
        if let "COLLATERAL_PRICE_UNAVAILABLE" | "COLLATERAL_PRICE_STALE" = reason {
            let feed = self.worth;
            let price = Some(PriceSource { feed, max_age_s: MAX_AGE_S });
            self.attestor.attest(&self.desk, U256::MAX.abi_encode().into()).await;
            self.desk.bind(module, collateral_rule_params(topic_id("collateral"), 10_000, price)).await;
            if reason == "COLLATERAL_PRICE_STALE" {
                self.attestor.price(&self.desk, feed).await;
                stack.pass(u64::from(MAX_AGE_S) + 60).await;
            }
            let remedy = self.attestor.price(&self.desk, feed);
            return Case::mint(self, operator, remedy).told(&[("feed", &feed), ("max_age_s", &MAX_AGE_S)]);
        }
        self.desk.bind(module, self.harmless(RuleKind::Collateral)).await;
        let enough = || self.attestor.attest(&self.desk, U256::from(5000).abi_encode().into());
        let (cure, figures): (_, [(_, &dyn ToString); 2]) = match reason {
            "COLLATERAL_MISSING" => (Cure::ClaimIssuer, [("topic", &"collateral"), ("asset_identity", &identity)]),
            "COLLATERAL_MALFORMED" => {
                self.attestor.attest(&self.desk, Bytes::from_static(&[1])).await;
                (Cure::ClaimIssuer, [("topic", &"collateral"), ("asset_identity", &identity)])
            }
            "COLLATERAL_TOO_LOW" => {
                self.attestor.attest(&self.desk, U256::from(500).abi_encode().into()).await;
                (operator, [("collateral", &500), ("collateral_needed", &(supply + 1))])
            }
            other => panic!("no case of {other}"),
        };
        Case::mint(self, cure, enough()).told(&figures)
    }

    /// Time alone cures it.
    async fn holding_period(&self, module: Address) -> Case<'_> {
        self.desk.bind(module, holding_period_rule_params(1, EarlierBalance::AsNew)).await;
        let figures: [(_, &dyn ToString); 3] = [("days", &1), ("free", &0), ("needed", &3)];
        Case::transfer(self, Cure::Nobody, self.desk.stack.pass(2 * 86_400)).of(3).told(&figures)
    }

    /// Each code that rules of these kinds have: refused, cured, passed.
    async fn every_code_of(&self, kinds: &[RuleKind]) {
        for kind in kinds {
            for (reason, ..) in kind.reasons() {
                let Case { from, to, amount, cure, figures, remedy, cured_amount } = self.provoke(*kind, reason).await;
                self.desk.vetoed(from, to, amount, (kind.contract(), reason, cure), &figures).await;
                remedy.await;
                self.desk.passes(from, to, cured_amount).await;
                self.desk.unbind(self.module(*kind).await).await;
            }
        }
    }
}

fn claims(topics: &[&str]) -> ClaimRule::Group {
    ClaimRule::Group { allOf: topics.iter().map(|name| topic_id(name)).collect(), noneOf: vec![] }
}

fn issuance(measure: Issued, max: u128) -> IssuanceLimit {
    IssuanceLimit { measure, max, price: None }
}

const ON_AMOUNTS: [RuleKind; 4] =
    [RuleKind::TransferLimit, RuleKind::Issuance, RuleKind::Collateral, RuleKind::HoldingPeriod];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_code_of_rules_on_holders_is_told_and_can_be_cured() {
    let scene = Scene::open().await;
    let others = RuleKind::ALL.into_iter().filter(|kind| !ON_AMOUNTS.contains(kind)).collect::<Vec<_>>();
    scene.every_code_of(&others).await;

    // A rule that does not answer bars everything, and is named; governance removes it.
    let (desk, module) = (&scene.desk, scene.module(RuleKind::Country).await);
    desk.bind(module, scene.harmless(RuleKind::Country)).await;
    desk.stack.node("anvil_setCode", json!([module, "0x5f5ffd"])).await;
    let answer = desk.simulate(Some(desk.sender), Some(desk.receiver), 1).await;
    assert_eq!(vetoes(&answer), [("Rule", "RULE_FAILED")]);
    let veto = verdict(&answer, "Rule");
    assert_eq!((veto.module.as_str(), veto.cure()), (text(module).as_str(), Cure::Operator));
    desk.unbind(module).await;
    desk.passes(Some(desk.sender), desk.receiver, 1).await;
    scene.desk.stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_code_of_rules_on_amounts_is_told_and_can_be_cured() {
    let scene = Scene::open().await;
    scene.every_code_of(&ON_AMOUNTS).await;
    scene.desk.stack.end().await;
}
