//! Dead letters: transactions that were parked, and operations whose flow cannot be asked. What an operator does about them.

use super::{Event, Reads, accept::begin, emit, leaf, transactions::notify, unsigned};
use crate::{
    error::StoreError,
    flow::{Failure, StepOutcome},
    model::{LaneId, OperationId, ServiceName, TenantId},
    operator::{DeadLetter, DeadLetterAnswer, DeadLetterCursor, DeadLetterKind, DeadLetterPage},
};
use serde_json::json;
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

/// What an operator does with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Into its queue again; a flow is asked again.
    Retry,
    /// It has failed.
    Close,
}

const DEAD_LETTERS: &str = "
SELECT * FROM (
    SELECT 'TRANSACTION' AS kind, t.transaction_id AS id, t.operation_id, o.kind AS flow, t.service, t.chain_id, t.sender, t.sub_status, t.error,
           t.updated_at AS parked_at, engine.is_decided(t) AS decided, o.state = 'RUNNING' AS awaited
    FROM engine.transactions t JOIN engine.operations o ON o.tenant = t.tenant AND o.operation_id = t.operation_id
    WHERE t.tenant = $1 AND t.state = 'DEAD_LETTER' AND ($2::timestamptz IS NULL OR (t.updated_at, t.transaction_id) < ($2, $3))
    UNION ALL
    SELECT 'OPERATION', o.operation_id, o.operation_id, o.kind, o.service, NULL, NULL, '', jsonb_build_object('reason', 'FLOW_QUARANTINED', 'message', o.quarantine, 'metadata', '{}'::jsonb),
           o.quarantined_at, NOT EXISTS (SELECT FROM engine.transactions t WHERE t.tenant = o.tenant AND t.operation_id = o.operation_id
                                         AND t.state IN ('SIGNING', 'BROADCASTING', 'CONFIRMING', 'PENDING_APPROVAL', 'DEAD_LETTER')), true
    FROM engine.operations o
    WHERE o.tenant = $1 AND o.quarantined_at IS NOT NULL AND ($2::timestamptz IS NULL OR (o.quarantined_at, o.operation_id) < ($2, $3))
) d ORDER BY d.parked_at DESC, d.id DESC LIMIT $4";

impl Reads {
    /// A page of a tenant's dead letters, the latest first.
    pub(crate) async fn dead_letters(
        &self,
        tenant: &TenantId,
        after: Option<DeadLetterCursor>,
        page_size: u32,
    ) -> Result<DeadLetterPage, StoreError> {
        let rows = sqlx::query(DEAD_LETTERS)
            .bind(tenant.as_str())
            .bind(after.map(|cursor| cursor.parked_at))
            .bind(after.map(|cursor| cursor.id))
            .bind(i64::from(page_size) + 1)
            .fetch_all(&self.pool)
            .await?;
        let mut letters = rows.iter().map(dead_letter).collect::<Result<Vec<_>, _>>()?;
        let more = letters.len() > page_size as usize;
        letters.truncate(page_size as usize);
        let next =
            letters.last().filter(|_| more).map(|last| DeadLetterCursor { parked_at: last.parked_at, id: last.id });
        Ok(DeadLetterPage { letters, next })
    }

    /// Retries or closes a dead letter, by the id of its transaction or operation.
    pub(crate) async fn recover(
        &self,
        tenant: &TenantId,
        id: Uuid,
        recovery: Recovery,
        actor: &str,
        reason: &str,
    ) -> Result<DeadLetterAnswer, StoreError> {
        let mut commit = begin(&self.pool).await?;
        // The operation is locked first, whatever comes of it.
        let operation = sqlx::query(
            "SELECT operation_id, state, quarantine FROM engine.operations WHERE tenant = $1
               AND operation_id = coalesce((SELECT operation_id FROM engine.transactions WHERE tenant = $1 AND transaction_id = $2), $2) FOR NO KEY UPDATE",
        )
        .bind(tenant.as_str())
        .bind(id)
        .fetch_optional(&mut *commit)
        .await?;
        let Some(operation) = operation else { return Ok(DeadLetterAnswer::NotFound) };
        let operation_id: Uuid = operation.try_get("operation_id")?;
        let answer = if operation_id == id {
            match operation.try_get::<Option<String>, _>("quarantine")? {
                Some(why) => recover_operation(&mut commit, tenant, id, recovery, why, reason).await?,
                None => DeadLetterAnswer::NotFound,
            }
        } else {
            let awaited = operation.try_get::<&str, _>("state")? == "RUNNING";
            recover_transaction(&mut commit, tenant, id, operation_id, awaited, recovery, reason).await?
        };
        if answer != DeadLetterAnswer::Done {
            // Not left to the drop, which gives the lock back a moment later.
            commit.rollback().await?;
            return Ok(answer);
        }
        let body = json!({"reason": reason, "operation_id": operation_id});
        leaf(&mut commit, tenant.as_str(), recovery.action(), actor, &id.to_string(), body).await?;
        commit.commit().await?;
        notify(&self.pool).await?;
        Ok(answer)
    }
}

async fn recover_transaction(
    commit: &mut PgConnection,
    tenant: &TenantId,
    id: Uuid,
    operation_id: Uuid,
    awaited: bool,
    recovery: Recovery,
    reason: &str,
) -> Result<DeadLetterAnswer, StoreError> {
    let row = sqlx::query(
        "SELECT t.step, t.error, t.tx_hash, t.block_number, engine.is_decided(t) AS decided FROM engine.transactions t
         WHERE t.tenant = $1 AND t.transaction_id = $2 AND t.state = 'DEAD_LETTER' FOR NO KEY UPDATE",
    )
    .bind(tenant.as_str())
    .bind(id)
    .fetch_optional(&mut *commit)
    .await?;
    let Some(row) = row else { return Ok(DeadLetterAnswer::NotFound) };
    if !row.try_get::<bool, _>("decided")? {
        return Ok(DeadLetterAnswer::Undecided);
    }
    if recovery == Recovery::Retry {
        if !awaited {
            return Ok(DeadLetterAnswer::OperationEnded);
        }
        sqlx::query(
            "UPDATE engine.transactions SET state = 'QUEUED', sub_status = '', nonce = NULL, tx_hash = NULL, error = NULL, tries = 0, due_at = '-infinity',
                    cancel_requested = false, bump_requested = false, history = engine.note(history, 'retry', ''), updated_at = now()
             WHERE tenant = $1 AND transaction_id = $2",
        )
        .bind(tenant.as_str())
        .bind(id)
        .execute(&mut *commit)
        .await?;
        return Ok(DeadLetterAnswer::Done);
    }
    let stored = row.try_get::<Option<Json<Failure>>, _>("error")?.map(|Json(failure)| failure);
    let failure = stored.unwrap_or_else(|| Failure::new("DEAD_LETTER", "parked")).with("closed", reason);
    sqlx::query(
        "UPDATE engine.transactions SET state = 'FAILED', sub_status = 'closed', error = $3, history = engine.note(history, 'close', ''), updated_at = now()
         WHERE tenant = $1 AND transaction_id = $2",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(Json(&failure))
    .execute(&mut *commit)
    .await?;
    sqlx::query("UPDATE engine.steps SET outcome = $4 WHERE tenant = $1 AND operation_id = $2 AND name = $3 AND outcome IS NULL")
        .bind(tenant.as_str())
        .bind(operation_id)
        .bind(row.try_get::<&str, _>("step")?)
        .bind(Json(StepOutcome::Failed { failure: failure.clone() }))
        .execute(&mut *commit)
        .await?;
    sqlx::query("UPDATE engine.operations SET wake = (state = 'RUNNING'), updated_at = now() WHERE tenant = $1 AND operation_id = $2")
        .bind(tenant.as_str())
        .bind(operation_id)
        .execute(&mut *commit)
        .await?;
    let tx_hash: Option<Vec<u8>> = row.try_get("tx_hash")?;
    let body = json!({
        "state": "FAILED", "sub_status": "closed", "tx_hash": tx_hash.map(alloy::hex::encode_prefixed),
        "block_number": row.try_get::<Option<i64>, _>("block_number")?, "error": failure,
    });
    let event = Event::transaction("engine.transaction.final", tenant.as_str(), operation_id, id, body);
    emit(commit, vec![event]).await?;
    Ok(DeadLetterAnswer::Done)
}

async fn recover_operation(
    commit: &mut PgConnection,
    tenant: &TenantId,
    id: Uuid,
    recovery: Recovery,
    why: String,
    reason: &str,
) -> Result<DeadLetterAnswer, StoreError> {
    if recovery == Recovery::Retry {
        sqlx::query("UPDATE engine.operations SET wake = true, retry_at = '-infinity', updated_at = now() WHERE tenant = $1 AND operation_id = $2")
            .bind(tenant.as_str())
            .bind(id)
            .execute(&mut *commit)
            .await?;
        return Ok(DeadLetterAnswer::Done);
    }
    let under_way: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM engine.transactions WHERE tenant = $1 AND operation_id = $2
                        AND state IN ('SIGNING', 'BROADCASTING', 'CONFIRMING', 'PENDING_APPROVAL', 'DEAD_LETTER'))",
    )
    .bind(tenant.as_str())
    .bind(id)
    .fetch_one(&mut *commit)
    .await?;
    if under_way {
        return Ok(DeadLetterAnswer::Undecided);
    }
    sqlx::query(
        "UPDATE engine.transactions SET state = 'CANCELLED', sub_status = 'operation_ended', updated_at = now()
         WHERE tenant = $1 AND operation_id = $2 AND state IN ('RECEIVED', 'QUEUED', 'PREPARING')",
    )
    .bind(tenant.as_str())
    .bind(id)
    .execute(&mut *commit)
    .await?;
    let failure = Failure::new("FLOW_QUARANTINED", why).with("closed", reason);
    sqlx::query(
        "UPDATE engine.operations SET state = 'FAILED', error = $3, wake = false, quarantined_at = NULL, quarantine = NULL, updated_at = now()
         WHERE tenant = $1 AND operation_id = $2",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(Json(&failure))
    .execute(&mut *commit)
    .await?;
    let body = json!({"state": "FAILED", "result": null, "error": failure});
    let topic = "engine.operation.final";
    let event = Event { tenant: tenant.to_string(), topic, subject: id, operation_id: id, body };
    emit(commit, vec![event]).await?;
    Ok(DeadLetterAnswer::Done)
}

fn dead_letter(row: &PgRow) -> Result<DeadLetter, StoreError> {
    let chain_id = row.try_get::<Option<i64>, _>("chain_id")?.map(unsigned).transpose()?;
    let sender = row.try_get::<Option<&[u8]>, _>("sender")?.map(super::address).transpose()?;
    let failure = row.try_get::<Option<Json<Failure>>, _>("error")?.map(|Json(failure)| failure);
    Ok(DeadLetter {
        kind: row.try_get::<&str, _>("kind")?.parse::<DeadLetterKind>().map_err(StoreError::Corrupt)?,
        id: row.try_get("id")?,
        operation_id: OperationId(row.try_get("operation_id")?),
        flow: row.try_get("flow")?,
        service: ServiceName::new(row.try_get::<String, _>("service")?),
        lane: chain_id.zip(sender).map(|(chain_id, sender)| LaneId { chain_id, sender }),
        sub_status: row.try_get("sub_status")?,
        error: failure.unwrap_or_else(|| Failure::new("DEAD_LETTER", "parked")),
        parked_at: row.try_get("parked_at")?,
        decided: row.try_get("decided")?,
        awaited: row.try_get("awaited")?,
    })
}

// === impl Recovery ===

impl Recovery {
    fn action(self) -> &'static str {
        match self {
            Self::Retry => "dead_letter.retry",
            Self::Close => "dead_letter.close",
        }
    }
}
