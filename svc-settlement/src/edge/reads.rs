//! Reads of settlements.

use super::{
    answers,
    evidence::{MAX_EVENTS, last},
    id, settlement_of,
};
use crate::{
    app::App,
    readers,
    state::Book,
    store::{
        events::{Place, StoredEvent},
        settlements::Wanted,
    },
};
use dalp_domain::pages::{bad_page_token, page_size, paged};
use dalp_proto::settlement as proto;
use dalp_service::{Reason, Refusal, fields};

/// A settlement with its state at the latest block and what the index knows of it.
pub(super) async fn settlement(
    app: &App,
    tenant: &str,
    request: &proto::GetSettlementRequest,
) -> Result<proto::GetSettlementResponse, Refusal> {
    let stored = settlement_of(app, tenant, id(&request.settlement_id)?).await?;
    let (chain_id, chain) = (stored.chain_id, app.on(stored.chain_id)?);
    let contracts = app.contracts_of(chain_id, stored.contract).await?;
    // Read first: what is indexed meanwhile is told as not indexed yet.
    let indexed_block = app.store.indexed_head(chain_id).await?.unwrap_or_default();
    let events = app.store.events(chain_id, stored.contract, stored.settlement_id).await?;
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
    let (limit, last) = (page_size(request.page_size)?, place(&request.page_token)?);
    let stored = settlement_of(app, tenant, id(&request.settlement_id)?).await?;
    // Read first: what is indexed meanwhile is told as not indexed yet, and asked for again.
    let indexed_block = app.store.indexed_head(stored.chain_id).await?.unwrap_or_default();
    let mut page = app.store.events_from(&stored, last.unwrap_or_default(), i64::from(limit) + 2).await?;
    if last.is_some() {
        // It was told already, unless a reorg took it: then what came before may be another story as well.
        let still_there = page.first().is_some_and(|first| Some(first.at) == last);
        if !still_there {
            let text = "a reorg has taken what the pages before told: begin again";
            return Err(Refusal::new(Reason::PageTokenInvalid, text).field("page_token", "ask without it"));
        }
        page.remove(0);
    }
    let token = |last: &StoredEvent| format!("{}.{}.{:x}", last.at.block, last.at.log_index, last.at.tx_hash);
    let (page, next_page_token) = paged(page, limit, token);
    Ok(proto::ListSettlementEventsResponse {
        events: page.iter().map(answers::event).collect(),
        next_page_token,
        indexed_block,
    })
}

/// The last event of the page before.
fn place(page_token: &str) -> Result<Option<Place>, Refusal> {
    if page_token.is_empty() {
        return Ok(None);
    }
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok());
    let parts: Vec<_> = page_token.split('.').collect();
    let [block, log_index, tx_hash] = parts[..] else { return Err(bad_page_token()) };
    let place = number(block).zip(number(log_index)).zip(tx_hash.parse().ok());
    place.map(|((block, log_index), tx_hash)| Some(Place { block, log_index, tx_hash })).ok_or_else(bad_page_token)
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
    use alloy::primitives::B256;

    #[test]
    fn a_page_of_events_begins_after_an_event() {
        let (hash, tx_hash) = ("07".repeat(32), B256::repeat_byte(7));
        assert_eq!(place("").unwrap(), None);
        assert_eq!(place(&format!("7.0.{hash}")).unwrap(), Some(Place { block: 7, log_index: 0, tx_hash }));
        for wrong in
            ["7", "7.1", "7.1.07", ".7.", &format!("7.-1.{hash}"), &format!("a.b.{hash}"), &format!("7.1.{hash}.2")]
        {
            assert_eq!(place(wrong).unwrap_err().reason(), Reason::PageTokenInvalid, "{wrong}");
        }
    }
}
