//! Talking to EVM chains: a pool of upstream nodes, fees, node errors, receipts, and a log follower that survives reorgs.
//!
//! In reading order:
//! - [`config`]: what an operator writes down about one chain.
//! - [`Upstreams`]: a handle on several nodes of the same chain. Reads go to the healthiest and fail over; sends go to all.
//! - [`node_error`]: one table that turns what anvil, geth, Besu, Nethermind and Erigon say into [`NodeErrorKind`].
//! - [`fees`]: pure arithmetic from what a node suggests to what is signed, and the rule for replacements.
//! - [`gas`]: limits to try where a node's estimator breaks off.
//! - [`follower`]: blocks in order to a sink that commits its cursor together with its effects.
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err)] // a node's refusal keeps its amounts and words; beside a round trip to a node its size is nothing

pub mod config;
mod error;
pub mod fees;
pub mod follower;
pub mod gas;
mod health;
pub mod metric_definitions;
pub mod node_error;
mod reads;
mod rpc;
mod send;
#[cfg(feature = "testing")]
pub mod testing;
mod types;
mod upstreams;

pub use config::{ChainConfig, FeeKind, FeePolicy, Finality, UpstreamConfig};
pub use error::{CallError, ChainError, ConnectError, TransportError, Unavailable};
pub use fees::{FeeError, FeeInputs, Fees};
pub use node_error::{NodeError, NodeErrorKind};
pub use rpc::RpcResult;
pub use send::SendOutcome;
pub use types::{BlockHeader, BlockRef, ChainTransaction, FinalAccount, Receipt};
pub use upstreams::{UpstreamStatus, Upstreams};

pub use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    rpc::types::{Filter, Log, TransactionRequest},
};
