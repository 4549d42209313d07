//! Inclusion, finality and reorgs.

use super::{Event, Refusal, Store, accept::begin, emit, hash, settle::lock_operations, signed, unsigned};
use crate::{
    error::StoreError,
    flow::{Failure, Mined, StepOutcome},
    model::{LaneId, TransactionId},
    states::TransactionState,
};
use alloy::primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{Row, types::Json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A signed attempt found in a block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Inclusion {
    pub(crate) mined: Mined,
    pub(crate) succeeded: bool,
    pub(crate) revert_data: Option<Bytes>,
}

/// An included attempt whose block is final.
pub(crate) struct FinalAttempt {
    pub(crate) request_id: Uuid,
    pub(crate) tenant: String,
    pub(crate) operation_id: Uuid,
    pub(crate) transaction_id: TransactionId,
    pub(crate) is_cancel: bool,
    /// It says how its transaction ends: not if it only used up a nonce that the transaction has left.
    pub(crate) settles: bool,
    pub(crate) inclusion: Inclusion,
    pub(crate) sender: Address,
    pub(crate) target: Option<Address>,
    pub(crate) value_wei: U256,
    pub(crate) data: Bytes,
}

/// How a final attempt ends its transaction.
pub(crate) struct Finished {
    pub(crate) attempt: FinalAttempt,
    pub(crate) reverted: Option<Failure>,
}

/// Inclusions of attempts, and what they overtake.
const INCLUDE_ATTEMPTS: &str = "
WITH included AS (
    UPDATE engine.attempts a SET state = 'MINED', block_number = x.n, block_hash = x.b, receipt = x.r
    FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::jsonb[]) AS x(h, n, b, r)
    WHERE a.tx_hash = x.h AND a.service = $5 AND (a.state IN ('SIGNED', 'SENT', 'SUPERSEDED', 'SEALED') OR (a.state = 'MINED' AND a.block_hash <> x.b))
    RETURNING a.tenant, a.transaction_id, a.request_id, a.kind, a.chain_id, a.sender, a.nonce, a.tx_hash, a.block_number, a.receipt
), overtaken AS (
    UPDATE engine.attempts o SET state = CASE WHEN o.raw IS NULL THEN 'REFUSED' ELSE 'SUPERSEDED' END,
           block_number = NULL, block_hash = NULL, receipt = NULL FROM included i
    WHERE o.chain_id = i.chain_id AND o.sender = i.sender AND o.nonce = i.nonce AND o.service = $5
      AND o.state IN ('SIGNING', 'SIGNED', 'SENT', 'MINED') AND o.request_id <> ALL (SELECT request_id FROM included)
), moved AS (
    UPDATE engine.transactions t SET state = 'CONFIRMING', sub_status = 'included', tx_hash = i.tx_hash, nonce = i.nonce,
           block_number = i.block_number, gas_used = (i.receipt->'mined'->>'gas_used')::bigint, updated_at = now()
    FROM included i WHERE t.tenant = i.tenant AND t.transaction_id = i.transaction_id
      AND (t.state IN ('SIGNING', 'BROADCASTING', 'CONFIRMING') OR (t.state = 'DEAD_LETTER' AND i.kind <> 'CANCEL'))
      AND (t.nonce = i.nonce OR i.kind <> 'CANCEL')
    RETURNING t.tenant, t.operation_id, t.transaction_id, t.nonce
), told AS (
    INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body)
    SELECT tenant, 'engine.transaction.pending', transaction_id::text, operation_id,
           jsonb_build_object('state', 'CONFIRMING', 'sub_status', 'included', 'nonce', nonce) FROM moved
)
SELECT chain_id, sender FROM included";

/// Inclusions of handovers, under any hash that was told.
const INCLUDE_HANDOVERS: &str = "
WITH named AS (
    SELECT DISTINCT ON (w.request_id) w.request_id, x.* FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::jsonb[]) AS x(h, n, b, r)
    JOIN engine.handover_hashes w ON w.tx_hash = x.h ORDER BY w.request_id, x.n DESC
), included AS (
    UPDATE engine.handovers d SET state = 'MINED', tx_hash = x.h, block_number = x.n, block_hash = x.b, receipt = x.r FROM named x
    WHERE d.request_id = x.request_id AND d.service = $5
      AND (d.state IN ('SIGNING', 'HANDED', 'SENT', 'PARKED') OR (d.state = 'MINED' AND (d.block_hash, d.tx_hash) IS DISTINCT FROM (x.b, x.h)))
    RETURNING d.tenant, d.transaction_id, d.chain_id, d.sender, d.tx_hash, d.block_number, d.receipt
), moved AS (
    UPDATE engine.transactions t SET state = 'CONFIRMING', sub_status = 'included', tx_hash = i.tx_hash,
           block_number = i.block_number, gas_used = (i.receipt->'mined'->>'gas_used')::bigint, updated_at = now()
    FROM included i WHERE t.tenant = i.tenant AND t.transaction_id = i.transaction_id AND t.state IN ('SIGNING', 'BROADCASTING', 'CONFIRMING', 'DEAD_LETTER')
    RETURNING t.tenant, t.operation_id, t.transaction_id
), told AS (
    INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body)
    SELECT tenant, 'engine.transaction.pending', transaction_id::text, operation_id,
           jsonb_build_object('state', 'CONFIRMING', 'sub_status', 'included', 'nonce', NULL) FROM moved
)
SELECT chain_id, sender FROM included";

/// Inclusions as columns.
struct Columns {
    hashes: Vec<Vec<u8>>,
    numbers: Vec<i64>,
    blocks: Vec<Vec<u8>>,
    receipts: Vec<serde_json::Value>,
}

// === impl Columns ===

impl Columns {
    fn of(inclusions: &[Inclusion]) -> Result<Self, StoreError> {
        let mined = || inclusions.iter().map(|inclusion| &inclusion.mined);
        Ok(Self {
            hashes: mined().map(|mined| mined.tx_hash.to_vec()).collect(),
            numbers: mined().map(|mined| signed(mined.block_number)).collect::<Result<_, _>>()?,
            blocks: mined().map(|mined| mined.block_hash.to_vec()).collect(),
            receipts: inclusions
                .iter()
                .map(|inclusion| serde_json::to_value(inclusion).map_err(StoreError::corrupt))
                .collect::<Result<_, _>>()?,
        })
    }
}

// === impl Finished ===

impl Finished {
    /// The final state of the transaction and the outcome of its step.
    pub(crate) fn settled(self) -> (Refusal, Option<StepOutcome>) {
        let Self { attempt, reverted } = self;
        let (state, sub_status, failure) = match (attempt.is_cancel, reverted) {
            (true, _) => (
                TransactionState::Cancelled,
                "cancelled",
                Some(Failure::new("TRANSACTION_CANCELLED", "replaced by a cancel")),
            ),
            (false, Some(failure)) => (TransactionState::Failed, "reverted", Some(failure)),
            (false, None) => (TransactionState::Completed, "", None),
        };
        let outcome = failure.is_none().then(|| StepOutcome::Mined { mined: attempt.inclusion.mined.clone() });
        let refusal = Refusal {
            tenant: attempt.tenant,
            operation_id: attempt.operation_id,
            transaction_id: attempt.transaction_id,
            state,
            sub_status,
            failure: failure.unwrap_or_else(|| Failure::new("", "")),
        };
        (refusal, outcome)
    }
}

impl Store {
    /// Which of the hashes are ours.
    pub(crate) async fn our_hashes(&self, hashes: &[B256]) -> Result<Vec<B256>, StoreError> {
        let hashes: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.to_vec()).collect();
        let ours: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT tx_hash FROM engine.attempts WHERE tx_hash = ANY($1) AND service = $2
                 UNION ALL SELECT w.tx_hash FROM engine.handover_hashes w JOIN engine.handovers h USING (request_id) WHERE w.tx_hash = ANY($1) AND h.service = $2")
                .bind(hashes)
                .bind(self.service.as_str())
                .fetch_all(&self.pool)
                .await?;
        ours.iter().map(|bytes| hash(bytes)).collect()
    }

    /// Records inclusions. What is recorded already for the same block changes nothing and is told nobody. Of a nonce the last one
    /// that was seen stands, and every other version is only watched: a node on another branch may have shown it.
    /// Returns the lanes that moved.
    pub(crate) async fn include(&self, inclusions: &[Inclusion]) -> Result<BTreeSet<LaneId>, StoreError> {
        let columns = Columns::of(inclusions)?;
        let mut lanes = self.moved_by(INCLUDE_ATTEMPTS, &columns).await?;
        if lanes.len() < inclusions.len() {
            // Of a handover any hash that was told may be the one.
            lanes.extend(self.moved_by(INCLUDE_HANDOVERS, &columns).await?);
        }
        Ok(lanes.into_iter().collect())
    }

    /// The lane of each that a statement of inclusions has moved.
    async fn moved_by(&self, statement: &'static str, columns: &Columns) -> Result<Vec<LaneId>, StoreError> {
        let rows = sqlx::query(statement)
            .bind(&columns.hashes)
            .bind(&columns.numbers)
            .bind(&columns.blocks)
            .bind(&columns.receipts)
            .bind(self.service.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(super::lanes::lane).collect()
    }

    /// Blocks that hold included, not yet final attempts.
    pub(crate) async fn mined_blocks(&self, chain_id: u64) -> Result<Vec<(u64, B256)>, StoreError> {
        let rows = sqlx::query("SELECT block_number, block_hash FROM engine.attempts WHERE chain_id = $1 AND service = $2 AND state = 'MINED'
             UNION SELECT block_number, block_hash FROM engine.handovers WHERE chain_id = $1 AND service = $2 AND state = 'MINED' ORDER BY block_number")
            .bind(signed(chain_id)?)
            .bind(self.service.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok((unsigned(row.try_get(0)?)?, hash(row.try_get(1)?)?))).collect()
    }

    /// Takes back what stood in blocks that disappeared: it is broadcast again, and its events are retracted.
    pub(crate) async fn retract(&self, chain_id: u64, blocks: &[B256]) -> Result<usize, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let blocks: Vec<Vec<u8>> = blocks.iter().map(|hash| hash.to_vec()).collect();
        let gone: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE engine.attempts SET state = 'SENT', due_at = '-infinity', block_number = NULL, block_hash = NULL, receipt = NULL
             WHERE chain_id = $1 AND service = $2 AND state = 'MINED' AND block_hash = ANY($3) RETURNING request_id",
        )
        .bind(signed(chain_id)?)
        .bind(self.service.as_str())
        .bind(&blocks)
        .fetch_all(&mut *commit)
        .await?;
        // Its provider sends it again, or tells another hash.
        let handed: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE engine.handovers SET state = 'SENT', tries = 0, due_at = '-infinity', block_number = NULL, block_hash = NULL, receipt = NULL
             WHERE chain_id = $1 AND service = $2 AND state = 'MINED' AND block_hash = ANY($3) RETURNING request_id",
        )
        .bind(signed(chain_id)?)
        .bind(self.service.as_str())
        .bind(&blocks)
        .fetch_all(&mut *commit)
        .await?;
        let rows = sqlx::query(
            "UPDATE engine.transactions t SET state = 'BROADCASTING', sub_status = 'reorged', block_number = NULL, gas_used = NULL,
                    history = engine.note(history, 'reorged', ''), updated_at = now()
             FROM (SELECT transaction_id, nonce, kind FROM engine.attempts WHERE request_id = ANY($1)
                   UNION ALL SELECT transaction_id, NULL, 'HANDOVER' FROM engine.handovers WHERE request_id = ANY($2)) a
             WHERE t.transaction_id = a.transaction_id AND t.state = 'CONFIRMING' AND (t.nonce = a.nonce OR a.kind <> 'CANCEL')
             RETURNING t.tenant, t.operation_id, t.transaction_id",
        )
        .bind(&gone)
        .bind(&handed)
        .fetch_all(&mut *commit)
        .await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let (tenant, operation): (String, Uuid) = (row.try_get(0)?, row.try_get(1)?);
            let body = json!({"state": TransactionState::Broadcasting, "sub_status": "reorged"});
            events.push(Event::transaction("engine.transaction.retracted", &tenant, operation, row.try_get(2)?, body));
        }
        emit(&mut commit, events).await?;
        commit.commit().await?;
        let count = gone.len() + handed.len();
        crate::metric_definitions::reorged(count);
        Ok(count)
    }

    /// Included attempts of blocks that are final.
    pub(crate) async fn final_attempts(
        &self,
        chain_id: u64,
        blocks: &[B256],
        limit: i64,
    ) -> Result<Vec<FinalAttempt>, StoreError> {
        let blocks: Vec<Vec<u8>> = blocks.iter().map(|hash| hash.to_vec()).collect();
        let rows = sqlx::query(
            "SELECT a.request_id, a.tenant, t.operation_id, a.transaction_id, a.kind, a.receipt, t.sender, t.target, t.value_wei::text AS value_wei, t.data,
                    a.kind <> 'CANCEL' OR a.nonce IS NOT DISTINCT FROM t.nonce AS settles
             FROM (SELECT tenant, transaction_id, request_id, kind, receipt, nonce FROM engine.attempts
                   WHERE chain_id = $1 AND service = $2 AND state = 'MINED' AND block_hash = ANY($3)
                   UNION ALL SELECT tenant, transaction_id, request_id, 'HANDOVER', receipt, NULL FROM engine.handovers
                   WHERE chain_id = $1 AND service = $2 AND state = 'MINED' AND block_hash = ANY($3) LIMIT $4) a
             JOIN engine.transactions t ON t.tenant = a.tenant AND t.transaction_id = a.transaction_id",
        )
        .bind(signed(chain_id)?)
        .bind(self.service.as_str())
        .bind(blocks)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(FinalAttempt {
                    request_id: row.try_get("request_id")?,
                    tenant: row.try_get("tenant")?,
                    operation_id: row.try_get("operation_id")?,
                    transaction_id: TransactionId(row.try_get("transaction_id")?),
                    is_cancel: row.try_get::<&str, _>("kind")? == "CANCEL",
                    settles: row.try_get("settles")?,
                    inclusion: row.try_get::<Json<Inclusion>, _>("receipt")?.0,
                    sender: super::address(row.try_get("sender")?)?,
                    target: row.try_get::<Option<&[u8]>, _>("target")?.map(super::address).transpose()?,
                    value_wei: row.try_get::<&str, _>("value_wei")?.parse().map_err(StoreError::corrupt)?,
                    data: Bytes::copy_from_slice(row.try_get("data")?),
                })
            })
            .collect()
    }

    /// Ends transactions whose attempts are final, and wakes their flows. Only those that still stand in that block: another version
    /// may have been seen in one since.
    pub(crate) async fn finish(&self, finished: Vec<Finished>) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = finished.iter().map(|one| one.attempt.request_id).collect();
        let blocks: Vec<Vec<u8>> = finished.iter().map(|one| one.attempt.inclusion.mined.block_hash.to_vec()).collect();
        let settles = finished.into_iter().filter(|one| one.attempt.settles);
        let settling: Vec<(Uuid, (Refusal, Option<StepOutcome>))> =
            settles.map(|one| (one.attempt.request_id, one.settled())).collect();
        let mut commit = begin(&self.pool).await?;
        lock_operations(&mut commit, settling.iter().map(|(_, (refusal, _))| refusal)).await?;
        let done: Vec<Uuid> = sqlx::query_scalar(
            "WITH f AS (SELECT * FROM unnest($1::uuid[], $2::bytea[]) AS f(id, block)), attempts AS (
                 UPDATE engine.attempts a SET state = 'DONE' FROM f WHERE a.request_id = f.id AND a.state = 'MINED' AND a.block_hash = f.block RETURNING a.request_id
             ), handovers AS (
                 UPDATE engine.handovers h SET state = 'DONE' FROM f WHERE h.request_id = f.id AND h.state = 'MINED' AND h.block_hash = f.block RETURNING h.request_id
             )
             SELECT request_id FROM attempts UNION ALL SELECT request_id FROM handovers",
        )
        .bind(ids)
        .bind(blocks)
        .fetch_all(&mut *commit)
        .await?;
        let settled = settling.into_iter().filter(|(id, _)| done.contains(id)).map(|(_, settled)| settled).collect();
        self.settle(&mut commit, settled, &["CONFIRMING"]).await?;
        commit.commit().await?;
        Ok(())
    }
}
