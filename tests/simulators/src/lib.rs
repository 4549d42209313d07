//! Custody providers to test against: as strict as the real ones where those are strict, with the keys and the signatures of real ones.
//!
//! What is known of the real services stands in each module. A simulator is told what it does by rules, as the real one is by its operators, and what goes wrong
//! by [`fault`]. Time passes for a request when it is looked at: each look takes it one status further.
#![forbid(unsafe_code)]

pub mod aws;
pub mod chain;
pub mod console;
pub mod custodian;
pub mod dfns;
pub mod fault;
pub mod fireblocks;
pub mod hooks;
pub mod http;
pub mod keys;
pub mod recorder;
