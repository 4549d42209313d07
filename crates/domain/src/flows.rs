//! What flows of every service are written with.

use alloy::{
    primitives::{Address, B256},
    sol_types::{SolCall, SolEvent},
};
use dalp_engine::{Call, Mined};
use serde::{Deserialize, Serialize};

/// What a flow of one transaction ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its hash.
    pub tx_hash: B256,
    /// Its block.
    pub block_number: u64,
}

/// A call of a typed function.
pub fn call<C: SolCall>(chain_id: u64, sender: Address, target: Address, call: &C) -> Call {
    Call::new(chain_id, sender, target, call.abi_encode())
}

/// What a contract told in a transaction.
pub fn events<E: SolEvent>(mined: &Mined, of: Address) -> impl Iterator<Item = E> {
    mined
        .logs
        .iter()
        .filter(move |log| log.address() == of)
        .filter_map(|log| E::decode_log(&log.inner).ok())
        .map(|log| log.data)
}

// === impl Sent ===

impl From<Mined> for Sent {
    fn from(mined: Mined) -> Self {
        Self { tx_hash: mined.tx_hash, block_number: mined.block_number }
    }
}
