//! A refusal on its way to the wire and back.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Next, Reason};

/// The `domain` of every `ErrorInfo` of the platform.
pub const DOMAIN: &str = "dalp";

/// Metadata key of `ErrorInfo` that tells the caller what to do: the name of a [`Next`].
const NEXT: &str = "next";

/// A typed refusal: why, in words for people, with metadata, field violations and a retry hint for programs.
#[derive(Clone)]
pub struct Refusal(Box<Inner>);

/// What a refusal consists of; boxed to keep `Result<_, Refusal>` small.
#[derive(Clone)]
struct Inner {
    reason: Reason,
    message: String,
    metadata: Vec<(String, String)>,
    violations: Vec<(String, String)>,
    retry_after: Option<Duration>,
    headers: Vec<(&'static str, String)>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The result of work that may be refused.
pub type RefusalResult<T> = Result<T, Refusal>;

/// What a client reads out of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalDetails {
    /// The reason as it stands on the wire; newer servers may know reasons this build does not.
    pub reason: String,
    /// The metadata of the `ErrorInfo`.
    pub metadata: std::collections::BTreeMap<String, String>,
    /// Field path and what is wrong with it.
    pub violations: Vec<(String, String)>,
    /// How long to wait before the same request is worth repeating.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with the reason's own retry hint.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            metadata: Vec::new(),
            violations: Vec::new(),
            retry_after: reason.retry_after(),
            headers: Vec::new(),
            source: None,
        }))
    }

    /// A failure of ours that the caller can do nothing about. The source is logged, never sent.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Reason::Internal, "an internal failure; the log holds the details under this trace").source(source)
    }

    /// Adds `ErrorInfo` metadata for programs.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.0.metadata.push((key.into(), value.to_string()));
        self
    }

    /// Adds a violated field: its path as in the request (`legs[2].amount`) and what is wrong with it.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.violations.push((path.into(), description.into()));
        self
    }

    /// Replaces the retry hint.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Adds metadata of the answer itself, beside its details. A value that metadata cannot carry is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.headers.push((name, value.to_string()));
        self
    }

    /// Keeps the cause for the log. It never goes over the wire.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// In words for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The violated fields.
    #[must_use]
    pub fn violations(&self) -> &[(String, String)] {
        &self.0.violations
    }

    /// The metadata added with [`Refusal::meta`].
    #[must_use]
    pub fn metadata(&self) -> &[(String, String)] {
        &self.0.metadata
    }

    /// The status for the wire.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let Inner { reason, message, metadata, violations, retry_after, headers, source } = &*self.0;
        if let Some(source) = source {
            let source = source.as_ref() as &(dyn Error + 'static);
            match reason.code() {
                Code::Internal | Code::Unknown | Code::DataLoss => {
                    tracing::error!(reason = reason.as_str(), error = source, "request failed");
                }
                _ => tracing::warn!(reason = reason.as_str(), error = source, "request refused"),
            }
        }
        let mut info: std::collections::HashMap<String, String> = metadata.iter().cloned().collect();
        info.insert(NEXT.to_owned(), reason.next().as_str().to_owned());
        let mut details = ErrorDetails::new();
        details.set_error_info(reason.as_str(), DOMAIN, info);
        for (path, description) in violations {
            details.add_bad_request_violation(path, description);
        }
        if let Some(delay) = retry_after {
            details.set_retry_info(Some(*delay));
        }
        let mut status = Status::with_error_details(reason.code(), message, details);
        for (name, value) in headers {
            if let Ok(value) = value.parse::<MetadataValue<Ascii>>() {
                status.metadata_mut().insert(*name, value);
            }
        }
        status
    }

    /// Reads the details of a refusal out of a status, also one of another build. `None` when it carries none of ours.
    #[must_use]
    pub fn details(status: &Status) -> Option<RefusalDetails> {
        let details = status.check_error_details().ok()?;
        let info = details.error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        Some(RefusalDetails {
            reason: info.reason.clone(),
            metadata: info.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            violations: details
                .bad_request()
                .map(|bad| {
                    bad.field_violations.iter().map(|one| (one.field.clone(), one.description.clone())).collect()
                })
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        })
    }

    /// Rebuilds the refusal another service of ours answered with; `None` when it carries none of ours.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = Self::details(status)?;
        let mut refusal = Self::new(details.reason.parse().ok()?, status.message());
        refusal.0.metadata = details.metadata.into_iter().filter(|(key, _)| key != NEXT).collect();
        refusal.0.violations = details.violations;
        refusal.0.retry_after = details.retry_after;
        Some(refusal)
    }

    /// What a caller of ours should hear about a failed call to another service: its refusal if it gave one, else
    /// `UPSTREAM_UNAVAILABLE` or `DEADLINE` with the upstream's name.
    #[must_use]
    pub fn from_upstream(upstream: &str, status: Status) -> Self {
        if let Some(refusal) = Self::from_status(&status) {
            return refusal;
        }
        match status.code() {
            Code::DeadlineExceeded => Self::new(Reason::Deadline, format!("{upstream} did not answer in time")),
            Code::Unavailable | Code::Unknown | Code::Cancelled => {
                Self::new(Reason::UpstreamUnavailable, format!("{upstream} cannot be reached"))
            }
            Code::Unimplemented => {
                Self::new(Reason::NotImplemented, format!("{upstream} does not implement this call"))
            }
            _ => Self::new(Reason::Internal, format!("{upstream} failed")),
        }
        .meta("upstream", upstream)
        .source(status)
    }

    /// The refusal as a whole HTTP response without a body.
    pub(crate) fn to_response(&self) -> http::Response<tonic::body::Body> {
        self.to_status().into_http()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.to_status()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.0.reason.as_str(), self.0.message)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Refusal")
            .field("reason", &self.0.reason)
            .field("message", &self.0.message)
            .field("metadata", &self.0.metadata)
            .field("violations", &self.0.violations)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as &(dyn Error + 'static))
    }
}

impl Next {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FixInput => "fix_input",
            Self::WaitForApproval => "wait_for_approval",
            Self::RetrySameKey => "retry_same_key",
            Self::CallUs => "call_us",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire() {
        let refusal = Refusal::new(Reason::InvalidField, "two fields are wrong")
            .meta("asset", "BOND1")
            .field("to", "wrong checksum")
            .field("legs[2].amount", "negative")
            .retry_after(Duration::from_millis(1500));
        let (parts, _) = refusal.to_response().into_parts();
        let status = Status::from_header_map(&parts.headers).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "two fields are wrong");

        let details = Refusal::details(&status).unwrap();
        assert_eq!(details.reason, "INVALID_FIELD");
        assert_eq!(details.metadata["next"], "fix_input");
        assert_eq!(details.violations[1], ("legs[2].amount".to_owned(), "negative".to_owned()));
        assert_eq!(details.retry_after, Some(Duration::from_millis(1500)));

        let back = Refusal::from_status(&status).unwrap();
        assert_eq!(back.reason(), Reason::InvalidField);
        assert_eq!(back.metadata(), [("asset".to_owned(), "BOND1".to_owned())]);
    }

    #[test]
    fn an_answer_carries_its_headers() {
        let refusal = Refusal::new(Reason::CustodyApprovalPending, "wait")
            .header("idempotency-key", "pay-1")
            .header("idempotency-replayed", true)
            .header("other", "no\nheader");
        let (parts, _) = refusal.to_response().into_parts();
        assert_eq!(parts.headers["idempotency-key"], "pay-1");
        assert_eq!(parts.headers["idempotency-replayed"], "true");
        assert!(!parts.headers.contains_key("other"));
        let status = Status::from_header_map(&parts.headers).unwrap();
        assert_eq!(Refusal::details(&status).unwrap().retry_after, Some(Duration::from_secs(5)));
    }

    #[test]
    fn the_cause_stays_here() {
        let refusal = Refusal::internal(std::io::Error::other("password=hunter2"));
        let status = refusal.to_status();
        assert!(!format!("{status:?}").contains("hunter2"));
        assert!(Error::source(&refusal).is_some());
    }

    #[test]
    fn an_upstream_without_a_reason_is_named() {
        let refusal = Refusal::from_upstream("svc-signer", Status::unavailable("tcp connect error"));
        assert_eq!(refusal.reason(), Reason::UpstreamUnavailable);
        assert!(
            refusal.to_status().get_details_error_info().is_some_and(|info| info.metadata["upstream"] == "svc-signer")
        );
        let passed_on = Refusal::from_upstream("svc-signer", Refusal::new(Reason::PolicyDenied, "cap").to_status());
        assert_eq!(passed_on.reason(), Reason::PolicyDenied);
    }

    #[test]
    fn codes_are_distinct_and_parse_back() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            assert!(seen.insert(reason.as_str()), "{reason:?} repeats a code");
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            assert_ne!(reason.code(), Code::Ok);
            assert_eq!(reason.code() == Code::Internal, *reason == Reason::Internal, "no business refusal is INTERNAL");
        }
    }
}
