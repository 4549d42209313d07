//! The server and the client against each other, over real sockets and real certificates.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::SocketAddr;

use dalp_service::{
    Refusal,
    config::TlsConfig,
    server::{PeerPolicy, Server},
    stop::Stop,
    tls::{ClientAuth, ClientTls},
};
use rustls::AlertDescription;
use support::{
    ECHO, Echo, World, alert, anonymous, assert_client_refused, call, channel, client_tls, pki::DevPki, reason, say,
    server_config, start, tls_config,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

#[tokio::test]
async fn an_allowed_peer_is_served_and_seen() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let answer = say(channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-compliance"))).await.unwrap();
    assert_eq!(answer.metadata().get("seen-peer").unwrap(), "spiffe://dalp.dev/svc-compliance");
}

#[tokio::test]
async fn a_peer_that_is_not_listed_is_denied() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let status = say(channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-feeds"))).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PEER_NOT_ALLOWED"));
    let details = Refusal::details(&status).unwrap();
    assert_eq!(details.metadata["peer"], "spiffe://dalp.dev/svc-feeds");
    assert_eq!(details.metadata["method"], ECHO);
}

#[tokio::test]
async fn a_client_without_a_certificate_does_not_connect() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let anchors = world.pki.files("svc-feeds").trust_anchors;
    assert_eq!(alert(running.address, &anchors, None).await, Some(AlertDescription::CertificateRequired));
}

#[tokio::test]
async fn optional_client_certificates_let_in_and_the_policy_decides() {
    let world = World::new();
    let anchors = world.pki.files("svc-feeds").trust_anchors;
    let closed = start(world.server().client_auth(ClientAuth::Optional), Echo::new().service()).await;
    let status = say(anonymous(closed.address, &anchors)).await.unwrap_err();
    assert_eq!(reason(&status), "PEER_NOT_ALLOWED");

    let config = server_config(&world.pki.files("svc-signer"));
    let open = Server::new("svc-gateway", &config, PeerPolicy::public()).client_auth(ClientAuth::Optional);
    let open = start(open, Echo::new().service()).await;
    let answer = say(anonymous(open.address, &anchors)).await.unwrap();
    assert_eq!(answer.metadata().get("seen-peer").unwrap(), "nobody");
    // A certificate that is shown must be valid all the same.
    let other = DevPki::create(&world.dir.path().join("other"), &["svc-compliance"]).unwrap();
    let shown = other.files("svc-compliance");
    assert_eq!(alert(open.address, &anchors, Some(&shown)).await, Some(AlertDescription::UnknownCA));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let other = DevPki::create(&world.dir.path().join("other"), &["svc-signer", "svc-compliance"]).unwrap();
    // The server refuses the client.
    let anchors = world.pki.files("svc-signer").trust_anchors;
    let shown = other.files("svc-compliance");
    assert_eq!(alert(running.address, &anchors, Some(&shown)).await, Some(AlertDescription::UnknownCA));
    let shown = world.pki.files("svc-compliance");
    assert_eq!(alert(running.address, &anchors, Some(&shown)).await, None, "ours is let in");
    // The client refuses the server.
    let strangers = client_tls(&other, "svc-compliance");
    assert_client_refused(say(channel(running.address, "svc-signer", &strangers)).await, "UnknownIssuer");
    // And material that does not lead to its own anchors is not even loaded.
    let mut mixed = tls_config(&other.files("svc-compliance"));
    mixed.trust_anchors = anchors;
    assert!(matches!(ClientTls::load(&mixed), Err(dalp_service::tls::TlsError::OwnRoots(_))));
}

#[tokio::test]
async fn a_server_of_another_identity_is_refused_by_the_client() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let why = "the server is spiffe://dalp.dev/svc-signer, expected spiffe://dalp.dev/svc-gateway";
    assert_client_refused(say(channel(running.address, "svc-gateway", &tls)).await, why);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_once_the_list_is_read() {
    let mut world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    say(channel(running.address, "svc-signer", &tls)).await.unwrap();
    world.pki.revoke(world.pki.files("svc-compliance").serial).unwrap();
    let shown = world.pki.files("svc-compliance");
    assert_eq!(alert(running.address, &shown.trust_anchors, Some(&shown)).await, None, "the list was not read yet");
    assert!(running.tls.reload().unwrap());
    let refused = alert(running.address, &shown.trust_anchors, Some(&shown)).await;
    assert_eq!(refused, Some(AlertDescription::CertificateRevoked));
    // A certificate issued since is taken.
    world.pki.issue("svc-compliance").unwrap();
    assert!(tls.reload().unwrap());
    say(channel(running.address, "svc-signer", &tls)).await.unwrap();
}

#[tokio::test]
async fn a_revoked_server_is_refused_by_the_client() {
    let mut world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    world.pki.revoke(world.pki.files("svc-signer").serial).unwrap();
    assert!(tls.reload().unwrap());
    assert_client_refused(say(channel(running.address, "svc-signer", &tls)).await, "Revoked");
}

#[tokio::test]
async fn an_expired_certificate_is_not_even_loaded() {
    let mut world = World::new();
    let files = world.pki.issue_expired("svc-old").unwrap();
    assert!(ClientTls::load(&tls_config(&files)).is_err());
    let running = start(world.server(), Echo::new().service()).await;
    let refused = alert(running.address, &files.trust_anchors, Some(&files)).await;
    assert_eq!(refused, Some(AlertDescription::CertificateExpired));
}

#[tokio::test]
async fn material_is_reloaded_and_bad_material_keeps_the_old() {
    let mut world = World::new();
    let files = world.pki.files("svc-signer");
    let running = start(world.server(), Echo::new().service()).await;
    assert!(!running.tls.reload().unwrap(), "nothing changed");
    let old = world.pki.files("svc-signer").serial;

    world.pki.issue("svc-signer").unwrap();
    assert!(running.tls.reload().unwrap());
    // The old certificate is revoked for the client: only the new one can answer it.
    world.pki.revoke(old).unwrap();
    let tls = client_tls(&world.pki, "svc-compliance");
    say(channel(running.address, "svc-signer", &tls)).await.unwrap();

    // Key of another certificate, then no certificate at all: refused, and still serving.
    std::fs::copy(world.pki.files("svc-feeds").key, &files.key).unwrap();
    assert!(running.tls.reload().is_err());
    std::fs::write(&files.certificate, "not a certificate").unwrap();
    assert!(running.tls.reload().is_err());
    say(channel(running.address, "svc-signer", &tls)).await.unwrap();
}

#[tokio::test]
async fn files_are_watched() {
    let mut world = World::new();
    let stop = Stop::new();
    let running = start(world.server(), Echo::new().service()).await;
    let client =
        ClientTls::load(&TlsConfig { reload_ms: 5, ..tls_config(&world.pki.files("svc-compliance")) }).unwrap();
    let mut published = client.published();
    let watching = client.watch(&stop);
    world.pki.issue("svc-compliance").unwrap();
    published.changed().await.unwrap();
    say(channel(running.address, "svc-signer", &client)).await.unwrap();
    stop.request();
    watching.await.unwrap();
}

#[tokio::test]
async fn a_message_of_ten_megabytes_is_refused_by_type() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let big = HealthCheckRequest { service: "x".repeat(10 * 1024 * 1024) };
    // To the service, which reads the body itself, and to a generated server.
    for path in [ECHO, "/grpc.health.v1.Health/Check"] {
        let status = call(channel(running.address, "svc-signer", &tls), path, big.clone()).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), "{path}");
        assert_eq!(Refusal::details(&status).unwrap().metadata["limit_bytes"], "4194304");
    }
    let just_fits = HealthCheckRequest { service: "x".repeat(4 * 1024 * 1024 - 16) };
    call(channel(running.address, "svc-signer", &tls), ECHO, just_fits).await.unwrap();
}

#[tokio::test]
async fn health_is_per_dependency_and_overall() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let mut client = HealthClient::new(channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-feeds")));
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.check(request).await.map(|answer| answer.into_inner().status())
    };
    assert_eq!(check("").await.unwrap(), ServingStatus::Serving);
    running.health.set("database", false).await;
    running.health.set("chain", true).await;
    assert_eq!(check("database").await.unwrap(), ServingStatus::NotServing);
    assert_eq!(check("chain").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("").await.unwrap(), ServingStatus::NotServing);
    running.health.set("database", true).await;
    assert_eq!(check("").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("unheard-of").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_contracts() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let mut client =
        ServerReflectionClient::new(channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-feeds")));
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("not a list");
    };
    assert!(list.service.iter().any(|service| service.name == "dalp.signer.v1.SignerService"), "{list:?}");
}

#[tokio::test]
async fn a_panic_is_one_failed_request() {
    let world = World::new();
    let running = start(world.server(), Echo::new().service()).await;
    let channel = channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-compliance"));
    let status = call(channel.clone(), "/test.v1.Echo/Panic", HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INTERNAL"));
    say(channel).await.unwrap();
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_finish() {
    let world = World::new();
    let echo = Echo::new();
    let running = start(world.server(), echo.service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let in_flight = tokio::spawn(call(
        channel(running.address, "svc-signer", &tls),
        "/test.v1.Echo/Wait",
        HealthCheckRequest::default(),
    ));
    echo.entered.acquire().await.unwrap().forget();
    running.stop.request();
    echo.released.add_permits(1);
    in_flight.await.unwrap().unwrap();
    running.task.await.unwrap();
    assert!(!running.health.is_serving().await);
    assert_eq!(TcpStream::connect(running.address).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn addresses_are_announced_and_metrics_served() {
    use tokio::io::AsyncWriteExt as _;
    let world = World::new();
    let mut config = server_config(&world.pki.files("svc-signer"));
    config.address_file = Some(world.dir.path().join("address"));
    config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    config.metrics_address_file = Some(world.dir.path().join("metrics-address"));
    config.allowed_peers.insert("/test.v1.Echo/".to_owned(), vec!["svc-feeds".to_owned()]);
    let running = start(Server::new("svc-signer", &config, PeerPolicy::deny_all()), Echo::new().service()).await;
    let announced = std::fs::read_to_string(world.dir.path().join("address")).unwrap();
    assert_eq!(announced.parse::<SocketAddr>().unwrap(), running.address);
    // The configuration's own rule is in force.
    say(channel(running.address, "svc-signer", &client_tls(&world.pki, "svc-feeds"))).await.unwrap();

    let metrics = std::fs::read_to_string(world.dir.path().join("metrics-address")).unwrap();
    let mut stream = TcpStream::connect(metrics.parse::<SocketAddr>().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    // A path that is no method of the contracts gets no label of its own: whoever calls could make up any number of them.
    assert!(text.contains("grpc_server_requests_total{service=\"svc-signer\",method=\"other\",code=\"OK\"}"), "{text}");
    assert!(text.contains("grpc_server_duration_seconds_bucket"), "{text}");
}
