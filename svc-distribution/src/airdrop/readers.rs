//! The chain as typed reads.

use super::{
    list::{Problem, Recipients},
    terms::Terms,
};
use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall as _,
};
use dalp_chain::BlockId;
use dalp_contracts::{
    bindings::{AddonFactory, AssetToken, Distribution, IdentityRegistry},
    revert::reason_text,
};
use dalp_domain::{ChainReader, Head, ReadError, chain::bounded};
use dalp_service::{Reason, Refusal};

/// What an airdrop has and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Base units of the asset that it holds.
    pub balance: U256,
    /// Whether the asset takes it as a holder.
    pub admitted: bool,
    /// When.
    pub at: Head,
}

/// Where a creation would put an airdrop; what the factory refuses is the refusal.
pub async fn dry_create(
    chain: &ChainReader,
    factory: Address,
    (sender, salt): (Address, B256),
    terms: &Terms,
    (roots, rows_per_root): (Vec<B256>, u64),
) -> Result<Address, ReadError> {
    let create = AddonFactory::createDistributionCall { salt, terms: terms.on_chain(roots, rows_per_root) };
    chain.read_as(sender, factory, create, BlockId::latest()).await
}

/// Rows whose accounts the asset would not take as holders now, by their place.
pub async fn unverified(
    chain: &ChainReader,
    registry: Address,
    asset: Address,
    list: &Recipients,
) -> Result<Vec<(usize, Problem)>, Refusal> {
    let asks = list.rows.iter().map(|row| async {
        let asked = IdentityRegistry::explainCall { token: asset, user: row.account };
        Ok(chain.read(registry, asked).await?)
    });
    let answers = bounded(asks).await?;
    let refused = answers.into_iter().enumerate().filter(|(_, reason)| !reason.is_zero());
    Ok(refused.map(|(place, reason)| (place, Problem::NotVerified { reason: reason_text(reason) })).collect())
}

/// What an airdrop has and may, at the latest block.
pub async fn standing(
    chain: &ChainReader,
    registry: Address,
    asset: Address,
    airdrop: Address,
) -> Result<Standing, Refusal> {
    let at = chain.latest().await?;
    let admitted = IdentityRegistry::isVerifiedForCall { token: asset, user: airdrop };
    let balance = AssetToken::balanceOfCall { account: airdrop };
    let (balance, admitted) =
        futures::try_join!(chain.read_at(asset, balance, at.id()), chain.read_at(registry, admitted, at.id()))?;
    Ok(Standing { balance, admitted, at })
}

/// Gas of a push; what the airdrop refuses is the refusal.
pub async fn push_gas(
    chain: &ChainReader,
    sender: Address,
    airdrop: Address,
    push: Distribution::pushCall,
) -> Result<u64, Refusal> {
    if let Some(gas) = chain.gas(sender, airdrop, push.abi_encode()).await? {
        return Ok(gas);
    }
    chain.read_as(sender, airdrop, push, BlockId::latest()).await?;
    Err(Refusal::new(Reason::SimulationReverted, "the node cannot tell what a push costs"))
}
