//! Schedules: who decides that payments start by themselves, and what is due.

use super::{Write, address, answers, messages::MAX_ALERT_S, require_current, treasury_of};
use crate::{
    app::{App, AppHandle},
    readers::ratio_of,
    treasury::{
        calendar::{CalendarError, CalendarPeriod},
        flows::{CalendarFlow, CalendarOrder},
        readers,
        start::standing,
        store::{
            due::{Decision, DuePlace, NewDue},
            schedules::{ScheduleKind, put_calendar},
            treasuries::StoredTreasury,
        },
        terms::{ScheduleCalendar, period_of, periods_of},
    },
};
use alloy::{
    primitives::{Address, aliases::U48},
    sol_types::SolCall as _,
};
use dalp_contracts::bindings::AssetTokenGovernance::addRecordDateCall;
use dalp_domain::{
    Admitted,
    pages::{bad_page_token, page_size},
};
use dalp_engine::AcceptHook;
use dalp_proto::distribution as proto;
use dalp_service::{
    Caller, Reason, Refusal,
    caller::ANY_WALLET,
    fields::{self, Violations},
};
use tonic::Request;

/// The most coupon periods that start by themselves: a century of months.
const MAX_AUTOMATED: u32 = 1_200;

/// Payments of schedules that an answer beside the list of them carries.
const FIRST: u32 = 500;

/// Who decides with which wallet, checked.
async fn decided(
    app: &App,
    caller: &Caller,
    (treasury, kind): (&StoredTreasury, ScheduleKind),
    sender: Address,
    alert_s: u32,
) -> Result<Decision, Refusal> {
    app.rights.require_wallet(caller, sender).await?;
    let before = app.store.schedules(app.chain.chain_id(), treasury.treasury).await?;
    if let Some(before) = before.iter().find(|one| one.kind == kind) {
        require_current(&app.rights, caller, before.sender).await?;
    }
    Ok(Decision {
        principal: caller.principal.as_str().to_owned(),
        any_wallet: caller.has_role(ANY_WALLET),
        sender,
        alert_s: alert_s.into(),
    })
}

/// Sender and alert of a request.
fn checked(sender: &str, alert_s: u32) -> Result<Address, Refusal> {
    let mut bad = Violations::new();
    let sender = bad.check(fields::nonzero_address("sender", sender)).unwrap_or_default();
    bad.check(fields::in_range("alert_s", alert_s, 0, MAX_ALERT_S));
    bad.finish()?;
    Ok(sender)
}

/// Lets the redemption of a treasury open and be paid by itself.
pub(super) async fn automate_redemption(
    app: &App,
    caller: &Caller,
    request: &proto::AutomateRedemptionRequest,
) -> Result<proto::AutomateRedemptionResponse, Refusal> {
    let sender = checked(&request.sender, request.alert_s)?;
    let tenant = caller.tenant.as_str();
    let treasury = treasury_of(app, tenant, address("treasury", &request.treasury)?).await?;
    let kind = ScheduleKind::Maturity;
    let decision = decided(app, caller, (&treasury, kind), sender, request.alert_s).await?;
    standing(app, &treasury).await?;
    let maturity = treasury
        .terms
        .maturity
        .ok_or_else(|| Refusal::new(Reason::FailedPrecondition, "the treasury has no maturity"))?;
    let payment = NewDue { period: 0, record_date: maturity.at, due_at: maturity.at, year: None };
    app.store.automate(app.chain.chain_id(), (tenant, treasury.treasury), kind, &decision, &[payment]).await?;
    Ok(proto::AutomateRedemptionResponse { payments: first(app, &treasury).await? })
}

/// Lets the coupons of a treasury start by themselves.
pub(super) async fn automate(
    app: &App,
    caller: &Caller,
    request: &proto::AutomateCouponsRequest,
) -> Result<proto::AutomateCouponsResponse, Refusal> {
    let sender = checked(&request.sender, request.alert_s)?;
    let tenant = caller.tenant.as_str();
    let treasury = treasury_of(app, tenant, address("treasury", &request.treasury)?).await?;
    let kind = ScheduleKind::Coupons;
    let decision = decided(app, caller, (&treasury, kind), sender, request.alert_s).await?;
    let plan = standing(app, &treasury).await?.plan;
    let plan = plan.ok_or_else(|| Refusal::new(Reason::FailedPrecondition, "the treasury has no coupons"))?;
    if periods_of(&plan) > MAX_AUTOMATED {
        let text = "the treasury has more coupon periods than start by themselves";
        return Err(Refusal::new(Reason::FailedPrecondition, text).meta("most", MAX_AUTOMATED));
    }
    let periods = (0..).map_while(|number| {
        let period = period_of(&plan, number)?;
        Some(NewDue { period: number, record_date: period.record_date, due_at: period.ends_at, year: None })
    });
    let periods: Vec<NewDue> = periods.collect();
    app.store.automate(app.chain.chain_id(), (tenant, treasury.treasury), kind, &decision, &periods).await?;
    Ok(proto::AutomateCouponsResponse { payments: first(app, &treasury).await? })
}

/// Accepts a calendar.
pub(super) async fn calendar(
    app: &AppHandle,
    request: Request<proto::ScheduleCalendarRequest>,
) -> Result<Admitted, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.TreasuryService/ScheduleCalendar", &request).await?;
    let command = ScheduleCalendar::try_from(request.get_ref())?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let decider = (write.caller.principal.as_str().to_owned(), write.caller.has_role(ANY_WALLET));
    let order = async {
        let stored = treasury_of(app, &tenant, command.treasury).await?;
        let (order, periods) = resolve(app, &stored, &command).await?;
        Ok((order.clone(), Some(calendar_rows(&tenant, decider, order, periods))))
    };
    write.accept::<CalendarFlow, _>(&command, order).await
}

/// The dates of a calendar that can be kept.
async fn resolve(
    app: &App,
    stored: &StoredTreasury,
    command: &ScheduleCalendar,
) -> Result<(CalendarOrder, Vec<CalendarPeriod>), Refusal> {
    standing(app, stored).await?;
    let units = &stored.units;
    let path = "calendar.annual_rate";
    let annual_ratio = ratio_of(command.calendar.annual_rate, units.currency_decimals, units.asset_decimals, path)?;
    let periods = command.calendar.periods().map_err(|error| {
        let field = match error {
            CalendarError::TimeZone(_) => "calendar.time_zone",
            CalendarError::Lead => "calendar.lead_days",
            CalendarError::Empty | CalendarError::TooLong | CalendarError::Range => "calendar.last_date",
        };
        Refusal::new(Reason::InvalidField, "the calendar cannot be kept").field(field, error.to_string())
    })?;
    let now_s = app.chain.latest().await?.timestamp_s;
    let record_dates: Vec<u64> = periods.iter().map(|period| period.record_date).collect();
    if let Some(first) = record_dates.first().filter(|first| **first <= now_s) {
        let text =
            format!("the first holders would be recorded at {first}, before the latest block, which is of {now_s}");
        return Err(
            Refusal::new(Reason::InvalidField, "the calendar lies in the past").field("calendar.first_date", text)
        );
    }
    // A calendar that failed halfway leaves dates behind, which need no second entry.
    let announced = readers::announced(&app.chain, stored.terms.asset, &record_dates).await?;
    let record_dates: Vec<u64> = record_dates.into_iter().filter(|date| !announced.contains(date)).collect();
    for date in &record_dates {
        let announce = addRecordDateCall { date: U48::from(*date) };
        readers::try_as(&app.chain, command.sender, stored.terms.asset, announce.abi_encode().into()).await?;
    }
    let chain_id = app.chain.chain_id();
    let (asset, command) = (stored.terms.asset, command.clone());
    Ok((CalendarOrder { chain_id, asset, annual_ratio, record_dates, command }, periods))
}

/// Writes the calendar and its payments in the commit that accepts it.
fn calendar_rows(
    tenant: &str,
    (principal, any_wallet): (String, bool),
    order: CalendarOrder,
    periods: Vec<CalendarPeriod>,
) -> AcceptHook {
    let tenant = tenant.to_owned();
    let due = (0..).zip(&periods).map(|(period, one)| NewDue {
        period,
        record_date: one.record_date,
        due_at: one.due_at,
        year: Some(one.year),
    });
    let due: Vec<NewDue> = due.collect();
    Box::new(move |connection, id| {
        Box::pin(async move { put_calendar(connection, &tenant, id.0, (&principal, any_wallet), &order, &due).await })
    })
}

/// Lets nothing further of a schedule start.
pub(super) async fn stop(
    app: &App,
    caller: &Caller,
    request: &proto::StopScheduleRequest,
) -> Result<proto::StopScheduleResponse, Refusal> {
    let treasury = treasury_of(app, caller.tenant.as_str(), address("treasury", &request.treasury)?).await?;
    let known = app.store.schedules(app.chain.chain_id(), treasury.treasury).await?;
    let schedule = known.iter().find(|one| one.schedule == request.schedule).ok_or_else(|| {
        Refusal::new(Reason::NotFound, "the treasury has no such schedule").meta("schedule", request.schedule)
    })?;
    require_current(&app.rights, caller, schedule.sender).await?;
    app.store.stop_schedule(app.chain.chain_id(), treasury.treasury, request.schedule).await?;
    Ok(proto::StopScheduleResponse { payments: first(app, &treasury).await? })
}

/// A page of what is due of a treasury.
pub(super) async fn list(
    app: &App,
    tenant: &str,
    request: &proto::ListDuePaymentsRequest,
) -> Result<proto::ListDuePaymentsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(place_of(token).ok_or_else(bad_page_token)?),
    };
    let treasury = treasury_of(app, tenant, address("treasury", &request.treasury)?).await?;
    let mut page = app.store.due_payments(app.chain.chain_id(), treasury.treasury, after, limit + 1).await?;
    let more = page.len() > limit as usize;
    page.truncate(limit as usize);
    let next_page_token = page.last().filter(|_| more).map(|last| token_of(last.place())).unwrap_or_default();
    Ok(proto::ListDuePaymentsResponse { payments: page.into_iter().map(answers::due).collect(), next_page_token })
}

async fn first(app: &App, treasury: &StoredTreasury) -> Result<Vec<proto::DuePayment>, Refusal> {
    let found = app.store.due_payments(app.chain.chain_id(), treasury.treasury, None, FIRST).await?;
    Ok(found.into_iter().map(answers::due).collect())
}

fn token_of(DuePlace { due_at, schedule, period }: DuePlace) -> String {
    format!("{due_at}-{schedule}-{period}")
}

fn place_of(token: &str) -> Option<DuePlace> {
    let mut parts = token.split('-');
    let due_at = parts.next()?.parse::<u64>().ok().filter(|at| i64::try_from(*at).is_ok())?;
    let place = DuePlace { due_at, schedule: parts.next()?.parse().ok()?, period: parts.next()?.parse().ok()? };
    parts.next().is_none().then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_a_place_and_nothing_else() {
        let place = DuePlace { due_at: 1_800_000_000, schedule: 2, period: 31 };
        assert_eq!(place_of(&token_of(place)), Some(place));
        for token in ["1", "1-2", "1-2-3-4", "x-2-3", "-1-2-3", "18446744073709551615-1-1"] {
            assert_eq!(place_of(token), None, "{token}");
        }
    }
}
