//! A tenant's feed contracts, topics, issuers and rights, as the chain shows them.

use crate::{decoder::GRANTED_BY, domain::feed::Pair, store::systems::FeedSystem};
use alloy::primitives::{Address, B256, U256, keccak256};
use dalp_contracts::{
    bindings::{FeedsDirectory, Identity, IdentityRegistry, System, TopicSchemeRegistry},
    encode::key_of,
    roles::names,
};
use dalp_domain::{ChainReader, ReadError};
use dalp_service::{Reason, Refusal};

/// ERC-734 purpose of keys that sign claims and updates.
const CLAIM: u64 = 3;

/// The feed contracts that a system's address book names.
pub async fn feed_system(chain: &ChainReader, system: Address) -> Result<FeedSystem, Refusal> {
    let named = |name: B256| async move {
        let found = chain.read(system, System::getCall { name }).await?;
        if found.is_zero() {
            return Err(Refusal::new(
                Reason::SystemNotBootstrapped,
                "the tenant's system on this chain has no feed contracts",
            ));
        }
        Ok(found)
    };
    let (directory, factory, batch, identity_registry, topic_schemes) = futures::try_join!(
        named(names::FEEDS_DIRECTORY),
        named(names::SCALAR_FEED_FACTORY),
        named(names::FEED_BATCH),
        named(names::IDENTITY_REGISTRY),
        named(names::TOPIC_SCHEMES),
    )?;
    Ok(FeedSystem { system, directory, factory, batch, identity_registry, topic_schemes })
}

/// Refuses a topic that the chain does not know, or whose schema is not that of a scalar.
pub async fn require_scalar_topic(chain: &ChainReader, system: &FeedSystem, topic: U256) -> Result<(), Refusal> {
    let schema = chain.read(system.topic_schemes, TopicSchemeRegistry::schemaHashCall { topic }).await?;
    let named = |refusal: Refusal| refusal.meta("topic_id", format!("{topic:#066x}"));
    if schema.is_zero() {
        return Err(named(Refusal::new(Reason::TopicUnknown, "there is no such topic; register it first")));
    }
    if schema != keccak256("(int256 value)") && schema != keccak256("int256 value") {
        return Err(named(Refusal::new(Reason::FeedSchemaNotScalar, "the topic's schema is not (int256 value)")));
    }
    Ok(())
}

/// Refuses a sender who may not manage feeds of the subject.
pub async fn require_manager(
    chain: &ChainReader,
    system: &FeedSystem,
    sender: Address,
    subject: Address,
) -> Result<(), Refusal> {
    let asked = FeedsDirectory::mayManageCall { account: sender, subject };
    match chain.read(system.directory, asked).await? {
        true => Ok(()),
        false => Err(Refusal::new(Reason::RoleMissing, "the sender may not manage feeds of this subject")
            .meta("role", "feeds_manager")
            .meta("account", sender.to_checksum(None))
            .meta("granted_by", GRANTED_BY)),
    }
}

/// The identity of a registered wallet; none is a refusal.
pub async fn require_identity(chain: &ChainReader, system: &FeedSystem, wallet: Address) -> Result<Address, Refusal> {
    let identity = chain.read(system.identity_registry, IdentityRegistry::identityCall { wallet }).await?;
    if identity.is_zero() {
        return Err(Refusal::new(Reason::IdentityNotFound, "the wallet has no identity in the tenant's registry")
            .meta("wallet", wallet.to_checksum(None)));
    }
    Ok(identity)
}

/// The feed that the directory names for a pair now.
pub async fn current(chain: &ChainReader, system: &FeedSystem, pair: Pair) -> Result<Option<Address>, ReadError> {
    let asked = FeedsDirectory::currentCall { subject: pair.subject, topicId: pair.topic_id };
    let feed = chain.read(system.directory, asked).await?.feed;
    Ok((!feed.is_zero()).then_some(feed))
}

/// The pair's adapter for the decimals of its present feed.
pub async fn adapter(chain: &ChainReader, system: &FeedSystem, pair: Pair) -> Result<Option<Address>, ReadError> {
    let asked = FeedsDirectory::adapterOfCall { subject: pair.subject, topicId: pair.topic_id };
    let adapter = chain.read(system.directory, asked).await?;
    Ok((!adapter.is_zero()).then_some(adapter))
}

/// Whether a key signs for an identity. An identity that does not answer has no keys, as for the feed.
pub async fn signs_for(chain: &ChainReader, identity: Address, key: Address) -> Result<bool, ReadError> {
    let asked = Identity::keyHasPurposeCall { key: key_of(key), purpose: U256::from(CLAIM) };
    match chain.read(identity, asked).await {
        Err(error) if error.is_unavailable() => Err(error),
        answer => Ok(answer.unwrap_or(false)),
    }
}
