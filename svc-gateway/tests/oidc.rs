//! Tokens of an identity provider: a small issuer of our own publishes its keys over HTTP, signs, rotates, and fails.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::atomic::Ordering;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use dalp_proto::feeds::{GetLatestRequest, feed_service_client::FeedServiceClient};
use dalp_service::Refusal;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use support::{
    World,
    issuer::{AUDIENCE, ISSUER, Issuer, Key, changed, claims},
};
use time::OffsetDateTime;
use tonic::Request;

async fn reads(world: &World, token: &str) -> Result<(), String> {
    let mut request = Request::new(GetLatestRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let mut feeds = FeedServiceClient::new(world.pki.channel(world.gateway.addr, None));
    feeds.get_latest(request).await.map(drop).map_err(|status| Refusal::details(&status).unwrap().reason)
}

fn refused(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

#[tokio::test]
async fn only_a_token_that_holds_lets_its_subject_in() {
    let (key, stranger) = (Key::new("one"), Key::new("one"));
    let rubbish = json!({"kty": "XYZ", "kid": "odd"});
    let shared = json!({"kty": "oct", "kid": "shared", "k": BASE64.encode("secret")});
    let issuer = Issuer::start(vec![rubbish, shared, key.published()]).await;
    let world = issuer.world().await;
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 0, "nothing is fetched before it is needed");
    reads(&world, &key.sign(&claims())).await.unwrap();
    {
        let seen = world.upstream.seen.lock().unwrap();
        let caller = seen[0].1.clone().unwrap();
        assert_eq!((caller.tenant.as_str(), caller.principal.as_str()), ("acme", "anna"));
        assert!(!seen[0].0.contains_key("authorization"));
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    reads(&world, &key.sign(&changed("exp", json!(now - 10)))).await.expect("within the skew of clocks");
    reads(&world, &key.sign(&changed("aud", json!(["other", AUDIENCE])))).await.unwrap();
    assert_eq!(reads(&world, &key.sign(&changed("exp", json!(now - 60)))).await, refused("TOKEN_EXPIRED"));
    for (name, value) in [
        ("exp", Value::Null),
        ("aud", Value::Null),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("iss", json!("https://evil.example")),
        ("iss", Value::Null),
        ("nbf", json!(now + 600)),
        ("iat", json!(now + 600)),
        ("sub", json!("user-2")),
        ("sub", Value::Null),
        ("sub", json!(7)),
        ("sub", json!("")),
        ("sub", json!("x".repeat(300))),
    ] {
        let token = key.sign(&changed(name, value.clone()));
        assert_eq!(reads(&world, &token).await, refused("UNAUTHENTICATED_INVALID"), "{name} = {value}");
    }
    assert_eq!(reads(&world, &stranger.sign(&claims())).await, refused("UNAUTHENTICATED_INVALID"), "another's key");
    // Nothing in a token chooses how it is verified.
    let good = key.sign(&claims());
    let (rest, signature) = good.rsplit_once('.').unwrap();
    let payload = rest.split_once('.').unwrap().1;
    let with_header = |header: Value| format!("{}.{payload}.{signature}", BASE64.encode(header.to_string()));
    let hmac = |kid: &str, secret: &[u8]| {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let attacks = [
        with_header(json!({"alg": "none", "kid": "one"})),
        format!("{}.{payload}.", BASE64.encode(json!({"alg": "none"}).to_string())),
        with_header(json!({"alg": "NONE", "kid": "one"})),
        with_header(json!({"alg": "ES256"})),
        with_header(json!({"alg": "ES256", "kid": "../../etc/passwd"})),
        with_header(json!({"alg": "ES256", "kid": "x", "jwk": stranger.published()})),
        with_header(json!({"alg": "ES256", "kid": "x", "jku": "http://evil.example/keys"})),
        hmac("one", key.pair.public_key_raw()),
        hmac("shared", b"secret"),
        format!("{rest}."),
        format!("{rest}.AAAA"),
        format!("{good}x"),
        format!("{good}.{good}"),
        "a.b.c".to_owned(),
        "..".to_owned(),
        format!("a.{}.c", "b".repeat(15_000)),
    ];
    for token in attacks {
        assert_eq!(reads(&world, &token).await, refused("UNAUTHENTICATED_INVALID"), "{token}");
    }
    reads(&world, &good).await.expect("the gateway is well");
    let asked = issuer.asked.load(Ordering::SeqCst);
    assert!(asked <= 2, "strangers' tokens made us ask the issuer {asked} times");
}

#[tokio::test]
async fn keys_change_and_an_issuer_that_is_away_is_waited_for() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = Issuer::start(vec![old.published()]).await;
    issuer.status.store(503, Ordering::SeqCst);
    let world = issuer.world().await;
    assert_eq!(reads(&world, &old.sign(&claims())).await, refused("UPSTREAM_UNAVAILABLE"), "not known, not refused");
    assert_eq!(reads(&world, &old.sign(&claims())).await, refused("UPSTREAM_UNAVAILABLE"));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1, "it is left alone for a while");
    issuer.status.store(200, Ordering::SeqCst);
    support::until(async || reads(&world, &old.sign(&claims())).await.is_ok()).await;
    // Rotated: the new key is fetched when its first token comes; the old one is gone with that.
    *issuer.keys.lock().unwrap() = vec![new.published()];
    support::until(async || reads(&world, &new.sign(&claims())).await.is_ok()).await;
    assert_eq!(reads(&world, &old.sign(&claims())).await, refused("UNAUTHENTICATED_INVALID"));
    // Away again: the known keys hold.
    issuer.status.store(500, Ordering::SeqCst);
    reads(&world, &new.sign(&claims())).await.unwrap();
    // A principal that is disabled is not let in by its tokens either.
    let database = world.database().await;
    let mut commit = database.begin().await.unwrap();
    for statement in [
        "SELECT set_config('dalp.configuration', 'on', true)",
        "UPDATE gateway.principals SET disabled_at = now() WHERE principal_id = 'anna'",
    ] {
        sqlx::query(statement).execute(&mut *commit).await.unwrap();
    }
    commit.commit().await.unwrap();
    support::until(async || reads(&world, &new.sign(&claims())).await.is_err()).await;
    assert_eq!(reads(&world, &new.sign(&claims())).await, refused("UNAUTHENTICATED_INVALID"));
}

#[tokio::test]
async fn who_leaves_while_keys_are_fetched_does_not_make_us_ask_again() {
    let key = Key::new("one");
    let issuer = Issuer::start(vec![key.published()]).await;
    issuer.silent.store(true, Ordering::SeqCst);
    let world = issuer.world().await;
    let token = key.sign(&claims());
    for _ in 0..5 {
        let left = tokio::time::timeout(std::time::Duration::from_millis(300), reads(&world, &token)).await;
        assert!(left.is_err(), "nobody has answered: {left:?}");
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1, "the one fetch goes on");
}

#[tokio::test]
async fn subjects_are_bound_by_the_issuers_own_tenant_and_nobody_else() {
    use dalp_proto::principal::{
        BindCredentialRequest, CreatePrincipalRequest, Credential, OidcIdentity, PrincipalKind, credential::Kind,
        principal_service_client::PrincipalServiceClient,
    };
    let issuer = Issuer::start(vec![]).await;
    let bind = async |world: &World, key: &svc_gateway::api_key::ApiKey, subject: &str| {
        fn with<T>(key: &svc_gateway::api_key::ApiKey, message: T) -> Request<T> {
            let mut request = Request::new(message);
            request.metadata_mut().insert("authorization", format!("Bearer {}", key.expose()).parse().unwrap());
            request
        }
        let mut principals = PrincipalServiceClient::new(world.pki.channel(world.gateway.addr, None));
        let created = CreatePrincipalRequest {
            principal_id: "desk".to_owned(),
            kind: PrincipalKind::Person.into(),
            display_name: "Desk".to_owned(),
            owner: String::new(),
        };
        let _there_already = principals.create_principal(with(key, created)).await;
        let kind = Kind::Oidc(OidcIdentity { issuer: ISSUER.to_owned(), subject: subject.to_owned() });
        let bind = BindCredentialRequest {
            principal_id: "desk".to_owned(),
            credential: Some(Credential { kind: Some(kind), managed: false }),
        };
        let bound = principals.bind_credential(with(key, bind)).await;
        bound.map(drop).map_err(|status| Refusal::details(&status).unwrap().reason)
    };
    let nobodys = issuer.world().await;
    assert_eq!(bind(&nobodys, &nobodys.keys.operator, "user-9").await, refused("INVALID_FIELD"));
    let acmes = issuer.world_of("tenant = \"acme\"").await;
    assert_eq!(bind(&acmes, &acmes.keys.foreign, "user-9").await, refused("INVALID_FIELD"), "another tenant squats");
    bind(&acmes, &acmes.keys.operator, "user-9").await.unwrap();
    assert_eq!(bind(&acmes, &acmes.keys.operator, "user-1").await, refused("ALREADY_EXISTS"), "without saying whose");
}
