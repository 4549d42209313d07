//! A signer with the watermark rules of svc-signer, providers that hesitate, refuse and come late, and answers that are lost.

use super::{
    bug::Bug,
    ledger::encode,
    world::{World, locked},
};
use crate::{
    custody::KeyProvider,
    flow::{Failure, Signature},
    model::{LaneId, RequestId, TenantId},
    signer::{Intent, ProviderCall, SignError, SignOutcome, SignPayload, SignRequest, Signer, UnsignedTransaction},
};
use alloy::primitives::{Bytes, U256, keccak256};
use async_trait::async_trait;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Longer than any engine waits for an answer.
const FOR_EVER: Duration = Duration::from_secs(100_000);

/// What was decided of a request, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Approved,
    Denied,
    Expired,
}

#[derive(Debug, Clone)]
struct Request {
    payload: SignPayload,
    decision: Decision,
    decided_at: Instant,
    blocked: bool,
    /// Its key is asked for each signature, and keeps nothing of the request meanwhile.
    unkept: bool,
    withdrawn: bool,
    released: bool,
    /// Approved, and the answer given out at least once.
    signed: bool,
    deaf: bool,
    order: u64,
}

/// The signer's own database: it survives the engines.
#[derive(Default)]
pub(super) struct Vault {
    requests: BTreeMap<RequestId, Request>,
    watermarks: BTreeMap<(LaneId, u64), RequestId>,
    order: u64,
}

/// The signer as one replica reaches it.
pub(super) struct SimSigner {
    pub(super) world: Arc<World>,
    pub(super) replica: usize,
}

fn lane(unsigned: &UnsignedTransaction) -> LaneId {
    LaneId { chain_id: unsigned.chain_id, sender: unsigned.sender }
}

fn is_cancel(unsigned: &UnsignedTransaction) -> bool {
    unsigned.target == Some(unsigned.sender) && unsigned.value_wei == U256::ZERO && unsigned.data.is_empty()
}

fn same_content(one: &UnsignedTransaction, other: &UnsignedTransaction) -> bool {
    (one.target, one.value_wei, &one.data) == (other.target, other.value_wei, &other.data)
}

// === impl Request ===

impl Request {
    fn unsigned(&self) -> Option<&UnsignedTransaction> {
        self.payload.transaction()
    }

    fn outcome(&self) -> SignOutcome {
        let detail = || "simulated".to_owned();
        let provider = Some(if self.unkept { KeyProvider::Pkcs11 } else { KeyProvider::Dfns });
        if self.withdrawn {
            return SignOutcome::Denied(Failure::new("WITHDRAWN", detail()));
        }
        if self.decided_at > Instant::now() {
            return if self.blocked {
                SignOutcome::Blocked { provider, detail: detail() }
            } else {
                SignOutcome::Pending { provider, detail: detail() }
            };
        }
        match (self.decision, &self.payload) {
            (Decision::Denied, _) => SignOutcome::Denied(Failure::new("APPROVAL_DENIED", detail())),
            (Decision::Expired, _) => SignOutcome::Expired(Failure::new("APPROVAL_EXPIRED", detail())),
            (
                Decision::Approved,
                SignPayload::Transaction(unsigned) | SignPayload::Reveal { transaction: unsigned, .. },
            ) => {
                let raw = encode(unsigned);
                SignOutcome::SignedTransaction { tx_hash: keccak256(&raw), raw }
            }
            (Decision::Approved, SignPayload::Document(_) | SignPayload::ByProvider(_)) => {
                SignOutcome::Signed(Signature(Bytes::from_static(b"s")))
            }
        }
    }
}

// === impl Vault ===

impl Vault {
    /// One nonce, one intent: a second request for a nonce names the first and keeps its content, or cancels.
    fn claim(
        &mut self,
        id: RequestId,
        unsigned: &UnsignedTransaction,
        replaces: Option<RequestId>,
    ) -> Result<(), SignError> {
        let key = (lane(unsigned), unsigned.nonce);
        if let Some(holder) = self.watermarks.get(&key) {
            let held = self.requests.get(holder).and_then(Request::unsigned);
            let named = replaces.and_then(|named| self.requests.get(&named)).and_then(Request::unsigned);
            let names_it = named.is_some_and(|named| (lane(named), named.nonce) == key);
            let fits = is_cancel(unsigned) || held.is_some_and(|held| same_content(held, unsigned));
            if !names_it || !fits {
                return Err(SignError::WatermarkConflict { next_nonce: None });
            }
        }
        self.watermarks.insert(key, id);
        Ok(())
    }

    /// A refusal stands: whoever asks again is refused, too.
    fn refuse(&mut self, request: &SignRequest) {
        self.order += 1;
        let (payload, order) = (request.payload.clone(), self.order);
        let refused = Request {
            payload,
            decision: Decision::Denied,
            decided_at: Instant::now(),
            blocked: false,
            unkept: false,
            withdrawn: false,
            released: true,
            signed: false,
            deaf: false,
            order,
        };
        self.requests.insert(request.request_id, refused);
    }

    fn release(&mut self, id: RequestId) -> Result<(), SignError> {
        let now = Instant::now();
        let Some(request) = self.requests.get_mut(&id) else { return Err(SignError::NotFound) };
        if request.released {
            return Ok(());
        }
        if request.decided_at > now || request.decision == Decision::Approved {
            return Err(SignError::WatermarkConflict { next_nonce: None });
        }
        request.released = true;
        let Some(unsigned) = request.unsigned() else { return Ok(()) };
        let key = (lane(unsigned), unsigned.nonce);
        let may_use = |one: &Request| {
            !one.released && one.unsigned().is_some_and(|unsigned| (lane(unsigned), unsigned.nonce) == key)
        };
        let heir = self
            .requests
            .iter()
            .filter(|(_, one)| may_use(one))
            .max_by_key(|(_, one)| (one.decision == Decision::Approved && one.decided_at <= now, one.order));
        match heir.map(|(heir, _)| *heir) {
            Some(heir) if self.watermarks.get(&key) == Some(&id) => {
                self.watermarks.insert(key, heir);
            }
            Some(_) => {}
            None => {
                self.watermarks.remove(&key);
            }
        }
        Ok(())
    }
}

// === impl SimSigner ===

impl SimSigner {
    /// A request that the signer does not know yet: taken, with what its provider will decide.
    fn take(&self, request: &SignRequest) -> Result<(), SignError> {
        let mut vault = locked(&self.world.vault);
        if let Some(known) = vault.requests.get(&request.request_id) {
            if known.payload != request.payload {
                self.world.violated(format!("request {} with another content", request.request_id));
                return Err(SignError::Refused(Failure::new("REQUEST_ID_REUSED", "")));
            }
            return Ok(());
        }
        self.must_be_written(request);
        if self.world.draw(|rng, plan| rng.per_mille(plan.deny / 8)) {
            self.world.saw("refused by the signer");
            vault.refuse(request);
            return Err(SignError::Refused(Failure::new("POLICY_DENIED", "simulated")));
        }
        if let Some(unsigned) = request.payload.transaction()
            && let Err(error) = vault.claim(request.request_id, unsigned, request.replaces)
        {
            self.world.saw("watermark conflict");
            self.world.note(|| format!("signer: {} conflicts at nonce {}", request.request_id, unsigned.nonce));
            return Err(error);
        }
        let now = Instant::now();
        let taken = self.world.draw(|rng, plan| {
            let late = now + Duration::from_millis(rng.between(200, 15_000));
            let decision = if rng.per_mille(plan.deny) {
                rng.pick(&[Decision::Denied, Decision::Expired])
            } else {
                Decision::Approved
            };
            let held = rng.per_mille(plan.hold);
            (decision, if held { late } else { now }, held && rng.per_mille(300), rng.per_mille(plan.sign_deaf))
        });
        let (decision, decided_at, blocked, deaf) = taken;
        // Not drawn: what is drawn for others stays as it was.
        let unkept = request.request_id.0.as_u128().is_multiple_of(2);
        if decided_at > now {
            self.world.saw("held");
        }
        self.world.note(|| format!("signer: {} taken: {decision:?} after {:?}", request.request_id, decided_at - now));
        vault.order += 1;
        let order = vault.order;
        let payload = request.payload.clone();
        let (withdrawn, released, signed) = (false, false, false);
        let stored =
            Request { payload, decision, decided_at, blocked, unkept, withdrawn, released, signed, deaf, order };
        vault.requests.insert(request.request_id, stored);
        Ok(())
    }

    /// A call that the provider broadcasts: handed over once, and asked about as often as anybody likes.
    async fn hand_over(&self, id: RequestId, call: &ProviderCall) -> Result<SignOutcome, SignError> {
        let away = || SignError::Unavailable("simulated".into());
        let standing = locked(&self.world.tables).handovers.contains_key(&id);
        if !standing {
            self.world.violated(format!("signer asked for {id} before it was written"));
        }
        locked(&self.world.custody).take(&self.world, id, call)?;
        let is_calm = self.world.draw(|_, plan| plan.sign_deaf == 0);
        if !is_calm && locked(&self.world.custody).is_deaf(id) {
            self.world.saw("deaf");
            tokio::time::sleep(FOR_EVER).await;
        }
        let outcome = locked(&self.world.custody).outcome(id)?;
        self.world.line(self.replica, "sign").await;
        if self.world.fault("sign unsure", |plan| plan.sign_unsure) {
            return Err(away());
        }
        self.world.note(|| format!("provider: {id} answered {outcome:?}"));
        Ok(outcome)
    }

    /// Written ahead: the row stands before the signer is asked.
    fn must_be_written(&self, request: &SignRequest) {
        let tables = locked(&self.world.tables);
        let written = match &request.payload {
            SignPayload::Transaction(unsigned) | SignPayload::Reveal { transaction: unsigned, .. } => {
                tables.attempts.get(&request.request_id).is_some_and(|row| {
                    row.nonce == unsigned.nonce && row.gas_limit == unsigned.gas_limit && row.fees == unsigned.fees
                })
            }
            SignPayload::ByProvider(_) => tables.handovers.contains_key(&request.request_id),
            SignPayload::Document(_) => tables.steps.values().any(|row| row.request_id == Some(request.request_id)),
        };
        if !written {
            self.world.violated(format!("signer asked for {} before it was written", request.request_id));
        }
    }

    /// Withdraws what is not decided and no custodian has: it is never signed.
    fn take_back(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        let mut vault = locked(&self.world.vault);
        let Some(request) = vault.requests.get_mut(&id) else { return Err(SignError::NotFound) };
        if !request.unkept {
            self.world.violated(format!("request {id} was to be withdrawn, and a custodian has it"));
        }
        if request.decided_at > Instant::now() {
            self.world.saw("withdrawn by the signer");
            if locked(&self.world.tables).bug() == Some(Bug::MovedAndStillAsked) {
                return Ok(SignOutcome::Denied(Failure::new("WITHDRAWN", "simulated")));
            }
            request.withdrawn = true;
            (request.decision, request.decided_at) = (Decision::Denied, Instant::now());
        }
        Ok(request.outcome())
    }

    /// Gives a signature out: never two contents for one nonce, except a cancel.
    fn give(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        let mut vault = locked(&self.world.vault);
        let Some(request) = vault.requests.get_mut(&id) else { return Err(SignError::NotFound) };
        let outcome = request.outcome();
        if let SignOutcome::SignedTransaction { .. } = outcome
            && !request.signed
        {
            request.signed = true;
            let Some(unsigned) = request.unsigned().cloned() else { return Ok(outcome) };
            let key = (lane(&unsigned), unsigned.nonce);
            let signed = vault.requests.values().filter(|one| one.signed).filter_map(Request::unsigned);
            let mut others = signed.filter(|other| (lane(other), other.nonce) == key && !is_cancel(other));
            if !is_cancel(&unsigned) && others.any(|other| !same_content(other, &unsigned)) {
                self.world.violated(format!("two contents signed for nonce {} of {}", key.1, key.0));
            }
        }
        Ok(outcome)
    }
}

#[async_trait]
impl Signer for SimSigner {
    async fn sign(&self, request: SignRequest) -> Result<SignOutcome, SignError> {
        let away = || SignError::Unavailable("simulated".into());
        self.world.line(self.replica, "sign").await;
        if self.world.fault("sign lost", |plan| plan.sign_lost) {
            return Err(away());
        }
        if let SignPayload::ByProvider(call) = &request.payload {
            return self.hand_over(request.request_id, call).await;
        }
        self.take(&request)?;
        let is_calm = self.world.draw(|_, plan| plan.sign_deaf == 0);
        let deaf = !is_calm && locked(&self.world.vault).requests[&request.request_id].deaf;
        if deaf {
            self.world.saw("deaf");
            tokio::time::sleep(FOR_EVER).await;
        }
        let outcome = self.give(request.request_id)?;
        self.world.line(self.replica, "sign").await;
        if self.world.fault("sign unsure", |plan| plan.sign_unsure) {
            return Err(away());
        }
        self.world.note(|| format!("signer: {} answered {outcome:?}", request.request_id));
        Ok(outcome)
    }

    async fn broadcasts(&self, _: &TenantId, lane: LaneId) -> Result<bool, SignError> {
        self.world.line(self.replica, "broadcasts").await;
        if self.world.fault("sign lost", |plan| plan.sign_lost) {
            return Err(SignError::Unavailable("simulated".into()));
        }
        Ok(self.world.is_by_provider(lane.sender))
    }

    async fn withdraw(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        self.world.line(self.replica, "withdraw").await;
        if self.world.fault("sign lost", |plan| plan.sign_lost) {
            return Err(SignError::Unavailable("simulated".into()));
        }
        let known = locked(&self.world.vault).requests.contains_key(&id);
        let outcome = match known {
            true => self.take_back(id),
            false => locked(&self.world.custody).withdraw(&self.world, id),
        };
        self.world.line(self.replica, "withdraw").await;
        outcome
    }

    async fn status(&self, id: RequestId) -> Result<SignOutcome, SignError> {
        self.world.line(self.replica, "status").await;
        self.give(id)
    }

    async fn release(&self, id: RequestId) -> Result<(), SignError> {
        self.world.line(self.replica, "release").await;
        if self.world.fault("sign lost", |plan| plan.sign_lost) {
            return Err(SignError::Unavailable("simulated".into()));
        }
        let result = locked(&self.world.vault).release(id);
        self.world.note(|| format!("signer: release {id}: {result:?}"));
        self.world.line(self.replica, "release").await;
        result
    }

    async fn list_intents(&self, _: &TenantId, wanted: LaneId, from_nonce: u64) -> Result<Vec<Intent>, SignError> {
        self.world.line(self.replica, "list_intents").await;
        if self.world.fault("sign lost", |plan| plan.sign_lost) {
            return Err(SignError::Unavailable("simulated".into()));
        }
        let vault = locked(&self.world.vault);
        let intents = vault.requests.iter().filter_map(|(id, request)| {
            let unsigned = request.unsigned()?;
            let of_lane = lane(unsigned) == wanted && unsigned.nonce >= from_nonce;
            let (nonce, outcome) = (unsigned.nonce, request.outcome());
            let is_signed = matches!(outcome, SignOutcome::SignedTransaction { .. });
            let transaction = is_signed.then(|| unsigned.clone());
            of_lane.then_some(Intent { nonce, request_id: *id, transaction, outcome })
        });
        Ok(intents.collect())
    }
}
