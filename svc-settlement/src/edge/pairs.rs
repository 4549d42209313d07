//! Exchanges across two chains.

use super::{Write, answers, messages, writes};
use crate::{
    app::{App, AppHandle},
    flows::{OpenPairFlow, OpenPairOrder, SideOrder},
    metric_definitions as metric,
    pairs::{Phase, Role, agreement::OpenPair, driver::secret_id, view::look},
    state::EventKind,
    store::{
        pairs::{StoredAttention, StoredPair, StoredPairEvent, put_pair},
        settlements::StoredSettlement,
    },
    terms::{HashKind, HashLock},
};
use alloy::primitives::B256;
use dalp_domain::{
    Admitted,
    pages::{bad_page_token, page_size},
    refusals::engine_store,
};
use dalp_engine::{AcceptHook, OperationId, TenantId};
use dalp_proto::{
    settlement as proto,
    signer::{CreateSecretRequest, SecretHash},
};
use dalp_service::{Reason, Refusal, fields};
use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};
use tonic::Request;
use uuid::Uuid;

/// Accepts the opening of an exchange.
pub(super) async fn open(
    app: &AppHandle,
    request: Request<proto::OpenPairRequest>,
) -> Result<(Admitted, proto::Pair), Refusal> {
    let write = Write::begin(app, "dalp.settlement.v1.SettlementService/OpenPair", &request).await?;
    let command = counted(messages::pair(request.get_ref()))?;
    write.require_wallet(command.sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let secret = secret_id(&tenant, write.caller.principal.as_str(), &write.key);
    let order = async {
        let order = counted(resolve(app, &tenant, &command, secret).await)?;
        let (of, written) = (tenant.clone(), order.clone());
        let hook: AcceptHook =
            Box::new(move |connection, id| Box::pin(async move { put_pair(connection, &of, id.0, &written).await }));
        Ok((order, Some(hook)))
    };
    let admitted = write.accept::<OpenPairFlow, _>(&command, order).await?;
    let stored = found(app, &tenant, admitted.operation.operation_id.0).await?;
    let pair = answer(app, &stored).await?;
    Ok((admitted, pair))
}

/// Refuses to lock what the counterparty could take at once: where the secret is theirs, the settlement on which they show it is locked
/// only after the other one is, in a final block and with time left.
pub(super) async fn require_other_lock(app: &App, tenant: &str, settlement: &StoredSettlement) -> Result<(), Refusal> {
    let Some(pair) = app.store.pair_of_settlement(tenant, settlement.settlement_id).await? else { return Ok(()) };
    let shown_here = pair.sides[Role::Reveal.place()].settlement_id == Some(settlement.settlement_id);
    if pair.secret_id.is_some() || !shown_here {
        return Ok(());
    }
    let chain_id = pair.sides[Role::Carry.place()].chain_id;
    let other = look(app.on(chain_id)?, &app.store, &pair, Role::Carry).await;
    let needed_s = app.rules.reveal_margin_s.saturating_add(app.rules.confirmation_s);
    if other.side.is_ready() && other.side.now_s.saturating_add(needed_s) <= other.side.cutoff {
        return Ok(());
    }
    let text = "the secret is the counterparty's, and its own lock on the other chain is not there for good";
    Err(Refusal::new(Reason::FailedPrecondition, text).meta("pair_id", pair.pair_id).meta("chain_id", chain_id))
}

fn counted<T>(answer: Result<T, Refusal>) -> Result<T, Refusal> {
    answer.inspect_err(|refusal| metric::refused(refusal.reason().as_str()))
}

/// Which settlements it would be. Everything against them is found before a secret is made and anything is accepted.
async fn resolve(app: &App, tenant: &str, command: &OpenPair, secret: Uuid) -> Result<OpenPairOrder, Refusal> {
    let mut heads = Vec::new();
    for role in Role::BOTH {
        let chain_id = command.side(role).chain_id;
        let known = app.on(chain_id).map_err(|_| {
            let why = format!("chain {chain_id} is not configured");
            Refusal::new(Reason::InvalidField, "the platform does not work on this chain")
                .field(format!("{}.chain_id", role.name()), why)
        })?;
        let contract = app.contracts(tenant, chain_id).await?.settlement;
        heads.push((known, contract, known.latest().await?));
    }
    let our_clock_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now_s = heads.iter().map(|(_, _, head)| head.timestamp_s).fold(our_clock_s, u64::max);
    let problems = command.problems(&app.rules, now_s);
    if !problems.is_empty() {
        let refusal = Refusal::new(Reason::InvalidField, "the exchange cannot be opened so");
        return Err(problems.into_iter().fold(refusal, |refusal, (field, why)| refusal.field(field, why)));
    }
    let (hash, secret_id) = match command.hash {
        Some(hash) => (hash, None),
        None => (make_secret(app, tenant, secret, command.hash_kind).await?, Some(secret)),
    };
    if app.store.has_pair(tenant, HashLock { kind: command.hash_kind, hash }).await? {
        return Err(Refusal::new(Reason::AlreadyExists, "the tenant has an exchange of this hash"));
    }
    let mut sides = Vec::new();
    for (role, (chain, contract, head)) in Role::BOTH.into_iter().zip(heads) {
        let asked = command.side(role);
        let (mut salt, mut settlement_id) = (None, None);
        if !asked.opened_by_counterparty {
            let terms = command.terms(role, hash);
            let opened = writes::opening(chain, contract, command.sender, &terms, head).await?;
            (salt, settlement_id) = (Some(opened.0), Some(opened.1));
        }
        // A counterparty may have opened its own before.
        let from_block = if asked.opened_by_counterparty { 0 } else { head.number };
        sides.push(SideOrder { chain_id: asked.chain_id, contract, salt, settlement_id, from_block });
    }
    let sides = <[SideOrder; 2]>::try_from(sides).map_err(|_| Refusal::internal("an exchange has two sides"))?;
    Ok(OpenPairOrder { command: command.clone(), hash, secret_id, sides })
}

/// Has the signer make the secret. Only its hash comes back.
async fn make_secret(app: &App, tenant: &str, id: Uuid, kind: HashKind) -> Result<B256, Refusal> {
    let hash_kind = match kind {
        HashKind::Keccak256 => SecretHash::Keccak256,
        HashKind::Sha256 => SecretHash::Sha256,
    };
    let request =
        CreateSecretRequest { secret_id: id.to_string(), tenant: tenant.to_owned(), hash_kind: hash_kind.into() };
    let answer = app.secrets.clone().create_secret(request).await;
    let answer = answer.map_err(|status| Refusal::from_upstream("svc-signer", status))?;
    answer.into_inner().hash.parse().map_err(Refusal::internal)
}

async fn found(app: &App, tenant: &str, id: Uuid) -> Result<StoredPair, Refusal> {
    app.store
        .pair(tenant, id)
        .await?
        .ok_or_else(|| Refusal::new(Reason::NotFound, "the tenant has no such exchange").meta("pair_id", id))
}

fn pair_id(text: &str) -> Result<Uuid, Refusal> {
    let wrong = || Refusal::from(fields::violation("pair_id", "must be a UUID"));
    Uuid::try_parse(text).map_err(|_| wrong())
}

/// An exchange.
pub(super) async fn pair(
    app: &App,
    tenant: &str,
    request: &proto::GetPairRequest,
) -> Result<proto::GetPairResponse, Refusal> {
    let stored = found(app, tenant, pair_id(&request.pair_id)?).await?;
    let attention = app.store.attention(tenant, Some(stored.pair_id)).await?;
    Ok(proto::GetPairResponse {
        pair: Some(answer(app, &stored).await?),
        attention: attention.into_iter().map(attention_message).collect(),
    })
}

/// A page of exchanges.
pub(super) async fn list(
    app: &App,
    tenant: &str,
    request: &proto::ListPairsRequest,
) -> Result<proto::ListPairsResponse, Refusal> {
    let limit = page_size(request.page_size)?;
    let state = proto::PairState::try_from(request.state)
        .map_err(|_| fields::violation("state", "is no state that this server knows"))?;
    let below = match request.page_token.as_str() {
        "" => i64::MAX,
        token => token.parse::<i64>().ok().filter(|below| *below > 0).ok_or_else(bad_page_token)?,
    };
    let phase = Phase::ALL.into_iter().find(|phase| state_of(*phase) == state);
    let mut page = app.store.pairs(tenant, phase, below, limit + 1).await?;
    let more = page.len() > limit as usize;
    page.truncate(limit as usize);
    let next_page_token = page.last().filter(|_| more).map(|last| last.number.to_string()).unwrap_or_default();
    let mut pairs = Vec::with_capacity(page.len());
    for stored in &page {
        pairs.push(answer(app, stored).await?);
    }
    Ok(proto::ListPairsResponse { pairs, next_page_token })
}

/// What needs attention.
pub(super) async fn attention(app: &App, tenant: &str) -> Result<proto::ListAttentionResponse, Refusal> {
    let attention = app.store.attention(tenant, None).await?;
    Ok(proto::ListAttentionResponse { attention: attention.into_iter().map(attention_message).collect() })
}

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
    let mut operations: HashMap<Uuid, dalp_proto::operation::Operation> = HashMap::new();
    let sent = app.store.pair_actions(stored.pair_id).await?;
    for action in &sent {
        let (owner, id) = (TenantId::new(tenant), OperationId(action.operation_id));
        let operation = app.engine.reader().get_operation(&owner, id).await.map_err(engine_store)?;
        operations.extend(operation.map(|operation| (action.operation_id, operation.into())));
    }
    let actions = sent.into_iter().map(|action| proto::PairAction {
        action: action.name.split('/').next().unwrap_or_default().to_owned(),
        chain_id: action.chain_id,
        attempt: action.attempt,
        operation: operations.remove(&action.operation_id),
    });
    let actions = actions.collect();
    let events = app.store.pair_events(stored.pair_id).await?;
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
        actions,
        events: events.iter().map(event).collect(),
    })
}

async fn side_evidence(
    app: &App,
    stored: &StoredPair,
    role: Role,
) -> Result<Option<(proto::SettlementEvidence, Option<proto::SecretShown>)>, Refusal> {
    let Some(settlement) = settlement(app, stored, role).await? else { return Ok(None) };
    let (chain_id, contract) = (settlement.chain_id, settlement.contract);
    let events = app.store.events(chain_id, contract, settlement.settlement_id).await?;
    let shown = events.iter().find(|event| event.told.kind == EventKind::Revealed).map(|event| proto::SecretShown {
        chain_id,
        block_number: event.at.block,
        tx_hash: answers::id(event.at.tx_hash),
    });
    let evidence = proto::SettlementEvidence {
        settlement: Some(answers::settlement(&settlement)),
        state: state_of_settlement(&settlement, now_s()).into(),
        events: events.iter().map(answers::event).collect(),
        indexed_block: app.store.indexed_head(chain_id).await?.unwrap_or_default(),
        // Evidence is there also while a chain is not.
        final_block: app.on(chain_id)?.upstreams().final_height().await.ok().flatten().unwrap_or_default(),
    };
    Ok(Some((evidence, shown)))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn state_of_settlement(settlement: &StoredSettlement, now_s: u64) -> proto::SettlementState {
    answers::indexed_state(settlement, now_s)
}

async fn settlement(app: &App, stored: &StoredPair, role: Role) -> Result<Option<StoredSettlement>, Refusal> {
    let side = &stored.sides[role.place()];
    let Some(id) = side.settlement_id else { return Ok(None) };
    Ok(app.store.known_settlements(side.chain_id, &[(side.contract, id)]).await?.into_iter().next())
}

async fn answer(app: &App, stored: &StoredPair) -> Result<proto::Pair, Refusal> {
    let mut sides = Vec::new();
    for role in Role::BOTH {
        let (asked, side) = (stored.command.side(role), &stored.sides[role.place()]);
        let known = settlement(app, stored, role).await?;
        let state = known.map_or(proto::SettlementState::Unspecified, |known| state_of_settlement(&known, now_s()));
        sides.push(proto::PairSettlement {
            side: Some(proto::PairSide {
                chain_id: asked.chain_id,
                cutoff: asked.cutoff,
                opened_by_counterparty: asked.opened_by_counterparty,
            }),
            contract: answers::text(side.contract),
            settlement_id: side.settlement_id.map(answers::id).unwrap_or_default(),
            state: state.into(),
        });
    }
    let mut sides = sides.into_iter();
    Ok(proto::Pair {
        pair_id: stored.pair_id.to_string(),
        name: stored.command.name.clone(),
        sender: answers::text(stored.command.sender),
        state: state_of(stored.phase).into(),
        hash_lock: Some(lock(stored)),
        secret_ours: stored.secret_id.is_some(),
        reveal: sides.next(),
        carry: sides.next(),
    })
}

fn lock(stored: &StoredPair) -> proto::HashLock {
    answers::hash_lock(HashLock { kind: stored.command.hash_kind, hash: stored.hash })
}

fn state_of(phase: Phase) -> proto::PairState {
    match phase {
        Phase::Locking => proto::PairState::Locking,
        Phase::Revealing => proto::PairState::Revealing,
        Phase::Carrying => proto::PairState::Carrying,
        Phase::Settled => proto::PairState::Settled,
        Phase::Returning => proto::PairState::Returning,
        Phase::Returned => proto::PairState::Returned,
        Phase::Split => proto::PairState::Split,
    }
}

fn attention_message(stored: StoredAttention) -> proto::Attention {
    let kind = match stored.kind.as_str() {
        "cutoff_near" => proto::AttentionKind::CutoffNear,
        "secret_unused" => proto::AttentionKind::SecretUnused,
        "leg_not_compliant" => proto::AttentionKind::LegNotCompliant,
        "mirror_differs" => proto::AttentionKind::MirrorDiffers,
        "chain_silent" => proto::AttentionKind::ChainSilent,
        "stuck" => proto::AttentionKind::Stuck,
        "split" => proto::AttentionKind::Split,
        _ => proto::AttentionKind::Unspecified,
    };
    proto::Attention {
        pair_id: stored.pair_id.to_string(),
        pair_name: stored.pair_name,
        kind: kind.into(),
        chain_id: stored.chain_id,
        detail: stored.detail,
        since: u64::try_from(stored.since.unix_timestamp()).unwrap_or(0),
    }
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
