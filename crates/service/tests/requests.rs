//! The life of requests: deadlines follow them to the next service, and a stop lets them finish.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dalp_service::{
    client::Propagate,
    deadline::Deadline,
    server::{PeerPolicy, Server},
    stop::Stop,
};
use support::{Echo, World, call, channel, client_tls, reason, server_config, start, start_until};
use tonic::{Code, Request, body::Body, service::interceptor::InterceptedService, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const WAIT: &str = "/test.v1.Echo/Wait";

/// Calls `/test.v1.Echo/Wait` with a deadline of its own.
async fn wait_at_most(channel: Channel, timeout: Duration) -> tonic::Status {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(HealthCheckRequest::default());
    // As another client's library would send it: this one's own clock must not decide.
    let milliseconds = format!("{}m", timeout.as_millis());
    request.metadata_mut().insert("grpc-timeout", milliseconds.parse().unwrap());
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    grpc.unary(request, http::uri::PathAndQuery::from_static(WAIT), codec).await.unwrap_err()
}

#[tokio::test]
async fn the_rest_of_a_deadline_goes_on_to_the_next_service() {
    let world = World::new();
    let seen: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let never = Arc::new(tokio::sync::Semaphore::new(0));
    let policy = || PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance", "svc-feeds"]);
    let behind = {
        let (seen, never) = (Arc::clone(&seen), Arc::clone(&never));
        let service = tower::service_fn(move |_: http::Request<Body>| {
            let (seen, never) = (Arc::clone(&seen), Arc::clone(&never));
            async move {
                seen.lock().unwrap().push(Deadline::current().unwrap().remaining());
                never.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(http::Response::new(Body::empty()))
            }
        });
        start(Server::new("svc-signer", &server_config(&world.pki.files("svc-signer")), policy()), service).await
    };
    let front = {
        let next = channel(behind.address, "svc-signer", &client_tls(&world.pki, "svc-compliance"));
        let service = tower::service_fn(move |_: http::Request<Body>| {
            let mut grpc = tonic::client::Grpc::new(InterceptedService::new(next.clone(), Propagate));
            async move {
                grpc.ready().await.unwrap();
                let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
                let path = http::uri::PathAndQuery::from_static(WAIT);
                let answer = grpc.unary(Request::new(HealthCheckRequest::default()), path, codec).await;
                Ok::<_, Infallible>(answer.expect_err("nobody answers").into_http::<Body>())
            }
        });
        let files = world.pki.files("svc-compliance");
        start(Server::new("svc-compliance", &server_config(&files), policy()), service).await
    };
    let began = Instant::now();
    let client = channel(front.address, "svc-compliance", &client_tls(&world.pki, "svc-feeds"));
    let status = wait_at_most(client, Duration::from_secs(8)).await;
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "the deadline ended it");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert!(seen[0] <= Duration::from_secs(8), "{seen:?}");
}

#[tokio::test]
async fn a_deadline_that_passes_is_said_by_reason() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let client = channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-compliance"));
    let status = wait_at_most(client, Duration::from_millis(200)).await;
    // This client's library counts the same deadline; when the server is first, it says so by type.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    if status.code() == Code::DeadlineExceeded {
        assert_eq!(reason(&status), "DEADLINE");
    }
}

/// The signal that orchestrators send. Each test is a process of its own, so the signal reaches this one alone.
#[tokio::test]
async fn sigterm_lets_requests_in_flight_finish_and_takes_no_more() {
    let world = World::new();
    let echo = Echo::new();
    let running = start_until(world.server(), echo.service(), Stop::on_signals()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let waiting = tokio::spawn(call(channel(running.address, "svc-signer", &tls), WAIT, HealthCheckRequest::default()));
    echo.entered.acquire().await.unwrap().forget();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    running.stop.requested().await;
    echo.released.add_permits(1);
    waiting.await.unwrap().expect("the request in flight is answered");
    running.task.await.unwrap();
    assert!(!running.health.is_serving().await);
    let refused = call(channel(running.address, "svc-signer", &tls), WAIT, HealthCheckRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_outlast_the_drain() {
    let world = World::new();
    let echo = Echo::new();
    let mut config = server_config(&world.pki.files("svc-signer"));
    config.drain_ms = 100;
    let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
    let running = start(Server::new("svc-signer", &config, policy), echo.service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let waiting = tokio::spawn(call(channel(running.address, "svc-signer", &tls), WAIT, HealthCheckRequest::default()));
    echo.entered.acquire().await.unwrap().forget();
    running.stop.request();
    tokio::time::timeout(Duration::from_secs(30), running.task).await.expect("the drain ends").unwrap();
    waiting.await.unwrap().expect_err("it was dropped");
}

/// A caller that sets no deadline must not hold its place for ever.
#[tokio::test]
async fn a_call_without_a_deadline_ends_after_the_servers_own() {
    let world = World::new();
    let config =
        dalp_service::config::ServerConfig { call_timeout_ms: 200, ..server_config(&world.pki.files("svc-signer")) };
    let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
    let running = start(Server::new("svc-signer", &config, policy), Echo::new().service()).await;
    let client = channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-compliance"));
    let status = call(client, WAIT, HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(reason(&status), "DEADLINE");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    use tokio::io::AsyncReadExt as _;
    let (world, echo) = (World::new(), Echo::new());
    let mut config = server_config(&world.pki.files("svc-signer"));
    (config.idle_connection_ms, config.tls.reload_ms) = (100, 20);
    let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
    let running = start(Server::new("svc-signer", &config, policy), echo.service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let used = tokio::spawn(call(channel(running.address, "svc-signer", &tls), WAIT, HealthCheckRequest::default()));
    echo.entered.acquire().await.unwrap().forget();
    let files = world.pki.files("svc-compliance");
    let identity = support::strangers_config(&files.trust_anchors, Some(&files));
    let mut idle = support::open(running.address, identity).await.unwrap();
    // What the server says of itself first, then the end, which comes only when the connection is closed.
    let _greeting_then_end = idle.read_to_end(&mut Vec::new()).await;
    assert!(!used.is_finished(), "a request in flight keeps its connection");
    echo.released.add_permits(1);
    used.await.unwrap().expect("the request in flight is answered");
}

#[tokio::test]
async fn a_connection_too_many_waits_until_another_ends() {
    let world = World::new();
    let config =
        dalp_service::config::ServerConfig { max_connections: 1, ..server_config(&world.pki.files("svc-signer")) };
    let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
    let running = start(Server::new("svc-signer", &config, policy), Echo::new().service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let first = channel(running.address, "svc-signer", &tls);
    support::say(first.clone()).await.unwrap();
    let second = tokio::spawn(support::say(channel(running.address, "svc-signer", &tls)));
    support::say(first.clone()).await.unwrap();
    assert!(!second.is_finished());
    drop(first);
    second.await.unwrap().expect("there is room now");
}

/// Small messages that nobody has read yet must not be taken for a flood: the connection is everybody's.
#[tokio::test]
async fn a_thousand_small_requests_at_once_share_a_connection() {
    const AT_ONCE: u32 = 1_000;
    let (world, echo) = (World::new(), Echo::new());
    let config = dalp_service::config::ServerConfig {
        max_concurrent_streams: AT_ONCE,
        ..server_config(&world.pki.files("svc-signer"))
    };
    let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
    let running = start(Server::new("svc-signer", &config, policy), echo.service()).await;
    let client = channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-compliance"));
    let asked = || call(client.clone(), WAIT, HealthCheckRequest { service: "small".to_owned() });
    let calls: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(asked())).collect();
    echo.entered.acquire_many(AT_ONCE).await.unwrap().forget();
    echo.released.add_permits(AT_ONCE as usize);
    for call in calls {
        call.await.unwrap().expect("answered");
    }
}
