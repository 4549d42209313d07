//! Reads of the chain that airdrops, sales and treasuries have in common.

use crate::offering::price::Price;
use alloy::primitives::{Address, U256};
use dalp_contracts::{
    bindings::{AssetToken, System},
    roles::names,
};
use dalp_domain::{ChainReader, ReadError};
use dalp_service::{Reason, Refusal};

/// The factory of airdrops, sales and treasuries that a system's address book names.
pub async fn factory(chain: &ChainReader, system: Address) -> Result<Address, Refusal> {
    let factory = chain.read(system, System::getCall { name: names::ADDON_FACTORY }).await?;
    match factory.is_zero() {
        false => Ok(factory),
        true => Err(Refusal::new(
            Reason::SystemNotBootstrapped,
            "the tenant's system on this chain has no factory of airdrops, sales and treasuries",
        )),
    }
}

/// Places behind the decimal point of an asset or a currency.
pub async fn decimals(chain: &ChainReader, token: Address) -> Result<u8, ReadError> {
    chain.read(token, AssetToken::decimalsCall {}).await
}

/// The registry that an asset asks who may hold it.
pub async fn registry_of(chain: &ChainReader, asset: Address) -> Result<Address, ReadError> {
    chain.read(asset, AssetToken::identityRegistryCall {}).await
}

/// Places behind the decimal point of a currency; `path` is the field that names it. Without them there are no amounts to speak of.
pub async fn currency_decimals(chain: &ChainReader, currency: Address, path: &str) -> Result<u8, Refusal> {
    match decimals(chain, currency).await {
        Ok(decimals) => Ok(decimals),
        Err(error) if error.is_unavailable() => Err(error.into()),
        Err(_) => Err(Refusal::new(Reason::CurrencyUnsupported, "a currency does not tell its decimals")
            .meta("currency", currency.to_checksum(None))
            .field(path, "must be an ERC-20 contract with decimals()")),
    }
}

/// A price in the units of the contracts; `path` is the field that tells it.
pub fn ratio_of(price: Price, currency_decimals: u8, asset_decimals: u8, path: &str) -> Result<U256, Refusal> {
    price
        .ratio(currency_decimals, asset_decimals)
        .map_err(|error| Refusal::new(Reason::InvalidField, "a price cannot be used").field(path, error.to_string()))
}
