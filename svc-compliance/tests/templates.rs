//! Templates: an asset of every class is created, gets what its class has, and moves; tenants derive their own.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

use alloy::{
    primitives::{Address, U256, hex},
    sol_types::SolValue as _,
};
use dalp_contracts::bindings::{AssetToken, VotingPower};
use dalp_proto::{
    asset::{
        self, AssetClass, AssetRole, AssetTerms, BondTerms, CountryMode, CountryRule, CreateAssetRequest, DepositTerms,
        EquityTerms, Feature, FeeFeature, FundKind, FundTerms, Metal, PreciousMetalTerms, RealEstateTerms, RuleBinding,
        StablecoinTerms, ValuationCycle, asset_terms::Terms, feature::Feature as WireFeature,
        rule_binding::Rule as Wire,
    },
    compliance, identity,
};
use support::{RIVAL, Stack, TENANT, refusal, text};
use svc_compliance::readers::ChainReader;

fn terms(class: AssetClass) -> Terms {
    let (currency, metal) = ("CHF".to_owned(), Metal::Gold.into());
    match class {
        AssetClass::Unspecified => unreachable!("no class"),
        AssetClass::Bond => Terms::Bond(BondTerms {
            maturity_date: "2090-05-01".into(),
            denomination: "1000".into(),
            currency,
            coupon_bps: 250,
            payments_per_year: 2,
            day_count: asset::DayCount::Thirty360.into(),
            issue_size: "5000".into(),
        }),
        AssetClass::Equity => Terms::Equity(EquityTerms {
            share_class: "common".into(),
            par_value: "0.01".into(),
            currency,
            authorised_shares: "1000".into(),
            non_voting: false,
        }),
        AssetClass::Fund => Terms::Fund(FundTerms {
            kind: FundKind::OpenEnded.into(),
            currency,
            valuation_cycle: ValuationCycle::Daily.into(),
            management_fee_bps: 100,
            fee_collector: String::new(),
            lock_up_days: 0,
        }),
        AssetClass::Deposit => {
            Terms::Deposit(DepositTerms { currency, interest_bps: 50, maturity_date: String::new(), notice_days: 31 })
        }
        AssetClass::Stablecoin => {
            Terms::Stablecoin(StablecoinTerms { currency, transfer_fee_bps: 100, ..Default::default() })
        }
        AssetClass::RealEstate => Terms::RealEstate(RealEstateTerms {
            country: 756,
            land_register_entry: "Zurich 1/4711".into(),
            valuation: "12500000".into(),
            currency,
            valuation_date: "2020-01-31".into(),
            units: "1000".into(),
            management_fee_bps: 25,
            fee_collector: String::new(),
        }),
        AssetClass::PreciousMetal => Terms::PreciousMetal(PreciousMetalTerms {
            metal,
            fineness: 9999,
            weight_mg: 1000,
            vault: "Example Vault, Zurich".into(),
            collateral_topic: String::new(),
            storage_fee_bps: 30,
            fee_collector: String::new(),
        }),
    }
}

/// What each class is bound to besides: rules, then features.
fn modules(class: AssetClass) -> &'static [&'static str] {
    match class {
        AssetClass::Unspecified => &[],
        AssetClass::Bond => &["IssuanceRule"],
        AssetClass::Equity => &["IssuanceRule", "VotingPower"],
        AssetClass::Fund => &["ManagementFee"],
        AssetClass::Deposit => &["ListRule"],
        AssetClass::Stablecoin => &["ListRule", "CollateralRule", "TransactionFee"],
        AssetClass::RealEstate => &["IssuanceRule", "ManagementFee", "VotingPower"],
        AssetClass::PreciousMetal => &["CollateralRule", "ManagementFee"],
    }
}

const CLASSES: [AssetClass; 7] = [
    AssetClass::Bond,
    AssetClass::Equity,
    AssetClass::Fund,
    AssetClass::Deposit,
    AssetClass::Stablecoin,
    AssetClass::RealEstate,
    AssetClass::PreciousMetal,
];

fn order(issuer: Address, class: AssetClass) -> CreateAssetRequest {
    let with_isin = matches!(class, AssetClass::Bond | AssetClass::Equity | AssetClass::Fund);
    CreateAssetRequest {
        issuer: text(issuer),
        name: format!("Example {class:?}"),
        symbol: format!("{class:?}").to_uppercase(),
        decimals: 0,
        asset_class: class.into(),
        isin: if with_isin { "US0378331005".into() } else { String::new() },
        claim_topics: vec!["kyc".into()],
        unpause: true,
        terms: Some(AssetTerms { terms: Some(terms(class)) }),
        ..Default::default()
    }
}

async fn topics(stack: &Stack, admin: Address) {
    let topic = identity::RegisterTopicRequest {
        sender: text(admin),
        name: "asset.collateral".into(),
        signature: "(uint256 amount)".into(),
    };
    let answer = stack.identities().register_topic(stack.fresh(topic)).await.unwrap().into_inner();
    stack.done(answer.operation).await;
    let distrust = identity::RemoveTrustedIssuerRequest { sender: text(admin), issuer: text(admin) };
    let answer = stack.identities().remove_trusted_issuer(stack.fresh(distrust)).await.unwrap().into_inner();
    stack.done(answer.operation).await;
    let trust = identity::AddTrustedIssuerRequest {
        sender: text(admin),
        issuer: text(admin),
        topics: vec!["kyc".into(), "asset.collateral".into()],
    };
    let answer = stack.identities().add_trusted_issuer(stack.fresh(trust)).await.unwrap().into_inner();
    stack.done(answer.operation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_of_every_class_is_made_from_its_template_and_moves() {
    let stack = Stack::start(3).await;
    let [admin, holder, receiver] = stack.wallets[..] else { panic!("three wallets") };
    stack.bootstrap(TENANT, admin).await;
    topics(&stack, admin).await;
    for wallet in [admin, holder, receiver] {
        stack.verify(admin, wallet).await;
    }
    let chain = ChainReader::new(stack.upstreams.clone());
    let listed = stack.assets().list_templates(stack.fresh(asset::ListTemplatesRequest {})).await.unwrap().into_inner();
    assert_eq!(listed.templates.iter().map(|one| one.asset_class()).collect::<Vec<_>>(), CLASSES);
    for template in &listed.templates {
        assert!(template.platform && template.terms.iter().any(|term| term.required), "{}", template.name);
        assert!(template.roles().any(|role| role == AssetRole::Supply));
    }
    for class in CLASSES {
        let created = stack.assets().create_asset(stack.fresh(order(admin, class))).await.unwrap().into_inner();
        let result = stack.done(created.operation).await.result.unwrap();
        let token: Address = result["asset"].as_str().unwrap().parse().unwrap();
        let list = compliance::ListRulesRequest { asset: text(token) };
        let bound = stack.rules().list_rules(stack.fresh(list)).await.unwrap().into_inner().rules;
        assert_eq!(bound.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), modules(class), "{class:?}");
        for rule in &bound {
            assert_ne!(rule.parameters.is_some(), rule.feature.is_some(), "{class:?}: {rule:?}");
        }
        // What collateral covers may be minted, and no more.
        let mint = |amount: &str| {
            stack.fresh(asset::MintRequest {
                sender: text(admin),
                asset: text(token),
                to: text(holder),
                amount: amount.into(),
            })
        };
        if modules(class).contains(&"CollateralRule") {
            let refused = stack.ended(stack.assets().mint(mint("500")).await.unwrap().into_inner().operation).await;
            assert_eq!(refused.error.unwrap().metadata["module_reason"], "COLLATERAL_MISSING", "{class:?}");
            let attest = identity::IssueClaimRequest {
                issuer: text(admin),
                subject: text(token),
                topic: "asset.collateral".into(),
                data: hex::encode_prefixed(U256::from(500).abi_encode()),
                expires_at: 0,
            };
            let attested = stack.identities().issue_claim(stack.fresh(attest)).await.unwrap().into_inner();
            stack.done(attested.operation).await;
            let refused = stack.ended(stack.assets().mint(mint("501")).await.unwrap().into_inner().operation).await;
            assert_eq!(refused.error.unwrap().metadata["module_reason"], "COLLATERAL_TOO_LOW", "{class:?}");
        }
        stack.done(stack.assets().mint(mint("500")).await.unwrap().into_inner().operation).await;
        let transfer = asset::TransferRequest {
            sender: text(holder),
            asset: text(token),
            to: text(receiver),
            amount: "200".into(),
        };
        let moved = stack.assets().transfer(stack.fresh(transfer)).await.unwrap().into_inner();
        stack.done(moved.operation).await;
        let balance = async |account: Address| chain.read(token, AssetToken::balanceOfCall { account }).await.unwrap();
        // Of a stablecoin the recipient pays 1 %, rounded down, to the issuer.
        let fee = u64::from(class == AssetClass::Stablecoin) * 2;
        assert_eq!(
            (balance(receiver).await, balance(admin).await),
            (U256::from(200 - fee), U256::from(fee)),
            "{class:?}"
        );
        if let Some(votes) = result.get("voting_power") {
            let votes: Address = votes.as_str().unwrap().parse().unwrap();
            assert_eq!(chain.read(votes, VotingPower::TOKENCall {}).await.unwrap(), token);
            assert_eq!(chain.read(votes, VotingPower::nameCall {}).await.unwrap(), "VotingPower");
        }
        // The terms read back as they were given; what was left out stands as its default.
        let get = stack.fresh(asset::GetAssetRequest { asset: text(token) });
        let shown = support::eventually("the asset is indexed", async || {
            let get = stack.fresh(get.get_ref().clone());
            let asset = stack.assets().get_asset(get).await.ok()?.into_inner().asset?;
            asset.terms.is_some().then_some(asset)
        })
        .await;
        assert_eq!(shown.template, svc_compliance::domain::asset::AssetClass::ALL[class as usize - 1].name());
        let expected = match terms(class) {
            Terms::Stablecoin(terms) => Terms::Stablecoin(StablecoinTerms {
                collateral_topic: "asset.collateral".into(),
                collateral_ratio_bps: 10_000,
                ..terms
            }),
            Terms::PreciousMetal(terms) => {
                Terms::PreciousMetal(PreciousMetalTerms { collateral_topic: "asset.collateral".into(), ..terms })
            }
            other => other,
        };
        assert_eq!(shown.terms.unwrap().terms, Some(expected));
    }
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_of_another_day_or_class_are_refused_and_store_nothing() {
    let stack = Stack::start(1).await;
    let admin = stack.wallets[0];
    stack.bootstrap(TENANT, admin).await;
    let before = stack.rows().await;
    let refused = async |request: CreateAssetRequest| {
        let status = stack.assets().create_asset(stack.fresh(request)).await.unwrap_err();
        let details = refusal(&status);
        (details.reason, details.violations.first().map(|(field, _)| field.clone()).unwrap_or_default())
    };
    let with = |class, terms: Option<Terms>| CreateAssetRequest {
        terms: terms.map(|terms| AssetTerms { terms: Some(terms) }),
        ..order(admin, class)
    };
    let field = |field: &str| ("INVALID_FIELD".to_owned(), field.to_owned());
    assert_eq!(refused(with(AssetClass::Bond, None)).await, field("terms"));
    assert_eq!(refused(with(AssetClass::Bond, Some(terms(AssetClass::Fund)))).await, field("terms"));
    assert_eq!(
        refused(CreateAssetRequest { isin: String::new(), ..order(admin, AssetClass::Bond) }).await,
        field("isin")
    );
    let Terms::Bond(bond) = terms(AssetClass::Bond) else { panic!("a bond") };
    let past = Terms::Bond(BondTerms { maturity_date: "2020-01-01".into(), ..bond });
    assert_eq!(refused(with(AssetClass::Bond, Some(past))).await, field("terms.bond.maturity_date"));
    let Terms::RealEstate(house) = terms(AssetClass::RealEstate) else { panic!("a house") };
    let later = Terms::RealEstate(RealEstateTerms { valuation_date: "2090-01-01".into(), ..house });
    assert_eq!(refused(with(AssetClass::RealEstate, Some(later))).await, field("terms.real_estate.valuation_date"));
    let unknown = CreateAssetRequest { template: "nobody.s".into(), ..order(admin, AssetClass::Bond) };
    assert_eq!(refused(unknown).await, ("TEMPLATE_UNKNOWN".to_owned(), "template".to_owned()));
    let other = CreateAssetRequest { template: "fund".into(), ..order(admin, AssetClass::Bond) };
    assert_eq!(refused(other).await, field("asset_class"));
    // The topic of the collateral is the tenant's to register.
    assert_eq!(refused(order(admin, AssetClass::Stablecoin)).await.0, "TOPIC_UNKNOWN");
    assert_eq!(stack.rows().await, before, "a refused request stored something");
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_derives_templates_of_its_own() {
    let stack = Stack::start(1).await;
    let admin = stack.wallets[0];
    stack.bootstrap(TENANT, admin).await;
    stack.verify(admin, admin).await;
    let mut assets = stack.assets();
    let country = |country| {
        let rule = CountryRule { mode: CountryMode::Allow.into(), countries: vec![country] };
        RuleBinding { rule: Some(Wire::Country(rule)) }
    };
    let fee = |bps| Feature { feature: Some(WireFeature::ManagementFee(FeeFeature { bps, collector: text(admin) })) };
    let swiss = asset::CreateTemplateRequest {
        name: "swiss-bond".into(),
        asset_class: AssetClass::Bond.into(),
        description: "bonds for holders in Switzerland".into(),
        isin_required: false,
        rules: vec![country(756)],
        features: vec![fee(10)],
        roles: vec![AssetRole::Supply.into(), AssetRole::Emergency.into()],
        policy: None,
    };
    for (field, request) in [
        ("name", asset::CreateTemplateRequest { name: "bond".into(), ..swiss.clone() }),
        ("name", asset::CreateTemplateRequest { name: "A b".into(), ..swiss.clone() }),
        ("description", asset::CreateTemplateRequest { description: String::new(), ..swiss.clone() }),
        ("rules[0].country.countries[0]", asset::CreateTemplateRequest { rules: vec![country(0)], ..swiss.clone() }),
        ("rules[1]", asset::CreateTemplateRequest { rules: vec![country(1), country(2)], ..swiss.clone() }),
        ("features[0].management_fee.bps", asset::CreateTemplateRequest { features: vec![fee(1001)], ..swiss.clone() }),
        ("features[1]", asset::CreateTemplateRequest { features: vec![fee(1), fee(2)], ..swiss.clone() }),
        ("roles[0]", asset::CreateTemplateRequest { roles: vec![77], ..swiss.clone() }),
    ] {
        let status = assets.create_template(stack.fresh(request)).await.unwrap_err();
        assert_eq!(refusal(&status).violations[0].0, field);
    }
    for _ in 0..2 {
        let made = assets.create_template(stack.fresh(swiss.clone())).await.unwrap().into_inner().template.unwrap();
        assert!(!made.platform && made.isin_required, "the platform's demand stays");
        assert_eq!((made.rules.len(), made.features.len(), made.roles.len()), (1, 1, 2));
    }
    let other = asset::CreateTemplateRequest { description: "other".into(), ..swiss.clone() };
    assert_eq!(refusal(&assets.create_template(stack.fresh(other)).await.unwrap_err()).reason, "ALREADY_EXISTS");
    let listed = assets.list_templates(stack.fresh(asset::ListTemplatesRequest {})).await.unwrap().into_inner();
    assert_eq!(listed.templates.last().unwrap().name, "swiss-bond");
    let get = || asset::GetTemplateRequest { name: "swiss-bond".into() };
    let theirs = assets.get_template(stack.request_of(RIVAL, "ops", "theirs", get())).await.unwrap_err();
    assert_eq!(refusal(&theirs).reason, "TEMPLATE_UNKNOWN");

    // What the order names takes the place of what the template has, kind by kind.
    let made =
        CreateAssetRequest { template: "swiss-bond".into(), features: vec![fee(20)], ..order(admin, AssetClass::Bond) };
    let created = assets.create_asset(stack.fresh(made)).await.unwrap().into_inner();
    let result = stack.done(created.operation).await.result.unwrap();
    let token: Address = result["asset"].as_str().unwrap().parse().unwrap();
    let list = compliance::ListRulesRequest { asset: text(token) };
    let bound = stack.rules().list_rules(stack.fresh(list)).await.unwrap().into_inner().rules;
    assert_eq!(
        bound.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(),
        ["CountryRule", "IssuanceRule", "ManagementFee"]
    );
    assert_eq!(bound[2].feature, Some(fee(20)));
    let custody = asset::FreezePartialRequest {
        sender: text(admin),
        asset: text(token),
        holder: text(admin),
        amount: "1".into(),
        reason: "test".into(),
    };
    let status = assets.freeze_partial(stack.fresh(custody)).await.unwrap_err();
    assert_eq!(refusal(&status).metadata["role"], "custodian", "the template gives the issuer no such role");

    let delete = |name: &str| stack.fresh(asset::DeleteTemplateRequest { name: name.into() });
    assets.delete_template(delete("swiss-bond")).await.unwrap();
    assert_eq!(refusal(&assets.delete_template(delete("swiss-bond")).await.unwrap_err()).reason, "NOT_FOUND");
    assert_eq!(refusal(&assets.delete_template(delete("bond")).await.unwrap_err()).reason, "FAILED_PRECONDITION");
    assert_eq!(refusal(&assets.get_template(stack.fresh(get())).await.unwrap_err()).reason, "TEMPLATE_UNKNOWN");
    stack.end().await;
}
