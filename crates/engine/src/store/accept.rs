//! Admission: everything that an accepted operation is, in one statement, for several operations of one tenant.

use super::{
    Store,
    holds::hold,
    lanes,
    operations::{Change, lanes_of},
    rows::{StepRows, TransactionRows},
};
use crate::{
    checker::Question,
    custody::{LaneHeld, may_be_refused},
    error::StoreError,
    flow::{Decision, Priority, Verdict},
    model::{LaneId, OperationId, ServiceName, TenantId},
    states::OperationState,
};
use futures::future::BoxFuture;
use serde_json::json;
use sqlx::{PgConnection, PgPool, Postgres, Row, Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use time::OffsetDateTime;
use uuid::Uuid;

/// An operation about to be stored, with what its flow decided at once.
#[derive(Debug, Clone)]
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
    pub(crate) decision: Decision,
    pub(crate) priority: Priority,
    /// What policies are asked about it; none: the platform itself goes on with what was accepted, and nothing holds that.
    pub(crate) question: Option<Question>,
    /// Whoever asks hears the answer and may ask again.
    pub(crate) refusable: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Admitted {
    /// Stored, at this time.
    New(OffsetDateTime),
    /// Stored at this time, and held by a policy: nothing of it has begun.
    Held(OffsetDateTime),
    /// An earlier request with the same key and payload was stored.
    Repeat(OperationId),
    /// The key stands for the payload with this hash.
    OtherPayload(Vec<u8>),
    /// A sender of it belongs to another tenant.
    ForeignLane(LaneId),
    /// A lane of it waits for a custody approval, and takes nothing behind it.
    BehindApproval(LaneHeld),
}

/// Writes a service's own rows in the accept commit.
pub type AcceptHook =
    Box<dyn for<'c> FnOnce(&'c mut PgConnection, OperationId) -> BoxFuture<'c, Result<(), sqlx::Error>> + Send>;

/// Idempotency, operation, first steps and intents, audit leaf and events. What finds its key taken changes nothing, and is
/// answered with what stands there: nothing, if that was committed only after this statement began.
///
/// Whether a policy holds an operation is read here, from what stands in the table as this statement begins: no memory of policies could be
/// out of date, and no trip to the database is added. What is held orders nothing.
///
/// So is whether a lane refuses it for the approval that holds the lane, which then leaves nothing behind. What a policy will hold stands behind nothing yet.
const ADMIT: &str = "
WITH given AS (
    SELECT * FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[], $9::int[], $10::jsonb[], $11::text[], $12::jsonb[],
                         $13::jsonb[], $14::jsonb[], $15::text[], $33::jsonb[], $34::jsonb[], $35::boolean[])
        AS g(id, principal, method, key, command_hash, kind, version, order_json, state, result, error, body, topic, question, amounts, refusable)
), matched AS (
    SELECT g.id, array_agg(p.policy_id ORDER BY p.policy_id) AS policies, max(p.checkers) AS checkers, min(p.time_limit_s) AS time_limit_s
    FROM engine.checker_policies p JOIN given g ON g.question IS NOT NULL
    WHERE p.tenant = $1 AND (p.kinds = '{}' OR g.kind = ANY (p.kinds)) AND g.kind <> ALL (p.except_kinds)
      AND (p.asset = '' AND p.threshold IS NULL OR EXISTS (
          SELECT FROM jsonb_to_recordset(g.amounts) AS a(asset text, amount numeric)
          WHERE (p.asset = '' OR a.asset = p.asset) AND (p.threshold IS NULL OR a.amount >= p.threshold)))
    GROUP BY g.id
), refused AS (
    SELECT DISTINCT ON (g.id) g.id, l.chain_id, l.sender, o.transaction_id AS held_transaction_id, o.hold, o.held_by, o.held_since, false AS held_by_provider
    FROM given g JOIN unnest($21::uuid[], $25::bigint[], $26::bytea[]) AS t(id, chain, sender) ON t.id = g.id
    JOIN engine.lanes l ON l.chain_id = t.chain AND l.sender = t.sender AND l.tenant = $1 AND l.behind_approval = 'REFUSE' AND NOT l.by_provider
    CROSS JOIN LATERAL (
        SELECT a.transaction_id, a.hold, a.held_by, a.held_since FROM engine.attempts a
        WHERE a.chain_id = l.chain_id AND a.sender = l.sender AND a.state = 'SIGNING' AND a.hold = 'APPROVAL' ORDER BY a.held_since, a.transaction_id LIMIT 1) o
    WHERE g.refusable AND NOT EXISTS (SELECT FROM matched m WHERE m.id = g.id)
    ORDER BY g.id, o.held_since, o.transaction_id
), fresh AS (
    INSERT INTO engine.idempotency (tenant, principal, method, key, command_hash, operation_id)
    SELECT $1, principal, method, key, command_hash, id FROM given g WHERE NOT EXISTS (SELECT FROM refused r WHERE r.id = g.id)
    ORDER BY principal, method, key ON CONFLICT DO NOTHING RETURNING operation_id AS id
), held AS (
    SELECT m.* FROM matched m JOIN fresh USING (id)
), begun AS (
    SELECT f.id FROM fresh f WHERE NOT EXISTS (SELECT FROM held h WHERE h.id = f.id)
), operations AS (
    INSERT INTO engine.operations (tenant, operation_id, service, principal, method, kind, version, order_json, state, result, error, wake)
    SELECT $1, g.id, $2, g.principal, g.method, g.kind, g.version, g.order_json, CASE WHEN h.id IS NULL THEN g.state ELSE 'AWAITING_CHECKER' END,
           CASE WHEN h.id IS NULL THEN g.result END, CASE WHEN h.id IS NULL THEN g.error END, false
    FROM given g JOIN fresh USING (id) LEFT JOIN held h USING (id)
), checks AS (
    INSERT INTO engine.checks (tenant, operation_id, policies, checkers, question, payload_hash, expires_at)
    SELECT $1, h.id, h.policies, h.checkers, g.question, g.command_hash, now() + make_interval(secs => h.time_limit_s) FROM held h JOIN given g USING (id)
), steps AS (
    INSERT INTO engine.steps (tenant, operation_id, name, position, input, request_id, due_at, service)
    SELECT $1, id, name, position, input, request, CASE WHEN request IS NULL THEN NULL ELSE '-infinity'::timestamptz END, $2
    FROM unnest($16::uuid[], $17::text[], $18::int[], $19::jsonb[], $20::uuid[]) AS s(id, name, position, input, request) JOIN begun USING (id)
), transactions AS (
    INSERT INTO engine.transactions (tenant, transaction_id, operation_id, step, position, service, chain_id, sender, target, value_wei, data, checks, priority, state, secret)
    SELECT $1, transaction, id, step, position, $2, chain, sender, target, value::numeric, data, checks, priority, 'QUEUED', secret
    FROM unnest($21::uuid[], $22::uuid[], $23::text[], $24::int[], $25::bigint[], $26::bytea[], $27::bytea[], $28::text[], $29::bytea[], $30::jsonb[], $31::smallint[], $32::jsonb[])
         WITH ORDINALITY AS t(id, transaction, step, position, chain, sender, target, value, data, checks, priority, secret, place) JOIN begun USING (id) ORDER BY place
), told AS (
    SELECT g.id, g.principal, CASE WHEN h.id IS NULL THEN g.topic ELSE 'engine.operation.pending' END AS topic,
           CASE WHEN h.id IS NULL THEN g.body
                ELSE g.body || jsonb_build_object('state', 'AWAITING_CHECKER', 'policies', h.policies, 'checkers', h.checkers) END AS body
    FROM given g JOIN fresh USING (id) LEFT JOIN held h USING (id)
), leaves AS (
    INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body, payload_hash)
    SELECT $1, 'operation.accept', t.principal, t.id::text, t.body, g.command_hash FROM told t JOIN given g USING (id)
), events AS (
    INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body) SELECT $1, topic, id::text, id, body FROM told
)
SELECT g.id, f.id IS NOT NULL AS fresh, s.command_hash, s.operation_id, now() AS at,
       CASE WHEN f.id IS NOT NULL THEN h.id IS NOT NULL
            ELSE EXISTS (SELECT FROM engine.checks c WHERE c.tenant = $1 AND c.operation_id = g.id) END AS held,
       r.chain_id, r.sender, r.held_transaction_id, r.hold, r.held_by, r.held_since, r.held_by_provider
FROM given g LEFT JOIN fresh f USING (id) LEFT JOIN held h USING (id) LEFT JOIN refused r USING (id)
LEFT JOIN engine.idempotency s ON f.id IS NULL AND s.tenant = $1 AND s.principal = g.principal AND s.method = g.method AND s.key = g.key";

/// Begins a transaction, even if the caller gives up meanwhile. A `BEGIN` that is dropped half way would leave its connection in a
/// transaction that the driver does not know of: whoever got it next would be told of commits that never happen.
pub(super) async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin().await }).await;
    Ok(begun.map_err(|_| StoreError::Stopped)??)
}

impl Store {
    /// Stores operations, each whole or not at all; one statement per tenant.
    pub(crate) async fn admit(&self, news: &[NewOperation]) -> Result<Vec<Admitted>, StoreError> {
        let mut by_tenant: BTreeMap<&TenantId, Vec<&NewOperation>> = BTreeMap::new();
        for new in news {
            by_tenant.entry(&new.tenant).or_default().push(new);
        }
        let mut admitted = HashMap::new();
        for (tenant, news) in by_tenant {
            let wanted = self.known_lanes.unknown(lanes_of_all(tenant, &news));
            if wanted.is_empty() {
                let mut connection = self.pool.acquire().await.map_err(StoreError::Database)?;
                admitted.extend(write(&self.service, &mut connection, tenant, &news).await?);
            } else {
                let mut commit = begin(&self.pool).await?;
                let foreign = self.claim_lanes(&mut commit, &wanted).await?;
                let (refused, news): (Vec<_>, Vec<_>) =
                    news.into_iter().partition(|new| foreign_lane(new, &foreign).is_some());
                admitted.extend(write(&self.service, &mut commit, tenant, &news).await?);
                commit.commit().await?;
                self.known_lanes.learn(wanted, &foreign);
                for new in refused {
                    admitted.extend(foreign_lane(new, &foreign).map(|lane| (new.id, Admitted::ForeignLane(lane))));
                }
            }
        }
        news.iter()
            .map(|new| admitted.remove(&new.id).ok_or_else(|| StoreError::corrupt("an operation without an answer")))
            .collect()
    }

    /// Stores one operation together with the service's own rows. The hook is not called for a repeat.
    pub(crate) async fn admit_with(&self, new: &NewOperation, hook: AcceptHook) -> Result<Admitted, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let wanted = self.known_lanes.unknown(lanes_of_all(&new.tenant, &[new]));
        let foreign = self.claim_lanes(&mut commit, &wanted).await?;
        if let Some(lane) = foreign_lane(new, &foreign) {
            return Ok(Admitted::ForeignLane(lane));
        }
        let admitted = write(&self.service, &mut commit, &new.tenant, &[new]).await?.remove(&new.id);
        let admitted = admitted.ok_or_else(|| StoreError::corrupt("an operation without an answer"))?;
        if matches!(admitted, Admitted::New(_) | Admitted::Held(_)) {
            hook(&mut commit, new.id).await?;
            commit.commit().await?;
            self.known_lanes.learn(wanted, &foreign);
        }
        Ok(admitted)
    }
}

/// Stores operations of a tenant for a service, in the commit or statement that the connection is in.
pub(super) async fn write(
    service: &ServiceName,
    connection: &mut PgConnection,
    tenant: &TenantId,
    news: &[&NewOperation],
) -> Result<HashMap<OperationId, Admitted>, StoreError> {
    if news.is_empty() {
        return Ok(HashMap::new());
    }
    let (mut steps, mut transactions) = (StepRows::default(), TransactionRows::default());
    let (mut states, mut results, mut errors, mut bodies, mut topics) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut questions, mut amounts) = (vec![], vec![]);
    for new in news {
        let change = Change {
            tenant: new.tenant.to_string(),
            id: new.id,
            first_position: 0,
            decision: new.decision.clone(),
            priority: new.priority,
        };
        steps.push_all(&change)?;
        transactions.push_all(&change)?;
        questions.push(new.question.as_ref().map(|question| json!(question)));
        amounts.push(new.question.as_ref().map(|question| question.amounts.rows()));
        let state = new.state();
        states.push(state.as_str());
        topics.push(if state.is_final() { "engine.operation.final" } else { "engine.operation.pending" });
        results.push(if let Verdict::Done(result) = &new.decision.verdict { Some(result) } else { None });
        errors.push(if let Verdict::Failed(failure) = &new.decision.verdict { Some(json!(failure)) } else { None });
        bodies.push(json!({
            "kind": new.kind, "method": new.method, "state": state, "command_hash": hex::encode(new.command_hash),
        }));
    }
    let rows = sqlx::query(ADMIT)
        .bind(tenant.as_str())
        .bind(service.as_str())
        .bind(news.iter().map(|new| new.id.0).collect::<Vec<_>>())
        .bind(news.iter().map(|new| new.principal.as_str()).collect::<Vec<_>>())
        .bind(news.iter().map(|new| new.method.as_str()).collect::<Vec<_>>())
        .bind(news.iter().map(|new| new.key.as_str()).collect::<Vec<_>>())
        .bind(news.iter().map(|new| &new.command_hash[..]).collect::<Vec<_>>())
        .bind(news.iter().map(|new| new.kind).collect::<Vec<_>>())
        .bind(news.iter().map(|new| new.version as i32).collect::<Vec<_>>())
        .bind(news.iter().map(|new| &new.order).collect::<Vec<_>>())
        .bind(states)
        .bind(results)
        .bind(errors)
        .bind(bodies)
        .bind(topics)
        .bind(steps.operations)
        .bind(steps.names)
        .bind(steps.positions)
        .bind(steps.inputs)
        .bind(steps.requests)
        .bind(transactions.operations)
        .bind(transactions.ids)
        .bind(transactions.steps)
        .bind(transactions.positions)
        .bind(transactions.chains)
        .bind(transactions.senders)
        .bind(transactions.targets)
        .bind(transactions.values)
        .bind(transactions.data)
        .bind(transactions.checks)
        .bind(transactions.priorities)
        .bind(transactions.secrets)
        .bind(questions)
        .bind(amounts)
        .bind(news.iter().map(|new| may_be_refused(new.refusable, new.priority)).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    let mut admitted = HashMap::with_capacity(news.len());
    for row in &rows {
        let id = OperationId(row.try_get("id")?);
        let new = news.iter().find(|new| new.id == id).ok_or_else(|| StoreError::corrupt("an answer unasked"))?;
        let at: OffsetDateTime = row.try_get("at")?;
        let held: bool = row.try_get("held")?;
        let outcome = if row.try_get("fresh")? {
            stored_at(at, held)
        } else {
            match (row.try_get::<Option<Uuid>, _>("operation_id")?, hold(row)?) {
                (Some(stored), _) => {
                    new.compared(row.try_get("command_hash")?, OperationId(stored), stored_at(at, held))
                }
                (None, Some(hold)) => Admitted::BehindApproval(LaneHeld { lane: lanes::lane(row)?, hold }),
                (None, None) => stored(&mut *connection, new, at).await?,
            }
        };
        admitted.insert(id, outcome);
    }
    Ok(admitted)
}

/// The key was taken while the statement ran: it is seen by the next one.
async fn stored(connection: &mut PgConnection, new: &NewOperation, at: OffsetDateTime) -> Result<Admitted, StoreError> {
    let row = sqlx::query(
        "SELECT command_hash, operation_id, EXISTS (SELECT FROM engine.checks c WHERE c.tenant = i.tenant AND c.operation_id = i.operation_id) AS held
         FROM engine.idempotency i WHERE tenant = $1 AND principal = $2 AND method = $3 AND key = $4",
    )
        .bind(new.tenant.as_str())
        .bind(&new.principal)
        .bind(&new.method)
        .bind(&new.key)
        .fetch_one(connection)
        .await?;
    let own = stored_at(at, row.try_get("held")?);
    Ok(new.compared(row.try_get("command_hash")?, OperationId(row.try_get("operation_id")?), own))
}

/// What was stored at this time.
fn stored_at(at: OffsetDateTime, held: bool) -> Admitted {
    if held { Admitted::Held(at) } else { Admitted::New(at) }
}

fn lanes_of_all(tenant: &TenantId, news: &[&NewOperation]) -> BTreeSet<(TenantId, LaneId)> {
    news.iter().flat_map(|new| lanes_of(&new.decision)).map(|lane| (tenant.clone(), lane)).collect()
}

fn foreign_lane(new: &NewOperation, foreign: &BTreeSet<(TenantId, LaneId)>) -> Option<LaneId> {
    lanes_of(&new.decision).into_iter().find(|lane| foreign.contains(&(new.tenant.clone(), *lane)))
}

// === impl NewOperation ===

impl NewOperation {
    /// Where it stands once it is stored.
    pub(crate) fn state(&self) -> OperationState {
        match self.decision.verdict {
            Verdict::Waiting | Verdict::Broken(_) => OperationState::Running,
            Verdict::Done(_) => OperationState::Completed,
            Verdict::Failed(_) => OperationState::Failed,
        }
    }

    /// `own`: what is answered when it was stored by an earlier try of this very work whose answer was lost.
    fn compared(&self, stored_hash: Vec<u8>, stored: OperationId, own: Admitted) -> Admitted {
        if stored == self.id {
            own
        } else if stored_hash == self.command_hash {
            Admitted::Repeat(stored)
        } else {
            Admitted::OtherPayload(stored_hash)
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::TestPostgres;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_begin_that_is_given_up_leaves_no_open_transaction() {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
        let url = postgres.create_database("begin").await;
        let one = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&url).await.expect("connects");
        for micros in (0..400).step_by(2) {
            let _ = tokio::time::timeout(Duration::from_micros(micros), begin(&one)).await;
            let now = || async { sqlx::query_scalar::<_, OffsetDateTime>("SELECT now()").fetch_one(&one).await };
            let (first, second) = (now().await.expect("readable"), now().await.expect("readable"));
            assert!(first < second, "both statements stand in one transaction, given up after {micros} µs");
        }
        one.close().await;
    }
}
