//! What the workers ask of a chain, as a seam: production has the pool of upstreams behind it, the simulator a chain of its own.

use alloy::primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use dalp_chain::{
    BlockHeader, BlockId, BlockNumberOrTag, CallError, ChainConfig, ChainError, FeeInputs, FinalAccount, Receipt,
    RpcResult, SendOutcome, TransactionRequest, Unavailable, Upstreams,
};

/// The calls of [`Upstreams`] that the workers make; each means what it means there.
#[async_trait]
pub(crate) trait Node: Send + Sync + 'static {
    fn config(&self) -> &ChainConfig;
    async fn batch(&self, calls: Vec<(&'static str, serde_json::Value)>) -> Result<Vec<RpcResult>, Unavailable>;
    async fn nonce(&self, address: Address, block: BlockNumberOrTag) -> Result<u64, ChainError>;
    async fn fee_inputs(&self) -> Result<FeeInputs, ChainError>;
    async fn final_height(&self) -> Result<Option<u64>, ChainError>;
    async fn block(&self, block: BlockNumberOrTag) -> Result<Option<BlockHeader>, ChainError>;
    async fn blocks(&self, numbers: Vec<u64>) -> Result<Vec<BlockHeader>, ChainError>;
    async fn final_blocks(&self, numbers: &[u64]) -> Result<Vec<BlockHeader>, ChainError>;
    async fn final_account(&self, sender: Address, transactions: &[B256]) -> Result<Option<FinalAccount>, ChainError>;
    async fn block_receipts(&self, block: BlockId) -> Result<Option<Vec<Receipt>>, ChainError>;
    async fn receipts(&self, transactions: Vec<B256>) -> Result<Vec<Option<Receipt>>, ChainError>;
    async fn call(&self, transaction: &TransactionRequest, block: BlockId) -> Result<Bytes, CallError>;
    async fn send_raw(&self, transaction: Bytes) -> SendOutcome;
    async fn send_raw_batch(&self, transactions: Vec<Bytes>) -> Vec<SendOutcome>;
}

#[async_trait]
impl Node for Upstreams {
    fn config(&self) -> &ChainConfig {
        Upstreams::config(self)
    }
    async fn batch(&self, calls: Vec<(&'static str, serde_json::Value)>) -> Result<Vec<RpcResult>, Unavailable> {
        Upstreams::batch(self, calls).await
    }
    async fn nonce(&self, address: Address, block: BlockNumberOrTag) -> Result<u64, ChainError> {
        Upstreams::least_nonce(self, address, block).await
    }
    async fn fee_inputs(&self) -> Result<FeeInputs, ChainError> {
        Upstreams::fee_inputs(self).await
    }
    async fn final_height(&self) -> Result<Option<u64>, ChainError> {
        Upstreams::final_height(self).await
    }
    async fn block(&self, block: BlockNumberOrTag) -> Result<Option<BlockHeader>, ChainError> {
        Upstreams::block(self, block).await
    }
    async fn blocks(&self, numbers: Vec<u64>) -> Result<Vec<BlockHeader>, ChainError> {
        Upstreams::blocks(self, numbers).await
    }
    async fn final_blocks(&self, numbers: &[u64]) -> Result<Vec<BlockHeader>, ChainError> {
        Upstreams::final_blocks(self, numbers).await
    }
    async fn final_account(&self, sender: Address, transactions: &[B256]) -> Result<Option<FinalAccount>, ChainError> {
        Upstreams::final_account(self, sender, transactions).await
    }
    async fn block_receipts(&self, block: BlockId) -> Result<Option<Vec<Receipt>>, ChainError> {
        Upstreams::block_receipts(self, block).await
    }
    async fn receipts(&self, transactions: Vec<B256>) -> Result<Vec<Option<Receipt>>, ChainError> {
        Upstreams::receipts(self, transactions).await
    }
    async fn call(&self, transaction: &TransactionRequest, block: BlockId) -> Result<Bytes, CallError> {
        Upstreams::call(self, transaction, block).await
    }
    async fn send_raw(&self, transaction: Bytes) -> SendOutcome {
        Upstreams::send_raw(self, transaction).await
    }
    async fn send_raw_batch(&self, transactions: Vec<Bytes>) -> Vec<SendOutcome> {
        Upstreams::send_raw_batch(self, transactions).await
    }
}
