//! Writes on their way through the gateway: how each ends stands in the audit, also where the service that carries it out leaves no leaf itself, where its
//! caller has gone away, and where nobody hears the end.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use dalp_proto::{IdempotencyClass, Method};
use dalp_service::{Reason, Refusal, caller::IDEMPOTENCY_REPLAYED};
use futures::FutureExt as _;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Status, body::Body};

use super::refusals::{Allowed, Refusals, Refused};
use crate::{config::OWN_SERVICES, limits::Place, principals::Principal, reading, upstreams::NotSent};

/// Services that write their refusals themselves, with the hash of the message that they read.
const WRITE_THEIR_OWN: [&str; 5] = [
    "dalp.tenant.v1.TenantService",
    "dalp.principal.v1.PrincipalService",
    "dalp.apikey.v1.ApiKeyService",
    // Its messages hold codes, whose plain hash would tell them.
    "dalp.verification.v1.WalletVerificationService",
    "dalp.webhook.v1.WebhookService",
];

/// A write that may still be refused by whoever answers it.
#[derive(Clone, Debug)]
pub(crate) struct Noting {
    refusals: Refusals,
    principal: Arc<Principal>,
    path: String,
    idempotency_key: Option<String>,
    seen: Arc<Mutex<Sha256>>,
    /// Also when it is carried out: its commit has no leaf.
    is_noted_if_allowed: bool,
}

/// How a call ended.
struct Heard {
    /// For its caller.
    response: Response<Body>,
    /// The same for the audit.
    status: Status,
    /// Whether whoever answers can have begun.
    sent: bool,
}

/// Whether the service that carries a write out leaves none itself. Who answers with an operation wrote its leaf where it accepted it; the gateway's own
/// services write theirs, but for the withdrawal of an operation.
fn has_no_leaf(method: &Method) -> bool {
    match method.service.as_str() {
        "dalp.operation.v1.OperationService" => true,
        service if OWN_SERVICES.contains(&service) => false,
        _ => !reading::answers_with_operation(method),
    }
}

/// Whether a call that ended so may have been carried out all the same.
fn is_open(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss
    )
}

// === impl Noting ===

impl Noting {
    /// What notes the end of this call; `None` of a read, and of a service that does so itself.
    pub(crate) fn of(
        refusals: &Refusals,
        principal: &Arc<Principal>,
        method: &Method,
        key: Option<&str>,
    ) -> Option<Self> {
        let noted = method.idempotency != IdempotencyClass::Read && !WRITE_THEIR_OWN.contains(&method.service.as_str());
        noted.then(|| Self {
            refusals: refusals.clone(),
            principal: Arc::clone(principal),
            path: method.path.clone(),
            idempotency_key: key.map(str::to_owned),
            seen: Arc::default(),
            is_noted_if_allowed: has_no_leaf(method),
        })
    }

    /// The request's body, looked at as it passes.
    pub(crate) fn request(&self, body: Body) -> Body {
        let seen = Arc::clone(&self.seen);
        Body::new(body.map_frame(move |frame: Frame<bytes::Bytes>| {
            if let Some(data) = frame.data_ref() {
                seen.lock().unwrap_or_else(PoisonError::into_inner).update(data);
            }
            frame
        }))
    }

    /// Whether the end of the call is to be heard also without its caller: no commit of its service has a leaf.
    pub(crate) fn hears_the_end(&self) -> bool {
        self.is_noted_if_allowed
    }

    /// The answer, looked at as it passes for a refusal: the status stands in its headers or at its end.
    pub(crate) fn answer(self, response: Response<Body>) -> Response<Body> {
        if let Some(status) = Status::from_header_map(response.headers()) {
            self.refused(&status);
            return response;
        }
        response.map(|body| {
            Body::new(body.map_frame(move |frame: Frame<bytes::Bytes>| {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.refused(&status);
                }
                frame
            }))
        })
    }

    /// Hears a call out whose caller may go away meanwhile: what it did stands in the audit all the same, and before the caller hears of it. Waits for the end no
    /// longer than configured; the caller waits no longer either, also where its leaf finds no room. Its place among the tenant's calls it keeps until then.
    pub(crate) async fn hear_to_the_end(
        self,
        answering: impl Future<Output = Response<Body>> + Send + 'static,
        place: Arc<Place>,
    ) -> Response<Body> {
        let until = Instant::now() + self.refusals.heard_within();
        let late = || Refusal::new(Reason::Deadline, "the service did not answer in time");
        let refusals = self.refusals.clone();
        let hearing = refusals.tracked(async move {
            let _until_the_end = place;
            let heard = tokio::select! {
                heard = AssertUnwindSafe(heard_out(answering)).catch_unwind() => {
                    heard.unwrap_or_else(|_| Heard::nothing(&Refusal::new(Reason::Internal, "an internal failure")))
                }
                () = sleep_until(until) => Heard::nothing(&late()),
                () = self.refusals.ended() => Heard::nothing(&Refusal::new(Reason::Stopping, "the gateway has stopped")),
            };
            let replayed = heard.response.headers().get(IDEMPOTENCY_REPLAYED).is_some_and(|value| value == "true");
            self.ended(&heard.status, heard.sent, replayed).await;
            heard.response
        });
        match timeout_at(until, hearing).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => Refusal::internal(error).to_status().into_http(),
            Err(_) => late().to_status().into_http(),
        }
    }

    async fn ended(&self, status: &Status, sent: bool, replayed: bool) {
        let action = match status.code() {
            // It changed nothing; its leaf says that the call it repeats was carried out, whose own may be lost.
            Code::Ok if replayed && !self.refusals.has_room(self.principal.tenant.as_str()) => return,
            Code::Ok => "call.allowed",
            _ if self.refused(status) || !sent || !is_open(status.code()) => return,
            _ => "call.unheard",
        };
        let reason = match (status.code(), dalp_service::Refusal::details(status)) {
            (Code::Ok, _) => String::new(),
            (_, Some(details)) => details.reason,
            (code, None) => format!("{code:?}"),
        };
        let allowed = Allowed {
            action,
            principal: &self.principal,
            path: &self.path,
            reason: &reason,
            message: status.message(),
            idempotency_key: self.idempotency_key.as_deref(),
            payload_hash: self.hash(),
            is_repeat: replayed,
        };
        self.refusals.keep(allowed.leaf()).await;
    }

    /// Notes a refusal; `false` if nobody decided anything.
    fn refused(&self, status: &Status) -> bool {
        let Some(details) = Refusal::details(status) else { return false };
        self.refusals.note(&Refused {
            principal: &self.principal,
            path: &self.path,
            reason: &details.reason,
            message: status.message(),
            idempotency_key: self.idempotency_key.as_deref(),
            payload_hash: Some(self.hash()),
        })
    }

    fn hash(&self) -> [u8; 32] {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize().into()
    }
}

/// The whole answer. One that breaks off, or ends without its status, leaves the end open.
async fn heard_out(answering: impl Future<Output = Response<Body>>) -> Heard {
    let response = answering.await;
    let sent = response.extensions().get::<NotSent>().is_none();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Heard { response, status, sent };
    }
    let (parts, body) = response.into_parts();
    let whole = match body.collect().await {
        Ok(whole) => whole,
        Err(status) => return Heard { response: status.clone().into_http(), status, sent },
    };
    match whole.trailers().and_then(Status::from_header_map) {
        Some(status) => {
            let body = Body::new(whole.map_err(|never| match never {}));
            Heard { response: Response::from_parts(parts, body), status, sent }
        }
        None => Heard::nothing(&Refusal::new(Reason::UpstreamUnavailable, "the answer ended without its status")),
    }
}

// === impl Heard ===

impl Heard {
    /// Nothing more is heard of a call that was sent.
    fn nothing(refusal: &Refusal) -> Self {
        let status = refusal.to_status();
        Self { response: status.clone().into_http(), status, sent: true }
    }
}

#[cfg(test)]
mod tests {
    use dalp_proto::RateClass;

    use super::*;

    #[test]
    fn whose_end_is_heard_is_no_stream() {
        let methods = dalp_proto::Methods::load();
        let streams = methods.iter().filter(|method| {
            method.idempotency != IdempotencyClass::Read && has_no_leaf(method) && method.rate == RateClass::Stream
        });
        // It would be held back until its end.
        assert_eq!(streams.map(|method| method.path.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
    }

    #[test]
    fn what_a_service_decided_leaves_nothing_open() {
        for open in [Code::Unavailable, Code::DeadlineExceeded, Code::Unknown, Code::Internal, Code::Cancelled] {
            assert!(is_open(open), "{open:?}");
        }
        for decided in [Code::Ok, Code::InvalidArgument, Code::Unimplemented, Code::Aborted, Code::NotFound] {
            assert!(!is_open(decided), "{decided:?}");
        }
    }
}
