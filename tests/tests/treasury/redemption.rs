//! Redemption at maturity.

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{
    EntitlementOutcome, MatureRequest, PayoutKind, RedeemRequest, RunState, prepare_run_request::Payout,
};
use dalp_tests::airdrops::key;
use dalp_tests::load::START;

use crate::coupons::Bond;
use crate::support::{Accepted, World, refusal};

/// 0.1 euros for each bond.
const PRICE: u64 = 10;

async fn mature(world: &World, bond: &Bond) -> Accepted {
    let request = MatureRequest { sender: world.issuer(), treasury: bond.treasury.clone() };
    world.service().mature(keyed(request, &key())).await.map(|answer| answer.into_inner().operation)
}

async fn redeem(world: &World, bond: &Bond, holder: &str, amount: u64) -> Accepted {
    let request =
        RedeemRequest { sender: holder.to_owned(), treasury: bond.treasury.clone(), amount: amount.to_string() };
    world.service().redeem(keyed(request, &key())).await.map(|answer| answer.into_inner().operation)
}

pub(crate) async fn the_bond_is_redeemed_at_maturity(world: &World, bond: &Bond) {
    let [alice, bob, carol] = world.holders();
    // From maturity on nothing moves.
    let moved = world.transfer(alice, bob, 1).await.expect("accepted");
    assert_eq!(world.failure(moved).await, "COMPLIANCE_REFUSED");
    let early = refusal(&redeem(world, bond, &alice.text, 1).await.expect_err("not open"));
    assert_eq!(early.reason, "NOT_MATURED");
    let short = refusal(&mature(world, bond).await.expect_err("not funded"));
    assert_eq!(short.reason, "TREASURY_UNDERFUNDED");
    world.treasuries().fund(&bond.treasury, 5 * START * PRICE).await.expect("funded");

    let prepared = world.prepared(&bond.treasury, Payout::Redemption(Default::default())).await;
    assert_eq!(prepared.kind(), PayoutKind::Redemption);
    let closed = refusal(&world.treasuries().start(&prepared).await.expect_err("governance has not opened it"));
    assert_eq!((closed.reason.as_str(), &closed.metadata["maturity"]), ("NOT_MATURED", &bond.maturity.to_string()));
    world.completed(mature(world, bond).await.expect("accepted")).await;
    assert_eq!(refusal(&mature(world, bond).await.expect_err("once")).reason, "ALREADY_EXISTS");

    // Alice redeems some herself; of bob's bonds five are frozen; dora's are all held.
    let before = (world.euros(alice.address).await, world.euros(bob.address).await, world.euros(carol.address).await);
    let much = refusal(&redeem(world, bond, &alice.text, START + 1).await.expect_err("more than she has"));
    assert_eq!(much.reason, "UNFROZEN_BALANCE_INSUFFICIENT");
    let redeemed = world.completed(redeem(world, bond, &alice.text, 100).await.expect("accepted")).await;
    assert_eq!(redeemed["amount"], (100 * PRICE).to_string());
    world.freeze(bob, 5).await;
    let done = world.paid(&prepared).await;
    let progress = done.progress.expect("progress");
    assert_eq!((progress.state(), progress.skipped), (RunState::Done, 2));
    let skipped = world.entitlements(&prepared, EntitlementOutcome::Skipped).await;
    assert!(skipped.iter().all(|one| one.reason == "NOT_FREE"), "{skipped:?}");
    assert_eq!(world.bonds(alice.address).await, 0);
    assert_eq!(world.euros(alice.address).await, before.0 + START * PRICE, "her own redemption and the rest");
    assert_eq!((world.bonds(bob.address).await, world.euros(bob.address).await), (5, before.1 + (START - 5) * PRICE));
    assert_eq!(world.euros(carol.address).await, before.2 + START * PRICE);
    let sums = world.evidence(&prepared).await.reconciliation.expect("sums");
    assert_eq!((sums.unpaid.as_str(), sums.difference.as_str()), (&*((START + 5) * PRICE).to_string(), "0"));

    // What is free later is redeemed by the next pass.
    world.unfreeze(bob, 5).await;
    let done = world.paid(&prepared).await;
    assert_eq!(done.progress.expect("progress").skipped, 1, "dora's are still held");
    assert_eq!((world.bonds(bob.address).await, world.euros(bob.address).await), (0, before.1 + START * PRICE));
    let sums = world.evidence(&prepared).await.reconciliation.expect("sums");
    assert_eq!((sums.deviating, sums.difference.as_str()), (0, "0"));
    let coverage = world.get(&bond.treasury).await.coverage.expect("coverage");
    assert_eq!(coverage.owed, (START * PRICE).to_string(), "what dora is owed");
}
