//! The PostgreSQL store. Queries stand beside what owns them; no type of the database driver leaves these modules.
//!
//! Lock order, so that nothing waits in a circle: operations by key, then the lane, then transactions and attempts by key.

mod blocks;
mod lanes;
mod operations;
mod outbox;
mod reads;
mod signatures;

pub(crate) use blocks::{FinalAttempt, Finished, Inclusion};
pub(crate) use lanes::{Attempt, AttemptKind, AttemptState, Binding, LaneWork, NewAttempt, QueuedTransaction, Refusal};
pub use operations::AcceptHook;
pub(crate) use operations::{NewOperation, lanes_of, unknown_chain};
pub(crate) use outbox::{Event, emit};
pub(crate) use reads::Reads;
pub(crate) use signatures::PendingSignature;

use crate::{error::StoreError, model::ServiceName};
use alloy::primitives::{Address, B256};
use sqlx::{PgConnection, PgPool};
use std::time::Duration;

/// The store as one service uses it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) pool: PgPool,
    pub(crate) service: ServiceName,
}

/// Brings the schema `engine` to this version. Safe to call from several services at once.
pub async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("engine");
    migrator.dangerous_set_table_name("engine._migrations");
    migrator.run(pool).await?;
    Ok(())
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

/// Repeats work that failed for a reason of the moment, until it has an answer. The work must be one commit, so that a
/// repeat finds either nothing or everything of it.
pub(crate) async fn retry<T, F: Future<Output = Result<T, StoreError>>>(
    what: &'static str,
    mut work: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let mut pause = Duration::from_millis(10);
    loop {
        match work().await {
            Err(error) if error.is_retryable() => {
                tracing::warn!(what, error = &error as &dyn std::error::Error, "database did not answer, trying again");
                let jitter = rand::random_range(0.5..1.0);
                tokio::time::sleep(pause.mul_f64(jitter)).await;
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
    sqlx::query("INSERT INTO engine.audit_leaves (tenant, action, actor, subject, body) VALUES ($1, $2, $3, $4, $5)")
        .bind(tenant)
        .bind(action)
        .bind(actor)
        .bind(subject)
        .bind(body)
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
