//! The attestor's word on what a payload does: asked for each new request that moves something, and again before a key is used when that was too long ago.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use alloy::primitives::{Address, B256, TxKind, hex};
use dalp_attestation::{
    Attestation, Judgement, Subject, Verdict,
    sealed::sealed,
    wire::{self, Answer},
};
use dalp_proto::attestation as proto;
use futures::future::join_all;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{SignOrder, Signer, drive::outcome};
use crate::{
    attestor::{Attestor, Away},
    config::Attestation as Mode,
    core::{moving::moves, payload::Payload},
    errors::SignerError,
    metric_definitions as names,
    store::{
        Store, StoreError,
        batch::Batcher,
        outcomes::Outcome,
        requests::{Status, StoredRequest},
    },
};

/// Batches of a chain under way at once: while one waits for the chain, the next gathers.
const LANES: usize = 4;
/// Chains with lanes of their own. Callers name chains, so there is an end to it; those beyond share lanes.
const CHAINS_MAX: usize = 32;
/// Bytes of one request to the attestor; its listener takes 4 MiB.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// The error beside the status of a request that waits for the attestor.
pub(super) const ATTESTOR_AWAY: &str = "ATTESTOR_UNAVAILABLE";
/// The error beside the status of a request on which the attestor reaches no verdict, though it is there.
pub(super) const UNDECIDED: &str = "ATTESTATION_UNDECIDED";
/// What the attestor says of a payload that it cannot read. It will not read it another time either.
const UNREADABLE: &str = "INVALID_FIELD";
/// Somebody whom the attestor took for a key of the tenant is none: the administrator of the system that vouches, or who gains by a settlement.
const KEY_UNKNOWN: &str = "KEY_UNKNOWN";

/// A payload to ask about.
#[derive(Debug, Clone)]
struct Question {
    subject: Subject,
    message: proto::Subject,
    /// Of a request that may be known: those keep the attestation they have.
    is_new: bool,
}

/// What came of a question.
#[derive(Debug, Clone)]
enum Told {
    /// The request was accepted before.
    Known,
    /// The attestor has judged it.
    Judged { attestation: Attestation, reason: String, detail: String, presumed_keys: Vec<Address> },
    /// It answers, and cannot judge this payload now.
    Undecided(String),
    /// It does not answer, or nothing that is believed.
    Away(String),
}

/// Asks the attestor for several requests at once, for those of each chain apart: one that stands still holds no other up.
pub(super) struct Desk {
    /// Makes lanes.
    open: Box<dyn Fn() -> Arc<Lanes> + Send + Sync>,
    chains: Mutex<HashMap<u64, Arc<Lanes>>>,
    /// Of chains beyond [`CHAINS_MAX`].
    shared: Arc<Lanes>,
}

/// Batches under way.
struct Lanes {
    lanes: Vec<Batcher<Question, Told>>,
    next: AtomicUsize,
}

/// Whether a stored request may be signed now, as far as the attestor goes.
pub(super) enum Cover {
    /// It may; with its attestation, which may be a new one.
    Stands(Box<StoredRequest>),
    /// It may not, or not yet.
    Lacks(Outcome),
}

// === impl Desk ===

impl Desk {
    /// Needs a runtime.
    pub(super) fn new(attestor: Arc<dyn Attestor>, store: &Store, longest_s: u64) -> Self {
        let store = store.clone();
        let lane = move || {
            let (attestor, store) = (Arc::clone(&attestor), store.clone());
            Batcher::spawn("attestations", move |batch| {
                let (attestor, store) = (Arc::clone(&attestor), store.clone());
                async move { ask(attestor.as_ref(), &store, longest_s, batch).await }
            })
        };
        let open = move || {
            let lanes = (0..LANES).map(|_| lane()).collect();
            Arc::new(Lanes { lanes, next: AtomicUsize::new(0) })
        };
        Self { shared: open(), open: Box::new(open), chains: Mutex::default() }
    }

    async fn ask(&self, question: Question) -> Result<Told, StoreError> {
        self.lanes_of(question.subject.chain_id).submit(question).await
    }

    fn lanes_of(&self, chain_id: u64) -> Arc<Lanes> {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let known = chains.len();
        match chains.get(&chain_id) {
            Some(lanes) => Arc::clone(lanes),
            None if known < CHAINS_MAX => Arc::clone(chains.entry(chain_id).or_insert_with(|| (self.open)())),
            None => Arc::clone(&self.shared),
        }
    }
}

// === impl Lanes ===

impl Lanes {
    async fn submit(&self, question: Question) -> Result<Told, StoreError> {
        let lane = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        self.lanes[lane].submit(question).await
    }
}

async fn ask(
    attestor: &dyn Attestor,
    store: &Store,
    longest_s: u64,
    batch: Vec<Question>,
) -> Vec<Result<Told, StoreError>> {
    let new: Vec<Uuid> =
        batch.iter().filter(|question| question.is_new).map(|question| question.subject.request_id).collect();
    let known: HashSet<Uuid> = match store.known(&new).await {
        Ok(known) => known,
        Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
    };
    let is_known = |question: &Question| question.is_new && known.contains(&question.subject.request_id);
    let asked: Vec<&Question> = batch.iter().filter(|question| !is_known(question)).collect();
    let begun = Instant::now();
    let told = join_all(chunks(&asked).into_iter().map(|chunk| ask_for(attestor, longest_s, chunk))).await;
    if !asked.is_empty() {
        metrics::histogram!(names::ATTEST_SECONDS).record(begun.elapsed().as_secs_f64());
    }
    let mut told = told.into_iter().flatten();
    let answer = |question: &Question| match is_known(question) {
        true => Told::Known,
        false => told.next().unwrap_or_else(|| Told::Away("no answer".to_owned())),
    };
    batch.iter().map(answer).map(Ok).collect()
}

/// Requests that each fit into one message, of one chain; what is alone larger goes alone.
fn chunks<'q>(questions: &[&'q Question]) -> Vec<Vec<&'q Question>> {
    let mut chunks: Vec<Vec<&Question>> = Vec::new();
    let mut bytes = 0;
    for question in questions {
        let size = prost::Message::encoded_len(&question.message);
        let fits = |chunk: &Vec<&Question>| {
            bytes + size <= BYTES_MAX
                && chunk.len() < wire::SUBJECTS_MAX
                && chunk.last().is_some_and(|other| other.subject.chain_id == question.subject.chain_id)
        };
        match chunks.last_mut() {
            Some(chunk) if fits(chunk) => chunk.push(question),
            _ => {
                chunks.push(vec![question]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    chunks
}

async fn ask_for(attestor: &dyn Attestor, longest_s: u64, questions: Vec<&Question>) -> Vec<Told> {
    let messages = questions.iter().map(|question| question.message.clone()).collect();
    let answers = match attestor.attest(messages).await {
        Ok(answers) if answers.len() == questions.len() => answers,
        Ok(answers) => {
            return away(&questions, &Away(format!("{} answers to {} questions", answers.len(), questions.len())));
        }
        Err(error) => return away(&questions, &error),
    };
    let now_s = now_s();
    let believe = |(question, answer): (&&Question, &proto::Attestation)| match wire::accept(
        &question.subject,
        answer,
        now_s,
        longest_s,
    ) {
        Ok(Answer::Judged { attestation, reason, detail, presumed_keys }) => {
            count(attestation.judgement.verdict.as_str());
            Told::Judged { attestation, reason, detail, presumed_keys }
        }
        Ok(Answer::Away { detail }) => {
            count("AWAY");
            Told::Away(detail)
        }
        Ok(Answer::Undecided { reason, detail }) if reason == UNREADABLE => {
            count(Verdict::Veto.as_str());
            let attestation = refused_by_us(&question.subject, now_s, longest_s);
            Told::Judged { attestation, reason, detail, presumed_keys: vec![] }
        }
        Ok(Answer::Undecided { reason, detail }) => {
            count("UNDECIDED");
            Told::Undecided(format!("{reason}: {detail}"))
        }
        Err(error) => {
            tracing::error!(request_id = %question.subject.request_id, %error, "the attestor's answer is not believed");
            count("DISBELIEVED");
            Told::Away(error.to_string())
        }
    };
    questions.iter().zip(&answers).map(believe).collect()
}

/// A veto over what the attestor cannot read, and so cannot bind: reached at no block, under no rules.
fn refused_by_us(subject: &Subject, now_s: u64, longest_s: u64) -> Attestation {
    let judgement = Judgement {
        verdict: Verdict::Veto,
        block_number: 0,
        block_hash: B256::ZERO,
        ruleset: B256::ZERO,
        expires_at_s: now_s.saturating_add(longest_s),
    };
    Attestation::of(subject, judgement)
}

/// The attestor's pass turned into the veto that it is once a key it presumed is none of the tenant's.
fn turned(subject: &Subject, passed: &Attestation) -> Attestation {
    Attestation::of(subject, Judgement { verdict: Verdict::Veto, ..passed.judgement })
}

fn away(questions: &[&Question], error: &Away) -> Vec<Told> {
    tracing::warn!(%error, requests = questions.len(), "the attestor gives no verdict");
    questions
        .iter()
        .map(|_| {
            count("AWAY");
            Told::Away(error.to_string())
        })
        .collect()
}

// === impl Signer ===

impl Signer {
    /// Asks the attestor about a new request, unless it moves nothing. `None`: it needs no attestation, or was accepted before.
    pub(super) async fn attest(&self, order: &SignOrder) -> Result<Option<Attestation>, SignerError> {
        if !self.needs_attestation(&order.payload, order.signer) {
            return Ok(None);
        }
        let asked = question(order.request_id, &order.tenant, order.signer, &order.payload, true);
        // What is signed must be what is judged.
        let asked = asked.filter(|asked| !is_statement(&order.payload) || asked.subject.content == order.digest);
        self.judged(asked).await
    }

    fn needs_attestation(&self, payload: &Payload, signer: Address) -> bool {
        self.attestation == Mode::Required && moves(payload, signer)
    }

    async fn judged(&self, asked: Option<Question>) -> Result<Option<Attestation>, SignerError> {
        let (Some(desk), Some(asked)) = (&self.desk, asked) else { return Err(SignerError::AttestationRequired) };
        let subject = asked.subject.clone();
        match desk.ask(asked).await? {
            Told::Known => Ok(None),
            Told::Undecided(why) => Err(SignerError::AttestationUndecided(why)),
            Told::Away(why) => Err(SignerError::AttestorUnavailable(why)),
            Told::Judged { attestation, reason, detail, presumed_keys } => {
                let refused = |attestation, reason, detail| SignerError::AttestationRefused {
                    attestation: Box::new(attestation),
                    reason,
                    detail,
                };
                if attestation.judgement.verdict == Verdict::Veto {
                    return Err(refused(attestation, reason, detail));
                }
                for key in presumed_keys {
                    match self.key(&subject.tenant, key).await {
                        Ok(_) => {}
                        Err(SignerError::KeyNotFound { .. }) => {
                            let detail = format!(
                                "{key} administers the system or gains a foreign token, and is no key of the tenant"
                            );
                            // What is stored of it must never read as a pass.
                            let veto = turned(&subject, &attestation);
                            return Err(refused(veto, KEY_UNKNOWN.to_owned(), detail));
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(Some(attestation))
            }
        }
    }

    /// Whether a stored request may be handed to its provider, or its signature released, now. An attestation that has expired is asked for anew.
    pub(super) async fn cover(&self, request: StoredRequest, payload: &Payload) -> Result<Cover, SignerError> {
        if !self.needs_attestation(payload, request.signer) {
            return Ok(Cover::Stands(Box::new(request)));
        }
        let asked = question(request.request_id, &request.tenant, request.signer, payload, false);
        let covered = |asked: &Question| request.attestation.is_some_and(|held| held.covers(&asked.subject, now_s()));
        if asked.as_ref().is_some_and(covered) {
            return Ok(Cover::Stands(Box::new(request)));
        }
        match self.judged(asked).await {
            Ok(Some(attestation)) => {
                self.store.reattest(request.request_id, &attestation).await?;
                Ok(Cover::Stands(Box::new(StoredRequest { attestation: Some(attestation), ..request })))
            }
            Ok(None) => Err(SignerError::AttestationRequired),
            Err(SignerError::AttestorUnavailable(why)) => {
                Ok(Cover::Lacks(outcome(&request, Status::Pending, why, ATTESTOR_AWAY)))
            }
            Err(SignerError::AttestationUndecided(why)) => {
                Ok(Cover::Lacks(outcome(&request, Status::Pending, why, UNDECIDED)))
            }
            Err(error @ SignerError::AttestationRequired) => {
                Ok(Cover::Lacks(outcome(&request, Status::Pending, error.to_string(), ATTESTOR_AWAY)))
            }
            Err(error) => {
                let SignerError::AttestationRefused { attestation, .. } = &error else { return Err(error) };
                self.store.reattest(request.request_id, attestation).await?;
                let code = error.code().as_str();
                Ok(Cover::Lacks(outcome(&request, Status::Denied, error.to_string(), code)))
            }
        }
    }
}

/// What is asked about a payload; `None` of one that the attestor does not know.
fn question(request_id: Uuid, tenant: &str, signer: Address, payload: &Payload, is_new: bool) -> Option<Question> {
    let content = match payload {
        Payload::Transaction(tx) => proto::subject::Content::Call(proto::Call {
            target: match tx.to() {
                TxKind::Call(target) => target.to_checksum(None),
                TxKind::Create => String::new(),
            },
            value_wei: tx.value_wei().to_string(),
            // The attestor, and whoever runs its nodes, learns a secret from the chain like everybody else.
            data: sealed(tx.data()).map_or_else(|| tx.data().to_string(), hex::encode_prefixed),
        }),
        Payload::Document(document) => {
            proto::subject::Content::Document(proto::Document { document_json: serde_json::to_string(document).ok()? })
        }
        Payload::Claim(claim) => proto::subject::Content::Claim(proto::Claim {
            identity: claim.identity.to_checksum(None),
            topic: claim.topic.to_string(),
            data: claim.data.to_string(),
        }),
        // It moves nothing, and is never asked about.
        Payload::AuditRoot(_) => return None,
    };
    let message = proto::Subject {
        request_id: request_id.to_string(),
        tenant: tenant.to_owned(),
        chain_id: payload.chain_id().unwrap_or_default(),
        sender: signer.to_checksum(None),
        content: Some(content),
    };
    let (subject, _) = wire::subject(&message).ok()?;
    Some(Question { subject, message, is_new })
}

/// Whether the key signs the very hash that the attestation binds.
fn is_statement(payload: &Payload) -> bool {
    !matches!(payload, Payload::Transaction(_))
}

fn now_s() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default()
}

fn count(outcome: &'static str) {
    metrics::counter!(names::ATTESTATIONS_TOTAL, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        let claim = crate::core::payload::Claim {
            identity: Address::repeat_byte(2),
            topic: B256::repeat_byte(3),
            data: alloy::primitives::Bytes::new(),
        };
        question(Uuid::from_u128(7), "bank", Address::repeat_byte(1), &Payload::Claim(claim), true).unwrap().subject
    }

    #[test]
    fn the_attestor_is_asked_without_the_secret() {
        use crate::core::{
            payload::UnsignedTransaction,
            reveal::{Leg, Terms, revealCall},
        };
        use alloy::{
            consensus::TxEip1559,
            primitives::{U256, aliases::U40, keccak256},
            sol_types::SolCall as _,
        };
        let secret = B256::repeat_byte(0xab);
        let leg = Leg { asset: Address::ZERO, from: Address::ZERO, to: Address::ZERO, amount: U256::ONE, chainId: 2 };
        let terms = Terms {
            salt: B256::ZERO,
            name: "Pair".to_owned(),
            cutoff: U40::from(9),
            autoExecute: false,
            hashKind: 1,
            hashlock: keccak256(secret),
            legs: vec![leg],
        };
        let asked = |secret| {
            let input = revealCall { terms: terms.clone(), secret }.abi_encode().into();
            let to = TxKind::Call(Address::repeat_byte(2));
            let tx = TxEip1559 { chain_id: 1, to, input, ..Default::default() };
            let payload = Payload::Transaction(UnsignedTransaction::Eip1559(tx));
            question(Uuid::from_u128(7), "bank", Address::repeat_byte(1), &payload, true).unwrap()
        };
        let shown = asked(secret);
        assert!(!format!("{:?}", shown.message).contains("abab"));
        assert_eq!(shown.subject, asked(B256::ZERO).subject, "what is attested is the call without it");
    }

    #[test]
    fn a_refusal_of_ours_is_a_veto_over_the_same_subject() {
        let passed = Attestation::of(
            &subject(),
            Judgement {
                verdict: Verdict::Pass,
                block_number: 5,
                block_hash: B256::repeat_byte(4),
                ruleset: B256::repeat_byte(5),
                expires_at_s: 100,
            },
        );
        assert!(passed.covers(&subject(), 50));
        for veto in [turned(&subject(), &passed), refused_by_us(&subject(), 50, 60)] {
            assert_eq!(veto.judgement.verdict, Verdict::Veto);
            assert_eq!(veto, Attestation::of(&subject(), veto.judgement), "its hash is that of the veto");
            assert!(!veto.covers(&subject(), 50));
        }
    }
}
