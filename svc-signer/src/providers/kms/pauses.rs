//! Pauses after AWS has refused something for its rate: growing, spread, and the same for all calls, for the quota is the account's.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// When the next call may be made.
#[derive(Debug)]
pub(super) struct Pauses {
    first: Duration,
    longest: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Refusals in a row.
    refusals: u32,
    /// When the last of them was heard.
    heard: Option<Instant>,
    until: Option<Instant>,
}

// === impl Pauses ===

impl Pauses {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, state: Mutex::default() }
    }

    /// Whether something was refused and nothing went through since.
    pub(super) fn is_on(&self) -> bool {
        self.state().heard.is_some()
    }

    /// How long nothing is to be asked, from `now` on.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.state().until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A call that was made at `asked` was refused, as was heard `now`. Those that were under way together count once. `random` in 0..1 spreads replicas.
    pub(super) fn refused(&self, asked: Instant, now: Instant, random: f64) {
        let mut state = self.state();
        if state.heard.is_some_and(|heard| asked < heard) {
            return;
        }
        let pause = self.first.saturating_mul(1 << state.refusals.min(16)).min(self.longest);
        state.refusals = state.refusals.saturating_add(1);
        state.heard = Some(now);
        state.until = Some(now + pause.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0));
    }

    /// A call that was made at `asked` went through.
    pub(super) fn passed(&self, asked: Instant) {
        let mut state = self.state();
        // What was asked before the last refusal says nothing of the time after it.
        if state.heard.is_some_and(|heard| asked >= heard) {
            *state = State::default();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_count_once_for_calls_under_way_together_and_end_with_a_success() {
        let pauses = Pauses::new(Duration::from_millis(100), Duration::from_millis(350));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(pauses.left(start), None);
        pauses.refused(start, at(10), 1.0);
        assert_eq!(pauses.left(at(10)), Some(Duration::from_millis(100)));
        // Made before the refusal was heard.
        pauses.refused(at(5), at(20), 1.0);
        assert_eq!(pauses.left(at(20)), Some(Duration::from_millis(90)));
        pauses.passed(at(5));
        assert!(pauses.left(at(20)).is_some());
        pauses.refused(at(111), at(120), 1.0);
        assert_eq!(pauses.left(at(120)), Some(Duration::from_millis(200)));
        pauses.refused(at(400), at(410), 0.0);
        assert_eq!(pauses.left(at(410)), Some(Duration::from_millis(175)), "the longest, spread");
        pauses.passed(at(700));
        assert_eq!((pauses.left(at(700)), pauses.is_on()), (None, false));
        pauses.refused(at(800), at(810), 1.0);
        assert_eq!(pauses.left(at(810)), Some(Duration::from_millis(100)), "from the beginning");
    }
}
