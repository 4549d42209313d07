//! What the lanes of a chain know of it between two looks: prices, read once a block, and what calls of a kind need.

use crate::store::QueuedTransaction;
use alloy::primitives::Address;
use dalp_chain::FeeInputs;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Kinds remembered; more than a service has contracts and functions.
const MOST_KINDS: usize = 10_000;

/// A lower block than the known one is another node's view for this long; after that the chain itself went back.
const LAG: Duration = Duration::from_secs(2);

/// Shared by the lanes of one chain.
#[derive(Debug, Default)]
pub(crate) struct Market {
    inputs: Mutex<Option<(FeeInputs, Instant)>>,
    gas: Mutex<HashMap<CallKind, u64>>,
}

/// Calls that need about the same gas: the same function of the same contract, with as many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallKind {
    target: Address,
    selector: [u8; 4],
    data_length: usize,
}

// === impl Market ===

impl Market {
    /// Remembers what a block says of prices. A node that lags behind does not turn it back.
    pub(crate) fn saw(&self, inputs: FeeInputs) {
        let mut known = locked(&self.inputs);
        let lags = known.is_some_and(|(known, seen)| inputs.block_number < known.block_number && seen.elapsed() < LAG);
        if !lags {
            *known = Some((inputs, Instant::now()));
        }
    }

    /// What was seen at most `at_most` ago.
    pub(crate) fn inputs(&self, at_most: Duration) -> Option<FeeInputs> {
        (*locked(&self.inputs)).filter(|(_, seen)| seen.elapsed() <= at_most).map(|(inputs, _)| inputs)
    }

    /// Gas that sufficed for calls of the kind.
    pub(crate) fn gas(&self, kind: Option<CallKind>) -> Option<u64> {
        locked(&self.gas).get(&kind?).copied()
    }

    /// A call of the kind needed this much.
    pub(crate) fn learn_gas(&self, kind: Option<CallKind>, needed: u64) {
        let Some(kind) = kind else { return };
        let mut gas = locked(&self.gas);
        if gas.len() >= MOST_KINDS && !gas.contains_key(&kind) {
            gas.clear();
        }
        let known = gas.entry(kind).or_default();
        *known = needed.max(*known);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl CallKind ===

impl CallKind {
    /// The kind of a call. `None`: a creation, each of which is its own.
    pub(crate) fn of(transaction: &QueuedTransaction) -> Option<Self> {
        let selector = transaction.data.first_chunk().copied().unwrap_or_default();
        Some(Self { target: transaction.target?, selector, data_length: transaction.data.len() })
    }
}
