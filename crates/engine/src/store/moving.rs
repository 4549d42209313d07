//! A reservation that goes behind others.

use super::{
    Store,
    accept::begin,
    attempt::Attempt,
    leaf,
    settle::{give_back, lock_lane, set_next_nonce},
    signed,
};
use crate::{error::StoreError, model::LaneId};
use serde_json::json;
use std::time::Duration;

impl Store {
    /// The signer has withdrawn the request for good: the nonce is given back, and the transaction goes to the end of its queue. `false`: nothing was moved, for the
    /// attempt stands no more as it was seen, or something else may have been signed for the nonce.
    pub(crate) async fn move_reservation(
        &self,
        lane: LaneId,
        attempt: &Attempt,
        pause: Duration,
    ) -> Result<bool, StoreError> {
        let mut commit = begin(&self.pool).await?;
        let next = lock_lane(&mut commit, lane).await?;
        let nonce = signed(attempt.nonce)?;
        let ended = sqlx::query(
            "UPDATE engine.attempts a SET state = 'REFUSED', release_pending = true, due_at = '-infinity'
             WHERE a.request_id = $1 AND a.state = 'SIGNING' AND a.kind = 'CALL' AND NOT EXISTS (
                 SELECT FROM engine.attempts o WHERE o.chain_id = a.chain_id AND o.sender = a.sender AND o.nonce = a.nonce
                   AND o.request_id <> a.request_id AND (o.raw IS NOT NULL OR o.state <> 'REFUSED'))",
        )
        .bind(attempt.request_id.0)
        .execute(&mut *commit)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        // A sequence of its own again: behind whatever waits by now.
        sqlx::query(
            "UPDATE engine.transactions SET state = 'QUEUED', sub_status = 'nonce_moved', nonce = NULL, tx_hash = NULL, moved_from = $2, sequence = DEFAULT,
                    due_at = now() + make_interval(secs => $3), history = engine.note(history, 'nonce_moved', $4), updated_at = now()
             WHERE transaction_id = $1 AND state = 'SIGNING'",
        )
        .bind(attempt.transaction.id.0)
        .bind(nonce)
        .bind(pause.as_secs_f64())
        .bind(format!("nonce {nonce}"))
        .execute(&mut *commit)
        .await?;
        give_back(&mut commit, lane, nonce).await?;
        if nonce == next - 1 {
            set_next_nonce(&mut commit, lane, nonce).await?;
        }
        let body = json!({"nonce": nonce, "request_id": attempt.request_id, "lane": lane.to_string()});
        let (tenant, subject) = (&attempt.transaction.tenant, attempt.transaction.id.to_string());
        leaf(&mut commit, tenant, "transaction.move", self.service.as_str(), &subject, body).await?;
        commit.commit().await?;
        Ok(true)
    }
}
