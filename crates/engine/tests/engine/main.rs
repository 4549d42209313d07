//! The engine against a real PostgreSQL and a real anvil, with local keys that sign in the process. Needs both installed.
#![allow(unreachable_pub)] // a test binary has no outside

mod behind;
mod checkers;
mod documents;
mod faults;
mod handovers;
mod history;
mod holds;
mod life;
mod operator;
mod plans;
mod support;
mod throughput;
