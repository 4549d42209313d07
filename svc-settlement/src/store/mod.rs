//! What this service keeps in PostgreSQL, in a schema of its own. No sqlx type passes beyond this module.

pub mod claims;
pub mod contracts;
pub mod events;
pub mod findings;
pub mod index;
pub mod pairs;
pub mod settlements;

use crate::NAME;
use dalp_domain::store::{Schema, Tables};
use sqlx::migrate::Migrator;
use std::ops::Deref;

/// The schema of this service.
pub const SCHEMA: Schema = Schema { service: NAME, name: "settlement", index_version: 1 };
/// What brings it up to date.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The service's tables.
#[derive(Debug, Clone)]
pub struct Store {
    tables: Tables,
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
