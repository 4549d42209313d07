//! Exchanges across two chains on the whole stack, through the gateway as an ordinary client: both assets move, or both stay where they are.

#[path = "settlement_pairs/counterparty.rs"]
mod counterparty;
#[path = "settlement_pairs/exchanging.rs"]
mod exchanging;
#[path = "settlement_pairs/returning.rs"]
mod returning;
#[path = "settlement_pairs/support.rs"]
mod support;
#[path = "settlement_pairs/trouble.rs"]
mod trouble;

use support::World;

/// One stack for all, because a stack of two chains costs more than what is asked of it here. Each part opens an exchange by the chains' clocks, and
/// says at its end what everybody has on both chains.
#[tokio::test(flavor = "multi_thread")]
async fn both_assets_move_or_none_does() {
    let mut world = World::start().await;
    exchanging::what_cannot_be_opened_opens_nothing(&world).await;
    exchanging::two_assets_are_exchanged_across_chains(&world).await;
    counterparty::a_counterparty_shows_its_secret_at_the_last_block(&world).await;
    counterparty::a_mirror_of_the_counterparty_is_found_and_compared(&world).await;
    trouble::a_reorg_after_the_secret_was_shown(&world).await;
    trouble::killed_at_each_step_it_goes_on(&mut world).await;
    trouble::a_chain_that_is_down_when_the_secret_is_to_be_carried(&world).await;
    returning::a_counterparty_that_never_locks(&mut world).await;
    returning::a_counterparty_that_locks_late(&world).await;
    returning::a_chain_that_is_down_for_longer_than_the_margin(&world).await;
    dalp_tests::histories::record(&world.stack.settings().database_url, "settlement.", "svc-settlement").await;
}
