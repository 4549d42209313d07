//! The stream of an airdrop's progress.

use super::{address, airdrop_of, reads::progress};
use crate::{airdrop::store::airdrops::StoredAirdrop, app::AppHandle};
use dalp_proto::distribution as proto;
use dalp_service::Refusal;
use futures::{Stream, TryStreamExt as _, stream};
use std::{pin::Pin, time::Duration};
use tonic::Status;

/// How long a stream looks away when nothing has changed.
const PAUSE: Duration = Duration::from_millis(250);

/// A stream of progress.
pub(super) type Progress = Pin<Box<dyn Stream<Item = Result<proto::WatchAirdropResponse, Status>> + Send>>;

struct Position {
    app: AppHandle,
    airdrop: StoredAirdrop,
    last: Option<proto::AirdropProgress>,
}

/// Opens a stream.
pub(super) async fn open(
    app: &AppHandle,
    tenant: &str,
    request: &proto::WatchAirdropRequest,
) -> Result<Progress, Refusal> {
    let airdrop = airdrop_of(app.get()?, tenant, address("airdrop", &request.airdrop)?).await?;
    let position = Position { app: app.clone(), airdrop, last: None };
    let looks = stream::try_unfold(position, |mut position| async move {
        if position.last.as_ref().is_some_and(|last| last.paid == last.recipients) {
            return Ok::<_, Refusal>(None);
        }
        loop {
            let now = progress(position.app.get()?, &position.airdrop).await?;
            if position.last.as_ref() != Some(&now) {
                position.last = Some(now.clone());
                return Ok(Some((proto::WatchAirdropResponse { progress: Some(now) }, position)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(Box::pin(looks.map_err(Status::from)))
}
