//! Who is signed in. A session is a random number in a cookie; what is kept of it, in memory, is its digest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rand::{TryRngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::StatusConfig;
use crate::principals::{Principal, Shown};

/// Sessions of one principal; the one that was used longest ago makes room.
const OF_A_PRINCIPAL: usize = 5;
/// Pages of one session that may be open at once.
const PAGES_OF_A_SESSION: usize = 4;
const TOKEN_BYTES: usize = 32;

/// SHA-256 of what a cookie holds.
pub(super) type TokenDigest = [u8; 32];

/// Everybody who is signed in at this replica.
#[derive(Debug)]
pub(super) struct Sessions {
    open: Mutex<HashMap<TokenDigest, Session>>,
    idle: Duration,
    most: Duration,
    count: usize,
}

#[derive(Debug)]
struct Session {
    signed_in: SignedIn,
    begun: Instant,
    used: Instant,
}

/// A session as it is found.
#[derive(Clone, Debug)]
pub(super) struct SignedIn {
    pub(super) digest: TokenDigest,
    /// As it was when it signed in.
    pub(super) principal: Arc<Principal>,
    /// What it has shown, to be looked at again.
    pub(super) shown: Shown,
    /// Places for open pages.
    pub(super) pages: Arc<Semaphore>,
}

// === impl Sessions ===

impl Sessions {
    pub(super) fn new(config: &StatusConfig) -> Self {
        Self {
            open: Mutex::default(),
            idle: Duration::from_secs(config.session_idle_s),
            most: Duration::from_secs(config.session_most_s),
            count: config.sessions,
        }
    }

    /// Begins a session; what its cookie holds. Where there are as many as there may be, one of the tenant that has most makes room.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub(super) fn begin(&self, principal: &Arc<Principal>, shown: &Shown, now: Instant) -> std::io::Result<String> {
        let mut token = [0_u8; TOKEN_BYTES];
        OsRng.try_fill_bytes(&mut token).map_err(std::io::Error::other)?;
        let token = hex::encode(token);
        let digest = digest_of(&token);
        let mut open = self.lock();
        open.retain(|_, session| self.holds(session, now));
        let own = open.iter().filter(|(_, one)| is_same(&one.signed_in.principal, principal));
        let mut own: Vec<_> = own.map(|(digest, one)| (one.used, *digest)).collect();
        own.sort_unstable();
        for (_, oldest) in own.iter().rev().skip(OF_A_PRINCIPAL - 1) {
            open.remove(oldest);
        }
        if open.len() >= self.count
            && let Some(oldest) = oldest_of_the_largest(&open)
        {
            open.remove(&oldest);
        }
        let pages = Arc::new(Semaphore::new(PAGES_OF_A_SESSION));
        let signed_in = SignedIn { digest, principal: Arc::clone(principal), shown: shown.clone(), pages };
        open.insert(digest, Session { signed_in, begun: now, used: now });
        Ok(token)
    }

    /// The session of a cookie, which is used with that.
    pub(super) fn find(&self, token: &str, now: Instant) -> Option<SignedIn> {
        self.use_of(&digest_of(token), now)
    }

    /// A session that goes on; none when it has ended.
    pub(super) fn use_of(&self, digest: &TokenDigest, now: Instant) -> Option<SignedIn> {
        let mut open = self.lock();
        let session = open.get_mut(digest)?;
        if !self.holds(session, now) {
            open.remove(digest);
            return None;
        }
        session.used = now;
        Some(session.signed_in.clone())
    }

    pub(super) fn end(&self, digest: &TokenDigest) {
        self.lock().remove(digest);
    }

    fn holds(&self, session: &Session, now: Instant) -> bool {
        let since = |moment| now.saturating_duration_since(moment);
        since(session.used) < self.idle && since(session.begun) < self.most
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenDigest, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session that was used longest ago of the tenant that has most.
fn oldest_of_the_largest(open: &HashMap<TokenDigest, Session>) -> Option<TokenDigest> {
    let tenant = |session: &Session| session.signed_in.principal.tenant.clone();
    let mut counts: HashMap<_, usize> = HashMap::new();
    open.values().for_each(|session| *counts.entry(tenant(session)).or_default() += 1);
    let most = counts.values().max()?;
    let of_the_largest = open.iter().filter(|(_, session)| counts.get(&tenant(session)) == Some(most));
    of_the_largest.min_by_key(|(_, session)| session.used).map(|(digest, _)| *digest)
}

fn digest_of(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

fn is_same(one: &Principal, other: &Principal) -> bool {
    (&one.tenant, &one.id) == (&other.tenant, &other.id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{config::Scope, permissions::Granted};

    fn principal(id: &str) -> Arc<Principal> {
        of("acme", id)
    }

    fn of(tenant: &str, id: &str) -> Arc<Principal> {
        Arc::new(Principal {
            id: id.parse().unwrap(),
            tenant: tenant.parse().unwrap(),
            limits: None,
            scope: Scope::Read,
            granted: Arc::new(Granted::default()),
            chain_ids: Vec::new(),
            signed_in: false,
            verification: None,
            hands: BTreeSet::new(),
        })
    }

    fn sessions(lines: &str) -> Sessions {
        Sessions::new(&toml::from_str(&format!("listen = \"127.0.0.1:0\"\n{lines}")).unwrap())
    }

    #[test]
    fn a_session_ends_when_nobody_uses_it_and_at_the_latest_in_the_end() {
        let sessions = sessions("session_idle_s = 60\nsession_most_s = 100");
        let (start, anna) = (Instant::now(), principal("anna"));
        let at = |seconds| start + Duration::from_secs(seconds);
        let token = sessions.begin(&anna, &Shown::of_nobody(), start).unwrap();
        assert!(sessions.find(&token, at(59)).is_some());
        assert!(sessions.find(&token, at(99)).is_some(), "it was used since");
        assert!(sessions.find(&token, at(100)).is_none(), "no use makes it longer");
        let token = sessions.begin(&anna, &Shown::of_nobody(), start).unwrap();
        assert!(sessions.find(&token, at(60)).is_none(), "nobody used it");
        assert!(sessions.find(&token, at(1)).is_none(), "what has ended is forgotten");
    }

    #[test]
    fn a_cookie_is_nobody_s_but_whole_and_before_its_end() {
        let sessions = sessions("");
        let now = Instant::now();
        let token = sessions.begin(&principal("anna"), &Shown::of_nobody(), now).unwrap();
        assert_eq!(token.len(), 64);
        let found = sessions.find(&token, now).unwrap();
        for other in ["", &token[..63], &token.to_uppercase(), &hex::encode(found.digest), &"0".repeat(64)] {
            assert_eq!(sessions.find(other, now).is_some(), other == token, "{other}");
        }
        sessions.end(&found.digest);
        assert!(sessions.find(&token, now).is_none());
    }

    #[test]
    fn there_are_only_so_many() {
        let sessions = sessions("sessions = 6");
        let now = Instant::now();
        let anna: Vec<_> = (0..6)
            .map(|at| sessions.begin(&principal("anna"), &Shown::of_nobody(), now + Duration::from_secs(at)).unwrap())
            .collect();
        // Each look is a use, so what was looked at first is the oldest.
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(sessions.find(&anna[0], at(7)).is_none(), "her oldest one made room");
        assert!(anna[1..].iter().zip(8..).all(|(token, seconds)| sessions.find(token, at(seconds)).is_some()));
        let bert = sessions.begin(&of("other", "bert"), &Shown::of_nobody(), at(13)).unwrap();
        let carl = sessions.begin(&of("other", "carl"), &Shown::of_nobody(), at(14)).unwrap();
        let open = |token: &String| sessions.find(token, at(15)).is_some();
        assert!(!open(&anna[1]) && anna[2..].iter().all(open), "no other tenant's session made room for this one");
        assert!(open(&bert) && open(&carl));
    }
}
