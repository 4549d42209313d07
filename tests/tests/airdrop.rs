//! Airdrops on the whole stack: lists, the three ways to the tokens and refusals, through the gateway as an ordinary client. Kills: `drills.rs`.

#[path = "airdrop/claims.rs"]
mod claims;
#[path = "airdrop/lists.rs"]
mod lists;
#[path = "airdrop/pushes.rs"]
mod pushes;
#[path = "airdrop/support.rs"]
mod support;

use support::World;

/// One stack for all, because a stack costs more than what is asked of it here. What moves the chain's clock comes last.
#[tokio::test(flavor = "multi_thread")]
async fn airdrops_pay_each_recipient_once() {
    let world = World::start().await;
    lists::a_bad_list_is_refused_with_its_lines_and_starts_nothing(&world).await;
    lists::a_list_that_is_too_long_or_breaks_off_starts_nothing(&world).await;
    lists::a_repeated_list_finds_its_airdrop(&world).await;
    pushes::a_push_that_is_short_by_one_unit_moves_nothing(&world).await;
    pushes::a_push_skips_whom_the_asset_refuses_and_pays_him_when_he_is_cured(&world).await;
    pushes::a_paused_push_goes_on_where_it_stood(&world).await;
    claims::recipients_claim_once_with_their_proof(&world).await;
    claims::a_vesting_releases_over_time_and_leftovers_return_after_the_window(&world).await;
    dalp_tests::histories::record(&world.stack.settings().database_url, "airdrop.", "svc-distribution").await;
}
