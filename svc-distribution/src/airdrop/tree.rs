//! Trees of recipients, equal to those of `StandardMerkleTree.of(rows, ["uint256", "address", "uint256"], { sortLeaves: false })` of the
//! npm package `@openzeppelin/merkle-tree`: a complete binary tree in an array, root first, leaves at its end in reverse order. A list
//! keeps its order in the tree, so that rows that stand together prove together in few hashes.
//!
//! A long list is cut into parts with a tree each: proofs stay short, and no proof needs more of the list than its part.

use super::list::Recipient;
use alloy::primitives::{B256, U256};
use dalp_contracts::encode::{airdrop_leaf, merkle_node};

/// The most trees of an airdrop; the contract's own bound.
const MAX_PARTS: u64 = 256;
/// Rows of a part that is pushed: the service makes its tree again for each batch.
const PUSHED_PART: u64 = 4_096;
/// The smallest part that is claimed from: each level costs a claim some 760 gas, each part the creation some 7,200.
const CLAIMED_PART: u64 = 16;

/// A tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    nodes: Vec<B256>,
    leaves: usize,
}

/// One proof of several leaves, as `MerkleProof.multiProofVerify` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiProof {
    /// Nodes that do not follow from the leaves.
    pub proof: Vec<B256>,
    /// Of each step: whether its second node follows from the leaves.
    pub flags: Vec<bool>,
}

/// How a list is cut into trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Rows of each tree but the last; zero when one holds all rows.
    pub rows_per_root: u64,
}

// === impl Parts ===

impl Parts {
    /// For a list that the issuer pushes.
    #[must_use]
    pub fn pushed(rows: usize) -> Self {
        Self { rows_per_root: if rows as u64 <= PUSHED_PART { 0 } else { PUSHED_PART } }
    }

    /// For a list that recipients claim from.
    #[must_use]
    pub fn claimed(rows: usize) -> Self {
        let rows = rows as u64;
        if rows <= CLAIMED_PART {
            return Self { rows_per_root: 0 };
        }
        let rows_per_root = rows.div_ceil(MAX_PARTS).next_power_of_two().max(CLAIMED_PART);
        Self { rows_per_root: if rows_per_root >= rows { 0 } else { rows_per_root } }
    }

    /// The rows of the tree in which a row stands: the first, and how many at most.
    #[must_use]
    pub fn of_row(self, index: u64) -> (u64, u64) {
        match self.rows_per_root {
            0 => (0, u64::MAX),
            rows => (index / rows * rows, rows),
        }
    }

    /// The roots of a list, in order.
    #[must_use]
    pub fn roots(self, rows: &[Recipient]) -> Vec<B256> {
        let per_root = if self.rows_per_root == 0 { rows.len() as u64 } else { self.rows_per_root };
        let size = usize::try_from(per_root).unwrap_or(usize::MAX).max(1);
        rows.chunks(size).enumerate().map(|(part, rows)| Tree::of_part((part * size) as u64, rows).root()).collect()
    }
}

// === impl Tree ===

impl Tree {
    /// The tree of rows that stand together in a list, the first of them at `first`.
    #[must_use]
    pub fn of_part(first: u64, rows: &[Recipient]) -> Self {
        let leaf = |(place, row): (usize, &Recipient)| {
            airdrop_leaf(U256::from(first + place as u64), row.account, U256::from(row.amount))
        };
        Self::of_leaves(rows.iter().enumerate().map(leaf))
    }

    /// The tree of leaves.
    ///
    /// # Panics
    /// When there is none: a list without recipients is refused before.
    #[must_use]
    pub fn of_leaves(leaves: impl DoubleEndedIterator<Item = B256> + ExactSizeIterator) -> Self {
        let count = leaves.len();
        assert!(count > 0, "a tree has leaves");
        let mut nodes = vec![B256::ZERO; count - 1];
        nodes.extend(leaves.rev());
        for node in (0..count - 1).rev() {
            nodes[node] = merkle_node(nodes[2 * node + 1], nodes[2 * node + 2]);
        }
        Self { nodes, leaves: count }
    }

    /// What all of it hashes to.
    #[must_use]
    pub fn root(&self) -> B256 {
        self.nodes[0]
    }

    /// The siblings on the way from a leaf to the root.
    #[must_use]
    pub fn proof(&self, leaf: usize) -> Vec<B256> {
        let mut node = self.node_of(leaf);
        let mut proof = Vec::new();
        while node > 0 {
            proof.push(self.nodes[sibling(node)]);
            node = (node - 1) / 2;
        }
        proof
    }

    /// One proof of leaves in ascending order.
    #[must_use]
    pub fn multi_proof(&self, leaves: &[usize]) -> MultiProof {
        let (mut proof, mut flags) = (Vec::new(), Vec::new());
        // The verifier works through a queue that begins with the leaves, and so does this.
        let mut queue: std::collections::VecDeque<usize> = leaves.iter().map(|leaf| self.node_of(*leaf)).collect();
        while let Some(node) = queue.pop_front().filter(|node| *node > 0) {
            let follows = queue.front() == Some(&sibling(node));
            match follows {
                true => drop(queue.pop_front()),
                false => proof.push(self.nodes[sibling(node)]),
            }
            flags.push(follows);
            queue.push_back((node - 1) / 2);
        }
        if leaves.is_empty() {
            proof.push(self.root());
        }
        MultiProof { proof, flags }
    }

    fn node_of(&self, leaf: usize) -> usize {
        debug_assert!(leaf < self.leaves, "a leaf of this tree");
        self.nodes.len() - 1 - leaf
    }
}

/// Odd nodes are left, even ones right; the root is neither.
fn sibling(node: usize) -> usize {
    if node % 2 == 1 { node + 1 } else { node - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{Address, b256};
    use std::collections::VecDeque;

    fn rows(count: u64) -> Vec<Recipient> {
        let row = |n: u64| Recipient {
            account: Address::from_word(U256::from(0xa0000 + n).into()),
            amount: u128::from(1_000 * (n + 1)),
        };
        (0..count).map(row).collect()
    }

    /// As the contract verifies.
    fn verify(leaves: Vec<B256>, MultiProof { proof, flags }: &MultiProof) -> B256 {
        let (mut queue, mut proof) = (VecDeque::from(leaves), proof.iter());
        for follows in flags {
            let one = queue.pop_front().unwrap();
            let other = if *follows { queue.pop_front().unwrap() } else { *proof.next().unwrap() };
            queue.push_back(merkle_node(one, other));
        }
        let left = queue.pop_front().or_else(|| proof.next().copied()).unwrap();
        assert!(queue.is_empty() && proof.next().is_none(), "nothing is left over");
        left
    }

    fn leaf(tree: &Tree, leaf: usize) -> B256 {
        tree.nodes[tree.node_of(leaf)]
    }

    /// The vectors of `dalp_contracts::encode`.
    #[test]
    fn a_tree_is_the_one_of_openzeppelin() {
        let tree = Tree::of_part(0, &rows(7));
        assert_eq!(tree.root(), b256!("0xc6b9e1caba9e45c023012f5244d1e4dca873f32ebbca73ec84214a75d1c4de7f"));
        assert_eq!(tree.proof(3)[0], b256!("0xd11770a2a0a393739a5bdd5cdeec5165ae06a8f5cb74f2c502144b20b3d65250"));
    }

    #[test]
    fn every_leaf_and_every_run_of_leaves_proves() {
        for count in 1..40 {
            let tree = Tree::of_part(5, &rows(count));
            for first in 0..count as usize {
                let climbed = tree.proof(first).into_iter().fold(leaf(&tree, first), merkle_node);
                assert_eq!(climbed, tree.root(), "{first} of {count}");
                for end in first..=count as usize {
                    let run: Vec<usize> = (first..end).collect();
                    let proven = verify(run.iter().map(|one| leaf(&tree, *one)).collect(), &tree.multi_proof(&run));
                    assert_eq!(proven, tree.root(), "{run:?} of {count}");
                }
            }
            let odd: Vec<usize> = (0..count as usize).filter(|one| one % 3 == 1).collect();
            let proven = verify(odd.iter().map(|one| leaf(&tree, *one)).collect(), &tree.multi_proof(&odd));
            assert_eq!(proven, tree.root(), "{odd:?} of {count}");
        }
    }

    #[test]
    fn rows_that_stand_together_prove_in_few_hashes() {
        let tree = Tree::of_part(0, &rows(1_000));
        let run: Vec<usize> = (300..400).collect();
        assert!(tree.multi_proof(&run).proof.len() <= 18, "two edges of the tree");
    }

    #[test]
    fn parts_are_within_the_bounds_of_the_contract() {
        for (rows, pushed, claimed) in
            [(1, 0, 0), (16, 0, 0), (17, 0, 16), (4_096, 0, 16), (4_097, 4_096, 32), (1_000_000, 4_096, 4_096)]
        {
            assert_eq!(
                (Parts::pushed(rows).rows_per_root, Parts::claimed(rows).rows_per_root),
                (pushed, claimed),
                "{rows}"
            );
        }
        for rows in [17, 1_000, 65_536, 1_000_000] {
            for parts in [Parts::pushed(rows), Parts::claimed(rows)] {
                let count = if parts.rows_per_root == 0 { 1 } else { (rows as u64).div_ceil(parts.rows_per_root) };
                assert!(count <= MAX_PARTS && (count == 1) == (parts.rows_per_root == 0), "{rows}: {count}");
            }
        }
    }

    #[test]
    fn a_row_stands_in_the_tree_of_its_part() {
        let (rows, parts) = (rows(40), Parts::claimed(40));
        let roots = parts.roots(&rows);
        assert_eq!((parts.rows_per_root, roots.len()), (16, 3));
        let (first, count) = parts.of_row(35);
        assert_eq!((first, count), (32, 16));
        assert_eq!(Tree::of_part(first, &rows[32..]).root(), roots[2]);
    }
}
