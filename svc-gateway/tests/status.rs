//! The status page: who is let in, what each sees, when it ends, and what strangers send.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use dalp_proto::{
    apikey::{CreateApiKeyRequest, DisableApiKeyRequest, Scope, api_key_service_client::ApiKeyServiceClient},
    principal::{
        CreatePrincipalRequest, GrantRoleRequest, PrincipalKind, RevokeRoleRequest,
        principal_service_client::PrincipalServiceClient,
    },
};
use futures::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use reqwest::{Client, Identity, RequestBuilder, Response, redirect::Policy};
use serde_json::Value;
use support::{World, until, world_serving, world_with};
use svc_gateway::api_key::ApiKey;
use tonic::Request;

const STATUS: &str = "[status]\nlisten = \"127.0.0.1:0\"\nsign_ins = { per_second = 1000, burst = 1000 }\n";
const REFUSED: &str = "That lets nobody in here";

/// A browser at the page.
struct Browser<'w> {
    world: &'w World,
    client: Client,
    cookie: Option<String>,
}

/// What a page that is open has heard.
struct Open {
    response: Response,
    buffer: String,
    /// The latest of each part.
    parts: BTreeMap<String, Value>,
}

impl<'w> Browser<'w> {
    fn at(world: &'w World) -> Self {
        Self::with(world, |builder| builder)
    }

    fn with(world: &'w World, change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Self {
        let authority = reqwest::Certificate::from_pem(&std::fs::read(world.pki.path("ca.pem")).unwrap()).unwrap();
        let builder = Client::builder().tls_certs_only([authority]).redirect(Policy::none());
        let client = change(builder.resolve("localhost", world.gateway.status_addr.unwrap())).build().unwrap();
        Self { world, client, cookie: None }
    }

    fn origin(&self) -> String {
        format!("https://localhost:{}", self.world.gateway.status_addr.unwrap().port())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    fn mine(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Response {
        self.mine(self.client.get(self.url(path))).send().await.unwrap()
    }

    async fn post(&self, path: &str, form: &str) -> Response {
        let request = self.client.post(self.url(path)).header("origin", self.origin()).body(form.to_owned());
        self.mine(request).header("content-type", "application/x-www-form-urlencoded").send().await.unwrap()
    }

    async fn signs_in(&mut self, form: &str) -> Response {
        let answer = self.post("/login", form).await;
        if let Some(cookie) = header(&answer, "set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        answer
    }

    async fn of(world: &'w World, key: &ApiKey) -> Self {
        let mut browser = Self::at(world);
        let answer = browser.signs_in(&format!("credential={}", key.expose())).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "location").as_deref()), (303, Some("/")));
        browser
    }

    async fn opens(&self) -> Open {
        let response = self.get("/events").await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type").as_deref(), Some("text/event-stream"));
        Open { response, buffer: String::new(), parts: BTreeMap::new() }
    }

    /// Whether somebody is signed in.
    async fn session(&self) -> u16 {
        self.get("/session").await.status().as_u16()
    }
}

impl Open {
    /// The next event; none at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = line("event: ").zip(line("data: "));
                self.buffer = rest.to_owned();
                if let Some((name, data)) = found {
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let more =
                tokio::time::timeout(Duration::from_secs(60), self.response.chunk()).await.expect("it is silent");
            self.buffer += std::str::from_utf8(&more.ok()??).unwrap();
        }
    }

    /// A part, as soon as something is so of it.
    async fn part(&mut self, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(part) = self.parts.get(name).filter(|part| is_so(part)) {
                return part.clone();
            }
            let (event, data) = self.next().await.expect("the stream goes on");
            if event == "part" {
                self.parts.insert(data["part"].as_str().unwrap().to_owned(), data);
            }
        }
    }

    async fn ends(&mut self) {
        while self.next().await.is_some() {}
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

async fn world() -> World {
    world_with("", STATUS).await
}

#[tokio::test]
async fn an_operator_signs_in_and_sees_each_part_or_why_not() {
    let world = world().await;
    let mut browser = Browser::at(&world);
    let answer = browser.get("/").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "location").as_deref()), (303, Some("/login")));
    assert!(browser.get("/login").await.text().await.unwrap().contains("type=\"password\""));
    let answer = browser.signs_in(&format!("credential={}", world.keys.reader.expose())).await;
    assert_eq!(answer.status(), 303, "a key that may only read is enough");
    let cookie = header(&answer, "set-cookie").unwrap();
    for rule in ["__Host-dalp-status=", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(rule), "{cookie}");
    }
    assert!(!cookie.contains(world.keys.reader.expose()) && !cookie.contains("Domain"), "{cookie}");
    let page = browser.get("/").await;
    assert_eq!((page.status().as_u16(), browser.session().await), (200, 204));
    assert!(page.text().await.unwrap().contains("<main"));

    let mut open = browser.opens().await;
    let (event, who) = open.next().await.unwrap();
    assert_eq!((event.as_str(), &who["principal"], &who["tenant"]), ("who", &"reader".into(), &"acme".into()));
    // The engine's records are here; the signer is away, and its part alone says so.
    let custody = open.part("custody", |_| true).await;
    assert!(custody["error"].as_str().unwrap().starts_with("UPSTREAM_UNAVAILABLE: "), "{custody}");
    let feeds = open.part("feeds", |_| true).await;
    assert!(!feeds["error"].as_str().unwrap().is_empty(), "{feeds}");
    let lanes = open.part("lanes", |part| part["error"].is_null()).await;
    assert_eq!(lanes["shown"]["tables"][0]["rows"].as_array().unwrap().len(), 0, "{lanes}");
    let health = open.part("health", |_| true).await;
    let findings = health["shown"]["tables"][0]["rows"].as_array().unwrap();
    assert!(findings.iter().any(|row| row[0] == "svc-signer: connection"), "{health}");
    let mut beat = async || loop {
        if let Some((event, at)) = open.next().await.filter(|(event, _)| event == "beat") {
            return (event, at.as_i64());
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), beat()).await.unwrap().1 > Some(0));
}

#[tokio::test]
async fn nobody_else_is_let_in_or_learns_why() {
    let world = world().await;
    let unknown = ApiKey::generate().unwrap();
    let forged = format!("dalp_{}_{}", world.keys.operator.prefix(), "0".repeat(64));
    let mut said = BTreeSet::new();
    for form in [
        format!("credential={}", unknown.expose()),
        format!("credential={forged}"),
        format!("credential={}", world.keys.expired.expose()),
        format!("credential={}", world.keys.disabled.expose()),
        // It is known, and may not read what operators read.
        format!("credential={}", world.keys.poor.expose()),
        "credential=no-key".to_owned(),
        "credential=a.b.c".to_owned(),
        "certificate=yes".to_owned(),
        format!("credential={0}&credential={0}", world.keys.operator.expose()),
        String::new(),
    ] {
        let mut browser = Browser::at(&world);
        let answer = browser.signs_in(&form).await;
        assert_eq!((answer.status().as_u16(), &browser.cookie), (403, &None), "{form}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(REFUSED) && !text.contains("dalp_"), "{text}");
        said.insert(text);
        assert_eq!((browser.session().await, browser.get("/events").await.status().as_u16()), (401, 401));
    }
    assert_eq!(said.len(), 1, "all are told the same");
    // Who is known and was refused stands in the audit.
    let database = world.database().await;
    let leaf = "SELECT count(*) > 0 FROM engine.audit_leaves WHERE action = 'call.refused' AND actor = 'poor' AND reason = 'PERMISSION_DENIED'";
    until(async || sqlx::query_scalar(leaf).fetch_one(&database).await.unwrap()).await;
}

#[tokio::test]
async fn a_certificate_signs_in_where_one_is_shown() {
    let world = world().await;
    world.pki.issue("clients/machine");
    let file = |end: &str| std::fs::read(world.pki.path(&format!("clients-machine.{end}"))).unwrap();
    let identity = Identity::from_pem(&[file("pem"), file("key")].concat()).unwrap();
    let mut machine = Browser::with(&world, |builder| builder.identity(identity));
    assert!(machine.get("/login").await.text().await.unwrap().contains("name=\"certificate\""), "it is offered");
    assert!(!Browser::at(&world).get("/login").await.text().await.unwrap().contains("name=\"certificate\""));
    assert_eq!(machine.get("/").await.status(), 303, "not by itself");
    assert_eq!(machine.signs_in("certificate=yes").await.status(), 303);
    let (_, who) = machine.opens().await.next().await.unwrap();
    assert_eq!(who["principal"], "machine");
    // The session is good on connections of that certificate alone: one that was revoked lets none come about.
    let without = Browser { cookie: machine.cookie.clone(), ..Browser::at(&world) };
    assert_eq!((without.session().await, machine.session().await), (401, 204));
    assert_eq!(without.get("/events").await.status(), 401);
    // What is typed in goes before the connection's certificate.
    assert_eq!(machine.signs_in(&format!("credential={}", world.keys.poor.expose())).await.status(), 403);
}

#[tokio::test]
async fn who_fails_too_often_waits_and_a_success_is_no_failure() {
    let sections = STATUS.replace("per_second = 1000, burst = 1000", "per_second = 1, burst = 3");
    let world = world_with("", &sections).await;
    for _ in 0..6 {
        Browser::of(&world, &world.keys.operator).await;
    }
    let limited = async || {
        let answer = Browser::at(&world).signs_in("credential=dalp_no_key").await;
        answer.status() == 429 && header(&answer, "retry-after").is_some()
    };
    until(limited).await;
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_it() {
    let world = world().await;
    let database = world.database().await;
    lane(&database, "acme").await;
    let ours = Browser::of(&world, &world.keys.operator).await;
    let theirs = Browser::of(&world, &world.keys.foreign).await;
    let (mut ours, mut theirs) = (ours.opens().await, theirs.opens().await);
    let seen = ours.part("lanes", |part| part["shown"]["tables"][0]["rows"][0].is_array()).await;
    let row = &seen["shown"]["tables"][0]["rows"][0];
    assert_eq!((row[0].as_str().unwrap(), &row[1]["mark"]), (LANE, &"warning".into()), "{seen}");
    assert_eq!(row[1]["text"], "paused by ops: audit");
    assert_eq!(seen["shown"]["alert"], "1 lane is paused");
    let seen = theirs.part("lanes", |_| true).await;
    assert_eq!(seen["shown"]["tables"][0]["rows"].as_array().unwrap().len(), 0, "{seen}");
    // What both may read was read after the other's lane was there.
    for part in ["operations", "holds"] {
        let seen = theirs.part(part, |_| true).await;
        assert!(!seen.to_string().contains(LANE), "{seen}");
    }
    // What changes comes by itself.
    sqlx::query("UPDATE engine.lanes SET pause_reason = 'a second look' WHERE tenant = 'acme'")
        .execute(&database)
        .await
        .unwrap();
    let seen = ours.part("lanes", |part| part.to_string().contains("a second look")).await;
    assert_eq!(seen["shown"]["tables"][0]["rows"][0][1]["text"], "paused by ops: a second look");
}

/// The lane of [`lane`], as the page names it.
const LANE: &str = "31337/0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

/// A paused lane of a tenant.
async fn lane(database: &sqlx::PgPool, tenant: &str) {
    sqlx::query(
        "INSERT INTO engine.lanes (tenant, chain_id, sender, paused_at, paused_by, pause_reason)
         VALUES ($1, 31337, decode('5aaeb6053f3e94c9b9a09f33669435e7ef1beaed', 'hex'), now(), 'ops', 'audit')",
    )
    .bind(tenant)
    .execute(database)
    .await
    .unwrap();
}

/// Somebody with the operator's role and a key of its own, both by RPC.
async fn somebody(world: &World, id: &str) -> ApiKey {
    let (channel, by) = (world.pki.channel(world.gateway.addr, None), world.keys.operator.expose());
    let mut principals = PrincipalServiceClient::new(channel.clone());
    let principal_id = id.to_owned();
    let create = CreatePrincipalRequest {
        principal_id: principal_id.clone(),
        kind: PrincipalKind::Person.into(),
        display_name: "Somebody".to_owned(),
        owner: String::new(),
    };
    principals.create_principal(with(by, create)).await.unwrap();
    let role = "operator".to_owned();
    let grant = GrantRoleRequest { principal_id: principal_id.clone(), role, asset: String::new() };
    principals.grant_role(with(by, grant)).await.unwrap();
    let create = CreateApiKeyRequest { principal_id, scope: Scope::Read.into(), expires_at: None };
    let made = ApiKeyServiceClient::new(channel).create_api_key(with(by, create)).await.unwrap();
    made.into_inner().secret.parse().unwrap()
}

#[tokio::test]
async fn what_is_taken_back_ends_pages_and_sessions() {
    let world = world().await;
    let (channel, by) = (world.pki.channel(world.gateway.addr, None), world.keys.operator.expose());
    let (key, role) = (somebody(&world, "key").await, somebody(&world, "role").await);
    let ended = [Browser::of(&world, &key).await, Browser::of(&world, &role).await];
    let stays = Browser::of(&world, &world.keys.operator).await;
    let (mut first, mut second, mut staying) = (ended[0].opens().await, ended[1].opens().await, stays.opens().await);
    let disable = DisableApiKeyRequest { prefix: key.prefix().to_owned(), reason: "lost".to_owned() };
    ApiKeyServiceClient::new(channel.clone()).disable_api_key(with(by, disable)).await.unwrap();
    let (principal_id, role) = ("role".to_owned(), "operator".to_owned());
    let revoke = RevokeRoleRequest { principal_id, role, asset: String::new() };
    PrincipalServiceClient::new(channel).revoke_role(with(by, revoke)).await.unwrap();
    first.ends().await;
    second.ends().await;
    for browser in &ended {
        assert_eq!((browser.session().await, browser.get("/events").await.status().as_u16()), (401, 401));
        assert_eq!(browser.get("/").await.status(), 303);
    }
    staying.part("lanes", |_| true).await;
    assert_eq!(stays.session().await, 204);
}

#[tokio::test]
async fn who_signs_out_is_out_on_every_page() {
    let world = world().await;
    let browser = Browser::of(&world, &world.keys.operator).await;
    let other = Browser::of(&world, &world.keys.operator).await;
    let mut open = browser.opens().await;
    let foreign = browser.mine(browser.client.post(browser.url("/logout"))).header("origin", "https://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    assert_eq!(browser.session().await, 204, "no other page signs anybody out");
    let answer = browser.post("/logout", "").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "location").as_deref()), (303, Some("/login")));
    assert!(header(&answer, "set-cookie").unwrap().contains("Max-Age=0"));
    open.ends().await;
    assert_eq!((browser.session().await, other.session().await), (401, 204), "this session alone");
}

#[tokio::test]
async fn a_session_has_so_many_pages_open() {
    let world = world().await;
    let browser = Browser::of(&world, &world.keys.operator).await;
    let mut pages = Vec::new();
    for _ in 0..4 {
        pages.push(browser.opens().await);
    }
    assert_eq!(browser.get("/events").await.status(), 429);
    Browser::of(&world, &world.keys.operator).await.opens().await;
    pages.pop();
    until(async || browser.get("/events").await.status() == 200).await;
}

#[tokio::test]
async fn every_answer_is_guarded_and_nothing_is_inline() {
    let world = world().await;
    let browser = Browser::of(&world, &world.keys.operator).await;
    let stranger = Browser::at(&world);
    for (answer, what) in [
        (browser.get("/").await, "the page"),
        (browser.get("/events").await, "events"),
        (browser.get("/page.js").await, "the script"),
        (browser.get("/style.css").await, "the style"),
        (stranger.get("/").await, "a redirect"),
        (stranger.get("/login").await, "the form"),
        (stranger.get("/events").await, "a refusal"),
        (stranger.get("/none").await, "nothing"),
        (stranger.post("/login", "").await, "a refused form"),
    ] {
        let policy = header(&answer, "content-security-policy").unwrap_or_else(|| panic!("{what}"));
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{what}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{what}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(header(&answer, name).as_deref(), Some(value), "{what}");
        }
    }
    for path in ["/", "/login"] {
        let page = browser.get(path).await.text().await.unwrap();
        for inline in ["<script>", "<style", " style=", " onclick", " onload", "javascript:", "http://", "https://"] {
            assert!(!page.contains(inline), "{path}: {inline}");
        }
    }
    let script = browser.get("/page.js").await.text().await.unwrap();
    for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
        assert!(!script.contains(sink), "{sink}");
    }
}

#[tokio::test]
async fn forms_of_other_pages_are_not_taken() {
    let world = world().await;
    let browser = Browser::at(&world);
    let form = format!("credential={}", world.keys.operator.expose());
    for origin in
        [None, Some("null"), Some("https://evil.example"), Some("http://localhost"), Some("https://localhost")]
    {
        let mut request = browser.client.post(browser.url("/login")).body(form.clone());
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "set-cookie")), (403, None), "{origin:?}");
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_none_of_ours() {
    let world = world().await;
    let browser = Browser::of(&world, &world.keys.operator).await;
    for path in [
        "//",
        "/login/",
        "//login",
        "/LOGIN",
        "/%6cogin",
        "/events/",
        "/events%00",
        "/page.js/",
        "/..%2fpage.js",
        "/session/x",
        "/v1/lanes",
        "/openapi.json",
        "/metrics",
        "/hooks/dfns",
        "/grpc.health.v1.Health/Check",
        "/dalp.operator.v1.OperatorService/ListLanes",
    ] {
        assert_eq!(browser.get(path).await.status(), 404, "{path}");
    }
    for (path, allowed) in
        [("/", "GET"), ("/events", "GET"), ("/login", "GET, POST"), ("/logout", "POST"), ("/page.js", "GET")]
    {
        let answer = browser.mine(browser.client.delete(browser.url(path))).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "allow").as_deref()), (405, Some(allowed)), "{path}");
    }
    assert_eq!(browser.get("/logout").await.status(), 405, "no link signs anybody out");
    // The API is not here, whatever is shown.
    let mut keys = ApiKeyServiceClient::new(world.pki.channel(world.gateway.status_addr.unwrap(), None));
    let disable = DisableApiKeyRequest { prefix: world.keys.reader.prefix().to_owned(), reason: "x".to_owned() };
    assert!(keys.disable_api_key(with(world.keys.operator.expose(), disable)).await.is_err());
    // A query is no part of a path, and a cookie of no session is none.
    assert_eq!(browser.get("/?x=/login").await.status(), 200);
    let forged =
        browser.client.get(browser.url("/session")).header("cookie", format!("__Host-dalp-status={}", "0".repeat(64)));
    assert_eq!(forged.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn forms_without_end_are_not_waited_for() {
    let world = world_serving("", "body_read_ms = 1000", STATUS).await;
    let mut browser = Browser::at(&world);
    let long = format!("credential={}", "x".repeat(21 * 1024));
    assert_eq!(browser.signs_in(&long).await.status(), 413);
    let begun = stream::once(async { Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"credential="))) });
    let slow = reqwest::Body::wrap(StreamBody::new(begun.chain(stream::pending())));
    let request = browser.client.post(browser.url("/login")).header("origin", browser.origin());
    let answer = request.body(slow).send().await.unwrap();
    assert_eq!(answer.status(), 408);
    Browser::of(&world, &world.keys.operator).await;
}

#[tokio::test]
async fn while_nobody_can_tell_who_may_look_nobody_is_told_out() {
    let mut world = world_with("", &format!("{STATUS}[access]\ngrace_ms = 0\nread_within_ms = 200\n")).await;
    let postgres = world.postgres.take();
    let browser = Browser::of(&world, &world.keys.operator).await;
    let mut open = browser.opens().await;
    drop(postgres);
    open.ends().await;
    until(async || browser.session().await == 503).await;
    assert_eq!((browser.get("/").await.status().as_u16(), browser.get("/events").await.status().as_u16()), (503, 503));
    let answer = Browser::at(&world).signs_in(&format!("credential={}", world.keys.foreign.expose())).await;
    assert_eq!(answer.status(), 503);
}

#[tokio::test]
async fn a_stop_lets_pages_go() {
    let world = world().await;
    let browser = Browser::of(&world, &world.keys.operator).await;
    let mut open = browser.opens().await;
    world.stop.request();
    open.ends().await;
}
