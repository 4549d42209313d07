//! Binding: a nonce is given in the commit that writes the attempt, and never before.

use super::{
    Store,
    accept::begin,
    attempt::{Attempt, AttemptKind, AttemptState, QueuedTransaction, fees_json, request_of},
    lanes, signed, unsigned,
};
use crate::{
    error::StoreError,
    model::{LaneId, RequestId},
    states::TransactionState,
};
use dalp_chain::Fees;
use sqlx::{PgConnection, Row};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use uuid::Uuid;

/// A simulated and priced transaction.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) transaction: QueuedTransaction,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
}

/// What one lane wants bound, in its order.
#[derive(Debug, Clone)]
pub(crate) struct BindOrder {
    pub(crate) lane: LaneId,
    /// The lane may have nonces that were given back.
    pub(crate) holes: bool,
    pub(crate) bindings: Vec<Binding>,
}

/// The nonces that a lane may give, in order.
pub(crate) struct Numbers {
    pub(crate) next: i64,
    pub(crate) holes: std::vec::IntoIter<i64>,
}

impl Store {
    /// Binds nonces and writes the attempts in one commit, for several lanes. What is no longer queued is left out.
    pub(crate) async fn bind(&self, orders: &[BindOrder]) -> Result<Vec<Vec<Attempt>>, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let mut numbers = self.lock_lanes(&mut commit, orders).await?;
        // The next statement, not the same one: its snapshot is younger than the locks of the lanes.
        let queued = still_queued(&mut commit, orders).await?;
        let mut bound = Vec::with_capacity(orders.len());
        let mut rows = Rows::default();
        for order in orders {
            let mut attempts = Vec::with_capacity(order.bindings.len());
            for binding in &order.bindings {
                let (Some(earlier), Some(numbers)) =
                    (queued.get(&binding.transaction.id.0), numbers.get_mut(&order.lane))
                else {
                    continue;
                };
                let nonce = numbers.take();
                attempts.push(rows.push(order.lane, binding, nonce, earlier + 1)?);
            }
            bound.push(attempts);
        }
        if rows.ids.is_empty() {
            return Ok(bound);
        }
        let count = rows.ids.len();
        let taken = rows.insert(&mut commit, self.service.as_str(), &numbers).await?;
        if taken != count as i64 {
            return Err(StoreError::corrupt("a nonce that a lane would give belongs to another transaction"));
        }
        commit.commit().await?;
        Ok(bound)
    }

    /// Locks the lanes, in key order, and reads where they stand. A lane that was never compared with the chain is left out, and so
    /// is one that was paused since it was looked at.
    async fn lock_lanes(
        &self,
        commit: &mut PgConnection,
        orders: &[BindOrder],
    ) -> Result<BTreeMap<LaneId, Numbers>, StoreError> {
        let (chains, senders) = lanes::columns(orders.iter().map(|order| order.lane))?;
        let rows = sqlx::query(
            "SELECT l.chain_id, l.sender, CASE WHEN l.paused_at IS NULL THEN l.next_nonce END AS next_nonce FROM engine.lanes l JOIN unnest($1::bigint[], $2::bytea[]) AS n(c, s) ON l.chain_id = n.c AND l.sender = n.s
             ORDER BY l.chain_id, l.sender FOR NO KEY UPDATE OF l",
        )
        .bind(&chains)
        .bind(&senders)
        .fetch_all(&mut *commit)
        .await?;
        let mut numbers = BTreeMap::new();
        for row in &rows {
            if let Some(next) = row.try_get("next_nonce")? {
                numbers.insert(lanes::lane(row)?, Numbers { next, holes: Vec::new().into_iter() });
            }
        }
        for order in orders.iter().filter(|order| order.holes) {
            let Some(numbers) = numbers.get_mut(&order.lane) else { continue };
            let holes: Vec<i64> = sqlx::query_scalar(
                "SELECT nonce FROM engine.nonces WHERE chain_id = $1 AND sender = $2 AND released AND nonce < $3 ORDER BY nonce",
            )
            .bind(signed(order.lane.chain_id)?)
            .bind(order.lane.sender.as_slice())
            .bind(numbers.next)
            .fetch_all(&mut *commit)
            .await?;
            numbers.holes = holes.into_iter();
        }
        Ok(numbers)
    }
}

/// Which of the transactions still wait, with the number of their last attempt.
async fn still_queued(commit: &mut PgConnection, orders: &[BindOrder]) -> Result<HashMap<Uuid, i32>, StoreError> {
    let ids: Vec<Uuid> =
        orders.iter().flat_map(|order| &order.bindings).map(|binding| binding.transaction.id.0).collect();
    let rows: Vec<(Uuid, i32)> = sqlx::query_as(
        "SELECT t.transaction_id, engine.attempts_of(t) FROM engine.transactions t WHERE t.transaction_id = ANY($1) AND t.state IN ('QUEUED', 'PREPARING') ORDER BY t.transaction_id FOR NO KEY UPDATE OF t",
    )
    .bind(ids)
    .fetch_all(commit)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Columns of what is bound.
#[derive(Default)]
struct Rows {
    tenants: Vec<String>,
    chains: Vec<i64>,
    senders: Vec<Vec<u8>>,
    ids: Vec<Uuid>,
    nonces: Vec<i64>,
    numbers: Vec<i32>,
    requests: Vec<Uuid>,
    gas_limits: Vec<i64>,
    fees: Vec<serde_json::Value>,
}

impl Rows {
    fn push(&mut self, lane: LaneId, binding: &Binding, nonce: i64, number: i32) -> Result<Attempt, StoreError> {
        let transaction = &binding.transaction;
        let request_id = request_of(transaction.id, number)?;
        self.tenants.push(transaction.tenant.clone());
        self.chains.push(signed(lane.chain_id)?);
        self.senders.push(lane.sender.to_vec());
        self.ids.push(transaction.id.0);
        self.nonces.push(nonce);
        self.numbers.push(number);
        self.requests.push(request_id.0);
        self.gas_limits.push(signed(binding.gas_limit)?);
        self.fees.push(fees_json(&binding.fees));
        Ok(binding.attempt(unsigned(nonce)?, request_id))
    }

    /// Returns how many nonces were free to be taken.
    async fn insert(
        self,
        commit: &mut PgConnection,
        service: &str,
        numbers: &BTreeMap<LaneId, Numbers>,
    ) -> Result<i64, StoreError> {
        let (lane_chains, lane_senders) = lanes::columns(numbers.keys().copied())?;
        let next_nonces: Vec<i64> = numbers.values().map(|numbers| numbers.next).collect();
        Ok(sqlx::query_scalar(
            "WITH given AS (
                 SELECT * FROM unnest($2::text[], $3::bigint[], $4::bytea[], $5::uuid[], $6::bigint[], $7::int[], $8::uuid[], $9::bigint[], $10::jsonb[])
                     AS g(tenant, chain, sender, id, nonce, number, request, gas_limit, fees)
             ), taken AS (
                 INSERT INTO engine.nonces (chain_id, sender, nonce, transaction_id) SELECT chain, sender, nonce, id FROM given
                 ON CONFLICT (chain_id, sender, nonce) DO UPDATE SET transaction_id = excluded.transaction_id, released = false WHERE nonces.released
                 RETURNING nonce
             ), written AS (
                 INSERT INTO engine.attempts (tenant, transaction_id, attempt, service, chain_id, sender, nonce, kind, request_id, gas_limit, fees, state)
                 SELECT tenant, id, number, $1, chain, sender, nonce, 'CALL', request, gas_limit, fees, 'SIGNING' FROM given
             ), moved AS (
                 UPDATE engine.transactions t SET state = 'SIGNING', sub_status = '', nonce = g.nonce, moved_from = NULL, tries = 0, updated_at = now()
                 FROM given g WHERE t.tenant = g.tenant AND t.transaction_id = g.id
             ), told AS (
                 INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body)
                 SELECT t.tenant, 'transaction.moved', $1, t.transaction_id::text, jsonb_build_object('from_nonce', t.moved_from, 'to_nonce', g.nonce, 'request_id', g.request)
                 FROM given g JOIN engine.transactions t ON t.tenant = g.tenant AND t.transaction_id = g.id WHERE t.moved_from IS NOT NULL
             ), counted AS (
                 UPDATE engine.lanes l SET next_nonce = n.next FROM unnest($11::bigint[], $12::bytea[], $13::bigint[]) AS n(chain, sender, next)
                 WHERE l.chain_id = n.chain AND l.sender = n.sender AND l.next_nonce <> n.next
             )
             SELECT count(*) FROM taken",
        )
        .bind(service)
        .bind(self.tenants)
        .bind(self.chains)
        .bind(self.senders)
        .bind(self.ids)
        .bind(self.nonces)
        .bind(self.numbers)
        .bind(self.requests)
        .bind(self.gas_limits)
        .bind(self.fees)
        .bind(lane_chains)
        .bind(lane_senders)
        .bind(next_nonces)
        .fetch_one(commit)
        .await?)
    }
}

// === impl Binding ===

impl Binding {
    /// The attempt that is written when the transaction gets its nonce.
    pub(crate) fn attempt(&self, nonce: u64, request_id: RequestId) -> Attempt {
        Attempt {
            transaction: QueuedTransaction { state: TransactionState::Signing, ..self.transaction.clone() },
            nonce,
            kind: AttemptKind::Call,
            state: AttemptState::Signing,
            request_id,
            replaces: None,
            gas_limit: self.gas_limit,
            fees: self.fees,
            held: false,
            release_pending: false,
            raw: None,
            tries: 0,
            age: Duration::ZERO,
            held_for: Duration::ZERO,
        }
    }
}

// === impl Numbers ===

impl Numbers {
    pub(crate) fn take(&mut self) -> i64 {
        self.holes.next().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}
