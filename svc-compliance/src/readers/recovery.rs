//! What a recovery would move, and what stands in its way.

use super::{ChainReader, assets, bounded, identities, systems};
use crate::{domain::system::SystemRole, store::systems::SystemAddresses};
use alloy::primitives::{Address, U256};
use dalp_chain::BlockId;
use dalp_contracts::bindings::{AssetToken, IdentityFactory, IdentityRegistry, RegistryAdministration};
use dalp_contracts::roles;
use dalp_service::{Reason, Refusal};

/// A recovery as the chain shows it at one block.
#[derive(Debug)]
pub struct RecoveryView {
    /// The identity that moves.
    pub identity: Option<Address>,
    /// ISO 3166-1 numeric, of the registration that moves.
    pub country: u16,
    /// Whether the registry still names the lost wallet.
    pub registered: bool,
    /// Where the lost wallet has something.
    pub assets: Vec<AssetAtStake>,
    /// Everything that stands in the way.
    pub obstacles: Vec<Refusal>,
    /// The block.
    pub block_number: u64,
}

/// What a lost wallet has in an asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetAtStake {
    /// Token.
    pub asset: Address,
    /// Base units.
    pub balance: U256,
    /// Of it frozen.
    pub frozen: U256,
    /// Of it held.
    pub held: U256,
    /// Whether the whole address is frozen.
    pub address_frozen: bool,
}

/// Who recovers whom.
#[derive(Debug, Clone, Copy)]
pub struct Recovery {
    /// Who would send it; none: rights are not looked at.
    pub sender: Option<Address>,
    /// Whose keys are gone.
    pub lost_wallet: Address,
    /// Takes over.
    pub new_wallet: Address,
}

/// Reads a recovery over these assets at the latest block.
pub async fn view(
    chain: &ChainReader,
    system: &SystemAddresses,
    recovery: Recovery,
    candidates: Vec<Address>,
) -> Result<RecoveryView, Refusal> {
    let head = chain.latest().await?;
    let block = head.id();
    let Recovery { sender, lost_wallet, new_wallet } = recovery;
    let registry = system.identity_registry;
    let (lost, new, lost_successor, new_successor) = futures::try_join!(
        chain.read_at(registry, IdentityRegistry::registrationCall { wallet: lost_wallet }, block),
        chain.read_at(registry, IdentityRegistry::registrationCall { wallet: new_wallet }, block),
        chain.read_at(registry, IdentityRegistry::successorCall { wallet: lost_wallet }, block),
        chain.read_at(registry, IdentityRegistry::successorCall { wallet: new_wallet }, block),
    )?;
    let registered = !lost.identityAddress.is_zero();
    let moving = if registered { &lost } else { &new };
    let identity = (registered || lost_successor == new_wallet).then_some(moving.identityAddress);
    let mut obstacles = Vec::new();
    match identity {
        Some(_) => {}
        None if lost_successor.is_zero() => obstacles.push(
            Refusal::new(Reason::IdentityNotFound, "the lost wallet has no identity in the tenant's registry")
                .meta("wallet", lost_wallet.to_checksum(None)),
        ),
        None => obstacles.push(identities::recovered_before(lost_wallet, lost_successor)),
    }
    if !new_successor.is_zero() {
        obstacles.push(identities::recovered_before(new_wallet, new_successor));
    }
    if registered && !new.identityAddress.is_zero() && new.identityAddress != lost.identityAddress {
        obstacles.push(
            Refusal::new(Reason::IdentityExists, "the new wallet belongs to another identity")
                .meta("wallet", new_wallet.to_checksum(None))
                .meta("identity", new.identityAddress.to_checksum(None)),
        );
    }
    if registered {
        obstacles.extend(missing_key(chain, system, lost.identityAddress, new_wallet, block).await?);
        if let Some(sender) = sender
            && !chain.read_at(registry, RegistryAdministration::isAgentCall { account: sender }, block).await?
        {
            obstacles.push(systems::missing(sender, SystemRole::IdentityManager));
        }
    }
    let looks = candidates.into_iter().map(|asset| look(chain, recovery, asset, block));
    let (mut at_stake, mut of_assets) = (Vec::new(), Vec::new());
    for (asset, in_the_way) in bounded(looks).await?.into_iter().flatten() {
        at_stake.push(asset);
        of_assets.extend(in_the_way);
    }
    if identity.is_some() && !registered && at_stake.is_empty() {
        obstacles.push(
            Refusal::new(
                Reason::NothingToRecover,
                "the wallet is recovered already and has nothing left in these assets",
            )
            .meta("successor", new_wallet.to_checksum(None)),
        );
    }
    obstacles.extend(of_assets);
    Ok(RecoveryView {
        identity,
        country: moving.country,
        registered,
        assets: at_stake,
        obstacles,
        block_number: head.number,
    })
}

/// What the lost wallet has in an asset, if anything, and why it could not be moved.
async fn look(
    chain: &ChainReader,
    recovery: Recovery,
    asset: Address,
    block: BlockId,
) -> Result<Option<(AssetAtStake, Vec<Refusal>)>, Refusal> {
    let account = recovery.lost_wallet;
    let (balance, frozen, held, address_frozen) = futures::try_join!(
        chain.read_at(asset, AssetToken::balanceOfCall { account }, block),
        chain.read_at(asset, AssetToken::getFrozenTokensCall { account }, block),
        chain.read_at(asset, AssetToken::heldOfCall { account }, block),
        chain.read_at(asset, AssetToken::isFrozenCall { account }, block),
    )?;
    // What was recovered keeps its freeze, so that the lost wallet stays barred; that is nothing to move.
    let moved = chain.read_at(asset, AssetToken::currentWalletCall { wallet: account }, block).await? != account;
    if balance.is_zero() && (moved || !address_frozen) {
        return Ok(None);
    }
    let mut obstacles = Vec::new();
    let of_new = AssetToken::currentWalletCall { wallet: recovery.new_wallet };
    if chain.read_at(asset, of_new, block).await? != recovery.new_wallet {
        obstacles.push(
            Refusal::new(Reason::RecoveryRefused, "the asset has itself recovered from the new wallet")
                .meta("asset", asset.to_checksum(None)),
        );
    }
    if let Some(sender) = recovery.sender {
        let custodian = AssetToken::hasCall { account: sender, roleMask: roles::asset::CUSTODIAN };
        if !chain.read_at(asset, custodian, block).await? {
            obstacles.push(assets::missing_role(asset, sender, "custodian"));
        }
    }
    Ok(Some((AssetAtStake { asset, balance, frozen, held, address_frozen }, obstacles)))
}

/// An identity that is not of our factory keeps its own keys: the new wallet must hold one already.
async fn missing_key(
    chain: &ChainReader,
    system: &SystemAddresses,
    identity: Address,
    new_wallet: Address,
    block: BlockId,
) -> Result<Option<Refusal>, Refusal> {
    let native = IdentityFactory::isNativeCall { identity };
    if chain.read_at(system.identity_factory, native, block).await?
        || identities::manages(chain, identity, new_wallet).await?
    {
        return Ok(None);
    }
    let refusal = Refusal::new(Reason::RecoveryKeyMissing, "the new wallet holds no management key of the identity")
        .meta("identity", identity.to_checksum(None))
        .meta("new_wallet", new_wallet.to_checksum(None));
    Ok(Some(refusal))
}
