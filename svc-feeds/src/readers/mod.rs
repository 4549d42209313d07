//! Reading the chain, as typed calls.

pub mod feeds;
pub mod systems;
