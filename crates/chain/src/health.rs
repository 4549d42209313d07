//! Which upstream to ask first. Pure: the clock is an argument.
//!
//! Health only *orders* upstreams. However bad all of them look, the least bad is still asked, so no run of errors can
//! disable a chain; only a wrong chain id takes an upstream out.

use std::time::{Duration, Instant};

/// Behind the best head by more than this many blocks, an upstream is asked after those that keep up.
const TOLERATED_LAG_BLOCKS: u64 = 2;
const LATENCY_BUCKET_MS: f64 = 25.0;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    pub(crate) head: u64,
    pub(crate) consecutive_errors: u32,
    /// Moving average.
    pub(crate) latency_ms: f64,
    /// Backing off until then.
    pub(crate) not_before: Option<Instant>,
    /// The pause was asked for by the node, so it is kept even if nobody else answers.
    pub(crate) rate_limited: bool,
    /// Chain id that it serves instead of ours.
    pub(crate) wrong_chain: Option<u64>,
    /// Its chain id has been checked since the last lost connection.
    pub(crate) verified: bool,
}

impl Health {
    pub(crate) fn succeeded(&mut self, latency: Duration) {
        let latency_ms = latency.as_secs_f64() * 1_000.0;
        self.latency_ms = if self.latency_ms == 0.0 { latency_ms } else { self.latency_ms * 0.8 + latency_ms * 0.2 };
        self.consecutive_errors = 0;
        self.not_before = None;
        self.rate_limited = false;
    }

    pub(crate) fn failed(&mut self, now: Instant, jitter: f64) {
        self.consecutive_errors = self.consecutive_errors.saturating_add(1);
        self.not_before = Some(now + backoff(self.consecutive_errors, jitter));
        self.rate_limited = false;
        self.verified = false; // what answers next may be another node behind the same name
    }

    pub(crate) fn was_rate_limited(&mut self, now: Instant, retry_after: Option<Duration>, jitter: f64) {
        self.consecutive_errors = self.consecutive_errors.saturating_add(1);
        let pause = retry_after.unwrap_or_else(|| backoff(self.consecutive_errors, jitter)).min(LONGEST_BACKOFF);
        self.not_before = Some(now + pause);
        self.rate_limited = true;
    }

    pub(crate) fn must_pause_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| self.rate_limited && *until > now)
    }
}

/// Doubles, up to a limit; jitter (0..1) takes off up to half, so that replicas do not come back together.
fn backoff(errors: u32, jitter: f64) -> Duration {
    let full = FIRST_BACKOFF.saturating_mul(1 << errors.saturating_sub(1).min(10)).min(LONGEST_BACKOFF);
    full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// Indices of usable upstreams, best first. Ties keep the order of the configuration.
pub(crate) fn order(all: &[Health], now: Instant) -> Vec<usize> {
    let best_head =
        all.iter().filter(|health| health.wrong_chain.is_none()).map(|health| health.head).max().unwrap_or(0);
    let rank = |health: &Health| {
        let backing_off = health.not_before.is_some_and(|until| until > now);
        let lags = best_head.saturating_sub(health.head) > TOLERATED_LAG_BLOCKS;
        let latency = (health.latency_ms / LATENCY_BUCKET_MS) as u64;
        (backing_off, lags, health.consecutive_errors, latency)
    };
    let mut order: Vec<usize> = (0..all.len()).filter(|index| all[*index].wrong_chain.is_none()).collect();
    order.sort_by_key(|index| rank(&all[*index]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy(head: u64, latency_ms: f64) -> Health {
        Health { head, latency_ms, verified: true, ..Health::default() }
    }

    #[test]
    fn fast_beats_slow_and_current_beats_lagging() {
        let now = Instant::now();
        assert_eq!(order(&[healthy(100, 80.0), healthy(99, 10.0)], now), [1, 0]);
        assert_eq!(order(&[healthy(100, 80.0), healthy(90, 10.0)], now), [0, 1]);
        assert_eq!(order(&[healthy(100, 12.0), healthy(100, 10.0)], now), [0, 1]);
    }

    #[test]
    fn failing_goes_last_but_stays_and_success_restores() {
        let now = Instant::now();
        let mut failing = healthy(100, 1.0);
        failing.failed(now, 0.0);
        assert_eq!(order(&[failing.clone(), healthy(100, 90.0)], now), [1, 0]);
        assert_eq!(order(&[failing.clone()], now), [0]);
        failing.succeeded(Duration::from_millis(1));
        assert_eq!(order(&[failing, healthy(100, 90.0)], now), [0, 1]);
    }

    #[test]
    fn wrong_chain_is_the_only_way_out() {
        let wrong = Health { wrong_chain: Some(5), ..healthy(900, 1.0) };
        assert_eq!(order(&[wrong, healthy(100, 90.0)], Instant::now()), [1]);
    }

    #[test]
    fn backoff_doubles_to_a_limit() {
        assert_eq!(backoff(1, 0.0), Duration::from_millis(200));
        assert_eq!(backoff(3, 0.0), Duration::from_millis(800));
        assert_eq!(backoff(u32::MAX, 0.0), LONGEST_BACKOFF);
        assert_eq!(backoff(1, 1.0), Duration::from_millis(100));
    }
}
