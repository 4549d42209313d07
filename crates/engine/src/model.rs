//! Identifiers, and what readers see.

use crate::{
    checker::CheckView,
    flow::Failure,
    states::{OperationState, TransactionState},
};
use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is; its form is checked where it enters the platform.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

uuid_id! {
    /// An operation. Version 7, so that newer ones sort later.
    OperationId
}
uuid_id! {
    /// A transaction of an operation: derived from operation and step, so a flow asked twice names the same one.
    TransactionId
}
uuid_id! {
    /// A request to the signer: derived from transaction and attempt, so a restarted engine asks for the same signature.
    RequestId
}
text_id! {
    /// A tenant.
    TenantId
}
text_id! {
    /// A service that owns operations, and the schema role it works under.
    ServiceName
}

/// Namespace of the derived identifiers.
const NAMESPACE: Uuid = Uuid::from_u128(0x6461_6c70_2d65_5e67_896e_652d_6964_7321);

/// One nonce sequence: a sender on a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LaneId {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Sending address.
    pub sender: Address,
}

/// An operation as readers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationView {
    /// Identifier.
    pub operation_id: OperationId,
    /// Owner of the data.
    pub tenant: TenantId,
    /// Who asked for it.
    pub principal: String,
    /// Kind of its flow, for instance `asset.transfer`.
    pub kind: String,
    /// Where it stands.
    pub state: OperationState,
    /// What the flow ended with, once COMPLETED.
    pub result: Option<serde_json::Value>,
    /// Why it failed, once FAILED.
    pub error: Option<Failure>,
    /// In the order of their steps; empty in lists.
    pub transactions: Vec<TransactionView>,
    /// What holds it for a second person, or held it; absent: no policy ever did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckView>,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it or one of its transactions last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A transaction as readers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransactionView {
    /// Identifier.
    pub transaction_id: TransactionId,
    /// Step of the flow that ordered it.
    pub step: String,
    /// Where it is sent from.
    pub lane: LaneId,
    /// Called contract; absent for a creation.
    pub target: Option<Address>,
    /// Where it stands.
    pub state: TransactionState,
    /// Finer detail, empty when there is none.
    pub sub_status: String,
    /// Nonce, once bound.
    pub nonce: Option<u64>,
    /// Hash of the newest signed attempt, or of the included one.
    pub tx_hash: Option<B256>,
    /// Block of the receipt, once included.
    pub block_number: Option<u64>,
    /// Gas used, once included.
    pub gas_used: Option<u64>,
    /// Why it failed, once FAILED or DEAD_LETTER.
    pub error: Option<Failure>,
    /// Counted actions, oldest first.
    pub history: Vec<ActionView>,
}

/// One counted action on a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionView {
    /// What was done, for instance `estimate_gas`.
    pub action: String,
    /// How often in a row.
    pub tries: u32,
    /// Last error of it, empty if none.
    pub last_error: String,
    /// When it last happened.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// Which operations to list.
#[derive(Debug, Clone, Default)]
pub struct OperationFilter {
    /// Only this state.
    pub state: Option<OperationState>,
    /// Only this kind.
    pub kind: Option<String>,
}

/// What an operation was asked for, as its service stored it.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderView {
    /// Owner.
    pub tenant: TenantId,
    /// The operation.
    pub operation_id: OperationId,
    /// Its kind.
    pub kind: String,
    /// The canonical command with what was resolved at acceptance.
    pub order: serde_json::Value,
}

/// A page of operations, newest first.
#[derive(Debug, Clone)]
pub struct OperationPage {
    /// Without their transactions.
    pub operations: Vec<OperationView>,
    /// Give it back as `after` for the next page; absent on the last one.
    pub next: Option<OperationId>,
}

/// Position in the outbox, in commit order: whatever commits later stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct OutboxCursor {
    /// PostgreSQL transaction that wrote the event.
    pub xid: u64,
    /// Number of the event.
    pub sequence: i64,
}

/// One event of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxEvent {
    /// Where it stands.
    pub cursor: OutboxCursor,
    /// Owner.
    pub tenant: TenantId,
    /// `<area>.<noun>.<pending|final|retracted|recalled>`.
    pub topic: String,
    /// The resource, an operation or transaction id.
    pub subject: String,
    /// Operation it belongs to.
    pub operation_id: OperationId,
    /// Content.
    pub body: serde_json::Value,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

// === impl OperationId ===

impl OperationId {
    /// A fresh identifier.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

// === impl TransactionId ===

impl TransactionId {
    /// The transaction that a step of an operation orders.
    pub fn of_step(operation: OperationId, step: &str) -> Self {
        Self(Uuid::new_v5(&operation.0, step.as_bytes()))
    }
}

// === impl RequestId ===

impl RequestId {
    /// The signer request of a transaction's attempt.
    pub fn of_attempt(transaction: TransactionId, attempt: u32) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("{transaction}/{attempt}").as_bytes()))
    }

    /// The signer request of a signature step.
    pub fn of_step(operation: OperationId, step: &str) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("{operation}#{step}").as_bytes()))
    }
}

// === impl LaneId ===

impl fmt::Display for LaneId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.chain_id, self.sender)
    }
}

// === impl OutboxCursor ===

impl fmt::Display for OutboxCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.xid, self.sequence)
    }
}

impl std::str::FromStr for OutboxCursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (xid, sequence) = text.split_once('-').ok_or_else(|| format!("not an event cursor: {text}"))?;
        let bad = |error: std::num::ParseIntError| format!("not an event cursor: {error}");
        Ok(Self { xid: xid.parse().map_err(bad)?, sequence: sequence.parse().map_err(bad)? })
    }
}
