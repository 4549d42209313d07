//! Identities and claims as the chain shows them.

use super::{ChainReader, Head, ReadError, bounded};
use crate::{
    domain::claim::{TopicName, expiry_of},
    store::systems::SystemAddresses,
};
use alloy::primitives::{Address, B256, Bytes, U256};
use dalp_contracts::{
    bindings::{AssetFactory, AssetToken, Identity, IdentityRegistry, RegistryAdministration, TopicSchemeRegistry},
    encode::{claim_id, key_of},
};
use dalp_service::{Reason, Refusal};

/// A participant on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityView {
    /// Identity contract.
    pub identity: Address,
    /// ISO 3166-1 numeric.
    pub country: u16,
    /// Its claims of the topics that we know.
    pub claims: Vec<ClaimView>,
}

/// A claim on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimView {
    /// ERC-735 claim id.
    pub claim_id: B256,
    /// Topic.
    pub topic: U256,
    /// Identity of the issuer.
    pub issuer: Address,
    /// Data.
    pub data: Bytes,
    /// Unix seconds, 0 never.
    pub expires_at: u64,
    /// Whether it counts now.
    pub live: bool,
}

/// The identity of a registered wallet.
pub async fn identity_of(
    chain: &ChainReader,
    system: &SystemAddresses,
    wallet: Address,
) -> Result<Option<Address>, Refusal> {
    let identity = chain.read(system.identity_registry, IdentityRegistry::identityCall { wallet }).await?;
    Ok((!identity.is_zero()).then_some(identity))
}

/// As [`identity_of`]; none is a refusal.
pub async fn require_identity(
    chain: &ChainReader,
    system: &SystemAddresses,
    wallet: Address,
) -> Result<Address, Refusal> {
    identity_of(chain, system, wallet).await?.ok_or_else(|| {
        Refusal::new(Reason::IdentityNotFound, "the wallet has no identity in the tenant's registry")
            .meta("wallet", wallet.to_checksum(None))
    })
}

/// Refuses a wallet that was recovered from: it never comes back.
pub async fn require_not_recovered(
    chain: &ChainReader,
    system: &SystemAddresses,
    wallet: Address,
) -> Result<(), Refusal> {
    let successor = chain.read(system.identity_registry, IdentityRegistry::successorCall { wallet }).await?;
    if successor.is_zero() { Ok(()) } else { Err(recovered_before(wallet, successor)) }
}

pub(super) fn recovered_before(wallet: Address, successor: Address) -> Refusal {
    Refusal::new(Reason::WalletRecovered, "the wallet was recovered from")
        .meta("wallet", wallet.to_checksum(None))
        .meta("successor", successor.to_checksum(None))
}

/// The identity that a claim is about: that of a wallet, or an asset's own.
pub async fn subject(chain: &ChainReader, system: &SystemAddresses, subject: Address) -> Result<Address, Refusal> {
    match chain.read(system.asset_factory, AssetFactory::isAssetCall { token: subject }).await? {
        true => Ok(chain.read(subject, AssetToken::onchainIDCall {}).await?),
        false => require_identity(chain, system, subject).await,
    }
}

/// Whether the chain knows a topic.
pub async fn topic_exists(chain: &ChainReader, system: &SystemAddresses, topic: &TopicName) -> Result<bool, ReadError> {
    chain.read(system.topic_scheme_registry, TopicSchemeRegistry::existsCall { topic: topic.id() }).await
}

/// Refuses a topic that the chain does not know.
pub async fn require_topic(chain: &ChainReader, system: &SystemAddresses, topic: &TopicName) -> Result<(), Refusal> {
    if topic_exists(chain, system, topic).await? {
        return Ok(());
    }
    Err(Refusal::new(Reason::TopicUnknown, format!("there is no claim topic {}; register it first", topic.as_str()))
        .meta("topic", topic.as_str()))
}

/// The digest of the claim of an issuer about a topic.
pub async fn claim_digest(
    chain: &ChainReader,
    subject_identity: Address,
    issuer_identity: Address,
    topic: &TopicName,
) -> Result<B256, Refusal> {
    let meta = chain
        .read(subject_identity, Identity::claimMetaCall { claimId: claim_id(issuer_identity, topic.id()) })
        .await?;
    if meta.digest.is_zero() {
        return Err(Refusal::new(Reason::ClaimNotFound, "the identity holds no such claim of this issuer")
            .meta("topic", topic.as_str()));
    }
    Ok(meta.digest)
}

/// Whether a wallet holds a management key of an identity.
pub async fn manages(chain: &ChainReader, identity: Address, wallet: Address) -> Result<bool, ReadError> {
    chain.read(identity, Identity::keyHasPurposeCall { key: key_of(wallet), purpose: U256::ONE }).await
}

/// An identity with its claims, at one block.
pub async fn view(
    chain: &ChainReader,
    system: &SystemAddresses,
    wallet: Address,
    topics: &[TopicName],
) -> Result<Option<IdentityView>, Refusal> {
    let head = chain.latest().await?;
    let block = head.id();
    let registration =
        chain.read_at(system.identity_registry, IdentityRegistry::registrationCall { wallet }, block).await?;
    if registration.identityAddress.is_zero() {
        return Ok(None);
    }
    let identity = registration.identityAddress;
    let ids = bounded(topics.iter().map(|topic| async move {
        Ok(chain.read_at(identity, Identity::getClaimIdsByTopicCall { topic: topic.id() }, block).await?)
    }));
    let ids = ids.await?.concat();
    let claims = bounded(ids.into_iter().map(|id| claim(chain, system, identity, id, head))).await?;
    Ok(Some(IdentityView { identity, country: registration.country, claims }))
}

async fn claim(
    chain: &ChainReader,
    system: &SystemAddresses,
    identity: Address,
    id: B256,
    head: Head,
) -> Result<ClaimView, Refusal> {
    let block = head.id();
    let claim = chain.read_at(identity, Identity::getClaimCall { claimId: id }, block).await?;
    let meta = chain.read_at(identity, Identity::claimMetaCall { claimId: id }, block).await?;
    let trusted =
        RegistryAdministration::isTrustedForCall { issuer: claim.issuer, topic: claim.topic, subject: identity };
    let (trusted, known, live) = futures::try_join!(
        chain.read_at(system.identity_registry, trusted, block),
        chain.read_at(system.topic_scheme_registry, TopicSchemeRegistry::existsCall { topic: claim.topic }, block),
        async {
            // An issuer that does not answer, for instance a foreign one, vouches for nothing here.
            match chain
                .read_at(claim.issuer, Identity::isClaimLiveCall { signer: meta.signer, digest: meta.digest }, block)
                .await
            {
                Err(error) if error.is_unavailable() => Err(error),
                answer => Ok(answer.unwrap_or(false)),
            }
        },
    )?;
    let expires_at = expiry_of(&claim.data);
    let live = trusted && known && live && (expires_at == 0 || head.timestamp_s < expires_at);
    Ok(ClaimView { claim_id: id, topic: claim.topic, issuer: claim.issuer, data: claim.data, expires_at, live })
}
