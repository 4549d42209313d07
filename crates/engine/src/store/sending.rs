//! What becomes of attempts on their way from the signer to a block.

use super::{
    Store,
    accept::begin,
    attempt::{Attempt, AttemptKind, NewAttempt, add_attempt},
    leaf,
    settle::Ending,
    signed,
};
use crate::{
    custody::{Held, KeyProvider},
    error::StoreError,
    model::{LaneId, RequestId, TransactionId},
};
use alloy::primitives::{B256, Bytes};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Bytes that the signer gave.
#[derive(Debug, Clone)]
pub(crate) struct SignedBytes {
    pub(crate) request_id: RequestId,
    pub(crate) raw: Bytes,
    pub(crate) tx_hash: B256,
    /// It was held, and what was true at its approval has been checked since.
    pub(crate) held: bool,
}

impl Store {
    /// Stores signed bytes, before anything is sent. Returns the requests that waited for them; not those that were held
    /// without the giver's knowledge.
    pub(crate) async fn store_signed(&self, given: &[SignedBytes]) -> Result<Vec<RequestId>, StoreError> {
        let ids: Vec<Uuid> = given.iter().map(|one| one.request_id.0).collect();
        let raws: Vec<&[u8]> = given.iter().map(|one| one.raw.as_ref()).collect();
        let hashes: Vec<&[u8]> = given.iter().map(|one| one.tx_hash.as_slice()).collect();
        let held: Vec<bool> = given.iter().map(|one| one.held).collect();
        let stored: Vec<Uuid> = sqlx::query_scalar(
            "WITH stored AS (
                 UPDATE engine.attempts a SET state = 'SIGNED', raw = g.raw, tx_hash = g.hash, tries = 0, due_at = '-infinity'
                 FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::boolean[]) AS g(id, raw, hash, held)
                 WHERE a.request_id = g.id AND a.state = 'SIGNING' AND a.held = g.held
                 RETURNING a.tenant, a.transaction_id, a.request_id, a.tx_hash
             ), moved AS (
                 UPDATE engine.transactions t SET state = 'BROADCASTING', sub_status = '', tx_hash = s.tx_hash, updated_at = now() FROM stored s
                 WHERE t.tenant = s.tenant AND t.transaction_id = s.transaction_id AND t.state IN ('SIGNING', 'BROADCASTING')
                 RETURNING t.tenant, t.operation_id, t.transaction_id, t.nonce
             ), told AS (
                 INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body)
                 SELECT tenant, 'engine.transaction.pending', transaction_id::text, operation_id,
                        jsonb_build_object('state', 'BROADCASTING', 'sub_status', '', 'nonce', nonce) FROM moved
             )
             SELECT request_id FROM stored",
        )
        .bind(ids)
        .bind(raws)
        .bind(hashes)
        .bind(held)
        .fetch_all(&self.pool)
        .await?;
        Ok(stored.into_iter().map(RequestId).collect())
    }

    /// Marks attempts as sent; they come up again after `again_after` if no block has them by then.
    pub(crate) async fn mark_sent(&self, ids: &[RequestId], again_after: Duration) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        sqlx::query(
            "WITH sent AS (
                 UPDATE engine.attempts SET state = 'SENT', due_at = now() + make_interval(secs => $2)
                 WHERE request_id = ANY($1) AND state IN ('SIGNED', 'SENT') RETURNING tenant, transaction_id
             )
             UPDATE engine.transactions t SET sub_status = 'accepted_by_node', updated_at = now() FROM sent s
             WHERE t.tenant = s.tenant AND t.transaction_id = s.transaction_id AND t.state = 'BROADCASTING' AND t.sub_status <> 'accepted_by_node'",
        )
        .bind(ids)
        .bind(again_after.as_secs_f64())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Puts an attempt off that still stands as it was seen, with the reason in the history of its transaction. `hold`: the
    /// provider has not decided, which is an answer: what failed before it no longer counts, and its lane binds one at a time. Without one what it
    /// was held for before stands.
    pub(crate) async fn defer_attempt(
        &self,
        attempt: &Attempt,
        pause: Duration,
        action: &str,
        sub_status: &str,
        error: &str,
        hold: Option<Held>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "WITH put_off AS (
                 UPDATE engine.attempts SET tries = CASE WHEN $3 THEN 0 ELSE tries + 1 END, due_at = now() + make_interval(secs => $2), held = held OR $3,
                        hold = coalesce($8, hold), held_by = CASE WHEN $3 THEN $9 ELSE held_by END,
                        held_since = CASE WHEN NOT $3 OR hold IS NOT DISTINCT FROM $8 THEN held_since ELSE now() END
                 WHERE request_id = $1 AND (state = $4 OR ($4 = '' AND release_pending)) RETURNING tenant, transaction_id, chain_id, sender
             ), noted AS (
                 UPDATE engine.transactions t SET sub_status = $5, history = engine.note(t.history, $6, $7), updated_at = now() FROM put_off p
                 WHERE t.tenant = p.tenant AND t.transaction_id = p.transaction_id AND t.state IN ('SIGNING', 'BROADCASTING')
             )
             UPDATE engine.lanes l SET needs_approval = true FROM put_off p
             WHERE $3 AND l.chain_id = p.chain_id AND l.sender = p.sender AND NOT l.needs_approval",
        )
        .bind(attempt.request_id.0)
        .bind(pause.as_secs_f64())
        .bind(hold.is_some())
        .bind(attempt.state.as_str())
        .bind(sub_status)
        .bind(action)
        .bind(error)
        .bind(hold.map(|hold| hold.cause.as_str()))
        .bind(hold.and_then(|hold| hold.provider).map(KeyProvider::as_str))
        .execute(&self.pool)
        .await?;
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

    /// The lane's key signs without asking anybody again: it binds as many as its window allows, once nothing of it is held.
    pub(crate) async fn signs_at_once(&self, lane: LaneId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE engine.lanes l SET needs_approval = false WHERE l.chain_id = $1 AND l.sender = $2 AND l.needs_approval AND NOT EXISTS (
                 SELECT FROM engine.attempts a WHERE a.chain_id = l.chain_id AND a.sender = l.sender AND a.held AND a.state = 'SIGNING')",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Writes a further attempt; the earlier one is no longer sent, but stays watched.
    pub(crate) async fn replace(&self, lane: LaneId, new: &NewAttempt<'_>) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let superseded = sqlx::query("UPDATE engine.attempts SET state = 'SUPERSEDED' WHERE request_id = $1 AND state IN ('SIGNING', 'SIGNED', 'SENT')")
            .bind(new.of.request_id.0)
            .execute(&mut *commit)
            .await?;
        if superseded.rows_affected() == 0 {
            return Ok(()); // included, or replaced by somebody else, since it was looked at
        }
        add_attempt(&mut commit, self.service.as_str(), lane, new, Duration::ZERO).await?;
        let action = if new.kind == AttemptKind::Cancel { "cancel" } else { "replace" };
        sqlx::query(
            "UPDATE engine.transactions SET sub_status = CASE WHEN $2 = 'cancel' THEN 'cancelling' ELSE 'replacing' END, bump_requested = false,
                    history = engine.note(history, $2, ''), updated_at = now() WHERE transaction_id = $1 AND state IN ('SIGNING', 'BROADCASTING')",
        )
        .bind(new.of.transaction.id.0)
        .bind(action)
        .execute(&mut *commit)
        .await?;
        commit.commit().await?;
        Ok(())
    }

    /// A higher price that was asked for is not to be had; the transaction goes on as it is.
    pub(crate) async fn drop_bump(&self, id: TransactionId, error: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE engine.transactions SET bump_requested = false, history = engine.note(history, 'bump', $2), updated_at = now()
             WHERE transaction_id = $1 AND bump_requested",
        )
        .bind(id.0)
        .bind(error)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// A replacement or cancel comes to nothing: the attempt that it would have replaced goes on. Without an answer it is
    /// abandoned, for it may have been signed all the same, and its nonce stays held.
    pub(crate) async fn drop_replacement(
        &self,
        refused: &Attempt,
        ending: Ending,
        pause: Duration,
        error: &str,
    ) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let dropped = sqlx::query("UPDATE engine.attempts SET state = $2, release_pending = $3, due_at = '-infinity' WHERE request_id = $1 AND state = 'SIGNING'")
            .bind(refused.request_id.0)
            .bind(ending.attempt_state())
            .bind(ending == Ending::Refused)
            .execute(&mut *commit)
            .await?;
        if dropped.rows_affected() == 0 {
            return Ok(());
        }
        sqlx::query(
            "UPDATE engine.attempts SET state = CASE WHEN raw IS NULL THEN 'SIGNING' ELSE 'SENT' END, created_at = now(),
                    due_at = now() + make_interval(secs => CASE WHEN raw IS NULL THEN 0 ELSE $2 END) WHERE request_id = $1 AND state = 'SUPERSEDED'",
        )
        .bind(refused.replaces.map(|id| id.0))
        .bind(pause.as_secs_f64())
        .execute(&mut *commit)
        .await?;
        let action = if refused.is_cancel() { "cancel" } else { "replace" };
        sqlx::query(
            "UPDATE engine.transactions SET sub_status = CASE WHEN state = 'SIGNING' THEN '' ELSE 'accepted_by_node' END, cancel_requested = false,
                    history = engine.note(history, $3, $2), updated_at = now() WHERE transaction_id = $1 AND state IN ('SIGNING', 'BROADCASTING')",
        )
        .bind(refused.transaction.id.0)
        .bind(error)
        .bind(action)
        .execute(&mut *commit)
        .await?;
        commit.commit().await?;
        Ok(())
    }

    /// Somebody else's transaction took the nonce, finally: the intent goes back into the queue.
    pub(crate) async fn requeue_used_outside(&self, lane: LaneId, attempt: &Attempt) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        sqlx::query(
            "UPDATE engine.attempts SET state = CASE WHEN raw IS NULL THEN 'REFUSED' ELSE 'SUPERSEDED' END
             WHERE chain_id = $1 AND sender = $2 AND nonce = $3 AND state IN ('SIGNING', 'SIGNED', 'SENT')",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(signed(attempt.nonce)?)
        .execute(&mut *commit)
        .await?;
        // With its nonce only: by now it may be on its way with another one.
        sqlx::query(
            "UPDATE engine.transactions SET state = 'QUEUED', sub_status = 'nonce_used_outside', nonce = NULL, tx_hash = NULL,
                    history = engine.note(history, 'nonce_used_outside', $2), updated_at = now() WHERE transaction_id = $1 AND nonce = $3 AND state IN ('SIGNING', 'BROADCASTING')",
        )
        .bind(attempt.transaction.id.0)
        .bind(format!("nonce {}", attempt.nonce))
        .bind(signed(attempt.nonce)?)
        .execute(&mut *commit)
        .await?;
        // A dead letter is free of a nonce that nothing of it can use any more.
        sqlx::query("UPDATE engine.transactions SET nonce = NULL, updated_at = now() WHERE transaction_id = $1 AND nonce = $2 AND state = 'DEAD_LETTER'")
            .bind(attempt.transaction.id.0)
            .bind(signed(attempt.nonce)?)
            .execute(&mut *commit)
            .await?;
        let body = json!({"nonce": attempt.nonce, "lane": lane.to_string()});
        let (tenant, subject) = (&attempt.transaction.tenant, attempt.transaction.id.to_string());
        leaf(&mut commit, tenant, "lane.nonce_used_outside", self.service.as_str(), &subject, body).await?;
        commit.commit().await?;
        crate::metric_definitions::used_outside();
        Ok(())
    }

    /// Another attempt at these nonces is in a block: what is still open at them leads nowhere. `include` says so of what it sees;
    /// this is for what was written while it ran.
    pub(crate) async fn overtake(&self, lane: LaneId, nonces: &[u64]) -> Result<(), StoreError> {
        let nonces: Vec<i64> = nonces.iter().map(|nonce| signed(*nonce)).collect::<Result<_, _>>()?;
        sqlx::query(
            "UPDATE engine.attempts o SET state = CASE WHEN o.raw IS NULL THEN 'REFUSED' ELSE 'SUPERSEDED' END FROM engine.attempts m
             WHERE o.chain_id = $1 AND o.sender = $2 AND o.nonce = ANY($3) AND o.state IN ('SIGNING', 'SIGNED', 'SENT')
               AND m.chain_id = o.chain_id AND m.sender = o.sender AND m.nonce = o.nonce AND m.state IN ('MINED', 'DONE')",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(nonces)
        .execute(&self.pool)
        .await?;
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
}
