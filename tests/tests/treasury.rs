//! Payouts on the whole stack: coupons, dividends, redemption and refusals, through the gateway as an ordinary client. Kills: `drills.rs`.

#[path = "treasury/coupons.rs"]
mod coupons;
#[path = "treasury/dividends.rs"]
mod dividends;
#[path = "treasury/maturity.rs"]
mod maturity;
#[path = "treasury/redemption.rs"]
mod redemption;
#[path = "treasury/refusing.rs"]
mod refusing;
#[path = "treasury/schedules.rs"]
mod schedules;
#[path = "treasury/support.rs"]
mod support;
#[path = "treasury/tenants.rs"]
mod tenants;

use support::World;

/// One stack for all, because a stack costs more than what is asked of it here. Maturity comes last: the bond moves no more then.
#[tokio::test(flavor = "multi_thread")]
async fn a_treasury_pays_what_is_due_and_not_a_unit_more() {
    let world = World::start().await;
    refusing::terms_that_nobody_could_keep_start_nothing(&world).await;
    dividends::a_dividend_counts_frozen_and_held_balances(&world).await;
    schedules::payments_by_the_calendar_start_by_themselves(&world).await;
    maturity::a_redemption_opens_by_itself_and_follows_a_wallet_that_was_lost(&world).await;
    let bond = coupons::four_quarterly_coupons(&world).await;
    tenants::another_tenant_sees_nothing_of_a_treasury(&world, &bond).await;
    tenants::runs_come_in_pages_newest_first(&world, &bond).await;
    redemption::the_bond_is_redeemed_at_maturity(&world, &bond).await;
    dalp_tests::histories::record(&world.stack.settings().database_url, "treasury.", "svc-distribution").await;
}
