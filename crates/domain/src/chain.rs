//! The chain as typed reads.

use crate::refusals::failure_of;
use alloy::{
    primitives::{Address, B256, Bytes},
    sol_types::SolCall,
};
use dalp_chain::{BlockId, BlockNumberOrTag, CallError, NodeErrorKind, TransactionRequest, Upstreams};
use dalp_engine::Failure;
use dalp_service::{Reason, Refusal};
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// One chain, read through its pool of nodes.
#[derive(Clone)]
pub struct ChainReader {
    upstreams: Upstreams,
}

/// The block that an answer holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Height.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Unix seconds.
    pub timestamp_s: u64,
}

/// Reads of one answer under way at once.
const READS_AT_ONCE: usize = 16;

/// Waits for all answers, a few at a time: how many are asked for is the tenant's doing.
pub fn bounded<T, F: Future<Output = Result<T, Refusal>>>(
    asks: impl IntoIterator<Item = F>,
) -> impl Future<Output = Result<Vec<T>, Refusal>> {
    let asks: Vec<F> = asks.into_iter().collect();
    stream::iter(asks).buffered(READS_AT_ONCE).try_collect()
}

/// Why a read gave no value.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such contract at the address, or it does not answer this call.
    #[error("{0} does not answer the call")]
    NotThere(Address),
    /// The contract refused.
    #[error("the contract refused")]
    Reverted(Vec<u8>),
    /// No node answered. Retryable.
    #[error("the chain cannot be read")]
    Chain(#[source] CallError),
}

/// Gas for each of many reads that go together: ample for a look at stored values, and no contract that somebody names holds up the reads
/// of others.
const GAS_OF_ONE_OF_MANY: u64 = 1_000_000;

fn request<C: SolCall>(sender: Address, target: Address, call: &C) -> TransactionRequest {
    TransactionRequest::default().from(sender).to(target).input(call.abi_encode().into())
}

#[allow(clippy::result_large_err)] // the reader's own error, passed on at once
fn decoded<C: SolCall>(target: Address, answer: Result<Bytes, CallError>) -> Result<C::Return, ReadError> {
    match answer {
        Ok(answer) => C::abi_decode_returns(&answer).map_err(|_| ReadError::NotThere(target)),
        Err(CallError::Revert(data)) => Err(ReadError::Reverted(data.to_vec())),
        // However much it is given: a look at stored values needs little.
        Err(CallError::Node(error)) if error.kind == NodeErrorKind::OutOfGas => Err(ReadError::NotThere(target)),
        Err(error) => Err(ReadError::Chain(error)),
    }
}

// === impl Head ===

impl Head {
    /// To read at it.
    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId::hash(self.hash)
    }
}

// === impl ChainReader ===

impl ChainReader {
    /// Reads through a pool.
    #[must_use]
    pub fn new(upstreams: Upstreams) -> Self {
        Self { upstreams }
    }

    /// EIP-155 chain id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.upstreams.config().chain_id
    }

    /// The pool.
    #[must_use]
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Calls a contract at the latest block.
    pub async fn read<C: SolCall>(&self, target: Address, call: C) -> Result<C::Return, ReadError> {
        self.read_at(target, call, BlockId::latest()).await
    }

    /// Calls a contract at a block.
    pub async fn read_at<C: SolCall>(&self, target: Address, call: C, block: BlockId) -> Result<C::Return, ReadError> {
        self.read_as(Address::ZERO, target, call, block).await
    }

    /// Calls a contract at a block as somebody: rules answer for the compliance that asks.
    pub async fn read_as<C: SolCall>(
        &self,
        sender: Address,
        target: Address,
        call: C,
        block: BlockId,
    ) -> Result<C::Return, ReadError> {
        decoded::<C>(target, self.upstreams.call(&request(sender, target, &call), block).await)
    }

    /// Makes one kind of call to many contracts at the latest block, in few requests and in order.
    pub async fn read_each<C: SolCall>(
        &self,
        calls: Vec<(Address, C)>,
    ) -> Result<Vec<Result<C::Return, ReadError>>, ReadError> {
        self.read_each_at(calls, BlockId::latest()).await
    }

    /// Makes one kind of call to many contracts at a block, in few requests and in order.
    pub async fn read_each_at<C: SolCall>(
        &self,
        calls: Vec<(Address, C)>,
        block: BlockId,
    ) -> Result<Vec<Result<C::Return, ReadError>>, ReadError> {
        let (targets, requests): (Vec<Address>, Vec<TransactionRequest>) = calls
            .into_iter()
            .map(|(target, call)| (target, request(Address::ZERO, target, &call).gas_limit(GAS_OF_ONE_OF_MANY)))
            .unzip();
        let answers = self.upstreams.calls(&requests, block).await;
        let answers = answers.map_err(|error| ReadError::Chain(error.into()))?;
        let mut decoded_each = Vec::with_capacity(targets.len());
        for (target, answer) in targets.into_iter().zip(answers) {
            decoded_each.push(decoded::<C>(target, answer));
        }
        Ok(decoded_each)
    }

    /// Whether there is code at an address.
    pub async fn has_code(&self, address: Address) -> Result<bool, Refusal> {
        match self.upstreams.code(address, BlockId::latest()).await {
            Ok(code) => Ok(!code.is_empty()),
            Err(error) => Err(Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error)),
        }
    }

    /// The latest block, so that several reads see one state.
    pub async fn latest(&self) -> Result<Head, Refusal> {
        match self.upstreams.block(BlockNumberOrTag::Latest).await {
            Ok(Some(header)) => Ok(Head { number: header.number, hash: header.hash, timestamp_s: header.timestamp_s }),
            Ok(None) => Err(Refusal::new(Reason::ChainUnavailable, "the chain has no block yet")),
            Err(error) => Err(Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error)),
        }
    }

    /// The highest block that is final. `None`: there is none yet, or the node that answers does not have it.
    pub async fn latest_final(&self) -> Result<Option<Head>, Refusal> {
        let silent = |error| Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error);
        let Some(height) = self.upstreams.final_height().await.map_err(silent)? else { return Ok(None) };
        let header = self.upstreams.block(BlockNumberOrTag::Number(height)).await.map_err(silent)?;
        Ok(header.map(|header| Head { number: header.number, hash: header.hash, timestamp_s: header.timestamp_s }))
    }

    /// Gas of a call by its sender; `None` when it would fail.
    pub async fn gas(&self, sender: Address, target: Address, data: Vec<u8>) -> Result<Option<u64>, Refusal> {
        let request = TransactionRequest::default().from(sender).to(target).input(data.into());
        match self.upstreams.estimate_gas(&request, BlockId::latest()).await {
            Ok(gas) => Ok(Some(gas)),
            Err(CallError::Unavailable(error)) => {
                Err(Refusal::new(Reason::ChainUnavailable, "the chain cannot be read").source(error))
            }
            Err(CallError::Revert(_) | CallError::Node(_)) => Ok(None),
        }
    }
}

// === impl ReadError ===

impl ReadError {
    /// Whether the chain was not reached, so that nothing is known.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Chain(error) if error.is_retryable())
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::NotThere(address) => {
                Self::new(Reason::NotFound, "there is no such contract").meta("address", address.to_checksum(None))
            }
            ReadError::Reverted(data) => {
                let Failure { reason, message, metadata } = failure_of(&dalp_contracts::decode_revert(data));
                let refusal = Self::new(reason.parse().unwrap_or(Reason::SimulationReverted), message);
                metadata.into_iter().fold(refusal, |refusal, (key, value)| refusal.meta(key, value))
            }
            ReadError::Chain(_) => Self::new(Reason::ChainUnavailable, "the chain cannot be read").source(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::{primitives::U256, sol_types::SolError as _};
    use dalp_contracts::bindings::Settlement::LegNotCompliant;

    #[test]
    fn a_revert_is_a_refusal_with_the_arguments_of_its_error() {
        let module = Address::repeat_byte(0xaa);
        let reason = dalp_contracts::roles::book_key("CLAIM_MISSING");
        let data = LegNotCompliant { leg: U256::from(3), module, reason }.abi_encode();
        let refusal = Refusal::from(ReadError::Reverted(data));
        assert_eq!(refusal.reason(), Reason::LegNotCompliant);
        let told = |key: &str| refusal.metadata().iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        assert_eq!(told("leg").as_deref(), Some("3"));
        assert_eq!(told("module"), Some(module.to_string()));
        assert_eq!(told("reason").as_deref(), Some("CLAIM_MISSING"));
        assert_eq!(told("contract_error").as_deref(), Some("LegNotCompliant"));
    }
}
