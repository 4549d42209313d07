//! What a replica sees of the chain: nodes that are away, behind, on another branch, or that say what is not so.
#![allow(clippy::result_large_err)] // a node's refusal keeps its words, as in dalp-chain

use super::{
    bug::Bug,
    ledger::{CHAIN, Taken, View, gas_needed, reverts},
    world::{World, locked},
};
use crate::worker::Node;
use alloy::primitives::{Address, B256, Bytes, U64, U256};
use async_trait::async_trait;
use dalp_chain::{
    BlockHeader, BlockId, BlockNumberOrTag, CallError, ChainConfig, ChainError, FeeInputs, FinalAccount, NodeError,
    NodeErrorKind, Receipt, RpcResult, SendOutcome, TransactionRequest, Unavailable,
};
use serde_json::Value;
use std::sync::Arc;

/// What a sender has: enough for everything.
const BALANCE_WEI: u128 = 1_000_000_000_000_000_000_000_000;
const TIP_WEI: u128 = 1_000_000_000;

/// The nodes of the chain as one replica reaches them.
pub(super) struct SimNode {
    pub(super) world: Arc<World>,
    pub(super) replica: usize,
    pub(super) config: ChainConfig,
}

fn unavailable(method: &str) -> Unavailable {
    Unavailable { chain_id: CHAIN, method: method.into(), tried: 1, last: "simulated".into() }
}

fn refused(kind: NodeErrorKind, message: &str) -> NodeError {
    NodeError { kind, code: 0, message: message.into(), data: None }
}

fn no_such_block() -> NodeError {
    refused(NodeErrorKind::BlockUnavailable, "header not found")
}

// === impl SimNode ===

impl SimNode {
    /// Asks some node: what it sees, unless none answers.
    async fn view(&self, method: &'static str) -> Result<View, Unavailable> {
        self.world.line(self.replica, method).await;
        if self.world.fault("node lost", |plan| plan.node_lost) {
            return Err(unavailable(method));
        }
        let view = self.any_view();
        self.world.line(self.replica, method).await;
        Ok(view)
    }

    fn has(&self, bug: Bug) -> bool {
        locked(&self.world.tables).bug() == Some(bug)
    }

    fn any_view(&self) -> View {
        let (behind, stale) = self.world.draw(|rng, plan| {
            let behind = if rng.per_mille(plan.node_lags) { rng.between(1, 4) } else { 0 };
            (behind as usize, rng.per_mille(plan.node_stale))
        });
        locked(&self.world.ledger).view(behind, stale)
    }

    fn number(view: &View, block: BlockNumberOrTag, depth: u64) -> Option<u64> {
        let head = view.last()?.number;
        match block {
            BlockNumberOrTag::Number(number) => (number <= head).then_some(number),
            BlockNumberOrTag::Finalized | BlockNumberOrTag::Safe => head.checked_sub(depth),
            BlockNumberOrTag::Earliest => Some(0),
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => Some(head),
        }
    }

    fn depth(&self) -> u64 {
        locked(&self.world.ledger).depth()
    }

    /// One call of a batch, all of which one node answers.
    fn answer(&self, view: &View, method: &str, params: &Value) -> Result<Value, NodeError> {
        let malformed = || refused(NodeErrorKind::InvalidParams, "unreadable call");
        if method == "eth_getTransactionByHash" {
            let hash: B256 =
                params.get(0).cloned().and_then(|hash| serde_json::from_value(hash).ok()).ok_or_else(malformed)?;
            let nonce = locked(&self.world.ledger).transaction(hash).map(|sent| U64::from(sent.unsigned.nonce));
            return Ok(nonce.map_or(Value::Null, |nonce| serde_json::json!({"hash": hash, "nonce": nonce})));
        }
        let block: BlockNumberOrTag =
            params.get(1).cloned().and_then(|block| serde_json::from_value(block).ok()).ok_or_else(malformed)?;
        let number = Self::number(view, block, 0).ok_or_else(no_such_block)?;
        if method == "eth_getBalance" {
            return Ok(serde_json::json!(U256::from(BALANCE_WEI)));
        }
        let call = params.get(0).ok_or_else(malformed)?;
        let target: Option<Address> = call.get("to").and_then(|to| serde_json::from_value(to.clone()).ok());
        let input: Bytes =
            call.get("input").and_then(|input| serde_json::from_value(input.clone()).ok()).unwrap_or_default();
        if reverts(target, number) {
            return Err(refused(NodeErrorKind::Reverted, "execution reverted"));
        }
        let needed = gas_needed(target, input.len());
        if method == "eth_estimateGas" {
            return Ok(serde_json::json!(U64::from(needed)));
        }
        let given: Option<U64> = call.get("gas").and_then(|gas| serde_json::from_value(gas.clone()).ok());
        match given {
            Some(given) if given.to::<u64>() < needed => Err(refused(NodeErrorKind::OutOfGas, "out of gas")),
            _ => Ok(serde_json::json!("0x")),
        }
    }

    fn send_one(&self, raw: &Bytes) -> SendOutcome {
        let hash = alloy::primitives::keccak256(raw);
        self.must_be_stored(hash, raw);
        let mut ledger = locked(&self.world.ledger);
        if self.world.fault("send forgotten", |plan| plan.send_forgotten) {
            ledger.remember(raw);
            self.world.note(|| format!("node: {hash} accepted, and forgotten"));
            return SendOutcome::Accepted;
        }
        if self.world.fault("send refused", |plan| plan.send_refused) {
            ledger.remember(raw);
            let outcome = self.world.draw(|rng, _| match rng.below(7) {
                0 => SendOutcome::PoolFull,
                1 => SendOutcome::Underpriced,
                2 => SendOutcome::ReplacementUnderpriced,
                3 => SendOutcome::NonceTooLow,
                4 => SendOutcome::InsufficientFunds { needed_wei: None, available_wei: None },
                5 => SendOutcome::NonceTooHigh,
                _ => SendOutcome::Rejected("simulated".into()),
            });
            self.world.note(|| format!("node: {hash} refused: {outcome:?}"));
            return outcome;
        }
        let taken = ledger.take(raw);
        self.world.note(|| format!("node: {hash} {taken:?}"));
        match taken {
            Some(Taken::Accepted) => SendOutcome::Accepted,
            Some(Taken::AlreadyKnown) => SendOutcome::AlreadyKnown,
            Some(Taken::NonceTooLow) => SendOutcome::NonceTooLow,
            Some(Taken::NonceTooHigh) => SendOutcome::NonceTooHigh,
            Some(Taken::Underpriced) => SendOutcome::Underpriced,
            Some(Taken::ReplacementUnderpriced) => SendOutcome::ReplacementUnderpriced,
            None => {
                self.world.violated(format!("bytes sent that nobody can read: {raw}"));
                SendOutcome::Rejected("unreadable".into())
            }
        }
    }

    /// Written ahead: nothing is sent that is not stored.
    fn must_be_stored(&self, hash: B256, raw: &Bytes) {
        let tables = locked(&self.world.tables);
        let stored = tables.attempts.values().any(|one| one.tx_hash == Some(hash) && one.raw.as_ref() == Some(raw));
        if !stored {
            self.world.violated(format!("sent before it was stored: {hash}"));
        }
        let sealed = tables.attempts.values().any(|one| one.tx_hash == Some(hash) && one.phase == super::Phase::Sealed);
        if sealed {
            self.world.violated(format!("sealed and sent all the same: {hash}"));
        }
    }
}

#[async_trait]
impl Node for SimNode {
    fn config(&self) -> &ChainConfig {
        &self.config
    }

    async fn batch(&self, calls: Vec<(&'static str, Value)>) -> Result<Vec<RpcResult>, Unavailable> {
        let view = self.view("batch").await?;
        let raw = |value: Value| {
            serde_json::value::to_raw_value(&value)
                .map_err(|error| refused(NodeErrorKind::Internal, &error.to_string()))
        };
        Ok(calls.iter().map(|(method, params)| self.answer(&view, method, params).and_then(raw)).collect())
    }

    async fn nonce(&self, address: Address, block: BlockNumberOrTag) -> Result<u64, ChainError> {
        let view = self.view("nonce").await?;
        let number = Self::number(&view, block, self.depth()).ok_or_else(|| ChainError::Node(no_such_block()))?;
        let mined = view[number as usize].next_nonce(address);
        Ok(if block == BlockNumberOrTag::Pending {
            locked(&self.world.ledger).behind_pool(address, mined)
        } else {
            mined
        })
    }

    async fn fee_inputs(&self) -> Result<FeeInputs, ChainError> {
        let view = self.view("fee_inputs").await?;
        let head = view.last().ok_or_else(|| ChainError::Node(no_such_block()))?;
        Ok(FeeInputs {
            block_number: head.number,
            base_fee_wei: Some(head.base_fee_wei()),
            priority_fee_wei: Some(TIP_WEI),
            gas_price_wei: Some(head.base_fee_wei() + TIP_WEI),
        })
    }

    async fn final_height(&self) -> Result<Option<u64>, ChainError> {
        let view = self.view("final_height").await?;
        Ok(view.last().and_then(|head| head.number.checked_sub(self.depth())))
    }

    async fn block(&self, block: BlockNumberOrTag) -> Result<Option<BlockHeader>, ChainError> {
        let view = self.view("block").await?;
        Ok(Self::number(&view, block, self.depth()).map(|number| view[number as usize].header()))
    }

    async fn blocks(&self, numbers: Vec<u64>) -> Result<Vec<BlockHeader>, ChainError> {
        let view = self.view("blocks").await?;
        Ok(numbers.into_iter().map_while(|number| Some(view.get(number as usize)?.header())).collect())
    }

    async fn final_blocks(&self, numbers: &[u64]) -> Result<Vec<BlockHeader>, ChainError> {
        let view = self.view("final_blocks").await?;
        let final_height = view.last().and_then(|head| head.number.checked_sub(self.depth()));
        let view = if self.has(Bug::FinalByTwoNodes) { self.any_view() } else { view };
        let are_final = numbers.iter().filter(|number| final_height.is_some_and(|height| **number <= height));
        Ok(are_final.filter_map(|number| Some(view.get(*number as usize)?.header())).collect())
    }

    async fn final_account(&self, sender: Address, transactions: &[B256]) -> Result<Option<FinalAccount>, ChainError> {
        let Some(height) = self.final_height().await? else { return Ok(None) };
        let view = self.view("final_account").await?;
        let known = view.last().and_then(|head| head.number.checked_sub(self.depth()));
        if known.is_none_or(|known| known < height) {
            return Ok(None);
        }
        let next_nonce = view[height as usize].next_nonce(sender);
        let view = if self.has(Bug::UsedOutsideByTwoNodes) { self.any_view() } else { view };
        let receipts = view.iter().flat_map(|block| &block.receipts);
        let receipts = receipts.filter(|receipt| transactions.contains(&receipt.transaction_hash)).cloned().collect();
        Ok(Some(FinalAccount { next_nonce, receipts }))
    }

    async fn block_receipts(&self, block: BlockId) -> Result<Option<Vec<Receipt>>, ChainError> {
        let view = self.view("block_receipts").await?;
        let BlockId::Hash(wanted) = block else { return Ok(None) };
        let found = view.iter().rev().find(|block| block.hash == wanted.block_hash);
        Ok(found.map(|block| block.receipts.clone()))
    }

    async fn receipts(&self, transactions: Vec<B256>) -> Result<Vec<Option<Receipt>>, ChainError> {
        let view = self.view("receipts").await?;
        let find = |hash: B256| {
            let receipts = view.iter().rev().flat_map(|block| &block.receipts);
            receipts.into_iter().find(|receipt| receipt.transaction_hash == hash).cloned()
        };
        Ok(transactions.into_iter().map(find).collect())
    }

    async fn call(&self, transaction: &TransactionRequest, block: BlockId) -> Result<Bytes, CallError> {
        let view = self.view("call").await?;
        let BlockId::Number(block) = block else { return Err(CallError::Node(no_such_block())) };
        let Some(number) = Self::number(&view, block, 0) else { return Err(CallError::Node(no_such_block())) };
        let target = transaction.to.and_then(|to| to.to().copied());
        if reverts(target, number) { Err(CallError::Revert(Bytes::new())) } else { Ok(Bytes::new()) }
    }

    async fn send_raw(&self, transaction: Bytes) -> SendOutcome {
        let outcome = self.send_raw_batch(vec![transaction]).await.pop();
        outcome.unwrap_or_else(|| SendOutcome::Unknown("no answer".into()))
    }

    async fn send_raw_batch(&self, transactions: Vec<Bytes>) -> Vec<SendOutcome> {
        self.world.line(self.replica, "send").await;
        let unknown = || SendOutcome::Unknown("simulated".into());
        if self.world.fault("node lost", |plan| plan.node_lost) {
            return transactions.iter().map(|_| unknown()).collect();
        }
        let mut outcomes: Vec<SendOutcome> = transactions.iter().map(|raw| self.send_one(raw)).collect();
        self.world.line(self.replica, "send").await;
        for outcome in &mut outcomes {
            if self.world.fault("send unsure", |plan| plan.send_unsure) {
                *outcome = unknown();
            }
        }
        outcomes
    }
}
