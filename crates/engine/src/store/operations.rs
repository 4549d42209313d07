//! Admission and what flows decide.

use super::{Event, Store, emit, leaf, signed};
use crate::{
    error::{AdmitError, StoreError},
    flow::{Call, Decision, Failure, Flows, History, RecordedStep, StepInput, Verdict},
    model::{LaneId, OperationId, TenantId},
    states::OperationState,
};
use futures::future::BoxFuture;
use serde_json::json;
use sqlx::{PgConnection, Row, types::Json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// An operation about to be stored.
pub(crate) struct NewOperation {
    pub(crate) id: OperationId,
    pub(crate) tenant: TenantId,
    pub(crate) principal: String,
    pub(crate) method: String,
    pub(crate) key: String,
    pub(crate) command_hash: [u8; 32],
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    pub(crate) order: serde_json::Value,
}

/// What became of it.
pub(crate) struct Admitted {
    pub(crate) id: OperationId,
    pub(crate) replayed: bool,
}

/// An operation whose flow was asked, with what it decided.
struct Change {
    tenant: String,
    id: OperationId,
    first_position: i32,
    decision: Decision,
}

/// Writes a service's own rows in the accept commit.
pub type AcceptHook =
    Box<dyn for<'c> FnOnce(&'c mut PgConnection, OperationId) -> BoxFuture<'c, Result<(), sqlx::Error>> + Send>;

impl Store {
    /// One commit: idempotency, operation, first steps and intents, the service's own rows, audit leaf, outbox.
    pub(crate) async fn admit(
        &self,
        new: NewOperation,
        decision: Decision,
        hook: Option<AcceptHook>,
    ) -> Result<Admitted, AdmitError> {
        let mut commit = self.pool.begin().await?;
        let inserted = sqlx::query(
            "INSERT INTO engine.idempotency (tenant, principal, method, key, command_hash, operation_id) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING",
        )
        .bind(new.tenant.as_str())
        .bind(&new.principal)
        .bind(&new.method)
        .bind(&new.key)
        .bind(&new.command_hash[..])
        .bind(new.id.0)
        .execute(&mut *commit)
        .await?
        .rows_affected();
        if inserted == 0 {
            let stored = sqlx::query("SELECT command_hash, operation_id FROM engine.idempotency WHERE tenant = $1 AND principal = $2 AND method = $3 AND key = $4")
                .bind(new.tenant.as_str())
                .bind(&new.principal)
                .bind(&new.method)
                .bind(&new.key)
                .fetch_one(&mut *commit)
                .await?;
            let stored_hash: Vec<u8> = stored.try_get(0)?;
            return if stored_hash == new.command_hash {
                Ok(Admitted { id: OperationId(stored.try_get(1)?), replayed: true })
            } else {
                Err(AdmitError::KeyReused {
                    stored_hash: hex::encode(stored_hash),
                    given_hash: hex::encode(new.command_hash),
                })
            };
        }
        sqlx::query(
            "INSERT INTO engine.operations (tenant, operation_id, service, principal, method, kind, version, order_json, state, wake)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'RUNNING', false)",
        )
        .bind(new.tenant.as_str())
        .bind(new.id.0)
        .bind(self.service.as_str())
        .bind(&new.principal)
        .bind(&new.method)
        .bind(new.kind)
        .bind(new.version as i32)
        .bind(&new.order)
        .execute(&mut *commit)
        .await?;
        let change = Change { tenant: new.tenant.to_string(), id: new.id, first_position: 0, decision };
        if let Some((_, lane)) = self.claim_lanes(&mut commit, std::slice::from_ref(&change)).await?.into_iter().next()
        {
            return Err(AdmitError::LaneOfOtherTenant(lane));
        }
        self.apply(&mut commit, vec![change]).await?;
        let body = json!({"kind": new.kind, "method": new.method, "command_hash": hex::encode(new.command_hash)});
        leaf(&mut commit, new.tenant.as_str(), "operation.accept", &new.principal, &new.id.to_string(), body.clone())
            .await?;
        let accepted = Event {
            tenant: new.tenant.to_string(),
            topic: "engine.operation.pending",
            subject: new.id.0,
            operation_id: new.id.0,
            body,
        };
        emit(&mut commit, vec![accepted]).await?;
        if let Some(hook) = hook {
            hook(&mut commit, new.id).await?;
        }
        commit.commit().await?;
        Ok(Admitted { id: new.id, replayed: false })
    }

    /// Asks the flows of operations that were woken. Returns how many, and the lanes that got work.
    pub(crate) async fn drive(
        &self,
        flows: &Flows,
        chains: &BTreeSet<u64>,
        limit: i64,
    ) -> Result<(usize, BTreeSet<LaneId>), StoreError> {
        let mut commit = self.pool.begin().await?;
        let operations = sqlx::query(
            "SELECT tenant, operation_id, kind, version, order_json, cancel_requested FROM engine.operations
             WHERE service = $1 AND wake AND retry_at <= now() ORDER BY tenant, operation_id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
        )
        .bind(self.service.as_str())
        .bind(limit)
        .fetch_all(&mut *commit)
        .await?;
        if operations.is_empty() {
            return Ok((0, BTreeSet::new()));
        }
        let ids: Vec<Uuid> = operations.iter().map(|row| row.try_get("operation_id")).collect::<Result<_, _>>()?;
        let tenants: Vec<String> = operations.iter().map(|row| row.try_get("tenant")).collect::<Result<_, _>>()?;
        // A statement of its own: what was committed before the locks were taken is seen, so no outcome is missed.
        let steps = sqlx::query(
            "SELECT s.operation_id, s.name, s.input, s.outcome FROM unnest($1::text[], $2::uuid[]) AS o(tenant, operation_id)
             JOIN engine.steps s ON s.tenant = o.tenant AND s.operation_id = o.operation_id",
        )
        .bind(&tenants)
        .bind(&ids)
        .fetch_all(&mut *commit)
        .await?;
        let mut histories: HashMap<Uuid, History> = HashMap::new();
        for row in steps {
            let Json(input): Json<StepInput> = row.try_get("input")?;
            let outcome: Option<Json<_>> = row.try_get("outcome")?;
            let recorded = RecordedStep { input, outcome: outcome.map(|Json(outcome)| outcome) };
            histories.entry(row.try_get("operation_id")?).or_default().steps.insert(row.try_get("name")?, recorded);
        }
        let mut changes = Vec::with_capacity(operations.len());
        for row in &operations {
            let id = OperationId(row.try_get("operation_id")?);
            let history = histories.remove(&id.0).unwrap_or_default();
            let version = u32::try_from(row.try_get::<i32, _>("version")?).map_err(StoreError::corrupt)?;
            let mut decision = flows.ask(row.try_get("kind")?, version, id, &row.try_get("order_json")?, &history);
            if row.try_get("cancel_requested")? && !decision.new_steps.is_empty() {
                decision = refused(Failure::new("OPERATION_CANCELLED", "withdrawn before its next step"));
            }
            if let Some(chain) = unknown_chain(&decision, chains) {
                decision = refused(Failure::new("CHAIN_NOT_CONFIGURED", format!("chain {chain} is not configured")));
            }
            let first_position = i32::try_from(history.steps.len()).map_err(StoreError::corrupt)?;
            changes.push(Change { tenant: row.try_get("tenant")?, id, first_position, decision });
        }
        for (tenant, lane) in self.claim_lanes(&mut commit, &changes).await? {
            let failure = Failure::new("LANE_OF_OTHER_TENANT", format!("lane {lane} belongs to another tenant"));
            let touches = |change: &Change| {
                change.tenant == tenant && calls(&change.decision).any(|(_, call)| call.lane() == lane)
            };
            changes
                .iter_mut()
                .filter(|change| touches(change))
                .for_each(|change| change.decision = refused(failure.clone()));
        }
        let lanes = changes.iter().flat_map(|change| calls(&change.decision).map(|(_, call)| call.lane())).collect();
        let count = changes.len();
        self.apply(&mut commit, changes).await?;
        commit.commit().await?;
        Ok((count, lanes))
    }

    /// Makes sure that the lanes of the calls exist; returns those that belong to another tenant.
    async fn claim_lanes(
        &self,
        commit: &mut PgConnection,
        changes: &[Change],
    ) -> Result<Vec<(String, LaneId)>, StoreError> {
        let wanted: BTreeSet<(&str, LaneId)> = changes
            .iter()
            .flat_map(|change| calls(&change.decision).map(|(_, call)| (change.tenant.as_str(), call.lane())))
            .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let tenants: Vec<&str> = wanted.iter().map(|(tenant, _)| *tenant).collect();
        let chains: Vec<i64> = wanted.iter().map(|(_, lane)| signed(lane.chain_id)).collect::<Result<_, _>>()?;
        let senders: Vec<Vec<u8>> = wanted.iter().map(|(_, lane)| lane.sender.to_vec()).collect();
        sqlx::query(
            "INSERT INTO engine.lanes (tenant, chain_id, sender) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS n(t, c, s)
             WHERE NOT EXISTS (SELECT FROM engine.lanes l WHERE l.chain_id = n.c AND l.sender = n.s) ON CONFLICT (chain_id, sender) DO NOTHING",
        )
        .bind(&tenants)
        .bind(&chains)
        .bind(&senders)
        .execute(&mut *commit)
        .await?;
        sqlx::query(
            "INSERT INTO engine.lane_leases (service, chain_id, sender) SELECT $1, n.c, n.s FROM unnest($2::bigint[], $3::bytea[]) AS n(c, s)
             WHERE NOT EXISTS (SELECT FROM engine.lane_leases l WHERE l.service = $1 AND l.chain_id = n.c AND l.sender = n.s) ON CONFLICT DO NOTHING",
        )
        .bind(self.service.as_str())
        .bind(&chains)
        .bind(&senders)
        .execute(&mut *commit)
        .await?;
        let foreign = sqlx::query(
            "SELECT n.t, n.c, n.s FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS n(t, c, s)
             JOIN engine.lanes l ON l.chain_id = n.c AND l.sender = n.s WHERE l.tenant <> n.t",
        )
        .bind(&tenants)
        .bind(&chains)
        .bind(&senders)
        .fetch_all(&mut *commit)
        .await?;
        foreign
            .iter()
            .map(|row| {
                let lane = LaneId {
                    chain_id: super::unsigned(row.try_get(1)?)?,
                    sender: super::address(row.try_get::<&[u8], _>(2)?)?,
                };
                Ok((row.try_get(0)?, lane))
            })
            .collect()
    }

    /// Records what flows decided.
    async fn apply(&self, commit: &mut PgConnection, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut steps = StepRows::default();
        let mut transactions = TransactionRows::default();
        let mut operations = OperationRows::default();
        let mut events = Vec::new();
        for change in changes {
            for (index, (name, input)) in change.decision.new_steps.iter().enumerate() {
                let position = change.first_position + i32::try_from(index).map_err(StoreError::corrupt)?;
                steps.push(&change, name, position, input)?;
                if let StepInput::Transaction { call } = input {
                    transactions.push(&change, name, position, call)?;
                }
            }
            if let Some(event) = operations.push(change) {
                events.push(event);
            }
        }
        steps.insert(commit, self.service.as_str()).await?;
        transactions.insert(commit, self.service.as_str()).await?;
        operations.update(commit).await?;
        emit(commit, events).await
    }
}

fn refused(failure: Failure) -> Decision {
    Decision { new_steps: Vec::new(), verdict: Verdict::Failed(failure) }
}

fn calls(decision: &Decision) -> impl Iterator<Item = (&str, &Call)> {
    decision.new_steps.iter().filter_map(|(name, input)| match input {
        StepInput::Transaction { call } => Some((name.as_str(), call)),
        _ => None,
    })
}

/// The first chain among the decision's calls that is not configured.
pub(crate) fn unknown_chain(decision: &Decision, chains: &BTreeSet<u64>) -> Option<u64> {
    calls(decision).map(|(_, call)| call.chain_id).find(|chain| !chains.contains(chain))
}

/// The lanes that the decision's calls go to.
pub(crate) fn lanes_of(decision: &Decision) -> BTreeSet<LaneId> {
    calls(decision).map(|(_, call)| call.lane()).collect()
}

/// Columns of new steps.
#[derive(Default)]
struct StepRows {
    tenants: Vec<String>,
    operations: Vec<Uuid>,
    names: Vec<String>,
    positions: Vec<i32>,
    inputs: Vec<serde_json::Value>,
    requests: Vec<Option<Uuid>>,
}

impl StepRows {
    fn push(&mut self, change: &Change, name: &str, position: i32, input: &StepInput) -> Result<(), StoreError> {
        self.tenants.push(change.tenant.clone());
        self.operations.push(change.id.0);
        self.names.push(name.to_owned());
        self.positions.push(position);
        self.inputs.push(serde_json::to_value(input).map_err(StoreError::corrupt)?);
        self.requests
            .push(matches!(input, StepInput::Signature { .. }).then(|| StepInput::request_id(change.id, name).0));
        Ok(())
    }

    async fn insert(self, commit: &mut PgConnection, service: &str) -> Result<(), StoreError> {
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
struct TransactionRows {
    tenants: Vec<String>,
    ids: Vec<Uuid>,
    operations: Vec<Uuid>,
    steps: Vec<String>,
    positions: Vec<i32>,
    chains: Vec<i64>,
    senders: Vec<Vec<u8>>,
    targets: Vec<Option<Vec<u8>>>,
    values: Vec<String>,
    data: Vec<Vec<u8>>,
    checks: Vec<serde_json::Value>,
}

impl TransactionRows {
    fn push(&mut self, change: &Change, name: &str, position: i32, call: &Call) -> Result<(), StoreError> {
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
        Ok(())
    }

    async fn insert(self, commit: &mut PgConnection, service: &str) -> Result<(), StoreError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO engine.transactions (tenant, transaction_id, operation_id, step, position, service, chain_id, sender, target, value_wei, data, checks, state)
             SELECT t, i, o, s, p, $12, c, f, g, v::numeric, d, k, 'QUEUED'
             FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::bigint[], $7::bytea[], $8::bytea[], $9::text[], $10::bytea[], $11::jsonb[])
                  AS x(t, i, o, s, p, c, f, g, v, d, k)",
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
        .bind(service)
        .execute(commit)
        .await?;
        Ok(())
    }
}

/// Columns of operations that were asked.
#[derive(Default)]
struct OperationRows {
    tenants: Vec<String>,
    ids: Vec<Uuid>,
    states: Vec<&'static str>,
    results: Vec<Option<serde_json::Value>>,
    errors: Vec<Option<serde_json::Value>>,
    broken: Vec<bool>,
}

impl OperationRows {
    fn push(&mut self, change: Change) -> Option<Event> {
        let mut broken = false;
        let (state, result, error) = match change.decision.verdict {
            Verdict::Waiting => (OperationState::Running, None, None),
            Verdict::Done(result) => (OperationState::Completed, Some(result), None),
            Verdict::Failed(failure) => (OperationState::Failed, None, Some(json!(failure))),
            Verdict::Broken(why) => {
                // A defect of the code, not of the work: it waits for a build that can read it.
                tracing::error!(operation_id = %change.id, why, "flow cannot be asked");
                broken = true;
                (OperationState::Running, None, None)
            }
        };
        let body: BTreeMap<&str, serde_json::Value> =
            [("state", json!(state)), ("result", json!(result)), ("error", json!(error))].into_iter().collect();
        let event = state.is_final().then(|| Event {
            tenant: change.tenant.clone(),
            topic: "engine.operation.final",
            subject: change.id.0,
            operation_id: change.id.0,
            body: json!(body),
        });
        if state.is_final() {
            crate::metric_definitions::operation_finished(state);
        }
        self.tenants.push(change.tenant);
        self.ids.push(change.id.0);
        self.states.push(state.as_str());
        self.results.push(result);
        self.errors.push(error);
        self.broken.push(broken);
        event
    }

    async fn update(self, commit: &mut PgConnection) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE engine.operations o SET state = x.s, result = x.r, error = x.e, wake = x.b, updated_at = now(),
                    retry_at = CASE WHEN x.b THEN now() + interval '1 minute' ELSE o.retry_at END
             FROM unnest($1::text[], $2::uuid[], $3::text[], $4::jsonb[], $5::jsonb[], $6::bool[]) AS x(t, i, s, r, e, b)
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
