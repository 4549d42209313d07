//! What can go wrong at the store and at admission.

use crate::{
    custody::LaneHeld,
    model::{LaneId, OperationId},
};
use std::sync::Arc;

/// The database did not carry out a statement, or holds what this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// The schema is not brought up to date.
    #[error("the schema of the engine is not brought up to date")]
    Migrate(#[from] dalp_schema::SchemaError),
    /// A stored value cannot be read.
    #[error("stored value: {0}")]
    Corrupt(String),
    /// A commit that carried the work of several failed.
    #[error("a commit shared with others failed")]
    Shared(#[source] Arc<StoreError>),
    /// The server has not answered in time; it may have carried the work out all the same.
    #[error("the database has not answered in time")]
    NoAnswer,
    /// The work met a defect and was given up.
    #[error("the work ended by a panic")]
    Panicked,
    /// The engine has been stopped. Another replica, or the next start, takes the same work.
    #[error("the engine has been stopped")]
    Stopped,
}

/// Why an operation was not accepted. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The idempotency key belongs to another payload. Never retryable.
    #[error("the idempotency key was used with another payload")]
    KeyReused {
        /// SHA-256 over the stored command, hex.
        stored_hash: String,
        /// SHA-256 over the given command, hex.
        given_hash: String,
    },
    /// The sender belongs to another tenant.
    #[error("lane {0} belongs to another tenant")]
    LaneOfOtherTenant(LaneId),
    /// The tenant has as many unfinished operations as it may. Retryable with the same key.
    #[error("the tenant has {quota} unfinished operations, and may have no more")]
    QuotaExceeded {
        /// How many it may have.
        quota: u64,
    },
    /// The sender's lane waits for a custody approval, and refuses what would stand behind it. Retryable with the same key.
    #[error("lane {} waits for a custody approval, and takes nothing behind it", .0.lane)]
    BehindApproval(Box<LaneHeld>),
    /// The idempotency key stands for an operation that was accepted long ago, and whose month of history has been archived elsewhere. Never retryable.
    #[error("the idempotency key stands for operation {0}, which has been archived")]
    Archived(OperationId),
    /// The flow's first step names a chain that this service is not configured for.
    #[error("chain {0} is not configured")]
    UnknownChain(u64),
    /// The flow is not registered.
    #[error("flow {0} is not registered")]
    UnknownFlow(String),
    /// The order cannot be written down.
    #[error("order cannot be serialised")]
    Order(#[from] serde_json::Error),
    /// The database did not take it. Retryable with the same key.
    #[error("not stored")]
    Database(#[from] StoreError),
}

// === impl StoreError ===

impl StoreError {
    /// Whether the same work may succeed later: connection errors, serialisation failures, deadlocks, a server that stops or
    /// starts, one that is a standby or takes no writes (25006: a failover is under way), and one without room (class 53: disk, memory,
    /// connections). Everything else is a defect and is reported as such.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.code().is_some_and(|code| {
                code == "25006"
                    || code == "40001"
                    || code == "40P01"
                    || code.starts_with("57P0")
                    || code.starts_with("08")
                    || code.starts_with("53")
            }),
            Self::Database(error) => {
                matches!(
                    error,
                    sqlx::Error::Io(_)
                        | sqlx::Error::Tls(_)
                        | sqlx::Error::PoolTimedOut
                        | sqlx::Error::PoolClosed
                        | sqlx::Error::WorkerCrashed
                        | sqlx::Error::Protocol(_)
                )
            }
            Self::Shared(error) => error.is_retryable(),
            Self::NoAnswer | Self::Stopped => true,
            Self::Migrate(_) | Self::Corrupt(_) | Self::Panicked => false,
        }
    }

    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

impl From<sqlx::Error> for AdmitError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(StoreError::Database(error))
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::TestPostgres;

    #[tokio::test]
    async fn what_a_server_without_room_or_a_standby_refuses_may_be_taken_later() {
        let server = TestPostgres::start();
        let pool = server.pool().await;
        let states = [
            ("53100", true),
            ("53200", true),
            ("53300", true),
            ("57P01", true),
            ("57P03", true),
            ("25006", true),
            ("40001", true),
            ("23505", false),
            ("XX000", false),
        ];
        for (state, later) in states {
            let raised = format!("DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{state}'; END $$");
            let error = sqlx::query(sqlx::AssertSqlSafe(raised)).execute(&pool).await.unwrap_err();
            assert_eq!(StoreError::from(error).is_retryable(), later, "{state}");
        }
    }
}
