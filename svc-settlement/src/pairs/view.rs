//! What both chains say of an exchange.

use super::{Role, agreement::difference, decide::Side};
use crate::{
    readers,
    state::{Progress, State},
    store::{Store, pairs::StoredPair},
    terms::{Deed, HashLock, Terms},
};
use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolEvent as _,
};
use dalp_chain::{BlockId, Filter};
use dalp_contracts::bindings::Settlement::{SecretRevealed, deliverCall};
use dalp_domain::{ChainReader, Head, ReadError};
use dalp_service::{Reason, Refusal};
use serde_json::{Value, json};
use std::{
    ops::RangeInclusive,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The longest that one chain is looked at.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// What one chain says, with what is only told and decides nothing.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What decides.
    pub side: Side,
    /// The settlement, once it is known.
    pub deed: Option<(B256, Deed)>,
    /// The verdict upon each local leg at the latest block.
    pub verdicts: Vec<Value>,
    /// In what a settlement of the hash differs from what was agreed on.
    pub differs: Option<String>,
    /// Why the chain does not answer.
    pub silent: Option<String>,
}

/// Our own clock.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Reads one side. What cannot be read says nothing, and nothing is decided upon it.
pub async fn look(chain: &ChainReader, store: &Store, pair: &StoredPair, role: Role) -> Looked {
    let agreed = pair.command.terms(role, pair.hash);
    // A chain that hangs must not keep what is to be done on the other waiting.
    let silent = match tokio::time::timeout(LOOK_WITHIN, read(chain, store, pair, role, &agreed)).await {
        Ok(Ok(looked)) => return looked,
        Ok(Err(refusal)) => refusal.message().to_owned(),
        Err(_) => "the chain does not answer in time".to_owned(),
    };
    Looked {
        side: Side { now_s: now_s(), ..Side::silent(agreed.cutoff) },
        deed: None,
        verdicts: Vec::new(),
        differs: None,
        silent: Some(silent),
    }
}

async fn read(
    chain: &ChainReader,
    store: &Store,
    pair: &StoredPair,
    role: Role,
    agreed: &Terms,
) -> Result<Looked, Refusal> {
    let stored = &pair.sides[role.place()];
    let head = chain.latest().await?;
    let finals = chain.latest_final().await?;
    let mut looked = Looked {
        side: Side {
            readable: true,
            now_s: head.timestamp_s.max(now_s()),
            final_s: finals.map_or(0, |finals| finals.timestamp_s),
            head: head.number,
            ..Side::silent(agreed.cutoff)
        },
        deed: None,
        verdicts: Vec::new(),
        differs: None,
        silent: None,
    };
    let (found, differs) = settlement(store, pair, role, agreed).await?;
    looked.differs = differs;
    let Some((id, deed)) = found else { return Ok(looked) };
    let at = head.id();
    let progress = readers::progress(chain, stored.contract, &deed, id, at).await?;
    let final_progress = match finals {
        Some(finals) => readers::progress(chain, stored.contract, &deed, id, finals.id()).await?,
        None => None,
    };
    let side = &mut looked.side;
    side.final_stored = final_progress.map(|progress| progress.stored);
    if let Some(progress) = progress {
        side.stored = Some(progress.stored);
        side.breached = progress.state == State::Breached;
        side.reclaim_from = progress.reclaim_from;
        side.locked = locked(&deed.terms, &progress);
        if progress.stored.is_committed() || progress.stored == State::Executed {
            let final_height = finals.map(|finals| finals.number);
            let blocks = stored.from_block..=head.number;
            let told = shown(chain, store, stored.contract, id, blocks).await?;
            side.shown = told.map(|(secret, block)| (secret, final_height.is_some_and(|height| block <= height)));
        }
        if progress.stored.is_committed() {
            side.deliverable = deliverable(chain, pair, stored.contract, &deed, &progress, at).await?;
        }
        if progress.stored.is_pending() {
            (looked.verdicts, side.vetoes) = verdicts(chain, stored.contract, &deed.terms, head).await?;
        }
    }
    looked.deed = Some((id, deed));
    Ok(looked)
}

/// A settlement with its identifier.
type Found = Option<(B256, Deed)>;

/// The settlement, and in what another one of the hash differs from what was agreed on. Ours is known by its identifier, the hash of its terms;
/// the counterparty's is found by the hash of the secret and compared.
async fn settlement(
    store: &Store,
    pair: &StoredPair,
    role: Role,
    agreed: &Terms,
) -> Result<(Found, Option<String>), Refusal> {
    let side = &pair.sides[role.place()];
    if let Some((salt, id)) = side.salt.zip(side.settlement_id) {
        return Ok((Some((id, Deed { salt, terms: agreed.clone() })), None));
    }
    let lock = HashLock { kind: pair.command.hash_kind, hash: pair.hash };
    let mut differs = None;
    for candidate in store.settlements_of_hash(side.chain_id, side.contract, lock).await? {
        if side.settlement_id.is_some_and(|id| id != candidate.settlement_id) {
            continue;
        }
        match difference(agreed, &candidate.deed.terms) {
            None => return Ok((Some((candidate.settlement_id, candidate.deed)), None)),
            Some(difference) => differs = Some(format!("{:#x}: {difference}", candidate.settlement_id)),
        }
    }
    Ok((None, differs))
}

/// Whose amounts are locked.
fn locked(terms: &Terms, progress: &Progress) -> Vec<Address> {
    if progress.stored.is_committed() || progress.stored == State::Executed {
        return Vec::new();
    }
    terms.senders().into_iter().filter(|sender| progress.has_approved(terms, *sender)).collect()
}

/// The secret where it was shown, and the block.
async fn shown(
    chain: &ChainReader,
    store: &Store,
    contract: Address,
    id: B256,
    blocks: RangeInclusive<u64>,
) -> Result<Option<(B256, u64)>, Refusal> {
    // Mostly the index knows the block; it keeps no secret, so the chain is asked.
    let indexed = store.shown_at(chain.chain_id(), contract, id).await?.map(|at| at.block);
    let filter = Filter::new().address(contract).event_signature(SecretRevealed::SIGNATURE_HASH).topic1(id);
    for (from, to) in indexed.map(|block| (block, block)).into_iter().chain([(*blocks.start(), *blocks.end())]) {
        let logs = chain.upstreams().logs_between(&filter, from, to).await;
        let logs =
            logs.map_err(|error| Refusal::new(Reason::ChainUnavailable, "the log cannot be read").source(error))?;
        let told = logs.iter().find_map(|log| {
            let event = SecretRevealed::decode_log(&log.inner).ok()?;
            Some((event.secret, log.block_number?))
        });
        if told.is_some() {
            return Ok(told);
        }
    }
    Ok(None)
}

/// Owed legs that would move now.
async fn deliverable(
    chain: &ChainReader,
    pair: &StoredPair,
    contract: Address,
    deed: &Deed,
    progress: &Progress,
    at: BlockId,
) -> Result<Vec<u32>, Refusal> {
    let mut found = Vec::new();
    for (place, _) in deed.terms.local() {
        let leg = u32::try_from(place).unwrap_or(u32::MAX);
        if progress.delivered & 1_u32.checked_shl(leg).unwrap_or(0) != 0 {
            continue;
        }
        let call = deliverCall { terms: deed.on_chain(), leg: U256::from(leg) };
        match readers::dry(chain, pair.command.sender, contract, call, at).await {
            Ok(_) => found.push(leg),
            Err(ReadError::Reverted(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// The verdict upon each local leg, as it is kept, and those that refuse in words.
async fn verdicts(
    chain: &ChainReader,
    contract: Address,
    terms: &Terms,
    head: Head,
) -> Result<(Vec<Value>, Vec<String>), Refusal> {
    let (at, contracts) = (head.id(), readers::contracts(chain, contract).await?);
    let own = readers::own_assets(chain, contracts.assets, terms, at).await?;
    let (mut verdicts, mut vetoes) = (Vec::new(), Vec::new());
    for (place, leg) in terms.local() {
        let mut veto = None;
        if own.contains(&leg.asset) {
            let receiver = readers::receiver(chain, contracts.registry, leg.to, at).await?;
            veto = readers::veto(chain, leg, receiver, at).await?;
        }
        if let Some((module, reason)) = &veto {
            vetoes.push(format!("leg {place}: {module} refuses with {reason}"));
        }
        let (module, reason) = veto.unzip();
        verdicts.push(json!({
            "chain_id": chain.chain_id(), "leg": place, "block_number": head.number, "module": module, "reason": reason,
        }));
    }
    Ok((verdicts, vetoes))
}
