//! Writes whose services leave no leaf: how they end stands in the log, also where nobody hears it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use dalp_domain::store::Tables;
use dalp_proto::feeds::{SetStalenessRequest, feed_service_client::FeedServiceClient};
use dalp_service::{
    Reason, Refusal,
    caller::IDEMPOTENCY_REPLAYED,
    config::ServerConfig,
    server::{PeerPolicy, Server},
    stop::Stop,
};
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use sha2::Digest as _;
use sqlx::PgPool;
use support::{
    World,
    ledger::{self, QUICK, number, reason, with},
    until, world_with,
};
use svc_gateway::{
    access::store::SCHEMA,
    audit::refusals::{Refused, refusals},
    config::{AuditConfig, Scope},
    principals::Principal,
};
use tonic::{Code, Status, body::Body};

/// How the service behind the gateway ends an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// In the middle of it.
    Broken,
    /// Behind its message, without a status.
    WithoutStatus,
    /// Never, before its headers.
    Never,
    /// Never, behind its message.
    NeverBehindTheMessage,
    /// As a service that stops.
    Says(Reason),
    /// With a status that names no reason.
    Untyped(Code),
    /// Well, as what it carried out before.
    Repeat,
}

/// A service that takes every call, and ends none as it should.
#[derive(Clone)]
struct Strange {
    ending: Ending,
    calls: Arc<AtomicUsize>,
}

impl tower::Service<Request<Body>> for Strange {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut body = request.into_body();
            while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
                frame.unwrap();
            }
            this.calls.fetch_add(1, Ordering::Relaxed);
            let message: Result<_, Status> = Ok(Frame::data(Bytes::from_static(&[0; 5])));
            let body = match this.ending {
                Ending::Broken => {
                    let half = Ok(Frame::data(Bytes::from_static(&[0; 3])));
                    Body::new(StreamBody::new(stream::iter([half, Err(Status::internal("broken"))])))
                }
                Ending::WithoutStatus => Body::new(StreamBody::new(stream::iter([message]))),
                Ending::Never => return std::future::pending().await,
                Ending::NeverBehindTheMessage => {
                    Body::new(StreamBody::new(stream::iter([message]).chain(stream::pending())))
                }
                Ending::Says(reason) => return Ok(Refusal::new(reason, "so it says").to_status().into_http()),
                Ending::Untyped(code) => return Ok(Status::new(code, "so it says").into_http()),
                Ending::Repeat => {
                    let ended = http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
                    Body::new(StreamBody::new(stream::iter([message, Ok(Frame::trailers(ended))])))
                }
            };
            let replayed = if this.ending == Ending::Repeat { "true" } else { "false" };
            let response = Response::builder().header(IDEMPOTENCY_REPLAYED, replayed);
            Ok(response.header("content-type", "application/grpc").body(body).unwrap())
        })
    }
}

/// A gateway before such a service.
struct Bench {
    world: World,
    gateway: svc_gateway::Running,
    pool: PgPool,
    calls: Arc<AtomicUsize>,
}

impl Bench {
    async fn new(ending: Ending, heard_within_s: u64) -> Self {
        let world = world_with("", QUICK).await;
        let feeds = format!("listen = \"127.0.0.1:0\"\n[tls]\n{}", world.pki.issue("svc-feeds"));
        let feeds: ServerConfig = toml::from_str(&feeds).unwrap();
        let policy = PeerPolicy::deny_all().allow("/dalp.feeds.v1.", ["svc-gateway"]);
        let server = Server::new("svc-feeds", &feeds, policy).bind().await.unwrap();
        let (address, calls) = (server.bound_addr(), Arc::<AtomicUsize>::default());
        let strange = Strange { ending, calls: Arc::clone(&calls) };
        // It outlives the gateway.
        tokio::spawn(async move { server.serve(strange, &Stop::new()).await });
        Self::before(world, &address.to_string(), heard_within_s, calls).await
    }

    async fn before(world: World, address: &str, heard_within_s: u64, calls: Arc<AtomicUsize>) -> Self {
        let (before, behind) = world.text.split_once("name = \"svc-feeds\"\naddress = \"").unwrap();
        let (_, behind) = behind.split_once('"').unwrap();
        let text = format!("{before}name = \"svc-feeds\"\naddress = \"{address}\"{behind}");
        let text = text.replace("[audit]", &format!("[audit]\nheard_within_s = {heard_within_s}"));
        let gateway = world.replica(&text).await;
        let pool = world.database().await;
        Self { world, gateway, pool, calls }
    }

    async fn sets(&self, feed: &str) -> Result<(), Status> {
        self.sets_by(self.world.keys.operator.expose(), feed).await
    }

    async fn sets_by(&self, key: &str, feed: &str) -> Result<(), Status> {
        let mut feeds = FeedServiceClient::new(self.world.pki.channel(self.gateway.addr, None));
        let asked = SetStalenessRequest { feed: feed.into(), stale_after_s: 60 };
        feeds.set_staleness(with(key, asked)).await.map(drop)
    }

    /// The one leaf there is of it.
    async fn leaf(&self) -> Leaf {
        let query = "SELECT action, decision, actor, subject, reason, payload_hash, body->>'message'
            FROM engine.audit_leaves WHERE subject = '/dalp.feeds.v1.FeedService/SetStaleness'";
        let mut found: Vec<Leaf> = Vec::new();
        until(async || {
            found = sqlx::query_as(query).fetch_all(&self.pool).await.unwrap();
            !found.is_empty()
        })
        .await;
        assert_eq!(found.len(), 1, "{found:?}");
        found.swap_remove(0)
    }
}

type Leaf = (String, String, String, String, String, Option<Vec<u8>>, Option<String>);

async fn unheard(ending: Ending, heard_within_s: u64, told: &str) {
    let bench = Bench::new(ending, heard_within_s).await;
    assert_eq!(reason(&bench.sets("eur-usd").await.unwrap_err()), told, "{ending:?}");
    let leaf = bench.leaf().await;
    let message = prost::Message::encode_to_vec(&SetStalenessRequest { feed: "eur-usd".into(), stale_after_s: 60 });
    let framed = [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), &message].concat();
    assert_eq!((leaf.0.as_str(), leaf.1.as_str(), leaf.2.as_str()), ("call.unheard", "ALLOWED", "ops"), "{ending:?}");
    assert_eq!(leaf.4, told, "what was heard last");
    assert_eq!(leaf.5.as_deref(), Some(sha2::Sha256::digest(&framed).as_slice()), "what was asked");
    assert!(leaf.6.is_some_and(|message| !message.is_empty()));
    assert_eq!(bench.calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_leaves_the_end_open() {
    unheard(Ending::Broken, 300, "UPSTREAM_UNAVAILABLE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_its_status_leaves_the_end_open() {
    unheard(Ending::WithoutStatus, 300, "UPSTREAM_UNAVAILABLE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_answers_leaves_the_end_open() {
    unheard(Ending::Never, 1, "DEADLINE").await;
    unheard(Ending::NeverBehindTheMessage, 1, "DEADLINE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_tell_leaves_the_end_open() {
    for reason in [Reason::Deadline, Reason::DatabaseUnavailable, Reason::Internal] {
        unheard(Ending::Says(reason), 300, reason.as_str()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_heard_last_may_be_a_bare_status() {
    let bench = Bench::new(Ending::Untyped(Code::Unknown), 300).await;
    assert_eq!(bench.sets("eur-usd").await.unwrap_err().code(), Code::Unknown);
    let leaf = bench.leaf().await;
    assert_eq!((leaf.0.as_str(), leaf.4.as_str(), leaf.6.as_deref()), ("call.unheard", "Unknown", Some("so it says")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_any_more_is_noted_before_the_gateway_ends() {
    let bench = Bench::new(Ending::Never, 300).await;
    let addr = bench.gateway.addr;
    let mut feeds = FeedServiceClient::new(bench.world.pki.channel(addr, None));
    let asked = with(bench.world.keys.operator.expose(), SetStalenessRequest::default());
    let calling = tokio::spawn(async move { feeds.set_staleness(asked).await });
    until(async || bench.calls.load(Ordering::Relaxed) == 1).await;
    calling.abort();
    assert!(calling.await.unwrap_err().is_cancelled());
    bench.world.stop.request();
    let Bench { gateway, pool, world: _world, .. } = bench;
    gateway.stopped().await.unwrap();
    let leaves = "SELECT count(*) FROM engine.audit_leaves WHERE action = 'call.unheard' AND reason = 'STOPPING'";
    assert_eq!(number(&pool, leaves).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_reached_nobody_leaves_no_leaf() {
    let bench = Bench::before(world_with("", QUICK).await, "127.0.0.1:1", 300, Arc::default()).await;
    assert_eq!(reason(&bench.sets("eur-usd").await.unwrap_err()), "UPSTREAM_UNAVAILABLE");
    bench.world.stop.request();
    let Bench { gateway, pool, world: _world, .. } = bench;
    gateway.stopped().await.unwrap();
    assert_eq!(number(&pool, "SELECT count(*) FROM engine.audit_leaves WHERE action LIKE 'call%'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_says_that_it_is_one() {
    let bench = Bench::new(Ending::Repeat, 300).await;
    bench.sets("eur-usd").await.unwrap();
    let leaf = bench.leaf().await;
    assert_eq!((leaf.0.as_str(), leaf.1.as_str(), leaf.2.as_str()), ("call.allowed", "ALLOWED", "ops"));
    let said: Option<bool> = sqlx::query_scalar(
        "SELECT (body->>'is_repeat')::boolean FROM engine.audit_leaves WHERE subject = '/dalp.feeds.v1.FeedService/SetStaleness'",
    )
    .fetch_one(&bench.pool)
    .await
    .unwrap();
    assert_eq!(said, Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_heard_out_keeps_its_place() {
    let bench = Bench::new(Ending::Never, 300).await;
    let narrow = bench.world.keys.narrow.expose().to_owned();
    let mut feeds = FeedServiceClient::new(bench.world.pki.channel(bench.gateway.addr, None));
    let asked = with(&narrow, SetStalenessRequest::default());
    let calling = tokio::spawn(async move { feeds.set_staleness(asked).await });
    until(async || bench.calls.load(Ordering::Relaxed) == 1).await;
    calling.abort();
    assert!(calling.await.unwrap_err().is_cancelled());
    assert_eq!(reason(&bench.sets_by(&narrow, "eur-usd").await.unwrap_err()), "OVERLOADED", "its tenant has one place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_the_database_does_not_take_holds_up_no_other() {
    let (ledger, stop) = (ledger::Bench::new().await, Stop::new());
    let tables = Tables::over(SCHEMA, ledger.pool.clone());
    let (refusals, writer) = refusals(AuditConfig::default(), tables, stop.clone());
    let principal = Principal {
        id: "ops".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        limits: None,
        scope: Scope::ReadWrite,
        granted: Arc::default(),
        chain_ids: Vec::new(),
        signed_in: false,
        verification: None,
        hands: BTreeSet::new(),
    };
    for path in ["/before", "/with\0nul", "/behind"] {
        let refused = Refused {
            principal: &principal,
            path,
            reason: "PERMISSION_DENIED",
            message: "no",
            idempotency_key: None,
            payload_hash: None,
        };
        assert!(refusals.note(&refused));
    }
    stop.request();
    writer.run().await;
    let kept: Vec<String> = sqlx::query_scalar("SELECT subject FROM engine.audit_leaves ORDER BY sequence")
        .fetch_all(&ledger.pool)
        .await
        .unwrap();
    assert_eq!(kept, ["/before", "/behind"]);
}
