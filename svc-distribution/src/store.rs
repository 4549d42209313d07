//! What this service keeps in PostgreSQL, in a schema of its own. The tables of airdrops stand in `airdrop::store`, those of
//! sales in `offering::store`.

use crate::NAME;
use dalp_domain::store::{Schema, Tables};
use sqlx::migrate::Migrator;
use std::ops::Deref;

/// The schema of this service.
pub const SCHEMA: Schema = Schema { service: NAME, name: "distribution", index_version: 2 };
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
