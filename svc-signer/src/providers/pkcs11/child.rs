//! The signer's end of a PKCS#11 worker: one child process, calls in flight by number, a deadline on each.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    sync::{mpsc, oneshot},
};
use zeroize::Zeroizing;

use super::wire::{self, Reply, Request};

/// Calls that wait for an answer. `None` once the worker is gone.
type Calls = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>>;

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The process ended or its socket broke.
    #[error("the PKCS#11 worker is gone")]
    Gone,
    /// The module did not return in time.
    #[error("the PKCS#11 module did not answer in time")]
    Deadline,
}

/// A running worker. Dropping it kills the process.
pub(crate) struct Worker {
    process: Mutex<Child>,
    pid: u32,
    output: mpsc::UnboundedSender<Zeroizing<Vec<u8>>>,
    calls: Calls,
    next_call_id: AtomicU64,
    /// Keys that were opened with their own authorisation in this process, by `CKA_ID`.
    authorized: tokio::sync::Mutex<HashSet<[u8; 32]>>,
}

// === impl Worker ===

impl Worker {
    /// Starts `program pkcs11-worker` with nothing of our environment but what is given.
    pub(crate) fn spawn(program: &Path, environment: &BTreeMap<String, String>) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let process = Command::new(program)
            .arg("pkcs11-worker")
            .env_clear()
            .envs(environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().ok_or_else(|| io::Error::other("the worker ended at once"))?;
        let (input, socket) = UnixStream::from_std(ours)?.into_split();
        let (output, outgoing) = mpsc::unbounded_channel();
        let calls: Calls = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(write_all(socket, outgoing));
        tokio::spawn(read_all(input, Arc::clone(&calls)));
        Ok(Self {
            process: Mutex::new(process),
            pid,
            output,
            calls,
            next_call_id: AtomicU64::new(1),
            authorized: tokio::sync::Mutex::default(),
        })
    }

    /// Asks the worker and waits at most `deadline`. After [`CallError::Deadline`] the worker must be killed: its module hangs.
    pub(crate) async fn call(&self, request: &Request, deadline: Duration) -> Result<Reply, CallError> {
        let call_id = self.next_call_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match self.calls.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(calls) => calls.insert(call_id, answer),
            None => return Err(CallError::Gone),
        };
        self.output.send(wire::encode_request(call_id, request)).map_err(|_| CallError::Gone)?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(CallError::Gone),
            Err(_) => Err(CallError::Deadline),
        }
    }

    /// Ends the process at once; calls in flight fail.
    pub(crate) fn kill(&self) {
        let _ = self.process.lock().unwrap_or_else(PoisonError::into_inner).start_kill();
        close(&self.calls);
    }

    /// The keys that were authorised; held while one is, so that nobody authorises it twice.
    pub(crate) async fn authorized(&self) -> tokio::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.authorized.lock().await
    }

    /// Whether it still answers.
    pub(crate) fn is_alive(&self) -> bool {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Process id, for tests and logs.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }
}

fn close(calls: &Calls) {
    calls.lock().unwrap_or_else(PoisonError::into_inner).take();
}

async fn write_all(mut socket: OwnedWriteHalf, mut outgoing: mpsc::UnboundedReceiver<Zeroizing<Vec<u8>>>) {
    while let Some(framed) = outgoing.recv().await {
        if socket.write_all(&framed).await.is_err() {
            return;
        }
    }
}

async fn read_all(input: OwnedReadHalf, calls: Calls) {
    let mut input = BufReader::new(input);
    while let Ok((call_id, reply)) = read_one(&mut input).await {
        let waiting =
            calls.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|calls| calls.remove(&call_id));
        if let Some(waiting) = waiting {
            // The caller may have given up; its answer is of no use to anyone else.
            let _ = waiting.send(reply);
        }
    }
    close(&calls);
}

async fn read_one(input: &mut BufReader<OwnedReadHalf>) -> io::Result<(u64, Reply)> {
    let mut prefix = [0; 4];
    input.read_exact(&mut prefix).await?;
    let mut frame = vec![0; wire::frame_len(prefix)?];
    input.read_exact(&mut frame).await?;
    wire::decode_reply(&frame)
}
