//! Limits of a tenant: how often, one token bucket per rate class; and how many at once, so that calls which do not end take
//! no room from other tenants.
//!
//! The bucket is our own thirty lines because a repeat must not be charged twice: the domain service says afterwards that an
//! answer was replayed, and the token goes back. The common limiter crates cannot give a token back.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::config::{LimitsConfig, RateConfig};
use dalp_proto::RateClass;
use dalp_service::TenantId;

/// How long to wait before a call would be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// After this time there is a token again, unless somebody else takes it.
    pub retry_after: Duration,
}

/// The buckets of all tenants. A tenant's are made, full, when it first calls. When its rates change they go on with what they hold, and what is
/// under way goes on counting.
#[derive(Debug)]
pub struct Limits {
    usual: LimitsConfig,
    tenants: RwLock<HashMap<TenantId, Arc<TenantLimits>>>,
}

/// A place among the calls of a tenant that are under way; free again when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicU32>);

#[derive(Debug)]
struct TenantLimits {
    config: LimitsConfig,
    /// A class without a bucket is one the contracts do not know.
    buckets: Vec<(RateClass, Mutex<Bucket>)>,
    room: Room,
}

/// How many are under way; shared by all that stood for a tenant one after the other.
#[derive(Clone, Debug, Default)]
struct Room {
    calls: Arc<AtomicU32>,
    streams: Arc<AtomicU32>,
}

/// A token bucket, full when it is made.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

// === impl Limits ===

impl Limits {
    /// `usual` are the rates of each tenant that has no own.
    #[must_use]
    pub fn new(usual: LimitsConfig) -> Self {
        Self { usual, tenants: RwLock::default() }
    }

    /// Takes a place for a call for as long as it lasts. `None`: the tenant has as many under way as it may.
    pub fn enter(&self, tenant: &TenantId, own: Option<&LimitsConfig>, class: RateClass) -> Option<Place> {
        let limits = self.of(tenant, own);
        let (taken, most) = match class {
            RateClass::Stream => (&limits.room.streams, limits.config.streams_at_once),
            _ => (&limits.room.calls, limits.config.calls_at_once),
        };
        let one_more = |under_way: u32| (under_way < most).then_some(under_way + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok().map(|_| Place(Arc::clone(taken)))
    }

    /// Takes a token, or says when to come back.
    pub fn take(
        &self,
        tenant: &TenantId,
        own: Option<&LimitsConfig>,
        class: RateClass,
        now: Instant,
    ) -> Result<(), Exhausted> {
        let limits = self.of(tenant, own);
        // A class that the contracts do not know must not be a way around the limits.
        let Some(bucket) = limits.bucket(class) else {
            return Err(Exhausted { retry_after: Duration::from_secs(60) });
        };
        bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }

    /// Gives a token back: the call turned out to repeat one that was charged before.
    pub fn give_back(&self, tenant: &TenantId, class: RateClass) {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = tenants.get(tenant).and_then(|limits| limits.bucket(class)) {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).give_back();
        }
    }

    fn of(&self, tenant: &TenantId, own: Option<&LimitsConfig>) -> Arc<TenantLimits> {
        let config = *own.unwrap_or(&self.usual);
        let known = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        if let Some(limits) = known.filter(|limits| limits.config == config) {
            return limits;
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(limits) = tenants.get(tenant).filter(|limits| limits.config == config) {
            return Arc::clone(limits);
        }
        let limits = Arc::new(match tenants.get(tenant) {
            Some(before) => before.changed_to(config, Instant::now()),
            None => TenantLimits::new(config),
        });
        tenants.insert(tenant.clone(), Arc::clone(&limits));
        limits
    }
}

// === impl TenantLimits ===

impl TenantLimits {
    fn new(config: LimitsConfig) -> Self {
        let now = Instant::now();
        let buckets = config.classes().map(|(class, rate)| (class, Mutex::new(Bucket::full(rate, now)))).collect();
        Self { config, buckets, room: Room::default() }
    }

    /// The same tenant with other rates: what it has used is used, and what it has under way is under way.
    fn changed_to(&self, config: LimitsConfig, now: Instant) -> Self {
        let bucket = |class: RateClass, rate: RateConfig| {
            let before = self.bucket(class).map(|bucket| bucket.lock().unwrap_or_else(PoisonError::into_inner).clone());
            Mutex::new(before.map_or_else(|| Bucket::full(rate, now), |before| before.changed_to(rate, now)))
        };
        let buckets = config.classes().map(|(class, rate)| (class, bucket(class, rate))).collect();
        Self { config, buckets, room: self.room.clone() }
    }

    fn bucket(&self, class: RateClass) -> Option<&Mutex<Bucket>> {
        self.buckets.iter().find(|(own, _)| *own == class).map(|(_, bucket)| bucket)
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Bucket ===

impl Bucket {
    pub(crate) fn full(rate: RateConfig, now: Instant) -> Self {
        let burst = f64::from(rate.burst);
        Self { per_second: f64::from(rate.per_second), burst, tokens: burst, filled_at: now }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.filled_at = self.filled_at.max(now);
    }

    fn changed_to(mut self, rate: RateConfig, now: Instant) -> Self {
        self.fill(now);
        let burst = f64::from(rate.burst);
        Self {
            per_second: f64::from(rate.per_second),
            burst,
            tokens: self.tokens.min(burst),
            filled_at: self.filled_at,
        }
    }

    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Exhausted> {
        self.fill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Exhausted { retry_after: Duration::from_secs_f64((1.0 - self.tokens) / self.per_second) })
    }

    pub(crate) fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_second: u32, burst: u32) -> (Limits, TenantId, TenantId) {
        let rate = RateConfig { per_second, burst };
        let config =
            LimitsConfig { read: rate, write: rate, stream: rate, admin: rate, calls_at_once: 2, streams_at_once: 1 };
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        (Limits::new(config), a, b)
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let (limits, tenant, other) = limits(10, 3);
        limits.enter(&tenant, None, RateClass::Write).unwrap();
        let start = Instant::now();
        for _ in 0..3 {
            limits.take(&tenant, None, RateClass::Write, start).unwrap();
        }
        let refused = limits.take(&tenant, None, RateClass::Write, start).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_millis(100));
        // Neither another class nor another tenant pays for it.
        limits.take(&tenant, None, RateClass::Read, start).unwrap();
        limits.take(&other, None, RateClass::Write, start).unwrap();
        limits.take(&tenant, None, RateClass::Write, start + refused.retry_after).unwrap();
        assert!(limits.take(&tenant, None, RateClass::Write, start + refused.retry_after).is_err());
    }

    #[test]
    fn a_replayed_call_costs_nothing() {
        let (limits, tenant, _) = limits(1, 1);
        limits.enter(&tenant, None, RateClass::Write).unwrap();
        let start = Instant::now();
        for _ in 0..10 {
            limits.take(&tenant, None, RateClass::Write, start).unwrap();
            limits.give_back(&tenant, RateClass::Write);
        }
        limits.give_back(&tenant, RateClass::Write);
        limits.take(&tenant, None, RateClass::Write, start).unwrap();
        assert!(limits.take(&tenant, None, RateClass::Write, start).is_err(), "giving back never exceeds the burst");
    }

    #[test]
    fn what_is_under_way_takes_a_place_until_it_ends() {
        let (limits, tenant, other) = limits(1, 1);
        let first = limits.enter(&tenant, None, RateClass::Read).unwrap();
        let _second = limits.enter(&tenant, None, RateClass::Write).unwrap();
        assert!(limits.enter(&tenant, None, RateClass::Admin).is_none(), "two calls at once");
        let _stream = limits.enter(&tenant, None, RateClass::Stream).unwrap();
        assert!(limits.enter(&tenant, None, RateClass::Stream).is_none(), "one stream at once");
        assert!(limits.enter(&other, None, RateClass::Read).is_some(), "another tenant has its own room");
        drop(first);
        assert!(limits.enter(&tenant, None, RateClass::Read).is_some());
    }

    #[test]
    fn a_tenant_whose_rates_change_has_the_new_ones_at_once_and_nothing_for_free() {
        let (limits, tenant, _) = limits(1, 1);
        let now = Instant::now();
        limits.take(&tenant, None, RateClass::Read, now).unwrap();
        assert!(limits.take(&tenant, None, RateClass::Read, now).is_err());
        let rate = RateConfig { per_second: 5, burst: 2 };
        let own = LimitsConfig { read: rate, calls_at_once: 2, ..LimitsConfig::default() };
        let refused = limits.take(&tenant, Some(&own), RateClass::Read, now).unwrap_err();
        assert!(refused.retry_after <= Duration::from_millis(200), "at the new rate: {refused:?}");
        limits.take(&tenant, Some(&own), RateClass::Read, now + Duration::from_millis(250)).unwrap();
        let later = now + Duration::from_secs(60);
        limits.take(&tenant, Some(&own), RateClass::Read, later).unwrap();
        limits.take(&tenant, Some(&own), RateClass::Read, later).unwrap();
        assert!(limits.take(&tenant, Some(&own), RateClass::Read, later).is_err(), "the new burst");
    }

    #[test]
    fn what_is_under_way_counts_on_when_the_limits_change() {
        let (limits, tenant, _) = limits(1, 1);
        let wide = LimitsConfig { calls_at_once: 3, ..LimitsConfig::default() };
        let first = limits.enter(&tenant, None, RateClass::Read).unwrap();
        let _second = limits.enter(&tenant, Some(&wide), RateClass::Read).unwrap();
        let _third = limits.enter(&tenant, Some(&wide), RateClass::Read).unwrap();
        assert!(limits.enter(&tenant, Some(&wide), RateClass::Read).is_none(), "the first one counts");
        assert!(limits.enter(&tenant, None, RateClass::Read).is_none(), "three are more than two");
        drop(first);
        assert!(limits.enter(&tenant, Some(&wide), RateClass::Read).is_some());
    }

    #[test]
    fn an_unknown_class_is_no_way_around() {
        let start = Instant::now();
        let (limits, tenant, _) = limits(1, 1);
        assert!(limits.take(&tenant, None, RateClass::Unspecified, start).is_err());
    }
}
