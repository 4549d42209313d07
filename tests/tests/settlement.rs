//! Settlements on the whole stack, through the gateway as an ordinary client: value for value, or everything back.

#[path = "settlement/ending.rs"]
mod ending;
#[path = "settlement/failing.rs"]
mod failing;
#[path = "settlement/refusing.rs"]
mod refusing;
#[path = "settlement/secrets.rs"]
mod secrets;
#[path = "settlement/settling.rs"]
mod settling;
#[path = "settlement/support.rs"]
mod support;

use support::World;

/// One stack for all, because a stack costs more than what is asked of it here. Each part sets its cutoffs by the chain's clock, and says
/// what everybody has at its end.
#[tokio::test(flavor = "multi_thread")]
async fn settlements_move_every_leg_or_none() {
    let world = World::start().await;
    refusing::terms_that_make_no_sense_start_nothing(&world).await;
    settling::a_bond_is_delivered_against_a_foreign_currency(&world).await;
    settling::two_currencies_are_exchanged_by_the_last_approval(&world).await;
    settling::five_parties_settle_seven_legs(&world).await;
    settling::a_wallet_that_approves_many_at_once_has_allowances_for_all(&world).await;
    ending::who_revokes_has_everything_back(&world).await;
    ending::a_party_cancels_and_everybody_is_free(&world).await;
    failing::a_party_that_loses_its_kyc_moves_nothing(&world).await;
    failing::a_broken_hold_breaches_the_settlement_for_everybody(&world).await;
    secrets::an_armed_settlement_is_cancelled_by_all_or_not_at_all(&world).await;
    secrets::a_committed_leg_is_owed_until_it_can_move(&world).await;
    settling::a_settlement_from_outside_is_one_like_ours(&world).await;
    ending::what_expired_goes_back_in_two_steps(&world).await;
    dalp_tests::histories::record(&world.stack.settings().database_url, "settlement.", "svc-settlement").await;
}
