//! What a process shows of itself: traces at a collector, metrics at its endpoint.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use dalp_service::{
    config::{LogFormat, TelemetryConfig},
    server::{PeerPolicy, Server},
    stop::Stop,
    telemetry,
};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Echo, World, channel, client_tls, serve, server_config, start};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// What arrived at the collector: path and body of each export.
type Exports = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// The receiving end of OTLP over gRPC, as far as an exporter sees it.
async fn collector() -> (SocketAddr, Exports) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, exports) = (listener.local_addr().unwrap(), Exports::default());
    let seen = Arc::clone(&exports);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request: http::Request<Incoming>| {
                let seen = Arc::clone(&seen);
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                    seen.lock().unwrap().push((path, body));
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let body = Full::new(Bytes::from_static(&[0; 5]))
                        .with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
                    let mut response = http::Response::new(body);
                    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, exports)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_a_span_at_the_collector_under_the_callers_trace() {
    let (address, exports) = collector().await;
    let config = TelemetryConfig {
        log_format: LogFormat::Text,
        log_filter: "info".to_owned(),
        otlp_endpoint: Some(format!("http://{address}")),
    };
    let guard = telemetry::init("svc-signer", &config).unwrap();
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let mut grpc =
        tonic::client::Grpc::new(channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-compliance")));
    grpc.ready().await.unwrap();
    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("traceparent", format!("00-{TRACE_ID}-b7ad6b7169203331-01").parse().unwrap());
    let path = http::uri::PathAndQuery::from_static(support::ECHO);
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    grpc.unary(request, path, codec).await.unwrap();
    running.stop.request();
    running.task.await.unwrap();
    // The end of the process exports what is left.
    tokio::task::spawn_blocking(move || drop(guard)).await.unwrap();
    let exports = exports.lock().unwrap();
    let trace_id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&TRACE_ID[2 * at..2 * at + 2], 16).unwrap()).collect();
    let found = exports.iter().any(|(path, body)| {
        path == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            && contains(body, &trace_id)
            && contains(body, b"svc-signer")
            && contains(body, b"test.v1.Echo/Say")
    });
    assert!(found, "{} exports", exports.len());
}

#[tokio::test]
async fn the_metrics_of_the_listener_are_all_served() {
    let mut world = World::new();
    let mut config = server_config(&world.pki.files("svc-signer"));
    config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    config.metrics_address_file = Some(world.dir.path().join("metrics"));
    config.tls.reload_ms = 10;
    let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
    let running = start(Server::new("svc-signer", &config, policy), Echo::new().service()).await;
    let held = channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-compliance"));
    support::say(held.clone()).await.unwrap();
    let anchors = world.pki.files("svc-feeds").trust_anchors;
    assert!(support::alert(running.address, &anchors, None).await.is_some());
    world.pki.revoke(world.pki.files("svc-compliance").serial).unwrap();
    let metrics: SocketAddr = std::fs::read_to_string(world.dir.path().join("metrics")).unwrap().parse().unwrap();
    let wanted = [
        "grpc_server_requests_total{service=\"svc-signer\",method=\"other\",code=\"OK\"} 1",
        "grpc_server_in_flight{service=\"svc-signer\"} 0",
        "tls_handshake_failures_total 1",
        "tls_reloads_total{side=\"server\",outcome=\"published\"} 1",
        "tls_certificate_not_after_seconds{side=\"server\"}",
        "tls_revocation_list_next_update_seconds{side=\"server\"}",
        "tls_peers_dismissed_total{side=\"server\"} 1",
    ];
    let mut text = String::new();
    let seen = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while !wanted.iter().all(|line| text.contains(line)) {
            text = scrape(metrics, "/metrics").await;
        }
    });
    let _ = seen.await; // the assertions below say what is missing
    for line in wanted {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(scrape(metrics, "/").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_prober_without_a_certificate_learns_whom_to_send_calls_to() {
    let world = World::new();
    let mut config = server_config(&world.pki.files("svc-signer"));
    config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    config.metrics_address_file = Some(world.dir.path().join("metrics"));
    let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
    let echo = Echo::new();
    let bound = Server::new("svc-signer", &config, policy).bind().await.unwrap();
    // As the services do: before it serves.
    bound.health().set("database", false).await;
    bound.health().set("chain", false).await;
    let running = serve(bound, echo.service(), Stop::new());
    let probed: SocketAddr = std::fs::read_to_string(world.dir.path().join("metrics")).unwrap().parse().unwrap();
    let code = async |path: &str| scrape(probed, path).await["HTTP/1.1 ".len()..][..3].to_owned();
    assert_eq!(code("/livez").await, "200");
    assert_eq!(code("/readyz").await, "503", "it never had what it needs");
    running.health.set("database", true).await;
    assert_eq!(code("/readyz").await, "503", "the chain is still away");
    running.health.set("chain", true).await;
    assert_eq!(code("/readyz").await, "200");
    running.health.set("chain", false).await;
    assert_eq!(code("/readyz").await, "200", "what all replicas lose takes none of them out");
    // A call in flight keeps the stopping service there: alive, and not for new callers.
    let held = channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-compliance"));
    let call = tokio::spawn(support::call(held, "/test.v1.Echo/Wait", Default::default()));
    echo.entered.acquire().await.unwrap().forget();
    running.stop.request();
    let stopping =
        tokio::time::timeout(std::time::Duration::from_secs(30), async { while code("/readyz").await != "503" {} });
    stopping.await.expect("a stopping service is not ready");
    assert_eq!(code("/livez").await, "200");
    echo.released.add_permits(1);
    call.await.unwrap().unwrap();
    running.task.await.unwrap();
}

async fn scrape(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
