//! The Merkle tree of RFC 6962 (section 2.1) and RFC 9162 (section 2.1): hashes, proofs and their verification.
//!
//! Proofs are first said as ranges of leaves ([`inclusion`], [`consistency`]); whoever has the hashes, in memory or in tiles, fills them in.

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Leaves from `start` to before `end`; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first one.
    pub start: u64,
    /// Behind the last one.
    pub end: u64,
}

/// A complete subtree: over `2^height` leaves, the `index`-th of its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// 0: a leaf.
    pub height: u32,
    /// Counted from the left, from 0.
    pub index: u64,
}

/// Hash of a leaf's bytes.
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(bytes);
    hash.finalize().into()
}

/// Hash of two subtrees.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// Root of the tree without a leaf.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The ranges whose hashes prove, from the leaf upwards, that the leaf `index` stands in the tree of `size` leaves. `None`: it has no such
/// leaf.
#[must_use]
pub fn inclusion(index: u64, size: u64) -> Option<Vec<Range>> {
    if index >= size {
        return None;
    }
    let mut proof = Vec::new();
    let mut whole = Range { start: 0, end: size };
    while whole.count() > 1 {
        let (left, right) = whole.halves();
        let (within, beside) = if index < left.end { (left, right) } else { (right, left) };
        proof.push(beside);
        whole = within;
    }
    proof.reverse();
    Some(proof)
}

/// The ranges whose hashes prove that the tree of `first` leaves is the beginning of the tree of `second` leaves. `None`: it cannot be, or it is
/// nothing.
#[must_use]
pub fn consistency(first: u64, second: u64) -> Option<Vec<Range>> {
    if first == 0 || first > second {
        return None;
    }
    let mut proof = Vec::new();
    let mut whole = Range { start: 0, end: second };
    // Whether the subtree at hand is the whole first tree, which the verifier knows.
    let mut is_known = true;
    while whole.end != first {
        let (left, right) = whole.halves();
        if first <= left.end {
            proof.push(right);
            whole = left;
        } else {
            proof.push(left);
            whole = right;
            is_known = false;
        }
    }
    if !is_known {
        proof.push(whole);
    }
    proof.reverse();
    Some(proof)
}

/// Whether a proof shows that the leaf `index` of this hash stands in the tree of `size` leaves with this root.
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    let Some(ranges) = inclusion(index, size) else { return false };
    if ranges.len() != proof.len() {
        return false;
    }
    let reached = ranges.iter().zip(proof).fold(*leaf, |below, (beside, hash)| match beside.start > index {
        true => node_hash(&below, hash),
        false => node_hash(hash, &below),
    });
    reached == *root
}

/// Whether a proof shows that the tree of `first` leaves with `first_root` is the beginning of the tree of `second` leaves with
/// `second_root`. Of the empty tree everything is a continuation.
#[must_use]
pub fn verify_consistency(first: u64, second: u64, first_root: &Hash, second_root: &Hash, proof: &[Hash]) -> bool {
    if first == 0 {
        return proof.is_empty() && *first_root == empty_root();
    }
    let Some(ranges) = consistency(first, second) else { return false };
    if ranges.len() != proof.len() {
        return false;
    }
    // Where the proof begins: at a subtree that it names, or at the whole first tree.
    let names_start = ranges.first().is_some_and(|range| range.end == first);
    let (start, rest) = if names_start { (proof[0], 1) } else { (*first_root, 0) };
    let (mut old, mut new) = (start, start);
    for (range, hash) in ranges.iter().zip(proof).skip(rest) {
        if range.start >= first {
            new = node_hash(&new, hash);
        } else {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
        }
    }
    old == *first_root && new == *second_root
}

// === impl Range ===

impl Range {
    /// How many leaves.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.end - self.start
    }

    /// As the RFC splits more than one leaf: the left half is the largest power of two below the count.
    fn halves(&self) -> (Self, Self) {
        let left = 1 << (63 - (self.count() - 1).leading_zeros());
        let middle = self.start + left;
        (Self { start: self.start, end: middle }, Self { start: middle, end: self.end })
    }

    /// The complete subtrees that it consists of, from left to right. The range must be one of a proof's, or begin at 0: others are
    /// no subtrees.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let (mut start, count) = (self.start, self.count());
        let heights = (0..u64::BITS).rev().filter(|height| count >> height & 1 == 1);
        heights
            .map(|height| {
                let node = Node { height, index: start >> height };
                start += 1 << height;
                node
            })
            .collect()
    }
}

/// Root of the subtrees that [`Range::nodes`] names, from left to right. `None` of none.
#[must_use]
pub fn fold(hashes: impl DoubleEndedIterator<Item = Hash>) -> Option<Hash> {
    hashes.rev().reduce(|right, left| node_hash(&left, &right))
}

/// The right edge of a growing tree: the hashes of its complete subtrees, from the largest to the smallest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    hashes: Vec<Hash>,
}

// === impl CompactRange ===

impl CompactRange {
    /// Continues a tree of `size` leaves. `None`: so many hashes are not its edge.
    #[must_use]
    pub fn from_edge(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        (size.count_ones() as usize == hashes.len()).then_some(Self { size, hashes })
    }

    /// How many leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root as it stands.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(self.hashes.iter().copied()).unwrap_or_else(empty_root)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Leaves of the tests of Certificate Transparency's own implementations of RFC 6962.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    /// Their roots, of 1 to 8 leaves.
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hash(text: &str) -> Hash {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    fn vectors() -> Vec<Hash> {
        LEAVES.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect()
    }

    /// MTH of the RFC, word for word.
    pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            more => {
                let half = more.len().next_power_of_two() / 2;
                node_hash(&naive_root(&more[..half]), &naive_root(&more[half..]))
            }
        }
    }

    /// PATH of the RFC, word for word.
    fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let (mut path, beside) =
            if index < half { (naive_path(index, left), right) } else { (naive_path(index - half, right), left) };
        path.push(naive_root(beside));
        path
    }

    /// SUBPROOF of the RFC, word for word.
    fn naive_subproof(first: usize, leaves: &[Hash], is_whole: bool) -> Vec<Hash> {
        if first == leaves.len() {
            return if is_whole { Vec::new() } else { vec![naive_root(leaves)] };
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let (mut proof, beside) = match first <= half {
            true => (naive_subproof(first, left, is_whole), right),
            false => (naive_subproof(first - half, right, false), left),
        };
        proof.push(naive_root(beside));
        proof
    }

    pub(crate) fn some_leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
    }

    fn filled(ranges: &[Range], leaves: &[Hash]) -> Vec<Hash> {
        ranges.iter().map(|range| naive_root(&leaves[range.start as usize..range.end as usize])).collect()
    }

    #[test]
    fn the_roots_are_those_of_certificate_transparency() {
        assert_eq!(empty_root(), hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        let mut growing = CompactRange::default();
        for (index, leaf) in vectors().iter().enumerate() {
            growing.append(*leaf);
            assert_eq!(growing.root(), hash(ROOTS[index]), "{} leaves", index + 1);
        }
    }

    #[test]
    fn the_proofs_are_those_of_certificate_transparency() {
        let leaves = vectors();
        let of = |index, size: u64| filled(&inclusion(index, size).unwrap(), &leaves[..size as usize]);
        assert_eq!(
            of(0, 8),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
            .map(hash)
        );
        assert_eq!(
            of(5, 8),
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
            .map(hash)
        );
        assert_eq!(of(2, 3), [hash("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125")]);
        let between = |first, second| filled(&consistency(first, second).unwrap(), &leaves);
        assert!(between(1, 1).is_empty());
        assert_eq!(
            between(6, 8),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
            .map(hash)
        );
        assert_eq!(
            between(2, 5),
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ]
            .map(hash)
        );
    }

    #[test]
    fn every_proof_of_every_small_tree_is_the_naive_one_and_holds() {
        for size in 1..=70_u64 {
            let leaves = some_leaves(size);
            let root = naive_root(&leaves);
            for index in 0..size {
                let proof = filled(&inclusion(index, size).unwrap(), &leaves);
                assert_eq!(proof, naive_path(index as usize, &leaves));
                assert!(verify_inclusion(&leaves[index as usize], index, size, &proof, &root));
            }
            for first in 1..=size {
                let proof = filled(&consistency(first, size).unwrap(), &leaves);
                assert_eq!(proof, naive_subproof(first as usize, &leaves, true));
                let first_root = naive_root(&leaves[..first as usize]);
                assert!(verify_consistency(first, size, &first_root, &root, &proof), "{first} of {size}");
            }
        }
        assert_eq!(inclusion(3, 3), None);
        assert_eq!(consistency(4, 3), None);
        assert_eq!(consistency(0, 3), None);
    }

    #[test]
    fn a_range_is_its_complete_subtrees() {
        let nodes = Range { start: 8, end: 15 }.nodes();
        let node = |height, index| Node { height, index };
        assert_eq!(nodes, [node(2, 2), node(1, 6), node(0, 14)]);
        assert_eq!(CompactRange::from_edge(7, vec![[0; 32]; 2]), None);
    }

    proptest! {
        #[test]
        fn a_wrong_inclusion_never_holds(size in 1u64..200, index in 0u64..200, flip in any::<prop::sample::Index>(), other in 0u64..200) {
            let index = index % size;
            let leaves = some_leaves(size);
            let root = naive_root(&leaves);
            let proof = filled(&inclusion(index, size).unwrap(), &leaves);
            let leaf = leaves[index as usize];
            prop_assert!(verify_inclusion(&leaf, index, size, &proof, &root));
            let other = other % size;
            prop_assert_eq!(verify_inclusion(&leaf, other, size, &proof, &root), other == index);
            prop_assert!(!verify_inclusion(&leaf_hash(b"forged"), index, size, &proof, &root));
            if !proof.is_empty() {
                let mut bent = proof.clone();
                bent[flip.index(proof.len())][0] ^= 1;
                prop_assert!(!verify_inclusion(&leaf, index, size, &bent, &root));
                prop_assert!(!verify_inclusion(&leaf, index, size, &proof[1..], &root));
            }
        }

        #[test]
        fn a_rewritten_past_is_never_consistent(second in 2u64..200, first in 1u64..200, at in 0u64..200) {
            let first = first % (second - 1) + 1;
            let leaves = some_leaves(second);
            let mut forged = leaves.clone();
            forged[(at % first) as usize] = leaf_hash(b"forged");
            let first_root = naive_root(&leaves[..first as usize]);
            // Whoever rewrote the past gives the best proof there is of what stands now.
            let proof = filled(&consistency(first, second).unwrap(), &forged);
            prop_assert!(!verify_consistency(first, second, &first_root, &naive_root(&forged), &proof));
            let honest = filled(&consistency(first, second).unwrap(), &leaves);
            prop_assert!(verify_consistency(first, second, &first_root, &naive_root(&leaves), &honest));
        }

        #[test]
        fn a_tree_goes_on_from_its_edge(size in 0u64..300, more in 0u64..50) {
            let leaves = some_leaves(size + more);
            let mut growing = CompactRange::default();
            leaves[..size as usize].iter().for_each(|leaf| growing.append(*leaf));
            let mut taken_up = CompactRange::from_edge(size, growing.hashes.clone()).unwrap();
            leaves[size as usize..].iter().for_each(|leaf| taken_up.append(*leaf));
            prop_assert_eq!(taken_up.root(), naive_root(&leaves));
        }
    }
}
