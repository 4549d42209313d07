//! The tables of treasuries on a real PostgreSQL: runs that read back as they were written, one for each payout; passes whose batches are
//! planned once; outcomes that a reorg takes back.
#![allow(clippy::unwrap_used, missing_docs)]

mod treasuries;

use alloy::primitives::{B256, U256};
use dalp_chain::BlockRef;
use std::time::Duration;
use svc_distribution::{
    index::IndexBatch,
    store::Store,
    treasury::{
        calendar::Calendar,
        daycount::{DayCount, YearFraction},
        flows::CalendarOrder,
        store::{
            due::{Decision, DueState, NewDue, NotStarted},
            index::{Payment, TreasuryEvents},
            outcomes::Outcome,
            passes::Begun,
            runs::RunState,
            schedules::{ScheduleKind, put_calendar},
        },
        terms::{Payout, ScheduleCalendar},
    },
};
use treasuries::{
    CHAIN, EURO, TENANT, TREASURY, again, at, holder, index, new_run, order, pass, payment, skipped, store,
};
use uuid::Uuid;

#[tokio::test]
async fn a_treasury_reads_back_as_it_was_written() {
    let (_postgres, store) = store().await;
    let stored = store.treasury(TENANT, CHAIN, TREASURY).await.unwrap().unwrap();
    assert_eq!((&stored.terms, stored.units), (&order().command.terms, order().units));
    assert_eq!(store.treasury("rival", CHAIN, TREASURY).await.unwrap(), None);
    let listed = store.treasuries(TENANT, CHAIN, Some(holder(0xa5)), i64::MAX, 9).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&stored));
    index(&store, vec![]).await;
    assert_eq!(store.treasury(TENANT, CHAIN, TREASURY).await.unwrap().unwrap().created_block, Some(60));
    let rewind = IndexBatch { rewind_to: Some(Some(59)), ..Default::default() };
    store.commit_index(CHAIN, "one", &rewind).await.unwrap();
    assert_eq!(store.treasury(TENANT, CHAIN, TREASURY).await.unwrap().unwrap(), stored);
}

#[tokio::test]
async fn each_payout_has_one_run() {
    let (_postgres, store) = store().await;
    let dividend = |total| Payout::Dividend { currency: EURO, record_date: 500, total, reference: "h1".into() };
    let coupon = new_run(Payout::Coupon { period: 3 });
    // Two replicas at once.
    let (one, other) = tokio::join!(store.put_run(CHAIN, &coupon), store.put_run(CHAIN, &coupon));
    let run = one.unwrap();
    assert_eq!(run, other.unwrap());
    assert_eq!((run.run, run.payout_id, run.state), (1, Some(3), RunState::Prepared));
    assert_eq!((run.total, run.rounding, run.holders, run.root), (50, 2, 5, coupon.list.root));
    let second = store.put_run(CHAIN, &new_run(dividend(50))).await.unwrap();
    assert_eq!((second.run, second.payout_id, &second.payout), (2, None, &dividend(50)));
    assert_eq!(store.put_run(CHAIN, &new_run(dividend(7))).await.unwrap(), second, "the reference stands for it");
    let runs = store.runs(CHAIN, TREASURY, u32::MAX, 9).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.run).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn a_pass_plans_each_holder_once_and_the_next_those_who_are_left() {
    let (_postgres, store) = store().await;
    let run = store.put_run(CHAIN, &new_run(Payout::Coupon { period: 0 })).await.unwrap();
    assert_eq!(store.plan_payments(CHAIN, &run).await.unwrap(), None, "nobody approved it");
    store.begin_pass(CHAIN, &run, &pass(2)).await.unwrap();
    store.begin_pass(CHAIN, &run, &pass(2)).await.unwrap();
    let paying = again(&store, &run).await;
    assert_eq!((paying.state, paying.pass, paying.sender), (RunState::Paying, 1, holder(0xcc)));
    let passes = store.passes(CHAIN, &run).await.unwrap();
    assert_eq!(passes.iter().map(|one| (one.pass, one.root)).collect::<Vec<_>>(), [(1, run.root)], "begun once");

    let (one, other) = tokio::join!(store.plan_payments(CHAIN, &paying), store.plan_payments(CHAIN, &paying));
    let mut places = [one.unwrap().unwrap().places, other.unwrap().unwrap().places].concat();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3]);
    let last = store.plan_payments(CHAIN, &paying).await.unwrap().unwrap();
    assert_eq!((last.batch, last.places), (2, vec![4]));
    assert_eq!(store.plan_payments(CHAIN, &paying).await.unwrap(), None);
    assert_eq!(store.holders_of_batch(CHAIN, &paying, 1).await.unwrap(), [holder(3), holder(4)]);
    for batch in store.open_payments(CHAIN, &paying).await.unwrap() {
        store.note_payments(CHAIN, &paying, batch.batch, Uuid::from_u128(9)).await.unwrap();
        store.settle_payments(CHAIN, &paying, batch.batch).await.unwrap();
    }
    assert!(store.open_payments(CHAIN, &paying).await.unwrap().is_empty());
    store.end_pass(CHAIN, &paying, None).await.unwrap();

    index(&store, vec![payment(1, Some(0), 1, 3, None), payment(2, Some(0), 2, 6, None), skipped(3, Some(0), 3)]).await;
    let done = again(&store, &run).await;
    assert_eq!(done.state, RunState::Done);
    store.begin_pass(CHAIN, &done, &pass(9)).await.unwrap();
    let second = again(&store, &run).await;
    assert_eq!(store.plan_payments(CHAIN, &second).await.unwrap().unwrap().places, [2, 3, 4]);
    store.turn_run(CHAIN, &second, RunState::Paying, RunState::Paused).await.unwrap();
    assert!(store.paying_runs(CHAIN).await.unwrap().is_empty());
}

#[tokio::test]
async fn outcomes_are_counted_and_taken_back() {
    let (_postgres, store) = store().await;
    let run = store.put_run(CHAIN, &new_run(Payout::Coupon { period: 0 })).await.unwrap();
    store.put_run(CHAIN, &new_run(Payout::Coupon { period: 1 })).await.unwrap();
    let before = store.entitlements_digest(CHAIN, &run).await.unwrap();
    // The fourth holder was paid for another period only; the fifth got a unit too much.
    let payments = vec![
        payment(1, Some(0), 1, 3, None),
        skipped(2, Some(0), 2),
        payment(3, Some(1), 4, 13, None),
        payment(4, Some(0), 5, 17, None),
    ];
    index(&store, payments).await;
    let counts = store.run_counts(CHAIN, &run).await.unwrap();
    assert_eq!((counts.paid, counts.skipped, counts.open, counts.deviating), (2, 1, 2, 1));
    assert_eq!((counts.paid_amount, counts.unpaid_amount), (U256::from(20), U256::from(29)));
    let skipped = store.entitlements(CHAIN, &run, 0, Some(Outcome::Skipped), 9).await.unwrap();
    let told: Vec<_> = skipped.iter().map(|one| (one.holder, one.amount, one.reason.as_str())).collect();
    assert_eq!(told, [(holder(2), 6, "HOLDER_FROZEN")]);
    assert_eq!(store.run_transactions(CHAIN, &run, 9).await.unwrap()[0].paid, 2);
    assert_ne!(store.entitlements_digest(CHAIN, &run).await.unwrap(), before);
    let rewind = IndexBatch { rewind_to: Some(Some(59)), ..Default::default() };
    store.commit_index(CHAIN, "one", &rewind).await.unwrap();
    assert_eq!(store.entitlements_digest(CHAIN, &run).await.unwrap(), before);
}

#[tokio::test]
async fn a_redemption_is_paid_in_parts_and_only_what_is_not_free_is_left() {
    let (_postgres, store) = store().await;
    let run = store.put_run(CHAIN, &new_run(Payout::Redemption)).await.unwrap();
    assert_eq!(store.put_run(CHAIN, &new_run(Payout::Redemption)).await.unwrap(), run, "while it goes on");
    store.begin_pass(CHAIN, &run, &pass(9)).await.unwrap();
    // The third in two parts of 1 and 2 units, which together round off one unit of the currency more than at once: 3 + 6 of 10.
    let payments =
        vec![payment(1, None, 3, 3, Some(1)), payment(2, None, 3, 6, Some(2)), payment(3, None, 5, 10, Some(3))];
    index(&store, payments).await;
    let paying = again(&store, &run).await;
    let counts = store.run_counts(CHAIN, &paying).await.unwrap();
    assert_eq!((counts.paid, counts.skipped, counts.open, counts.deviating), (1, 1, 3, 0));
    assert_eq!((counts.paid_amount, counts.split_rounding), (U256::from(19), 1));
    // 3 + 6 + 13 of those who got nothing, and 6 for the two units that the fifth has left.
    assert_eq!(counts.unpaid_amount, U256::from(28));
    let left: Vec<u32> =
        store.unpaid_holders(CHAIN, &paying, 0, 9).await.unwrap().iter().map(|one| one.place).collect();
    assert_eq!(left, [0, 1, 3, 4]);
    store.end_pass(CHAIN, &paying, None).await.unwrap();
    let rest = store.entitlements(CHAIN, &again(&store, &run).await, 0, Some(Outcome::Skipped), 9).await.unwrap();
    assert_eq!(rest.len(), 4);
    assert!(rest.iter().all(|one| one.reason == "NOT_FREE"), "{rest:?}");
    let next = store.put_run(CHAIN, &new_run(Payout::Redemption)).await.unwrap();
    assert_eq!(next.run, 2, "who holds something after all gets another list");
}

fn due(period: u32, due_at: u64) -> NewDue {
    NewDue { period, record_date: due_at - 10, due_at, year: None }
}

async fn automate(store: &Store, periods: &[NewDue]) {
    let decision = Decision { principal: "chief".into(), any_wallet: true, sender: holder(0xcc), alert_s: 50 };
    store.automate(CHAIN, (TENANT, TREASURY), ScheduleKind::Coupons, &decision, periods).await.unwrap();
}

#[tokio::test]
async fn a_due_payment_is_worked_on_by_one_replica_and_started_once() {
    let (_postgres, store) = store().await;
    automate(&store, &[due(0, 100), due(1, 200), due(2, 900)]).await;
    assert!(store.lock_due(CHAIN, 100, &[]).await.unwrap().is_none(), "it is over after its time, not at it");
    // Two windows were missed: the oldest comes first, and a second replica passes over what the first works on.
    let first = store.lock_due(CHAIN, 500, &[]).await.unwrap().unwrap();
    assert_eq!(
        (first.due.due.period, first.due.decision.any_wallet, first.due.decision.sender),
        (0, true, holder(0xcc))
    );
    let second = store.lock_due(CHAIN, 500, &[]).await.unwrap().unwrap();
    assert_eq!(second.due.due.period, 1);
    assert!(store.lock_due(CHAIN, 500, &[]).await.unwrap().is_none());
    first.settle(Ok(4)).await.unwrap();
    let failure = dalp_engine::Failure::new("TREASURY_UNDERFUNDED", "short");
    second.settle(Err(NotStarted::Yet(failure))).await.unwrap();
    assert!(store.lock_due(CHAIN, 500, &[]).await.unwrap().is_none(), "started, or tried a moment ago");
    let states = |all: Vec<svc_distribution::treasury::store::due::StoredDue>| {
        all.into_iter().map(|one| (one.state, one.run, one.failure.is_some())).collect::<Vec<_>>()
    };
    let now = states(store.due_payments(CHAIN, TREASURY, None, 99).await.unwrap());
    let waiting = (DueState::Waiting, None, false);
    assert_eq!(now, [(DueState::Started, Some(4), false), (DueState::Waiting, None, true), waiting]);

    // A replica that dies leaves nothing locked and nothing started.
    drop(store.lock_due(CHAIN, 1_000, &[]).await.unwrap().unwrap());
    let again = async {
        loop {
            if let Some(locked) = store.lock_due(CHAIN, 1_000, &[]).await.unwrap() {
                break locked.due.due.period;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), again).await.unwrap(), 2);

    store.stop_schedule(CHAIN, TREASURY, 1).await.unwrap();
    let stopped = states(store.due_payments(CHAIN, TREASURY, None, 99).await.unwrap());
    assert_eq!((stopped[0].0, stopped[1].0, stopped[2].0), (DueState::Started, DueState::Stopped, DueState::Stopped));
    automate(&store, &[due(0, 100), due(1, 200), due(2, 900)]).await;
    let again = states(store.due_payments(CHAIN, TREASURY, None, 99).await.unwrap());
    assert_eq!((again[0].0, again[1].0), (DueState::Started, DueState::Waiting), "what was started stays so");
}

#[tokio::test]
async fn payments_ahead_are_those_within_their_alert() {
    let (_postgres, store) = store().await;
    automate(&store, &[due(0, 100), due(1, 200)]).await;
    let ahead = async |now_s| {
        let found = store.payments_ahead(CHAIN, now_s, None, 9).await.unwrap();
        found.into_iter().map(|one| one.due.period).collect::<Vec<_>>()
    };
    assert_eq!((ahead(49).await, ahead(50).await, ahead(101).await), (vec![], vec![0], vec![]));
    assert_eq!(ahead(150).await, [1]);
    let one = store.payments_ahead(CHAIN, 150, None, 9).await.unwrap().remove(0);
    store.note_alert(CHAIN, &one, true).await.unwrap();
    assert!(store.payments_ahead(CHAIN, 150, None, 9).await.unwrap()[0].alerted);
}

/// A calendar of one payment, which is due at 100.
async fn accept_calendar(store: &Store, operation: u128) {
    let calendar = Calendar {
        first_date: "2026-01-01".parse().unwrap(),
        last_date: "2026-02-01".parse().unwrap(),
        months: 1,
        time_zone: "UTC".into(),
        day_count: DayCount::Act365,
        annual_rate: "50".parse().unwrap(),
        lead_days: 1,
    };
    let order = CalendarOrder {
        chain_id: CHAIN,
        asset: holder(0xa5),
        annual_ratio: U256::from(5_000),
        record_dates: vec![90],
        command: ScheduleCalendar { sender: holder(0xcc), treasury: TREASURY, calendar, alert_s: 50 },
    };
    let periods = [NewDue { year: Some(YearFraction { days: 31, year: 365 }), ..due(0, 100) }];
    let mut commit = store.pool.begin().await.unwrap();
    let id = Uuid::from_u128(operation);
    put_calendar(&mut commit, TENANT, id, ("chief", false), &order, &periods).await.unwrap();
    commit.commit().await.unwrap();
}

#[tokio::test]
async fn a_calendar_pays_only_once_its_operation_is_completed() {
    let (_postgres, store) = store().await;
    tokio::join!(accept_calendar(&store, 1), accept_calendar(&store, 2));
    let mut open = store.unconfirmed_calendars(CHAIN, 9).await.unwrap();
    open.sort_by_key(|one| one.schedule);
    assert_eq!(open.iter().map(|one| one.schedule).collect::<Vec<_>>(), [1, 2], "at once, one after the other");
    let schedules = store.schedules(CHAIN, TREASURY).await.unwrap();
    let told: Vec<_> = schedules.iter().map(|one| (one.schedule, one.kind, one.sender)).collect();
    assert_eq!(told, [(1, ScheduleKind::Calendar, holder(0xcc)), (2, ScheduleKind::Calendar, holder(0xcc))]);
    assert!(store.lock_due(CHAIN, 500, &[]).await.unwrap().is_none(), "nobody knows whether its dates are announced");
    assert!(store.payments_ahead(CHAIN, 60, None, 9).await.unwrap().is_empty());

    let failure = dalp_engine::Failure::new("TOO_MANY_RECORD_DATES", "full");
    store.settle_calendar(CHAIN, &open[0], Some(&failure)).await.unwrap();
    store.settle_calendar(CHAIN, &open[1], None).await.unwrap();
    assert!(store.unconfirmed_calendars(CHAIN, 9).await.unwrap().is_empty());
    let rows = store.due_payments(CHAIN, TREASURY, None, 99).await.unwrap();
    let told: Vec<_> = rows.iter().map(|one| (one.schedule, one.state, one.failure.as_ref())).collect();
    assert_eq!(told, [(1, DueState::Stopped, Some(&failure)), (2, DueState::Waiting, None)]);
    assert_eq!(store.payments_ahead(CHAIN, 60, None, 9).await.unwrap().len(), 1);
    let locked = store.lock_due(CHAIN, 500, &[]).await.unwrap().unwrap();
    assert_eq!(locked.due.schedule, 2, "the one that failed never pays");
    let decision = Decision { principal: "chief".into(), any_wallet: false, sender: holder(0xcc), alert_s: 50 };
    assert_eq!(locked.due.decision, decision);
    assert!(store.lock_due(CHAIN, 500, &[]).await.unwrap().is_none());
}

fn short() -> dalp_engine::Failure {
    dalp_engine::Failure::new("TREASURY_UNDERFUNDED", "short")
}

async fn started(store: &Store, period: u32) -> (DueState, Option<u32>, bool) {
    let rows = store.due_payments(CHAIN, TREASURY, None, 99).await.unwrap();
    let row = rows.into_iter().find(|one| one.due.period == period).unwrap();
    (row.state, row.run, row.failure.is_some())
}

/// As if the last try were long ago.
async fn forget_tries(store: &Store) {
    sqlx::query("UPDATE treasury_due SET tried_at = tried_at - interval '1 day'").execute(&store.pool).await.unwrap();
}

#[tokio::test]
async fn a_payment_is_held_back_while_another_reserves_and_waits_again_when_its_reservation_fails() {
    let (_postgres, store) = store().await;
    automate(&store, &[due(0, 100), due(1, 200)]).await;
    let first = store.put_run(CHAIN, &new_run(Payout::Coupon { period: 0 })).await.unwrap();
    let second = store.put_run(CHAIN, &new_run(Payout::Coupon { period: 1 })).await.unwrap();
    let (one, other) = (store.lock_due(CHAIN, 500, &[]).await.unwrap(), store.lock_due(CHAIN, 500, &[]).await.unwrap());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(store.begin_pass(CHAIN, &first, &pass(9)).await.unwrap(), Begun::Yes);
    assert_eq!(store.begin_pass(CHAIN, &second, &pass(9)).await.unwrap(), Begun::HeldBack, "the money looks free");
    assert_eq!(again(&store, &second).await.state, RunState::Prepared);
    one.settle(Ok(first.run)).await.unwrap();
    other.settle(Err(NotStarted::Yet(short()))).await.unwrap();
    forget_tries(&store).await;
    assert!(store.lock_due(CHAIN, 500, &[]).await.unwrap().is_none(), "the first is not reserved");
    store.note_reserved(CHAIN, &first, None).await.unwrap();

    let next = store.lock_due(CHAIN, 500, &[]).await.unwrap().unwrap();
    assert_eq!(next.due.due.period, 1);
    assert_eq!(store.begin_pass(CHAIN, &second, &pass(9)).await.unwrap(), Begun::Yes);
    next.settle(Ok(second.run)).await.unwrap();
    assert_eq!(started(&store, 1).await, (DueState::Started, Some(second.run), false));
    // Somebody else took the money: the payment waits again, and its run can be begun again.
    store.end_pass(CHAIN, &again(&store, &second).await, Some(&short())).await.unwrap();
    assert_eq!(started(&store, 1).await, (DueState::Waiting, None, true));
    forget_tries(&store).await;
    let retried = store.lock_due(CHAIN, 500, &[]).await.unwrap().unwrap();
    assert_eq!(store.begin_pass(CHAIN, &again(&store, &second).await, &pass(9)).await.unwrap(), Begun::Yes);
    // It fails before the payment is settled: that counts, too.
    store.end_pass(CHAIN, &again(&store, &second).await, Some(&short())).await.unwrap();
    retried.settle(Ok(second.run)).await.unwrap();
    assert_eq!(started(&store, 1).await, (DueState::Waiting, None, true));
    // What fails after its money is reserved is for whoever looks at the run.
    store.end_pass(CHAIN, &again(&store, &first).await, Some(&short())).await.unwrap();
    assert_eq!(started(&store, 0).await, (DueState::Started, Some(first.run), false));
}

#[tokio::test]
async fn payments_that_fail_take_turns_ever_more_rarely_and_what_is_never_due_ends() {
    let (_postgres, store) = store().await;
    automate(&store, &[due(0, 100), due(1, 200), due(2, 300)]).await;
    assert!(store.lock_due(CHAIN, 500, &[TREASURY]).await.unwrap().is_none(), "it had its turn");
    let fail = async |outcome: fn(dalp_engine::Failure) -> NotStarted| {
        let locked = store.lock_due(CHAIN, 500, &[]).await.unwrap().unwrap();
        let period = locked.due.due.period;
        locked.settle(Err(outcome(short()))).await.unwrap();
        period
    };
    assert_eq!(fail(NotStarted::Yet).await, 0);
    forget_tries(&store).await;
    assert_eq!((fail(NotStarted::Yet).await, fail(NotStarted::Ever).await), (1, 2), "who was never tried comes first");
    assert_eq!(started(&store, 2).await, (DueState::Stopped, None, true));
    assert_eq!(fail(NotStarted::Yet).await, 0);
    let ready = async |seconds: f64| {
        sqlx::query("UPDATE treasury_due SET tried_at = clock_timestamp() - make_interval(secs => $1)")
            .bind(seconds)
            .execute(&store.pool)
            .await
            .unwrap();
        let (one, other) =
            (store.lock_due(CHAIN, 500, &[]).await.unwrap(), store.lock_due(CHAIN, 500, &[]).await.unwrap());
        let mut periods: Vec<_> = [one, other].iter().flatten().map(|locked| locked.due.due.period).collect();
        periods.sort_unstable();
        periods
    };
    assert_eq!(ready(5.0).await, [] as [u32; 0]);
    assert_eq!(ready(25.0).await, [0, 1]);
}

#[tokio::test]
async fn the_more_often_a_payment_failed_the_later_it_is_tried() {
    let (_postgres, store) = store().await;
    automate(&store, &[due(0, 100)]).await;
    for seconds in ["15 seconds", "25 seconds"] {
        let first = store.lock_due(CHAIN, 500, &[]).await.unwrap().unwrap();
        first.settle(Err(NotStarted::Yet(short()))).await.unwrap();
        sqlx::query("UPDATE treasury_due SET tried_at = clock_timestamp() - $1::interval")
            .bind(seconds)
            .execute(&store.pool)
            .await
            .unwrap();
    }
    let again = store.lock_due(CHAIN, 500, &[]).await.unwrap().unwrap();
    again.settle(Err(NotStarted::Yet(short()))).await.unwrap();
    sqlx::query("UPDATE treasury_due SET tried_at = clock_timestamp() - interval '25 seconds'")
        .execute(&store.pool)
        .await
        .unwrap();
    assert!(store.lock_due(CHAIN, 500, &[]).await.unwrap().is_none(), "failed three times: forty seconds");
}

#[tokio::test]
async fn payments_ahead_come_in_pages() {
    let (_postgres, store) = store().await;
    automate(&store, &[due(0, 100), due(1, 110), due(2, 120)]).await;
    let first = store.payments_ahead(CHAIN, 99, None, 2).await.unwrap();
    assert_eq!(first.iter().map(|one| one.due.period).collect::<Vec<_>>(), [0, 1]);
    let rest = store.payments_ahead(CHAIN, 99, first.last(), 2).await.unwrap();
    assert_eq!(rest.iter().map(|one| one.due.period).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_later_redemption_takes_the_place_of_one_that_is_done() {
    let (_postgres, store) = store().await;
    let run = store.put_run(CHAIN, &new_run(Payout::Redemption)).await.unwrap();
    assert!(run.reserved, "by the contract, before there is a run");
    assert_eq!(store.begin_pass(CHAIN, &run, &pass(9)).await.unwrap(), Begun::Yes);
    store.end_pass(CHAIN, &again(&store, &run).await, None).await.unwrap();
    let next = store.put_run(CHAIN, &new_run(Payout::Redemption)).await.unwrap();
    let done = again(&store, &run).await;
    assert_eq!(store.begin_pass(CHAIN, &done, &pass(9)).await.unwrap(), Begun::Replaced);
    assert_eq!(again(&store, &run).await, done);
    assert_eq!(store.begin_pass(CHAIN, &next, &pass(9)).await.unwrap(), Begun::Yes);
}

#[tokio::test]
async fn a_treasury_that_tells_of_a_payment_twice_does_not_stop_the_index() {
    let (_postgres, store) = store().await;
    let run = store.put_run(CHAIN, &new_run(Payout::Coupon { period: 0 })).await.unwrap();
    let payments =
        vec![payment(1, Some(0), 1, 3, None), payment(2, Some(0), 1, 4, None), payment(3, Some(0), 2, 6, None)];
    index(&store, payments).await;
    let later = Payment { at: at(61, 0), ..payment(0, Some(0), 2, 9, None) };
    let treasuries = TreasuryEvents {
        payments: vec![later, Payment { at: at(61, 1), ..skipped(0, Some(0), 3) }],
        ..Default::default()
    };
    let blocks = vec![BlockRef { number: 61, hash: B256::with_last_byte(61) }];
    store.commit_index(CHAIN, "one", &IndexBatch { blocks, treasuries, ..Default::default() }).await.unwrap();
    let counts = store.run_counts(CHAIN, &run).await.unwrap();
    assert_eq!((counts.paid, counts.skipped, counts.paid_amount), (2, 1, U256::from(9)), "what was told first");
}
