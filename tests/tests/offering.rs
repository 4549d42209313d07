//! Sales on the whole stack: presale and lock-up, refunds in two currencies, refusals, through the gateway as an ordinary client.

#[path = "offering/configuring.rs"]
mod configuring;
#[path = "offering/delivering.rs"]
mod delivering;
#[path = "offering/refunding.rs"]
mod refunding;
#[path = "offering/refusing.rs"]
mod refusing;
#[path = "offering/support.rs"]
mod support;

use support::World;

/// One stack for all, because a stack costs more than what is asked of it here. Each part sets its dates by the chain's clock.
#[tokio::test(flavor = "multi_thread")]
async fn sales_deliver_or_refund_and_never_both() {
    let world = World::start().await;
    let replaced = configuring::a_sale_has_other_terms_until_it_is_activated(&world).await;
    refusing::terms_that_nobody_could_keep_start_nothing(&world, &replaced).await;
    delivering::a_sale_without_conditions_delivers_at_once_and_ends_when_it_is_sold_out(&world).await;
    delivering::a_sale_that_reaches_its_soft_cap_releases_over_time(&world).await;
    refunding::a_sale_that_misses_its_soft_cap_refunds_every_buyer_in_two_currencies(&world).await;
    dalp_tests::histories::record(&world.stack.settings().database_url, "offering.", "svc-distribution").await;
}
