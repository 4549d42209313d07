//! End-to-end, fault, shape and bench targets. What several of them share stands here.
#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that fails may panic
#![forbid(unsafe_code)]

pub mod airdrops;
pub mod bench;
pub mod curl;
pub mod drill;
pub mod event_catalogue;
pub mod histories;
pub mod load;
pub mod luna;
pub mod null_chain;
pub mod offerings;
pub mod operations;
pub mod treasuries;
pub mod waiting;
pub mod wallets;
pub mod wire;
