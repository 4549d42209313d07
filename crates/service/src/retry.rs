//! Exponential backoff with jitter, one policy for the whole platform, on top of `backon`.
//!
//! ```
//! # async fn read() -> Result<u64, std::io::Error> { Ok(1) }
//! # async fn example() -> Result<u64, std::io::Error> {
//! use dalp_service::retry::{self, Retryable as _};
//! read.retry(retry::patient()).when(|error| error.kind() != std::io::ErrorKind::NotFound).await
//! # }
//! ```

use std::time::Duration;

pub use backon::{Backoff, BackoffBuilder, ExponentialBuilder, Retryable};

/// For a call a caller is waiting on: 50 ms growing to 1 s, five tries, about two seconds in all.
#[must_use]
pub fn quick() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(1))
        .with_factor(2.0)
        .with_max_times(5)
        .with_jitter()
}

/// For background work that must get through: 200 ms growing to 30 s, without an end. The caller bounds it by its [`Stop`].
///
/// [`Stop`]: crate::stop::Stop
#[must_use]
pub fn patient() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(30))
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
}

/// The delay before try number `attempt` (1 is the first retry) of the [`patient`] policy, for work whose counter is stored.
///
/// Jitter is taken from `seed`, so that a deterministic core stays deterministic; it takes away up to half of the delay.
#[must_use]
pub fn delay(attempt: u32, seed: u64) -> Duration {
    const FIRST_MS: u64 = 200;
    const LARGEST_MS: u64 = 30_000;
    let doublings = attempt.saturating_sub(1).min(16);
    let full_ms = (FIRST_MS << doublings).min(LARGEST_MS);
    // SplitMix64's finaliser: neighbouring seeds must not give neighbouring delays.
    let mut mixed = seed.wrapping_add(u64::from(attempt)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^= mixed >> 31;
    Duration::from_millis(full_ms - mixed % (full_ms / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_are_bounded_and_spread() {
        for attempt in 1..40 {
            for seed in 0..50 {
                let delay_ms = delay(attempt, seed).as_millis();
                assert!((100..=30_000).contains(&delay_ms), "attempt {attempt} seed {seed}: {delay_ms} ms");
            }
        }
        assert!(delay(8, 1) > delay(1, 1));
        let distinct: std::collections::BTreeSet<_> = (0..50).map(|seed| delay(9, seed)).collect();
        assert!(distinct.len() > 40);
    }
}
