//! A small identity provider of our own: it publishes its keys over HTTP, signs, rotates, and fails.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{World, world_with};

pub const ISSUER: &str = "https://login.bank.example";
pub const AUDIENCE: &str = "dalp";

/// A key of the issuer.
pub struct Key {
    pub id: &'static str,
    pub pair: KeyPair,
}

impl Key {
    pub fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate().unwrap() }
    }

    pub fn published(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.pair.public_key_raw();
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
               "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..65])})
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&self.pair.serialize_der())).unwrap()
    }
}

/// The issuer's server.
#[derive(Clone)]
pub struct Issuer {
    pub keys: Arc<Mutex<Vec<Value>>>,
    pub status: Arc<AtomicU16>,
    /// Answers nobody.
    pub silent: Arc<AtomicBool>,
    pub asked: Arc<AtomicUsize>,
    pub address: std::net::SocketAddr,
}

impl Issuer {
    pub async fn start(keys: Vec<Value>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            keys: Arc::new(Mutex::new(keys)),
            status: Arc::new(AtomicU16::new(200)),
            silent: Arc::default(),
            asked: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let own = issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                let service = hyper::service::service_fn(move |_| {
                    own.asked.fetch_add(1, Ordering::SeqCst);
                    let body = json!({"keys": *own.keys.lock().unwrap()}).to_string();
                    let status = StatusCode::from_u16(own.status.load(Ordering::SeqCst)).unwrap();
                    let answer = Response::builder().status(status).body(Full::new(bytes::Bytes::from(body)));
                    let silent = own.silent.load(Ordering::SeqCst);
                    async move {
                        if silent {
                            std::future::pending::<()>().await;
                        }
                        answer
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        issuer
    }

    pub async fn world(&self) -> World {
        self.world_of("").await
    }

    /// With these lines in the section of the identity provider.
    pub async fn world_of(&self, lines: &str) -> World {
        world_with("", &self.sections(lines)).await
    }

    /// The sections of a gateway's configuration that take its tokens, with these lines in that of the provider, and anna.
    pub fn sections(&self, lines: &str) -> String {
        format!(
            "[[oidc]]\nissuer = \"{ISSUER}\"\njwks_url = \"http://{}/keys\"\naudiences = [\"{AUDIENCE}\"]\n{lines}\n\
             [[principals]]\nid = \"anna\"\ntenant = \"acme\"\nkind = \"person\"\nroles = [\"operator\"]\noidc = {{ issuer = \"{ISSUER}\", subject = \"user-1\" }}\n",
            self.address
        )
    }
}

pub fn claims() -> Value {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    json!({"iss": ISSUER, "sub": "user-1", "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 300})
}

pub fn changed(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}
