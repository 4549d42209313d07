//! What this service keeps in PostgreSQL, in a schema of its own. No sqlx type passes beyond this module.

pub mod alerts;
pub mod directory;
pub mod events;
pub mod index;
pub mod latest;
pub mod queue;
pub mod rounds;
pub mod systems;

use crate::NAME;
use alloy::primitives::U256;
use dalp_domain::store::{Schema, Tables, address_of, during, hash_of, hex_of, parsed, signed, unsigned};
use sqlx::migrate::Migrator;
use std::ops::Deref;

pub use dalp_domain::StoreError;

/// The schema of this service.
pub const SCHEMA: Schema = Schema { service: NAME, name: "feeds", index_version: 1 };
/// What brings it up to date.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The service's tables.
#[derive(Clone)]
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

/// Topics are stored with all their digits, so that equality and order in SQL are those of the number.
fn topic_text(topic: U256) -> String {
    format!("{topic:#066x}")
}
