//! Randomness of pauses. The only randomness in the workers: a simulated schedule seeds it, so that it replays exactly.

use std::{ops::Range, time::Duration};

#[cfg(feature = "sim")]
thread_local! {
    static SEEDED: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// A part of the pause, so that those who failed together do not come back together.
pub(crate) fn jittered(pause: Duration, part: Range<f64>) -> Duration {
    #[cfg(feature = "sim")]
    if let Some(state) = SEEDED.get() {
        let state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        SEEDED.set(Some(state));
        let fraction = (state >> 11) as f64 / (1u64 << 53) as f64;
        return pause.mul_f64(part.start + (part.end - part.start) * fraction);
    }
    pause.mul_f64(rand::random_range(part))
}

/// From now on this thread's pauses follow from the seed.
#[cfg(feature = "sim")]
pub(crate) fn seed(seed: u64) {
    SEEDED.set(Some(seed));
}
