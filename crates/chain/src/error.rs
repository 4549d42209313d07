//! What can go wrong between us and a chain.

use crate::node_error::NodeError;
use alloy::primitives::Bytes;
use std::time::Duration;

/// One upstream did not give an answer. Says nothing about the request itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Connection refused, reset, TLS failure and the like.
    #[error("connection failed: {0}")]
    Connect(String),
    /// No complete answer within the configured time. The request may have been carried out all the same.
    #[error("no answer in time")]
    Timeout,
    /// HTTP status without a usable JSON-RPC body.
    #[error("HTTP status {0}")]
    Status(u16),
    /// The node asks for fewer requests.
    #[error("rate limited")]
    RateLimited {
        /// `Retry-After`, if the node gave one.
        retry_after: Option<Duration>,
    },
    /// A body that is not JSON-RPC, or answers another request.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// The upstream serves another chain, and is not used until it serves ours.
    #[error("serves chain {found}, expected {expected}")]
    WrongChain {
        /// Configured chain id.
        expected: u64,
        /// What the upstream says.
        found: u64,
    },
}

/// No upstream of the chain gave an answer. Retryable: the caller's work waits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no upstream of chain {chain_id} answered {method} ({tried} tried, last: {last})")]
pub struct Unavailable {
    /// The chain.
    pub chain_id: u64,
    /// JSON-RPC method (the first one of a batch).
    pub method: String,
    /// How many upstreams were tried.
    pub tried: usize,
    /// What the last of them did.
    pub last: String,
}

/// A read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A node understood the request and refused it.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No node answered.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The node answered something of another shape than the method promises.
    #[error("unexpected answer to {method}: {reason}")]
    Malformed {
        /// JSON-RPC method.
        method: String,
        /// What was wrong with it.
        reason: String,
    },
}

/// A simulated call or an estimate failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The contract reverted, with its return data (empty if it gave none, or the node hides it).
    #[error("execution reverted: {0}")]
    Revert(Bytes),
    /// The node refused the call for another reason.
    #[error(transparent)]
    Node(NodeError),
    /// No node answered. Retryable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The pool cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The configuration is not usable.
    #[error("chain configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Every upstream that answered serves another chain.
    #[error("every upstream serves another chain than {expected}: {found:?}")]
    WrongChain {
        /// Configured chain id.
        expected: u64,
        /// Upstream name and the chain id that it serves.
        found: Vec<(String, u64)>,
    },
    /// The HTTP client could not be built.
    #[error("HTTP client: {0}")]
    Client(String),
}

// === impl ChainError ===

impl ChainError {
    /// Whether the same request may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Node(error) => error.kind.is_about_the_node(),
            Self::Unavailable(_) | Self::Malformed { .. } => true,
        }
    }
}

impl From<ChainError> for CallError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Node(NodeError { kind: crate::NodeErrorKind::Reverted, data, .. }) => {
                Self::Revert(data.unwrap_or_default())
            }
            ChainError::Node(error) => Self::Node(error),
            ChainError::Unavailable(error) => Self::Unavailable(error),
            ChainError::Malformed { method, reason } => Self::Node(NodeError {
                kind: crate::NodeErrorKind::Internal,
                code: 0,
                message: format!("unexpected answer to {method}: {reason}"),
                data: None,
            }),
        }
    }
}

impl CallError {
    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Revert(_) => false,
            Self::Node(error) => error.kind.is_about_the_node(),
            Self::Unavailable(_) => true,
        }
    }
}
