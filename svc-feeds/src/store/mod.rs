//! What this service keeps in PostgreSQL, in a schema of its own. No sqlx type passes beyond this module.

pub mod alerts;
pub mod directory;
pub mod events;
pub mod index;
pub mod queue;
pub mod rounds;
pub mod systems;

use crate::NAME;
use alloy::primitives::{Address, B256, U256};
use sqlx::PgPool;

/// The schema of this service.
pub const SCHEMA: &str = "feeds";

/// The service's tables.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
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
    #[error("the schema {SCHEMA} could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
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
}

// === impl Store ===

impl Store {
    /// A pool that connects when first used, so that a service starts while its database is away.
    pub fn lazy(url: &str, max_connections: u32) -> Result<Self, StoreError> {
        let pool = dalp_engine::pool(url, NAME, SCHEMA, max_connections).map_err(StoreError::Url)?;
        Ok(Self { pool })
    }

    /// Creates the schema if it is missing and applies the embedded migrations.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        sqlx::query("CREATE SCHEMA IF NOT EXISTS feeds").execute(&self.pool).await.map_err(during("create schema"))?;
        sqlx::migrate!("./migrations").run(&self.pool).await.map_err(StoreError::Migrate)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(drop).map_err(during("ping"))
    }

    /// The pool, for the engine, which keeps its own schema in the same database.
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn during(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source: source.into() }
}

/// Addresses are stored in lower case: one form only, so that equality and order in SQL are those of the bytes.
fn hex_of(address: Address) -> String {
    format!("{address:#x}")
}

/// Topics are stored with all their digits, for the same reason.
fn topic_text(topic: U256) -> String {
    format!("{topic:#066x}")
}

fn parsed<T: std::str::FromStr>(what: &'static str, text: String) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Malformed { what, value: text })
}

fn address_of(text: String) -> Result<Address, StoreError> {
    parsed("address", text)
}

fn hash_of(text: String) -> Result<B256, StoreError> {
    parsed("hash", text)
}

/// Chain ids, block numbers, nonces and seconds are kept as bigint; nothing of ours passes 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
