//! Documents that a flow has signed: what a refusal means is the flow's, and what the signer holds back can be called up.

use crate::support::{Bench, TENANT, documents::Answer};
use dalp_engine::{OperationState, flow::Failure};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_decides_what_a_refused_signature_means() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    // Two refusals, each answered by another document of the flow's.
    bench.signer.answer_documents([Answer::Denied, Answer::Refused, Answer::Sign]);
    let done = bench.wait(&engine, bench.attest(&engine, "patient", 3).await).await;
    assert_eq!(done.state, OperationState::Completed, "{done:?}");
    assert_eq!(done.result.as_ref().and_then(|result| result["refused"].as_array()).map(Vec::len), Some(2), "{done:?}");
    assert_eq!(bench.signer.documents(), ["attest/0", "attest/1", "attest/2"]);
    // The flow gives up by itself, with a refusal of its own words.
    bench.signer.answer_documents([Answer::Denied, Answer::Denied]);
    let failed = bench.wait(&engine, bench.attest(&engine, "weary", 2).await).await;
    assert_eq!(failed.state, OperationState::Failed);
    assert_eq!(failed.error.as_ref().map(|failure: &Failure| failure.reason.as_str()), Some("WEARY"), "{failed:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_signer_holds_back_is_called_up() {
    let bench = Bench::start().await;
    // Left to itself the engine asks again after a second at the earliest, and here much later.
    let engine = bench.engine_with("a", |config| config.slow_poll = Duration::from_secs(600)).await;
    bench.signer.answer_documents([Answer::Hold, Answer::Sign]);
    let id = bench.attest(&engine, "held", 1).await;
    bench.signer.wait_for_documents(1).await;
    engine.ask_signer_again(&TENANT.into(), id).await.expect("asked");
    let done = bench.wait(&engine, id).await;
    assert_eq!(done.state, OperationState::Completed, "{done:?}");
    assert_eq!(bench.signer.documents(), ["attest/0", "attest/0"], "the same document, under the same request");
    // Of an operation that waits for nothing there is nothing to call up.
    engine.ask_signer_again(&TENANT.into(), id).await.expect("asked");
    let orders = engine.reader().orders_under_way(&"svc-test".into(), &["test.attest"], 10).await.expect("readable");
    assert!(orders.is_empty(), "{orders:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_an_answer_holds_no_other_up() {
    let bench = Bench::start().await;
    let engine = bench.engine_with("a", |config| config.sign_timeout = Duration::from_secs(600)).await;
    bench.signer.answer_documents([Answer::Silence]);
    let silent = bench.attest(&engine, "silent", 1).await;
    bench.signer.wait_for_documents(1).await;
    let done = bench.wait(&engine, bench.attest(&engine, "next", 1).await).await;
    assert_eq!(done.state, OperationState::Completed, "{done:?}");
    let waits = engine.reader().get_operation(&TENANT.into(), silent).await.expect("readable").expect("there");
    assert_eq!(waits.state, OperationState::Running, "{waits:?}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_under_way_are_told_to_others() {
    let bench = Bench::start().await;
    let engine = bench.engine("a").await;
    bench.signer.answer_documents([Answer::Hold; 1_000]);
    let id = bench.attest(&engine, "held", 1).await;
    let reader = engine.reader();
    let orders = reader.orders_under_way(&"svc-test".into(), &["test.attest"], 10).await.expect("readable");
    let [order] = &orders[..] else { panic!("one: {orders:?}") };
    assert_eq!((order.operation_id, order.order["attempts"].as_u64()), (id, Some(1)));
    for (service, kinds) in [("svc-test", ["test.pay"]), ("svc-other", ["test.attest"])] {
        assert!(reader.orders_under_way(&service.into(), &kinds, 10).await.expect("readable").is_empty());
    }
    engine.stop().await;
}
