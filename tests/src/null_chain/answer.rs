//! What the chain says to each method.

use std::time::SystemTime;

use alloy::eips::{BlockId, BlockNumberOrTag, RpcBlockHash};
use alloy::primitives::{Address, B256, Bytes, U64, U128, U256};
use alloy::rpc::types::{FeeHistory, Filter, FilterBlockOption};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::behind::Behind;
use super::book::{BASE_FEE_WEI, BLOCK_GAS_LIMIT, Book, Refusal, Signed};
use super::{Shared, locked};

/// The tip that is suggested.
const TIP_WEI: u64 = 1_000_000_000;
/// What an estimate comes to where no chain behind knows better.
const ESTIMATE: u64 = 100_000;

const INVALID_PARAMS: i64 = -32_602;
const METHOD_NOT_FOUND: i64 = -32_601;
const INTERNAL: i64 = -32_603;
const REFUSED: i64 = -32_000;

/// A JSON-RPC error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Value>,
}

pub(super) type Answer = Result<Box<RawValue>, RpcError>;

// === impl RpcError ===

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        Self::new(REFUSED, refusal.to_string())
    }
}

impl From<anyhow::Error> for RpcError {
    fn from(error: anyhow::Error) -> Self {
        Self::new(INTERNAL, format!("the chain behind does not answer: {error:#}"))
    }
}

/// The parameters of a call.
pub(super) struct Parameters<'a>(pub(super) &'a [Value]);

// === impl Parameters ===

impl Parameters<'_> {
    fn get<T: DeserializeOwned>(&self, at: usize) -> Result<T, RpcError> {
        let value = self.0.get(at).cloned().unwrap_or_default();
        serde_json::from_value(value)
            .map_err(|error| RpcError::new(INVALID_PARAMS, format!("invalid parameter {at}: {error}")))
    }

    fn block(&self, at: usize) -> Result<BlockId, RpcError> {
        Ok(self.get::<Option<BlockId>>(at)?.unwrap_or_default())
    }
}

/// Answers one call. `forget`: a sent transaction is acknowledged only.
pub(super) async fn answer(
    shared: &Shared,
    book: &std::sync::Mutex<Book>,
    method: &str,
    given: Parameters<'_>,
    forget: bool,
) -> Answer {
    let behind = shared.behind.as_ref();
    match method {
        "eth_chainId" => say(&U64::from(shared.options.chain_id)),
        "net_version" => say(&shared.options.chain_id.to_string()),
        "web3_clientVersion" => say(&"null-chain"),
        "eth_syncing" => say(&false),
        "eth_blockNumber" => say(&U64::from(locked(book).head())),
        "eth_gasPrice" => say(&U128::from(BASE_FEE_WEI + TIP_WEI)),
        "eth_maxPriorityFeePerGas" => say(&U128::from(TIP_WEI)),
        "eth_feeHistory" => fee_history(&locked(book), given),
        "eth_sendRawTransaction" => send(shared, book, &given.get::<Bytes>(0)?, forget).await,
        "eth_getTransactionCount" => {
            let account: Address = given.get(0)?;
            introduce(book, behind, account).await?;
            count(shared, &locked(book), account, given.block(1)?)
        }
        "eth_getBlockByNumber" | "eth_getBlockByHash" => {
            let (block, whole) = (given.block(0)?, given.get::<Option<bool>>(1)?.unwrap_or(false));
            let own = {
                let book = locked(book);
                own(shared, &book, block).map(|number| to_raw_value(&book.block(number, whole)))
            };
            own_or_behind(own, behind, method, given).await
        }
        "eth_getBlockReceipts" => {
            let block = given.block(0)?;
            let own = {
                let book = locked(book);
                own(shared, &book, block).map(|number| to_raw_value(&book.block_receipts(number)))
            };
            own_or_behind(own, behind, method, given).await
        }
        "eth_getTransactionReceipt" => {
            let hash: B256 = given.get(0)?;
            let own = {
                let book = locked(book);
                book.knows_transaction(hash).then(|| to_raw_value(&book.receipt(hash)))
            };
            own_or_behind(own, behind, method, given).await
        }
        "eth_getTransactionByHash" => {
            let hash: B256 = given.get(0)?;
            let own = locked(book).transaction(hash).map(|transaction| to_raw_value(&transaction));
            own_or_behind(own, behind, method, given).await
        }
        "eth_getLogs" => logs(shared, book, given).await,
        "eth_getBalance" | "eth_getCode" | "eth_getStorageAt" | "eth_call" | "eth_estimateGas" => {
            state(behind, method, given).await
        }
        _ => Err(RpcError::new(METHOD_NOT_FOUND, format!("the method {method} does not exist/is not available"))),
    }
}

fn say<T: Serialize>(value: &T) -> Answer {
    to_raw_value(value).map_err(|error| RpcError::new(INTERNAL, error.to_string()))
}

/// A node that has no chain behind knows nothing but its own.
async fn own_or_behind(
    own: Option<serde_json::Result<Box<RawValue>>>,
    behind: Option<&Behind>,
    method: &str,
    given: Parameters<'_>,
) -> Answer {
    match (own, behind) {
        (Some(own), _) => own.map_err(|error| RpcError::new(INTERNAL, error.to_string())),
        (None, Some(behind)) => behind.ask(method, given.0.into()).await?,
        (None, None) => say(&Value::Null),
    }
}

/// The height that a block is named by. `None`: not in this chain's own part, or nowhere.
fn own(shared: &Shared, book: &Book, block: BlockId) -> Option<u64> {
    let number = match block {
        BlockId::Hash(RpcBlockHash { block_hash, .. }) => book.number_of(block_hash)?,
        BlockId::Number(number) => height(shared, book, number),
    };
    // A block above the head is nobody's: the chain behind must not answer for it.
    (number > book.head() || book.is_own(number)).then_some(number)
}

fn height(shared: &Shared, book: &Book, number: BlockNumberOrTag) -> u64 {
    match number {
        BlockNumberOrTag::Number(number) => number,
        BlockNumberOrTag::Earliest => 0,
        BlockNumberOrTag::Finalized | BlockNumberOrTag::Safe => {
            book.head().saturating_sub(shared.options.finalized_behind)
        }
        BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => book.head(),
    }
}

/// What the chain behind knows of an account, before this one counts on.
async fn introduce(book: &std::sync::Mutex<Book>, behind: Option<&Behind>, account: Address) -> Result<(), RpcError> {
    if locked(book).knows_account(account) {
        return Ok(());
    }
    let nonce = match behind {
        Some(behind) => behind.nonce(account).await?,
        None => 0,
    };
    locked(book).introduce(account, nonce);
    Ok(())
}

fn count(shared: &Shared, book: &Book, account: Address, block: BlockId) -> Answer {
    let nonce = match block {
        BlockId::Number(BlockNumberOrTag::Pending) => book.pending_nonce(account),
        BlockId::Number(number) => book.nonce_at(account, height(shared, book, number)),
        BlockId::Hash(RpcBlockHash { block_hash, .. }) => {
            book.number_of(block_hash).and_then(|number| book.nonce_at(account, number))
        }
    };
    match nonce {
        Some(nonce) => say(&U64::from(nonce)),
        None => Err(RpcError::new(REFUSED, "header not found")),
    }
}

async fn send(shared: &Shared, book: &std::sync::Mutex<Book>, raw: &[u8], forget: bool) -> Answer {
    let arrived = SystemTime::now();
    let signed = Signed::decode(raw)?;
    introduce(book, shared.behind.as_ref(), signed.sender).await?;
    locked(&shared.arrivals).entry(signed.hash).or_insert(arrived);
    if forget {
        return say(&signed.hash);
    }
    say(&locked(book).submit(signed)?)
}

fn fee_history(book: &Book, given: Parameters<'_>) -> Answer {
    // A number for some clients, a quantity for others.
    let blocks = match given.get::<Value>(0)? {
        Value::Number(blocks) => blocks.as_u64().unwrap_or(1),
        _ => given.get::<U64>(0)?.to(),
    };
    let blocks = usize::try_from(blocks.clamp(1, 1_024)).unwrap_or(1);
    let percentiles = given.get::<Option<Vec<f64>>>(2)?;
    say(&FeeHistory {
        base_fee_per_gas: vec![BASE_FEE_WEI.into(); blocks + 1],
        gas_used_ratio: vec![0.5; blocks],
        base_fee_per_blob_gas: Vec::new(),
        blob_gas_used_ratio: Vec::new(),
        oldest_block: (book.head() + 1).saturating_sub(blocks as u64),
        reward: percentiles.map(|asked| vec![vec![TIP_WEI.into(); asked.len()]; blocks]),
    })
}

/// Events of the chain behind, then those of this one.
async fn logs(shared: &Shared, book: &std::sync::Mutex<Book>, given: Parameters<'_>) -> Answer {
    let filter: Filter = given.get(0)?;
    let range = {
        let book = locked(book);
        let of = |tag: Option<BlockNumberOrTag>| height(shared, &book, tag.unwrap_or_default());
        match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => book.number_of(hash).map(|number| (number, number)),
            FilterBlockOption::Range { from_block, to_block } => Some((of(from_block), of(to_block))),
        }
    };
    let Some((from, to)) = range else {
        return own_or_behind(None, shared.behind.as_ref(), "eth_getLogs", given).await;
    };
    let mut found: Vec<Value> = Vec::new();
    if let Some(behind) = shared.behind.as_ref().filter(|_| !locked(book).is_own(from)) {
        let last = if locked(book).is_own(to) { behind.tag() } else { json!(U64::from(to)) };
        let mut question = given.get::<Value>(0)?;
        question["toBlock"] = last;
        let answer = behind.ask("eth_getLogs", json!([question])).await??;
        found = serde_json::from_str(answer.get()).map_err(|error| RpcError::new(INTERNAL, error.to_string()))?;
    }
    let own: Vec<_> = locked(book).logs(from, to).filter(|log| filter.matches(&log.inner)).collect();
    if found.is_empty() {
        return say(&own);
    }
    for log in own {
        found.push(serde_json::to_value(log).map_err(|error| RpcError::new(INTERNAL, error.to_string()))?);
    }
    say(&found)
}

/// What only an execution could tell: the chain behind says it for the moment of the fork; without one everything is allowed and
/// everybody is rich.
async fn state(behind: Option<&Behind>, method: &str, given: Parameters<'_>) -> Answer {
    let Some(behind) = behind else {
        return match method {
            "eth_getBalance" => say(&U256::from(u128::MAX)),
            "eth_getCode" => say(&"0x00"),
            "eth_estimateGas" => say(&U64::from(ESTIMATE)),
            _ => say(&B256::with_last_byte(1)),
        };
    };
    let subject = match method {
        // What the caller would pay, and with which nonce, is no part of the question: nothing is executed here.
        "eth_call" | "eth_estimateGas" => {
            let asked: Value = given.get(0)?;
            let data = if asked["input"].is_null() { &asked["data"] } else { &asked["input"] };
            let value = if asked["value"].is_null() { json!("0x0") } else { asked["value"].clone() };
            let gas = json!(U64::from(BLOCK_GAS_LIMIT.min(30_000_000)));
            vec![json!({"from": asked["from"], "to": asked["to"], "input": data, "value": value, "gas": gas})]
        }
        "eth_getStorageAt" => given.0.iter().take(2).cloned().collect(),
        _ => given.0.iter().take(1).cloned().collect(),
    };
    behind.read(method, subject).await?
}
