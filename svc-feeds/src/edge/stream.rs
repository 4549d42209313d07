//! The stream of what happens on feeds.

use super::{answers, reads::address};
use crate::{
    app::{App, AppHandle},
    store::events::{EventKind, StoredEvent},
};
use alloy::primitives::Address;
use dalp_domain::pages::bad_page_token;
use dalp_proto::feeds as proto;
use dalp_service::{Reason, Refusal, fields};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use std::{pin::Pin, time::Duration};
use tonic::Status;

/// The most feeds that a stream names.
const MAX_FEEDS: usize = 100;
/// Events read together.
const AT_ONCE: u32 = 200;
/// How long a stream looks away when nothing is new.
const PAUSE: Duration = Duration::from_millis(250);

/// A stream of events.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<proto::WatchFeedsResponse, Status>> + Send>>;

struct Position {
    app: AppHandle,
    tenant: String,
    feeds: Vec<Address>,
    after: u64,
}

/// Opens a stream.
pub(super) async fn open(app: &AppHandle, tenant: &str, request: &proto::WatchFeedsRequest) -> Result<Events, Refusal> {
    if request.feeds.len() > MAX_FEEDS {
        return Err(fields::violation("feeds", format!("has more than {MAX_FEEDS}: leave it out to see all")).into());
    }
    let running: &App = app.get()?;
    let mut feeds = Vec::with_capacity(request.feeds.len());
    for (index, feed) in request.feeds.iter().enumerate() {
        let feed = address(&format!("feeds[{index}]"), feed)?;
        running.feed(tenant, feed).await?;
        feeds.push(feed);
    }
    let kept = running.store.kept_events(tenant, running.chain.chain_id()).await?;
    let after = match request.cursor.as_str() {
        "" => kept.newest,
        cursor => cursor.parse::<u64>().ok().filter(|cursor| *cursor <= kept.newest).ok_or_else(bad_page_token)?,
    };
    if after < kept.before {
        let text =
            "events behind the cursor are no longer kept; read the rounds with ListRounds and watch without a cursor";
        return Err(Refusal::new(Reason::PageTokenInvalid, text).meta("kept_after", kept.before));
    }
    let position = Position { app: app.clone(), tenant: tenant.to_owned(), feeds, after };
    let pages = stream::try_unfold(position, |mut position| async move {
        loop {
            let app = position.app.get()?;
            let chain_id = app.chain.chain_id();
            let found = app
                .store
                .events(&position.tenant, chain_id, position.after, &position.feeds, AT_ONCE)
                .await
                .map_err(Refusal::from)?;
            if let Some(last) = found.last() {
                position.after = last.number;
                return Ok::<_, Refusal>(Some((found, position)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    let events = pages.map_ok(|found| stream::iter(found).map(|event| Ok::<_, Refusal>(answer(event)))).try_flatten();
    Ok(Box::pin(events.map_err(Status::from)))
}

fn answer(event: StoredEvent) -> proto::WatchFeedsResponse {
    let kind = match event.kind {
        EventKind::Round => proto::FeedEventKind::Round,
        EventKind::Retracted => proto::FeedEventKind::Retracted,
        EventKind::Stale => proto::FeedEventKind::Stale,
        EventKind::Fresh => proto::FeedEventKind::Fresh,
        EventKind::NonceGap => proto::FeedEventKind::NonceGap,
        EventKind::Rejected => proto::FeedEventKind::Rejected,
        EventKind::SignerLost => proto::FeedEventKind::SignerLost,
        EventKind::SignerLosing => proto::FeedEventKind::SignerLosing,
    };
    let mut answer = proto::WatchFeedsResponse {
        cursor: event.number.to_string(),
        kind: kind.into(),
        feed: answers::text(event.feed),
        ..Default::default()
    };
    match event.kind {
        EventKind::Round | EventKind::Retracted => {
            answer.round = serde_json::from_value(event.body).ok().map(|round| answers::round(&round));
        }
        _ => answer.details = serde_json::from_value(event.body).unwrap_or_default(),
    }
    answer
}
