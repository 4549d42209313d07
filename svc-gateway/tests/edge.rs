//! The gateway over real TLS in front of a real upstream: who gets through, with what, and what everyone else hears.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use dalp_proto::{
    feeds::{GetLatestRequest, SubmitUpdateRequest, feed_service_client::FeedServiceClient},
    operation::GetOperationRequest,
    settlement::{GetSettlementRequest, settlement_service_client::SettlementServiceClient},
    signer::{StatusRequest, signer_service_client::SignerServiceClient},
};
use dalp_service::{Reason, Refusal, errors::RefusalDetails};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use support::{World, world};
use svc_gateway::api_key::ApiKey;
use tonic::{Code, Request, Status, body::Body, metadata::MetadataMap, transport::Channel};
use tower::{Service as _, ServiceExt as _};

fn with_key<T>(key: &ApiKey, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", key.expose()).parse().unwrap());
    request
}

fn latest(feed: &str) -> GetLatestRequest {
    GetLatestRequest { feed: feed.to_owned(), ..Default::default() }
}

fn details(status: &Status) -> RefusalDetails {
    Refusal::details(status).unwrap_or_else(|| panic!("not a typed refusal: {status:?}"))
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, reason: Reason) -> (RefusalDetails, MetadataMap) {
    let status = result.unwrap_err();
    let details = details(&status);
    assert_eq!((details.reason.as_str(), status.code()), (reason.as_str(), reason.code()), "{status:?}");
    (details, status.metadata().clone())
}

impl World {
    fn anonymous(&self) -> FeedServiceClient<Channel> {
        FeedServiceClient::new(self.pki.channel(self.gateway.addr, None))
    }

    fn calls(&self) -> usize {
        self.upstream.seen.lock().unwrap().len()
    }
}

#[tokio::test]
async fn a_call_with_an_api_key_or_a_certificate_passes() {
    let world = world().await;
    let answer = world.anonymous().get_latest(with_key(&world.keys.operator, latest("f"))).await.unwrap();
    assert_eq!(answer.into_inner().value, "f");
    let mut machine = FeedServiceClient::new(world.pki.channel(world.gateway.addr, Some("clients/machine")));
    machine.get_latest(latest("g")).await.unwrap();
    let seen = world.upstream.seen.lock().unwrap();
    let callers: Vec<_> = seen.iter().map(|(_, caller)| caller.clone().unwrap()).collect();
    assert_eq!((callers[0].tenant.as_str(), callers[0].principal.as_str()), ("acme", "ops"));
    assert!(callers[0].has_role("operator") && callers[0].has_role("wallet:any") && callers[0].has_role("feed:read"));
    assert_eq!(callers[1].principal.as_str(), "machine");
}

/// What ends a message must still end it behind the gateway: a connection takes few empty frames that end nothing.
#[tokio::test]
async fn a_connection_to_an_upstream_carries_any_number_of_calls() {
    let world = world().await;
    let mut client = world.anonymous();
    for _ in 0..300 {
        client.get_latest(with_key(&world.keys.operator, latest("f"))).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_good_credential_nothing_passes() {
    let world = world().await;
    let mut anonymous = world.anonymous();
    assert_refused(anonymous.get_latest(latest("f")).await, Reason::UnauthenticatedMissing);
    assert_refused(anonymous.get_latest(with_key(&world.keys.expired, latest("f"))).await, Reason::ApiKeyExpired);
    assert_refused(anonymous.get_latest(with_key(&world.keys.disabled, latest("f"))).await, Reason::ApiKeyDisabled);
    let mut gone = FeedServiceClient::new(world.pki.channel(world.gateway.addr, Some("clients/gone")));
    assert_refused(gone.get_latest(latest("f")).await, Reason::UnauthenticatedInvalid);
    let unknown = ApiKey::generate().unwrap();
    assert_refused(anonymous.get_latest(with_key(&unknown, latest("f"))).await, Reason::UnauthenticatedInvalid);
    // The prefix of a known key with another secret.
    let forged: ApiKey = format!("dalp_{}_{}", world.keys.operator.prefix(), "0".repeat(64)).parse().unwrap();
    assert_refused(anonymous.get_latest(with_key(&forged, latest("f"))).await, Reason::UnauthenticatedInvalid);
    let mut basic = Request::new(latest("f"));
    basic.metadata_mut().insert("authorization", "Basic b3BzOm9wcw==".parse().unwrap());
    assert_refused(anonymous.get_latest(basic).await, Reason::UnauthenticatedInvalid);
    // A certificate of the same authority that belongs to no principal: another service of the mesh.
    let mut service = FeedServiceClient::new(world.pki.channel(world.gateway.addr, Some("svc-compliance")));
    assert_refused(service.get_latest(latest("f")).await, Reason::UnauthenticatedInvalid);
    assert_eq!(world.calls(), 0);
}

#[tokio::test]
async fn a_certificate_of_another_authority_gets_no_connection() {
    let (world, stranger) = (world().await, support::Pki::new());
    std::fs::copy(world.pki.path("ca.pem"), stranger.path("ca.pem")).unwrap();
    let mut client = FeedServiceClient::new(stranger.channel(world.gateway.addr, Some("clients/machine")));
    let broken = client.get_latest(latest("f")).await.unwrap_err();
    assert!(Refusal::details(&broken).is_none(), "nobody was there to refuse: {broken:?}");
    assert_eq!(world.calls(), 0);
}

#[tokio::test]
async fn permissions_and_scopes_hold() {
    let world = world().await;
    let mut client = world.anonymous();
    let (details, _) =
        assert_refused(client.get_latest(with_key(&world.keys.poor, latest("f"))).await, Reason::PermissionDenied);
    assert_eq!(details.metadata["permission"], "feed:read");
    client.get_latest(with_key(&world.keys.reader, latest("f"))).await.unwrap();
    let write = with_key(&world.keys.reader, SubmitUpdateRequest::default());
    let (_, metadata) = assert_refused(client.submit_update(write).await, Reason::ReadOnlyKey);
    assert!(metadata.contains_key("idempotency-key"), "also a refusal names the key in force");
    assert_eq!(world.calls(), 1);
}

#[tokio::test]
async fn another_tenant_is_refused_and_the_own_may_be_named() {
    let world = world().await;
    let named = |tenant: &'static str| {
        let mut request = with_key(&world.keys.operator, latest("f"));
        request.metadata_mut().insert("dalp-tenant", tenant.parse().unwrap());
        request
    };
    assert_refused(world.anonymous().get_latest(named("tiny")).await, Reason::TenantMismatch);
    world.anonymous().get_latest(named("acme")).await.unwrap();
}

#[tokio::test]
async fn what_a_client_claims_about_itself_is_dropped() {
    let world = world().await;
    let mut request = with_key(&world.keys.operator, latest("f"));
    for (name, value) in [
        ("dalp-principal", "root"),
        ("dalp-roles", "god"),
        ("dalp-new", "x"),
        ("cookie", "c"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-own", "kept"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
        .metadata_mut()
        .insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
    world.anonymous().get_latest(request).await.unwrap();
    let seen = world.upstream.seen.lock().unwrap();
    let (metadata, caller) = &seen[0];
    let caller = caller.clone().unwrap();
    assert_eq!(caller.principal.as_str(), "ops");
    assert!(!caller.has_role("god"));
    for absent in ["dalp-new", "authorization", "cookie", "x-forwarded-for"] {
        assert!(!metadata.contains_key(absent), "{absent}");
    }
    assert_eq!(metadata.get("x-own").unwrap(), "kept");
    assert!(metadata.get("traceparent").unwrap().to_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
}

#[tokio::test]
async fn a_write_always_has_an_idempotency_key() {
    let world = world().await;
    let mut client = world.anonymous();
    let write = |feed: &str, key: Option<&str>| {
        let mut request =
            with_key(&world.keys.operator, SubmitUpdateRequest { feed: feed.into(), ..Default::default() });
        if let Some(key) = key {
            request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
        }
        request
    };
    let generated = client.submit_update(write("f", None)).await.unwrap();
    let key = generated.metadata().get("idempotency-key").unwrap().to_str().unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&key).unwrap().get_version_num(), 7);
    assert_eq!(generated.metadata().get("idempotency-replayed").unwrap(), "false");
    let repeated = client.submit_update(write("f", Some(&key))).await.unwrap();
    assert_eq!(repeated.metadata().get("idempotency-key").unwrap(), key.as_str());
    assert_eq!(repeated.metadata().get("idempotency-replayed").unwrap(), "true");
    let (_, metadata) = assert_refused(client.submit_update(write("refuse", Some("mine"))).await, Reason::InvalidField);
    assert_eq!(metadata.get("idempotency-key").unwrap(), "mine");
    assert_eq!(metadata.get("idempotency-replayed").unwrap(), "false");
    let before = world.calls();
    for bad in ["a b", &"x".repeat(129), ""] {
        let (details, _) = assert_refused(client.submit_update(write("f", Some(bad))).await, Reason::InvalidField);
        assert_eq!(details.violations[0].0, "idempotency-key");
    }
    assert_eq!(world.calls(), before);
    let read = client.get_latest(with_key(&world.keys.operator, latest("f"))).await.unwrap();
    assert!(!read.metadata().contains_key("idempotency-key"), "a read has none");
}

#[tokio::test]
async fn unknown_and_mesh_calls_are_not_routed() {
    let world = world().await;
    let channel = world.pki.channel(world.gateway.addr, None);
    let mut signer = SignerServiceClient::new(channel.clone());
    assert_refused(signer.status(with_key(&world.keys.operator, StatusRequest::default())).await, Reason::NotFound);
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<GetLatestRequest, GetLatestRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/dalp.feeds.v1.FeedService/Guess");
    let (details, _) = assert_refused(
        grpc.unary(with_key(&world.keys.operator, latest("f")), path, codec).await,
        Reason::NotImplemented,
    );
    assert_eq!(details.metadata["method"], "/dalp.feeds.v1.FeedService/Guess");
}

#[tokio::test]
async fn ten_megabytes_are_refused_by_name() {
    let world = world().await;
    let huge = "x".repeat(10 * 1024 * 1024);
    assert_refused(
        world.anonymous().get_latest(with_key(&world.keys.operator, latest(&huge))).await,
        Reason::MessageTooLarge,
    );
    assert_eq!(world.calls(), 0);
    let large = "x".repeat(3 * 1024 * 1024);
    let answer = world.anonymous().get_latest(with_key(&world.keys.operator, latest(&large))).await.unwrap();
    assert_eq!(answer.into_inner().value.len(), large.len());
}

#[tokio::test]
async fn a_tenant_has_its_rate_and_repeats_are_free() {
    let world = world().await;
    let mut client = world.anonymous();
    let write = |key: &str| {
        let mut request = with_key(&world.keys.limited, SubmitUpdateRequest::default());
        request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
        request
    };
    client.submit_update(write("one")).await.unwrap();
    // One passes each second: sooner or later one comes too soon.
    let mut refused = Ok(());
    let mut number = 0;
    support::until(async || {
        number += 1;
        refused = client.submit_update(write(&format!("more-{number}"))).await.map(drop);
        refused.is_err()
    })
    .await;
    let (details, _) = assert_refused(refused, Reason::RateLimited);
    let wait = details.retry_after.unwrap();
    assert!(wait <= Duration::from_secs(1));
    tokio::time::sleep(wait + Duration::from_millis(20)).await;
    for _ in 0..5 {
        let replayed = client.submit_update(write("one")).await.unwrap();
        assert_eq!(replayed.metadata().get("idempotency-replayed").unwrap(), "true");
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_is_named_and_retryable() {
    let world = world().await;
    let mut settlement = SettlementServiceClient::new(world.pki.channel(world.gateway.addr, None));
    let call = settlement.get_settlement(with_key(&world.keys.operator, GetSettlementRequest::default()));
    let (details, _) = assert_refused(call.await, Reason::UpstreamUnavailable);
    assert_eq!(details.metadata["upstream"], "svc-settlement");
    assert!(details.retry_after.is_some());
    // One that goes away while a call is in flight answers the same way.
    let mut client = world.anonymous();
    client.get_latest(with_key(&world.keys.operator, latest("f"))).await.unwrap();
    world.upstream_stop.request();
    let mut answer = Ok(());
    support::until(async || {
        answer = client.get_latest(with_key(&world.keys.operator, latest("f"))).await.map(drop);
        answer.is_err()
    })
    .await;
    assert_refused(answer, Reason::UpstreamUnavailable);
}

#[tokio::test]
async fn the_callers_deadline_holds() {
    let world = world().await;
    let mut client = world.anonymous();
    client.get_latest(with_key(&world.keys.operator, latest("f"))).await.unwrap();
    let mut request = with_key(&world.keys.operator, latest("slow"));
    request.metadata_mut().insert("grpc-timeout", "3S".parse().unwrap());
    // The client's own library counts the same deadline; whichever notices first ends the call.
    let ended = tokio::time::timeout(Duration::from_secs(25), client.get_latest(request)).await.unwrap().unwrap_err();
    assert!(matches!(ended.code(), Code::DeadlineExceeded | Code::Cancelled), "{ended:?}");
    let seen = world.upstream.seen.lock().unwrap();
    assert!(seen[1].0.contains_key("grpc-timeout"), "the service behind knows it too");
}

#[tokio::test]
async fn health_answers_without_a_credential() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    let world = world().await;
    let mut health = HealthClient::new(world.pki.channel(world.gateway.addr, None));
    let mut status = async |service: &str| {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
        answer.into_inner().status()
    };
    support::until(async || status("svc-feeds").await == ServingStatus::Serving).await;
    assert_eq!(status("svc-settlement").await, ServingStatus::NotServing);
    support::until(async || status("").await == ServingStatus::Serving).await;
    assert_eq!(status("access").await, ServingStatus::Serving);
}

/// A request of HTTP/2 may end with trailers, which a gRPC request never does.
fn with_trailers(key: &ApiKey, path: &str, message: &impl prost::Message) -> http::Request<Body> {
    let encoded = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
    frame.extend(encoded);
    let mut trailers = http::HeaderMap::new();
    for (name, value) in [("dalp-tenant", "tiny"), ("dalp-principal", "limited"), ("dalp-roles", "wallet:any")] {
        trailers.insert(name, value.parse().unwrap());
    }
    let frames = [Ok::<_, Status>(Frame::data(bytes::Bytes::from(frame))), Ok(Frame::trailers(trailers))];
    http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", key.expose()))
        .body(Body::new(StreamBody::new(futures::stream::iter(frames))))
        .unwrap()
}

#[tokio::test]
async fn trailers_of_a_request_do_not_change_who_calls() {
    let world = world().await;
    let mut channel = world.pki.channel(world.gateway.addr, None);
    let request = with_trailers(&world.keys.operator, "/dalp.feeds.v1.FeedService/GetLatest", &latest("f"));
    let answer = channel.ready().await.unwrap().call(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
    {
        let seen = world.upstream.seen.lock().unwrap();
        let caller = seen[0].1.clone().unwrap();
        assert_eq!((caller.tenant.as_str(), caller.principal.as_str()), ("acme", "ops"));
    }
    // The gateway's own services read the caller from the same metadata.
    let mut forged = with_trailers(
        &world.keys.operator,
        "/dalp.operation.v1.OperationService/GetOperation",
        &GetOperationRequest { operation_id: "none".to_owned() },
    );
    forged.headers_mut().insert("x-own", "kept".parse().unwrap());
    let answer = channel.ready().await.unwrap().call(forged).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(details(&status).reason, "INVALID_FIELD", "its own field, not the tenant: {status:?}");
}

#[tokio::test]
async fn a_tenants_calls_that_do_not_end_take_no_more_than_its_room() {
    let world = world().await;
    let mut slow = world.anonymous();
    let request = with_key(&world.keys.narrow, latest("slow"));
    let held = tokio::spawn(async move { slow.get_latest(request).await });
    while world.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let mut client = world.anonymous();
    assert_refused(client.get_latest(with_key(&world.keys.narrow, latest("f"))).await, Reason::Overloaded);
    client.get_latest(with_key(&world.keys.operator, latest("f"))).await.expect("another tenant has its own room");
    held.abort();
    while let Err(status) = client.get_latest(with_key(&world.keys.narrow, latest("f"))).await {
        assert_eq!(details(&status).reason, "OVERLOADED", "until the gateway has seen that the client left");
    }
}
