//! What we read from a chain. Only the fields in use, so that a field or a transaction type that one network adds does not
//! make a whole block unreadable.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    rpc::types::Log,
};
use serde::Deserialize;

/// A block by number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
}

/// A block's header and its transaction hashes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockHeader {
    /// Height.
    #[serde(with = "alloy::serde::quantity")]
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Hash of the block below.
    pub parent_hash: B256,
    /// Unix seconds.
    #[serde(rename = "timestamp", with = "alloy::serde::quantity")]
    pub timestamp_s: u64,
    /// Absent on chains without EIP-1559.
    #[serde(default, rename = "baseFeePerGas", with = "alloy::serde::quantity::opt")]
    pub base_fee_wei: Option<u128>,
    /// Most gas in the block.
    #[serde(with = "alloy::serde::quantity")]
    pub gas_limit: u64,
    /// Hashes of its transactions, in order.
    #[serde(default)]
    pub transactions: Vec<B256>,
}

/// What became of an included transaction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Transaction hash.
    pub transaction_hash: B256,
    /// Position in the block.
    #[serde(with = "alloy::serde::quantity")]
    pub transaction_index: u64,
    /// Block hash.
    pub block_hash: B256,
    /// Block height.
    #[serde(with = "alloy::serde::quantity")]
    pub block_number: u64,
    /// Sender.
    pub from: Address,
    /// Called contract; absent when one was created.
    #[serde(default)]
    pub to: Option<Address>,
    /// Created contract.
    #[serde(default)]
    pub contract_address: Option<Address>,
    /// `true`: succeeded, `false`: reverted.
    #[serde(rename = "status", deserialize_with = "status")]
    pub succeeded: bool,
    /// Gas used by this transaction.
    #[serde(with = "alloy::serde::quantity")]
    pub gas_used: u64,
    /// Price paid per gas.
    #[serde(default, rename = "effectiveGasPrice", with = "alloy::serde::quantity::opt")]
    pub effective_gas_price_wei: Option<u128>,
    /// Events, in order.
    pub logs: Vec<Log>,
    /// Besu adds the revert reason here when started with it enabled.
    #[serde(default)]
    pub revert_reason: Option<Bytes>,
}

/// What one node says of a sender's final nonces and of transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalAccount {
    /// The first nonce that no final block has used.
    pub next_nonce: u64,
    /// Receipts of those transactions that the node knows to be in a block, final or not.
    pub receipts: Vec<Receipt>,
}

/// A transaction as a node knows it, included or pending.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainTransaction {
    /// Transaction hash.
    pub hash: B256,
    /// Sender.
    pub from: Address,
    /// Called contract; absent when one is created.
    #[serde(default)]
    pub to: Option<Address>,
    /// Sender's counter.
    #[serde(with = "alloy::serde::quantity")]
    pub nonce: u64,
    /// Native amount.
    #[serde(rename = "value")]
    pub value_wei: U256,
    /// Call data.
    pub input: Bytes,
    /// Block it is in; absent while pending.
    #[serde(default)]
    pub block_hash: Option<B256>,
    /// Height of that block.
    #[serde(default, with = "alloy::serde::quantity::opt")]
    pub block_number: Option<u64>,
}

fn status<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(alloy::serde::quantity::deserialize::<u64, D>(deserializer)? != 0)
}

// === impl BlockHeader ===

impl BlockHeader {
    /// Number and hash.
    pub fn block_ref(&self) -> BlockRef {
        BlockRef { number: self.number, hash: self.hash }
    }
}
