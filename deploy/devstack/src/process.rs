//! A child process of the stack: started with a log file, awaited by a condition, ended with the stack.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a process may take to say where it listens.
const START_WITHIN: Duration = Duration::from_secs(180);
/// How long a process may take to end by itself before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a process is started with.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name, for instance `svc-signer`. Its log and the file with its address are called so.
    pub name: String,
    /// The file that is run.
    pub binary: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Arguments beside the configuration.
    pub arguments: Vec<String>,
    /// Variables beside those of this process.
    pub environment: Vec<(String, String)>,
    /// Where its further listeners write their addresses.
    pub further_files: Vec<PathBuf>,
}

/// One service, running or to be started.
#[derive(Debug)]
pub struct Service {
    program: Program,
    log: PathBuf,
    address_file: PathBuf,
    child: Option<Child>,
}

// === impl Service ===

impl Service {
    /// A service that has not been started, and that logs into a folder.
    #[must_use]
    pub fn new(program: Program, folder: &Path) -> Self {
        let log = folder.join(format!("{}.log", program.name));
        let address_file = folder.join(format!("{}.address", program.name));
        Self { program, log, address_file, child: None }
    }

    /// Its name, for instance `svc-signer`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Where its log stands.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where it listens, `host:port`.
    ///
    /// # Errors
    /// When it has not said so.
    pub fn address(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(&self.address_file)
            .with_context(|| format!("{} has not written its address", self.program.name))?;
        Ok(text.trim().to_owned())
    }

    /// What it says of a configuration, without starting with it.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn check_config(&self, config: &Path) -> std::io::Result<Output> {
        self.command(config).arg("check-config").output()
    }

    /// The file it is started with.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.program.config
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(&self.program.binary);
        command.arg("--config").arg(config).args(&self.program.arguments);
        command.envs(self.program.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn announcements(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.address_file).chain(&self.program.further_files)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        for file in self.announcements() {
            let _ = std::fs::remove_file(file); // absent at the first start
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = self
            .command(&self.program.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {}: build it with `cargo build --workspace --bins`",
                    self.program.binary.display()
                )
            })?;
        self.child = Some(child);
        let begun = Instant::now();
        while !self.announcements().all(|file| file.exists()) {
            if let Some(status) = self.exited()? {
                bail!("{} ended at its start ({status}); its log ends with:\n{}", self.name(), self.log_end());
            }
            if begun.elapsed() > START_WITHIN {
                bail!("{} does not listen after {START_WITHIN:?}; its log ends with:\n{}", self.name(), self.log_end());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Starts it, or starts it again after it ended or was killed, and waits until it has written its address and those of its further listeners.
    ///
    /// # Errors
    /// When it cannot be started or ends before it listens; the error carries the end of its log.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.spawn()
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // already ended is fine
            let _ = child.wait();
        }
    }

    /// Asks it to end and waits; kills it when it takes too long. Whether it ended by itself.
    pub fn stop(&mut self) -> bool {
        let Some(pid) = self.pid() else { return true };
        dalp_testing::signal(pid, dalp_testing::Signal::TERM); // already ended is fine
        let begun = Instant::now();
        while begun.elapsed() < STOP_WITHIN {
            if !matches!(self.exited(), Ok(None)) {
                self.child = None;
                return true;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill();
        false
    }

    fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.as_mut().map(Child::try_wait).transpose()?.flatten())
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}
