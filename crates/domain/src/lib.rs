//! What every domain service does alike.
//!
//! - [`rights`]: whose wallets are whose.
//! - [`write`]: from a request to an accepted operation, repeats included. [`setup`]: calls that say so while an approval is pending.
//! - [`chain`]: the chain as typed reads.
//! - [`refusals`]: what contracts and the engine's store refuse with, in the words of the error catalogue.
//! - [`store`]: a service's own tables.
//! - [`start()`]: a service as a running process; [`supervision`]: what it depends on, and what it says of that.
//! - [`indexing`]: following the chain for an index, one replica at a time.
//! - [`flows`]: what flows are written with. [`systems`]: the contracts of a tenant's system.
//! - [`pages`]: sizes and tokens of lists.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod chain;
pub mod flows;
pub mod handle;
pub mod indexing;
pub mod pages;
pub mod refusals;
pub mod rights;
pub mod setup;
mod start;
pub mod store;
pub mod supervision;
pub mod systems;
pub mod write;

pub use chain::{ChainReader, Head, ReadError};
pub use handle::AppHandle;
pub use rights::Rights;
pub use start::{Parts, Running, SignThrough, StartError, Up, directly, start};
pub use store::{Schema, StoreError, Tables};
pub use write::{Admitted, Desk, Write};
