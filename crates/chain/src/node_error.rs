//! One table that turns what nodes say into [`NodeErrorKind`].
//!
//! JSON-RPC error codes of Ethereum nodes are not portable: -32000 means anything, -32003 is "nonce too low" on one client
//! and "intrinsic gas" on another. So the text decides, and the code only where no text matches. To teach the table a new
//! phrase, add a line to [`TABLE`] and a case to `tests/fixtures/node_errors/<client>.json`.

use alloy::primitives::{Bytes, U256};

/// What a node's refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeErrorKind {
    /// The nonce is already used on chain (by this transaction or another one).
    NonceTooLow,
    /// The nonce is further ahead than the pool accepts.
    NonceTooHigh,
    /// The pool holds exactly this transaction.
    AlreadyKnown,
    /// The price is below what the pool or the base fee asks.
    Underpriced,
    /// Another transaction with this nonce is in the pool and the price does not beat it by enough.
    ReplacementUnderpriced,
    /// The sender cannot pay value plus the most the gas can cost.
    InsufficientFunds {
        /// What the transaction can cost, if the text says so.
        needed_wei: Option<U256>,
        /// What the sender has, if the text says so.
        available_wei: Option<U256>,
    },
    /// The gas limit does not cover the transaction itself.
    IntrinsicGasTooLow,
    /// The gas limit exceeds the block's, or the node's cap.
    GasLimitTooHigh,
    /// The call ran out of gas.
    OutOfGas,
    /// The price is above the node's own cap.
    FeeCapExceeded,
    /// The contract reverted; data in [`NodeError::data`].
    Reverted,
    /// The transaction pool takes no more for now (in all, or from this sender).
    PoolFull,
    /// Signed for another chain.
    WrongChainId,
    /// This sender may not send here (permissioned networks).
    SenderNotAllowed,
    /// The transaction can never be valid: type, signature, size, field out of range.
    InvalidTransaction,
    /// The node asks for fewer requests.
    RateLimited,
    /// The request asks for more blocks or logs than the node gives at once.
    RangeTooLarge,
    /// The node does not have this block or its state (yet, or any more).
    BlockUnavailable,
    /// The node does not know the method.
    MethodNotFound,
    /// The parameters are wrong.
    InvalidParams,
    /// The node is syncing, overloaded or otherwise not able to answer now.
    NodeBusy,
    /// Anything else.
    Internal,
}

/// A node's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct NodeError {
    /// What it means.
    pub kind: NodeErrorKind,
    /// JSON-RPC error code.
    pub code: i64,
    /// The node's own words.
    pub message: String,
    /// Revert data, where the node gives it.
    pub data: Option<Bytes>,
}

const NO_FUNDS: NodeErrorKind = NodeErrorKind::InsufficientFunds { needed_wei: None, available_wei: None };

/// Phrase (lower case) and meaning; the first phrase contained in the text wins, so specific ones stand above general ones.
#[rustfmt::skip]
pub const TABLE: &[(&str, NodeErrorKind)] = &[
    // A replacement refused also says "underpriced", so it stands first.
    ("replacement transaction underpriced",         NodeErrorKind::ReplacementUnderpriced), // anvil, geth, besu, nethermind
    ("replacement not allowed",                     NodeErrorKind::ReplacementUnderpriced), // nethermind before 1.3x
    ("replacementnotallowed",                       NodeErrorKind::ReplacementUnderpriced), // nethermind
    ("could not replace existing tx",               NodeErrorKind::ReplacementUnderpriced), // erigon
    ("future transaction tries to replace pending", NodeErrorKind::ReplacementUnderpriced), // geth
    ("already known",                               NodeErrorKind::AlreadyKnown),           // geth, nethermind, erigon
    ("alreadyknown",                                NodeErrorKind::AlreadyKnown),           // nethermind
    ("already imported",                            NodeErrorKind::AlreadyKnown),           // anvil
    ("known transaction",                           NodeErrorKind::AlreadyKnown),           // besu, older geth
    ("existing tx with same hash",                  NodeErrorKind::AlreadyKnown),           // erigon
    ("nonce too low",                               NodeErrorKind::NonceTooLow),            // all
    ("oldnonce",                                    NodeErrorKind::NonceTooLow),            // nethermind
    ("nonce too high",                              NodeErrorKind::NonceTooHigh),           // all
    ("nonce is too distant",                        NodeErrorKind::NonceTooHigh),           // besu
    ("nonce too distant",                           NodeErrorKind::NonceTooHigh),           // erigon
    ("nonce too far in future",                     NodeErrorKind::NonceTooHigh),           // nethermind
    ("noncetoofarinfuture",                         NodeErrorKind::NonceTooHigh),           // nethermind
    ("noncegap",                                    NodeErrorKind::NonceTooHigh),           // nethermind
    ("nonce gap",                                   NodeErrorKind::NonceTooHigh),           // nethermind
    ("gapped-nonce",                                NodeErrorKind::NonceTooHigh),           // geth, delegated accounts
    ("gapped nonce",                                NodeErrorKind::NonceTooHigh),
    ("insufficient funds",                          NO_FUNDS),                              // anvil, geth, nethermind, erigon
    ("insufficientfunds",                           NO_FUNDS),                              // nethermind
    ("upfront cost exceeds account balance",        NO_FUNDS),                              // besu
    ("up-front cost",                               NO_FUNDS),                              // besu, with amounts
    ("insufficient balance for transfer",           NO_FUNDS),                              // geth eth_call
    ("intrinsic gas too low",                       NodeErrorKind::IntrinsicGasTooLow),     // anvil, geth, erigon
    ("intrinsic gas exceeds gas limit",             NodeErrorKind::IntrinsicGasTooLow),     // besu
    ("floor data gas",                              NodeErrorKind::IntrinsicGasTooLow),     // geth, EIP-7623
    ("intrinsic gas too high",                      NodeErrorKind::GasLimitTooHigh),        // anvil
    ("exceeds block gas limit",                     NodeErrorKind::GasLimitTooHigh),        // geth, besu, erigon
    ("gas limit exceeds",                           NodeErrorKind::GasLimitTooHigh),
    ("gas limit too high",                          NodeErrorKind::GasLimitTooHigh),        // EIP-7825
    ("gaslimitexceeded",                            NodeErrorKind::GasLimitTooHigh),        // nethermind
    ("gas limit reached",                           NodeErrorKind::GasLimitTooHigh),        // nethermind
    ("tx fee (",                                    NodeErrorKind::FeeCapExceeded),         // geth --rpc.txfeecap
    ("transaction fee cap exceeded",                NodeErrorKind::FeeCapExceeded),         // besu
    ("priority fee per gas higher than",            NodeErrorKind::InvalidTransaction),     // anvil, geth
    ("priority fee per gas exceeds",                NodeErrorKind::InvalidTransaction),     // besu
    ("tip above fee cap",                           NodeErrorKind::InvalidTransaction),     // erigon
    ("less than block base fee",                    NodeErrorKind::Underpriced),            // anvil, geth
    ("below current base fee",                      NodeErrorKind::Underpriced),            // besu
    ("below configured minimum gas price",          NodeErrorKind::Underpriced),            // besu
    ("fee cap less than block base fee",            NodeErrorKind::Underpriced),            // erigon
    ("fee too low",                                 NodeErrorKind::Underpriced),            // erigon
    ("feetoolow",                                   NodeErrorKind::Underpriced),            // nethermind
    ("underpriced",                                 NodeErrorKind::Underpriced),            // geth, nethermind, erigon
    ("pool is full",                                NodeErrorKind::PoolFull),               // geth
    ("txpool is full",                              NodeErrorKind::PoolFull),
    ("pool overflow",                               NodeErrorKind::PoolFull),               // erigon
    ("account limit exceeded",                      NodeErrorKind::PoolFull),               // geth, per sender
    ("in-flight transaction limit",                 NodeErrorKind::PoolFull),               // geth, delegated accounts
    ("a transaction with a lower nonce exists",     NodeErrorKind::PoolFull),
    ("transaction with a lower nonce exists",       NodeErrorKind::PoolFull),               // besu: wait for the other one
    ("invalid chain id",                            NodeErrorKind::WrongChainId),           // anvil, geth
    ("invalid chain_id",                            NodeErrorKind::WrongChainId),
    ("wrong chainid",                               NodeErrorKind::WrongChainId),           // besu
    ("chain id mismatch",                           NodeErrorKind::WrongChainId),
    ("chainid not supported",                       NodeErrorKind::WrongChainId),           // besu
    ("not authorized to send",                      NodeErrorKind::SenderNotAllowed),       // besu permissioning
    ("plugin has marked the transaction",           NodeErrorKind::SenderNotAllowed),       // besu validators
    ("invalid sender",                              NodeErrorKind::InvalidTransaction),     // geth, erigon
    ("invalid signature",                           NodeErrorKind::InvalidTransaction),     // besu
    ("failed to decode",                            NodeErrorKind::InvalidTransaction),     // anvil
    ("rlp:",                                        NodeErrorKind::InvalidTransaction),     // geth, erigon
    ("failedtoresolvesender",                       NodeErrorKind::InvalidTransaction),     // nethermind
    ("failed to recover sender",                    NodeErrorKind::InvalidTransaction),     // nethermind
    ("sender not an eoa",                           NodeErrorKind::InvalidTransaction),     // geth, nethermind
    ("transaction type not supported",              NodeErrorKind::InvalidTransaction),     // geth
    ("invalid transaction type",                    NodeErrorKind::InvalidTransaction),     // besu
    ("oversized data",                              NodeErrorKind::InvalidTransaction),     // geth, erigon
    ("max initcode size exceeded",                  NodeErrorKind::InvalidTransaction),     // geth
    ("only replay-protected",                       NodeErrorKind::InvalidTransaction),     // geth
    ("chainid is required",                         NodeErrorKind::InvalidTransaction),     // besu
    ("execution reverted",                          NodeErrorKind::Reverted),               // all
    ("vm execution error",                          NodeErrorKind::Reverted),               // nethermind, older
    ("transaction reverted",                        NodeErrorKind::Reverted),
    ("out of gas",                                  NodeErrorKind::OutOfGas),               // all
    ("outofgas",                                    NodeErrorKind::OutOfGas),               // anvil
    ("reentrancysentryoog",                         NodeErrorKind::OutOfGas),               // anvil: at a store, EIP-2200
    ("gas for reentrancy sentry",                   NodeErrorKind::OutOfGas),               // geth: the same
    ("gas required exceeds allowance",              NodeErrorKind::OutOfGas),               // geth estimate
    ("rate limit",                                  NodeErrorKind::RateLimited),
    ("too many requests",                           NodeErrorKind::RateLimited),
    ("request limit reached",                       NodeErrorKind::RateLimited),
    ("exceeded the quota",                          NodeErrorKind::RateLimited),
    ("batch too large",                             NodeErrorKind::RangeTooLarge),          // geth
    ("exceeds max batch size",                      NodeErrorKind::RangeTooLarge),          // besu
    ("batch size limit exceeded",                   NodeErrorKind::RangeTooLarge),          // nethermind
    ("batch limit",                                 NodeErrorKind::RangeTooLarge),          // erigon
    ("exceeds maximum rpc range",                   NodeErrorKind::RangeTooLarge),          // besu
    ("query returned more than",                    NodeErrorKind::RangeTooLarge),          // geth-like services
    ("block range",                                 NodeErrorKind::RangeTooLarge),          // several
    ("range too large",                             NodeErrorKind::RangeTooLarge),          // several
    ("exceed max block range",                      NodeErrorKind::RangeTooLarge),
    ("response too large",                          NodeErrorKind::RangeTooLarge),          // geth
    ("response size exceeded",                      NodeErrorKind::RangeTooLarge),
    ("too many logs",                               NodeErrorKind::RangeTooLarge),          // nethermind
    ("header not found",                            NodeErrorKind::BlockUnavailable),       // geth
    ("header for hash not found",                   NodeErrorKind::BlockUnavailable),       // geth
    ("unknown block",                               NodeErrorKind::BlockUnavailable),       // anvil, geth, besu
    ("block not found",                             NodeErrorKind::BlockUnavailable),       // besu, erigon
    ("blockoutofrange",                             NodeErrorKind::BlockUnavailable),       // anvil
    ("missing trie node",                           NodeErrorKind::BlockUnavailable),       // geth
    ("historical state",                            NodeErrorKind::BlockUnavailable),       // geth
    ("world state unavailable",                     NodeErrorKind::BlockUnavailable),       // besu
    ("resource not found",                          NodeErrorKind::BlockUnavailable),
    ("no state available for block",                NodeErrorKind::BlockUnavailable),       // nethermind
    ("could not be found",                          NodeErrorKind::BlockUnavailable),       // nethermind
    ("cannot find block",                           NodeErrorKind::BlockUnavailable),       // erigon
    ("beyond the head",                             NodeErrorKind::BlockUnavailable),
    ("beyond current head",                         NodeErrorKind::BlockUnavailable),       // geth
    ("pruned",                                      NodeErrorKind::BlockUnavailable),
    ("sync is still in progress",                   NodeErrorKind::NodeBusy),               // besu
    ("syncing",                                     NodeErrorKind::NodeBusy),               // nethermind, erigon
    ("transaction pool not enabled",                NodeErrorKind::NodeBusy),               // besu
    ("timeout",                                     NodeErrorKind::NodeBusy),
    ("timed out",                                   NodeErrorKind::NodeBusy),
    ("does not exist/is not available",             NodeErrorKind::MethodNotFound),         // geth
    ("method not found",                            NodeErrorKind::MethodNotFound),
    ("not supported",                               NodeErrorKind::MethodNotFound),
];

/// Says what a node's refusal means.
pub fn classify(code: i64, message: &str, data: Option<&serde_json::Value>) -> NodeError {
    let data_text = data.and_then(revert_text).unwrap_or_default();
    let kind = kind_of(code, &message.to_ascii_lowercase(), &data_text.to_ascii_lowercase());
    let data = data.and_then(revert_data);
    NodeError { kind, code, message: message.to_owned(), data }
}

fn kind_of(code: i64, message: &str, data_text: &str) -> NodeErrorKind {
    // Code 3 is the one portable code: reverted, with data. Its text is the contract's own and must not be searched.
    if code == 3 {
        return NodeErrorKind::Reverted;
    }
    // A revert reason is free text too ("execution reverted: nonce too low").
    if message.starts_with("execution reverted") {
        return NodeErrorKind::Reverted;
    }
    for text in [message, data_text] {
        if let Some((_, kind)) = TABLE.iter().find(|(phrase, _)| text.contains(phrase)) {
            return match kind {
                NodeErrorKind::InsufficientFunds { .. } => funds(text),
                kind => *kind,
            };
        }
    }
    match code {
        429 | -32005 | -32029 => NodeErrorKind::RateLimited,
        -32600 | -32602 => NodeErrorKind::InvalidParams,
        -32601 | -32604 | -32004 => NodeErrorKind::MethodNotFound,
        -32001 | -39001 => NodeErrorKind::BlockUnavailable,
        -32002 => NodeErrorKind::NodeBusy,
        _ => NodeErrorKind::Internal,
    }
}

/// Amounts in the ways nodes word them: `have 1 want 2`, `balance 1, tx cost 2, overshot 1`, `cost 0x2 exceeds ... balance 0x1`.
fn funds(text: &str) -> NodeErrorKind {
    let after = |word: &str| {
        text.split(word).skip(1).find_map(|rest| {
            let digits: String =
                rest.trim_start_matches([' ', ':', '=']).chars().take_while(char::is_ascii_alphanumeric).collect();
            match digits.strip_prefix("0x") {
                // An address also begins with 0x; an amount of wei never needs 40 digits.
                Some(hex) if !hex.is_empty() && hex.len() < 40 => U256::from_str_radix(hex, 16).ok(),
                Some(_) => None,
                None if !digits.is_empty() => U256::from_str_radix(&digits, 10).ok(),
                None => None,
            }
        })
    };
    NodeErrorKind::InsufficientFunds {
        needed_wei: after("want").or_else(|| after("cost")).or_else(|| after("required")),
        available_wei: after("have").or_else(|| after("balance")).or_else(|| after("balance is")),
    }
}

/// Hex revert data: directly, or inside `{data: ..}` (some proxies), or behind "Reverted 0x.." (OpenEthereum style).
fn revert_data(data: &serde_json::Value) -> Option<Bytes> {
    match data {
        serde_json::Value::String(text) => text.trim_start_matches("Reverted ").parse().ok(),
        serde_json::Value::Object(map) => map.get("data").or_else(|| map.get("result")).and_then(revert_data),
        _ => None,
    }
}

fn revert_text(data: &serde_json::Value) -> Option<String> {
    match data {
        serde_json::Value::String(text) if !text.starts_with("0x") => Some(text.clone()),
        _ => None,
    }
}

// === impl NodeErrorKind ===

impl NodeErrorKind {
    /// Whether the refusal speaks about the node and not about the request, so that another node, or the same node later,
    /// may answer. All others are definite: they are returned at once and never held against the upstream.
    pub fn is_about_the_node(&self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::BlockUnavailable | Self::MethodNotFound | Self::NodeBusy | Self::Internal
        )
    }
}
