//! When a veto counts. Nodes lag: what one service has seen confirmed another's node may not have heard of, and a veto is final. So a refusal is looked
//! at again some blocks later, unless the operator says that all nodes are one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
use uuid::Uuid;

/// Requests remembered; beyond it the oldest doubts are forgotten, which only makes a veto take longer.
const REMEMBERED: usize = 65_536;

/// One doubt.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// Height from which blocks are counted.
    since: u64,
    /// Highest that was looked at.
    highest: u64,
}

/// Requests that looked refusable once.
#[derive(Debug, Default)]
pub struct Doubts {
    first_seen: Mutex<HashMap<Uuid, Doubt>>,
}

impl Doubts {
    /// Whether a refusal seen at this height counts now; `after_blocks` must lie between the first look and this one.
    pub fn confirms(&self, request_id: Uuid, height: u64, after_blocks: u64) -> bool {
        if after_blocks == 0 {
            return true;
        }
        let mut first_seen = self.first_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if first_seen.len() >= REMEMBERED && !first_seen.contains_key(&request_id) {
            let median = median(first_seen.values().map(|doubt| doubt.since));
            first_seen.retain(|_, doubt| doubt.since > median);
        }
        let doubt = first_seen.entry(request_id).or_insert(Doubt { since: height, highest: height });
        // A reorganisation or a slower node has made the chain shorter: the doubt begins anew, and where the chain was highest, for the blocks up to there
        // have not been added since.
        if height < doubt.highest {
            doubt.since = doubt.highest;
        }
        doubt.highest = doubt.highest.max(height);
        // Remembered all the same: of a payload that several chains are asked about, each must say so again until the last one does.
        height.saturating_sub(doubt.since) >= after_blocks
    }

    /// It passed after all.
    pub fn settle(&self, request_id: Uuid) {
        self.first_seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&request_id);
    }
}

fn median(heights: impl Iterator<Item = u64>) -> u64 {
    let mut heights: Vec<u64> = heights.collect();
    heights.sort_unstable();
    heights.get(heights.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_once_it_was_seen_at_two_heights() {
        let (doubts, id) = (Doubts::default(), Uuid::from_u128(1));
        assert!(!doubts.confirms(id, 10, 2));
        assert!(!doubts.confirms(id, 11, 2));
        assert!(!doubts.confirms(Uuid::from_u128(2), 12, 2), "each request has its own doubt");
        assert!(doubts.confirms(id, 12, 2));
        assert!(doubts.confirms(id, 13, 2), "what is decided stays so until it passes");
        assert!(doubts.confirms(id, 10, 0));
    }

    #[test]
    fn a_node_that_lags_confirms_nothing() {
        let (doubts, id) = (Doubts::default(), Uuid::from_u128(1));
        for height in [10, 8, 10, 11, 9, 11, 12] {
            assert!(!doubts.confirms(id, height, 2), "{height}");
        }
        assert!(doubts.confirms(id, 13, 2), "two blocks after the highest that was seen before it fell");
    }

    #[test]
    fn what_passed_begins_anew() {
        let (doubts, id) = (Doubts::default(), Uuid::from_u128(1));
        assert!(!doubts.confirms(id, 10, 2));
        doubts.settle(id);
        assert!(!doubts.confirms(id, 12, 2));
    }

    #[test]
    fn memory_is_bounded() {
        let doubts = Doubts::default();
        for number in 0..(REMEMBERED as u64 + 10) {
            assert!(!doubts.confirms(Uuid::from_u128(u128::from(number)), number, 2));
        }
        assert!(doubts.first_seen.lock().unwrap().len() <= REMEMBERED);
    }
}
