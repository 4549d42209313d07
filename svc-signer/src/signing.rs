//! The signer itself: peer, grant, policy, attestation, watermark, provider, in that order.

mod attest;
mod audit;
mod custody;
mod drive;
mod events;
mod late;
mod secrets;

pub use audit::AUDIT_WALLET_PREFIX;
pub use events::Delivered;
pub use secrets::Reveal;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use alloy::primitives::{Address, B256};
use futures::FutureExt as _;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    attestor::Attestor,
    config::{Attestation, SignerConfig},
    core::{
        digest::{content_hash, request_hash},
        grants::Grants,
        payload::{Payload, UnsignedTransaction},
        policy::{Decision, Policy, RollingLimit, Rule},
        watermark::is_cancel,
    },
    errors::SignerError,
    metric_definitions as names,
    providers::{Providers, local::LocalProvider},
    store::{
        Leaf, Store,
        admit::{Admission, Admitted, LIMIT_USED_UP, LaneEntry},
        batch::{Batcher, write_all},
        keys::KeyRecord,
        logs::Continuation,
        outcomes::{Outcome, Released},
        requests::{NOT_ASKED, Status, StoredPayload, StoredRequest},
    },
};

/// A request as the edge understood it.
#[derive(Debug, Clone)]
pub struct SignOrder {
    /// Chosen by the caller.
    pub request_id: Uuid,
    /// The tenant that owns the key.
    pub tenant: String,
    /// The key.
    pub signer: Address,
    /// What to sign.
    pub payload: Payload,
    /// Its digest, computed by the core.
    pub digest: B256,
    /// The request it replaces.
    pub replaces: Option<Uuid>,
    /// The secret that it is to show, which its calldata lacks.
    pub reveal: Option<Reveal>,
    /// Of the root of an audit log: what shows that it continues the last one.
    pub continuation: Continuation,
}

/// The signer.
pub struct Signer {
    store: Store,
    providers: Providers,
    grants: Grants,
    policy: Policy,
    attestation: Attestation,
    desk: Option<attest::Desk>,
    /// Longest that a verdict of the attestor may be used.
    longest_validity_s: u64,
    request_deadline: time::Duration,
    retry_ms: i64,
    /// Keys by address. The database has the last word on whether one is disabled.
    keys: RwLock<HashMap<Address, Arc<KeyRecord>>>,
    admissions: Batcher<Admission, Admitted>,
    outcomes: Batcher<Outcome, Option<StoredRequest>>,
    leaves: Batcher<Leaf, ()>,
    /// Seals secrets of settlements.
    vault: Option<LocalProvider>,
    /// Turns of the looks that events have woken.
    wakes: Arc<Semaphore>,
}

// === impl Signer ===

impl Signer {
    /// Puts the parts together and starts the writers. Needs a runtime.
    #[must_use]
    pub fn new(config: &SignerConfig, store: Store, providers: Providers) -> Self {
        let admissions = {
            let store = store.clone();
            Batcher::spawn("admissions", move |batch| {
                let store = store.clone();
                async move { store.admit(batch).await }
            })
        };
        let outcomes = {
            let store = store.clone();
            Batcher::spawn("outcomes", move |batch: Vec<Outcome>| {
                let store = store.clone();
                async move { write_all(&batch, |batch| store.conclude(batch).boxed()).await }
            })
        };
        let leaves = {
            let store = store.clone();
            Batcher::spawn("leaves", move |batch: Vec<Leaf>| {
                let store = store.clone();
                async move { write_all(&batch, |batch| store.write_leaves(batch).boxed()).await }
            })
        };
        Self {
            store,
            providers,
            grants: Grants::new(config.grants.clone()),
            policy: Policy::new(config.policy.rules.clone()),
            attestation: config.signer.attestation,
            desk: None,
            longest_validity_s: config.attestor.as_ref().map_or(600, |attestor| attestor.longest_validity_s),
            request_deadline: time::Duration::seconds(i64::from(config.signer.request_deadline_s)),
            retry_ms: i64::try_from(config.signer.retry_ms).unwrap_or(i64::MAX),
            keys: RwLock::default(),
            admissions,
            outcomes,
            leaves,
            vault: config
                .local
                .as_ref()
                .and_then(|local| local.key_encryption_key().ok())
                .map(|key| LocalProvider::new(&key)),
            wakes: Arc::new(Semaphore::new(events::WAKES_AT_ONCE)),
        }
    }

    /// Asks this attestor. Without one everything is refused that needs its word.
    #[must_use]
    pub fn asking(mut self, attestor: Arc<dyn Attestor>) -> Self {
        self.desk = Some(attest::Desk::new(attestor, &self.store, self.longest_validity_s));
        self
    }

    /// The store, for reads.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The providers.
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Whether a peer may read what was signed on a key's lanes.
    pub fn may_read_lanes(&self, peer: &str, signer: Address) -> bool {
        self.grants.may_read_lanes(peer, signer)
    }

    /// Accepts a request and answers with its present state. Repeats answer with the stored one.
    pub async fn sign(&self, peer: &str, order: SignOrder) -> Result<StoredRequest, SignerError> {
        let order = match order.reveal {
            Some(reveal) => self.filled(peer, order, reveal).await?,
            None => order,
        };
        let payload_hash = request_hash(&order.tenant, order.signer, &order.payload, order.digest, order.replaces);
        match self.check(peer, &order, payload_hash).await {
            Ok((key, admission)) => match self.attested(&order, payload_hash).await {
                Ok(attestation) => {
                    self.admit_and_sign(key, Admission { attestation, ..admission }, &order.payload).await
                }
                Err(refusal) => self.refuse(peer, &order, payload_hash, refusal).await,
            },
            Err(refusal) => self.refuse(peer, &order, payload_hash, refusal).await,
        }
    }

    /// What is asked for a payload of others: the attestor's word, and of a root of an audit log, whether it continues the last one.
    async fn attested(
        &self,
        order: &SignOrder,
        payload_hash: [u8; 32],
    ) -> Result<Option<dalp_attestation::Attestation>, SignerError> {
        self.require_continued(order, payload_hash).await?;
        self.attest(order).await
    }

    /// Grant and policy: what is asked of a new request, and again of an old one before it is signed late.
    fn allowed(&self, peer: &str, tenant: &str, signer: Address, payload: &Payload) -> Result<&Rule, SignerError> {
        if !self.grants.allow(peer, signer, payload) {
            return Err(SignerError::GrantMissing { peer: peer.to_owned(), kind: payload.kind().as_str() });
        }
        match self.policy.decide(tenant, signer, payload) {
            Decision::Allow(rule) => Ok(rule),
            Decision::Deny { rule, why } => Err(SignerError::PolicyDenied { rule: rule.to_owned(), why }),
        }
    }

    /// Everything that is decided before anything is stored.
    async fn check(
        &self,
        peer: &str,
        order: &SignOrder,
        payload_hash: [u8; 32],
    ) -> Result<(Arc<KeyRecord>, Admission), SignerError> {
        // Before the key is looked for: a peer without a grant does not learn which keys there are.
        if !self.grants.allow(peer, order.signer, &order.payload) {
            return Err(SignerError::GrantMissing { peer: peer.to_owned(), kind: order.payload.kind().as_str() });
        }
        let key = self.key(&order.tenant, order.signer).await?;
        if key.disabled {
            return Err(SignerError::KeyDisabled(order.signer));
        }
        if !key.purpose.allows(order.payload.kind()) {
            return Err(SignerError::KeyPurpose { signer: order.signer, kind: order.payload.kind().as_str() });
        }
        let rule = self.allowed(peer, &order.tenant, order.signer, &order.payload)?;
        let Some(provider) = self.providers.select(key.provider) else {
            return Err(SignerError::ProviderNotActive(key.provider));
        };
        if let Payload::Transaction(tx) = &order.payload
            && tx.is_by_provider() != provider.broadcasts()
            // What was taken in one form goes on in it, whatever the mode is by now.
            && self.store.request(order.request_id).await?.is_none()
        {
            return Err(SignerError::BroadcastMode { signer: order.signer, by_provider: provider.broadcasts() });
        }
        // A payload without value uses up nothing, and need not wait for the key's row.
        let rolling = rule
            .rolling
            .as_ref()
            .filter(|_| !order.payload.value_wei().is_zero())
            .map(|RollingLimit { limit_wei, window_s }| (limit_wei.to_string(), *window_s));
        let admission = admission(peer, order, payload_hash, rule.name.clone(), rolling);
        Ok((key, admission))
    }

    async fn admit_and_sign(
        &self,
        key: Arc<KeyRecord>,
        admission: Admission,
        payload: &Payload,
    ) -> Result<StoredRequest, SignerError> {
        let request_id = admission.request_id;
        let fresh = StoredRequest {
            request_id,
            tenant: admission.tenant.clone(),
            signer: admission.signer,
            peer: admission.peer.clone(),
            kind: admission.kind,
            payload_hash: admission.payload_hash,
            digest: admission.digest,
            payload: StoredPayload::None,
            chain_id: admission.chain_id,
            nonce: admission.lane.as_ref().and_then(|lane| lane.nonce),
            status: Status::Pending,
            signature: None,
            signed_tx: None,
            tx_hash: None,
            stage: String::new(),
            detail: String::new(),
            error: NOT_ASKED.to_owned(),
            attestation: admission.attestation,
            created_at: OffsetDateTime::now_utc(),
            updated_at: OffsetDateTime::now_utc(),
            held_since: None,
        };
        let leaf = |reason: String, decision| Leaf {
            subject: "sign",
            tenant: fresh.tenant.clone(),
            peer: fresh.peer.clone(),
            signer: Some(fresh.signer.into_array()),
            request_id: Some(request_id),
            decision,
            reason,
        };
        let nonce = fresh.nonce.unwrap_or_default();
        let rule = admission.rule.clone();
        let refusal = match self.admissions.submit(admission).await? {
            Admitted::New => return self.drive(&key, fresh, payload).await,
            Admitted::Known(known) if known.status.is_final() => return self.followed(*known).await,
            Admitted::Known(known) => return self.drive(&key, *known, payload).await,
            Admitted::Reused(known) => SignerError::RequestIdReused(known),
            Admitted::Disabled => {
                self.forget_key(key.address);
                SignerError::KeyDisabled(key.address)
            }
            Admitted::Conflict { next_nonce } => SignerError::WatermarkConflict { nonce, next_nonce },
            Admitted::LimitExceeded => SignerError::PolicyDenied { rule, why: LIMIT_USED_UP },
        };
        self.leaves.submit(leaf(refusal.to_string(), refusal.code().as_str())).await?;
        count("refused");
        Err(refusal)
    }

    /// A refusal before admission. What was accepted earlier keeps its answer, whatever has changed since.
    async fn refuse(
        &self,
        peer: &str,
        order: &SignOrder,
        payload_hash: [u8; 32],
        refusal: SignerError,
    ) -> Result<StoredRequest, SignerError> {
        if matches!(
            refusal,
            SignerError::Store(_) | SignerError::AttestorUnavailable(_) | SignerError::AttestationUndecided(_)
        ) {
            return Err(refusal);
        }
        // Also without a grant: a refusal would read as if the request had never been accepted, and its nonce were free.
        let known = match self.store.request(order.request_id).await? {
            None if stands(&refusal) && !is_evidence(order) => {
                let attestation = match &refusal {
                    SignerError::AttestationRefused { attestation, .. } => Some(**attestation),
                    _ => None,
                };
                let refused = Admission { attestation, ..admission(peer, order, payload_hash, String::new(), None) };
                self.store.refuse(&refused, refusal.code().as_str(), &refusal.to_string()).await?
            }
            known => known,
        };
        // A root that waits is answered with what its log lacks: its caller may show it.
        let known = known.filter(|known| known.peer == peer && (known.status.is_final() || !of_the_log(&refusal)));
        let refusal = match known {
            // What is not decided yet is decided by what is in force now.
            Some(known)
                if known.payload_hash == payload_hash
                    && !known.status.is_final()
                    && withdraws(&refusal)
                    && !is_evidence(order) =>
            {
                return self.deny(known, &refusal.to_string()).await;
            }
            Some(known) if known.payload_hash == payload_hash => return self.followed(known).await,
            Some(known) => SignerError::RequestIdReused(Some(Box::new(known))),
            None => refusal,
        };
        let leaf = Leaf {
            subject: "sign",
            tenant: order.tenant.clone(),
            peer: peer.to_owned(),
            signer: Some(order.signer.into_array()),
            request_id: Some(order.request_id),
            decision: refusal.code().as_str(),
            reason: refusal.to_string(),
        };
        self.leaves.submit(leaf).await?;
        count("refused");
        Err(refusal)
    }

    /// Frees the nonce of a finally refused request of this peer.
    pub async fn release(&self, peer: &str, request_id: Uuid) -> Result<(), SignerError> {
        match self.store.release(request_id, peer).await? {
            Released::Done => Ok(()),
            Released::NotFound => Err(SignerError::RequestNotFound),
            Released::Held => Err(SignerError::ReleaseRefused),
        }
    }

    /// Whether the provider of a tenant's key numbers and broadcasts its transactions by itself. `false` where there is no such key.
    pub async fn broadcasts_by_provider(&self, tenant: &str, signer: Address) -> Result<bool, SignerError> {
        match self.key(tenant, signer).await {
            Ok(key) => Ok(self.providers.select(key.provider).is_some_and(|provider| provider.broadcasts())),
            Err(SignerError::KeyNotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A key of a tenant, from memory when it was seen before.
    pub async fn key(&self, tenant: &str, signer: Address) -> Result<Arc<KeyRecord>, SignerError> {
        let not_found = || SignerError::KeyNotFound { tenant: tenant.to_owned(), signer };
        let remembered = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&signer).cloned();
        let key = match remembered {
            Some(key) => key,
            None => {
                let key = Arc::new(self.store.key(signer).await?.ok_or_else(not_found)?);
                self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(signer, Arc::clone(&key));
                key
            }
        };
        if key.name.tenant == tenant { Ok(key) } else { Err(not_found()) }
    }

    /// Drops a key from memory, because it changed.
    pub fn forget_key(&self, signer: Address) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&signer);
    }
}

/// What is stored of a request.
fn admission(
    peer: &str,
    order: &SignOrder,
    payload_hash: [u8; 32],
    rule: String,
    rolling: Option<(String, u32)>,
) -> Admission {
    let (lane, statement) = match &order.payload {
        Payload::Transaction(tx) => (Some(lane_entry(tx, order.signer)), None),
        Payload::Document(_) | Payload::Claim(_) | Payload::AuditRoot(_) => {
            (None, Some(serde_json::to_vec(&order.payload).expect("a payload that was read can be written")))
        }
    };
    Admission {
        request_id: order.request_id,
        tenant: order.tenant.clone(),
        signer: order.signer,
        peer: peer.to_owned(),
        kind: order.payload.kind(),
        payload_hash,
        digest: order.digest.0,
        chain_id: order.payload.chain_id().and_then(|id| i64::try_from(id).ok()),
        lane,
        statement,
        replaces: order.replaces,
        rule,
        value_wei: order.payload.value_wei().to_string(),
        rolling,
        attestation: None,
    }
}

fn lane_entry(tx: &UnsignedTransaction, signer: Address) -> LaneEntry {
    LaneEntry {
        // The edge refuses larger nonces.
        nonce: tx.nonce().map(|nonce| i64::try_from(nonce).unwrap_or(i64::MAX)),
        content_hash: content_hash(tx),
        is_cancel: is_cancel(tx, signer),
        unsigned_tx: serde_json::to_vec(tx).expect("a transaction is plain data"),
    }
}

/// Whether a refusal is kept, so that it stands whatever changes. A peer without a grant decides nothing about a request.
fn stands(refusal: &SignerError) -> bool {
    matches!(
        refusal,
        SignerError::PolicyDenied { .. }
            | SignerError::AttestationRequired
            | SignerError::AttestationRefused { .. }
            | SignerError::KeyDisabled(_)
            | SignerError::ProviderNotActive(_)
    )
}

/// A root of the audit log binds no nonce and moves nothing: what refuses it may be mended, and then it is signed.
fn is_evidence(order: &SignOrder) -> bool {
    matches!(order.payload, Payload::AuditRoot(_))
}

/// Whether a refusal tells how a root stands to its log.
fn of_the_log(refusal: &SignerError) -> bool {
    matches!(refusal, SignerError::LogRewritten { .. } | SignerError::RootUnproven { .. })
}

/// Whether a refusal ends what was accepted before and not signed yet.
fn withdraws(refusal: &SignerError) -> bool {
    matches!(
        refusal,
        SignerError::GrantMissing { .. }
            | SignerError::PolicyDenied { .. }
            | SignerError::AttestationRequired
            | SignerError::AttestationRefused { .. }
            | SignerError::KeyDisabled(_)
            | SignerError::KeyPurpose { .. }
    )
}

fn count(outcome: &'static str) {
    metrics::counter!(names::REQUESTS_TOTAL, "outcome" => outcome).increment(1);
}
