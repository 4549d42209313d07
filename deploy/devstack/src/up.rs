//! `up` and `down`: the stack for people to try.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use dalp_simulators::aws::Aws;
use dalp_simulators::console;
use dalp_simulators::custodian::{Custodian, Kind, Pace};
use tokio::signal::unix::{SignalKind, signal};

use crate::commands;
use crate::scenario::say;
use crate::stack::{Options, Stack};

/// How long `down` waits for the stack to end.
const DOWN_WITHIN: Duration = Duration::from_secs(60);

/// How the signer works with a simulated custodian: as with a real one, and sooner.
const PACE: Pace = Pace { call_timeout_ms: 5_000, settle_ms: 1_000, looks_ms: (200, 1_000), broadcast: false };

/// Who holds the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Keys {
    /// The signer, encrypted.
    Local,
    /// SoftHSM.
    Pkcs11,
    /// A simulated organisation at DFNS.
    Dfns,
    /// A simulated workspace at Fireblocks.
    Fireblocks,
    /// An account of moto, which stands in for AWS KMS.
    Kms,
}

// === impl Keys ===

impl Keys {
    const fn provider(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Pkcs11 => "pkcs11",
            Self::Dfns => Kind::Dfns.name(),
            Self::Fireblocks => Kind::Fireblocks.name(),
            Self::Kms => "kms",
        }
    }

    const fn custodian(self) -> Option<Kind> {
        match self {
            Self::Local | Self::Pkcs11 | Self::Kms => None,
            Self::Dfns => Some(Kind::Dfns),
            Self::Fireblocks => Some(Kind::Fireblocks),
        }
    }
}

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
        let mut options = Options { second_chain, provider: keys.provider().to_owned(), ..Options::default() };
        let secrets = tempfile::Builder::new().prefix("dalp-custodian-").tempdir()?;
        let custodian = match keys.custodian() {
            Some(kind) => Some(Arc::new(Custodian::start(kind, None).await?)),
            None => None,
        };
        let mut consoles = Vec::new();
        if let Some(custodian) = &custodian {
            options.signer = custodian.section(secrets.path(), &PACE)?;
            consoles.push(console::start(Arc::clone(custodian)).await?);
        }
        let aws = if keys == Keys::Kms { Some(Aws::start().await?) } else { None };
        if let Some(aws) = &aws {
            options.signer = aws.section(secrets.path(), PACE.call_timeout_ms, "")?;
        }
        let stack = Stack::start(&options).await?;
        say(&commands::text(&stack));
        if let Some(aws) = &aws {
            say(&format!("\nkeys are at moto, which stands in for AWS KMS: {}", aws.endpoint()));
        }
        for console in &consoles {
            say(&on_a_console(keys, &console.origin())?);
        }
        std::future::pending::<anyhow::Result<()>>().await
    });
    if ended?.is_none() {
        say("ended the stack");
    }
    Ok(())
}

fn on_a_console(keys: Keys, origin: &str) -> anyhow::Result<String> {
    let mut text = format!("\nkeys are at a simulated {}; its console:\n", keys.provider());
    for (action, what) in console::ACTIONS {
        writeln!(text, "# {what}\ncurl -X POST {origin}/{action}")?;
    }
    Ok(text)
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
