//! Where custodians send their events: `POST /hooks/<provider>`, on the port of everything else, for the providers that are configured.
//!
//! Nobody proves here who it is, and the gateway cannot tell a custodian's event from a forgery. Headers and body go to the signer as they came, which
//! verifies them. So the gateway only keeps what anybody can send small: in size, in rate, and in how many wait at once.

pub mod config;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use dalp_proto::signer::{
    DeliverProviderEventRequest, ProviderEventHeader, ProviderEventOutcome, signer_service_client::SignerServiceClient,
};
use dalp_service::{
    Reason, Refusal,
    config::ServerConfig,
    server::{Answer, Front, Next},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use serde_json::json;
use tokio::sync::Semaphore;
use tonic::{body::Body, transport::Channel};

pub use config::HooksConfig;

use crate::{
    limits::Bucket,
    metric_definitions as names,
    rest::{
        Rest,
        body::Limits,
        problem::{JSON, Problem, full},
    },
};

/// Where the endpoints are.
pub const PREFIX: &str = "/hooks/";
/// How long the signer may take; it may have to fetch keys first.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The endpoints, before everything else that is not gRPC.
pub struct Hooks {
    rest: Rest,
    desk: Option<std::sync::Arc<Desk>>,
}

/// What takes events in.
struct Desk {
    signer: SignerServiceClient<Channel>,
    buckets: BTreeMap<&'static str, Mutex<Bucket>>,
    places: Semaphore,
    body: Limits,
}

// === impl Hooks ===

impl Hooks {
    /// In front of the other forms. Without a configuration, or without a signer to hand events to, there are no endpoints.
    #[must_use]
    pub fn new(config: Option<&HooksConfig>, server: &ServerConfig, signer: Option<Channel>, rest: Rest) -> Self {
        let desk = config.zip(signer).map(|(config, signer)| {
            let now = Instant::now();
            let bucket =
                |provider: &config::HookProvider| (provider.as_str(), Mutex::new(Bucket::full(config.rate, now)));
            std::sync::Arc::new(Desk {
                signer: SignerServiceClient::new(signer),
                buckets: config.providers.iter().map(bucket).collect(),
                places: Semaphore::new(config.at_once as usize),
                body: Limits { bytes: config.max_body_bytes, within: Duration::from_millis(server.body_read_ms) },
            })
        });
        Self { rest, desk }
    }
}

impl Front for Hooks {
    fn wants(&self, head: &request::Parts) -> bool {
        (self.desk.is_some() && head.uri.path().starts_with(PREFIX)) || self.rest.wants(head)
    }

    fn answer(&self, request: Request<Body>, next: Next) -> Answer {
        let desk = self.desk.clone().filter(|_| request.uri().path().starts_with(PREFIX));
        let Some(desk) = desk else { return self.rest.answer(request, next) };
        Box::pin(async move {
            // What is under way is waited for when we stop.
            let _open = next;
            let name = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
            let Some((provider, bucket)) = desk.buckets.get_key_value(name.as_str()) else {
                return Problem::from(Refusal::new(Reason::NotFound, "there is nothing under this path")).response();
            };
            let answered = desk.take(provider, bucket, request).await;
            let outcome = match &answered {
                Ok(_) => "delivered".to_owned(),
                Err(problem) => {
                    Refusal::details(problem.status()).map_or_else(|| "UNKNOWN".to_owned(), |details| details.reason)
                }
            };
            metrics::counter!(names::GATEWAY_PROVIDER_EVENTS_TOTAL, "provider" => *provider, "outcome" => outcome)
                .increment(1);
            let mut response = answered.unwrap_or_else(|problem| problem.response());
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        })
    }
}

// === impl Desk ===

impl Desk {
    async fn take(
        &self,
        provider: &str,
        bucket: &Mutex<Bucket>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Problem> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            let refusal = Refusal::new(Reason::NotFound, format!("there is no {} here, but POST", head.method));
            return Err(Problem::with(&refusal, StatusCode::METHOD_NOT_ALLOWED));
        }
        let token = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        token.map_err(|exhausted| {
            Refusal::new(Reason::RateLimited, "too many events of this provider").retry_after(exhausted.retry_after)
        })?;
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| Refusal::new(Reason::Overloaded, "as many events are being taken as may be at once"))?;
        let body = self.body.collect(&head.headers, body).await?;
        let headers = head.headers.iter().map(|(name, value)| ProviderEventHeader {
            name: name.as_str().to_owned(),
            value: value.as_bytes().to_vec(),
        });
        let event = DeliverProviderEventRequest {
            provider: provider.to_owned(),
            headers: headers.collect(),
            body: body.to_vec(),
        };
        let mut call = tonic::Request::new(event);
        call.set_timeout(ANSWER_WITHIN);
        let asked = self.signer.clone().deliver_provider_event(call).await.map_err(|status| {
            match Refusal::details(&status) {
                // Its own word.
                Some(_) => Problem::from(status),
                None => Refusal::new(Reason::UpstreamUnavailable, "the signer does not answer").source(status).into(),
            }
        })?;
        let outcome = match asked.into_inner().outcome() {
            ProviderEventOutcome::Woken => "WOKEN",
            ProviderEventOutcome::Repeated => "REPEATED",
            ProviderEventOutcome::Ignored | ProviderEventOutcome::Unspecified => "IGNORED",
        };
        let mut response = Response::new(full(json!({ "outcome": outcome }).to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use serde_json::Value;
    use tonic::transport::Endpoint;

    use super::*;

    /// With a signer that nobody reaches.
    fn hooks(text: &str) -> Hooks {
        let tls = "tls = { certificate = \"c\", key = \"k\", trust_anchors = \"t\" }";
        let server: ServerConfig =
            toml::from_str(&format!("listen = \"127.0.0.1:0\"\nbody_read_ms = 50\n{tls}")).unwrap();
        let config: Option<HooksConfig> = (!text.is_empty()).then(|| toml::from_str(text).unwrap());
        let signer = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
        let rest = Rest::new(&crate::rest::HttpConfig::default(), &server);
        Hooks::new(config.as_ref(), &server, Some(signer), rest)
    }

    async fn answered(hooks: &Hooks, request: Request<Body>) -> (u16, String) {
        let next = Next::new(tower::service_fn(async |_: Request<Body>| Ok(Response::new(Body::empty()))));
        let (head, body) = hooks.answer(request, next).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        (head.status.as_u16(), said["details"][0]["reason"].as_str().unwrap_or_default().to_owned())
    }

    fn post(path: &str, body: impl Into<Bytes>) -> Request<Body> {
        Request::post(path).body(Body::new(Full::new(body.into()))).unwrap()
    }

    #[tokio::test]
    async fn what_anybody_can_send_is_kept_small() {
        let hooks =
            hooks("providers = [\"dfns\"]\nmax_body_bytes = 1024\nat_once = 1\nrate = { per_second = 1, burst = 4 }");
        let wanted = |path: &str| hooks.wants(&post(path, "").into_parts().0);
        assert!(wanted("/hooks/dfns"));
        let away = (503, "UPSTREAM_UNAVAILABLE".to_owned());
        assert_eq!(answered(&hooks, post("/hooks/dfns", "{}")).await, away, "it is handed on");
        let large = answered(&hooks, post("/hooks/dfns", vec![b' '; 1025])).await;
        assert_eq!(large, (413, "MESSAGE_TOO_LARGE".to_owned()));
        let announced = Request::post("/hooks/dfns").header("content-length", "99999999").body(Body::empty()).unwrap();
        assert_eq!(answered(&hooks, announced).await, (413, "MESSAGE_TOO_LARGE".to_owned()), "before it is read");
        // One that never comes keeps the only place, until it is given up.
        let endless = futures::stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
        let slow = Request::post("/hooks/dfns").body(Body::new(http_body_util::StreamBody::new(endless))).unwrap();
        assert_eq!(answered(&hooks, slow).await, (408, "DEADLINE".to_owned()));
        assert_eq!(answered(&hooks, post("/hooks/dfns", "{}")).await, (429, "RATE_LIMITED".to_owned()));
        let get = Request::get("/hooks/dfns").body(Body::empty()).unwrap();
        assert_eq!(answered(&hooks, get).await, (405, "NOT_FOUND".to_owned()));
        for elsewhere in ["/hooks/fireblocks", "/hooks/", "/hooks/dfns/x", "/hooks//dfns", "/hooks//hooks/dfns"] {
            assert_eq!(answered(&hooks, post(elsewhere, "{}")).await, (404, "NOT_FOUND".to_owned()), "{elsewhere}");
        }
    }

    #[tokio::test]
    async fn as_many_as_may_wait_at_once() {
        let hooks = std::sync::Arc::new(hooks("providers = [\"dfns\"]\nat_once = 1"));
        let endless = futures::stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
        let slow = Request::post("/hooks/dfns").body(Body::new(http_body_util::StreamBody::new(endless))).unwrap();
        let (first, second) = tokio::join!(answered(&hooks, slow), answered(&hooks, post("/hooks/dfns", "{}")));
        assert_eq!(first, (408, "DEADLINE".to_owned()));
        assert_eq!(second, (429, "OVERLOADED".to_owned()));
    }

    #[tokio::test]
    async fn without_a_configuration_there_are_no_endpoints() {
        let (status, reason) = answered(&hooks(""), post("/hooks/dfns", "{}")).await;
        assert_eq!((status, reason.as_str()), (404, "NOT_FOUND"));
    }
}
