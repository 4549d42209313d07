//! Calls on their way into the audit, of callers that proved who they are: what they were refused and why, and what they were let do
//! by services whose commit has no leaf.
//!
//! A refusal has no commit that its leaf could be part of, so it is written a moment later, in batches. What is written is bounded per tenant: beyond the
//! bound refusals are counted, by reason, into one leaf a minute, so that a flood leaves its trace and fills no disk. Who proves nothing leaves none at
//! all; the log of the gateway and its metrics tell of those. Nothing is written of what nobody decided, such as a database that does not answer.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dalp_domain::store::{StoreError, Tables, during};
use dalp_engine::{CallLeaf, call_leaves};
use dalp_service::{Reason, errors::Next, stop::Stop};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::task::TaskTracker;

use super::held::said_by_rows;
use crate::{config::AuditConfig, metric_definitions as names, principals::Principal};

/// Refusals that wait to be written; while the database is away, more are only counted.
const WAITING_MOST: usize = 10_000;
const BATCH: usize = 500;
/// How often what was only counted is written.
const COUNTS_EVERY: Duration = Duration::from_secs(60);
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often what still waits at the end is tried again.
const LAST_TRIES: u32 = 3;
/// Calls that nobody waits for end at once when the gateway does.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
const MESSAGE_CHARACTERS: usize = 1_000;
/// Its calls make no operation: what waits for an approval there was not accepted.
const KEYS: &str = "/dalp.signer.v1.KeyService/";

/// Takes refusals in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Refusals {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<CallLeaf>,
    config: AuditConfig,
    bounds: Mutex<HashMap<String, Bound>>,
    /// Requested when the last caller was answered.
    answered: Stop,
    /// Calls whose end is heard also without their callers.
    hearing: TaskTracker,
}

/// What is left of a tenant's bound, and what went beyond it.
#[derive(Debug)]
struct Bound {
    tokens: f64,
    filled_at: Instant,
    counted: BTreeMap<String, u64>,
}

/// Writes what [`Refusals`] take in.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    waiting: mpsc::Receiver<CallLeaf>,
    tables: Tables,
}

/// One refused call.
#[derive(Clone, Debug)]
pub struct Refused<'r> {
    /// Who called.
    pub principal: &'r Principal,
    /// Path of the RPC.
    pub path: &'r str,
    /// Why, as a reason of the catalogue.
    pub reason: &'r str,
    /// The same for people.
    pub message: &'r str,
    /// The key under which it was called, if it has one.
    pub idempotency_key: Option<&'r str>,
    /// SHA-256 of its messages, where they were read.
    pub payload_hash: Option<[u8; 32]>,
}

/// One call that the gateway let pass and whose service leaves no leaf.
#[derive(Clone, Debug)]
pub(crate) struct Allowed<'a> {
    pub(crate) action: &'static str,
    pub(crate) principal: &'a Principal,
    pub(crate) path: &'a str,
    /// What was heard of it last, unless it was carried out.
    pub(crate) reason: &'a str,
    /// The same for people.
    pub(crate) message: &'a str,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) payload_hash: [u8; 32],
    /// Answered as what was carried out before.
    pub(crate) is_repeat: bool,
}

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// It gets a leaf.
    Leaf,
    /// It is counted.
    Count,
    /// Nobody decided anything.
    Nothing,
}

/// A queue between whoever refuses and whoever writes; `answered` is requested when the last call was answered.
#[must_use]
pub fn refusals(config: AuditConfig, tables: Tables, answered: Stop) -> (Refusals, Writer) {
    let (queue, waiting) = mpsc::channel(WAITING_MOST);
    let (bounds, hearing) = (Mutex::default(), TaskTracker::new());
    let shared = Arc::new(Shared { queue, config, bounds, answered, hearing });
    (Refusals { shared: Arc::clone(&shared) }, Writer { shared, waiting, tables })
}

/// What is kept of a refusal of the RPC at `path`.
fn kept(reason: &str, path: &str) -> Kept {
    match reason.parse::<Reason>() {
        Ok(Reason::RateLimited | Reason::Overloaded | Reason::TenantQuotaExceeded) => Kept::Count,
        Ok(Reason::Internal | Reason::NotImplemented) => Kept::Nothing,
        // Of a set-up call the operation is accepted, has its leaf, and is what waits. No key was made.
        Ok(Reason::CustodyApprovalPending) if !path.starts_with(KEYS) => Kept::Nothing,
        Ok(reason) if reason.next() == Next::RetrySameKey => Kept::Nothing,
        // A newer service's reason: it decided something.
        Ok(_) | Err(_) => Kept::Leaf,
    }
}

// === impl Refusals ===

impl Refusals {
    /// Takes a refusal in; never waits. `false` if it is none: nobody decided anything.
    pub fn note(&self, refused: &Refused<'_>) -> bool {
        let tenant = refused.principal.tenant.as_str();
        let kept = kept(refused.reason, refused.path);
        if kept == Kept::Nothing {
            return false;
        }
        let mut bounds = self.shared.bounds();
        let bound = bounds.entry(tenant.to_owned()).or_insert_with(|| Bound::full(self.shared.config));
        if kept == Kept::Leaf && bound.take(self.shared.config) {
            let leaf = CallLeaf {
                is_refused: true,
                tenant: tenant.to_owned(),
                action: "call.refused".to_owned(),
                actor: refused.principal.id.to_string(),
                subject: refused.path.to_owned(),
                reason: stored(refused.reason),
                payload_hash: refused.payload_hash,
                body: json!({
                    "message": stored(refused.message), "idempotency_key": refused.idempotency_key.map(stored),
                }),
            };
            if self.shared.queue.try_send(leaf).is_ok() {
                return true;
            }
        }
        *bound.counted.entry(stored(refused.reason)).or_default() += 1;
        metrics::counter!(names::AUDIT_CALLS_TOTAL, "kept" => "counted").increment(1);
        true
    }

    /// Takes a leaf in that must not be lost: waits for room.
    pub(crate) async fn keep(&self, leaf: CallLeaf) {
        if let Err(mpsc::error::SendError(leaf)) = self.shared.queue.send(leaf).await {
            lost(&leaf, "nobody writes any more");
        }
    }

    /// Whether the tenant's bound has room for the leaf of a repeat: what changes nothing may fill no disk.
    pub(crate) fn has_room(&self, tenant: &str) -> bool {
        let mut bounds = self.shared.bounds();
        bounds.entry(tenant.to_owned()).or_insert_with(|| Bound::full(self.shared.config)).take(self.shared.config)
    }

    /// How long the end of a call is waited for.
    pub(crate) fn heard_within(&self) -> Duration {
        Duration::from_secs(self.shared.config.heard_within_s)
    }

    /// Completes when nobody waits for an answer any more.
    pub(crate) async fn ended(&self) {
        self.shared.answered.requested().await;
    }

    /// A task that has something to say to the audit: its end is waited for before the writer's.
    pub(crate) fn tracked<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.shared.hearing.spawn(task)
    }
}

fn lost(leaf: &CallLeaf, why: &str) {
    let CallLeaf { action, actor, tenant, subject, body, .. } = leaf;
    tracing::error!(action, actor, tenant, subject, %body, why, "a call is lost to the audit");
    metrics::counter!(names::AUDIT_CALLS_TOTAL, "kept" => "lost").increment(1);
}

/// PostgreSQL stores no NUL, and a message is no essay.
fn stored(text: &str) -> String {
    text.chars().filter(|&character| character != '\0').take(MESSAGE_CHARACTERS).collect()
}

// === impl Allowed ===

impl Allowed<'_> {
    pub(crate) fn leaf(&self) -> CallLeaf {
        let mut body = json!({ "idempotency_key": self.idempotency_key.map(stored) });
        if !self.reason.is_empty() {
            body["message"] = stored(self.message).into();
        }
        if self.is_repeat {
            body["is_repeat"] = true.into();
        }
        CallLeaf {
            is_refused: false,
            tenant: self.principal.tenant.to_string(),
            action: self.action.to_owned(),
            actor: self.principal.id.to_string(),
            subject: self.path.to_owned(),
            reason: stored(self.reason),
            payload_hash: Some(self.payload_hash),
            body,
        }
    }
}

// === impl Shared, Bound ===

impl Shared {
    fn bounds(&self) -> MutexGuard<'_, HashMap<String, Bound>> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted since it was asked last, as leaves.
    fn take_counts(&self) -> Vec<CallLeaf> {
        let mut bounds = self.bounds();
        let counted = bounds.iter_mut().filter(|(_, bound)| !bound.counted.is_empty()).map(|(tenant, bound)| {
            let counted = std::mem::take(&mut bound.counted);
            CallLeaf {
                is_refused: true,
                tenant: tenant.clone(),
                action: "calls.refused".to_owned(),
                actor: "svc-gateway".to_owned(),
                subject: "beyond the bound of single leaves".to_owned(),
                reason: String::new(),
                payload_hash: None,
                body: json!({ "counted": counted, "seconds": COUNTS_EVERY.as_secs() }),
            }
        });
        let leaves = counted.collect();
        // Of a tenant that is quiet again nothing needs to be remembered.
        bounds.retain(|_, bound| bound.filled_at.elapsed() < COUNTS_EVERY);
        leaves
    }
}

impl Bound {
    fn full(config: AuditConfig) -> Self {
        Self { tokens: f64::from(config.refusals_burst), filled_at: Instant::now(), counted: BTreeMap::new() }
    }

    fn take(&mut self, config: AuditConfig) -> bool {
        let now = Instant::now();
        let gained = now.duration_since(self.filled_at).as_secs_f64() * f64::from(config.refusals_per_second);
        self.tokens = (self.tokens + gained).min(f64::from(config.refusals_burst));
        self.filled_at = now;
        let taken = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(taken));
        taken
    }
}

// === impl Writer ===

impl Writer {
    /// Writes until the last call was answered, and then what still waits.
    pub async fn run(mut self) {
        let stop = self.shared.answered.clone();
        let mut batch = Vec::with_capacity(BATCH);
        let mut ticks = tokio::time::interval(COUNTS_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                count = self.waiting.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                _ = ticks.tick() => batch.extend(self.shared.take_counts()),
                () = stop.requested() => break,
            }
            self.write_surely(&mut batch, &stop).await;
        }
        self.take_the_rest(&mut batch).await;
        batch.extend(self.shared.take_counts());
        let mut written = self.write_out(&mut batch).await;
        for _ in 0..LAST_TRIES {
            if written.is_ok() {
                break;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
            written = self.write_out(&mut batch).await;
        }
        if let Err(error) = written {
            tracing::error!(
                count = batch.len(),
                error = &error as &dyn std::error::Error,
                "refusals are lost to the audit"
            );
        }
    }

    /// What waits, and what calls still say whose end is given up now.
    async fn take_the_rest(&mut self, batch: &mut Vec<CallLeaf>) {
        let hearing = self.shared.hearing.clone();
        hearing.close();
        let mut ended = std::pin::pin!(tokio::time::timeout(ENDED_WITHIN, hearing.wait()));
        loop {
            tokio::select! {
                biased;
                count = self.waiting.recv_many(batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                _ = &mut ended => return,
            }
        }
    }

    async fn write_surely(&self, batch: &mut Vec<CallLeaf>, stop: &Stop) {
        while let Err(error) = self.write_out(batch).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "refusals are not in the audit yet");
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                () = stop.requested() => return,
            }
        }
    }

    /// Writes a batch, and takes from it what is written. A leaf whose row the database does not take holds up none of the others: it is lost, and the log says
    /// what it was.
    async fn write_out(&self, batch: &mut Vec<CallLeaf>) -> Result<(), StoreError> {
        let mut at_once = batch.len();
        while !batch.is_empty() {
            let count = at_once.min(batch.len());
            match self.write(&batch[..count]).await {
                Ok(()) => {
                    metrics::counter!(names::AUDIT_CALLS_TOTAL, "kept" => "leaf").increment(count as u64);
                    batch.drain(..count);
                }
                Err(error) => match said_by_rows(&error) {
                    None => return Err(error),
                    Some(_) if count > 1 => at_once = 1,
                    Some(why) => lost(&batch.remove(0), &why),
                },
            }
        }
        Ok(())
    }

    async fn write(&self, batch: &[CallLeaf]) -> Result<(), StoreError> {
        let mut connection = self.tables.pool.acquire().await.map_err(during("write refusals"))?;
        call_leaves(&mut connection, batch).await.map_err(during("write refusals"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/dalp.system.v1.SystemService/Bootstrap";

    #[test]
    fn what_nobody_decided_is_no_refusal() {
        assert_eq!(kept("CUSTODY_APPROVAL_PENDING", "/dalp.signer.v1.KeyService/CreateKey"), Kept::Leaf);
        assert_eq!(kept("PERMISSION_DENIED", PATH), Kept::Leaf);
        assert_eq!(kept("COMPLIANCE_REFUSED", PATH), Kept::Leaf);
        assert_eq!(kept("SOMETHING_NEWER", PATH), Kept::Leaf);
        assert_eq!(kept("RATE_LIMITED", PATH), Kept::Count);
        assert_eq!(kept("TENANT_QUOTA_EXCEEDED", PATH), Kept::Count);
        for nothing in [
            "DATABASE_UNAVAILABLE",
            "UPSTREAM_UNAVAILABLE",
            "INTERNAL",
            "DEADLINE",
            "STOPPING",
            "CONFLICT",
            "CUSTODY_APPROVAL_PENDING",
        ] {
            assert_eq!(kept(nothing, PATH), Kept::Nothing, "{nothing}");
        }
    }

    #[test]
    fn a_bound_lets_its_burst_through_and_no_more() {
        let config = AuditConfig { refusals_per_second: 1, refusals_burst: 5, ..AuditConfig::default() };
        let mut bound = Bound::full(config);
        let through = (0..100).filter(|_| bound.take(config)).count();
        assert!((5..=6).contains(&through), "{through}");
    }

    #[tokio::test]
    async fn a_call_that_was_carried_out_waits_for_room() {
        let schema = dalp_domain::store::Schema { service: "svc-gateway", name: "gateway", index_version: 1 };
        let tables = Tables::lazy(schema, "postgres://127.0.0.1:1/none", 1).unwrap();
        let (refusals, mut writer) = refusals(AuditConfig::default(), tables, Stop::new());
        let leaf = |number: usize| CallLeaf {
            is_refused: false,
            tenant: "acme".to_owned(),
            action: "call.allowed".to_owned(),
            actor: "ops".to_owned(),
            subject: number.to_string(),
            reason: String::new(),
            payload_hash: None,
            body: json!({}),
        };
        for number in 0..WAITING_MOST {
            refusals.keep(leaf(number)).await;
        }
        let mut last = std::pin::pin!(refusals.keep(leaf(WAITING_MOST)));
        assert!(futures::poll!(&mut last).is_pending(), "there is no room");
        for number in 0..=WAITING_MOST {
            assert_eq!(writer.waiting.recv().await.unwrap().subject, number.to_string());
            if number == 0 {
                last.as_mut().await;
            }
        }
    }

    #[test]
    fn no_message_is_stored_with_a_nul_or_endlessly() {
        assert_eq!(stored("a\0b"), "ab");
        assert_eq!(stored(&"x".repeat(5_000)).len(), MESSAGE_CHARACTERS);
    }
}
