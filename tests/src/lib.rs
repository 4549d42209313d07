//! End-to-end, fault, shape and bench targets. What several of them share stands here.
#![forbid(unsafe_code)]

pub mod airdrops;
pub mod bench;
pub mod drill;
pub mod histories;
pub mod load;
pub mod null_chain;
pub mod offerings;
pub mod treasuries;
pub mod waiting;
pub mod wallets;
