//! The chain as an auditor sees it: read directly, not through the platform.

use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, TxKind, U64, U256};
use alloy::providers::{Provider, ProviderBuilder, RootProvider};
use alloy::rpc::types::TransactionRequest;
use alloy::sol;
use anyhow::Context;

sol! {
    #[sol(rpc)]
    interface IBalances {
        event Transfer(address indexed from, address indexed to, uint256 value);

        function balanceOf(address account) external view returns (uint256);
    }

    #[sol(rpc)]
    interface IAggregator {
        function latestRoundData() external view returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
    }
}

/// Direct reads and, on the development chain, funding.
#[derive(Debug, Clone)]
pub struct ChainView {
    provider: RootProvider,
}

// === impl ChainView ===

impl ChainView {
    /// A view over a development node's JSON-RPC address.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn new(rpc_url: &str) -> anyhow::Result<Self> {
        let url = rpc_url.parse().context("the chain's address is not a URL")?;
        Ok(Self { provider: ProviderBuilder::default().connect_http(url) })
    }

    /// Gives an address ether on the development chain.
    ///
    /// # Errors
    /// When the node refuses; only a development node knows the call.
    pub async fn fund(&self, address: Address, wei: U256) -> anyhow::Result<()> {
        let _: serde_json::Value =
            self.provider.raw_request("anvil_setBalance".into(), (address, wei)).await.context("cannot fund")?;
        Ok(())
    }

    /// Makes a block every so many seconds on the development chain; 0: none at all.
    ///
    /// # Errors
    /// When the node refuses; only a development node knows the call.
    pub async fn mine_every(&self, seconds: u64) -> anyhow::Result<()> {
        let _: serde_json::Value =
            self.provider.raw_request("evm_setIntervalMining".into(), (seconds,)).await.context("cannot set mining")?;
        Ok(())
    }

    /// Moves the clock of the development chain on.
    ///
    /// # Errors
    /// When the node refuses; only a development node knows the call.
    pub async fn pass(&self, seconds: u64) -> anyhow::Result<()> {
        let moved = self.provider.raw_request("evm_increaseTime".into(), (U256::from(seconds),)).await;
        let _: serde_json::Value = moved.context("cannot move the clock")?;
        let _: serde_json::Value = self.provider.raw_request("evm_mine".into(), ()).await.context("cannot mine")?;
        Ok(())
    }

    /// Sends a transaction of the development node's own first account and waits until it is in a block. The created contract, of a creation.
    ///
    /// # Errors
    /// When the node refuses, the transaction fails, or it is in no block in time; only a development node knows the call.
    pub async fn send_as_node(&self, to: Option<Address>, data: Bytes) -> anyhow::Result<Option<Address>> {
        let accounts = self.provider.get_accounts().await?;
        let from = accounts.first().context("the node has no account")?;
        let mut request = TransactionRequest::default().from(*from).input(data.into()).gas_limit(9_000_000);
        request.to = Some(to.map_or(TxKind::Create, TxKind::Call));
        let hash: B256 = self.provider.raw_request("eth_sendTransaction".into(), (request,)).await?;
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..1_200 {
            looks.tick().await;
            if let Some(receipt) = self.provider.get_transaction_receipt(hash).await? {
                anyhow::ensure!(receipt.status(), "the transaction failed");
                return Ok(receipt.contract_address);
            }
        }
        anyhow::bail!("the transaction is in no block")
    }

    /// The time of the latest block, Unix seconds.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn time_s(&self) -> anyhow::Result<u64> {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
        Ok(block.context("the chain has no block")?.header.timestamp)
    }

    /// The block that has a transaction; `None`: none has it.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn block_of(&self, tx_hash: B256) -> anyhow::Result<Option<u64>> {
        Ok(self.provider.get_transaction_receipt(tx_hash).await?.and_then(|receipt| receipt.block_number))
    }

    /// The number of transactions an address has sent, at the latest block.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn nonce(&self, address: Address) -> anyhow::Result<u64> {
        Ok(self.provider.get_transaction_count(address).await?)
    }

    /// Height of the latest block.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn height(&self) -> anyhow::Result<u64> {
        Ok(self.provider.get_block_number().await?)
    }

    /// The latest round of a price feed or its adapter, as a contract reads it: round and answer.
    ///
    /// # Errors
    /// When the node does not answer, or nothing that answers so stands there.
    pub async fn aggregator(&self, aggregator: Address) -> anyhow::Result<(String, String)> {
        let latest = IAggregator::new(aggregator, &self.provider).latestRoundData().call().await?;
        Ok((latest.roundId.to_string(), latest.answer.to_string()))
    }

    /// What a token moved to a receiver from a block on: from whom, and how much, once for each movement.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn moved_to(
        &self,
        token: Address,
        receiver: Address,
        from_block: u64,
    ) -> anyhow::Result<Vec<(Address, U256)>> {
        let token = IBalances::new(token, &self.provider);
        let moved = token.Transfer_filter().topic2(receiver.into_word()).from_block(from_block);
        Ok(moved.query().await?.into_iter().map(|(event, _)| (event.from, event.value)).collect())
    }

    /// Transactions that the node knows and no block has, those behind a gap too.
    ///
    /// # Errors
    /// When the node does not answer; only some nodes tell.
    pub async fn waiting(&self) -> anyhow::Result<u64> {
        let told: std::collections::HashMap<String, U64> =
            self.provider.raw_request("txpool_status".into(), ()).await.context("cannot see the pool")?;
        Ok(told.values().map(|count| count.to::<u64>()).sum())
    }

    /// A token balance at the latest block, in base units.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn balance(&self, token: Address, holder: Address) -> anyhow::Result<U256> {
        Ok(IBalances::new(token, &self.provider).balanceOf(holder).call().await?)
    }
}
