//! What readers ask for.

use super::{
    accept::begin,
    address,
    checks::{check_view, checked_operations},
    hash, leaf,
    transactions::notify,
    unsigned,
};
use crate::{
    error::{AdmitError, StoreError},
    flow::{Failure, Signature, StepOutcome},
    model::{
        ActionView, LaneId, OperationFilter, OperationId, OperationPage, OperationView, OrderView, OutboxCursor,
        OutboxEvent, ServiceName, TenantId, TransactionId, TransactionView,
    },
    states::OperationState,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

/// Columns of a transaction `t` that [`transaction_view`] reads.
pub(super) const TRANSACTION_VIEW: &str = "t.transaction_id, t.step, t.chain_id, t.sender, t.target, t.state, t.sub_status, t.nonce, t.tx_hash, t.block_number, t.gas_used, t.error, t.history";

/// A page of the running operations of a tenant. They are few among those that have ended, and are found by the index of what runs, service by service.
const RUNNING: &str = checked_operations!(live
    "o.tenant = $1 AND o.operation_id = ANY (ARRAY(
         WITH RECURSIVE services AS (
             (SELECT service FROM engine.operations WHERE state = 'RUNNING' ORDER BY service LIMIT 1)
             UNION ALL
             SELECT (SELECT n.service FROM engine.operations n WHERE n.state = 'RUNNING' AND n.service > s.service ORDER BY n.service LIMIT 1)
             FROM services s WHERE s.service IS NOT NULL
         ) SELECT r.operation_id FROM services s JOIN engine.operations r ON r.service = s.service AND r.tenant = $1 AND r.state = 'RUNNING'
         WHERE ($2::uuid IS NULL OR r.operation_id < $2) AND ($3::text IS NULL OR r.kind = $3)
         ORDER BY r.operation_id DESC LIMIT $4)) AND ($5::text IS NULL OR o.state = $5) ORDER BY o.operation_id DESC");

/// A page of those that wait for a second person.
const AWAITING_CHECKER: &str = checked_operations!(live
    "o.tenant = $1 AND o.state = 'AWAITING_CHECKER' AND ($5::text IS NULL OR o.state = $5) AND ($2::uuid IS NULL OR o.operation_id < $2)
         AND ($3::text IS NULL OR o.kind = $3) ORDER BY o.operation_id DESC LIMIT $4");

/// A page of operations of one state, or of all.
const ALL: &str = checked_operations!(all
    "o.tenant = $1 AND ($2::uuid IS NULL OR o.operation_id < $2) AND ($3::text IS NULL OR o.kind = $3) AND ($5::text IS NULL OR o.state = $5)
         ORDER BY o.operation_id DESC LIMIT $4");

/// Reads across services.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    pub(crate) pool: PgPool,
}

impl Reads {
    pub(crate) async fn operation(
        &self,
        tenant: &TenantId,
        id: OperationId,
    ) -> Result<Option<OperationView>, StoreError> {
        let row = sqlx::query(checked_operations!(all "o.tenant = $1 AND o.operation_id = $2"))
            .bind(tenant.as_str())
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let mut view = operation(&row)?;
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {TRANSACTION_VIEW}, t.updated_at FROM engine.all_transactions t WHERE t.tenant = $1 AND t.operation_id = $2 ORDER BY t.position"
        )))
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_all(&self.pool)
        .await?;
        for row in &rows {
            view.updated_at = view.updated_at.max(row.try_get("updated_at")?);
            view.transactions.push(transaction_view(row)?);
        }
        Ok(Some(view))
    }

    pub(crate) async fn order_of_key(
        &self,
        tenant: &TenantId,
        principal: &str,
        method: &str,
        key: &str,
    ) -> Result<Option<serde_json::Value>, AdmitError> {
        let row = sqlx::query(
            "SELECT i.operation_id, o.order_json FROM engine.idempotency i
             LEFT JOIN engine.all_operations o ON o.tenant = i.tenant AND o.operation_id = i.operation_id
             WHERE i.tenant = $1 AND i.principal = $2 AND i.method = $3 AND i.key = $4",
        )
        .bind(tenant.as_str())
        .bind(principal)
        .bind(method)
        .bind(key)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::from)?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<_, StoreError> {
            Ok((OperationId(row.try_get("operation_id")?), row.try_get::<Option<_>, _>("order_json")?))
        };
        let (id, order) = read()?;
        order.map(Some).ok_or(AdmitError::Archived(id))
    }

    pub(crate) async fn signature(
        &self,
        tenant: &TenantId,
        id: OperationId,
        step: &str,
    ) -> Result<Option<Signature>, StoreError> {
        let outcome: Option<Option<Json<StepOutcome>>> = sqlx::query_scalar(
            "SELECT outcome FROM engine.all_steps WHERE tenant = $1 AND operation_id = $2 AND name = $3",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .bind(step)
        .fetch_optional(&self.pool)
        .await?;
        Ok(match outcome.flatten() {
            Some(Json(StepOutcome::Signed { signature })) => Some(signature),
            _ => None,
        })
    }

    pub(crate) async fn orders_under_way(
        &self,
        service: &ServiceName,
        kinds: &[&str],
        limit: u32,
    ) -> Result<Vec<OrderView>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, operation_id, kind, order_json FROM engine.operations
             WHERE service = $1 AND state = 'RUNNING' AND kind = ANY($2) ORDER BY created_at LIMIT $3",
        )
        .bind(service.as_str())
        .bind(kinds)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OrderView {
                    tenant: TenantId::new(row.try_get::<String, _>("tenant")?),
                    operation_id: OperationId(row.try_get("operation_id")?),
                    kind: row.try_get("kind")?,
                    order: row.try_get("order_json")?,
                })
            })
            .collect()
    }

    pub(crate) async fn operations(
        &self,
        tenant: &TenantId,
        filter: &OperationFilter,
        after: Option<OperationId>,
        page_size: u32,
    ) -> Result<OperationPage, StoreError> {
        let query = match filter.state {
            Some(OperationState::Running) => RUNNING,
            Some(OperationState::AwaitingChecker) => AWAITING_CHECKER,
            _ => ALL,
        };
        let rows = sqlx::query(query)
            .bind(tenant.as_str())
            .bind(after.map(|id| id.0))
            .bind(&filter.kind)
            .bind(i64::from(page_size) + 1)
            .bind(filter.state.map(|state| state.as_str()))
            .fetch_all(&self.pool)
            .await?;
        let mut operations = rows.iter().map(operation).collect::<Result<Vec<_>, _>>()?;
        let more = operations.len() > page_size as usize;
        operations.truncate(page_size as usize);
        let next = operations.last().filter(|_| more).map(|operation| operation.operation_id);
        Ok(OperationPage { operations, next })
    }

    /// Withdraws what has no nonce, and has what is on its way replaced. Returns whether there was anything of either.
    pub(crate) async fn cancel(
        &self,
        tenant: &TenantId,
        id: OperationId,
        actor: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let state: Option<String> = sqlx::query_scalar(
            "SELECT state FROM engine.operations WHERE tenant = $1 AND operation_id = $2 FOR NO KEY UPDATE",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_optional(&mut *commit)
        .await?;
        // What is held has ordered nothing, and is withdrawn whole.
        let is_held = state.as_deref() == Some("AWAITING_CHECKER");
        if !is_held && state.as_deref() != Some("RUNNING") {
            return Ok(false);
        }
        let withdrawn: Vec<String> = sqlx::query_scalar(
            "UPDATE engine.transactions SET state = 'CANCELLED', sub_status = 'withdrawn', updated_at = now()
             WHERE tenant = $1 AND operation_id = $2 AND state IN ('RECEIVED', 'QUEUED', 'PREPARING') RETURNING step",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_all(&mut *commit)
        .await?;
        // The attempts come up at once, for the worker of their lane to order the self-transfers.
        let replacing: Vec<String> = sqlx::query_scalar(
            "WITH asked AS (
                 UPDATE engine.transactions SET cancel_requested = true, history = engine.note(history, 'cancel_requested', ''), updated_at = now()
                 WHERE tenant = $1 AND operation_id = $2 AND state IN ('SIGNING', 'BROADCASTING') RETURNING transaction_id, step
             ), woken AS (
                 UPDATE engine.attempts a SET due_at = '-infinity' FROM asked
                 WHERE a.tenant = $1 AND a.transaction_id = asked.transaction_id AND a.state IN ('SIGNING', 'SIGNED', 'SENT')
             ), handed AS (
                 UPDATE engine.handovers h SET due_at = '-infinity' FROM asked
                 WHERE h.tenant = $1 AND h.transaction_id = asked.transaction_id AND h.state IN ('SIGNING', 'HANDED', 'SENT')
             )
             SELECT step FROM asked",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_all(&mut *commit)
        .await?;
        if !is_held && withdrawn.is_empty() && replacing.is_empty() {
            return Ok(false);
        }
        let failure = Failure::new("OPERATION_CANCELLED", reason);
        sqlx::query(
            "UPDATE engine.steps SET outcome = $4, due_at = NULL WHERE tenant = $1 AND operation_id = $2 AND (name = ANY($3) OR due_at IS NOT NULL)
                    AND outcome IS NULL",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .bind(&withdrawn)
        .bind(Json(StepOutcome::Failed { failure }))
        .execute(&mut *commit)
        .await?;
        let signed_for: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM engine.attempts a JOIN engine.transactions t ON t.tenant = a.tenant AND t.transaction_id = a.transaction_id
                            WHERE t.tenant = $1 AND t.operation_id = $2)
                 OR EXISTS (SELECT FROM engine.handovers h JOIN engine.transactions t ON t.tenant = h.tenant AND t.transaction_id = h.transaction_id
                            WHERE t.tenant = $1 AND t.operation_id = $2)",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_one(&mut *commit)
        .await?;
        // With something signed, the flow decides with what it has; else it ends here.
        sqlx::query(
            "UPDATE engine.operations SET cancel_requested = true, updated_at = now(), wake = $3,
                    state = CASE WHEN $3 THEN state ELSE 'CANCELLED' END WHERE tenant = $1 AND operation_id = $2",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .bind(signed_for)
        .execute(&mut *commit)
        .await?;
        let body = json!({"reason": reason, "withdrawn": withdrawn, "replacing": replacing});
        leaf(&mut commit, tenant.as_str(), "operation.cancel", actor, &id.to_string(), body.clone()).await?;
        let topic = if signed_for { "engine.operation.pending" } else { "engine.operation.final" };
        let event = super::Event { tenant: tenant.to_string(), topic, subject: id.0, operation_id: id.0, body };
        super::emit(&mut commit, vec![event]).await?;
        commit.commit().await?;
        notify(&self.pool).await?;
        Ok(true)
    }

    pub(crate) async fn events(
        &self,
        tenant: Option<&TenantId>,
        after: OutboxCursor,
        limit: u32,
    ) -> Result<Vec<OutboxEvent>, StoreError> {
        events(&self.pool, tenant, after, limit).await
    }

    pub(crate) async fn end_of_events(&self) -> Result<OutboxCursor, StoreError> {
        let query = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";
        let running: String = sqlx::query_scalar(query).fetch_one(&self.pool).await?;
        let running: u64 = running.parse().map_err(StoreError::corrupt)?;
        Ok(OutboxCursor { xid: running.saturating_sub(1), sequence: i64::MAX })
    }
}

/// Events of a tenant behind a cursor, in commit order, read on the caller's connection: for a relay that notes how far it is in the same commit.
///
/// # Errors
/// When the database does not answer.
pub async fn events_of(
    connection: &mut PgConnection,
    tenant: &TenantId,
    after: OutboxCursor,
    limit: u32,
) -> Result<Vec<OutboxEvent>, StoreError> {
    events(connection, Some(tenant), after, limit).await
}

/// Events behind a cursor, in commit order; none that could still be overtaken.
async fn events(
    executor: impl PgExecutor<'_>,
    tenant: Option<&TenantId>,
    after: OutboxCursor,
    limit: u32,
) -> Result<Vec<OutboxEvent>, StoreError> {
    // Below the oldest running transaction everything is decided: nothing can still commit in front of what is read here.
    // The order names the table: a bare xid would be the text that is selected, and sort 1000 before 999.
    let rows = sqlx::query(
            "SELECT sequence, xid::text AS xid, tenant, topic, subject, operation_id, body, created_at FROM engine.outbox
             WHERE ($1::text IS NULL OR tenant = $1) AND (xid, sequence) > ($2::text::xid8, $3) AND xid < pg_snapshot_xmin(pg_current_snapshot())
             ORDER BY outbox.xid, outbox.sequence LIMIT $4",
        )
        .bind(tenant.map(TenantId::as_str))
        .bind(after.xid.to_string())
        .bind(after.sequence)
        .bind(i64::from(limit))
        .fetch_all(executor)
        .await?;
    rows.iter()
        .map(|row| {
            let xid: String = row.try_get("xid")?;
            Ok(OutboxEvent {
                cursor: OutboxCursor {
                    xid: xid.parse().map_err(StoreError::corrupt)?,
                    sequence: row.try_get("sequence")?,
                },
                tenant: TenantId::new(row.try_get::<String, _>("tenant")?),
                topic: row.try_get("topic")?,
                subject: row.try_get("subject")?,
                operation_id: OperationId(row.try_get("operation_id")?),
                body: row.try_get("body")?,
                at: row.try_get("created_at")?,
            })
        })
        .collect()
}

fn operation(row: &PgRow) -> Result<OperationView, StoreError> {
    Ok(OperationView {
        operation_id: OperationId(row.try_get("operation_id")?),
        tenant: TenantId::new(row.try_get::<String, _>("tenant")?),
        principal: row.try_get("principal")?,
        kind: row.try_get("kind")?,
        state: row.try_get::<&str, _>("state")?.parse().map_err(StoreError::Corrupt)?,
        result: row.try_get("result")?,
        error: row.try_get::<Option<Json<Failure>>, _>("error")?.map(|Json(failure)| failure),
        transactions: Vec::new(),
        check: check_view(row)?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

pub(super) fn transaction_view(row: &PgRow) -> Result<TransactionView, StoreError> {
    let number = |name: &str| row.try_get::<Option<i64>, _>(name)?.map(unsigned).transpose();
    Ok(TransactionView {
        transaction_id: TransactionId(row.try_get::<Uuid, _>("transaction_id")?),
        step: row.try_get("step")?,
        lane: LaneId { chain_id: unsigned(row.try_get("chain_id")?)?, sender: address(row.try_get("sender")?)? },
        target: row.try_get::<Option<&[u8]>, _>("target")?.map(address).transpose()?,
        state: row.try_get::<&str, _>("state")?.parse().map_err(StoreError::Corrupt)?,
        sub_status: row.try_get("sub_status")?,
        nonce: number("nonce")?,
        tx_hash: row.try_get::<Option<&[u8]>, _>("tx_hash")?.map(hash).transpose()?,
        block_number: number("block_number")?,
        gas_used: number("gas_used")?,
        error: row.try_get::<Option<Json<Failure>>, _>("error")?.map(|Json(failure)| failure),
        history: row.try_get::<Json<Vec<ActionView>>, _>("history")?.0,
    })
}
