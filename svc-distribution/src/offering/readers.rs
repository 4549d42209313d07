//! The chain as typed reads.

use super::{
    state::State,
    terms::{Currency, Rate, Rates, Terms},
};
use crate::readers::{currency_decimals, decimals, ratio_of};
use alloy::primitives::{Address, B256, U256};
use dalp_chain::BlockId;
use dalp_contracts::{
    bindings::{AddonFactory, AssetToken, IdentityRegistry, Offering},
    revert::reason_text,
    roles,
};
use dalp_domain::{ChainReader, Head, ReadError};
use dalp_service::Refusal;

/// What a sale's contract says at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnChain {
    /// The block.
    pub at: Head,
    /// Where the sale stands.
    pub state: State,
    /// Base units sold.
    pub sold: U256,
    /// Base units sold and not delivered.
    pub owed: U256,
    /// Base units of the asset that it holds.
    pub balance: U256,
    /// Whether it may mint.
    pub mints: bool,
}

/// What the chain says of a buyer at a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfBuyer {
    /// What the buyer's identity has bought over all wallets.
    pub bought: U256,
    /// What the buyer is still to receive.
    pub outstanding: U256,
    /// Base units of the currency that the buyer has.
    pub balance: U256,
    /// Base units of it that the sale may take.
    pub allowance: U256,
}

/// What the prices of terms come to. A currency that does not tell its decimals has no price.
pub async fn rates(chain: &ChainReader, terms: &Terms) -> Result<Rates, Refusal> {
    let asset_decimals = decimals(chain, terms.asset).await?;
    let mut currencies = Vec::with_capacity(terms.currencies.len());
    for (place, Currency { currency, price }) in terms.currencies.iter().enumerate() {
        let path = format!("terms.currencies[{place}]");
        let decimals = currency_decimals(chain, *currency, &format!("{path}.currency")).await?;
        let ratio = ratio_of(*price, decimals, asset_decimals, &format!("{path}.price"))?;
        currencies.push(Rate { currency: *currency, decimals, ratio });
    }
    Ok(Rates { asset_decimals, currencies })
}

/// Where a creation would put a sale; what the factory refuses is the refusal.
pub async fn dry_create(
    chain: &ChainReader,
    factory: Address,
    (sender, salt): (Address, B256),
    terms: &Terms,
    rates: &Rates,
) -> Result<Address, ReadError> {
    let create = AddonFactory::createOfferingCall { salt, terms: terms.on_chain(rates) };
    chain.read_as(sender, factory, create, BlockId::latest()).await
}

/// What a sale's contract says at the latest block; `None` where it does not stand.
pub async fn on_chain(chain: &ChainReader, terms: &Terms, offering: Address) -> Result<Option<OnChain>, Refusal> {
    let at = chain.latest().await?;
    let state = match chain.read_at(offering, Offering::statusCall {}, at.id()).await {
        Ok(state) => state,
        Err(ReadError::NotThere(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let state = State::ALL.get(usize::from(state)).copied();
    let state = state.ok_or_else(|| Refusal::internal("a sale in a state that is none"))?;
    let (sold, balance, mints) = futures::try_join!(
        chain.read_at(offering, Offering::soldCall {}, at.id()),
        chain.read_at(terms.asset, AssetToken::balanceOfCall { account: offering }, at.id()),
        chain.read_at(terms.asset, AssetToken::hasCall { account: offering, roleMask: roles::asset::SUPPLY }, at.id()),
    )?;
    Ok(Some(OnChain { at, state, sold: sold.total, owed: sold.owed, balance, mints }))
}

/// What the chain says of a buyer at a block.
pub async fn of_buyer(
    chain: &ChainReader,
    registry: Address,
    (offering, currency): (Address, Address),
    buyer: Address,
    at: BlockId,
) -> Result<OfBuyer, Refusal> {
    let identity = chain.read_at(registry, IdentityRegistry::identityCall { wallet: buyer }, at).await?;
    // Limits count identities; one who is exempt from having one counts alone.
    let investor = if identity.is_zero() { buyer } else { identity };
    let (bought, allocation) = futures::try_join!(
        chain.read_at(offering, Offering::boughtByCall { identity: investor }, at),
        chain.read_at(offering, Offering::allocationOfCall { buyer }, at),
    )?;
    let held = futures::try_join!(
        chain.read_at(currency, AssetToken::balanceOfCall { account: buyer }, at),
        chain.read_at(currency, AssetToken::allowanceCall { owner: buyer, spender: offering }, at),
    );
    let (balance, allowance) = match held {
        Ok(held) => held,
        Err(error) if error.is_unavailable() => return Err(error.into()),
        // Whatever it is, it is no currency of the sale.
        Err(_) => (U256::ZERO, U256::ZERO),
    };
    let outstanding = U256::from(allocation.bought.saturating_sub(allocation.released));
    Ok(OfBuyer { bought, outstanding, balance, allowance })
}

/// Who of the asset refuses to deliver an amount to a buyer at a block, and why.
pub async fn veto(
    chain: &ChainReader,
    terms: &Terms,
    offering: Address,
    (buyer, amount): (Address, U256),
    at: BlockId,
) -> Result<Option<(Address, String)>, Refusal> {
    let from = if terms.minted { Address::ZERO } else { offering };
    let preview = AssetToken::previewCall { from, to: buyer, amount };
    let verdict = chain.read_at(terms.asset, preview, at).await?;
    Ok((!verdict.reason.is_zero()).then(|| (verdict.module, reason_text(verdict.reason))))
}

/// What a buyer paid in a currency and has not got back.
pub async fn paid(
    chain: &ChainReader,
    offering: Address,
    (buyer, currency): (Address, Address),
    at: BlockId,
) -> Result<U256, ReadError> {
    chain.read_at(offering, Offering::paidByCall { buyer, currency }, at).await
}

/// Whether a sale was activated: what its activation by somebody is refused with.
pub async fn is_activated(chain: &ChainReader, offering: Address, sender: Address) -> Result<bool, Refusal> {
    match chain.read_as(sender, offering, Offering::activateCall {}, BlockId::latest()).await {
        Ok(_) => Ok(false),
        Err(ReadError::Reverted(data)) => Ok(dalp_contracts::decode_revert(&data).contract_error == "SaleNotActive"),
        Err(ReadError::NotThere(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
