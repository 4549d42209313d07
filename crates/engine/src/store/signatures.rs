//! Signature steps.

use super::{Store, accept::begin};
use crate::{
    error::StoreError,
    flow::{SignDocument, StepInput, StepOutcome},
    model::{RequestId, TenantId},
};
use sqlx::{Row, types::Json};
use std::time::Duration;
use uuid::Uuid;

/// A document that waits for its signature.
pub(crate) struct PendingSignature {
    pub(crate) tenant: TenantId,
    pub(crate) operation_id: Uuid,
    pub(crate) name: String,
    pub(crate) request_id: RequestId,
    pub(crate) tries: u32,
    pub(crate) document: SignDocument,
}

/// What became of one.
pub(crate) struct Settled {
    pub(crate) pending: PendingSignature,
    pub(crate) outcome: StepOutcome,
}

impl Store {
    /// Takes documents that are due, of each tenant as many as there is room for; each comes up again after `again_after`, unless it was settled.
    pub(crate) async fn claim_signatures(
        &self,
        limit: i64,
        again_after: Duration,
    ) -> Result<Vec<PendingSignature>, StoreError> {
        let rows = sqlx::query(
            "UPDATE engine.steps s SET tries = s.tries + 1, due_at = now() + make_interval(secs => $3)
             FROM (WITH RECURSIVE tenants AS (
                       (SELECT tenant FROM engine.steps WHERE service = $1 AND due_at IS NOT NULL ORDER BY tenant LIMIT 1)
                       UNION ALL
                       SELECT (SELECT n.tenant FROM engine.steps n WHERE n.service = $1 AND n.due_at IS NOT NULL AND n.tenant > t.tenant ORDER BY n.tenant LIMIT 1)
                       FROM tenants t WHERE t.tenant IS NOT NULL
                   )
                   SELECT w.* FROM tenants t CROSS JOIN LATERAL (
                       SELECT tenant, operation_id, name FROM engine.steps WHERE service = $1 AND tenant = t.tenant AND due_at <= now()
                       ORDER BY due_at LIMIT (SELECT greatest($2 / greatest(count(tenant), 1), 1) FROM tenants) FOR NO KEY UPDATE SKIP LOCKED) w
                   WHERE t.tenant IS NOT NULL) d
             WHERE s.tenant = d.tenant AND s.operation_id = d.operation_id AND s.name = d.name
             RETURNING s.tenant, s.operation_id, s.name, s.request_id, s.tries, s.input",
        )
        .bind(self.service.as_str())
        .bind(limit)
        .bind(again_after.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let Json(input): Json<StepInput> = row.try_get("input")?;
                let StepInput::Signature { document } = input else {
                    return Err(StoreError::corrupt("a step to sign without a document"));
                };
                Ok(PendingSignature {
                    tenant: TenantId::new(row.try_get::<String, _>("tenant")?),
                    operation_id: row.try_get("operation_id")?,
                    name: row.try_get("name")?,
                    request_id: RequestId(row.try_get("request_id")?),
                    tries: u32::try_from(row.try_get::<i32, _>("tries")?).unwrap_or(0),
                    document,
                })
            })
            .collect()
    }

    /// Makes what an operation waits to have signed due at once. Whether anything was to come up later.
    pub(crate) async fn ask_signer_again(&self, tenant: &TenantId, operation_id: Uuid) -> Result<bool, StoreError> {
        let hastened = sqlx::query(
            "UPDATE engine.steps SET due_at = now() WHERE tenant = $1 AND operation_id = $2 AND due_at > now()",
        )
        .bind(tenant.as_str())
        .bind(operation_id)
        .execute(&self.pool)
        .await?;
        Ok(hastened.rows_affected() > 0)
    }

    /// Settles signature steps and wakes their flows. The operations are locked first, in the order of their keys and whatever their
    /// state, or a wake-up is lost.
    pub(crate) async fn settle_signatures(&self, settled: &[Settled]) -> Result<(), StoreError> {
        let tenants: Vec<&str> = settled.iter().map(|one| one.pending.tenant.as_str()).collect();
        let operations: Vec<Uuid> = settled.iter().map(|one| one.pending.operation_id).collect();
        let mut commit = begin(&self.pool).await?;
        sqlx::query(
            "UPDATE engine.operations o SET wake = (o.state = 'RUNNING'), updated_at = now()
             FROM (SELECT tenant, operation_id FROM engine.operations JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::uuid[]) AS a(tenant, operation_id)) a
                     USING (tenant, operation_id)
                   ORDER BY tenant, operation_id FOR NO KEY UPDATE OF operations) l
             WHERE o.tenant = l.tenant AND o.operation_id = l.operation_id",
        )
        .bind(&tenants)
        .bind(&operations)
        .execute(&mut *commit)
        .await?;
        sqlx::query(
            "UPDATE engine.steps s SET outcome = g.outcome, due_at = NULL
             FROM unnest($1::text[], $2::uuid[], $3::text[], $4::jsonb[]) AS g(tenant, operation_id, name, outcome)
             WHERE s.tenant = g.tenant AND s.operation_id = g.operation_id AND s.name = g.name AND s.outcome IS NULL",
        )
        .bind(&tenants)
        .bind(&operations)
        .bind(settled.iter().map(|one| one.pending.name.as_str()).collect::<Vec<_>>())
        .bind(settled.iter().map(|one| Json(&one.outcome)).collect::<Vec<_>>())
        .execute(&mut *commit)
        .await?;
        commit.commit().await?;
        Ok(())
    }
}
