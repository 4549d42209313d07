//! What to do next with an exchange, from what both chains say. Pure: `tests/protocol.rs` walks through the protocol that this carries out.
//!
//! Three rules make it safe, whatever fails. Our secret is shown only while both settlements are locked in final blocks and enough time is
//! left; from the decision on that it may be shown, the second settlement goes back only after the first is dead in a final block. A secret
//! that came out anywhere is carried to the other chain, before anything else is done. What we do not know the secret of goes back in
//! the order of the cutoffs.

use super::{Phase, Role, Rules};
use crate::state::State;
use alloy::primitives::{Address, B256};

/// What one chain says of its settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Whether the latest block can be read.
    pub readable: bool,
    /// After its last change, at the latest block; `None`: it is not there.
    pub stored: Option<State>,
    /// The same at the highest final block.
    pub final_stored: Option<State>,
    /// Whether a custodian broke a hold.
    pub breached: bool,
    /// From this block on amounts go back.
    pub reclaim_from: Option<u64>,
    /// Whose amounts are locked.
    pub locked: Vec<Address>,
    /// Owed legs that would move now.
    pub deliverable: Vec<u32>,
    /// Legs that their asset would refuse, in words.
    pub vetoes: Vec<String>,
    /// The secret, where it was shown, and whether in a final block.
    pub shown: Option<(B256, bool)>,
    /// Its cutoff.
    pub cutoff: u64,
    /// The time: that of the latest block, or ours where that is later.
    pub now_s: u64,
    /// Time of the highest final block.
    pub final_s: u64,
    /// The latest block.
    pub head: u64,
}

/// What is known of the exchange itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Where it stands.
    pub phase: Phase,
    /// Whether the secret is ours.
    pub ours: bool,
    /// Whether it was decided, ever, to show it.
    pub exposed: bool,
    /// Whether it was seen on a chain, ever.
    pub seen: bool,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Show our secret on the reveal chain.
    Reveal {
        /// Unix seconds after which the signer refuses.
        not_after_s: u64,
    },
    /// Show a secret that came out on the other chain.
    Carry {
        /// Where to.
        to: Role,
        /// It.
        secret: B256,
    },
    /// Move an owed leg.
    Deliver {
        /// Where.
        on: Role,
        /// Its number.
        leg: u32,
    },
    /// Begin the way back.
    StartReclaim {
        /// Where.
        on: Role,
    },
    /// Give amounts back.
    Reclaim {
        /// Where.
        on: Role,
        /// Whose.
        party: Address,
    },
    /// It stands elsewhere now.
    Stand(Phase),
}

// === impl Side ===

impl Side {
    /// Nothing is known but the cutoff.
    #[must_use]
    pub fn silent(cutoff: u64) -> Self {
        Self {
            readable: false,
            stored: None,
            final_stored: None,
            breached: false,
            reclaim_from: None,
            locked: Vec::new(),
            deliverable: Vec::new(),
            vetoes: Vec::new(),
            shown: None,
            cutoff,
            now_s: 0,
            final_s: 0,
            head: 0,
        }
    }

    /// Whether every amount is locked, in a final block and still, and nothing stands against a secret.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let locked = self.final_stored == Some(State::Approved) && self.stored == Some(State::Approved);
        self.readable && locked && !self.breached && self.reclaim_from.is_none() && self.vetoes.is_empty()
    }

    /// Whether a secret would be taken.
    #[must_use]
    pub fn takes_secret(&self) -> bool {
        self.readable && self.stored == Some(State::Approved) && !self.breached
    }

    /// Whether no secret will ever be taken, whatever reorg comes.
    fn is_dead(&self) -> bool {
        self.readable
            && match self.final_stored {
                // What is not locked by the cutoff is never locked.
                None | Some(State::Active) => self.final_s >= self.cutoff,
                Some(state) => matches!(state, State::Cancelled | State::Expired | State::Withdrawn | State::Breached),
            }
    }

    fn is_done(&self) -> bool {
        self.readable && self.final_stored == Some(State::Executed)
    }

    fn went_back(&self) -> bool {
        self.is_dead() && self.locked.is_empty()
    }

    /// What gives amounts back, once the time has come.
    fn way_back(&self, on: Role) -> Vec<Move> {
        let pending = self.stored.is_some_and(State::is_pending);
        if !self.readable || self.locked.is_empty() {
            return Vec::new();
        }
        let reclaims = || self.locked.iter().map(|party| Move::Reclaim { on, party: *party }).collect();
        match self.reclaim_from {
            // Cancelled or breached needs no cutoff, and what began to go back goes on.
            _ if !pending || self.breached => reclaims(),
            None if self.now_s >= self.cutoff => vec![Move::StartReclaim { on }],
            Some(from) if self.head >= from => reclaims(),
            _ => Vec::new(),
        }
    }
}

/// What to do next, most urgent first.
#[must_use]
pub fn moves(known: Known, sides: &[Side; 2], rules: &Rules) -> Vec<Move> {
    if known.phase.is_over() {
        return Vec::new();
    }
    let mut moves = Vec::new();
    if let Some((from, secret, is_final)) = shown(sides) {
        came_out(known, sides, rules, (from, secret, is_final), &mut moves);
    } else if known.seen {
        // A reorg took it. It is public, so there is no way but forward.
        if known.ours && sides[0].takes_secret() {
            moves.push(Move::Reveal { not_after_s: u64::MAX });
        } else {
            moves.extend(sides[0].way_back(Role::Reveal));
        }
        conclude(known, sides, &mut moves);
    } else {
        secret_is_kept(known, sides, rules, &mut moves);
    }
    moves
}

/// Where the secret was shown, the surest first.
fn shown(sides: &[Side; 2]) -> Option<(Role, B256, bool)> {
    let mut found: Vec<_> = Role::BOTH
        .into_iter()
        .filter_map(|role| sides[role.place()].shown.map(|(secret, is_final)| (role, secret, is_final)))
        .collect();
    found.sort_by_key(|(_, _, is_final)| !is_final);
    found.into_iter().next()
}

fn came_out(
    known: Known,
    sides: &[Side; 2],
    rules: &Rules,
    (from, secret, is_final): (Role, B256, bool),
    moves: &mut Vec<Move>,
) {
    let to = from.other();
    let (there, here) = (&sides[to.place()], &sides[from.place()]);
    // The one who shows waits until it is sure to have the other's asset, but not until it is too late for the other.
    let urgent = there.now_s.saturating_add(rules.reveal_margin_s).saturating_add(rules.confirmation_s) >= there.cutoff;
    if there.takes_secret() && (is_final || !known.ours || urgent || to == Role::Reveal) {
        moves.push(Move::Carry { to, secret });
    }
    if known.phase != Phase::Carrying {
        moves.push(Move::Stand(Phase::Carrying));
    }
    for (role, side) in [(from, here), (to, there)] {
        moves.extend(side.deliverable.iter().map(|leg| Move::Deliver { on: role, leg: *leg }));
    }
    conclude(known, sides, moves);
}

/// Ends an exchange whose secret came out.
fn conclude(known: Known, sides: &[Side; 2], moves: &mut Vec<Move>) {
    let [reveal, carry] = sides;
    if reveal.is_done() && carry.is_done() {
        moves.push(Move::Stand(Phase::Settled));
    } else if reveal.is_dead() && carry.is_dead() {
        // A reorg took the secret, and nobody showed it again in time.
        Role::BOTH.into_iter().for_each(|role| moves.extend(sides[role.place()].way_back(role)));
        if reveal.went_back() && carry.went_back() {
            moves.push(Move::Stand(Phase::Returned));
        }
    } else if (reveal.is_done() && carry.went_back()) || (carry.is_done() && reveal.went_back()) {
        moves.push(Move::Stand(Phase::Split));
    } else if reveal.is_dead() && reveal.shown.is_none() && carry.shown.is_none() && known.seen {
        moves.extend(carry.way_back(Role::Carry));
    }
}

fn secret_is_kept(known: Known, sides: &[Side; 2], rules: &Rules, moves: &mut Vec<Move>) {
    let [reveal, carry] = sides;
    let latest = reveal.cutoff.saturating_sub(rules.reveal_margin_s);
    let in_time = reveal.now_s.max(carry.now_s).saturating_add(rules.confirmation_s) <= latest;
    let showing = matches!(known.phase, Phase::Locking | Phase::Revealing);
    if known.ours && showing && in_time && reveal.is_ready() && carry.is_ready() {
        moves.push(Move::Reveal { not_after_s: latest });
        return;
    }
    // The clock of a silent chain says nothing; ours is in that of the other.
    let late = reveal.now_s.max(carry.now_s) >= if known.ours { latest } else { reveal.cutoff };
    let given_up = sides.iter().any(|side| side.is_dead());
    if showing && (given_up || (late && !in_time)) && (known.phase == Phase::Locking || reveal.is_dead()) {
        moves.push(Move::Stand(Phase::Returning));
    }
    moves.extend(reveal.way_back(Role::Reveal));
    // Who may have been shown the secret could still take the first: the second stays until that is over.
    if (known.ours && !known.exposed && known.phase == Phase::Returning) || reveal.is_dead() {
        moves.extend(carry.way_back(Role::Carry));
    }
    if known.phase == Phase::Returning && reveal.went_back() && carry.went_back() {
        moves.push(Move::Stand(Phase::Returned));
    }
}

#[cfg(test)]
mod tests;
