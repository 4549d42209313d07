//! Reads of settlements.

use super::{answers, id, settlement_of};
use crate::{app::App, readers, state::Book, store::settlements::Wanted};
use dalp_domain::pages::{bad_page_token, page_size};
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
    Ok(proto::GetSettlementResponse {
        settlement: Some(answers::settlement(&stored)),
        status,
        events: events.iter().map(answers::event).collect(),
        indexed_block,
    })
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
    let mut page = app.store.settlements(tenant, chain_id, wanted, below, limit + 1).await?;
    let more = page.len() > limit as usize;
    page.truncate(limit as usize);
    let next_page_token = page.last().filter(|_| more).map(|last| last.number.to_string()).unwrap_or_default();
    let settlements = page.iter().map(|stored| proto::ListedSettlement {
        settlement: Some(answers::settlement(stored)),
        state: answers::indexed_state(stored, now_s).into(),
    });
    Ok(proto::ListSettlementsResponse { settlements: settlements.collect(), next_page_token, indexed_block })
}
