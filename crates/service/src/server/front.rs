//! What may stand between connections and the request pipeline: it makes a gRPC call of a request in another form, and an answer
//! in that form of what comes back. The call itself takes the way of every other one: peer check, limits, deadline, metrics.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::FutureExt as _;
use http::{Request, Response, StatusCode, request};
use hyper::body::Incoming;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::body::Body;
use tower::{Service, util::BoxCloneService};

use super::{GrpcService, pipeline::Pipeline};
use crate::peer::PeerIdentity;

/// The request pipeline, for as many gRPC calls as a front makes of one request.
pub type Next = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

/// An answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Where a request comes from: the other end of its connection, or whatever stands between.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// Translates other forms of a call into gRPC. Requests that it does not want go to the pipeline as they are.
pub trait Front: Send + Sync + 'static {
    /// Whether the request is in another form than gRPC.
    fn wants(&self, head: &request::Parts) -> bool;

    /// Answers a request it wanted. Its extensions hold [`Remote`] and, where a certificate was shown, the [`PeerIdentity`].
    fn answer(&self, request: Request<Body>, next: Next) -> Answer;
}

/// What the requests of one connection go through.
#[derive(Clone)]
pub(super) struct Entrance<S> {
    pub(super) pipeline: Pipeline<S>,
    pub(super) front: Option<Arc<dyn Front>>,
    pub(super) peer: Option<PeerIdentity>,
    pub(super) remote: SocketAddr,
}

/// The pipeline with what is known of the connection.
#[derive(Clone)]
struct Call<S> {
    entrance: Entrance<S>,
    open: TaskTrackerToken,
}

// === impl Entrance ===

impl<S: GrpcService> Entrance<S> {
    pub(super) async fn handle(self, request: Request<Incoming>, open: TaskTrackerToken) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        match self.front.clone().filter(|front| front.wants(&head)) {
            None => self.pipeline.handle(Request::from_parts(head, body), self.peer, self.remote, open).await,
            Some(front) => {
                head.extensions.insert(Remote(self.remote));
                if let Some(peer) = &self.peer {
                    head.extensions.insert(peer.clone());
                }
                let next = Next::new(Call { entrance: self, open });
                // A panic in one request must not take the connection, and with it the requests of others, along.
                let answer =
                    AssertUnwindSafe(async { front.answer(Request::from_parts(head, Body::new(body)), next).await });
                answer.catch_unwind().await.unwrap_or_else(|_panic| {
                    tracing::error!("the request panicked before the pipeline");
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    response
                })
            }
        }
    }
}

// === impl Call ===

impl<S: GrpcService> Service<Request<Body>> for Call<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { entrance, open } = self.clone();
        Box::pin(async move { Ok(entrance.pipeline.handle(request, entrance.peer, entrance.remote, open).await) })
    }
}
