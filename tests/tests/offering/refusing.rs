//! Terms that are refused before anything is started.

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{CreateOfferingRequest, ListOfferingsRequest, OfferingTerms, Presale};
use dalp_tests::airdrops::key;

use crate::support::{World, refusal};

async fn sales(world: &World) -> usize {
    let asked = ListOfferingsRequest::default();
    world.service().list_offerings(asked).await.expect("a page").into_inner().offerings.len()
}

/// `contract` is one that is no currency.
pub(crate) async fn terms_that_nobody_could_keep_start_nothing(world: &World, contract: &str) {
    let [alice, ..] = world.holders();
    let before = sales(world).await;
    let sound = world.terms().await;
    let refused = async |sender: String, terms: OfferingTerms, allow_list: Vec<String>| {
        let request = CreateOfferingRequest { sender, terms: Some(terms), allow_list };
        refusal(&world.service().create_offering(keyed(request, &key())).await.expect_err("refused"))
    };
    let with = async |change: &dyn Fn(&mut OfferingTerms)| {
        let mut terms = sound.clone();
        change(&mut terms);
        let details = refused(world.issuer(), terms, Vec::new()).await;
        let path = details.violations.first().map(|(path, _)| path.clone()).unwrap_or_default();
        format!("{} {path}", details.reason)
    };
    let wallet = alice.text.clone();
    for without_decimals in [wallet.as_str(), contract] {
        let told = with(&|terms| without_decimals.clone_into(&mut terms.currencies[1].currency)).await;
        assert_eq!(told, "CURRENCY_UNSUPPORTED terms.currencies[1].currency");
    }
    assert_eq!(with(&|terms| terms.currencies[0].price = "0".into()).await, "INVALID_FIELD terms.currencies[0].price");
    // Less than the contract can count is not rounded.
    let told = with(&|terms| terms.currencies[0].price = format!("0.{}1", "0".repeat(20))).await;
    assert_eq!(told, "INVALID_FIELD terms.currencies[0].price");
    let past = with(&|terms| (terms.starts_at, terms.ends_at) = (1_000, 2_000)).await;
    assert_eq!(past, "INVALID_FIELD terms.ends_at");
    assert_eq!(with(&|terms| terms.soft_cap = "1001".into()).await, "INVALID_FIELD terms.soft_cap");
    assert_eq!(with(&|terms| terms.asset.clone_from(&wallet)).await, "NOT_FOUND ");
    let by_nobody = refused(alice.text.clone(), sound.clone(), Vec::new()).await;
    assert_eq!(by_nobody.reason, "ASSET_ROLE_MISSING");
    let presale = Some(Presale { ends_at: sound.ends_at, discount_bps: 100 });
    let mut mistyped = alice.text.to_lowercase();
    mistyped.replace_range(2..3, "A");
    let listed = OfferingTerms { presale, ..sound.clone() };
    let bad_list = refused(world.issuer(), listed, vec![alice.text.clone(), mistyped, alice.text.clone()]).await;
    assert_eq!(bad_list.reason, "INVALID_FIELD");
    let paths: Vec<_> = bad_list.violations.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths.last(), Some(&"allow_list[2]"), "{paths:?}");
    assert_eq!(sales(world).await, before, "nothing was started");
}
