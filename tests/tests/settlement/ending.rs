//! Settlements that end without moving anything: everybody has everything back.

use dalp_proto::settlement::{LegState, SettlementState};

use crate::support::{World, refused};

pub(crate) async fn who_revokes_has_everything_back(world: &World) {
    let [alice, bob, carol, ..] = world.parties();
    let terms = world.delivery("Revoked").await;
    let before = world.holdings().await;
    let id = world.approved(&terms, &[alice, bob]).await;
    assert_eq!(world.state(&id).await, SettlementState::Approved);
    assert_eq!(refused(world.revoke(carol, &id).await).reason, "NOT_A_LOCAL_SENDER");
    world.done(world.revoke(bob, &id).await).await;
    assert_eq!(world.holdings().await, before);
    let status = world.get(&id).await.status.expect("it stands");
    assert_eq!(status.state(), SettlementState::Active);
    let legs: Vec<_> = status.legs.iter().map(|leg| leg.state()).collect();
    assert_eq!(legs, [LegState::Locked, LegState::Open]);
    assert_eq!(refused(world.revoke(bob, &id).await).reason, "NOT_APPROVED");
    assert_eq!(refused(world.execute(bob, &id).await).reason, "NOT_APPROVED");
    // Approving again is possible, and settles.
    world.done(world.approve(bob, &id).await).await;
    world.done(world.execute(bob, &id).await).await;
    assert_eq!(world.holdings().await, World::moved(before, &terms));
}

pub(crate) async fn a_party_cancels_and_everybody_is_free(world: &World) {
    let [alice, bob, carol, ..] = world.parties();
    let terms = world.delivery("Cancelled").await;
    let before = world.holdings().await;
    let id = world.approved(&terms, &[alice, bob]).await;
    assert_eq!(refused(world.cancel(carol, &id).await).reason, "NOT_A_LOCAL_SENDER");
    assert_eq!(world.done(world.cancel(alice, &id).await).await["cancelled"], true);
    assert_eq!(world.state(&id).await, SettlementState::Cancelled);
    assert_eq!(refused(world.cancel(bob, &id).await).reason, "CANCEL_NOT_ALLOWED");
    assert_eq!(refused(world.approve(alice, &id).await).reason, "ALREADY_APPROVED");
    for party in [alice, bob] {
        let back = world.done(world.reclaim(carol, party, &id).await).await;
        assert_eq!(back["breached"], false);
    }
    assert_eq!(world.holdings().await, before);
    assert_eq!(refused(world.reclaim(alice, alice, &id).await).reason, "NOT_APPROVED", "nothing is locked any more");
    let preview = world.preview(&id).await;
    assert_eq!((preview.settles, preview.refusals[0].reason.as_str()), (false, "FAILED_PRECONDITION"));
    world.indexed(&id).await;
    assert!(world.listed(bob, SettlementState::Cancelled).await.contains(&id));
}

pub(crate) async fn what_expired_goes_back_in_two_steps(world: &World) {
    let [alice, bob, carol, ..] = world.parties();
    let terms = world.delivery("Expired").await;
    let before = world.holdings().await;
    let id = world.approved(&terms, &[bob]).await;
    assert_ne!(world.holdings().await, before, "in escrow");
    assert_eq!(refused(world.start_reclaim(carol, &id).await).reason, "CUTOFF_NOT_REACHED");
    assert_eq!(refused(world.reclaim(carol, bob, &id).await).reason, "CUTOFF_NOT_REACHED");

    world.pass_to(terms.cutoff).await;
    assert_eq!(world.state(&id).await, SettlementState::Expired);
    assert!(world.listed(alice, SettlementState::Expired).await.contains(&id), "time alone makes it so");
    let late = refused(world.approve(alice, &id).await);
    assert_eq!((late.reason.as_str(), &late.metadata["cutoff"]), ("CUTOFF_PASSED", &terms.cutoff.to_string()));
    assert_eq!(world.preview(&id).await.refusals[0].reason, "CUTOFF_PASSED");
    assert_eq!(refused(world.reclaim(carol, bob, &id).await).reason, "RECLAIM_NOT_OPEN");
    let started = world.done(world.start_reclaim(carol, &id).await).await;
    let from_block = started["reclaim_from_block"].as_u64().expect("a block");
    assert_eq!(refused(world.start_reclaim(carol, &id).await).reason, "ALREADY_EXISTS");
    let status = world.get(&id).await.status.expect("it stands");
    assert_eq!((status.reclaim_from_block, status.reclaim_delay_blocks), (from_block, 60));
    let early = refused(world.reclaim(carol, bob, &id).await);
    assert_eq!((early.reason.as_str(), &early.metadata["fromBlock"]), ("RECLAIM_NOT_OPEN", &from_block.to_string()));

    world.mine(61).await;
    assert_eq!(refused(world.reclaim(carol, alice, &id).await).reason, "NOT_APPROVED", "she locked nothing");
    world.done(world.reclaim(carol, bob, &id).await).await;
    assert_eq!(world.holdings().await, before);
    assert_eq!(world.state(&id).await, SettlementState::Withdrawn);
    world.indexed(&id).await;
    assert!(world.listed(bob, SettlementState::Withdrawn).await.contains(&id));
}
