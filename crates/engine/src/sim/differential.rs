//! The model of the store against the store: the same random statements on both, with old looks and in any order, must give the
//! same answers, the same refusals and the same rows.

mod handovers;
mod operator;
mod rows;

use super::{
    flow::{Callee, Errand, Order},
    ledger::encode,
    rng::Rng,
    tables::Tables,
};
use crate::{
    audit,
    flow::{Failure, Flow as _, Flows, History, Mined, Priority, Signature, StepOutcome},
    model::{LaneId, OperationId, RequestId, ServiceName, TenantId},
    signer::UnsignedTransaction,
    states::TransactionState,
    store::{
        Admitted, Adoption, Attempt, AttemptKind, BindOrder, Binding, Ending, Finished, Forgotten, Handover, Inclusion,
        LaneLook, NewAttempt, NewOperation, QueueLook, QueuedTransaction, Reads, Refusal, Settled, SignedBytes, Store,
        migrate,
    },
    testing::TestPostgres,
};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use dalp_chain::Fees;
use sqlx::PgPool;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

const SEQUENCES: u64 = 300;
const STATEMENTS: usize = 120;
const LONG: Duration = Duration::from_secs(3_600);
const FEES: Fees = Fees::Eip1559 { max_fee_wei: 30, priority_fee_wei: 1 };

struct Twins {
    seed: u64,
    rng: Rng,
    service: ServiceName,
    store: Store,
    tables: Tables,
    flows: Flows,
    chains: BTreeSet<u64>,
    lanes: Vec<LaneId>,
    /// Everything that was ever looked at: statements come with old looks, too.
    attempts: Vec<Attempt>,
    handovers: Vec<Handover>,
    queued: Vec<QueuedTransaction>,
    operations: Vec<(TenantId, OperationId)>,
    blocks: Vec<(u64, B256)>,
    fees: u128,
    done: Vec<String>,
}

/// Runs a statement on both, and compares what they say. A refused one leaves nothing behind.
macro_rules! both {
    ($twins:ident, $name:ident($($argument:expr),*), $view:expr) => {{
        let backup = $twins.tables.clone();
        let model = $twins.tables.$name(&$twins.service, $($argument),*);
        if model.is_err() {
            $twins.tables = backup;
        }
        let real = $twins.store.$name($($argument),*).await;
        $twins.done.push(format!("{}: model {:?}", stringify!($name), model.as_ref().map(|_| ()).map_err(ToString::to_string)));
        match (model, real) {
            (Ok(model), Ok(real)) => {
                #[allow(clippy::redundant_closure_call)]
                let (model, real) = ($view(&model), $view(&real));
                $twins.same(stringify!($name), &model, &real);
                Some(model)
            }
            (Err(_), Err(_)) => None,
            (model, real) => {
                let (model, real) = (model.map(drop), real.map(drop));
                panic!("seed {}: {} says {model:?}, PostgreSQL {real:?} after {:#?}", $twins.seed, stringify!($name), $twins.done)
            }
        }
    }};
}

use both;

fn sorted<T: Debug>(all: &[T]) -> Vec<String> {
    let mut lines: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
    lines.sort();
    lines
}

fn of_any_age(attempt: &Attempt) -> Attempt {
    Attempt { age: Duration::ZERO, held_for: Duration::ZERO, ..attempt.clone() }
}

/// What is due at one nonce for two transactions has no order of its own.
fn look(looks: &[LaneLook]) -> Vec<LaneLook> {
    let view = |look: &LaneLook| {
        let mut due: Vec<Attempt> = look.due.iter().map(of_any_age).collect();
        due.sort_by_key(|attempt| (attempt.nonce, attempt.request_id));
        let handovers = look.handovers.iter().map(handovers::of_any_age).collect();
        LaneLook { due, handovers, ..look.clone() }
    };
    looks.iter().map(view).collect()
}

impl Twins {
    fn new(seed: u64, pool: PgPool) -> Self {
        let service = ServiceName::new(format!("svc-{seed}"));
        let chain_id = 1_000_000 + seed;
        let lane = |byte| LaneId { chain_id, sender: Address::repeat_byte(byte) };
        Self {
            seed,
            rng: Rng::new(seed),
            store: Store { pool, service: service.clone(), known_lanes: Arc::default() },
            service,
            tables: Tables::new(None),
            flows: Flows::new().with::<Errand>(),
            chains: [chain_id].into(),
            lanes: vec![lane(1), lane(2)],
            attempts: Vec::new(),
            handovers: Vec::new(),
            queued: Vec::new(),
            operations: Vec::new(),
            blocks: Vec::new(),
            fees: 100,
            done: Vec::new(),
        }
    }

    fn same<T: Debug + ?Sized>(&self, what: &str, model: &T, real: &T) {
        let (model, real) = (format!("{model:#?}"), format!("{real:#?}"));
        assert!(model == real, "seed {}: {what}: model {model}, PostgreSQL {real} after {:#?}", self.seed, self.done);
    }

    fn any<T: Clone>(&mut self, of: impl Fn(&Self) -> &Vec<T>) -> Option<T> {
        let count = of(self).len() as u64;
        let place = self.rng.below(count) as usize;
        of(self).get(place).cloned()
    }

    /// Mostly as it stands now, sometimes as it stood once.
    fn any_attempt(&mut self) -> Option<Attempt> {
        let old = self.any(|twins| &twins.attempts)?;
        let now = self.tables.attempt_view(old.request_id);
        Some(if self.rng.per_mille(700) { now } else { old })
    }

    fn pause(&mut self) -> Duration {
        if self.rng.per_mille(700) { Duration::ZERO } else { LONG }
    }

    fn price(&mut self) -> Fees {
        self.fees += 1;
        Fees::Eip1559 { max_fee_wei: self.fees, priority_fee_wei: 1 }
    }

    fn remember(&mut self, attempts: impl IntoIterator<Item = Attempt>) {
        self.attempts.extend(attempts);
    }

    async fn admit(&mut self) {
        let number = self.rng.below(6);
        let chain_id = self.lanes[0].chain_id;
        let order = Order {
            number,
            chain_id,
            sender: self.rng.pick(&[1, 2].map(Address::repeat_byte)),
            together: (0..self.rng.below(3)).map(|_| Callee::Payee).collect(),
            in_turn: (0..self.rng.below(2)).map(|_| Callee::Payee).collect(),
            signs: self.rng.per_mille(200),
        };
        let id = OperationId(Uuid::from_u64_pair(self.rng.next(), self.rng.next()));
        let tenant = TenantId::new(if self.rng.per_mille(100) { "other" } else { "bank" });
        let json = serde_json::to_value(&order).expect("an order is JSON");
        let decision = self.flows.ask(Errand::KIND, Errand::VERSION, id, &json, &History::default());
        let new = NewOperation {
            id,
            tenant: tenant.clone(),
            principal: "caller".into(),
            method: format!("method {}", self.seed),
            key: number.to_string(),
            command_hash: audit::command_hash(&json),
            kind: Errand::KIND,
            version: Errand::VERSION,
            order: json,
            decision,
            priority: self.rng.pick(&[Priority::Urgent, Priority::Normal, Priority::Bulk]),
            question: None,
            refusable: self.rng.per_mille(800),
        };
        let news = [new];
        let told = |admitted: &Vec<Admitted>| match &admitted[0] {
            Admitted::New(_) => "new".to_owned(),
            // Of several approvals the model does not know which has waited longest.
            Admitted::BehindApproval(_) => "behind an approval".to_owned(),
            other => format!("{other:?}"),
        };
        if both!(self, admit(&news), told).is_some_and(|told| told == "new") {
            self.operations.push((tenant, id));
        }
    }

    async fn bind(&mut self) {
        let looks: Vec<QueueLook> = self.lanes.iter().map(|lane| QueueLook { lane: *lane, at_most: 3 }).collect();
        let queues = both!(self, queued(&looks), |queues: &Vec<Vec<QueuedTransaction>>| queues.clone());
        let queues = queues.unwrap_or_default();
        self.queued.extend(queues.iter().flatten().cloned());
        let mut orders = Vec::new();
        for (lane, queue) in self.lanes.clone().into_iter().zip(queues) {
            let mut bindings = Vec::new();
            for transaction in queue {
                if self.rng.per_mille(800) {
                    bindings.push(Binding { transaction, gas_limit: 50_000, fees: self.price() });
                }
            }
            orders.push(BindOrder { lane, holes: self.rng.per_mille(600), bindings });
        }
        let view = |bound: &Vec<Vec<Attempt>>| bound.iter().flatten().map(of_any_age).collect::<Vec<_>>();
        if let Some(bound) = both!(self, bind(&orders), view) {
            self.remember(bound);
        }
    }

    fn refusal(&self, transaction: &QueuedTransaction, state: TransactionState) -> Refusal {
        Refusal {
            tenant: transaction.tenant.clone(),
            operation_id: transaction.operation_id,
            transaction_id: transaction.id,
            state,
            sub_status: "refused",
            failure: Failure::new("REFUSED", "by the test"),
        }
    }

    /// What the signer would give for it.
    fn bytes_of(&self, attempt: &Attempt) -> Bytes {
        let lane = self.tables.attempts[&attempt.request_id].lane;
        encode(&UnsignedTransaction {
            chain_id: lane.chain_id,
            sender: lane.sender,
            nonce: attempt.nonce,
            target: attempt.transaction.target,
            value_wei: U256::from(self.seed),
            data: attempt.transaction.data.clone(),
            gas_limit: attempt.gas_limit,
            fees: attempt.fees,
        })
    }

    async fn end_attempts(&mut self) {
        let ending = self.rng.pick(&[Ending::Refused, Ending::Sealed, Ending::Sealed, Ending::Abandoned]);
        let lane = self.rng.pick(&self.lanes.clone());
        let mut ended: Vec<(Attempt, Refusal)> = Vec::new();
        for _ in 0..self.rng.between(1, 3) {
            let Some(attempt) = self.any_attempt() else { return };
            let row = &self.tables.attempts[&attempt.request_id];
            let raw = (ending == Ending::Sealed).then(|| self.bytes_of(&attempt));
            if row.lane == lane && !ended.iter().any(|(one, _)| one.transaction.id == attempt.transaction.id) {
                let state =
                    if ending == Ending::Abandoned { TransactionState::DeadLetter } else { TransactionState::Failed };
                let refusal = self.refusal(&attempt.transaction, state);
                ended.push((Attempt { raw: raw.or(attempt.raw.clone()), ..attempt }, refusal));
            }
        }
        if !ended.is_empty() {
            let price = self.price();
            both!(self, end_attempts(lane, ended.clone(), ending, price), |done: &()| *done);
        }
    }

    /// An inclusion of bytes that were stored.
    async fn include(&mut self) {
        let Some(attempt) = self.any_attempt() else { return };
        let Some(tx_hash) = self.tables.attempts[&attempt.request_id].tx_hash else { return };
        let (number, salt) = (self.rng.between(10, 14), self.rng.below(2) as u8);
        let mut block_hash = B256::repeat_byte(salt);
        block_hash.0[..8].copy_from_slice(&number.to_be_bytes());
        block_hash.0[8..16].copy_from_slice(&self.seed.to_be_bytes());
        self.blocks.push((number, block_hash));
        let mined =
            Mined { tx_hash, block_number: number, block_hash, gas_used: 30_000, contract_address: None, logs: vec![] };
        let inclusions = [Inclusion { mined, succeeded: self.rng.per_mille(700), revert_data: None }];
        both!(self, include(&inclusions), |lanes: &BTreeSet<LaneId>| lanes.clone());
    }

    async fn finish(&mut self) {
        let chain_id = self.lanes[0].chain_id;
        let mined = both!(self, mined_blocks(chain_id), |blocks: &Vec<(u64, B256)>| sorted(blocks));
        let Some((_, block)) = self.any(|twins| &twins.blocks) else { return };
        if mined.is_none_or(|mined| mined.is_empty()) {
            return;
        }
        if self.rng.per_mille(400) {
            both!(self, retract(chain_id, &[block]), |count: &usize| *count);
            return;
        }
        let model = self.tables.final_attempts(&self.service, chain_id, &[block], 100).expect("readable");
        let real = self.store.final_attempts(chain_id, &[block], 100).await.expect("readable");
        let ids = |all: &[crate::store::FinalAttempt]| {
            all.iter()
                .map(|one| (one.request_id, one.transaction_id, one.is_cancel, one.data.clone()))
                .collect::<Vec<_>>()
        };
        self.same("final_attempts", &sorted(&ids(&model)), &sorted(&ids(&real)));
        let finished = |attempts: Vec<crate::store::FinalAttempt>| {
            let one = |attempt: crate::store::FinalAttempt| {
                let reverted = (!attempt.inclusion.succeeded).then(|| Failure::new("REVERTED", "by the test"));
                Finished { attempt, reverted }
            };
            attempts.into_iter().map(one).collect::<Vec<_>>()
        };
        let backup = self.tables.clone();
        let told = self.tables.finish(&self.service, finished(model));
        if told.is_err() {
            self.tables = backup;
        }
        assert_eq!(told.is_ok(), self.store.finish(finished(real)).await.is_ok(), "seed {}", self.seed);
        self.done.push("finish".into());
    }

    async fn signatures(&mut self) {
        let again_after = self.pause();
        let model = self.tables.claim_signatures(&self.service, 10, again_after).expect("readable");
        let real = self.store.claim_signatures(10, again_after).await.expect("readable");
        let view = |all: &[crate::store::PendingSignature]| {
            let one = |one: &crate::store::PendingSignature| (one.request_id, one.name.clone(), one.tries);
            all.iter().map(one).collect::<Vec<_>>()
        };
        self.same("claim_signatures", &sorted(&view(&model)), &sorted(&view(&real)));
        let outcome = StepOutcome::Signed { signature: Signature(Bytes::from_static(b"s")) };
        let settled: Vec<_> = model.into_iter().map(|pending| Settled { pending, outcome: outcome.clone() }).collect();
        both!(self, settle_signatures(&settled), |done: &()| *done);
    }

    async fn cancel(&mut self) {
        let Some((tenant, id)) = self.any(|twins| &twins.operations) else { return };
        let reads = Reads { pool: self.store.pool.clone() };
        let backup = self.tables.clone();
        let model = self.tables.cancel(&tenant, id, "by the test");
        if model.is_err() {
            self.tables = backup;
        }
        let real = reads.cancel(&tenant, id, "tester", "by the test").await;
        self.done.push("cancel".into());
        self.same("cancel", &model.ok(), &real.ok());
    }

    async fn send(&mut self, choice: u64) {
        let Some(attempt) = self.any_attempt() else { return };
        let (id, lane) = (attempt.request_id, self.tables.attempts[&attempt.request_id].lane);
        let pause = self.pause();
        let nothing = |done: &()| *done;
        match choice {
            0..=3 => {
                let raw = self.bytes_of(&attempt);
                let given =
                    [SignedBytes { request_id: id, tx_hash: keccak256(&raw), raw, held: self.rng.per_mille(100) }];
                both!(self, store_signed(&given), |ids: &Vec<RequestId>| sorted(ids));
            }
            4..=5 => {
                both!(self, mark_sent(&[id], pause), nothing);
            }
            6 => {
                let hold = self.any_hold();
                both!(self, defer_attempt(&attempt, pause, "sign", "put_off", "why", hold), nothing);
            }
            7 => {
                let kind = self.rng.pick(&[AttemptKind::Replacement, AttemptKind::Cancel]);
                let price = self.price();
                let new = NewAttempt { of: &attempt, kind, gas_limit: 60_000, fees: price };
                both!(self, replace(lane, &new), nothing);
            }
            8 => {
                let ending = self.rng.pick(&[Ending::Refused, Ending::Abandoned]);
                both!(self, drop_replacement(&attempt, ending, pause, "refused"), nothing);
            }
            9 => {
                both!(self, refuse_filler(lane, &attempt, pause), nothing);
            }
            10 => {
                both!(self, requeue_used_outside(lane, &attempt), nothing);
            }
            11 => {
                both!(self, released(id), nothing);
            }
            12..=13 => {
                both!(self, move_reservation(lane, &attempt, pause), |moved: &bool| *moved);
            }
            _ => {
                both!(self, overtake(lane, &[attempt.nonce]), nothing);
            }
        }
    }

    async fn queue(&mut self) {
        let Some(transaction) = self.any(|twins| &twins.queued) else { return };
        let nothing = |done: &()| *done;
        if self.rng.per_mille(500) {
            let pause = self.pause();
            both!(self, defer_queued(&[transaction.id], pause, "simulate", "put_off", "why"), nothing);
        } else {
            let state = self.rng.pick(&[TransactionState::Failed, TransactionState::DeadLetter]);
            let refusal = self.refusal(&transaction, state);
            both!(self, refuse_queued(vec![refusal.clone()]), nothing);
        }
    }

    async fn lane(&mut self, choice: u64) {
        let lane = self.rng.pick(&self.lanes.clone());
        match choice {
            0 => {
                let least = self.rng.below(3);
                both!(self, reconcile_lane(lane, least), |done: &()| *done);
            }
            1 => {
                both!(self, fill_holes(lane, FEES), |done: &()| *done);
                both!(self, signs_at_once(lane), |done: &()| *done);
            }
            2 => {
                let (instance, more) = (self.rng.pick(&["one", "other"]), self.rng.pick(&[0, 1, 10]));
                both!(self, lease_lanes(instance, LONG, more), |lanes: &Vec<LaneId>| sorted(lanes));
            }
            3 => self.adopt(lane).await,
            4 => {
                both!(self, hashes_of(lane, &[0, 1, 2]), |hashes: &Vec<(u64, B256)>| sorted(hashes));
                both!(self, known_requests(lane, 1), |ids: &Vec<RequestId>| sorted(ids));
            }
            _ => {
                let lanes = self.lanes.clone();
                if let Some(looks) = both!(self, look_at_lanes("one", &lanes), look) {
                    self.remember(looks.into_iter().flat_map(|look| look.due));
                }
            }
        }
    }

    /// Requests that the tables have forgotten, if they ever knew them.
    async fn adopt(&mut self, lane: LaneId) {
        let Some(old) = self.any(|twins| &twins.queued) else { return };
        let ids: Vec<RequestId> = (1..=3).map(|number| RequestId::of_attempt(old.id, number)).collect();
        let Some(found) = both!(self, forgotten(lane, &ids), |found: &Vec<Forgotten>| found.clone()) else { return };
        let mut adoptions = Vec::new();
        for forgotten in found {
            if self.rng.per_mille(400) {
                continue;
            }
            self.fees += 1;
            let raw = Bytes::from(format!("adopted {} {}", self.seed, self.fees).into_bytes());
            let (nonce, kind) = (self.rng.below(6), self.rng.pick(&[AttemptKind::Call, AttemptKind::Cancel]));
            let (tx_hash, fees) = (keccak256(&raw), FEES);
            adoptions.push(Adoption { forgotten, nonce, kind, gas_limit: 50_000, fees, raw, tx_hash });
        }
        both!(self, adopt(lane, &adoptions), |done: &()| *done);
    }

    async fn step(&mut self) {
        match self.rng.below(36) {
            28..=35 => self.handover().await,
            0..=2 => self.admit().await,
            3..=4 => {
                let (flows, chains) = (self.flows.clone(), self.chains.clone());
                both!(self, drive(&flows, &chains, 100), |told: &(usize, BTreeSet<LaneId>)| told.clone());
            }
            5..=8 => self.bind().await,
            9..=12 => {
                let choice = self.rng.below(6);
                self.lane(choice).await;
            }
            13 => self.queue().await,
            14 => self.end_attempts().await,
            15..=16 => self.include().await,
            17 => self.finish().await,
            18 => self.signatures().await,
            26..=27 => self.operator().await,
            19 => {
                if self.rng.per_mille(300) {
                    self.cancel().await;
                }
            }
            _ => {
                let choice = self.rng.below(15);
                self.send(choice).await;
            }
        }
    }
}

#[tokio::test]
async fn the_model_answers_like_postgresql() {
    let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
    let pool = postgres.pool().await;
    migrate(&pool).await.expect("migrates");
    let mut phases: BTreeMap<&str, usize> = BTreeMap::new();
    let mut places: BTreeSet<String> = BTreeSet::new();
    for seed in 0..SEQUENCES {
        let mut twins = Twins::new(seed, pool.clone());
        for _ in 0..STATEMENTS {
            twins.step().await;
            places.extend(twins.tables.handovers.values().map(|row| format!("{:?}", row.place)));
        }
        twins.compare_rows().await;
        for row in twins.tables.attempts.values() {
            *phases.entry(row.phase.as_str()).or_default() += 1;
        }
    }
    // What a block has is mostly done before its step has ended: whether one is seen as mined only is chance.
    places.remove("Mined");
    assert_eq!(places.len(), 7, "every state of a handover that a step ends in comes about: {places:?}");
    assert_eq!(phases.len(), 8, "every state of an attempt comes about: {phases:?}");
    pool.close().await;
}
