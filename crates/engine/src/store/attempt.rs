//! Transactions and their attempts as rows.

use super::{address, signed, unsigned};
use crate::{
    error::StoreError,
    flow::{PreCheck, Secret},
    model::{LaneId, RequestId, TransactionId},
    states::TransactionState,
};
use alloy::primitives::{Address, Bytes, U256};
use dalp_chain::Fees;
use serde_json::json;
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use std::time::Duration;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptKind {
    Call,
    Replacement,
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptState {
    Signing,
    Signed,
    Sent,
    Other,
}

/// What a transaction does.
#[derive(Debug, Clone)]
pub(crate) struct QueuedTransaction {
    pub(crate) tenant: String,
    pub(crate) id: TransactionId,
    pub(crate) operation_id: Uuid,
    pub(crate) target: Option<Address>,
    pub(crate) value_wei: U256,
    pub(crate) data: Bytes,
    pub(crate) checks: Vec<PreCheck>,
    pub(crate) secret: Option<Secret>,
    pub(crate) tries: u32,
    pub(crate) state: TransactionState,
    pub(crate) cancel_requested: bool,
    pub(crate) bump_requested: bool,
}

/// A request to the signer and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) transaction: QueuedTransaction,
    pub(crate) nonce: u64,
    pub(crate) kind: AttemptKind,
    pub(crate) state: AttemptState,
    pub(crate) request_id: RequestId,
    pub(crate) replaces: Option<RequestId>,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
    pub(crate) held: bool,
    pub(crate) release_pending: bool,
    pub(crate) raw: Option<Bytes>,
    pub(crate) tries: u32,
    pub(crate) age: Duration,
    /// Since its transaction was first held, with this nonce or one that it gave up.
    pub(crate) held_for: Duration,
}

/// A further attempt at the nonce of an earlier one.
pub(crate) struct NewAttempt<'a> {
    pub(crate) of: &'a Attempt,
    pub(crate) kind: AttemptKind,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
}

/// Columns of a transaction `t` that [`transaction`] reads.
pub(super) const TRANSACTION: &str =
    "t.tenant, t.transaction_id, t.operation_id, t.target, t.value_wei::text AS value_wei, t.data, t.checks, t.secret,
 t.tries AS transaction_tries, t.state AS transaction_state, t.cancel_requested, t.bump_requested";

/// Columns of an attempt `a` that [`attempt`] reads beside those.
pub(super) const ATTEMPT: &str = "a.nonce, a.kind, a.state, a.request_id, a.replaces, a.gas_limit, a.fees, a.held, a.release_pending, a.raw, a.tries,
 extract(epoch FROM now() - a.created_at)::float8 AS age_s,
 (SELECT extract(epoch FROM now() - min(b.created_at))::float8 FROM engine.attempts b
  WHERE a.held AND b.held AND b.tenant = a.tenant AND b.transaction_id = a.transaction_id) AS held_for_s";

pub(super) fn transaction(row: &PgRow) -> Result<QueuedTransaction, StoreError> {
    Ok(QueuedTransaction {
        tenant: row.try_get("tenant")?,
        id: TransactionId(row.try_get("transaction_id")?),
        operation_id: row.try_get("operation_id")?,
        target: row.try_get::<Option<&[u8]>, _>("target")?.map(address).transpose()?,
        value_wei: row.try_get::<&str, _>("value_wei")?.parse().map_err(StoreError::corrupt)?,
        data: Bytes::copy_from_slice(row.try_get("data")?),
        checks: row.try_get::<Json<_>, _>("checks")?.0,
        secret: row.try_get::<Option<Json<_>>, _>("secret")?.map(|secret| secret.0),
        tries: u32::try_from(row.try_get::<i32, _>("transaction_tries")?).unwrap_or(0),
        state: row.try_get::<&str, _>("transaction_state")?.parse().map_err(StoreError::Corrupt)?,
        cancel_requested: row.try_get("cancel_requested")?,
        bump_requested: row.try_get("bump_requested")?,
    })
}

pub(super) fn attempt(row: &PgRow) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        transaction: transaction(row)?,
        nonce: unsigned(row.try_get("nonce")?)?,
        kind: match row.try_get("kind")? {
            "CALL" => AttemptKind::Call,
            "REPLACEMENT" => AttemptKind::Replacement,
            _ => AttemptKind::Cancel,
        },
        state: match row.try_get("state")? {
            "SIGNING" => AttemptState::Signing,
            "SIGNED" => AttemptState::Signed,
            "SENT" => AttemptState::Sent,
            _ => AttemptState::Other,
        },
        request_id: RequestId(row.try_get("request_id")?),
        replaces: row.try_get::<Option<Uuid>, _>("replaces")?.map(RequestId),
        gas_limit: unsigned(row.try_get("gas_limit")?)?,
        fees: fees(&row.try_get("fees")?)?,
        held: row.try_get("held")?,
        release_pending: row.try_get("release_pending")?,
        raw: row.try_get::<Option<Vec<u8>>, _>("raw")?.map(Bytes::from),
        tries: u32::try_from(row.try_get::<i32, _>("tries")?).unwrap_or(0),
        age: Duration::from_secs_f64(row.try_get::<f64, _>("age_s")?.max(0.0)),
        held_for: Duration::from_secs_f64(row.try_get::<Option<f64>, _>("held_for_s")?.unwrap_or(0.0).max(0.0)),
    })
}

/// Writes a further attempt at the nonce of an earlier one; the signer is asked after a pause. Where the very same was signed
/// before, that is sent again instead: the same bytes belong to one attempt.
pub(super) async fn add_attempt(
    commit: &mut PgConnection,
    service: &str,
    lane: LaneId,
    new: &NewAttempt<'_>,
    pause: Duration,
) -> Result<(), StoreError> {
    let transaction = &new.of.transaction;
    let again: Vec<String> = sqlx::query_scalar(
        "UPDATE engine.attempts SET state = CASE WHEN state = 'SUPERSEDED' THEN 'SENT' ELSE state END, due_at = '-infinity'
         WHERE tenant = $6 AND transaction_id = $1 AND nonce = $2 AND (kind = 'CANCEL') = $3 AND gas_limit = $4 AND fees = $5 AND raw IS NOT NULL
         RETURNING state",
    )
    .bind(transaction.id.0)
    .bind(signed(new.of.nonce)?)
    .bind(new.kind == AttemptKind::Cancel)
    .bind(signed(new.gas_limit)?)
    .bind(fees_json(&new.fees))
    .bind(&transaction.tenant)
    .fetch_all(&mut *commit)
    .await?;
    if !again.is_empty() {
        return Ok(());
    }
    // The signer lets a request replace one that it knows: the last that was signed, else the first that was not refused. What
    // came behind that may never have reached it.
    let replaces: Option<Uuid> = sqlx::query_scalar(
        "SELECT request_id FROM engine.attempts WHERE tenant = $3 AND transaction_id = $1 AND nonce = $2 AND state <> 'REFUSED'
         ORDER BY raw IS NULL, CASE WHEN raw IS NULL THEN attempt ELSE -attempt END LIMIT 1",
    )
    .bind(transaction.id.0)
    .bind(signed(new.of.nonce)?)
    .bind(&transaction.tenant)
    .fetch_optional(&mut *commit)
    .await?;
    let last: i32 = sqlx::query_scalar(
        "SELECT engine.attempts_of(t) FROM engine.transactions t WHERE tenant = $1 AND transaction_id = $2",
    )
    .bind(&transaction.tenant)
    .bind(transaction.id.0)
    .fetch_one(&mut *commit)
    .await?;
    let number = last + 1;
    sqlx::query(
        "INSERT INTO engine.attempts (tenant, transaction_id, attempt, service, chain_id, sender, nonce, kind, request_id, replaces, gas_limit, fees, state, due_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'SIGNING', now() + make_interval(secs => $13))",
    )
    .bind(&transaction.tenant)
    .bind(transaction.id.0)
    .bind(number)
    .bind(service)
    .bind(signed(lane.chain_id)?)
    .bind(lane.sender.as_slice())
    .bind(signed(new.of.nonce)?)
    .bind(new.kind.as_str())
    .bind(request_of(transaction.id, number)?.0)
    .bind(replaces.unwrap_or(new.of.request_id.0))
    .bind(signed(new.gas_limit)?)
    .bind(fees_json(&new.fees))
    .bind(pause.as_secs_f64())
    .execute(commit)
    .await?;
    Ok(())
}

/// The signer request of an attempt, by its number.
pub(super) fn request_of(id: TransactionId, attempt: i32) -> Result<RequestId, StoreError> {
    Ok(RequestId::of_attempt(id, u32::try_from(attempt).map_err(StoreError::corrupt)?))
}

/// Prices as decimal strings: JSON numbers are too small for wei.
pub(super) fn fees_json(fees: &Fees) -> serde_json::Value {
    match fees {
        Fees::Eip1559 { max_fee_wei, priority_fee_wei } => {
            json!({"max_fee_wei": max_fee_wei.to_string(), "priority_fee_wei": priority_fee_wei.to_string()})
        }
        Fees::Legacy { gas_price_wei } => json!({"gas_price_wei": gas_price_wei.to_string()}),
    }
}

pub(super) fn fees(value: &serde_json::Value) -> Result<Fees, StoreError> {
    let wei = |name: &str| value.get(name).and_then(|text| text.as_str()).and_then(|text| text.parse::<u128>().ok());
    match (wei("max_fee_wei"), wei("priority_fee_wei"), wei("gas_price_wei")) {
        (Some(max_fee_wei), Some(priority_fee_wei), None) => Ok(Fees::Eip1559 { max_fee_wei, priority_fee_wei }),
        (None, None, Some(gas_price_wei)) => Ok(Fees::Legacy { gas_price_wei }),
        _ => Err(StoreError::corrupt(format!("fees {value}"))),
    }
}

// === impl Attempt ===

impl Attempt {
    /// Whether it only uses up its nonce.
    pub(crate) fn is_cancel(&self) -> bool {
        self.kind == AttemptKind::Cancel
    }
}

// === impl AttemptState ===

impl AttemptState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "SIGNING",
            Self::Signed => "SIGNED",
            Self::Sent => "SENT",
            Self::Other => "",
        }
    }
}

// === impl AttemptKind ===

impl AttemptKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Call => "CALL",
            Self::Replacement => "REPLACEMENT",
            Self::Cancel => "CANCEL",
        }
    }
}
