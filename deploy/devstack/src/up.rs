//! `up` and `down`: the stack for people to try.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::commands;
use crate::scenario::say;
use crate::stack::{Options, Stack};

/// How long `down` waits for the stack to end.
const DOWN_WITHIN: Duration = Duration::from_secs(60);

/// Starts the stack, prints what to try, and keeps it running until Ctrl-C or [`down`].
///
/// # Errors
/// When another stack of `up` runs already, or this one does not start.
pub fn run() -> anyhow::Result<()> {
    let file = pid_file();
    if let Some(pid) = running(&file) {
        bail!("a stack is running already (process {pid}): end it with `make down`");
    }
    runtime()?.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        say("starting PostgreSQL, SoftHSM, the development chain and six services ...");
        let stack = Stack::start(&Options::default()).await?;
        std::fs::write(&file, std::process::id().to_string())?;
        say(&commands::text(&stack));
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        say("ending the stack ...");
        drop(stack);
        let _ = std::fs::remove_file(&file); // already gone is fine
        Ok(())
    })
}

/// Ends a stack that [`run`] keeps running, and waits until it has ended.
///
/// # Errors
/// When none runs, or it does not end in time.
pub fn down() -> anyhow::Result<()> {
    let file = pid_file();
    let Some(pid) = running(&file) else {
        say("no stack is running");
        return Ok(());
    };
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status().context("cannot run kill")?;
    if !status.success() {
        bail!("cannot signal process {pid}");
    }
    let begun = Instant::now();
    while running(&file).is_some() {
        if begun.elapsed() > DOWN_WITHIN {
            bail!("process {pid} has not ended after {DOWN_WITHIN:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The runtime of the command.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn pid_file() -> PathBuf {
    std::env::temp_dir().join("dalp-devstack.pid")
}

fn running(file: &std::path::Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let alive = Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().ok()?.success();
    alive.then_some(pid)
}
