//! A partition and the process that holds it: opened once for all who ask, logged in once whatever happens.

use std::{
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    Attempt, Ended, PinLatch,
    child::{CallError, Worker},
    codes::{self, Class, During},
    ntls,
    wire::{Failure, Login, PinState, Reply, Request},
};
use crate::{
    config::pkcs11::{CONFIGURATION_VARIABLE, Pkcs11Config},
    metric_definitions as names,
    providers::{PartitionFault, ProviderError},
};

/// How long a failed start is remembered before the next caller tries again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// How long a caller waits for a partition that is being opened. A login may take as long as people need; it goes on without the caller.
const OPENING_WITHIN: Duration = Duration::from_secs(10);

/// What a login that has to wait for another one says.
const BUSY: &str = "another replica is logging in";

/// Whether a start has failed only because another process logs in to the partition right now.
pub(super) fn is_busy(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Unavailable(detail) if detail == BUSY)
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Worker>, ProviderError>>>;

/// One partition.
pub(super) struct Partition {
    pub(super) config: Pkcs11Config,
    /// The program that has the `pkcs11-worker` subcommand.
    program: PathBuf,
    /// Makes PIN digests worthless without it: PINs are short.
    digest_key: Zeroizing<Vec<u8>>,
    latch: Arc<dyn PinLatch>,
    worker: RwLock<Option<Arc<Worker>>>,
    starts: Mutex<Starts>,
    /// Whether it was ever open: a label that is missing then is a device that is away.
    opened_before: AtomicBool,
}

/// The start that is under way, and how the last one failed.
#[derive(Default)]
struct Starts {
    under_way: Option<Opening>,
    failed: Option<(Instant, ProviderError)>,
}

// === impl Partition ===

impl Partition {
    pub(super) fn new(
        config: Pkcs11Config,
        program: PathBuf,
        digest_key: Zeroizing<Vec<u8>>,
        latch: Arc<dyn PinLatch>,
    ) -> Self {
        Self {
            config,
            program,
            digest_key,
            latch,
            worker: RwLock::default(),
            starts: Mutex::default(),
            opened_before: AtomicBool::new(false),
        }
    }

    pub(super) fn running(&self) -> Option<Arc<Worker>> {
        self.worker.read().unwrap_or_else(PoisonError::into_inner).clone().filter(|worker| worker.is_alive())
    }

    /// The running worker, started if need be. Whoever asks while it is started waits for the same start, which no caller that gives up can end in the
    /// middle of a login.
    pub(super) async fn worker(self: &Arc<Self>) -> Result<Arc<Worker>, ProviderError> {
        if let Some(worker) = self.running() {
            return Ok(worker);
        }
        let opening = self.join()?;
        tokio::time::timeout(OPENING_WITHIN, opening).await.unwrap_or_else(|_| {
            let detail = "the partition is being opened; its login may wait for people";
            Err(ProviderError::Unavailable(detail.to_owned()))
        })
    }

    /// Waits for the running worker, however long its start takes.
    pub(super) async fn opened(self: &Arc<Self>) -> Result<(), ProviderError> {
        match self.running() {
            Some(_) => Ok(()),
            None => self.join()?.await.map(drop),
        }
    }

    /// The start that is under way, or a new one.
    fn join(self: &Arc<Self>) -> Result<Opening, ProviderError> {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = starts.under_way.as_ref().filter(|opening| opening.peek().is_none()) {
            return Ok(under_way.clone());
        }
        if let Some(worker) = self.running() {
            return Ok(std::future::ready(Ok(worker)).boxed().shared());
        }
        if let Some((at, error)) = starts.failed.as_ref().filter(|(at, _)| at.elapsed() < RESTART_PAUSE) {
            tracing::trace!(ago = ?at.elapsed(), "the last start failed a moment ago");
            return Err(error.clone());
        }
        let partition = Arc::clone(self);
        let task = tokio::spawn(async move { partition.start().await });
        let opening = async move {
            task.await.unwrap_or_else(|_| Err(ProviderError::Unavailable("opening was given up".to_owned())))
        };
        let opening = opening.boxed().shared();
        starts.under_way = Some(opening.clone());
        Ok(opening)
    }

    async fn start(&self) -> Result<Arc<Worker>, ProviderError> {
        let partition = self.config.partition();
        let opened = self.open(&partition).await.map(Arc::new);
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        match &opened {
            Ok(worker) => {
                tracing::info!(partition, pid = worker.pid(), "partition opened");
                metrics::counter!(names::PARTITION_STARTS_TOTAL, "outcome" => "opened").increment(1);
                self.opened_before.store(true, Ordering::Relaxed);
                starts.failed = None;
                *self.worker.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(worker));
            }
            Err(error) => {
                tracing::warn!(partition, %error, "partition not opened");
                metrics::counter!(names::PARTITION_STARTS_TOTAL, "outcome" => "failed").increment(1);
                starts.failed = Some((Instant::now(), error.clone()));
            }
        }
        opened
    }

    /// Starts a worker, finds the token, and only then logs in: what fails before costs no try of the PIN.
    async fn open(&self, partition: &str) -> Result<Worker, ProviderError> {
        let longest = Duration::from_millis(self.config.login_deadline_ms);
        // Read at each start, so that a corrected PIN file is enough to unblock the partition.
        let pin = self.config.pin.resolve().map_err(|error| ProviderError::Unavailable(error.to_string()))?;
        let digest = self.digest(&pin);
        // Asked before anything is started for nothing; what counts is asked again under the lock of `begin`.
        self.latch.bars(partition, digest).await?.map_or(Ok(()), |bars| Err(barred(bars)))?;
        let worker = self.spawn()?;
        let find = Request::Find {
            module: self.config.module.display().to_string(),
            token_label: self.config.token_label.clone(),
        };
        let pin_state = match worker.call(&find, longest).await {
            Ok(Reply::Found(pin_state)) => pin_state,
            Ok(Reply::Failed(failure)) => return Err(self.not_found(failure)),
            Ok(_) => return Err(out_of_turn()),
            Err(error) => return Err(ProviderError::Unavailable(error.to_string())),
        };
        // The flags of PKCS#11 speak of its user, who is the partition's officer: what the officer mistyped bars no crypto user. (What they say of the
        // security officer is not read at all.)
        let pin_state = if self.config.crypto_user { PinState::default() } else { pin_state };
        if let PinState { locked: true, .. } | PinState { last_try: true, .. } = pin_state {
            let detail = match pin_state.locked {
                true => "the partition says that its PIN is locked; nobody logs in",
                false => "the partition says that one more wrong PIN locks it; the last try is left to its operators",
            };
            return Err(ProviderError::Partition(PartitionFault::Locked, detail.to_owned()));
        }
        match self.latch.begin(partition, digest, longest).await? {
            Attempt::Go { unclear: true } if pin_state.wrong_before => {
                // An earlier login with this PIN crashed or hung, and the partition counted a wrong one since: it was this.
                self.latch.end(partition, digest, Ended::BadPin).await?;
                return Err(barred(Attempt::Refused));
            }
            Attempt::Go { .. } => {}
            bars => return Err(barred(bars)),
        }
        let login = Request::Login(Login {
            crypto_user: self.config.crypto_user,
            sessions: self.config.sessions,
            pin: Zeroizing::new(pin.expose_secret().to_owned()),
        });
        let (answer, asking) = self.log_in(&worker, &login, partition, digest).await;
        match answer {
            Ok(Reply::Opened) => {
                self.latch.end(partition, digest, Ended::Opened).await?;
                Ok(worker)
            }
            Ok(Reply::Failed(failure)) => {
                let class = self.class(&failure);
                self.latch.end(partition, digest, ended(failure.login, class)).await?;
                Err(match class {
                    Class::BadPin => ProviderError::Partition(PartitionFault::PinRefused, failure.detail),
                    Class::Locked => ProviderError::Partition(PartitionFault::Locked, failure.detail),
                    Class::Quorum | Class::Unlisted => ProviderError::Pending(failure.detail),
                    _ => ProviderError::Unavailable(failure.detail),
                })
            }
            Ok(_) => {
                self.latch.end(partition, digest, Ended::Unknown).await?;
                Err(out_of_turn())
            }
            // People were being asked: the PIN is compared after them.
            Err(error @ CallError::Gone) if asking => {
                self.latch.end(partition, digest, Ended::NotCounted).await?;
                Err(ProviderError::Unavailable(format!("{error} while the partition asked for people")))
            }
            Err(error) => {
                self.latch.end(partition, digest, Ended::Unknown).await?;
                Err(ProviderError::Unavailable(format!(
                    "{error} during a login, of which nobody knows whether it counted"
                )))
            }
        }
    }

    /// Makes a login. One that takes longer than any call of the module may is asking people, which is noted: whatever dies from then on, this process
    /// included, was no try of the PIN. Answers also whether it was noted.
    async fn log_in(
        &self,
        worker: &Worker,
        login: &Request,
        partition: &str,
        digest: [u8; 32],
    ) -> (Result<Reply, CallError>, bool) {
        let mut call = pin!(worker.call(login, Duration::from_millis(self.config.login_deadline_ms)));
        tokio::select! {
            answer = &mut call => return (answer, false),
            () = tokio::time::sleep(Duration::from_millis(self.config.call_deadline_ms)) => {}
        }
        let noted = self.latch.asking(partition, digest).await;
        if let Err(error) = &noted {
            tracing::warn!(partition, %error, "a login that asks people is not noted as such");
        }
        (call.await, noted.is_ok())
    }

    fn spawn(&self) -> Result<Worker, ProviderError> {
        let mut environment = self.config.environment.clone();
        if let Some(config) = &self.config.ntls {
            ntls::write(config).map_err(|error| {
                ProviderError::Unavailable(format!("the files of the network link cannot be written: {error}"))
            })?;
            environment.insert(CONFIGURATION_VARIABLE.to_owned(), config.directory.display().to_string());
        }
        Worker::spawn(&self.program, &environment)
            .map_err(|error| ProviderError::Unavailable(format!("the PKCS#11 worker does not start: {error}")))
    }

    /// What a token that cannot be found means: an operator's mistake, or a device that is away.
    fn not_found(&self, failure: Failure) -> ProviderError {
        match self.class(&failure) {
            Class::NoToken if self.opened_before.load(Ordering::Relaxed) => {
                ProviderError::Unavailable(format!("{}: its device is away", failure.detail))
            }
            Class::NoToken => ProviderError::Partition(PartitionFault::NotFound, failure.detail),
            Class::SeveralTokens => ProviderError::Partition(PartitionFault::Ambiguous, failure.detail),
            _ => ProviderError::Unavailable(failure.detail),
        }
    }

    pub(super) fn class(&self, failure: &Failure) -> Class {
        let during = if failure.login { During::Login } else { During::Use };
        codes::classify(failure.code, during, &self.config.return_codes())
    }

    /// Opens a key with its own authorisation, once for each worker. Wrong data is tried once, as a wrong PIN: a key locks as well. It goes on when the caller
    /// gives up: what was begun must be written down as it ends.
    pub(super) async fn authorize(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        key_id: [u8; 32],
        data: SecretString,
    ) -> Result<(), ProviderError> {
        let (partition, worker) = (Arc::clone(self), Arc::clone(worker));
        let task = tokio::spawn(async move { partition.authorize_once(&worker, key_id, &data).await });
        task.await.unwrap_or_else(|_| Err(ProviderError::Unavailable("authorising the key was given up".to_owned())))
    }

    async fn authorize_once(
        &self,
        worker: &Arc<Worker>,
        key_id: [u8; 32],
        data: &SecretString,
    ) -> Result<(), ProviderError> {
        let mut authorized = worker.authorized().await;
        if authorized.contains(&key_id) {
            return Ok(());
        }
        let (subject, digest) = (format!("{}/{}", self.config.partition(), hex::encode(key_id)), self.digest(data));
        let longest = Duration::from_millis(self.config.call_deadline_ms);
        let refused = || {
            let detail = "the key refused this authorisation, or its answer was lost, before; it is not tried again until it changes or an operator clears \
                          the latch";
            ProviderError::Partition(PartitionFault::KeyAuthorizationRefused, detail.to_owned())
        };
        match self.latch.begin(&subject, digest, longest).await? {
            Attempt::Go { .. } => {}
            Attempt::Busy => return Err(ProviderError::Unavailable("another replica authorises the key".to_owned())),
            Attempt::Refused | Attempt::Unclear => return Err(refused()),
        }
        let request = Request::Authorize { key_id, data: Zeroizing::new(data.expose_secret().to_owned()) };
        match worker.call(&request, longest).await {
            Ok(Reply::Authorized) => {
                self.latch.end(&subject, digest, Ended::Opened).await?;
                authorized.insert(key_id);
                Ok(())
            }
            Ok(Reply::Failed(failure)) => {
                let class = self.class(&failure);
                // Without a code the module has no such call, or does not hold the key: nothing was compared.
                let answered = failure.code != 0 && class != Class::NoKey;
                if class == Class::Transport {
                    self.discard(worker, &failure.detail);
                }
                self.latch.end(&subject, digest, ended(answered, class)).await?;
                Err(match class {
                    Class::BadPin => ProviderError::Partition(PartitionFault::KeyAuthorizationRefused, failure.detail),
                    Class::Quorum => ProviderError::Pending(failure.detail),
                    Class::Locked => ProviderError::Partition(PartitionFault::Locked, failure.detail),
                    Class::NoKey => ProviderError::Partition(PartitionFault::KeyMissing, failure.detail),
                    Class::Transport => ProviderError::Unavailable(failure.detail),
                    _ => ProviderError::Failed(failure.detail),
                })
            }
            Ok(_) => {
                self.latch.end(&subject, digest, Ended::Unknown).await?;
                Err(out_of_turn())
            }
            Err(error) => {
                // It may still be under way: a second one beside it would try wrong data twice.
                self.discard(worker, "authorisation not answered");
                self.latch.end(&subject, digest, Ended::Unknown).await?;
                Err(ProviderError::Unavailable(error.to_string()))
            }
        }
    }

    pub(super) fn discard(&self, worker: &Arc<Worker>, why: &str) {
        tracing::warn!(partition = self.config.partition(), pid = worker.pid(), why, "partition worker killed");
        metrics::counter!(names::PARTITION_KILLS_TOTAL).increment(1);
        worker.kill();
        let mut current = self.worker.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, worker)) {
            *current = None;
        }
    }

    fn digest(&self, secret: &SecretString) -> [u8; 32] {
        let mut keyed = Hmac::<Sha256>::new_from_slice(&self.digest_key).expect("HMAC takes keys of any length");
        keyed.update(secret.expose_secret().as_bytes());
        keyed.finalize().into_bytes().into()
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        if let Some(config) = &self.config.ntls {
            ntls::remove(config);
        }
    }
}

/// What a failed start means for the PIN. Only codes that are known not to count are not counted: the vendor's own list is not public.
fn ended(login: bool, class: Class) -> Ended {
    match class {
        _ if !login => Ended::NotCounted,
        Class::BadPin => Ended::BadPin,
        Class::Quorum | Class::Transport => Ended::NotCounted,
        _ => Ended::Unknown,
    }
}

/// What keeps a login from being made.
fn barred(by: Attempt) -> ProviderError {
    match by {
        Attempt::Go { .. } | Attempt::Busy => ProviderError::Unavailable(BUSY.to_owned()),
        Attempt::Refused => ProviderError::Partition(
            PartitionFault::PinRefused,
            "this PIN was refused before; it is not tried again until it changes or an operator clears the latch".to_owned(),
        ),
        Attempt::Unclear => ProviderError::Blocked(
            "logins with this PIN ended unclear before; it is not tried again until it changes or an operator clears the latch"
                .to_owned(),
        ),
    }
}

pub(super) fn out_of_turn() -> ProviderError {
    ProviderError::Failed("the PKCS#11 worker answered out of turn".to_owned())
}
