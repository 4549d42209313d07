//! Durable operations on EVM chains: accepted once, carried out exactly once, or definitely refused.
//!
//! In reading order:
//! - [`model`]: identifiers, what an operation and a transaction look like to a reader.
//! - [`states`]: the one table of transaction states.
//! - [`flow`]: flows as pure functions that are asked again at every wake-up.
//! - [`signer`]: what the engine needs of a signer, and the adapter to svc-signer.
//! - [`Engine`]: admission and the workers.
//! - [`checker`]: what policies hold for a second person, and what decisions about it do.
//! - [`Reader`]: operations and the outbox for whoever has only a connection pool.
//! - [`custody`]: what waits at the providers of keys, and what callers are told meanwhile.
//! - [`operator`]: lanes and single transactions, what holds them, and what may be asked of them; also with a pool alone.
//! - [`group`]: what callers ask for at the same time, done in one statement.
//! - [`probe`]: what a running engine can tell of its nodes. [`doctor`]: what is well, what is not, and what to do.
//!
//! Safety never rests on a lease: `unique (chain, sender, nonce)` in a table that is never trimmed, and triggers that make
//! what was written once unchangeable, decide. Leases only save work.
#![forbid(unsafe_code)]

pub mod audit;
pub mod checker;
pub mod custody;
pub mod doctor;
mod engine;
mod error;
pub mod flow;
pub mod group;
mod jitter;
pub mod metric_definitions;
pub mod model;
mod named;
pub mod operator;
pub mod probe;
mod quota;
mod reader;
pub mod signer;
#[cfg(feature = "sim")]
pub mod sim;
pub mod states;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;
mod worker;

pub use checker::{Amounts, Question};
pub use engine::{AcceptHook, Accepted, Admission, Engine, EngineConfig, StartError};
pub use error::{AdmitError, StoreError};
pub use flow::{
    Call, Cx, Decoder, Failure, Flow, Flows, Mined, PreCheck, Priority, Secret, SignDocument, Signature, Step, Suspend,
};
pub use model::{
    ActionView, LaneId, OperationFilter, OperationId, OperationPage, OperationView, OrderView, OutboxCursor,
    OutboxEvent, RequestId, ServiceName, TenantId, TransactionId, TransactionView,
};
pub use operator::Operator;
pub use reader::{CancelError, Hints, Reader};
pub use states::{OperationState, TransactionState};
pub use store::{CallLeaf, audit_leaf, call_leaves, events_of, migrate, pool};
