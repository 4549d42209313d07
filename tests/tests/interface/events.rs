//! The tenant's stream of events: listed, resumed, watched, filtered; each as its catalogue says.

use dalp_devstack::client::Client;
use dalp_devstack::stack::{Options, Stack};
use dalp_proto::event::event_service_client::EventServiceClient;
use dalp_proto::event::{Event, EventFilter, ListEventsRequest, ListEventsResponse, WatchEventsRequest};
use dalp_tests::event_catalogue;
use dalp_tests::load::Load;
use serde_json::Value;

use dalp_tests::curl::Gateway;

/// Options of a stack with a second tenant, and the key of its operator.
pub(crate) fn another_bank() -> (Options, String) {
    let key = svc_gateway::api_key::ApiKey::generate().expect("random bytes");
    let gateway = format!(
        "\n[[tenants]]\nid = \"other-bank\"\n[[principals]]\nid = \"foreign\"\ntenant = \"other-bank\"\nroles = [\"operator\"]\n\
         prefix = \"{}\"\napi_key_sha256 = \"{}\"\n",
        key.prefix(),
        key.digest()
    );
    (Options { gateway, ..Options::default() }, key.expose().to_owned())
}

async fn list(client: &Client, request: ListEventsRequest) -> ListEventsResponse {
    EventServiceClient::new(client.gateway()).list_events(request).await.expect("a page").into_inner()
}

/// All of a stream, page by page.
async fn all(client: &Client, page_size: u32, from: &str, filter: Option<EventFilter>) -> Vec<Event> {
    let (mut events, mut page_token) = (Vec::new(), from.to_owned());
    loop {
        let page = list(client, ListEventsRequest { page_size, page_token, filter: filter.clone() }).await;
        assert!(page.events.len() <= page_size as usize);
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return events;
        }
    }
}

pub(crate) async fn listed_and_watched(
    stack: &Stack,
    client: &Client,
    load: &Load,
    gateway: &Gateway,
    operation: &str,
    foreign: &str,
) {
    // Whole, and the same however it is cut.
    let whole = all(client, 500, "", None).await;
    assert!(whole.len() > 20, "the bond and its holders left their traces");
    let again = all(client, 7, "", None).await;
    assert_eq!(again[..whole.len()], whole[..]);
    let middle = whole.len() / 2;
    assert_eq!(all(client, 500, &whole[middle].cursor, None).await[..whole.len() - middle - 1], whole[middle + 1..]);

    let catalogue = event_catalogue::read().expect("docs/events.md");
    for event in &whole {
        let schema = catalogue.get(&event.r#type).unwrap_or_else(|| panic!("{} is not in the catalogue", event.r#type));
        let document: Value = serde_json::from_str(&event.data_json).expect("JSON");
        event_catalogue::fits(schema, &document).unwrap_or_else(|error| panic!("{}: {error}", event.r#type));
    }

    // One operation from its acceptance to its end, and only it.
    let filter = EventFilter { types: Vec::new(), operation_id: operation.to_owned() };
    let of_one = all(client, 500, "", Some(filter)).await;
    let types: Vec<&str> = of_one.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(
        (types.first(), types.last()),
        (Some(&"engine.operation.pending"), Some(&"engine.operation.final")),
        "{types:?}"
    );
    assert!(types.contains(&"engine.transaction.final") && of_one.iter().all(|event| event.operation_id == operation));
    let types = vec!["engine.operation.final".to_owned()];
    let ends = all(client, 500, "", Some(EventFilter { types, operation_id: operation.to_owned() })).await;
    assert_eq!(ends, of_one[of_one.len() - 1..]);

    // Watched from a cursor: what lies behind it, then what happens, in the order of the list.
    let mut watched = EventServiceClient::new(client.gateway())
        .watch_events(WatchEventsRequest { cursor: whole[middle].cursor.clone(), filter: None })
        .await
        .expect("a stream")
        .into_inner();
    let accepted = load.transfer(0, "watched").await.expect("accepted");
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|last: &Event| {
        last.r#type == "engine.operation.final" && last.operation_id == accepted.operation_id
    }) {
        seen.push(watched.message().await.expect("an event").expect("the stream goes on").event.expect("an event"));
    }
    let listed = all(client, 500, &whole[middle].cursor, None).await;
    assert_eq!(listed[..seen.len()], seen[..], "watched and listed are one stream");

    // From now on: nothing of the past comes.
    let mut fresh = EventServiceClient::new(client.gateway())
        .watch_events(WatchEventsRequest::default())
        .await
        .expect("a stream")
        .into_inner();
    let accepted = load.transfer(0, "fresh").await.expect("accepted");
    let first = fresh.message().await.expect("an event").expect("the stream goes on").event.expect("an event");
    assert_eq!(
        (first.operation_id, first.r#type.as_str()),
        (accepted.operation_id.clone(), "engine.operation.pending")
    );
    client.finished(Some(accepted)).await.expect("it ends");

    let other = Client::new(stack.channel().expect("a channel"), foreign).expect("a client");
    assert_eq!(all(&other, 500, "", None).await, [], "another bank sees nothing of it");
    let foreign_cursor = all(&other, 500, &whole[0].cursor, None).await;
    assert_eq!(foreign_cursor, [], "nor with a cursor of this one");

    let (status, _, said) = gateway.curl(&[], "/v1/events?pageSize=3&filter.types=engine.operation.final");
    let page: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((status, page["events"].as_array().map(Vec::len)), (200, Some(3)), "{said}");
    let (status, _, said) = gateway.curl(&[], "/v1/events?pageToken=nonsense");
    assert!(status == 400 && said.contains("PAGE_TOKEN_INVALID"), "{said}");
}
