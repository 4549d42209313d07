//! Feeds on the whole stack: updates, refusals, the directory, the index and its alerts, through the gateway as an ordinary client.

#[path = "feeds/alerts.rs"]
mod alerts;
#[path = "feeds/directory.rs"]
mod directory;
#[path = "feeds/index.rs"]
mod index;
#[path = "feeds/prices.rs"]
mod prices;
#[path = "../examples/read_price.rs"]
#[allow(dead_code)] // its main
mod read_price;
#[path = "feeds/refusals.rs"]
mod refusals;
#[path = "feeds/support.rs"]
mod support;
#[path = "feeds/updates.rs"]
mod updates;

use support::World;

/// One stack for all, because a stack costs more than what is asked of it here.
#[tokio::test(flavor = "multi_thread")]
async fn feeds_are_published_read_and_audited() {
    let world = World::start().await;
    updates::a_value_is_published_and_read(&world).await;
    updates::publishers_who_race_all_land_in_order(&world).await;
    updates::history_modes_differ_on_chain_and_not_in_the_index(&world).await;
    updates::a_batch_takes_what_it_can(&world).await;
    refusals::everything_a_feed_refuses_is_typed_and_changes_nothing(&world).await;
    refusals::what_is_refused_before_it_is_accepted(&world).await;
    directory::feeds_are_registered_replaced_and_removed(&world).await;
    directory::governance_manages_its_own_subject(&world).await;
    prices::an_issuance_limit_in_fiat_follows_the_feed(&world).await;
    alerts::staleness_rejections_and_lost_signers_are_told(&world).await;
    alerts::a_cursor_behind_what_is_kept_is_refused(&world).await;
    dalp_tests::histories::record(&world.stack.settings().database_url, "feed.", "svc-feeds").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_survives_reorgs_and_verifies_from_its_own_fields() {
    let world = World::start().await;
    index::a_reorg_takes_rounds_back(&world).await;
    index::a_round_is_verified_without_the_chain(&world).await;
}
