//! `up` and `down`: the stack for people to try.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::scenario::say;
use crate::trial::{Keys, Trial};

/// How long `down` waits for the stack to end.
const DOWN_WITHIN: Duration = Duration::from_secs(60);

/// Starts the stack, prints what to try, and keeps it running until Ctrl-C or [`down`]; with a second chain if that is wanted.
///
/// # Errors
/// When another stack of `up` runs already, or this one does not start.
pub fn run(second_chain: bool, keys: Keys) -> anyhow::Result<()> {
    let mut lock = lock_file()?;
    if is_held(&lock)? {
        bail!("a stack is running already: end it with `make down`");
    }
    lock.set_len(0)?;
    write!(lock, "{}", std::process::id())?;
    let ended = until_signal(async {
        say("starting PostgreSQL, SoftHSM, the development chain and seven processes ...");
        let trial = Trial::start(second_chain, keys).await?;
        say(&trial.text()?);
        std::future::pending::<anyhow::Result<()>>().await
    });
    if ended?.is_none() {
        say("ended the stack");
    }
    Ok(())
}

/// Ends a stack that [`run`] keeps running, and waits until it has ended.
///
/// # Errors
/// When it does not end in time.
pub fn down() -> anyhow::Result<()> {
    let lock = lock_file()?;
    if !is_held(&lock)? {
        say("no stack is running");
        return Ok(());
    }
    let pid: u32 = std::io::read_to_string(&lock)?.trim().parse().context("the stack has not said its process id")?;
    if !dalp_testing::signal(pid, dalp_testing::Signal::TERM) {
        bail!("cannot signal process {pid}");
    }
    let begun = Instant::now();
    while is_held(&lock)? {
        if begun.elapsed() > DOWN_WITHIN {
            bail!("process {pid} has not ended after {DOWN_WITHIN:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Runs `work` until it ends, or SIGINT or SIGTERM comes: then it is dropped, which ends and cleans what it holds, and the
/// answer is `None`.
pub(crate) fn until_signal<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<Option<T>> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        // From here on a signal no longer has its default action, which would leave processes and folders behind.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = work => done.map(Some),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    })
}

/// Beside the program, so that each checkout has its own. The system releases the lock however the process ends.
fn lock_file() -> anyhow::Result<File> {
    let path = std::env::current_exe()?.with_extension("pid");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}

fn is_held(lock: &File) -> anyhow::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}
