//! Clients that hold none of our code: curl, `buf curl` and Python by reflection, gRPC-Web, and a fuzzer that reads the OpenAPI document.

#[path = "interface/clients.rs"]
mod clients;
#[path = "interface/events.rs"]
mod events;
#[path = "interface/rest.rs"]
mod rest;

use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::Stack;
use dalp_tests::curl::Gateway;
use dalp_tests::load::Load;

/// One stack, because a stack costs more than all that is asked of it here.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_use_the_interface() {
    let (options, foreign) = events::another_bank();
    let stack = Stack::start(&options).await.expect("the stack starts");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let client = stack.client().expect("a client");
    let load = Load::prepare(&client, &chain, 1, "local").await.expect("a bond");
    let gateway = Gateway::of(&stack);
    let operation = rest::a_transfer_with_curl(&gateway, &client, &load).await;
    rest::streams_in_both_directions(&gateway, &load, &operation);
    events::listed_and_watched(&stack, &client, &load, &gateway, &operation, &foreign).await;
    clients::buf_by_reflection(&gateway, &operation);
    clients::buf_by_grpc_web(&gateway, &operation);
    clients::python_by_reflection(&gateway, &operation);
    clients::fuzzed(&gateway);
    stack.wait_until_serving().await.expect("healthy after all that");
    let last = load.transfer(0, "after-all-that").await.expect("accepted");
    assert!(client.finished(Some(last)).await.is_ok());
}
