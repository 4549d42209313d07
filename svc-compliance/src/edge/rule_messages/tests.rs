//! Every kind of invalid parameter is refused with the path of its field, and what the domain keeps reads back as it was given.

use super::*;
use dalp_proto::asset::{
    ApprovalRule, ClaimExpression, ClaimGroup, ClaimRule, CollateralRule, CountryLimit, CountryMode, CountryRule,
    EarlierBalance, EverMeasure, FixedWindow, HolderLimitRule, HoldingPeriodRule, IssuanceLimit, IssuanceRule,
    ListEntry, ListRule, PriceSource, RollingWindow, SupplyMeasure, TransferLimitRule, VolumeLimit, Window,
    claim_expression::Form, window::Kind,
};

const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";
const OTHER: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
const TOO_LARGE: &str = "340282366920938463463374607431768211456";

fn parsed(wire: Wire) -> Result<Rule, (ViolationKind, Vec<String>)> {
    let mut violations = Violations::new();
    let binding = proto::RuleBinding { rule: Some(wire) };
    match rule(&mut violations, "rule", Some(&binding)) {
        Some(rule) => {
            assert!(violations.0.is_empty(), "{violations:?}");
            Ok(rule)
        }
        None => Err((violations.kind(), violations.0.into_iter().map(|violation| violation.field).collect())),
    }
}

fn country(mode: CountryMode, countries: &[u32]) -> Wire {
    Wire::Country(CountryRule { mode: mode.into(), countries: countries.to_vec() })
}

fn text(text: &str) -> Wire {
    let expression = Some(ClaimExpression { form: Some(Form::Text(text.into())) });
    Wire::Claim(ClaimRule { expression, ..Default::default() })
}

fn entry(account: &str) -> ListEntry {
    ListEntry { account: account.into(), allowed: true, blocked: false }
}

fn list(allow: i32, block: i32, entries: Vec<ListEntry>) -> Wire {
    Wire::List(ListRule { allow, block, entries })
}

fn holders(max_holders: u32, countries: &[(u32, u32)]) -> Wire {
    let countries =
        countries.iter().map(|(country, max_holders)| CountryLimit { country: *country, max_holders: *max_holders });
    Wire::HolderLimit(HolderLimitRule { max_holders, countries: countries.collect() })
}

fn fixed(length_s: u32, start_at: u32) -> Window {
    Window { kind: Some(Kind::Fixed(FixedWindow { length_s, start_at })) }
}

fn rolling(length_s: u32) -> Window {
    Window { kind: Some(Kind::Rolling(RollingWindow { length_s })) }
}

fn supply(max: &str) -> IssuanceLimit {
    limit(issuance_limit::Measure::Supply(SupplyMeasure {}), max)
}

fn limit(measure: issuance_limit::Measure, max: &str) -> IssuanceLimit {
    IssuanceLimit { max: max.into(), price: None, measure: Some(measure) }
}

fn priced(feed: &str, max_age_s: u32) -> IssuanceLimit {
    IssuanceLimit { price: Some(PriceSource { feed: feed.into(), max_age_s }), ..supply("5") }
}

fn issuance(limits: Vec<IssuanceLimit>) -> Wire {
    Wire::Issuance(IssuanceRule { limits })
}

fn holding(days: u32, earlier: i32) -> Wire {
    Wire::HoldingPeriod(HoldingPeriodRule { days, earlier })
}

fn approval(approvers: &[&str], max_validity_s: u32) -> Wire {
    let approvers = approvers.iter().map(|approver| (*approver).to_owned()).collect();
    Wire::Approval(ApprovalRule { approvers, max_validity_s, mints: true })
}

fn transfer(max_amount: &str, per_holder: Option<VolumeLimit>) -> Wire {
    Wire::TransferLimit(TransferLimitRule { max_amount: max_amount.into(), per_holder, per_token: None })
}

fn volume(window: Option<Window>, max: &str) -> VolumeLimit {
    VolumeLimit { window, max: max.into() }
}

fn collateral(topic: &str, ratio_bps: u32) -> Wire {
    Wire::Collateral(CollateralRule { topic: topic.into(), ratio_bps, price: None })
}

fn in_fiat(feed: &str, max_age_s: u32) -> Wire {
    let price = Some(PriceSource { feed: feed.into(), max_age_s });
    Wire::Collateral(CollateralRule { topic: "asset.collateral".into(), ratio_bps: 10_000, price })
}

#[test]
fn what_is_given_is_what_is_shown() {
    let ever = issuance_limit::Measure::Ever(EverMeasure { issued_before: "7".into() });
    let within = |window| issuance_limit::Measure::Window(window);
    let groups = ClaimGroup { all_of: vec!["kyc".into()], none_of: vec!["sanctioned".into()] };
    for wire in [
        country(CountryMode::Block, &[276, 756]),
        Wire::Claim(ClaimRule { any_of: vec![groups], expression: None, sides: proto::Sides::Both.into() }),
        list(proto::Sides::Recipient.into(), proto::Sides::Both.into(), vec![entry(WALLET), entry(OTHER)]),
        list(0, proto::Sides::Sender.into(), vec![]),
        holders(99, &[(276, 0), (756, 7)]),
        holders(0, &[(756, 7)]),
        issuance(vec![supply("9"), limit(ever, "10"), limit(within(fixed(60, 5)), "1"), priced(WALLET, 60)]),
        issuance(vec![limit(within(rolling(3600)), "1")]),
        holding(365, EarlierBalance::AsNew.into()),
        approval(&[WALLET, OTHER], 3600),
        transfer("5", Some(volume(Some(fixed(60, 0)), "9"))),
        transfer("", Some(volume(Some(rolling(60)), "340282366920938463463374607431768211455"))),
        collateral("asset.collateral", 15_000),
        in_fiat(WALLET, 60),
    ] {
        let rule = parsed(wire.clone()).unwrap_or_else(|refused| panic!("{wire:?}: {refused:?}"));
        assert_eq!(binding_of(&rule).rule, Some(wire));
        // Orders are stored as JSON: what does not survive that would not survive a restart.
        let stored = serde_json::to_value(&rule).unwrap();
        assert_eq!(serde_json::from_value::<Rule>(stored).unwrap(), rule);
    }
    // Text is kept as groups; an unspecified side asks the recipient.
    let rule = parsed(text("kyc AND (a OR b)")).unwrap();
    let Some(Wire::Claim(shown)) = binding_of(&rule).rule else { panic!("a claim rule") };
    assert_eq!((shown.any_of.len(), shown.sides), (2, i32::from(proto::Sides::Recipient)));
}

#[test]
fn each_bad_parameter_is_named() {
    let recipient = i32::from(proto::Sides::Recipient);
    let cases: Vec<(Wire, &[&str])> = vec![
        (country(CountryMode::Unspecified, &[1]), &["country.mode"]),
        (country(CountryMode::Allow, &[]), &["country.countries"]),
        (country(CountryMode::Allow, &[756, 0, 1000]), &["country.countries[1]", "country.countries[2]"]),
        (country(CountryMode::Allow, &[756, 756]), &["country.countries"]),
        (country(CountryMode::Allow, &(1..=251).collect::<Vec<_>>()), &["country.countries"]),
        (Wire::Claim(ClaimRule::default()), &["claim.any_of"]),
        (Wire::Claim(ClaimRule { any_of: vec![ClaimGroup::default()], ..Default::default() }), &["claim.any_of[0]"]),
        (text(""), &["claim.expression.text"]),
        (text("kyc AND"), &["claim.expression.text"]),
        (
            Wire::Claim(ClaimRule { expression: Some(ClaimExpression { form: None }), ..Default::default() }),
            &["claim.expression"],
        ),
        (
            Wire::Claim(ClaimRule {
                any_of: vec![ClaimGroup { all_of: vec!["kyc".into()], none_of: vec![] }],
                expression: Some(ClaimExpression { form: Some(Form::Text("kyc".into())) }),
                sides: 9,
            }),
            &["claim.sides", "claim.expression"],
        ),
        (list(0, 0, vec![]), &["list.block"]),
        (list(7, 0, vec![]), &["list.allow"]),
        (list(recipient, -1, vec![entry("0x12")]), &["list.block", "list.entries[0].account"]),
        (list(recipient, 0, vec![entry(WALLET), entry(WALLET)]), &["list.entries[1].account"]),
        (list(recipient, 0, vec![entry(WALLET); 501]), &["list.entries"]),
        (holders(0, &[]), &["holder_limit.max_holders"]),
        (holders(1, &[(0, 1)]), &["holder_limit.countries[0].country"]),
        (holders(1, &[(756, 1), (756, 2)]), &["holder_limit.countries"]),
        (issuance(vec![]), &["issuance.limits"]),
        (issuance(vec![supply("1"); 5]), &["issuance.limits"]),
        (issuance(vec![supply("1"), supply("2")]), &["issuance.limits[1]"]),
        (issuance(vec![supply("0")]), &["issuance.limits[0].max"]),
        (issuance(vec![supply(TOO_LARGE)]), &["issuance.limits[0].max"]),
        (issuance(vec![IssuanceLimit { measure: None, ..supply("1") }]), &["issuance.limits[0].measure"]),
        (
            issuance(vec![limit(issuance_limit::Measure::Window(Window { kind: None }), "1")]),
            &["issuance.limits[0].window"],
        ),
        (
            issuance(vec![limit(issuance_limit::Measure::Window(fixed(0, 5)), "1")]),
            &["issuance.limits[0].window.fixed.length_s"],
        ),
        (
            issuance(vec![limit(issuance_limit::Measure::Window(rolling(0)), "1")]),
            &["issuance.limits[0].window.rolling.length_s"],
        ),
        (
            issuance(vec![limit(issuance_limit::Measure::Ever(EverMeasure { issued_before: "-1".into() }), "1")]),
            &["issuance.limits[0].ever.issued_before"],
        ),
        (issuance(vec![priced("0x", 0)]), &["issuance.limits[0].price.feed", "issuance.limits[0].price.max_age_s"]),
        (holding(0, EarlierBalance::Free.into()), &["holding_period.days"]),
        (holding(10_951, EarlierBalance::Free.into()), &["holding_period.days"]),
        (holding(1, 0), &["holding_period.earlier"]),
        (approval(&[], 60), &["approval.approvers"]),
        (approval(&[WALLET; 17], 60), &["approval.approvers", "approval.approvers[1]"]),
        (approval(&[WALLET, "0x0000000000000000000000000000000000000000"], 60), &["approval.approvers[1]"]),
        (approval(&[WALLET], 0), &["approval.max_validity_s"]),
        (transfer("", None), &["transfer_limit.max_amount"]),
        (transfer("0", None), &["transfer_limit.max_amount"]),
        (transfer("x", None), &["transfer_limit.max_amount"]),
        (transfer("", Some(volume(None, "1"))), &["transfer_limit.per_holder.window"]),
        (transfer("", Some(volume(Some(rolling(1)), "0"))), &["transfer_limit.per_holder.max"]),
        (collateral("", 10_000), &["collateral.topic"]),
        (collateral("ok", 0), &["collateral.ratio_bps"]),
        (in_fiat("", 0), &["collateral.price.feed", "collateral.price.max_age_s"]),
        (collateral("ok", 1_000_001), &["collateral.ratio_bps"]),
    ];
    for (wire, fields) in cases {
        let shown = format!("{wire:?}");
        let (kind, refused) = parsed(wire).expect_err(&shown);
        assert_eq!(kind, ViolationKind::ModuleParameters, "{shown}");
        for (refused, field) in refused.iter().zip(fields) {
            assert_eq!(refused, &format!("rule.{field}"), "{shown}");
        }
        assert!(refused.len() >= fields.len(), "{shown}: {refused:?}");
    }
    let mut violations = Violations::new();
    assert!(rule(&mut violations, "rules[0]", None).is_none());
    assert_eq!(violations.0[0].field, "rules[0]");
}
