//! Reading the chain, as typed calls.

pub mod assets;
pub mod claim_findings;
pub mod expressions;
pub mod identities;
pub mod modules;
pub mod recovery;
pub mod roles;
pub mod rule_parameters;
pub mod rules;
pub mod simulation;
pub mod systems;

mod figures;

pub use dalp_domain::chain::{ChainReader, Head, ReadError, bounded};
