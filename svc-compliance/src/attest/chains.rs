//! Every chain that is judged, and which of them a payload belongs to. What one chain is asked waits for no other.

use super::{
    config::{AttestorConfig, JudgedChain},
    judge::{Judge, Outcome, now_s},
    ruleset,
    ruling::{Veto, veto},
};
use crate::metric_definitions as metric;
use alloy::primitives::B256;
use dalp_attestation::{Attestation, Judgement, Kind, Subject, Verdict, wire::Content};
use dalp_chain::{BlockNumberOrTag, Upstreams};
use dalp_domain::ChainReader;
use dalp_service::Reason;
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long a chain may take to tell its latest block, and to judge what others judge as well.
const PATIENCE: Duration = Duration::from_secs(3);
/// The chain of payloads of no chain that is judged, in metrics.
const NONE: &str = "none";

/// All chains.
pub struct Chains {
    config: AttestorConfig,
    chains: BTreeMap<u64, Served>,
    /// Version of all chains' rules.
    ruleset: B256,
}

/// One of them.
struct Served {
    /// Its name in the configuration.
    name: String,
    /// There once its nodes were found to serve it.
    judge: OnceLock<Judge>,
    /// Whether a node has ever told a block.
    told: AtomicBool,
}

/// How a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// EIP-155 id.
    pub chain_id: u64,
    /// Whether a node has told a block since the start.
    pub was_there: bool,
    /// Whether payloads of it can be judged now: a node answers, and its latest block is young enough.
    pub can_judge: bool,
}

/// Where a payload is judged.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// On this chain.
    One(u64),
    /// Wherever it may count, see [`Chains::claims_of`]: what a claim's issuer signs names no chain.
    Any,
    /// Nowhere.
    Nowhere,
}

// === impl Chains ===

impl Chains {
    /// Chains as they are configured; none of them has been looked at.
    #[must_use]
    pub fn new(config: AttestorConfig) -> Self {
        let rules = config.chains.values().map(|judged| (judged.chain.chain_id, &judged.rules));
        let ruleset = ruleset::version(rules);
        let served = |(name, judged): (&String, &JudgedChain)| {
            let served = Served { name: name.clone(), judge: OnceLock::new(), told: AtomicBool::new(false) };
            (judged.chain.chain_id, served)
        };
        let chains: BTreeMap<u64, Served> = config.chains.iter().map(served).collect();
        tracing::info!(%ruleset, chains = ?chains.keys(), "attestation rules");
        Self { config, chains, ruleset }
    }

    /// Looks at every chain; those that were not found before are looked for.
    pub async fn look(&self) -> Vec<Seen> {
        join_all(self.chains.iter().map(|(chain_id, served)| self.look_at(*chain_id, served))).await
    }

    async fn look_at(&self, chain_id: u64, served: &Served) -> Seen {
        let judged = &self.config.chains[&served.name];
        if served.judge.get().is_none() {
            match Upstreams::connect(judged.chain.clone()).await {
                Ok(upstreams) => {
                    let validity_s = self.config.attest.validity_s;
                    let judge = Judge::new(ChainReader::new(upstreams), judged.clone(), validity_s, self.ruleset);
                    let _ = served.judge.set(judge); // whoever was first stays
                }
                Err(error) => tracing::warn!(chain_id, %error, "waiting for the chain"),
            }
        }
        let head = async { served.judge.get()?.upstreams().block(BlockNumberOrTag::Latest).await.ok().flatten() };
        let head = tokio::time::timeout(PATIENCE, head).await.ok().flatten();
        if head.is_some() {
            served.told.store(true, Ordering::Relaxed);
        }
        let can_judge = head.is_some_and(|head| !judged.is_stale(head.timestamp_s, now_s()));
        metric::chain_ready(chain_id, can_judge);
        Seen { chain_id, was_there: served.told.load(Ordering::Relaxed), can_judge }
    }

    /// Judges each payload by itself, those of one chain at one block of it.
    pub async fn judge(&self, subjects: &[(Subject, Content)]) -> Vec<Outcome> {
        let mut found: Vec<Option<(u64, Outcome)>> = subjects.iter().map(|_| None).collect();
        let mut open: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, (subject, _)) in subjects.iter().enumerate() {
            match place(&self.chains, subject) {
                Place::One(chain_id) => open.entry(chain_id).or_default().push(index),
                Place::Any => {
                    self.claims_of(&subject.tenant).for_each(|id| open.entry(id).or_default().push(index));
                }
                Place::Nowhere => {}
            }
        }
        // Claims share a question with those of other chains, which a chain that does not answer must not hold up.
        let patience = if open.len() > 1 { PATIENCE } else { Duration::MAX };
        let asked = open.into_iter().map(|(chain_id, indices)| async move {
            let asked: Vec<_> = indices.iter().map(|index| &subjects[*index]).collect();
            let away =
                || indices.iter().map(|_| Outcome::Away(format!("chain {chain_id}: no answer in time"))).collect();
            let outcomes = tokio::time::timeout(patience, self.judge_on(chain_id, &asked)).await;
            (chain_id, outcomes.unwrap_or_else(|_| away()), indices)
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some((chain_id, outcomes, indices)) = asked.next().await {
            for (index, outcome) in indices.into_iter().zip(outcomes) {
                let best = &mut found[index];
                if best.as_ref().is_none_or(|(_, held)| says_more(&outcome, held)) {
                    *best = Some((chain_id, outcome));
                }
            }
            // What passes on one chain need not wait for the others, unless that rests on a key which may be nobody's of the tenant.
            let decided = |(place, found): (&(Subject, Content), &Option<(u64, Outcome)>)| match found {
                Some((_, outcome)) => standing_of(outcome) == MOST || place.0.kind != Kind::Claim,
                None => self::place(&self.chains, &place.0) == Place::Nowhere,
            };
            if subjects.iter().zip(&found).all(decided) {
                break;
            }
        }
        let outcomes = subjects.iter().zip(found).map(|((subject, _), found)| {
            let (chain_id, outcome) = match found {
                Some((chain_id, outcome)) => (chain_id.to_string(), outcome),
                None => (NONE.to_owned(), self.not_served(subject)),
            };
            told(&chain_id, subject, &outcome);
            outcome
        });
        outcomes.collect()
    }

    /// Where claims of a tenant are judged: where its systems are pinned, and wherever it may have some only if they are pinned nowhere. What anybody may
    /// put on a chain that is not pinned says nothing against what is.
    fn claims_of(&self, tenant: &str) -> impl Iterator<Item = u64> {
        let pinned = |judged: &JudgedChain| judged.rules.of(tenant).is_some_and(|rules| !rules.systems.is_empty());
        let (ours, others): (Vec<_>, Vec<_>) = self.config.chains.values().partition(|judged| pinned(judged));
        let asked = if ours.is_empty() { others } else { ours };
        asked.into_iter().map(|judged| judged.chain.chain_id)
    }

    async fn judge_on(&self, chain_id: u64, asked: &[&(Subject, Content)]) -> Vec<Outcome> {
        let away = |why: String| asked.iter().map(|_| Outcome::Away(why.clone())).collect();
        match self.chains.get(&chain_id).and_then(|served| served.judge.get()) {
            Some(judge) => match judge.judge(asked).await {
                Ok(outcomes) => outcomes,
                Err(error) => away(format!("chain {chain_id}: {error}")),
            },
            None => away(format!("chain {chain_id}: the attestor waits for its first node")),
        }
    }

    /// No chain's state decides it, so there is nothing to look at a second time.
    fn not_served(&self, subject: &Subject) -> Outcome {
        let judgement = Judgement {
            verdict: Verdict::Veto,
            block_number: 0,
            block_hash: B256::ZERO,
            ruleset: self.ruleset,
            expires_at_s: now_s() + self.config.attest.validity_s,
        };
        let served: Vec<String> = self.chains.keys().map(u64::to_string).collect();
        let detail = format!("chain {}: the attestor judges payloads of {}", subject.chain_id, served.join(", "));
        Outcome::Judged {
            attestation: Attestation::of(subject, judgement),
            veto: Some(veto(Reason::ChainNotServed.as_str(), detail)),
            presumed_keys: vec![],
        }
    }
}

fn place<V>(chains: &BTreeMap<u64, V>, subject: &Subject) -> Place {
    match subject.kind {
        Kind::Claim => Place::Any,
        Kind::Call | Kind::Document if chains.contains_key(&subject.chain_id) => Place::One(subject.chain_id),
        Kind::Call | Kind::Document => Place::Nowhere,
    }
}

/// Whether an outcome of another chain counts before the one that is held.
fn says_more(other: &Outcome, held: &Outcome) -> bool {
    standing_of(other) > standing_of(held)
}

/// The most that an outcome can count.
const MOST: u8 = 4;

/// How much an outcome counts beside those of other chains: a pass anywhere is one, most of all if it rests on nobody whom the signer has yet to find among
/// the tenant's keys, and a veto is none while a chain has not said its word.
fn standing_of(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Judged { attestation, presumed_keys, .. } if attestation.judgement.verdict == Verdict::Pass => {
            if presumed_keys.is_empty() {
                MOST
            } else {
                3
            }
        }
        Outcome::Away(_) => 2,
        Outcome::Undecided { .. } => 1,
        Outcome::Judged { .. } => 0,
    }
}

/// Counts an outcome, and says of a veto what it was.
fn told(chain: &str, subject: &Subject, outcome: &Outcome) {
    match outcome {
        Outcome::Judged { veto: None, .. } => metric::judged(chain, "pass", ""),
        Outcome::Judged { veto: Some(Veto { reason, detail }), .. } => {
            tracing::warn!(request_id = %subject.request_id, chain, tenant = subject.tenant, sender = %subject.sender, reason, detail, "vetoed");
            metric::judged(chain, "veto", reason);
        }
        Outcome::Undecided { reason, .. } => metric::judged(chain, "undecided", reason),
        Outcome::Away(_) => metric::judged(chain, "away", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{Address, U256};
    use uuid::Uuid;

    fn subject(kind: Kind, chain_id: u64) -> Subject {
        Subject {
            kind,
            tenant: "bank".to_owned(),
            chain_id,
            request_id: Uuid::from_u128(1),
            sender: Address::ZERO,
            target: None,
            value_wei: U256::ZERO,
            content: B256::ZERO,
        }
    }

    #[test]
    fn a_payload_is_judged_on_its_chain_and_a_claim_wherever_it_may_count() {
        let chains: BTreeMap<u64, ()> = [(1, ()), (2, ())].into();
        for kind in [Kind::Call, Kind::Document] {
            assert_eq!(place(&chains, &subject(kind, 2)), Place::One(2));
            assert_eq!(place(&chains, &subject(kind, 3)), Place::Nowhere);
            assert_eq!(place(&chains, &subject(kind, 0)), Place::Nowhere, "a document that names none");
        }
        assert_eq!(place(&chains, &subject(Kind::Claim, 0)), Place::Any);
    }

    #[test]
    fn a_veto_counts_once_every_chain_has_said_its_word() {
        let judged = |verdict| {
            let (block_hash, ruleset) = (B256::ZERO, B256::ZERO);
            let judgement = Judgement { verdict, block_number: 1, block_hash, ruleset, expires_at_s: 9 };
            let veto = (verdict == Verdict::Veto).then(|| veto("TARGET_UNKNOWN", String::new()));
            Outcome::Judged {
                attestation: Attestation::of(&subject(Kind::Claim, 0), judgement),
                veto,
                presumed_keys: vec![],
            }
        };
        let undecided = || Outcome::Undecided { reason: "TARGET_UNKNOWN".to_owned(), why: String::new() };
        let presuming = match judged(Verdict::Pass) {
            Outcome::Judged { attestation, veto, .. } => {
                Outcome::Judged { attestation, veto, presumed_keys: vec![Address::ZERO] }
            }
            other => other,
        };
        let away = Outcome::Away(String::new());
        let rising = [judged(Verdict::Veto), undecided(), away, presuming, judged(Verdict::Pass)];
        for (index, held) in rising.iter().enumerate() {
            for (other_index, other) in rising.iter().enumerate() {
                assert_eq!(says_more(other, held), other_index > index, "{other:?} beside {held:?}");
            }
        }
    }
}
