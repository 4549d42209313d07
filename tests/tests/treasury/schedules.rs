//! Schedules: payments that start by themselves when the chain's clock has passed them.

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{
    AutomateCouponsRequest, Calendar, DayCount, DuePayment, DueState, GetRunRequest, ListDuePaymentsRequest, RunState,
    ScheduleCalendarRequest, StopScheduleRequest,
};
use dalp_tests::airdrops::key;
use dalp_tests::waiting::until;

use crate::support::{World, refusal};

/// A day of a Unix time, as a calendar writes it.
fn day(time_s: u64) -> jiff::civil::Date {
    let time = jiff::Timestamp::from_second(i64::try_from(time_s).expect("a time")).expect("a time");
    time.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// What is due, page by page.
pub(crate) async fn due(world: &World, treasury: &str) -> Vec<DuePayment> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let asked = ListDuePaymentsRequest { treasury: treasury.to_owned(), page_size: 2, page_token };
        let page = world.service().list_due_payments(asked).await.expect("known").into_inner();
        found.extend(page.payments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

pub(crate) async fn payments_by_the_calendar_start_by_themselves(world: &World) {
    let terms = world.terms();
    let treasury = world.treasuries().create(&terms).await.expect("created");
    world.treasuries().make_ready(&treasury, &terms).await.expect("ready");
    // From the first of a month on, so that every month has 30 days by the convention.
    let first = day(world.now_s().await).first_of_month().checked_add(jiff::Span::new().months(1)).expect("a date");
    let add = |months: i64| first.checked_add(jiff::Span::new().months(months)).expect("a date");
    let calendar = Calendar {
        first_date: first.to_string(),
        last_date: add(3).to_string(),
        months: 1,
        time_zone: "UTC".to_owned(),
        day_count: DayCount::Thirty360.into(),
        annual_rate: "0.0012".to_owned(),
        lead_days: 1,
    };
    let schedule = async |calendar: Calendar| {
        let request = ScheduleCalendarRequest {
            sender: world.issuer(),
            treasury: treasury.clone(),
            calendar: Some(calendar),
            alert_s: 10 * 86_400,
        };
        world.service().schedule_calendar(keyed(request, &key())).await
    };
    let nowhere = Calendar { time_zone: "Mars/Olympus".to_owned(), ..calendar.clone() };
    let details = refusal(&schedule(nowhere).await.expect_err("no such zone"));
    assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("INVALID_FIELD", "calendar.time_zone"));
    let past = Calendar { first_date: "2020-01-01".to_owned(), last_date: "2021-01-01".to_owned(), ..calendar.clone() };
    let details = refusal(&schedule(past).await.expect_err("in the past"));
    assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("INVALID_FIELD", "calendar.first_date"));
    let nothing = Calendar { annual_rate: "0".to_owned(), ..calendar.clone() };
    let details = refusal(&schedule(nothing).await.expect_err("a rate of zero"));
    assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("INVALID_FIELD", "calendar.annual_rate"));
    let long = Calendar { last_date: add(33).to_string(), ..calendar.clone() };
    let details = refusal(&schedule(long).await.expect_err("more dates than an asset has ahead"));
    assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("INVALID_FIELD", "calendar.last_date"));
    assert!(due(world, &treasury).await.is_empty(), "nothing was started");
    let accepted = schedule(calendar).await.expect("accepted").into_inner();
    world.completed(accepted.operation).await;
    let planned = due(world, &treasury).await;
    assert_eq!(planned.iter().map(|one| (one.days, one.year)).collect::<Vec<_>>(), [(30, 360); 3]);
    let without = AutomateCouponsRequest { sender: world.issuer(), treasury: treasury.clone(), alert_s: 0 };
    let details = refusal(&world.service().automate_coupons(without).await.expect_err("no coupons"));
    assert_eq!(details.reason, "FAILED_PRECONDITION");

    // An alert days ahead, taken back when the treasury could pay.
    world.pass(planned[0].due_at - 9 * 86_400).await;
    let short = async |wanted: bool| {
        until("the alert", async || due(world, &treasury).await, |all| all[0].short == wanted).await
    };
    short(true).await;
    // 0.0001 euros for each bond and month, to four who hold 1,000,000,000: 0.01 cents for each bond.
    let month = 4 * 10_000_000;
    world.treasuries().fund(&treasury, month).await.expect("funded");
    short(false).await;
    let before = world.euros(world.holders()[0].address).await;

    // The first is paid when its time has come; the second is missed, and short: it is told why, and caught up with the third.
    world.pass(planned[0].due_at).await;
    let started = |all: &Vec<DuePayment>| all[0].state() == DueState::Started;
    let all = until("the first is started", async || due(world, &treasury).await, started).await;
    let paid = async |run: u32| {
        let ask = async || {
            let asked = GetRunRequest { treasury: treasury.clone(), run };
            world.service().get_run(asked).await.expect("known").into_inner().run.expect("a run")
        };
        let done = |run: &dalp_proto::distribution::Run| {
            run.progress.as_ref().is_some_and(|now| now.state() == RunState::Done && now.paid == run.holders)
        };
        until("the run is done", ask, done).await
    };
    let run = paid(all[0].run).await;
    assert_eq!((run.reference.as_str(), run.total.as_str(), run.holders), ("schedule-1-0", &*month.to_string(), 4));
    let evidence = world.evidence(&run).await;
    assert_eq!((evidence.approvals.len(), evidence.reconciliation.expect("sums").difference.as_str()), (1, "0"));

    world.pass(planned[2].due_at).await;
    let short = |all: &Vec<DuePayment>| all[1].error_reason == "TREASURY_UNDERFUNDED";
    until("the second is short", async || due(world, &treasury).await, short).await;
    world.treasuries().fund(&treasury, 2 * month).await.expect("funded");
    let all_started = |all: &Vec<DuePayment>| all.iter().all(|one| one.state() == DueState::Started);
    let all = until("all are started", async || due(world, &treasury).await, all_started).await;
    for one in &all {
        paid(one.run).await;
    }
    assert_eq!(world.euros(world.holders()[0].address).await, before + 3 * 10_000_000, "each once");

    let stop = StopScheduleRequest { treasury: treasury.clone(), schedule: 7 };
    assert_eq!(refusal(&world.service().stop_schedule(stop).await.expect_err("none")).reason, "NOT_FOUND");
    crate::dividends::give_away(world).await;
}
