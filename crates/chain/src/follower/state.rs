//! The decision of a follower: pure, no clock, no network.

use crate::types::{BlockHeader, BlockRef};
use std::collections::VecDeque;

/// How many remembered blocks are compared per request while looking for the fork.
const COMPARED_AT_ONCE: usize = 32;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing new.
    Idle,
    /// These blocks come next.
    Advance {
        /// First height.
        from: u64,
        /// Last height, inclusive.
        to: u64,
    },
    /// The chain has forked below the tip: everything above `to` is to be retracted. `None`: everything.
    Rewind {
        /// Last block that both chains have.
        to: Option<BlockRef>,
    },
    /// Cannot tell yet: show me the chain's headers of these heights.
    Need(Vec<u64>),
}

/// The fork is below everything remembered, so that what must be undone is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chain has forked below block {oldest}, the oldest that is remembered")]
pub struct HistoryLost {
    /// Oldest remembered height.
    pub oldest: u64,
}

/// Which blocks are applied, and what follows from what the chain shows now.
#[derive(Debug, Clone)]
pub struct FollowerState {
    start_block: u64,
    keep: usize,
    /// Oldest first, strictly rising, not necessarily without gaps (old blocks without logs are skipped).
    applied: VecDeque<BlockRef>,
    /// Nothing was ever applied below the oldest remembered block.
    complete: bool,
}

// === impl FollowerState ===

impl FollowerState {
    /// Continues after `applied` (oldest first), or begins at `start_block`. Remembers the newest `keep` blocks.
    pub fn resume(start_block: u64, keep: usize, applied: Vec<BlockRef>) -> Self {
        let complete = applied.first().is_none_or(|oldest| oldest.number <= start_block);
        let mut state = Self { start_block, keep: keep.max(1), applied: applied.into(), complete };
        state.trim();
        state
    }

    /// Newest applied block.
    pub fn tip(&self) -> Option<BlockRef> {
        self.applied.back().copied()
    }

    /// Next height to apply.
    pub fn next_number(&self) -> u64 {
        self.tip().map_or(self.start_block, |tip| tip.number + 1)
    }

    /// Decides from the head and whatever other headers of the present chain are at hand.
    pub fn decide(&self, head: &BlockHeader, shown: &[BlockHeader]) -> Result<Decision, HistoryLost> {
        let at = |number: u64| {
            if head.number == number { Some(head) } else { shown.iter().find(|header| header.number == number) }
        };
        let Some(tip) = self.tip() else {
            return Ok(self.advance_to(head.number));
        };
        if head.number < tip.number {
            // A node that lags, or a chain that got shorter. What stands at or below the head tells.
            let Some(below) = self.applied.iter().rev().find(|block| block.number <= head.number) else {
                return Ok(Decision::Idle);
            };
            return match at(below.number) {
                None => Ok(Decision::Need(vec![below.number])),
                Some(header) if header.hash == below.hash => Ok(Decision::Idle),
                Some(_) => self.find_fork(head, at),
            };
        }
        let tip_is_gone = at(tip.number).is_some_and(|header| header.hash != tip.hash);
        let next_is_foreign = at(tip.number + 1).is_some_and(|header| header.parent_hash != tip.hash);
        if tip_is_gone || next_is_foreign {
            return self.find_fork(head, at);
        }
        Ok(self.advance_to(head.number))
    }

    /// How many of these headers, oldest first, continue the tip without a break.
    pub fn linked(&self, headers: &[BlockHeader]) -> usize {
        let mut expected_parent = self.tip().map(|tip| tip.hash);
        let continues = |(expected_number, header): &(u64, &BlockHeader)| {
            let links =
                header.number == *expected_number && expected_parent.is_none_or(|hash| hash == header.parent_hash);
            expected_parent = Some(header.hash);
            links
        };
        (self.next_number()..).zip(headers).take_while(continues).count()
    }

    /// Blocks above `to`, newest first: what a rewind retracts.
    pub fn above(&self, to: Option<BlockRef>) -> Vec<BlockRef> {
        self.applied.iter().rev().take_while(|block| to.is_none_or(|to| block.number > to.number)).copied().collect()
    }

    /// The sink has committed this block.
    pub fn committed(&mut self, block: BlockRef) {
        debug_assert!(self.tip().is_none_or(|tip| tip.number < block.number), "blocks are applied in order");
        self.applied.push_back(block);
        self.trim();
    }

    /// The sink has committed a rewind.
    pub fn rewound(&mut self, to: Option<BlockRef>) {
        while self.tip().is_some_and(|tip| to.is_none_or(|to| tip.number > to.number)) {
            self.applied.pop_back();
        }
    }

    fn advance_to(&self, head: u64) -> Decision {
        let from = self.next_number();
        if from > head { Decision::Idle } else { Decision::Advance { from, to: head } }
    }

    /// Newest remembered block that the present chain also has.
    fn find_fork<'a>(
        &self,
        head: &BlockHeader,
        at: impl Fn(u64) -> Option<&'a BlockHeader>,
    ) -> Result<Decision, HistoryLost> {
        let mut unknown = Vec::new();
        for block in self.applied.iter().rev().filter(|block| block.number <= head.number) {
            match at(block.number) {
                // The newest match counts, so an unknown block above it must be looked at first.
                Some(header) if header.hash == block.hash && unknown.is_empty() => {
                    return Ok(Decision::Rewind { to: Some(*block) });
                }
                Some(_) => {}
                None => unknown.push(block.number),
            }
            if unknown.len() == COMPARED_AT_ONCE {
                break;
            }
        }
        if !unknown.is_empty() {
            return Ok(Decision::Need(unknown));
        }
        match self.applied.front() {
            Some(oldest) if !self.complete => Err(HistoryLost { oldest: oldest.number }),
            _ => Ok(Decision::Rewind { to: None }),
        }
    }

    fn trim(&mut self) {
        while self.applied.len() > self.keep {
            self.applied.pop_front();
            self.complete = false;
        }
    }
}
