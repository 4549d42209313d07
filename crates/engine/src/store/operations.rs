//! What flows decide, written down.

use super::{
    Store,
    accept::begin,
    emit, lanes,
    rows::{OperationRows, StepRows, TransactionRows},
    signed, unsigned,
};
use crate::{
    error::StoreError,
    flow::{Call, Decision, Failure, Flows, History, Priority, RecordedStep, StepInput, Verdict},
    model::{LaneId, OperationId, TenantId},
};
use sqlx::{PgConnection, Row, types::Json};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use uuid::Uuid;

/// An operation whose flow was asked, with what it decided.
pub(crate) struct Change {
    pub(crate) tenant: String,
    pub(crate) id: OperationId,
    pub(crate) first_position: i32,
    pub(crate) decision: Decision,
    pub(crate) priority: Priority,
}

/// An operation that was woken.
pub(crate) struct Woken {
    pub(crate) tenant: String,
    pub(crate) id: OperationId,
    pub(crate) kind: String,
    pub(crate) version: u32,
    pub(crate) order: serde_json::Value,
    pub(crate) cancel_requested: bool,
}

/// Lanes that are known to exist, with their tenants: neither ever changes, so they are looked up once.
#[derive(Debug, Default)]
pub(crate) struct KnownLanes(Mutex<HashSet<(TenantId, LaneId)>>);

impl Store {
    /// Asks the flows of operations that were woken, of each tenant as many as there is room for, so that nobody waits behind the
    /// flood of another. Returns how many, and the lanes that got work.
    pub(crate) async fn drive(
        &self,
        flows: &Flows,
        chains: &BTreeSet<u64>,
        limit: i64,
    ) -> Result<(usize, BTreeSet<LaneId>), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let operations = sqlx::query(
            "WITH RECURSIVE tenants AS (
                 (SELECT tenant FROM engine.operations WHERE service = $1 AND wake ORDER BY tenant LIMIT 1)
                 UNION ALL
                 SELECT (SELECT o.tenant FROM engine.operations o WHERE o.service = $1 AND o.wake AND o.tenant > t.tenant ORDER BY o.tenant LIMIT 1)
                 FROM tenants t WHERE t.tenant IS NOT NULL
             )
             SELECT o.* FROM tenants t CROSS JOIN LATERAL (
                 SELECT tenant, operation_id, kind, version, order_json, cancel_requested FROM engine.operations
                 WHERE service = $1 AND wake AND tenant = t.tenant AND retry_at <= now() ORDER BY retry_at, operation_id
                 LIMIT (SELECT greatest($2 / greatest(count(tenant), 1), 1) FROM tenants) FOR NO KEY UPDATE SKIP LOCKED) o
             WHERE t.tenant IS NOT NULL",
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
            let woken = Woken {
                tenant: row.try_get("tenant")?,
                id: OperationId(row.try_get("operation_id")?),
                kind: row.try_get("kind")?,
                version: u32::try_from(row.try_get::<i32, _>("version")?).map_err(StoreError::corrupt)?,
                order: row.try_get("order_json")?,
                cancel_requested: row.try_get("cancel_requested")?,
            };
            let history = histories.remove(&woken.id.0).unwrap_or_default();
            changes.push(woken.decide(flows, chains, &history)?);
        }
        let wanted = self.known_lanes.unknown(changes.iter().flat_map(|change| {
            lanes_of(&change.decision).into_iter().map(|lane| (TenantId::new(change.tenant.as_str()), lane))
        }));
        let foreign = self.claim_lanes(&mut commit, &wanted).await?;
        for change in &mut changes {
            change.refuse_lanes_of_others(&foreign);
        }
        let lanes = changes.iter().flat_map(|change| calls(&change.decision).map(|(_, call)| call.lane())).collect();
        let count = changes.len();
        self.apply(&mut commit, changes).await?;
        commit.commit().await?;
        self.known_lanes.learn(wanted, &foreign);
        Ok((count, lanes))
    }

    /// How many operations of a tenant are unfinished, those that are held among them, counted no further than `at_most`.
    pub(crate) async fn running(&self, tenant: &TenantId, at_most: u64) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM engine.operations WHERE service = $1 AND tenant = $2 AND state = 'RUNNING'
                                   UNION ALL SELECT 1 FROM engine.operations WHERE service = $1 AND tenant = $2 AND state = 'AWAITING_CHECKER' LIMIT $3) r",
        )
        .bind(self.service.as_str())
        .bind(tenant.as_str())
        .bind(signed(at_most)?)
        .fetch_one(&self.pool)
        .await?;
        unsigned(count)
    }

    /// Operations that have been running for longer than `after`: those held by an approval, and the others.
    pub(crate) async fn stalled(&self, after: Duration) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE h.held) AS held, count(*) FILTER (WHERE NOT h.held) AS other FROM engine.operations o
             CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM engine.transactions t WHERE t.tenant = o.tenant AND t.operation_id = o.operation_id
                                                AND t.state IN ('SIGNING', 'BROADCASTING', 'PENDING_APPROVAL') AND t.sub_status IN ('provider_hold', 'provider_policy', 'blocked')) AS held) h
             WHERE o.service = $1 AND o.state = 'RUNNING' AND o.created_at < now() - make_interval(secs => $2)",
        )
        .bind(self.service.as_str())
        .bind(after.as_secs_f64())
        .fetch_one(&self.pool)
        .await?;
        Ok((unsigned(row.try_get("held")?)?, unsigned(row.try_get("other")?)?))
    }

    /// Makes sure that lanes exist; returns those that belong to another tenant.
    pub(super) async fn claim_lanes(
        &self,
        commit: &mut PgConnection,
        wanted: &BTreeSet<(TenantId, LaneId)>,
    ) -> Result<BTreeSet<(TenantId, LaneId)>, StoreError> {
        if wanted.is_empty() {
            return Ok(BTreeSet::new());
        }
        let tenants: Vec<&str> = wanted.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let (chains, senders) = lanes::columns(wanted.iter().map(|(_, lane)| *lane))?;
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
            "SELECT n.t AS tenant, n.c AS chain_id, n.s AS sender FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS n(t, c, s)
             JOIN engine.lanes l ON l.chain_id = n.c AND l.sender = n.s WHERE l.tenant <> n.t",
        )
        .bind(&tenants)
        .bind(&chains)
        .bind(&senders)
        .fetch_all(&mut *commit)
        .await?;
        foreign.iter().map(|row| Ok((TenantId::new(row.try_get::<String, _>("tenant")?), lanes::lane(row)?))).collect()
    }

    /// Records what flows decided.
    async fn apply(&self, commit: &mut PgConnection, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut steps = StepRows::default();
        let mut transactions = TransactionRows::default();
        let mut operations = OperationRows::default();
        let mut events = Vec::new();
        for change in changes {
            steps.push_all(&change)?;
            transactions.push_all(&change)?;
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

// === impl KnownLanes ===

impl KnownLanes {
    /// Those among the lanes that are not known yet.
    pub(super) fn unknown(&self, lanes: impl IntoIterator<Item = (TenantId, LaneId)>) -> BTreeSet<(TenantId, LaneId)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.into_iter().filter(|lane| !known.contains(lane)).collect()
    }

    /// Remembers what was committed.
    pub(super) fn learn(&self, claimed: BTreeSet<(TenantId, LaneId)>, foreign: &BTreeSet<(TenantId, LaneId)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(claimed.into_iter().filter(|lane| !foreign.contains(lane)));
    }
}

// === impl Woken ===

impl Woken {
    /// Asks the flow, and refuses what must not be ordered. No clock and no database: what was recorded decides.
    pub(crate) fn decide(self, flows: &Flows, chains: &BTreeSet<u64>, history: &History) -> Result<Change, StoreError> {
        let priority = flows.priority(&self.kind);
        let mut decision = flows.ask(&self.kind, self.version, self.id, &self.order, history);
        if self.cancel_requested && !decision.new_steps.is_empty() {
            decision = refused(Failure::new("OPERATION_CANCELLED", "withdrawn before its next step"));
        }
        if let Some(chain) = unknown_chain(&decision, chains) {
            decision = refused(Failure::new("CHAIN_NOT_CONFIGURED", format!("chain {chain} is not configured")));
        }
        let first_position = i32::try_from(history.steps.len()).map_err(StoreError::corrupt)?;
        Ok(Change { tenant: self.tenant, id: self.id, first_position, decision, priority })
    }
}

// === impl Change ===

impl Change {
    /// Fails an operation that would send from a lane of another tenant.
    pub(crate) fn refuse_lanes_of_others(&mut self, foreign: &BTreeSet<(TenantId, LaneId)>) {
        let owner = TenantId::new(self.tenant.as_str());
        let touched = lanes_of(&self.decision).into_iter().find(|lane| foreign.contains(&(owner.clone(), *lane)));
        if let Some(lane) = touched {
            let failure = Failure::new("LANE_OF_OTHER_TENANT", format!("lane {lane} belongs to another tenant"));
            self.decision = refused(failure);
        }
    }
}

fn refused(failure: Failure) -> Decision {
    Decision { new_steps: Vec::new(), verdict: Verdict::Failed(failure) }
}

pub(crate) fn calls(decision: &Decision) -> impl Iterator<Item = (&str, &Call)> {
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
