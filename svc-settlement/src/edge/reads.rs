//! Reads of settlements.

use super::{
    answers,
    evidence::{MAX_EVENTS, last},
    id, settlement_of,
};
use crate::{app::App, readers, state::Book, store::settlements::Wanted};
use dalp_domain::pages::{bad_page_token, page_size, paged};
use dalp_proto::settlement as proto;
use dalp_service::{Refusal, fields};

/// A settlement with its state at the latest block and what the index knows of it.
pub(super) async fn settlement(
    app: &App,
    tenant: &str,
    request: &proto::GetSettlementRequest,
) -> Result<proto::GetSettlementResponse, Refusal> {
    let stored = settlement_of(app, tenant, id(&request.settlement_id)?).await?;
    let (chain_id, chain) = (stored.chain_id, app.on(stored.chain_id)?);
    let contracts = app.contracts_of(chain_id, stored.contract).await?;
    let events = app.store.events(chain_id, stored.contract, stored.settlement_id).await?;
    let indexed_block = app.store.indexed_head(chain_id).await?.unwrap_or_default();
    let at = chain.latest().await?;
    let progress = readers::progress(chain, stored.contract, &stored.deed, stored.settlement_id, at.id()).await?;
    let book = Book::of(events.iter().map(|event| &event.told));
    let status = progress.map(|progress| answers::status(&stored.deed.terms, &progress, &book, contracts, at));
    let (events, earlier_events) = last(&events, MAX_EVENTS);
    Ok(proto::GetSettlementResponse {
        settlement: Some(answers::settlement(&stored)),
        status,
        events: events.iter().map(answers::event).collect(),
        indexed_block,
        earlier_events,
    })
}

/// A page of what happened to a settlement.
pub(super) async fn events(
    app: &App,
    tenant: &str,
    request: &proto::ListSettlementEventsRequest,
) -> Result<proto::ListSettlementEventsResponse, Refusal> {
    let (limit, after) = (page_size(request.page_size)?, place(&request.page_token)?);
    let stored = settlement_of(app, tenant, id(&request.settlement_id)?).await?;
    // Read first: what is indexed meanwhile is told as not indexed yet, and asked for again.
    let indexed_block = app.store.indexed_head(stored.chain_id).await?.unwrap_or_default();
    let page = app.store.events_after(&stored, after, i64::from(limit) + 1).await?;
    let (page, next_page_token) = paged(page, limit, |last| format!("{}.{}", last.at.block, last.at.log_index));
    Ok(proto::ListSettlementEventsResponse {
        events: page.iter().map(answers::event).collect(),
        next_page_token,
        indexed_block,
    })
}

/// After which block and which of its logs a page begins.
fn place(page_token: &str) -> Result<(i64, i64), Refusal> {
    if page_token.is_empty() {
        return Ok((-1, -1));
    }
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
    let (block, log) = page_token.split_once('.').ok_or_else(bad_page_token)?;
    number(block).zip(number(log)).ok_or_else(bad_page_token)
}

/// A page of settlements.
pub(super) async fn settlements(
    app: &App,
    tenant: &str,
    request: &proto::ListSettlementsRequest,
) -> Result<proto::ListSettlementsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let party = match request.party.as_str() {
        "" => None,
        text => Some(fields::nonzero_address("party", text)?),
    };
    let state = proto::SettlementState::try_from(request.state)
        .map_err(|_| fields::violation("state", "is no state that this server knows"))?;
    let below = match request.page_token.as_str() {
        "" => i64::MAX,
        token => token.parse::<i64>().ok().filter(|below| *below > 0).ok_or_else(bad_page_token)?,
    };
    let chain_id = if request.chain_id == 0 { app.chain.chain_id() } else { request.chain_id };
    app.contracts(tenant, chain_id).await?;
    let now_s = app.on(chain_id)?.latest().await?.timestamp_s;
    let wanted = Wanted { party, state: answers::wanted(state).map(|state| (state, now_s)) };
    let indexed_block = app.store.indexed_head(chain_id).await?.unwrap_or_default();
    let page = app.store.settlements(tenant, chain_id, wanted, below, limit + 1).await?;
    let (page, next_page_token) = paged(page, limit, |last| last.number.to_string());
    let settlements = page.iter().map(|stored| proto::ListedSettlement {
        settlement: Some(answers::settlement(stored)),
        state: answers::indexed_state(stored, now_s).into(),
    });
    Ok(proto::ListSettlementsResponse { settlements: settlements.collect(), next_page_token, indexed_block })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_service::Reason;

    #[test]
    fn a_page_of_events_begins_after_a_place() {
        assert_eq!((place("").unwrap(), place("7.0").unwrap()), ((-1, -1), (7, 0)));
        for wrong in ["7", "7.", ".7", "7.-1", "-7.1", "7.1.2", "a.b"] {
            assert_eq!(place(wrong).unwrap_err().reason(), Reason::PageTokenInvalid, "{wrong}");
        }
    }
}
