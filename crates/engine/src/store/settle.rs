//! How transactions end without a block: refused while queued, refused by the signer, given up.

use super::{
    Event, Store,
    accept::begin,
    attempt::{ATTEMPT, Attempt, AttemptKind, NewAttempt, TRANSACTION, add_attempt, attempt},
    emit, leaf, signed,
};
use crate::{
    error::StoreError,
    flow::{Failure, StepOutcome},
    model::{LaneId, TransactionId},
    states::TransactionState,
};
use alloy::primitives::keccak256;
use dalp_chain::Fees;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::time::Duration;
use uuid::Uuid;

/// Gas of a plain self-transfer.
pub(crate) const FILL_GAS: u64 = 21_000;

/// A transaction that will not be carried out.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) tenant: String,
    pub(crate) operation_id: Uuid,
    pub(crate) transaction_id: TransactionId,
    pub(crate) state: TransactionState,
    pub(crate) sub_status: &'static str,
    pub(crate) failure: Failure,
}

/// How attempts come to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The signer or its provider refused for good; nothing was signed.
    Refused,
    /// Signed, and refused by the simulation after a hold: the attempt brings the bytes, which are kept and never sent.
    Sealed,
    /// Given up after too many tries. It may have been signed or sent all the same, so it stays watched.
    Abandoned,
}

impl Store {
    /// Ends transactions that have no nonce.
    pub(crate) async fn refuse_queued(&self, refusals: Vec<Refusal>) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        self.settle(
            &mut commit,
            refusals.into_iter().map(|refusal| (refusal, None)).collect(),
            &["QUEUED", "PREPARING"],
        )
        .await?;
        commit.commit().await?;
        Ok(())
    }

    /// Ends transactions whose attempts lead nowhere. Nonces at the top of the lane that were never signed for are given
    /// back, the others are filled by a zero-value self-transfer.
    pub(crate) async fn end_attempts(
        &self,
        lane: LaneId,
        ended: Vec<(Attempt, Refusal)>,
        ending: Ending,
        fill_fees: Fees,
    ) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        lock_operations(&mut commit, ended.iter().map(|(_, refusal)| refusal)).await?;
        let mut next = lock_lane(&mut commit, lane).await?;
        // Only those that this commit ends, as they stood when that was decided: another worker may have brought one further, or
        // given its nonce back, since.
        let now_ended = end_as_seen(&mut commit, &ended, ending).await?;
        let ended: Vec<(Attempt, Refusal)> =
            ended.into_iter().filter(|(attempt, _)| now_ended.contains(&attempt.request_id.0)).collect();
        let (mut by_nonce, refusals): (Vec<Attempt>, Vec<Refusal>) = ended.into_iter().unzip();
        self.settle(
            &mut commit,
            refusals.into_iter().map(|refusal| (refusal, None)).collect(),
            &["SIGNING", "BROADCASTING"],
        )
        .await?;
        by_nonce.sort_by_key(|attempt| std::cmp::Reverse(attempt.nonce));
        for attempt in &by_nonce {
            let nonce = signed(attempt.nonce)?;
            let given_back = ending == Ending::Refused && attempt.kind == AttemptKind::Call && nonce == next - 1;
            if given_back {
                give_back(&mut commit, lane, nonce).await?;
                next -= 1;
            } else {
                let new = NewAttempt { of: attempt, kind: AttemptKind::Cancel, gas_limit: FILL_GAS, fees: fill_fees };
                add_attempt(&mut commit, self.service.as_str(), lane, &new, Duration::ZERO).await?;
            }
            let body = json!({"nonce": nonce, "request_id": attempt.request_id, "filled": !given_back});
            let (tenant, subject) = (&attempt.transaction.tenant, attempt.transaction.id.to_string());
            leaf(&mut commit, tenant, "transaction.refused", self.service.as_str(), &subject, body).await?;
        }
        set_next_nonce(&mut commit, lane, next).await?;
        commit.commit().await?;
        Ok(())
    }

    /// The signer refuses to fill a nonce. With every request for it refused, the nonce is given back, and the lane's next
    /// transaction takes it; else only another filler can use it up, which is asked for after a pause.
    pub(crate) async fn refuse_filler(
        &self,
        lane: LaneId,
        filler: &Attempt,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let next = lock_lane(&mut commit, lane).await?;
        let nonce = signed(filler.nonce)?;
        let refused = sqlx::query("UPDATE engine.attempts SET state = 'REFUSED', release_pending = true, due_at = '-infinity' WHERE request_id = $1 AND state = 'SIGNING'")
            .bind(filler.request_id.0)
            .execute(&mut *commit)
            .await?;
        if refused.rows_affected() == 0 {
            return Ok(());
        }
        // What was given up without an answer may still be signed.
        let may_be_signed: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM engine.attempts WHERE chain_id = $1 AND sender = $2 AND nonce = $3 AND (raw IS NOT NULL OR state <> 'REFUSED'))",
        )
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(nonce)
        .fetch_one(&mut *commit)
        .await?;
        if may_be_signed {
            let new =
                NewAttempt { of: filler, kind: AttemptKind::Cancel, gas_limit: filler.gas_limit, fees: filler.fees };
            add_attempt(&mut commit, self.service.as_str(), lane, &new, pause).await?;
        } else {
            give_back(&mut commit, lane, nonce).await?;
            if nonce == next - 1 {
                set_next_nonce(&mut commit, lane, nonce).await?;
            }
        }
        let body = json!({"nonce": nonce, "request_id": filler.request_id, "given_back": !may_be_signed});
        let (tenant, subject) = (&filler.transaction.tenant, filler.transaction.id.to_string());
        leaf(&mut commit, tenant, "lane.filler_refused", self.service.as_str(), &subject, body).await?;
        commit.commit().await?;
        Ok(())
    }

    /// Asks once more for fillers of the nonces that were given back: transactions wait behind them, and none came to take them.
    /// Also of those that another service gave back: with nothing left to do, it looks at the lane no more.
    pub(crate) async fn fill_holes(&self, lane: LaneId, fees: Fees) -> Result<(), StoreError> {
        let mut commit = begin(&self.pool).await?;
        let next = lock_lane(&mut commit, lane).await?;
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT DISTINCT ON (a.nonce) {TRANSACTION}, {ATTEMPT} FROM engine.nonces n
             JOIN engine.attempts a ON a.chain_id = n.chain_id AND a.sender = n.sender AND a.nonce = n.nonce
             JOIN engine.transactions t ON t.tenant = a.tenant AND t.transaction_id = a.transaction_id
             WHERE n.chain_id = $1 AND n.sender = $2 AND n.released AND n.nonce < $3 AND a.transaction_id = n.transaction_id
             ORDER BY a.nonce, a.attempt DESC"
        )))
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(next)
        .fetch_all(&mut *commit)
        .await?;
        for row in &rows {
            let last = attempt(row)?;
            sqlx::query("UPDATE engine.nonces SET released = false WHERE chain_id = $1 AND sender = $2 AND nonce = $3")
                .bind(signed(lane.chain_id)?)
                .bind(lane.sender.as_slice())
                .bind(signed(last.nonce)?)
                .execute(&mut *commit)
                .await?;
            let new = NewAttempt { of: &last, kind: AttemptKind::Cancel, gas_limit: FILL_GAS, fees };
            add_attempt(&mut commit, self.service.as_str(), lane, &new, Duration::ZERO).await?;
        }
        commit.commit().await?;
        Ok(())
    }

    /// Ends transactions: locks and wakes their operations first, whatever their state, then steps, transactions, outbox.
    /// Only transactions in one of `from` change, so that nothing is told twice.
    pub(crate) async fn settle(
        &self,
        commit: &mut PgConnection,
        settled: Vec<(Refusal, Option<StepOutcome>)>,
        from: &[&str],
    ) -> Result<(), StoreError> {
        if settled.is_empty() {
            return Ok(());
        }
        let (mut tenants, mut operations, mut ids) = (vec![], vec![], vec![]);
        let (mut states, mut subs, mut errors, mut outcomes) = (vec![], vec![], vec![], vec![]);
        for (refusal, outcome) in &settled {
            tenants.push(refusal.tenant.clone());
            operations.push(refusal.operation_id);
            ids.push(refusal.transaction_id.0);
            states.push(refusal.state.as_str());
            subs.push(refusal.sub_status);
            errors.push((refusal.state != TransactionState::Completed).then(|| json!(refusal.failure)));
            // A dead letter is parked: its step ends when an operator, or a block that has it all the same, decides.
            let parked = refusal.state == TransactionState::DeadLetter;
            let failed = || StepOutcome::Failed { failure: refusal.failure.clone() };
            let outcome = (!parked).then(|| outcome.clone().unwrap_or_else(failed));
            outcomes.push(outcome.map(serde_json::to_value).transpose().map_err(StoreError::corrupt)?);
        }
        lock_operations(commit, settled.iter().map(|(refusal, _)| refusal)).await?;
        sqlx::query("UPDATE engine.operations SET wake = (state = 'RUNNING'), updated_at = now() WHERE operation_id = ANY($1) AND tenant = ANY($2)")
            .bind(&operations)
            .bind(&tenants)
            .execute(&mut *commit)
            .await?;
        let rows = sqlx::query(
            "UPDATE engine.transactions t SET state = x.s, sub_status = x.u, error = x.e, updated_at = now()
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) AS x(i, s, u, e) WHERE t.transaction_id = x.i AND t.state = ANY($5)
             RETURNING t.tenant, t.operation_id, t.transaction_id, t.state, t.sub_status, t.tx_hash, t.block_number, t.error",
        )
        .bind(&ids)
        .bind(&states)
        .bind(&subs)
        .bind(&errors)
        .bind(from)
        .fetch_all(&mut *commit)
        .await?;
        let changed: Vec<Uuid> = rows.iter().map(|row| row.try_get("transaction_id")).collect::<Result<_, _>>()?;
        sqlx::query(
            "UPDATE engine.steps s SET outcome = x.o FROM unnest($1::uuid[], $2::jsonb[]) AS x(i, o)
             JOIN engine.transactions t ON t.transaction_id = x.i
             WHERE s.tenant = t.tenant AND s.operation_id = t.operation_id AND s.name = t.step AND s.outcome IS NULL AND x.o IS NOT NULL AND t.transaction_id = ANY($3)",
        )
        .bind(&ids)
        .bind(&outcomes)
        .bind(&changed)
        .execute(&mut *commit)
        .await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let tx_hash: Option<Vec<u8>> = row.try_get("tx_hash")?;
            let state: String = row.try_get("state")?;
            let parked = state == TransactionState::DeadLetter.as_str();
            let body = json!({
                "state": state, "sub_status": row.try_get::<String, _>("sub_status")?,
                "tx_hash": tx_hash.map(alloy::hex::encode_prefixed), "block_number": row.try_get::<Option<i64>, _>("block_number")?,
                "error": row.try_get::<Option<serde_json::Value>, _>("error")?,
            });
            let (tenant, operation): (String, Uuid) = (row.try_get("tenant")?, row.try_get("operation_id")?);
            events.push(Event::transaction(
                if parked { "engine.transaction.pending" } else { "engine.transaction.final" },
                &tenant,
                operation,
                row.try_get("transaction_id")?,
                body,
            ));
        }
        for state in TransactionState::ALL {
            let count = events.iter().filter(|event| event.body["state"] == state.as_str()).count();
            if count > 0 {
                crate::metric_definitions::transactions_finished(*state, count);
            }
        }
        emit(commit, events).await
    }
}

pub(super) async fn lock_operations(
    commit: &mut PgConnection,
    refusals: impl Iterator<Item = &Refusal>,
) -> Result<(), StoreError> {
    let (tenants, operations): (Vec<&str>, Vec<Uuid>) =
        refusals.map(|refusal| (refusal.tenant.as_str(), refusal.operation_id)).unzip();
    sqlx::query("SELECT FROM engine.operations WHERE operation_id = ANY($1) AND tenant = ANY($2) ORDER BY tenant, operation_id FOR NO KEY UPDATE")
        .bind(operations)
        .bind(tenants)
        .execute(commit)
        .await?;
    Ok(())
}

/// Ends attempts that still stand as they were seen, with the bytes of those that are sealed. Returns which ended.
async fn end_as_seen(
    commit: &mut PgConnection,
    ended: &[(Attempt, Refusal)],
    ending: Ending,
) -> Result<Vec<Uuid>, StoreError> {
    let (mut ids, mut seen, mut raws, mut hashes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (attempt, _) in ended {
        ids.push(attempt.request_id.0);
        seen.push(attempt.state.as_str());
        raws.push(attempt.raw.as_ref().map(AsRef::<[u8]>::as_ref));
        hashes.push(attempt.raw.as_ref().map(|raw| keccak256(raw).to_vec()));
    }
    Ok(sqlx::query_scalar(
        "UPDATE engine.attempts a SET state = $5, release_pending = $6, due_at = '-infinity', raw = coalesce(a.raw, e.raw), tx_hash = coalesce(a.tx_hash, e.hash)
         FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) AS e(id, seen, raw, hash)
         WHERE a.request_id = e.id AND a.state = e.seen RETURNING a.request_id",
    )
    .bind(ids)
    .bind(seen)
    .bind(raws)
    .bind(hashes)
    .bind(ending.attempt_state())
    .bind(ending == Ending::Refused)
    .fetch_all(commit)
    .await?)
}

pub(super) async fn lock_lane(commit: &mut PgConnection, lane: LaneId) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT next_nonce FROM engine.lanes WHERE chain_id = $1 AND sender = $2 FOR NO KEY UPDATE")
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .fetch_one(commit)
        .await?)
}

pub(super) async fn set_next_nonce(commit: &mut PgConnection, lane: LaneId, next: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE engine.lanes SET next_nonce = $3 WHERE chain_id = $1 AND sender = $2")
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(next)
        .execute(commit)
        .await?;
    Ok(())
}

pub(super) async fn give_back(commit: &mut PgConnection, lane: LaneId, nonce: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE engine.nonces SET released = true WHERE chain_id = $1 AND sender = $2 AND nonce = $3")
        .bind(signed(lane.chain_id)?)
        .bind(lane.sender.as_slice())
        .bind(nonce)
        .execute(commit)
        .await?;
    Ok(())
}

// === impl Ending ===

impl Ending {
    pub(super) fn attempt_state(self) -> &'static str {
        match self {
            Self::Refused => "REFUSED",
            Self::Sealed => "SEALED",
            Self::Abandoned => "SUPERSEDED",
        }
    }
}
