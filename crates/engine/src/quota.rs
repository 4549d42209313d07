//! How much unfinished work a tenant may have, counted seldom: the database is asked again only when the count may have reached
//! the quota, or is old.

use crate::model::TenantId;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A count is believed for this long: other replicas accept, too.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// A full tenant is counted again after this long at the soonest.
const FULL_FOR: Duration = Duration::from_secs(1);

/// Per tenant, what this process knows.
#[derive(Debug)]
pub(crate) struct Quota {
    at_most: u64,
    known: Mutex<HashMap<TenantId, Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// As counted, and accepted here since. What has ended since is still in it.
    running: u64,
    counted_at: Instant,
}

/// Whether a tenant may have more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It may.
    Yes,
    /// It may not.
    No,
    /// Count first.
    Unknown,
}

// === impl Quota ===

impl Quota {
    pub(crate) fn new(at_most: u64) -> Self {
        Self { at_most, known: Mutex::default() }
    }

    pub(crate) fn at_most(&self) -> u64 {
        self.at_most
    }

    /// Whether the tenant may have one more, as far as is known.
    pub(crate) fn room(&self, tenant: &TenantId, now: Instant) -> Room {
        match self.known().get(tenant) {
            Some(Known { running, counted_at }) if *running < self.at_most && now - *counted_at < BELIEVED_FOR => {
                Room::Yes
            }
            Some(Known { running, counted_at }) if *running >= self.at_most && now - *counted_at < FULL_FOR => Room::No,
            _ => Room::Unknown,
        }
    }

    /// It was counted. Returns whether there is room for one more.
    pub(crate) fn counted(&self, tenant: &TenantId, running: u64, now: Instant) -> bool {
        self.known().insert(tenant.clone(), Known { running, counted_at: now });
        running < self.at_most
    }

    /// One more was accepted here.
    pub(crate) fn accepted(&self, tenant: &TenantId) {
        if let Some(known) = self.known().get_mut(tenant) {
            known.running += 1;
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TenantId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_counted_when_it_may_be_full_and_when_the_count_is_old() {
        let (quota, tenant, start) = (Quota::new(3), TenantId::new("bank"), Instant::now());
        assert_eq!(quota.room(&tenant, start), Room::Unknown, "never counted");
        assert!(quota.counted(&tenant, 1, start));
        quota.accepted(&tenant);
        assert_eq!(quota.room(&tenant, start), Room::Yes);
        quota.accepted(&tenant);
        assert_eq!(quota.room(&tenant, start), Room::No, "three may be running");
        assert_eq!(quota.room(&tenant, start + FULL_FOR), Room::Unknown, "some may have ended");
        assert!(quota.counted(&tenant, 2, start + FULL_FOR));
        assert_eq!(quota.room(&tenant, start + FULL_FOR + BELIEVED_FOR), Room::Unknown, "others accept, too");
        assert!(!quota.counted(&tenant, 3, start + FULL_FOR));
    }

    #[test]
    fn a_full_tenant_takes_no_room_from_another() {
        let (quota, start) = (Quota::new(1), Instant::now());
        assert!(!quota.counted(&TenantId::new("flood"), 9, start));
        assert!(quota.counted(&TenantId::new("other"), 0, start));
        assert_eq!(quota.room(&TenantId::new("other"), start), Room::Yes);
    }
}
