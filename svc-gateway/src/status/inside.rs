//! Reads on behalf of who looks: the calls of the API, made from inside, with the rights of that principal.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use dalp_service::server::Routes;
use http::{Request, Response};
use tonic::{body::Body, metadata::MetadataMap};
use tower::{Service, ServiceExt as _};

use crate::{
    admission::{Gate, Route},
    body::CutOff,
    principals::Principal,
    upstreams::Upstream,
};

/// Everything that calls go to.
#[derive(Clone)]
pub(super) struct Inside {
    pub(super) gate: Arc<Gate>,
    pub(super) upstreams: Arc<[Upstream]>,
    pub(super) own: Routes,
}

/// What generated clients call by, for one principal. What it may not read is refused here, by the words of the gate.
#[derive(Clone)]
pub(super) struct Calls {
    inside: Inside,
    principal: Arc<Principal>,
}

// === impl Inside ===

impl Inside {
    pub(super) fn of(&self, principal: Arc<Principal>) -> Calls {
        Calls { inside: self.clone(), principal }
    }
}

// === impl Calls ===

impl Calls {
    async fn make(self, request: Request<Body>) -> Response<Body> {
        let route = match self.inside.gate.reads(&self.principal, request.uri().path()) {
            Ok(route) => route,
            Err(refusal) => return refusal.to_status().into_http(),
        };
        let (mut parts, body) = request.into_parts();
        let mut metadata = MetadataMap::from_headers(parts.headers);
        self.principal.caller().apply(&mut metadata);
        parts.headers = metadata.into_headers();
        let request = Request::from_parts(parts, body);
        match route {
            Route::Own => match self.inside.own.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Route::Upstream(index) => self.inside.upstreams[index].forward(request, Arc::new(CutOff::default())).await,
        }
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.make(request).await) })
    }
}
