//! What this service keeps in PostgreSQL, in a schema of its own. No sqlx type passes beyond this module.

pub mod assets;
pub mod audit;
pub mod expressions;
pub mod holdings;
pub mod rule_logs;
pub mod systems;
pub mod templates;

use crate::{
    NAME,
    wallet::store::{APPROVAL_CONSTRAINTS, PENDING_CONSTRAINT},
};
use dalp_domain::store::{Schema, Tables, address_of, during, hex_of, signed, unsigned};
use sqlx::migrate::Migrator;
use std::ops::Deref;

pub use dalp_domain::StoreError;

/// The schema of this service. Version 2 of the index has the log of rules.
pub const SCHEMA: Schema = Schema { service: NAME, name: "compliance", index_version: 2 };
/// What brings it up to date.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The service's tables.
#[derive(Clone)]
pub struct Store {
    tables: Tables,
}

/// What a refused commit ran into: another one took it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The symbol of an asset.
    Symbol,
    /// The tenant's place for a system on the chain.
    System,
    /// The place of a signer, or of a principal, among the approvals of a user operation.
    Approval,
    /// The user operation itself, which is pending no more.
    UserOperation,
}

// === impl Taken ===

impl Taken {
    /// Which of our constraints refused a commit of the engine; `None` when it failed for another reason.
    #[must_use]
    pub fn of(error: &dalp_engine::StoreError) -> Option<Self> {
        let dalp_engine::StoreError::Database(sqlx::Error::Database(error)) = error else { return None };
        match error.constraint() {
            Some(assets::SYMBOL_CONSTRAINT) => Some(Self::Symbol),
            Some(systems::SYSTEM_CONSTRAINT) => Some(Self::System),
            Some(PENDING_CONSTRAINT) => Some(Self::UserOperation),
            Some(constraint) if APPROVAL_CONSTRAINTS.contains(&constraint) => Some(Self::Approval),
            _ => None,
        }
    }
}

// === impl Store ===

impl From<Tables> for Store {
    fn from(tables: Tables) -> Self {
        Self { tables }
    }
}

impl Deref for Store {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}
