//! What is agreed on, as the terms of the settlement on each chain. Nothing here knows of protobuf, SQL or the network.

use super::{Role, Rules};
use crate::terms::{HashKind, HashLock, Leg, Terms};
use alloy::primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};

/// One settlement as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideAsked {
    /// Its chain.
    pub chain_id: u64,
    /// Unix seconds.
    pub cutoff: u64,
    /// Whether the counterparty opens it.
    pub opened_by_counterparty: bool,
}

/// An exchange to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPair {
    /// Who sends, and goes on to.
    pub sender: Address,
    /// For people.
    pub name: String,
    /// Movements, each with the id of its chain.
    pub legs: Vec<Leg>,
    /// In the order of [`Role::BOTH`].
    pub sides: [SideAsked; 2],
    /// How the secret is hashed.
    pub hash_kind: HashKind,
    /// The hash of the counterparty's secret; absent: the secret is ours.
    pub hash: Option<B256>,
}

// === impl OpenPair ===

impl OpenPair {
    /// One settlement as it was asked for.
    #[must_use]
    pub fn side(&self, role: Role) -> SideAsked {
        self.sides[role.place()]
    }

    /// The terms of one settlement: all legs, those of its own chain as local ones.
    #[must_use]
    pub fn terms(&self, role: Role, hash: B256) -> Terms {
        let side = self.side(role);
        let on =
            |leg: &Leg| Leg { chain_id: if leg.chain_id == side.chain_id { 0 } else { leg.chain_id }, ..leg.clone() };
        Terms {
            name: self.name.clone(),
            cutoff: side.cutoff,
            auto_execute: false,
            hash_lock: Some(HashLock { kind: self.hash_kind, hash }),
            legs: self.legs.iter().map(on).collect(),
        }
    }

    /// Everything that is wrong with it at a time, with the field.
    #[must_use]
    pub fn problems(&self, rules: &Rules, now_s: u64) -> Vec<(String, String)> {
        let [reveal, carry] = self.sides;
        let mut problems = Vec::new();
        let mut wrong = |field: &str, why: String| problems.push((field.to_owned(), why));
        if reveal.chain_id == carry.chain_id {
            wrong("carry.chain_id", "must be another chain than reveal.chain_id".to_owned());
        }
        if reveal.opened_by_counterparty && carry.opened_by_counterparty {
            wrong("carry.opened_by_counterparty", "must be false: one of the two is opened here".to_owned());
        }
        for (place, leg) in self.legs.iter().enumerate() {
            if ![reveal.chain_id, carry.chain_id].contains(&leg.chain_id) {
                wrong(&format!("legs[{place}].chain_id"), "must be one of the two chains".to_owned());
            }
        }
        for (field, side) in [("reveal", reveal), ("carry", carry)] {
            if !self.legs.iter().any(|leg| leg.chain_id == side.chain_id) {
                wrong("legs", format!("must hold a leg on the {field} chain {}", side.chain_id));
            }
        }
        let soonest = now_s.saturating_add(rules.reveal_margin_s).saturating_add(rules.confirmation_s);
        if reveal.cutoff <= soonest {
            wrong("reveal.cutoff", format!("must be later than {soonest}: the secret could not be shown in time"));
        }
        let earliest = reveal.cutoff.saturating_add(rules.cutoff_gap_s);
        if carry.cutoff < earliest {
            wrong("carry.cutoff", format!("must be {earliest} or later: the one who carries the secret needs time"));
        }
        problems
    }
}

/// In what a settlement that was found differs from what was agreed on. What moves on the other chain is read there, so external legs say
/// nothing here.
#[must_use]
pub fn difference(agreed: &Terms, found: &Terms) -> Option<String> {
    if agreed.hash_lock != found.hash_lock {
        return Some("the hash lock".to_owned());
    }
    if agreed.cutoff != found.cutoff {
        return Some(format!("the cutoff: {} instead of {}", found.cutoff, agreed.cutoff));
    }
    let movements = |terms: &Terms| {
        let mut all: Vec<(Address, Address, Address, U256)> =
            terms.local().map(|(_, leg)| (leg.asset, leg.from, leg.to, leg.amount)).collect();
        all.sort_unstable();
        all
    };
    let (wanted, there) = (movements(agreed), movements(found));
    if wanted == there {
        return None;
    }
    let told = |movements: &[(Address, Address, Address, U256)]| {
        let each = movements.iter().map(|(asset, from, to, amount)| format!("{amount} of {asset} from {from} to {to}"));
        each.collect::<Vec<_>>().join(", ")
    };
    Some(format!("the legs: {} instead of {}", told(&there), told(&wanted)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::terms::tests::{ALICE, BOB, BOND, CASH};
    use std::time::Duration;

    pub(crate) const RULES: Rules = Rules {
        cutoff_gap_s: 100,
        reveal_margin_s: 20,
        confirmation_s: 10,
        notice_s: 50,
        every: Duration::from_millis(1),
    };

    pub(crate) fn pair() -> OpenPair {
        let leg = |asset, from, to, chain_id| Leg { asset, from, to, amount: U256::from(10), chain_id };
        let side = |chain_id, cutoff| SideAsked { chain_id, cutoff, opened_by_counterparty: false };
        OpenPair {
            sender: ALICE,
            name: "Pair".to_owned(),
            legs: vec![leg(BOND, ALICE, BOB, 1), leg(CASH, BOB, ALICE, 2)],
            sides: [side(2, 1_000), side(1, 1_100)],
            hash_kind: HashKind::Keccak256,
            hash: None,
        }
    }

    #[test]
    fn each_chain_has_its_own_legs_and_cutoff() {
        let (reveal, carry) = (pair().terms(Role::Reveal, B256::ZERO), pair().terms(Role::Carry, B256::ZERO));
        assert_eq!(reveal.legs.iter().map(|leg| leg.chain_id).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(carry.legs.iter().map(|leg| leg.chain_id).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((reveal.cutoff, carry.cutoff), (1_000, 1_100));
        assert_eq!(reveal.hash_lock, carry.hash_lock);
    }

    #[test]
    fn everything_wrong_is_told_by_field() {
        let fields = |pair: &OpenPair, now_s| {
            let told = pair.problems(&RULES, now_s).into_iter().map(|(field, _)| field);
            told.collect::<Vec<_>>()
        };
        assert!(fields(&pair(), 969).is_empty());
        assert_eq!(fields(&pair(), 970), ["reveal.cutoff"]);
        let mut near = pair();
        near.sides[1].cutoff = 1_099;
        assert_eq!(fields(&near, 0), ["carry.cutoff"]);
        near.sides.swap(0, 1);
        assert_eq!(fields(&near, 0), ["carry.cutoff"], "the wrong order");
        let mut all = pair();
        all.sides = [SideAsked { opened_by_counterparty: true, ..all.sides[0] }; 2];
        all.legs[0].chain_id = 9;
        assert_eq!(
            fields(&all, 0),
            ["carry.chain_id", "carry.opened_by_counterparty", "legs[0].chain_id", "carry.cutoff"]
        );
        let mut one_sided = pair();
        one_sided.legs.truncate(1);
        assert_eq!(fields(&one_sided, 0), ["legs"]);
    }

    #[test]
    fn a_mirror_may_differ_in_name_and_order_only() {
        let agreed = pair().terms(Role::Reveal, B256::repeat_byte(1));
        let mut found = agreed.clone();
        found.name = "Theirs".to_owned();
        found.legs.reverse();
        assert_eq!(difference(&agreed, &found), None);
        found.legs.retain(Leg::is_local);
        assert_eq!(difference(&agreed, &found), None, "what moves elsewhere is read there");
        let differs = |change: fn(&mut Terms)| {
            let mut found = agreed.clone();
            change(&mut found);
            difference(&agreed, &found).unwrap_or_default()
        };
        assert!(differs(|found| found.cutoff += 1).starts_with("the cutoff: 1001"));
        assert_eq!(differs(|found| found.hash_lock = None), "the hash lock");
        for change in [
            (|found: &mut Terms| found.legs[1].amount -= U256::ONE) as fn(&mut Terms),
            |found| found.legs[1].to = BOND,
            |found| found.legs[1].from = BOND,
            |found| found.legs[1].asset = BOND,
            |found| found.legs.truncate(1),
            |found| found.legs.push(found.legs[1].clone()),
        ] {
            assert!(differs(change).starts_with("the legs: "));
        }
    }
}
