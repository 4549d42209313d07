//! Exchanges that come about whatever fails meanwhile.

use alloy::providers::Provider as _;
use dalp_proto::settlement::{AttentionKind, PairState};
use dalp_tests::waiting::until;

use crate::support::{FIRST, SECOND, World, cutoff_of};

pub(crate) async fn a_reorg_after_the_secret_was_shown(world: &World) {
    let before = world.holdings().await;
    let pair = world.open("Reorganised").await;
    world.alice_locks(&pair).await;
    world.bob_locks(&pair).await;
    let shown = async || world.shown(SECOND, &pair.reveal).await;
    let secret = until("the secret is shown", shown, Option::is_some).await;
    // The block is not final yet: two more have to stand on it. Its transactions are gone with it.
    let node = world.node(SECOND);
    let done: Result<serde_json::Value, _> =
        node.raw_request("anvil_reorg".into(), (2_u64, Vec::<serde_json::Value>::new())).await;
    done.expect("reorganised");
    world.exchanged(&pair, before).await;
    assert_eq!(world.shown(SECOND, &pair.reveal).await, secret, "it was shown again");
}

/// The service is killed as soon as each step is seen, and started again.
pub(crate) async fn killed_at_each_step_it_goes_on(world: &mut World) {
    let before = world.holdings().await;
    let order = world.order("Killed").await;
    let request = dalp_devstack::client::keyed(order, &dalp_tests::airdrops::key());
    let opened = world.service().open_pair(request).await.expect("accepted").into_inner();
    restart(world).await;
    let pair = opened.pair.expect("an exchange");
    world.done(Ok(opened.operation)).await;
    for (wallet, side) in [(world.alice().clone(), &pair.carry), (world.bob().clone(), &pair.reveal)] {
        let accepted = world.approve(&wallet, &crate::support::id_of(side)).await;
        restart(world).await;
        world.done(accepted).await;
    }
    use PairState::{Carrying, Revealing, Settled};
    for steps in [&[Revealing, Carrying, Settled][..], &[Carrying, Settled], &[Settled]] {
        world.until_any(&pair, steps).await;
        restart(world).await;
    }
    world.exchanged(&pair, before).await;
    let evidence = world.evidence(&pair).await;
    let sent: Vec<_> = evidence.actions.iter().map(|one| (one.action.as_str(), one.attempt)).collect();
    assert_eq!(sent, [("open", 1), ("reveal", 1), ("carry", 1)], "nothing was sent twice");
}

pub(crate) async fn restart(world: &mut World) {
    let service = world.stack.service("svc-settlement").expect("a service");
    service.restart().expect("it starts again");
    world.stack.wait_until_serving().await.expect("it serves");
}

/// The chain to which the secret is carried is away until after its cutoff: two steps back leave the time to use the secret.
pub(crate) async fn a_chain_that_is_down_when_the_secret_is_to_be_carried(world: &World) {
    let before = world.holdings().await;
    let pair = world.open("Carried late").await;
    world.alice_locks(&pair).await;
    world.bob_locks(&pair).await;
    // By the chain: the phases after it may pass before they are seen.
    let shown = async || world.shown(SECOND, &pair.reveal).await;
    until("the secret is shown", shown, Option::is_some).await;
    world.halt(FIRST, true);
    world.until_needs(&pair, AttentionKind::ChainSilent, FIRST).await;
    world.pass_to(SECOND, cutoff_of(&pair.carry) + 10).await;
    world.halt(FIRST, false);
    world.pass_to(FIRST, cutoff_of(&pair.carry) + 10).await;
    world.exchanged(&pair, before).await;
}
