//! One entry of the log, and its bytes.

use std::{fmt, str::FromStr};

use crate::tree::{Hash, leaf_hash};

/// Stands before every leaf's bytes: a hash over them is a hash over nothing else of ours.
const DOMAIN: &[u8] = b"dalp.audit.leaf.v1\0";

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It was let happen.
    Allowed,
    /// It was refused.
    Refused,
}

/// One entry: who, what, on what, the hash of what was asked, the decision and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Number of the entry, unique on the platform; grows, with gaps.
    pub sequence: u64,
    /// When it was written, in microseconds since 1970, UTC.
    pub recorded_at_us: i64,
    /// Whose log it stands in.
    pub tenant: String,
    /// Who.
    pub actor: String,
    /// What: a kind of operation, an administrator's action, or the RPC that was refused.
    pub action: String,
    /// On what.
    pub subject: String,
    /// What was decided.
    pub decision: Decision,
    /// Why: of a refusal its reason.
    pub reason: String,
    /// SHA-256 of what was asked, where somebody had read it.
    pub payload_hash: Option<Hash>,
    /// Everything else, a JSON document exactly as the database writes it.
    pub body: String,
}

// === impl Decision ===

impl Decision {
    /// As it is stored, exported and hashed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "ALLOWED",
            Self::Refused => "REFUSED",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Decision {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Allowed, Self::Refused].into_iter().find(|decision| decision.as_str() == text).ok_or(())
    }
}

// === impl Leaf ===

impl Leaf {
    /// The bytes that are hashed. Every text is preceded by its length, so that no two leaves write the same bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let texts = [&self.tenant, &self.actor, &self.action, &self.subject].map(String::as_bytes);
        let hash: &[u8] = self.payload_hash.as_ref().map_or(&[], |hash| hash);
        let rest = [self.decision.as_str().as_bytes(), self.reason.as_bytes(), hash, self.body.as_bytes()];
        let parts = || texts.iter().chain(&rest);
        let length = parts().map(|part| part.len() + 8).sum::<usize>();
        let mut bytes = Vec::with_capacity(DOMAIN.len() + 16 + length);
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.recorded_at_us.to_be_bytes());
        for part in parts() {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Its hash in the tree.
    #[must_use]
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.bytes())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn leaf(sequence: u64) -> Leaf {
        Leaf {
            sequence,
            recorded_at_us: 1_763_856_000_000_000 + sequence.cast_signed(),
            tenant: "acme".into(),
            actor: "ops@acme".into(),
            action: "operation.accept".into(),
            subject: format!("operation-{sequence}"),
            decision: Decision::Allowed,
            reason: String::new(),
            payload_hash: Some([7; 32]),
            body: r#"{"kind": "asset.transfer"}"#.into(),
        }
    }

    /// The encoding is part of the contract with whoever wrote a verifier of their own: docs/security/audit.md shows this very leaf.
    #[test]
    fn the_bytes_are_those_of_the_documentation() {
        let page = include_str!("../../../docs/security/audit.md");
        let shown = |what: &str| page.lines().any(|line| line.contains(what));
        assert!(shown(&hex::encode(leaf(1).hash())), "the hash of the example: {}", hex::encode(leaf(1).hash()));
        assert_eq!(leaf(1).bytes().len(), 19 + 16 + 8 * 8 + 4 + 8 + 16 + 11 + 7 + 32 + 26);
    }

    #[test]
    fn every_field_counts() {
        let one = leaf(1);
        let text = String::from("x");
        let others = [
            Leaf { sequence: 2, ..one.clone() },
            Leaf { recorded_at_us: 0, ..one.clone() },
            Leaf { tenant: text.clone(), ..one.clone() },
            Leaf { actor: text.clone(), ..one.clone() },
            Leaf { action: text.clone(), ..one.clone() },
            Leaf { subject: text.clone(), ..one.clone() },
            Leaf { decision: Decision::Refused, ..one.clone() },
            Leaf { reason: text.clone(), ..one.clone() },
            Leaf { payload_hash: None, ..one.clone() },
            Leaf { body: text, ..one.clone() },
        ];
        let mut hashes: Vec<Hash> = others.iter().map(Leaf::hash).collect();
        hashes.push(one.hash());
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 11);
    }

    proptest! {
        /// What moves from one field to the next is another leaf.
        #[test]
        fn no_two_splits_of_a_text_are_one_leaf(text in "[a-z]{2,20}", at in 1usize..20, other in 1usize..20) {
            let split = |at: usize| {
                let (actor, action) = text.split_at(at.min(text.len()));
                Leaf { actor: actor.into(), action: action.into(), ..leaf(1) }
            };
            let same = at.min(text.len()) == other.min(text.len());
            prop_assert_eq!(split(at).hash() == split(other).hash(), same);
        }
    }
}
