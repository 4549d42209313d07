//! Held operations: who decided what, the end of the time, and the policies that hold.

use super::{
    Event, Reads, Store,
    accept::{self, Admitted, NewOperation},
    emit, leaf,
    transactions::notify,
    unsigned,
};
use crate::{
    audit,
    checker::{
        Asked, Change, Changing, CheckError, CheckView, Decided, Decision, DecisionView, Next, POLICY_CHANGE, Policy,
        Question, Standing, StoredPolicy, readable,
    },
    error::{AdmitError, StoreError},
    flow::{self, Failure, Priority, Verdict},
    model::{OperationId, ServiceName, TenantId},
    states::OperationState,
};
use alloy::primitives::B256;
use serde_json::json;
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow, types::Json};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Most held operations that end together because their time is over.
const EXPIRED_AT_ONCE: i64 = 500;

/// An operation `o` with what holds or held it, for [`check_view`]: of live work, or of history as well.
macro_rules! checked_operations {
    (live $where:literal) => {
        checked_operations!("", $where)
    };
    (all $where:literal) => {
        checked_operations!("all_", $where)
    };
    ($which:literal, $where:literal) => {
        concat!(
            "SELECT o.*, c.policies AS check_policies, c.checkers AS check_checkers, c.question AS check_question, c.payload_hash AS check_hash,
                    c.expires_at AS check_expires_at,
                    CASE WHEN c.tenant IS NOT NULL THEN (
                        SELECT coalesce(jsonb_agg(jsonb_build_object('principal', d.principal, 'person', d.person, 'approved', d.approved, 'reason', d.reason,
                                                                     'at', to_char(d.decided_at AT TIME ZONE 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
                                                  ORDER BY d.decided_at, d.person), '[]'::jsonb)
                        FROM engine.",
            $which,
            "check_decisions d WHERE d.tenant = c.tenant AND d.operation_id = c.operation_id) END AS check_decisions
             FROM engine.",
            $which,
            "operations o LEFT JOIN engine.",
            $which,
            "checks c ON c.tenant = o.tenant AND c.operation_id = o.operation_id WHERE ",
            $where
        )
    };
}
pub(super) use checked_operations;

/// What holds or held the operation of a row; `None`: no policy ever did.
pub(super) fn check_view(row: &PgRow) -> Result<Option<CheckView>, StoreError> {
    let Some(policies) = row.try_get::<Option<Vec<String>>, _>("check_policies")? else { return Ok(None) };
    let Json(question): Json<Question> = row.try_get("check_question")?;
    let Json(decisions): Json<Vec<DecisionView>> = row.try_get("check_decisions")?;
    let order: serde_json::Value = row.try_get("order_json")?;
    Ok(Some(CheckView {
        policies,
        checkers: u32::try_from(row.try_get::<i32, _>("check_checkers")?).map_err(StoreError::corrupt)?,
        question,
        payload_hash: payload_hash(row.try_get("check_hash")?)?,
        command: readable(&order),
        method: row.try_get("method")?,
        expires_at: row.try_get("check_expires_at")?,
        decisions,
    }))
}

fn payload_hash(bytes: &[u8]) -> Result<B256, StoreError> {
    B256::try_from(bytes).map_err(StoreError::corrupt)
}

/// Who asked for an operation that a policy held, and for what.
pub async fn asked(connection: &mut PgConnection, tenant: &TenantId, id: OperationId) -> Result<Asked, CheckError> {
    let row = sqlx::query(
        "SELECT o.principal, o.method, c.question,
                EXISTS (SELECT FROM engine.checker_policies p WHERE p.tenant = c.tenant AND p.policy_id = ANY (c.policies) AND p.unowned_makers)
                AND NOT EXISTS (SELECT FROM engine.checker_policies p WHERE p.tenant = c.tenant AND p.policy_id = ANY (c.policies) AND NOT p.unowned_makers) AS unowned_makers
         FROM engine.all_operations o JOIN engine.all_checks c ON c.tenant = o.tenant AND c.operation_id = o.operation_id
         WHERE o.tenant = $1 AND o.operation_id = $2",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .fetch_optional(connection)
    .await
    .map_err(StoreError::from)?
    .ok_or(CheckError::NotFound)?;
    let read = || -> Result<Asked, StoreError> {
        let Json(question): Json<Question> = row.try_get("question")?;
        let unowned_makers = row.try_get("unowned_makers")?;
        Ok(Asked { principal: row.try_get("principal")?, method: row.try_get("method")?, question, unowned_makers })
    };
    Ok(read()?)
}

/// Carries a decision out under the lock of the operation's row, in the commit that a connection is in. What does not count changes nothing.
pub async fn decide(
    commit: &mut PgConnection,
    tenant: &TenantId,
    id: OperationId,
    decision: &Decision,
) -> Result<Decided, CheckError> {
    // The time is that of the lock, not of the begin: who waited for the lock may have waited too long.
    let row = sqlx::query(
        "SELECT o.state, o.kind, o.order_json, c.checkers, c.payload_hash, c.expires_at FROM engine.operations o
         JOIN engine.checks c ON c.tenant = o.tenant AND c.operation_id = o.operation_id WHERE o.tenant = $1 AND o.operation_id = $2 FOR NO KEY UPDATE OF o",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .fetch_optional(&mut *commit)
    .await
    .map_err(StoreError::from)?
    .ok_or(CheckError::NotFound)?;
    let standing = standing(commit, tenant, id, &row).await?;
    let next = standing.decide(decision)?;
    let kind: String = row.try_get("kind").map_err(StoreError::from)?;
    let order = row.try_get("order_json").map_err(StoreError::from)?;
    if next != Next::Nothing {
        note(commit, tenant, id, decision).await?;
        carry_out(commit, tenant, id, decision, next).await?;
    }
    Ok(Decided { next, kind, order })
}

async fn standing(
    commit: &mut PgConnection,
    tenant: &TenantId,
    id: OperationId,
    row: &PgRow,
) -> Result<Standing, StoreError> {
    // A statement of its own: it sees what was decided before the lock was taken.
    let expires_at: OffsetDateTime = row.try_get("expires_at")?;
    let decided = sqlx::query(
        "SELECT clock_timestamp() >= $3 AS expired, d.person, d.approved, d.hands FROM (SELECT) one
         LEFT JOIN engine.check_decisions d ON d.tenant = $1 AND d.operation_id = $2",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .bind(expires_at)
    .fetch_all(&mut *commit)
    .await?;
    let (mut by_person, mut approvals) = (BTreeMap::new(), BTreeMap::new());
    let mut expired = false;
    for one in &decided {
        expired = one.try_get("expired")?;
        if let Some(person) = one.try_get::<Option<String>, _>("person")? {
            let approved = one.try_get("approved")?;
            if approved {
                approvals.insert(person.clone(), one.try_get::<Vec<String>, _>("hands")?.into_iter().collect());
            }
            by_person.insert(person, approved);
        }
    }
    Ok(Standing {
        state: row.try_get::<&str, _>("state")?.parse().map_err(StoreError::Corrupt)?,
        checkers: u32::try_from(row.try_get::<i32, _>("checkers")?).map_err(StoreError::corrupt)?,
        payload_hash: payload_hash(row.try_get("payload_hash")?)?,
        expired,
        decided: by_person,
        approvals,
    })
}

async fn note(
    commit: &mut PgConnection,
    tenant: &TenantId,
    id: OperationId,
    decision: &Decision,
) -> Result<(), CheckError> {
    let noted = sqlx::query(
        "INSERT INTO engine.check_decisions (tenant, operation_id, person, principal, makers, approved, reason, payload_hash, hands, makers_hands, decided_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp())",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .bind(&decision.person)
    .bind(&decision.principal)
    .bind(decision.makers.iter().map(String::as_str).collect::<Vec<_>>())
    .bind(decision.approved)
    .bind(&decision.reason)
    .bind(decision.payload_hash.as_slice())
    .bind(decision.hands.iter().map(String::as_str).collect::<Vec<_>>())
    .bind(decision.makers_hands.iter().map(String::as_str).collect::<Vec<_>>())
    .execute(commit)
    .await;
    match noted {
        Ok(_) => Ok(()),
        // The tables have the last word about it.
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("check_decisions_another") => {
            Err(CheckError::Maker)
        }
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("check_decisions_by_other_hands") => {
            Err(CheckError::MakersHand(decision.principal.clone()))
        }
        Err(error) => Err(StoreError::from(error).into()),
    }
}

async fn carry_out(
    commit: &mut PgConnection,
    tenant: &TenantId,
    id: OperationId,
    decision: &Decision,
    next: Next,
) -> Result<(), StoreError> {
    let refused = Failure::new("APPROVAL_DENIED", decision.reason.as_str()).with("principal", &decision.principal);
    let (state, needed) = match next {
        Next::Begins => (OperationState::Running, 0),
        Next::Ends => (OperationState::Failed, 0),
        Next::Waits(more) => (OperationState::AwaitingChecker, more),
        Next::Nothing => return Ok(()),
    };
    let error = (next == Next::Ends).then_some(Json(&refused));
    sqlx::query(
        "UPDATE engine.operations SET state = $3, error = $4, wake = $5, retry_at = '-infinity', updated_at = now() WHERE tenant = $1 AND operation_id = $2",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .bind(state.as_str())
    .bind(error)
    .bind(next == Next::Begins)
    .execute(&mut *commit)
    .await?;
    let action = if decision.approved { "operation.approve" } else { "operation.reject" };
    let said = json!({
        "approved": decision.approved, "principal": decision.principal, "person": decision.person, "hands": decision.hands, "reason": decision.reason,
        "payload_hash": hex::encode(decision.payload_hash), "needed": needed,
    });
    leaf(commit, tenant.as_str(), action, &decision.principal, &id.to_string(), said.clone()).await?;
    let (topic, body) = match next {
        Next::Ends => ("engine.operation.final", json!({"state": state, "result": null, "error": refused})),
        _ => ("engine.operation.pending", json!({"state": state, "check": said})),
    };
    emit(commit, vec![Event { tenant: tenant.to_string(), topic, subject: id.0, operation_id: id.0, body }]).await
}

/// Ends what nobody decided in time, of one service. Who is deciding at this moment is not waited for: it finds the time over itself. Returns how many.
pub async fn expire(pool: &PgPool, service: &ServiceName) -> Result<u64, StoreError> {
    let failure = Failure::new("APPROVAL_EXPIRED", "nobody decided in time");
    let ended: i64 = sqlx::query_scalar(
        "WITH due AS (
             SELECT o.tenant, o.operation_id FROM engine.operations o JOIN engine.checks c ON c.tenant = o.tenant AND c.operation_id = o.operation_id
             WHERE o.state = 'AWAITING_CHECKER' AND o.service = $1 AND c.expires_at <= clock_timestamp()
             ORDER BY o.tenant, o.operation_id LIMIT $2 FOR NO KEY UPDATE OF o SKIP LOCKED
         ), ended AS (
             UPDATE engine.operations o SET state = 'FAILED', error = $3, updated_at = now() FROM due
             WHERE o.tenant = due.tenant AND o.operation_id = due.operation_id AND o.state = 'AWAITING_CHECKER' RETURNING o.tenant, o.operation_id
         ), leaves AS (
             INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body)
             SELECT tenant, 'operation.expire', $1, operation_id::text, jsonb_build_object('error', $3::jsonb) FROM ended
         ), events AS (
             INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body)
             SELECT tenant, 'engine.operation.final', operation_id::text, operation_id, jsonb_build_object('state', 'FAILED', 'result', null, 'error', $3::jsonb) FROM ended
         )
         SELECT count(*) FROM ended",
    )
    .bind(service.as_str())
    .bind(EXPIRED_AT_ONCE)
    .bind(Json(&failure))
    .fetch_one(pool)
    .await?;
    unsigned(ended)
}

/// Tells who waits for operations that something was decided. After the commit, never in it.
pub async fn tell(pool: &PgPool) -> Result<(), StoreError> {
    notify(pool).await
}

/// The policies of a tenant, by name.
pub async fn policies(connection: &mut PgConnection, tenant: &TenantId) -> Result<Vec<StoredPolicy>, StoreError> {
    let rows = sqlx::query(
        "SELECT *, threshold::text AS units FROM engine.checker_policies WHERE tenant = $1 ORDER BY policy_id",
    )
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    let number = |row: &PgRow, name: &str| u32::try_from(row.try_get::<i32, _>(name)?).map_err(StoreError::corrupt);
    rows.iter()
        .map(|row| {
            let asset: String = row.try_get("asset")?;
            let units: Option<String> = row.try_get("units")?;
            let policy = Policy {
                policy_id: row.try_get("policy_id")?,
                kinds: row.try_get("kinds")?,
                except_kinds: row.try_get("except_kinds")?,
                asset: (!asset.is_empty()).then(|| asset.parse()).transpose().map_err(StoreError::corrupt)?,
                threshold: units.map(|units| units.parse()).transpose().map_err(StoreError::corrupt)?,
                checkers: number(row, "checkers")?,
                time_limit_s: number(row, "time_limit_s")?,
                unowned_makers: row.try_get("unowned_makers")?,
            };
            Ok(StoredPolicy { policy, created_at: row.try_get("created_at")?, created_by: row.try_get("created_by")? })
        })
        .collect()
}

/// The first kind of a policy that no service has: such a policy would protect nothing.
pub async fn unknown_kind(connection: &mut PgConnection, policy: &Policy) -> Result<Option<String>, StoreError> {
    let unknown = sqlx::query_scalar(
        "SELECT k FROM unnest($1::text[]) AS k WHERE k <> $2 AND NOT EXISTS (SELECT FROM engine.kinds e WHERE e.kind = k) LIMIT 1",
    )
    .bind(policy.kinds.iter().chain(&policy.except_kinds).map(String::as_str).collect::<Vec<_>>())
    .bind(POLICY_CHANGE)
    .fetch_optional(connection)
    .await?;
    Ok(unknown)
}

/// Makes or replaces a policy, in the commit that a connection is in.
pub async fn put_policy(
    commit: &mut PgConnection,
    tenant: &TenantId,
    policy: &Policy,
    by: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO engine.checker_policies (tenant, policy_id, kinds, except_kinds, asset, threshold, checkers, time_limit_s, created_by, unowned_makers)
         VALUES ($1, $2, $3, $4, $5, $6::text::numeric, $7, $8, $9, $10)
         ON CONFLICT (tenant, policy_id) DO UPDATE SET kinds = excluded.kinds, except_kinds = excluded.except_kinds, asset = excluded.asset,
             threshold = excluded.threshold, checkers = excluded.checkers, time_limit_s = excluded.time_limit_s, created_at = now(), created_by = excluded.created_by,
             unowned_makers = excluded.unowned_makers",
    )
    .bind(tenant.as_str())
    .bind(&policy.policy_id)
    .bind(&policy.kinds)
    .bind(&policy.except_kinds)
    .bind(policy.asset.map(|asset| format!("{asset:#x}")).unwrap_or_default())
    .bind(policy.threshold.map(|units| units.to_string()))
    .bind(i32::try_from(policy.checkers).map_err(StoreError::corrupt)?)
    .bind(i32::try_from(policy.time_limit_s).map_err(StoreError::corrupt)?)
    .bind(by)
    .bind(policy.unowned_makers)
    .execute(&mut *commit)
    .await?;
    leaf(commit, tenant.as_str(), "checker.set_policy", by, &policy.policy_id, json!(policy)).await
}

/// Takes a policy away, in the commit that a connection is in. `false`: there is none of this name.
pub async fn remove_policy(
    commit: &mut PgConnection,
    tenant: &TenantId,
    policy_id: &str,
    by: &str,
) -> Result<bool, StoreError> {
    let removed = sqlx::query("DELETE FROM engine.checker_policies WHERE tenant = $1 AND policy_id = $2")
        .bind(tenant.as_str())
        .bind(policy_id)
        .execute(&mut *commit)
        .await?
        .rows_affected()
        > 0;
    if removed {
        leaf(commit, tenant.as_str(), "checker.remove_policy", by, policy_id, json!({})).await?;
    }
    Ok(removed)
}

/// Accepts a change of policies as an operation, by the statement that accepts every other one, in the commit that a connection is in.
pub async fn accept_change(commit: &mut PgConnection, change: Change<'_>) -> Result<Changing, AdmitError> {
    let command_hash = audit::command_hash(&change.order);
    let new = NewOperation {
        id: change.operation_id,
        tenant: change.tenant.clone(),
        principal: change.principal.to_owned(),
        method: change.method.to_owned(),
        key: change.key.to_owned(),
        command_hash,
        kind: POLICY_CHANGE,
        version: 1,
        order: change.order,
        decision: flow::Decision { new_steps: Vec::new(), verdict: Verdict::Waiting },
        priority: Priority::Normal,
        question: Some(Question { hands: Some(change.hands), ..Question::default() }),
        refusable: false,
    };
    let service = ServiceName::new(change.service);
    let admitted = accept::write(&service, commit, &new.tenant, &[&new]).await?.remove(&new.id);
    match admitted.ok_or_else(|| StoreError::corrupt("an operation without an answer"))? {
        Admitted::New(_) => Ok(Changing::Free),
        Admitted::Held(_) => Ok(Changing::Held),
        Admitted::Repeat(id) => Ok(Changing::Repeat(id)),
        Admitted::OtherPayload(stored) => {
            Err(AdmitError::KeyReused { stored_hash: hex::encode(stored), given_hash: hex::encode(command_hash) })
        }
        Admitted::ForeignLane(lane) => Err(AdmitError::LaneOfOtherTenant(lane)),
        Admitted::BehindApproval(held) => Err(AdmitError::BehindApproval(Box::new(held))),
    }
}

/// Ends a change of policies that was carried out, in the commit that does.
pub async fn complete_change(
    commit: &mut PgConnection,
    tenant: &TenantId,
    id: OperationId,
    result: &serde_json::Value,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE engine.operations SET state = 'COMPLETED', result = $3, wake = false, updated_at = now()
         WHERE tenant = $1 AND operation_id = $2 AND state = 'RUNNING' AND kind = $4",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .bind(result)
    .bind(POLICY_CHANGE)
    .execute(&mut *commit)
    .await?;
    let body = json!({"state": OperationState::Completed, "result": result, "error": null});
    let topic = "engine.operation.final";
    emit(commit, vec![Event { tenant: tenant.to_string(), topic, subject: id.0, operation_id: id.0, body }]).await
}

impl Reads {
    /// How many operations of a service are held, and for how many seconds the oldest.
    pub(crate) async fn held(&self, service: &ServiceName) -> Result<(u64, f64), StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS held, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s FROM engine.operations
             WHERE service = $1 AND state = 'AWAITING_CHECKER'",
        )
        .bind(service.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok((unsigned(row.try_get("held")?)?, row.try_get("oldest_s")?))
    }
}

impl Store {
    /// Says which kinds this service runs: policies name no others.
    pub(crate) async fn tell_kinds(&self, kinds: Vec<String>) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO engine.kinds (kind, service) SELECT DISTINCT k, $2 FROM unnest($1::text[]) AS k ORDER BY k
             ON CONFLICT (kind) DO UPDATE SET service = excluded.service WHERE engine.kinds.service <> excluded.service",
        )
        .bind(kinds)
        .bind(self.service.as_str())
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
