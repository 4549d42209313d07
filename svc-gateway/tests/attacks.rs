//! What strangers and customers with bad manners send: each is refused by name where there is somebody to tell, and the gateway is well after.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use dalp_proto::feeds::{GetLatestRequest, feed_service_client::FeedServiceClient};
use dalp_service::Refusal;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use support::{World, until, world, world_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Status, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

const LATEST: &str = "/dalp.feeds.v1.FeedService/GetLatest";

fn framed(flags: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flags], length.as_slice(), message].concat().into()
}

fn body(bytes: Bytes) -> Body {
    Body::new(http_body_util::Full::new(bytes).map_err(|never| match never {}))
}

fn request(key: &str, path: &str, body: Body) -> Request<Body> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {key}"))
        .body(body)
        .unwrap()
}

async fn send(channel: &Channel, request: Request<Body>) -> Result<Response<Body>, tonic::transport::Error> {
    channel.clone().ready().await.unwrap().call(request).await
}

/// The status of a response, wherever in it that stands.
async fn status(response: Response<Body>) -> Status {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let collected = response.into_body().collect().await.unwrap();
    Status::from_header_map(collected.trailers().unwrap()).unwrap()
}

fn why(status: &Status) -> String {
    Refusal::details(status)
        .map_or_else(|| format!("{:?}: {}", status.code(), status.message()), |details| details.reason)
}

impl World {
    fn channel(&self) -> Channel {
        self.pki.channel(self.gateway.addr, None)
    }

    fn key(&self) -> &str {
        self.keys.operator.expose()
    }

    /// An ordinary call of an ordinary client, on a connection of its own.
    async fn is_well(&self) {
        let message = GetLatestRequest { feed: "well".to_owned(), ..Default::default() }.encode_to_vec();
        let answer = send(&self.channel(), request(self.key(), LATEST, body(framed(0, &message)))).await.unwrap();
        assert_eq!(status(answer).await.code(), tonic::Code::Ok);
    }
}

#[tokio::test]
async fn paths_that_only_look_like_a_call_are_none() {
    let world = world().await;
    let channel = world.channel();
    for path in [
        "//dalp.feeds.v1.FeedService/GetLatest",
        "/dalp.feeds.v1.FeedService/GetLatest/",
        "/dalp.feeds.v1.FeedService//GetLatest",
        "/dalp.feeds.v1.FeedService/getlatest",
        "/dalp.feeds.v1.feedservice/GetLatest",
        "/dalp.feeds.v1.FeedService%2FGetLatest",
        "/dalp.feeds.v1.FeedService/GetLatest%00",
        "/dalp.feeds.v1.FeedService/../../dalp.signer.v1.SignerService/Sign",
        "/x/../dalp.feeds.v1.FeedService/GetLatest",
        "/dalp.signer.v1.SignerService%2fSign",
        "/grpc.reflection.v1.ServerReflection/",
        "/grpc.health.v1.Health/../dalp.feeds.v1.FeedService/GetLatest",
        "/",
        "/metrics",
    ] {
        let answer = send(&channel, request(world.key(), path, body(framed(0, b"")))).await.unwrap();
        assert_eq!(why(&status(answer).await), "NOT_IMPLEMENTED", "{path}");
    }
    // What stands behind the path does not change which call it is.
    let query = format!("{LATEST}?method=/dalp.signer.v1.SignerService/Sign");
    assert_eq!(
        status(send(&channel, request(world.key(), &query, body(framed(0, b"")))).await.unwrap()).await.code(),
        tonic::Code::Ok
    );
    assert_eq!(world.upstream.seen.lock().unwrap().len(), 1);
    world.is_well().await;
}

#[tokio::test]
async fn headers_do_not_say_who_calls() {
    let world = world().await;
    let channel = world.channel();
    let names = [
        "dalp-principal",
        "dalp-roles",
        "dalp-tenants",
        "dalp-tenant-bin",
        "dalp-principal-bin",
        "dalp-roles-bin",
        "dalp-anything",
        "x-forwarded-client-cert",
        "x-forwarded-for",
        "forwarded",
        "proxy-authorization",
        "cookie",
    ];
    let mut smuggled = request(world.key(), LATEST, body(framed(0, b"")));
    for name in names {
        smuggled.headers_mut().append(name, "operator,wallet:any".parse().unwrap());
        smuggled.headers_mut().append(name, "root".parse().unwrap());
    }
    smuggled.headers_mut().append("dalp-tenant", "acme".parse().unwrap());
    smuggled.headers_mut().append("dalp-tenant", "acme".parse().unwrap());
    assert_eq!(status(send(&channel, smuggled).await.unwrap()).await.code(), tonic::Code::Ok);
    {
        let seen = world.upstream.seen.lock().unwrap();
        let (metadata, caller) = &seen[0];
        assert_eq!(caller.as_ref().unwrap().principal.as_str(), "ops");
        for name in names.iter().filter(|name| !["dalp-principal", "dalp-roles"].contains(*name)) {
            assert!(!metadata.contains_key(*name) && metadata.get_bin(*name).is_none(), "{name}");
        }
        for once in ["dalp-tenant", "dalp-principal", "dalp-roles"] {
            assert_eq!(metadata.get_all(once).iter().count(), 1, "{once}");
        }
    }
    let mut two = request(world.key(), LATEST, body(framed(0, b"")));
    two.headers_mut().append("dalp-tenant", "acme".parse().unwrap());
    two.headers_mut().append("dalp-tenant", "other".parse().unwrap());
    assert_eq!(why(&status(send(&channel, two).await.unwrap()).await), "TENANT_MISMATCH");
    world.is_well().await;
}

#[tokio::test]
async fn oversized_headers_end_the_call_and_nothing_else() {
    let world = world().await;
    let channel = world.channel();
    for (name, size) in [("x-large", 1 << 20), ("authorization", 1 << 20), ("x-large", 100_000)] {
        let mut large = request(world.key(), LATEST, body(framed(0, b"")));
        large.headers_mut().insert(name, "x".repeat(size).parse().unwrap());
        let refused = match send(&channel, large).await {
            Err(_) => true,
            Ok(answer) => !answer.status().is_success() || status(answer).await.code() != tonic::Code::Ok,
        };
        assert!(refused, "{name} of {size} bytes");
    }
    assert!(world.upstream.seen.lock().unwrap().is_empty());
    world.is_well().await;
}

#[tokio::test]
async fn compressed_messages_are_not_unpacked() {
    let world = world().await;
    let channel = world.channel();
    for encoding in ["gzip", "zstd", "deflate", "GZIP", "identity,gzip"] {
        let mut bomb = request(world.key(), LATEST, body(framed(1, &[0; 1_000])));
        bomb.headers_mut().insert("grpc-encoding", encoding.parse().unwrap());
        assert_eq!(why(&status(send(&channel, bomb).await.unwrap()).await), "NOT_IMPLEMENTED", "{encoding}");
    }
    // Said to be plain, and flagged as packed.
    let flagged = request(world.key(), LATEST, body(framed(1, &[0; 1_000])));
    assert_eq!(why(&status(send(&channel, flagged).await.unwrap()).await), "NOT_IMPLEMENTED");
    // Said to be small, and large.
    let frames = (0..2_000).map(|_| Ok::<_, Status>(Frame::data(framed(0, &[0; 4_096]))));
    let many = request(world.key(), LATEST, Body::new(StreamBody::new(futures::stream::iter(frames))));
    if let Ok(answer) = send(&channel, many).await {
        assert_ne!(status(answer).await.code(), tonic::Code::Ok, "one message is asked for");
    }
    assert!(world.upstream.seen.lock().unwrap().is_empty());
    world.is_well().await;
}

#[tokio::test]
async fn what_does_not_read_is_the_callers_mistake() {
    let world = world().await;
    let channel = world.channel();
    // Field 1, length-delimited: not UTF-8; longer than there is; a varint without end; an unknown wire type.
    for bytes in [&b"\x0a\x02\xff\xfe"[..], b"\x0a\x7f\x41", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", b"\x0f"] {
        for path in [LATEST, "/dalp.operation.v1.OperationService/GetOperation"] {
            let status =
                status(send(&channel, request(world.key(), path, body(framed(0, bytes)))).await.unwrap()).await;
            assert_eq!(why(&status), "INVALID_FIELD", "{path}, {bytes:?}: {status:?}");
        }
    }
    assert!(world.upstream.seen.lock().unwrap().is_empty());
    world.is_well().await;
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up() {
    let world = world_with("", "").await;
    let channel = world.channel();
    let started = Instant::now();
    // A byte now and then, for ever: also to a call that has no deadline of its own.
    for path in [LATEST, "/dalp.feeds.v1.FeedService/WatchFeeds"] {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Some((Ok::<_, Status>(Frame::data(Bytes::from_static(b"\0"))), ()))
        });
        let slow = request(world.key(), path, Body::new(StreamBody::new(drops)));
        let answer = tokio::time::timeout(Duration::from_secs(20), send(&channel, slow)).await.expect("it is given up");
        if let Ok(answer) = answer {
            let status = status(answer).await;
            assert_eq!(why(&status), "DEADLINE", "{path}: {status:?}");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    world.is_well().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let world = world_with("", "").await;
    // Not even TLS; TLS and no HTTP/2; half of its preface.
    let silent = tokio::net::TcpStream::connect(world.gateway.addr).await.unwrap();
    let mut ends = vec![tokio::spawn(ended(silent))];
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let stream = tokio::net::TcpStream::connect(world.gateway.addr).await.unwrap();
        let mut stream = world.pki.connector(None).connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(said).await.unwrap();
        stream.flush().await.unwrap();
        ends.push(tokio::spawn(ended(stream)));
    }
    world.is_well().await;
    for end in ends {
        tokio::time::timeout(Duration::from_secs(15), end).await.expect("it is closed").unwrap();
    }
    world.is_well().await;
}

/// Completes when the other side has closed.
async fn ended(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut bytes = [0; 1_024];
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn a_certificate_names_one_principal_and_no_pattern() {
    let world = world().await;
    let machine = "spiffe://dalp.dev/clients/machine";
    for (what, uris) in [
        ("a pattern", vec!["spiffe://dalp.dev/clients/*"]),
        ("a pattern of all", vec!["spiffe://*/clients/machine"]),
        ("two", vec![machine, "spiffe://dalp.dev/clients/other"]),
        ("twice the same", vec![machine, machine]),
        ("one beside another kind of URI", vec!["https://dalp.dev/", machine]),
        ("none", vec![]),
        ("upper case", vec!["spiffe://dalp.dev/clients/MACHINE"]),
        ("a way round", vec!["spiffe://dalp.dev/x/../clients/machine"]),
    ] {
        world.pki.issue_as("clients/odd", &uris, |_| {});
        let mut feeds = FeedServiceClient::new(world.pki.channel_with(world.gateway.addr, Some("clients/odd")));
        let refused = feeds.get_latest(GetLatestRequest::default()).await.unwrap_err();
        assert!(Refusal::details(&refused).is_none(), "{what}: nobody was there to refuse: {refused:?}");
    }
    // Another trust domain of the same authority is another name.
    world.pki.issue_as("clients/odd", &["spiffe://evil.example/clients/machine"], |_| {});
    let mut feeds = FeedServiceClient::new(world.pki.channel_with(world.gateway.addr, Some("clients/odd")));
    let refused = feeds.get_latest(GetLatestRequest::default()).await.unwrap_err();
    assert_eq!(why(&refused), "UNAUTHENTICATED_INVALID");
    let mut feeds = FeedServiceClient::new(world.pki.channel(world.gateway.addr, Some("clients/machine")));
    feeds.get_latest(GetLatestRequest::default()).await.unwrap();
    assert_eq!(world.upstream.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn ten_thousand_guesses_let_nobody_in_and_push_nobody_out() {
    let world = world().await;
    world.is_well().await;
    let channel = world.channel();
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let channel = channel.clone();
        let prefix = world.keys.operator.prefix().to_owned();
        guesses.spawn(async move {
            let mut answered = 0;
            for guess in 0..1_000_u32 {
                let known = format!("dalp_{prefix}_{guess:064x}");
                let unknown = svc_gateway::api_key::ApiKey::generate().unwrap();
                let key = if guess % 2 == 0 { known.as_str() } else { unknown.expose() };
                // Now and then the gateway has enough of the connection; the next call opens another.
                if let Ok(answer) = send(&channel, request(key, LATEST, body(framed(0, b"")))).await {
                    match why(&status(answer).await).as_str() {
                        "UNAUTHENTICATED_INVALID" => answered += 1,
                        // Nobody can know while the database is slow, and nobody is let in.
                        "DATABASE_UNAVAILABLE" => {}
                        other => panic!("{other}"),
                    }
                }
            }
            answered
        });
    }
    let mut answered = 0;
    while let Some(done) = guesses.join_next().await {
        answered += done.unwrap();
        world.is_well().await;
    }
    assert!(answered > 9_000, "{answered}");
    until(async || world.gateway.health.is_serving().await).await;
}
