//! What flows decide, as columns.

use super::{Event, operations::Change, signed};
use crate::{
    error::StoreError,
    flow::{StepInput, Verdict},
    states::OperationState,
};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

/// Columns of new steps.
#[derive(Default)]
pub(super) struct StepRows {
    pub(super) tenants: Vec<String>,
    pub(super) operations: Vec<Uuid>,
    pub(super) names: Vec<String>,
    pub(super) positions: Vec<i32>,
    pub(super) inputs: Vec<serde_json::Value>,
    pub(super) requests: Vec<Option<Uuid>>,
}

impl StepRows {
    pub(super) fn push_all(&mut self, change: &Change) -> Result<(), StoreError> {
        for (position, name, input) in change.new_steps()? {
            self.operations.push(change.id.0);
            self.tenants.push(change.tenant.clone());
            self.names.push(name.to_owned());
            self.positions.push(position);
            self.inputs.push(serde_json::to_value(input).map_err(StoreError::corrupt)?);
            let asks_signer = matches!(input, StepInput::Signature { .. });
            self.requests.push(asks_signer.then(|| StepInput::request_id(change.id, name).0));
        }
        Ok(())
    }

    pub(super) async fn insert(self, commit: &mut PgConnection, service: &str) -> Result<(), StoreError> {
        if self.names.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO engine.steps (tenant, operation_id, name, position, input, request_id, due_at, service)
             SELECT t, o, n, p, i, r, CASE WHEN r IS NULL THEN NULL ELSE '-infinity'::timestamptz END, $7
             FROM unnest($1::text[], $2::uuid[], $3::text[], $4::int[], $5::jsonb[], $6::uuid[]) AS x(t, o, n, p, i, r)",
        )
        .bind(self.tenants)
        .bind(self.operations)
        .bind(self.names)
        .bind(self.positions)
        .bind(self.inputs)
        .bind(self.requests)
        .bind(service)
        .execute(commit)
        .await?;
        Ok(())
    }
}

/// Columns of new transactions.
#[derive(Default)]
pub(super) struct TransactionRows {
    pub(super) tenants: Vec<String>,
    pub(super) ids: Vec<Uuid>,
    pub(super) operations: Vec<Uuid>,
    pub(super) steps: Vec<String>,
    pub(super) positions: Vec<i32>,
    pub(super) chains: Vec<i64>,
    pub(super) senders: Vec<Vec<u8>>,
    pub(super) targets: Vec<Option<Vec<u8>>>,
    pub(super) values: Vec<String>,
    pub(super) data: Vec<Vec<u8>>,
    pub(super) checks: Vec<serde_json::Value>,
    pub(super) secrets: Vec<Option<serde_json::Value>>,
    pub(super) priorities: Vec<i16>,
}

impl TransactionRows {
    pub(super) fn push_all(&mut self, change: &Change) -> Result<(), StoreError> {
        for (position, name, input) in change.new_steps()? {
            let StepInput::Transaction { call } = input else { continue };
            self.tenants.push(change.tenant.clone());
            self.ids.push(StepInput::transaction_id(change.id, name).0);
            self.operations.push(change.id.0);
            self.steps.push(name.to_owned());
            self.positions.push(position);
            self.chains.push(signed(call.chain_id)?);
            self.senders.push(call.sender.to_vec());
            self.targets.push(call.target.map(|target| target.to_vec()));
            self.values.push(call.value.to_string());
            self.data.push(call.data.to_vec());
            self.checks.push(serde_json::to_value(&call.sensitive_checks).map_err(StoreError::corrupt)?);
            let secret = call.secret.as_ref().map(serde_json::to_value).transpose();
            self.secrets.push(secret.map_err(StoreError::corrupt)?);
            self.priorities.push(change.priority.place());
        }
        Ok(())
    }

    pub(super) async fn insert(self, commit: &mut PgConnection, service: &str) -> Result<(), StoreError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO engine.transactions (tenant, transaction_id, operation_id, step, position, service, chain_id, sender, target, value_wei, data, checks, priority, state,
                                              secret)
             SELECT t, i, o, s, p, $13, c, f, g, v::numeric, d, k, y, 'QUEUED', x
             FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::bigint[], $7::bytea[], $8::bytea[], $9::text[], $10::bytea[], $11::jsonb[],
                         $12::smallint[], $14::jsonb[]) AS r(t, i, o, s, p, c, f, g, v, d, k, y, x)",
        )
        .bind(self.tenants)
        .bind(self.ids)
        .bind(self.operations)
        .bind(self.steps)
        .bind(self.positions)
        .bind(self.chains)
        .bind(self.senders)
        .bind(self.targets)
        .bind(self.values)
        .bind(self.data)
        .bind(self.checks)
        .bind(self.priorities)
        .bind(service)
        .bind(self.secrets)
        .execute(commit)
        .await?;
        Ok(())
    }
}

/// What asking a flow comes to for its operation.
pub(crate) struct Outcome {
    pub(crate) state: OperationState,
    pub(crate) result: Option<serde_json::Value>,
    pub(crate) error: Option<serde_json::Value>,
    /// Why the flow could not be asked.
    pub(crate) broken: Option<String>,
}

// === impl Outcome ===

impl Outcome {
    /// The event that tells of an end.
    pub(crate) fn event(&self, tenant: &str, id: Uuid) -> Option<Event> {
        let body = || json!({"state": self.state, "result": self.result, "error": self.error});
        self.state.is_final().then(|| Event {
            tenant: tenant.to_owned(),
            topic: "engine.operation.final",
            subject: id,
            operation_id: id,
            body: body(),
        })
    }
}

/// Columns of operations that were asked.
#[derive(Default)]
pub(super) struct OperationRows {
    tenants: Vec<String>,
    ids: Vec<Uuid>,
    states: Vec<&'static str>,
    results: Vec<Option<serde_json::Value>>,
    errors: Vec<Option<serde_json::Value>>,
    broken: Vec<Option<String>>,
}

impl OperationRows {
    pub(super) fn push(&mut self, change: Change) -> Option<Event> {
        let tenant = change.tenant.clone();
        let id = change.id.0;
        let outcome = change.outcome();
        let event = outcome.event(&tenant, id);
        self.tenants.push(tenant);
        self.ids.push(id);
        self.states.push(outcome.state.as_str());
        self.results.push(outcome.result);
        self.errors.push(outcome.error);
        self.broken.push(outcome.broken);
        event
    }

    pub(super) async fn update(self, commit: &mut PgConnection) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE engine.operations o SET state = x.s, result = x.r, error = x.e, wake = x.b IS NOT NULL, updated_at = now(), quarantine = x.b,
                    quarantined_at = CASE WHEN x.b IS NOT NULL THEN coalesce(o.quarantined_at, now()) END,
                    retry_at = CASE WHEN x.b IS NOT NULL THEN now() + interval '1 minute' ELSE o.retry_at END
             FROM unnest($1::text[], $2::uuid[], $3::text[], $4::jsonb[], $5::jsonb[], $6::text[]) AS x(t, i, s, r, e, b)
             WHERE o.tenant = x.t AND o.operation_id = x.i",
        )
        .bind(&self.tenants)
        .bind(&self.ids)
        .bind(&self.states)
        .bind(&self.results)
        .bind(&self.errors)
        .bind(&self.broken)
        .execute(&mut *commit)
        .await?;
        let ended: Vec<Uuid> =
            self.ids.iter().zip(&self.states).filter(|(_, state)| **state != "RUNNING").map(|(id, _)| *id).collect();
        if !ended.is_empty() {
            // What an ended flow no longer waits for is withdrawn, as far as it has no nonce.
            sqlx::query(
                "UPDATE engine.transactions t SET state = 'CANCELLED', sub_status = 'operation_ended', updated_at = now()
                 FROM unnest($1::text[], $2::uuid[]) AS x(t, i)
                 WHERE t.tenant = x.t AND t.operation_id = x.i AND t.operation_id = ANY($3) AND t.state IN ('RECEIVED', 'QUEUED', 'PREPARING')",
            )
            .bind(&self.tenants)
            .bind(&self.ids)
            .bind(&ended)
            .execute(&mut *commit)
            .await?;
        }
        Ok(())
    }
}

// === impl Change ===

impl Change {
    /// Where the operation stands now.
    pub(crate) fn outcome(self) -> Outcome {
        let (state, result, error, broken) = match self.decision.verdict {
            Verdict::Waiting => (OperationState::Running, None, None, None),
            Verdict::Done(result) => (OperationState::Completed, Some(result), None, None),
            Verdict::Failed(failure) => (OperationState::Failed, None, Some(json!(failure)), None),
            Verdict::Broken(why) => {
                // A defect of the code, not of the work: it is quarantined, and waits for a build that can read it or for an operator.
                tracing::error!(operation_id = %self.id, why, "flow cannot be asked");
                (OperationState::Running, None, None, Some(why))
            }
        };
        if state.is_final() {
            crate::metric_definitions::operation_finished(state);
        }
        Outcome { state, result, error, broken }
    }

    pub(crate) fn new_steps(&self) -> Result<impl Iterator<Item = (i32, &str, &StepInput)>, StoreError> {
        let count = i32::try_from(self.decision.new_steps.len()).map_err(StoreError::corrupt)?;
        let positions = self.first_position..self.first_position + count;
        Ok(positions.zip(&self.decision.new_steps).map(|(position, (name, input))| (position, name.as_str(), input)))
    }
}
