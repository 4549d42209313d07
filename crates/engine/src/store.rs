//! The PostgreSQL store. Queries stand beside what owns them; no type of the database driver leaves these modules.
//!
//! Lock order, so that nothing waits in a circle: operations by key, then the lane, then transactions and attempts by key.
//!
//! Workers see the tables of live work; what has ended moves to history (`history.rs`), and readers see both as one (the views `all_*`).

mod accept;
mod adopt;
mod attempt;
mod bind;
mod blocks;
pub(crate) mod checks;
mod control;
mod dead_letters;
mod examine;
#[cfg(all(test, feature = "testing"))]
mod fairness;
mod handovers;
mod history;
mod holds;
mod lanes;
mod moving;
mod operations;
mod outbox;
mod pool;
mod reads;
mod records;
mod rows;
mod sending;
mod settle;
mod signatures;
mod transactions;

pub use accept::AcceptHook;
pub(crate) use accept::{Admitted, NewOperation};
#[cfg(feature = "sim")]
pub(crate) use adopt::owners;
pub(crate) use adopt::{Adoption, Forgotten};
pub(crate) use attempt::{Attempt, AttemptKind, AttemptState, NewAttempt, QueuedTransaction};
#[cfg(feature = "sim")]
pub(crate) use bind::Numbers;
pub(crate) use bind::{BindOrder, Binding};
pub(crate) use blocks::{FinalAttempt, Finished, Inclusion};
pub(crate) use dead_letters::Recovery;
pub(crate) use handovers::{Handover, HandoverEnding, Heard, PARKED_AGAIN, Standing};
pub(crate) use lanes::{LaneLook, QueueLook};
#[cfg(feature = "sim")]
pub(crate) use operations::{Change, Woken};
pub(crate) use operations::{KnownLanes, calls, lanes_of, unknown_chain};
pub(crate) use outbox::{Event, emit};
pub use pool::pool;
pub(crate) use reads::Reads;
pub use reads::events_of;
pub(crate) use records::Records;
pub(crate) use sending::SignedBytes;
pub(crate) use settle::{Ending, FILL_GAS, Refusal};
pub(crate) use signatures::{PendingSignature, Settled};

use crate::{error::StoreError, jitter::jittered, model::ServiceName};
use alloy::primitives::{Address, B256};
use sqlx::{PgConnection, PgPool};
use std::{sync::Arc, time::Duration};

/// The store as one service uses it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) pool: PgPool,
    pub(crate) service: ServiceName,
    pub(crate) known_lanes: Arc<KnownLanes>,
}

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Brings the schema `engine` to this version. Safe to call from several services at once.
pub async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    Ok(dalp_schema::bring_up(pool, "engine", "_migrations", &MIGRATIONS).await?)
}

/// Hint to whoever listens in other processes. Never inside a commit that matters: NOTIFY serialises commits.
pub(crate) const HINT_CHANNEL: &str = "dalp_engine";

impl Store {
    pub(crate) async fn hint(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(HINT_CHANNEL)
            .bind(self.service.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// How often work is tried again whose caller is waiting for the answer.
const QUICK_TRIES: u32 = 3;

/// A server whose host is gone says nothing at all, and the driver would wait for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Repeats work that failed for a reason of the moment, until it has an answer. The work must be one commit, so that a
/// repeat finds either nothing or everything of it.
pub(crate) async fn retry<T, F: Future<Output = Result<T, StoreError>>>(
    what: &'static str,
    work: impl FnMut() -> F,
) -> Result<T, StoreError> {
    retry_at_most(u32::MAX, what, work).await
}

/// The same for work whose caller can ask again: it is told soon that the database does not answer.
pub(crate) async fn retry_quickly<T, F: Future<Output = Result<T, StoreError>>>(
    what: &'static str,
    work: impl FnMut() -> F,
) -> Result<T, StoreError> {
    retry_at_most(QUICK_TRIES, what, work).await
}

async fn retry_at_most<T, F: Future<Output = Result<T, StoreError>>>(
    most: u32,
    what: &'static str,
    mut work: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let mut pause = Duration::from_millis(10);
    let mut tries = 0;
    loop {
        let answer = tokio::time::timeout(ANSWER_WITHIN, work()).await;
        match answer.unwrap_or(Err(StoreError::NoAnswer)) {
            Err(error) if error.is_retryable() && !matches!(error, StoreError::Stopped) && tries < most => {
                tries += 1;
                tracing::warn!(what, error = &error as &dyn std::error::Error, "database did not answer, trying again");
                tokio::time::sleep(jittered(pause, 0.5..1.0)).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            other => return other,
        }
    }
}

fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(StoreError::corrupt)
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(StoreError::corrupt)
}

fn address(bytes: &[u8]) -> Result<Address, StoreError> {
    Address::try_from(bytes).map_err(StoreError::corrupt)
}

fn hash(bytes: &[u8]) -> Result<B256, StoreError> {
    B256::try_from(bytes).map_err(StoreError::corrupt)
}

/// Writes an audit leaf in the commit that a connection is in; for what a service has to say in its [`AcceptHook`].
pub async fn audit_leaf(
    connection: &mut PgConnection,
    tenant: &str,
    action: &str,
    actor: &str,
    subject: &str,
    body: serde_json::Value,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body, reason) VALUES ($1, $2, $3, $4, $5, coalesce($5->>'reason', ''))",
    )
    .bind(tenant)
    .bind(action)
    .bind(actor)
    .bind(subject)
    .bind(body)
    .execute(connection)
    .await
    .map(drop)
}

/// A call on its way into the audit, by whoever saw how it was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct CallLeaf {
    /// Whether it was refused.
    pub is_refused: bool,
    /// Whose log.
    pub tenant: String,
    /// What was asked for.
    pub action: String,
    /// Who asked.
    pub actor: String,
    /// On what.
    pub subject: String,
    /// Of a refusal its reason in the catalogue.
    pub reason: String,
    /// SHA-256 of what was asked, where it was read.
    pub payload_hash: Option<[u8; 32]>,
    /// What else is to be said.
    pub body: serde_json::Value,
}

/// Writes calls, in the commit that a connection is in or as one of their own.
pub async fn call_leaves(connection: &mut PgConnection, leaves: &[CallLeaf]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO engine.audit_leaves (tenant, action, actor, subject, reason, payload_hash, body, decision)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::jsonb[], $8::text[])",
    )
    .bind(leaves.iter().map(|leaf| leaf.tenant.as_str()).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.action.as_str()).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.actor.as_str()).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.subject.as_str()).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.reason.as_str()).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| leaf.payload_hash.map(|hash| hash.to_vec())).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| &leaf.body).collect::<Vec<_>>())
    .bind(leaves.iter().map(|leaf| if leaf.is_refused { "REFUSED" } else { "ALLOWED" }).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}

async fn leaf(
    connection: &mut PgConnection,
    tenant: &str,
    action: &str,
    actor: &str,
    subject: &str,
    body: serde_json::Value,
) -> Result<(), StoreError> {
    Ok(audit_leaf(connection, tenant, action, actor, subject, body).await?)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::TestPostgres;

    #[tokio::test]
    async fn operations_that_run_for_too_long_are_counted() {
        let postgres = tokio::task::spawn_blocking(TestPostgres::start).await.expect("postgres");
        let pool = postgres.pool().await;
        migrate(&pool).await.expect("migrates");
        let known_lanes = Arc::default();
        let store = Store { pool: pool.clone(), service: ServiceName::new("svc-test"), known_lanes };
        sqlx::query(
            "INSERT INTO engine.operations (tenant, operation_id, service, principal, method, kind, version, order_json, state, wake, created_at)
             SELECT 'bank', gen_random_uuid(), service, 'p', 'm', 'k', 1, '{}', 'RUNNING', false, now() - age
             FROM (VALUES ('svc-test', interval '1 hour'), ('svc-test', interval '1 minute'), ('svc-other', interval '1 hour')) AS o(service, age)",
        )
        .execute(&pool)
        .await
        .expect("stored");
        let stalled = store.stalled(Duration::from_secs(15 * 60)).await.expect("readable");
        assert_eq!(stalled, (0, 1));
        pool.close().await;
    }
}
