//! Calls handed over to providers that number, price and broadcast by themselves: without a nonce, and never twice at once.

use super::{
    Refusal, Store,
    accept::begin,
    attempt::{Attempt, QueuedTransaction, TRANSACTION, request_of, transaction},
    hash,
    lanes::{self, HASTEN_ATTEMPTS},
    leaf,
    settle::{give_back, lock_lane, lock_operations, set_next_nonce},
    signed, unsigned,
};
use crate::{
    custody::{Held, KeyProvider},
    error::StoreError,
    model::{LaneId, RequestId, TransactionId},
    states::TransactionState,
};
use alloy::primitives::B256;
use serde_json::json;
use sqlx::{AssertSqlSafe, Row, postgres::PgRow};
use std::time::Duration;
use uuid::Uuid;

/// Handovers of a lane that are looked at together.
const DUE_AT_ONCE: i64 = 200;

/// Where a handover stands that somebody has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The signer has not taken it, as far as is known.
    Signing,
    /// The provider has it, and has told no hash.
    Handed,
    /// The provider has told a hash.
    Sent,
    /// Nobody knows what came of it. It is still watched.
    Parked,
}

/// A call given to a provider.
#[derive(Debug, Clone)]
pub(crate) struct Handover {
    pub(crate) transaction: QueuedTransaction,
    pub(crate) request_id: RequestId,
    pub(crate) standing: Standing,
    pub(crate) provider_id: String,
    /// Every hash that the provider has told of it; the last is the present one.
    pub(crate) hashes: Vec<B256>,
    /// The nonce that the provider gave it, once a node has shown it.
    pub(crate) chain_nonce: Option<u64>,
    pub(crate) tries: u32,
    pub(crate) age: Duration,
}

/// What was heard of a handover.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) standing: Standing,
    pub(crate) provider_id: String,
    pub(crate) tx_hash: Option<B256>,
    pub(crate) chain_nonce: Option<u64>,
    /// Somebody has to act there.
    pub(crate) hold: Option<Held>,
    /// Empty without an answer: what was told before stands.
    pub(crate) sub_status: &'static str,
    /// The provider's words, or why there are none.
    pub(crate) detail: String,
    /// It was an answer: what failed before it no longer counts.
    pub(crate) is_answer: bool,
    /// Until it is looked at again.
    pub(crate) pause: Duration,
}

/// How a handover ends without a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandoverEnding {
    /// Nothing of it was sent, and never will be.
    Refused,
    /// It was sent, and can never be included any more.
    Dropped,
    /// It may have been sent, or may be. It stays watched.
    Parked,
}

/// Makes the handovers of a lane that are under way due at once.
const HASTEN_HANDOVERS: &str = "UPDATE engine.handovers SET due_at = '-infinity' WHERE chain_id = $1 AND sender = $2 AND service = $3 AND state IN ('SIGNING', 'HANDED', 'SENT', 'PARKED')";

/// Columns of a handover `h` that [`handover`] reads beside those of its transaction.
const HANDOVER: &str = "h.request_id, h.state, h.provider_id, h.tx_hash, h.chain_nonce, h.tries AS tries, extract(epoch FROM now() - h.created_at)::float8 AS age_s,
 ARRAY(SELECT w.tx_hash FROM engine.handover_hashes w WHERE w.request_id = h.request_id ORDER BY w.tx_hash IS NOT DISTINCT FROM h.tx_hash, w.told_at, w.tx_hash) AS hashes";

fn handover(row: &PgRow) -> Result<Handover, StoreError> {
    let hashes: Vec<Vec<u8>> = row.try_get("hashes")?;
    Ok(Handover {
        transaction: transaction(row)?,
        request_id: RequestId(row.try_get("request_id")?),
        standing: match row.try_get("state")? {
            "SIGNING" => Standing::Signing,
            "HANDED" => Standing::Handed,
            "SENT" => Standing::Sent,
            _ => Standing::Parked,
        },
        provider_id: row.try_get("provider_id")?,
        hashes: hashes.iter().map(|bytes| hash(bytes)).collect::<Result<_, _>>()?,
        chain_nonce: row.try_get::<Option<i64>, _>("chain_nonce")?.map(unsigned).transpose()?,
        tries: u32::try_from(row.try_get::<i32, _>("tries")?).unwrap_or(0),
        age: Duration::from_secs_f64(row.try_get::<f64, _>("age_s")?.max(0.0)),
    })
}

impl Store {
    /// What the signer says of who broadcasts for a lane. Everything that is under way on it is looked at again at once.
    pub(crate) async fn broadcasts(&self, lane: LaneId, by_provider: bool) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let changed: Option<String> = sqlx::query_scalar(
            "UPDATE engine.lanes SET by_provider = $3 WHERE chain_id = $1 AND sender = $2 AND by_provider <> $3 RETURNING tenant",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(by_provider)
        .fetch_optional(&mut *commit)
        .await?;
        if let Some(tenant) = changed {
            let body = json!({"by_provider": by_provider});
            leaf(&mut commit, &tenant, "lane.broadcasts", self.service.as_str(), &lane.to_string(), body).await?;
        }
        lanes::look_again(&mut commit, &self.service, lane, HASTEN_ATTEMPTS).await?;
        lanes::look_again(&mut commit, &self.service, lane, HASTEN_HANDOVERS).await?;
        commit.commit().await?;
        Ok(())
    }

    /// Writes handovers in one commit, before anybody is asked. What is no longer queued is left out; so is everything of a lane that was paused, or is not the
    /// provider's any more.
    pub(crate) async fn hand_over(&self, lane: LaneId, ids: &[TransactionId]) -> Result<Vec<Handover>, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let open = sqlx::query(
            "SELECT FROM engine.lanes WHERE chain_id = $1 AND sender = $2 AND by_provider AND paused_at IS NULL FOR SHARE",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .fetch_optional(&mut *commit)
        .await?;
        if open.is_none() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let queued: Vec<(Uuid, i32)> = sqlx::query_as(
            "SELECT t.transaction_id, engine.attempts_of(t) FROM engine.transactions t
             WHERE t.transaction_id = ANY($1) AND t.state IN ('QUEUED', 'PREPARING') ORDER BY t.transaction_id FOR NO KEY UPDATE OF t",
        )
        .bind(&ids)
        .fetch_all(&mut *commit)
        .await?;
        let (mut queued_ids, mut numbers, mut requests) = (Vec::new(), Vec::new(), Vec::new());
        for (id, earlier) in queued {
            queued_ids.push(id);
            numbers.push(earlier + 1);
            requests.push(request_of(TransactionId(id), earlier + 1)?.0);
        }
        sqlx::query(
            "WITH given AS (SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[]) AS g(id, number, request)), written AS (
                 INSERT INTO engine.handovers (tenant, transaction_id, attempt, service, chain_id, sender, request_id, state)
                 SELECT t.tenant, g.id, g.number, $4, t.chain_id, t.sender, g.request, 'SIGNING' FROM given g JOIN engine.transactions t ON t.transaction_id = g.id
             )
             UPDATE engine.transactions t SET state = 'SIGNING', sub_status = '', tries = 0, updated_at = now() FROM given g WHERE t.transaction_id = g.id",
        )
        .bind(&queued_ids)
        .bind(&numbers)
        .bind(&requests)
        .bind(self.service.as_str())
        .execute(&mut *commit)
        .await?;
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {TRANSACTION}, {HANDOVER} FROM engine.handovers h JOIN engine.transactions t ON t.tenant = h.tenant AND t.transaction_id = h.transaction_id
             WHERE h.request_id = ANY($1) ORDER BY t.priority, t.sequence"
        )))
        .bind(&requests)
        .fetch_all(&mut *commit)
        .await?;
        let written = rows.iter().map(handover).collect::<Result<_, _>>()?;
        commit.commit().await?;
        Ok(written)
    }

    /// Handovers of lanes that are due.
    pub(super) async fn due_handovers(&self, lanes: &[LaneId]) -> Result<Vec<(LaneId, Handover)>, StoreError> {
        let due = format!(
            "SELECT n.c AS chain_id, n.s AS sender, {TRANSACTION}, {HANDOVER} FROM unnest($2::bigint[], $3::bytea[]) AS n(c, s)
             CROSS JOIN LATERAL (
                 SELECT * FROM engine.handovers d WHERE d.chain_id = n.c AND d.sender = n.s AND d.service = $1
                   AND d.state IN ('SIGNING', 'HANDED', 'SENT', 'PARKED') AND d.due_at <= now() ORDER BY d.due_at, d.created_at, d.request_id LIMIT $4) h
             JOIN engine.transactions t ON t.tenant = h.tenant AND t.transaction_id = h.transaction_id ORDER BY t.priority, t.sequence"
        );
        self.due(due, lanes, DUE_AT_ONCE, handover).await
    }

    /// Writes down what was heard of a handover that still stands as it was seen, and tells readers what has changed.
    pub(crate) async fn heard(&self, of: &Handover, heard: &Heard) -> Result<(), StoreError> {
        sqlx::query(
            "WITH seen AS (
                 UPDATE engine.handovers SET state = $3, provider_id = coalesce(nullif($4, ''), provider_id), tx_hash = coalesce($5, tx_hash), chain_nonce = coalesce($6, chain_nonce),
                        held = held OR $7, hold = CASE WHEN $8 THEN $13 ELSE hold END, held_by = CASE WHEN $8 THEN $14 ELSE held_by END,
                        held_since = CASE WHEN NOT $8 THEN held_since WHEN NOT $7 THEN NULL WHEN hold IS NOT DISTINCT FROM $13 THEN held_since ELSE now() END,
                        tries = CASE WHEN $8 THEN 0 ELSE tries + 1 END, due_at = now() + make_interval(secs => $9)
                 WHERE request_id = $1 AND state = $2 RETURNING tenant, transaction_id, request_id, state
             ), named AS (
                 INSERT INTO engine.handover_hashes (tx_hash, request_id) SELECT $5, request_id FROM seen WHERE $5 IS NOT NULL ON CONFLICT DO NOTHING
             ), moved AS (
                 UPDATE engine.transactions t SET state = CASE WHEN s.state = 'SIGNING' THEN t.state ELSE 'BROADCASTING' END, 
                        sub_status = CASE WHEN $8 OR $10 <> '' THEN $10 ELSE t.sub_status END, tx_hash = coalesce($5, t.tx_hash), history = engine.note(t.history, $11, $12), updated_at = now()
                 FROM seen s JOIN engine.transactions o ON o.tenant = s.tenant AND o.transaction_id = s.transaction_id
                 WHERE t.tenant = s.tenant AND t.transaction_id = s.transaction_id AND t.state IN ('SIGNING', 'BROADCASTING')
                 RETURNING t.tenant, t.operation_id, t.transaction_id, t.state, t.sub_status, t.tx_hash,
                           (o.state, o.sub_status, o.tx_hash) IS DISTINCT FROM (t.state, t.sub_status, t.tx_hash) AS changed
             )
             INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body)
             SELECT tenant, 'engine.transaction.pending', transaction_id::text, operation_id,
                    jsonb_build_object('state', state, 'sub_status', sub_status, 'nonce', NULL) FROM moved WHERE changed AND state = 'BROADCASTING'",
        )
        .bind(of.request_id.0)
        .bind(of.standing.as_str())
        .bind(heard.standing.as_str())
        .bind(&heard.provider_id)
        .bind(heard.tx_hash.map(|hash| hash.to_vec()))
        .bind(heard.chain_nonce.map(signed).transpose()?)
        .bind(heard.hold.is_some())
        .bind(heard.is_answer)
        .bind(heard.pause.as_secs_f64())
        .bind(heard.sub_status)
        .bind(heard.action())
        .bind(&heard.detail)
        .bind(heard.hold.map(|hold| hold.cause.as_str()))
        .bind(heard.hold.and_then(|hold| hold.provider).map(KeyProvider::as_str))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends a handover that still stands as it was seen, and with it its transaction, unless that was parked before.
    pub(crate) async fn end_handover(
        &self,
        of: &Handover,
        ending: HandoverEnding,
        refusal: Refusal,
    ) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        lock_operations(&mut commit, std::iter::once(&refusal)).await?;
        let ended = sqlx::query(
            "UPDATE engine.handovers SET state = $3, due_at = now() + make_interval(secs => $4) WHERE request_id = $1 AND state = $2",
        )
        .bind(of.request_id.0)
        .bind(of.standing.as_str())
        .bind(ending.as_str())
        .bind(PARKED_AGAIN.as_secs_f64())
        .execute(&mut *commit)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(());
        }
        let body = json!({"request_id": of.request_id, "handover": ending.as_str()});
        let (tenant, subject) = (of.transaction.tenant.clone(), of.transaction.id.to_string());
        self.settle(&mut commit, vec![(refusal, None)], &["SIGNING", "BROADCASTING"]).await?;
        leaf(&mut commit, &tenant, "transaction.refused", self.service.as_str(), &subject, body).await?;
        commit.commit().await?;
        Ok(())
    }

    /// The signer has not taken a handover and wants the call in another form: back into the queue.
    pub(crate) async fn requeue_handover(&self, of: &Handover, pause: Duration) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let ended =
            sqlx::query("UPDATE engine.handovers SET state = 'REFUSED' WHERE request_id = $1 AND state = 'SIGNING'")
                .bind(of.request_id.0)
                .execute(&mut *commit)
                .await?;
        if ended.rows_affected() > 0 {
            requeue(&mut commit, of.transaction.id, pause).await?;
        }
        commit.commit().await?;
        Ok(())
    }

    /// The signer has not taken the first attempt at a nonce and wants the call without one: back into the queue, and the nonce is given back.
    pub(crate) async fn requeue_attempt(
        &self,
        lane: LaneId,
        attempt: &Attempt,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let next = lock_lane(&mut commit, lane).await?;
        let ended =
            sqlx::query("UPDATE engine.attempts SET state = 'REFUSED' WHERE request_id = $1 AND state = 'SIGNING'")
                .bind(attempt.request_id.0)
                .execute(&mut *commit)
                .await?;
        if ended.rows_affected() > 0 {
            let nonce = signed(attempt.nonce)?;
            requeue(&mut commit, attempt.transaction.id, pause).await?;
            give_back(&mut commit, lane, nonce).await?;
            if nonce == next - 1 {
                set_next_nonce(&mut commit, lane, nonce).await?;
            }
        }
        commit.commit().await?;
        Ok(())
    }

    /// The provider does not give a handover up: its transaction goes on.
    pub(crate) async fn not_withdrawn(&self, of: &Handover, why: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE engine.transactions SET cancel_requested = false, history = engine.note(history, 'withdraw', $2), updated_at = now()
             WHERE transaction_id = $1 AND cancel_requested",
        )
        .bind(of.transaction.id.0)
        .bind(why)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Nobody knows what came of it: looked at so rarely.
pub(crate) const PARKED_AGAIN: Duration = Duration::from_secs(300);

async fn requeue(commit: &mut sqlx::PgConnection, id: TransactionId, pause: Duration) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE engine.transactions SET state = 'QUEUED', sub_status = 'mode_changed', nonce = NULL, tx_hash = NULL, due_at = now() + make_interval(secs => $2),
                history = engine.note(history, 'mode_changed', ''), updated_at = now() WHERE transaction_id = $1 AND state = 'SIGNING'",
    )
    .bind(id.0)
    .bind(pause.as_secs_f64())
    .execute(commit)
    .await?;
    Ok(())
}

// === impl Standing ===

impl Standing {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "SIGNING",
            Self::Handed => "HANDED",
            Self::Sent => "SENT",
            Self::Parked => "PARKED",
        }
    }
}

// === impl Heard ===

impl Heard {
    /// The name under which it is counted in the history of the transaction.
    pub(crate) fn action(&self) -> &'static str {
        match (self.is_answer, self.hold.is_some()) {
            (false, _) if self.tx_hash.is_none() => "sign",
            (true, true) => "approval",
            _ => "provider",
        }
    }
}

// === impl HandoverEnding ===

impl HandoverEnding {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "REFUSED",
            Self::Dropped => "DROPPED",
            Self::Parked => "PARKED",
        }
    }

    /// How its transaction ends with it.
    pub(crate) fn state(self) -> TransactionState {
        match self {
            Self::Refused | Self::Dropped => TransactionState::Failed,
            Self::Parked => TransactionState::DeadLetter,
        }
    }
}
