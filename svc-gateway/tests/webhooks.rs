//! Webhooks on a real PostgreSQL, to receivers that take, fail, are slow, redirect, go away and stand where nobody may call.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use dalp_proto::webhook::{
    CreateWebhookRequest, DeleteWebhookRequest, Delivery, DeliveryState, GetWebhookRequest, ListDeliveriesRequest,
    ListWebhooksRequest, ReplayDeliveriesRequest, RotateWebhookSecretRequest, TestWebhookRequest, UpdateWebhookRequest,
    Webhook, WebhookState, replay_deliveries_request::What, webhook_service_client::WebhookServiceClient,
};
use dalp_service::Refusal;
use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{Response, StatusCode, header, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::PgPool;
use support::{World, until, world_with};
use tonic::{Request, Status, transport::Channel};
use uuid::Uuid;

/// Something that was received.
#[derive(Clone, Debug)]
struct Received {
    path: String,
    id: String,
    timestamp: String,
    signature: String,
    content_type: String,
    body: String,
}

/// A receiver that does what its path says.
#[derive(Clone)]
struct Receiver {
    addr: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    /// What a path answers from now on.
    answers: Arc<Mutex<HashMap<String, u16>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self { addr: listener.local_addr().unwrap(), received: Arc::default(), answers: Arc::default() };
        let serving = receiver.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serving = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let serving = serving.clone();
                        async move { serving.answer(request).await }
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        receiver
    }

    async fn answer(
        &self,
        request: hyper::Request<hyper::body::Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
        let text =
            |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        self.received.lock().unwrap().push(Received {
            path: path.clone(),
            id: text("webhook-id"),
            timestamp: text("webhook-timestamp"),
            signature: text("webhook-signature"),
            content_type: text("content-type"),
            body,
        });
        let status = self.answers.lock().unwrap().get(&path).copied().unwrap_or(200);
        if status == 0 {
            std::future::pending::<()>().await;
        }
        let mut answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
        if (300..400).contains(&status) {
            answer = answer.header(header::LOCATION, format!("http://{}/elsewhere", self.addr));
        }
        Ok(answer.body(Full::new(Bytes::from("what stands inside"))).unwrap())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// From now on a path answers so; 0: never.
    fn answers(&self, path: &str, status: u16) {
        self.answers.lock().unwrap().insert(path.to_owned(), status);
    }

    fn at(&self, path: &str) -> Vec<Received> {
        self.received.lock().unwrap().iter().filter(|one| one.path == path).cloned().collect()
    }
}

/// A gateway that brings, and its receiver.
struct Hall {
    world: World,
    receiver: Receiver,
    database: PgPool,
}

impl Hall {
    async fn new() -> Self {
        // As long as nobody hangs on purpose: a try that is given up comes twice.
        Self::with("retries_s = [1, 1]\ntimeout_ms = 60000\nin_flight_each = 2\nin_flight = 8\n").await
    }

    async fn with(lines: &str) -> Self {
        let key = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
        std::fs::write(&key, "07".repeat(32)).unwrap();
        let section = format!(
            "[[sealing.keys]]\nid = \"one\"\nkey = \"file:{}\"\n[webhooks]\nallow_networks = [\"127.0.0.0/8\"]\nallow_http = true\n{lines}",
            key.display()
        );
        let world = world_with("", &section).await;
        let database = world.database().await;
        Self { world, receiver: Receiver::start().await, database }
    }

    fn client(&self) -> WebhookServiceClient<Channel> {
        WebhookServiceClient::new(self.world.pki.channel(self.world.gateway.addr, None))
    }

    fn with_key<T>(&self, idempotency: &str, message: T) -> Request<T> {
        request(self.world.keys.operator.expose(), idempotency, message)
    }

    async fn webhook(&self, path: &str, types: &[&str]) -> (String, String) {
        let message = CreateWebhookRequest {
            url: self.receiver.url(path),
            types: types.iter().map(|&one| one.to_owned()).collect(),
            description: "test".to_owned(),
        };
        let made = self.client().create_webhook(self.with_key(&Uuid::new_v4().to_string(), message)).await.unwrap();
        let made = made.into_inner();
        (made.webhook.unwrap().webhook_id, made.secret)
    }

    async fn get(&self, id: &str) -> Webhook {
        let message = GetWebhookRequest { webhook_id: id.to_owned() };
        self.client().get_webhook(self.with_key("", message)).await.unwrap().into_inner().webhook.unwrap()
    }

    async fn deliveries(&self, id: &str, state: DeliveryState) -> Vec<Delivery> {
        let message = ListDeliveriesRequest { webhook_id: id.to_owned(), state: state.into(), ..Default::default() };
        self.client().list_deliveries(self.with_key("", message)).await.unwrap().into_inner().deliveries
    }

    /// An event of a tenant, as the engine writes it; its id.
    async fn event(&self, tenant: &str, topic: &str, subject: &str, body: Value) -> String {
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body) VALUES ($1, $2, $3, $4, $5) RETURNING sequence",
        )
        .bind(tenant)
        .bind(topic)
        .bind(subject)
        .bind(Uuid::nil())
        .bind(body)
        .fetch_one(&self.database)
        .await
        .unwrap();
        id.to_string()
    }

    async fn delivered(&self, path: &str, count: usize) -> Vec<Received> {
        until(async || self.receiver.at(path).len() >= count).await;
        self.receiver.at(path)
    }
}

fn request<T>(key: &str, idempotency: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    if !idempotency.is_empty() {
        request.metadata_mut().insert("idempotency-key", idempotency.parse().unwrap());
    }
    request
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let status = answer.unwrap_err();
    Refusal::details(&status).unwrap_or_else(|| panic!("not a typed refusal: {status:?}")).reason
}

/// As a receiver does it: whether one of the signatures is by this secret, over what came, and not old.
fn is_signed_by(secret: &str, one: &Received) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let age_s = time::OffsetDateTime::now_utc().unix_timestamp() - one.timestamp.parse::<i64>().unwrap();
    (0..300).contains(&age_s)
        && one.signature.split(' ').any(|signature| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(format!("{}.{}.{}", one.id, one.timestamp, one.body).as_bytes());
            mac.verify_slice(&STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap()).is_ok()
        })
}

const OPERATION: &str = "engine.operation.final";
const TRANSACTION: &str = "engine.transaction.pending";

#[tokio::test(flavor = "multi_thread")]
async fn events_are_brought_signed_in_order_to_who_asked_for_them() {
    let hall = Hall::new().await;
    hall.event("acme", OPERATION, "before", json!({})).await;
    let (all, secret) = hall.webhook("/all", &[]).await;
    hall.webhook("/some", &[OPERATION]).await;
    let mut ids = Vec::new();
    for number in 0..30 {
        let topic = if number % 2 == 0 { OPERATION } else { TRANSACTION };
        ids.push(hall.event("acme", topic, &format!("subject-{}", number % 3), json!({"number": number})).await);
        hall.event("other", topic, "foreign", json!({})).await;
    }
    let received = hall.delivered("/all", 30).await;
    assert_eq!(hall.delivered("/some", 15).await.len(), 15);
    assert_eq!(received.len(), 30);
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for one in &received {
        assert!(is_signed_by(&secret, one));
        assert_eq!(one.content_type, "application/cloudevents+json");
        let event: Value = serde_json::from_str(&one.body).unwrap();
        assert_eq!((&event["id"], &event["specversion"]), (&json!(one.id), &json!("1.0")));
        assert_eq!(event["source"], "urn:dalp:tenant:acme");
        assert!(ids.contains(&one.id));
        let number = event["data"]["number"].as_i64().unwrap();
        let before = last.insert(event["subject"].as_str().unwrap().to_owned(), number);
        assert!(before.is_none_or(|before| before < number), "{number} came after {before:?}");
    }
    let changed = Received { body: received[0].body.replace("acme", "evil"), ..received[0].clone() };
    assert!(!is_signed_by(&secret, &changed));
    until(async || hall.get(&all).await.pending == 0).await;
    assert_eq!(hall.deliveries(&all, DeliveryState::Delivered).await.len(), 30);
    assert!(
        hall.receiver
            .received
            .lock()
            .unwrap()
            .iter()
            .all(|one| !one.body.contains("foreign") && !one.body.contains("before"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_gets_it_again_and_its_other_subjects_meanwhile() {
    let hall = Hall::with("retries_s = [1, 1, 1, 1, 1, 1]\ntimeout_ms = 60000\n").await;
    let (id, secret) = hall.webhook("/fails", &[]).await;
    hall.receiver.answers("/fails", 503);
    let first = hall.event("acme", OPERATION, "one", json!({"number": 1})).await;
    hall.delivered("/fails", 1).await;
    until(async || hall.deliveries(&id, DeliveryState::Pending).await.iter().any(|one| one.last_status == 503)).await;
    let second = hall.event("acme", OPERATION, "one", json!({"number": 2})).await;
    let other = hall.event("acme", OPERATION, "two", json!({"number": 3})).await;
    until(async || hall.receiver.at("/fails").iter().any(|one| one.id == other)).await;
    assert!(
        hall.receiver.at("/fails").iter().all(|one| one.id != second),
        "the second came before the first was taken"
    );
    let waiting = hall.deliveries(&id, DeliveryState::Pending).await;
    assert!(waiting.iter().any(|one| one.last_error == "the receiver answered 503"), "{waiting:?}");
    hall.receiver.answers("/fails", 200);
    until(async || hall.get(&id).await.pending == 0).await;
    let received = hall.receiver.at("/fails");
    let place = |id: &String| received.iter().rposition(|one| one.id == *id).unwrap();
    assert!(place(&first) < place(&second));
    assert!(received.iter().filter(|one| one.id == first).count() >= 2);
    assert!(received.iter().all(|one| is_signed_by(&secret, one)));
    let bodies: Vec<_> = received.iter().filter(|one| one.id == first).map(|one| &one.body).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "a repeat has the same body");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_is_a_dead_letter_that_can_be_sent_again() {
    let hall = Hall::new().await;
    let (id, _) = hall.webhook("/down", &[]).await;
    let begin = hall.get(&id).await.cursor;
    hall.receiver.answers("/down", 500);
    let event = hall.event("acme", OPERATION, "one", json!({})).await;
    until(async || hall.get(&id).await.dead == 1).await;
    assert_eq!(hall.receiver.at("/down").len(), 3);
    let dead = hall.deliveries(&id, DeliveryState::Dead).await;
    assert_eq!((dead[0].event_id.as_str(), dead[0].attempts, dead[0].last_status), (event.as_str(), 3, 500));
    assert!(dead[0].due_at.is_none() && dead[0].ended_at.is_some());
    // It holds up what follows no longer.
    hall.receiver.answers("/down", 204);
    let next = hall.event("acme", OPERATION, "one", json!({})).await;
    until(async || hall.receiver.at("/down").iter().any(|one| one.id == next)).await;
    let replay = |what| ReplayDeliveriesRequest { webhook_id: id.clone(), what: Some(what) };
    let sent = hall.client().replay_deliveries(hall.with_key("r1", replay(What::Dead(true)))).await.unwrap();
    assert_eq!(sent.into_inner().deliveries, 1);
    until(async || hall.get(&id).await.dead == 0 && hall.get(&id).await.pending == 0).await;
    assert_eq!(hall.receiver.at("/down").iter().filter(|one| one.id == event).count(), 4);
    // One that was delivered, and everything since.
    let count = hall.receiver.at("/down").len();
    hall.client().replay_deliveries(hall.with_key("r2", replay(What::EventId(next)))).await.unwrap();
    hall.delivered("/down", count + 1).await;
    until(async || hall.get(&id).await.pending == 0).await;
    hall.client().replay_deliveries(hall.with_key("r3", replay(What::After(begin)))).await.unwrap();
    hall.delivered("/down", count + 3).await;
    let unknown =
        hall.client().replay_deliveries(hall.with_key("r4", replay(What::EventId("999999".to_owned())))).await;
    assert_eq!(reason(unknown), "NOT_FOUND");
    for (key, after) in [("r5", "x"), ("r6", "")] {
        let foreign = hall.client().replay_deliveries(hall.with_key(key, replay(What::After(after.to_owned())))).await;
        assert_eq!(reason(foreign), "PAGE_TOKEN_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_where_it_must_not() {
    let hall = Hall::new().await;
    let create = async |url: &str| {
        let message = CreateWebhookRequest { url: url.to_owned(), ..Default::default() };
        reason(hall.client().create_webhook(hall.with_key(&Uuid::new_v4().to_string(), message)).await)
    };
    for url in [
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://name.invalid/",
        "ftp://1.1.1.1/",
        "x",
    ] {
        assert_eq!(create(url).await, "INVALID_FIELD", "{url}");
    }
    let refused: i64 = sqlx::query_scalar("SELECT count(*) FROM engine.audit_leaves WHERE action = 'admin.refused'")
        .fetch_one(&hall.database)
        .await
        .unwrap();
    assert_eq!(refused, 6, "whoever tried stands in the audit");
    // A redirect is not followed.
    let (redirected, _) = hall.webhook("/redirects", &[]).await;
    hall.receiver.answers("/redirects", 302);
    // What was allowed when it was written, and is not any more.
    let (inside, _) = hall.webhook("/inside", &[]).await;
    sqlx::query("UPDATE gateway.webhooks SET url = 'http://10.255.255.1/' WHERE webhook_id = $1::text::uuid")
        .bind(&inside)
        .execute(&hall.database)
        .await
        .unwrap();
    hall.event("acme", OPERATION, "one", json!({})).await;
    until(async || hall.get(&redirected).await.dead == 1 && hall.get(&inside).await.dead == 1).await;
    assert_eq!(hall.receiver.at("/redirects").len(), 3);
    assert!(hall.receiver.at("/elsewhere").is_empty());
    let dead = hall.deliveries(&inside, DeliveryState::Dead).await;
    assert_eq!(dead[0].last_error, "the receiver's address is not public, nor in a network that the gateway may call");
    let dead = hall.deliveries(&redirected, DeliveryState::Dead).await;
    assert_eq!(dead[0].last_error, "the receiver redirects, which is not followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_holds_up_nobody_else() {
    let hall = Hall::with("retries_s = [60]\ntimeout_ms = 60000\nin_flight_each = 2\nin_flight = 16\n").await;
    let (slow, _) = hall.webhook("/slow", &[]).await;
    hall.webhook("/quick", &[]).await;
    hall.receiver.answers("/slow", 0);
    for number in 0..20 {
        hall.event("acme", OPERATION, &format!("subject-{number}"), json!({})).await;
    }
    hall.delivered("/quick", 20).await;
    let at_once = hall.receiver.at("/slow").len();
    assert!((1..=2).contains(&at_once), "{at_once} at once");
    assert_eq!(hall.get(&slow).await.pending, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_disables_its_webhook_until_it_goes_on() {
    let hall = Hall::new().await;
    let (id, _) = hall.webhook("/gone", &[]).await;
    hall.receiver.answers("/gone", 410);
    let event = hall.event("acme", OPERATION, "one", json!({})).await;
    until(async || hall.get(&id).await.state() == WebhookState::Disabled).await;
    let test = TestWebhookRequest { webhook_id: id.clone() };
    assert_eq!(reason(hall.client().test_webhook(hall.with_key("t1", test.clone())).await), "FAILED_PRECONDITION");
    let update = UpdateWebhookRequest {
        webhook_id: id.clone(),
        url: hall.receiver.url("/moved"),
        state: WebhookState::Active.into(),
        ..Default::default()
    };
    let updated =
        hall.client().update_webhook(hall.with_key("u1", update)).await.unwrap().into_inner().webhook.unwrap();
    assert_eq!((updated.state(), updated.reason.as_str()), (WebhookState::Active, ""));
    assert_eq!(hall.delivered("/moved", 1).await[0].id, event);
    let tested = hall.client().test_webhook(hall.with_key("t2", test)).await.unwrap().into_inner().event_id;
    let received = hall.delivered("/moved", 2).await;
    assert_eq!(received[1].id, tested);
    assert!(received[1].body.contains("\"webhook.test\""));
    let leaves: Vec<String> =
        sqlx::query_scalar("SELECT action FROM engine.audit_leaves WHERE action LIKE 'webhook.%' ORDER BY sequence")
            .fetch_all(&hall.database)
            .await
            .unwrap();
    assert_eq!(leaves, ["webhook.create", "webhook.disable", "webhook.update", "webhook.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_rotate_with_an_overlap_and_stand_nowhere_in_clear() {
    let hall = Hall::new().await;
    let message = CreateWebhookRequest { url: hall.receiver.url("/a"), ..Default::default() };
    let made = hall.client().create_webhook(hall.with_key("c1", message.clone())).await.unwrap().into_inner();
    let repeat = hall.client().create_webhook(hall.with_key("c1", message)).await.unwrap().into_inner();
    assert_eq!((repeat.webhook.as_ref(), repeat.secret.as_str()), (made.webhook.as_ref(), ""));
    let (id, first) = (made.webhook.unwrap().webhook_id, made.secret);
    let rotate = |overlap_s| RotateWebhookSecretRequest { webhook_id: id.clone(), overlap_s };
    let rotated = hall.client().rotate_webhook_secret(hall.with_key("r1", rotate(3600))).await.unwrap().into_inner();
    assert_eq!(rotated.webhook.unwrap().secrets, 2);
    hall.event("acme", OPERATION, "one", json!({})).await;
    let both = hall.delivered("/a", 1).await;
    assert!(is_signed_by(&first, &both[0]));
    assert!(is_signed_by(&rotated.secret, &both[0]));
    let last = hall.client().rotate_webhook_secret(hall.with_key("r2", rotate(0))).await.unwrap().into_inner().secret;
    hall.event("acme", OPERATION, "two", json!({})).await;
    let one = hall.delivered("/a", 2).await;
    assert!(is_signed_by(&last, &one[1]));
    assert!(!is_signed_by(&first, &one[1]) && !is_signed_by(&rotated.secret, &one[1]));
    for number in 0..4 {
        hall.client().rotate_webhook_secret(hall.with_key(&format!("more-{number}"), rotate(60))).await.unwrap();
    }
    let sixth = hall.client().rotate_webhook_secret(hall.with_key("sixth", rotate(60))).await;
    assert_eq!(reason(sixth), "FAILED_PRECONDITION");
    let everything: Vec<String> = sqlx::query_scalar(
        "SELECT t::text FROM gateway.webhooks t UNION ALL SELECT t::text FROM gateway.webhook_secrets t
         UNION ALL SELECT t::text FROM gateway.requests t UNION ALL SELECT t::text FROM engine.audit_leaves t",
    )
    .fetch_all(&hall.database)
    .await
    .unwrap();
    for secret in [&first, &rotated.secret, &last] {
        let bare = secret.strip_prefix("whsec_").unwrap();
        let hex = hex::encode(STANDARD.decode(bare).unwrap());
        assert!(everything.iter().all(|row| !row.contains(bare) && !row.contains(&hex)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_bring_each_event_once_and_one_that_ends_loses_none() {
    let hall = Hall::with("retries_s = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\ntimeout_ms = 60000\n").await;
    let (id, _) = hall.webhook("/many", &[]).await;
    let _second = hall.world.replica(&hall.world.text).await;
    for number in 0..100 {
        hall.event("acme", OPERATION, &format!("subject-{}", number % 10), json!({})).await;
    }
    hall.delivered("/many", 100).await;
    until(async || hall.get(&id).await.pending == 0).await;
    assert_eq!(hall.receiver.at("/many").len(), 100, "each came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_everything_ends_is_brought_by_the_next() {
    let mut hall = Hall::with("retries_s = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\ntimeout_ms = 1000\n").await;
    let (id, _) = hall.webhook("/later", &[]).await;
    hall.receiver.answers("/later", 500);
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(hall.event("acme", OPERATION, &format!("subject-{number}"), json!({})).await);
    }
    hall.delivered("/later", 5).await;
    hall.world.stop.request();
    ids.push(hall.event("acme", OPERATION, "while away", json!({})).await);
    hall.world.stop = dalp_service::stop::Stop::new();
    hall.world.gateway = hall.world.replica(&hall.world.text.clone()).await;
    hall.receiver.answers("/later", 200);
    until(async || {
        hall.get(&id).await.pending == 0
            && ids.iter().all(|id| hall.receiver.at("/later").iter().any(|one| one.id == *id))
    })
    .await;
    assert_eq!(hall.deliveries(&id, DeliveryState::Delivered).await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_keeps_the_order_of_a_subject_also_of_what_was_not_asked_for_before() {
    let hall = Hall::new().await;
    let (id, _) = hall.webhook("/order", &[OPERATION]).await;
    let begin = hall.get(&id).await.cursor;
    let first = hall.event("acme", TRANSACTION, "one", json!({})).await;
    let second = hall.event("acme", OPERATION, "one", json!({})).await;
    hall.delivered("/order", 1).await;
    // Noted, too: what is under way is not sent again.
    until(async || hall.get(&id).await.pending == 0).await;
    let all = UpdateWebhookRequest { webhook_id: id.clone(), set_types: true, ..Default::default() };
    hall.client().update_webhook(hall.with_key("u1", all)).await.unwrap();
    let replay = ReplayDeliveriesRequest { webhook_id: id.clone(), what: Some(What::After(begin)) };
    hall.client().replay_deliveries(hall.with_key("r1", replay)).await.unwrap();
    let received = hall.delivered("/order", 3).await;
    assert_eq!(received.iter().map(|one| one.id.clone()).collect::<Vec<_>>(), [second.clone(), first, second]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_slow_receivers_holds_up_no_other() {
    let hall = Hall::with("retries_s = [60]\ntimeout_ms = 60000\nin_flight_each = 2\nin_flight = 8\n").await;
    hall.receiver.answers("/slow", 0);
    for _ in 0..6 {
        hall.webhook("/slow", &[]).await;
    }
    let message = CreateWebhookRequest { url: hall.receiver.url("/quick"), ..Default::default() };
    let foreign = hall.world.keys.foreign.expose();
    hall.client().create_webhook(request(foreign, "c1", message)).await.unwrap();
    for number in 0..10 {
        hall.event("acme", OPERATION, &format!("subject-{number}"), json!({})).await;
    }
    hall.delivered("/slow", 2).await;
    for number in 0..10 {
        hall.event("other", OPERATION, &format!("subject-{number}"), json!({})).await;
    }
    hall.delivered("/quick", 10).await;
    assert_eq!(hall.receiver.at("/slow").len(), 2, "a quarter of eight");
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_by_a_dump_as_the_runbook_says_nothing_is_lost_and_nothing_known_sent_twice() {
    let hall = Hall::new().await;
    let (id, _) = hall.webhook("/moved", &[]).await;
    let known = hall.event("acme", OPERATION, "one", json!({})).await;
    hall.delivered("/moved", 1).await;
    until(async || hall.get(&id).await.pending == 0).await;
    let pause = |state: WebhookState| UpdateWebhookRequest {
        webhook_id: id.clone(),
        state: state.into(),
        ..Default::default()
    };
    hall.client().update_webhook(hall.with_key("u1", pause(WebhookState::Paused))).await.unwrap();
    let unread = hall.event("acme", OPERATION, "one", json!({})).await;
    // In another cluster the numbers of transactions begin anew: what is stored lies far above them.
    for moved in [
        "UPDATE engine.outbox SET xid = (xid::text::numeric + 900000000)::text::xid8",
        "UPDATE gateway.webhook_deliveries SET xid = (xid::text::numeric + 900000000)::text::xid8",
        "UPDATE gateway.webhooks SET after_xid = (after_xid::text::numeric + 900000000)::text::xid8",
    ] {
        sqlx::query(moved).execute(&hall.database).await.unwrap();
    }
    let page = include_str!("../../docs/runbooks/disaster-recovery.md");
    let (_, block) = page.split_once("<!-- moved into another cluster -->\n```sql\n").unwrap();
    let (statements, _) = block.split_once("```").unwrap();
    sqlx::raw_sql(statements).execute(&hall.database).await.unwrap();
    let new = hall.event("acme", OPERATION, "one", json!({})).await;
    hall.client().update_webhook(hall.with_key("u2", pause(WebhookState::Active))).await.unwrap();
    let received = hall.delivered("/moved", 3).await;
    assert_eq!(received.iter().map(|one| one.id.clone()).collect::<Vec<_>>(), [known, unread, new]);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_their_tenants_own() {
    let hall = Hall::new().await;
    let (id, _) = hall.webhook("/own", &[]).await;
    let foreign = hall.world.keys.foreign.expose();
    let mut client = hall.client();
    let get = GetWebhookRequest { webhook_id: id.clone() };
    assert_eq!(reason(client.get_webhook(request(foreign, "", get)).await), "NOT_FOUND");
    let list = ListDeliveriesRequest { webhook_id: id.clone(), ..Default::default() };
    assert_eq!(reason(client.list_deliveries(request(foreign, "", list)).await), "NOT_FOUND");
    let delete = DeleteWebhookRequest { webhook_id: id.clone(), reason: "test".to_owned() };
    assert_eq!(reason(client.delete_webhook(request(foreign, "d0", delete.clone())).await), "NOT_FOUND");
    let rotate = RotateWebhookSecretRequest { webhook_id: id.clone(), overlap_s: 0 };
    assert_eq!(reason(client.rotate_webhook_secret(request(foreign, "r0", rotate)).await), "NOT_FOUND");
    let listed = client.list_webhooks(request(foreign, "", ListWebhooksRequest::default())).await.unwrap();
    assert!(listed.into_inner().webhooks.is_empty());
    let listed = client.list_webhooks(hall.with_key("", ListWebhooksRequest::default())).await.unwrap();
    assert_eq!(listed.into_inner().webhooks.len(), 1);
    client.delete_webhook(hall.with_key("d1", delete)).await.unwrap();
    let get = GetWebhookRequest { webhook_id: id };
    assert_eq!(reason(client.get_webhook(hall.with_key("", get)).await), "NOT_FOUND");
    for message in [
        UpdateWebhookRequest { webhook_id: "x".to_owned(), ..Default::default() },
        UpdateWebhookRequest { webhook_id: Uuid::nil().to_string(), types: vec!["a".to_owned()], ..Default::default() },
        UpdateWebhookRequest {
            webhook_id: Uuid::nil().to_string(),
            state: WebhookState::Disabled.into(),
            ..Default::default()
        },
    ] {
        assert_eq!(
            reason(client.update_webhook(hall.with_key(&Uuid::new_v4().to_string(), message)).await),
            "INVALID_FIELD"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_webhooks_says_so() {
    let world = support::world().await;
    let mut client = WebhookServiceClient::new(world.pki.channel(world.gateway.addr, None));
    let message = CreateWebhookRequest { url: "https://example.com".to_owned(), ..Default::default() };
    let refused = client.create_webhook(request(world.keys.operator.expose(), "k", message)).await;
    assert_eq!(reason(refused), "FAILED_PRECONDITION");
    tokio::time::timeout(
        Duration::from_secs(10),
        client.list_webhooks(request(world.keys.operator.expose(), "", ListWebhooksRequest::default())),
    )
    .await
    .unwrap()
    .unwrap();
}
