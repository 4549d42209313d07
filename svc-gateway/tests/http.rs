//! HTTP/JSON and gRPC-Web at the gateway: the same admission, the same metadata, the same refusals.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use base64::Engine as _;
use futures::StreamExt as _;
use prost::Message as _;
use reqwest::{Client, ClientBuilder, Response, StatusCode, Version};
use serde_json::{Value, json};
use support::{World, world, world_serving, world_with};
use svc_gateway::{
    api_key::ApiKey,
    rest::{frames, openapi},
};

const FEED: &str = "/v1/feeds/eur-usd/latest";
const SUBMIT: &str = "/v1/feeds/eur-usd:submit";

fn builder(world: &World) -> ClientBuilder {
    let authority = reqwest::Certificate::from_pem(&std::fs::read(world.pki.path("ca.pem")).unwrap()).unwrap();
    Client::builder().tls_certs_only([authority]).resolve("localhost", world.gateway.addr)
}

fn url(world: &World, path: &str) -> String {
    format!("https://localhost:{}{path}", world.gateway.addr.port())
}

async fn get(world: &World, key: &ApiKey, path: &str) -> Response {
    let client = builder(world).build().unwrap();
    client.get(url(world, path)).bearer_auth(key.expose()).send().await.unwrap()
}

async fn post(world: &World, key: &ApiKey, path: &str, headers: &[(&str, &str)], body: impl ToString) -> Response {
    let client = builder(world).build().unwrap();
    let mut request = client.post(url(world, path)).bearer_auth(key.expose()).body(body.to_string());
    request = request.header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// The HTTP status and the reason of a refusal.
async fn refused(response: Response) -> (u16, String, Value) {
    let (status, media_type) = (response.status().as_u16(), header(&response, "content-type").map(str::to_owned));
    assert_eq!(media_type.as_deref(), Some("application/json"));
    let body: Value = response.json().await.unwrap();
    let info = &body["details"][0];
    assert_eq!(info["@type"], "type.googleapis.com/google.rpc.ErrorInfo", "{body}");
    (status, info["reason"].as_str().unwrap().to_owned(), body)
}

#[tokio::test]
async fn a_read_and_a_write_are_the_same_calls() {
    let world = world().await;
    let answer = get(&world, &world.keys.operator, FEED).await;
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_11));
    assert_eq!(answer.json::<Value>().await.unwrap()["value"], "eur-usd");

    let wrote = |headers| post(&world, &world.keys.operator, SUBMIT, headers, json!({"value": "1"}));
    let first = wrote(&[("Idempotency-Key", "k1"), ("X-Idempotency-Key", "other")]).await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(
        (header(&first, "idempotency-key"), header(&first, "idempotency-replayed")),
        (Some("k1"), Some("false"))
    );
    let again = wrote(&[("idempotency-key", "k1")]).await;
    assert_eq!(header(&again, "idempotency-replayed"), Some("true"));
    let without = wrote(&[]).await;
    assert!(
        header(&without, "idempotency-key").is_some_and(|key| key.len() == 36),
        "a key of the gateway's own comes back"
    );
    assert_eq!(header(&without, "cache-control"), Some("no-store"));
}

#[tokio::test]
async fn admission_is_that_of_every_call() {
    let world = world().await;
    let client = builder(&world).build().unwrap();
    let nobody = client.get(url(&world, FEED)).send().await.unwrap();
    assert_eq!(header(&nobody, "www-authenticate"), Some("Bearer"));
    assert_eq!(refused(nobody).await.1, "UNAUTHENTICATED_MISSING");
    let keys = &world.keys;
    for (key, path, status, reason) in [
        (&keys.poor, FEED, 403, "PERMISSION_DENIED"),
        (&keys.expired, FEED, 401, "API_KEY_EXPIRED"),
        (&keys.disabled, FEED, 401, "API_KEY_DISABLED"),
    ] {
        let (http, said, _) = refused(get(&world, key, path).await).await;
        assert_eq!((http, said.as_str()), (status, reason));
    }
    let reader = post(&world, &keys.reader, SUBMIT, &[("idempotency-key", "mine")], json!({})).await;
    assert_eq!(header(&reader, "idempotency-key"), Some("mine"), "a client learns its key also from a refusal");
    assert_eq!(refused(reader).await.1, "READ_ONLY_KEY");
    let other = post(&world, &keys.operator, SUBMIT, &[("dalp-tenant", "tiny")], json!({})).await;
    assert_eq!(refused(other).await.1, "TENANT_MISMATCH");
    assert_eq!(get(&world, &keys.limited, FEED).await.status(), StatusCode::OK);
    let limited = get(&world, &keys.limited, FEED).await;
    assert_eq!(header(&limited, "retry-after"), Some("1"));
    assert_eq!(refused(limited).await.0, 429);
}

#[tokio::test]
async fn a_certificate_is_a_credential_here_too() {
    let world = world().await;
    world.pki.issue("clients/machine");
    let pem =
        ["pem", "key"].map(|end| std::fs::read(world.pki.path(&format!("clients-machine.{end}"))).unwrap()).concat();
    let client = builder(&world).identity(reqwest::Identity::from_pem(&pem).unwrap()).build().unwrap();
    let answer = client.get(url(&world, FEED)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = world.upstream.seen.lock().unwrap();
    assert_eq!(seen.last().unwrap().1.as_ref().unwrap().principal.to_string(), "machine");
}

#[tokio::test]
async fn nothing_of_the_platforms_own_metadata_gets_in() {
    let world = world().await;
    let headers = [
        ("dalp-principal", "root"),
        ("dalp-roles", "wallet:any"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "1.2.3.4"),
        ("grpc-encoding", "gzip"),
        ("transfer-secret", "x"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let answer = post(&world, &world.keys.operator, SUBMIT, &headers, json!({})).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = world.upstream.seen.lock().unwrap();
    let (metadata, caller) = seen.last().unwrap();
    assert_eq!(caller.as_ref().unwrap().principal.to_string(), "ops");
    for name in ["cookie", "x-forwarded-for", "grpc-encoding", "transfer-secret", "authorization"] {
        assert!(!metadata.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_told() {
    let world = world().await;
    let key = &world.keys.operator;
    let place =
        |body: &Value| body["details"][1]["fieldViolations"][0]["field"].as_str().unwrap_or_default().to_owned();

    for path in [
        "/",
        "/v1",
        "/v1/feeds/",
        "/v1/feeds//latest",
        "/v1/nothing",
        "/v1/feeds/%ff",
        "/dalp.feeds.v1.FeedService/GetLatest",
    ] {
        assert_eq!(refused(get(&world, key, path).await).await.0, 404, "{path}");
    }
    let mesh = get(&world, key, "/dalp.signer.v1.SignerService/Sign").await;
    assert_eq!(refused(mesh).await.0, 404);
    let other_verb = post(&world, key, FEED, &[], "").await;
    assert_eq!(header(&other_verb, "allow"), Some("GET"));
    assert_eq!(refused(other_verb).await.0, 405);

    let (status, _, body) = refused(get(&world, key, &format!("{FEED}?ages=1")).await).await;
    assert_eq!((status, place(&body)), (400, "ages".to_owned()));
    let (_, _, body) = refused(get(&world, key, &format!("{FEED}?max_age_s=x")).await).await;
    assert_eq!(place(&body), "max_age_s");
    for (sent, field) in [
        ("{", "body"),
        ("[1]", "body"),
        ("{\"valu\":1}", "body"),
        ("{\"observedAt\":\"x\"}", "observedAt"),
        ("{\"feed\":\"other\"}", "feed"),
    ] {
        let (status, reason, body) = refused(post(&world, key, SUBMIT, &[], sent).await).await;
        assert_eq!((status, reason.as_str(), place(&body).as_str()), (400, "INVALID_FIELD", field), "{sent}: {body}");
    }
    assert_eq!(refused(post(&world, key, &format!("{SUBMIT}?value=1"), &[], "{}").await).await.0, 400);
    let (status, _, body) = refused(post(&world, key, "/v1/feeds/refuse:submit", &[], "{}").await).await;
    assert_eq!((status, place(&body)), (400, "feed".to_owned()), "the service's own refusal");

    let client = builder(&world).build().unwrap();
    let form =
        client.post(url(&world, SUBMIT)).bearer_auth(key.expose()).header("content-type", "text/plain").body("{}");
    assert_eq!(refused(form.send().await.unwrap()).await.0, 415);
    let grpc =
        client.post(url(&world, SUBMIT)).bearer_auth(key.expose()).header("content-type", "application/grpc").body("");
    assert_eq!(refused(grpc.send().await.unwrap()).await.0, 400, "gRPC needs HTTP/2");
    assert_eq!(get(&world, key, FEED).await.status(), StatusCode::OK, "healthy after all that");
}

/// Sends bytes over HTTP/1.1 as they are; answers with the head of what comes back.
async fn raw(world: &World, bytes: &str) -> String {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::{TlsConnector, rustls};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(world.pki.path("ca.pem")).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = tokio::net::TcpStream::connect(world.gateway.addr).await.unwrap();
    let mut stream =
        TlsConnector::from(std::sync::Arc::new(tls)).connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn heads_that_mean_two_things_are_refused() {
    let world = world().await;
    let key = world.keys.operator.expose();
    for head in [
        "POST /v1/feeds/f:submit HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        "GET /v1/feeds/f/latest HTTP/1.1\r\nhost : localhost\r\n\r\n",
        "GET /v1/feeds/f/latest HTTP/1.1\r\nx: \0\r\n\r\n",
        "GET  /v1/feeds/f/latest HTTP/1.1\r\n\r\n",
    ] {
        let answered = raw(&world, head).await;
        assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 400 "), "{head:?}: {answered}");
    }
    let many = format!(
        "GET {FEED} HTTP/1.1\r\nauthorization: Bearer {key}\r\n{}\r\n",
        format!("x: {}\r\n", "y".repeat(1000)).repeat(60)
    );
    let answered = raw(&world, &many).await;
    assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 431 "), "{answered}");
    assert_eq!(get(&world, &world.keys.operator, FEED).await.status(), StatusCode::OK, "healthy after all that");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_still_sends_reads_why_it_is_refused() {
    let world = world_serving("", "max_message_bytes = 2048", "").await;
    let key = &world.keys.operator;
    let client = builder(&world).pool_max_idle_per_host(0).build().unwrap();
    let send = async |_| {
        let asked = client.post(url(&world, SUBMIT)).bearer_auth(key.expose());
        asked.header("content-type", "application/json").body("1".repeat(70_000)).send().await.unwrap()
    };
    let mut answers = std::pin::pin!(futures::stream::iter(0..200).map(send).buffer_unordered(4));
    while let Some(answer) = answers.next().await {
        assert_eq!(refused(answer).await.0, 413);
    }
}

#[tokio::test]
async fn large_and_slow_bodies_end_early() {
    let world = world_serving("", "max_message_bytes = 2048\ncall_timeout_ms = 5000", "").await;
    let key = &world.keys.operator;
    let large = post(&world, key, SUBMIT, &[], format!("{{\"value\":\"{}\"}}", "1".repeat(3000))).await;
    assert_eq!(refused(large).await.0, 413);
    let head = format!(
        "POST {SUBMIT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{",
        key.expose()
    );
    let answered = tokio::time::timeout(Duration::from_secs(60), raw(&world, &head)).await.unwrap();
    assert!(answered.starts_with("HTTP/1.1 408 "), "{answered}");
    assert_eq!(get(&world, key, FEED).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_503() {
    let world = world().await;
    let answer = get(&world, &world.keys.operator, "/v1/settlements").await;
    assert!(header(&answer, "retry-after").is_some());
    let (status, reason, _) = refused(answer).await;
    assert_eq!((status, reason.as_str()), (503, "UPSTREAM_UNAVAILABLE"));
}

#[tokio::test]
async fn the_description_is_served_to_everyone() {
    let world = world().await;
    let client = builder(&world).build().unwrap();
    let answer = client.get(url(&world, "/openapi.json")).send().await.unwrap();
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
    assert_eq!(answer.text().await.unwrap(), openapi::text(&openapi::document()));
}

/// A gRPC-Web call: the message of the answer and its trailers.
async fn web(world: &World, path: &str, media_type: &str, body: Vec<u8>, key: Option<&ApiKey>) -> (Vec<u8>, String) {
    let client = builder(world).build().unwrap();
    let is_text = media_type.contains("text");
    let sent = if is_text { base64::prelude::BASE64_STANDARD.encode(&body).into_bytes() } else { body };
    let mut request =
        client.post(url(world, path)).header("content-type", media_type).header("accept", media_type).body(sent);
    if let Some(key) = key {
        request = request.bearer_auth(key.expose());
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(header(&answer, "content-type").unwrap().starts_with("application/grpc-web"), "{answer:?}");
    let in_head = header(&answer, "grpc-status").map(|status| format!("grpc-status:{status}"));
    let bytes = answer.bytes().await.unwrap().to_vec();
    // Each part of the answer is padded by itself, so that it is read by fours.
    let fours = |bytes: &[u8]| {
        bytes.chunks(4).flat_map(|four| base64::prelude::BASE64_STANDARD.decode(four).unwrap()).collect()
    };
    let bytes: Vec<u8> = if is_text { fours(&bytes) } else { bytes };
    let (mut message, mut trailers, mut rest) = (Vec::new(), in_head.unwrap_or_default(), bytes.as_slice());
    while let Some((&[flags, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
        let (body, next) = after.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        match flags {
            0x80 => trailers += std::str::from_utf8(body).unwrap(),
            _ => message = body.to_vec(),
        }
        rest = next;
    }
    (message, trailers)
}

#[tokio::test]
async fn grpc_web_is_the_same_call() {
    use dalp_proto::feeds::{GetLatestRequest, GetLatestResponse};
    const PATH: &str = "/dalp.feeds.v1.FeedService/GetLatest";
    let world = world().await;
    let asked = GetLatestRequest { feed: "eur-usd".to_owned(), ..GetLatestRequest::default() }.encode_to_vec();
    for media_type in ["application/grpc-web+proto", "application/grpc-web", "application/grpc-web-text"] {
        let framed = frames::frame(&asked).unwrap().to_vec();
        let (message, trailers) = web(&world, PATH, media_type, framed.clone(), Some(&world.keys.operator)).await;
        assert_eq!(GetLatestResponse::decode(message.as_slice()).unwrap().value, "eur-usd", "{media_type}");
        assert!(trailers.replace(' ', "").contains("grpc-status:0"), "{media_type}: {trailers}");
        let (message, trailers) = web(&world, PATH, media_type, framed, None).await;
        assert!(message.is_empty() && trailers.replace(' ', "").contains("grpc-status:16"), "{media_type}: {trailers}");
    }
    let mesh = "/dalp.signer.v1.SignerService/Sign";
    let (_, trailers) =
        web(&world, mesh, "application/grpc-web", frames::frame(b"").unwrap().to_vec(), Some(&world.keys.operator))
            .await;
    assert!(trailers.replace(' ', "").contains("grpc-status:5"), "not routed here either: {trailers}");
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_by_configuration_only() {
    const CONSOLE: &str = "https://console.bank.example";
    let preflight = |world: &World, origin: &'static str| {
        let client = builder(world).build().unwrap();
        let asked = client.request(reqwest::Method::OPTIONS, url(world, SUBMIT)).header("origin", origin);
        asked
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization")
            .send()
    };
    let closed = world().await;
    let answer = preflight(&closed, CONSOLE).await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (405, None));

    let open = world_with("", &format!("[http]\ncors_origins = [\"{CONSOLE}\"]\n")).await;
    let answer = preflight(&open, CONSOLE).await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (200, Some(CONSOLE)));
    let other = preflight(&open, "https://evil.example").await.unwrap();
    assert_eq!(header(&other, "access-control-allow-origin"), None);
    let client = builder(&open).build().unwrap();
    let called = client.get(url(&open, FEED)).bearer_auth(open.keys.operator.expose()).header("origin", CONSOLE);
    let answer = called.send().await.unwrap();
    assert_eq!(header(&answer, "access-control-allow-origin"), Some(CONSOLE));
    assert!(header(&answer, "access-control-expose-headers").unwrap().contains("idempotency-key"));
    assert_eq!(header(&answer, "access-control-allow-credentials"), None);
}
