//! Exchanges across two chains.

use super::{Write, answers, messages, writes};
use crate::{
    app::{App, AppHandle},
    flows::{OpenPairFlow, OpenPairOrder, SideOrder},
    metric_definitions as metric,
    pairs::{Phase, Role, agreement::OpenPair, driver::secret_id, view::look},
    store::{
        findings::StoredAttention,
        pairs::{StoredPair, put_pair},
        settlements::StoredSettlement,
    },
    terms::{HashKind, HashLock},
};
use alloy::primitives::{Address, B256};
use dalp_domain::{
    Admitted,
    pages::{after_number, bad_page_token, page_size, paged},
};
use dalp_engine::AcceptHook;
use dalp_proto::{
    settlement as proto,
    signer::{CreateSecretRequest, SecretHash, SecretMovement, SecretTerms},
};
use dalp_service::{Reason, Refusal, fields};
use std::time::{SystemTime, UNIX_EPOCH};
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
    let (principal, key) = (write.caller.principal.as_str().to_owned(), write.key.clone());
    let asked = [tenant.as_str(), principal.as_str(), key.as_str()];
    let order = async {
        let order = counted(resolve(app, &tenant, &command, asked).await)?;
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
async fn resolve(app: &App, tenant: &str, command: &OpenPair, asked: [&str; 3]) -> Result<OpenPairOrder, Refusal> {
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
        None => {
            let contract = heads[Role::Reveal.place()].1;
            let id = secret_id(asked, command, contract);
            (make_secret(app, tenant, id, command, contract).await?, Some(id))
        }
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

/// Has the signer make the secret, for what is to move where it is shown first. Only its hash comes back.
async fn make_secret(
    app: &App,
    tenant: &str,
    id: Uuid,
    command: &OpenPair,
    contract: Address,
) -> Result<B256, Refusal> {
    let hash_kind = match command.hash_kind {
        HashKind::Keccak256 => SecretHash::Keccak256,
        HashKind::Sha256 => SecretHash::Sha256,
    };
    let side = command.side(Role::Reveal);
    let movements = command.legs.iter().filter(|leg| leg.chain_id == side.chain_id).map(|leg| SecretMovement {
        asset: answers::text(leg.asset),
        from: answers::text(leg.from),
        to: answers::text(leg.to),
        amount: leg.amount.to_string(),
    });
    let terms = SecretTerms {
        chain_id: side.chain_id,
        contract: answers::text(contract),
        cutoff: side.cutoff,
        movements: movements.collect(),
    };
    let request = CreateSecretRequest {
        secret_id: id.to_string(),
        tenant: tenant.to_owned(),
        hash_kind: hash_kind.into(),
        terms: Some(terms),
    };
    let answer = app.secrets.clone().create_secret(request).await;
    let answer = answer.map_err(|status| Refusal::from_upstream("svc-signer", status))?;
    let made = answer.into_inner();
    if !made.bound {
        let text =
            "svc-signer is of a version that would show the secret for any terms: finish its upgrade, then repeat";
        return Err(Refusal::new(Reason::FailedPrecondition, text));
    }
    made.hash.parse().map_err(Refusal::internal)
}

pub(super) async fn found(app: &App, tenant: &str, id: Uuid) -> Result<StoredPair, Refusal> {
    app.store
        .pair(tenant, id)
        .await?
        .ok_or_else(|| Refusal::new(Reason::NotFound, "the tenant has no such exchange").meta("pair_id", id))
}

pub(super) fn pair_id(text: &str) -> Result<Uuid, Refusal> {
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
    let attention = app.store.attention_of(stored.pair_id).await?;
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
    let page = app.store.pairs(tenant, phase, below, limit + 1).await?;
    let (page, next_page_token) = paged(page, limit, |last| last.number.to_string());
    let mut pairs = Vec::with_capacity(page.len());
    for stored in &page {
        pairs.push(answer(app, stored).await?);
    }
    Ok(proto::ListPairsResponse { pairs, next_page_token })
}

/// A page of what needs attention.
pub(super) async fn attention(
    app: &App,
    tenant: &str,
    request: &proto::ListAttentionRequest,
) -> Result<proto::ListAttentionResponse, Refusal> {
    let (limit, after) = (page_size(request.page_size)?, after_number(&request.page_token)?);
    let page = app.store.attention(tenant, after, i64::from(limit) + 1).await?;
    let (page, next_page_token) = paged(page, limit, |last| last.number.to_string());
    Ok(proto::ListAttentionResponse { attention: page.into_iter().map(attention_message).collect(), next_page_token })
}

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(super) fn state_of_settlement(settlement: &StoredSettlement, now_s: u64) -> proto::SettlementState {
    answers::indexed_state(settlement, now_s)
}

pub(super) async fn settlement(
    app: &App,
    stored: &StoredPair,
    role: Role,
) -> Result<Option<StoredSettlement>, Refusal> {
    let side = &stored.sides[role.place()];
    let Some(id) = side.settlement_id else { return Ok(None) };
    Ok(app.store.known_settlements(side.chain_id, &[(side.contract, id)]).await?.into_iter().next())
}

pub(super) async fn answer(app: &App, stored: &StoredPair) -> Result<proto::Pair, Refusal> {
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

pub(super) fn lock(stored: &StoredPair) -> proto::HashLock {
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
