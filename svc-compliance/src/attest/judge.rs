//! Judges payloads at the latest block: who is who, what the rules say, what the chain makes of it. One request to a node simulates all of a batch.

use super::{
    acts::{self, Act, Moved, Promised},
    config::JudgedChain,
    directory::{Directory, NotAsked, preview},
    doubts::Doubts,
    operations::{self, OnItself, Ordered},
    ruling::{
        COUNTERPARTY_UNKNOWN, CREATION_UNKNOWN, Case, DOCUMENT_UNKNOWN, Standing, VALUE_FORBIDDEN, Veto, admits,
        admits_promised, left_to_compliance, rule, unknown_target, veto,
    },
    shown::{self, Shown},
};
use crate::{
    decoder::{ContractDecoder, PREVIEW},
    metric_definitions as metric,
};
use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::SolStruct as _,
};
use dalp_attestation::{Attestation, Judgement, Subject, Verdict, wire::Content};
use dalp_chain::{CallError, NodeErrorKind, TransactionRequest, Upstreams};
use dalp_contracts::{bindings::IssuerSignedScalarFeed::FeedUpdate, deployer::ENTRY_POINT};
use dalp_domain::{ChainReader, Head};
use dalp_engine::{Decoder as _, Failure};
use dalp_service::Reason;
use futures::{StreamExt as _, stream};
use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Payloads of one batch whose parties are looked up at once.
const AT_ONCE: usize = 32;
/// Parties of one payload that are looked up at once.
const PARTIES_AT_ONCE: usize = 8;
/// Movements of one call whose compliance is asked one by one; of longer lists the simulation alone says.
const MOVEMENTS_MAX: usize = 256;

/// What became of one payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A verdict.
    Judged {
        /// Bound to its subject.
        attestation: Attestation,
        /// Why it is a veto.
        veto: Option<Veto>,
        /// Addresses it takes for keys of the tenant.
        presumed_keys: Vec<Address>,
    },
    /// None, about this payload: why. Worth asking again.
    Undecided {
        /// Why it would be a veto, if nothing changes; else nothing.
        reason: String,
        /// For people.
        why: String,
    },
    /// None, about any payload of its chain: why.
    Away(String),
}

/// Why a payload does not pass, so far.
enum Unfit {
    Vetoed(Veto),
    NotAsked(String),
}

/// What the rules leave to the chain.
#[derive(Default)]
struct Questions {
    /// The call itself; documents and claims are none.
    call: Option<TransactionRequest>,
    /// What a wallet is told by a call that goes through whatever becomes of that.
    told: Option<TransactionRequest>,
    /// The state of the settlement whose secret the call shows.
    shown: Option<TransactionRequest>,
    /// Movements with their tokens.
    movements: Vec<(Address, Moved)>,
    presumed: Vec<Address>,
}

/// A call under judgement.
#[derive(Clone, Copy)]
struct Called<'a> {
    sender: Address,
    target: Address,
    value_wei: U256,
    data: &'a Bytes,
}

/// What a node said to a request; `None`: nothing.
type Answer = Option<Result<Bytes, CallError>>;

/// The judge of one chain.
pub struct Judge {
    chain: ChainReader,
    judged: JudgedChain,
    validity_s: u64,
    /// Version of the rules that it judges by, among others.
    ruleset: B256,
    directory: Directory,
    doubts: Doubts,
}

// === impl Judge ===

impl Judge {
    /// A judge over these nodes and rules; its verdicts may be used for so many seconds.
    #[must_use]
    pub fn new(chain: ChainReader, judged: JudgedChain, validity_s: u64, ruleset: B256) -> Self {
        let directory = Directory::new(chain.clone(), judged.clone());
        Self { chain, judged, validity_s, ruleset, directory, doubts: Doubts::default() }
    }

    /// Its nodes.
    #[must_use]
    pub fn upstreams(&self) -> &Upstreams {
        self.chain.upstreams()
    }

    /// Judges each payload by itself, all at one block. Fails where there is no block to judge at: that is no payload's fault. Each is of this chain, or of
    /// none.
    pub async fn judge(&self, subjects: &[&(Subject, Content)]) -> Result<Vec<Outcome>, NotAsked> {
        let begun = Instant::now();
        let head = self.chain.latest().await.map_err(|refusal| NotAsked(refusal.to_string()))?;
        if self.judged.is_stale(head.timestamp_s, now_s()) {
            let (height, time_s) = (head.number, head.timestamp_s);
            return Err(NotAsked(format!("the latest block is too old: {height}, of Unix time {time_s}")));
        }
        let outcomes = self.judge_at(subjects, head).await;
        metric::judged_within(self.chain.chain_id(), begun.elapsed().as_secs_f64());
        Ok(outcomes)
    }

    async fn judge_at(&self, subjects: &[&(Subject, Content)], head: Head) -> Vec<Outcome> {
        let asks: Vec<_> = subjects.iter().map(|asked| self.questions(&asked.0, &asked.1, head)).collect();
        let ruled: Vec<Result<Questions, Unfit>> = stream::iter(asks).buffered(AT_ONCE).collect().await;
        let mut requests = Vec::new();
        for questions in ruled.iter().flatten() {
            requests.extend(questions.call.clone());
            requests.extend(questions.told.clone());
            requests.extend(questions.shown.clone());
            requests.extend(questions.movements.iter().map(|(token, moved)| preview(*token, moved)));
        }
        let answers = if requests.is_empty() {
            Ok(Vec::new())
        } else {
            self.chain.upstreams().calls(&requests, head.id()).await.map_err(|error| error.to_string())
        };
        let mut answers = answers.map(Vec::into_iter);
        let mut outcomes = Vec::with_capacity(subjects.len());
        for (asked, ruled) in subjects.iter().zip(ruled) {
            let decided = match (ruled, &mut answers) {
                (Err(unfit), _) => Err(unfit),
                (Ok(_), Err(away)) => Err(Unfit::NotAsked(away.clone())),
                (Ok(questions), Ok(answers)) => {
                    let call = questions.call.map(|_| answers.next());
                    let told = questions.told.map(|_| answers.next());
                    let shown = questions.shown.map(|_| answers.next());
                    let previews: Vec<_> = questions.movements.iter().map(|_| answers.next()).collect();
                    answered(call, told, shown, previews).map(|()| questions.presumed)
                }
            };
            outcomes.push(self.outcome(&asked.0, decided, head));
        }
        outcomes
    }

    fn outcome(&self, subject: &Subject, decided: Result<Vec<Address>, Unfit>, head: Head) -> Outcome {
        let judged = |verdict, veto, mut presumed_keys: Vec<Address>| {
            presumed_keys.sort_unstable();
            presumed_keys.dedup();
            let judgement = Judgement {
                verdict,
                block_number: head.number,
                block_hash: head.hash,
                ruleset: self.ruleset,
                expires_at_s: now_s() + self.validity_s,
            };
            Outcome::Judged { attestation: Attestation::of(subject, judgement), veto, presumed_keys }
        };
        match decided {
            Ok(presumed) => {
                self.doubts.settle(subject.request_id);
                judged(Verdict::Pass, None, presumed)
            }
            Err(Unfit::Vetoed(veto))
                if self.doubts.confirms(subject.request_id, head.number, self.judged.second_look_blocks) =>
            {
                judged(Verdict::Veto, Some(veto), vec![])
            }
            Err(Unfit::Vetoed(Veto { reason, detail })) => {
                let why = format!("to be looked at again: {reason}: {detail}");
                Outcome::Undecided { reason, why }
            }
            Err(Unfit::NotAsked(why)) => Outcome::Undecided { reason: String::new(), why },
        }
    }

    /// What the rules say, and what they leave to the chain.
    async fn questions(&self, subject: &Subject, content: &Content, head: Head) -> Result<Questions, Unfit> {
        let tenant = subject.tenant.as_str();
        match content {
            Content::Call { target: None, value_wei, data } => {
                self.creation(tenant, subject.sender, *value_wei, data, head).await
            }
            Content::Call { target: Some(target), value_wei, data } => {
                let called = Called { sender: subject.sender, target: *target, value_wei: *value_wei, data };
                self.call(tenant, called, head).await
            }
            Content::Document(document) => {
                if let Some(ordered) = operations::approved(document, self.chain.chain_id()) {
                    let ordered = ordered.map_err(Unfit::Vetoed)?;
                    // Nothing is sent yet: what the wallet would do is run as the entry point has it done.
                    let mut questions = Questions { call: Some(told(&ordered)), ..Questions::default() };
                    self.operation(tenant, &ordered, head, &mut questions).await?;
                    return Ok(questions);
                }
                let known = document.encode_type().ok().as_deref() == Some(&*FeedUpdate::eip712_encode_type());
                match subject.target.filter(|_| known) {
                    Some(feed) => self.about(tenant, feed, head).await,
                    None => Err(Unfit::Vetoed(veto(
                        DOCUMENT_UNKNOWN,
                        format!("{} is no document that the attestor understands", document.primary_type),
                    ))),
                }
            }
            Content::Claim { identity, .. } => self.about(tenant, *identity, head).await,
        }
    }

    async fn creation(
        &self,
        tenant: &str,
        sender: Address,
        value_wei: U256,
        code: &Bytes,
        head: Head,
    ) -> Result<Questions, Unfit> {
        if !value_wei.is_zero() {
            return Err(Unfit::Vetoed(veto(VALUE_FORBIDDEN, "a creation carries no value".to_owned())));
        }
        let Some(found) = self.directory.creates(tenant, code, head).await? else {
            return Err(Unfit::Vetoed(veto(CREATION_UNKNOWN, "the code is none that the platform creates".to_owned())));
        };
        let call = TransactionRequest::default().from(sender).input(code.clone().into());
        Ok(Questions { call: Some(call), presumed: found.presumes.into_iter().collect(), ..Questions::default() })
    }

    /// A statement about a contract of the tenant.
    async fn about(&self, tenant: &str, contract: Address, head: Head) -> Result<Questions, Unfit> {
        let called = Called { sender: Address::ZERO, target: contract, value_wei: U256::ZERO, data: &Bytes::new() };
        let (mut questions, mut presumed) = (Questions::default(), Vec::new());
        self.ruled(tenant, called, &Act::States, head, &mut questions, &mut presumed).await?;
        questions.presumed = presumed;
        Ok(questions)
    }

    async fn call(&self, tenant: &str, called: Called<'_>, head: Head) -> Result<Questions, Unfit> {
        let Called { sender, target, value_wei, data } = called;
        let request = TransactionRequest::default().from(sender).to(target).value(value_wei).input(data.clone().into());
        let shown = shown::asked(target, data);
        let mut questions = Questions { call: Some(request), shown, ..Questions::default() };
        if let Some(ordered) = operations::handed_over(sender, target, data) {
            let ordered = ordered.map_err(Unfit::Vetoed)?;
            if !value_wei.is_zero() {
                let detail = "user operations are handed over without value".to_owned();
                return Err(Unfit::Vetoed(veto(VALUE_FORBIDDEN, detail)));
            }
            for one in &ordered {
                // The entry point's own call goes through even where the wallet's fail.
                questions.told = Some(told(one));
                self.operation(tenant, one, head, &mut questions).await?;
            }
            return Ok(questions);
        }
        if value_wei.is_zero() && self.directory.deploys(tenant, sender, target, data, head).await? {
            return Ok(questions);
        }
        let mut presumed = Vec::new();
        let act = acts::act_of(sender, data);
        self.ruled(tenant, called, &act, head, &mut questions, &mut presumed).await?;
        if let Act::Executes { target: inner, value_wei, data } = &act {
            let inner = Called { sender: target, target: *inner, value_wei: *value_wei, data };
            let act = acts::act_of(target, data);
            if matches!(act, Act::Executes { .. }) {
                return Err(Unfit::Vetoed(veto(
                    super::ruling::FUNCTION_FORBIDDEN,
                    "execute within execute".to_owned(),
                )));
            }
            self.ruled(tenant, inner, &act, head, &mut questions, &mut presumed).await?;
        }
        questions.presumed = presumed;
        Ok(questions)
    }

    /// A user operation: each of its calls is judged as one that the wallet makes, and which the tenant is asked to bear.
    async fn operation(
        &self,
        tenant: &str,
        ordered: &Ordered,
        head: Head,
        questions: &mut Questions,
    ) -> Result<(), Unfit> {
        operations::ends_in_time(ordered, head.timestamp_s).map_err(Unfit::Vetoed)?;
        let wallet = ordered.wallet;
        let Some(found) = self.directory.smart_wallet(tenant, wallet, head).await? else {
            return Err(Unfit::Vetoed(unknown_target(wallet)));
        };
        let mut presumed: Vec<Address> = found.presumes.into_iter().collect();
        let mut movements = 0;
        for call in &ordered.calls {
            if call.to == wallet {
                let change = operations::on_itself(call).map_err(Unfit::Vetoed)?;
                self.changes_signers(tenant, wallet, change, head, &mut presumed).await?;
                continue;
            }
            let act = acts::act_of(wallet, &call.data);
            if let Act::Moves(moved) = &act {
                movements += moved.len();
            }
            // Of longer lists compliance would not be asked one by one, and 32 calls could each have a list.
            if movements > MOVEMENTS_MAX {
                let detail = format!("a user operation moves tokens at most {MOVEMENTS_MAX} times");
                return Err(Unfit::Vetoed(veto(super::ruling::TOO_MANY_PARTIES, detail)));
            }
            if matches!(act, Act::Executes { .. }) {
                let detail = "execute within a user operation".to_owned();
                return Err(Unfit::Vetoed(veto(super::ruling::FUNCTION_FORBIDDEN, detail)));
            }
            let called = Called { sender: wallet, target: call.to, value_wei: call.value_wei, data: &call.data };
            self.ruled(tenant, called, &act, head, questions, &mut presumed).await?;
        }
        questions.presumed.extend(presumed);
        Ok(())
    }

    /// Who signs for a wallet decides over what it has. So whoever comes to sign is known to the tenant, or one of its keys.
    async fn changes_signers(
        &self,
        tenant: &str,
        wallet: Address,
        change: OnItself,
        head: Head,
        presumed: &mut Vec<Address>,
    ) -> Result<(), Unfit> {
        let coming = match change {
            OnItself::CancelsRecovery => return Ok(()),
            OnItself::Guardian(guardian) if guardian.is_zero() => return Ok(()),
            OnItself::Guardian(guardian) => vec![guardian],
            OnItself::Signers(signers) => {
                let present = self.directory.signers(wallet, head).await?;
                let coming = signers.into_iter().filter(|signer| !present.contains(signer));
                let coming = coming.map(|signer| {
                    <[u8; 20]>::try_from(&signer[..]).map(Address::from).map_err(|_| {
                        let detail = format!("{signer}, who would come to sign for {wallet}, is no address");
                        Unfit::Vetoed(veto(COUNTERPARTY_UNKNOWN, detail))
                    })
                });
                coming.collect::<Result<Vec<_>, _>>()?
            }
        };
        for account in coming {
            let party = self.directory.find(tenant, account, head).await?;
            presumed.extend(party.presumes);
            if party.standing == Standing::Unknown {
                presumed.push(account);
            }
        }
        Ok(())
    }

    async fn ruled(
        &self,
        tenant: &str,
        called: Called<'_>,
        act: &Act,
        head: Head,
        questions: &mut Questions,
        presumed: &mut Vec<Address>,
    ) -> Result<(), Unfit> {
        let Called { target, value_wei, data, .. } = called;
        let rules = &self.judged.rules;
        let found = self.directory.find(tenant, target, head).await?;
        presumed.extend(found.presumes);
        let case = Case {
            target,
            standing: found.standing,
            act,
            has_value: !value_wei.is_zero(),
            is_payee: rules.pays(tenant, target),
            is_listed_function: rules.lists_function(target, data),
            foreign_tokens: rules.foreign_tokens,
        };
        let parties = rule(&case).map_err(Unfit::Vetoed)?;
        let asks: Vec<_> = parties
            .into_iter()
            .map(|account| async move { (account, self.directory.find(tenant, account, head).await) })
            .collect();
        let mut parties = stream::iter(asks).buffered(PARTIES_AT_ONCE);
        // The first stranger decides; nobody is looked up after it.
        while let Some((account, party)) = parties.next().await {
            let party = party?;
            presumed.extend(party.presumes);
            let standing = match party.standing {
                Standing::Unknown if rules.pays(tenant, account) => Standing::Payee,
                standing => standing,
            };
            admits(act, account, standing).map_err(Unfit::Vetoed)?;
        }
        if let Act::Promises(promised) = act {
            self.promised(tenant, promised, head, presumed).await?;
        }
        let moved = left_to_compliance(found.standing, act);
        if moved.len() <= MOVEMENTS_MAX {
            questions.movements.extend(moved.into_iter().map(|moved| (target, moved)));
        }
        Ok(())
    }

    /// What a settlement takes away later. An asset's own compliance judges its movements then; of any other token nobody is asked again, so its receivers
    /// are looked at as if it moved now.
    async fn promised(
        &self,
        tenant: &str,
        promised: &[Promised],
        head: Head,
        presumed: &mut Vec<Address>,
    ) -> Result<(), Unfit> {
        let rules = &self.judged.rules;
        let mut by_asset: BTreeMap<Address, Vec<Moved>> = BTreeMap::new();
        for Promised { asset, moved } in promised {
            by_asset.entry(*asset).or_default().push(*moved);
        }
        for (target, moved) in by_asset {
            let found = self.directory.find(tenant, target, head).await?;
            // Whoever made the token one of the tenant's must be one of the tenant's.
            presumed.extend(found.presumes);
            match found.standing {
                Standing::Asset => continue,
                // A contract of the system that is no asset has no compliance that would judge its receivers, and no list that names it a token.
                Standing::Contract => return Err(Unfit::Vetoed(unknown_target(target))),
                _ => {}
            }
            let act = Act::Moves(moved);
            let case = Case {
                target,
                standing: found.standing,
                act: &act,
                has_value: false,
                is_payee: false,
                is_listed_function: false,
                foreign_tokens: rules.foreign_tokens,
            };
            for account in rule(&case).map_err(Unfit::Vetoed)? {
                let party = self.directory.find(tenant, account, head).await?;
                presumed.extend(party.presumes);
                if !rules.pays(tenant, account) {
                    presumed.extend(admits_promised(account, party.standing));
                }
            }
        }
        Ok(())
    }
}

/// What a wallet does once the entry point tells it.
fn told(ordered: &Ordered) -> TransactionRequest {
    TransactionRequest::default().from(ENTRY_POINT).to(ordered.wallet).input(ordered.call_data.clone().into())
}

/// What the chain has answered: the call goes through, and every movement may be made.
fn answered(
    call: Option<Answer>,
    told: Option<Answer>,
    shown: Option<Answer>,
    previews: Vec<Answer>,
) -> Result<(), Unfit> {
    let there = |answer: Answer| answer.ok_or_else(|| Unfit::NotAsked("a node left answers out".to_owned()));
    // Compliance first: its reason says more than that the whole call would fail.
    for answer in previews {
        let answer = there(answer)?.map_err(|error| refused(&error))?;
        ContractDecoder.judge(PREVIEW, &answer).map_err(|failure| Unfit::Vetoed(of(&failure)))?;
    }
    if let Some(told) = told.map(there).transpose()? {
        told.map_err(|error| refused(&error))?;
    }
    let call = call.map(there).transpose()?;
    match (call, shown.map(there).transpose()?) {
        (Some(call), Some(state)) => match shown::judged(call, state) {
            Shown::Opens => Ok(()),
            Shown::NotTold => Err(Unfit::NotAsked("a node hides why a call fails".to_owned())),
            Shown::Breached(veto) => Err(Unfit::Vetoed(veto)),
            Shown::Fails(error) => Err(refused(&error)),
        },
        (Some(call), None) => call.map(|_| ()).map_err(|error| refused(&error)),
        (None, _) => Ok(()),
    }
}

fn refused(error: &CallError) -> Unfit {
    match error {
        CallError::Revert(data) => Unfit::Vetoed(of(&ContractDecoder.decode_revert(data))),
        // A node that does not have the block we judge at is behind, or on another branch.
        CallError::Node(node) if node.kind == NodeErrorKind::BlockUnavailable => Unfit::NotAsked(error.to_string()),
        error if error.is_retryable() => Unfit::NotAsked(error.to_string()),
        error => Unfit::Vetoed(veto(Reason::SimulationReverted.as_str(), error.to_string())),
    }
}

/// Unix seconds by our own clock.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn of(failure: &Failure) -> Veto {
    Veto { reason: failure.reason.clone(), detail: failure.message.clone() }
}

impl From<NotAsked> for Unfit {
    fn from(NotAsked(why): NotAsked) -> Self {
        Self::NotAsked(why)
    }
}
