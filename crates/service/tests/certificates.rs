//! What a certificate was good for when a connection began does not last: lists end, peers are revoked, and connections with them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use dalp_service::{
    config::ServerConfig,
    server::{PeerPolicy, Server},
    tls::{ClientAuth, ClientTls, Protocols, ServerTls, TlsError},
};
use rustls::AlertDescription;
use support::{
    Echo, Running, World, alert, assert_client_refused, call, channel, client_tls, say, server_config, start,
};
use time::OffsetDateTime;
use tonic::{Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const WAIT: &str = "/test.v1.Echo/Wait";
/// Far beyond what any of this takes.
const SOON: Duration = Duration::from_secs(30);

type Answer = Result<Response<HealthCheckResponse>, Status>;

async fn in_flight(running: &Running, echo: &Echo, tls: &ClientTls) -> tokio::task::JoinHandle<Answer> {
    let channel = channel(running.address, "svc-signer", tls);
    let waiting = tokio::spawn(call(channel, WAIT, HealthCheckRequest::default()));
    echo.entered.acquire().await.unwrap().forget();
    waiting
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it happens soon")
}

#[tokio::test]
async fn a_revoked_peer_loses_the_connection_it_has() {
    let mut world = World::new();
    let echo = Echo::new();
    let running = start(world.server(), echo.service()).await;
    let (revoked, other) = (client_tls(&world.pki, "svc-compliance"), client_tls(&world.pki, "svc-feeds"));
    let held = in_flight(&running, &echo, &revoked).await;
    let others = channel(running.address, "svc-signer", &other);
    assert!(
        say(others.clone()).await.unwrap_err().message().contains("may not call"),
        "connected, and let in no further"
    );
    world.pki.revoke(world.pki.files("svc-compliance").serial).unwrap();
    assert!(running.tls.reload().unwrap());
    soon(held).await.unwrap().expect_err("the request of a revoked peer is not answered");
    assert!(say(others).await.unwrap_err().message().contains("may not call"), "the connection of another peer stays");
    let shown = world.pki.files("svc-compliance");
    let refused = alert(running.address, &shown.trust_anchors, Some(&shown)).await;
    assert_eq!(refused, Some(AlertDescription::CertificateRevoked));
}

#[tokio::test]
async fn a_client_drops_a_revoked_server() {
    let mut world = World::new();
    let echo = Echo::new();
    let running = start(world.server(), echo.service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let held = in_flight(&running, &echo, &tls).await;
    world.pki.revoke(world.pki.files("svc-signer").serial).unwrap();
    assert!(tls.reload().unwrap());
    soon(held).await.unwrap().expect_err("a revoked server's answer is not waited for");
    assert_client_refused(say(channel(running.address, "svc-signer", &tls)).await, "Revoked");
}

#[tokio::test]
async fn a_list_that_is_out_of_date_vouches_for_nobody_until_its_successor_is_here() {
    let mut world = World::new();
    let files = world.pki.files("svc-signer");
    let mut config: ServerConfig = server_config(&files);
    config.tls.reload_ms = 20;
    let policy = PeerPolicy::deny_all().allow("/test.v1.Echo/", ["svc-compliance"]);
    let echo = Echo::new();
    let running = start(Server::new("svc-signer", &config, policy), echo.service()).await;
    let tls = client_tls(&world.pki, "svc-compliance");
    let held = in_flight(&running, &echo, &tls).await;
    assert!(running.health.is_serving().await);

    world.pki.publish_crl(OffsetDateTime::now_utc() + time::Duration::seconds(3)).unwrap();
    // Both while it is good; the server's own watch may have been first.
    running.tls.reload().unwrap();
    tls.reload().unwrap();
    soon(async {
        while running.health.dependencies().await["revocation-list"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(!running.health.is_serving().await);
    soon(held).await.unwrap().expect_err("nobody vouches for the peer any more");
    let shown = world.pki.files("svc-compliance");
    let refused = alert(running.address, &shown.trust_anchors, Some(&shown)).await;
    assert_eq!(refused, Some(AlertDescription::UnknownCA));
    assert_client_refused(say(channel(running.address, "svc-signer", &tls)).await, "ExpiredRevocationList");
    for auth in [ClientAuth::Required, ClientAuth::Optional] {
        assert!(matches!(ServerTls::load(&config.tls, auth, Protocols::Http2), Err(TlsError::ListOutOfDate { .. })));
    }
    assert!(matches!(ClientTls::load(&config.tls), Err(TlsError::ListOutOfDate { .. })));

    world.pki.publish_crl(OffsetDateTime::now_utc() + time::Duration::days(1)).unwrap();
    assert!(tls.reload().unwrap());
    soon(async {
        while !running.health.dependencies().await["revocation-list"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    say(channel(running.address, "svc-signer", &tls)).await.unwrap();
}
