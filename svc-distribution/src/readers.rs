//! Reads of the chain that airdrops and sales have in common.

use alloy::primitives::Address;
use dalp_contracts::{
    bindings::{AssetToken, System},
    roles::names,
};
use dalp_domain::{ChainReader, ReadError};
use dalp_service::{Reason, Refusal};

/// The factory of airdrops and sales that a system's address book names.
pub async fn factory(chain: &ChainReader, system: Address) -> Result<Address, Refusal> {
    let factory = chain.read(system, System::getCall { name: names::ADDON_FACTORY }).await?;
    match factory.is_zero() {
        false => Ok(factory),
        true => Err(Refusal::new(
            Reason::SystemNotBootstrapped,
            "the tenant's system on this chain has no factory of airdrops and sales",
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
