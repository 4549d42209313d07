//! All rules: what their contracts take and refuse, what is read back, and what operators change about a bound one.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::primitives::{Address, Bytes, U256};
use dalp_contracts::{
    bindings::{ClaimRule as ClaimContract, CountryRule as AnyRule, ListRule as ListContract},
    encode::{self, EarlierBalance as Earlier, Issued, Sides as EncodedSides},
    revert::reason_text,
};
use dalp_proto::{
    asset::{
        self, ApprovalRule, ClaimExpression, ClaimGroup, ClaimRule, CollateralRule, CountryLimit, CountryMode,
        CountryRule, EarlierBalance, EverMeasure, FixedWindow, HolderLimitRule, HoldingPeriodRule, IssuanceLimit,
        IssuanceRule, ListEntry, ListRule, PriceSource, RollingWindow, RuleBinding, RuleKind, Sides, SupplyMeasure,
        TransferLimitRule, VolumeLimit, Window, claim_expression::Form, issuance_limit::Measure,
        rule_binding::Rule as Wire, window::Kind,
    },
    compliance::{self, ApprovedMovement, Hook},
};
use std::collections::BTreeMap;
use support::{Stack, refusal, text};
use svc_compliance::{
    domain::rule::RuleKind as Known,
    readers::{ChainReader, ReadError},
};

const NOBODY: &str = "0x0000000000000000000000000000000000000000";

fn binding(rule: Wire) -> RuleBinding {
    RuleBinding { rule: Some(rule) }
}

fn group(topic: &str) -> ClaimGroup {
    ClaimGroup { all_of: vec![topic.into()], none_of: vec![] }
}

fn window(kind: Kind) -> Window {
    Window { kind: Some(kind) }
}

fn rolling(length_s: u32) -> Window {
    window(Kind::Rolling(RollingWindow { length_s }))
}

fn fixed(length_s: u32, start_at: u32) -> Window {
    window(Kind::Fixed(FixedWindow { length_s, start_at }))
}

fn limit(measure: Measure, max: &str) -> IssuanceLimit {
    IssuanceLimit { max: max.into(), price: None, measure: Some(measure) }
}

fn issuance(limits: Vec<IssuanceLimit>) -> Wire {
    Wire::Issuance(IssuanceRule { limits })
}

fn transfers(max_amount: &str, per_holder: Option<VolumeLimit>) -> Wire {
    Wire::TransferLimit(TransferLimitRule { max_amount: max_amount.into(), per_holder, per_token: None })
}

/// Without the indices of lists, which the contracts do not name.
fn without_indices(path: &str) -> String {
    let mut inside = false;
    let keep = |char: &char| match char {
        '[' | ']' => {
            inside = *char == '[';
            false
        }
        _ => !inside,
    };
    path.chars().filter(keep).collect()
}

/// What the rule's own contract says of parameters: the path of what it refuses.
async fn judged(chain: &ChainReader, module: Address, kind: Known, params: Bytes) -> Option<String> {
    match chain.read(module, AnyRule::validateCall { params }).await {
        Ok(_) => None,
        Err(ReadError::Reverted(data)) => {
            use alloy::sol_types::SolError as _;
            let field = AnyRule::InvalidParams::abi_decode(&data).map(|invalid| reason_text(invalid.field));
            Some(format!("rule.{}", kind.field_of(field.as_deref().unwrap_or("any_of"))))
        }
        Err(error) => panic!("{error}"),
    }
}

/// A rule that is not valid: as the wire says it, and as it would reach the contract if nobody checked before.
fn invalid(wallet: &str) -> Vec<(Wire, Bytes)> {
    let account: Address = wallet.parse().unwrap();
    let entry = |account, lists| ListContract::ListEntry { account, lists };
    let ids = |all_of: Vec<u64>, none_of: Vec<u64>| ClaimContract::Group {
        allOf: all_of.into_iter().map(U256::from).collect(),
        noneOf: none_of.into_iter().map(U256::from).collect(),
    };
    let claim = |groups: Vec<ClaimContract::Group>| encode::claim_rule_params(EncodedSides::Recipient, groups);
    let wire_claim = |any_of: Vec<ClaimGroup>| Wire::Claim(ClaimRule { any_of, ..Default::default() });
    let country = |mode: CountryMode, countries: Vec<u32>| Wire::Country(CountryRule { mode: mode.into(), countries });
    let encoded_limit = |measure, max| encode::IssuanceLimit { measure, max, price: None };
    let holders = |max_holders, countries: Vec<(u32, u32)>| {
        let countries =
            countries.into_iter().map(|(country, max_holders)| CountryLimit { country, max_holders }).collect();
        Wire::HolderLimit(HolderLimitRule { max_holders, countries })
    };
    let approval = |approvers: Vec<&str>, max_validity_s| {
        let approvers = approvers.into_iter().map(str::to_owned).collect();
        Wire::Approval(ApprovalRule { approvers, max_validity_s, mints: false })
    };
    let numbered = |count: u16| (1..=count).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let rolling_zero = encode::Window::Rolling { length_s: 0 };
    vec![
        (country(CountryMode::Allow, vec![]), encode::country_rule_params(true, &[])),
        (country(CountryMode::Block, vec![756, 0]), encode::country_rule_params(false, &[756, 0])),
        (country(CountryMode::Block, vec![1000]), encode::country_rule_params(false, &[1000])),
        (wire_claim(vec![]), claim(vec![])),
        (wire_claim(vec![ClaimGroup::default()]), claim(vec![ids(vec![], vec![])])),
        (wire_claim(vec![group("kyc"); 9]), claim(vec![ids(vec![1], vec![]); 9])),
        (
            wire_claim(vec![ClaimGroup { all_of: vec!["kyc".into()], none_of: vec!["kyc".into()] }]),
            claim(vec![ids(vec![1], vec![1])]),
        ),
        (
            wire_claim(vec![ClaimGroup { all_of: numbered(16), none_of: vec![] }]),
            claim(vec![ids((1..=16).collect(), vec![])]),
        ),
        (Wire::List(ListRule::default()), encode::list_rule_params(None, None, vec![])),
        (
            Wire::List(ListRule {
                allow: Sides::Both.into(),
                block: 0,
                entries: vec![ListEntry { account: NOBODY.into(), allowed: true, blocked: false }],
            }),
            encode::list_rule_params(Some(EncodedSides::Both), None, vec![entry(Address::ZERO, 1)]),
        ),
        (holders(0, vec![]), encode::holder_limit_rule_params(None, &BTreeMap::new())),
        (holders(5, vec![(1000, 1)]), encode::holder_limit_rule_params(Some(5), &BTreeMap::from([(1000, 1)]))),
        (issuance(vec![]), encode::issuance_rule_params(&[])),
        (
            issuance(vec![limit(Measure::Supply(SupplyMeasure {}), "1"); 5]),
            encode::issuance_rule_params(&[encoded_limit(Issued::Supply, 1); 5]),
        ),
        (
            issuance(vec![limit(Measure::Supply(SupplyMeasure {}), "1"); 2]),
            encode::issuance_rule_params(&[encoded_limit(Issued::Supply, 1); 2]),
        ),
        (
            issuance(vec![limit(Measure::Supply(SupplyMeasure {}), "0")]),
            encode::issuance_rule_params(&[encoded_limit(Issued::Supply, 0)]),
        ),
        (
            issuance(vec![limit(Measure::Window(rolling(0)), "1")]),
            encode::issuance_rule_params(&[encoded_limit(Issued::Within(rolling_zero), 1)]),
        ),
        (
            issuance(vec![IssuanceLimit {
                price: Some(PriceSource { feed: wallet.into(), max_age_s: 0 }),
                ..limit(Measure::Supply(SupplyMeasure {}), "1")
            }]),
            encode::issuance_rule_params(&[encode::IssuanceLimit {
                price: Some(encode::PriceSource { feed: account, max_age_s: 0 }),
                ..encoded_limit(Issued::Supply, 1)
            }]),
        ),
        (
            Wire::HoldingPeriod(HoldingPeriodRule { days: 0, earlier: EarlierBalance::Free.into() }),
            encode::holding_period_rule_params(0, Earlier::Free),
        ),
        (
            Wire::HoldingPeriod(HoldingPeriodRule { days: 10_951, earlier: EarlierBalance::Free.into() }),
            encode::holding_period_rule_params(10_951, Earlier::Free),
        ),
        (approval(vec![], 60), encode::approval_rule_params(vec![], 60, false)),
        (approval(vec![wallet; 17], 60), encode::approval_rule_params(vec![account; 17], 60, false)),
        (approval(vec![NOBODY], 60), encode::approval_rule_params(vec![Address::ZERO], 60, false)),
        (approval(vec![wallet], 0), encode::approval_rule_params(vec![account], 0, false)),
        (transfers("", None), encode::transfer_limit_rule_params(None, None, None)),
        (
            transfers("", Some(VolumeLimit { window: Some(rolling(0)), max: "1".into() })),
            encode::transfer_limit_rule_params(None, Some(encode::VolumeLimit { window: rolling_zero, max: 1 }), None),
        ),
        (
            transfers("", Some(VolumeLimit { window: Some(rolling(60)), max: "0".into() })),
            encode::transfer_limit_rule_params(
                None,
                Some(encode::VolumeLimit { window: encode::Window::Rolling { length_s: 60 }, max: 0 }),
                None,
            ),
        ),
        (
            Wire::Collateral(CollateralRule { topic: String::new(), ratio_bps: 10_000, price: None }),
            encode::collateral_rule_params(U256::ZERO, 10_000, None),
        ),
        (
            Wire::Collateral(CollateralRule { topic: "kyc".into(), ratio_bps: 0, price: None }),
            encode::collateral_rule_params(U256::from(7), 0, None),
        ),
    ]
}

/// A rule of each kind that a bond with holders in Switzerland can live with.
fn valid(approver: &str) -> Vec<Wire> {
    let ever = Measure::Ever(EverMeasure { issued_before: "1000".into() });
    vec![
        Wire::Country(CountryRule { mode: CountryMode::Allow.into(), countries: vec![276, 756] }),
        Wire::Claim(ClaimRule { any_of: vec![group("kyc")], expression: None, sides: Sides::Both.into() }),
        Wire::List(ListRule {
            allow: 0,
            block: Sides::Both.into(),
            entries: vec![ListEntry { account: approver.into(), allowed: false, blocked: true }],
        }),
        Wire::HolderLimit(HolderLimitRule {
            max_holders: 5,
            countries: vec![CountryLimit { country: 756, max_holders: 3 }],
        }),
        issuance(vec![
            limit(Measure::Supply(SupplyMeasure {}), "5000"),
            limit(ever, "6000"),
            limit(Measure::Window(fixed(86_400, 0)), "700"),
        ]),
        Wire::HoldingPeriod(HoldingPeriodRule { days: 30, earlier: EarlierBalance::Free.into() }),
        Wire::Approval(ApprovalRule { approvers: vec![approver.into()], max_validity_s: 86_400, mints: false }),
        transfers("100", Some(VolumeLimit { window: Some(rolling(3600)), max: "150".into() })),
        Wire::Collateral(CollateralRule { topic: "kyc".into(), ratio_bps: 10_000, price: None }),
    ]
}

/// As it is read back: what is added to a list or a sum once is no parameter any more.
fn shown(rule: Wire) -> Wire {
    match rule {
        Wire::List(rule) => Wire::List(ListRule { entries: vec![], ..rule }),
        Wire::Issuance(mut rule) => {
            for limit in &mut rule.limits {
                if let Some(Measure::Ever(ever)) = &mut limit.measure {
                    ever.issued_before.clear();
                }
            }
            Wire::Issuance(rule)
        }
        other => other,
    }
}

/// Every rule in other words.
fn changed(approver: &str) -> Vec<Wire> {
    vec![
        Wire::Country(CountryRule { mode: CountryMode::Block.into(), countries: vec![840] }),
        Wire::Claim(ClaimRule {
            expression: Some(ClaimExpression { form: Some(Form::Text("kyc".into())) }),
            ..Default::default()
        }),
        Wire::List(ListRule { allow: 0, block: Sides::Recipient.into(), entries: vec![] }),
        Wire::HolderLimit(HolderLimitRule {
            max_holders: 0,
            countries: vec![CountryLimit { country: 276, max_holders: 0 }],
        }),
        issuance(vec![limit(Measure::Supply(SupplyMeasure {}), "9000")]),
        Wire::HoldingPeriod(HoldingPeriodRule { days: 1, earlier: EarlierBalance::Free.into() }),
        Wire::Approval(ApprovalRule { approvers: vec![approver.into()], max_validity_s: 60, mints: true }),
        transfers("7", None),
        Wire::Collateral(CollateralRule { topic: "kyc".into(), ratio_bps: 1, price: None }),
    ]
}

struct Bond {
    stack: Stack,
    token: Address,
    admin: Address,
    holder: Address,
    receiver: Address,
    approver: Address,
}

// === impl Bond ===

impl Bond {
    async fn start() -> Self {
        let stack = Stack::start(4).await;
        let [admin, holder, receiver, approver] = stack.wallets[..] else { panic!("four wallets") };
        let token = stack.bond().await;
        Self { stack, token, admin, holder, receiver, approver }
    }

    async fn add(&self, rule: Wire) {
        let request =
            compliance::AddRuleRequest { sender: text(self.admin), asset: text(self.token), rule: Some(binding(rule)) };
        let answer = self.stack.rules().add_rule(self.stack.fresh(request)).await.unwrap().into_inner();
        self.stack.done(answer.operation).await;
    }

    async fn set(&self, rule: Wire) {
        let request = self.setting(rule);
        let answer = self.stack.rules().set_rule_parameters(self.stack.fresh(request)).await.unwrap().into_inner();
        self.stack.done(answer.operation).await;
    }

    fn setting(&self, rule: Wire) -> compliance::SetRuleParametersRequest {
        compliance::SetRuleParametersRequest {
            sender: text(self.admin),
            asset: text(self.token),
            rule: Some(binding(rule)),
        }
    }

    async fn rules(&self) -> Vec<compliance::Rule> {
        let request = compliance::ListRulesRequest { asset: text(self.token) };
        self.stack.rules().list_rules(self.stack.fresh(request)).await.unwrap().into_inner().rules
    }

    /// The reasons why a transfer from the holder to the receiver would be refused.
    async fn vetoes(&self, amount: &str) -> Vec<String> {
        let request = compliance::SimulateTransferRequest {
            asset: text(self.token),
            from: text(self.holder),
            to: text(self.receiver),
            amount: amount.into(),
            ..Default::default()
        };
        let answer = self.stack.rules().simulate_transfer(self.stack.fresh(request)).await.unwrap().into_inner();
        answer
            .verdicts
            .into_iter()
            .filter(|verdict| !verdict.passed && !verdict.advisory)
            .map(|verdict| verdict.reason)
            .collect()
    }

    async fn transfer(&self, amount: &str) -> Result<(), String> {
        let request = asset::TransferRequest {
            sender: text(self.holder),
            asset: text(self.token),
            to: text(self.receiver),
            amount: amount.into(),
        };
        let answer = self.stack.assets().transfer(self.stack.fresh(request)).await.unwrap().into_inner();
        match self.stack.ended(answer.operation).await.error {
            None => Ok(()),
            Some(error) => Err(error.metadata.get("module_reason").cloned().unwrap_or(error.reason)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_contract_refuses_is_refused_before_and_what_it_takes_is_taken() {
    let stack = Stack::start(1).await;
    let admin = stack.wallets[0];
    stack.bootstrap(support::TENANT, admin).await;
    let listed = stack.rules().list_modules(stack.fresh(compliance::ListModulesRequest {})).await.unwrap().into_inner();
    assert_eq!(listed.modules.len(), Known::ALL.len());
    let chain = ChainReader::new(stack.upstreams.clone());
    let mut modules = BTreeMap::new();
    for (kind, module) in Known::ALL.into_iter().zip(&listed.modules) {
        assert_eq!(module.name, kind.contract());
        let address: Address = module.module.parse().unwrap();
        assert_eq!(chain.read(address, AnyRule::nameCall {}).await.unwrap(), module.name);
        // What the catalogue says of its hooks is what its contract declares.
        let mask = chain.read(address, AnyRule::hooksCall {}).await.unwrap();
        let named: u8 = module.hooks().map(|hook| 1 << (i32::from(hook) - i32::from(Hook::Check))).sum();
        assert_eq!(named, mask, "{}", module.name);
        assert!(!module.parameters.is_empty() && module.reasons.iter().any(|reason| !reason.advice.is_empty()));
        modules.insert(kind, address);
    }
    let before = stack.rows().await;
    let refused = async |wire: Wire| {
        let order =
            asset::CreateAssetRequest { rules: vec![binding(wire.clone())], ..support::order(admin, admin, "RULES") };
        let status = stack.assets().create_asset(stack.fresh(order)).await.expect_err(&format!("{wire:?}"));
        let details = refusal(&status);
        assert_eq!(details.reason, "MODULE_PARAMETERS_INVALID", "{wire:?}: {details:?}");
        details.violations[0].0.clone()
    };
    for (wire, params) in invalid(&text(admin)) {
        let (kind, said) = (kind_of(&wire), format!("{wire:?}"));
        let ours = without_indices(&refused(wire).await);
        let theirs = judged(&chain, modules[&kind], kind, params).await.unwrap_or_else(|| panic!("taken: {said}"));
        let theirs = theirs.replacen("rule.", "rules.", 1);
        assert!(ours.starts_with(&theirs), "{said}: we name {ours}, the contract {theirs}");
    }
    // What only the chain can know is refused before anything is accepted, too.
    let later = limit(Measure::Window(fixed(60, 4_000_000_000)), "1");
    assert_eq!(refused(issuance(vec![later])).await, "rules[0].issuance.limits.window");
    let price = Some(PriceSource { feed: text(admin), max_age_s: 60 });
    let unfed = IssuanceLimit { price, ..limit(Measure::Supply(SupplyMeasure {}), "1") };
    assert_eq!(refused(issuance(vec![unfed])).await, "rules[0].issuance.limits.price.feed");
    let volume = VolumeLimit { window: Some(fixed(60, 4_000_000_000)), max: "1".into() };
    assert_eq!(refused(transfers("", Some(volume))).await, "rules[0].transfer_limit.per_holder");
    assert_eq!(stack.rows().await, before, "a refused request stored something");

    // All nine at once, at birth.
    let rules: Vec<RuleBinding> = valid(&text(admin)).into_iter().map(binding).collect();
    let order = asset::CreateAssetRequest {
        rules: rules.clone(),
        initial_supply: String::new(),
        initial_holder: String::new(),
        ..support::order(admin, admin, "NINE")
    };
    let created = stack.assets().create_asset(stack.fresh(order)).await.unwrap().into_inner().operation;
    let token = stack.done(created).await.result.unwrap()["asset"].as_str().unwrap().to_owned();
    let token = text(token.parse().unwrap());
    let request = compliance::ListRulesRequest { asset: token };
    let bound = stack.rules().list_rules(stack.fresh(request)).await.unwrap().into_inner().rules;
    for (rule, given) in bound.into_iter().zip(rules) {
        assert_eq!(rule.parameters.unwrap().rule, given.rule.map(shown), "{}", rule.name);
    }
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_rule_shows_its_parameters_and_takes_new_ones() {
    let bond = Bond::start().await;
    let approver = text(bond.approver);
    for rule in valid(&approver) {
        bond.add(rule).await;
    }
    let bound = bond.rules().await;
    let names: Vec<_> = bound.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, Known::ALL.map(Known::contract));
    for (rule, given) in bound.iter().zip(valid(&approver)) {
        assert_eq!(rule.parameters.clone().unwrap().rule, Some(shown(given)), "{}", rule.name);
    }
    assert_eq!(bound[1].expression, "kyc");
    assert_eq!(bound[4].usage.clone().unwrap().issued, ["0", "1000", "0"], "what was issued before counts");

    // Unbound kinds and what is fixed are refused; everything else changes in place.
    let again = EarlierBalance::AsNew.into();
    let fixed = bond.setting(Wire::HoldingPeriod(HoldingPeriodRule { days: 30, earlier: again }));
    let status = bond.stack.rules().set_rule_parameters(bond.stack.fresh(fixed)).await.unwrap_err();
    let details = refusal(&status);
    assert_eq!(
        (details.reason.as_str(), details.violations[0].0.as_str()),
        ("MODULE_PARAMETERS_INVALID", "rule.holding_period.earlier")
    );
    for rule in changed(&approver) {
        bond.set(rule).await;
    }
    let now = bond.rules().await;
    for ((rule, given), before) in now.iter().zip(changed(&approver)).zip(&bound) {
        assert_eq!((&rule.module, &rule.name), (&before.module, &before.name), "the place stays");
        let given = match given {
            Wire::Claim(_) => {
                Wire::Claim(ClaimRule { any_of: vec![group("kyc")], expression: None, sides: Sides::Recipient.into() })
            }
            other => other,
        };
        assert_eq!(rule.parameters.clone().unwrap().rule, Some(given), "{}", rule.name);
    }
    let remove = compliance::RemoveRuleRequest {
        sender: text(bond.admin),
        asset: text(bond.token),
        module: now[0].module.clone(),
    };
    let removed = bond.stack.rules().remove_rule(bond.stack.fresh(remove)).await.unwrap().into_inner();
    bond.stack.done(removed.operation).await;
    let gone = bond.setting(changed(&approver).remove(0));
    let status = bond.stack.rules().set_rule_parameters(bond.stack.fresh(gone)).await.unwrap_err();
    assert_eq!(
        (refusal(&status).reason, refusal(&status).metadata["module"].as_str()),
        ("NOT_FOUND".into(), "CountryRule")
    );
    bond.stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_change_what_a_rule_keeps() {
    let bond = Bond::start().await;
    let stack = &bond.stack;
    let mut rules = stack.rules();
    let (sender, asset) = (text(bond.admin), text(bond.token));

    // --- lists
    bond.add(Wire::List(ListRule { allow: 0, block: Sides::Both.into(), entries: vec![] })).await;
    let entry = |account: Address, blocked| ListEntry { account: text(account), allowed: false, blocked };
    let entries = |entries: Vec<ListEntry>| compliance::SetListEntriesRequest {
        sender: sender.clone(),
        asset: asset.clone(),
        entries,
    };
    let blocked = entries(vec![entry(bond.receiver, true), entry(bond.approver, true)]);
    stack.done(rules.set_list_entries(stack.fresh(blocked)).await.unwrap().into_inner().operation).await;
    assert_eq!(bond.vetoes("1").await, ["RECIPIENT_BLOCKED"]);
    assert_eq!(bond.transfer("1").await, Err("RECIPIENT_BLOCKED".into()));
    let asked = compliance::GetListEntriesRequest {
        asset: asset.clone(),
        accounts: vec![text(bond.receiver), text(bond.holder)],
    };
    let shown = rules.get_list_entries(stack.fresh(asked)).await.unwrap().into_inner().entries;
    assert_eq!(shown, [entry(bond.receiver, true), entry(bond.holder, false)]);
    let lifted = entries(vec![entry(bond.receiver, false)]);
    stack.done(rules.set_list_entries(stack.fresh(lifted)).await.unwrap().into_inner().operation).await;
    assert_eq!(bond.transfer("1").await, Ok(()));
    let status = rules.set_list_entries(stack.fresh(entries(vec![entry(bond.receiver, true); 2]))).await.unwrap_err();
    assert_eq!(refusal(&status).violations[0].0, "entries[1].account");
    let foreign =
        compliance::SetListEntriesRequest { sender: text(bond.holder), ..entries(vec![entry(bond.holder, true)]) };
    let status = rules.set_list_entries(stack.fresh(foreign)).await.unwrap_err();
    assert_eq!(
        (refusal(&status).reason.as_str(), refusal(&status).metadata["role"].as_str()),
        ("ASSET_ROLE_MISSING", "governance")
    );

    // --- counting holders: two hold already, the approver would be the third
    bond.add(Wire::HolderLimit(HolderLimitRule { max_holders: 2, countries: vec![] })).await;
    let count = |wallets: Vec<Address>| compliance::CountHoldersRequest {
        sender: text(bond.holder),
        asset: asset.clone(),
        wallets: wallets.into_iter().map(text).collect(),
    };
    let mint = asset::MintRequest {
        sender: sender.clone(),
        asset: asset.clone(),
        to: text(bond.approver),
        amount: "1".into(),
    };
    let refused =
        stack.ended(stack.assets().mint(stack.fresh(mint.clone())).await.unwrap().into_inner().operation).await;
    // Of two refusals the rule that was bound first is named.
    assert_eq!(refused.error.unwrap().metadata["module_reason"], "RECIPIENT_BLOCKED");
    let lifted = entries(vec![entry(bond.approver, false)]);
    stack.done(rules.set_list_entries(stack.fresh(lifted)).await.unwrap().into_inner().operation).await;
    let refused =
        stack.ended(stack.assets().mint(stack.fresh(mint.clone())).await.unwrap().into_inner().operation).await;
    assert_eq!(refused.error.unwrap().metadata["module_reason"], "HOLDERS_NOT_COUNTED");
    let counted = rules.count_holders(stack.fresh(count(vec![bond.holder, bond.receiver]))).await.unwrap();
    stack.done(counted.into_inner().operation).await;
    let refused =
        stack.ended(stack.assets().mint(stack.fresh(mint.clone())).await.unwrap().into_inner().operation).await;
    assert_eq!(refused.error.unwrap().metadata["module_reason"], "HOLDER_LIMIT_REACHED");
    assert_eq!(bond.rules().await[1].usage.clone().unwrap().holders, 2);
    // A wallet of the platform is no holder.
    let exempt = |rule: RuleKind, wallet: Address| compliance::SetRuleExemptionRequest {
        sender: sender.clone(),
        asset: asset.clone(),
        rule: rule.into(),
        wallet: text(wallet),
        exempt: true,
    };
    let freed = rules.set_rule_exemption(stack.fresh(exempt(RuleKind::HolderLimit, bond.approver))).await.unwrap();
    stack.done(freed.into_inner().operation).await;
    stack.done(stack.assets().mint(stack.fresh(mint)).await.unwrap().into_inner().operation).await;
    let status = rules.set_rule_exemption(stack.fresh(exempt(RuleKind::Country, bond.approver))).await.unwrap_err();
    assert_eq!(
        (refusal(&status).reason.as_str(), refusal(&status).violations[0].0.as_str()),
        ("INVALID_FIELD", "rule")
    );

    // --- transfer limits do not bind an exempt sender
    bond.add(transfers("10", None)).await;
    assert_eq!(bond.transfer("11").await, Err("TRANSFER_AMOUNT_EXCEEDED".into()));
    let freed = rules.set_rule_exemption(stack.fresh(exempt(RuleKind::TransferLimit, bond.holder))).await.unwrap();
    stack.done(freed.into_inner().operation).await;
    assert_eq!(bond.transfer("11").await, Ok(()));
    bond.stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approvers_approve_and_take_back() {
    let bond = Bond::start().await;
    let stack = &bond.stack;
    let mut rules = stack.rules();
    let approver = text(bond.approver);
    let validity = 3600;
    bond.add(Wire::Approval(ApprovalRule {
        approvers: vec![approver.clone()],
        max_validity_s: validity,
        mints: false,
    }))
    .await;
    assert_eq!(bond.transfer("5").await, Err("TRANSFER_NOT_APPROVED".into()));

    let chain = ChainReader::new(stack.upstreams.clone());
    let now = chain.latest().await.unwrap().timestamp_s;
    let movement = |amount: &str, standing| {
        Some(ApprovedMovement { from: text(bond.holder), to: text(bond.receiver), amount: amount.into(), standing })
    };
    let approve = |sender: &str, amount: &str, standing, expires_at| compliance::ApproveTransferRequest {
        sender: sender.into(),
        asset: text(bond.token),
        movement: movement(amount, standing),
        expires_at,
    };
    let soon = now + 600;
    for (sender, expires_at, reason) in [
        (text(bond.admin), soon, "ASSET_ROLE_MISSING"),
        (approver.clone(), now - 1, "INVALID_FIELD"),
        (approver.clone(), now + 10 * u64::from(validity), "INVALID_FIELD"),
    ] {
        let status = rules.approve_transfer(stack.fresh(approve(&sender, "5", false, expires_at))).await.unwrap_err();
        assert_eq!(refusal(&status).reason, reason, "{expires_at}");
    }

    // --- once
    let given = rules.approve_transfer(stack.fresh(approve(&approver, "5", false, soon))).await.unwrap();
    stack.done(given.into_inner().operation).await;
    let get = |amount: &str, standing| compliance::GetApprovalRequest {
        asset: text(bond.token),
        movement: movement(amount, standing),
    };
    let seen = rules.get_approval(stack.fresh(get("5", false))).await.unwrap().into_inner();
    let expected = compliance::GetApprovalResponse {
        approver: approver.clone(),
        expires_at: soon,
        amount: "5".into(),
        counts: true,
    };
    assert_eq!(seen, expected);
    assert_eq!(bond.transfer("4").await, Err("TRANSFER_NOT_APPROVED".into()), "exactly what was approved");
    assert_eq!(bond.transfer("5").await, Ok(()));
    let used = rules.get_approval(stack.fresh(get("5", false))).await.unwrap_err();
    assert_eq!(refusal(&used).reason, "NOT_FOUND");

    // --- standing, until it is taken back
    let given = rules.approve_transfer(stack.fresh(approve(&approver, "20", true, soon))).await.unwrap();
    stack.done(given.into_inner().operation).await;
    assert_eq!(rules.get_approval(stack.fresh(get("1", true))).await.unwrap().into_inner().amount, "20");
    assert_eq!(bond.transfer("7").await, Ok(()));
    assert_eq!(bond.transfer("20").await, Ok(()));
    assert_eq!(bond.transfer("21").await, Err("TRANSFER_NOT_APPROVED".into()));
    let revoke = compliance::RevokeApprovalRequest {
        sender: approver.clone(),
        asset: text(bond.token),
        movement: movement("1", true),
    };
    stack.done(rules.revoke_approval(stack.fresh(revoke.clone())).await.unwrap().into_inner().operation).await;
    assert_eq!(bond.transfer("7").await, Err("TRANSFER_NOT_APPROVED".into()));
    let again = rules.revoke_approval(stack.fresh(revoke)).await.unwrap_err();
    assert_eq!(refusal(&again).reason, "NOT_FOUND");
    bond.stack.end().await;
}

fn kind_of(wire: &Wire) -> Known {
    match wire {
        Wire::Country(_) => Known::Country,
        Wire::Claim(_) => Known::Claim,
        Wire::List(_) => Known::List,
        Wire::HolderLimit(_) => Known::HolderLimit,
        Wire::Issuance(_) => Known::Issuance,
        Wire::HoldingPeriod(_) => Known::HoldingPeriod,
        Wire::Approval(_) => Known::Approval,
        Wire::TransferLimit(_) => Known::TransferLimit,
        Wire::Collateral(_) => Known::Collateral,
    }
}
