//! The verifier: an export, a public key, and nothing else.
//!
//! Every leaf line says its hash as the tree has it, and what the leaf says. The hashes are held against the signed roots, and what
//! each leaf says against its hash, so that one changed row is told by its position even though a root covers them all.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use crate::{
    export::{End, ExportedLeaf, Header, Line, SignedRoot},
    root::AuditKey,
    tree::{CompactRange, Hash, empty_root},
};

/// Something that is not as it was when it was sealed, or that cannot be shown to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// What the row says is not what was sealed.
    Tampered {
        /// Its place in the log.
        position: u64,
        /// The number that the row has now.
        sequence: u64,
    },
    /// The row is gone, or its line was left out.
    Dropped {
        /// Its place in the log.
        position: u64,
    },
    /// The row stands in another's place.
    Reordered {
        /// Where it stands.
        position: u64,
        /// Where it was sealed.
        sealed_at: u64,
    },
    /// A line stands at a place that was passed already.
    OutOfOrder {
        /// The place that it names.
        position: u64,
    },
    /// A leaf of another tenant stands in the log.
    Foreign {
        /// Its place in the log.
        position: u64,
    },
    /// The hashes of the leaves do not lead to the root that was signed: rows between the last root that holds and this one were changed,
    /// dropped or reordered together with their hashes.
    RootMismatch {
        /// Leaves under the last root that holds.
        after: u64,
        /// Leaves under this one.
        size: u64,
    },
    /// Two roots of one size differ: there are two logs.
    Forked {
        /// The size.
        size: u64,
    },
    /// No signed root covers anything: whoever hands over so little may have left out everything.
    NoRoot,
    /// A root that somebody kept was not compared, for it covers leaves before those that were exported, or the tree was broken there.
    NotCompared {
        /// Leaves that it covers.
        size: u64,
    },
    /// A root that somebody kept covers more leaves than there are.
    CutOff {
        /// Leaves that it covers.
        size: u64,
        /// Leaves that there are.
        have: u64,
    },
    /// A root is not signed by the key.
    NotSigned {
        /// Leaves under it.
        size: u64,
        /// Whose signature it is, if it is one.
        by: Option<String>,
    },
    /// A root is of another tenant's log.
    ForeignRoot {
        /// Leaves under it.
        size: u64,
    },
    /// Leaves stand behind the last root: nothing is signed over them.
    Uncovered {
        /// How many.
        count: u64,
    },
    /// The export has no end: it was cut.
    NoEnd,
    /// The export says that it ends elsewhere than it does.
    WrongEnd {
        /// Leaves that it says it has.
        says: u64,
        /// Leaves that it has.
        have: u64,
    },
    /// What it begins with is no edge of a tree, or nothing begins it.
    NoBeginning,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whose log.
    pub tenant: String,
    /// Position of the first leaf.
    pub first_position: u64,
    /// How many leaves the log has where the export ends.
    pub size: u64,
    /// How many leaves were held against their hashes.
    pub leaves: u64,
    /// How many roots held.
    pub roots: u64,
    /// The root that the export ends with, hex, once it holds.
    pub root: String,
    /// What is wrong, in the order in which it was seen.
    pub findings: Vec<Finding>,
}

/// Reads an export line by line.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<AuditKey>,
    /// Roots that somebody kept from earlier, by size.
    kept: HashMap<u64, Hash>,
    compared: HashSet<u64>,
    header: Option<Header>,
    tree: CompactRange,
    /// The place of the next leaf.
    next: u64,
    /// A line was left out, so the hashes lead nowhere any more.
    is_broken: bool,
    /// Leaves under the last root that holds.
    proven: u64,
    roots: HashMap<u64, Hash>,
    end: Option<End>,
    /// What rows say that is not what their place says: the hash of what they say, and where they stand.
    astray: Vec<Astray>,
    summary: Summary,
}

#[derive(Debug)]
struct Astray {
    position: u64,
    sequence: u64,
    sealed: Hash,
    says: Hash,
}

// === impl Verifier ===

impl Verifier {
    /// Roots may be signed by any of `keys`. `kept` are roots from earlier exports, which this one must continue.
    #[must_use]
    pub fn new(keys: Vec<AuditKey>, kept: &[SignedRoot]) -> Self {
        let mut verifier = Self {
            keys,
            kept: HashMap::new(),
            compared: HashSet::new(),
            header: None,
            tree: CompactRange::default(),
            next: 0,
            is_broken: false,
            proven: 0,
            roots: HashMap::new(),
            end: None,
            astray: Vec::new(),
            summary: Summary::default(),
        };
        for root in kept {
            let size = root.root.size;
            verifier.is_signed(root);
            if verifier.kept.insert(size, root.root.root).is_some_and(|other| other != root.root.root) {
                verifier.summary.findings.push(Finding::Forked { size });
            }
        }
        verifier
    }

    /// Takes a line.
    pub fn line(&mut self, line: Line) {
        match line {
            Line::Header(header) => self.header(header),
            Line::Leaf(leaf) => self.leaf(leaf),
            Line::Root(root) => self.root(&root),
            Line::End(end) => self.end = Some(end),
        }
    }

    fn found(&mut self, finding: Finding) {
        self.summary.findings.push(finding);
    }

    fn header(&mut self, header: Header) {
        let edge = CompactRange::from_edge(header.first_position, header.edge.clone());
        match (edge, self.header.is_some()) {
            (Some(edge), false) => self.tree = edge,
            _ => self.found(Finding::NoBeginning),
        }
        self.next = header.first_position;
        self.proven = header.first_position;
        self.summary.first_position = header.first_position;
        self.summary.tenant.clone_from(&header.tenant);
        self.header = Some(header);
        self.compare_kept();
    }

    fn leaf(&mut self, line: ExportedLeaf) {
        if line.position < self.next {
            return self.found(Finding::OutOfOrder { position: line.position });
        }
        for position in self.next..line.position.min(self.next.saturating_add(MOST_NAMED)) {
            self.found(Finding::Dropped { position });
        }
        self.is_broken |= line.position > self.next;
        self.next = line.position + 1;
        if !self.is_broken {
            self.tree.append(line.hash);
            self.compare_kept();
        }
        let Some(leaf) = line.leaf else { return self.found(Finding::Dropped { position: line.position }) };
        self.summary.leaves += 1;
        if leaf.tenant != self.summary.tenant {
            self.found(Finding::Foreign { position: line.position });
        }
        let says = leaf.hash();
        if says != line.hash {
            let (position, sequence) = (line.position, leaf.sequence);
            self.astray.push(Astray { position, sequence, sealed: line.hash, says });
        }
    }

    /// The tree has reached a size of which somebody kept the root.
    fn compare_kept(&mut self) {
        let size = self.tree.size();
        let Some(kept) = self.kept.get(&size) else { return };
        let is_forked = *kept != self.tree.root();
        self.compared.insert(size);
        if is_forked {
            self.found(Finding::Forked { size });
        }
    }

    fn root(&mut self, root: &SignedRoot) {
        let size = root.root.size;
        let is_signed = self.is_signed(root);
        if root.root.tenant != self.summary.tenant {
            return self.found(Finding::ForeignRoot { size });
        }
        if self.roots.insert(size, root.root.root).is_some_and(|other| other != root.root.root) {
            return self.found(Finding::Forked { size });
        }
        for position in self.next..size.min(self.next.saturating_add(MOST_NAMED)) {
            self.found(Finding::Dropped { position });
        }
        if size > self.next {
            (self.next, self.is_broken) = (size, true);
        }
        // Of leaves that are not all there nothing can be said but that.
        if self.is_broken {
            return;
        }
        if size != self.tree.size() {
            return self.found(Finding::OutOfOrder { position: size });
        }
        let stands = if size == 0 { empty_root() } else { self.tree.root() };
        if stands != root.root.root {
            return self.found(Finding::RootMismatch { after: self.proven, size });
        }
        if is_signed {
            self.proven = size;
            self.summary.roots += 1;
            self.summary.root = hex::encode(stands);
        }
    }

    fn is_signed(&mut self, root: &SignedRoot) -> bool {
        let by = root.root.signer(&root.signature);
        let is_signed = by.is_some_and(|by| self.keys.contains(&by));
        if !is_signed {
            let by = by.map(|by| by.to_string());
            self.found(Finding::NotSigned { size: root.root.size, by });
        }
        is_signed
    }

    /// Says what came of it.
    #[must_use]
    pub fn finish(mut self) -> Summary {
        // A row whose content was sealed in the place of another row that is astray, too, was moved; else it was changed.
        let sealed: HashMap<Hash, u64> = self.astray.iter().map(|one| (one.sealed, one.position)).collect();
        let astray = self.astray.iter().map(|one| match sealed.get(&one.says) {
            Some(&sealed_at) => Finding::Reordered { position: one.position, sealed_at },
            None => Finding::Tampered { position: one.position, sequence: one.sequence },
        });
        self.summary.findings.splice(0..0, astray.collect::<Vec<_>>());
        if self.header.is_none() {
            self.found(Finding::NoBeginning);
        }
        match self.end {
            None => self.found(Finding::NoEnd),
            Some(End { size }) if size != self.next => self.found(Finding::WrongEnd { says: size, have: self.next }),
            Some(_) => {}
        }
        let longest = self.kept.keys().copied().filter(|&size| size > self.next).max();
        if let Some(size) = longest {
            self.found(Finding::CutOff { size, have: self.next });
        }
        let passed = |size: &u64| *size <= self.next && !self.compared.contains(size);
        let mut not_compared: Vec<u64> = self.kept.keys().copied().filter(passed).collect();
        not_compared.sort_unstable();
        for size in not_compared {
            self.found(Finding::NotCompared { size });
        }
        let last = self.roots.keys().copied().max().unwrap_or(self.summary.first_position);
        if self.next > last {
            self.found(Finding::Uncovered { count: self.next - last });
        }
        if self.summary.roots == 0 && self.summary.findings.is_empty() {
            self.found(Finding::NoRoot);
        }
        self.summary.size = self.next;
        self.summary
    }
}

/// Of rows that are missing in a row, so many are named.
const MOST_NAMED: u64 = 100;

// === impl Finding ===

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tampered { position, sequence } => {
                write!(
                    formatter,
                    "TAMPERED: the row at position {position} (sequence {sequence}) does not say what was sealed there"
                )
            }
            Self::NoRoot => write!(formatter, "NO ROOT: no root that the key has signed covers any of it"),
            Self::NotCompared { size } => write!(
                formatter,
                "NOT COMPARED: the kept root of {size} leaves lies before what was exported: export from the beginning, or from below it"
            ),
            Self::Dropped { position } => write!(formatter, "DROPPED: the row at position {position} is gone"),
            Self::Reordered { position, sealed_at } => {
                write!(formatter, "REORDERED: the row at position {position} was sealed at position {sealed_at}")
            }
            Self::OutOfOrder { position } => {
                write!(formatter, "REORDERED: a line for position {position} stands where the export is past it")
            }
            Self::Foreign { position } => {
                write!(formatter, "TAMPERED: the row at position {position} is of another tenant")
            }
            Self::RootMismatch { after, size } => write!(
                formatter,
                "ROOT: the hashes do not lead to the signed root of {size} leaves: rows from position {after} on were changed, dropped or reordered together with their hashes"
            ),
            Self::Forked { size } => write!(formatter, "FORKED: there are two different roots of {size} leaves"),
            Self::CutOff { size, have } => {
                write!(formatter, "CUT OFF: a root from earlier covers {size} leaves, and the log ends at {have}")
            }
            Self::NotSigned { size, by: Some(by) } => {
                write!(formatter, "SIGNATURE: the root of {size} leaves is signed by {by}, which is not the given key")
            }
            Self::NotSigned { size, by: None } => {
                write!(formatter, "SIGNATURE: the root of {size} leaves carries no signature")
            }
            Self::ForeignRoot { size } => {
                write!(formatter, "ROOT: the root of {size} leaves is of another tenant's log")
            }
            Self::Uncovered { count } => {
                write!(formatter, "UNCOVERED: nothing is signed over the last {count} leaves")
            }
            Self::NoEnd => formatter.write_str("CUT OFF: the export has no end"),
            Self::WrongEnd { says, have } => {
                write!(formatter, "CUT OFF: the export says that it has {says} leaves, and has {have}")
            }
            Self::NoBeginning => formatter.write_str("CUT OFF: the export has no beginning that a tree could have"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        leaf::{Leaf, tests::leaf},
        root::{
            Root,
            tests::{key, signed},
        },
    };
    use proptest::prelude::*;

    fn log(count: u64) -> Vec<Leaf> {
        (0..count).map(|number| leaf(number * 3 + 1)).collect()
    }

    fn exported(position: u64, leaf: &Leaf) -> Line {
        Line::Leaf(ExportedLeaf { position, hash: leaf.hash(), leaf: Some(leaf.clone()) })
    }

    fn root_of(leaves: &[Leaf]) -> SignedRoot {
        let mut tree = CompactRange::default();
        leaves.iter().for_each(|leaf| tree.append(leaf.hash()));
        let root =
            Root { tenant: "acme".into(), size: leaves.len() as u64, root: tree.root(), sealed_at_us: 1_000_000 };
        let signature = signed(&root);
        SignedRoot { root, signature }
    }

    /// An honest export, with a root after every `every` leaves and at the end.
    fn export(leaves: &[Leaf], every: usize) -> Vec<Line> {
        let mut lines = vec![Line::Header(Header { tenant: "acme".into(), first_position: 0, edge: Vec::new() })];
        for (index, leaf) in leaves.iter().enumerate() {
            lines.push(exported(index as u64, leaf));
            if (index + 1) % every == 0 || index + 1 == leaves.len() {
                lines.push(Line::Root(root_of(&leaves[..=index])));
            }
        }
        lines.push(Line::End(End { size: leaves.len() as u64 }));
        lines
    }

    fn verified_with(lines: &[Line], kept: &[SignedRoot]) -> Summary {
        let mut verifier = Verifier::new(vec![AuditKey(key().address())], kept);
        lines.iter().cloned().for_each(|line| verifier.line(line));
        verifier.finish()
    }

    fn findings(lines: &[Line]) -> Vec<Finding> {
        verified_with(lines, &[]).findings
    }

    fn change(lines: &mut [Line], at: u64, change: impl FnOnce(&mut ExportedLeaf)) {
        let found = lines.iter_mut().find_map(|line| match line {
            Line::Leaf(leaf) if leaf.position == at => Some(leaf),
            _ => None,
        });
        change(found.unwrap());
    }

    #[test]
    fn an_honest_export_holds() {
        for count in 1..40 {
            let summary = verified_with(&export(&log(count), 7), &[]);
            assert_eq!(summary.findings, [], "{count}");
            assert_eq!((summary.size, summary.leaves), (count, count));
        }
    }

    #[test]
    fn a_changed_row_is_named() {
        let mut lines = export(&log(20), 7);
        change(&mut lines, 11, |leaf| leaf.leaf.as_mut().unwrap().actor = "nobody".into());
        assert_eq!(findings(&lines), [Finding::Tampered { position: 11, sequence: 34 }]);
    }

    #[test]
    fn a_row_that_is_changed_with_its_hash_breaks_the_roots_behind_it() {
        let mut lines = export(&log(20), 7);
        change(&mut lines, 11, |leaf| {
            let said = leaf.leaf.as_mut().unwrap();
            said.actor = "nobody".into();
            leaf.hash = said.hash();
        });
        let mismatch = |size| Finding::RootMismatch { after: 7, size };
        assert_eq!(findings(&lines), [mismatch(14), mismatch(20)]);
    }

    #[test]
    fn a_dropped_row_is_named() {
        let mut gone = export(&log(20), 7);
        change(&mut gone, 11, |leaf| leaf.leaf = None);
        assert_eq!(findings(&gone), [Finding::Dropped { position: 11 }]);
        let mut left_out = export(&log(20), 7);
        left_out.retain(|line| !matches!(line, Line::Leaf(leaf) if leaf.position == 11));
        assert_eq!(findings(&left_out), [Finding::Dropped { position: 11 }]);
        // Who moves the others up as well makes another tree.
        let mut others = log(20);
        others.remove(11);
        let mut moved = export(&others, 100);
        moved.retain(|line| !matches!(line, Line::Root(_)));
        moved.insert(moved.len() - 1, Line::Root(root_of(&log(20)[..19])));
        assert_eq!(findings(&moved), [Finding::RootMismatch { after: 0, size: 19 }]);
        let mut last = export(&log(20), 7);
        last.retain(|line| !matches!(line, Line::Leaf(leaf) if leaf.position == 19));
        assert_eq!(findings(&last), [Finding::Dropped { position: 19 }]);
    }

    #[test]
    fn reordered_rows_are_named() {
        let mut lines = export(&log(20), 7);
        let (mut third, mut ninth) = (None, None);
        change(&mut lines, 3, |leaf| third = leaf.leaf.take());
        change(&mut lines, 9, |leaf| ninth = std::mem::replace(&mut leaf.leaf, third));
        change(&mut lines, 3, |leaf| leaf.leaf = ninth);
        assert_eq!(
            findings(&lines),
            [Finding::Reordered { position: 3, sealed_at: 9 }, Finding::Reordered { position: 9, sealed_at: 3 }]
        );
        let mut swapped = export(&log(6), 100);
        swapped.swap(2, 3);
        assert!(findings(&swapped).contains(&Finding::OutOfOrder { position: 1 }));
    }

    #[test]
    fn a_root_of_another_key_or_none_is_told() {
        let mut lines = export(&log(5), 100);
        let at = lines.iter().position(|line| matches!(line, Line::Root(_))).unwrap();
        let Line::Root(root) = &mut lines[at] else { unreachable!() };
        root.signature[3] ^= 1;
        assert!(matches!(findings(&lines)[..], [Finding::NotSigned { size: 5, .. }]));
        lines.remove(at);
        assert_eq!(findings(&lines), [Finding::Uncovered { count: 5 }]);
    }

    #[test]
    fn a_log_that_does_not_continue_what_somebody_kept_is_told() {
        let honest = log(20);
        let kept = [root_of(&honest[..9])];
        assert_eq!(verified_with(&export(&honest, 100), &kept).findings, []);
        // A second history, signed by the key itself.
        let mut forged = honest.clone();
        forged[4].actor = "nobody".into();
        assert_eq!(verified_with(&export(&forged, 100), &kept).findings, [Finding::Forked { size: 9 }]);
        assert_eq!(verified_with(&export(&honest[..5], 100), &kept).findings, [Finding::CutOff { size: 9, have: 5 }]);
        let other = root_of(&forged[..9]);
        // Two that were kept differ, so the log continues one of them at most.
        let both = verified_with(&export(&honest, 100), &[kept[0].clone(), other]).findings;
        assert_eq!(both, [Finding::Forked { size: 9 }, Finding::Forked { size: 9 }]);
    }

    #[test]
    fn an_export_that_was_cut_is_told() {
        let lines = export(&log(5), 100);
        assert_eq!(findings(&lines[..lines.len() - 1]), [Finding::NoEnd]);
        assert!(findings(&lines[1..]).contains(&Finding::NoBeginning));
        assert!(findings(&[]).contains(&Finding::NoBeginning));
        // All of it.
        for first_position in [0, 13] {
            let header = Header {
                tenant: "acme".into(),
                first_position,
                edge: vec![[7; 32]; first_position.count_ones() as usize],
            };
            let nothing = [Line::Header(header), Line::End(End { size: first_position })];
            assert_eq!(findings(&nothing), [Finding::NoRoot]);
        }
    }

    #[test]
    fn a_part_of_a_log_is_held_against_what_stands_before_it() {
        let leaves = log(20);
        let mut before = CompactRange::default();
        leaves[..13].iter().for_each(|leaf| before.append(leaf.hash()));
        let edge = |change: u8| {
            // The edge of 13 leaves: subtrees of 8, 4 and 1.
            let root = |range: std::ops::Range<usize>| {
                let mut tree = CompactRange::default();
                leaves[range].iter().for_each(|leaf| tree.append(leaf.hash()));
                tree.root()
            };
            let mut edge = vec![root(0..8), root(8..12), root(12..13)];
            edge[1][0] ^= change;
            edge
        };
        let part = |edge: Vec<Hash>| {
            let mut lines = vec![Line::Header(Header { tenant: "acme".into(), first_position: 13, edge })];
            lines.extend((13..).zip(&leaves[13..]).map(|(position, leaf)| exported(position, leaf)));
            lines.extend([Line::Root(root_of(&leaves)), Line::End(End { size: 20 })]);
            lines
        };
        assert_eq!(findings(&part(edge(0))), []);
        assert_eq!(findings(&part(edge(1))), [Finding::RootMismatch { after: 13, size: 20 }]);
        assert!(findings(&part(edge(0)[..2].to_vec())).contains(&Finding::NoBeginning));
        // A root of before it says nothing about it, and is not passed over.
        let kept = [root_of(&leaves[..9]), root_of(&leaves[..13]), root_of(&leaves[..15])];
        assert_eq!(verified_with(&part(edge(0)), &kept).findings, [Finding::NotCompared { size: 9 }]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is done to one row of an export that keeps its roots is found.
        #[test]
        fn no_change_of_one_row_passes(count in 2u64..40, at in any::<u64>(), what in 0u8..7, every in 1usize..20) {
            let leaves = log(count);
            let at = at % count;
            let mut lines = export(&leaves, every);
            let with = |leaf: &mut ExportedLeaf| {
                let Some(said) = leaf.leaf.as_mut() else { return };
                match what {
                    0 => said.body.push(' '),
                    1 => said.sequence += 1,
                    2 => said.reason = "x".into(),
                    3 => said.recorded_at_us += 1,
                    4 => leaf.hash[0] ^= 1,
                    5 => leaf.leaf = None,
                    _ => {
                        said.payload_hash = None;
                        leaf.hash = said.hash();
                    }
                }
            };
            change(&mut lines, at, with);
            prop_assert!(!findings(&lines).is_empty());
        }
    }
}
