//! Keys in a hardware security module through PKCS#11.
//!
//! The partition lives in a supervised child process (`pkcs11/worker.rs`). This end starts it, gives it the PIN over the socket, puts a deadline on each call
//! and replaces it when it hangs, crashes or loses its device. A login is written down before it is tried, so that a wrong PIN is tried once and no more,
//! whatever restarts: ten bad logins lock a Luna partition.

mod child;
pub mod codes;
mod token;
mod wire;
pub mod worker;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use alloy::primitives::B256;
use async_trait::async_trait;
use hmac::{Hmac, Mac as _};
use secp256k1::PublicKey;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use self::{
    child::{CallError, Worker},
    codes::{Class, During},
    wire::{Failure, Open, Reply, Request},
};
use super::{KeyHandle, KeyName, NewKey, Provider, ProviderError, ProviderKind, ProviderStatus, SignAtOnce, Signing};
use crate::{config::pkcs11::Pkcs11Config, core::signature::RawSignature, metric_definitions as names};

/// How long a failed start is remembered before the next caller tries again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// How long a call waits for its turn at the partition. It is tried again later, so nothing is lost by giving up.
const TURN_WITHIN: Duration = Duration::from_secs(30);

/// Whether a login may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Try it; this was written down.
    Go,
    /// Another replica is trying right now.
    Busy,
    /// This PIN was refused, or nobody knows how its logins ended, too often.
    Blocked,
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
    /// Writes down that a login will be tried with the PIN of this keyed digest. One that has not ended after `longest` will not any more.
    async fn begin(&self, partition: &str, pin_digest: [u8; 32], longest: Duration) -> Result<Attempt, ProviderError>;
    /// Writes down how it ended.
    async fn end(&self, partition: &str, pin_digest: [u8; 32], ended: Ended) -> Result<(), ProviderError>;
}

/// One partition.
pub struct Pkcs11Provider {
    config: Pkcs11Config,
    /// The program that has the `pkcs11-worker` subcommand.
    program: PathBuf,
    /// Makes PIN digests worthless without it: PINs are short.
    digest_key: Zeroizing<Vec<u8>>,
    latch: Arc<dyn PinLatch>,
    worker: RwLock<Option<Arc<Worker>>>,
    /// Calls that may be with the worker: one in each session, and one behind it so that no session waits for us. The others queue here, where
    /// their wait is not taken for a module that hangs.
    turns: Semaphore,
    /// Serialises starts, and remembers why the last one failed.
    start: tokio::sync::Mutex<Option<(Instant, ProviderError)>>,
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
        let turns = Semaphore::new(usize::from(config.sessions) * 2);
        let start = tokio::sync::Mutex::new(None);
        Self { config, program, digest_key, latch, worker: RwLock::default(), turns, start }
    }

    /// Process id of the worker, when there is one.
    #[must_use]
    pub fn worker_pid(&self) -> Option<u32> {
        self.running().map(|worker| worker.pid())
    }

    fn running(&self) -> Option<Arc<Worker>> {
        self.worker.read().unwrap_or_else(PoisonError::into_inner).clone().filter(|worker| worker.is_alive())
    }

    /// The running worker, started if need be.
    async fn worker(&self) -> Result<Arc<Worker>, ProviderError> {
        if let Some(worker) = self.running() {
            return Ok(worker);
        }
        let mut last = self.start.lock().await;
        if let Some(worker) = self.running() {
            return Ok(worker);
        }
        if let Some((at, error)) = last.as_ref()
            && at.elapsed() < RESTART_PAUSE
        {
            return Err(error.clone());
        }
        match self.start_worker().await {
            Ok(worker) => {
                let worker = Arc::new(worker);
                tracing::info!(partition = self.config.partition(), pid = worker.pid(), "partition opened");
                metrics::counter!(names::PARTITION_STARTS_TOTAL, "outcome" => "opened").increment(1);
                *last = None;
                *self.worker.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&worker));
                Ok(worker)
            }
            Err(error) => {
                tracing::warn!(partition = self.config.partition(), %error, "partition not opened");
                metrics::counter!(names::PARTITION_STARTS_TOTAL, "outcome" => "failed").increment(1);
                *last = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn start_worker(&self) -> Result<Worker, ProviderError> {
        // Read at each start, so that a corrected PIN file is enough to unblock the partition.
        let pin = self.config.pin.resolve().map_err(|error| ProviderError::Unavailable(error.to_string()))?;
        let mut keyed = Hmac::<Sha256>::new_from_slice(&self.digest_key).expect("HMAC takes keys of any length");
        keyed.update(pin.expose_secret().as_bytes());
        let pin_digest: [u8; 32] = keyed.finalize().into_bytes().into();
        let partition = self.config.partition();
        let longest = Duration::from_millis(self.config.login_deadline_ms);
        match self.latch.begin(&partition, pin_digest, longest).await? {
            Attempt::Go => {}
            Attempt::Busy => return Err(ProviderError::Unavailable("another replica is logging in".to_owned())),
            Attempt::Blocked => {
                return Err(ProviderError::Blocked(
                    "this PIN was refused, or its logins ended unclear, before; it is not tried again until it changes or \
                     an operator clears the latch"
                        .to_owned(),
                ));
            }
        }
        let worker = match Worker::spawn(&self.program, &self.config.environment) {
            Ok(worker) => worker,
            Err(error) => {
                self.latch.end(&partition, pin_digest, Ended::NotCounted).await?;
                return Err(ProviderError::Unavailable(format!("the PKCS#11 worker does not start: {error}")));
            }
        };
        let open = Request::Open(Open {
            module: self.config.module.display().to_string(),
            token_label: self.config.token_label.clone(),
            crypto_user: self.config.crypto_user,
            sessions: self.config.sessions,
            pin: Zeroizing::new(pin.expose_secret().to_owned()),
        });
        match worker.call(&open, longest).await {
            Ok(Reply::Opened) => {
                self.latch.end(&partition, pin_digest, Ended::Opened).await?;
                Ok(worker)
            }
            Ok(Reply::Failed(failure)) => {
                let class = self.class(&failure);
                self.latch.end(&partition, pin_digest, ended(failure.login, class)).await?;
                Err(match (class, failure.detail) {
                    (Class::BadPin | Class::Locked, detail) => ProviderError::Blocked(detail),
                    (Class::Quorum | Class::Unlisted, detail) => ProviderError::Pending(detail),
                    (Class::Transport | Class::Failed, detail) => ProviderError::Unavailable(detail),
                })
            }
            Ok(_) => {
                self.latch.end(&partition, pin_digest, Ended::Unknown).await?;
                Err(out_of_turn())
            }
            Err(error) => {
                self.latch.end(&partition, pin_digest, Ended::Unknown).await?;
                Err(ProviderError::Unavailable(error.to_string()))
            }
        }
    }

    fn class(&self, failure: &Failure) -> Class {
        let during = if failure.login { During::Login } else { During::Use };
        codes::classify(failure.code, during, self.config.quorum_codes.as_deref().unwrap_or(codes::QUORUM))
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
        let worker = self.worker().await.map_err(Fault::Final)?;
        match worker.call(request, Duration::from_millis(deadline_ms)).await {
            Ok(Reply::Failed(failure)) => match self.class(&failure) {
                Class::Transport => {
                    self.discard(&worker, &failure.detail);
                    Err(Fault::Restart(ProviderError::Unavailable(failure.detail)))
                }
                Class::Quorum | Class::Unlisted => Err(Fault::Final(ProviderError::Pending(failure.detail))),
                Class::Locked | Class::BadPin => Err(Fault::Final(ProviderError::Blocked(failure.detail))),
                Class::Failed => Err(Fault::Final(ProviderError::Failed(failure.detail))),
            },
            Ok(reply) => Ok(reply),
            Err(error @ CallError::Gone) => {
                self.discard(&worker, "worker gone");
                Err(Fault::Restart(ProviderError::Unavailable(error.to_string())))
            }
            // No second try: the caller has waited a whole deadline already.
            Err(error @ CallError::Deadline) => {
                self.discard(&worker, "deadline passed");
                Err(Fault::Final(ProviderError::Unavailable(error.to_string())))
            }
        }
    }

    fn discard(&self, worker: &Arc<Worker>, why: &str) {
        tracing::warn!(partition = self.config.partition(), pid = worker.pid(), why, "partition worker killed");
        metrics::counter!(names::PARTITION_KILLS_TOTAL).increment(1);
        worker.kill();
        let mut current = self.worker.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, worker)) {
            *current = None;
        }
    }
}

#[async_trait]
impl Provider for Pkcs11Provider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Pkcs11
    }

    fn longest_creation(&self) -> Duration {
        let Pkcs11Config { login_deadline_ms, generate_deadline_ms, .. } = self.config;
        // A turn, then a login and a generation, twice: a call is repeated once on a fresh worker.
        TURN_WITHIN + Duration::from_millis(2 * (login_deadline_ms + generate_deadline_ms))
    }

    async fn create(&self, name: &KeyName) -> Result<NewKey, ProviderError> {
        let label = format!("dalp:{}:{}", name.tenant, name.wallet);
        let key_id: [u8; 32] = Sha256::digest(label.as_bytes()).into();
        let request = Request::Generate { label, key_id };
        match self.ask(&request, self.config.generate_deadline_ms).await? {
            Reply::PublicKey(point) => {
                let public_key = PublicKey::from_slice(&point).map_err(|_| {
                    ProviderError::Failed("the module returned a point that is not on secp256k1".to_owned())
                })?;
                Ok(NewKey { public_key, material: key_id.to_vec() })
            }
            _ => Err(out_of_turn()),
        }
    }

    fn signing(&self) -> Signing<'_> {
        Signing::AtOnce(self)
    }

    async fn status(&self) -> ProviderStatus {
        match self.worker().await {
            Ok(worker) => ProviderStatus { ready: true, detail: format!("open, worker {}", worker.pid()) },
            Err(error) => ProviderStatus { ready: false, detail: error.to_string() },
        }
    }
}

#[async_trait]
impl SignAtOnce for Pkcs11Provider {
    async fn sign(&self, key: KeyHandle<'_>, digest: B256) -> Result<RawSignature, ProviderError> {
        let key_id: [u8; 32] =
            key.material.try_into().map_err(|_| ProviderError::Failed("the key's identifier is damaged".to_owned()))?;
        match self.ask(&Request::Sign { key_id, digest: digest.0 }, self.config.call_deadline_ms).await? {
            Reply::Signature(bytes) => {
                RawSignature::from_concatenated(&bytes).map_err(|error| ProviderError::Failed(error.to_string()))
            }
            _ => Err(out_of_turn()),
        }
    }
}

/// What a failed start means for the PIN. Only codes that are known not to count are not counted: the vendor's own list is not public.
fn ended(login: bool, class: Class) -> Ended {
    match class {
        _ if !login => Ended::NotCounted,
        Class::BadPin => Ended::BadPin,
        Class::Quorum | Class::Transport => Ended::NotCounted,
        Class::Unlisted | Class::Locked | Class::Failed => Ended::Unknown,
    }
}

fn out_of_turn() -> ProviderError {
    ProviderError::Failed("the PKCS#11 worker answered out of turn".to_owned())
}

/// Initialises a token with a label and a user PIN, for `init-token` and tests.
pub fn initialise_token(module: &str, label: &str, so_pin: &str, pin: &str) -> Result<(), String> {
    if label.trim().is_empty() || label.len() > 32 {
        return Err("a token label has 1 to 32 characters".to_owned());
    }
    token::initialise(module, label, so_pin, pin).map_err(|failure| failure.detail)
}
