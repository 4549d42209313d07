use super::*;
use crate::domain::{
    expression::Expression,
    feature::{FeatureKind, Fee},
    rule::{CountryRule, IssuanceRule, RuleKind},
    terms::{EquityTerms, FeeTerms, FundKind, FundTerms, ValuationCycle, values::Currency},
};
use alloy::primitives::U256;

const ISSUER: Address = Address::repeat_byte(1);

fn order(class: AssetClass, terms: Option<Terms>) -> CreateAsset {
    CreateAsset {
        issuer: ISSUER,
        name: "Example".into(),
        symbol: "EX".into(),
        decimals: 0,
        class,
        isin: crate::domain::isin::Isin::parse("US0378331005").ok(),
        rules: Vec::new(),
        claim_topics: Vec::new(),
        policy: None,
        roles: Vec::new(),
        unpause: false,
        initial_mint: None,
        template: None,
        terms,
        features: Vec::new(),
    }
}

fn equity() -> Terms {
    Terms::Equity(EquityTerms {
        share_class: "common".into(),
        par_value: None,
        currency: Currency::parse("CHF").expect("a currency"),
        authorised_shares: U256::from(100),
        non_voting: false,
    })
}

fn fund() -> Terms {
    Terms::Fund(FundTerms {
        kind: FundKind::ClosedEnded,
        currency: Currency::parse("CHF").expect("a currency"),
        valuation: ValuationCycle::Monthly,
        management_fee: Some(FeeTerms { bps: 100, collector: None }),
        lock_up_days: Some(30),
    })
}

fn kinds(outfit: &Outfit) -> Vec<(RuleKind, &str)> {
    outfit.rules.iter().map(|(path, rule)| (rule.kind(), path.as_str())).collect()
}

#[test]
fn what_follows_from_the_terms_is_bound() {
    let outfit = Template::platform(AssetClass::Equity).outfit(&order(AssetClass::Equity, Some(equity()))).unwrap();
    assert_eq!(kinds(&outfit), [(RuleKind::Issuance, "terms[0]")]);
    assert_eq!(outfit.features, [Feature::VotingPower]);
    let outfit = Template::platform(AssetClass::Fund).outfit(&order(AssetClass::Fund, Some(fund()))).unwrap();
    assert_eq!(kinds(&outfit), [(RuleKind::HoldingPeriod, "terms[0]")]);
    assert_eq!(outfit.features, [Feature::ManagementFee(Fee { bps: 100, collector: ISSUER })], "the issuer collects");
}

#[test]
fn an_order_wins_over_its_terms_and_they_over_the_template() {
    let country = |allow| Rule::Country(CountryRule { allow, countries: vec![756] });
    let own = Defaults {
        isin_required: false,
        rules: vec![country(true), Rule::Issuance(IssuanceRule { limits: Vec::new() })],
        features: vec![Feature::ManagementFee(Fee { bps: 1, collector: ISSUER })],
        roles: vec![AssetRole::Supply, AssetRole::Funds],
        policy: Some(Claims::AnyOf(Expression::parse("kyc").unwrap())),
    };
    let name = TemplateName::new("swiss").unwrap();
    let template = Template::derived(name, AssetClass::Equity, String::new(), own);
    assert!(!template.is_platform() && template.defaults.isin_required, "what the platform demands stays demanded");
    let mut asked = order(AssetClass::Equity, Some(equity()));
    let outfit = template.outfit(&asked).unwrap();
    assert_eq!(kinds(&outfit), [(RuleKind::Country, "template.rules[0]"), (RuleKind::Issuance, "terms[0]")]);
    assert_eq!((outfit.roles.clone(), outfit.policy.is_some()), (vec![AssetRole::Supply, AssetRole::Funds], true));
    asked.rules = vec![country(false)];
    asked.roles = vec![(AssetRole::Supply, Address::repeat_byte(9))];
    asked.features = vec![Feature::ManagementFee(Fee { bps: 7, collector: ISSUER })];
    asked.claim_topics = vec![TopicName::unchecked("kyc")];
    let outfit = template.outfit(&asked).unwrap();
    assert_eq!(kinds(&outfit), [(RuleKind::Issuance, "terms[0]"), (RuleKind::Country, "rules[0]")]);
    assert_eq!(outfit.rules[1].1, country(false));
    assert_eq!(
        (outfit.roles, outfit.policy),
        (vec![AssetRole::Funds], None),
        "a role given to somebody is not the issuer's"
    );
    let fees: Vec<_> = outfit.features.iter().map(|one| (one.kind(), one.fee().map(|fee| fee.bps))).collect();
    assert_eq!(fees, [(FeatureKind::VotingPower, None), (FeatureKind::ManagementFee, Some(7))]);
}

#[test]
fn what_does_not_fit_the_template_is_named() {
    let fields = |template: &Template, order: &CreateAsset| {
        let violations = template.outfit(order).unwrap_err();
        violations.0.into_iter().map(|one| one.field).collect::<Vec<_>>()
    };
    let bond = Template::platform(AssetClass::Bond);
    assert_eq!(fields(&bond, &order(AssetClass::Bond, None)), ["terms"]);
    assert_eq!(fields(&bond, &order(AssetClass::Bond, Some(fund()))), ["terms"]);
    assert_eq!(fields(&bond, &order(AssetClass::Fund, Some(fund()))), ["asset_class"]);
    let mut without = order(AssetClass::Fund, Some(fund()));
    without.isin = None;
    assert_eq!(fields(&Template::platform(AssetClass::Fund), &without), ["isin"]);
}

#[test]
fn every_class_has_a_template_and_stored_ones_read_back() {
    for class in AssetClass::ALL {
        let template = Template::platform(class);
        assert!(template.is_platform() && !template.defaults.roles.is_empty(), "{class:?}");
        assert_eq!(Template::platform_of_name(class.name()), Some(template.clone()));
        let stored = serde_json::to_value(&template.defaults).unwrap();
        assert_eq!(serde_json::from_value::<Defaults>(stored).unwrap(), template.defaults);
    }
    for terms in [equity(), fund()] {
        let stored = serde_json::to_value(&terms).unwrap();
        assert!(stored.get(terms.class().name()).is_some(), "the database looks for the class");
        assert_eq!(serde_json::from_value::<Terms>(stored).unwrap(), terms);
    }
}
