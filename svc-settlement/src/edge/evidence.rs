//! What an exchange across two chains leaves behind.

use super::{
    answers,
    pairs::{answer, found, lock, now_s, pair_id, settlement, state_of_settlement},
};
use crate::{
    app::App,
    pairs::Role,
    store::{
        findings::StoredPairEvent,
        pairs::{StoredAction, StoredPair},
    },
};
use dalp_domain::{
    pages::{after_number, page_size, paged},
    refusals::engine_store,
};
use dalp_engine::{OperationId, TenantId};
use dalp_proto::settlement as proto;
use dalp_service::{Reason, Refusal};

/// The most actions in one answer: each comes with its operation.
const MAX_ACTIONS: u32 = 100;
/// The most events in an answer that has more than them.
pub(super) const MAX_EVENTS: u32 = 500;

/// Everything about an exchange.
pub(super) async fn evidence(
    app: &App,
    tenant: &str,
    request: &proto::GetPairEvidenceRequest,
) -> Result<proto::GetPairEvidenceResponse, Refusal> {
    let stored = found(app, tenant, pair_id(&request.pair_id)?).await?;
    let (mut sides, mut shown) = (Vec::new(), Vec::new());
    for role in Role::BOTH {
        let side = side_evidence(app, &stored, role).await?;
        if let Some((_, Some(at))) = &side {
            shown.push(at.clone());
        }
        sides.push(side.map(|(evidence, _)| evidence));
    }
    let sent = app.store.last_pair_actions(stored.pair_id, i64::from(MAX_ACTIONS) + 1).await?;
    let (sent, earlier_actions) = last(&sent, MAX_ACTIONS);
    let events = app.store.last_pair_events(stored.pair_id, i64::from(MAX_EVENTS) + 1).await?;
    let (events, earlier_events) = last(&events, MAX_EVENTS);
    let mut sides = sides.into_iter();
    Ok(proto::GetPairEvidenceResponse {
        pair: Some(answer(app, &stored).await?),
        reveal: sides.next().flatten(),
        carry: sides.next().flatten(),
        secret: Some(proto::SecretEvidence {
            ours: stored.secret_id.is_some(),
            secret_id: stored.secret_id.map(|id| id.to_string()).unwrap_or_default(),
            hash_lock: Some(lock(&stored)),
            shown,
        }),
        verdicts: stored.verdicts.iter().flat_map(|all| all.as_array()).flatten().map(verdict).collect(),
        actions: with_operations(app, tenant, sent).await?,
        events: events.iter().map(event).collect(),
        earlier_actions,
        earlier_events,
    })
}

/// A page of what the platform sent for an exchange.
pub(super) async fn actions(
    app: &App,
    tenant: &str,
    request: &proto::ListPairActionsRequest,
) -> Result<proto::ListPairActionsResponse, Refusal> {
    let (limit, after) = (page_size(request.page_size)?, after_number(&request.page_token)?);
    if limit > MAX_ACTIONS {
        return Err(Refusal::new(Reason::InvalidField, "page_size is out of range")
            .field("page_size", format!("must be at most {MAX_ACTIONS}")));
    }
    let stored = found(app, tenant, pair_id(&request.pair_id)?).await?;
    let page = app.store.pair_actions_after(stored.pair_id, after, i64::from(limit) + 1).await?;
    let (page, next_page_token) = paged(page, limit, |last| last.number.to_string());
    Ok(proto::ListPairActionsResponse { actions: with_operations(app, tenant, &page).await?, next_page_token })
}

/// A page of what the platform found and decided about an exchange.
pub(super) async fn events(
    app: &App,
    tenant: &str,
    request: &proto::ListPairEventsRequest,
) -> Result<proto::ListPairEventsResponse, Refusal> {
    let (limit, after) = (page_size(request.page_size)?, after_number(&request.page_token)?);
    let stored = found(app, tenant, pair_id(&request.pair_id)?).await?;
    let page = app.store.pair_events(stored.pair_id, after, i64::from(limit) + 1).await?;
    let (page, next_page_token) = paged(page, limit, |last| last.number.to_string());
    Ok(proto::ListPairEventsResponse { events: page.iter().map(event).collect(), next_page_token })
}

/// The last so many, and whether there are earlier ones.
pub(super) fn last<T>(all: &[T], limit: u32) -> (&[T], bool) {
    let earlier = all.len().saturating_sub(limit as usize);
    (&all[earlier..], earlier > 0)
}

async fn with_operations(app: &App, tenant: &str, sent: &[StoredAction]) -> Result<Vec<proto::PairAction>, Refusal> {
    let (owner, mut actions) = (TenantId::new(tenant), Vec::with_capacity(sent.len()));
    for action in sent {
        let operation = app.engine.reader().get_operation(&owner, OperationId(action.operation_id)).await;
        actions.push(proto::PairAction {
            action: action.name.split('/').next().unwrap_or_default().to_owned(),
            chain_id: action.chain_id,
            attempt: action.attempt,
            operation: operation.map_err(engine_store)?.map(Into::into),
        });
    }
    Ok(actions)
}

async fn side_evidence(
    app: &App,
    stored: &StoredPair,
    role: Role,
) -> Result<Option<(proto::SettlementEvidence, Option<proto::SecretShown>)>, Refusal> {
    let Some(settlement) = settlement(app, stored, role).await? else { return Ok(None) };
    let (chain_id, contract) = (settlement.chain_id, settlement.contract);
    // Read first: what is indexed meanwhile is told as not indexed yet.
    let indexed_block = app.store.indexed_head(chain_id).await?.unwrap_or_default();
    let shown = app.store.shown_at(chain_id, contract, settlement.settlement_id).await?;
    let shown =
        shown.map(|at| proto::SecretShown { chain_id, block_number: at.block, tx_hash: answers::id(at.tx_hash) });
    let events = app.store.last_events(&settlement, i64::from(MAX_EVENTS) + 1).await?;
    let (events, earlier_events) = last(&events, MAX_EVENTS);
    let evidence = proto::SettlementEvidence {
        settlement: Some(answers::settlement(&settlement)),
        state: state_of_settlement(&settlement, now_s()).into(),
        events: events.iter().map(answers::event).collect(),
        indexed_block,
        // Evidence is there also while a chain is not.
        final_block: app.on(chain_id)?.upstreams().final_height().await.ok().flatten().unwrap_or_default(),
        earlier_events,
    };
    Ok(Some((evidence, shown)))
}

fn event(stored: &StoredPairEvent) -> proto::PairEvent {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let detail = stored.detail.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value)));
    proto::PairEvent {
        kind: stored.kind.clone(),
        detail: detail.collect(),
        at: u64::try_from(stored.at.unix_timestamp()).unwrap_or(0),
    }
}

fn verdict(stored: &serde_json::Value) -> proto::LegVerdict {
    let text = |field: &str| stored[field].as_str().unwrap_or_default().to_owned();
    let number = |field: &str| stored[field].as_u64().unwrap_or_default();
    proto::LegVerdict {
        chain_id: number("chain_id"),
        leg: u32::try_from(number("leg")).unwrap_or(u32::MAX),
        block_number: number("block_number"),
        compliant: stored["reason"].is_null(),
        module: text("module"),
        reason: text("reason"),
    }
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn the_last_entries_are_told_with_whether_there_are_earlier_ones() {
        assert_eq!(last(&[1, 2, 3], 2), (&[2, 3][..], true));
        assert_eq!(last(&[1, 2], 2), (&[1, 2][..], false));
        assert_eq!(last::<u8>(&[], 2), (&[][..], false));
    }
}
