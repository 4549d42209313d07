//! Exchanges that do not come about: everybody has everything back, and the secret stays where it is.

use dalp_proto::settlement::{AttentionKind, PairState};

use crate::support::{FIRST, MARGIN_S, SECOND, World, cutoff_of};
use crate::trouble::restart;

/// Also here the service is killed at each step.
pub(crate) async fn a_counterparty_that_never_locks(world: &mut World) {
    let before = world.holdings().await;
    let pair = world.open("Never locked").await;
    world.alice_locks(&pair).await;
    world.both_pass_to(cutoff_of(&pair.reveal) - 250).await;
    let near = world.until_needs(&pair, AttentionKind::CutoffNear, SECOND).await;
    assert!(near.detail.contains(&cutoff_of(&pair.reveal).to_string()), "{near:?}");
    assert_eq!(world.pair(&pair.pair_id).await.state(), PairState::Locking, "there is time yet");
    world.both_pass_to(cutoff_of(&pair.reveal) - MARGIN_S + 1).await;
    world.until_stands(&pair, PairState::Returning).await;
    restart(world).await;
    world.both_pass_to(cutoff_of(&pair.carry)).await;
    world.goes_back(&pair, FIRST).await;
    restart(world).await;
    world.until_stands(&pair, PairState::Returned).await;
    world.nothing_happened(&pair, before).await;
}

pub(crate) async fn a_counterparty_that_locks_late(world: &World) {
    let before = world.holdings().await;
    let pair = world.open("Locked late").await;
    world.alice_locks(&pair).await;
    world.both_pass_to(cutoff_of(&pair.reveal) - MARGIN_S + 1).await;
    // The contract takes the lock; for the secret it is too late.
    world.bob_locks(&pair).await;
    world.until_stands(&pair, PairState::Returning).await;
    world.both_pass_to(cutoff_of(&pair.reveal)).await;
    world.goes_back(&pair, SECOND).await;
    world.both_pass_to(cutoff_of(&pair.carry)).await;
    world.goes_back(&pair, FIRST).await;
    world.until_stands(&pair, PairState::Returned).await;
    world.nothing_happened(&pair, before).await;
}

/// While a chain is silent nothing is shown, and what is locked on the other one goes back when its time has come.
pub(crate) async fn a_chain_that_is_down_for_longer_than_the_margin(world: &World) {
    let before = world.holdings().await;
    let pair = world.open("Halted").await;
    world.alice_locks(&pair).await;
    world.halt(FIRST, true);
    world.bob_locks(&pair).await;
    world.until_needs(&pair, AttentionKind::ChainSilent, FIRST).await;
    world.pass_to(SECOND, cutoff_of(&pair.reveal) - MARGIN_S + 1).await;
    world.until_stands(&pair, PairState::Returning).await;
    world.pass_to(SECOND, cutoff_of(&pair.reveal)).await;
    world.goes_back(&pair, SECOND).await;
    world.halt(FIRST, false);
    world.both_pass_to(cutoff_of(&pair.carry)).await;
    world.goes_back(&pair, FIRST).await;
    world.until_stands(&pair, PairState::Returned).await;
    world.nothing_happened(&pair, before).await;
}
