use super::*;
use crate::pairs::agreement::tests::RULES;
use crate::terms::tests::{ALICE, BOB};

const SECRET: B256 = B256::repeat_byte(7);

/// Locked on a chain whose clock stands there.
fn side(cutoff: u64, now_s: u64) -> Side {
    Side {
        readable: true,
        stored: Some(State::Approved),
        final_stored: Some(State::Approved),
        locked: vec![ALICE],
        now_s,
        final_s: now_s,
        head: 50,
        ..Side::silent(cutoff)
    }
}

fn sides(now_s: u64) -> [Side; 2] {
    [Side { locked: vec![BOB], ..side(1_000, now_s) }, side(1_100, now_s)]
}

fn known(phase: Phase) -> Known {
    let exposed = !matches!(phase, Phase::Locking | Phase::Returning);
    Known { phase, ours: true, exposed, seen: phase == Phase::Carrying }
}

fn theirs(phase: Phase) -> Known {
    Known { ours: false, exposed: false, ..known(phase) }
}

fn decided(known: Known, sides: &[Side; 2]) -> Vec<Move> {
    moves(known, sides, &RULES)
}

const SHOW: Move = Move::Reveal { not_after_s: 980 };

/// A way to make an exchange unsafe.
type Way = fn(&mut [Side; 2]);

#[test]
fn our_secret_is_shown_only_when_both_are_locked_for_good_and_time_is_left() {
    assert_eq!(decided(known(Phase::Locking), &sides(970)), [SHOW]);
    assert_eq!(decided(theirs(Phase::Locking), &sides(970)), [], "it is theirs");
    let unsafe_ways: [(&str, Way); 9] = [
        ("too late on its chain", |sides| sides[0].now_s = 971),
        ("too late on the other, whose clock is ahead", |sides| sides[1].now_s = 971),
        ("not final", |sides| sides[1].final_stored = Some(State::Active)),
        ("not final on its chain", |sides| sides[0].final_stored = Some(State::Active)),
        ("not locked any more", |sides| sides[1].stored = Some(State::Active)),
        ("on its way back", |sides| sides[1].reclaim_from = Some(90)),
        ("breached", |sides| sides[0].breached = true),
        ("a leg is refused", |sides| sides[1].vetoes.push("no".to_owned())),
        ("silent", |sides| sides[1] = Side::silent(1_100)),
    ];
    for (why, spoil) in unsafe_ways {
        for known in [known(Phase::Locking), known(Phase::Revealing)] {
            let mut sides = sides(970);
            spoil(&mut sides);
            assert!(!decided(known, &sides).contains(&SHOW), "{why}");
        }
    }
    assert!(!decided(known(Phase::Returning), &sides(500)).contains(&SHOW), "given up is given up");
}

#[test]
fn what_is_not_locked_in_time_goes_back_in_two_steps() {
    let mut open = sides(981);
    (open[0].stored, open[0].final_stored, open[0].locked) = (Some(State::Active), Some(State::Active), Vec::new());
    assert_eq!(decided(known(Phase::Locking), &open), [Move::Stand(Phase::Returning)]);
    assert_eq!(decided(known(Phase::Returning), &open), []);
    open.iter_mut().for_each(|side| (side.now_s, side.final_s) = (1_100, 1_100));
    assert_eq!(decided(known(Phase::Returning), &open), [Move::StartReclaim { on: Role::Carry }]);
    open[1].reclaim_from = Some(60);
    assert_eq!(decided(known(Phase::Returning), &open), []);
    open[1].head = 60;
    assert_eq!(decided(known(Phase::Returning), &open), [Move::Reclaim { on: Role::Carry, party: ALICE }]);
    (open[1].stored, open[1].locked) = (Some(State::Withdrawn), Vec::new());
    assert_eq!(decided(known(Phase::Returning), &open), [], "not final yet");
    open[1].final_stored = Some(State::Withdrawn);
    assert_eq!(decided(known(Phase::Returning), &open), [Move::Stand(Phase::Returned)]);
    assert_eq!(decided(known(Phase::Returned), &open), []);
}

#[test]
fn the_second_stays_while_the_first_may_still_be_taken() {
    let mut late = sides(1_200);
    let first = Move::StartReclaim { on: Role::Reveal };
    assert_eq!(decided(known(Phase::Revealing), &late), std::slice::from_ref(&first), "our secret may be on its way");
    assert_eq!(decided(theirs(Phase::Returning), &late), [first], "they may show it");
    late[0].stored = Some(State::Withdrawn);
    late[0].locked.clear();
    assert_eq!(decided(theirs(Phase::Returning), &late), [], "a reorg could bring the lock back");
    late[0].final_stored = Some(State::Withdrawn);
    let second = Move::StartReclaim { on: Role::Carry };
    assert_eq!(decided(theirs(Phase::Returning), &late), std::slice::from_ref(&second));
    assert_eq!(decided(known(Phase::Revealing), &late), [Move::Stand(Phase::Returning), second.clone()]);
    late[0] = Side::silent(1_000);
    assert_eq!(decided(theirs(Phase::Returning), &late), [], "nothing is known of the first");
    assert_eq!(decided(known(Phase::Returning), &late), [second], "our secret was never shown");
}

#[test]
fn a_secret_that_came_out_is_carried_before_anything_else() {
    let carried = Move::Carry { to: Role::Carry, secret: SECRET };
    let mut out = sides(500);
    (out[0].stored, out[0].shown) = (Some(State::Executed), Some((SECRET, false)));
    out[0].locked.clear();
    let stands = Move::Stand(Phase::Carrying);
    assert_eq!(decided(theirs(Phase::Locking), &out), [carried.clone(), stands.clone()], "at once");
    assert_eq!(decided(known(Phase::Revealing), &out), std::slice::from_ref(&stands), "ours: when it is final");
    out[1].now_s = 1_070;
    assert_eq!(decided(known(Phase::Revealing), &out), [carried.clone(), stands.clone()], "or before it is too late");
    out[0].shown = Some((SECRET, true));
    out[1].now_s = 2_000;
    for known in [known(Phase::Revealing), theirs(Phase::Returning)] {
        let stays = decided(known, &out);
        assert_eq!(stays, [carried.clone(), stands.clone()], "also after the cutoff, and nothing goes back");
    }
    // Who took it from the pool shows it on the second chain first.
    let mut reversed = sides(500);
    (reversed[1].stored, reversed[1].shown) = (Some(State::Executed), Some((SECRET, false)));
    let back = Move::Carry { to: Role::Reveal, secret: SECRET };
    assert_eq!(decided(known(Phase::Revealing), &reversed), [back, stands]);
}

#[test]
fn a_reorg_that_takes_the_secret_shows_it_again() {
    let again = Move::Reveal { not_after_s: u64::MAX };
    assert_eq!(decided(known(Phase::Carrying), &sides(500)), std::slice::from_ref(&again));
    assert_eq!(decided(known(Phase::Carrying), &sides(1_050)), [again], "it is public, whatever the time");
    assert_eq!(decided(theirs(Phase::Carrying), &sides(500)), [], "theirs to show");
    assert_eq!(decided(theirs(Phase::Carrying), &sides(1_050)), [Move::StartReclaim { on: Role::Reveal }]);
}

#[test]
fn owed_legs_are_delivered_and_it_ends_when_both_are_final() {
    let done = |mut side: Side| {
        (side.stored, side.final_stored, side.shown) =
            (Some(State::Executed), Some(State::Executed), Some((SECRET, true)));
        side.locked.clear();
        side
    };
    let [reveal, carry] = sides(500).map(done);
    let mut owed = [reveal.clone(), carry.clone()];
    (owed[1].stored, owed[1].final_stored) = (Some(State::PartlyDelivered), Some(State::PartlyDelivered));
    owed[1].deliverable = vec![3];
    assert_eq!(decided(known(Phase::Carrying), &owed), [Move::Deliver { on: Role::Carry, leg: 3 }]);
    let ended = [reveal.clone(), carry];
    assert_eq!(decided(known(Phase::Carrying), &ended), [Move::Stand(Phase::Settled)]);
    let mut split = [reveal, sides(2_000)[1].clone()];
    (split[1].stored, split[1].final_stored) = (Some(State::Withdrawn), Some(State::Withdrawn));
    split[1].locked.clear();
    assert_eq!(decided(theirs(Phase::Carrying), &split), [Move::Stand(Phase::Split)]);
}

#[test]
fn what_was_cancelled_or_breached_goes_back_without_a_cutoff() {
    let mut cancelled = sides(100);
    (cancelled[0].stored, cancelled[0].final_stored) = (Some(State::Cancelled), Some(State::Cancelled));
    let back = Move::Reclaim { on: Role::Reveal, party: BOB };
    assert_eq!(decided(known(Phase::Locking), &cancelled), [Move::Stand(Phase::Returning), back.clone()]);
    let mut breached = sides(100);
    breached[0].breached = true;
    assert_eq!(decided(known(Phase::Locking), &breached), [back]);
}
