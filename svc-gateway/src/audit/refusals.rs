//! Calls on their way into the audit, of callers that proved who they are: what they were refused and why, and what they were let do
//! by services whose commit has no leaf.
//!
//! A refusal has no commit that its leaf could be part of, so it is written a moment later, in batches. What is written is bounded per tenant: beyond the
//! bound refusals are counted, by reason, into one leaf a minute, so that a flood leaves its trace and fills no disk. Who proves nothing leaves none at
//! all; the log of the gateway and its metrics tell of those. Nothing is written of what nobody decided, such as a database that does not answer.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dalp_domain::store::{StoreError, Tables, during};
use dalp_engine::{CallLeaf, call_leaves};
use dalp_proto::{IdempotencyClass, Method, RateClass};
use dalp_service::{Reason, errors::Next, stop::Stop};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tonic::{Code, Status, body::Body};

use crate::{
    config::{AuditConfig, OWN_SERVICES},
    metric_definitions as names,
    principals::Principal,
    reading,
};

/// Refusals that wait to be written; while the database is away, more are only counted.
const WAITING_MOST: usize = 10_000;
const BATCH: usize = 500;
/// How often what was only counted is written.
const COUNTS_EVERY: Duration = Duration::from_secs(60);
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often what still waits at the end is tried again.
const LAST_TRIES: u32 = 3;
const MESSAGE_CHARACTERS: usize = 1_000;
/// Its calls make no operation: what waits for an approval there was not accepted.
const KEYS: &str = "/dalp.signer.v1.KeyService/";

/// Services that write their refusals themselves, with the hash of the message that they read.
const WRITE_THEIR_OWN: [&str; 5] = [
    "dalp.tenant.v1.TenantService",
    "dalp.principal.v1.PrincipalService",
    "dalp.apikey.v1.ApiKeyService",
    // Its messages hold codes, whose plain hash would tell them.
    "dalp.verification.v1.WalletVerificationService",
    "dalp.webhook.v1.WebhookService",
];

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

/// A write that may still be refused by whoever answers it.
#[derive(Clone, Debug)]
pub(crate) struct Noting {
    refusals: Refusals,
    principal: Arc<Principal>,
    path: String,
    idempotency_key: Option<String>,
    seen: Arc<Mutex<Sha256>>,
    /// Also when it is carried out: its commit has no leaf.
    is_noted_if_allowed: bool,
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

/// A queue between whoever refuses and whoever writes.
#[must_use]
pub fn refusals(config: AuditConfig, tables: Tables) -> (Refusals, Writer) {
    let (queue, waiting) = mpsc::channel(WAITING_MOST);
    let shared = Arc::new(Shared { queue, config, bounds: Mutex::default() });
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
    /// Takes a refusal in; never waits.
    pub fn note(&self, refused: &Refused<'_>) {
        let tenant = refused.principal.tenant.as_str();
        let kept = kept(refused.reason, refused.path);
        if kept == Kept::Nothing {
            return;
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
                reason: refused.reason.to_owned(),
                payload_hash: refused.payload_hash,
                body: json!({
                    "message": stored(refused.message), "idempotency_key": refused.idempotency_key.map(stored),
                }),
            };
            if self.shared.queue.try_send(leaf).is_ok() {
                return;
            }
        }
        *bound.counted.entry(stored(refused.reason)).or_default() += 1;
        metrics::counter!(names::AUDIT_CALLS_TOTAL, "kept" => "counted").increment(1);
    }

    fn note_allowed(&self, principal: &Principal, path: &str, key: Option<&str>, hash: [u8; 32]) {
        let leaf = CallLeaf {
            is_refused: false,
            tenant: principal.tenant.to_string(),
            action: "call.allowed".to_owned(),
            actor: principal.id.to_string(),
            subject: path.to_owned(),
            reason: String::new(),
            payload_hash: Some(hash),
            body: json!({ "idempotency_key": key.map(stored) }),
        };
        if self.shared.queue.try_send(leaf).is_err() {
            tracing::error!(path, principal = %principal.id, "a call that was carried out is lost to the audit: too many wait");
            metrics::counter!(names::AUDIT_CALLS_TOTAL, "kept" => "counted").increment(1);
        }
    }

    /// What notes a refusal of this call by whoever answers it; `None` of a read, and of a service that does so itself.
    pub(crate) fn of(&self, principal: &Arc<Principal>, method: &Method, key: Option<&str>) -> Option<Noting> {
        let noted = method.idempotency != IdempotencyClass::Read && !WRITE_THEIR_OWN.contains(&method.service.as_str());
        noted.then(|| Noting {
            refusals: self.clone(),
            principal: Arc::clone(principal),
            path: method.path.clone(),
            idempotency_key: key.map(str::to_owned),
            seen: Arc::default(),
            is_noted_if_allowed: has_no_leaf(method),
        })
    }
}

/// Whether the service that carries a write out leaves none itself. Who answers with an operation wrote its leaf where it accepted it; the gateway's own
/// services write theirs, but for the withdrawal of an operation.
fn has_no_leaf(method: &Method) -> bool {
    match method.service.as_str() {
        "dalp.operation.v1.OperationService" => true,
        service if OWN_SERVICES.contains(&service) => false,
        _ => !reading::answers_with_operation(method),
    }
}

/// PostgreSQL stores no NUL, and a message is no essay.
fn stored(text: &str) -> String {
    text.chars().filter(|&character| character != '\0').take(MESSAGE_CHARACTERS).collect()
}

// === impl Noting ===

impl Noting {
    /// The request's body, looked at as it passes.
    pub(crate) fn request(&self, body: Body) -> Body {
        let seen = Arc::clone(&self.seen);
        Body::new(body.map_frame(move |frame: Frame<bytes::Bytes>| {
            if let Some(data) = frame.data_ref() {
                seen.lock().unwrap_or_else(PoisonError::into_inner).update(data);
            }
            frame
        }))
    }

    /// Whether the end of the call is to be heard also without its caller: no commit of its service has a leaf.
    pub(crate) fn hears_the_end(&self, method: &Method) -> bool {
        self.is_noted_if_allowed && method.rate != RateClass::Stream
    }

    /// The answer, looked at as it passes: the status stands in its headers or at its end.
    pub(crate) fn answer(self, response: http::Response<Body>) -> http::Response<Body> {
        if response.headers().contains_key(Status::GRPC_STATUS) {
            self.status(response.headers());
            return response;
        }
        response.map(|body| {
            Body::new(body.map_frame(move |frame: Frame<bytes::Bytes>| {
                if let Some(trailers) = frame.trailers_ref() {
                    self.status(trailers);
                }
                frame
            }))
        })
    }

    fn status(&self, headers: &HeaderMap) {
        let Some(status) = Status::from_header_map(headers) else { return };
        let hash = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize().into();
        if status.code() == Code::Ok {
            if self.is_noted_if_allowed {
                self.refusals.note_allowed(&self.principal, &self.path, self.idempotency_key.as_deref(), hash);
            }
            return;
        }
        let Some(details) = dalp_service::Refusal::details(&status) else { return };
        self.refusals.note(&Refused {
            principal: &self.principal,
            path: &self.path,
            reason: &details.reason,
            message: status.message(),
            idempotency_key: self.idempotency_key.as_deref(),
            payload_hash: Some(hash),
        });
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
    /// Writes until stopped, which is when the last call was answered, and then what still waits.
    pub async fn run(mut self, stop: Stop) {
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
        while let Ok(leaf) = self.waiting.try_recv() {
            batch.push(leaf);
        }
        batch.extend(self.shared.take_counts());
        let mut written = self.write(&batch).await;
        for _ in 0..LAST_TRIES {
            if written.is_ok() {
                break;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
            written = self.write(&batch).await;
        }
        if let Err(error) = written {
            tracing::error!(
                count = batch.len(),
                error = &error as &dyn std::error::Error,
                "refusals are lost to the audit"
            );
        }
    }

    async fn write_surely(&self, batch: &mut Vec<CallLeaf>, stop: &Stop) {
        while let Err(error) = self.write(batch).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "refusals are not in the audit yet");
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                () = stop.requested() => return,
            }
        }
        metrics::counter!(names::AUDIT_CALLS_TOTAL, "kept" => "leaf").increment(batch.len() as u64);
        batch.clear();
    }

    async fn write(&self, batch: &[CallLeaf]) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
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

    #[test]
    fn no_message_is_stored_with_a_nul_or_endlessly() {
        assert_eq!(stored("a\0b"), "ab");
        assert_eq!(stored(&"x".repeat(5_000)).len(), MESSAGE_CHARACTERS);
    }
}
