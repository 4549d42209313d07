//! The chain as typed reads.

use crate::{
    state::{Progress, State},
    terms::{Deed, Leg, Lock, Terms},
};
use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall,
};
use dalp_chain::BlockId;
use dalp_contracts::{
    bindings::{AssetFactory, AssetToken, IdentityRegistry, Settlement, System},
    revert::reason_text,
    roles::names,
};
use dalp_domain::{ChainReader, ReadError, chain::bounded};
use dalp_service::{Reason, Refusal};
use std::collections::BTreeSet;

/// The contracts that settlements rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contracts {
    /// The settlement contract.
    pub settlement: Address,
    /// Knows the successors of lost wallets.
    pub registry: Address,
    /// Knows the system's own assets.
    pub assets: Address,
    /// Blocks between the steps of a reclaim.
    pub reclaim_delay: u64,
}

/// What a sender has of an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purse {
    /// Base units that it could lock.
    pub available: U256,
    /// Base units that the contract may take.
    pub allowance: U256,
}

/// The settlement contract that a system's address book names.
pub async fn settlement_contract(chain: &ChainReader, system: Address) -> Result<Address, Refusal> {
    let settlement = chain.read(system, System::getCall { name: names::SETTLEMENT }).await?;
    if settlement.is_zero() {
        let text = "the tenant's system on this chain has no settlement contract";
        return Err(Refusal::new(Reason::SystemNotBootstrapped, text));
    }
    Ok(settlement)
}

/// What a settlement contract rests on.
pub async fn contracts(chain: &ChainReader, settlement: Address) -> Result<Contracts, Refusal> {
    let (registry, assets, delay) = futures::try_join!(
        chain.read(settlement, Settlement::REGISTRYCall {}),
        chain.read(settlement, Settlement::ASSETSCall {}),
        chain.read(settlement, Settlement::RECLAIM_DELAYCall {}),
    )?;
    Ok(Contracts { settlement, registry, assets, reclaim_delay: delay.saturating_to() })
}

/// What the contract would answer somebody at a block; what it refuses is the refusal.
pub async fn dry<C: SolCall>(
    chain: &ChainReader,
    sender: Address,
    contract: Address,
    call: C,
    at: BlockId,
) -> Result<C::Return, ReadError> {
    chain.read_as(sender, contract, call, at).await
}

/// Where a settlement stands at a block; `None` where the contract does not know it.
pub async fn progress(
    chain: &ChainReader,
    contract: Address,
    deed: &Deed,
    id: B256,
    at: BlockId,
) -> Result<Option<Progress>, Refusal> {
    let stored = chain.read_at(contract, Settlement::progressCall { id }, at).await?;
    if stored.stored == 0 {
        return Ok(None);
    }
    let status = chain.read_at(contract, Settlement::statusCall { terms: deed.on_chain() }, at).await?;
    let state =
        |number| State::of_number(number).ok_or_else(|| Refusal::internal("a settlement in a state that is none"));
    Ok(Some(Progress {
        state: state(status)?,
        stored: state(stored.stored)?,
        approvals: stored.approvals,
        delivered: stored.delivered,
        votes: stored.votes,
        reclaim_from: Some(stored.reclaimFrom.saturating_to()).filter(|block| *block != 0),
    }))
}

/// Those of the assets of terms that are the system's own.
pub async fn own_assets(
    chain: &ChainReader,
    factory: Address,
    terms: &Terms,
    at: BlockId,
) -> Result<BTreeSet<Address>, Refusal> {
    let asks = terms.assets().into_iter().map(async |asset| {
        let own = chain.read_at(factory, AssetFactory::isAssetCall { token: asset }, at).await?;
        Ok(own.then_some(asset))
    });
    Ok(bounded(asks).await?.into_iter().flatten().collect())
}

/// Who gets what is sent to a wallet: itself, or the successor that the registry recorded.
pub async fn receiver(
    chain: &ChainReader,
    registry: Address,
    wallet: Address,
    at: BlockId,
) -> Result<Address, ReadError> {
    let successor = chain.read_at(registry, IdentityRegistry::successorCall { wallet }, at).await?;
    Ok(if successor.is_zero() { wallet } else { successor })
}

/// Who of an own asset refuses a leg at a block, and why, the size of the lock aside.
pub async fn veto(
    chain: &ChainReader,
    leg: &Leg,
    receiver: Address,
    at: BlockId,
) -> Result<Option<(Address, String)>, ReadError> {
    let preview = AssetToken::previewHoldCall { holder: leg.from, to: receiver, amount: leg.amount };
    let verdict = chain.read_at(leg.asset, preview, at).await?;
    Ok((!verdict.reason.is_zero()).then(|| (verdict.module, reason_text(verdict.reason))))
}

/// What a sender has of what it is to lock. What answers no such question is no currency: there is none of it.
pub async fn purse(chain: &ChainReader, contract: Address, lock: &Lock, at: BlockId) -> Result<Purse, Refusal> {
    let (account, asset) = (lock.sender, lock.asset);
    let held = futures::try_join!(
        chain.read_at(asset, AssetToken::balanceOfCall { account }, at),
        chain.read_at(asset, AssetToken::allowanceCall { owner: account, spender: contract }, at),
    );
    let (balance, allowance) = match held {
        Ok(held) => held,
        Err(error) if error.is_unavailable() => return Err(error.into()),
        Err(_) => return Ok(Purse { available: U256::ZERO, allowance: U256::ZERO }),
    };
    if !lock.own {
        return Ok(Purse { available: balance, allowance });
    }
    let (frozen, held) = futures::try_join!(
        chain.read_at(asset, AssetToken::getFrozenTokensCall { account }, at),
        chain.read_at(asset, AssetToken::heldOfCall { account }, at),
    )?;
    Ok(Purse { available: balance.saturating_sub(frozen).saturating_sub(held), allowance })
}

/// Places of local legs whose asset is no contract.
pub async fn without_code(chain: &ChainReader, terms: &Terms) -> Result<Vec<usize>, Refusal> {
    let asks = terms.assets().into_iter().map(async |asset| {
        let there = chain.has_code(asset).await?;
        Ok((!there).then_some(asset))
    });
    let absent: BTreeSet<Address> = bounded(asks).await?.into_iter().flatten().collect();
    Ok(terms.local().filter(|(_, leg)| absent.contains(&leg.asset)).map(|(place, _)| place).collect())
}
