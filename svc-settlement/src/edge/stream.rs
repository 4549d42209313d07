//! The stream of what happens to a settlement.

use super::{answers, id, settlement_of};
use crate::{
    app::{App, AppHandle},
    state::Book,
};
use alloy::primitives::B256;
use dalp_proto::settlement as proto;
use dalp_service::Refusal;
use futures::{Stream, TryStreamExt as _, stream};
use std::{pin::Pin, time::Duration};
use tonic::Status;

/// How long a stream looks away when nothing has changed.
const PAUSE: Duration = Duration::from_millis(250);

/// A stream of what is known.
pub(super) type Changes = Pin<Box<dyn Stream<Item = Result<proto::WatchSettlementResponse, Status>> + Send>>;

struct Position {
    app: AppHandle,
    tenant: String,
    settlement_id: B256,
    last: Option<proto::WatchSettlementResponse>,
    over: bool,
}

/// Opens a stream.
pub(super) async fn open(
    app: &AppHandle,
    tenant: &str,
    request: &proto::WatchSettlementRequest,
) -> Result<Changes, Refusal> {
    let settlement_id = id(&request.settlement_id)?;
    settlement_of(app.get()?, tenant, settlement_id).await?;
    let position = Position { app: app.clone(), tenant: tenant.to_owned(), settlement_id, last: None, over: false };
    let looks = stream::try_unfold(position, |mut position| async move {
        if position.over {
            return Ok::<_, Refusal>(None);
        }
        loop {
            let (now, over) = look(position.app.get()?, &position.tenant, position.settlement_id).await?;
            if position.last.as_ref() != Some(&now) {
                (position.last, position.over) = (Some(now.clone()), over);
                return Ok(Some((now, position)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(Box::pin(looks.map_err(Status::from)))
}

/// What is known, and whether nothing can happen any more.
async fn look(app: &App, tenant: &str, id: B256) -> Result<(proto::WatchSettlementResponse, bool), Refusal> {
    let stored = settlement_of(app, tenant, id).await?;
    let events = app.store.events(app.chain.chain_id(), stored.contract, id).await?;
    let book = Book::of(events.iter().map(|event| &event.told));
    let now_s = app.recent().await?.timestamp_s;
    let answer = proto::WatchSettlementResponse {
        state: answers::indexed_state(&stored, now_s).into(),
        events: events.iter().map(answers::event).collect(),
    };
    Ok((answer, book.is_over()))
}
