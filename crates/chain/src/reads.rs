//! Typed reads.

use crate::{
    config::Finality,
    error::{CallError, ChainError, Unavailable},
    fees::FeeInputs,
    gas,
    node_error::NodeErrorKind,
    rpc::RpcResult,
    types::{BlockHeader, ChainTransaction, FinalAccount, Receipt},
    upstreams::{CALLS_PER_REQUEST, Upstreams, decode},
};
use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256, Bytes, U64, U128, U256},
    rpc::types::{Filter, Log, TransactionRequest},
};
use serde_json::json;

/// Most blocks whose events are asked for at once.
const LOG_BLOCKS: u64 = 5_000;

const BLOCK_BY_NUMBER: &str = "eth_getBlockByNumber";
const NONCE: &str = "eth_getTransactionCount";
const RECEIPT: &str = "eth_getTransactionReceipt";

impl Upstreams {
    /// Chain id, as a node says it (checked anyway; mostly for a health check).
    pub async fn chain_id(&self) -> Result<u64, ChainError> {
        Ok(self.request::<U64>("eth_chainId", json!([])).await?.to())
    }

    /// Height of the best upstream. May go back by a block or two when another upstream answers.
    pub async fn block_number(&self) -> Result<u64, ChainError> {
        Ok(self.request::<U64>("eth_blockNumber", json!([])).await?.to())
    }

    /// A block's header and transaction hashes. `None`: the node has no such block.
    pub async fn block(&self, block: BlockNumberOrTag) -> Result<Option<BlockHeader>, ChainError> {
        match self.request("eth_getBlockByNumber", json!([block, false])).await {
            // Some nodes refuse instead of answering null, and a tag may be unknown before its first block.
            Err(ChainError::Node(error)) if error.kind == NodeErrorKind::BlockUnavailable => Ok(None),
            other => other,
        }
    }

    /// A block by hash. `None`: the node has no such block.
    pub async fn block_by_hash(&self, hash: B256) -> Result<Option<BlockHeader>, ChainError> {
        self.request("eth_getBlockByHash", json!([hash, false])).await
    }

    /// Headers of several heights in one request; ends before the first that the node does not have.
    pub async fn blocks(&self, numbers: impl IntoIterator<Item = u64>) -> Result<Vec<BlockHeader>, ChainError> {
        let calls = numbers.into_iter().map(|number| (BLOCK_BY_NUMBER, json!([U64::from(number), false]))).collect();
        let mut headers = Vec::new();
        for answer in self.batch(calls).await? {
            match decode::<Option<BlockHeader>>(BLOCK_BY_NUMBER, answer) {
                Ok(Some(header)) => headers.push(header),
                Ok(None) => break,
                Err(ChainError::Node(error)) if error.kind == NodeErrorKind::BlockUnavailable => break,
                Err(error) => return Err(error),
            }
        }
        Ok(headers)
    }

    /// Highest block that is final under the configured rule. `None`: nothing is final yet.
    pub async fn final_height(&self) -> Result<Option<u64>, ChainError> {
        match self.config().finality {
            rule @ Finality::Depth(_) => Ok(rule.final_height(self.block_number().await?, None)),
            Finality::FinalizedTag => Ok(self.block(BlockNumberOrTag::Finalized).await?.map(|header| header.number)),
        }
    }

    /// Headers of those among several heights that are final, as one node sees chain and finality: what two nodes say of both
    /// may be of two branches.
    pub async fn final_blocks(&self, numbers: &[u64]) -> Result<Vec<BlockHeader>, ChainError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let tag = self.finality_reference();
        let mut headers = Vec::new();
        for some in numbers.chunks(CALLS_PER_REQUEST - 1) {
            let mut calls = vec![(METHOD, json!([tag, false]))];
            calls.extend(some.iter().map(|number| (METHOD, json!([U64::from(*number), false]))));
            let answers = self.batch(calls).await?.into_iter();
            let mut known = answers.map(|answer| match decode::<Option<BlockHeader>>(BLOCK_BY_NUMBER, answer) {
                Err(ChainError::Node(error)) if error.kind == NodeErrorKind::BlockUnavailable => Ok(None),
                other => other,
            });
            let Some(reference) = known.next().transpose()?.flatten().map(|header| header.number) else { continue };
            let final_height = self.config().finality.final_height(reference, Some(reference));
            for header in known {
                headers.extend(header?.filter(|header| final_height.is_some_and(|height| header.number <= height)));
            }
        }
        Ok(headers)
    }

    /// What is known of a sender's final nonces and of transactions, each node asked for both in one request: of two nodes, one could have
    /// seen the block that the other has no receipts of yet. `None`: a node that answers does not know of that final block. The nonce is the
    /// least that any of them says, and a receipt counts from whichever has it.
    pub async fn final_account(
        &self,
        sender: Address,
        transactions: &[B256],
    ) -> Result<Option<FinalAccount>, ChainError> {
        let Some(height) = self.final_height().await? else { return Ok(None) };
        let mut account = FinalAccount { next_nonce: u64::MAX, receipts: Vec::new() };
        let chunks = if transactions.is_empty() {
            vec![transactions]
        } else {
            transactions.chunks(CALLS_PER_REQUEST - 2).collect()
        };
        for some in chunks {
            let count = json!([sender, BlockNumberOrTag::Number(height)]);
            let mut calls = vec![(BLOCK_BY_NUMBER, json!([self.finality_reference(), false])), (NONCE, count)];
            calls.extend(some.iter().map(|hash| (RECEIPT, json!([hash]))));
            let answered = self.ask_each(&calls).await;
            let mut told: Vec<_> = answered.into_iter().filter_map(|one| self.account_at(height, one).ok()).collect();
            if told.is_empty() {
                told.push(self.account_at(height, self.batch(calls).await?)?);
            }
            for one in told {
                let Some(one) = one else { return Ok(None) };
                account.next_nonce = account.next_nonce.min(one.next_nonce);
                for receipt in one.receipts {
                    if account.receipts.iter().all(|known| known.transaction_hash != receipt.transaction_hash) {
                        account.receipts.push(receipt);
                    }
                }
            }
        }
        Ok(Some(account))
    }

    /// What one node has answered. `None`: it does not know yet that this height is final.
    fn account_at(&self, height: u64, answers: Vec<RpcResult>) -> Result<Option<FinalAccount>, ChainError> {
        let mut answers = answers.into_iter();
        let mut next = |method: &str| {
            answers.next().ok_or_else(|| ChainError::Malformed { method: method.into(), reason: "no answer".into() })
        };
        let reference =
            decode::<Option<BlockHeader>>(BLOCK_BY_NUMBER, next(BLOCK_BY_NUMBER)?)?.map(|header| header.number);
        let known = reference.and_then(|number| self.config().finality.final_height(number, Some(number)));
        if known.is_none_or(|known| known < height) {
            return Ok(None);
        }
        let next_nonce = decode::<U64>(NONCE, next(NONCE)?)?.to();
        let receipts = answers.map(|answer| decode::<Option<Receipt>>(RECEIPT, answer));
        Ok(Some(FinalAccount {
            next_nonce,
            receipts: receipts.filter_map(Result::transpose).collect::<Result<_, _>>()?,
        }))
    }

    /// The block that finality is counted from.
    fn finality_reference(&self) -> BlockNumberOrTag {
        match self.config().finality {
            Finality::Depth(_) => BlockNumberOrTag::Latest,
            Finality::FinalizedTag => BlockNumberOrTag::Finalized,
        }
    }

    /// Simulates a call at a block.
    pub async fn call(&self, transaction: &TransactionRequest, block: BlockId) -> Result<Bytes, CallError> {
        Ok(self.request("eth_call", json!([transaction, block])).await?)
    }

    /// Simulates many calls at a block in few requests, in order. What one of them fails with is its own.
    pub async fn calls(
        &self,
        transactions: &[TransactionRequest],
        block: BlockId,
    ) -> Result<Vec<Result<Bytes, CallError>>, Unavailable> {
        const METHOD: &str = "eth_call";
        let calls = transactions.iter().map(|transaction| (METHOD, json!([transaction, block]))).collect();
        let answers = self.batch(calls).await?.into_iter();
        Ok(answers.map(|answer| Ok(decode(METHOD, answer)?)).collect())
    }

    /// Gas that the transaction needs at a block, as the node estimates it, or as limits tell where its estimator breaks off; without a
    /// margin.
    pub async fn estimate_gas(&self, transaction: &TransactionRequest, block: BlockId) -> Result<u64, CallError> {
        match self.request::<U64>("eth_estimateGas", json!([transaction, block])).await {
            Ok(gas) => Ok(gas.to()),
            Err(ChainError::Node(error)) if error.kind == NodeErrorKind::OutOfGas => {
                let tries =
                    gas::limits().map(|limit| ("eth_call", json!([transaction.clone().gas_limit(limit), block])));
                let passed = self.batch(tries.collect()).await?.into_iter().map(|answer| answer.is_ok());
                gas::least_sufficient(passed).ok_or(CallError::Node(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Transactions that an account has sent, at a block or tag (`Pending` counts the pool), by the word of one node.
    pub async fn nonce(&self, address: Address, block: BlockNumberOrTag) -> Result<u64, ChainError> {
        Ok(self.request::<U64>(NONCE, json!([address, block])).await?.to())
    }

    /// As [`Self::nonce`], and the least that any node says of those that answer: no node alone makes a nonce look used that is not. A nonce
    /// that is believed free and is used costs a refusal by the next node; one believed used and free would stay a hole before all later ones.
    pub async fn least_nonce(&self, address: Address, block: BlockNumberOrTag) -> Result<u64, ChainError> {
        let answered = self.ask_each(&[(NONCE, json!([address, block]))]).await;
        let told = answered.into_iter().flatten().filter_map(|answer| decode::<U64>(NONCE, answer).ok());
        match told.map(|nonce| nonce.to::<u64>()).min() {
            Some(least) => Ok(least),
            None => self.nonce(address, block).await,
        }
    }

    /// Native balance in wei.
    pub async fn balance(&self, address: Address, block: BlockId) -> Result<U256, ChainError> {
        self.request("eth_getBalance", json!([address, block])).await
    }

    /// Contract code; empty if there is none.
    pub async fn code(&self, address: Address, block: BlockId) -> Result<Bytes, ChainError> {
        self.request("eth_getCode", json!([address, block])).await
    }

    /// Events.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ChainError> {
        self.request("eth_getLogs", json!([filter])).await
    }

    /// Events between two blocks, both included, in as few requests as the node allows: what is too much for one is asked for in halves.
    pub async fn logs_between(&self, filter: &Filter, from: u64, to: u64) -> Result<Vec<Log>, ChainError> {
        let (mut logs, mut from, mut at_once) = (Vec::new(), from, LOG_BLOCKS);
        while from <= to {
            let end = from.saturating_add(at_once - 1).min(to);
            match self.logs(&filter.clone().from_block(from).to_block(end)).await {
                Err(ChainError::Node(error)) if error.kind == NodeErrorKind::RangeTooLarge && at_once > 1 => {
                    at_once /= 2
                }
                some => {
                    logs.extend(some?);
                    from = end + 1;
                    at_once = (at_once * 2).min(LOG_BLOCKS);
                }
            }
        }
        Ok(logs)
    }

    /// All receipts of a block in one request. `None`: the node has no such block.
    pub async fn block_receipts(&self, block: BlockId) -> Result<Option<Vec<Receipt>>, ChainError> {
        match self.request("eth_getBlockReceipts", json!([block])).await {
            Err(ChainError::Node(error)) if error.kind == NodeErrorKind::BlockUnavailable => Ok(None),
            Err(ChainError::Node(error)) if error.kind == NodeErrorKind::MethodNotFound => {
                self.block_receipts_one_by_one(block).await
            }
            other => other,
        }
    }

    /// For nodes without `eth_getBlockReceipts`: header, then a batch of receipts.
    async fn block_receipts_one_by_one(&self, block: BlockId) -> Result<Option<Vec<Receipt>>, ChainError> {
        let header = match block {
            BlockId::Number(number) => self.block(number).await?,
            BlockId::Hash(hash) => self.block_by_hash(hash.block_hash).await?,
        };
        let Some(header) = header else { return Ok(None) };
        let receipts = self.receipts(header.transactions).await?;
        // A receipt that is missing or stands in another block: the block was replaced while we asked.
        Ok(receipts.into_iter().map(|receipt| receipt.filter(|receipt| receipt.block_hash == header.hash)).collect())
    }

    /// A receipt. `None`: not included, as far as this node knows.
    pub async fn receipt(&self, transaction: B256) -> Result<Option<Receipt>, ChainError> {
        self.request("eth_getTransactionReceipt", json!([transaction])).await
    }

    /// Many receipts in few requests, in order.
    pub async fn receipts(
        &self,
        transactions: impl IntoIterator<Item = B256>,
    ) -> Result<Vec<Option<Receipt>>, ChainError> {
        const METHOD: &str = "eth_getTransactionReceipt";
        let calls = transactions.into_iter().map(|hash| (METHOD, json!([hash]))).collect();
        self.batch(calls).await?.into_iter().map(|answer| decode(METHOD, answer)).collect()
    }

    /// A transaction, included or pending. `None`: this node does not know it.
    pub async fn transaction(&self, hash: B256) -> Result<Option<ChainTransaction>, ChainError> {
        self.request("eth_getTransactionByHash", json!([hash])).await
    }

    /// What prices are made from, in one request. Suggestions that a node does not give are absent.
    pub async fn fee_inputs(&self) -> Result<FeeInputs, ChainError> {
        const BLOCK: &str = "eth_getBlockByNumber";
        let calls = vec![
            (BLOCK, json!(["latest", false])),
            ("eth_gasPrice", json!([])),
            ("eth_maxPriorityFeePerGas", json!([])),
        ];
        let mut answers = self.batch(calls).await?.into_iter();
        let missing = || ChainError::Malformed { method: BLOCK.into(), reason: "no latest block".into() };
        let header: BlockHeader =
            decode::<Option<_>>(BLOCK, answers.next().ok_or_else(missing)?)?.ok_or_else(missing)?;
        let mut suggestion =
            |method| answers.next().and_then(|answer| decode::<U128>(method, answer).ok()).map(|wei| wei.to::<u128>());
        Ok(FeeInputs {
            block_number: header.number,
            base_fee_wei: header.base_fee_wei,
            gas_price_wei: suggestion("eth_gasPrice"),
            priority_fee_wei: suggestion("eth_maxPriorityFeePerGas"),
        })
    }
}
