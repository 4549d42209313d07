//! Terms until the activation, and after it.

use dalp_devstack::client::keyed;
use dalp_proto::distribution::{
    ActivateOfferingRequest, ConfigureOfferingRequest, ConfigureOfferingResponse, OfferingTerms, PauseOfferingRequest,
};
use dalp_proto::operation::Operation;
use dalp_tests::airdrops::key;
use tonic::Status;

use crate::support::{World, refusal};

async fn configure(world: &World, offering: &str, terms: &OfferingTerms) -> Result<ConfigureOfferingResponse, Status> {
    let request = ConfigureOfferingRequest {
        sender: world.issuer(),
        offering: offering.to_owned(),
        terms: Some(terms.clone()),
        allow_list: Vec::new(),
    };
    Ok(world.service().configure_offering(keyed(request, &key())).await?.into_inner())
}

async fn activate(world: &World, offering: &str) -> Result<Option<Operation>, Status> {
    let request = ActivateOfferingRequest { sender: world.issuer(), offering: offering.to_owned() };
    Ok(world.service().activate_offering(keyed(request, &key())).await?.into_inner().operation)
}

/// The sale that lost its place.
pub(crate) async fn a_sale_has_other_terms_until_it_is_activated(world: &World) -> String {
    let terms = OfferingTerms { minted: true, hard_cap: "50".to_owned(), ..world.terms().await };
    let first = world.offerings().create(&terms, &[]).await.expect("created");
    let larger = OfferingTerms { hard_cap: "70".to_owned(), ..terms.clone() };
    let configured = configure(world, &first, &larger).await.expect("accepted");
    world.offerings().completed(configured.operation).await.expect("configured");
    let second = configured.offering;
    assert_ne!(first, second, "terms stand in the code: other terms are another contract");
    let replaced = world.get(&first).await.offering.expect("known");
    assert_eq!(replaced.replaced_by, second);
    for refused in [configure(world, &first, &terms).await.map(drop), activate(world, &first).await.map(drop)] {
        let details = refusal(&refused.expect_err("its place is taken"));
        assert_eq!((details.reason.as_str(), &details.metadata["replaced_by"]), ("FAILED_PRECONDITION", &second));
    }

    let uncovered = activate(world, &second).await.expect("accepted");
    assert_eq!(world.failure(uncovered).await, "HARD_CAP_EXCEEDED", "it may not mint yet");
    let pause = PauseOfferingRequest { sender: world.issuer(), offering: second.clone() };
    let early = world.service().pause_offering(keyed(pause, &key())).await.expect("accepted").into_inner();
    assert_eq!(world.failure(early.operation).await, "SALE_NOT_ACTIVE");
    world.offerings().make_ready(&second, &larger).await.expect("ready");
    assert!(world.get(&second).await.progress.expect("it stands").covered);
    world.offerings().activate(&second).await.expect("activated");
    let details = refusal(&configure(world, &second, &terms).await.expect_err("its terms are final"));
    assert_eq!(details.reason, "SALE_NOT_ACTIVE");
    let again = activate(world, &second).await.expect("accepted");
    assert_eq!(world.failure(again).await, "SALE_NOT_ACTIVE");
    first
}
