//! Two replicas of everything on one database: what one of them accepts is the other's too, and goes on when one dies.

use std::time::Duration;

use alloy::primitives::U256;
use dalp_devstack::client::Client;
use dalp_devstack::scenario::ChainView;
use dalp_devstack::stack::{Build, Options, Stack};
use dalp_proto::event::event_service_client::EventServiceClient;
use dalp_proto::event::{EventFilter, WatchEventsRequest};
use dalp_proto::operation::{Operation, OperationState};
use dalp_tests::load::Load;
use dalp_tests::waiting::repeated;

const LANES: usize = 2;
/// Requests before and after the kill.
const REQUESTS: usize = 12;
/// How long a request is repeated until it is answered.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks both at once for the same, under one key.
async fn asked_of_both(gateways: [&Load; 2], number: usize) -> Operation {
    let key = format!("replicas-{number}");
    let key = key.as_str();
    let [one, other] = gateways.map(|load| repeated(PATIENCE, move || load.transfer(number % LANES, key)));
    let (one, other) = tokio::join!(one, other);
    let (one, other) = (one.expect("accepted"), other.expect("accepted"));
    assert_eq!(one.operation_id, other.operation_id, "one key, one operation");
    one
}

async fn completed(client: &Client, accepted: Operation) {
    let done = client.finished(Some(accepted)).await.expect("it ends");
    assert_eq!(done.state(), OperationState::Completed, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_accepts_the_other_knows_and_either_may_die() {
    let options = Options { replicas: vec![Build::default(), Build::default()], ..Options::default() };
    let mut stack = Stack::start(&options).await.expect("the stack starts");
    let client = stack.client().expect("a client");
    let chain = ChainView::new(stack.chain_url()).expect("a chain");
    let load = Load::prepare(&client, &chain, LANES, "local").await.expect("a bond under load");
    let [one, other] =
        ["svc-gateway", "svc-gateway-2"].map(|name| stack.client_of(name).expect("a client of this one alone"));
    let [at_one, at_other] = [load.through(&one), load.through(&other)];

    // Watched at one, asked of both.
    let types = vec!["engine.operation.final".to_owned()];
    let filter = Some(EventFilter { types, ..EventFilter::default() });
    let mut watched = EventServiceClient::new(other.gateway())
        .watch_events(WatchEventsRequest { cursor: String::new(), filter })
        .await
        .expect("a stream")
        .into_inner();
    let mut accepted = Vec::new();
    for number in 0..REQUESTS {
        accepted.push(asked_of_both([&at_one, &at_other], number).await);
    }
    let mut unseen: Vec<String> = accepted.iter().map(|operation| operation.operation_id.clone()).collect();
    while !unseen.is_empty() {
        let message = watched.message().await.expect("an event").expect("the stream goes on");
        unseen.retain(|id| *id != message.event.as_ref().expect("an event").operation_id);
    }
    drop(watched);
    // Waited for at either.
    for (number, operation) in accepted.into_iter().enumerate() {
        completed([&one, &other][number % 2], operation).await;
    }

    // One of each that carries a transfer dies, and a gateway; nobody of those who call has to know.
    for name in ["svc-attestor", "svc-signer-2", "svc-compliance", "svc-gateway-2"] {
        stack.service(name).expect("it runs").kill();
    }
    let load = load.through(&stack.client().expect("a client"));
    let mut accepted = Vec::new();
    for number in REQUESTS..2 * REQUESTS {
        accepted.push(asked_of_both([&at_one, &load], number).await);
    }
    for operation in accepted {
        completed(&client, operation).await;
    }
    assert_eq!(load.received(&chain).await.expect("a balance"), U256::from(2 * REQUESTS), "lost or doubled");
}
