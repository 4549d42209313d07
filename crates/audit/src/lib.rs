//! The audit log's arithmetic, without a database and without a network: what a leaf's bytes are, how leaves hang together, what is
//! signed over them, and how all of that is checked by somebody who trusts nobody.
//!
//! In reading order:
//! - [`leaf`]: one entry of the log, and its bytes.
//! - [`tree`]: RFC 6962 (RFC 9162): hashes, inclusion and consistency proofs, and their verification.
//! - [`tiles`]: the same tree kept in tiles, so that a proof reads a handful of rows however long the log is.
//! - [`root`]: what the signer's audit key signs.
//! - [`export`], [`verify`]: the export of a log, line by line, and the verifier behind `dalp-audit-verify`.
//!
//! The tree is written here and not taken from a library: what there is keeps the whole tree in memory, while ours lives in tables,
//! appends in the middle of somebody's transaction and proves from a few rows. It is a page of arithmetic, held against the test
//! vectors of the RFC and against a naive recomputation.
#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that fails may panic
#![forbid(unsafe_code)]

pub mod export;
pub mod leaf;
pub mod root;
pub mod tiles;
pub mod tree;
pub mod verify;

pub use leaf::{Decision, Leaf};
pub use root::Root;
pub use tree::Hash;
