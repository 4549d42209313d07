//! Who there is and what each may do: kept in PostgreSQL, read through a bounded cache that hears of every change.
//!
//! - [`store`]: the tables, and the one query that finds the principal behind a credential.
//! - [`seed`]: what the configuration says of tenants, roles and principals, applied at the start.
//! - [`directory`]: the cache before it, and what holds while the database is away.
//! - [`checkers`]: which persons stand behind principals, for decisions about what policies hold.
//! - [`uses`]: when keys were last used, in batches.
//! - [`watch`]: hears of changes.

pub mod checkers;
pub mod directory;
pub mod keys;
pub mod people;
pub mod requests;
pub mod seed;
pub mod store;
pub mod tenants;
pub mod uses;
pub mod watch;

pub use directory::Directory;
pub use store::Store;
