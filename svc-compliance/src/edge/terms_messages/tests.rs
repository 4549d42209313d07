use super::*;
use dalp_proto::asset::{
    BondTerms, DepositTerms, EquityTerms, FeeFeature, FundTerms, PreciousMetalTerms, RealEstateTerms, StablecoinTerms,
};

const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";

fn parsed(wire: Wire) -> Result<Terms, Vec<String>> {
    let mut violations = Violations::new();
    match terms(&mut violations, Some(&proto::AssetTerms { terms: Some(wire) })) {
        Some(terms) => Ok(terms),
        None => {
            assert_eq!(violations.kind(), ViolationKind::Field);
            Err(violations.0.into_iter().map(|one| one.field).collect())
        }
    }
}

fn bond() -> BondTerms {
    BondTerms {
        maturity_date: "2031-05-01".into(),
        denomination: "1000.50".into(),
        currency: "CHF".into(),
        coupon_bps: 250,
        payments_per_year: 4,
        day_count: proto::DayCount::ActualActual.into(),
        issue_size: "5000".into(),
    }
}

fn zero_bond() -> BondTerms {
    BondTerms { coupon_bps: 0, payments_per_year: 0, day_count: 0, issue_size: String::new(), ..bond() }
}

fn equity() -> EquityTerms {
    EquityTerms {
        share_class: "preferred A".into(),
        par_value: "0.01".into(),
        currency: "EUR".into(),
        authorised_shares: "10".into(),
        non_voting: true,
    }
}

fn fund() -> FundTerms {
    FundTerms {
        kind: proto::FundKind::ClosedEnded.into(),
        currency: "USD".into(),
        valuation_cycle: proto::ValuationCycle::Weekly.into(),
        management_fee_bps: 1000,
        fee_collector: WALLET.into(),
        lock_up_days: 10_950,
    }
}

fn house() -> RealEstateTerms {
    RealEstateTerms {
        country: 756,
        land_register_entry: "Zurich 1".into(),
        valuation: "1".into(),
        currency: "CHF".into(),
        valuation_date: "2020-02-29".into(),
        units: "1".into(),
        management_fee_bps: 0,
        fee_collector: String::new(),
    }
}

fn metal() -> PreciousMetalTerms {
    PreciousMetalTerms {
        metal: proto::Metal::Palladium.into(),
        fineness: 9999,
        weight_mg: 31_103,
        vault: "Zurich".into(),
        collateral_topic: "vault.bars".into(),
        storage_fee_bps: 1,
        fee_collector: String::new(),
    }
}

#[test]
fn what_is_given_is_what_is_shown() {
    let deposit = DepositTerms {
        currency: "CHF".into(),
        interest_bps: 10_000,
        maturity_date: "2031-05-01".into(),
        notice_days: 3650,
    };
    let coin = StablecoinTerms {
        currency: "CHF".into(),
        collateral_topic: "reserves".into(),
        collateral_ratio_bps: 1_000_000,
        transfer_fee_bps: 1,
        fee_collector: WALLET.into(),
    };
    for wire in [
        Wire::Bond(bond()),
        Wire::Bond(zero_bond()),
        Wire::Equity(equity()),
        Wire::Equity(EquityTerms { par_value: String::new(), ..equity() }),
        Wire::Fund(fund()),
        Wire::Fund(FundTerms { management_fee_bps: 0, fee_collector: String::new(), lock_up_days: 0, ..fund() }),
        Wire::Deposit(deposit.clone()),
        Wire::Deposit(DepositTerms { maturity_date: String::new(), ..deposit }),
        Wire::Stablecoin(coin),
        Wire::RealEstate(house()),
        Wire::PreciousMetal(metal()),
    ] {
        let terms = parsed(wire.clone()).unwrap_or_else(|refused| panic!("{wire:?}: {refused:?}"));
        assert_eq!(wire_terms(&terms).terms, Some(wire));
        let stored = serde_json::to_value(&terms).unwrap();
        assert_eq!(serde_json::from_value::<Terms>(stored).unwrap(), terms);
    }
    let bare = StablecoinTerms { currency: "CHF".into(), ..Default::default() };
    let Ok(Terms::Stablecoin(coin)) = parsed(Wire::Stablecoin(bare)) else { panic!("a stablecoin") };
    assert_eq!((coin.collateral.topic.as_str(), coin.collateral.ratio_bps), ("asset.collateral", 10_000));
}

#[test]
fn each_bad_term_is_named() {
    let cases: Vec<(Wire, &[&str])> = vec![
        (Wire::Bond(BondTerms::default()), &["bond.maturity_date", "bond.denomination", "bond.currency"]),
        (Wire::Bond(BondTerms { maturity_date: "2031-02-30".into(), ..bond() }), &["bond.maturity_date"]),
        (Wire::Bond(BondTerms { denomination: "0.00".into(), ..bond() }), &["bond.denomination"]),
        (Wire::Bond(BondTerms { currency: "chf".into(), ..bond() }), &["bond.currency"]),
        (Wire::Bond(BondTerms { coupon_bps: 10_001, ..bond() }), &["bond.coupon_bps"]),
        (Wire::Bond(BondTerms { payments_per_year: 3, ..bond() }), &["bond.payments_per_year"]),
        (Wire::Bond(BondTerms { payments_per_year: 1, ..zero_bond() }), &["bond.payments_per_year"]),
        (Wire::Bond(BondTerms { day_count: 0, ..bond() }), &["bond.day_count"]),
        (Wire::Bond(BondTerms { day_count: 1, ..zero_bond() }), &["bond.day_count"]),
        (Wire::Bond(BondTerms { issue_size: "-1".into(), ..bond() }), &["bond.issue_size"]),
        (Wire::Equity(EquityTerms { share_class: String::new(), ..equity() }), &["equity.share_class"]),
        (Wire::Equity(EquityTerms { par_value: "0".into(), ..equity() }), &["equity.par_value"]),
        (Wire::Equity(EquityTerms { authorised_shares: "0".into(), ..equity() }), &["equity.authorised_shares"]),
        (Wire::Fund(FundTerms { kind: 0, valuation_cycle: 9, ..fund() }), &["fund.kind", "fund.valuation_cycle"]),
        (Wire::Fund(FundTerms { management_fee_bps: 1001, ..fund() }), &["fund.management_fee_bps"]),
        (Wire::Fund(FundTerms { management_fee_bps: 0, ..fund() }), &["fund.fee_collector"]),
        (Wire::Fund(FundTerms { fee_collector: "0x1".into(), ..fund() }), &["fund.fee_collector"]),
        (Wire::Fund(FundTerms { lock_up_days: 10_951, ..fund() }), &["fund.lock_up_days"]),
        (Wire::Deposit(DepositTerms::default()), &["deposit.currency"]),
        (
            Wire::Deposit(DepositTerms {
                currency: "CHF".into(),
                interest_bps: 10_001,
                maturity_date: "soon".into(),
                notice_days: 3651,
            }),
            &["deposit.interest_bps", "deposit.maturity_date", "deposit.notice_days"],
        ),
        (
            Wire::Stablecoin(StablecoinTerms {
                collateral_topic: "A B".into(),
                collateral_ratio_bps: 1_000_001,
                ..Default::default()
            }),
            &["stablecoin.currency", "stablecoin.collateral_ratio_bps", "stablecoin.collateral_topic"],
        ),
        (
            Wire::RealEstate(RealEstateTerms { country: 0, units: "0".into(), ..house() }),
            &["real_estate.country", "real_estate.units"],
        ),
        (
            Wire::RealEstate(RealEstateTerms {
                land_register_entry: " ".into(),
                valuation_date: "x".into(),
                ..house()
            }),
            &["real_estate.land_register_entry", "real_estate.valuation_date"],
        ),
        (
            Wire::PreciousMetal(PreciousMetalTerms { metal: 0, fineness: 10_001, weight_mg: 0, ..metal() }),
            &["precious_metal.metal", "precious_metal.fineness", "precious_metal.weight_mg"],
        ),
    ];
    for (wire, fields) in cases {
        let shown = format!("{wire:?}");
        let expected: Vec<_> = fields.iter().map(|field| format!("terms.{field}")).collect();
        assert_eq!(parsed(wire).expect_err(&shown), expected, "{shown}");
    }
}

#[test]
fn features_are_named_once_and_fees_are_bounded() {
    let fee = |bps, collector: &str| proto::Feature {
        feature: Some(WireFeature::TransactionFee(FeeFeature { bps, collector: collector.into() })),
    };
    let refused = |list: &[proto::Feature]| {
        let mut violations = Violations::new();
        features(&mut violations, "features", list);
        violations.0.into_iter().map(|one| one.field).collect::<Vec<_>>()
    };
    assert!(refused(&[fee(1, WALLET)]).is_empty());
    assert_eq!(refused(&[fee(0, "")]), ["features[0].transaction_fee.bps", "features[0].transaction_fee.collector"]);
    assert_eq!(refused(&[fee(1001, WALLET)]), ["features[0].transaction_fee.bps"]);
    assert_eq!(refused(&[fee(1, WALLET), fee(2, WALLET)]), ["features[1]"]);
    assert_eq!(refused(&[proto::Feature { feature: None }]), ["features[0]"]);
    let mut violations = Violations::new();
    let given = [fee(1000, WALLET)];
    let parsed = features(&mut violations, "features", &given);
    assert_eq!(parsed.iter().map(wire_feature).collect::<Vec<_>>(), given);
}
