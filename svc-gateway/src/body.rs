//! The two bodies of a proxied call: the server's refusal of a request body (a message too large) reaches the client, and a
//! response always ends with a typed gRPC status.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use dalp_service::{Reason, Refusal};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

/// Why a request body was cut off, told to whoever answers the client.
#[derive(Debug, Default)]
pub struct CutOff {
    refusal: OnceLock<Refusal>,
    happened: Notify,
}

/// A request body whose failure is remembered: a proxy's client towards the upstream would swallow it.
#[derive(Debug)]
pub struct WatchedBody {
    inner: tonic::body::Body,
    cut_off: Arc<CutOff>,
}

/// A response body that ends with a typed status also when its upstream breaks off.
pub struct ClosedBody {
    inner: tonic::body::Body,
    upstream: Arc<str>,
    cut_off: Arc<CutOff>,
    ended: bool,
}

// === impl CutOff ===

impl CutOff {
    pub(crate) fn set(&self, refusal: Refusal) {
        // Only the first reason counts.
        let _ = self.refusal.set(refusal);
        self.happened.notify_one();
    }

    /// Why, if it happened.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().cloned()
    }

    /// Completes when it happened; one waiter.
    pub async fn happened(&self) -> Refusal {
        loop {
            if let Some(refusal) = self.refusal() {
                return refusal;
            }
            self.happened.notified().await;
        }
    }
}

// === impl WatchedBody ===

impl WatchedBody {
    /// Watches `inner`; `cut_off` hears when it fails.
    #[must_use]
    pub fn new(inner: tonic::body::Body, cut_off: Arc<CutOff>) -> Self {
        Self { inner, cut_off }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Err(error)) = &frame {
            let refusal = Refusal::from_status(error).unwrap_or_else(|| {
                Refusal::new(Reason::Cancelled, "the request ended before its end").source(error.clone())
            });
            self.cut_off.set(refusal);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What the client hears when the call to an upstream breaks. Whether the upstream acted before is unknown, so the answer is
/// always one that a repeat with the same key resolves, never INTERNAL.
#[must_use]
pub fn broken(upstream: &str, status: tonic::Status) -> Refusal {
    let refusal = match status.code() {
        tonic::Code::DeadlineExceeded => Refusal::new(Reason::Deadline, format!("{upstream} did not answer in time")),
        _ => Refusal::new(Reason::UpstreamUnavailable, format!("{upstream} cannot be reached")),
    };
    refusal.meta("upstream", upstream).source(status)
}

// === impl ClosedBody ===

impl ClosedBody {
    /// Passes `inner` on; when it breaks off, the refusal names `upstream`, or what `cut_off` says.
    #[must_use]
    pub fn new(inner: tonic::body::Body, upstream: Arc<str>, cut_off: Arc<CutOff>) -> Self {
        Self { inner, upstream, cut_off, ended: false }
    }
}

impl Body for ClosedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let error = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Err(error)) => error,
            frame => return Poll::Ready(frame),
        };
        self.ended = true;
        let refusal = self.cut_off.refusal().unwrap_or_else(|| broken(&self.upstream, error));
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(refusal.to_status().add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_refused_request_body_is_remembered() {
        let cut_off = Arc::new(CutOff::default());
        let refused = Refusal::new(Reason::MessageTooLarge, "too large").to_status();
        let inner = tonic::body::Body::new(StreamBody::new(futures::stream::iter([Err::<Frame<Bytes>, _>(refused)])));
        assert!(WatchedBody::new(inner, cut_off.clone()).collect().await.is_err());
        assert_eq!(cut_off.happened().await.reason(), Reason::MessageTooLarge);
    }

    #[tokio::test]
    async fn a_broken_response_still_ends_with_a_typed_status() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"part"))), Err(tonic::Status::unavailable("reset"))];
        let inner = tonic::body::Body::new(StreamBody::new(futures::stream::iter(frames)));
        let body = ClosedBody::new(inner, "svc-feeds".into(), Arc::default());
        let collected = body.collect().await.unwrap();
        let status = tonic::Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!(Refusal::details(&status).unwrap().reason, "UPSTREAM_UNAVAILABLE");
        assert_eq!(collected.to_bytes(), "part");
    }
}
