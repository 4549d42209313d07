//! Smart wallets: ERC-4337 accounts that act once co-signers of enough weight have signed.
//!
//! In reading order:
//! - [`commands`]: what callers ask for; pure. [`operation`]: user operations, what is signed of them and how signatures go with them; pure.
//! - [`state`]: where one stands, and when its approvals suffice; pure.
//! - [`flows`]: what happens on chain; pure.
//! - [`readers`]: the chain as typed reads. [`store`]: our tables.
//! - [`driver`]: takes user operations from their approvals to their end, wherever a replica is killed.
//! - `edge`: gRPC in and out.
//!
//! Nothing here knows of custody providers, and what they hold knows nothing of this: an approval is a signature that the account's contract verifies.

pub mod commands;
pub mod driver;
pub(crate) mod edge;
pub mod flows;
pub mod operation;
pub mod readers;
pub mod state;
pub mod store;
