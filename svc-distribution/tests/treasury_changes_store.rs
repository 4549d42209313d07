//! What changes about runs, on a real PostgreSQL: runs that are given up, redemptions whose holders lost their wallets, and redemptions that
//! start by themselves.
#![allow(clippy::unwrap_used, missing_docs)]

mod treasuries;

use alloy::primitives::U256;
use dalp_engine::{Failure, testing::TestPostgres};
use svc_distribution::{
    index::IndexBatch,
    store::Store,
    treasury::{
        store::{
            discards::{DISCARDED, Discarded},
            due::{Decision, DueState, NewDue, NotStarted},
            index::{Payment, Recovery, TreasuryEvents},
            outcomes::Outcome,
            passes::Begun,
            runs::{RunState, StoredRun},
            schedules::ScheduleKind,
        },
        terms::Payout,
    },
};
use treasuries::{CHAIN, TENANT, TREASURY, again, at, holder, index, new_run, pass, payment, skipped, store};
use uuid::Uuid;

const WHY: (&str, &str) = ("chief", "another list");

async fn leaves(store: &Store) -> Vec<(String, String, i64)> {
    sqlx::query_as("SELECT action, actor, (body ->> 'run')::bigint FROM engine.audit_leaves ORDER BY sequence")
        .fetch_all(&store.pool)
        .await
        .unwrap()
}

/// The tables of the engine, where the audit stands.
async fn audited(postgres: &TestPostgres) {
    dalp_engine::migrate(&sqlx::PgPool::connect(&postgres.url()).await.unwrap()).await.unwrap();
}

async fn prepared(store: &Store, payout: Payout) -> StoredRun {
    store.put_run(CHAIN, &new_run(payout)).await.unwrap()
}

#[tokio::test]
async fn a_run_that_is_given_up_makes_room_for_another_and_is_never_paid() {
    let (postgres, store) = store().await;
    audited(&postgres).await;
    for payout in [Payout::Coupon { period: 0 }, Payout::Redemption] {
        let run = prepared(&store, payout.clone()).await;
        // Two at once, and once more: one decision.
        let (one, other) = tokio::join!(store.discard_run(CHAIN, &run, WHY), store.discard_run(CHAIN, &run, WHY));
        assert_eq!((one.unwrap(), other.unwrap()), (Discarded::Yes, Discarded::Yes));
        assert_eq!(store.discard_run(CHAIN, &run, ("other", "again")).await.unwrap(), Discarded::Yes);
        let gone = again(&store, &run).await;
        let told = gone.discard.as_ref().map(|discard| (discard.principal.as_str(), discard.reason.as_str()));
        assert_eq!((gone.state, told), (RunState::Discarded, Some(WHY)));
        assert_eq!(store.begin_pass(CHAIN, &run, &pass(9)).await.unwrap(), Begun::Discarded);
        assert!(store.passes(CHAIN, &run).await.unwrap().is_empty());
        let next = prepared(&store, payout).await;
        assert_eq!((next.run, next.state), (run.run + 1, RunState::Prepared));
        assert_eq!(next.root, run.root);
    }
    let leaf = |run| (DISCARDED.to_owned(), "chief".to_owned(), run);
    assert_eq!(leaves(&store).await, [leaf(1), leaf(3)]);
}

#[tokio::test]
async fn a_run_is_not_given_up_once_money_moves() {
    let (postgres, store) = store().await;
    audited(&postgres).await;
    let discard = async |run: &StoredRun| store.discard_run(CHAIN, run, WHY).await.unwrap();
    let run = prepared(&store, Payout::Coupon { period: 0 }).await;
    store.begin_pass(CHAIN, &run, &pass(2)).await.unwrap();
    assert_eq!(discard(&run).await, Discarded::UnderWay);
    let paying = again(&store, &run).await;
    store.turn_run(CHAIN, &paying, RunState::Paying, RunState::Paused).await.unwrap();
    assert_eq!(discard(&run).await, Discarded::UnderWay, "what was handed over goes on");
    store.turn_run(CHAIN, &paying, RunState::Paused, RunState::Paying).await.unwrap();
    // Its reservation failed: nothing moved.
    store.end_pass(CHAIN, &paying, Some(&Failure::new("TREASURY_UNDERFUNDED", "short"))).await.unwrap();
    assert_eq!(discard(&run).await, Discarded::Yes);

    let reserved = prepared(&store, Payout::Coupon { period: 1 }).await;
    store.note_reserved(CHAIN, &reserved, None).await.unwrap();
    assert_eq!(discard(&reserved).await, Discarded::Moved, "it is owed to these holders");
    let redemption = prepared(&store, Payout::Redemption).await;
    store.begin_pass(CHAIN, &redemption, &pass(2)).await.unwrap();
    let paying = again(&store, &redemption).await;
    store.plan_payments(CHAIN, &paying).await.unwrap().unwrap();
    store.end_pass(CHAIN, &paying, Some(&Failure::new("ASSET_ROLE_MISSING", "no"))).await.unwrap();
    assert_eq!(discard(&redemption).await, Discarded::Moved, "a batch stands");
    assert_eq!(leaves(&store).await.len(), 1, "refusals are no decisions");
}

async fn recover(store: &Store, log_index: u64, lost: u8, new: u8) {
    let recovery =
        Recovery { at: at(60, log_index), asset: holder(0xa5), lost_wallet: holder(lost), new_wallet: holder(new) };
    let treasuries = TreasuryEvents { recoveries: vec![recovery], ..Default::default() };
    store.commit_index(CHAIN, "one", &IndexBatch { treasuries, ..Default::default() }).await.unwrap();
}

async fn outcomes(store: &Store, run: &StoredRun) -> Vec<(u32, Outcome, u64)> {
    let rows = store.entitlements(CHAIN, run, 0, None, 99).await.unwrap();
    rows.iter().map(|one| (one.place, one.outcome, one.paid_amount.to())).collect()
}

#[tokio::test]
async fn an_entitlement_to_a_redemption_follows_the_tokens_to_another_wallet() {
    let (_postgres, store) = store().await;
    let run = prepared(&store, Payout::Redemption).await;
    store.begin_pass(CHAIN, &run, &pass(9)).await.unwrap();
    let run = again(&store, &run).await;
    // The second holder lost two wallets one after the other.
    recover(&store, 1, 2, 0x20).await;
    recover(&store, 2, 0x20, 0x21).await;
    let batch = store.plan_payments(CHAIN, &run).await.unwrap().unwrap();
    assert_eq!(batch.places, [0, 1, 2, 3, 4]);
    let named = [holder(1), holder(2), holder(3), holder(4), holder(5), holder(0x21)];
    assert_eq!(store.holders_of_batch(CHAIN, &run, 0).await.unwrap(), named);
    // What is recovered later changes nothing about a batch that stands: it is accepted under one key.
    recover(&store, 3, 5, 0x50).await;
    assert_eq!(store.holders_of_batch(CHAIN, &run, 0).await.unwrap(), named);

    // Two units of the second holder at 10/3, in the new wallet.
    index(&store, vec![payment(4, None, 0x21, 6, Some(2)), skipped(5, None, 0x50)]).await;
    let counts = store.run_counts(CHAIN, &run).await.unwrap();
    assert_eq!((counts.paid, counts.skipped, counts.open, counts.deviating), (1, 1, 3, 0));
    assert_eq!(outcomes(&store, &run).await[1], (1, Outcome::Paid, 6));
    let paid = &store.entitlements(CHAIN, &run, 1, Some(Outcome::Paid), 1).await.unwrap()[0];
    assert_eq!((paid.holder, paid.paid_to), (holder(2), Some(holder(0x21))));
    let left = store.unpaid_holders(CHAIN, &run, 0, 9).await.unwrap();
    let told: Vec<_> = left.iter().map(|one| (one.place, one.recovered_to)).collect();
    assert_eq!(told, [(0, None), (2, None), (3, None), (4, Some(holder(0x50)))]);
    assert_eq!(counts.paid_amount + counts.unpaid_amount + U256::from(run.rounding), U256::from(run.total));

    // A reorg takes recoveries and payments back.
    let rewind = IndexBatch { rewind_to: Some(Some(59)), ..Default::default() };
    store.commit_index(CHAIN, "one", &rewind).await.unwrap();
    assert_eq!(store.unpaid_holders(CHAIN, &run, 0, 9).await.unwrap().len(), 5);
}

#[tokio::test]
async fn entitlements_that_end_in_one_wallet_are_redeemed_together_to_the_unit() {
    let (_postgres, store) = store().await;
    let run = prepared(&store, Payout::Redemption).await;
    // The first, and the second, who is on the list, too: one and two units go to the third, who has three.
    recover(&store, 1, 1, 3).await;
    recover(&store, 2, 2, 3).await;
    // Six units at 10/3 are 20; one by one they would be 3 + 6 + 10.
    index(&store, vec![payment(3, None, 3, 20, Some(6))]).await;
    let counts = store.run_counts(CHAIN, &run).await.unwrap();
    assert_eq!((counts.paid, counts.paid_amount, counts.deviating), (3, U256::from(20), 0));
    assert_eq!(counts.split_rounding, -1);
    let accounted = counts.paid_amount + counts.unpaid_amount + U256::from(run.rounding) - U256::ONE;
    assert_eq!(accounted, U256::from(run.total));

    // Paid in part: those who stand first on the list come first.
    let rewind = IndexBatch { rewind_to: Some(Some(59)), ..Default::default() };
    store.commit_index(CHAIN, "one", &rewind).await.unwrap();
    recover(&store, 1, 1, 3).await;
    recover(&store, 2, 2, 3).await;
    index(&store, vec![payment(3, None, 3, 6, Some(2))]).await;
    let rows = outcomes(&store, &run).await;
    assert_eq!((rows[0], rows[1].2, rows[2].2), ((0, Outcome::Paid, 3), 3, 0));
    let counts = store.run_counts(CHAIN, &run).await.unwrap();
    assert_eq!((counts.paid, counts.paid_amount, counts.deviating), (1, U256::from(6), 0));
}

#[tokio::test]
async fn a_recovery_changes_nothing_about_coupons() {
    let (_postgres, store) = store().await;
    let run = prepared(&store, Payout::Coupon { period: 0 }).await;
    recover(&store, 1, 2, 0x20).await;
    // The contract pays the successor in the name of the lost wallet.
    let paid = Payment { at: at(60, 2), ..payment(2, Some(0), 2, 6, None) };
    index(&store, vec![paid]).await;
    let counts = store.run_counts(CHAIN, &run).await.unwrap();
    assert_eq!((counts.paid, counts.open, counts.deviating), (1, 4, 0));
    assert!(store.unpaid_holders(CHAIN, &run, 0, 9).await.unwrap().iter().all(|one| one.recovered_to.is_none()));
}

#[tokio::test]
async fn a_run_that_was_given_up_is_not_told_as_paid() {
    let (postgres, store) = store().await;
    audited(&postgres).await;
    let run = prepared(&store, Payout::Coupon { period: 0 }).await;
    assert_eq!(store.discard_run(CHAIN, &run, WHY).await.unwrap(), Discarded::Yes);
    let instead = prepared(&store, Payout::Coupon { period: 0 }).await;
    index(&store, vec![Payment { at: at(60, 2), ..payment(2, Some(0), 2, 6, None) }]).await;
    for (run, paid) in [(run, 0), (instead, 1)] {
        let run = again(&store, &run).await;
        assert_eq!(store.run_counts(CHAIN, &run).await.unwrap().paid, paid);
        assert_eq!(store.run_transactions(CHAIN, &run, 9).await.unwrap().len(), paid as usize);
    }
}

async fn automate(store: &Store) {
    let decision = Decision { principal: "chief".into(), any_wallet: true, sender: holder(0xcc), alert_s: 50 };
    let payment = NewDue { period: 0, record_date: 9_000, due_at: 9_000, year: None };
    store.automate(CHAIN, (TENANT, TREASURY), ScheduleKind::Maturity, &decision, &[payment]).await.unwrap();
}

#[tokio::test]
async fn a_redemption_that_is_opened_is_looked_at_again_soon_and_its_operation_is_kept() {
    let (_postgres, store) = store().await;
    automate(&store).await;
    automate(&store).await;
    assert!(store.lock_due(CHAIN, 9_000, &[]).await.unwrap().is_none(), "it has not matured");
    let locked = store.lock_due(CHAIN, 20_000, &[]).await.unwrap().unwrap();
    assert_eq!((locked.due.kind, locked.due.open_operation, locked.due.tries), (ScheduleKind::Maturity, None, 0));
    assert!(store.lock_due(CHAIN, 20_000, &[]).await.unwrap().is_none(), "one replica works on it");
    let operation = Uuid::from_u128(5);
    locked.settle(Err(NotStarted::Opening(operation))).await.unwrap();
    let past = async |seconds: f64| {
        sqlx::query("UPDATE treasury_due SET tried_at = clock_timestamp() - make_interval(secs => $1)")
            .bind(seconds)
            .execute(&store.pool)
            .await
            .unwrap();
        store.lock_due(CHAIN, 20_000, &[]).await.unwrap()
    };
    assert!(past(0.2).await.is_none());
    let opened = past(1.5).await.unwrap();
    assert_eq!((opened.due.open_operation, opened.due.tries), (Some(operation), 0), "the same key finds it");
    opened.settle(Err(NotStarted::Yet(Failure::new("TREASURY_UNDERFUNDED", "short")))).await.unwrap();
    assert!(past(1.5).await.is_none(), "it is tried again after a while");
    let short = past(15.0).await.unwrap();
    assert_eq!(
        (short.due.open_operation, short.due.openings_failed),
        (Some(operation), 0),
        "it may still be under way"
    );
    short.settle(Err(NotStarted::NotOpened(Failure::new("ROLE_MISSING", "no")))).await.unwrap();
    let failed = past(30.0).await.unwrap();
    assert_eq!(
        (failed.due.open_operation, failed.due.openings_failed),
        (None, 1),
        "the next one stands under another key"
    );
    failed.settle(Err(NotStarted::Opening(Uuid::from_u128(6)))).await.unwrap();
    automate(&store).await;
    let failed = past(30.0).await.unwrap();
    assert_eq!(failed.due.openings_failed, 1, "a new decision does not find the old failure");

    assert_eq!(store.begun_redemption(CHAIN, TREASURY).await.unwrap(), None);
    let run = prepared(&store, Payout::Redemption).await;
    assert_eq!(store.begun_redemption(CHAIN, TREASURY).await.unwrap(), None, "a list is no payment");
    store.begin_pass(CHAIN, &run, &pass(9)).await.unwrap();
    failed.settle(Ok(run.run)).await.unwrap();
    store.end_pass(CHAIN, &again(&store, &run).await, None).await.unwrap();
    assert_eq!(store.begun_redemption(CHAIN, TREASURY).await.unwrap(), Some(run.run));
    let row = &store.due_payments(CHAIN, TREASURY, None, 9).await.unwrap()[0];
    assert_eq!((row.state, row.run), (DueState::Started, Some(run.run)));
}

#[tokio::test]
async fn a_scheduled_payment_whose_run_is_given_up_waits_again() {
    let (postgres, store) = store().await;
    audited(&postgres).await;
    automate(&store).await;
    let locked = store.lock_due(CHAIN, 20_000, &[]).await.unwrap().unwrap();
    let run = prepared(&store, Payout::Redemption).await;
    assert_eq!(store.discard_run(CHAIN, &run, WHY).await.unwrap(), Discarded::Yes);
    locked.settle(Ok(run.run)).await.unwrap();
    let row = &store.due_payments(CHAIN, TREASURY, None, 9).await.unwrap()[0];
    assert_eq!((row.state, row.run), (DueState::Waiting, None));
}

#[tokio::test]
async fn due_payments_come_in_pages() {
    let (_postgres, store) = store().await;
    let decision = Decision { principal: "chief".into(), any_wallet: true, sender: holder(0xcc), alert_s: 50 };
    let due: Vec<_> = (0..5)
        .map(|period| NewDue { period, record_date: 50, due_at: 100 + u64::from(period / 2), year: None })
        .collect();
    store.automate(CHAIN, (TENANT, TREASURY), ScheduleKind::Coupons, &decision, &due).await.unwrap();
    automate(&store).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.due_payments(CHAIN, TREASURY, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place());
        seen.extend(page.iter().map(|one| (one.schedule, one.due.period)));
    }
    assert_eq!(seen, [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0)], "each once, in order");
}
