//! The right to a call, for as long as the call lasts: looked at again when its message is whole, and again and again while it waits,
//! sends or is sent a stream.
//!
//! Looking costs a look into the cache of credentials, which hears of each change. What this cannot tell is what changes between the last look
//! and the commit of the service behind: that is as long as the service takes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dalp_proto::{Method, RateClass};
use dalp_service::{Refusal, errors::RefusalResult};
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};

use crate::{
    admission::{Admitted, Gate},
    body::CutOff,
    principals::{Principal, Shown},
    verification::stream::Binding,
};

/// How often the right to a call that lasts is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The right to one call.
#[derive(Clone, Debug)]
pub(crate) struct Right {
    gate: Arc<Gate>,
    /// Who was let in.
    principal: Arc<Principal>,
    shown: Shown,
    method: Method,
    asset: Option<String>,
}

type Look = BoxFuture<'static, RefusalResult<()>>;

/// A request body whose end is passed on only to whom it is still allowed; of a stream, each message a look apart.
pub(crate) struct RightfulBody {
    inner: tonic::body::Body,
    right: Right,
    /// Hears of the refusal: a proxy's client towards an upstream would swallow it.
    cut_off: Arc<CutOff>,
    /// Of a streamed write that needs a wallet verification: what it is good for is known at the end.
    binding: Option<Binding>,
    looked: Instant,
    /// A look that is under way, and what is passed on after it: nothing at the end.
    looking: Option<(Look, Option<Frame<Bytes>>)>,
    ended: bool,
}

/// A response body that ends with a refusal when the right to it is lost.
pub(crate) struct LastingBody {
    inner: tonic::body::Body,
    lost: BoxFuture<'static, Refusal>,
    ended: bool,
}

// === impl Right ===

impl Right {
    pub(crate) fn new(gate: Arc<Gate>, admitted: &Admitted, asset: Option<String>) -> Self {
        Self {
            gate,
            principal: Arc::clone(&admitted.principal),
            shown: admitted.shown.clone(),
            method: admitted.method.clone(),
            asset,
        }
    }

    /// Whether the call may last: a wait or a stream. All others end within the limit of the listener.
    pub(crate) fn lasts(&self) -> bool {
        self.method.rate == RateClass::Stream || self.method.client_streaming
    }

    /// Looks now.
    pub(crate) async fn look(&self) -> RefusalResult<()> {
        self.gate.still(&self.principal, &self.shown, &self.method, self.asset.as_deref()).await.map(drop)
    }

    /// Completes when the right is lost.
    pub(crate) async fn lost(&self) -> Refusal {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(refusal) = self.look().await {
                return refusal;
            }
        }
    }
}

// === impl RightfulBody ===

impl RightfulBody {
    pub(crate) fn new(inner: tonic::body::Body, right: Right, cut_off: Arc<CutOff>, binding: Option<Binding>) -> Self {
        Self { inner, right, cut_off, binding, looked: Instant::now(), looking: None, ended: false }
    }

    fn look(&mut self, then: Option<Frame<Bytes>>) {
        let right = self.right.clone();
        let binding = self.binding.take_if(|_| then.is_none());
        let look = async move {
            right.look().await?;
            match binding {
                Some(binding) => binding.end().await,
                None => Ok(()),
            }
        };
        self.looking = Some((Box::pin(look), then));
    }

    /// What is passed on is what the verification is good for.
    fn saw(&mut self, frame: &Frame<Bytes>) {
        if let (Some(binding), Some(data)) = (&mut self.binding, frame.data_ref()) {
            binding.saw(data);
        }
    }
}

impl Body for RightfulBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        loop {
            if let Some((look, _)) = &mut self.looking {
                let seen = ready!(look.as_mut().poll(context));
                let then = self.looking.take().and_then(|(_, then)| then);
                self.looked = Instant::now();
                if let Err(refusal) = seen {
                    self.ended = true;
                    self.cut_off.set(refusal.clone());
                    return Poll::Ready(Some(Err(refusal.to_status())));
                }
                self.ended = then.is_none();
                return Poll::Ready(then.map(Ok));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                // A message often ends with an empty frame. Passed on, that would not be the last one any more, and a connection takes few of those.
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(Ok(frame)) => {
                    self.saw(&frame);
                    if self.right.method.client_streaming && self.looked.elapsed() >= LOOK_EVERY {
                        self.look(Some(frame));
                        continue;
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.look(None),
            }
        }
    }

    // Never known before the last look: who trusted it would pass the end on without.
    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

// === impl LastingBody ===

impl LastingBody {
    pub(crate) fn new(inner: tonic::body::Body, right: Right) -> Self {
        Self { inner, lost: Box::pin(async move { right.lost().await }), ended: false }
    }
}

impl Body for LastingBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(refusal) = self.lost.as_mut().poll(context) {
            self.ended = true;
            let mut trailers = http::HeaderMap::new();
            let written = refusal.to_status().add_header(&mut trailers);
            return Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
