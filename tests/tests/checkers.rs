//! Maker and checker on the whole stack: what a policy holds in each service begins when another person approves it, and never before.

#[path = "checkers/outside.rs"]
mod outside;
#[path = "checkers/policies.rs"]
mod policies;
#[path = "checkers/services.rs"]
mod services;
#[path = "checkers/support.rs"]
mod support;

use support::World;

/// One stack for all, because a stack costs more than what is asked of it here.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_holds_waits_for_another_person() {
    let mut world = World::start().await;
    services::a_mint_above_the_threshold_is_held(&world).await;
    services::who_may_not_approve(&world).await;
    services::the_owner_of_the_wallet_approves_nothing(&world).await;
    services::refused_and_withdrawn(&world).await;
    services::a_maker_who_lost_his_right(&world).await;
    services::settlements(&world).await;
    services::feeds(&world).await;
    services::payouts(&world).await;
    services::an_http_client_is_told_at_once(&world).await;
    services::the_command_line_shows_what_is_held(&world).await;
    services::an_approval_outlives_the_service_that_should_have_heard_of_it(&mut world).await;
    policies::a_change_of_policies_waits_too(&world).await;
    policies::a_policy_that_protects_nothing_is_refused(&world).await;
}
