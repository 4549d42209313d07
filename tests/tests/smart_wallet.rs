//! Smart wallets on the whole stack, through the gateway as an ordinary client, with the canonical entry point of ERC-4337 as its authors publish it.

#[path = "smart_wallet/approving.rs"]
mod approving;
#[path = "smart_wallet/elsewhere.rs"]
mod elsewhere;
#[path = "smart_wallet/ending.rs"]
mod ending;
#[path = "smart_wallet/refusing.rs"]
mod refusing;
#[path = "smart_wallet/support.rs"]
mod support;

use support::World;

/// One stack for all, because a stack costs more than what is asked of it here.
#[tokio::test(flavor = "multi_thread")]
async fn a_smart_wallet_acts_once_enough_weight_has_signed() {
    let mut world = World::start().await;
    refusing::a_wallet_that_is_not_deployed_is_told_at_preflight(&mut world).await;
    approving::the_threshold_sends_it_once(&world).await;
    refusing::what_does_not_count_is_told(&world).await;
    refusing::what_takes_too_much_gas_is_not_proposed(&world).await;
    refusing::there_is_an_end_to_what_is_open(&world).await;
    refusing::what_the_attestor_would_not_have_moved_is_not_signed(&world).await;
    refusing::what_others_hold_is_not_released_here(&world).await;
    refusing::what_a_policy_holds_is_signed_by_no_key_of_ours(&world).await;
    ending::a_call_that_would_fail_waits_and_says_why(&world).await;
    elsewhere::what_somebody_else_sends_is_found(&world).await;
    approving::a_signature_is_shown_to_nobody(&world).await;
    elsewhere::a_contract_signs_by_its_own_word(&world).await;
    elsewhere::a_contract_may_take_its_word_back(&world).await;
    ending::what_is_cancelled_is_not_sent(&world).await;
    ending::below_the_threshold_it_expires(&world).await;
    approving::a_signer_that_was_removed_meanwhile_counts_no_more(&mut world).await;
    approving::a_kill_between_approval_and_submission_sends_it_once(&mut world).await;
    dalp_tests::histories::record(&world.stack.settings().database_url, "wallet.", "svc-compliance").await;
}
