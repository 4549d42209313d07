//! After a restore: what the signer did for transactions that this database still knows, by requests that it has forgotten.

use super::{
    Store,
    accept::begin,
    attempt::{AttemptKind, QueuedTransaction, TRANSACTION, fees_json, transaction},
    leaf, signed, unsigned,
};
use crate::{
    error::StoreError,
    model::{LaneId, RequestId, TransactionId},
};
use alloy::primitives::{B256, Bytes};
use dalp_chain::Fees;
use serde_json::json;
use sqlx::{AssertSqlSafe, Row};
use std::collections::BTreeMap;

/// So many attempts of a transaction may have been forgotten.
const FORGOTTEN_ATTEMPTS: u32 = 64;

/// A request that the signer knows and this database does not, of a transaction that it does know.
#[derive(Debug, Clone)]
pub(crate) struct Forgotten {
    pub(crate) transaction: QueuedTransaction,
    pub(crate) request_id: RequestId,
    /// The number of the attempt.
    pub(crate) number: u32,
}

/// What was signed by such a request.
#[derive(Debug, Clone)]
pub(crate) struct Adoption {
    pub(crate) forgotten: Forgotten,
    pub(crate) nonce: u64,
    pub(crate) kind: AttemptKind,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
    pub(crate) raw: Bytes,
    pub(crate) tx_hash: B256,
}

/// The transaction that each request was made for: request ids follow from a transaction and a number.
pub(crate) fn owners(transactions: &[QueuedTransaction], requests: &[RequestId]) -> Vec<Forgotten> {
    let mut found = Vec::new();
    for transaction in transactions {
        for number in 1..=FORGOTTEN_ATTEMPTS {
            let request_id = RequestId::of_attempt(transaction.id, number);
            if requests.contains(&request_id) {
                found.push(Forgotten { transaction: transaction.clone(), request_id, number });
            }
        }
    }
    found
}

impl Store {
    /// Which of these requests were made for transactions of the lane that have not ended.
    pub(crate) async fn forgotten(&self, lane: LaneId, requests: &[RequestId]) -> Result<Vec<Forgotten>, StoreError> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {TRANSACTION} FROM engine.transactions t WHERE t.transaction_id IN (
                 SELECT transaction_id FROM engine.transactions WHERE chain_id = $1 AND sender = $2 AND service = $3 AND state IN ('QUEUED', 'PREPARING')
                 UNION SELECT transaction_id FROM engine.attempts WHERE chain_id = $1 AND sender = $2 AND service = $3
                    AND (state IN ('SIGNING', 'SIGNED', 'SENT') OR release_pending))
               AND t.state IN ('QUEUED', 'PREPARING', 'SIGNING', 'BROADCASTING') ORDER BY t.sequence"
        )))
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(self.service.as_str())
        .fetch_all(&self.pool)
        .await?;
        let transactions: Vec<QueuedTransaction> = rows.iter().map(transaction).collect::<Result<_, _>>()?;
        Ok(owners(&transactions, requests))
    }

    /// Takes signed requests back as attempts: their nonces belong to their transactions, and their hashes are watched. What
    /// has been bound to another intent since is left out.
    pub(crate) async fn adopt(&self, lane: LaneId, adoptions: &[Adoption]) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let row =
            sqlx::query("SELECT next_nonce FROM engine.lanes WHERE chain_id = $1 AND sender = $2 FOR NO KEY UPDATE")
                .bind(signed(lane.chain_id)?)
                .bind(lane.sender.as_slice())
                .fetch_one(&mut *commit)
                .await?;
        let mut next: u64 = row.try_get::<Option<i64>, _>("next_nonce")?.map_or(Ok(0), unsigned)?;
        let mut latest: BTreeMap<TransactionId, &Adoption> = BTreeMap::new();
        for adoption in adoptions {
            let Forgotten { transaction, request_id, number } = &adoption.forgotten;
            let taken = sqlx::query(
                "INSERT INTO engine.nonces (chain_id, sender, nonce, transaction_id) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (chain_id, sender, nonce) DO UPDATE SET transaction_id = excluded.transaction_id, released = false
                 WHERE nonces.released OR nonces.transaction_id = excluded.transaction_id",
            )
            .bind(signed(lane.chain_id)?)
            .bind(lane.sender.as_slice())
            .bind(signed(adoption.nonce)?)
            .bind(transaction.id.0)
            .execute(&mut *commit)
            .await?;
            if taken.rows_affected() == 0 {
                continue;
            }
            sqlx::query(
                "INSERT INTO engine.attempts (tenant, transaction_id, attempt, service, chain_id, sender, nonce, kind, request_id, gas_limit, fees, state, raw, tx_hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'SENT', $12, $13) ON CONFLICT (request_id) DO NOTHING",
            )
            .bind(&transaction.tenant)
            .bind(transaction.id.0)
            .bind(i32::try_from(*number).map_err(StoreError::corrupt)?)
            .bind(self.service.as_str())
            .bind(signed(lane.chain_id)?)
            .bind(lane.sender.as_slice())
            .bind(signed(adoption.nonce)?)
            .bind(adoption.kind.as_str())
            .bind(request_id.0)
            .bind(signed(adoption.gas_limit)?)
            .bind(fees_json(&adoption.fees))
            .bind(adoption.raw.as_ref())
            .bind(adoption.tx_hash.as_slice())
            .execute(&mut *commit)
            .await?;
            next = next.max(adoption.nonce + 1);
            latest.insert(transaction.id, adoption);
            let body = json!({"nonce": adoption.nonce, "request_id": request_id, "tx_hash": adoption.tx_hash});
            let subject = transaction.id.to_string();
            leaf(&mut commit, &transaction.tenant, "transaction.adopted", self.service.as_str(), &subject, body)
                .await?;
        }
        for (id, adoption) in latest {
            // In two steps: the table of transitions knows no way around SIGNING.
            sqlx::query("UPDATE engine.transactions SET state = 'SIGNING' WHERE transaction_id = $1 AND state IN ('QUEUED', 'PREPARING')")
                .bind(id.0)
                .execute(&mut *commit)
                .await?;
            sqlx::query(
                "WITH moved AS (
                     UPDATE engine.transactions SET state = 'BROADCASTING', sub_status = 'adopted', nonce = $2, tx_hash = $3, updated_at = now()
                     WHERE transaction_id = $1 AND state IN ('SIGNING', 'BROADCASTING') RETURNING tenant, operation_id, transaction_id, nonce
                 )
                 INSERT INTO engine.outbox (tenant, topic, subject, operation_id, body)
                 SELECT tenant, 'engine.transaction.pending', transaction_id::text, operation_id,
                        jsonb_build_object('state', 'BROADCASTING', 'sub_status', 'adopted', 'nonce', nonce) FROM moved",
            )
            .bind(id.0)
            .bind(signed(adoption.nonce)?)
            .bind(adoption.tx_hash.as_slice())
            .execute(&mut *commit)
            .await?;
        }
        sqlx::query("UPDATE engine.lanes SET next_nonce = $3 WHERE chain_id = $1 AND sender = $2")
            .bind(signed(lane.chain_id)?)
            .bind(lane.sender.as_slice())
            .bind(signed(next)?)
            .execute(&mut *commit)
            .await?;
        commit.commit().await?;
        Ok(())
    }
}
