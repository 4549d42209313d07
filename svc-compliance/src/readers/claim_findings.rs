//! Each topic of a claim policy, with what every trusted issuer says: the registry itself names only the first that is missing.

use super::{ReadError, bounded, simulation::Scene};
use crate::domain::{
    advice::{Figures, Veto, veto},
    claim::TopicName,
};
use alloy::primitives::{Address, U256};
use dalp_contracts::{
    bindings::{IdentityFactory, IdentityRegistry, RegistryAdministration, TopicSchemeRegistry},
    revert::reason_text,
};
use dalp_service::Refusal;
use futures::try_join;
use std::collections::BTreeMap;

/// One alternative of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Topics that must be attested.
    pub(super) all_of: Vec<U256>,
    /// Topics that must not be.
    pub(super) none_of: Vec<U256>,
}

/// Of whom a policy is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claims<'a> {
    pub(super) wallet: Address,
    /// Zero: not registered, and nothing is found.
    pub(super) identity: Address,
    pub(super) groups: &'a [Group],
}

/// What is found of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimFinding {
    /// Of whom it is asked.
    pub wallet: Address,
    /// Which alternative asks for it.
    pub group: u32,
    /// Name, or hex.
    pub topic: String,
    /// Whether it must be absent.
    pub forbidden: bool,
    /// Why it is not as the policy wants it.
    pub veto: Option<Veto>,
    /// What each issuer trusted for the topic says.
    pub issuers: Vec<IssuerFinding>,
}

/// What is found of a trusted issuer's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerFinding {
    /// Identity of the issuer.
    pub issuer: Address,
    /// Why its claim does not count.
    pub reason: Option<String>,
}

/// A topic as one identity has it.
#[derive(Debug, Clone)]
struct Standing {
    attested: bool,
    /// Why it is not attested.
    reason: String,
    issuers: Vec<IssuerFinding>,
}

/// Looks at every topic that the policy names.
pub(super) async fn find(scene: &Scene<'_>, claims: Claims<'_>) -> Result<Vec<ClaimFinding>, Refusal> {
    if claims.identity.is_zero() {
        return Ok(Vec::new());
    }
    let named: std::collections::BTreeSet<U256> =
        claims.groups.iter().flat_map(|group| group.all_of.iter().chain(&group.none_of)).copied().collect();
    let looks = named.into_iter().map(|topic| async move { Ok((topic, standing(scene, claims, topic).await?)) });
    let found: BTreeMap<U256, Standing> = bounded(looks).await?.into_iter().collect();
    let native = IdentityFactory::isNativeCall { identity: claims.identity };
    let native = scene.chain.read_at(scene.system.identity_factory, native, scene.block).await?;
    let mut findings = Vec::new();
    for (index, group) in claims.groups.iter().enumerate() {
        let asked =
            group.all_of.iter().map(|topic| (topic, false)).chain(group.none_of.iter().map(|topic| (topic, true)));
        for (topic, forbidden) in asked {
            let Some(standing) = found.get(topic) else { continue };
            let reason = match (forbidden, standing.attested) {
                (false, true) => None,
                (false, false) => Some(standing.reason.as_str()),
                (true, _) if !native => Some("ABSENCE_UNPROVABLE"),
                (true, true) => Some("CLAIM_FORBIDDEN"),
                (true, false) => None,
            };
            findings.push(ClaimFinding {
                wallet: claims.wallet,
                group: u32::try_from(index).unwrap_or(u32::MAX),
                topic: name_of(scene, *topic),
                forbidden,
                veto: reason.map(|reason| veto(reason, &Figures::new())),
                issuers: standing.issuers.clone(),
            });
        }
    }
    Ok(findings)
}

/// The name of a topic, or its id when the tenant did not register it here.
pub(super) fn name_of(scene: &Scene<'_>, topic: U256) -> String {
    scene.topics.get(&topic).cloned().unwrap_or_else(|| format!("{topic:#066x}"))
}

async fn standing(scene: &Scene<'_>, claims: Claims<'_>, topic: U256) -> Result<Standing, Refusal> {
    let (chain, registry, block) = (scene.chain, scene.system.identity_registry, scene.block);
    let one = IdentityRegistry::hasClaimCall { user: claims.wallet, topic };
    let any = IdentityRegistry::holdsAnyClaimCall { identityAddress: claims.identity, topic };
    let (attested, trusted, exists) = try_join!(
        chain.read_at(registry, one, block),
        chain.read_at(registry, RegistryAdministration::getTrustedIssuersForClaimTopicCall { topic }, block),
        chain.read_at(scene.system.topic_scheme_registry, TopicSchemeRegistry::existsCall { topic }, block),
    )?;
    let asks = trusted.into_iter().map(|issuer| async move {
        let check = IdentityRegistry::fullCheckCall { identityAddress: claims.identity, issuer, topic };
        let reason = match chain.read_at(registry, check, block).await {
            Ok(reason) => (!reason.is_zero()).then(|| reason_text(reason)),
            Err(error) if error.is_unavailable() => return Err(error.into()),
            // What an identity shows that is not well-formed makes the check fail.
            Err(_) => Some("CLAIM_MALFORMED".to_owned()),
        };
        Ok::<_, Refusal>(IssuerFinding { issuer, reason })
    });
    let issuers = bounded(asks).await?;
    let worst = issuers.iter().filter_map(|found| found.reason.as_deref()).find(|reason| *reason != "CLAIM_MISSING");
    let reason = match worst {
        _ if !exists => "TOPIC_RETIRED",
        Some(reason) => reason,
        None => match chain.read_at(registry, any, block).await {
            Ok(true) => "ISSUER_NOT_TRUSTED",
            Ok(false) | Err(ReadError::Reverted(_) | ReadError::NotThere(_)) => "CLAIM_MISSING",
            Err(error) => return Err(error.into()),
        },
    };
    Ok(Standing { attested, reason: reason.to_owned(), issuers })
}

/// The names of topics by their ids.
#[must_use]
pub fn names(topics: &[TopicName]) -> std::collections::HashMap<U256, String> {
    topics.iter().map(|topic| (topic.id(), topic.as_str().to_owned())).collect()
}
