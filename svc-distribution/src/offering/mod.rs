//! Sales (DAIO): terms that stand in a contract's code, bought in several currencies, decided once, delivered or refunded.
//!
//! - [`price`]: prices as people write them and as the contract counts; pure.
//! - [`terms`]: what callers ask for; pure.
//! - [`state`]: where a sale stands at a time; pure.
//! - [`purchase`]: what a payment buys, and everything against it; pure.
//! - [`flows`]: what happens on chain; pure.
//! - [`readers`]: the chain as typed reads. [`indexer`]: buyers and what came in.
//! - [`store`]: our tables.
//! - `edge`: gRPC in and out.

pub(crate) mod edge;
pub mod flows;
pub mod indexer;
pub mod price;
pub mod purchase;
pub mod readers;
pub mod state;
pub mod store;
pub mod terms;
