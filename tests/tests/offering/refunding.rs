//! A sale that misses its soft cap.

use dalp_proto::distribution::{OfferingState, OfferingTerms};
use dalp_tests::load::START;

use crate::support::{World, refusal, terms_hash};

pub(crate) async fn a_sale_that_misses_its_soft_cap_refunds_every_buyer_in_two_currencies(world: &World) {
    let [alice, bob, carol] = world.holders();
    let terms =
        OfferingTerms { minted: true, soft_cap: "500".to_owned(), terms_hash: terms_hash(), ..world.terms().await };
    let held = async |wallet: &dalp_devstack::scenario::Wallet| {
        let euros = world.balance(world.euro.address, wallet.address).await;
        let dollars = world.balance(world.dollar.address, wallet.address).await;
        (euros, dollars, world.balance(world.load.token, wallet.address).await)
    };
    let before = [held(alice).await, held(bob).await];
    let sale = world.offerings().open(&terms, &[]).await.expect("open");
    world.pass_to(terms.starts_at).await;

    // Who is not registered and has nothing hears of both.
    let stranger = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let quote = world.quote(&sale, stranger, &world.euro, 10_500).await;
    let reasons: Vec<_> = quote.refusals.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["BUYER_NOT_ELIGIBLE", "INSUFFICIENT_FUNDS"]);
    assert_eq!(quote.refusals[0].metadata["reason"], "NOT_REGISTERED");
    assert_eq!(quote.tokens, "10", "what it would buy is told all the same");

    world.bought(world.purchase(&sale, alice, &world.euro, 100 * 1_050)).await;
    world.bought(world.purchase(&sale, alice, &world.dollar, 50 * 12_000_000)).await;
    world.bought(world.purchase(&sale, bob, &world.dollar, 60 * 12_000_000)).await;
    world.bought(world.purchase(&sale, bob, &world.euro, 7 * 1_050)).await;
    let early = world.refund(&sale, alice, "", "").await.expect_err("not decided");
    let details = refusal(&early);
    assert_eq!((details.reason.as_str(), details.metadata["status"].as_str()), ("REFUND_NOT_OPEN", "PUBLIC_SALE"));

    world.pass_to(terms.ends_at).await;
    let outcome = world.offerings().completed(world.finalize(&sale).await).await.expect("decided");
    assert_eq!((&outcome["succeeded"], &outcome["sold"]), (&false.into(), &"217".into()));
    assert_eq!(world.state(&sale).await, OfferingState::Refunding);
    let claim = world.claim(&sale, alice, "").await;
    assert_eq!(world.failure(claim).await, "SOFT_CAP_NOT_MET");
    let withdrawal = world.withdraw_proceeds(&sale, &world.euro).await;
    assert_eq!(world.failure(withdrawal).await, "SOFT_CAP_NOT_MET", "refundable money is out of the issuer's reach");

    // Anybody may send; the money goes to the buyer.
    let accepted = world.refund(&sale, carol, &alice.text, "").await.expect("accepted");
    let refunds = world.offerings().completed(accepted).await.expect("refunded");
    let amounts: Vec<_> = refunds["refunds"].as_array().expect("refunds").iter().map(|one| &one["amount"]).collect();
    assert_eq!(amounts, ["105000", "600000000"]);
    let again = world.refund(&sale, alice, "", "").await.expect_err("refunded before");
    assert_eq!(refusal(&again).reason, "NOTHING_DUE");
    let foreign = world.refund(&sale, bob, "", stranger).await.expect_err("no currency of the sale");
    assert_eq!(refusal(&foreign).reason, "CURRENCY_UNSUPPORTED");
    for currency in [&world.dollar.text, &world.euro.text] {
        let accepted = world.refund(&sale, bob, "", currency).await.expect("accepted");
        world.offerings().completed(accepted).await.expect("refunded");
    }
    assert_eq!(before, [held(alice).await, held(bob).await], "to the unit, and no bond moved");
    assert!(before[0].2 >= START);

    let answer = world.indexed(&sale).await;
    assert_eq!(answer.status.expect("it stands").state(), OfferingState::Closed);
    for currency in &answer.progress.expect("it stands").currencies {
        assert_eq!((&currency.raised, currency.withdrawn.as_str()), (&currency.refunded, "0"));
    }
    for buyer in world.buyers(&sale).await {
        assert!(buyer.payments.len() == 2 && buyer.payments.iter().all(|one| one.paid == one.refunded), "{buyer:?}");
    }
    let closed = world.refund(&sale, bob, "", "").await.expect_err("nothing is left");
    assert_eq!(refusal(&closed).reason, "NOTHING_DUE");
}
