//! The stream of what happens to a settlement.

use super::{
    answers,
    evidence::{MAX_EVENTS, last},
    id, settlement_of,
};
use crate::{
    app::{App, AppHandle},
    state::{Book, EventKind},
    store::events::StoredEvent,
    terms::Terms,
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
            if over {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(Box::pin(looks.map_err(Status::from)))
}

/// What is known, and whether nothing can happen any more.
async fn look(app: &App, tenant: &str, id: B256) -> Result<(proto::WatchSettlementResponse, bool), Refusal> {
    let stored = settlement_of(app, tenant, id).await?;
    let events = app.store.events(stored.chain_id, stored.contract, id).await?;
    let now_s = app.recent(stored.chain_id).await?.timestamp_s;
    let over = match events.last() {
        Some(last) => is_over(&events) && app.is_final(stored.chain_id, last.at.block).await?,
        None => app.never_opened(tenant, &stored).await?,
    };
    Ok((answer(&stored.deed.terms, &events, now_s), over))
}

/// What events come to. The state is that of these very events: the stored one may be of later ones.
fn answer(terms: &Terms, events: &[StoredEvent], now_s: u64) -> proto::WatchSettlementResponse {
    let opened = events.iter().any(|event| event.told.kind == EventKind::Created);
    let state = Book::of(events.iter().map(|event| &event.told)).state().at(terms, now_s);
    let state = if opened { answers::state(state) } else { proto::SettlementState::Unspecified };
    let (events, earlier_events) = last(events, MAX_EVENTS);
    let events = events.iter().map(answers::event).collect();
    proto::WatchSettlementResponse { state: state.into(), events, earlier_events }
}

fn is_over(events: &[StoredEvent]) -> bool {
    Book::of(events.iter().map(|event| &event.told)).is_over()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        state::Told,
        store::events::Place,
        terms::tests::{ALICE, delivery},
    };
    use proto::SettlementState;

    #[test]
    fn the_state_is_that_of_the_events_beside_it() {
        let told = |kind, party| StoredEvent {
            at: Place { block: 1, log_index: 0, tx_hash: B256::ZERO },
            told: Told { kind, party, asset: None, leg: None, reason: String::new(), reclaim_from: None },
        };
        let (created, locked) = (told(EventKind::Created, Some(ALICE)), told(EventKind::Locked, None));
        let all = [created, locked, told(EventKind::Executed, None)];
        let states: Vec<_> = (0..4).map(|some| answer(&delivery(), &all[..some], 999)).collect();
        let wanted = [
            SettlementState::Unspecified,
            SettlementState::Active,
            SettlementState::Approved,
            SettlementState::Executed,
        ];
        assert_eq!(states.iter().map(|one| one.state()).collect::<Vec<_>>(), wanted);
        assert_eq!(states.iter().map(|one| one.events.len()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(answer(&delivery(), &all[..2], 1_000).state(), SettlementState::Expired);
        assert!(is_over(&all) && !is_over(&all[..2]));
    }
}
