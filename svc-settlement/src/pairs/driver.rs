//! Looks after exchanges: reads both chains, decides, and does it.
//!
//! One replica at a time, by the lease of the first chain's index, though nothing depends on it: whatever is sent is an operation under a key
//! made of its exchange, name and attempt, and is noted in the commit that accepts it. So a replica may be killed at any line, and two may
//! work at once.

use super::{
    Phase, Role, Rules,
    agreement::OpenPair,
    decide::{Known, Move, moves},
    view::{Looked, look},
};
use crate::{
    commands::{Act, Deliver, Reclaim, Reveal, Secret, StartReclaim},
    flows::{ActFlow, On, ShowSecret, ShowSecretFlow},
    metric_definitions as metric, readers,
    store::{
        Store,
        findings::Needs,
        pairs::{StoredAction, StoredPair, expose, put_action},
    },
    terms::Deed,
};
use alloy::primitives::{Address, B256};
use dalp_domain::{ChainReader, ReadError, Up, store::StoreError};
use dalp_engine::{AcceptHook, Admission, AdmitError, Engine, Failure, Flow, OperationId, OperationState, TenantId};
use dalp_service::{Refusal, stop::Stop};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Exchanges that are read at a time.
const PAGE: u32 = 100;
/// Exchanges that are looked at together.
const AT_ONCE: usize = 8;
/// The principal on whose behalf the platform acts by itself.
pub const PRINCIPAL: &str = "platform";
/// The scope of its keys.
pub const METHOD: &str = "settlement.pairs";
/// Gas of showing a secret beside its legs, and of each leg. A leg that runs out of it is owed and delivered later.
const REVEAL_GAS: u64 = 400_000;
const LEG_GAS: u64 = 900_000;
/// What failed is tried again after so long, times its attempts.
const AGAIN_AFTER_S: f64 = 2.0;
const AGAIN_AT_MOST_S: f64 = 60.0;
/// From so many failures on something is stuck.
const STUCK_AFTER: u32 = 3;

/// Looks after exchanges.
pub struct Driver {
    engine: Engine,
    store: Store,
    chains: BTreeMap<u64, ChainReader>,
    rules: Rules,
    owner: String,
    home: u64,
}

#[derive(Debug, thiserror::Error)]
enum DriveError {
    #[error("the tables cannot be used")]
    Store(#[from] StoreError),
    #[error("operations cannot be read")]
    Operations(#[from] dalp_engine::StoreError),
    #[error("an operation was not accepted")]
    Admit(#[from] AdmitError),
    #[error("chain {0} is not configured")]
    UnknownChain(u64),
}

/// An exchange with everything that was read of it.
struct Case<'a> {
    pair: &'a StoredPair,
    looked: [Looked; 2],
    actions: Vec<StoredAction>,
}

// === impl Driver ===

impl Driver {
    /// A driver with what there is once everything is up.
    #[must_use]
    pub fn new(up: &Up, store: Store, rules: Rules, owner: String, home: u64) -> Self {
        Self { engine: up.engine.clone(), store, chains: up.chains.clone(), rules, owner, home }
    }

    /// Works until stopped.
    pub async fn run(self, stop: Stop) {
        while !stop.is_requested() {
            if let Err(error) = self.turn().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "exchanges cannot be read, will look again");
            }
            tokio::select! {
                () = stop.requested() => {}
                () = tokio::time::sleep(self.rules.every) => {}
            }
        }
    }

    async fn turn(&self) -> Result<(), StoreError> {
        if !self.store.leads(self.home, &self.owner).await? {
            metric::pairs(0, &[]);
            return Ok(());
        }
        let (mut above, mut going_on) = (0, 0);
        loop {
            let page = self.store.pairs_going_on(above, PAGE).await?;
            let Some(last) = page.last() else { break };
            above = last.number;
            going_on += page.len();
            for some in page.chunks(AT_ONCE) {
                futures::future::join_all(some.iter().map(|pair| self.look_after(pair))).await;
            }
        }
        metric::pairs(going_on, &self.store.attention_counts().await?);
        Ok(())
    }

    async fn look_after(&self, pair: &StoredPair) {
        if let Err(error) = self.advance(pair).await {
            tracing::warn!(
                pair_id = %pair.pair_id,
                error = &error as &dyn std::error::Error,
                "an exchange does not advance, will try again"
            );
        }
    }

    async fn advance(&self, pair: &StoredPair) -> Result<(), DriveError> {
        let mut actions = self.store.pair_actions(pair.pair_id).await?;
        for action in actions.iter_mut().filter(|action| !action.settled) {
            self.settle(pair, action).await?;
        }
        // What the operations came to is read after they ended.
        let (reveal, carry) = tokio::try_join!(self.look(pair, Role::Reveal), self.look(pair, Role::Carry))?;
        let case = Case { pair, looked: [reveal, carry], actions };
        for role in Role::BOTH {
            let found = case.looked[role.place()].deed.as_ref().map(|(id, _)| *id);
            if let Some(id) = found.filter(|_| pair.sides[role.place()].settlement_id.is_none()) {
                self.store.put_mirror(pair, role, id).await?;
            }
        }
        let sides = [case.looked[0].side.clone(), case.looked[1].side.clone()];
        let known = Known { phase: pair.phase, ours: pair.secret_id.is_some(), exposed: pair.exposed, seen: pair.seen };
        let moves = moves(known, &sides, &self.rules);
        self.store.put_attention(pair, &case.needs(&moves, &self.rules)).await?;
        for step in moves {
            match step {
                Move::Stand(phase) => {
                    let detail = case.standing(phase);
                    if self.store.put_phase(pair, phase, &detail).await? {
                        metric::pair_stands(phase);
                        tracing::info!(pair_id = %pair.pair_id, phase = phase.name(), "an exchange moves on");
                    }
                    // What follows was decided where it stood before.
                    return Ok(());
                }
                step => self.carry_out(&case, &step).await?,
            }
        }
        Ok(())
    }

    async fn look(&self, pair: &StoredPair, role: Role) -> Result<Looked, DriveError> {
        let chain_id = pair.sides[role.place()].chain_id;
        let chain = self.chains.get(&chain_id).ok_or(DriveError::UnknownChain(chain_id))?;
        Ok(look(chain, &self.store, pair, role).await)
    }

    /// Notes how an operation ended, once it has.
    async fn settle(&self, pair: &StoredPair, action: &mut StoredAction) -> Result<(), DriveError> {
        let (tenant, id) = (TenantId::new(&pair.tenant), OperationId(action.operation_id));
        let Some(operation) = self.engine.reader().get_operation(&tenant, id).await? else { return Ok(()) };
        if !operation.state.is_final() {
            return Ok(());
        }
        let failure = (operation.state != OperationState::Completed)
            .then(|| operation.error.unwrap_or_else(|| Failure::new("CANCELLED", "the operation was cancelled")));
        self.store.settle_action(pair.pair_id, action, failure.as_ref()).await?;
        (action.settled, action.failure) = (true, failure);
        Ok(())
    }

    async fn carry_out(&self, case: &Case<'_>, step: &Move) -> Result<(), DriveError> {
        let (name, on) = named(step);
        let Some(attempt) = case.attempt(&name) else { return Ok(()) };
        let Some((id, deed)) = case.looked[on.place()].deed.clone() else { return Ok(()) };
        let (settlement_id, sender) = (id, case.pair.command.sender);
        match step {
            Move::Reveal { not_after_s } => {
                let legs = deed.terms.local().count() as u64;
                let command = ShowSecret {
                    sender,
                    settlement_id,
                    secret_id: case.pair.secret_id.unwrap_or_default(),
                    gas_limit: REVEAL_GAS + LEG_GAS * legs,
                    not_after_s: *not_after_s,
                };
                let order = case.on(on, deed, command);
                let verdicts = case.verdicts();
                let decided = (!case.pair.seen).then_some(verdicts);
                self.accept::<ShowSecretFlow>(case.pair, &name, attempt, order.chain_id, order, decided).await
            }
            Move::Carry { secret, .. } => {
                let command = Reveal { sender, settlement_id, secret: Secret(*secret) };
                self.act(case, on, &name, attempt, deed, command).await
            }
            Move::Deliver { leg, .. } => {
                self.act(case, on, &name, attempt, deed, Deliver { sender, settlement_id, leg: *leg }).await
            }
            Move::StartReclaim { .. } => {
                self.act(case, on, &name, attempt, deed, StartReclaim { sender, settlement_id }).await
            }
            Move::Reclaim { party, .. } => {
                self.act(case, on, &name, attempt, deed, Reclaim { sender, settlement_id, party: *party }).await
            }
            Move::Stand(_) => Ok(()),
        }
    }

    /// Accepts a call that the contract has nothing against now.
    async fn act<A: Act>(
        &self,
        case: &Case<'_>,
        on: Role,
        name: &str,
        attempt: u32,
        deed: Deed,
        command: A,
    ) -> Result<(), DriveError> {
        let order = case.on(on, deed, command);
        let chain = self.chains.get(&order.chain_id).ok_or(DriveError::UnknownChain(order.chain_id))?;
        let call = order.command.call(&order.deed);
        match self.dry(chain, &order, call).await {
            Ok(()) => self.accept::<ActFlow<A>>(case.pair, name, attempt, order.chain_id, order, None).await,
            Err(refusal) => {
                tracing::info!(pair_id = %case.pair.pair_id, name, reason = refusal.reason().as_str(), "not now");
                Ok(())
            }
        }
    }

    async fn dry<A: Act>(&self, chain: &ChainReader, order: &On<A>, call: A::Call) -> Result<(), Refusal> {
        let at = chain.latest().await?.id();
        let answer: Result<_, ReadError> = readers::dry(chain, order.command.sender(), order.contract, call, at).await;
        answer.map(drop).map_err(Refusal::from)
    }

    async fn accept<F: Flow>(
        &self,
        pair: &StoredPair,
        name: &str,
        attempt: u32,
        chain_id: u64,
        order: F::Order,
        decided: Option<Value>,
    ) -> Result<(), DriveError> {
        let key = format!("{}/{name}/{attempt}", pair.pair_id);
        let mut admission = Admission::<F>::new(TenantId::new(&pair.tenant), PRINCIPAL, METHOD, key, order);
        let (of, noted) = (pair.clone(), name.to_owned());
        let hook: AcceptHook = Box::new(move |connection, id| {
            Box::pin(async move {
                put_action(connection, of.pair_id, &noted, attempt, chain_id, id.0).await?;
                match decided {
                    Some(verdicts) => expose(connection, &of, &verdicts).await,
                    None => Ok(()),
                }
            })
        });
        admission.hook = Some(hook);
        let accepted = self.engine.accept(admission).await?;
        metric::pair_acts(name.split('/').next().unwrap_or_default());
        tracing::info!(pair_id = %pair.pair_id, name, attempt, operation_id = %accepted.operation.operation_id, "sent for an exchange");
        Ok(())
    }
}

/// What a move is called, and where it is made.
fn named(step: &Move) -> (String, Role) {
    match step {
        Move::Reveal { .. } => ("reveal".to_owned(), Role::Reveal),
        Move::Carry { to, .. } => (format!("carry/{}", to.name()), *to),
        Move::Deliver { on, leg } => (format!("deliver/{}/{leg}", on.name()), *on),
        Move::StartReclaim { on } => (format!("start_reclaim/{}", on.name()), *on),
        Move::Reclaim { on, party } => (format!("reclaim/{}/{party:#x}", on.name()), *on),
        Move::Stand(phase) => (phase.name().to_owned(), Role::Reveal),
    }
}

// === impl Case ===

impl Case<'_> {
    /// The number of the next attempt; `None`: one is under way, or failed a moment ago.
    fn attempt(&self, name: &str) -> Option<u32> {
        let Some(last) = self.actions.iter().rfind(|action| action.name == name) else { return Some(1) };
        let pause = (AGAIN_AFTER_S * f64::from(last.attempt)).min(AGAIN_AT_MOST_S);
        (last.settled && last.age_s >= pause).then(|| last.attempt + 1)
    }

    fn on<C>(&self, role: Role, deed: Deed, command: C) -> On<C> {
        let side = &self.pair.sides[role.place()];
        On { chain_id: side.chain_id, contract: side.contract, deed, command }
    }

    fn verdicts(&self) -> Value {
        self.looked.iter().flat_map(|looked| looked.verdicts.iter().cloned()).collect()
    }

    fn chain_id(&self, role: Role) -> u64 {
        self.pair.sides[role.place()].chain_id
    }

    /// The circumstances of a new standing.
    fn standing(&self, phase: Phase) -> Value {
        let sides = Role::BOTH.into_iter().map(|role| {
            let side = &self.looked[role.place()].side;
            json!({
                "chain_id": self.chain_id(role),
                "block": side.head,
                "state": side.stored.map(crate::state::State::name),
                "final_state": side.final_stored.map(crate::state::State::name),
                "secret_shown": side.shown.is_some(),
            })
        });
        json!({ "phase": phase.name(), "sides": sides.collect::<Vec<_>>() })
    }

    /// What needs somebody's attention.
    fn needs(&self, moves: &[Move], rules: &Rules) -> Needs {
        let mut needs = Needs::new();
        if moves.iter().any(|step| matches!(step, Move::Stand(Phase::Settled | Phase::Returned))) {
            return needs;
        }
        let out = self.looked.iter().any(|looked| looked.side.shown.is_some());
        for role in Role::BOTH {
            let Looked { side, differs, silent, .. } = &self.looked[role.place()];
            let chain_id = self.chain_id(role);
            if let Some(why) = silent {
                needs.insert(("chain_silent", chain_id), why.clone());
            }
            if let Some(difference) = differs {
                needs.insert(("mirror_differs", chain_id), difference.clone());
            }
            if !side.vetoes.is_empty() && self.pair.phase != Phase::Returning {
                needs.insert(("leg_not_compliant", chain_id), side.vetoes.join("; "));
            }
            let unlocked = side.stored != Some(crate::state::State::Approved);
            let near = side.now_s.saturating_add(rules.notice_s) >= side.cutoff;
            if self.pair.phase == Phase::Locking && !out && unlocked && near && side.readable {
                needs.insert(("cutoff_near", chain_id), format!("not locked, and the cutoff is {}", side.cutoff));
            }
            if out && side.shown.is_none() && !side.stored.is_some_and(crate::state::State::is_committed) {
                needs.insert(("secret_unused", chain_id), "the secret is out on the other chain".to_owned());
            }
        }
        let failing = self.actions.iter().filter(|action| action.attempt >= STUCK_AFTER && action.failure.is_some());
        for action in failing {
            let last = self.actions.iter().rfind(|other| other.name == action.name);
            let wanted = moves.iter().any(|step| named(step).0 == action.name);
            if let Some(failure) = action.failure.as_ref().filter(|_| wanted && last == Some(action)) {
                needs.insert(("stuck", action.chain_id), format!("{}: {failure}", action.name));
            }
        }
        if moves.contains(&Move::Stand(Phase::Split)) {
            needs.insert(("split", 0), "one side is committed and the other went back".to_owned());
        }
        needs
    }
}

/// The id under which the signer keeps the secret of an exchange: the same for each repeat of a request (tenant, principal, idempotency key), another
/// for another request after one that was refused, and at another contract.
#[must_use]
pub fn secret_id(asked: [&str; 3], order: &OpenPair, contract: Address) -> Uuid {
    let seed: B256 = alloy::primitives::keccak256(json!(["settlement.pair", asked, order, contract]).to_string());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&seed[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
