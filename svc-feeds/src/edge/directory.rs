//! The feed directory service.

use super::{Write, answers, messages::read_pair};
use crate::{
    app::AppHandle,
    domain::feed::{ChangeDirectory, DirectoryChange, Pair},
    flows::directory::{CreateAdapterFlow, DirectoryOrder, RegisterFeedFlow, RemoveFeedFlow, ReplaceFeedFlow},
    readers::systems::{adapter, current, require_manager, require_scalar_topic},
};
use alloy::primitives::U256;
use dalp_domain::{
    Admitted,
    pages::{bad_page_token, page_size},
};
use dalp_engine::Flow;
use dalp_proto::feeds::{self as proto, feed_directory_service_server::FeedDirectoryService};
use dalp_service::{Caller, Reason, Refusal, fields};
use tonic::{Request, Response, Status};

/// Serves `dalp.feeds.v1.FeedDirectoryService`.
pub(super) struct DirectoryEdge {
    app: AppHandle,
}

impl DirectoryEdge {
    pub(super) fn new(app: AppHandle) -> Self {
        Self { app }
    }

    async fn change<F, T>(&self, method: &'static str, request: Request<T>) -> Result<Admitted, Refusal>
    where
        F: Flow<Order = DirectoryOrder>,
        T: Send + Sync,
        for<'m> ChangeDirectory: TryFrom<&'m T, Error = Refusal>,
    {
        let write = Write::begin(&self.app, method, &request).await?;
        let command = ChangeDirectory::try_from(request.get_ref())?;
        write.require_wallet(command.sender).await?;
        let (app, tenant) = (write.app, write.tenant().to_owned());
        let order = async {
            let (system, pair) = (app.system(&tenant).await?, command.pair);
            let now = current(&app.chain, &system, pair).await?;
            let mut there = None;
            if command.change == DirectoryChange::CreateAdapter {
                there = adapter(&app.chain, &system, pair).await?;
            } else {
                // Anybody may create an adapter: it has no power.
                require_manager(&app.chain, &system, command.sender, pair.subject).await?;
            }
            match (command.change, now) {
                (DirectoryChange::Register { .. }, Some(feed)) => {
                    return Err(Refusal::new(
                        Reason::AlreadyExists,
                        "the subject has a feed of this topic; replace it",
                    )
                    .meta("feed", feed.to_checksum(None)));
                }
                (DirectoryChange::Register { .. }, None) => {
                    require_scalar_topic(&app.chain, &system, pair.topic_id).await?;
                }
                (_, None) => return Err(no_feed(pair)),
                (_, Some(_)) => {}
            }
            let order = DirectoryOrder {
                chain_id: app.chain.chain_id(),
                directory: system.directory,
                adapter: there,
                command: command.clone(),
            };
            Ok((order, None))
        };
        write.accept::<F, _>(&command, order).await
    }

    async fn resolve(&self, request: &Request<proto::ResolveFeedRequest>) -> Result<proto::DirectoryEntry, Refusal> {
        let caller = Caller::from_request(request)?;
        let (app, message) = (self.app.get()?, request.get_ref());
        let pair = read_pair(&message.subject, &message.topic_name, &message.topic_id)?;
        let entry = app.store.entry(caller.tenant.as_str(), app.chain.chain_id(), pair).await?;
        Ok(answers::entry(&entry.ok_or_else(|| no_feed(pair))?))
    }

    async fn list(&self, request: &Request<proto::ListFeedsRequest>) -> Result<proto::ListFeedsResponse, Refusal> {
        let caller = Caller::from_request(request)?;
        let (app, message) = (self.app.get()?, request.get_ref());
        let limit = page_size(message.page_size)?;
        let subject = match message.subject.as_str() {
            "" => None,
            subject => Some(fields::nonzero_address("subject", subject)?),
        };
        let after = match message.page_token.as_str() {
            "" => None,
            token => Some(pair_of(token).ok_or_else(bad_page_token)?),
        };
        let tenant = caller.tenant.as_str();
        let mut entries = app.store.entries(tenant, app.chain.chain_id(), subject, after, limit + 1).await?;
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let next_page_token =
            entries.last().filter(|_| more).map(|last| token_of(last.feed.terms.pair)).unwrap_or_default();
        Ok(proto::ListFeedsResponse { entries: entries.iter().map(answers::entry).collect(), next_page_token })
    }

    async fn adapter(&self, request: &Request<proto::GetAdapterRequest>) -> Result<proto::GetAdapterResponse, Refusal> {
        let caller = Caller::from_request(request)?;
        let (app, message) = (self.app.get()?, request.get_ref());
        let pair = read_pair(&message.subject, &message.topic_name, &message.topic_id)?;
        let system = app.system(caller.tenant.as_str()).await?;
        let adapter = adapter(&app.chain, &system, pair).await?.ok_or_else(|| {
            Refusal::new(Reason::NotFound, "the subject has no adapter of this topic; create one with CreateAdapter")
        })?;
        Ok(proto::GetAdapterResponse { adapter: answers::text(adapter) })
    }
}

fn no_feed(pair: Pair) -> Refusal {
    Refusal::new(Reason::NotFound, "the subject has no feed of this topic")
        .meta("subject", pair.subject.to_checksum(None))
        .meta("topic_id", format!("{:#066x}", pair.topic_id))
}

fn token_of(pair: Pair) -> String {
    format!("{:#x}-{:#x}", pair.subject, pair.topic_id)
}

fn pair_of(token: &str) -> Option<Pair> {
    let (subject, topic) = token.split_once('-')?;
    let topic_id: U256 = topic.parse().ok()?;
    Some(Pair { subject: subject.parse().ok()?, topic_id })
}

#[tonic::async_trait]
impl FeedDirectoryService for DirectoryEdge {
    async fn resolve_feed(
        &self,
        request: Request<proto::ResolveFeedRequest>,
    ) -> Result<Response<proto::ResolveFeedResponse>, Status> {
        let entry = self.resolve(&request).await?;
        Ok(Response::new(proto::ResolveFeedResponse { entry: Some(entry) }))
    }

    async fn list_feeds(
        &self,
        request: Request<proto::ListFeedsRequest>,
    ) -> Result<Response<proto::ListFeedsResponse>, Status> {
        Ok(Response::new(self.list(&request).await?))
    }

    async fn register_feed(
        &self,
        request: Request<proto::RegisterFeedRequest>,
    ) -> Result<Response<proto::RegisterFeedResponse>, Status> {
        let method = "dalp.feeds.v1.FeedDirectoryService/RegisterFeed";
        let admitted = self.change::<RegisterFeedFlow, _>(method, request).await?;
        Ok(admitted.respond(|operation| proto::RegisterFeedResponse { operation }))
    }

    async fn replace_feed(
        &self,
        request: Request<proto::ReplaceFeedRequest>,
    ) -> Result<Response<proto::ReplaceFeedResponse>, Status> {
        let method = "dalp.feeds.v1.FeedDirectoryService/ReplaceFeed";
        let admitted = self.change::<ReplaceFeedFlow, _>(method, request).await?;
        Ok(admitted.respond(|operation| proto::ReplaceFeedResponse { operation }))
    }

    async fn remove_feed(
        &self,
        request: Request<proto::RemoveFeedRequest>,
    ) -> Result<Response<proto::RemoveFeedResponse>, Status> {
        let method = "dalp.feeds.v1.FeedDirectoryService/RemoveFeed";
        let admitted = self.change::<RemoveFeedFlow, _>(method, request).await?;
        Ok(admitted.respond(|operation| proto::RemoveFeedResponse { operation }))
    }

    async fn create_adapter(
        &self,
        request: Request<proto::CreateAdapterRequest>,
    ) -> Result<Response<proto::CreateAdapterResponse>, Status> {
        let method = "dalp.feeds.v1.FeedDirectoryService/CreateAdapter";
        let admitted = self.change::<CreateAdapterFlow, _>(method, request).await?;
        Ok(admitted.respond(|operation| proto::CreateAdapterResponse { operation }))
    }

    async fn get_adapter(
        &self,
        request: Request<proto::GetAdapterRequest>,
    ) -> Result<Response<proto::GetAdapterResponse>, Status> {
        Ok(Response::new(self.adapter(&request).await?))
    }
}
