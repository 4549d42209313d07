//! What a page shows, gathered while somebody looks: once for each principal, however many pages it has open.
//!
//! Not once for a tenant: two of its principals need not see the same, and what each may see is decided by the services that are asked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dalp_service::{PrincipalId, Refusal, TenantId};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use tonic::Status;

use super::{
    inside::Inside,
    parts::{PARTS, Part},
};
use crate::principals::Principal;

/// What has not answered by then is said not to have.
const PATIENCE: Duration = Duration::from_secs(9);
/// It goes on so long after a page has gone: whoever opens one again and again has no more asked than who leaves one open.
const LINGERS: Duration = Duration::from_secs(30);
/// The longest reason that is shown.
const REASON_CHARACTERS: usize = 300;

/// The latest event of each part, ready to be sent.
pub(super) type Snapshot = [Option<Bytes>; PARTS.len()];

/// All that is being gathered.
pub(super) struct Gatherings {
    inside: Inside,
    open: Mutex<HashMap<(TenantId, PrincipalId), Weak<Gathering>>>,
}

/// What is gathered for one principal, for as long as this is held.
pub(super) struct Gathering {
    principal: Arc<ArcSwap<Principal>>,
    state: Arc<watch::Sender<Snapshot>>,
    /// It is held for a while already.
    lingers: AtomicBool,
    /// Ends with it.
    _tasks: JoinSet<()>,
}

// === impl Gatherings ===

impl Gatherings {
    pub(super) fn new(inside: Inside) -> Self {
        Self { inside, open: Mutex::default() }
    }

    /// What is gathered for a principal already, or from now on.
    pub(super) fn of(&self, principal: &Arc<Principal>) -> Arc<Gathering> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, gathering| gathering.strong_count() > 0);
        let key = (principal.tenant.clone(), principal.id.clone());
        if let Some(gathering) = open.get(&key).and_then(Weak::upgrade) {
            gathering.as_it_is(principal);
            return gathering;
        }
        let gathering = Arc::new(Gathering::begin(&self.inside, principal));
        open.insert(key, Arc::downgrade(&gathering));
        gathering
    }
}

// === impl Gathering ===

impl Gathering {
    fn begin(inside: &Inside, principal: &Arc<Principal>) -> Self {
        let state = Arc::new(watch::Sender::new(Snapshot::default()));
        let principal = Arc::new(ArcSwap::from(Arc::clone(principal)));
        let mut tasks = JoinSet::new();
        for (index, part) in PARTS.into_iter().enumerate() {
            tasks.spawn(keep(index, part, inside.clone(), Arc::clone(&principal), Arc::clone(&state)));
        }
        Self { principal, state, lingers: AtomicBool::new(false), _tasks: tasks }
    }

    /// Goes on with the principal's rights of now.
    pub(super) fn as_it_is(&self, principal: &Arc<Principal>) {
        self.principal.store(Arc::clone(principal));
    }

    /// A page has gone.
    pub(super) fn linger(self: &Arc<Self>) {
        // There is none where everything ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.lingers.swap(true, Ordering::AcqRel) {
            let held = Arc::clone(self);
            runtime.spawn(async move {
                tokio::time::sleep(LINGERS).await;
                held.lingers.store(false, Ordering::Release);
            });
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.state.subscribe()
    }
}

/// Keeps one part up to date. Each has a task of its own: one that is slow holds no other up.
async fn keep(
    index: usize,
    part: Part,
    inside: Inside,
    principal: Arc<ArcSwap<Principal>>,
    state: Arc<watch::Sender<Snapshot>>,
) {
    loop {
        let calls = inside.of(principal.load_full());
        let document = match tokio::time::timeout(PATIENCE, part.gather(calls)).await {
            Ok(Ok(shown)) => json!({ "part": part.name(), "shown": shown }),
            Ok(Err(status)) => json!({ "part": part.name(), "error": said(&status) }),
            Err(_) => json!({ "part": part.name(), "error": "no answer in time" }),
        };
        let event = Bytes::from(format!("event: part\ndata: {document}\n\n"));
        state.send_if_modified(|snapshot| {
            let changed = snapshot[index].as_ref() != Some(&event);
            if changed {
                snapshot[index] = Some(event);
            }
            changed
        });
        tokio::time::sleep(part.every()).await;
    }
}

/// As the API would tell it.
pub(super) fn said(status: &Status) -> String {
    let message = status.message().chars().take(REASON_CHARACTERS).collect::<String>();
    match Refusal::details(status) {
        Some(details) => format!("{}: {message}", details.reason),
        None if message.is_empty() => status.code().description().to_owned(),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use dalp_service::Reason;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_for_a_while_however_often_a_page_comes_and_goes() {
        let principal = Principal {
            id: "anna".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            limits: None,
            scope: crate::config::Scope::Read,
            granted: Arc::default(),
            chain_ids: Vec::new(),
            signed_in: false,
            verification: None,
            hands: std::collections::BTreeSet::new(),
        };
        let gathering = Arc::new(Gathering {
            principal: Arc::new(ArcSwap::from(Arc::new(principal))),
            state: Arc::new(watch::Sender::new(Snapshot::default())),
            lingers: AtomicBool::new(false),
            _tasks: JoinSet::new(),
        });
        let later = Arc::downgrade(&gathering);
        gathering.linger();
        gathering.linger();
        drop(gathering);
        tokio::time::sleep(LINGERS - Duration::from_secs(1)).await;
        later.upgrade().expect("it goes on").linger();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(later.upgrade().is_none(), "nobody has looked for long");
    }

    #[test]
    fn a_reason_is_told_as_the_api_tells_it_and_not_without_end() {
        let refused = Refusal::new(Reason::PermissionDenied, "this call needs the permission key:read").to_status();
        assert_eq!(said(&refused), "PERMISSION_DENIED: this call needs the permission key:read");
        assert_eq!(said(&Status::unimplemented("")), "Operation is not implemented or not supported");
        assert_eq!(said(&Status::unavailable("ö".repeat(1_000))).chars().count(), REASON_CHARACTERS);
    }
}
