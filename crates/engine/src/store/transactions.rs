//! Single transactions: what readers see of them, and what may be asked of them.

use super::{
    HINT_CHANNEL, Reads,
    accept::begin,
    attempt::fees,
    hash,
    holds::hold,
    leaf,
    reads::{TRANSACTION_VIEW, transaction_view},
    signed, unsigned,
};
use crate::{
    error::StoreError,
    flow::{Failure, StepOutcome},
    model::{OperationId, RequestId, ServiceName, TenantId, TransactionId},
    operator::{AttemptView, CancelOutcome, TransactionCursor, TransactionFilter, TransactionPage, TransactionRecord},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

/// Columns of a transaction `t` and its operation `o` that [`record`] reads beside those of the view. What was asked for counts
/// while it can still be carried out.
const RECORD: &str = "t.operation_id, o.kind, o.principal, t.service, t.value_wei::text AS value_wei, t.position, t.created_at, t.updated_at,
 t.cancel_requested AND t.state IN ('SIGNING', 'BROADCASTING') AS cancel_requested, t.bump_requested AND t.state = 'BROADCASTING' AS bump_requested";

impl Reads {
    /// One transaction with its attempts.
    pub(crate) async fn transaction(
        &self,
        tenant: &TenantId,
        id: TransactionId,
    ) -> Result<Option<TransactionRecord>, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT {TRANSACTION_VIEW}, {RECORD} FROM engine.all_transactions t
             JOIN engine.all_operations o ON o.tenant = t.tenant AND o.operation_id = t.operation_id
             WHERE t.tenant = $1 AND t.transaction_id = $2"
        )))
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let mut found = record(&row)?;
        let attempts = sqlx::query(
            "SELECT attempt, kind, state, nonce, gas_limit, fees, tx_hash, held, block_number, tries, request_id, created_at,
                    CASE WHEN isfinite(due_at) THEN due_at END AS due_at, '' AS provider_id, '{}'::bytea[] AS earlier,
                    CASE WHEN state = 'SIGNING' THEN hold END AS hold, held_by, held_since, transaction_id AS held_transaction_id, false AS held_by_provider
             FROM engine.all_attempts WHERE tenant = $1 AND transaction_id = $2
             UNION ALL
             SELECT attempt, 'HANDOVER', state, chain_nonce, NULL, NULL, tx_hash, held, block_number, tries, request_id, created_at,
                    CASE WHEN isfinite(due_at) THEN due_at END, provider_id,
                    ARRAY(SELECT w.tx_hash FROM engine.all_handover_hashes w WHERE w.request_id = h.request_id AND w.tx_hash <> h.tx_hash ORDER BY w.told_at, w.tx_hash),
                    CASE WHEN state IN ('HANDED', 'PARKED') THEN hold END, held_by, held_since, transaction_id, true
             FROM engine.all_handovers h WHERE tenant = $1 AND transaction_id = $2 ORDER BY attempt",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_all(&self.pool)
        .await?;
        found.attempts = attempts.iter().map(attempt_view).collect::<Result<_, _>>()?;
        Ok(Some(found))
    }

    /// A page of a tenant's transactions: the newest operations first, and the last step of each.
    pub(crate) async fn transactions(
        &self,
        tenant: &TenantId,
        filter: &TransactionFilter,
        after: Option<TransactionCursor>,
        page_size: u32,
    ) -> Result<TransactionPage, StoreError> {
        // What has not ended is not in history.
        let which = if filter.state.is_some_and(|state| !state.is_final()) { "" } else { "all_" };
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {TRANSACTION_VIEW}, {RECORD} FROM engine.{which}transactions t
             JOIN engine.{which}operations o ON o.tenant = t.tenant AND o.operation_id = t.operation_id
             WHERE t.tenant = $1 AND ($2::uuid IS NULL OR (t.operation_id <= $2 AND (t.operation_id, t.position) < ($2, $3)))
               AND ($4::text IS NULL OR t.state = $4) AND ($5::bigint IS NULL OR t.chain_id = $5) AND ($6::bytea IS NULL OR t.sender = $6)
             ORDER BY t.operation_id DESC, t.position DESC LIMIT $7"
        )))
        .bind(tenant.as_str())
        .bind(after.map(|cursor| cursor.operation_id.0))
        .bind(after.map_or(0, |cursor| cursor.position))
        .bind(filter.state.map(|state| state.as_str()))
        .bind(filter.chain_id.map(signed).transpose()?)
        .bind(filter.sender.map(|sender| sender.to_vec()))
        .bind(i64::from(page_size) + 1)
        .fetch_all(&self.pool)
        .await?;
        let size = page_size as usize;
        let more = rows.len() > size;
        let last = rows.get(size.saturating_sub(1)).filter(|_| more);
        let next = last
            .map(|row| {
                let operation_id = OperationId(row.try_get("operation_id")?);
                Ok::<_, StoreError>(TransactionCursor { operation_id, position: row.try_get("position")? })
            })
            .transpose()?;
        let transactions = rows.iter().take(size).map(record).collect::<Result<_, _>>()?;
        Ok(TransactionPage { transactions, next })
    }

    /// Withdraws a transaction that has no nonce, or has one on its way replaced. `None`: it is neither.
    pub(crate) async fn cancel_transaction(
        &self,
        tenant: &TenantId,
        id: TransactionId,
        actor: &str,
        reason: &str,
    ) -> Result<Option<CancelOutcome>, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let operation: Option<Uuid> = sqlx::query_scalar(
            "SELECT o.operation_id FROM engine.transactions t JOIN engine.operations o ON o.tenant = t.tenant AND o.operation_id = t.operation_id
             WHERE t.tenant = $1 AND t.transaction_id = $2 FOR NO KEY UPDATE OF o",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_optional(&mut *commit)
        .await?;
        let Some(operation) = operation else { return Ok(None) };
        let failure = Failure::new("TRANSACTION_CANCELLED", reason);
        let withdrawn: Option<String> = sqlx::query_scalar(
            "UPDATE engine.transactions SET state = 'CANCELLED', sub_status = 'withdrawn', error = $3, updated_at = now()
             WHERE tenant = $1 AND transaction_id = $2 AND state IN ('RECEIVED', 'QUEUED', 'PREPARING') RETURNING step",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .bind(json!(failure))
        .fetch_optional(&mut *commit)
        .await?;
        let outcome = if let Some(step) = withdrawn {
            sqlx::query("UPDATE engine.steps SET outcome = $4 WHERE tenant = $1 AND operation_id = $2 AND name = $3 AND outcome IS NULL")
                .bind(tenant.as_str())
                .bind(operation)
                .bind(step)
                .bind(Json(StepOutcome::Failed { failure }))
                .execute(&mut *commit)
                .await?;
            sqlx::query("UPDATE engine.operations SET wake = (state = 'RUNNING'), updated_at = now() WHERE tenant = $1 AND operation_id = $2")
                .bind(tenant.as_str())
                .bind(operation)
                .execute(&mut *commit)
                .await?;
            CancelOutcome::Withdrawn
        } else {
            // The attempt comes up at once, for the worker of its lane to order the self-transfer.
            let asked = sqlx::query(
                "WITH asked AS (
                     UPDATE engine.transactions SET cancel_requested = true, history = engine.note(history, 'cancel_requested', ''), updated_at = now()
                     WHERE tenant = $1 AND transaction_id = $2 AND state IN ('SIGNING', 'BROADCASTING')
                       AND NOT EXISTS (SELECT FROM engine.handovers h WHERE h.tenant = $1 AND h.transaction_id = $2 AND h.state IN ('SENT', 'PARKED', 'MINED'))
                     RETURNING transaction_id
                 ), woken AS (
                     UPDATE engine.attempts a SET due_at = '-infinity' FROM asked
                     WHERE a.tenant = $1 AND a.transaction_id = asked.transaction_id AND a.state IN ('SIGNING', 'SIGNED', 'SENT')
                 ), handed AS (
                     UPDATE engine.handovers h SET due_at = '-infinity' FROM asked
                     WHERE h.tenant = $1 AND h.transaction_id = asked.transaction_id AND h.state IN ('SIGNING', 'HANDED') RETURNING h.request_id
                 )
                 SELECT EXISTS (SELECT FROM handed) FROM asked",
            )
            .bind(tenant.as_str())
            .bind(id.0)
            .fetch_optional(&mut *commit)
            .await?;
            let Some(asked) = asked else {
                // Not left to the drop, which gives the lock back a moment later.
                commit.rollback().await?;
                return Ok(None);
            };
            if asked.try_get(0)? { CancelOutcome::WithdrawalRecorded } else { CancelOutcome::ReplacementRecorded }
        };
        let body = json!({"reason": reason, "outcome": outcome.as_str()});
        leaf(&mut commit, tenant.as_str(), "transaction.cancel", actor, &id.to_string(), body).await?;
        commit.commit().await?;
        notify(&self.pool).await?;
        Ok(Some(outcome))
    }

    /// Records the wish for a higher price. `false`: nothing of the transaction waits for a block.
    pub(crate) async fn bump_transaction(
        &self,
        tenant: &TenantId,
        id: TransactionId,
        actor: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let asked = sqlx::query(
            "WITH asked AS (
                 UPDATE engine.transactions SET bump_requested = true, history = engine.note(history, 'bump_requested', ''), updated_at = now()
                 WHERE tenant = $1 AND transaction_id = $2 AND state = 'BROADCASTING'
                   AND NOT EXISTS (SELECT FROM engine.handovers h WHERE h.tenant = $1 AND h.transaction_id = $2 AND h.state NOT IN ('REFUSED', 'DROPPED'))
                 RETURNING transaction_id
             ), woken AS (
                 UPDATE engine.attempts a SET due_at = '-infinity' FROM asked
                 WHERE a.tenant = $1 AND a.transaction_id = asked.transaction_id AND a.state IN ('SIGNED', 'SENT')
             )
             SELECT FROM asked",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_optional(&mut *commit)
        .await?;
        if asked.is_none() {
            return Ok(false);
        }
        let body = json!({"reason": reason});
        leaf(&mut commit, tenant.as_str(), "transaction.bump", actor, &id.to_string(), body).await?;
        commit.commit().await?;
        notify(&self.pool).await?;
        Ok(true)
    }
}

/// Tells whoever listens in other processes, after the commit.
pub(super) async fn notify(pool: &PgPool) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_notify($1, '')").bind(HINT_CHANNEL).execute(pool).await?;
    Ok(())
}

fn record(row: &PgRow) -> Result<TransactionRecord, StoreError> {
    Ok(TransactionRecord {
        view: transaction_view(row)?,
        operation_id: OperationId(row.try_get("operation_id")?),
        kind: row.try_get("kind")?,
        principal: row.try_get("principal")?,
        service: ServiceName::new(row.try_get::<String, _>("service")?),
        value_wei: row.try_get::<&str, _>("value_wei")?.parse().map_err(StoreError::corrupt)?,
        cancel_requested: row.try_get("cancel_requested")?,
        bump_requested: row.try_get("bump_requested")?,
        attempts: Vec::new(),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn attempt_view(row: &PgRow) -> Result<AttemptView, StoreError> {
    Ok(AttemptView {
        number: u32::try_from(row.try_get::<i32, _>("attempt")?).map_err(StoreError::corrupt)?,
        kind: row.try_get::<&str, _>("kind")?.parse().map_err(StoreError::Corrupt)?,
        state: row.try_get::<&str, _>("state")?.parse().map_err(StoreError::Corrupt)?,
        nonce: row.try_get::<Option<i64>, _>("nonce")?.map(unsigned).transpose()?,
        gas_limit: row.try_get::<Option<i64>, _>("gas_limit")?.map(unsigned).transpose()?,
        fees: row.try_get::<Option<serde_json::Value>, _>("fees")?.as_ref().map(fees).transpose()?,
        provider_id: row.try_get("provider_id")?,
        earlier_hashes: row
            .try_get::<Vec<Vec<u8>>, _>("earlier")?
            .iter()
            .map(|bytes| hash(bytes))
            .collect::<Result<_, _>>()?,
        tx_hash: row.try_get::<Option<&[u8]>, _>("tx_hash")?.map(hash).transpose()?,
        held: row.try_get("held")?,
        provider_hold: hold(row)?,
        block_number: row.try_get::<Option<i64>, _>("block_number")?.map(unsigned).transpose()?,
        tries: u32::try_from(row.try_get::<i32, _>("tries")?).unwrap_or(0),
        request_id: RequestId(row.try_get("request_id")?),
        created_at: row.try_get("created_at")?,
        due_at: row.try_get("due_at")?,
    })
}
