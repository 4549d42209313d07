//! Sales that deliver: at once, and over time.

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{
    BuyRequest, GetAllowListProofRequest, Lockup, OfferingState, OfferingTerms, PauseOfferingRequest, Presale,
    ResumeOfferingRequest,
};
use dalp_tests::airdrops::key;
use dalp_tests::load::START;

use crate::support::{CASH, World, refusal, terms_hash};

pub(crate) async fn a_sale_without_conditions_delivers_at_once_and_ends_when_it_is_sold_out(world: &World) {
    let [alice, bob, _] = world.holders();
    let terms =
        OfferingTerms { minted: true, hard_cap: "100".to_owned(), terms_hash: terms_hash(), ..world.terms().await };
    let sale = world.offerings().open(&terms, &[]).await.expect("open");
    world.pass_to(terms.starts_at).await;
    // Of 425 euros 420 are taken: the rest buys no whole bond.
    let bought = world.bought(world.purchase(&sale, alice, &world.euro, 42_500)).await;
    assert_eq!(bought, ("40".to_owned(), "42000".to_owned()));
    assert_eq!(world.balance(world.load.token, alice.address).await, START + 40, "delivered with the purchase");
    assert_eq!(world.balance(world.euro.address, alice.address).await, CASH - 42_000);
    // Two at once share the allowance of one wallet: both come about.
    let one = world.bought(world.purchase(&sale, bob, &world.dollar, 30 * 12_000_000));
    let other = world.bought(world.purchase(&sale, bob, &world.dollar, 30 * 12_000_000));
    let (one, other) = tokio::join!(one, other);
    assert_eq!((one.0.as_str(), other.0.as_str()), ("30", "30"));
    assert_eq!(world.balance(world.load.token, bob.address).await, START + 60);

    assert_eq!(world.state(&sale).await, OfferingState::Ended, "sold out, long before its end");
    let late = world.not_bought(world.purchase(&sale, bob, &world.euro, 1_050)).await;
    assert_eq!((late.reason.as_str(), late.metadata["left"].as_str()), ("HARD_CAP_EXCEEDED", "0"));
    let outcome = world.offerings().completed(world.finalize(&sale).await).await.expect("decided");
    assert_eq!((&outcome["succeeded"], &outcome["sold"]), (&true.into(), &"100".into()));
    assert_eq!(world.state(&sale).await, OfferingState::Succeeded, "the proceeds are owed");
    assert_eq!(world.amount(world.withdraw_proceeds(&sale, &world.euro).await).await, 42_000);
    assert_eq!(world.amount(world.withdraw_proceeds(&sale, &world.dollar).await).await, 60 * 12_000_000);
    assert_eq!(world.state(&sale).await, OfferingState::Closed);
}

pub(crate) async fn a_sale_that_reaches_its_soft_cap_releases_over_time(world: &World) {
    let [alice, bob, carol] = world.holders();
    let base = world.terms().await;
    let presale = Presale { ends_at: base.starts_at + 20_000, discount_bps: 1_000 };
    let lockup = Lockup { starts_at: base.ends_at, cliff_s: 1_000, duration_s: 100_000 };
    let terms = OfferingTerms {
        soft_cap: "300".to_owned(),
        minimum: "10".to_owned(),
        maximum: "600".to_owned(),
        terms_hash: terms_hash(),
        presale: Some(presale),
        lockup: Some(lockup),
        ..base
    };
    let sale = world.offerings().open(&terms, std::slice::from_ref(&alice.text)).await.expect("open");
    let status = world.indexed(&sale).await.status.expect("it stands");
    assert_eq!((status.state(), status.activated), (OfferingState::Setup, true));
    assert_eq!((status.next_state(), status.next_at), (OfferingState::Presale, terms.starts_at));
    let early = world.not_bought(world.purchase(&sale, alice, &world.euro, 100_000)).await;
    assert_eq!((early.reason.as_str(), &early.metadata["start"]), ("SALE_NOT_STARTED", &terms.starts_at.to_string()));

    world.pass_to(terms.starts_at).await;
    presold(world, &sale).await;
    world.pass_to(presale.ends_at).await;
    public(world, &sale).await;

    let open = world.finalize(&sale).await;
    assert_eq!(world.failure(open).await, "SALE_NOT_ENDED");
    let undecided = world.claim(&sale, alice, "").await;
    assert_eq!(world.failure(undecided).await, "SALE_NOT_ENDED");
    world.pass_to(terms.ends_at).await;
    assert_eq!(world.state(&sale).await, OfferingState::Ended);
    let late = world.not_bought(world.purchase(&sale, alice, &world.euro, 100_000)).await;
    assert_eq!(late.reason, "SALE_ENDED");
    let outcome = world.offerings().completed(world.finalize(&sale).await).await.expect("decided");
    assert_eq!((&outcome["succeeded"], &outcome["sold"]), (&true.into(), &"970".into()));
    assert_eq!(world.state(&sale).await, OfferingState::Succeeded);
    let closed = world.refund(&sale, alice, "", "").await.expect_err("success and refunds exclude each other");
    assert_eq!(refusal(&closed).reason, "REFUND_NOT_OPEN");

    // Locked up: nothing before the cliff, then by the second, whoever sends.
    let before = world.balance(world.load.token, alice.address).await;
    let locked = world.claim(&sale, alice, "").await;
    assert_eq!(world.failure(locked).await, "NOTHING_DUE");
    world.pass_to(lockup.starts_at + 50_000).await;
    let half = world.amount(world.claim(&sale, carol, &alice.text).await).await;
    assert!((50..=52).contains(&half), "half of 100: {half}");
    world.pass_to(lockup.starts_at + 100_000).await;
    assert_eq!(world.amount(world.claim(&sale, alice, "").await).await, 100 - half);
    assert_eq!(world.balance(world.load.token, alice.address).await, before + 100);
    assert_eq!(world.amount(world.claim(&sale, bob, "").await).await, 270);
    assert_eq!(world.amount(world.claim(&sale, carol, "").await).await, 600);

    // To the unit: what came in goes out, and what nobody bought goes back.
    assert_eq!(world.amount(world.withdraw_unsold(&sale).await).await, 30);
    let (euros, dollars) = (100 * 945 + 120 * 1_050, (150 + 600) * 12_000_000);
    assert_eq!(world.amount(world.withdraw_proceeds(&sale, &world.euro).await).await, euros);
    assert_eq!(world.amount(world.withdraw_proceeds(&sale, &world.dollar).await).await, dollars);
    let answer = world.indexed(&sale).await;
    assert_eq!(answer.status.expect("it stands").state(), OfferingState::Closed);
    let progress = answer.progress.expect("it stands");
    assert_eq!((progress.buyers, progress.delivered.as_str(), progress.balance.as_str()), (3, "970", "0"));
    for (currency, raised) in progress.currencies.iter().zip([euros, dollars]) {
        let raised = raised.to_string();
        assert_eq!((&currency.raised, &currency.withdrawn), (&raised, &raised));
    }
}

/// Listed buyers buy, a tenth off.
async fn presold(world: &World, sale: &str) {
    let [alice, bob, _] = world.holders();
    assert_eq!(world.state(sale).await, OfferingState::Presale);
    let unlisted = world.quote(sale, &bob.text, &world.euro, 95_000).await;
    let reasons: Vec<_> = unlisted.refusals.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!((unlisted.may_buy, reasons.as_slice()), (false, &["BUYER_NOT_ELIGIBLE"][..]));
    assert_eq!(unlisted.refusals[0].metadata["reason"], "NOT_ON_ALLOW_LIST");
    let listed = GetAllowListProofRequest { offering: sale.to_owned(), account: alice.text.clone() };
    let proof = world.service().get_allow_list_proof(listed).await.expect("listed").into_inner();
    assert_eq!(proof.root, world.get(sale).await.offering.expect("known").allow_list_root);

    let quote = world.quote(sale, &alice.text, &world.euro, 95_000).await;
    assert!(quote.may_buy, "{quote:?}");
    assert_eq!((quote.price.as_str(), quote.tokens.as_str(), quote.cost.as_str()), ("9.45", "100", "94500"));
    let purchase = world.purchase(sale, alice, &world.euro, 95_000);
    let silent = world.not_bought(BuyRequest { terms_hash: String::new(), ..purchase.clone() }).await;
    assert_eq!((silent.reason.as_str(), &silent.metadata["termsHash"]), ("TERMS_NOT_ACKNOWLEDGED", &terms_hash()));
    let small = world.not_bought(world.purchase(sale, alice, &world.euro, 9 * 945)).await;
    assert_eq!((small.reason.as_str(), small.metadata["asked"].as_str()), ("PURCHASE_BELOW_MINIMUM", "9"));
    let large = world.not_bought(world.purchase(sale, alice, &world.euro, 601 * 945)).await;
    assert_eq!((large.reason.as_str(), large.metadata["maximum"].as_str()), ("ALLOCATION_EXCEEDED", "600"));
    let dear = world.not_bought(BuyRequest { minimum_tokens: "101".to_owned(), ..purchase.clone() }).await;
    assert_eq!(dear.reason, "PRICE_MOVED");

    // A repeat with its key is the same purchase.
    let repeated = key();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = world.service().buy(keyed(purchase.clone(), &repeated)).await.expect("accepted").into_inner();
        ids.push(answer.operation.as_ref().expect("an operation").operation_id.clone());
        let result = world.offerings().completed(answer.operation).await.expect("bought");
        assert_eq!((&result["tokens"], &result["cost"]), (&"100".into(), &"94500".into()));
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(world.get(sale).await.progress.expect("it stands").sold, "100");
}

/// Everybody who is eligible buys, but not while it is paused.
async fn public(world: &World, sale: &str) {
    let [alice, bob, carol] = world.holders();
    assert_eq!(world.state(sale).await, OfferingState::PublicSale);
    let pause = PauseOfferingRequest { sender: world.issuer(), offering: sale.to_owned() };
    let paused = world.service().pause_offering(keyed(pause, &key())).await.expect("accepted").into_inner();
    world.offerings().completed(paused.operation).await.expect("paused");
    let held = world.not_bought(world.purchase(sale, bob, &world.euro, 60 * 1_050)).await;
    assert_eq!((held.reason.as_str(), held.metadata["status"].as_str()), ("SALE_NOT_ACTIVE", "PAUSED"));
    let status = world.indexed(sale).await.status.expect("it stands");
    assert_eq!((status.state(), status.next_state()), (OfferingState::Paused, OfferingState::Ended));
    let resume = ResumeOfferingRequest { sender: world.issuer(), offering: sale.to_owned() };
    let resumed = world.service().resume_offering(keyed(resume, &key())).await.expect("accepted").into_inner();
    world.offerings().completed(resumed.operation).await.expect("resumed");

    world.bought(world.purchase(sale, bob, &world.euro, 120 * 1_050)).await;
    world.bought(world.purchase(sale, bob, &world.dollar, 150 * 12_000_000)).await;
    world.bought(world.purchase(sale, carol, &world.dollar, 600 * 12_000_000)).await;
    let short = world.not_bought(world.purchase(sale, alice, &world.euro, 31 * 1_050)).await;
    assert_eq!((short.reason.as_str(), short.metadata["left"].as_str()), ("HARD_CAP_EXCEEDED", "30"));

    let progress = world.indexed(sale).await.progress.expect("it stands");
    assert_eq!((progress.sold.as_str(), progress.owed.as_str(), progress.buyers), ("970", "970", 3));
    let mut buyers = world.buyers(sale).await;
    assert!(buyers.is_sorted_by_key(|buyer| buyer.buyer.to_lowercase()), "over two pages: {buyers:?}");
    buyers.retain(|buyer| buyer.buyer == bob.text);
    assert_eq!((buyers[0].bought.as_str(), buyers[0].purchases, buyers[0].payments.len()), ("270", 2, 2));
}
