//! Sending signed bytes.

use crate::{
    error::TransportError,
    metric_definitions as metric,
    node_error::{NodeError, NodeErrorKind},
    rpc::{Call, RpcResult},
    upstreams::Upstreams,
};
use alloy::primitives::{Bytes, U256};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How long others may still contradict a refusal. One node refusing for a reason of its own (full pool, late block) must
/// not hide that another one took the transaction; a dead node must not hold a refusal back for a whole timeout.
const GRACE: Duration = Duration::from_millis(500);
const TRANSACTIONS_PER_REQUEST: usize = 100;

/// What the nodes said to signed bytes. Ordered by how much it settles: of several nodes' answers the first one here counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// In a pool. Accepted by a node is not included.
    Accepted,
    /// In a pool already, from an earlier send of the same bytes. A success.
    AlreadyKnown,
    /// The nonce is used on chain: by these bytes, or by another transaction. The receipt tells which.
    NonceTooLow,
    /// Another transaction with this nonce is in the pool: bump more.
    ReplacementUnderpriced,
    /// The sender cannot pay.
    InsufficientFunds {
        /// What the transaction can cost, if the node says so.
        needed_wei: Option<U256>,
        /// What the sender has, if the node says so.
        available_wei: Option<U256>,
    },
    /// The price is below what the pool or the base fee asks.
    Underpriced,
    /// The nonce is further ahead than the pool accepts.
    NonceTooHigh,
    /// The pool takes no more for now.
    PoolFull,
    /// Refused for good, in the node's words.
    Rejected(String),
    /// Nobody gave a definite answer. The bytes may be in a pool all the same: send the same bytes again.
    Unknown(String),
}

impl Upstreams {
    /// Sends signed bytes to every upstream.
    pub async fn send_raw(&self, transaction: Bytes) -> SendOutcome {
        self.send_raw_batch(vec![transaction])
            .await
            .into_iter()
            .next()
            .unwrap_or_else(|| SendOutcome::Unknown("no answer".into()))
    }

    /// Sends many signed transactions, in order, to every upstream at once; few HTTP requests each.
    ///
    /// Returns as soon as some node has every transaction. Slower nodes still get them, in the background, even if the caller
    /// drops this future.
    pub async fn send_raw_batch(&self, transactions: Vec<Bytes>) -> Vec<SendOutcome> {
        let count = transactions.len();
        let nothing_yet = SendOutcome::Unknown("every upstream serves another chain".into());
        let mut merged = vec![nothing_yet; count];
        if count == 0 {
            return merged;
        }
        let calls: Arc<[Call]> = transactions.iter().map(|bytes| ("eth_sendRawTransaction", json!([bytes]))).collect();
        let (answered, mut answers) = mpsc::unbounded_channel(); // at most one message per chunk and upstream
        let usable: Vec<usize> = (0..self.inner().upstreams.len())
            .filter(|index| self.inner().upstreams[*index].health().wrong_chain.is_none())
            .collect();
        for index in usable {
            let (pool, calls, answered) = (self.inner().clone(), calls.clone(), answered.clone());
            tokio::spawn(async move {
                let upstream = &pool.upstreams[index];
                for (chunk_index, chunk) in calls.chunks(TRANSACTIONS_PER_REQUEST).enumerate() {
                    let result = pool.ask(upstream, chunk).await.map_err(|error| format!("{}: {error}", upstream.name));
                    let failed = result.is_err();
                    // Nobody listens any more once another node has them all; this node gets them all the same.
                    let _ = answered.send((chunk_index * TRANSACTIONS_PER_REQUEST, chunk.len(), result));
                    if failed {
                        // Later nonces are of no use behind a hole, and the pool would wait for a dead node chunk by chunk.
                        let rest_from = (chunk_index + 1) * TRANSACTIONS_PER_REQUEST;
                        let reason =
                            format!("{}: {}", upstream.name, TransportError::Connect("gave up after a failure".into()));
                        let _ = answered.send((rest_from, calls.len().saturating_sub(rest_from), Err(reason)));
                        return;
                    }
                }
            });
        }
        drop(answered);

        let mut grace_ends: Option<tokio::time::Instant> = None;
        loop {
            let message = match grace_ends {
                None => answers.recv().await,
                Some(at) => tokio::time::timeout_at(at, answers.recv()).await.unwrap_or(None),
            };
            let Some((offset, length, result)) = message else { break };
            merge(&mut merged[offset.min(count)..(offset + length).min(count)], result);
            if merged.iter().all(SendOutcome::is_in_a_pool) {
                break;
            }
            if grace_ends.is_none() && !merged.iter().any(|outcome| matches!(outcome, SendOutcome::Unknown(_))) {
                grace_ends = Some(tokio::time::Instant::now() + GRACE);
            }
        }
        for outcome in &merged {
            metric::sent(self.config().chain_id, outcome.name());
        }
        merged
    }
}

fn merge(merged: &mut [SendOutcome], result: Result<Vec<RpcResult>, String>) {
    match result {
        Ok(answers) => {
            for (known, answer) in merged.iter_mut().zip(answers) {
                let outcome = SendOutcome::from(answer.map(drop));
                if outcome.rank() <= known.rank() {
                    *known = outcome;
                }
            }
        }
        Err(reason) => {
            for known in merged.iter_mut().filter(|known| matches!(known, SendOutcome::Unknown(_))) {
                *known = SendOutcome::Unknown(reason.clone());
            }
        }
    }
}

// === impl SendOutcome ===

impl SendOutcome {
    /// Whether some node holds the transaction.
    pub fn is_in_a_pool(&self) -> bool {
        matches!(self, Self::Accepted | Self::AlreadyKnown)
    }

    /// For logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AlreadyKnown => "already_known",
            Self::NonceTooLow => "nonce_too_low",
            Self::ReplacementUnderpriced => "replacement_underpriced",
            Self::InsufficientFunds { .. } => "insufficient_funds",
            Self::Underpriced => "underpriced",
            Self::NonceTooHigh => "nonce_too_high",
            Self::PoolFull => "pool_full",
            Self::Rejected(_) => "rejected",
            Self::Unknown(_) => "unknown",
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::AlreadyKnown => 1,
            Self::NonceTooLow => 2,
            Self::ReplacementUnderpriced => 3,
            Self::InsufficientFunds { .. } => 4,
            Self::Underpriced => 5,
            Self::NonceTooHigh => 6,
            Self::PoolFull => 7,
            Self::Rejected(_) => 8,
            Self::Unknown(_) => 9,
        }
    }
}

impl From<Result<(), NodeError>> for SendOutcome {
    fn from(answer: Result<(), NodeError>) -> Self {
        let Err(error) = answer else { return Self::Accepted };
        match error.kind {
            NodeErrorKind::AlreadyKnown => Self::AlreadyKnown,
            NodeErrorKind::NonceTooLow => Self::NonceTooLow,
            NodeErrorKind::NonceTooHigh => Self::NonceTooHigh,
            NodeErrorKind::Underpriced => Self::Underpriced,
            NodeErrorKind::ReplacementUnderpriced => Self::ReplacementUnderpriced,
            NodeErrorKind::InsufficientFunds { needed_wei, available_wei } => {
                Self::InsufficientFunds { needed_wei, available_wei }
            }
            NodeErrorKind::PoolFull => Self::PoolFull,
            kind if kind.is_about_the_node() => Self::Unknown(error.to_string()),
            _ => Self::Rejected(error.to_string()),
        }
    }
}
