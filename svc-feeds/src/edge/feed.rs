//! The feed service.

use super::{Write, reads, stream, submit};
use crate::{
    app::AppHandle,
    domain::feed::CreateFeed,
    flows::create::{CreateFeedFlow, CreateFeedOrder},
    readers::systems::{current, require_manager, require_scalar_topic},
};
use dalp_domain::Admitted;
use dalp_proto::feeds::{self as proto, feed_service_server::FeedService};
use dalp_service::{Caller, Reason, Refusal};
use tonic::{Request, Response, Status};

/// Serves `dalp.feeds.v1.FeedService`.
pub(super) struct FeedEdge {
    app: AppHandle,
}

impl FeedEdge {
    pub(super) fn new(app: AppHandle) -> Self {
        Self { app }
    }

    async fn create(&self, request: Request<proto::CreateFeedRequest>) -> Result<Admitted, Refusal> {
        let write = Write::begin(&self.app, "dalp.feeds.v1.FeedService/CreateFeed", &request).await?;
        let command = CreateFeed::try_from(request.get_ref())?;
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let system = app.system(&tenant).await?;
            require_scalar_topic(&app.chain, &system, command.pair.topic_id).await?;
            require_manager(&app.chain, &system, command.sender, command.pair.subject).await?;
            match (current(&app.chain, &system, command.pair).await?, command.replace) {
                (Some(feed), false) => {
                    let text = "the subject has a feed of this topic; set replace to put another in its place";
                    return Err(Refusal::new(Reason::AlreadyExists, text).meta("feed", feed.to_checksum(None)));
                }
                (None, true) => {
                    return Err(Refusal::new(Reason::NotFound, "the subject has no feed of this topic to replace"));
                }
                (Some(_), true) | (None, false) => {}
            }
            let order =
                CreateFeedOrder { chain_id: app.chain.chain_id(), factory: system.factory, command: command.clone() };
            Ok((order, None))
        };
        write.accept::<CreateFeedFlow, _>(&command, order).await
    }

    async fn staleness(&self, request: Request<proto::SetStalenessRequest>) -> Result<(), Refusal> {
        let caller = Caller::from_request(&request)?;
        let (app, message) = (self.app.get()?, request.get_ref());
        let feed = reads::address("feed", &message.feed)?;
        app.feed(caller.tenant.as_str(), feed).await?;
        let stale_after_s = (message.stale_after_s != 0).then_some(message.stale_after_s);
        app.store.set_staleness(caller.tenant.as_str(), app.chain.chain_id(), feed, stale_after_s).await?;
        Ok(())
    }
}

#[tonic::async_trait]
impl FeedService for FeedEdge {
    type WatchFeedsStream = stream::Events;

    async fn create_feed(
        &self,
        request: Request<proto::CreateFeedRequest>,
    ) -> Result<Response<proto::CreateFeedResponse>, Status> {
        Ok(self.create(request).await?.respond(|operation| proto::CreateFeedResponse { operation }))
    }

    async fn submit_update(
        &self,
        request: Request<proto::SubmitUpdateRequest>,
    ) -> Result<Response<proto::SubmitUpdateResponse>, Status> {
        let admitted = submit::update(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::SubmitUpdateResponse { operation }))
    }

    async fn submit_batch(
        &self,
        request: Request<proto::SubmitBatchRequest>,
    ) -> Result<Response<proto::SubmitBatchResponse>, Status> {
        let admitted = submit::batch(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::SubmitBatchResponse { operation }))
    }

    async fn submit_signed_update(
        &self,
        request: Request<proto::SubmitSignedUpdateRequest>,
    ) -> Result<Response<proto::SubmitSignedUpdateResponse>, Status> {
        let admitted = submit::signed(&self.app, request).await?;
        Ok(admitted.respond(|operation| proto::SubmitSignedUpdateResponse { operation }))
    }

    async fn set_staleness(
        &self,
        request: Request<proto::SetStalenessRequest>,
    ) -> Result<Response<proto::SetStalenessResponse>, Status> {
        self.staleness(request).await?;
        Ok(Response::new(proto::SetStalenessResponse {}))
    }

    async fn get_feed(
        &self,
        request: Request<proto::GetFeedRequest>,
    ) -> Result<Response<proto::GetFeedResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::feed(self.app.get()?, caller.tenant.as_str(), &request.get_ref().feed).await?))
    }

    async fn get_latest(
        &self,
        request: Request<proto::GetLatestRequest>,
    ) -> Result<Response<proto::GetLatestResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::latest(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_round(
        &self,
        request: Request<proto::GetRoundRequest>,
    ) -> Result<Response<proto::GetRoundResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::round(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn list_rounds(
        &self,
        request: Request<proto::ListRoundsRequest>,
    ) -> Result<Response<proto::ListRoundsResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::rounds(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn get_nonce(
        &self,
        request: Request<proto::GetNonceRequest>,
    ) -> Result<Response<proto::GetNonceResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::nonce(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn verify_round(
        &self,
        request: Request<proto::VerifyRoundRequest>,
    ) -> Result<Response<proto::VerifyRoundResponse>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(reads::verify(self.app.get()?, caller.tenant.as_str(), request.get_ref()).await?))
    }

    async fn watch_feeds(
        &self,
        request: Request<proto::WatchFeedsRequest>,
    ) -> Result<Response<Self::WatchFeedsStream>, Status> {
        let caller = Caller::from_request(&request)?;
        Ok(Response::new(stream::open(&self.app, caller.tenant.as_str(), request.get_ref()).await?))
    }
}
