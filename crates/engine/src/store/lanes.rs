//! Lanes: leases, binding of nonces, and what becomes of attempts on their way to a block.

use super::{Event, Store, address, emit, hash, leaf, signed, unsigned};
use crate::{
    error::StoreError,
    flow::{Failure, PreCheck, StepOutcome},
    model::{LaneId, RequestId, TenantId, TransactionId},
    states::TransactionState,
};
use alloy::primitives::{Address, B256, Bytes, U256};
use dalp_chain::Fees;
use serde_json::json;
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use std::time::Duration;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptKind {
    Call,
    Replacement,
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptState {
    Signing,
    Signed,
    Sent,
    Other,
}

/// What a transaction does.
#[derive(Debug, Clone)]
pub(crate) struct QueuedTransaction {
    pub(crate) tenant: String,
    pub(crate) id: TransactionId,
    pub(crate) operation_id: Uuid,
    pub(crate) target: Option<Address>,
    pub(crate) value_wei: U256,
    pub(crate) data: Bytes,
    pub(crate) checks: Vec<PreCheck>,
    pub(crate) tries: u32,
}

/// A request to the signer and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) transaction: QueuedTransaction,
    pub(crate) nonce: u64,
    pub(crate) kind: AttemptKind,
    pub(crate) state: AttemptState,
    pub(crate) request_id: RequestId,
    pub(crate) replaces: Option<RequestId>,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
    pub(crate) held: bool,
    pub(crate) release_pending: bool,
    pub(crate) raw: Option<Bytes>,
    pub(crate) tx_hash: Option<B256>,
    pub(crate) tries: u32,
    pub(crate) age: Duration,
}

/// What there is to do on a lane now.
#[derive(Debug, Default)]
pub(crate) struct LaneWork {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) next_nonce: Option<u64>,
    pub(crate) needs_approval: bool,
    /// Bound and not yet included, due or not.
    pub(crate) open: usize,
    /// Of those, with the signer.
    pub(crate) signing: usize,
    /// A hole that is being filled: nothing may be bound behind it.
    pub(crate) filling: bool,
    pub(crate) due: Vec<Attempt>,
    pub(crate) queued: Vec<QueuedTransaction>,
}

/// A simulated and priced transaction.
pub(crate) struct Binding {
    pub(crate) transaction: QueuedTransaction,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
}

/// A further attempt at the nonce of an earlier one.
pub(crate) struct NewAttempt<'a> {
    pub(crate) of: &'a Attempt,
    pub(crate) kind: AttemptKind,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
}

/// A transaction that will not be carried out.
pub(crate) struct Refusal {
    pub(crate) tenant: String,
    pub(crate) operation_id: Uuid,
    pub(crate) transaction_id: TransactionId,
    pub(crate) state: TransactionState,
    pub(crate) sub_status: &'static str,
    pub(crate) failure: Failure,
}

const ATTEMPT: &str = "SELECT a.*, t.operation_id, t.target, t.value_wei::text AS value_wei, t.data, t.checks, t.tries AS transaction_tries,
        extract(epoch FROM now() - a.created_at)::float8 AS age_s
 FROM engine.attempts a JOIN engine.transactions t ON t.tenant = a.tenant AND t.transaction_id = a.transaction_id";

impl Store {
    /// Takes or renews the leases of lanes that have work of this service.
    pub(crate) async fn lease_lanes(
        &self,
        instance: &str,
        lease: Duration,
        limit: i64,
    ) -> Result<Vec<LaneId>, StoreError> {
        let rows = sqlx::query(
            "UPDATE engine.lane_leases l SET holder = $2, expires_at = now() + make_interval(secs => $3)
             FROM (SELECT service, chain_id, sender FROM engine.lane_leases c
                   WHERE c.service = $1 AND (c.holder = $2 OR c.expires_at < now())
                     AND (EXISTS (SELECT FROM engine.transactions t WHERE t.chain_id = c.chain_id AND t.sender = c.sender AND t.service = $1
                                  AND t.state IN ('QUEUED', 'PREPARING'))
                       OR EXISTS (SELECT FROM engine.attempts a WHERE a.chain_id = c.chain_id AND a.sender = c.sender AND a.service = $1
                                  AND (a.state IN ('SIGNING', 'SIGNED', 'SENT') OR a.release_pending)))
                   ORDER BY c.chain_id, c.sender LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED) w
             WHERE l.service = w.service AND l.chain_id = w.chain_id AND l.sender = w.sender RETURNING l.chain_id, l.sender",
        )
        .bind(self.service.as_str())
        .bind(instance)
        .bind(lease.as_secs_f64())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok(LaneId { chain_id: unsigned(row.try_get(0)?)?, sender: address(row.try_get(1)?)? }))
            .collect()
    }

    /// What is due on a lane.
    pub(crate) async fn lane_work(&self, lane: LaneId, batch: usize) -> Result<LaneWork, StoreError> {
        let mut work = LaneWork::default();
        let row = sqlx::query(
            "SELECT l.tenant, l.next_nonce, l.needs_approval, count(a.*) AS open, count(a.*) FILTER (WHERE a.state = 'SIGNING') AS signing,
                    coalesce(bool_or(a.kind = 'CANCEL' AND a.state = 'SIGNING'), false) AS filling
             FROM engine.lanes l LEFT JOIN engine.attempts a ON a.chain_id = l.chain_id AND a.sender = l.sender AND a.service = $3
                  AND a.state IN ('SIGNING', 'SIGNED', 'SENT')
             WHERE l.chain_id = $1 AND l.sender = $2 GROUP BY l.tenant, l.next_nonce, l.needs_approval",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(self.service.as_str())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(work) };
        work.tenant = Some(TenantId::new(row.try_get::<String, _>("tenant")?));
        work.next_nonce = row.try_get::<Option<i64>, _>("next_nonce")?.map(unsigned).transpose()?;
        work.needs_approval = row.try_get("needs_approval")?;
        work.open = unsigned(row.try_get("open")?)? as usize;
        work.signing = unsigned(row.try_get("signing")?)? as usize;
        work.filling = row.try_get("filling")?;
        if work.open > 0 {
            work.due = self
                .attempts(
                    lane,
                    "a.chain_id = $1 AND a.sender = $2 AND a.service = $3 AND (a.state IN ('SIGNING', 'SIGNED', 'SENT') OR a.release_pending)
                     AND a.due_at <= now() ORDER BY a.nonce, a.attempt LIMIT 500",
                )
                .await?;
        }
        let rows = sqlx::query(
            "SELECT tenant, transaction_id, operation_id, target, value_wei::text AS value_wei, data, checks, tries AS transaction_tries
             FROM engine.transactions WHERE chain_id = $1 AND sender = $2 AND service = $3 AND state IN ('QUEUED', 'PREPARING') AND due_at <= now()
             ORDER BY sequence LIMIT $4",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(self.service.as_str())
        .bind(batch as i64)
        .fetch_all(&self.pool)
        .await?;
        work.queued = rows.iter().map(transaction).collect::<Result<_, _>>()?;
        Ok(work)
    }

    async fn attempts(&self, lane: LaneId, condition: &'static str) -> Result<Vec<Attempt>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{ATTEMPT} WHERE {condition}")))
            .bind(signed(lane.chain_id)?)
            .bind(lane.sender.as_slice())
            .bind(self.service.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(attempt).collect()
    }

    /// Every hash ever signed for the nonces.
    pub(crate) async fn hashes_of(&self, lane: LaneId, nonces: &[u64]) -> Result<Vec<B256>, StoreError> {
        let nonces: Vec<i64> = nonces.iter().map(|nonce| signed(*nonce)).collect::<Result<_, _>>()?;
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT tx_hash FROM engine.attempts WHERE chain_id = $1 AND sender = $2 AND nonce = ANY($3) AND tx_hash IS NOT NULL",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(nonces)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|bytes| hash(bytes)).collect()
    }

    /// Requests of the lane that this database knows, from a nonce on.
    pub(crate) async fn known_requests(&self, lane: LaneId, from_nonce: u64) -> Result<Vec<RequestId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT request_id FROM engine.attempts WHERE chain_id = $1 AND sender = $2 AND nonce >= $3",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(signed(from_nonce)?)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(RequestId).collect())
    }

    /// Compares a lane with the chain before it sends: its next nonce is never below what the chain has seen, and everything
    /// sent is looked at again at once.
    pub(crate) async fn reconcile_lane(&self, lane: LaneId, least_next_nonce: u64) -> Result<(), StoreError> {
        let mut commit = self.pool.begin().await?;
        let row = sqlx::query(
            "SELECT tenant, next_nonce FROM engine.lanes WHERE chain_id = $1 AND sender = $2 FOR NO KEY UPDATE",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .fetch_one(&mut *commit)
        .await?;
        let stored: Option<i64> = row.try_get("next_nonce")?;
        let least = signed(least_next_nonce)?;
        if stored.is_none_or(|stored| stored < least) {
            sqlx::query("UPDATE engine.lanes SET next_nonce = $3 WHERE chain_id = $1 AND sender = $2")
                .bind(signed(lane.chain_id)?)
                .bind(lane.sender.as_slice())
                .bind(least)
                .execute(&mut *commit)
                .await?;
            if let Some(stored) = stored {
                crate::metric_definitions::used_outside();
                let body = json!({"stored_next_nonce": stored, "chain_next_nonce": least});
                leaf(
                    &mut commit,
                    row.try_get("tenant")?,
                    "lane.resync",
                    self.service.as_str(),
                    &lane.to_string(),
                    body,
                )
                .await?;
            }
        }
        sqlx::query("UPDATE engine.attempts SET due_at = '-infinity' WHERE chain_id = $1 AND sender = $2 AND service = $3 AND state IN ('SIGNING', 'SIGNED', 'SENT')")
            .bind(signed(lane.chain_id)?)
            .bind(lane.sender.as_slice())
            .bind(self.service.as_str())
            .execute(&mut *commit)
            .await?;
        commit.commit().await?;
        Ok(())
    }

    /// Binds nonces and writes the attempts in one commit. What is no longer queued is left out.
    pub(crate) async fn bind(&self, lane: LaneId, bindings: Vec<Binding>) -> Result<usize, StoreError> {
        let mut commit = self.pool.begin().await?;
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT next_nonce FROM engine.lanes WHERE chain_id = $1 AND sender = $2 FOR NO KEY UPDATE",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .fetch_one(&mut *commit)
        .await?;
        let Some(next) = next else { return Ok(0) };
        // The next statement, not the same one: its snapshot is younger than the lane's lock.
        let ids: Vec<Uuid> = bindings.iter().map(|binding| binding.transaction.id.0).collect();
        let queued: Vec<Uuid> = sqlx::query_scalar(
            "SELECT transaction_id FROM engine.transactions WHERE transaction_id = ANY($1) AND state IN ('QUEUED', 'PREPARING')
             ORDER BY transaction_id FOR NO KEY UPDATE",
        )
        .bind(&ids)
        .fetch_all(&mut *commit)
        .await?;
        let bound: Vec<&Binding> =
            bindings.iter().filter(|binding| queued.contains(&binding.transaction.id.0)).collect();
        if bound.is_empty() {
            return Ok(0);
        }
        let ids: Vec<Uuid> = bound.iter().map(|binding| binding.transaction.id.0).collect();
        let nonces: Vec<i64> = (next..).take(ids.len()).collect();
        let taken = sqlx::query(
            "INSERT INTO engine.nonces (chain_id, sender, nonce, transaction_id) SELECT $1, $2, n, t FROM unnest($3::bigint[], $4::uuid[]) AS x(n, t)
             ON CONFLICT (chain_id, sender, nonce) DO UPDATE SET transaction_id = excluded.transaction_id, released = false WHERE nonces.released",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(&nonces)
        .bind(&ids)
        .execute(&mut *commit)
        .await?
        .rows_affected();
        if taken != ids.len() as u64 {
            return Err(StoreError::corrupt(format!(
                "lane {lane}: a nonce from {next} on belongs to another transaction"
            )));
        }
        let mut attempts = Vec::with_capacity(bound.len());
        let earlier: Vec<(Uuid, i32)> =
            sqlx::query_as("SELECT transaction_id, max(attempt) FROM engine.attempts WHERE transaction_id = ANY($1) GROUP BY transaction_id")
                .bind(&ids)
                .fetch_all(&mut *commit)
                .await?;
        for binding in &bound {
            let number =
                earlier.iter().find(|(id, _)| *id == binding.transaction.id.0).map_or(1, |(_, number)| number + 1);
            attempts.push((&binding.transaction, number, AttemptKind::Call, None, binding.gas_limit, binding.fees));
        }
        insert_attempts(&mut commit, self.service.as_str(), lane, &nonces, &attempts).await?;
        sqlx::query(
            "UPDATE engine.transactions t SET state = 'SIGNING', sub_status = '', nonce = x.n, tries = 0, updated_at = now()
             FROM unnest($1::uuid[], $2::bigint[]) AS x(i, n) WHERE t.transaction_id = x.i",
        )
        .bind(&ids)
        .bind(&nonces)
        .execute(&mut *commit)
        .await?;
        sqlx::query("UPDATE engine.lanes SET next_nonce = $3 WHERE chain_id = $1 AND sender = $2")
            .bind(signed(lane.chain_id)?)
            .bind(lane.sender.as_slice())
            .bind(next + ids.len() as i64)
            .execute(&mut *commit)
            .await?;
        commit.commit().await?;
        Ok(ids.len())
    }

    /// Stores signed bytes, before anything is sent.
    pub(crate) async fn store_signed(&self, signed_bytes: &[(RequestId, Bytes, B256)]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = signed_bytes.iter().map(|(id, _, _)| id.0).collect();
        let raws: Vec<Vec<u8>> = signed_bytes.iter().map(|(_, raw, _)| raw.to_vec()).collect();
        let hashes: Vec<Vec<u8>> = signed_bytes.iter().map(|(_, _, hash)| hash.to_vec()).collect();
        let mut commit = self.pool.begin().await?;
        sqlx::query(
            "UPDATE engine.attempts a SET state = 'SIGNED', raw = x.r, tx_hash = x.h, tries = 0, due_at = '-infinity'
             FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS x(i, r, h) WHERE a.request_id = x.i AND a.state = 'SIGNING'",
        )
        .bind(&ids)
        .bind(&raws)
        .bind(&hashes)
        .execute(&mut *commit)
        .await?;
        let rows = sqlx::query(
            "UPDATE engine.transactions t SET state = 'BROADCASTING', sub_status = '', tx_hash = a.tx_hash, updated_at = now()
             FROM engine.attempts a WHERE a.request_id = ANY($1) AND t.transaction_id = a.transaction_id AND t.state IN ('SIGNING', 'BROADCASTING')
             RETURNING t.tenant, t.operation_id, t.transaction_id, t.nonce",
        )
        .bind(&ids)
        .fetch_all(&mut *commit)
        .await?;
        emit(&mut commit, pending_events(&rows, TransactionState::Broadcasting, "")?).await?;
        commit.commit().await?;
        Ok(())
    }

    /// Marks attempts as sent; they come up again after `again_after` if no block has them by then.
    pub(crate) async fn mark_sent(&self, ids: &[RequestId], again_after: Duration) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let mut commit = self.pool.begin().await?;
        sqlx::query(
            "UPDATE engine.attempts SET state = 'SENT', due_at = now() + make_interval(secs => $2) WHERE request_id = ANY($1) AND state IN ('SIGNED', 'SENT')",
        )
        .bind(&ids)
        .bind(again_after.as_secs_f64())
        .execute(&mut *commit)
        .await?;
        sqlx::query(
            "UPDATE engine.transactions t SET sub_status = 'accepted_by_node', updated_at = now() FROM engine.attempts a
             WHERE a.request_id = ANY($1) AND t.transaction_id = a.transaction_id AND t.state = 'BROADCASTING' AND t.sub_status <> 'accepted_by_node'",
        )
        .bind(&ids)
        .execute(&mut *commit)
        .await?;
        commit.commit().await?;
        Ok(())
    }

    /// Puts an attempt off, with the reason in the history of its transaction. `held`: the provider has not decided.
    pub(crate) async fn defer_attempt(
        &self,
        attempt: &Attempt,
        pause: Duration,
        action: &str,
        sub_status: &str,
        error: &str,
        held: bool,
    ) -> Result<(), StoreError> {
        let mut commit = self.pool.begin().await?;
        sqlx::query("UPDATE engine.attempts SET tries = tries + 1, due_at = now() + make_interval(secs => $2), held = held OR $3 WHERE request_id = $1")
            .bind(attempt.request_id.0)
            .bind(pause.as_secs_f64())
            .bind(held)
            .execute(&mut *commit)
            .await?;
        sqlx::query(
            "UPDATE engine.transactions SET sub_status = $2, history = engine.note(history, $3, $4), updated_at = now()
             WHERE transaction_id = $1 AND state IN ('SIGNING', 'BROADCASTING')",
        )
        .bind(attempt.transaction.id.0)
        .bind(sub_status)
        .bind(action)
        .bind(error)
        .execute(&mut *commit)
        .await?;
        if held && !attempt.held {
            sqlx::query("UPDATE engine.lanes l SET needs_approval = true FROM engine.attempts a WHERE a.request_id = $1 AND l.chain_id = a.chain_id AND l.sender = a.sender")
                .bind(attempt.request_id.0)
                .execute(&mut *commit)
                .await?;
        }
        commit.commit().await?;
        Ok(())
    }

    /// Puts queued transactions off, with the reason in their history.
    pub(crate) async fn defer_queued(
        &self,
        ids: &[TransactionId],
        pause: Duration,
        action: &str,
        sub_status: &str,
        error: &str,
    ) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        sqlx::query(
            "UPDATE engine.transactions SET state = 'PREPARING', sub_status = $3, tries = tries + 1, due_at = now() + make_interval(secs => $2),
                    history = engine.note(history, $4, $5), updated_at = now() WHERE transaction_id = ANY($1) AND state IN ('QUEUED', 'PREPARING')",
        )
        .bind(ids)
        .bind(pause.as_secs_f64())
        .bind(sub_status)
        .bind(action)
        .bind(error)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends transactions that have no nonce.
    pub(crate) async fn refuse_queued(&self, refusals: Vec<Refusal>) -> Result<(), StoreError> {
        let mut commit = self.pool.begin().await?;
        self.settle(
            &mut commit,
            refusals.into_iter().map(|refusal| (refusal, None)).collect(),
            &["QUEUED", "PREPARING"],
        )
        .await?;
        commit.commit().await?;
        Ok(())
    }

    /// Ends transactions whose attempts are refused for good. Nonces at the top of the lane are given back, the others are
    /// filled by a zero-value self-transfer. `sealed`: signed bytes exist, so the nonce can only be filled.
    pub(crate) async fn refuse_attempts(
        &self,
        lane: LaneId,
        refused: Vec<(Attempt, Refusal)>,
        sealed: bool,
        fill_fees: Fees,
    ) -> Result<(), StoreError> {
        let mut commit = self.pool.begin().await?;
        let (attempts, refusals): (Vec<_>, Vec<_>) = refused.into_iter().unzip();
        self.settle(
            &mut commit,
            refusals.into_iter().map(|refusal| (refusal, None)).collect(),
            &["SIGNING", "BROADCASTING"],
        )
        .await?;
        let mut next: i64 = sqlx::query_scalar(
            "SELECT next_nonce FROM engine.lanes WHERE chain_id = $1 AND sender = $2 FOR NO KEY UPDATE",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .fetch_one(&mut *commit)
        .await?;
        let ids: Vec<Uuid> = attempts.iter().map(|attempt| attempt.request_id.0).collect();
        sqlx::query("UPDATE engine.attempts SET state = CASE WHEN raw IS NULL THEN 'REFUSED' ELSE 'SEALED' END, release_pending = raw IS NULL, due_at = '-infinity' WHERE request_id = ANY($1)")
            .bind(&ids)
            .execute(&mut *commit)
            .await?;
        let mut fill = Vec::new();
        let mut by_nonce: Vec<&Attempt> = attempts.iter().collect();
        by_nonce.sort_by_key(|attempt| std::cmp::Reverse(attempt.nonce));
        for attempt in by_nonce {
            let nonce = signed(attempt.nonce)?;
            if !sealed && attempt.kind == AttemptKind::Call && nonce == next - 1 {
                sqlx::query(
                    "UPDATE engine.nonces SET released = true WHERE chain_id = $1 AND sender = $2 AND nonce = $3",
                )
                .bind(signed(lane.chain_id)?)
                .bind(lane.sender.as_slice())
                .bind(nonce)
                .execute(&mut *commit)
                .await?;
                next -= 1;
            } else {
                fill.push(attempt);
            }
        }
        sqlx::query("UPDATE engine.lanes SET next_nonce = $3 WHERE chain_id = $1 AND sender = $2")
            .bind(signed(lane.chain_id)?)
            .bind(lane.sender.as_slice())
            .bind(next)
            .execute(&mut *commit)
            .await?;
        for attempt in &attempts {
            let body = json!({"nonce": attempt.nonce, "request_id": attempt.request_id, "filled": fill.iter().any(|one| one.nonce == attempt.nonce)});
            leaf(
                &mut commit,
                &attempt.transaction.tenant,
                "transaction.refused",
                self.service.as_str(),
                &attempt.transaction.id.to_string(),
                body,
            )
            .await?;
        }
        for attempt in fill {
            let new = NewAttempt { of: attempt, kind: AttemptKind::Cancel, gas_limit: 21_000, fees: fill_fees };
            add_attempt(&mut commit, self.service.as_str(), lane, &new).await?;
        }
        commit.commit().await?;
        Ok(())
    }

    /// Writes a further attempt; the earlier one is no longer sent, but stays watched.
    pub(crate) async fn replace(&self, lane: LaneId, new: &NewAttempt<'_>) -> Result<(), StoreError> {
        let mut commit = self.pool.begin().await?;
        sqlx::query(
            "UPDATE engine.attempts SET state = 'SUPERSEDED' WHERE request_id = $1 AND state IN ('SIGNED', 'SENT')",
        )
        .bind(new.of.request_id.0)
        .execute(&mut *commit)
        .await?;
        add_attempt(&mut commit, self.service.as_str(), lane, new).await?;
        sqlx::query("UPDATE engine.transactions SET sub_status = 'replacing', history = engine.note(history, 'replace', ''), updated_at = now() WHERE transaction_id = $1 AND state = 'BROADCASTING'")
            .bind(new.of.transaction.id.0)
            .execute(&mut *commit)
            .await?;
        commit.commit().await?;
        Ok(())
    }

    /// A replacement was refused: the attempt that it would have replaced goes on.
    pub(crate) async fn drop_replacement(
        &self,
        refused: &Attempt,
        pause: Duration,
        error: &str,
    ) -> Result<(), StoreError> {
        let mut commit = self.pool.begin().await?;
        sqlx::query("UPDATE engine.attempts SET state = 'REFUSED', release_pending = true, due_at = '-infinity' WHERE request_id = $1 AND state = 'SIGNING'")
            .bind(refused.request_id.0)
            .execute(&mut *commit)
            .await?;
        sqlx::query("UPDATE engine.attempts SET state = 'SENT', created_at = now(), due_at = now() + make_interval(secs => $2) WHERE request_id = $1 AND state = 'SUPERSEDED'")
            .bind(refused.replaces.map(|id| id.0))
            .bind(pause.as_secs_f64())
            .execute(&mut *commit)
            .await?;
        sqlx::query("UPDATE engine.transactions SET sub_status = 'accepted_by_node', history = engine.note(history, 'replace', $2), updated_at = now() WHERE transaction_id = $1 AND state = 'BROADCASTING'")
            .bind(refused.transaction.id.0)
            .bind(error)
            .execute(&mut *commit)
            .await?;
        commit.commit().await?;
        Ok(())
    }

    /// Somebody else's transaction took the nonce, finally: the intent goes back into the queue.
    pub(crate) async fn requeue_used_outside(&self, lane: LaneId, attempt: &Attempt) -> Result<(), StoreError> {
        let mut commit = self.pool.begin().await?;
        sqlx::query("UPDATE engine.attempts SET state = CASE WHEN raw IS NULL THEN 'REFUSED' ELSE 'SUPERSEDED' END WHERE chain_id = $1 AND sender = $2 AND nonce = $3 AND state IN ('SIGNING', 'SIGNED', 'SENT')")
            .bind(signed(lane.chain_id)?)
            .bind(lane.sender.as_slice())
            .bind(signed(attempt.nonce)?)
            .execute(&mut *commit)
            .await?;
        sqlx::query(
            "UPDATE engine.transactions SET state = 'QUEUED', sub_status = 'nonce_used_outside', nonce = NULL, tx_hash = NULL,
                    history = engine.note(history, 'nonce_used_outside', $2), updated_at = now() WHERE transaction_id = $1 AND state IN ('SIGNING', 'BROADCASTING')",
        )
        .bind(attempt.transaction.id.0)
        .bind(format!("nonce {}", attempt.nonce))
        .execute(&mut *commit)
        .await?;
        let body = json!({"nonce": attempt.nonce, "lane": lane.to_string()});
        leaf(
            &mut commit,
            &attempt.transaction.tenant,
            "lane.nonce_used_outside",
            self.service.as_str(),
            &attempt.transaction.id.to_string(),
            body,
        )
        .await?;
        commit.commit().await?;
        crate::metric_definitions::used_outside();
        Ok(())
    }

    /// The signer has freed the watermark, or never held one.
    pub(crate) async fn released(&self, id: RequestId) -> Result<(), StoreError> {
        sqlx::query("UPDATE engine.attempts SET release_pending = false WHERE request_id = $1")
            .bind(id.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends transactions: locks and wakes their operations first, whatever their state, then steps, transactions, outbox.
    /// Only transactions in one of `from` change, so that nothing is told twice.
    pub(crate) async fn settle(
        &self,
        commit: &mut PgConnection,
        settled: Vec<(Refusal, Option<StepOutcome>)>,
        from: &[&str],
    ) -> Result<(), StoreError> {
        if settled.is_empty() {
            return Ok(());
        }
        let (mut tenants, mut operations, mut ids) = (vec![], vec![], vec![]);
        let (mut states, mut subs, mut errors, mut outcomes) = (vec![], vec![], vec![], vec![]);
        for (refusal, outcome) in &settled {
            tenants.push(refusal.tenant.clone());
            operations.push(refusal.operation_id);
            ids.push(refusal.transaction_id.0);
            states.push(refusal.state.as_str());
            subs.push(refusal.sub_status);
            errors.push((refusal.state != TransactionState::Completed).then(|| json!(refusal.failure)));
            let outcome = outcome.clone().unwrap_or_else(|| StepOutcome::Failed { failure: refusal.failure.clone() });
            outcomes.push(serde_json::to_value(outcome).map_err(StoreError::corrupt)?);
        }
        sqlx::query("SELECT FROM engine.operations WHERE operation_id = ANY($1) AND tenant = ANY($2) ORDER BY tenant, operation_id FOR NO KEY UPDATE")
            .bind(&operations)
            .bind(&tenants)
            .execute(&mut *commit)
            .await?;
        sqlx::query("UPDATE engine.operations SET wake = (state = 'RUNNING'), updated_at = now() WHERE operation_id = ANY($1) AND tenant = ANY($2)")
            .bind(&operations)
            .bind(&tenants)
            .execute(&mut *commit)
            .await?;
        let rows = sqlx::query(
            "UPDATE engine.transactions t SET state = x.s, sub_status = x.u, error = x.e, updated_at = now()
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) AS x(i, s, u, e) WHERE t.transaction_id = x.i AND t.state = ANY($5)
             RETURNING t.tenant, t.operation_id, t.transaction_id, t.state, t.sub_status, t.tx_hash, t.block_number, t.error",
        )
        .bind(&ids)
        .bind(&states)
        .bind(&subs)
        .bind(&errors)
        .bind(from)
        .fetch_all(&mut *commit)
        .await?;
        let changed: Vec<Uuid> = rows.iter().map(|row| row.try_get("transaction_id")).collect::<Result<_, _>>()?;
        sqlx::query(
            "UPDATE engine.steps s SET outcome = x.o FROM unnest($1::uuid[], $2::jsonb[]) AS x(i, o)
             JOIN engine.transactions t ON t.transaction_id = x.i
             WHERE s.tenant = t.tenant AND s.operation_id = t.operation_id AND s.name = t.step AND s.outcome IS NULL AND t.transaction_id = ANY($3)",
        )
        .bind(&ids)
        .bind(&outcomes)
        .bind(&changed)
        .execute(&mut *commit)
        .await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let tx_hash: Option<Vec<u8>> = row.try_get("tx_hash")?;
            let body = json!({
                "state": row.try_get::<String, _>("state")?, "sub_status": row.try_get::<String, _>("sub_status")?,
                "tx_hash": tx_hash.map(alloy::hex::encode_prefixed), "block_number": row.try_get::<Option<i64>, _>("block_number")?,
                "error": row.try_get::<Option<serde_json::Value>, _>("error")?,
            });
            let (tenant, operation): (String, Uuid) = (row.try_get("tenant")?, row.try_get("operation_id")?);
            events.push(Event::transaction(
                "engine.transaction.final",
                &tenant,
                operation,
                row.try_get("transaction_id")?,
                body,
            ));
        }
        for state in TransactionState::ALL {
            let count = states.iter().filter(|text| **text == state.as_str()).count();
            if count > 0 {
                crate::metric_definitions::transactions_finished(*state, count);
            }
        }
        emit(commit, events).await
    }
}

pub(super) fn pending_events(
    rows: &[PgRow],
    state: TransactionState,
    sub_status: &str,
) -> Result<Vec<Event>, StoreError> {
    rows.iter()
        .map(|row| {
            let body =
                json!({"state": state, "sub_status": sub_status, "nonce": row.try_get::<Option<i64>, _>("nonce")?});
            let (tenant, operation): (String, Uuid) = (row.try_get("tenant")?, row.try_get("operation_id")?);
            Ok(Event::transaction(
                "engine.transaction.pending",
                &tenant,
                operation,
                row.try_get("transaction_id")?,
                body,
            ))
        })
        .collect()
}

async fn add_attempt(
    commit: &mut PgConnection,
    service: &str,
    lane: LaneId,
    new: &NewAttempt<'_>,
) -> Result<(), StoreError> {
    let last: i32 = sqlx::query_scalar("SELECT max(attempt) FROM engine.attempts WHERE transaction_id = $1")
        .bind(new.of.transaction.id.0)
        .fetch_one(&mut *commit)
        .await?;
    let row = (&new.of.transaction, last + 1, new.kind, Some(new.of.request_id), new.gas_limit, new.fees);
    insert_attempts(commit, service, lane, &[signed(new.of.nonce)?], &[row]).await
}

type AttemptRow<'a> = (&'a QueuedTransaction, i32, AttemptKind, Option<RequestId>, u64, Fees);

async fn insert_attempts(
    commit: &mut PgConnection,
    service: &str,
    lane: LaneId,
    nonces: &[i64],
    rows: &[AttemptRow<'_>],
) -> Result<(), StoreError> {
    let (mut tenants, mut ids, mut numbers, mut kinds, mut requests) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut replaces, mut gas, mut fees) = (vec![], vec![], vec![]);
    for (transaction, number, kind, replaced, gas_limit, price) in rows {
        tenants.push(transaction.tenant.clone());
        ids.push(transaction.id.0);
        numbers.push(*number);
        kinds.push(kind.as_str());
        requests.push(RequestId::of_attempt(transaction.id, u32::try_from(*number).map_err(StoreError::corrupt)?).0);
        replaces.push(replaced.map(|id| id.0));
        gas.push(signed(*gas_limit)?);
        fees.push(fees_json(price));
    }
    sqlx::query(
        "INSERT INTO engine.attempts (tenant, transaction_id, attempt, service, chain_id, sender, nonce, kind, request_id, replaces, gas_limit, fees, state)
         SELECT t, i, a, $1, $2, $3, n, k, r, p, g, f, 'SIGNING'
         FROM unnest($4::text[], $5::uuid[], $6::int[], $7::bigint[], $8::text[], $9::uuid[], $10::uuid[], $11::bigint[], $12::jsonb[])
              AS x(t, i, a, n, k, r, p, g, f)",
    )
    .bind(service)
    .bind(signed(lane.chain_id)?)
    .bind(lane.sender.as_slice())
    .bind(tenants)
    .bind(ids)
    .bind(numbers)
    .bind(nonces)
    .bind(kinds)
    .bind(requests)
    .bind(replaces)
    .bind(gas)
    .bind(fees)
    .execute(commit)
    .await?;
    Ok(())
}

/// Prices as decimal strings: JSON numbers are too small for wei.
fn fees_json(fees: &Fees) -> serde_json::Value {
    match fees {
        Fees::Eip1559 { max_fee_wei, priority_fee_wei } => {
            json!({"max_fee_wei": max_fee_wei.to_string(), "priority_fee_wei": priority_fee_wei.to_string()})
        }
        Fees::Legacy { gas_price_wei } => json!({"gas_price_wei": gas_price_wei.to_string()}),
    }
}

fn fees(value: &serde_json::Value) -> Result<Fees, StoreError> {
    let wei = |name: &str| value.get(name).and_then(|text| text.as_str()).and_then(|text| text.parse::<u128>().ok());
    match (wei("max_fee_wei"), wei("priority_fee_wei"), wei("gas_price_wei")) {
        (Some(max_fee_wei), Some(priority_fee_wei), None) => Ok(Fees::Eip1559 { max_fee_wei, priority_fee_wei }),
        (None, None, Some(gas_price_wei)) => Ok(Fees::Legacy { gas_price_wei }),
        _ => Err(StoreError::corrupt(format!("fees {value}"))),
    }
}

fn transaction(row: &PgRow) -> Result<QueuedTransaction, StoreError> {
    Ok(QueuedTransaction {
        tenant: row.try_get("tenant")?,
        id: TransactionId(row.try_get("transaction_id")?),
        operation_id: row.try_get("operation_id")?,
        target: row.try_get::<Option<&[u8]>, _>("target")?.map(address).transpose()?,
        value_wei: row.try_get::<&str, _>("value_wei")?.parse().map_err(StoreError::corrupt)?,
        data: Bytes::copy_from_slice(row.try_get("data")?),
        checks: row.try_get::<Json<_>, _>("checks")?.0,
        tries: u32::try_from(row.try_get::<i32, _>("transaction_tries")?).unwrap_or(0),
    })
}

fn attempt(row: &PgRow) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        transaction: transaction(row)?,
        nonce: unsigned(row.try_get("nonce")?)?,
        kind: match row.try_get("kind")? {
            "CALL" => AttemptKind::Call,
            "REPLACEMENT" => AttemptKind::Replacement,
            _ => AttemptKind::Cancel,
        },
        state: match row.try_get("state")? {
            "SIGNING" => AttemptState::Signing,
            "SIGNED" => AttemptState::Signed,
            "SENT" => AttemptState::Sent,
            _ => AttemptState::Other,
        },
        request_id: RequestId(row.try_get("request_id")?),
        replaces: row.try_get::<Option<Uuid>, _>("replaces")?.map(RequestId),
        gas_limit: unsigned(row.try_get("gas_limit")?)?,
        fees: fees(&row.try_get("fees")?)?,
        held: row.try_get("held")?,
        release_pending: row.try_get("release_pending")?,
        raw: row.try_get::<Option<Vec<u8>>, _>("raw")?.map(Bytes::from),
        tx_hash: row.try_get::<Option<&[u8]>, _>("tx_hash")?.map(hash).transpose()?,
        tries: u32::try_from(row.try_get::<i32, _>("tries")?).unwrap_or(0),
        age: Duration::from_secs_f64(row.try_get::<f64, _>("age_s")?.max(0.0)),
    })
}

// === impl AttemptKind ===

impl AttemptKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Call => "CALL",
            Self::Replacement => "REPLACEMENT",
            Self::Cancel => "CANCEL",
        }
    }
}
