//! Codes pass through the gateway, and none is anywhere afterwards: neither in the log, nor in an answer, the audit, or the database. And what is streamed is
//! verified at its end.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    convert::Infallible,
    future::Future,
    io::Write,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use dalp_proto::{
    distribution::{CreateAirdropRequest, airdrop_service_client::AirdropServiceClient},
    verification::EnrolPinRequest,
};
use dalp_service::{
    config::ServerConfig,
    server::{PeerPolicy, Server},
};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use support::{
    bank::{Bank, PIN, WRONG, now, pin, why},
    until,
};
use time::Duration;
use tonic::body::Body;

static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that the database holds, as text; bytes are there as hexadecimal digits.
async fn everything(database: &sqlx::PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('gateway', 'engine') ORDER BY 1",
    )
    .fetch_all(database)
    .await
    .unwrap();
    let mut all = String::new();
    for table in tables {
        let query = sqlx::AssertSqlSafe(format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table} t"));
        let rows: String = sqlx::query_scalar(query).fetch_one(database).await.unwrap();
        all.push_str(&rows);
        all.push('\n');
    }
    all
}

#[tokio::test]
async fn no_code_is_in_the_log_an_answer_the_audit_or_the_database() {
    // The first of this process: a test runs in one of its own.
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).with_writer(|| Log).init();
    let bank = Bank::open("").await;
    let anna = bank.anna();
    let mut heard = String::new();
    anna.enrols_pin(PIN, None).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;
    let (secret, text) = anna.begins_totp(Some(&pin())).await.unwrap();
    let begun = now();
    let passwords = [secret.password_at(begun), secret.password_at(begun + Duration::seconds(30))];
    anna.confirms_totp(&passwords[0]).await.unwrap();
    let codes = anna.gets_codes(Some(&pin())).await;
    anna.confirms_codes(&codes[0]).await.unwrap();
    let wrong = ["pin 773311", "totp 664422", "recovery ZZZZ-YYYY-XXXX-WWWW", "pin 55x55y55z", "PIN 440044"];
    for shown in wrong {
        let status = anna.writes("a", Some(shown), Some("k")).await.unwrap_err();
        heard.push_str(&format!("{status:?}"));
    }
    let recovery = format!("recovery {}", codes[1]);
    anna.writes("a", Some(&recovery), Some("k")).await.unwrap();
    heard.push_str(&format!("{:?}", anna.confirms_totp("884466").await.unwrap_err()));
    heard.push_str(&format!("{:?}", anna.changes_pin("975310", &pin()).await.unwrap()));
    let refusals = "SELECT count(*) FROM engine.audit_leaves WHERE reason = 'WALLET_VERIFICATION_FAILED'";
    until(async || bank.count(refusals).await == 3).await;

    let database = everything(&bank.world.database().await).await;
    let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
    assert!(
        log.contains("refused at the gateway") && database.contains("verification.pass"),
        "there is something to look at"
    );
    let mut secrets: Vec<String> =
        [PIN, "975310", "773311", "664422", "884466", "55x55y55z", "440044"].map(str::to_owned).to_vec();
    secrets.extend(passwords.iter().map(|password| password.to_string()));
    secrets.extend([text.clone(), "ZZZZYYYYXXXXWWWW".to_owned(), "ZZZZ-YYYY-XXXX-WWWW".to_owned()]);
    secrets.push(codes[0].clone());
    secrets.extend(codes.iter().map(|code| code.replace('-', "")));
    let raw = totp_rs::Secret::Encoded(text).to_bytes().unwrap();
    for (place, held) in [("log", &log), ("answer", &heard), ("database", &database)] {
        for secret in &secrets {
            // Six digits are also part of times and numbers by chance: as a word of its own they are not.
            let alone = |at: usize| {
                let of_word = |one: Option<char>| one.is_some_and(|one| one.is_ascii_alphanumeric() || one == '.');
                !of_word(held[..at].chars().next_back()) && !of_word(held[at + secret.len()..].chars().next())
            };
            let found = held.match_indices(secret.as_str()).find(|(at, _)| secret.len() > 6 || alone(*at));
            assert!(found.is_none(), "a code is in the {place}");
            let hex = hex::encode(secret);
            assert!(!held.contains(&hex), "a code is in the {place}, in hexadecimal digits");
        }
        assert!(!held.contains(&hex::encode(&raw)), "the secret is in the {place}");
    }
    // Nor is a plain hash of the message that held a PIN, which would be undone within a second.
    for chosen in [PIN, "975310"] {
        let message = EnrolPinRequest { pin: chosen.to_owned() }.encode_to_vec();
        assert!(!database.contains(&hex::encode(Sha256::digest(&message))));
        let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        framed.extend(&message);
        assert!(!database.contains(&hex::encode(Sha256::digest(&framed))));
    }
}

/// Answers every call with an empty message, and remembers how long the bodies were that came to their end.
#[derive(Clone, Default)]
struct Sink {
    whole: Arc<Mutex<Vec<usize>>>,
    broken: Arc<Mutex<usize>>,
}

impl tower::Service<http::Request<Body>> for Sink {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            assert!(!request.headers().contains_key("x-wallet-verification"));
            match request.into_body().collect().await {
                Ok(body) => this.whole.lock().unwrap().push(body.to_bytes().len()),
                Err(_) => *this.broken.lock().unwrap() += 1,
            }
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
            let frames = frames.map(Ok::<_, tonic::Status>);
            let mut response = Response::new(Body::new(StreamBody::new(futures::stream::iter(frames))));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            Ok(response)
        })
    }
}

#[tokio::test]
async fn a_streamed_write_is_verified_for_what_was_streamed() {
    let bank = Bank::open("").await;
    let sink = Sink::default();
    let config = format!("listen = \"127.0.0.1:0\"\n[tls]\n{}", bank.world.pki.issue("svc-distribution"));
    let config: ServerConfig = toml::from_str(&config).unwrap();
    let policy = PeerPolicy::deny_all().allow("/dalp.distribution.v1.", ["svc-gateway"]);
    let server = Server::new("svc-distribution", &config, policy).bind().await.unwrap();
    let away = "name = \"svc-distribution\"\naddress = \"127.0.0.1:1\"";
    let here = format!("name = \"svc-distribution\"\naddress = \"{}\"", server.bound_addr());
    assert!(bank.world.text.contains(away));
    let (served, stop) = (sink.clone(), bank.world.stop.clone());
    tokio::spawn(async move { server.serve(served, &stop).await });
    let gateway = bank.world.replica(&bank.world.text.replace(away, &here)).await;
    let anna = bank.person_at("user-1", gateway.addr);
    anna.enrols_pin(PIN, None).await.unwrap();
    until(async || anna.writes("a", None, None).await.is_err()).await;

    let streams = async |rows: usize, shown: Option<&str>, key: &str| {
        let messages = futures::stream::iter(vec![CreateAirdropRequest::default(); rows]);
        let mut airdrops = AirdropServiceClient::new(anna.channel.clone());
        airdrops.create_airdrop(anna.request(messages, shown, Some(key))).await.map(drop)
    };
    assert_eq!(why(streams(3, None, "s").await), "WALLET_VERIFICATION_REQUIRED");
    assert_eq!(why(streams(3, Some(WRONG), "s").await), "WALLET_VERIFICATION_FAILED");
    assert!(sink.whole.lock().unwrap().is_empty(), "nothing of it was passed on");
    let shown = pin();
    // The service may come up a moment later than its port.
    until(async || streams(3, Some(&shown), "s").await.is_ok()).await;
    streams(3, None, "s").await.expect("its repeat needs nothing");
    assert_eq!(*sink.whole.lock().unwrap(), [15, 15]);
    assert_eq!(why(streams(4, None, "s").await), "WALLET_VERIFICATION_REQUIRED", "another list under the same key");
    assert_eq!(why(streams(3, None, "t").await), "WALLET_VERIFICATION_REQUIRED", "another key");
    assert_eq!(*sink.whole.lock().unwrap(), [15, 15], "the end of the other list was held back");
    streams(4, Some(&shown), "u").await.unwrap();
    assert_eq!(*sink.whole.lock().unwrap(), [15, 15, 20]);
}
