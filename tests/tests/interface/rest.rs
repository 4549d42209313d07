//! HTTP and JSON with curl, and beside it the same over gRPC.

use dalp_devstack::client::{Client, keyed};
use dalp_proto::asset::TransferRequest;
use dalp_proto::asset::asset_service_client::AssetServiceClient;
use dalp_tests::load::Load;
use serde_json::{Value, json};

use dalp_tests::curl::Gateway;

const JSON: &str = "Content-Type: application/json";

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// A transfer that is waited for; its repeats over HTTP and over gRPC are the same operation. Answers with its identifier.
pub(crate) async fn a_transfer_with_curl(gateway: &Gateway, client: &Client, load: &Load) -> String {
    let (asset, sender, to) = (load.token.to_checksum(None), &load.holders[0].text, &load.receiver.text);
    let path = format!("/v1/assets/{asset}:transfer");
    let body = json!({"sender": sender, "to": to, "amount": "1"}).to_string();
    let transfer = |body: &str, more: &[&str]| {
        let own = ["--header", JSON, "--header", "Idempotency-Key: over-http", "--data", body];
        gateway.curl(&[&own[..], more].concat(), &path)
    };
    let (status, head, said) = transfer(&body, &["--http1.1", "--header", "Prefer: wait=60"]);
    assert_eq!(status, 200, "{said}");
    assert!(head.starts_with("http/1.1") && head.contains("preference-applied: wait=60"), "{head}");
    assert!(head.contains("idempotency-key: over-http") && head.contains("idempotency-replayed: false"), "{head}");
    let operation = parsed(&said)["operation"].clone();
    assert_eq!(operation["state"], "OPERATION_STATE_COMPLETED", "{operation}");
    let id = operation["operationId"].as_str().expect("an identifier").to_owned();

    let (status, head, said) = transfer(&body, &["--http2"]);
    assert_eq!((status, head.contains("idempotency-replayed: true")), (200, true), "{head}");
    assert!(head.starts_with("http/2"), "{head}");
    assert_eq!(parsed(&said)["operation"]["operationId"], id.as_str());
    let request = TransferRequest { sender: sender.clone(), asset, to: to.clone(), amount: "1".to_owned() };
    let answer =
        AssetServiceClient::new(client.gateway()).transfer(keyed(request, "over-http")).await.expect("a repeat");
    assert_eq!(
        answer.metadata().get("idempotency-replayed").expect("said"),
        "true",
        "one command, whichever way it came"
    );
    assert_eq!(answer.into_inner().operation.expect("an operation").operation_id, id);

    let (status, _, said) = transfer(&json!({"sender": sender, "to": to, "amount": "2"}).to_string(), &[]);
    let said = parsed(&said);
    assert_eq!((status, &said["details"][0]["reason"]), (409, &json!("IDEMPOTENCY_KEY_REUSED")), "{said}");

    let own = ["--header", JSON, "--header", "Idempotency-Key: not-waited-for", "--data", &body];
    let (status, head, said) = gateway.curl(&own, &path);
    let second = parsed(&said)["operation"]["operationId"].as_str().expect("an identifier").to_owned();
    assert_eq!(status, 202, "{said}");
    assert!(head.contains(&format!("location: /v1/operations/{second}")), "{head}");
    let (status, _, said) = gateway.curl(&[], &format!("/v1/operations/{second}:wait?timeout=60s"));
    assert_eq!((status, &parsed(&said)["operation"]["state"]), (200, &json!("OPERATION_STATE_COMPLETED")));
    let (status, _, said) = gateway.curl(&[], "/v1/operations?pageSize=2&state=OPERATION_STATE_COMPLETED");
    let listed = parsed(&said)["operations"].as_array().expect("a list").len();
    assert_eq!((status, listed), (200, 2));
    id
}

/// Streams downwards as lines, and a list of recipients upwards.
pub(crate) fn streams_in_both_directions(gateway: &Gateway, load: &Load, operation: &str) {
    let (status, head, said) = gateway.curl(&[], &format!("/v1/operations/{operation}:watch"));
    assert!(status == 200 && head.contains("content-type: application/x-ndjson"), "{head}");
    let last = parsed(said.lines().last().expect("at least the present state"));
    assert_eq!(last["result"]["operation"]["state"], "OPERATION_STATE_COMPLETED");

    let list = format!("{},1\n{},x\n", load.receiver.text, load.holders[0].text);
    let header = json!({"header": {"asset": load.token.to_checksum(None), "format": "LIST_FORMAT_CSV"}});
    // In the pieces that a client happens to send: the list is cut in the middle of a line.
    let pieces = [&list.as_bytes()[..20], &list.as_bytes()[20..]].map(|piece| json!({"list": base64(piece)}));
    let lines: Vec<String> = [header, pieces[0].clone(), pieces[1].clone(), json!({"end": {"recipients": "2"}})]
        .iter()
        .map(Value::to_string)
        .collect();
    let body = lines.join("\n");
    let media = ["--header", "Content-Type: application/x-ndjson", "--data-binary", &body];
    let (status, _, said) = gateway.curl(&media, "/v1/airdrops:validateRecipients");
    let checked = parsed(&said);
    assert_eq!((status, &checked["recipients"], &checked["badLineCount"]), (200, &json!(1), &json!(1)), "{said}");
    assert_eq!(
        (&checked["badLines"][0]["line"], &checked["badLines"][0]["problem"]),
        (&json!(2), &json!("AMOUNT")),
        "{said}"
    );
    let (status, _, said) = gateway.curl(
        &["--header", "Content-Type: application/x-ndjson", "--data-binary", "{\"list\":5}"],
        "/v1/airdrops:validateRecipients",
    );
    let said = parsed(&said);
    assert_eq!((status, &said["details"][0]["reason"]), (400, &json!("INVALID_FIELD")), "{said}");
    assert!(said["message"].as_str().is_some_and(|message| message.contains("line 1")), "{said}");
}

/// As the JSON mapping writes bytes.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
