//! Assets as the chain shows them.

use super::{ChainReader, ReadError};
use crate::domain::asset::Right;
use alloy::primitives::{Address, U256};
use dalp_chain::BlockId;
use dalp_contracts::bindings::AssetToken;
use dalp_service::{Reason, Refusal};

/// An asset at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetView {
    /// Name.
    pub name: String,
    /// Symbol.
    pub symbol: String,
    /// Decimals.
    pub decimals: u8,
    /// Compliance contract.
    pub compliance: Address,
    /// Its own identity.
    pub identity: Address,
    /// Base units.
    pub total_supply: U256,
    /// Whether transfers are stopped.
    pub paused: bool,
}

/// How a missing role on an asset is obtained; stands in the metadata of every refusal for one.
pub const GRANTED_BY: &str = "AssetService.GrantRole, from the asset's admin";

/// Reads an asset at a block.
pub async fn view(chain: &ChainReader, asset: Address, block: BlockId) -> Result<AssetView, Refusal> {
    let (name, symbol, decimals, compliance, identity, total_supply, paused) = futures::try_join!(
        chain.read_at(asset, AssetToken::nameCall {}, block),
        chain.read_at(asset, AssetToken::symbolCall {}, block),
        chain.read_at(asset, AssetToken::decimalsCall {}, block),
        chain.read_at(asset, AssetToken::complianceCall {}, block),
        chain.read_at(asset, AssetToken::onchainIDCall {}, block),
        chain.read_at(asset, AssetToken::totalSupplyCall {}, block),
        chain.read_at(asset, AssetToken::pausedCall {}, block),
    )?;
    Ok(AssetView { name, symbol, decimals, compliance, identity, total_supply, paused })
}

/// Refuses a sender without the right an action needs. When the chain cannot be read the action is accepted and waits: its
/// simulation asks the same question before anything is signed.
pub async fn require_right(chain: &ChainReader, asset: Address, sender: Address, right: Right) -> Result<(), Refusal> {
    let (held, role): (Result<bool, ReadError>, &str) = match right {
        // An approver is asked for where the rule is at hand.
        Right::Holder | Right::Anyone | Right::Approver => return Ok(()),
        Right::Role(role) => {
            (chain.read(asset, AssetToken::hasCall { account: sender, roleMask: role.mask() }).await, role.name())
        }
        Right::Owner => (chain.read(asset, AssetToken::ownerCall {}).await.map(|owner| owner == sender), "admin"),
    };
    match held {
        Ok(true) => Ok(()),
        Err(error) if error.is_unavailable() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(false) => Err(missing_role(asset, sender, role)),
    }
}

/// Of these roles on an asset, those that an account holds.
pub async fn roles_among(chain: &ChainReader, asset: Address, account: Address, roles: U256) -> Result<U256, Refusal> {
    Ok(chain.read(asset, AssetToken::rolesOfCall { account }).await? & roles)
}

/// Refuses an account without code of its own.
pub async fn require_contract(chain: &ChainReader, field: &str, account: Address) -> Result<(), Refusal> {
    if chain.has_code(account).await? {
        return Ok(());
    }
    let description = "has no code of its own: only contracts can be exempt, no person's wallet ever is";
    Err(Refusal::new(Reason::InvalidField, format!("{field}: {description}")).field(field, description))
}

/// The refusal of a sender without a role on an asset, with how it is granted.
pub(super) fn missing_role(asset: Address, sender: Address, role: &str) -> Refusal {
    Refusal::new(Reason::AssetRoleMissing, format!("the sender lacks the role {role} on the asset"))
        .meta("role", role)
        .meta("granted_by", GRANTED_BY)
        .meta("sender", sender.to_checksum(None))
        .meta("asset", asset.to_checksum(None))
}
