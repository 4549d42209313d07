//! The tables of a service, in a schema of its own beside the engine's, and what is written the same in all of them.
//!
//! Tables are named without their schema where several services have them: a connection of [`Tables`] looks in its own first.

use alloy::primitives::{Address, B256};
use dalp_service::{Reason, Refusal};
use sqlx::{PgPool, Postgres, Transaction, migrate::Migrator};

/// Whose tables they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// Name of the service, as the server shows its connections.
    pub service: &'static str,
    /// Name of the schema.
    pub name: &'static str,
    /// Version of what is indexed: raised when an index of an earlier release lacks something.
    pub index_version: i32,
}

/// A service's tables. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Connections that look in the service's schema first.
    pub pool: PgPool,
    pub(crate) schema: Schema,
}

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused or is away.
    #[error("the database did not carry out {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: dalp_engine::StoreError,
    },
    /// The embedded migrations could not be applied.
    #[error("the schema {schema} could not be brought up to date")]
    Migrate {
        /// Which.
        schema: &'static str,
        /// Why.
        #[source]
        source: dalp_schema::SchemaError,
    },
    /// A stored value is not what this version writes.
    #[error("a stored {what} is malformed: {value}")]
    Malformed {
        /// Which value.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// The connection string is not usable.
    #[error("the database url is not usable")]
    Url(#[source] sqlx::Error),
    /// Another replica indexes this chain now.
    #[error("the indexer lease of chain {0} is held by another replica")]
    LeaseLost(u64),
    /// The service ends.
    #[error("the service ends")]
    Stopped,
}

// === impl Tables ===

impl Tables {
    /// Connects when first used, so that a service starts while its database is away.
    pub fn lazy(schema: Schema, url: &str, max_connections: u32) -> Result<Self, StoreError> {
        let pool = dalp_engine::pool(url, schema.service, schema.name, max_connections).map_err(StoreError::Url)?;
        Ok(Self { pool, schema })
    }

    /// Tables behind connections that were made with [`dalp_engine::pool`] for this schema.
    #[must_use]
    pub fn over(schema: Schema, pool: PgPool) -> Self {
        Self { pool, schema }
    }

    /// Creates the schema if it is missing and applies its migrations; one that is newer is taken as [`dalp_schema::bring_up`] says.
    pub async fn migrate(&self, migrations: &Migrator) -> Result<(), StoreError> {
        let schema = self.schema.name;
        let brought = dalp_schema::bring_up(&self.pool, schema, "_sqlx_migrations", migrations).await;
        brought.map_err(|source| StoreError::Migrate { schema, source })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(drop).map_err(during("ping"))
    }

    /// The pool, for the engine, which keeps its own schema in the same database.
    #[must_use]
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a transaction, even if the caller gives up meanwhile: a `BEGIN` that is dropped half way would leave its connection in a
    /// transaction that the driver does not know of.
    pub async fn begin(&self, action: &'static str) -> Result<Transaction<'static, Postgres>, StoreError> {
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin().await }).await;
        begun.map_err(|_| StoreError::Stopped)?.map_err(during(action))
    }
}

// === impl StoreError ===

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database { ref source, .. } if source.is_retryable() => {
                Self::new(Reason::DatabaseUnavailable, "the database did not answer").source(error)
            }
            _ => Self::internal(error),
        }
    }
}

/// Says what was tried when the database refused.
pub fn during(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source: source.into() }
}

/// Addresses are stored in lower case: one form only, so that equality and order in SQL are those of the bytes.
#[must_use]
pub fn hex_of(address: Address) -> String {
    format!("{address:#x}")
}

/// A stored text that stands for something else.
pub fn parsed<T: std::str::FromStr>(what: &'static str, text: String) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Malformed { what, value: text })
}

/// A stored address.
pub fn address_of(text: String) -> Result<Address, StoreError> {
    parsed("address", text)
}

/// A stored hash.
pub fn hash_of(text: String) -> Result<B256, StoreError> {
    parsed("hash", text)
}

/// Chain ids, block numbers, nonces and seconds are kept as bigint; nothing of ours passes 2^63.
#[must_use]
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The number that [`signed`] stored.
#[must_use]
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
