//! Credentials as the tables have them, from memory where that is known to be right.
//!
//! An entry is used as it is while it is fresh: not told to have changed since it was read, read within the configured time, and
//! vouched for within [`TRUSTED_FOR`] by the listener's connection or by its own reading. So what was disabled stops within a second
//! on every replica, also on one that hears of no changes. Everything else is read again, once for all who wait.
//!
//! While the database is away, an entry that was right lately (`access.grace_ms`) goes on reading; writes and everybody else
//! hear DATABASE_UNAVAILABLE. An entry that is known to have changed since it was read has no such grace.
//!
//! What is not there is remembered as well: a stranger costs one statement, and the cache's own rule of admission keeps strangers
//! from pushing out those who call often. Strangers have places of their own to wait in, and what becomes of their readings says
//! nothing about the database: a flood of them neither puts others on grace nor takes their connections.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dalp_service::{Reason, Refusal, errors::RefusalResult};
use time::OffsetDateTime;

use super::{
    Store,
    store::{Credential, CredentialKey},
    uses::Uses,
};
use crate::{
    config::AccessConfig,
    metric_definitions as names,
    permissions::Granting,
    principals::{Known, Principal},
};

/// How long an entry is right without anybody vouching for it.
pub const TRUSTED_FOR: Duration = Duration::from_millis(700);
/// After a reading that failed, nobody tries again for this long.
const PAUSE: Duration = Duration::from_millis(300);
/// Readings of known credentials that may be under way at once.
const READINGS_AT_ONCE: usize = 6;
/// Readings of credentials of which nothing is known: strangers wait here, not for the places of others.
const STRANGERS_AT_ONCE: usize = 2;
/// When so many principals are told to have changed, those are forgotten whose change no entry is older than.
const PRINCIPALS_KEPT: usize = 10_000;

/// The cache of credentials.
pub struct Directory {
    store: Store,
    granting: Granting,
    config: AccessConfig,
    entries: moka::sync::Cache<CredentialKey, Arc<Slot>>,
    /// When a tenant was last told to have changed. As many entries as tenants that changed.
    changed_tenants: RwLock<HashMap<String, Instant>>,
    /// When a principal was last told to have changed, by tenant and identifier.
    changed_principals: RwLock<HashMap<(String, String), Instant>>,
    changed_all: RwLock<Instant>,
    /// Since when the listener listens, in milliseconds since `born`: what was told before may have been missed.
    listening_ms: AtomicU64,
    /// Up to when the listener has heard of every change, in milliseconds since `born`.
    heard_ms: AtomicU64,
    failed_ms: AtomicU64,
    readings: tokio::sync::Semaphore,
    strangers: tokio::sync::Semaphore,
    born: Instant,
    /// The tables say what the configuration says.
    ready: AtomicBool,
    /// When keys were last used.
    pub uses: Uses,
}

/// What is told to have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A credential.
    One(CredentialKey),
    /// Everything of a principal of a tenant.
    Principal(String, String),
    /// Everything of a tenant.
    Tenant(String),
    /// Nobody knows what.
    Everything,
}

/// A principal as found, and how good the word for it is.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is known.
    pub known: Known,
    /// The database could not be asked: good for reading only.
    pub only_reads: bool,
}

#[derive(Default)]
struct Slot {
    loaded: arc_swap::ArcSwapOption<Loaded>,
    /// Held by the one who reads.
    reading: tokio::sync::Mutex<()>,
    changed: Mutex<Option<Instant>>,
    /// The minute its use was last noted in.
    used_minute: AtomicI64,
}

struct Loaded {
    /// When it was asked for.
    at: Instant,
    known: Option<Known>,
}

// === impl Change ===

impl Change {
    /// Reads a notification; what is not understood may be anything.
    #[must_use]
    pub fn read(payload: &str) -> Self {
        let read = || {
            let (kind, rest) = payload.split_once(' ')?;
            Some(match kind {
                "t" => Self::Tenant(rest.to_owned()),
                "p" => {
                    let (tenant, principal) = rest.split_once(' ')?;
                    Self::Principal(tenant.to_owned(), principal.to_owned())
                }
                "k" => Self::One(CredentialKey::ApiKey(rest.to_owned())),
                "c" => Self::One(CredentialKey::Certificate(rest.parse().ok()?)),
                "o" => {
                    let (issuer, subject) = rest.split_once(' ')?;
                    Self::One(CredentialKey::Oidc { issuer: issuer.to_owned(), subject: subject.to_owned() })
                }
                _ => return None,
            })
        };
        read().unwrap_or(Self::Everything)
    }
}

// === impl Directory ===

impl std::fmt::Debug for Directory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Directory").field("entries", &self.entries.entry_count()).finish_non_exhaustive()
    }
}

impl Directory {
    /// An empty cache before `store`.
    #[must_use]
    pub fn new(store: Store, granting: Granting, config: AccessConfig) -> Self {
        let born = Instant::now();
        Self {
            store,
            granting,
            entries: moka::sync::Cache::new(config.cache_entries),
            config,
            changed_tenants: RwLock::default(),
            changed_principals: RwLock::default(),
            changed_all: RwLock::new(born),
            listening_ms: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            failed_ms: AtomicU64::new(0),
            readings: tokio::sync::Semaphore::new(READINGS_AT_ONCE),
            strangers: tokio::sync::Semaphore::new(STRANGERS_AT_ONCE),
            born,
            ready: AtomicBool::new(false),
            uses: Uses::default(),
        }
    }

    /// What may be granted, and what it comes to.
    #[must_use]
    pub fn granting(&self) -> &Granting {
        &self.granting
    }

    /// From here on the tables are asked: they are there, and say what the configuration says.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// The tables.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of a credential; `None` when there is no such.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE when it is not known, or not lately, and the database does not answer.
    pub async fn find(&self, key: &CredentialKey) -> RefusalResult<Option<Found>> {
        let slot = match self.entries.get(key) {
            Some(slot) => slot,
            None => self.entries.get_with(key.clone(), Arc::default),
        };
        if let Some(loaded) = slot.loaded.load_full().filter(|loaded| self.is_fresh(&slot, loaded)) {
            return Ok(loaded.found(false));
        }
        let _reader = slot.reading.lock().await;
        // Somebody else may have read while we waited.
        if let Some(loaded) = slot.loaded.load_full().filter(|loaded| self.is_fresh(&slot, loaded)) {
            return Ok(loaded.found(false));
        }
        let is_known = slot.loaded.load().as_ref().is_some_and(|loaded| loaded.known.is_some());
        match self.read(key, is_known).await {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                slot.loaded.store(Some(Arc::clone(&loaded)));
                Ok(loaded.found(false))
            }
            Err(refusal) => self.without_database(&slot, refusal),
        }
    }

    /// Notes that an API key let somebody in.
    pub fn used(&self, key: &CredentialKey, wall: OffsetDateTime) {
        let CredentialKey::ApiKey(prefix) = key else { return };
        let Some(slot) = self.entries.get(key) else { return };
        let minute = wall.unix_timestamp() / 60;
        if slot.used_minute.swap(minute, Ordering::Relaxed) != minute {
            self.uses.note(prefix, wall.replace_nanosecond(0).unwrap_or(wall));
        }
    }

    /// Takes in that something has changed.
    pub fn changed(&self, change: Change) {
        let now = Instant::now();
        match change {
            Change::One(key) => {
                // Made if it is missing: somebody may be reading what stood there before.
                let slot = self.entries.get_with(key, Arc::default);
                *slot.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            }
            Change::Principal(tenant, principal) => {
                let mut principals = self.changed_principals.write().unwrap_or_else(PoisonError::into_inner);
                if principals.len() >= PRINCIPALS_KEPT {
                    // One mark for all of them.
                    *self.changed_all.write().unwrap_or_else(PoisonError::into_inner) = now;
                    principals.clear();
                }
                principals.insert((tenant, principal), now);
            }
            Change::Tenant(tenant) => {
                self.changed_tenants.write().unwrap_or_else(PoisonError::into_inner).insert(tenant, now);
            }
            Change::Everything => *self.changed_all.write().unwrap_or_else(PoisonError::into_inner) = now,
        }
    }

    /// The listener hears again. What was told before may have been missed, so nothing that was asked for earlier is fresh; while the database cannot be asked it
    /// is as good for grace as it was. The database is there, as far as the listener is concerned: nobody waits for another try.
    pub fn listening(&self) {
        self.listening_ms.store(self.ms(Instant::now()), Ordering::Relaxed);
        self.failed_ms.store(0, Ordering::Relaxed);
    }

    /// The listener has heard of everything up to `at`.
    pub fn heard(&self, at: Instant) {
        self.heard_ms.fetch_max(self.ms(at), Ordering::Relaxed);
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }

    fn is_fresh(&self, slot: &Slot, loaded: &Loaded) -> bool {
        let now = Instant::now();
        let heard = self.born + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(loaded.at) < Duration::from_millis(self.config.cache_ttl_ms)
            && now.saturating_duration_since(loaded.at.max(heard)) < TRUSTED_FOR
            && self.ms(loaded.at) > self.listening_ms.load(Ordering::Relaxed)
            && !self.has_changed(slot, loaded)
    }

    /// Whether something was told to have changed since an entry was asked for.
    fn has_changed(&self, slot: &Slot, loaded: &Loaded) -> bool {
        let after = |change: Option<Instant>| change.is_some_and(|change| change >= loaded.at);
        after(*slot.changed.lock().unwrap_or_else(PoisonError::into_inner))
            || after(Some(*self.changed_all.read().unwrap_or_else(PoisonError::into_inner)))
            || loaded.known.as_ref().is_some_and(|known| {
                let Principal { tenant, id, .. } = known.principal.as_ref();
                let tenants = self.changed_tenants.read().unwrap_or_else(PoisonError::into_inner);
                let principals = self.changed_principals.read().unwrap_or_else(PoisonError::into_inner);
                let name = || (tenant.to_string(), id.to_string());
                after(tenants.get(tenant.as_str()).copied())
                    || (!principals.is_empty() && after(principals.get(&name()).copied()))
            })
    }

    /// Asks the database. `is_known`: it has said before that there is such a credential.
    async fn read(&self, key: &CredentialKey, is_known: bool) -> RefusalResult<Loaded> {
        let has_failed = || {
            let failed = self.failed_ms.load(Ordering::Relaxed);
            failed != 0 && self.ms(Instant::now()).saturating_sub(failed) < ms(PAUSE)
        };
        if !self.ready.load(Ordering::Acquire) || has_failed() {
            return Err(unavailable());
        }
        let within = Duration::from_millis(self.config.read_within_ms);
        // Who waits too long for a place has learnt nothing about the database.
        let places = if is_known { &self.readings } else { &self.strangers };
        let Ok(_place) = tokio::time::timeout(within, places.acquire()).await else { return Err(unavailable()) };
        // While we waited for a place, somebody may have found it gone.
        if is_known && has_failed() {
            return Err(unavailable());
        }
        let at = Instant::now();
        let answer = tokio::time::timeout(within, self.store.credential(key)).await;
        metrics::histogram!(names::GATEWAY_CREDENTIAL_READ_SECONDS).record(at.elapsed().as_secs_f64());
        let judge = |failed: u64| {
            if is_known {
                self.failed_ms.store(failed, Ordering::Relaxed);
            }
        };
        let failed = || judge(self.ms(Instant::now()).max(1));
        match answer {
            Ok(Ok(credential)) => {
                judge(0);
                Ok(Loaded { at, known: credential.map(|credential| self.known(credential)) })
            }
            Ok(Err(error)) => {
                let refusal = Refusal::from(error);
                if refusal.reason() == Reason::DatabaseUnavailable {
                    failed();
                    return Err(unavailable());
                }
                Err(refusal)
            }
            Err(_late) => {
                failed();
                Err(unavailable())
            }
        }
    }

    fn known(&self, credential: Credential) -> Known {
        let granted = self.granting.granted(&credential.grants);
        Known {
            digest: credential.digest,
            expires_at: credential.expires_at,
            disabled: credential.disabled,
            tenant_disabled: credential.tenant_disabled,
            cell: credential.cell,
            principal: Arc::new(Principal {
                id: credential.principal,
                tenant: credential.tenant,
                limits: credential.limits,
                scope: credential.scope,
                granted,
                chain_ids: credential.chain_ids,
                signed_in: credential.signed_in,
                verification: credential.verification.map(Arc::new),
                hands: credential.hands,
            }),
        }
    }

    /// What was right lately still reads. That something is not there was right lately, too, but may be wrong by now: nobody is sent
    /// away for good on such a word.
    fn without_database(&self, slot: &Slot, refusal: Refusal) -> RefusalResult<Option<Found>> {
        let lately = |loaded: &Arc<Loaded>| {
            loaded.at.elapsed() < Duration::from_millis(self.config.grace_ms) && !self.has_changed(slot, loaded)
        };
        match slot.loaded.load_full().filter(lately).and_then(|loaded| loaded.found(true)) {
            Some(found) if refusal.reason() == Reason::DatabaseUnavailable => {
                metrics::counter!(names::GATEWAY_GRACE_TOTAL).increment(1);
                Ok(Some(found))
            }
            _ => Err(refusal),
        }
    }
}

// === impl Loaded ===

impl Loaded {
    fn found(&self, only_reads: bool) -> Option<Found> {
        self.known.clone().map(|known| Found { known, only_reads })
    }
}

/// What everybody hears whom only the database could tell of.
pub(crate) fn unavailable() -> Refusal {
    Refusal::new(Reason::DatabaseUnavailable, "the database that knows who may call does not answer")
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_read_and_what_is_not_understood_may_be_anything() {
        assert_eq!(Change::read("t acme"), Change::Tenant("acme".to_owned()));
        assert_eq!(Change::read("p acme ops"), Change::Principal("acme".to_owned(), "ops".to_owned()));
        assert_eq!(Change::read("k abcd"), Change::One(CredentialKey::ApiKey("abcd".to_owned())));
        let subject = CredentialKey::Oidc { issuer: "https://i".to_owned(), subject: "a b".to_owned() };
        assert_eq!(Change::read("o https://i a b"), Change::One(subject));
        for strange in ["*", "", "x y", "p acme", "c not-a-spiffe-id", "o https://i"] {
            assert_eq!(Change::read(strange), Change::Everything, "{strange}");
        }
    }

    fn without_a_database() -> Directory {
        let options = sqlx::postgres::PgConnectOptions::new().host("127.0.0.1").port(1);
        let pool = sqlx::postgres::PgPoolOptions::new().connect_lazy_with(options);
        let store = Store::from(dalp_domain::store::Tables::over(super::super::store::SCHEMA, pool));
        let mut directory = Directory::new(store, Granting::new(&dalp_proto::Methods::load()), AccessConfig::default());
        // Long ago: nobody has vouched for anything since, and nothing has changed.
        directory.born = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        *directory.changed_all.write().unwrap() = directory.born;
        directory.ready();
        directory
    }

    /// As if the credential had been read a moment ago, and nobody had vouched for it since.
    fn read_before(directory: &Directory, prefix: &str) -> CredentialKey {
        let key = CredentialKey::ApiKey(prefix.to_owned());
        let credential = Credential {
            digest: None,
            scope: crate::config::Scope::Read,
            expires_at: None,
            disabled: false,
            tenant_disabled: false,
            tenant: "acme".parse().unwrap(),
            cell: "main".to_owned(),
            limits: None,
            chain_ids: Vec::new(),
            principal: prefix.parse().unwrap(),
            signed_in: false,
            verification: None,
            hands: Default::default(),
            grants: Vec::new(),
        };
        let loaded = Loaded { at: Instant::now() - TRUSTED_FOR, known: Some(directory.known(credential)) };
        let slot = Slot::default();
        slot.loaded.store(Some(Arc::new(loaded)));
        directory.entries.insert(key.clone(), Arc::new(slot));
        key
    }

    #[tokio::test]
    async fn what_is_known_to_have_changed_has_no_grace() {
        let directory = without_a_database();
        let keys: Vec<_> = ["one", "two", "three", "four"].map(|name| read_before(&directory, name)).into();
        for key in &keys {
            let found = directory.find(key).await.unwrap().expect("it was right lately");
            assert!(found.only_reads);
        }
        directory.changed(Change::One(keys[0].clone()));
        directory.changed(Change::Principal("acme".to_owned(), "two".to_owned()));
        for key in &keys[..2] {
            assert_eq!(directory.find(key).await.unwrap_err().reason(), Reason::DatabaseUnavailable, "{key:?}");
        }
        assert!(directory.find(&keys[2]).await.unwrap().is_some(), "nothing was told of it");
        directory.changed(Change::Tenant("acme".to_owned()));
        assert_eq!(directory.find(&keys[2]).await.unwrap_err().reason(), Reason::DatabaseUnavailable);
    }

    #[tokio::test]
    async fn strangers_say_nothing_about_the_database() {
        let directory = Arc::new(without_a_database());
        let known = read_before(&directory, "one");
        let mut strangers = tokio::task::JoinSet::new();
        for stranger in 0..100 {
            let directory = Arc::clone(&directory);
            strangers.spawn(async move { directory.find(&CredentialKey::ApiKey(format!("s{stranger}"))).await });
        }
        while let Some(answer) = strangers.join_next().await {
            assert_eq!(answer.unwrap().unwrap_err().reason(), Reason::DatabaseUnavailable);
        }
        assert_eq!(directory.failed_ms.load(Ordering::Relaxed), 0, "a flood of strangers leaves others alone");
        directory.find(&known).await.unwrap().expect("on grace");
        assert_ne!(directory.failed_ms.load(Ordering::Relaxed), 0, "what is known to be there was not answered");
    }
}
