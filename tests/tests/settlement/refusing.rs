//! Terms and calls that are refused before anything is started.

use dalp_proto::settlement::{HashKind, HashLock, ListSettlementsRequest, SettlementTerms};

use crate::support::{FAR, World, refusal, refused};

async fn count(world: &World) -> usize {
    let asked = ListSettlementsRequest::default();
    world.service().list_settlements(asked).await.expect("a page").into_inner().settlements.len()
}

pub(crate) async fn terms_that_make_no_sense_start_nothing(world: &World) {
    let [alice, bob, ..] = world.parties();
    let before = count(world).await;
    let sound = world.delivery("Unsound").await;
    let with = async |change: &dyn Fn(&mut SettlementTerms)| {
        let mut terms = sound.clone();
        change(&mut terms);
        let details = refusal(&world.try_create(&terms).await.expect_err("refused"));
        let paths: Vec<_> = details.violations.iter().map(|(path, _)| path.as_str()).collect();
        format!("{} {}", details.reason, paths.join(" "))
    };
    let lock = || HashLock { kind: HashKind::Sha256.into(), hash: format!("0x{}", "11".repeat(32)) };
    let now_s = world.now_s().await;
    assert_eq!(with(&|terms| terms.cutoff = now_s).await, "INVALID_FIELD terms.cutoff");
    assert_eq!(with(&|terms| terms.legs.clear()).await, "INVALID_FIELD terms.legs");
    assert_eq!(with(&|terms| terms.legs[0].amount = "0".into()).await, "INVALID_FIELD terms.legs[0].amount");
    assert_eq!(with(&|terms| terms.legs[1].to.clone_from(&bob.text)).await, "INVALID_FIELD terms.legs[1].to");
    let many = |terms: &mut SettlementTerms| terms.legs = vec![terms.legs[0].clone(); 21];
    assert_eq!(with(&many).await, "INVALID_FIELD terms.legs");
    assert_eq!(with(&|terms| terms.hash_lock = Some(lock())).await, "INVALID_FIELD terms.hash_lock");
    assert_eq!(with(&|terms| terms.legs[0].chain_id = FAR).await, "INVALID_FIELD terms.hash_lock");
    let nowhere = |terms: &mut SettlementTerms| {
        terms.legs.iter_mut().for_each(|leg| leg.chain_id = FAR);
        terms.hash_lock = Some(lock());
    };
    assert_eq!(with(&nowhere).await, "INVALID_FIELD terms.legs", "nothing to settle here");
    let mut mistyped = alice.text.to_lowercase();
    mistyped.replace_range(2..3, "A");
    assert_eq!(with(&|terms| terms.legs[0].from.clone_from(&mistyped)).await, "INVALID_FIELD terms.legs[0].from");
    assert_eq!(with(&|terms| terms.legs[1].asset.clone_from(&bob.text)).await, "INVALID_FIELD terms.legs[1].asset");
    assert_eq!(count(world).await, before, "nothing was started");

    let unknown = format!("0x{}", "22".repeat(32));
    assert_eq!(refused(world.approve(alice, &unknown).await).reason, "NOT_FOUND");
    assert_eq!(refused(world.execute(alice, "0x12").await).violations[0].0, "settlement_id");
    // More than there is: refused before an allowance is given for it.
    let dear = SettlementTerms { legs: vec![World::leg(&world.coin, alice, bob, u64::MAX)], ..sound };
    let id = world.create(&dear).await;
    assert_eq!(world.preview(&id).await.refusals[0].reason, "INSUFFICIENT_FUNDS");
    let poor = refused(world.approve(alice, &id).await);
    assert_eq!((poor.reason.as_str(), &poor.metadata["asset"]), ("INSUFFICIENT_FUNDS", &world.coin.text));
}
