//! Messages to commands.

use crate::{
    offering::price::Price,
    treasury::{
        calendar::Calendar,
        daycount::DayCount,
        terms::{
            AnnounceDate, ClaimPayouts, CreateTreasury, Handle, MAX_CLAIMED, Maturity, MoveMoney, Payout, Plan, Redeem,
            SCHEDULED, ScheduleCalendar, ScheduleCoupons, Terms,
        },
    },
};
use alloy::primitives::{Address, U256};
use dalp_proto::distribution as proto;
use dalp_service::{
    Refusal,
    fields::{self, Violations},
};
use jiff::civil::Date;

/// Alerts are raised at most a year ahead.
pub(super) const MAX_ALERT_S: u32 = 366 * 86_400;
/// Times are before the year 10000.
const MAX_TIME_S: u64 = 253_402_300_800;

fn price(bad: &mut Violations, path: &str, text: &str) -> Option<Price> {
    match text.parse() {
        Ok(price) => Some(price),
        Err(error) => {
            let error: crate::offering::price::PriceError = error;
            bad.push(path, error.to_string());
            None
        }
    }
}

impl TryFrom<&proto::CreateTreasuryRequest> for CreateTreasury {
    type Error = Refusal;

    fn try_from(request: &proto::CreateTreasuryRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let sender = bad.check(fields::nonzero_address("sender", &request.sender)).unwrap_or_default();
        let wire = request.terms.clone().unwrap_or_default();
        let asset = bad.check(fields::nonzero_address("terms.asset", &wire.asset)).unwrap_or_default();
        let currency = bad.check(fields::nonzero_address("terms.currency", &wire.currency));
        if currency == Some(asset) {
            bad.push("terms.currency", "must not be the asset");
        }
        let sweep_to = match wire.sweep_to.as_str() {
            "" => sender,
            text => bad.check(fields::nonzero_address("terms.sweep_to", text)).unwrap_or_default(),
        };
        let maturity = maturity(&mut bad, &wire);
        bad.finish()?;
        Ok(Self { sender, terms: Terms { asset, currency: currency.unwrap_or_default(), sweep_to, maturity } })
    }
}

fn maturity(bad: &mut Violations, wire: &proto::TreasuryTerms) -> Option<Maturity> {
    if wire.maturity == 0 {
        if !wire.redemption_price.is_empty() {
            bad.push("terms.redemption_price", "must be empty without maturity");
        }
        return None;
    }
    if wire.maturity >= MAX_TIME_S {
        bad.push("terms.maturity", "must be before the year 10000");
    }
    let redemption_price = price(bad, "terms.redemption_price", &wire.redemption_price)?;
    Some(Maturity { at: wire.maturity, redemption_price })
}

/// Commands that need no more than sender and treasury.
macro_rules! handles {
    ($($request:ident),+) => {$(
        impl TryFrom<&proto::$request> for Handle {
            type Error = Refusal;

            fn try_from(request: &proto::$request) -> Result<Self, Refusal> {
                let mut bad = Violations::new();
                let (sender, treasury) = handle(&mut bad, &request.sender, &request.treasury);
                bad.finish()?;
                Ok(Self { sender, treasury })
            }
        }
    )+};
}

handles!(AttachTreasuryRequest, MatureRequest);

fn handle(bad: &mut Violations, sender: &str, treasury: &str) -> (Address, Address) {
    let sender = bad.check(fields::nonzero_address("sender", sender)).unwrap_or_default();
    let treasury = bad.check(fields::nonzero_address("treasury", treasury)).unwrap_or_default();
    (sender, treasury)
}

impl TryFrom<&proto::ScheduleCouponsRequest> for ScheduleCoupons {
    type Error = Refusal;

    fn try_from(request: &proto::ScheduleCouponsRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, treasury) = handle(&mut bad, &request.sender, &request.treasury);
        let wire = request.plan.clone().unwrap_or_default();
        if wire.ends_at >= MAX_TIME_S {
            bad.push("plan.ends_at", "must be before the year 10000");
        }
        if wire.interval_s == 0 {
            bad.push("plan.interval_s", "must not be zero");
        } else if wire.lead_s >= wire.interval_s {
            bad.push("plan.lead_s", "must be shorter than the interval");
        }
        if wire.ends_at <= wire.starts_at.saturating_add(wire.lead_s.into()) {
            bad.push("plan.ends_at", "must be later than starts_at by more than lead_s");
        }
        let rate = price(&mut bad, "plan.rate", &wire.rate);
        bad.finish()?;
        let rate = rate.ok_or_else(|| Refusal::internal("a rate that is none and was not refused"))?;
        let (starts_at, ends_at) = (wire.starts_at, wire.ends_at);
        let plan = Plan { starts_at, ends_at, interval_s: wire.interval_s, lead_s: wire.lead_s, rate };
        Ok(Self { sender, treasury, plan })
    }
}

impl TryFrom<&proto::ScheduleCalendarRequest> for ScheduleCalendar {
    type Error = Refusal;

    fn try_from(request: &proto::ScheduleCalendarRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, treasury) = handle(&mut bad, &request.sender, &request.treasury);
        bad.check(fields::in_range("alert_s", request.alert_s, 0, MAX_ALERT_S));
        let wire = request.calendar.clone().unwrap_or_default();
        let first_date = date(&mut bad, "calendar.first_date", &wire.first_date);
        let last_date = date(&mut bad, "calendar.last_date", &wire.last_date);
        let months = bad.check(fields::in_range("calendar.months", wire.months, 1, 12)).unwrap_or(1);
        let time_zone = bad.check(fields::bounded_string("calendar.time_zone", &wire.time_zone, 1, 64));
        let day_count = match bad.check(fields::enum_value("calendar.day_count", wire.day_count)) {
            Some(proto::DayCount::Act365) => DayCount::Act365,
            Some(proto::DayCount::Act360) => DayCount::Act360,
            Some(proto::DayCount::Thirty360) => DayCount::Thirty360,
            Some(proto::DayCount::Unspecified) => {
                bad.push("calendar.day_count", "must say how days are counted");
                DayCount::Act365
            }
            None => DayCount::Act365,
        };
        let annual_rate = price(&mut bad, "calendar.annual_rate", &wire.annual_rate);
        let lead_days = bad.check(fields::in_range("calendar.lead_days", wire.lead_days, 0, 27)).unwrap_or(0);
        bad.finish()?;
        let (Some(first_date), Some(last_date), Some(annual_rate)) = (first_date, last_date, annual_rate) else {
            return Err(Refusal::internal("a calendar that is none and was not refused"));
        };
        let calendar = Calendar {
            first_date,
            last_date,
            months: u8::try_from(months).unwrap_or(1),
            time_zone: time_zone.unwrap_or_default(),
            day_count,
            annual_rate,
            lead_days: u8::try_from(lead_days).unwrap_or(0),
        };
        Ok(Self { sender, treasury, calendar, alert_s: request.alert_s.into() })
    }
}

fn date(bad: &mut Violations, path: &str, text: &str) -> Option<Date> {
    let date = text.parse().ok().filter(|date: &Date| date.to_string() == text && date.year() >= 1970);
    if date.is_none() {
        bad.push(path, "must be a date such as 2026-01-31");
    }
    date
}

impl TryFrom<&proto::AnnounceRecordDateRequest> for AnnounceDate {
    type Error = Refusal;

    fn try_from(request: &proto::AnnounceRecordDateRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, treasury) = handle(&mut bad, &request.sender, &request.treasury);
        bad.check(fields::in_range("record_date", request.record_date, 1, MAX_TIME_S));
        bad.finish()?;
        Ok(Self { sender, treasury, record_date: request.record_date })
    }
}

macro_rules! money {
    ($($request:ident),+) => {$(
        impl TryFrom<&proto::$request> for MoveMoney {
            type Error = Refusal;

            fn try_from(request: &proto::$request) -> Result<Self, Refusal> {
                let mut bad = Violations::new();
                let (sender, treasury) = handle(&mut bad, &request.sender, &request.treasury);
                let currency = currency(&mut bad, "currency", &request.currency);
                let amount = bad.check(fields::nonzero_amount("amount", &request.amount)).unwrap_or_default();
                bad.finish()?;
                Ok(Self { sender, treasury, currency, amount })
            }
        }
    )+};
}

money!(FundTreasuryRequest, SweepTreasuryRequest);

fn currency(bad: &mut Violations, path: &str, text: &str) -> Option<Address> {
    match text {
        "" => None,
        text => bad.check(fields::nonzero_address(path, text)),
    }
}

impl TryFrom<&proto::ClaimPayoutsRequest> for ClaimPayouts {
    type Error = Refusal;

    fn try_from(request: &proto::ClaimPayoutsRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, treasury) = handle(&mut bad, &request.sender, &request.treasury);
        let holder = currency(&mut bad, "holder", &request.holder).unwrap_or(sender);
        let ids = &request.payout_ids;
        if ids.is_empty() || ids.len() > MAX_CLAIMED {
            bad.push("payout_ids", format!("must hold 1 to {MAX_CLAIMED}"));
        }
        if ids.iter().enumerate().any(|(place, id)| ids[..place].contains(id)) {
            bad.push("payout_ids", "must not hold one twice");
        }
        bad.finish()?;
        Ok(Self { sender, treasury, holder, payout_ids: ids.clone() })
    }
}

impl TryFrom<&proto::RedeemRequest> for Redeem {
    type Error = Refusal;

    fn try_from(request: &proto::RedeemRequest) -> Result<Self, Refusal> {
        let mut bad = Violations::new();
        let (sender, treasury) = handle(&mut bad, &request.sender, &request.treasury);
        let amount = bad.check(fields::nonzero_amount("amount", &request.amount)).unwrap_or_default();
        bad.finish()?;
        Ok(Self { sender, treasury, amount })
    }
}

/// What a run is to pay; `in_terms` is the currency of the terms.
pub(super) fn payout(request: &proto::PrepareRunRequest, in_terms: Address) -> Result<Payout, Refusal> {
    use proto::prepare_run_request::Payout as Wire;
    let mut bad = Violations::new();
    let payout = match &request.payout {
        Some(Wire::Coupon(coupon)) => Payout::Coupon { period: coupon.period },
        Some(Wire::Redemption(_)) => Payout::Redemption,
        Some(Wire::Dividend(wire)) => {
            bad.check(fields::in_range("dividend.record_date", wire.record_date, 1, MAX_TIME_S));
            let total: U256 = bad.check(fields::nonzero_amount("dividend.total", &wire.total)).unwrap_or_default();
            if total.bit_len() > 128 {
                bad.push("dividend.total", "must be below 2^128");
            }
            let reference = bad.check(fields::bounded_string("dividend.reference", &wire.reference, 1, 64));
            if wire.reference.starts_with(SCHEDULED) {
                bad.push("dividend.reference", format!("must not begin with {SCHEDULED}, as those of schedules do"));
            }
            Payout::Dividend {
                currency: currency(&mut bad, "dividend.currency", &wire.currency).unwrap_or(in_terms),
                record_date: wire.record_date,
                total: total.saturating_to(),
                reference: reference.unwrap_or_default(),
            }
        }
        None => {
            bad.push("payout", "must say what to pay");
            Payout::Redemption
        }
    };
    bad.finish()?;
    Ok(payout)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLET: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    const OTHER: &str = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359";

    fn plan() -> proto::CouponPlan {
        proto::CouponPlan { starts_at: 100, ends_at: 500, interval_s: 100, lead_s: 10, rate: "12.5".into() }
    }

    fn scheduled(plan: proto::CouponPlan) -> Result<ScheduleCoupons, Refusal> {
        let request = proto::ScheduleCouponsRequest { sender: WALLET.into(), treasury: OTHER.into(), plan: Some(plan) };
        ScheduleCoupons::try_from(&request)
    }

    fn fields_of(refusal: Refusal) -> Vec<String> {
        refusal.violations().iter().map(|violation| violation.0.clone()).collect()
    }

    #[test]
    fn a_plan_that_nobody_could_pay_is_refused_field_by_field() {
        assert_eq!(scheduled(plan()).unwrap().plan.rate.to_string(), "12.5");
        let wrong = |change: fn(&mut proto::CouponPlan)| {
            let mut plan = plan();
            change(&mut plan);
            fields_of(scheduled(plan).unwrap_err())
        };
        assert_eq!(wrong(|plan| plan.rate = "0".into()), ["plan.rate"]);
        assert_eq!(wrong(|plan| plan.rate = String::new()), ["plan.rate"]);
        assert_eq!(wrong(|plan| plan.lead_s = 100), ["plan.lead_s"]);
        assert_eq!(wrong(|plan| plan.interval_s = 0), ["plan.interval_s"]);
        assert_eq!(wrong(|plan| plan.ends_at = 110), ["plan.ends_at"]);
        assert_eq!(wrong(|plan| plan.ends_at = MAX_TIME_S), ["plan.ends_at"]);
    }

    #[test]
    fn a_dividend_cannot_take_the_reference_of_a_scheduled_one() {
        let asked = |reference: &str| {
            let dividend = proto::DividendPayout {
                record_date: 500,
                total: "7".into(),
                reference: reference.into(),
                ..Default::default()
            };
            let payout = Some(proto::prepare_run_request::Payout::Dividend(dividend));
            payout_of(&proto::PrepareRunRequest { treasury: OTHER.into(), payout })
        };
        assert!(asked("h1").is_ok());
        assert_eq!(fields_of(asked("schedule-1-3").unwrap_err()), ["dividend.reference"]);
    }

    fn payout_of(request: &proto::PrepareRunRequest) -> Result<Payout, Refusal> {
        payout(request, Address::ZERO)
    }

    #[test]
    fn a_calendar_is_refused_field_by_field() {
        let calendar = proto::Calendar {
            first_date: "2026-01-31".into(),
            last_date: "2027-01-31".into(),
            months: 3,
            time_zone: "Europe/Zurich".into(),
            day_count: proto::DayCount::Thirty360.into(),
            annual_rate: "50".into(),
            lead_days: 2,
        };
        let asked = |calendar| {
            let request = proto::ScheduleCalendarRequest {
                sender: WALLET.into(),
                treasury: OTHER.into(),
                calendar: Some(calendar),
                alert_s: 86_400,
            };
            ScheduleCalendar::try_from(&request)
        };
        assert_eq!(asked(calendar.clone()).unwrap().calendar.day_count, DayCount::Thirty360);
        let wrong = |change: fn(&mut proto::Calendar)| {
            let mut calendar = calendar.clone();
            change(&mut calendar);
            fields_of(asked(calendar).unwrap_err())
        };
        assert_eq!(wrong(|one| one.first_date = "31.1.2026".into()), ["calendar.first_date"]);
        assert_eq!(wrong(|one| one.last_date = "2027-02-30".into()), ["calendar.last_date"]);
        assert_eq!(wrong(|one| one.months = 13), ["calendar.months"]);
        assert_eq!(wrong(|one| one.time_zone = String::new()), ["calendar.time_zone"]);
        assert_eq!(wrong(|one| one.day_count = 0), ["calendar.day_count"]);
        assert_eq!(wrong(|one| one.annual_rate = "0".into()), ["calendar.annual_rate"]);
        assert_eq!(wrong(|one| one.lead_days = 28), ["calendar.lead_days"]);
    }

    #[test]
    fn terms_have_both_or_neither_of_maturity_and_price() {
        let created = |maturity, price: &str| {
            let terms = proto::TreasuryTerms {
                asset: WALLET.into(),
                currency: OTHER.into(),
                maturity,
                redemption_price: price.into(),
                ..Default::default()
            };
            let request = proto::CreateTreasuryRequest { sender: WALLET.into(), terms: Some(terms) };
            CreateTreasury::try_from(&request)
        };
        assert_eq!(created(0, "").unwrap().terms.maturity, None);
        assert_eq!(created(9, "1000").unwrap().terms.maturity.unwrap().at, 9);
        assert_eq!(created(0, "").unwrap().terms.sweep_to, created(0, "").unwrap().sender);
        assert_eq!(fields_of(created(9, "").unwrap_err()), ["terms.redemption_price"]);
        assert_eq!(fields_of(created(0, "5").unwrap_err()), ["terms.redemption_price"]);
        let same = proto::TreasuryTerms { asset: OTHER.into(), currency: OTHER.into(), ..Default::default() };
        let request = proto::CreateTreasuryRequest { sender: WALLET.into(), terms: Some(same) };
        assert_eq!(fields_of(CreateTreasury::try_from(&request).unwrap_err()), ["terms.currency"]);
    }

    #[test]
    fn a_run_says_what_it_pays() {
        use proto::prepare_run_request::Payout as Wire;
        let asked =
            |wire| payout(&proto::PrepareRunRequest { treasury: OTHER.into(), payout: wire }, Address::repeat_byte(7));
        assert_eq!(fields_of(asked(None).unwrap_err()), ["payout"]);
        let coupon = proto::CouponPayout { period: 3 };
        assert_eq!(asked(Some(Wire::Coupon(coupon))).unwrap(), Payout::Coupon { period: 3 });
        let dividend =
            proto::DividendPayout { record_date: 5, total: "9".into(), reference: "h1".into(), ..Default::default() };
        let expected =
            Payout::Dividend { currency: Address::repeat_byte(7), record_date: 5, total: 9, reference: "h1".into() };
        assert_eq!(asked(Some(Wire::Dividend(dividend))).unwrap(), expected);
        let nothing = asked(Some(Wire::Dividend(proto::DividendPayout::default()))).unwrap_err();
        assert_eq!(fields_of(nothing), ["dividend.record_date", "dividend.total", "dividend.reference"]);
    }

    #[test]
    fn a_claim_names_each_payout_once() {
        let claim = |payout_ids| {
            let request = proto::ClaimPayoutsRequest {
                sender: WALLET.into(),
                treasury: OTHER.into(),
                holder: String::new(),
                payout_ids,
            };
            ClaimPayouts::try_from(&request)
        };
        let command = claim(vec![0, 1]).unwrap();
        assert_eq!(command.holder, command.sender);
        assert_eq!(fields_of(claim(vec![]).unwrap_err()), ["payout_ids"]);
        assert_eq!(fields_of(claim(vec![1, 1]).unwrap_err()), ["payout_ids"]);
        assert_eq!(fields_of(claim((0..51).collect()).unwrap_err()), ["payout_ids"]);
    }
}
