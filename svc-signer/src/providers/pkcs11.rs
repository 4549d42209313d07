//! Keys in a hardware security module through PKCS#11.
//!
//! The partition lives in a supervised child process (`pkcs11/worker.rs`). This end starts it, gives it the PIN over the socket, puts a deadline on each call
//! and replaces it when it hangs, crashes or loses its device. A login is written down before it is tried, so that a wrong PIN is tried once and no more,
//! whatever restarts: ten bad logins lock a Luna partition.

mod child;
pub mod codes;
mod ntls;
mod partition;
mod token;
mod wire;
pub mod worker;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::primitives::B256;
use async_trait::async_trait;
use secp256k1::PublicKey;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use self::{
    child::{CallError, Worker},
    codes::Class,
    partition::{Partition, out_of_turn},
    wire::{Member, Reply, Request},
};
use super::{
    KeyHandle, KeyName, NewKey, PartitionFault, Provider, ProviderError, ProviderKind, ProviderStatus, SignAtOnce,
    Signing,
};
use crate::{config::pkcs11::Pkcs11Config, core::signature::RawSignature, metric_definitions as names};

/// How long a call waits for its turn at the partition. It is tried again later, so nothing is lost by giving up.
const TURN_WITHIN: Duration = Duration::from_secs(30);

/// Whether a login may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Try it; this was written down.
    Go {
        /// Of an earlier one with this PIN nobody knows whether it counted.
        unclear: bool,
    },
    /// Another replica is trying right now.
    Busy,
    /// This PIN was refused.
    Refused,
    /// Nobody knows how logins with this PIN ended, too often.
    Unclear,
}

/// How a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It worked: the PIN is right, and what was unclear before is forgotten.
    Opened,
    /// It did not take place, or failed with a code that surely did not count against the PIN. What was unclear before stays so.
    NotCounted,
    /// The PIN is wrong.
    BadPin,
    /// Nobody knows whether it counted: the module hung or died, or its code says nothing of the PIN.
    Unknown,
}

/// The memory of logins, shared by replicas: a row per partition in the signer's database.
#[async_trait]
pub trait PinLatch: Send + Sync {
    /// Whether a login with the PIN of this keyed digest is out of the question, [`Attempt::Refused`] or [`Attempt::Unclear`]. Writes nothing down.
    async fn bars(&self, partition: &str, pin_digest: [u8; 32]) -> Result<Option<Attempt>, ProviderError>;
    /// Writes down that a login will be tried with the PIN of this keyed digest. One that has not ended after `longest` will not any more.
    async fn begin(&self, partition: &str, pin_digest: [u8; 32], longest: Duration) -> Result<Attempt, ProviderError>;
    /// Writes down that the login under way asks people: it is no try of the PIN any more, unless it ends with an answer or nobody knows how.
    async fn asking(&self, partition: &str, pin_digest: [u8; 32]) -> Result<(), ProviderError>;
    /// Writes down how it ended.
    async fn end(&self, partition: &str, pin_digest: [u8; 32], ended: Ended) -> Result<(), ProviderError>;
}

/// One partition.
pub struct Pkcs11Provider {
    partition: Arc<Partition>,
    /// Calls that may be with the worker: one in each session, and one behind it so that no session waits for us. The others queue here, where
    /// their wait is not taken for a module that hangs.
    turns: Semaphore,
    /// Members of the HA group that were away when they were last asked.
    members_away: AtomicUsize,
    /// The worker whose module left the question for the members unanswered; 0: none.
    silent_about_members: AtomicU32,
}

/// A failed attempt to use a worker.
enum Fault {
    /// Repeat once on a fresh worker.
    Restart(ProviderError),
    /// Tell the caller.
    Final(ProviderError),
}

// === impl Pkcs11Provider ===

impl Pkcs11Provider {
    /// Prepares a partition; the worker starts with the first use.
    #[must_use]
    pub fn new(
        config: Pkcs11Config,
        program: PathBuf,
        digest_key: Zeroizing<Vec<u8>>,
        latch: Arc<dyn PinLatch>,
    ) -> Self {
        Self {
            turns: Semaphore::new(usize::from(config.sessions) * 2),
            partition: Arc::new(Partition::new(config, program, digest_key, latch)),
            members_away: AtomicUsize::new(0),
            silent_about_members: AtomicU32::new(0),
        }
    }

    /// Process id of the worker, when there is one.
    #[must_use]
    pub fn worker_pid(&self) -> Option<u32> {
        self.partition.running().map(|worker| worker.pid())
    }

    /// Waits until the partition is open, however long its people take to log in.
    ///
    /// # Errors
    /// As a login is refused.
    pub async fn opened(&self) -> Result<(), ProviderError> {
        self.partition.opened().await
    }

    /// Whether opening has failed only because another process logs in to the partition right now.
    #[must_use]
    pub fn is_busy(error: &ProviderError) -> bool {
        partition::is_busy(error)
    }

    /// Has the private key sign something that nobody else wants, and compares: the public key beside it in the token is an object of its own, and says of itself
    /// whose it is. Its address is used for nothing before.
    async fn prove(&self, key_id: [u8; 32], public_key: &PublicKey) -> Result<(), ProviderError> {
        let digest: [u8; 32] = rand::random();
        let request = Request::Sign { key_id, digest };
        let Reply::Signature(bytes) = self.ask(&request, self.config().call_deadline_ms).await? else {
            return Err(out_of_turn());
        };
        let signed =
            RawSignature::from_concatenated(&bytes).and_then(|raw| raw.normalise(B256::from(digest), public_key));
        signed.map(drop).map_err(|error| {
            ProviderError::Failed(format!("the private key does not sign for the public key beside it: {error}"))
        })
    }

    fn config(&self) -> &Pkcs11Config {
        &self.partition.config
    }

    async fn ask(&self, request: &Request, deadline_ms: u64) -> Result<Reply, ProviderError> {
        let busy = || ProviderError::Unavailable("the partition is busy".to_owned());
        let turn = tokio::time::timeout(TURN_WITHIN, self.turns.acquire());
        let _turn = turn.await.map_err(|_| busy())?.map_err(|_| busy())?;
        match self.try_once(request, deadline_ms).await {
            Err(Fault::Restart(_)) => match self.try_once(request, deadline_ms).await {
                Err(Fault::Restart(error) | Fault::Final(error)) => Err(error),
                Ok(reply) => Ok(reply),
            },
            Err(Fault::Final(error)) => Err(error),
            Ok(reply) => Ok(reply),
        }
    }

    async fn try_once(&self, request: &Request, deadline_ms: u64) -> Result<Reply, Fault> {
        let worker = self.partition.worker().await.map_err(Fault::Final)?;
        match self.call(&worker, request, deadline_ms).await? {
            Reply::Failed(failure) if failure.code == codes::KEY_NOT_AUTHORIZED => {
                let (Request::Sign { key_id, .. }, Some(data)) = (request, &self.config().key_authorization) else {
                    return Err(Fault::Final(self.refusal(&worker, failure)));
                };
                let data = data.resolve().map_err(|error| ProviderError::Unavailable(error.to_string()));
                let data = data.map_err(Fault::Final)?;
                self.partition.authorize(&worker, *key_id, data).await.map_err(Fault::Final)?;
                match self.call(&worker, request, deadline_ms).await? {
                    // Authorised where it is not any more: another member of the group serves it, or it was closed. Asked again at the next try.
                    Reply::Failed(failure) if failure.code == codes::KEY_NOT_AUTHORIZED => {
                        worker.authorized().await.remove(key_id);
                        let detail = format!("{}; its authorisation is given again", failure.detail);
                        Err(Fault::Final(ProviderError::Unavailable(detail)))
                    }
                    Reply::Failed(failure) => Err(Fault::Final(self.refusal(&worker, failure))),
                    reply => Ok(reply),
                }
            }
            Reply::Failed(failure) => match self.partition.class(&failure) {
                Class::Transport => {
                    self.partition.discard(&worker, &failure.detail);
                    Err(Fault::Restart(ProviderError::Unavailable(failure.detail)))
                }
                _ => Err(Fault::Final(self.refusal(&worker, failure))),
            },
            reply => Ok(reply),
        }
    }

    /// Asks the worker; one that hangs or is gone is discarded.
    async fn call(&self, worker: &Arc<Worker>, request: &Request, deadline_ms: u64) -> Result<Reply, Fault> {
        worker.call(request, Duration::from_millis(deadline_ms)).await.map_err(|error| match error {
            CallError::Gone => {
                self.partition.discard(worker, "worker gone");
                Fault::Restart(ProviderError::Unavailable(error.to_string()))
            }
            // No second try: the caller has waited a whole deadline already. Whatever the device has done ends with the process: a signature that was made is
            // read by nobody, and a key that was generated is found by its identifier.
            CallError::Deadline => {
                self.partition.discard(worker, "deadline passed");
                Fault::Final(ProviderError::Unavailable(format!("{error}; its outcome is unknown and never released")))
            }
        })
    }

    /// What a failed call means to whoever asked for it.
    fn refusal(&self, worker: &Arc<Worker>, failure: wire::Failure) -> ProviderError {
        let class = self.partition.class(&failure);
        let detail = failure.detail;
        let fault = |fault: PartitionFault, detail| ProviderError::Partition(fault, detail);
        match class {
            Class::Quorum | Class::Unlisted => ProviderError::Pending(detail),
            Class::Locked => fault(PartitionFault::Locked, detail),
            Class::BadPin => fault(PartitionFault::KeyAuthorizationRefused, detail),
            Class::NoKey => fault(PartitionFault::KeyMissing, detail),
            Class::NoToken => fault(PartitionFault::NotFound, detail),
            Class::SeveralTokens => fault(PartitionFault::Ambiguous, detail),
            Class::Transport => {
                self.partition.discard(worker, &detail);
                ProviderError::Unavailable(detail)
            }
            Class::Failed => ProviderError::Failed(detail),
        }
    }

    /// How the members of the HA group are, where there should be some; the loss of one changes nothing for callers and is told to operators.
    async fn members(&self, worker: &Worker) -> Option<String> {
        let expected = usize::from(self.config().ha_members?);
        let deadline = Duration::from_millis(self.config().call_deadline_ms);
        let silent = || Some("members of the HA group unknown: the module does not answer".to_owned());
        // A call that hangs keeps one of the worker's sessions. It is asked once of each worker then, so that signatures keep the others.
        if self.silent_about_members.load(Ordering::Relaxed) == worker.pid() {
            return silent();
        }
        let members = match worker.call(&Request::Members, deadline).await {
            Ok(Reply::Members(members)) => members,
            Ok(Reply::Failed(failure)) => return Some(format!("members of the HA group unknown: {}", failure.detail)),
            Err(CallError::Deadline) => {
                self.silent_about_members.store(worker.pid(), Ordering::Relaxed);
                return silent();
            }
            Ok(_) | Err(CallError::Gone) => return Some("members of the HA group unknown".to_owned()),
        };
        let up = members.iter().filter(|member| member.status == 0).count();
        let away = expected.saturating_sub(up);
        metrics::gauge!(names::PARTITION_MEMBERS_AWAY).set(away as f64);
        let named: Vec<String> = members
            .iter()
            .filter(|member| member.status != 0)
            .map(|Member { serial, status }| format!("{serial} ({status:#010x})"))
            .collect();
        if self.members_away.swap(away, Ordering::Relaxed) != away {
            tracing::warn!(partition = self.config().partition(), up, expected, away = ?named, "members of the HA group changed");
        }
        Some(match away {
            0 => format!("{up} of {expected} members of the HA group"),
            _ => format!("{up} of {expected} members of the HA group; away: {}", named.join(", ")),
        })
    }
}

#[async_trait]
impl Provider for Pkcs11Provider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Pkcs11
    }

    fn longest_creation(&self) -> Duration {
        let Pkcs11Config { login_deadline_ms, generate_deadline_ms, call_deadline_ms, .. } = self.partition.config;
        // A turn, then a start and a generation, twice: a call is repeated once on a fresh worker. A start finds the token, then logs in. The proof likewise.
        let proof = TURN_WITHIN + Duration::from_millis(2 * (2 * login_deadline_ms + call_deadline_ms));
        TURN_WITHIN + Duration::from_millis(2 * (2 * login_deadline_ms + generate_deadline_ms)) + proof
    }

    async fn create(&self, name: &KeyName) -> Result<NewKey, ProviderError> {
        let (label, key_id) = label(name);
        // A crypto user makes no keys: the crypto officer has made it in a ceremony, or it is not there.
        let request = Request::Generate { label, key_id, may_create: !self.config().crypto_user };
        match self.ask(&request, self.config().generate_deadline_ms).await? {
            Reply::PublicKey(point) => {
                let public_key = PublicKey::from_slice(&point).map_err(|_| {
                    ProviderError::Failed("the module returned a point that is not on secp256k1".to_owned())
                })?;
                self.prove(key_id, &public_key).await?;
                Ok(NewKey { public_key, material: key_id.to_vec() })
            }
            _ => Err(out_of_turn()),
        }
    }

    fn signing(&self) -> Signing<'_> {
        Signing::AtOnce(self)
    }

    async fn status(&self) -> ProviderStatus {
        match self.partition.worker().await {
            Ok(worker) => {
                let members = self.members(&worker).await.map_or(String::new(), |members| format!(", {members}"));
                ProviderStatus { ready: true, detail: format!("open, worker {}{members}", worker.pid()) }
            }
            Err(error) => ProviderStatus { ready: false, detail: error.to_string() },
        }
    }
}

#[async_trait]
impl SignAtOnce for Pkcs11Provider {
    async fn sign(&self, key: KeyHandle<'_>, digest: B256) -> Result<RawSignature, ProviderError> {
        let key_id: [u8; 32] =
            key.material.try_into().map_err(|_| ProviderError::Failed("the key's identifier is damaged".to_owned()))?;
        match self.ask(&Request::Sign { key_id, digest: digest.0 }, self.config().call_deadline_ms).await? {
            Reply::Signature(bytes) => {
                RawSignature::from_concatenated(&bytes).map_err(|error| ProviderError::Failed(error.to_string()))
            }
            _ => Err(out_of_turn()),
        }
    }

    fn longest_hold(&self) -> Option<Duration> {
        self.config().quorum_retry_s.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// A key's label in the token, and its `CKA_ID`.
#[must_use]
pub fn label(name: &KeyName) -> (String, [u8; 32]) {
    let label = format!("dalp:{}:{}", name.tenant, name.wallet);
    let key_id = Sha256::digest(label.as_bytes()).into();
    (label, key_id)
}

/// Initialises a token with a label and a user PIN, for `init-token` and tests.
pub fn initialise_token(module: &str, label: &str, so_pin: &str, pin: &str) -> Result<(), String> {
    if label.trim().is_empty() || label.len() > 32 {
        return Err("a token label has 1 to 32 characters".to_owned());
    }
    token::initialise(module, label, so_pin, pin).map_err(|failure| failure.detail)
}
