//! What waits at the providers of keys.

use super::Reads;
use crate::{
    custody::{HoldCause, KeyProvider, OperationHold, ProviderHold},
    error::StoreError,
    model::{OperationId, TenantId, TransactionId},
};
use sqlx::{Row, postgres::PgRow};

/// Transactions of an operation that wait at a provider, or for a nonce behind one that does: those of a sender whose provider broadcasts wait for none.
const OF_OPERATION: &str = "
SELECT * FROM (SELECT t.transaction_id AS waiting, a.transaction_id AS held_transaction_id, a.hold, a.held_by, a.held_since, false AS held_by_provider
FROM engine.transactions t JOIN engine.lanes l ON l.chain_id = t.chain_id AND l.sender = t.sender
JOIN engine.attempts a ON a.chain_id = t.chain_id AND a.sender = t.sender
WHERE t.tenant = $1 AND t.operation_id = $2 AND a.state = 'SIGNING' AND a.hold IS NOT NULL
  AND (a.transaction_id = t.transaction_id AND a.kind = 'CALL' AND t.state IN ('SIGNING', 'BROADCASTING')
    OR t.nonce IS NULL AND t.state IN ('RECEIVED', 'QUEUED', 'PREPARING') AND NOT l.by_provider
    OR a.nonce < t.nonce AND t.state IN ('SIGNING', 'BROADCASTING'))
UNION ALL
SELECT t.transaction_id, t.transaction_id, h.hold, h.held_by, h.held_since, true
FROM engine.transactions t JOIN engine.handovers h ON h.tenant = t.tenant AND h.transaction_id = t.transaction_id
WHERE t.tenant = $1 AND t.operation_id = $2 AND h.state = 'HANDED' AND h.hold IS NOT NULL) found
ORDER BY hold <> 'APPROVAL', held_since, waiting <> held_transaction_id, waiting LIMIT $3";

/// More of them tell a caller nothing new.
const MOST: i64 = 100;

impl Reads {
    pub(crate) async fn holds_of(&self, tenant: &TenantId, id: OperationId) -> Result<Vec<OperationHold>, StoreError> {
        let rows = sqlx::query(OF_OPERATION).bind(tenant.as_str()).bind(id.0).bind(MOST).fetch_all(&self.pool).await?;
        let mut holds = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(hold) = hold(row)? {
                holds.push(OperationHold { waiting: TransactionId(row.try_get("waiting")?), hold });
            }
        }
        Ok(holds)
    }
}

/// The hold that a row tells in `hold`, `held_by`, `held_since`, `held_transaction_id` and `held_by_provider`, if it tells one. A cause of a later release is
/// none that is known here, and its provider is left out.
pub(super) fn hold(row: &PgRow) -> Result<Option<ProviderHold>, StoreError> {
    let cause = row.try_get::<Option<&str>, _>("hold")?.and_then(|text| text.parse::<HoldCause>().ok());
    let Some(cause) = cause else { return Ok(None) };
    let provider = row.try_get::<Option<&str>, _>("held_by")?;
    Ok(Some(ProviderHold {
        provider: provider.and_then(|text| text.parse::<KeyProvider>().ok()),
        cause,
        since: row.try_get("held_since")?,
        transaction_id: TransactionId(row.try_get("held_transaction_id")?),
        by_provider: row.try_get("held_by_provider")?,
    }))
}
