//! Refusals as `google.rpc.Status` in JSON, with the HTTP status that fits.

use std::fmt;

use bytes::Bytes;
use dalp_service::{Reason, Refusal};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;

/// The media type of every document but streams.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A refusal on its way to an HTTP client.
#[derive(Debug)]
pub struct Problem {
    status: Status,
    /// Where HTTP says more than gRPC's code does.
    http: Option<StatusCode>,
}

// === impl Problem ===

impl Problem {
    /// With an HTTP status of its own.
    #[must_use]
    pub fn with(refusal: &Refusal, http: StatusCode) -> Self {
        Self { status: refusal.to_status(), http: Some(http) }
    }

    /// The gRPC status.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The HTTP status.
    #[must_use]
    pub fn http(&self) -> StatusCode {
        let too_large =
            Refusal::details(&self.status).is_some_and(|details| details.reason == Reason::MessageTooLarge.as_str());
        match self.http {
            Some(http) => http,
            None if too_large => StatusCode::PAYLOAD_TOO_LARGE,
            None => http_status(self.status.code()),
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(full(document(&self.status).to_string()));
        *response.status_mut() = self.http();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        if let Some(delay) = Refusal::details(&self.status).and_then(|details| details.retry_after) {
            // Whole seconds, and never too early.
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.http() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Self { status, http: None }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        refusal.to_status().into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.status.message())
    }
}

/// A part of the request that cannot be understood.
#[must_use]
pub fn invalid(place: &str, why: &str) -> Problem {
    // What the reader of JSON calls the document itself.
    let place = if matches!(place, "" | "." | "?") { "body" } else { place };
    Refusal::new(Reason::InvalidField, format!("{place}: {why}")).field(place, why).into()
}

/// A body that is there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::new(Full::new(bytes.into()))
}

/// The HTTP status of a gRPC code, as Google's services map them; what is taken or in conflict is 409.
#[must_use]
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Aborted | Code::AlreadyExists => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // "Client closed request": no status of the standard says it.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A status as the JSON form of `google.rpc.Status`, with the details that the platform gives.
#[must_use]
pub fn document(status: &Status) -> Value {
    let details = status.get_error_details();
    let mut listed = Vec::new();
    if let Some(info) = details.error_info() {
        let metadata: Map<_, _> = info.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        listed.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": info.reason, "domain": info.domain, "metadata": metadata,
        }));
    }
    if let Some(bad) = details.bad_request() {
        let violations: Vec<_> = bad
            .field_violations
            .iter()
            .map(|one| json!({"field": one.field, "description": one.description}))
            .collect();
        listed.push(json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}));
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        let seconds = format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos());
        listed.push(json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": seconds}));
    }
    json!({"code": i32::from(status.code()), "message": status.message(), "details": listed})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;

    use super::*;

    async fn answered(problem: Problem) -> (StatusCode, http::HeaderMap, Value) {
        let (head, body) = problem.response().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_says_all_it_knows() {
        let refusal = Refusal::new(Reason::CustodyApprovalPending, "wait")
            .meta("key", "0x1")
            .field("sender", "held")
            .retry_after(Duration::from_millis(1500));
        let (status, headers, body) = answered(refusal.into()).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(headers[header::RETRY_AFTER], "2");
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(body["code"], i32::from(Code::Aborted));
        assert_eq!(body["details"][0]["reason"], "CUSTODY_APPROVAL_PENDING");
        assert_eq!(body["details"][0]["metadata"]["key"], "0x1");
        assert_eq!(body["details"][1]["fieldViolations"][0]["field"], "sender");
        assert_eq!(body["details"][2]["retryDelay"], "1.500000000s");
    }

    #[tokio::test]
    async fn conflicts_are_409_and_what_is_too_large_413() {
        let http = |reason| Problem::from(Refusal::new(reason, "x")).http().as_u16();
        assert_eq!(http(Reason::IdempotencyKeyReused), 409);
        assert_eq!(http(Reason::Conflict), 409);
        assert_eq!(http(Reason::MessageTooLarge), 413);
        assert_eq!(http(Reason::RateLimited), 429);
        assert_eq!(http(Reason::UnauthenticatedMissing), 401);
        let (_, headers, _) = answered(Refusal::new(Reason::UnauthenticatedMissing, "x").into()).await;
        assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer");
    }

    #[test]
    fn every_reason_has_a_status_of_its_kind() {
        for reason in Reason::ALL {
            let http = Problem::from(Refusal::new(*reason, "x")).http();
            assert!(http.is_client_error() || http.is_server_error(), "{reason}");
        }
    }
}
