//! What was taken back stays so: while a call lasts, while a body trickles, when an old configuration starts, and when the listener is cut off.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use dalp_domain::store::Tables;
use dalp_proto::{
    apikey::{CreateApiKeyRequest, DisableApiKeyRequest, Scope, api_key_service_client::ApiKeyServiceClient},
    event::{WatchEventsRequest, WatchEventsResponse, event_service_client::EventServiceClient},
    feeds::{GetLatestRequest, feed_service_client::FeedServiceClient},
    principal::{
        BindCredentialRequest, CreatePrincipalRequest, Credential, DisablePrincipalRequest, GetPrincipalRequest,
        GrantRoleRequest, PrincipalKind, RevokeRoleRequest, credential::Kind,
        principal_service_client::PrincipalServiceClient,
    },
};
use dalp_service::Refusal;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use sqlx::postgres::PgListener;
use support::{World, until, world, world_serving, world_with};
use svc_gateway::access::{
    seed::Applied,
    store::{SCHEMA, Store},
};
use svc_gateway::api_key::ApiKey;
use tonic::{Request, Status, Streaming, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

const LATEST: &str = "/dalp.feeds.v1.FeedService/GetLatest";

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let status = answer.unwrap_err();
    Refusal::details(&status).unwrap_or_else(|| panic!("not a typed refusal: {status:?}")).reason
}

/// What an administrator does.
struct Admin<'w> {
    key: &'w str,
    principals: PrincipalServiceClient<Channel>,
    keys: ApiKeyServiceClient<Channel>,
}

impl<'w> Admin<'w> {
    fn new(world: &World, key: &'w str) -> Self {
        let channel = world.pki.channel(world.gateway.addr, None);
        Self { key, principals: PrincipalServiceClient::new(channel.clone()), keys: ApiKeyServiceClient::new(channel) }
    }

    /// A principal with a role and a key, and that key.
    async fn somebody(&mut self, id: &str, role: &str) -> ApiKey {
        let create = CreatePrincipalRequest {
            principal_id: id.to_owned(),
            kind: PrincipalKind::Person.into(),
            display_name: "Somebody".to_owned(),
            owner: String::new(),
        };
        self.principals.create_principal(with(self.key, create)).await.unwrap();
        let grant = GrantRoleRequest { principal_id: id.to_owned(), role: role.to_owned(), asset: String::new() };
        self.principals.grant_role(with(self.key, grant)).await.unwrap();
        let key = CreateApiKeyRequest { principal_id: id.to_owned(), scope: Scope::ReadWrite.into(), expires_at: None };
        self.keys.create_api_key(with(self.key, key)).await.unwrap().into_inner().secret.parse().unwrap()
    }

    async fn disable_key(&mut self, prefix: &str) -> Result<(), Status> {
        let disable = DisableApiKeyRequest { prefix: prefix.to_owned(), reason: "lost".to_owned() };
        self.keys.disable_api_key(with(self.key, disable)).await.map(drop)
    }

    async fn disable(&mut self, id: &str) -> Result<(), Status> {
        let disable = DisablePrincipalRequest { principal_id: id.to_owned(), reason: "left".to_owned() };
        self.principals.disable_principal(with(self.key, disable)).await.map(drop)
    }

    async fn revoke(&mut self, id: &str, role: &str) -> Result<(), Status> {
        let revoke = RevokeRoleRequest { principal_id: id.to_owned(), role: role.to_owned(), asset: String::new() };
        self.principals.revoke_role(with(self.key, revoke)).await.map(drop)
    }
}

async fn reads(world: &World, key: &str) -> Result<(), Status> {
    let mut feeds = FeedServiceClient::new(world.pki.channel(world.gateway.addr, None));
    feeds.get_latest(with(key, GetLatestRequest::default())).await.map(drop)
}

/// How a stream ends that was open.
async fn end_of(mut stream: Streaming<WatchEventsResponse>) -> String {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream of events has no end of its own"),
                Err(status) => return reason(Err::<(), _>(status)),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), ended).await.expect("the stream outlives its right")
}

#[tokio::test]
async fn a_stream_ends_with_the_right_to_it() {
    let world = world().await;
    let mut admin = Admin::new(&world, world.keys.operator.expose());
    let ending = admin.somebody("ending", "operator").await;
    let key = admin.somebody("key", "operator").await;
    let role = admin.somebody("role", "operator").await;
    let person = admin.somebody("person", "operator").await;
    let stays = admin.somebody("stays", "operator").await;
    let watch = async |key: &ApiKey| {
        let mut events = EventServiceClient::new(world.pki.channel(world.gateway.addr, None));
        events.watch_events(with(key.expose(), WatchEventsRequest::default())).await.unwrap().into_inner()
    };
    let streams = (watch(&ending).await, watch(&key).await, watch(&role).await, watch(&person).await);
    let mut stays = watch(&stays).await;
    // While the stream is open: its end is not to come before it.
    sqlx::query("UPDATE gateway.api_keys SET expires_at = now() + interval '1 second' WHERE prefix = $1")
        .bind(ending.prefix())
        .execute(&world.database().await)
        .await
        .unwrap();
    admin.disable_key(key.prefix()).await.unwrap();
    admin.revoke("role", "operator").await.unwrap();
    admin.disable("person").await.unwrap();
    let taken = Instant::now();
    assert_eq!(end_of(streams.1).await, "API_KEY_DISABLED");
    assert_eq!(end_of(streams.2).await, "PERMISSION_DENIED");
    assert_eq!(end_of(streams.3).await, "API_KEY_DISABLED");
    assert!(taken.elapsed() < Duration::from_secs(10), "{:?}", taken.elapsed());
    assert_eq!(end_of(streams.0).await, "API_KEY_EXPIRED");
    let goes_on = tokio::time::timeout(Duration::from_millis(600), stays.message()).await;
    assert!(goes_on.is_err(), "a right that was not taken: {goes_on:?}");
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat().into()
}

fn call(key: &str, body: Body) -> http::Request<Body> {
    http::Request::post(format!("http://localhost{LATEST}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {key}"))
        .body(body)
        .unwrap()
}

async fn sent(channel: &Channel, request: http::Request<Body>) -> Status {
    let response = channel.clone().ready().await.unwrap().call(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let collected = response.into_body().collect().await.unwrap();
    Status::from_header_map(collected.trailers().unwrap()).unwrap()
}

#[tokio::test]
async fn a_right_that_is_lost_while_the_message_comes_is_lost_for_it() {
    let world = world_serving("", "body_read_ms = 60000", "").await;
    let mut admin = Admin::new(&world, world.keys.operator.expose());
    let (slow, other) = (admin.somebody("slow", "operator").await, admin.somebody("other", "operator").await);
    let (frames, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Status>>(4);
    let mut channel = world.pki.channel(world.gateway.addr, None);
    let message = framed(&GetLatestRequest { feed: "slow-body".to_owned(), ..Default::default() }.encode_to_vec());
    let whole = || Body::new(http_body_util::Full::new(message.clone()).map_err(|never| match never {}));
    assert_eq!(sent(&channel, call(slow.expose(), whole())).await.code(), tonic::Code::Ok, "so far it may");
    let request = call(slow.expose(), Body::new(StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(body))));
    frames.send(Ok(Frame::data(message.slice(..3)))).await.unwrap();
    let answer = channel.ready().await.unwrap().call(request);
    // Calls of a connection are taken in order: when this one is answered, the one before is admitted.
    assert_eq!(sent(&channel, call(other.expose(), whole())).await.code(), tonic::Code::Ok);
    let carried_out = world.upstream.seen.lock().unwrap().len();
    assert_eq!(carried_out, 2);
    let mut commit = world.database().await.begin().await.unwrap();
    for statement in [
        "DELETE FROM gateway.grants WHERE principal_id = 'slow'".to_owned(),
        format!("UPDATE gateway.api_keys SET disabled_at = now() WHERE prefix = '{}'", other.prefix()),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *commit).await.unwrap();
    }
    commit.commit().await.unwrap();
    until(async || sent(&channel, call(other.expose(), whole())).await.code() != tonic::Code::Ok).await;
    let carried_out = world.upstream.seen.lock().unwrap().len();
    frames.send(Ok(Frame::data(message.slice(3..)))).await.unwrap();
    drop(frames);
    let status = Status::from_header_map(answer.await.unwrap().headers()).unwrap();
    assert_eq!(reason(Err::<(), _>(status)), "PERMISSION_DENIED");
    assert_eq!(world.upstream.seen.lock().unwrap().len(), carried_out, "it was not carried out");
}

#[tokio::test]
async fn slow_bodies_cost_themselves_and_no_other_call_of_their_connection() {
    let world = world().await;
    let channel = world.pki.channel(world.gateway.addr, None);
    let key = world.keys.operator.expose();
    let mut events = EventServiceClient::new(channel.clone());
    let mut watched = events.watch_events(with(key, WatchEventsRequest::default())).await.unwrap().into_inner();
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Some((Ok::<_, Status>(Frame::data(Bytes::from_static(b"\0"))), ()))
        });
        let (channel, request) = (channel.clone(), call(key, Body::new(StreamBody::new(drops))));
        slow.spawn(async move { sent(&channel, request).await });
    }
    let first = FeedServiceClient::new(channel.clone()).get_latest(with(key, GetLatestRequest::default())).await;
    first.expect("while others trickle");
    while let Some(status) = slow.join_next().await {
        assert_eq!(reason(Err::<(), _>(status.unwrap())), "DEADLINE");
    }
    let open = tokio::time::timeout(Duration::from_millis(1_000), watched.message()).await;
    assert!(open.is_err(), "the stream beside them is still open: {open:?}");
    FeedServiceClient::new(channel).get_latest(with(key, GetLatestRequest::default())).await.expect("and after");
}

#[tokio::test]
async fn an_old_configuration_revives_nothing() {
    let world = world().await;
    let reader = world.keys.reader.expose();
    let section = "[[principals]]\nid = \"reader\"";
    let start = world.text.find(section).unwrap();
    let end = start + 4 + world.text[start + 4..].find("[[principals]]").unwrap();
    let without = [&world.text[..start], &world.text[end..]].concat();
    let store = Store::from(Tables::over(SCHEMA, world.database().await));
    let apply = async |text: &str| {
        let config = support::load(&world.pki.path("applied.toml"), text).unwrap();
        store.apply(&config).await.unwrap()
    };
    assert_eq!(apply(&without).await, Applied::Ambiguous, "nobody can say which of the two files is meant");
    reads(&world, reader).await.expect("it changes nothing");
    world.replica(&format!("generation = 1\n{without}")).await;
    until(async || reads(&world, reader).await.is_err()).await;
    world.replica(&world.text).await;
    assert_eq!(apply(&format!("generation = 1\n{}", world.text)).await, Applied::Ambiguous);
    assert_eq!(reason(reads(&world, reader).await), "API_KEY_DISABLED", "the old file says otherwise, and is old");
    world.replica(&format!("generation = 2\n{}", world.text)).await;
    until(async || reads(&world, reader).await.is_ok()).await;
    assert_eq!(
        apply(&format!("generation = 4\n{}", world.text)).await,
        Applied::Now,
        "the number counts, content apart"
    );
    assert_eq!(apply(&format!("generation = 3\n{without}")).await, Applied::Older { applied: 4 });
    assert_eq!(apply(&format!("generation = 4\n{}", world.text)).await, Applied::Before);
}

#[tokio::test]
async fn a_configured_principal_is_not_who_had_its_name_before() {
    let world = world().await;
    let mut admin = Admin::new(&world, world.keys.operator.expose());
    let before = admin.somebody("desk", "operator").await;
    let ended = admin.somebody("ended", "asset-reader").await;
    admin.disable("ended").await.unwrap();
    reads(&world, before.expose()).await.unwrap();
    let (own, revived) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    let section = |id: &str, key: &ApiKey| {
        format!(
            "[[principals]]\nid = \"{id}\"\ntenant = \"acme\"\nroles = [\"operator\"]\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\n",
            key.prefix(),
            key.digest()
        )
    };
    let text = format!("generation = 1\n{}{}{}", world.text, section("desk", &own), section("ended", &revived));
    world.replica(&text).await;
    until(async || reads(&world, own.expose()).await.is_ok()).await;
    until(async || reads(&world, before.expose()).await.is_err()).await;
    assert_eq!(reason(reads(&world, before.expose()).await), "API_KEY_DISABLED");
    assert_eq!(reason(reads(&world, ended.expose()).await), "API_KEY_DISABLED");
    assert_eq!(reason(reads(&world, revived.expose()).await), "UNAUTHENTICATED_INVALID", "an RPC has disabled it");
}

#[tokio::test]
async fn a_start_tells_nobody_anything_and_a_role_its_holders_and_the_audit() {
    let world = world().await;
    let database = world.database().await;
    let mut told = PgListener::connect_with(&database).await.unwrap();
    told.listen("dalp_gateway").await.unwrap();
    let until_end = async |told: &mut PgListener| {
        sqlx::query("SELECT pg_notify('dalp_gateway', 'k end')").execute(&database).await.unwrap();
        let mut heard = Vec::new();
        loop {
            match told.recv().await.unwrap().payload() {
                "k end" => return heard,
                payload => heard.push(payload.to_owned()),
            }
        }
    };
    world.replica(&world.text).await;
    assert!(until_end(&mut told).await.is_empty());
    let wider = world.text.replace("permissions = [\"asset:read\"]", "permissions = [\"asset:read\", \"feed:read\"]");
    assert_eq!(reason(reads(&world, world.keys.poor.expose()).await), "PERMISSION_DENIED");
    world.replica(&format!("generation = 1\n{wider}")).await;
    assert_eq!(until_end(&mut told).await, ["p acme poor"]);
    until(async || reads(&world, world.keys.poor.expose()).await.is_ok()).await;
    let leaves: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM engine.audit_leaves WHERE tenant = 'acme' AND action = 'role.configure' AND subject = 'asset-reader' AND body->'permissions' ? 'feed:read'",
    )
    .fetch_one(&database)
    .await
    .unwrap();
    assert_eq!(leaves, 1);
}

#[tokio::test]
async fn a_weaker_administrator_cuts_nobody_stronger_off_and_its_tries_stand_in_the_audit() {
    let sections = "[[roles]]\nname = \"admin\"\npermissions = [\"principal:*\", \"api-key:*\", \"asset:read\"]\n";
    let world = world_with("", sections).await;
    let mut operator = Admin::new(&world, world.keys.operator.expose());
    let boss = operator.somebody("boss", "operator").await;
    let weak = operator.somebody("weak", "admin").await;
    operator.somebody("clerk", "asset-reader").await;
    let mut weak = Admin::new(&world, weak.expose());
    assert_eq!(reason(weak.disable("boss").await), "GRANT_EXCEEDS_OWN");
    assert_eq!(reason(weak.revoke("boss", "operator").await), "GRANT_EXCEEDS_OWN");
    assert_eq!(reason(weak.disable_key(boss.prefix()).await), "GRANT_EXCEEDS_OWN");
    reads(&world, boss.expose()).await.expect("nothing of it was done");
    weak.disable("clerk").await.unwrap();
    let subjects: Vec<String> = sqlx::query_scalar(
        "SELECT subject FROM engine.audit_leaves WHERE actor = 'acme/weak' AND action = 'admin.refused' AND body->>'reason' = 'GRANT_EXCEEDS_OWN' ORDER BY sequence",
    )
    .fetch_all(&world.database().await)
    .await
    .unwrap();
    let expected = ["PrincipalService/DisablePrincipal", "PrincipalService/RevokeRole", "ApiKeyService/DisableApiKey"];
    assert_eq!(subjects.len(), 3);
    assert!(subjects.iter().zip(expected).all(|(subject, end)| subject.ends_with(end)), "{subjects:?}");
}

#[tokio::test]
async fn names_of_certificates_are_the_tenants_own_and_no_text_holds_a_nul() {
    let world = world().await;
    let operator = world.keys.operator.expose();
    let mut admin = Admin::new(&world, operator);
    admin.somebody("desk", "operator").await;
    let bind = |name: &str| BindCredentialRequest {
        principal_id: "desk".to_owned(),
        credential: Some(Credential { kind: Some(Kind::SpiffeId(name.to_owned())), managed: false }),
    };
    for foreign in [
        "spiffe://dalp.dev/tenants/other/machine",
        "spiffe://dalp.dev/tenants/acme",
        "spiffe://dalp.dev/tenants/acmes/machine",
        "spiffe://dalp.dev/svc-compliance",
        "spiffe://dalp.dev/clients/machine",
        "spiffe://evil.example/tenants/acme/machine",
    ] {
        let bound = admin.principals.bind_credential(with(operator, bind(foreign))).await;
        assert_eq!(reason(bound), "INVALID_FIELD", "{foreign}");
    }
    admin.principals.bind_credential(with(operator, bind("spiffe://dalp.dev/tenants/acme/machine"))).await.unwrap();
    let get = GetPrincipalRequest { principal_id: "de\0sk".to_owned() };
    let status = admin.principals.get_principal(with(operator, get)).await.unwrap_err();
    let details = Refusal::details(&status).unwrap();
    assert_eq!((details.reason.as_str(), details.violations[0].0.as_str()), ("INVALID_FIELD", "principal_id"));
}

#[tokio::test]
async fn a_revoked_key_has_no_grace_when_the_database_goes_with_the_answer() {
    let mut world = world_with("", "[access]\ngrace_ms = 60000\n").await;
    world.until_listening().await;
    let mut admin = Admin::new(&world, world.keys.operator.expose());
    let lost = admin.somebody("desk", "operator").await;
    reads(&world, lost.expose()).await.unwrap();
    admin.disable_key(lost.prefix()).await.unwrap();
    drop(world.postgres.take());
    assert_ne!(reason(reads(&world, lost.expose()).await), "", "never let in again");
    until(async || {
        let away = reads(&world, lost.expose()).await.unwrap_err();
        Refusal::details(&away).unwrap().reason == "DATABASE_UNAVAILABLE" || away.message().contains("disabled")
    })
    .await;
    reads(&world, world.keys.operator.expose()).await.expect("who did not change reads on");
}

#[tokio::test]
async fn a_listener_whose_connection_dies_or_hangs_hears_again() {
    let world = world().await;
    let database = world.database().await;
    let listening = async |but: &[i32]| -> Option<i32> {
        sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'svc-gateway' AND pid <> ALL($1) AND query = 'SELECT 1' AND query_start > now() - interval '2 seconds'",
        )
        .bind(but)
        .fetch_optional(&database)
        .await
        .unwrap()
    };
    until(async || listening(&[]).await.is_some()).await;
    let first = listening(&[]).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend($1)").bind(first).execute(&database).await.unwrap();
    until(async || listening(&[first]).await.is_some()).await;
    let second = listening(&[first]).await.unwrap();
    // Not dead, and not answering either: its socket stays open.
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args([name, &second.to_string()]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    let heard = async {
        while listening(&[first, second]).await.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), heard).await;
    signal("-CONT");
    heard.expect("it hears again while the old connection hangs");
}
