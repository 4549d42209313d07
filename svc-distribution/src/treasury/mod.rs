//! Treasury payouts: coupons, dividends and redemption, each paid to who held at a record date.
//!
//! In reading order:
//! - [`entitlement`]: what each holder is due; [`daycount`] and [`calendar`]: fractions of a year, and when they are due; [`cap_table`]: balances out of movements; all pure.
//! - [`terms`]: what callers ask for, checked and typed. [`flows`]: what happens on chain, as pure decisions.
//! - [`readers`]: the chain as typed reads. [`prepare`]: the list of a run.
//! - [`start`]: what is asked before a list is paid. [`schedule`]: payments that are due, started by themselves; [`maturity`]: a redemption opened before it is.
//! - [`payer`]: hands the batches of running payouts over.
//! - [`store`]: our tables. [`indexer`]: what the chain tells of payouts, kept.
//! - `edge`: the gRPC service.

pub mod calendar;
pub mod cap_table;
pub mod daycount;
pub(crate) mod edge;
pub mod entitlement;
pub mod flows;
pub mod indexer;
pub mod maturity;
pub mod payer;
pub mod prepare;
pub mod readers;
pub mod schedule;
pub mod start;
pub mod store;
pub mod terms;
