//! Every row of a sequence, in the tables in memory and in those of PostgreSQL, as text.

use super::Twins;
use crate::{
    custody::{Held, KeyProvider},
    model::{LaneId, OperationId, RequestId, TransactionId},
    sim::tables::{AttemptRow, LaneRow, LeafRow, NonceRow, OperationRow, StepRow, TransactionRow},
    store::{AttemptKind, Event},
};

impl Twins {
    /// Every row of this sequence, as text.
    pub(super) async fn compare_rows(&self) {
        for (what, model, query) in [
            ("transactions", self.transactions(), TRANSACTIONS),
            ("attempts", self.attempt_rows(), ATTEMPTS),
            ("handovers", self.handover_rows(), HANDOVERS),
            ("nonces", self.nonces(), NONCES),
            ("lanes", self.lane_rows(), LANES),
            ("operations", self.operation_rows(), OPERATIONS),
            ("steps", self.step_rows(), STEPS),
            ("outbox", self.outbox(), OUTBOX),
            ("audit leaves", self.leaves(), LEAVES),
        ] {
            let real: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .bind(self.service.as_str())
                .bind(self.lanes[0].chain_id as i64)
                .fetch_all(&self.store.pool)
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            self.same(what, &in_order(&model), &in_order(&real));
        }
    }

    fn transactions(&self) -> Vec<String> {
        let line = |(id, row): (&TransactionId, &TransactionRow)| {
            let history: Vec<_> =
                row.history.iter().map(|one| serde_json::json!([one.name, one.tries, one.last_error])).collect();
            serde_json::json!([
                id,
                row.state,
                row.sub_status,
                row.nonce,
                row.moved_from,
                row.tx_hash.map(alloy::hex::encode),
                row.block_number,
                row.gas_used,
                row.error,
                row.tries,
                row.cancel_requested,
                row.bump_requested,
                history
            ])
            .to_string()
        };
        self.tables.transactions.iter().map(line).collect()
    }

    fn attempt_rows(&self) -> Vec<String> {
        let line = |(id, row): (&RequestId, &AttemptRow)| {
            let block = row.inclusion.as_ref().map(|inclusion| inclusion.mined.block_number);
            let due = row.due_at <= tokio::time::Instant::now();
            serde_json::json!([
                id,
                row.transaction_id,
                row.number,
                kind(row.kind),
                row.nonce,
                row.phase.as_str(),
                row.held,
                told(row.hold),
                row.release_pending,
                row.tries,
                row.tx_hash.map(alloy::hex::encode),
                block,
                row.replaces,
                row.gas_limit,
                due
            ])
            .to_string()
        };
        self.tables.attempts.iter().map(line).collect()
    }

    fn nonces(&self) -> Vec<String> {
        let line = |((lane, nonce), row): (&(LaneId, u64), &NonceRow)| {
            serde_json::json!([alloy::hex::encode(lane.sender), nonce, row.transaction_id, row.released]).to_string()
        };
        self.tables.nonces.iter().map(line).collect()
    }

    fn lane_rows(&self) -> Vec<String> {
        let line = |(lane, row): (&LaneId, &LaneRow)| {
            serde_json::json!([
                alloy::hex::encode(lane.sender),
                row.tenant,
                row.next_nonce,
                row.needs_approval,
                row.paused,
                row.by_provider,
                row.behind_approval.as_str(),
                row.hold_nonce_for.map(|after| after.as_secs())
            ])
            .to_string()
        };
        self.tables.lanes.iter().map(line).collect()
    }

    fn operation_rows(&self) -> Vec<String> {
        let line = |(id, row): (&OperationId, &OperationRow)| {
            serde_json::json!([id, row.tenant, row.state, row.wake, row.cancel_requested, row.result, row.error])
                .to_string()
        };
        self.tables.operations.iter().map(line).collect()
    }

    fn step_rows(&self) -> Vec<String> {
        let line = |((id, name), row): (&(OperationId, String), &StepRow)| {
            serde_json::json!([id, name, row.outcome, row.request_id, row.due_at.is_some(), row.tries]).to_string()
        };
        self.tables.steps.iter().map(line).collect()
    }

    fn outbox(&self) -> Vec<String> {
        let line = |event: &Event| {
            serde_json::json!([event.tenant, event.topic, event.subject.to_string(), event.operation_id, event.body])
                .to_string()
        };
        self.tables.outbox.iter().map(line).collect()
    }

    fn leaves(&self) -> Vec<String> {
        let line = |leaf: &LeafRow| serde_json::json!([leaf.action, leaf.subject, leaf.body]).to_string();
        self.tables.leaves.iter().map(line).collect()
    }
}

/// Rows in one order, and steps that an event lists in no order of their own, too.
fn in_order(rows: &[String]) -> Vec<serde_json::Value> {
    let mut rows: Vec<serde_json::Value> = rows.iter().map(|row| serde_json::from_str(row).expect("JSON")).collect();
    for steps in
        rows.iter_mut().flat_map(|row| row.as_array_mut().expect("a row")).filter_map(|one| one.as_object_mut())
    {
        steps
            .values_mut()
            .filter_map(|steps| steps.as_array_mut())
            .for_each(|steps| steps.sort_by_key(ToString::to_string));
    }
    rows.sort_by_key(ToString::to_string);
    rows
}

/// A hold as its columns tell it.
pub(super) fn told(hold: Option<Held>) -> serde_json::Value {
    let provider = hold.and_then(|hold| hold.provider).map(KeyProvider::as_str);
    serde_json::json!([hold.map(|hold| hold.cause.as_str()), provider, hold.is_some()])
}

fn kind(kind: AttemptKind) -> &'static str {
    match kind {
        AttemptKind::Call => "CALL",
        AttemptKind::Replacement => "REPLACEMENT",
        AttemptKind::Cancel => "CANCEL",
    }
}

const TRANSACTIONS: &str = "SELECT jsonb_build_array(transaction_id, state, sub_status, nonce, moved_from, encode(tx_hash, 'hex'), block_number, gas_used, error, tries, cancel_requested, bump_requested,
    (SELECT coalesce(jsonb_agg(jsonb_build_array(h->'action', h->'tries', h->'last_error') ORDER BY place), '[]') FROM jsonb_array_elements(history) WITH ORDINALITY AS x(h, place)))::text
    FROM engine.transactions WHERE service = $1 AND chain_id = $2";
const ATTEMPTS: &str = "SELECT jsonb_build_array(request_id, transaction_id, attempt, kind, nonce, state, held, jsonb_build_array(hold, held_by, held_since IS NOT NULL), release_pending, tries, encode(tx_hash, 'hex'), block_number,
    replaces, gas_limit, due_at <= now())::text FROM engine.attempts WHERE service = $1 AND chain_id = $2";
const HANDOVERS: &str = "SELECT jsonb_build_array(request_id, transaction_id, attempt, state, held, jsonb_build_array(hold, held_by, held_since IS NOT NULL), provider_id, encode(tx_hash, 'hex'),
    (SELECT coalesce(jsonb_agg(encode(w.tx_hash, 'hex') ORDER BY encode(w.tx_hash, 'hex')), '[]') FROM engine.handover_hashes w WHERE w.request_id = h.request_id),
    chain_nonce, block_number, tries)::text FROM engine.handovers h WHERE service = $1 AND chain_id = $2";
const NONCES: &str = "SELECT jsonb_build_array(encode(sender, 'hex'), nonce, transaction_id, released)::text FROM engine.nonces WHERE chain_id = $2 AND $1 <> ''";
const LANES: &str = "SELECT jsonb_build_array(encode(sender, 'hex'), tenant, next_nonce, needs_approval, paused_at IS NOT NULL, by_provider, behind_approval, hold_nonce_for_s)::text FROM engine.lanes WHERE chain_id = $2 AND $1 <> ''";
const OPERATIONS: &str = "SELECT jsonb_build_array(operation_id, tenant, state, wake, cancel_requested, result, error)::text FROM engine.operations WHERE service = $1 AND $2 > 0";
const STEPS: &str = "SELECT jsonb_build_array(operation_id, name, outcome, request_id, due_at IS NOT NULL, tries)::text FROM engine.steps WHERE service = $1 AND $2 > 0";
const OUTBOX: &str = "SELECT jsonb_build_array(e.tenant, topic, subject, operation_id, body)::text FROM engine.outbox e JOIN engine.operations o USING (tenant, operation_id)
    WHERE o.service = $1 AND $2 > 0";
const LEAVES: &str = "SELECT jsonb_build_array(l.action, l.subject, l.body)::text FROM engine.audit_leaves l
    WHERE l.subject IN (SELECT operation_id::text FROM engine.operations WHERE service = $1 UNION SELECT transaction_id::text FROM engine.transactions WHERE service = $1)
       OR l.subject LIKE $2::text || '/%'";
