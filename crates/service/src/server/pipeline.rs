//! What happens to every request, in order: peer check, trace, limits, deadline, the service, metrics.

use std::{
    error::Error,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dalp_proto::RateClass;
use futures::FutureExt as _;
use http::{Request, Response};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, body::Body, service::Routes};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::{
    GrpcService, PeerPolicy,
    body::{LimitedBody, Limits, ObservedBody, code_of},
    is_reflection,
};
use crate::{
    deadline::{self, Deadline},
    errors::{Reason, Refusal},
    metric_definitions as names,
    peer::PeerIdentity,
    telemetry,
};

const HEALTH: [&str; 3] =
    ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch"];
/// Stands for every path outside the contracts: an attacker must not make up label values.
const OTHER: &str = "other";

/// The body of a request: as it comes from the connection, or as a front made it.
pub(super) trait RequestBody:
    http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> RequestBody for B where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static
{
}

#[derive(Clone)]
pub(super) struct Pipeline<S> {
    service: S,
    shared: Arc<Shared>,
}

/// What every service answers beside its own calls.
pub(super) struct Infrastructure {
    pub(super) routes: Routes,
    /// Reflection is among them; otherwise the service has its own.
    pub(super) reflects: bool,
}

struct Shared {
    name: &'static str,
    infrastructure: Infrastructure,
    policy: Arc<PeerPolicy>,
    max_message_bytes: usize,
    call_timeout: Duration,
    body_read: Duration,
    methods: dalp_proto::Methods,
}

impl<S: GrpcService> Pipeline<S> {
    pub(super) fn new(
        name: &'static str,
        service: S,
        infrastructure: Infrastructure,
        policy: Arc<PeerPolicy>,
        max_message_bytes: usize,
        call_timeout: Duration,
        body_read: Duration,
    ) -> Self {
        Self {
            service,
            shared: Arc::new(Shared {
                name,
                infrastructure,
                policy,
                max_message_bytes,
                call_timeout,
                body_read,
                methods: dalp_proto::Methods::load(),
            }),
        }
    }

    pub(super) async fn handle<B: RequestBody>(
        self,
        request: Request<B>,
        peer: Option<PeerIdentity>,
        remote: SocketAddr,
        open: TaskTrackerToken,
    ) -> Response<Body> {
        let started = Instant::now();
        let path = request.uri().path().to_owned();
        let name = self.shared.name;
        let span = tracing::info_span!(
            "rpc",
            otel.kind = "server",
            otel.name = path.trim_start_matches('/'),
            rpc.system = "grpc",
            service = name,
            method = path,
            peer = peer.as_ref().map(tracing::field::display),
            %remote,
        );
        telemetry::set_parent(&span, request.headers());
        let in_flight = InFlight::enter(name);
        let reflection = is_reflection(&path);
        let infrastructure = HEALTH.contains(&path.as_str()) || (reflection && self.shared.infrastructure.reflects);
        let known = infrastructure || reflection || self.shared.methods.get(&path).is_some();
        let method = if known { path.clone() } else { OTHER.to_owned() };
        let response = self.answer(request, peer, &path, infrastructure).instrument(span).await;
        let finished = move |code: Code| {
            let _leave_now = (in_flight, open);
            let seconds = started.elapsed().as_secs_f64();
            metrics::histogram!(names::GRPC_SERVER_DURATION_SECONDS, "service" => name, "method" => method.clone())
                .record(seconds);
            metrics::counter!(names::GRPC_SERVER_REQUESTS_TOTAL, "service" => name, "method" => method, "code" => code_name(code)).increment(1);
        };
        match code_of(response.headers()) {
            // Trailers only: the response ends with its headers.
            Some(code) => {
                finished(code);
                response
            }
            None => response.map(|body| Body::new(ObservedBody::new(body, finished))),
        }
    }

    /// When the call has to be answered: when its caller stops waiting, and in any case after our own limit, so that no
    /// request holds its place for ever. Waits and streams have only the caller's.
    fn deadline<B>(&self, request: &Request<B>, path: &str, infrastructure: bool) -> Option<Deadline> {
        let asked = Deadline::from_headers(request.headers());
        let is_stream = self.shared.methods.get(path).is_some_and(|method| method.rate == RateClass::Stream);
        if infrastructure || is_stream || is_reflection(path) {
            return asked;
        }
        let ours = Deadline::after(self.shared.call_timeout);
        Some(asked.map_or(ours, |asked| asked.min(ours)))
    }

    async fn answer<B: RequestBody>(
        self,
        request: Request<B>,
        peer: Option<PeerIdentity>,
        path: &str,
        infrastructure: bool,
    ) -> Response<Body> {
        if let Err(refusal) = self.shared.policy.check(path, peer.as_ref()) {
            tracing::warn!(reason = refusal.reason().as_str(), "peer refused");
            return refusal.to_response();
        }
        let deadline = self.deadline(&request, path, infrastructure);
        let refused = Arc::new(OnceLock::new());
        // A tool that reflects holds its stream open between questions.
        let limits = Limits {
            message_bytes: self.shared.max_message_bytes,
            read_within: Some(self.shared.body_read).filter(|_| !is_reflection(path)),
            each: self.shared.methods.get(path).is_some_and(|method| method.client_streaming),
        };
        let mut request = request.map(|body| Body::new(LimitedBody::new(body, limits, Arc::clone(&refused))));
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let work = async {
            let answered = match infrastructure {
                true => self.shared.infrastructure.routes.clone().oneshot(request).await,
                false => self.service.oneshot(request).await,
            };
            match answered {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        // A panic in one request must not take the connection, and with it the requests of others, along.
        let work = AssertUnwindSafe(deadline::scope(deadline, work)).catch_unwind();
        let outcome = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.instant().into(), work).await,
            None => Ok(work.await),
        };
        match (refused.get(), outcome) {
            (Some(refusal), _) => refusal.to_response(),
            (None, Ok(Ok(response))) => unreadable(&response).map_or(response, |refusal| refusal.to_response()),
            (None, Ok(Err(_panic))) => {
                tracing::error!("the request panicked");
                Refusal::new(Reason::Internal, "an internal failure; the log holds the details under this trace")
                    .to_response()
            }
            (None, Err(_elapsed)) => {
                Refusal::new(Reason::Deadline, "the deadline passed before the answer was ready").to_response()
            }
        }
    }
}

/// A message that is not what the contract says is the caller's mistake; the library behind the services calls it an internal one.
fn unreadable(response: &Response<Body>) -> Option<Refusal> {
    code_of(response.headers()).filter(|code| *code == Code::Internal)?;
    let said = tonic::Status::from_header_map(response.headers())?;
    let why = said.message().strip_prefix("failed to decode Protobuf message: ")?;
    Some(Refusal::new(Reason::InvalidField, format!("the message does not read: {why}")).field("message", why))
}

/// Counts a request for as long as it lives.
struct InFlight(&'static str);

impl InFlight {
    fn enter(name: &'static str) -> Self {
        metrics::gauge!(names::GRPC_SERVER_IN_FLIGHT, "service" => name).increment(1.0);
        Self(name)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!(names::GRPC_SERVER_IN_FLIGHT, "service" => self.0).decrement(1.0);
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
