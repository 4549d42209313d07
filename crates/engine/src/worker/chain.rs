//! Confirms one chain: inclusion by block, finality, reorgs.
//!
//! It keeps no durable cursor. What it misses while it is away, the lanes find by receipt, because on start they look at
//! everything sent; and nothing becomes final before its block was found on the chain again at that moment.

use super::{Node, Shared, report};
use crate::{
    error::StoreError,
    flow::{Failure, Mined},
    metric_definitions as metric,
    store::{self, FinalAttempt, Finished, Inclusion},
};
use alloy::primitives::B256;
use dalp_chain::{
    BlockHeader, BlockId, BlockNumberOrTag, CallError, ChainError, Finality, Receipt, TransactionRequest,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// Blocks looked at together.
const BLOCKS_AT_ONCE: u64 = 32;
/// The most that is caught up block by block. Beyond that the lanes find by receipt what was missed.
const CATCH_UP: u64 = 512;
/// From this many of our transactions on, all receipts of a block are one request; below, ours alone are.
const WHOLE_BLOCK_FROM: usize = 8;
const REMEMBERED_BLOCKS: usize = 256;
const FINAL_AT_ONCE: i64 = 500;

#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Follows the chain until the engine stops.
pub(super) async fn confirm(shared: Arc<Shared>, chain_id: u64, node: Arc<dyn Node>, stop: CancellationToken) {
    let never = Notify::new();
    let mut seen = BTreeMap::new();
    while super::next_turn(&stop, &never, node.config().poll_interval()).await {
        match turn(&shared, chain_id, node.as_ref(), &mut seen).await {
            Ok(()) => {}
            Err(TurnError::Chain(error)) => tracing::warn!(chain_id, %error, "chain not readable, will look again"),
            Err(TurnError::Store(error)) => report("confirm", &error),
        }
    }
}

async fn turn(
    shared: &Shared,
    chain_id: u64,
    node: &dyn Node,
    seen: &mut BTreeMap<u64, B256>,
) -> Result<(), TurnError> {
    let Some(head) = node.block(BlockNumberOrTag::Latest).await? else { return Ok(()) };
    if seen.get(&head.number) != Some(&head.hash) {
        // Before anything of this block wakes a flow: what that orders must not be simulated at an older one.
        shared.market(chain_id).saw(node.fee_inputs().await?);
        follow(shared, chain_id, node, seen, &head).await?;
        while seen.len() > REMEMBERED_BLOCKS {
            seen.pop_first();
        }
    }
    finalise(shared, chain_id, node, seen, head.number).await
}

/// Takes the blocks up to the head. On another branch, what was included is compared with it first.
async fn follow(
    shared: &Shared,
    chain_id: u64,
    node: &dyn Node,
    seen: &mut BTreeMap<u64, B256>,
    head: &BlockHeader,
) -> Result<(), TurnError> {
    let next = seen.last_key_value().map(|(last, _)| last + 1);
    let mut from = next.filter(|next| *next <= head.number && head.number - next < CATCH_UP).unwrap_or(head.number);
    let is_start = seen.is_empty();
    while from <= head.number {
        let to = head.number.min(from + BLOCKS_AT_ONCE - 1);
        let headers = if from == head.number { vec![head.clone()] } else { node.blocks((from..=to).collect()).await? };
        let Some(first) = headers.first() else { return Ok(()) }; // another node, one that lags
        let below = first.number.checked_sub(1).and_then(|number| seen.get(&number));
        let follows = is_start || below == Some(&first.parent_hash);
        if !follows || seen.contains_key(&first.number) {
            seen.clear();
            let mined = store::retry("mined blocks", || shared.store.mined_blocks(chain_id)).await?;
            let known = node.blocks(heights(&mined, head.number)).await?;
            compare(shared, chain_id, mined, &known).await?;
            let from = head.number.saturating_sub(BLOCKS_AT_ONCE - 1);
            let headers = node.blocks((from..=head.number).collect()).await?;
            return take_blocks(shared, node, &headers, seen).await;
        }
        take_blocks(shared, node, &headers, seen).await?;
        match headers.last() {
            Some(last) if seen.contains_key(&last.number) => from = last.number + 1,
            _ => return Ok(()), // one of them is gone in the meantime: the next turn sees the new branch
        }
    }
    Ok(())
}

/// Reads the receipts of blocks that hold transactions of ours.
async fn take_blocks(
    shared: &Shared,
    node: &dyn Node,
    headers: &[BlockHeader],
    seen: &mut BTreeMap<u64, B256>,
) -> Result<(), TurnError> {
    let hashes: Vec<B256> = headers.iter().flat_map(|header| header.transactions.iter().copied()).collect();
    let ours: HashSet<B256> = if hashes.is_empty() {
        HashSet::new()
    } else {
        store::retry("find our transactions", || shared.store.our_hashes(&hashes)).await?.into_iter().collect()
    };
    let of = |header: &BlockHeader| {
        header.transactions.iter().copied().filter(|hash| ours.contains(hash)).collect::<Vec<_>>()
    };
    let few: Vec<B256> = headers.iter().map(of).filter(|ours| ours.len() < WHOLE_BLOCK_FROM).flatten().collect();
    let single: Vec<Receipt> =
        if few.is_empty() { Vec::new() } else { node.receipts(few).await?.into_iter().flatten().collect() };
    for header in headers {
        let count = of(header).len();
        let receipts = if count >= WHOLE_BLOCK_FROM {
            node.block_receipts(BlockId::hash(header.hash)).await?.unwrap_or_default()
        } else {
            single.clone()
        };
        let inclusions: Vec<Inclusion> = receipts
            .into_iter()
            .filter(|receipt| receipt.block_hash == header.hash && ours.contains(&receipt.transaction_hash))
            .map(inclusion)
            .collect();
        include(shared, &inclusions).await?;
        if inclusions.len() < count {
            return Ok(()); // gone in the meantime: the next turn sees the new branch
        }
        seen.insert(header.number, header.hash);
    }
    Ok(())
}

/// Records inclusions, found by block or by receipt.
pub(super) async fn include(shared: &Shared, inclusions: &[Inclusion]) -> Result<(), StoreError> {
    if !inclusions.is_empty() {
        let lanes = store::retry("include", || shared.store.include(inclusions)).await?;
        if !lanes.is_empty() {
            shared.poke_lanes(lanes); // there is room for more
            shared.changed();
        }
    }
    Ok(())
}

pub(super) fn inclusion(receipt: Receipt) -> Inclusion {
    Inclusion {
        succeeded: receipt.succeeded,
        revert_data: receipt.revert_reason,
        mined: Mined {
            tx_hash: receipt.transaction_hash,
            block_number: receipt.block_number,
            block_hash: receipt.block_hash,
            gas_used: receipt.gas_used,
            contract_address: receipt.contract_address,
            logs: receipt.logs,
        },
    }
}

/// The heights of blocks, each once, up to one.
fn heights(blocks: &[(u64, B256)], up_to: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = blocks.iter().map(|(number, _)| *number).filter(|number| *number <= up_to).collect();
    numbers.dedup();
    numbers
}

/// Compares the blocks of included attempts with what a node has at their heights; returns those that stand.
async fn compare(
    shared: &Shared,
    chain_id: u64,
    mined: Vec<(u64, B256)>,
    headers: &[BlockHeader],
) -> Result<Vec<B256>, TurnError> {
    let (mut stand, mut gone) = (Vec::new(), Vec::new());
    for (number, hash) in mined {
        match headers.iter().find(|header| header.number == number) {
            Some(header) if header.hash == hash => stand.push(hash),
            Some(_) => gone.push(hash),
            None => {}
        }
    }
    if !gone.is_empty() {
        let count = store::retry("retract", || shared.store.retract(chain_id, &gone)).await?;
        tracing::warn!(chain_id, blocks = gone.len(), transactions = count, "blocks disappeared");
        shared.changed();
        let lanes: Vec<_> = shared.lanes().keys().copied().filter(|lane| lane.chain_id == chain_id).collect();
        shared.poke_lanes(lanes);
        shared.supervisor.notify_one();
    }
    Ok(stand)
}

/// Blocks of included attempts where the followed branch has others: a lane found them by receipt before this one looked there, and they are gone, or
/// of a branch that is followed next.
fn doubted(mined: &[(u64, B256)], seen: &BTreeMap<u64, B256>) -> Vec<(u64, B256)> {
    mined.iter().filter(|(number, hash)| seen.get(number).is_some_and(|followed| followed != hash)).copied().collect()
}

async fn finalise(
    shared: &Shared,
    chain_id: u64,
    node: &dyn Node,
    seen: &BTreeMap<u64, B256>,
    head: u64,
) -> Result<(), TurnError> {
    let mut mined = store::retry("mined blocks", || shared.store.mined_blocks(chain_id)).await?;
    if mined.is_empty() {
        return Ok(());
    }
    let doubted = doubted(&mined, seen);
    if !doubted.is_empty() {
        let known = node.blocks(heights(&doubted, head)).await?;
        let stand = compare(shared, chain_id, doubted.clone(), &known).await?;
        mined.retain(|block| !doubted.contains(block) || stand.contains(&block.1));
    }
    let final_height = match node.config().finality {
        rule @ Finality::Depth(_) => rule.final_height(head, None),
        Finality::FinalizedTag => node.final_height().await?,
    };
    let Some(final_height) = final_height.filter(|height| mined.iter().any(|(number, _)| number <= height)) else {
        return Ok(());
    };
    // One node says what is final and what stands there: of two, one could speak of a branch that has disappeared.
    let headers = node.final_blocks(&heights(&mined, final_height)).await?;
    let stand = compare(shared, chain_id, mined, &headers).await?;
    if stand.is_empty() {
        return Ok(());
    }
    loop {
        let started = Instant::now();
        let attempts =
            store::retry("final attempts", || shared.store.final_attempts(chain_id, &stand, FINAL_AT_ONCE)).await?;
        let count = attempts.len();
        if count == 0 {
            return Ok(());
        }
        let mut finished = Vec::with_capacity(count);
        for attempt in attempts {
            let reverted =
                if attempt.inclusion.succeeded { None } else { Some(revert_reason(shared, node, &attempt).await?) };
            finished.push(Finished { attempt, reverted });
        }
        // Not retried here: the next turn reads the same rows again.
        shared.store.finish(finished).await?;
        metric::stage("finish", started.elapsed());
        shared.woken();
        if count < FINAL_AT_ONCE as usize {
            return Ok(());
        }
    }
}

/// Why a transaction reverted: what the receipt says, else the same call at its block.
async fn revert_reason(shared: &Shared, node: &dyn Node, attempt: &FinalAttempt) -> Result<Failure, TurnError> {
    let mined = &attempt.inclusion.mined;
    let failure = match &attempt.inclusion.revert_data {
        Some(data) if !data.is_empty() => shared.decoder.decode_revert(data),
        _ => {
            let mut call = TransactionRequest::default()
                .from(attempt.sender)
                .value(attempt.value_wei)
                .input(attempt.data.clone().into());
            call.to = attempt.target.map(Into::into);
            match node.call(&call, BlockId::number(mined.block_number)).await {
                Err(CallError::Revert(data)) => shared.decoder.decode_revert(&data),
                Err(CallError::Unavailable(error)) => return Err(ChainError::Unavailable(error).into()),
                Ok(_) | Err(CallError::Node(_)) => {
                    Failure::new(Failure::REVERTED, "reverted on chain; the same call gives no reason any more")
                }
            }
        }
    };
    Ok(failure.with("tx_hash", mined.tx_hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_found_by_receipt_is_doubted_where_the_followed_branch_has_another() {
        let block = B256::repeat_byte;
        let seen = BTreeMap::from([(7, block(1)), (8, block(2))]);
        let mined = [(6, block(9)), (7, block(1)), (8, block(3)), (9, block(4))];
        assert_eq!(doubted(&mined, &seen), [(8, block(3))]);
    }
}
