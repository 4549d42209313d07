//! The gRPC edge: message to command, object-level right, acceptance. No proto type passes beyond this module.

mod answers;
mod directory;
mod feed;
mod messages;
mod reads;
mod stream;
mod submit;

use crate::{
    app::{App, AppHandle},
    queue::QueueError,
};
use dalp_proto::{
    feeds::{feed_directory_service_server::FeedDirectoryServiceServer, feed_service_server::FeedServiceServer},
    operator::probe_service_server::{ProbeService, ProbeServiceServer},
};
use dalp_service::{Reason, Refusal, server::Routes};

/// Every service of this process.
pub(crate) fn routes(app: &AppHandle) -> Routes {
    Routes::new(FeedServiceServer::new(feed::FeedEdge::new(app.clone())))
        .add_service(FeedDirectoryServiceServer::new(directory::DirectoryEdge::new(app.clone())))
        .add_service(probe(app.clone()))
}

/// What the gateway asks of our nodes.
fn probe(app: AppHandle) -> ProbeServiceServer<impl ProbeService> {
    dalp_engine::probe::server(move || Ok(app.get()?.engine.clone()))
}

/// What a write knows before its message is read.
type Write<'a> = dalp_domain::Write<'a, App>;

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Store(error) => error.into(),
            QueueError::Operations(error) => dalp_domain::refusals::engine_store(error),
            QueueError::Chain(error) => error.into(),
        }
    }
}

/// A round of a number that no feed has.
fn no_round() -> Refusal {
    Refusal::new(Reason::FeedRoundUnavailable, "the feed has no such round")
}
