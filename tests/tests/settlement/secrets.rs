//! Settlements with a leg on another chain, seen from this one.

use alloy::primitives::{B256, keccak256};
use dalp_devstack::client::keyed;
use dalp_proto::settlement::{
    DeliverRequest, HashKind, HashLock, LegState, RevealRequest, SettlementEventKind, SettlementLeg, SettlementState,
    SettlementTerms,
};
use dalp_tests::airdrops::key;

use crate::support::{Accepted, FAR, World, operation, refused};

const SECRET: B256 = B256::repeat_byte(0x5e);

/// The delivery, with something that the second party gives elsewhere.
async fn crossed(world: &World, name: &str) -> SettlementTerms {
    let [alice, bob, ..] = world.parties();
    let mut terms = world.delivery(name).await;
    terms.legs.push(SettlementLeg { chain_id: FAR, ..World::leg(&world.euro, bob, alice, 7) });
    let hash = keccak256(SECRET).to_string();
    terms.hash_lock = Some(HashLock { kind: HashKind::Keccak256.into(), hash });
    terms
}

async fn reveal(world: &World, id: &str, secret: B256) -> Accepted {
    let sender = world.load.issuer.text.clone();
    let request = RevealRequest { sender, settlement_id: id.to_owned(), secret: secret.to_string() };
    operation!(world.service().reveal(keyed(request, &key())))
}

async fn deliver(world: &World, id: &str, leg: u32) -> Accepted {
    let sender = world.load.issuer.text.clone();
    let request = DeliverRequest { sender, settlement_id: id.to_owned(), leg };
    operation!(world.service().deliver(keyed(request, &key())))
}

pub(crate) async fn an_armed_settlement_is_cancelled_by_all_or_not_at_all(world: &World) {
    let [alice, bob, carol, ..] = world.parties();
    let before = world.holdings().await;
    let id = world.approved(&crossed(world, "Armed").await, &[alice, bob]).await;
    let status = world.get(&id).await.status.expect("it stands");
    assert_eq!((status.state(), status.armed), (SettlementState::Approved, true));
    assert_eq!(status.legs[2].state(), LegState::External);
    let barred = refused(world.revoke(alice, &id).await);
    assert_eq!(
        (barred.reason.as_str(), barred.metadata["contract_error"].as_str()),
        ("FAILED_PRECONDITION", "WrongStatus")
    );
    let alone = refused(world.cancel(alice, &id).await);
    assert_eq!((alone.reason.as_str(), alone.metadata["armed"].as_str()), ("CANCEL_NOT_ALLOWED", "true"));
    assert_eq!(refused(world.execute(alice, &id).await).reason, "SECRET_REQUIRED");

    assert_eq!(world.done(world.vote_cancel(alice, &id).await).await["cancelled"], false);
    assert_eq!(refused(world.vote_cancel(alice, &id).await).reason, "ALREADY_APPROVED");
    assert_eq!(refused(world.vote_cancel(carol, &id).await).reason, "NOT_A_LOCAL_SENDER");
    world.done(world.withdraw_vote(alice, &id).await).await;
    assert_eq!(refused(world.withdraw_vote(alice, &id).await).reason, "NOT_APPROVED");
    assert_eq!(
        world.done(world.vote_cancel(bob, &id).await).await["cancelled"],
        false,
        "a withdrawn vote does not count"
    );
    let votes: Vec<_> = world.get(&id).await.status.expect("it stands").parties.iter().map(|one| one.voted).collect();
    assert_eq!(votes, [false, true]);
    assert_eq!(world.done(world.vote_cancel(alice, &id).await).await["cancelled"], true);
    assert_eq!(world.state(&id).await, SettlementState::Cancelled);
    assert_eq!(
        refused(reveal(world, &id, SECRET).await).reason,
        "FAILED_PRECONDITION",
        "the secret is worth nothing now"
    );
    for party in [alice, bob] {
        world.done(world.reclaim(party, party, &id).await).await;
    }
    assert_eq!(world.holdings().await, before);
}

pub(crate) async fn a_committed_leg_is_owed_until_it_can_move(world: &World) {
    let [alice, bob, ..] = world.parties();
    let terms = crossed(world, "Committed").await;
    let before = world.holdings().await;
    let id = world.approved(&terms, &[alice]).await;
    assert_eq!(refused(reveal(world, &id, SECRET).await).reason, "NOT_APPROVED", "a lock is missing");
    world.done(world.approve(bob, &id).await).await;
    assert_eq!(refused(reveal(world, &id, B256::ZERO).await).reason, "SECRET_MISMATCH");
    assert_eq!(refused(deliver(world, &id, 0).await).reason, "FAILED_PRECONDITION", "the secret is not out");
    world.set_verified(bob, false).await;
    let shown = world.done(reveal(world, &id, SECRET).await).await;
    assert_eq!(shown["executed"], false);
    assert_eq!((&shown["delivered"], &shown["deliverable"]), (&[1].as_slice().into(), &[0].as_slice().into()));
    let answer = world.indexed(&id).await;
    assert!(!format!("{answer:?}").contains(&"5e".repeat(32)), "the secret is not told again");
    let status = answer.status.expect("it stands");
    assert_eq!((status.state(), status.armed), (SettlementState::PartlyDelivered, false));
    let legs: Vec<_> = status.legs.iter().map(|leg| leg.state()).collect();
    assert_eq!(legs, [LegState::Deliverable, LegState::Delivered, LegState::External]);
    let owed = answer.events.iter().find(|event| event.kind() == SettlementEventKind::LegDeliverable).expect("told");
    assert_eq!(owed.leg, Some(0));
    assert!(owed.reason.starts_with("ComplianceRefused("), "{owed:?}");

    // Never taken back once the secret is out, also after the cutoff.
    assert_eq!(refused(world.vote_cancel(alice, &id).await).reason, "CANCEL_NOT_ALLOWED");
    assert_eq!(refused(world.reclaim(alice, alice, &id).await).reason, "FAILED_PRECONDITION");
    let barred = refused(deliver(world, &id, 0).await);
    assert_eq!((barred.reason.as_str(), barred.metadata["leg"].as_str()), ("LEG_NOT_COMPLIANT", "0"));
    assert_eq!(refused(deliver(world, &id, 1).await).reason, "ALREADY_EXISTS");
    world.set_verified(bob, true).await;
    assert_eq!(world.done(deliver(world, &id, 0).await).await["executed"], true);
    assert_eq!(world.state(&id).await, SettlementState::Executed);
    assert_eq!(world.holdings().await, World::moved(before, &terms));
}
