//! Feeds as the chain shows them.

use crate::domain::feed::{History, Pair, SignedTerms, Terms};
use alloy::primitives::{Address, I256, U256, aliases::U80};
use dalp_contracts::bindings::{
    IdentityRegistry, IssuerSignedScalarFeed, IssuerSignedScalarFeedFactory, RegistryAdministration,
};
use dalp_domain::{ChainReader, ReadError};
use dalp_service::{Reason, Refusal};

/// A round as the aggregator interface tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnChainRound {
    /// Its id; adapters and foreign feeds use all 80 bits.
    pub round_id: U80,
    /// Value.
    pub value: I256,
    /// Unix seconds.
    pub observed_at: u64,
}

/// What a feed of a pair is pinned to. A contract that does not answer as an issuer-signed feed is an external one.
pub async fn terms(chain: &ChainReader, feed: Address, pair: Pair) -> Result<Terms, ReadError> {
    let signed = if_it_answers(chain.read(feed, IssuerSignedScalarFeed::termsCall {}).await)?;
    let description = if_it_answers(chain.read(feed, IssuerSignedScalarFeed::descriptionCall {}).await)?;
    let decimals = chain.read(feed, IssuerSignedScalarFeed::decimalsCall {}).await?;
    let signed = signed.and_then(|terms| {
        let history = match terms.historyMode {
            0 => History::LatestOnly,
            1 => History::Bounded { size: terms.historySize },
            2 => History::Full,
            _ => return None,
        };
        Some(SignedTerms {
            registry: terms.registry,
            schema_hash: terms.schemaHash,
            history,
            require_positive: terms.requirePositive,
            drift_allowance_s: terms.driftAllowance,
        })
    });
    Ok(Terms { pair, decimals, description: printable(&description.unwrap_or_default()), signed })
}

/// What a contract answers, if it knows the question at all.
#[allow(clippy::result_large_err)] // the reader's own error, passed on at once
fn if_it_answers<T>(answer: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match answer {
        Err(error) if error.is_unavailable() => Err(error),
        answer => Ok(answer.ok()),
    }
}

/// The terms of a feed that a factory made; `None` when it made none at the address.
pub async fn made_by(chain: &ChainReader, factory: Address, feed: Address) -> Result<Option<Terms>, ReadError> {
    if !chain.read(factory, IssuerSignedScalarFeedFactory::isFeedCall { feed }).await? {
        return Ok(None);
    }
    let pinned = chain.read(feed, IssuerSignedScalarFeed::termsCall {}).await?;
    terms(chain, feed, Pair { subject: pinned.subject, topic_id: pinned.topicId }).await.map(Some)
}

/// The nonce of the issuer's last accepted update.
pub async fn last_nonce(chain: &ChainReader, feed: Address, issuer: Address) -> Result<u64, ReadError> {
    let nonce = chain.read(feed, IssuerSignedScalarFeed::issuerNonceCall { issuer }).await?;
    Ok(nonce.saturating_to())
}

/// [`last_nonce`] of many pairs of feed and issuer, in few requests and in order.
pub async fn last_nonces(
    chain: &ChainReader,
    pairs: &[(Address, Address)],
) -> Result<Vec<Result<u64, ReadError>>, ReadError> {
    let mut calls = Vec::with_capacity(pairs.len());
    for (feed, issuer) in pairs.iter().copied() {
        calls.push((feed, IssuerSignedScalarFeed::issuerNonceCall { issuer }));
    }
    let mut nonces = Vec::with_capacity(pairs.len());
    for answer in chain.read_each(calls).await? {
        nonces.push(answer.map(|nonce| nonce.saturating_to()));
    }
    Ok(nonces)
}

/// The latest round, as a contract would read it.
pub async fn latest(chain: &ChainReader, feed: Address) -> Result<OnChainRound, Refusal> {
    let answer = chain.read(feed, IssuerSignedScalarFeed::latestRoundDataCall {}).await.map_err(unavailable)?;
    Ok(OnChainRound { round_id: answer._0, value: answer._1, observed_at: answer._3.saturating_to() })
}

/// One round, as a contract would read it; the feed refuses what it does not keep.
pub async fn round(chain: &ChainReader, feed: Address, round_id: U80) -> Result<OnChainRound, Refusal> {
    let asked = IssuerSignedScalarFeed::getRoundDataCall { roundId: round_id };
    let answer = chain.read(feed, asked).await.map_err(unavailable)?;
    Ok(OnChainRound { round_id: answer._0, value: answer._1, observed_at: answer._3.saturating_to() })
}

/// A foreign aggregator refuses in words of its own, which all mean that the round is not to be had.
fn unavailable(error: ReadError) -> Refusal {
    match error {
        ReadError::Reverted(data) if dalp_contracts::decode_revert(&data).contract_error.starts_with("0x") => {
            Refusal::new(Reason::FeedRoundUnavailable, "the feed does not have this round")
        }
        error => error.into(),
    }
}

/// Whether a registry trusts an issuer with a topic of a subject.
pub async fn trusts(chain: &ChainReader, registry: Address, issuer: Address, pair: Pair) -> Result<bool, ReadError> {
    let asked = RegistryAdministration::isTrustedForCall { issuer, topic: pair.topic_id, subject: pair.subject };
    chain.read(registry, asked).await
}

/// The identity contract that an address stands for: that of a registered wallet, or itself.
pub async fn issuer_of(chain: &ChainReader, registry: Address, named: Address) -> Result<Address, ReadError> {
    let identity = chain.read(registry, IdentityRegistry::identityCall { wallet: named }).await?;
    Ok(if identity.is_zero() { named } else { identity })
}

/// What PostgreSQL takes as text, and a page shows without harm; contracts may say anything.
fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(256).collect()
}

/// Round ids of our own feeds fit 64 bits.
#[must_use]
pub fn short(round_id: U80) -> u64 {
    U256::from(round_id).saturating_to()
}
