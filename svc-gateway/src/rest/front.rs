//! What the listener asks about requests that are not gRPC.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use dalp_service::{
    Reason, Refusal,
    caller::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED},
    config::ServerConfig,
    server::{Answer, Front, Next},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header, request};
use http_body_util::{BodyStream, StreamBody};
use prost_reflect::MessageDescriptor;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{
    body::Limits,
    config::HttpConfig,
    openapi, prefer,
    problem::{self, Problem},
    routes::Table,
    transcode,
};
use crate::verification::header::HEADER;

/// Where the description of the interface is.
const OPENAPI: &str = "/openapi.json";
/// How long a browser may remember what it was allowed.
const CORS_MAX_AGE: Duration = Duration::from_secs(600);
const WAIT_RESPONSE: &str = "dalp.operation.v1.WaitOperationResponse";

/// HTTP/JSON and gRPC-Web in front of the listener's pipeline.
#[derive(Clone)]
pub struct Rest {
    shared: Arc<Shared>,
    cors: Option<CorsLayer>,
}

/// What every request needs.
pub(super) struct Shared {
    pub(super) table: Table,
    pub(super) body: Limits,
    pub(super) wait_response: MessageDescriptor,
    openapi: Bytes,
}

/// The form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Grpc,
    GrpcWeb,
    Other,
}

// === impl Rest ===

impl Rest {
    /// In front of a listener of this configuration.
    ///
    /// # Panics
    /// Never in a build that passed its tests: the descriptors are compiled into the binary.
    #[must_use]
    pub fn new(http: &HttpConfig, server: &ServerConfig) -> Self {
        let wait_response = dalp_proto::descriptors().get_message_by_name(WAIT_RESPONSE);
        let shared = Shared {
            table: Table::load(),
            body: Limits { bytes: server.max_message_bytes, within: Duration::from_millis(server.call_timeout_ms) },
            wait_response: wait_response.expect("waiting is part of the contracts"),
            openapi: openapi::text(&openapi::document()).into(),
        };
        let origins = http.origins();
        let cors = (!origins.is_empty()).then(|| cors(origins));
        Self { shared: Arc::new(shared), cors }
    }
}

impl Front for Rest {
    fn wants(&self, head: &request::Parts) -> bool {
        form(&head.headers) != Form::Grpc || head.version != Version::HTTP_2
    }

    fn answer(&self, request: Request<Body>, next: Next) -> Answer {
        let (shared, cors) = (Arc::clone(&self.shared), self.cors.clone());
        Box::pin(async move {
            let inner = service_fn(move |request: Request<Body>| {
                let (shared, next) = (Arc::clone(&shared), next.clone());
                async move { Ok::<_, Infallible>(answer(&shared, request, next).await) }
            });
            let answered = match cors {
                Some(cors) => cors.layer(inner).oneshot(request).await,
                None => inner.oneshot(request).await,
            };
            match answered {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    }
}

async fn answer(shared: &Shared, request: Request<Body>, next: Next) -> Response<Body> {
    match form(request.headers()) {
        Form::GrpcWeb => {
            let next = service_fn(move |request: Request<Body>| next.clone().oneshot(request.map(of_unknown_length)));
            match GrpcWebLayer::new().layer(next).oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        Form::Grpc => Problem::from(Refusal::new(Reason::InvalidField, "gRPC needs HTTP/2")).response(),
        Form::Other if request.uri().path() == OPENAPI && request.method() == Method::GET => {
            let mut response = Response::new(problem::full(shared.openapi.clone()));
            response.headers_mut().insert(header::CONTENT_TYPE, problem::JSON);
            response
        }
        Form::Other => {
            let mut response = transcode::answer(shared, request, next).await;
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
    }
}

/// A body in base64 knows how long it is in base64, and whoever sends it on would announce that length for what it decodes to.
fn of_unknown_length(body: Body) -> Body {
    Body::new(StreamBody::new(BodyStream::new(body)))
}

/// By its media type alone.
fn form(headers: &HeaderMap) -> Form {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match media_type.strip_prefix(b"application/grpc") {
        Some([]) | Some([b'+' | b';' | b' ', ..]) => Form::Grpc,
        Some(rest) if rest.starts_with(b"-web") => Form::GrpcWeb,
        _ => Form::Other,
    }
}

fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let idempotency_key = HeaderName::from_static(IDEMPOTENCY_KEY);
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(methods)
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            idempotency_key.clone(),
            prefer::PREFER,
            HEADER,
            HeaderName::from_static("x-grpc-web"),
            HeaderName::from_static("x-user-agent"),
            HeaderName::from_static("grpc-timeout"),
        ])
        .expose_headers([
            idempotency_key,
            HeaderName::from_static(IDEMPOTENCY_REPLAYED),
            prefer::PREFERENCE_APPLIED,
            header::RETRY_AFTER,
            header::LOCATION,
            HeaderName::from_static("grpc-status"),
            HeaderName::from_static("grpc-message"),
            HeaderName::from_static("grpc-status-details-bin"),
        ])
        .max_age(CORS_MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_told_by_the_media_type() {
        let of =
            |text: &'static str| form(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(text))]));
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert_eq!(of(grpc), Form::Grpc, "{grpc}");
        }
        for web in ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"] {
            assert_eq!(of(web), Form::GrpcWeb, "{web}");
        }
        for other in ["", "application/json", "application/grpcx", "text/plain"] {
            assert_eq!(of(other), Form::Other, "{other}");
        }
    }
}
