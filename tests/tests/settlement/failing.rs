//! Settlements that cannot be carried out as they stand.

use alloy::primitives::U256;
use alloy::sol_types::SolCall as _;
use dalp_contracts::{bindings::AssetTokenCustody::breakHoldCall, roles::book_key};
use dalp_devstack::scenario::Wallet;
use dalp_proto::asset::AssetRole;
use dalp_proto::settlement::{LegState, SettlementEventKind, SettlementState, SettlementTerms};

use crate::support::{World, refusal, refused};

pub(crate) async fn a_party_that_loses_its_kyc_moves_nothing(world: &World) {
    let [alice, bob, carol, ..] = world.parties();
    let terms = world.delivery("Unverified").await;
    let before = world.holdings().await;
    let id = world.approved(&terms, &[alice, bob]).await;
    let locked = world.holdings().await;
    world.set_verified(bob, false).await;
    let preview = world.preview(&id).await;
    assert!(!preview.settles && !preview.legs[0].compliant && preview.legs[1].compliant, "{preview:?}");
    assert_eq!((preview.refusals.len(), preview.refusals[0].reason.as_str()), (1, "LEG_NOT_COMPLIANT"));
    let barred = refused(world.execute(carol, &id).await);
    assert_eq!((barred.reason.as_str(), barred.metadata["leg"].as_str()), ("LEG_NOT_COMPLIANT", "0"));
    assert_eq!(
        (&barred.metadata["module"], &barred.metadata["reason"]),
        (&preview.legs[0].module, &preview.legs[0].reason)
    );
    assert_eq!(world.holdings().await, locked, "nothing moved");
    assert_eq!(world.state(&id).await, SettlementState::Approved);

    // The last approval that would execute is refused the same way.
    let automatic = SettlementTerms { auto_execute: true, ..world.delivery("Automatic").await };
    let other = world.approved(&automatic, &[alice]).await;
    let left = allowance(world, bob, &other).await;
    let (failed, leaves) = match world.approve(bob, &other).await {
        // Many approvals at once may have left an allowance that suffices: then it is found at once, and nothing is given.
        Err(status) => (refusal(&status).reason, left),
        accepted => (world.failure(accepted).await, "0".to_owned()),
    };
    assert_eq!(failed, "LEG_NOT_COMPLIANT", "found when the approval is simulated, after its allowance");
    assert_eq!(world.state(&other).await, SettlementState::Active);
    assert_eq!(allowance(world, bob, &other).await, leaves, "the allowance went back with the approval");
    world.done(world.revoke(alice, &other).await).await;

    world.done(world.cancel(bob, &id).await).await;
    for party in [alice, bob] {
        world.done(world.reclaim(carol, party, &id).await).await;
    }
    assert_eq!(world.holdings().await, before, "everybody has everything back, KYC or not");
    world.set_verified(bob, true).await;
}

/// What the contract may take of what a party's only leg of a settlement needs.
async fn allowance(world: &World, party: &Wallet, id: &str) -> String {
    let locks = world.preview(id).await.locks;
    locks.into_iter().find(|lock| lock.sender == party.text).expect("a lock of the party").allowance
}

pub(crate) async fn a_broken_hold_breaches_the_settlement_for_everybody(world: &World) {
    let [alice, bob, carol, ..] = world.parties();
    let terms = world.delivery("Broken").await;
    let before = world.holdings().await;
    let id = world.approved(&terms, &[alice, bob]).await;
    let (custodian, contract) = (world.outsider().await, world.contract().await);
    world.offerings().grant(AssetRole::Custodian, &custodian.to_checksum(None)).await.expect("a custodian");
    let breaks = breakHoldCall {
        spender: contract,
        id: id.parse().expect("an identifier"),
        holder: alice.address,
        amount: U256::from(60),
        reason: book_key("COURT_ORDER"),
    };
    world.send(Some(world.bond.address), breaks.abi_encode().into()).await;

    let answer = world.indexed(&id).await;
    let status = answer.status.expect("it stands");
    assert_eq!(status.state(), SettlementState::Breached);
    let legs: Vec<_> = status.legs.iter().map(|leg| leg.state()).collect();
    assert_eq!(legs, [LegState::Breached, LegState::Locked]);
    let told = answer.events.last().expect("an event");
    assert_eq!((told.kind(), told.party.as_str()), (SettlementEventKind::HoldBroken, alice.text.as_str()));
    assert_eq!(told.reason, "COURT_ORDER");
    for party in [alice, bob] {
        assert!(world.listed(party, SettlementState::Breached).await.contains(&id), "visible to every party");
    }
    let preview = world.preview(&id).await;
    let against = &preview.refusals[0];
    assert_eq!((against.reason.as_str(), against.metadata["leg"].as_str()), ("LEG_BREACHED", "0"));
    assert_eq!(refused(world.execute(carol, &id).await).reason, "CALLED_CONTRACT_FAILED");

    // Without waiting for the cutoff.
    assert_eq!(world.done(world.reclaim(bob, bob, &id).await).await["breached"], true);
    world.done(world.reclaim(alice, alice, &id).await).await;
    assert_eq!(world.holdings().await, before, "what was not broken is free, what was broken never left");
    assert_eq!(world.state(&id).await, SettlementState::Breached);
    world.indexed(&id).await;
    assert!(world.listed(bob, SettlementState::Breached).await.contains(&id));
}
