//! The tree as it is kept: hashes in tiles of 32, each level of tiles five levels of the tree above the one before.
//!
//! A full tile is written once and never changed. What of each level is not a full tile yet is the [`Edge`], which grows with every
//! leaf and is all that appending and the root need. A proof needs one tile of a level at most twice: of ten million leaves, about five.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Hash, Node, Range, empty_root, fold, node_hash};

/// Levels of the tree that one level of tiles holds.
pub const TILE_LEVELS: u32 = 5;
/// Hashes of a full tile.
pub const TILE_WIDTH: usize = 1 << TILE_LEVELS;

/// Which tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// 0: of leaves.
    pub level: u32,
    /// Counted from the left, from 0.
    pub number: u64,
}

/// A full tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Which.
    pub id: TileId,
    /// Its hashes, [`TILE_WIDTH`] of them.
    pub hashes: Vec<Hash>,
}

/// What of each level is no full tile yet, the lowest level first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

/// Tiles that were read, among them parts of tiles.
#[derive(Debug, Clone, Default)]
pub struct Tiles(BTreeMap<TileId, Vec<Hash>>);

/// A tile that is needed is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tile {number} of level {level} is missing or too short")]
pub struct MissingTile {
    /// Its level.
    pub level: u32,
    /// Its number.
    pub number: u64,
}

// === impl Node ===

impl Node {
    /// The tile that holds the subtree, and which of its hashes are below it.
    fn place(self) -> (TileId, std::ops::Range<usize>) {
        let (level, above) = (self.height / TILE_LEVELS, self.height % TILE_LEVELS);
        let first = self.index << above;
        let within = (first % TILE_WIDTH as u64) as usize;
        (TileId { level, number: first / TILE_WIDTH as u64 }, within..within + (1 << above))
    }
}

/// The tiles that hold these ranges.
#[must_use]
pub fn needed(ranges: &[Range]) -> BTreeSet<TileId> {
    ranges.iter().flat_map(Range::nodes).map(|node| node.place().0).collect()
}

/// Root of a complete subtree over its hashes.
fn complete(hashes: &[Hash]) -> Hash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    row[0]
}

// === impl Edge ===

impl Edge {
    /// The edge of a tree of `size` leaves, as [`Edge::levels`] gave it. `None`: it is not one.
    #[must_use]
    pub fn from_levels(size: u64, levels: Vec<Vec<Hash>>) -> Option<Self> {
        let fits = (0..).zip(&levels).all(|(level, hashes)| hashes.len() as u64 == Self::count(size, level));
        let whole = size.checked_shr(TILE_LEVELS * levels.len() as u32).unwrap_or(0) == 0;
        (fits && whole).then_some(Self { size, levels })
    }

    /// How many hashes of a level are no full tile yet.
    fn count(size: u64, level: u32) -> u64 {
        size.checked_shr(TILE_LEVELS * level).unwrap_or(0) % TILE_WIDTH as u64
    }

    /// How many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its hashes, the lowest level first; none stands beyond the highest level that the tree reaches.
    #[must_use]
    pub fn levels(&self) -> &[Vec<Hash>] {
        &self.levels
    }

    /// Appends a leaf; tiles that it fills go to `filled`.
    pub fn append(&mut self, leaf: Hash, filled: &mut Vec<Tile>) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE_WIDTH));
            }
            let row = &mut self.levels[level];
            row.push(hash);
            if row.len() < TILE_WIDTH {
                return;
            }
            let hashes = std::mem::take(row);
            hash = complete(&hashes);
            let shift = TILE_LEVELS * (level as u32 + 1);
            let number = (self.size >> shift) - 1;
            filled.push(Tile { id: TileId { level: level as u32, number }, hashes });
        }
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        if self.size == 0 {
            return empty_root();
        }
        fold(self.edge_hashes().into_iter()).unwrap_or_else(empty_root)
    }

    /// The hashes of the complete subtrees along the right edge, from the largest to the smallest.
    #[must_use]
    pub fn edge_hashes(&self) -> Vec<Hash> {
        let mut hashes = Vec::new();
        for row in self.levels.iter().rev() {
            let mut left = row.as_slice();
            for height in (0..TILE_LEVELS).rev() {
                if row.len() >> height & 1 == 1 {
                    let (subtree, rest) = left.split_at(1 << height);
                    hashes.push(complete(subtree));
                    left = rest;
                }
            }
        }
        hashes
    }

    /// The tile that a level ends with, as far as it is filled.
    fn part(&self, id: TileId) -> Option<&[Hash]> {
        let row = self.levels.get(id.level as usize)?;
        let number = self.size.checked_shr(TILE_LEVELS * (id.level + 1)).unwrap_or(0);
        (number == id.number && !row.is_empty()).then_some(row)
    }
}

// === impl Tiles ===

impl Tiles {
    /// Takes a tile in.
    pub fn insert(&mut self, id: TileId, hashes: Vec<Hash>) {
        self.0.insert(id, hashes);
    }

    /// Takes of these tiles those in that stand at the edge; the others are to be read.
    pub fn take_edge(&mut self, edge: &Edge, wanted: BTreeSet<TileId>) -> Vec<TileId> {
        let mut others = Vec::new();
        for id in wanted {
            match edge.part(id) {
                Some(part) => self.insert(id, part.to_vec()),
                None => others.push(id),
            }
        }
        others
    }

    /// Hash of a range.
    ///
    /// # Errors
    /// When a tile that holds a part of it was not taken in.
    pub fn hash(&self, range: &Range) -> Result<Hash, MissingTile> {
        let nodes = range.nodes();
        let hashes = nodes.iter().map(|node| self.node(*node)).collect::<Result<Vec<_>, _>>()?;
        Ok(fold(hashes.into_iter()).unwrap_or_else(empty_root))
    }

    /// Hashes of the complete subtrees of a range, from left to right.
    ///
    /// # Errors
    /// When a tile that holds a part of it was not taken in.
    pub fn subtrees(&self, range: &Range) -> Result<Vec<Hash>, MissingTile> {
        range.nodes().iter().map(|node| self.node(*node)).collect()
    }

    fn node(&self, node: Node) -> Result<Hash, MissingTile> {
        let (id, within) = node.place();
        let found = self.0.get(&id).and_then(|hashes| hashes.get(within));
        found.map(complete).ok_or(MissingTile { level: id.level, number: id.number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{self, tests::naive_root, tests::some_leaves, verify_consistency, verify_inclusion};
    use proptest::prelude::*;

    fn grown(leaves: &[Hash]) -> (Edge, BTreeMap<TileId, Vec<Hash>>) {
        let (mut edge, mut filled) = (Edge::default(), Vec::new());
        leaves.iter().for_each(|leaf| edge.append(*leaf, &mut filled));
        let kept: BTreeMap<_, _> = filled.iter().map(|tile| (tile.id, tile.hashes.clone())).collect();
        assert_eq!(kept.len(), filled.len(), "no tile is written twice");
        (edge, kept)
    }

    fn read(edge: &Edge, kept: &BTreeMap<TileId, Vec<Hash>>, ranges: &[Range]) -> (Tiles, usize) {
        let mut tiles = Tiles::default();
        let others = tiles.take_edge(edge, needed(ranges));
        let count = others.len();
        others.into_iter().for_each(|id| tiles.insert(id, kept[&id].clone()));
        (tiles, count)
    }

    #[test]
    fn tiles_stand_where_they_belong() {
        let leaves = some_leaves(32 * 32 + 33);
        let (edge, kept) = grown(&leaves);
        assert_eq!(kept.len(), 33 + 1);
        assert_eq!(edge.levels().iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(kept[&TileId { level: 1, number: 0 }][3], naive_root(&leaves[96..128]));
        assert_eq!(kept[&TileId { level: 0, number: 32 }], leaves[1024..1056]);
    }

    #[test]
    fn an_edge_is_taken_back_only_whole() {
        for size in [0, 1, 31, 32, 33, 1023, 1024, 1025, 40_000] {
            let (edge, _) = grown(&some_leaves(size));
            let again = Edge::from_levels(size, edge.levels().to_vec());
            assert_eq!(again.as_ref(), Some(&edge), "{size}");
            assert_eq!(Edge::from_levels(size + 1, edge.levels().to_vec()), None);
            if size > 0 {
                assert_eq!(Edge::from_levels(size, edge.levels()[1..].to_vec()), None, "{size}");
            }
        }
    }

    #[test]
    fn a_proof_of_ten_million_leaves_needs_few_tiles() {
        let size = 10_000_000;
        for index in [0, 1, 4_999_999, 9_999_999] {
            let ranges = tree::inclusion(index, size).unwrap();
            assert!(needed(&ranges).len() <= 10, "{}", needed(&ranges).len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_asked_of_tiles_is_what_the_leaves_say(count in 1u64..4_000, one in any::<u64>(), two in any::<u64>(), three in any::<u64>()) {
            let leaves = some_leaves(count);
            let (edge, kept) = grown(&leaves);
            prop_assert_eq!(edge.root(), naive_root(&leaves));
            let size = one % count + 1; // also of a tree that has grown since
            let (index, first) = (two % size, three % size + 1);
            let root = naive_root(&leaves[..size as usize]);

            let ranges = tree::inclusion(index, size).unwrap();
            let (tiles, _) = read(&edge, &kept, &ranges);
            let proof = ranges.iter().map(|range| tiles.hash(range).unwrap()).collect::<Vec<_>>();
            prop_assert!(verify_inclusion(&leaves[index as usize], index, size, &proof, &root));

            let ranges = tree::consistency(first, size).unwrap();
            let (tiles, _) = read(&edge, &kept, &ranges);
            let proof = ranges.iter().map(|range| tiles.hash(range).unwrap()).collect::<Vec<_>>();
            prop_assert!(verify_consistency(first, size, &naive_root(&leaves[..first as usize]), &root, &proof));

            let whole = [Range { start: 0, end: size }];
            let (tiles, _) = read(&edge, &kept, &whole);
            prop_assert_eq!(tiles.hash(&whole[0]).unwrap(), root);
            let mut taken_up = tree::CompactRange::from_edge(size, tiles.subtrees(&whole[0]).unwrap()).unwrap();
            leaves[size as usize..].iter().for_each(|leaf| taken_up.append(*leaf));
            prop_assert_eq!(taken_up.root(), naive_root(&leaves));
        }

        #[test]
        fn a_missing_tile_is_told_not_made_up(count in 33u64..2_000, index in any::<u64>()) {
            let ranges = tree::inclusion(index % count, count).unwrap();
            let missing = Tiles::default();
            prop_assert!(ranges.iter().all(|range| missing.hash(range).is_err()));
        }
    }
}
