//! What accounts may do on chain: in a tenant's system, its identity registry and its assets, all at one block.

use super::{ChainReader, Head, systems::Standing};
use crate::{
    domain::{asset::AssetRole, system::SystemRole},
    store::systems::SystemAddresses,
};
use alloy::primitives::{Address, U256};
use dalp_contracts::bindings::{AssetToken, RegistryAdministration, System};
use dalp_service::Refusal;

/// What an account may do in a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSystem {
    /// The account.
    pub account: Address,
    /// Its roles, and whether it is the administrator.
    pub standing: Standing,
    /// Whether it is an agent of the identity registry.
    pub registry_agent: bool,
}

/// What an account may do on an asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnAsset {
    /// The account.
    pub account: Address,
    /// Its roles.
    pub roles: Vec<AssetRole>,
    /// Whether it is the asset's admin.
    pub admin: bool,
}

/// What accounts may do in a system, in the order given.
pub async fn in_system(
    chain: &ChainReader,
    system: &SystemAddresses,
    accounts: &[Address],
    at: Head,
) -> Result<Vec<InSystem>, Refusal> {
    let masks = accounts.iter().map(|account| (system.system, System::rolesOfCall { account: *account }));
    let agents = accounts
        .iter()
        .map(|account| (system.identity_registry, RegistryAdministration::isAgentCall { account: *account }));
    let (admin, masks, agents) = futures::try_join!(
        chain.read_at(system.system, System::adminCall {}, at.id()),
        chain.read_each_at(masks.collect(), at.id()),
        chain.read_each_at(agents.collect(), at.id()),
    )?;
    let mut found = Vec::with_capacity(accounts.len());
    for ((account, mask), agent) in accounts.iter().zip(masks).zip(agents) {
        let mask = mask?;
        let roles = SystemRole::ALL.into_iter().filter(|role| !(mask & role.mask()).is_zero()).collect();
        let standing = Standing { roles, administrator: admin == *account };
        found.push(InSystem { account: *account, standing, registry_agent: agent? });
    }
    Ok(found)
}

/// Of each asset, the accounts that may do anything on it, in the order given.
pub async fn on_assets(
    chain: &ChainReader,
    assets: &[Address],
    accounts: &[Address],
    at: Head,
) -> Result<Vec<Vec<OnAsset>>, Refusal> {
    let block = at.id();
    let pairs = || assets.iter().flat_map(|asset| accounts.iter().map(move |account| (*asset, *account)));
    let masks = pairs().map(|(asset, account)| (asset, AssetToken::rolesOfCall { account })).collect();
    let owners = assets.iter().map(|asset| (*asset, AssetToken::ownerCall {})).collect();
    let (masks, owners) = futures::try_join!(chain.read_each_at(masks, block), chain.read_each_at(owners, block))?;
    let mut masks = masks.into_iter();
    let mut found = Vec::with_capacity(assets.len());
    for owner in owners {
        let owner = owner?;
        let mut holders = Vec::new();
        for (account, mask) in accounts.iter().zip(masks.by_ref()) {
            holders.extend(holder(*account, mask?, owner == *account));
        }
        found.push(holders);
    }
    Ok(found)
}

/// Nothing for an account that may do nothing.
fn holder(account: Address, mask: U256, admin: bool) -> Option<OnAsset> {
    let roles: Vec<AssetRole> = AssetRole::ALL.into_iter().filter(|role| !(mask & role.mask()).is_zero()).collect();
    (admin || !roles.is_empty()).then_some(OnAsset { account, roles, admin })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_do_nothing_is_left_out() {
        let account = Address::repeat_byte(1);
        assert_eq!(holder(account, U256::ZERO, false), None);
        assert_eq!(holder(account, U256::ZERO, true), Some(OnAsset { account, roles: vec![], admin: true }));
        let mask = AssetRole::Supply.mask() | AssetRole::Funds.mask();
        let roles = vec![AssetRole::Supply, AssetRole::Funds];
        assert_eq!(holder(account, mask, false), Some(OnAsset { account, roles, admin: false }));
        // A fee feature's role is no person's.
        assert_eq!(holder(account, dalp_contracts::roles::asset::FEES, false), None);
    }
}
