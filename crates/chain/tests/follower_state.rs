//! The follower's decision, without a chain: any sequence of forks ends with exactly the present chain applied.

use alloy::primitives::B256;
use dalp_chain::{
    BlockHeader, BlockRef,
    follower::{Decision, FollowerState, HistoryLost},
};
use proptest::prelude::*;

/// A chain from fork ids per height: each hash is made from the branch below.
fn chain(branch: &[u8]) -> Vec<BlockHeader> {
    let mut parent_hash = B256::ZERO;
    let block = |(number, id): (usize, &u8)| {
        let hash = alloy::primitives::keccak256([parent_hash.as_slice(), &[*id]].concat());
        let header = BlockHeader {
            number: number as u64,
            hash,
            parent_hash,
            timestamp_s: 0,
            base_fee_wei: None,
            gas_limit: 0,
            transactions: Vec::new(),
        };
        parent_hash = hash;
        header
    };
    branch.iter().enumerate().map(block).collect()
}

/// Does what the runner does, on a chain in memory.
fn follow(state: &mut FollowerState, applied: &mut Vec<BlockRef>, branch: &[u8]) -> Result<(), HistoryLost> {
    let chain = chain(branch);
    let head = chain.last().cloned().expect("a chain has a block");
    let mut shown = Vec::new();
    for _ in 0..10_000 {
        match state.decide(&head, &shown)? {
            Decision::Idle => return Ok(()),
            Decision::Need(numbers) => shown.extend(numbers.into_iter().map(|number| chain[number as usize].clone())),
            Decision::Rewind { to } => {
                for block in state.above(to) {
                    assert_eq!(applied.pop(), Some(block), "retracted newest first");
                }
                state.rewound(to);
                shown.clear();
            }
            Decision::Advance { from, to } => {
                let headers: Vec<_> = (from..=to.min(from + 3)).map(|number| chain[number as usize].clone()).collect();
                let linked = state.linked(&headers);
                if linked == 0 {
                    shown.extend(headers);
                    continue;
                }
                for header in &headers[..linked] {
                    state.committed(header.block_ref());
                    applied.push(header.block_ref());
                }
            }
        }
    }
    panic!("the follower does not come to rest")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn forks_end_with_the_present_chain(forks in prop::collection::vec((0usize..60, 1usize..70, any::<u8>()), 1..12), restart in any::<bool>()) {
        let mut branch = vec![0u8];
        let (mut state, mut applied) = (FollowerState::resume(0, 1_000, Vec::new()), Vec::new());
        for (keep, grow, id) in forks {
            let kept = keep.min(branch.len()).max(1);
            let top = branch.len();
            branch.truncate(kept);
            // A shorter chain cannot be told from a node that lags, so a fork here ends above the old tip.
            branch.extend(std::iter::repeat_n(id, grow + top - kept));
            if restart {
                state = FollowerState::resume(0, 1_000, applied.clone());
            }
            follow(&mut state, &mut applied, &branch).expect("history is complete");
            let expected: Vec<_> = chain(&branch).iter().map(BlockHeader::block_ref).collect();
            prop_assert_eq!(&applied, &expected);
        }
    }
}

#[test]
fn a_lagging_node_is_no_fork() {
    let branch = [1u8; 20];
    let (mut state, mut applied) = (FollowerState::resume(0, 100, Vec::new()), Vec::new());
    follow(&mut state, &mut applied, &branch).expect("applies");
    assert_eq!(state.decide(&chain(&branch)[12], &[]), Ok(Decision::Idle));
    assert_eq!(state.tip().map(|tip| tip.number), Some(19));
}

#[test]
fn a_fork_to_a_shorter_chain_is_seen_where_it_differs() {
    let (long, mut short) = (vec![1u8; 20], vec![1u8; 15]);
    short[12] = 2;
    let (mut state, mut applied) = (FollowerState::resume(0, 100, Vec::new()), Vec::new());
    follow(&mut state, &mut applied, &long).expect("applies");
    follow(&mut state, &mut applied, &short).expect("rewinds");
    assert_eq!(state.tip(), Some(chain(&short)[14].block_ref()));
}

#[test]
fn a_fork_below_what_is_remembered_is_an_error_and_not_a_guess() {
    let (old, new) = (vec![1u8; 50], vec![2u8; 60]);
    let (mut state, mut applied) = (FollowerState::resume(0, 10, Vec::new()), Vec::new());
    follow(&mut state, &mut applied, &old).expect("applies");
    assert_eq!(follow(&mut state, &mut applied, &new), Err(HistoryLost { oldest: 40 }));
}
