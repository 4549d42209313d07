//! Airdrops: a list of recipients, bound to a contract by the roots of its trees, pushed, claimed or vested.
//!
//! - [`list`]: lists as they arrive, checked line by line; pure.
//! - [`tree`]: their trees and proofs; pure.
//! - [`terms`]: what callers ask for; pure.
//! - [`flows`]: what happens on chain; pure.
//! - [`push`]: hands batches over until everybody was tried.
//! - [`readers`]: the chain as typed reads. [`indexer`]: what became of every recipient.
//! - [`store`]: our tables.
//! - `edge`: gRPC in and out.

pub(crate) mod edge;
pub mod flows;
pub mod indexer;
pub mod list;
pub mod push;
pub mod readers;
pub mod store;
pub mod terms;
pub mod tree;
