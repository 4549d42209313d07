//! Terms and features of the wire to those of the domain, and back.

use crate::domain::{
    ViolationKind, Violations,
    claim::{TopicName, asset_topics},
    feature::{self, Feature, FeatureKind, Fee, MAX_FEE_BPS},
    rule::{CollateralRule, Fields, collateral::MAX_RATIO_BPS, holding_period::MAX_DAYS},
    terms::{
        BondTerms, DayCount, DepositTerms, EquityTerms, FeeTerms, FundKind, FundTerms, Metal, ONE_TO_ONE_BPS,
        PreciousMetalTerms, RealEstateTerms, StablecoinTerms, Terms, ValuationCycle,
        values::{Currency, Date, Decimal},
    },
};
use dalp_proto::asset::{self as proto, asset_terms::Terms as Wire, feature::Feature as WireFeature};

/// The longest text of a term.
const MAX_TEXT_CHARS: usize = 100;
/// The highest yearly rate, 100 %.
const MAX_RATE_BPS: u32 = 10_000;

/// The terms of a request; none where none are given.
pub(super) fn terms(violations: &mut Violations, wire: Option<&proto::AssetTerms>) -> Option<Terms> {
    let wire = wire?.terms.as_ref()?;
    let before = violations.0.len();
    let parsed = match wire {
        Wire::Bond(wire) => bond(&mut fields(violations, "terms.bond"), wire).map(Terms::Bond),
        Wire::Equity(wire) => equity(&mut fields(violations, "terms.equity"), wire).map(Terms::Equity),
        Wire::Fund(wire) => fund(&mut fields(violations, "terms.fund"), wire).map(Terms::Fund),
        Wire::Deposit(wire) => deposit(&mut fields(violations, "terms.deposit"), wire).map(Terms::Deposit),
        Wire::Stablecoin(wire) => stablecoin(&mut fields(violations, "terms.stablecoin"), wire).map(Terms::Stablecoin),
        Wire::RealEstate(wire) => {
            real_estate(&mut fields(violations, "terms.real_estate"), wire).map(Terms::RealEstate)
        }
        Wire::PreciousMetal(wire) => {
            precious_metal(&mut fields(violations, "terms.precious_metal"), wire).map(Terms::PreciousMetal)
        }
    };
    // What stands in for a refused value goes no further.
    parsed.filter(|_| violations.0.len() == before)
}

/// The features of a request, none twice.
pub(super) fn features(violations: &mut Violations, path: &str, wire: &[proto::Feature]) -> Vec<Feature> {
    let each = wire.iter().enumerate();
    let parsed: Vec<Feature> =
        each.filter_map(|(index, wire)| feature(violations, &format!("{path}[{index}]"), Some(wire))).collect();
    feature::refuse_repeats(violations, path, &parsed);
    parsed
}

/// The feature of a request.
pub(super) fn feature(violations: &mut Violations, path: &str, wire: Option<&proto::Feature>) -> Option<Feature> {
    let fee = |violations: &mut Violations, name: &str, fee: &proto::FeeFeature| {
        Fee::new(&mut fields(violations, &format!("{path}.{name}")), fee.bps, &fee.collector)
    };
    match wire.and_then(|wire| wire.feature.as_ref()) {
        Some(WireFeature::VotingPower(_)) => Some(Feature::VotingPower),
        Some(WireFeature::ManagementFee(wire)) => Some(Feature::ManagementFee(fee(violations, "management_fee", wire))),
        Some(WireFeature::TransactionFee(wire)) => {
            Some(Feature::TransactionFee(fee(violations, "transaction_fee", wire)))
        }
        None => {
            violations.push(path, "names no feature: one of voting_power, management_fee, transaction_fee");
            None
        }
    }
}

/// The kind of a feature by its name on the wire.
pub(super) fn feature_kind(violations: &mut Violations, path: &str, wire: i32) -> Option<FeatureKind> {
    let found = FeatureKind::ALL.into_iter().find(|kind| i32::from(wire_feature_kind(*kind)) == wire);
    if found.is_none() {
        let names = FeatureKind::ALL.map(|kind| wire_feature_kind(kind).as_str_name()).join(", ");
        violations.push(path, format!("unknown value {wire}: one of {names}"));
    }
    found
}

/// The kind of a feature on the wire.
pub(super) fn wire_feature_kind(kind: FeatureKind) -> proto::FeatureKind {
    match kind {
        FeatureKind::VotingPower => proto::FeatureKind::VotingPower,
        FeatureKind::ManagementFee => proto::FeatureKind::ManagementFee,
        FeatureKind::TransactionFee => proto::FeatureKind::TransactionFee,
    }
}

/// A feature on the wire.
pub(super) fn wire_feature(feature: &Feature) -> proto::Feature {
    let fee = |fee: &Fee| proto::FeeFeature { bps: fee.bps.into(), collector: fee.collector.to_checksum(None) };
    let wire = match feature {
        Feature::VotingPower => WireFeature::VotingPower(proto::VotingPowerFeature {}),
        Feature::ManagementFee(terms) => WireFeature::ManagementFee(fee(terms)),
        Feature::TransactionFee(terms) => WireFeature::TransactionFee(fee(terms)),
    };
    proto::Feature { feature: Some(wire) }
}

/// Terms on the wire.
pub(super) fn wire_terms(terms: &Terms) -> proto::AssetTerms {
    let wire = match terms {
        Terms::Bond(terms) => Wire::Bond(proto::BondTerms {
            maturity_date: terms.maturity_date.to_string(),
            denomination: terms.denomination.as_str().to_owned(),
            currency: terms.currency.as_str().to_owned(),
            coupon_bps: terms.coupon_bps.into(),
            payments_per_year: terms.payments_per_year.unwrap_or_default().into(),
            day_count: wire_of(DAY_COUNTS, terms.day_count),
            issue_size: terms.issue_size.map(|size| size.to_string()).unwrap_or_default(),
        }),
        Terms::Equity(terms) => Wire::Equity(proto::EquityTerms {
            share_class: terms.share_class.clone(),
            par_value: terms.par_value.as_ref().map(|value| value.as_str().to_owned()).unwrap_or_default(),
            currency: terms.currency.as_str().to_owned(),
            authorised_shares: terms.authorised_shares.to_string(),
            non_voting: terms.non_voting,
        }),
        Terms::Fund(terms) => Wire::Fund(proto::FundTerms {
            kind: wire_of(FUND_KINDS, Some(terms.kind)),
            currency: terms.currency.as_str().to_owned(),
            valuation_cycle: wire_of(VALUATION_CYCLES, Some(terms.valuation)),
            management_fee_bps: bps_of(terms.management_fee),
            fee_collector: collector_of(terms.management_fee),
            lock_up_days: terms.lock_up_days.unwrap_or_default().into(),
        }),
        Terms::Deposit(terms) => Wire::Deposit(proto::DepositTerms {
            currency: terms.currency.as_str().to_owned(),
            interest_bps: terms.interest_bps.into(),
            maturity_date: terms.maturity_date.map(|date| date.to_string()).unwrap_or_default(),
            notice_days: terms.notice_days.into(),
        }),
        Terms::Stablecoin(terms) => Wire::Stablecoin(proto::StablecoinTerms {
            currency: terms.currency.as_str().to_owned(),
            collateral_topic: terms.collateral.topic.as_str().to_owned(),
            collateral_ratio_bps: terms.collateral.ratio_bps,
            transfer_fee_bps: bps_of(terms.transfer_fee),
            fee_collector: collector_of(terms.transfer_fee),
        }),
        Terms::RealEstate(terms) => Wire::RealEstate(proto::RealEstateTerms {
            country: terms.country.into(),
            land_register_entry: terms.land_register_entry.clone(),
            valuation: terms.valuation.as_str().to_owned(),
            currency: terms.currency.as_str().to_owned(),
            valuation_date: terms.valuation_date.to_string(),
            units: terms.units.to_string(),
            management_fee_bps: bps_of(terms.management_fee),
            fee_collector: collector_of(terms.management_fee),
        }),
        Terms::PreciousMetal(terms) => Wire::PreciousMetal(proto::PreciousMetalTerms {
            metal: wire_of(METALS, Some(terms.metal)),
            fineness: terms.fineness.into(),
            weight_mg: terms.weight_mg,
            vault: terms.vault.clone(),
            collateral_topic: terms.collateral_topic.as_str().to_owned(),
            storage_fee_bps: bps_of(terms.storage_fee),
            fee_collector: collector_of(terms.storage_fee),
        }),
    };
    proto::AssetTerms { terms: Some(wire) }
}

const DAY_COUNTS: &[(proto::DayCount, DayCount)] = &[
    (proto::DayCount::Actual360, DayCount::Actual360),
    (proto::DayCount::Actual365, DayCount::Actual365),
    (proto::DayCount::ActualActual, DayCount::ActualActual),
    (proto::DayCount::Thirty360, DayCount::Thirty360),
];
const FUND_KINDS: &[(proto::FundKind, FundKind)] =
    &[(proto::FundKind::OpenEnded, FundKind::OpenEnded), (proto::FundKind::ClosedEnded, FundKind::ClosedEnded)];
const VALUATION_CYCLES: &[(proto::ValuationCycle, ValuationCycle)] = &[
    (proto::ValuationCycle::Daily, ValuationCycle::Daily),
    (proto::ValuationCycle::Weekly, ValuationCycle::Weekly),
    (proto::ValuationCycle::Monthly, ValuationCycle::Monthly),
    (proto::ValuationCycle::Quarterly, ValuationCycle::Quarterly),
];
const METALS: &[(proto::Metal, Metal)] = &[
    (proto::Metal::Gold, Metal::Gold),
    (proto::Metal::Silver, Metal::Silver),
    (proto::Metal::Platinum, Metal::Platinum),
    (proto::Metal::Palladium, Metal::Palladium),
];

// === by class ===

fn bond(fields: &mut Fields<'_>, wire: &proto::BondTerms) -> Option<BondTerms> {
    let maturity_date = date(fields, "maturity_date", &wire.maturity_date);
    let denomination = positive(fields, "denomination", &wire.denomination);
    let currency = currency(fields, &wire.currency);
    let coupon_bps = rate(fields, "coupon_bps", wire.coupon_bps, MAX_RATE_BPS);
    let with_coupon = wire.coupon_bps > 0;
    let payments_per_year = match (with_coupon, wire.payments_per_year) {
        (true, 1 | 2 | 4 | 12) => u8::try_from(wire.payments_per_year).ok(),
        (true, other) => refused(fields, "payments_per_year", &format!("is {other}: one of 1, 2, 4, 12 with a coupon")),
        (false, 0) => None,
        (false, _) => refused(fields, "payments_per_year", "is given without a coupon"),
    };
    let day_count = match (with_coupon, wire.day_count) {
        (true, chosen) => choice(fields, "day_count", DAY_COUNTS, chosen),
        (false, 0) => None,
        (false, _) => refused(fields, "day_count", "is given without a coupon"),
    };
    let issue_size = fields.optional_amount("issue_size", &wire.issue_size);
    Some(BondTerms {
        maturity_date: maturity_date?,
        denomination: denomination?,
        currency: currency?,
        coupon_bps,
        payments_per_year,
        day_count,
        issue_size,
    })
}

fn equity(fields: &mut Fields<'_>, wire: &proto::EquityTerms) -> Option<EquityTerms> {
    let share_class = fields.text("share_class", &wire.share_class, 50);
    let par_value = match wire.par_value.as_str() {
        "" => Some(None),
        text => positive(fields, "par_value", text).map(Some),
    };
    let currency = currency(fields, &wire.currency);
    let authorised_shares = fields.amount("authorised_shares", &wire.authorised_shares);
    Some(EquityTerms {
        share_class,
        par_value: par_value?,
        currency: currency?,
        authorised_shares,
        non_voting: wire.non_voting,
    })
}

fn fund(fields: &mut Fields<'_>, wire: &proto::FundTerms) -> Option<FundTerms> {
    let kind = choice(fields, "kind", FUND_KINDS, wire.kind);
    let currency = currency(fields, &wire.currency);
    let valuation = choice(fields, "valuation_cycle", VALUATION_CYCLES, wire.valuation_cycle);
    let management_fee = fee(fields, "management_fee_bps", wire.management_fee_bps, &wire.fee_collector);
    let days = fields.number("lock_up_days", wire.lock_up_days, 0, MAX_DAYS);
    let lock_up_days = u16::try_from(days).ok().filter(|days| *days > 0);
    Some(FundTerms { kind: kind?, currency: currency?, valuation: valuation?, management_fee, lock_up_days })
}

fn deposit(fields: &mut Fields<'_>, wire: &proto::DepositTerms) -> Option<DepositTerms> {
    let currency = currency(fields, &wire.currency);
    let interest_bps = rate(fields, "interest_bps", wire.interest_bps, MAX_RATE_BPS);
    let maturity_date = match wire.maturity_date.as_str() {
        "" => Some(None),
        text => date(fields, "maturity_date", text).map(Some),
    };
    let notice_days = rate(fields, "notice_days", wire.notice_days, 3650);
    Some(DepositTerms { currency: currency?, interest_bps, maturity_date: maturity_date?, notice_days })
}

fn stablecoin(fields: &mut Fields<'_>, wire: &proto::StablecoinTerms) -> Option<StablecoinTerms> {
    let currency = currency(fields, &wire.currency);
    let ratio_bps = match wire.collateral_ratio_bps {
        0 => ONE_TO_ONE_BPS,
        given => fields.number("collateral_ratio_bps", given, 1, MAX_RATIO_BPS),
    };
    let collateral = CollateralRule { topic: collateral_topic(fields, &wire.collateral_topic), ratio_bps, price: None };
    let transfer_fee = fee(fields, "transfer_fee_bps", wire.transfer_fee_bps, &wire.fee_collector);
    Some(StablecoinTerms { currency: currency?, collateral, transfer_fee })
}

fn real_estate(fields: &mut Fields<'_>, wire: &proto::RealEstateTerms) -> Option<RealEstateTerms> {
    let country = fields.country("country", wire.country);
    let land_register_entry = fields.text("land_register_entry", &wire.land_register_entry, MAX_TEXT_CHARS);
    let valuation = positive(fields, "valuation", &wire.valuation);
    let currency = currency(fields, &wire.currency);
    let valuation_date = date(fields, "valuation_date", &wire.valuation_date);
    let units = fields.amount("units", &wire.units);
    let management_fee = fee(fields, "management_fee_bps", wire.management_fee_bps, &wire.fee_collector);
    Some(RealEstateTerms {
        country,
        land_register_entry,
        valuation: valuation?,
        currency: currency?,
        valuation_date: valuation_date?,
        units,
        management_fee,
    })
}

fn precious_metal(fields: &mut Fields<'_>, wire: &proto::PreciousMetalTerms) -> Option<PreciousMetalTerms> {
    let metal = choice(fields, "metal", METALS, wire.metal);
    let fineness = fields.number("fineness", wire.fineness, 1, 10_000);
    if wire.weight_mg == 0 {
        fields.refuse("weight_mg", "must be greater than zero");
    }
    let vault = fields.text("vault", &wire.vault, MAX_TEXT_CHARS);
    let collateral_topic = collateral_topic(fields, &wire.collateral_topic);
    let storage_fee = fee(fields, "storage_fee_bps", wire.storage_fee_bps, &wire.fee_collector);
    Some(PreciousMetalTerms {
        metal: metal?,
        fineness: u16::try_from(fineness).unwrap_or(u16::MAX),
        weight_mg: wire.weight_mg,
        vault,
        collateral_topic,
        storage_fee,
    })
}

// === fields ===

fn fields<'v>(violations: &'v mut Violations, path: &str) -> Fields<'v> {
    Fields::of_kind(violations, ViolationKind::Field, path)
}

fn refused<T>(fields: &mut Fields<'_>, field: &str, description: &str) -> Option<T> {
    fields.refuse(field, description);
    None
}

fn date(fields: &mut Fields<'_>, field: &str, text: &str) -> Option<Date> {
    Date::parse(text).or_else(|| refused(fields, field, "must be a day of the calendar, YYYY-MM-DD"))
}

fn positive(fields: &mut Fields<'_>, field: &str, text: &str) -> Option<Decimal> {
    let parsed = Decimal::parse(text).filter(|value| !value.is_zero());
    parsed.or_else(|| {
        refused(
            fields,
            field,
            "must be a decimal above 0, at most 24 digits and 18 behind the point, for instance 1000.50",
        )
    })
}

fn currency(fields: &mut Fields<'_>, text: &str) -> Option<Currency> {
    Currency::parse(text).or_else(|| refused(fields, "currency", "must be a code of ISO 4217, for instance CHF"))
}

fn rate(fields: &mut Fields<'_>, field: &str, value: u32, max: u32) -> u16 {
    u16::try_from(fields.number(field, value, 0, max)).unwrap_or(u16::MAX)
}

fn fee(fields: &mut Fields<'_>, field: &str, given: u32, collector: &str) -> Option<FeeTerms> {
    let bps = rate(fields, field, given, MAX_FEE_BPS);
    let collector = (!collector.is_empty()).then(|| fields.address("fee_collector", collector));
    if given == 0 && collector.is_some() {
        fields.refuse("fee_collector", "is given without a fee");
    }
    (bps > 0).then_some(FeeTerms { bps, collector })
}

fn collateral_topic(fields: &mut Fields<'_>, name: &str) -> TopicName {
    match name {
        "" => TopicName::unchecked(asset_topics::COLLATERAL),
        name => fields.topic("collateral_topic", name),
    }
}

/// One of the values of an enum.
fn choice<W: Copy + Into<i32> + std::fmt::Debug, T: Copy>(
    fields: &mut Fields<'_>,
    field: &str,
    known: &[(W, T)],
    given: i32,
) -> Option<T> {
    let chosen = known.iter().find(|(wire, _)| (*wire).into() == given).map(|(_, value)| *value);
    chosen.or_else(|| {
        let names: Vec<String> = known.iter().map(|(wire, _)| format!("{wire:?}")).collect();
        refused(fields, field, &format!("unknown value {given}: one of {}", names.join(", ")))
    })
}

fn wire_of<W: Copy + Into<i32>, T: Copy + PartialEq>(known: &[(W, T)], value: Option<T>) -> i32 {
    known.iter().find(|(_, one)| Some(*one) == value).map_or(0, |(wire, _)| (*wire).into())
}

fn bps_of(fee: Option<FeeTerms>) -> u32 {
    fee.map(|fee| fee.bps.into()).unwrap_or_default()
}

fn collector_of(fee: Option<FeeTerms>) -> String {
    fee.and_then(|fee| fee.collector).map(|collector| collector.to_checksum(None)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
