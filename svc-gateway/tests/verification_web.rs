//! A browser's write by gRPC-Web, with what its person shows in the header.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use dalp_proto::feeds::{SubmitUpdateRequest, SubmitUpdateResponse};
use prost::Message as _;
use reqwest::Client;
use support::{
    bank::{Bank, PIN, Person, WRONG, pin},
    until,
};
use svc_gateway::rest::frames;

const ORIGIN: &str = "https://console.bank.example";

/// What a page hears of a write: its gRPC status, the reason of a refusal, and whether a message came.
struct Heard {
    status: String,
    said: String,
    replayed: Option<String>,
    message: Option<SubmitUpdateResponse>,
}

fn client(bank: &Bank) -> (Client, String) {
    let authority = std::fs::read(bank.world.pki.path("ca.pem")).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    let address = bank.world.gateway.addr;
    let client = Client::builder().tls_certs_only([authority]).resolve("localhost", address).build().unwrap();
    (client, format!("https://localhost:{}/dalp.feeds.v1.FeedService/SubmitUpdate", address.port()))
}

async fn writes(bank: &Bank, person: &Person, shown: Option<&str>, key: &str) -> Heard {
    let message = SubmitUpdateRequest { feed: "a".to_owned(), ..SubmitUpdateRequest::default() }.encode_to_vec();
    let (client, url) = client(bank);
    let mut request = client
        .post(url)
        .header("content-type", "application/grpc-web+proto")
        .header("x-grpc-web", "1")
        .header("origin", ORIGIN)
        .header("authorization", &person.bearer)
        .header("idempotency-key", key)
        .body(frames::frame(&message).unwrap().to_vec());
    if let Some(shown) = shown {
        request = request.header("x-wallet-verification", shown);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "gRPC-Web tells in trailers what became of a call");
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (in_head, replayed) = (header("grpc-status"), header("idempotency-replayed"));
    let mut said = header("grpc-message").unwrap_or_default();
    let bytes = answer.bytes().await.unwrap();
    let (mut status, mut message, mut rest) = (in_head.unwrap_or_default(), None, bytes.as_ref());
    while let Some((&[flags, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
        let (body, next) = after.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        match flags {
            0x80 => {
                for line in std::str::from_utf8(body).unwrap().lines() {
                    match line.split_once(':') {
                        Some(("grpc-status", value)) => status = value.trim().to_owned(),
                        Some(("grpc-message", value)) => said = value.trim().to_owned(),
                        _ => {}
                    }
                }
            }
            _ => message = Some(SubmitUpdateResponse::decode(body).unwrap()),
        }
        rest = next;
    }
    Heard { status, said, replayed, message }
}

#[tokio::test]
async fn a_write_by_grpc_web_is_verified_by_its_header() {
    let bank = Bank::open(&format!("[http]\ncors_origins = [\"{ORIGIN}\"]\n")).await;
    let anna = bank.anna();
    anna.enrols_pin(PIN, None).await.unwrap();
    // The policy is heard of in a moment.
    until(async || writes(&bank, &anna, None, "asked").await.status == "9").await;
    let nothing = writes(&bank, &anna, None, "k1").await;
    assert_eq!((nothing.status.as_str(), nothing.message), ("9", None), "{}", nothing.said);
    let wrong = writes(&bank, &anna, Some(WRONG), "k1").await;
    assert_eq!((wrong.status.as_str(), wrong.message), ("7", None), "{}", wrong.said);
    assert_eq!(anna.status().await.failures, 1);
    let before = bank.world.upstream.seen.lock().unwrap().len();
    let right = writes(&bank, &anna, Some(&pin()), "k1").await;
    assert_eq!((right.status.as_str(), right.message.is_some()), ("0", true), "{}", right.said);
    assert_eq!(right.replayed.as_deref(), Some("false"));
    let again = writes(&bank, &anna, None, "k1").await;
    assert_eq!((again.status.as_str(), again.replayed.as_deref()), ("0", Some("true")), "a repeat needs nothing");
    {
        let seen = bank.world.upstream.seen.lock().unwrap();
        assert_eq!(seen.len(), before + 2);
        let shown = |metadata: &tonic::metadata::MetadataMap| metadata.contains_key("x-wallet-verification");
        assert!(seen.iter().all(|(metadata, _)| !shown(metadata)), "it ends at the gateway");
    }

    // A page may send the header: its browser asks first.
    let (client, url) = client(&bank);
    let asked = client.request(reqwest::Method::OPTIONS, url).header("origin", ORIGIN);
    let asked = asked
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-wallet-verification,x-grpc-web,authorization,idempotency-key");
    let answer = asked.send().await.unwrap();
    let allowed = answer.headers().get("access-control-allow-headers").unwrap().to_str().unwrap().to_ascii_lowercase();
    assert!(allowed.contains("x-wallet-verification"), "{allowed}");
}
